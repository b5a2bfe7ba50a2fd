/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "run.h"

#define KEY "0123456789abcdef0123456789abcdef"
#define OURS SCRATCH_PREFIX KEY

static char dir[] = "/tmp/test_scratch.XXXXXX";
static struct scratch_swept swept;
static struct err err;

static void setup(void)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	memset(&err, 0, sizeof(err));
}

static void teardown(void)
{
	ck_assert_int_eq(dir_remove(dir), 0);
}

static char *at(const char *name)
{
	return str_printf("%s/%s", dir, name);
}

static bool exists(const char *name)
{
	_cleanup_free_ char *path = at(name);
	struct stat st;

	return lstat(path, &st) == 0;
}

static void put(const char *name)
{
	_cleanup_free_ char *path = at(name), *top = mem_strdup(path);

	*strrchr(top, '/') = '\0';
	ck_assert_int_eq(dir_make(top, 0700), 0);
	ck_assert_int_eq(file_write(path, "x", 1, 0600), 0);
}

static void sweep(void)
{
	scratch_sweep(dir, 0, USEC_NEVER, &swept);
	ck_assert_int_eq(swept.failed, 0);
}

START_TEST(images_that_nobody_has_locked_are_removed_with_their_directory)
{
	put(OURS "/c1.img");
	put(OURS "/c2.img");
	sweep();
	ck_assert(!exists(OURS));
	ck_assert_uint_eq(swept.directories, 1);
	ck_assert_uint_ge(swept.bytes, 1024);
	sweep();
	ck_assert_uint_eq(swept.directories, 0);
}
END_TEST

START_TEST(those_of_a_live_sandbox_stay_until_it_has_ended)
{
	_cleanup_free_ char *path = at(OURS);
	int lock = -EBADF;

	ck_assert_int_eq(scratch_open(path, &lock, &err), 0);
	ck_assert_int_ge(lock, 0);
	sweep();
	ck_assert(exists(OURS));
	put(OURS "/c1.img");
	sweep();
	ck_assert(exists(OURS "/c1.img"));
	fd_close(lock);
	sweep();
	ck_assert(!exists(OURS));
}
END_TEST

START_TEST(an_image_that_a_QEMU_without_a_shim_has_locked_stays)
{
	_cleanup_free_ char *path = at(OURS "/c1.img");
	struct flock byte = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
	int fd;

	put(OURS "/c1.img");
	put(OURS "/c2.img");
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &byte), 0);
	sweep();
	ck_assert(exists(OURS "/c1.img") && exists(OURS "/c2.img"));
	close(fd);
	sweep();
	ck_assert(!exists(OURS));
}
END_TEST

static const char *const foreign[] = {
	"c1.img",
	"notes",
	"lcow-notes/c1.img",
	"lcow-0123456789ABCDEF0123456789abcdef/c1.img",
	SCRATCH_PREFIX KEY "0/c1.img",
	"io.containerd.snapshotter.v1.blockfile/snapshots/1.img",
	OURS "/notes",
	OURS "/c1.img.old",
	OURS "/snapshots/c1.img",
	OURS "/.img",
};

START_TEST(what_is_not_of_our_making_stays)
{
	put(foreign[_i]);
	sweep();
	ck_assert(exists(foreign[_i]));
	ck_assert_uint_eq(swept.directories, 0);
}
END_TEST

START_TEST(a_link_of_our_name_is_not_followed)
{
	_cleanup_free_ char *link = at(OURS), *target = at("elsewhere");

	put("elsewhere/c1.img");
	ck_assert_int_eq(symlink(target, link), 0);
	sweep();
	ck_assert(exists(OURS) && exists("elsewhere/c1.img"));
}
END_TEST

START_TEST(images_of_a_version_without_locks_go_when_they_are_older_than_the_boot)
{
	struct stat st;
	_cleanup_free_ char *path = at(KEY);

	put(KEY "/c1.img");
	ck_assert_int_eq(stat(path, &st), 0);
	scratch_sweep(dir, st.st_ctime, USEC_NEVER, &swept);
	ck_assert(exists(KEY "/c1.img"));
	scratch_sweep(dir, st.st_ctime + 1, USEC_NEVER, &swept);
	ck_assert(!exists(KEY));
	put(KEY "/c1.img");
	scratch_sweep_host(dir, USEC_NEVER, &swept);
	ck_assert(exists(KEY "/c1.img"));
}
END_TEST

START_TEST(a_sweep_begins_nothing_after_its_time)
{
	put(OURS "/c1.img");
	scratch_sweep(dir, 0, time_mono(), &swept);
	ck_assert(exists(OURS "/c1.img"));
}
END_TEST

START_TEST(without_the_directory_there_is_nothing_to_sweep)
{
	scratch_sweep("/etc/passwd", 0, USEC_NEVER, &swept);
	ck_assert_int_eq(swept.failed, 0);
	scratch_sweep("/proc/nope", 0, USEC_NEVER, &swept);
	ck_assert_int_eq(swept.failed, 0);
}
END_TEST

/* Sweeps as fast as it can until it is killed, or the test has ended. */
static pid_t sweeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			scratch_sweep(dir, 0, USEC_NEVER, &swept);
	}
	return pid;
}

START_TEST(a_sweep_never_takes_the_directory_of_one_that_begins)
{
	_cleanup_free_ char *path = at(OURS), *image = at(OURS "/c1.img");
	pid_t pid = sweeper();

	for (int i = 0; i < 2000; i++) {
		int lock = -EBADF;

		ck_assert_msg(scratch_open(path, &lock, &err) == 0, "%s", err.text);
		ck_assert_int_eq(file_write(image, "x", 1, 0600), 0);
		ck_assert(exists(OURS "/c1.img"));
		fd_close(lock);
		if (i % 2)
			ck_assert_int_eq(scratch_remove(path), 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(two_sandboxes_of_one_name_do_not_share)
{
	_cleanup_free_ char *path = at(OURS);
	int lock = -EBADF, second = -EBADF;

	ck_assert_int_eq(scratch_open(path, &lock, &err), 0);
	ck_assert_int_eq(scratch_open(path, &second, &err), -ERR_STATE);
	ck_assert_ptr_nonnull(strstr(err.text, "in use by another sandbox"));
	ck_assert_int_eq(second, -EBADF);
	ck_assert_int_eq(scratch_remove(path), -EBUSY);
	ck_assert(exists(OURS));
	fd_close(lock);
	ck_assert_int_eq(scratch_remove(path), 0);
	ck_assert_int_eq(scratch_remove(path), 0);
}
END_TEST

static const struct {
	const char *path;
	int code;
} impossible[] = {
	{ "/etc/passwd/" OURS, -ENOTDIR },
	{ "/proc/nope/" OURS, -ENOENT },
};

START_TEST(a_wrong_directory_is_named_with_its_key_and_nothing_is_there_to_remove)
{
	int lock = -EBADF;

	ck_assert_int_eq(scratch_open(impossible[_i].path, &lock, &err), impossible[_i].code);
	ck_assert_msg(str_starts(err.text, "scratch_dir: make /"), "%s", err.text);
	ck_assert_ptr_nonnull(strstr(err.text, impossible[_i].path));
	ck_assert_int_eq(lock, -EBADF);
	ck_assert_int_eq(scratch_remove(impossible[_i].path), 0);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("scratch");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, images_that_nobody_has_locked_are_removed_with_their_directory);
	tcase_add_test(t, those_of_a_live_sandbox_stay_until_it_has_ended);
	tcase_add_test(t, an_image_that_a_QEMU_without_a_shim_has_locked_stays);
	tcase_add_loop_test(t, what_is_not_of_our_making_stays, 0, ARRAY_SIZE(foreign));
	tcase_add_test(t, a_link_of_our_name_is_not_followed);
	tcase_add_test(t, images_of_a_version_without_locks_go_when_they_are_older_than_the_boot);
	tcase_add_test(t, a_sweep_begins_nothing_after_its_time);
	tcase_add_test(t, without_the_directory_there_is_nothing_to_sweep);
	tcase_add_test(t, a_sweep_never_takes_the_directory_of_one_that_begins);
	tcase_add_test(t, two_sandboxes_of_one_name_do_not_share);
	tcase_add_loop_test(t,
			    a_wrong_directory_is_named_with_its_key_and_nothing_is_there_to_remove,
			    0, ARRAY_SIZE(impossible));
	return run_case(t, "shim scratch");
}
