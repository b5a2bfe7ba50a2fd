/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On directories that look like hierarchies: mkdirat() and rmdir() are wrapped, to do with a
 * cgroup's files what a kernel does.
 */
#include "vmm/cgroup.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

static char root[] = "/tmp/test_cgroup.XXXXXX";
static char *mounts, *mountinfo, *run_dir, *other_dir;
static struct cgroups cg;
static unsigned devices = 30;
static struct err err;

/* Of the calls that make a cgroup, the one that fails (0: none), how, and how many there were. */
static unsigned fail_at, calls;
static int fail_errno;
/* Where everything fails. */
static const char *read_only;
/* How often a cgroup is still busy when it is removed. */
static unsigned busy_times;

static char *below(const char *name)
{
	return str_printf("%s/%s", root, name);
}

static bool exists(const char *name)
{
	_cleanup_free_ char *path = below(name);

	return access(path, F_OK) == 0;
}

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = below(name);

	ck_assert_int_eq(file_write(path, text, strlen(text), 0644), 0);
}

/* The caller frees it. */
static char *get(const char *name)
{
	_cleanup_free_ char *path = below(name);
	char *text = NULL;

	ck_assert_msg(file_read(path, 65536, &text, NULL) == 0, "%s", name);
	return text;
}

static void assert_text(const char *name, const char *text)
{
	_cleanup_free_ char *is = get(name);

	ck_assert_str_eq(is, text);
}

/* ---- a kernel's part ---- */

static const char *const files[] = { "cgroup.procs", "cpuset.cpus", "cpuset.mems",
				     "cgroup.controllers", "cgroup.subtree_control" };

static bool fails(void)
{
	errno = fail_errno;
	return ++calls == fail_at;
}

static bool is_below(int fd, const char *top)
{
	_cleanup_free_ char *link = str_printf("/proc/self/fd/%d", fd);
	char path[256] = "";

	return top && readlink(link, path, sizeof(path) - 1) > 0 && strstr(path, top);
}

int __real_mkdirat(int at, const char *name, mode_t mode);
int __wrap_mkdirat(int at, const char *name, mode_t mode);
int __wrap_mkdirat(int at, const char *name, mode_t mode)
{
	_cleanup_fd_ int dir = -EBADF;

	if (fails())
		return -1;
	if (is_below(at, read_only)) {
		errno = EROFS;
		return -1;
	}
	if (__real_mkdirat(at, name, mode) < 0)
		return -1;
	dir = openat(at, name, O_PATH | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (faccessat(at, files[i], F_OK, 0) == 0)
			fd_close(openat(dir, files[i], O_CREAT | O_WRONLY, 0644));
	}
	if (faccessat(at, "cgroup.controllers", F_OK, 0) == 0) {
		_cleanup_fd_ int fd = openat(dir, "cgroup.controllers", O_WRONLY);

		ck_assert_int_eq(fd_write_all(fd, "pids\n", 5), 0);
	}
	return 0;
}

int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);
int __wrap_rmdir(const char *path)
{
	_cleanup_free_ char *procs = str_printf("%s/cgroup.procs", path);
	struct stat st;

	if (read_only && strstr(path, read_only)) {
		errno = EROFS;
		return -1;
	}
	/* As with children, but these would only be seen once the files are gone. */
	if (stat(path, &st) == 0 && st.st_nlink > 2)
		busy_times++;
	if (busy_times > 0 || (stat(procs, &st) == 0 && st.st_size > 0)) {
		busy_times -= busy_times > 0;
		errno = EBUSY;
		return -1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *file = str_printf("%s/%s", path, files[i]);

		unlink(file);
	}
	return __real_rmdir(path);
}

/* ---- hierarchies ---- */

/* One more line, or several. */
__attribute__((format(printf, 1, 2))) static void mounted(const char *fmt, ...)
{
	_cleanup_free_ char *before = mounts, *line = NULL;
	va_list ap;

	va_start(ap, fmt);
	line = str_vprintf(fmt, ap);
	va_end(ap);
	mounts = str_printf("%s%s\n", before ? before : "", line);
	put("mountinfo", mounts);
}

static void hierarchy(const char *name, bool unified)
{
	_cleanup_free_ char *dir = below(name), *procs = str_printf("%s/cgroup.procs", name),
			    *controllers = str_printf("%s/cgroup.controllers", name),
			    *subtree = str_printf("%s/cgroup.subtree_control", name);

	ck_assert_int_eq(dir_make(dir, 0755), 0);
	put(procs, "");
	if (unified) {
		put(controllers, "pids memory\n");
		put(subtree, "");
	}
	mounted("%u 31 0:%u / %s rw,relatime shared:9 - %s none rw", devices, devices, dir,
		unified ? "cgroup2" : "cgroup");
	devices++;
}

static void version_1(void)
{
	hierarchy("memory", false);
	hierarchy("cpuset", false);
	put("cpuset/cpuset.cpus", "0-3\n");
	put("cpuset/cpuset.mems", "0\n");
}

static void setup(void)
{
	strcpy(root + strlen(root) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	mountinfo = below("mountinfo");
	mounted("22 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n31 22 0:9 / /x rw -");
	run_dir = below("run");
	other_dir = below("other");
	ck_assert_int_eq(dir_make(run_dir, 0700), 0);
	ck_assert_int_eq(dir_make(other_dir, 0700), 0);
	fail_at = calls = busy_times = 0;
	fail_errno = EIO;
	read_only = NULL;
	memset(&err, 0, sizeof(err));
}

static void teardown(void)
{
	cgroups_close(&cg);
	free(mounts);
	mounts = NULL;
	free(mountinfo);
	free(run_dir);
	free(other_dir);
	ck_assert_int_eq(dir_remove(root), 0);
}

static void make(const char *dir, const char *path)
{
	cgroups_close(&cg);
	ck_assert_msg(cgroup_make(mountinfo, dir, path, &cg, &err) == 0, "%s", err.text);
}

static void remove_of(const char *dir)
{
	_cleanup_free_ char *record = str_printf("%s/cgroup", dir);

	cgroups_close(&cg);
	ck_assert_msg(cgroup_remove(dir, &err) == 0, "%s", err.text);
	ck_assert(access(record, F_OK) < 0);
}

/* Tests that need the mark skip without it: only root may set it. */
static bool may_mark(void)
{
	return setxattr(root, "trusted.lcow.test", "1", 1, 0) == 0;
}

/* ---- names ---- */

static const struct {
	const char *name;
	const char *path;
} names[] = {
	{ "/default/c1", "default/c1" },
	{ "c1", "c1" },
	{ "/", NULL },
	{ "/kubepods/burstable/pod1/abc", "kubepods/burstable/pod1/abc" },
	{ "/a:b:c", "a:b:c" },
	{ "a:b", "a:b" },
	{ "a.slice:p:n", "a.slice/p-n.scope" },
	{ "a-b-c.slice:cri-containerd:1f",
	  "a.slice/a-b.slice/a-b-c.slice/cri-containerd-1f.scope" },
	{ "kubepods-pod1_2.slice:x:y", "kubepods.slice/kubepods-pod1_2.slice/x-y.scope" },
	{ ":p:n", "system.slice/p-n.scope" },
	{ "-.slice:p:n", "p-n.scope" },
	{ "a.slice::n", "a.slice/n.scope" },
};

START_TEST(a_name_leads_to_a_path)
{
	_cleanup_free_ char *path = NULL;

	ck_assert_msg(cgroup_path(names[_i].name, &path, &err) == 0, "%s", err.text);
	ck_assert_pstr_eq(path, names[_i].path);
}
END_TEST

static const char *const bad_names[] = {
	"..",
	"/a/../b",
	"/a/..",
	"/a/./b",
	"//a",
	"/a//b",
	"/a/",
	"/a\n/b",
	"/a\x7f",
	"b:p:n",
	".slice:p:n",
	"a/b.slice:p:n",
	"a--b.slice:p:n",
	"-a.slice:p:n",
	"a-.slice:p:n",
	"a.slice:p:",
	"a.slice:../..:n",
	"a.slice:p:..//n",
};

START_TEST(a_name_that_leads_elsewhere_is_refused)
{
	_cleanup_free_ char *path = NULL;

	ck_assert_int_eq(cgroup_path(bad_names[_i], &path, &err), -ERR_INVALID);
	ck_assert_ptr_null(path);
	ck_assert_ptr_nonnull(strstr(err.text, "cgroup \""));
	ck_assert_ptr_null(strchr(err.text, '\n'));
}
END_TEST

/* @n times @part between @before and @after. */
static int path_of(const char *before, const char *part, unsigned n, const char *after)
{
	_cleanup_buf_ struct buf name = { 0 };
	_cleanup_free_ char *path = NULL;

	buf_addf(&name, "%s", before);
	for (unsigned i = 0; i < n; i++)
		buf_addf(&name, "%s", part);
	buf_addf(&name, "%s", after);
	buf_add(&name, "", 1);
	return cgroup_path((char *)name.data, &path, &err);
}

START_TEST(names_have_a_length)
{
	ck_assert_int_eq(path_of("", "a", 255, ""), 0);
	ck_assert_int_eq(path_of("", "a", 256, ""), -ERR_INVALID);
	ck_assert_int_eq(path_of("", "/a", 512, ""), 0);
	ck_assert_int_eq(path_of("", "/a", 513, ""), -ERR_INVALID);
	/* Short, but long once it is taken apart. */
	ck_assert_int_eq(path_of("a", "-a", 10, ".slice:p:n"), 0);
	ck_assert_int_eq(path_of("a", "-a", 100, ".slice:p:n"), -ERR_INVALID);
}
END_TEST

/* ---- making and removing ---- */

START_TEST(version_1_has_it_in_every_hierarchy)
{
	_cleanup_free_ char *record = NULL, *want = NULL;
	size_t len = strlen(root);

	version_1();
	make(run_dir, "pods/p1");
	ck_assert_uint_eq(cg.n_procs, 2);
	ck_assert_uint_eq(cg.clone_flags, 0);
	ck_assert_int_eq(write(cg.procs[0], "0", 1), 1);
	assert_text("memory/pods/p1/cgroup.procs", "0");
	record = get("run/cgroup");
	want = str_printf("%zu %s/memory/pods/p1\n%zu %s/cpuset/pods/p1\n", len + 7, root, len + 7,
			  root);
	ck_assert_str_eq(record, want);
	put("memory/pods/p1/cgroup.procs", "");
	remove_of(run_dir);
	ck_assert(!exists("memory/pods") && !exists("cpuset/pods"));
	ck_assert(exists("memory") && exists("cpuset"));
}
END_TEST

START_TEST(cpusets_are_those_above)
{
	version_1();
	make(run_dir, "pods/p1");
	assert_text("cpuset/pods/cpuset.cpus", "0-3\n");
	assert_text("cpuset/pods/p1/cpuset.cpus", "0-3\n");
	assert_text("cpuset/pods/p1/cpuset.mems", "0\n");
	remove_of(run_dir);
	/* What somebody set stays. */
	make(run_dir, "pods");
	put("cpuset/pods/cpuset.cpus", "2\n");
	make(other_dir, "pods/p2");
	assert_text("cpuset/pods/cpuset.cpus", "2\n");
	assert_text("cpuset/pods/p2/cpuset.cpus", "2\n");
	assert_text("cpuset/pods/p2/cpuset.mems", "0\n");
}
END_TEST

START_TEST(version_2_has_it_in_one_with_controllers)
{
	_cleanup_free_ char *path = below("unified/pods/p1");
	struct stat is, want;

	hierarchy("unified", true);
	make(run_dir, "pods/p1");
	ck_assert_uint_eq(cg.n_procs, 0);
	ck_assert_uint_eq(cg.clone_flags, CLONE_INTO_CGROUP);
	ck_assert_int_eq(fstat(cg.dir, &is), 0);
	ck_assert_int_eq(stat(path, &want), 0);
	ck_assert_uint_eq(is.st_ino, want.st_ino);
	/* What the root passes on is the host's affair. */
	assert_text("unified/cgroup.subtree_control", "");
	assert_text("unified/pods/cgroup.subtree_control", "+pids");
	assert_text("unified/pods/p1/cgroup.subtree_control", "");
	remove_of(run_dir);
	ck_assert(!exists("unified/pods"));
}
END_TEST

START_TEST(a_hybrid_host_has_it_in_both)
{
	version_1();
	hierarchy("unified", true);
	make(run_dir, "p1");
	ck_assert_uint_eq(cg.n_procs, 2);
	ck_assert_uint_eq(cg.clone_flags, CLONE_INTO_CGROUP);
	ck_assert(exists("memory/p1") && exists("cpuset/p1") && exists("unified/p1"));
	remove_of(run_dir);
	ck_assert(!exists("memory/p1") && !exists("cpuset/p1") && !exists("unified/p1"));
}
END_TEST

START_TEST(only_mounts_that_show_a_hierarchy_count)
{
	hierarchy("a b", false);
	hierarchy("memory", false);
	/* The first again, as a container has it; one that something else is mounted over; and the
	 * blank as the kernel writes it. */
	mounted("90 31 0:%u / %s/elsewhere rw - cgroup none rw", devices - 2, root);
	mounted("91 31 0:99 / %s/run rw - cgroup none rw", root);

	char *blank = strstr(mounts, "a b");
	_cleanup_free_ char *text =
		str_printf("%.*sa\\040b%s", (int)(blank - mounts), mounts, blank + 3);

	put("mountinfo", text);
	make(run_dir, "p1");
	ck_assert_uint_eq(cg.n_procs, 2);
	ck_assert(exists("a b/p1") && exists("memory/p1"));
	remove_of(run_dir);
	ck_assert(!exists("a b/p1") && !exists("memory/p1"));
}
END_TEST

START_TEST(a_host_without_cgroups_has_nothing_to_make)
{
	put("mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
	make(run_dir, "p1");
	ck_assert_uint_eq(cg.n_procs, 0);
	remove_of(run_dir);
	ck_assert_int_eq(cgroup_make("/does/not/exist", run_dir, "p1", &cg, &err), -ENOENT);
}
END_TEST

START_TEST(what_was_there_before_stays)
{
	version_1();
	make(other_dir, "pods/p1");
	/* Not ours: a kubelet's. */
	for (size_t i = 0; i < 2; i++) {
		_cleanup_free_ char *path = below(i ? "cpuset/pods" : "memory/pods");

		removexattr(path, "trusted.lcow.made");
	}
	make(run_dir, "pods/p2");
	remove_of(run_dir);
	ck_assert(!exists("memory/pods/p2") && exists("memory/pods/p1"));
	make(run_dir, "pods");
	remove_of(run_dir);
	ck_assert(exists("memory/pods/p1") && exists("cpuset/pods/p1"));
}
END_TEST

START_TEST(what_two_sandboxes_use_goes_with_the_last)
{
	if (!may_mark())
		return;
	version_1();
	make(run_dir, "default/c1");
	make(other_dir, "default/c2");
	remove_of(run_dir);
	ck_assert(!exists("memory/default/c1") && exists("memory/default/c2"));
	remove_of(other_dir);
	ck_assert(!exists("memory/default") && !exists("cpuset/default"));
}
END_TEST

START_TEST(a_cgroup_that_others_are_in_is_theirs)
{
	version_1();
	make(run_dir, "default/c1");
	put("memory/default/c1/cgroup.procs", "77\n");
	remove_of(run_dir);
	ck_assert(exists("memory/default/c1") && !exists("cpuset/default"));
}
END_TEST

START_TEST(a_cgroup_that_is_still_busy_is_tried_again)
{
	version_1();
	make(run_dir, "default/c1");
	busy_times = 5;
	remove_of(run_dir);
	ck_assert(!exists("memory/default") && !exists("cpuset/default"));
	make(run_dir, "c1");
	busy_times = 100000;
	ck_assert_int_eq(cgroup_remove(run_dir, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "remove cgroup "));
	busy_times = 0;
	remove_of(run_dir);
	ck_assert(!exists("memory/c1"));
}
END_TEST

START_TEST(what_goes_while_it_is_made_is_made_again)
{
	version_1();
	fail_at = 2;
	fail_errno = ENOENT;
	make(run_dir, "default/c1");
	ck_assert_uint_eq(cg.n_procs, 2);
	remove_of(run_dir);
	ck_assert(!exists("memory/default"));
}
END_TEST

START_TEST(a_failure_at_any_step_leaves_nothing)
{
	int r;

	version_1();
	hierarchy("unified", true);
	for (fail_at = 1;; fail_at++) {
		calls = 0;
		r = cgroup_make(mountinfo, run_dir, "default/c1", &cg, &err);
		if (r == 0)
			break;
		ck_assert_int_eq(r, -EIO);
		ck_assert_ptr_nonnull(strstr(err.text, "make cgroup "));
		ck_assert_uint_eq(cg.n_procs, 0);
		remove_of(run_dir);
		ck_assert(!exists("memory/default") && !exists("cpuset/default"));
		ck_assert(!exists("unified/default"));
	}
	ck_assert_uint_eq(fail_at, 7);
	remove_of(run_dir);
	ck_assert(!exists("memory/default") && !exists("unified/default"));
}
END_TEST

START_TEST(a_part_that_is_no_directory_is_an_error)
{
	version_1();
	ck_assert_int_eq(cgroup_make(mountinfo, run_dir, "cgroup.procs/c1", &cg, &err), -ENOTDIR);
	remove_of(run_dir);
	ck_assert(exists("memory/cgroup.procs"));
}
END_TEST

START_TEST(a_hierarchy_that_is_read_only_is_left_out)
{
	version_1();
	hierarchy("unified", true);
	read_only = "/memory";
	make(run_dir, "default/c1");
	ck_assert_uint_eq(cg.n_procs, 1);
	ck_assert_uint_eq(cg.clone_flags, CLONE_INTO_CGROUP);
	ck_assert(!exists("memory/default") && exists("cpuset/default/c1"));
	remove_of(run_dir);
	ck_assert(!exists("cpuset/default") && !exists("unified/default"));
	read_only = root;
	make(run_dir, "default/c1");
	ck_assert_uint_eq(cg.n_procs, 0);
	ck_assert_uint_eq(cg.clone_flags, 0);
	remove_of(run_dir);
}
END_TEST

START_TEST(a_record_is_enough_to_remove_whatever_was_made)
{
	_cleanup_free_ char *record = NULL, *first = below("memory/default");

	version_1();
	make(run_dir, "default/c1");
	record = get("run/cgroup");
	remove_of(run_dir);
	/* Killed before the first directory, between two, and before one was marked. */
	put("run/cgroup", record);
	remove_of(run_dir);
	put("run/cgroup", record);
	ck_assert_int_eq(__wrap_mkdirat(AT_FDCWD, first, 0755), 0);
	remove_of(run_dir);
	ck_assert(!exists("memory/default"));
	remove_of(run_dir);
}
END_TEST

START_TEST(a_broken_record_harms_nobody)
{
	version_1();
	make(other_dir, "default/c1");
	put("run/cgroup", "x\n1\n 2 /\n5 relative\nx /tmp\n99999999999999999999 /tmp\n\n");
	remove_of(run_dir);
	ck_assert(exists("memory/default/c1"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vmm cgroup");
	TCase *t = tcase_create("cgroup");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, a_name_leads_to_a_path, 0, ARRAY_SIZE(names));
	tcase_add_loop_test(t, a_name_that_leads_elsewhere_is_refused, 0, ARRAY_SIZE(bad_names));
	tcase_add_test(t, names_have_a_length);
	tcase_add_test(t, version_1_has_it_in_every_hierarchy);
	tcase_add_test(t, cpusets_are_those_above);
	tcase_add_test(t, version_2_has_it_in_one_with_controllers);
	tcase_add_test(t, a_hybrid_host_has_it_in_both);
	tcase_add_test(t, only_mounts_that_show_a_hierarchy_count);
	tcase_add_test(t, a_host_without_cgroups_has_nothing_to_make);
	tcase_add_test(t, what_was_there_before_stays);
	tcase_add_test(t, what_two_sandboxes_use_goes_with_the_last);
	tcase_add_test(t, a_cgroup_that_others_are_in_is_theirs);
	tcase_add_test(t, a_cgroup_that_is_still_busy_is_tried_again);
	tcase_add_test(t, what_goes_while_it_is_made_is_made_again);
	tcase_add_test(t, a_failure_at_any_step_leaves_nothing);
	tcase_add_test(t, a_part_that_is_no_directory_is_an_error);
	tcase_add_test(t, a_hierarchy_that_is_read_only_is_left_out);
	tcase_add_test(t, a_record_is_enough_to_remove_whatever_was_made);
	tcase_add_test(t, a_broken_record_harms_nobody);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
