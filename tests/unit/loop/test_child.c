/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/child.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "loop/loop.h"
#include "turns.h"

static struct child *child;
static struct err err;
static char *output;
static int result, status;
static unsigned calls;

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	memset(&err, 0, sizeof(err));
	child = NULL;
	output = NULL;
	result = status = -1;
	calls = 0;
}

static void teardown(void)
{
	child_free(child);
	free(output);
	loop_fini();
	/* Nothing is left to wait for. */
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

static void run_out(void)
{
	for (int i = 0; co_count() > 0 && i < 1000; i++)
		run_for(5);
	ck_assert_uint_eq(co_count(), 0);
}

static int spawn(struct child_spec spec, const char *const *argv)
{
	spec.argv = argv;
	return child_spawn(&spec, &child, &err);
}

static void wait_exit(void)
{
	for (int i = 0; !child_exited(child, &status) && i < 1000; i++)
		run_for(5);
	ck_assert(child_exited(child, NULL));
}

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

START_TEST(an_exit_status_is_reported)
{
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("sh", "-c", "exit 3")), 0);
	ck_assert_int_gt(child_pid(child), 1);
	wait_exit();
	ck_assert_int_eq(WEXITSTATUS(status), 3);
	ck_assert_int_eq(child_status_code(status), 3);
	ck_assert_int_eq(child_kill(child, SIGTERM), -ESRCH);
}
END_TEST

START_TEST(a_death_by_signal_is_reported)
{
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("sleep", "60")), 0);
	ck_assert(!child_exited(child, &status));
	ck_assert_int_eq(child_kill(child, SIGTERM), 0);
	wait_exit();
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(child_status_code(status), 128 + SIGTERM);
}
END_TEST

START_TEST(what_cannot_be_executed_is_an_error_with_a_name)
{
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("no-such-program")), -ENOENT);
	ck_assert_str_eq(err.text, "no-such-program: No such file or directory");
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("/no/such")), -ENOENT);
	ck_assert_str_eq(err.text, "/no/such: execute: No such file or directory");
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("/etc/passwd")), -EACCES);
	ck_assert_int_eq(spawn((struct child_spec){ .cwd = "/no/dir" }, ARGV("true")), -ENOENT);
	ck_assert_str_eq(err.text, "true: change directory to /no/dir: No such file or directory");
	ck_assert_int_eq(child_spawn(&(struct child_spec){ .argv = (const char *const[]){ NULL } },
				     &child, &err),
			 -EINVAL);
	ck_assert_ptr_null(child);
}
END_TEST

static int refuse(void *arg)
{
	return -EXDEV;
}

START_TEST(a_failure_of_prepare_is_reported)
{
	ck_assert_int_eq(spawn((struct child_spec){ .prepare = refuse }, ARGV("true")), -EXDEV);
	ck_assert_str_eq(err.text, "true: prepare: Invalid cross-device link");
}
END_TEST

START_TEST(a_child_enters_its_cgroups_before_all_else)
{
	_cleanup_fd_ int first = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600),
			 second = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600),
			 closed = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	const int procs[] = { first, second };
	char text[4] = "";

	/* That nothing says of a cgroup is written through fds that the child gets. */
	ck_assert_int_eq(spawn((struct child_spec){ .fds = &closed,
						    .n_fds = 1,
						    .cgroup_procs = procs,
						    .n_cgroup_procs = 2 },
			       ARGV("true")),
			 0);
	wait_exit();
	for (size_t i = 0; i < ARRAY_SIZE(procs); i++) {
		ck_assert_int_eq(pread(procs[i], text, sizeof(text), 0), 1);
		ck_assert_int_eq(text[0], '0');
	}
	ck_assert_int_eq(pread(closed, text, sizeof(text), 0), 0);
}
END_TEST

START_TEST(a_cgroup_that_cannot_be_entered_is_an_error)
{
	_cleanup_fd_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct child_spec spec = { .cgroup_procs = &fd, .n_cgroup_procs = 1 };

	ck_assert_int_eq(spawn(spec, ARGV("true")), -EBADF);
	ck_assert_str_eq(err.text, "true: enter a cgroup: Bad file descriptor");
	spec = (struct child_spec){ .clone_flags = CLONE_INTO_CGROUP, .cgroup = fd };
	ck_assert_int_lt(spawn(spec, ARGV("true")), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "true: clone3 into a cgroup: "));
}
END_TEST

static int name_host(void *arg)
{
	return sethostname("inner", 5) < 0 ? -errno : 0;
}

START_TEST(namespaces_are_made_before_prepare)
{
	struct child_spec spec = { .clone_flags = CLONE_NEWUTS | CLONE_NEWPID,
				   .prepare = name_host,
				   .pdeathsig = SIGKILL };

	if (geteuid() != 0)
		return;
	ck_assert_int_eq(spawn(spec, ARGV("sh", "-c", "test $$ = 1 && test $(uname -n) = inner")),
			 0);
	wait_exit();
	ck_assert_int_eq(status, 0);
}
END_TEST

static void ignored(int signo, void *arg) {}

static void caught(int signo) {}

START_TEST(a_child_starts_with_default_signals_and_an_empty_mask)
{
	struct sigaction sa = { .sa_handler = caught };
	_cleanup_fd_ int out = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int fds[] = { -EBADF, out };
	char text[4096] = "";

	ck_assert_int_eq(sigaction(SIGHUP, &sa, NULL), 0);
	ck_assert_int_eq(loop_signal(SIGTERM, ignored, NULL), 0);
	ck_assert_int_eq(spawn((struct child_spec){ .fds = fds, .n_fds = 2 },
			       ARGV("cat", "/proc/self/status")),
			 0);
	wait_exit();
	ck_assert_int_gt(pread(out, text, sizeof(text) - 1, 0), 0);
	ck_assert_ptr_nonnull(strstr(text, "SigBlk:\t0000000000000000"));
	/* SIGPIPE, which the loop ignores, too */
	ck_assert_ptr_nonnull(strstr(text, "SigIgn:\t0000000000000000"));
}
END_TEST

START_TEST(fds_go_to_their_places_and_nothing_else_is_left)
{
	_cleanup_fd_ int a = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	_cleanup_fd_ int leaky = open("/dev/zero", O_RDONLY); /* not close-on-exec */
	_cleanup_fd_ int b = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int fds[] = { -EBADF, a, 2, b, 1 }; /* 1 and 2 are sources and targets at once */
	char text[512] = "";

	/* Without a pipe, whose ends the shell would have for a moment. */
	ck_assert_int_eq(spawn((struct child_spec){ .fds = fds, .n_fds = 5 },
			       ARGV("sh", "-c",
				    "echo one; echo three >&3; readlink /proc/$$/fd/0; "
				    "ls /proc/$$/fd; true")),
			 0);
	wait_exit();
	ck_assert_int_eq(status, 0);
	ck_assert_int_gt(pread(a, text, sizeof(text) - 1, 0), 0);
	ck_assert_str_eq(text, "one\n/dev/null\n0\n1\n2\n3\n4\n");
	memset(text, 0, sizeof(text));
	ck_assert_int_eq(pread(b, text, sizeof(text) - 1, 0), 6);
	ck_assert_str_eq(text, "three\n");
	ck_assert_int_ge(leaky, 0);
}
END_TEST

START_TEST(environment_directory_and_session_are_as_asked)
{
	_cleanup_fd_ int out = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int fds[] = { -EBADF, out };
	char text[256] = "";
	struct child_spec spec = { .fds = fds,
				   .n_fds = 2,
				   .cwd = "/proc",
				   .setsid = true,
				   .envp = (const char *const[]){ "A=b", NULL } };

	ck_assert_int_eq(spawn(spec, ARGV("/bin/sh", "-c",
					  "pwd; echo $A $HOME; read -r _ _ _ _ _ s _ "
					  "</proc/$$/stat; test $s = $$")),
			 0);
	wait_exit();
	ck_assert_int_eq(status, 0);
	ck_assert_int_gt(pread(out, text, sizeof(text) - 1, 0), 0);
	ck_assert_str_eq(text, "/proc\nb\n");
}
END_TEST

START_TEST(a_child_still_running_is_killed_and_reaped_when_freed)
{
	pid_t pid;

	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("sleep", "60")), 0);
	pid = child_pid(child);
	child = child_free(child);
	ck_assert_int_eq(kill(pid, 0), -1);
	ck_assert_int_eq(errno, ESRCH);
	ck_assert_ptr_null(child_free(NULL));
}
END_TEST

static void on_exit_free(struct child *c, int st, void *arg)
{
	ck_assert_ptr_eq(c, child);
	status = st;
	calls++;
	child = child_free(child);
}

START_TEST(the_exit_callback_may_free_the_child)
{
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("true")), 0);
	child_on_exit(child, on_exit_free, NULL);
	for (int i = 0; !calls && i < 1000; i++)
		run_for(5);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(asking_after_the_exit_is_answered_at_the_next_turn)
{
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("true")), 0);
	wait_exit();
	child_on_exit(child, on_exit_free, NULL);
	ck_assert_uint_eq(calls, 0);
	run_for(3);
	ck_assert_uint_eq(calls, 1);
}
END_TEST

START_TEST(a_child_dies_with_its_parent)
{
	int p[2];
	pid_t mid;
	char b;

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	mid = fork();
	if (mid == 0) {
		int fds[] = { -EBADF, p[1] };

		spawn((struct child_spec){ .pdeathsig = SIGKILL, .fds = fds, .n_fds = 2 },
		      ARGV("sleep", "60"));
		_exit(0);
	}
	fd_close(p[1]);
	ck_assert_int_eq(waitpid(mid, NULL, 0), mid);
	alarm(20);
	/* The end comes when the last holder of the other end, the grandchild, is gone. */
	ck_assert_int_eq(read(p[0], &b, 1), 0);
	alarm(0);
	fd_close(p[0]);
}
END_TEST

static void waiter(void *arg)
{
	result = child_wait(child, &status);
	calls++;
}

START_TEST(several_coroutines_wait_for_one_child)
{
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("sh", "-c", "exit 4")), 0);
	for (int i = 0; i < 3; i++)
		co_spawn("waiter", waiter, NULL, USEC_NEVER);
	run_out();
	ck_assert_uint_eq(calls, 3);
	ck_assert_int_eq(result, 0);
	ck_assert_int_eq(WEXITSTATUS(status), 4);
}
END_TEST

START_TEST(other_children_are_left_to_whoever_made_them)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(5);
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("true")), 0);
	wait_exit();
	run_for(20);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 5);
}
END_TEST

START_TEST(a_child_that_somebody_else_reaped_is_gone_and_no_hang)
{
	ck_assert_int_eq(spawn((struct child_spec){ 0 }, ARGV("true")), 0);
	ck_assert_int_eq(waitpid(-1, NULL, 0), child_pid(child));
	wait_exit();
	ck_assert_int_eq(child_status_code(status), 255);
}
END_TEST

/* --- child_run() --- */

struct run {
	const char *const *argv;
	const char *input;
};

static void runner(void *arg)
{
	const struct run *r = arg;

	result = child_run(r->argv, r->input, &output, &err);
}

START_TEST(run_captures_both_streams_and_feeds_stdin)
{
	co_spawn("run", runner, &(struct run){ ARGV("sh", "-c", "cat; echo err >&2"), "in\n" },
		 USEC_NEVER);
	run_out();
	ck_assert_int_eq(result, 0);
	ck_assert_str_eq(output, "in\nerr\n");
	ck_assert_int_eq(err.text[0], '\0');
}
END_TEST

START_TEST(a_failed_run_names_the_program_and_quotes_its_last_line)
{
	co_spawn("run", runner,
		 &(struct run){ ARGV("sh", "-c", "echo one; printf 'la\\033st\\n\\n'; exit 7") },
		 USEC_NEVER);
	run_out();
	ck_assert_int_eq(result, 7);
	ck_assert_int_eq(err.code, -EIO);
	ck_assert_str_eq(err.text, "sh: exit status 7: la?st");
}
END_TEST

START_TEST(a_killed_run_is_128_and_the_signal)
{
	co_spawn("run", runner, &(struct run){ ARGV("sh", "-c", "kill -9 $$") }, USEC_NEVER);
	run_out();
	ck_assert_int_eq(result, 137);
	ck_assert_str_eq(err.text, "sh: killed by signal 9");
}
END_TEST

START_TEST(output_beyond_64_kib_is_dropped_but_does_not_block_the_program)
{
	co_spawn("run", runner,
		 &(struct run){
			 ARGV("sh", "-c",
			      "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end; exit 1") },
		 USEC_NEVER);
	run_out();
	ck_assert_int_eq(result, 1);
	ck_assert_uint_eq(strlen(output), 65536);
	ck_assert_str_eq(err.text, "sh: exit status 1: end");
}
END_TEST

START_TEST(a_long_input_is_fed_whole)
{
	_cleanup_free_ char *text = mem_new0(1, 300001);

	memset(text, 'x', 300000);
	co_spawn("run", runner, &(struct run){ ARGV("wc", "-c"), text }, USEC_NEVER);
	run_out();
	ck_assert_int_eq(result, 0);
	ck_assert_str_eq(output, "300000\n");
}
END_TEST

START_TEST(a_process_left_in_the_background_does_not_hold_a_run_up)
{
	uint64_t start = time_mono();

	co_spawn("run", runner, &(struct run){ ARGV("sh", "-c", "sleep 5 & echo hi") }, USEC_NEVER);
	run_out();
	ck_assert_int_eq(result, 0);
	ck_assert_str_eq(output, "hi\n");
	ck_assert_uint_lt(time_mono() - start, 4 * USEC_PER_SEC);
}
END_TEST

START_TEST(a_run_that_is_out_of_time_kills_the_program)
{
	co_spawn("run", runner, &(struct run){ ARGV("sleep", "60") },
		 time_mono() + 30 * USEC_PER_MSEC);
	run_out();
	ck_assert_int_eq(result, -ETIMEDOUT);
	ck_assert_str_eq(err.text, "sleep: Connection timed out");
	ck_assert_ptr_null(output);
}
END_TEST

START_TEST(a_run_of_what_does_not_exist_is_an_error)
{
	co_spawn("run", runner, &(struct run){ ARGV("no-such-program") }, USEC_NEVER);
	run_out();
	ck_assert_int_eq(result, -ENOENT);
}
END_TEST

START_TEST(a_child_that_is_forgotten_runs_on)
{
	int ends[2];
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(spawn((struct child_spec){ .fds = (int[]){ -EBADF, ends[1] }, .n_fds = 2 },
			       ARGV("sh", "-c", "sleep 0.2; echo")),
			 0);
	pid = child_pid(child);
	close(ends[1]);
	child = child_forget(child);
	ck_assert_ptr_null(child);
	ck_assert_int_eq(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_ptr_null(child_forget(NULL));
}
END_TEST

START_TEST(a_child_is_ending_once_it_has_closed_its_descriptors_for_ever)
{
	int ends[2];
	char byte;

	/* First it closes the pipe by itself, then by its end. */
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
		ck_assert_int_eq(spawn((struct child_spec){ .fds = (int[]){ -EBADF, ends[1] },
							    .n_fds = 2 },
				       ARGV("sh", "-c", i == 0 ? "exec >&-; sleep 10" : "exit")),
				 0);
		close(ends[1]);
		ck_assert_int_eq(read(ends[0], &byte, 1), 0);
		ck_assert_int_eq(child_ending(child), i > 0);
		close(ends[0]);
		if (i > 0)
			wait_exit();
		ck_assert_int_eq(child_ending(child), i > 0);
		child = child_free(child);
	}
}
END_TEST

static int record(void *arg)
{
	return child_record(*(int *)arg);
}

START_TEST(a_child_records_its_pid_and_start_time_before_it_is_its_program)
{
	int ends[2];
	char text[128] = "", *field;
	_cleanup_free_ char *path = NULL, *stat = NULL;
	size_t len;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(spawn((struct child_spec){ .prepare = record, .prepare_arg = &ends[1] },
			       ARGV("sleep", "10")),
			 0);
	ck_assert_int_gt(read(ends[0], text, sizeof(text) - 1), 0);
	path = str_printf("/proc/%d/stat", child_pid(child));
	ck_assert_int_eq(file_read(path, 4096, &stat, &len), 0);
	ck_assert_int_eq(atoi(text), child_pid(child));
	field = strrchr(stat, ')');
	for (int i = 2; i < 22; i++)
		field = strchr(field + 1, ' ');
	ck_assert_ptr_nonnull(strchr(text, ' '));
	ck_assert(strtoull(strchr(text, ' '), NULL, 10) == strtoull(field, NULL, 10));
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop child");
	TCase *t = tcase_create("child");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, an_exit_status_is_reported);
	tcase_add_test(t, a_death_by_signal_is_reported);
	tcase_add_test(t, what_cannot_be_executed_is_an_error_with_a_name);
	tcase_add_test(t, a_failure_of_prepare_is_reported);
	tcase_add_test(t, a_child_enters_its_cgroups_before_all_else);
	tcase_add_test(t, a_cgroup_that_cannot_be_entered_is_an_error);
	tcase_add_test(t, namespaces_are_made_before_prepare);
	tcase_add_test(t, a_child_starts_with_default_signals_and_an_empty_mask);
	tcase_add_test(t, fds_go_to_their_places_and_nothing_else_is_left);
	tcase_add_test(t, environment_directory_and_session_are_as_asked);
	tcase_add_test(t, a_child_still_running_is_killed_and_reaped_when_freed);
	tcase_add_test(t, the_exit_callback_may_free_the_child);
	tcase_add_test(t, asking_after_the_exit_is_answered_at_the_next_turn);
	tcase_add_test(t, a_child_dies_with_its_parent);
	tcase_add_test(t, several_coroutines_wait_for_one_child);
	tcase_add_test(t, other_children_are_left_to_whoever_made_them);
	tcase_add_test(t, a_child_that_somebody_else_reaped_is_gone_and_no_hang);
	tcase_add_test(t, run_captures_both_streams_and_feeds_stdin);
	tcase_add_test(t, a_failed_run_names_the_program_and_quotes_its_last_line);
	tcase_add_test(t, a_killed_run_is_128_and_the_signal);
	tcase_add_test(t, output_beyond_64_kib_is_dropped_but_does_not_block_the_program);
	tcase_add_test(t, a_long_input_is_fed_whole);
	tcase_add_test(t, a_process_left_in_the_background_does_not_hold_a_run_up);
	tcase_add_test(t, a_run_that_is_out_of_time_kills_the_program);
	tcase_add_test(t, a_run_of_what_does_not_exist_is_an_error);
	tcase_add_test(t, a_child_that_is_forgotten_runs_on);
	tcase_add_test(t, a_child_is_ending_once_it_has_closed_its_descriptors_for_ever);
	tcase_add_test(t, a_child_records_its_pid_and_start_time_before_it_is_its_program);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
