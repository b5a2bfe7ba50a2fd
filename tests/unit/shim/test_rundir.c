/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rundir.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "run.h"
#include "shim/config.h"

static char dir[] = "/tmp/test_rundir.XXXXXX";
static char *socket_dir;
static struct shim_config config;
static struct rundir r;
static struct err err;

static void setup(void)
{
	_cleanup_free_ char *text = NULL;

	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	shim_config_init(&config);
	text = str_printf("[lcow]\nrun_dir = %s/run\nscratch_dir = %s/scratch\n", dir, dir);
	ck_assert_int_eq(shim_config_text(&config, "c", text, true, &err), 0);
	socket_dir = str_printf("%s/s", dir);
	ck_assert_int_eq(dir_make(socket_dir, 0700), 0);
	ck_assert_int_eq(rundir_init(&r, &config, socket_dir, "/c.sock", "ns", "c1", &err), 0);
}

static void teardown(void)
{
	rundir_free(&r);
	shim_config_free(&config);
	free(socket_dir);
	dir_remove(dir);
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* A process that does nothing until it is ended; it has given up Check's handlers when this
 * returns. */
static pid_t sleeper(void)
{
	int ready[2];
	pid_t pid;
	char byte;

	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_DFL);
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static bool runs(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

START_TEST(delete_finds_the_directory_without_knowing_the_sockets)
{
	struct rundir other = { 0 };

	ck_assert_int_eq(rundir_init(&other, &config, "", "/c.sock", "ns", "c1", &err), 0);
	ck_assert_str_eq(other.path, r.path);
	rundir_free(&other);
	ck_assert_int_eq(rundir_init(&other, &config, "", "/c.sock", "ns", "c2", &err), 0);
	ck_assert_str_ne(other.path, r.path);
	rundir_free(&other);
}
END_TEST

START_TEST(a_socket_path_that_is_too_long_is_refused)
{
	struct rundir other = { 0 };

	ck_assert_int_eq(rundir_init(&other, &config,
				     "/a/directory/of/more/than/forty/two/characters", "/c.sock",
				     "ns", "c1", &err),
			 -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "too long"));
}
END_TEST

/* As a logging driver: it ends by itself, or at SIGTERM, or not even then. */
static pid_t logger(unsigned ms, bool stubborn)
{
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGTERM, stubborn ? SIG_IGN : SIG_DFL);
		usleep(ms * 1000);
		_exit(7);
	}
	return pid;
}

START_TEST(logging_drivers_may_finish_and_are_asked_before_they_are_killed)
{
	static const struct {
		unsigned ms;
		bool stubborn;
		int status;
	} rows[] = {
		{ 300, false, 7 << 8 },
		{ 60000, false, SIGTERM },
		{ 60000, true, SIGKILL },
	};
	pid_t pids[ARRAY_SIZE(rows)];
	int status;

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *name = str_printf("logger-%zu", i);

		pids[i] = logger(rows[i].ms, rows[i].stubborn);
		ck_assert_int_eq(rundir_record_pid(r.path, name, pids[i]), 0);
	}
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ck_assert_int_eq(waitpid(pids[i], &status, WNOHANG), pids[i]);
		ck_assert_int_eq(status, rows[i].status);
	}
	ck_assert(!exists(r.path));
}
END_TEST

START_TEST(cleaning_ends_what_is_recorded_and_removes_it)
{
	static const char *const names[] = { "shim", "qemu", "vsock" };
	pid_t pids[3];

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	for (int i = 0; i < 3; i++) {
		pids[i] = sleeper();
		ck_assert_int_eq(rundir_record_pid(r.path, names[i], pids[i]), 0);
	}
	ck_assert_int_eq(file_write(r.socket, "", 0, 0600), 0);
	ck_assert_int_eq(dir_make(r.scratch, 0700), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(waitpid(pids[i], NULL, 0), pids[i]);
	ck_assert(!exists(r.path) && !exists(r.socket) && !exists(r.scratch));
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
}
END_TEST

static void expect_line(const char *name, const char *line)
{
	_cleanup_free_ char *path = str_printf("%s/%s", r.path, name), *text = NULL;
	size_t len;

	ck_assert_int_eq(file_read(path, 1000, &text, &len), 0);
	ck_assert_str_eq(text, line);
}

START_TEST(a_run_directory_says_whose_it_is)
{
	ck_assert_int_eq(rundir_create(&r, &err), 0);
	expect_line("id", "c1\n");
	expect_line("namespace", "ns\n");
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
}
END_TEST

/* Where no directory can be. */
static const char *const impossible[] = { "/etc/passwd", "/proc/nope", "/etc/passwd/x/y" };

START_TEST(scratch_that_cannot_be_there_is_no_obstacle_to_cleaning)
{
	free(r.scratch);
	r.scratch = str_printf("%s/lcow-0", impossible[_i]);
	ck_assert_int_eq(rundir_create(&r, &err), 0);
	ck_assert_int_eq(rundir_create(&r, &err), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(!exists(r.path));
}
END_TEST

START_TEST(a_run_directory_that_cannot_be_there_is_clean)
{
	_cleanup_free_ char *path = str_printf("%s/0", impossible[_i]);

	ck_assert_int_eq(rundir_clean(path, 0, &err), 0);
}
END_TEST

START_TEST(another_process_with_a_recorded_pid_is_left_alone)
{
	_cleanup_free_ char *record = NULL, *text = NULL;
	pid_t pid = sleeper();

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	record = str_printf("%s/qemu.pid", r.path);
	text = str_printf("%d %llu\n", pid, (unsigned long long)process_start_time(pid) - 1);
	ck_assert_int_eq(file_write(record, text, strlen(text), 0600), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(runs(pid));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ck_assert(!exists(r.path));
}
END_TEST

START_TEST(a_shim_that_ends_in_its_grace_is_not_killed)
{
	int status;
	pid_t pid = sleeper();

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	ck_assert_int_eq(rundir_record_pid(r.path, "shim", pid), 0);
	ck_assert_int_eq(rundir_clean(r.path, 2000, &err), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WTERMSIG(status), SIGTERM);
}
END_TEST

static const char *const broken[] = { "", "x", "1 1", "-5 7", "99999999999999 1", "12" };

START_TEST(a_broken_record_harms_nobody)
{
	_cleanup_free_ char *record = NULL;

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	record = str_printf("%s/shim.pid", r.path);
	ck_assert_int_eq(file_write(record, broken[_i], strlen(broken[_i]), 0600), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(!exists(r.path));
}
END_TEST

START_TEST(a_directory_that_was_only_begun_is_removed)
{
	ck_assert_int_eq(dir_make(r.path, 0700), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(!exists(r.path));
}
END_TEST

START_TEST(a_new_sandbox_of_the_same_name_cleans_up_after_the_old_one)
{
	_cleanup_free_ char *old = NULL;

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	old = str_printf("%s/old", r.path);
	ck_assert_int_eq(file_write(old, "", 0, 0600), 0);
	ck_assert_int_eq(rundir_create(&r, &err), 0);
	ck_assert(!exists(old));
}
END_TEST

START_TEST(what_a_cleaner_that_was_killed_left_is_removed)
{
	_cleanup_free_ char *gone = str_printf("%s.gone/work", r.path),
			    *top = str_printf("%s.gone", r.path);

	ck_assert_int_eq(dir_make(gone, 0700), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(!exists(top));
	ck_assert_int_eq(dir_make(gone, 0700), 0);
	ck_assert_int_eq(rundir_create(&r, &err), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(!exists(top) && !exists(r.path));
}
END_TEST

START_TEST(the_records_stay_while_something_that_they_name_is_left)
{
	ck_assert_int_eq(rundir_create(&r, &err), 0);
	/* A socket that is a directory cannot be unlinked. */
	ck_assert_int_eq(dir_make(r.socket, 0700), 0);
	ck_assert_int_eq(dir_make(r.scratch, 0700), 0);
	ck_assert_int_lt(rundir_clean(r.path, 0, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, r.socket));
	ck_assert(exists(r.path) && !exists(r.scratch));
	ck_assert_int_eq(rmdir(r.socket), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(!exists(r.path));
}
END_TEST

START_TEST(a_recorded_cgroup_is_removed_with_what_was_made_above_it)
{
	_cleanup_free_ char *record = str_printf("%s/cgroup", r.path),
			    *top = str_printf("%s/default", dir), *leaf = str_printf("%s/c1", top),
			    *text = str_printf("%zu %s\n", strlen(dir), leaf);

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	ck_assert_int_eq(dir_make(leaf, 0755), 0);
	ck_assert_int_eq(file_write(record, text, strlen(text), 0600), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(!exists(top) && !exists(r.path));
}
END_TEST

START_TEST(a_record_that_is_no_path_removes_nothing)
{
	_cleanup_free_ char *record = str_printf("%s/scratch", r.path);

	ck_assert_int_eq(rundir_create(&r, &err), 0);
	ck_assert_int_eq(dir_make(r.scratch, 0700), 0);
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(file_write(record, "scratch", 7, 0600), 0);
	ck_assert_int_eq(rundir_clean(r.path, 0, &err), 0);
	ck_assert(exists(r.scratch));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("rundir");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, delete_finds_the_directory_without_knowing_the_sockets);
	tcase_add_test(t, a_socket_path_that_is_too_long_is_refused);
	tcase_add_test(t, logging_drivers_may_finish_and_are_asked_before_they_are_killed);
	tcase_add_test(t, cleaning_ends_what_is_recorded_and_removes_it);
	tcase_add_test(t, a_run_directory_says_whose_it_is);
	tcase_add_loop_test(t, scratch_that_cannot_be_there_is_no_obstacle_to_cleaning, 0,
			    ARRAY_SIZE(impossible));
	tcase_add_loop_test(t, a_run_directory_that_cannot_be_there_is_clean, 0,
			    ARRAY_SIZE(impossible));
	tcase_add_test(t, another_process_with_a_recorded_pid_is_left_alone);
	tcase_add_test(t, a_shim_that_ends_in_its_grace_is_not_killed);
	tcase_add_loop_test(t, a_broken_record_harms_nobody, 0, ARRAY_SIZE(broken));
	tcase_add_test(t, a_directory_that_was_only_begun_is_removed);
	tcase_add_test(t, a_new_sandbox_of_the_same_name_cleans_up_after_the_old_one);
	tcase_add_test(t, what_a_cleaner_that_was_killed_left_is_removed);
	tcase_add_test(t, the_records_stay_while_something_that_they_name_is_left);
	tcase_add_test(t, a_recorded_cgroup_is_removed_with_what_was_made_above_it);
	tcase_add_test(t, a_record_that_is_no_path_removes_nothing);
	return run_case(t, "shim rundir");
}
