/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/logger.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "controller/fixture.h"
#include "controller/uri.h"

enum { LONG = 40 /* s, for what waits for limits */ };

/**
 * struct driver - a logging driver under test: a script, and what came of starting it
 */
struct driver {
	char *script;
	const char *scheme;
	const char *query;
	struct logger *logger;
	int fds[2];
	int result;
	struct err err;
	uint64_t since;
	uint64_t ready;
	uint64_t ended;
};

static char dir[] = "/tmp/test_logger.XXXXXX";
static char run_dir[64];
static struct driver drivers[3];
static int open_before;

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int entries(const char *path)
{
	DIR *d = opendir(path);
	int n = -2;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(run_dir, sizeof(run_dir), "%s/run", dir);
	ck_assert_int_eq(mkdir(run_dir, 0700), 0);
	memset(drivers, 0, sizeof(drivers));
	open_before = open_fds();
}

static void close_streams(struct driver *d)
{
	if (!d->logger)
		return;
	d->fds[0] = fd_close(d->fds[0]);
	d->fds[1] = fd_close(d->fds[1]);
	logger_close(d->logger);
}

static CO void wait_end(void *arg)
{
	struct driver *d = arg;

	ck_assert_int_eq(logger_wait(d->logger), 0);
	d->ended = time_mono();
}

/* As in_coroutine(), for as long as it takes. */
static void run_long(CO void (*body)(void *arg), struct driver *d)
{
	co_spawn("test", body, d, USEC_NEVER);
	while (co_count() > 0)
		run_for(5);
}

static void end(struct driver *d)
{
	close_streams(d);
	run_long(wait_end, d);
}

static void teardown(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		close_streams(&drivers[i]);
		if (drivers[i].logger)
			run_long(wait_end, &drivers[i]);
		logger_free(drivers[i].logger);
		free(drivers[i].script);
	}
	/* Nothing is left: no process, no fd, no record. */
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(open_fds(), open_before);
	ck_assert_int_eq(entries(run_dir), 0);
	dir_remove(dir);
	loop_fini();
}

static CO void start(void *arg)
{
	struct driver *d = arg;
	_cleanup_free_ char *text = str_printf("%s://%s%s", d->scheme, d->script, d->query);
	_cleanup_uri_ struct uri uri = { 0 };
	struct logger_env env = { "c1", "ns1", run_dir };

	ck_assert_int_eq(uri_parse(text, &uri, &d->err), 0);
	d->since = time_mono();
	d->result = logger_start(&uri, &env, &d->logger, d->fds, &d->err);
	d->ready = time_mono();
}

static struct driver *driver(int i, const char *scheme, const char *body)
{
	struct driver *d = &drivers[i];
	_cleanup_free_ char *text = str_printf("#!/bin/sh\ncd %s\n%s\n", dir, body);

	*d = (struct driver){ .scheme = scheme, .query = "", .fds = { -EBADF, -EBADF } };
	d->script = str_printf("%s/driver%d", dir, i);
	ck_assert_int_eq(file_write(d->script, text, strlen(text), 0755), 0);
	return d;
}

static struct driver *run(const char *scheme, const char *body)
{
	struct driver *d = driver(0, scheme, body);

	in_coroutine(start, d);
	return d;
}

static void write_to(struct driver *d, int stream, const char *text)
{
	ck_assert_int_eq(write(d->fds[stream], text, strlen(text)), (ssize_t)strlen(text));
}

static const char *content(const char *name)
{
	static char text[1024];
	_cleanup_free_ char *path = str_printf("%s/%s", dir, name);
	_cleanup_free_ char *all = NULL;
	size_t len;

	snprintf(text, sizeof(text), "%s",
		 file_read(path, sizeof(text), &all, &len) == 0 ? all : "none");
	return text;
}

static void failed(const struct driver *d, int code, const char *why)
{
	ck_assert_int_eq(d->result, code);
	ck_assert_ptr_null(d->logger);
	ck_assert_msg(strstr(d->err.text, why) && strstr(d->err.text, d->script), "%s",
		      d->err.text);
}

/* ---- starting ---- */

START_TEST(it_gets_the_query_as_arguments_and_who_it_logs_for_in_its_environment)
{
	struct driver *d =
		driver(0, "binary",
		       "echo \"$*|$CONTAINER_ID|$CONTAINER_NAMESPACE|$TZ|$HOME\" > said\n"
		       "exec 5>&-; cat <&3 >/dev/null");

	setenv("HOME", "/somewhere", 1);
	d->query = "?z=1&a=two%20words&env.TZ=UTC&env.CONTAINER_ID=other&last";
	in_coroutine(start, d);
	ck_assert_int_eq(d->result, 0);
	ck_assert_str_eq(content("said"), "z 1 a two words last |c1|ns1|UTC|\n");
	end(d);
}
END_TEST

START_TEST(it_reads_stdout_and_stderr_apart_until_their_end)
{
	struct driver *d = run("binary", "exec 5>&-; cat <&3 >out & cat <&4 >err; wait");

	ck_assert_int_eq(d->result, 0);
	write_to(d, 0, "out");
	write_to(d, 1, "err");
	end(d);
	ck_assert_str_eq(content("out"), "out");
	ck_assert_str_eq(content("err"), "err");
	ck_assert(d->ended - d->ready < USEC_PER_SEC);
}
END_TEST

START_TEST(it_holds_no_other_descriptors)
{
	/* In a shell of its own: a pipe or a redirection would be among them for a moment. */
	struct driver *d = run("binary", "(ls /proc/$$/fd >list); tr '\\n' ' ' <list >fds; "
					 "exec 5>&-; cat <&3");

	ck_assert_int_eq(d->result, 0);
	/* 10 is the shell's own, of the script. */
	ck_assert_str_eq(content("fds"), "0 1 10 2 3 4 5 ");
	end(d);
}
END_TEST

START_TEST(a_byte_or_the_closed_pipe_says_that_it_is_ready)
{
	struct driver *d = run("binary", "sleep 0.2; echo >&5; cat <&3");

	ck_assert_int_eq(d->result, 0);
	ck_assert(d->ready - d->since >= 200 * USEC_PER_MSEC);
	end(d);
	logger_free(d->logger);
	free(d->script);
	d = run("binary", "sleep 0.2; exec 5>&-; cat <&3");
	ck_assert_int_eq(d->result, 0);
	ck_assert(d->ready - d->since >= 200 * USEC_PER_MSEC);
}
END_TEST

START_TEST(binary_v2_needs_the_byte)
{
	struct driver *d = run("binary-v2", "exec 5>&-; cat <&3");

	failed(d, -EIO, "without saying that it is ready");
	free(d->script);
	d = run("binary-v2", "echo >&5; cat <&3");
	ck_assert_int_eq(d->result, 0);
}
END_TEST

START_TEST(one_that_ends_before_it_is_ready_is_told_with_its_status)
{
	static const char *const schemes[] = { "binary", "binary-v2" };
	struct driver *d;

	for (int i = 0; i < 40; i++) {
		d = run(schemes[i % 2], i % 4 < 2 ? "exit 9" : "kill -9 $$");
		failed(d, -EIO,
		       i % 4 < 2 ? "before it was ready, exit status 9" : "exit status 137");
		free(d->script);
	}
	drivers[0].script = NULL;
}
END_TEST

START_TEST(one_that_is_missing_or_no_program_is_told_by_name)
{
	struct driver *d = driver(0, "binary", "");

	unlink(d->script);
	in_coroutine(start, d);
	failed(d, -ENOENT, "No such file");
	ck_assert_int_eq(file_write(d->script, "", 0, 0644), 0);
	in_coroutine(start, d);
	failed(d, -EACCES, "Permission denied");
}
END_TEST

START_TEST(a_client_that_gives_up_ends_the_start)
{
	struct driver *d = driver(0, "binary", "exec sleep 100");
	struct co *co = co_spawn("start", start, d, USEC_NEVER);

	run_for(100);
	co_cancel(co);
	run_all();
	failed(d, -ECANCELED, "ready");
}
END_TEST

START_TEST(whichever_step_fails_nothing_is_left)
{
	struct driver *d = driver(0, "binary", "exec 5>&-; cat <&3");
	struct rlimit old, few;
	unsigned failures = 0;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	/* One more descriptor each time: so each of them is the one that cannot be had. */
	for (few.rlim_cur = (rlim_t)open_before - 3;; few.rlim_cur++) {
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
		in_coroutine(start, d);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
		if (d->result == 0)
			break;
		failures++;
		failed(d, d->result, "");
		ck_assert_int_eq(open_fds(), open_before);
		ck_assert_int_eq(entries(run_dir), 0);
		ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	}
	ck_assert_uint_ge(failures, 9);
}
END_TEST

/* ---- the record ---- */

START_TEST(it_is_recorded_while_it_runs)
{
	struct driver *d = run("binary", "echo $$ >pid; exec 5>&-; cat <&3");
	int pid = atoi(content("pid"));
	_cleanup_free_ char *text = str_printf("%d ", pid);
	DIR *list = opendir(run_dir);
	struct dirent *e;

	while ((e = readdir(list)) && e->d_name[0] == '.')
		;
	ck_assert_ptr_nonnull(e);
	ck_assert(str_starts(e->d_name, "logger-") && strstr(e->d_name, ".pid"));

	_cleanup_free_ char *name = str_printf("run/%s", e->d_name);

	closedir(list);
	ck_assert_msg(str_starts(content(name), text), "%s", content(name));
	end(d);
	ck_assert_int_eq(entries(run_dir), 0);
}
END_TEST

START_TEST(a_directory_that_takes_no_record_is_a_failure)
{
	struct driver *d = driver(0, "binary", "touch started; exec 5>&-; cat <&3");

	rmdir(run_dir);
	in_coroutine(start, d);
	failed(d, -ENOENT, "record");
	ck_assert_int_eq(mkdir(run_dir, 0700), 0);
	ck_assert_str_eq(content("started"), "none");
}
END_TEST

START_TEST(one_that_is_forgotten_runs_on_until_its_streams_end)
{
	struct driver *d = run("binary", "exec 5>&-; cat <&3 >out; sleep 0.3; echo end >>out");

	write_to(d, 0, "last ");
	fd_close(d->fds[0]);
	fd_close(d->fds[1]);
	d->logger = logger_free(d->logger);
	ck_assert_int_gt(waitpid(-1, NULL, 0), 0);
	ck_assert_str_eq(content("out"), "last end\n");
	dir_remove(run_dir);
	mkdir(run_dir, 0700);
}
END_TEST

/* ---- its end ---- */

START_TEST(one_that_ends_early_is_waited_for_at_once)
{
	struct driver *d = run("binary", "exec 5>&-; sleep 0.1; exit 3");

	ck_assert_int_eq(d->result, 0);
	run_for(300);
	ck_assert_int_eq(write(d->fds[0], "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	end(d);
	ck_assert(d->ended - d->ready < USEC_PER_SEC);
}
END_TEST

START_TEST(SIGTERM_comes_2_s_after_the_end_of_the_streams_and_may_be_answered)
{
	struct driver *d = run("binary", "trap 'echo flushed >out; exit 0' TERM; exec 5>&-\n"
					 "while :; do sleep 0.1; done");
	uint64_t closed = time_mono();

	end(d);
	ck_assert_str_eq(content("out"), "flushed\n");
	ck_assert(d->ended - closed >= 2 * USEC_PER_SEC && d->ended - closed < 5 * USEC_PER_SEC);
}
END_TEST

START_TEST(the_limits_are_10_s_to_be_ready_and_12_s_from_SIGTERM_to_SIGKILL)
{
	struct driver *late = driver(0, "binary", "exec sleep 100");
	struct driver *stubborn = driver(1, "binary", "trap '' TERM; exec 5>&-; exec sleep 100");
	uint64_t closed;

	co_spawn("late", start, late, USEC_NEVER);
	run_long(start, stubborn); /* returns when both have started, or not */
	failed(late, -ETIMEDOUT, "was not ready within 10 s");
	ck_assert(late->ready - late->since >= 10 * USEC_PER_SEC);
	ck_assert(late->ready - late->since < 13 * USEC_PER_SEC);
	ck_assert_int_eq(stubborn->result, 0);
	closed = time_mono();
	end(stubborn);
	ck_assert(stubborn->ended - closed >= 14 * USEC_PER_SEC);
	ck_assert(stubborn->ended - closed < 17 * USEC_PER_SEC);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller logger");
	TCase *t = tcase_create("logger"), *limits = tcase_create("limits");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 10);
	tcase_add_test(t, it_gets_the_query_as_arguments_and_who_it_logs_for_in_its_environment);
	tcase_add_test(t, it_reads_stdout_and_stderr_apart_until_their_end);
	tcase_add_test(t, it_holds_no_other_descriptors);
	tcase_add_test(t, a_byte_or_the_closed_pipe_says_that_it_is_ready);
	tcase_add_test(t, binary_v2_needs_the_byte);
	tcase_add_test(t, one_that_ends_before_it_is_ready_is_told_with_its_status);
	tcase_add_test(t, one_that_is_missing_or_no_program_is_told_by_name);
	tcase_add_test(t, a_client_that_gives_up_ends_the_start);
	tcase_add_test(t, whichever_step_fails_nothing_is_left);
	tcase_add_test(t, it_is_recorded_while_it_runs);
	tcase_add_test(t, a_directory_that_takes_no_record_is_a_failure);
	tcase_add_test(t, one_that_is_forgotten_runs_on_until_its_streams_end);
	tcase_add_test(t, one_that_ends_early_is_waited_for_at_once);
	tcase_add_test(t, SIGTERM_comes_2_s_after_the_end_of_the_streams_and_may_be_answered);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(limits, setup, teardown);
	tcase_set_timeout(limits, LONG);
	tcase_add_test(limits, the_limits_are_10_s_to_be_ready_and_12_s_from_SIGTERM_to_SIGKILL);
	suite_add_tcase(s, limits);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failures = srunner_ntests_failed(r);

	srunner_free(r);
	return failures > 0;
}
