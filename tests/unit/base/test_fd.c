/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

static char top[64];

static const char *at(const char *name)
{
	static char text[4][256];
	static unsigned n;
	char *t = text[n++ % 4];

	snprintf(t, sizeof(text[0]), "%s/%s", top, name);
	return t;
}

static void setup(void)
{
	strcpy(top, "/tmp/lcow-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
}

static void teardown(void)
{
	ck_assert_int_eq(dir_remove(top), 0);
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

START_TEST(closing_keeps_errno_and_gives_the_empty_fd)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	errno = EXDEV;
	ck_assert_int_eq(fd_close(fd), -EBADF);
	ck_assert_int_eq(fd_close(-EBADF), -EBADF);
	ck_assert_int_eq(errno, EXDEV);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

START_TEST(a_file_is_written_with_its_mode_and_read_back)
{
	_cleanup_free_ char *text = NULL;
	struct stat st;
	size_t len = 0;

	umask(077);
	ck_assert_int_eq(file_write(at("f"), "one\0two", 7, 0644), 0);
	ck_assert_int_eq(stat(at("f"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0644);
	ck_assert_int_eq(file_read(at("f"), 7, &text, &len), 0);
	ck_assert_uint_eq(len, 7);
	ck_assert_mem_eq(text, "one\0two", 8);
}
END_TEST

START_TEST(a_write_that_fails_leaves_the_old_file_and_no_litter)
{
	ck_assert_int_eq(dir_make(at("d/x"), 0700), 0);
	ck_assert_int_eq(file_write(at("d"), "x", 1, 0600), -EISDIR);
	ck_assert_int_eq(rmdir(at("d/x")), 0);
	ck_assert_int_eq(rmdir(at("d")), 0);
	/* The directory is empty, or rmdir(2) would fail. */
	ck_assert_int_eq(rmdir(top), 0);
	ck_assert_int_eq(mkdir(top, 0700), 0);
	ck_assert_int_eq(file_write(at("no/f"), "x", 1, 0600), -ENOENT);
}
END_TEST

START_TEST(reading_more_than_the_maximum_is_efbig_and_the_maximum_is_not)
{
	static char big[9000];
	char *text = NULL;
	size_t len = 3;

	memset(big, 'x', sizeof(big));
	ck_assert_int_eq(file_write(at("f"), big, sizeof(big), 0600), 0);
	ck_assert_int_eq(file_read(at("f"), sizeof(big) - 1, &text, &len), -EFBIG);
	ck_assert_ptr_null(text);
	ck_assert_uint_eq(len, 3);
	ck_assert_int_eq(file_read(at("f"), sizeof(big), &text, &len), 0);
	ck_assert_uint_eq(len, sizeof(big));
	free(text);
	ck_assert_int_eq(file_read(at("none"), 1, &text, NULL), -ENOENT);
	ck_assert_int_eq(file_read("/dev/zero", 300000, &text, NULL), -EFBIG);
}
END_TEST

START_TEST(put_writes_to_existing_files_only)
{
	_cleanup_free_ char *text = NULL;

	ck_assert_int_eq(file_put(at("f"), "1"), -ENOENT);
	ck_assert_int_eq(file_write(at("f"), "", 0, 0600), 0);
	ck_assert_int_eq(file_put(at("f"), "1"), 0);
	ck_assert_int_eq(file_read(at("f"), 10, &text, NULL), 0);
	ck_assert_str_eq(text, "1");
	ck_assert_int_eq(file_put("/dev/full", "1"), -ENOSPC);
}
END_TEST

START_TEST(directories_are_made_with_their_parents)
{
	ck_assert_int_eq(dir_make(at("a/b/c/"), 0700), 0);
	ck_assert_int_eq(dir_make(at("a/b/c"), 0700), 0);
	ck_assert(exists(at("a/b/c")));
	ck_assert_int_eq(file_write(at("a/f"), "", 0, 0600), 0);
	ck_assert_int_eq(dir_make(at("a/f"), 0700), -ENOTDIR);
	ck_assert_int_eq(dir_make(at("a/f/g"), 0700), -ENOTDIR);
	ck_assert_int_eq(dir_make("", 0700), -ENOENT);
}
END_TEST

START_TEST(removal_takes_a_tree_and_what_is_absent_is_fine)
{
	ck_assert_int_eq(dir_make(at("t/a/b"), 0700), 0);
	ck_assert_int_eq(dir_make(at("t/c"), 0700), 0);
	ck_assert_int_eq(file_write(at("t/a/b/f"), "x", 1, 0), 0);
	ck_assert_int_eq(mkfifo(at("t/fifo"), 0600), 0);
	ck_assert_int_eq(dir_remove(at("t/")), 0);
	ck_assert(!exists(at("t")));
	ck_assert_int_eq(dir_remove(at("t")), 0);
	ck_assert_int_eq(dir_remove(at("none/t")), 0);
	ck_assert_int_eq(dir_remove(at("..")), -EINVAL);
	ck_assert_int_eq(dir_remove("/"), -EINVAL);
}
END_TEST

START_TEST(removal_takes_symlinks_away_and_not_what_they_point_to)
{
	ck_assert_int_eq(dir_make(at("keep"), 0700), 0);
	ck_assert_int_eq(file_write(at("keep/f"), "x", 1, 0600), 0);
	ck_assert_int_eq(dir_make(at("t"), 0700), 0);
	ck_assert_int_eq(symlink("../keep", at("t/link")), 0);
	ck_assert_int_eq(symlink(at("keep"), at("link")), 0);
	ck_assert_int_eq(dir_remove(at("t")), 0);
	ck_assert_int_eq(dir_remove(at("link")), 0);
	ck_assert(!exists(at("t")));
	ck_assert(!exists(at("link")));
	ck_assert(exists(at("keep/f")));
}
END_TEST

START_TEST(removal_does_not_go_into_another_mount_but_takes_the_rest)
{
	ck_assert_int_eq(dir_make(at("t/bind"), 0700), 0);
	ck_assert_int_eq(dir_make(at("t/z"), 0700), 0);
	ck_assert_int_eq(dir_make(at("keep"), 0700), 0);
	ck_assert_int_eq(file_write(at("keep/f"), "x", 1, 0600), 0);
	/* A bind mount of the same file system: the device numbers tell nothing. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return; /* not root */
	ck_assert_int_eq(mount(at("keep"), at("t/bind"), NULL, MS_BIND, NULL), 0);
	ck_assert_int_lt(dir_remove(at("t")), 0);
	ck_assert_int_lt(dir_remove(at("t/bind")), 0);
	ck_assert(exists(at("keep/f")));
	ck_assert(!exists(at("t/z")));
	ck_assert_int_eq(umount(at("t/bind")), 0);
	ck_assert_int_eq(dir_remove(at("t")), 0);
}
END_TEST

START_TEST(removal_takes_a_tree_of_any_depth)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < 1000; i++) {
		int next;

		ck_assert_int_eq(mkdirat(fd, "deep", 0700), 0);
		ck_assert_int_eq(mkdirat(fd, "side", 0700), 0);
		next = openat(fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ck_assert_int_ge(next, 0);
		fd_close(fd);
		fd = next;
	}
	fd_close(fd);
	ck_assert_int_eq(dir_remove(at("deep")), 0);
	ck_assert(!exists(at("deep")));
}
END_TEST

START_TEST(paths_from_outside_stay_inside)
{
	_cleanup_fd_ int root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = -EBADF;
	_cleanup_free_ char *text = NULL;

	ck_assert_int_eq(dir_make(at("etc"), 0700), 0);
	ck_assert_int_eq(symlink("/etc/passwd", at("abs")), 0);
	ck_assert_int_eq(symlink("../../../../etc/passwd", at("rel")), 0);
	ck_assert_int_eq(fd_open_in(root, "../../../../../etc/passwd", O_RDONLY, 0), -ENOENT);
	ck_assert_int_eq(fd_open_in(root, "/etc/passwd", O_RDONLY, 0), -ENOENT);
	ck_assert_int_eq(fd_open_in(root, "abs", O_RDONLY, 0), -ENOENT);
	ck_assert_int_eq(file_write(at("etc/passwd"), "ours", 4, 0600), 0);
	fd = fd_open_in(root, "rel", O_RDONLY, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(fd_read_all(fd, 100, &text, NULL), 0);
	ck_assert_str_eq(text, "ours");
}
END_TEST

START_TEST(magic_links_are_refused)
{
	_cleanup_fd_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_eq(fd_open_in(proc, "self/root/etc", O_RDONLY | O_DIRECTORY, 0), -ELOOP);
}
END_TEST

START_TEST(open_in_creates_with_a_mode)
{
	_cleanup_fd_ int root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = fd_open_in(root, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);
	struct stat st;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
}
END_TEST

START_TEST(an_fd_travels_over_a_socket)
{
	int pair[2], got = -7;
	char b[8] = "";

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(fd_send(pair[0], "hi", 2, pair[0]), 0);
	ck_assert_int_eq(fd_recv(pair[1], b, sizeof(b), &got), 2);
	ck_assert_int_ge(got, 0);
	ck_assert(fcntl(got, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(fd_send(got, "yo", 2, -EBADF), 0);
	fd_close(got);
	ck_assert_int_eq(fd_recv(pair[1], b, sizeof(b), &got), 2);
	ck_assert_int_eq(got, -EBADF);
	ck_assert_int_eq(fd_send(pair[0], "", 0, -EBADF), -EINVAL);
	fd_close(pair[1]);
	ck_assert_int_eq(fd_send(pair[0], "x", 1, -EBADF), -EPIPE);
	fd_close(pair[0]);
}
END_TEST

START_TEST(fds_beyond_the_first_are_closed)
{
	union {
		char space[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (char[]){ "x" }, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control.space) };
	int pair[2], got, probe, two[2] = { 0, 1 };
	char b;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){ CMSG_LEN(sizeof(two)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), two, sizeof(two));
	ck_assert_int_eq(sendmsg(pair[0], &msg, 0), 1);
	ck_assert_int_eq(fd_recv(pair[1], &b, 1, &got), 1);
	probe = dup(0);
	ck_assert_int_eq(probe, got + 1); /* the next number is free */
	fd_close(probe);
	fd_close(got);
	fd_close(pair[0]);
	fd_close(pair[1]);
}
END_TEST

START_TEST(unix_sockets_listen_with_their_mode_and_take_long_paths)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	char part[101];
	struct stat st;
	int l, c;

	memset(part, 'd', 100);
	part[100] = '\0';
	dir = _i ? str_printf("%s/%s", top, part) : mem_strdup(top);
	path = str_printf("%s/sock", dir);
	ck_assert_int_eq(dir_make(dir, 0700), 0);
	umask(077);
	ck_assert_int_lt(sock_unix_connect(path), 0);
	l = sock_unix_listen(path, 0660);
	ck_assert_int_ge(l, 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0660);
	ck_assert(fcntl(l, F_GETFL) & O_NONBLOCK);
	c = sock_unix_connect(path);
	ck_assert_int_ge(c, 0);
	ck_assert(!(fcntl(c, F_GETFL) & O_NONBLOCK));
	ck_assert_int_eq(sock_unix_listen(path, 0660), -EADDRINUSE);
	fd_close(c);
	fd_close(l);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base fd");
	TCase *t = tcase_create("fd");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, closing_keeps_errno_and_gives_the_empty_fd);
	tcase_add_test(t, a_file_is_written_with_its_mode_and_read_back);
	tcase_add_test(t, a_write_that_fails_leaves_the_old_file_and_no_litter);
	tcase_add_test(t, reading_more_than_the_maximum_is_efbig_and_the_maximum_is_not);
	tcase_add_test(t, put_writes_to_existing_files_only);
	tcase_add_test(t, directories_are_made_with_their_parents);
	tcase_add_test(t, removal_takes_a_tree_and_what_is_absent_is_fine);
	tcase_add_test(t, removal_takes_symlinks_away_and_not_what_they_point_to);
	tcase_add_test(t, removal_does_not_go_into_another_mount_but_takes_the_rest);
	tcase_add_test(t, removal_takes_a_tree_of_any_depth);
	tcase_add_test(t, paths_from_outside_stay_inside);
	tcase_add_test(t, magic_links_are_refused);
	tcase_add_test(t, open_in_creates_with_a_mode);
	tcase_add_test(t, an_fd_travels_over_a_socket);
	tcase_add_test(t, fds_beyond_the_first_are_closed);
	tcase_add_loop_test(t, unix_sockets_listen_with_their_mode_and_take_long_paths, 0, 2);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
