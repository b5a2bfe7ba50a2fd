/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "fake.h"
#include "guest/guest.h"
#include "guest/private.h"
#include "wire/json.h"

#define NULL_ID "00000000-0000-0000-0000-000000000000"
#define BASE(id) "{\"ContainerId\":\"" id "\",\"ActivityId\":\"" NULL_ID "\""

static struct guest *g;
static struct guest_process *p;
static bool go;
static unsigned exits;
static uint32_t exit_code;
static bool exit_lost;

static void begin(void)
{
	struct err err = { 0 };

	exits = 0;
	g = guest_new(fake_channel(), NULL, NULL);
	ck_assert_int_eq(guest_listen(g, NULL), 0);
	ck_assert_msg(guest_connect(g, &err) == 0, "%s", err.text);
	/* entropy and log are not what these tests count */
	ck_assert_uint_eq(fake_listening(), 2);
}

static void finish(void)
{
	p = guest_process_free(p);
	guest_close(g);
	co_sleep(0);
	g = guest_free(g);
}

static void wait_go(void)
{
	while (!go)
		co_sleep(1000);
}

static void on_exit_told(uint32_t code, bool lost, void *arg)
{
	ck_assert_ptr_null(co_self());
	ck_assert_ptr_eq(arg, &exits);
	exits++;
	exit_code = code;
	exit_lost = lost;
}

static void wait_exit(void)
{
	guest_process_on_exit(p, on_exit_told, &exits);
	while (!exits)
		co_sleep(1000);
	co_sleep(5000);
	ck_assert_uint_eq(exits, 1);
}

static const struct gcs_process_params all = { .in = true, .out = true, .err = true };
static const struct gcs_process_params none = { 0 };

static void execute(const struct gcs_process_params *params)
{
	struct err err = { 0 };

	ck_assert_msg(guest_execute(g, "W", params, &p, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(fake_listening(), 2);
}

static void execute_fails(const struct gcs_process_params *params, int code, const char *text)
{
	struct err err = { 0 };
	int r = guest_execute(g, "W", params, &p, &err);

	ck_assert_msg(r == code, "%d, not %d: %s", r, code, err.text);
	ck_assert_msg(strstr(err.text, text), "%s", err.text);
	ck_assert_ptr_null(p);
	ck_assert_uint_eq(fake_listening(), 2);
}

static int dial(uint32_t port)
{
	int fd = fake_dial(port);

	ck_assert_msg(fd >= 0, "nobody listens on %u", port);
	return fd;
}

/** expect_wait() - the host waits for the exit; Return: id */
static uint64_t expect_wait(int fd)
{
	return fake_expect(fd, GCS_WAIT_FOR_PROCESS,
			   BASE("W") ",\"ProcessId\":42,\"TimeoutInMs\":4294967295}");
}

/** expect_kill() - the host kills a process that it cannot use */
static void expect_kill(int fd)
{
	fake_answer(fd, GCS_SIGNAL_PROCESS,
		    fake_expect(fd, GCS_SIGNAL_PROCESS,
				BASE("W") ",\"ProcessId\":42,\"Options\":{\"Signal\":9}}"),
		    "");
}

/** start() - answer ExecuteProcess without stdio; Return: id of the WaitForProcess that follows */
static uint64_t start(int fd)
{
	fake_answer(fd, GCS_EXECUTE_PROCESS, fake_expect(fd, GCS_EXECUTE_PROCESS, NULL),
		    ",\"ProcessId\":42");
	return expect_wait(fd);
}

/* --- start --- */

static void check_echo(int to, int from)
{
	char c = 0;

	ck_assert_int_eq(write(to, "x", 1), 1);
	ck_assert_int_eq(co_read(from, &c, 1), 1);
	ck_assert_int_eq(c, 'x');
}

static void host_runs(void)
{
	begin();
	execute(&all);
	ck_assert_uint_eq(guest_process_pid(p), 42);
	check_echo(guest_process_fd(p, 0), guest_process_fd(p, 1));
	check_echo(guest_process_fd(p, 0), guest_process_fd(p, 2));
	ck_assert_int_eq(guest_process_fd(p, 3), -EBADF);
	ck_assert_int_eq(guest_process_fd(p, -1), -EBADF);
	guest_process_close(p, 0);
	guest_process_close(p, 0);
	ck_assert_int_eq(guest_process_fd(p, 0), -EBADF);
	wait_exit();
	ck_assert_uint_eq(exit_code, 3);
	ck_assert(!exit_lost);
	finish();
}

static void copy_one(int from, int to)
{
	char c;

	ck_assert_int_eq(co_read(from, &c, 1), 1);
	ck_assert_int_eq(write(to, &c, 1), 1);
}

static void guest_runs(void)
{
	int fd = fake_boot(), in, out, err;
	uint64_t id = fake_expect(
		fd, GCS_EXECUTE_PROCESS,
		BASE("W") ",\"Settings\":{\"ProcessParameters\":\"{\\\"CreateStdInPipe\\\":true,"
			  "\\\"CreateStdOutPipe\\\":true,\\\"CreateStdErrPipe\\\":true}\","
			  "\"VsockStdioRelaySettings\":{\"StdIn\":1073741825,\"StdOut\":1073741826,"
			  "\"StdErr\":1073741827}}}");
	char c;

	in = dial(1073741825);
	out = dial(1073741826);
	err = dial(1073741827);
	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	id = expect_wait(fd);
	/* Each took one connection: nobody else may join. */
	for (uint32_t port = 1073741825; port <= 1073741827; port++)
		ck_assert_int_eq(fake_dial(port), -ECONNREFUSED);
	copy_one(in, out);
	copy_one(in, err);
	/* Half-closed: the end is seen, and the connection still stands. */
	ck_assert_int_eq(co_read(in, &c, 1), 0);
	ck_assert_int_eq(write(in, "y", 1), 1);
	fake_answer(fd, GCS_WAIT_FOR_PROCESS, id, ",\"ExitCode\":3");
	fake_expect_end(fd);
	fd_close(in);
	fd_close(out);
	fd_close(err);
	fd_close(fd);
}

START_TEST(a_process_starts_with_its_streams_and_its_exit_is_told)
{
	fake_run(host_runs, guest_runs);
}
END_TEST

static void host_runs_two(void)
{
	begin();
	execute(&(struct gcs_process_params){ .out = true });
	p = guest_process_free(p);
	execute(&(struct gcs_process_params){ .in = true, .err = true });
	ck_assert_int_ge(guest_process_fd(p, 0), 0);
	ck_assert_int_eq(guest_process_fd(p, 1), -EBADF);
	ck_assert_int_ge(guest_process_fd(p, 2), 0);
	guest_process_close(p, 1);
	guest_process_close(p, 2);
	guest_process_close(p, 2);
	ck_assert_int_eq(guest_process_fd(p, 2), -EBADF);
	finish();
}

static void guest_runs_two(void)
{
	int fd = fake_boot(), first, in, err;
	uint64_t id =
		fake_expect(fd, GCS_EXECUTE_PROCESS,
			    BASE("W") ",\"Settings\":{\"ProcessParameters\":\"{"
				      "\\\"CreateStdOutPipe\\\":true}\","
				      "\"VsockStdioRelaySettings\":{\"StdOut\":1073741825}}}");

	first = dial(1073741825);
	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	expect_wait(fd);
	id = fake_expect(fd, GCS_EXECUTE_PROCESS,
			 BASE("W") ",\"Settings\":{\"ProcessParameters\":\"{"
				   "\\\"CreateStdInPipe\\\":true,"
				   "\\\"CreateStdErrPipe\\\":true}\",\"VsockStdioRelaySettings\":{"
				   "\"StdIn\":1073741826,"
				   "\"StdErr\":1073741827}}}");
	fake_expect_end(first);
	/* in another order than ours, and only just in time */
	err = dial(1073741827);
	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	co_sleep(20000);
	in = dial(1073741826);
	expect_wait(fd);
	fake_expect_end(err);
	fake_expect_end(in);
	fake_expect_end(fd);
	fd_close(first);
	fd_close(in);
	fd_close(err);
	fd_close(fd);
}

START_TEST(ports_are_for_the_wanted_streams_and_are_not_used_twice)
{
	fake_run(host_runs_two, guest_runs_two);
}
END_TEST

static void host_runs_in_the_uvm(void)
{
	char *args[] = { (char[]){ "ls" }, (char[]){ "/" }, NULL },
	     *env[] = { (char[]){ "PATH=/bin" }, NULL };
	struct gcs_process_params params = { .args = args, .cwd = (char[]){ "/" }, .env = env };

	begin();
	ck_assert_int_eq(guest_execute(g, NULL, &params, &p, NULL), 0);
	wait_exit();
	ck_assert_uint_eq(exit_code, UINT32_MAX);
	finish();
}

static void guest_runs_in_the_uvm(void)
{
	int fd = fake_boot();
	uint64_t id = fake_expect(
		fd, GCS_EXECUTE_PROCESS,
		BASE(NULL_ID) ",\"Settings\":{\"ProcessParameters\":\"{"
			      "\\\"CommandArgs\\\":[\\\"ls\\\","
			      "\\\"/\\\"],\\\"WorkingDirectory\\\":\\\"/\\\",\\\"Environment\\\":{"
			      "\\\"PATH\\\":\\\"/bin\\\"}}\",\"VsockStdioRelaySettings\":{}}}");

	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":334");
	id = fake_expect(fd, GCS_WAIT_FOR_PROCESS,
			 BASE(NULL_ID) ",\"ProcessId\":334,\"TimeoutInMs\":4294967295}");
	fake_answer(fd, GCS_WAIT_FOR_PROCESS, id, ",\"ExitCode\":4294967295");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_process_may_run_in_the_uvm_itself)
{
	fake_run(host_runs_in_the_uvm, guest_runs_in_the_uvm);
}
END_TEST

static void host_execs(void)
{
	static const char text[] = "{\"terminal\":true,\"args\":[\"sh\"],\"cwd\":\"/\"}";
	struct gcs_process_params params = { 0 };

	begin();
	ck_assert_int_eq(json_parse(text, strlen(text), &params.process, NULL), 0);
	execute(&params);
	json_put(params.process);
	finish();
}

static void guest_execs(void)
{
	int fd = fake_boot();
	uint64_t id =
		fake_expect(fd, GCS_EXECUTE_PROCESS,
			    BASE("W") ",\"Settings\":{\"ProcessParameters\":\"{\\\"OciProcess\\\":{"
				      "\\\"terminal\\\":true,\\\"args\\\":[\\\"sh\\\"],\\\"cwd\\\":"
				      "\\\"/\\\"}}\","
				      "\"VsockStdioRelaySettings\":{}}}");

	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	expect_wait(fd);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(an_exec_sends_its_oci_process)
{
	fake_run(host_execs, guest_execs);
}
END_TEST

/* --- start fails --- */

static void host_is_refused(void)
{
	begin();
	execute_fails(&all, -ERR_NOT_FOUND, "guest: no W");
	/* The next one gets ports of its own. */
	execute(&none);
	finish();
}

static void guest_refuses(void)
{
	int fd = fake_boot();
	uint64_t id = fake_expect(fd, GCS_EXECUTE_PROCESS, NULL);
	int in = dial(1073741825), out = dial(1073741826);

	fake_refusal(fd, GCS_EXECUTE_PROCESS, id, HR_SYSTEM_NOT_FOUND, "no W");
	fake_expect_end(in);
	fake_expect_end(out);
	fd_close(in);
	fd_close(out);
	start(fd);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_refused_start_leaves_no_listener_and_closes_what_was_dialled)
{
	fake_run(host_is_refused, guest_refuses);
}
END_TEST

static void host_lacks_a_stream(void)
{
	begin();
	g->dial_usec = 20000;
	execute_fails(&all, -EREMOTEIO, "guest: it started the process without its stdout");
	execute(&none);
	finish();
}

static void guest_forgets_a_stream(void)
{
	int fd = fake_boot(), in, err;
	uint64_t id = fake_expect(fd, GCS_EXECUTE_PROCESS, NULL);

	in = dial(1073741825);
	err = dial(1073741827);
	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	expect_kill(fd);
	fake_expect_end(in);
	fake_expect_end(err);
	fd_close(in);
	fd_close(err);
	start(fd);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_process_that_comes_without_a_stream_is_killed)
{
	fake_run(host_lacks_a_stream, guest_forgets_a_stream);
}
END_TEST

static void host_gives_up_on_a_stream(void)
{
	begin();
	{
		CO_LIMIT(20000);
		execute_fails(&all, -ETIMEDOUT, "guest: wait for it to dial stdout");
	}
	execute(&none);
	finish();
}

START_TEST(a_deadline_while_waiting_for_a_stream_kills_the_process)
{
	fake_run(host_gives_up_on_a_stream, guest_forgets_a_stream);
}
END_TEST

static void host_loses_while_waiting(void)
{
	uint64_t begun;

	begin();
	begun = time_mono();
	execute_fails(&all, -ERR_UNAVAILABLE, "guest: the bridge has ended");
	ck_assert_uint_lt(time_mono() - begun, 5 * USEC_PER_SEC);
	finish();
}

static void guest_dies_without_streams(void)
{
	int fd = fake_boot();

	fake_answer(fd, GCS_EXECUTE_PROCESS, fake_expect(fd, GCS_EXECUTE_PROCESS, NULL),
		    ",\"ProcessId\":42");
	co_sleep(5000);
	fd_close(fd);
}

START_TEST(the_end_of_the_bridge_ends_the_wait_for_streams)
{
	fake_run(host_loses_while_waiting, guest_dies_without_streams);
}
END_TEST

static void host_gives_up(void)
{
	begin();
	{
		CO_LIMIT(10000);
		execute_fails(&all, -ETIMEDOUT, "guest: ExecuteProcess");
	}
	go = true;
	execute(&none);
	finish();
}

static void guest_starts_late(void)
{
	int fd = fake_boot();
	uint64_t late = fake_expect(fd, GCS_EXECUTE_PROCESS, NULL), id;

	wait_go();
	id = fake_expect(fd, GCS_EXECUTE_PROCESS, NULL);
	ck_assert_int_eq(fake_dial(1073741825), -ECONNREFUSED);
	fake_answer(fd, GCS_EXECUTE_PROCESS, late, ",\"ProcessId\":42");
	expect_kill(fd);
	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	expect_wait(fd);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_process_that_starts_after_its_caller_gave_up_is_killed)
{
	fake_run(host_gives_up, guest_starts_late);
}
END_TEST

static void cancelled_main(void *arg)
{
	execute_fails(&all, -ECANCELED, "guest: ExecuteProcess");
	go = true;
}

static void host_cancels(void)
{
	struct co *co;

	begin();
	co = co_spawn("cancelled", cancelled_main, NULL, USEC_NEVER);
	co_sleep(5000);
	co_cancel(co);
	wait_go();
	execute(&none);
	finish();
}

START_TEST(a_process_that_starts_after_its_caller_was_cancelled_is_killed)
{
	fake_run(host_cancels, guest_starts_late);
}
END_TEST

static void host_abandons_and_goes(void)
{
	begin();
	{
		CO_LIMIT(10000);
		execute_fails(&all, -ETIMEDOUT, "guest: ExecuteProcess");
	}
	finish();
}

static void guest_is_silent(void)
{
	int fd = fake_boot();

	fake_expect(fd, GCS_EXECUTE_PROCESS, NULL);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(an_abandoned_start_ends_with_the_guest)
{
	fake_run(host_abandons_and_goes, guest_is_silent);
}
END_TEST

static void host_gets_no_pid(void)
{
	begin();
	execute_fails(&all, -EPROTO, "without an id");
	finish();
}

static void guest_gives_no_pid(void)
{
	int fd = fake_boot();

	fake_answer(fd, GCS_EXECUTE_PROCESS, fake_expect(fd, GCS_EXECUTE_PROCESS, NULL), "");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_process_needs_an_id)
{
	fake_run(host_gets_no_pid, guest_gives_no_pid);
}
END_TEST

static void host_cannot_listen(void)
{
	begin();
	fake_refuse(1073741826, -EMFILE);
	execute_fails(&all, -EMFILE, "guest: listen for stdout");
	ck_assert_uint_eq(fake_sends(), 1);
	/* A port that somebody else has is passed over. */
	fake_refuse(1073741828, -EADDRINUSE);
	execute(&all);
	finish();
}

static void guest_dials_others(void)
{
	int fd = fake_boot(), in, out, err;
	uint64_t id = fake_expect(
		fd, GCS_EXECUTE_PROCESS,
		BASE("W") ",\"Settings\":{\"ProcessParameters\":\"{\\\"CreateStdInPipe\\\":true,"
			  "\\\"CreateStdOutPipe\\\":true,\\\"CreateStdErrPipe\\\":true}\","
			  "\"VsockStdioRelaySettings\":{\"StdIn\":1073741827,\"StdOut\":1073741829,"
			  "\"StdErr\":1073741830}}}");

	in = dial(1073741827);
	out = dial(1073741829);
	err = dial(1073741830);
	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	expect_wait(fd);
	fake_expect_end(fd);
	fd_close(in);
	fd_close(out);
	fd_close(err);
	fd_close(fd);
}

START_TEST(a_port_that_is_taken_is_passed_over_and_another_failure_ends_the_start)
{
	fake_run(host_cannot_listen, guest_dials_others);
}
END_TEST

static void host_wraps(void)
{
	begin();
	g->next_port = UINT32_MAX - 1;
	execute(&(struct gcs_process_params){ .out = true, .err = true });
	finish();
}

static void guest_wraps(void)
{
	int fd = fake_boot(), out, err;
	uint64_t id = fake_expect(fd, GCS_EXECUTE_PROCESS,
				  BASE("W") ",\"Settings\":{\"ProcessParameters\":\"{"
					    "\\\"CreateStdOutPipe\\\":true,"
					    "\\\"CreateStdErrPipe\\\":true}\","
					    "\"VsockStdioRelaySettings\":{\"StdOut\":"
					    "4294967294,\"StdErr\":1073741825}}}");

	out = dial(UINT32_MAX - 1);
	err = dial(GCS_PORT_STDIO);
	fake_answer(fd, GCS_EXECUTE_PROCESS, id, ",\"ProcessId\":42");
	expect_wait(fd);
	fake_expect_end(fd);
	fd_close(out);
	fd_close(err);
	fd_close(fd);
}

START_TEST(after_the_last_port_comes_the_first)
{
	fake_run(host_wraps, guest_wraps);
}
END_TEST

static void host_is_not_connected(void)
{
	g = guest_new(fake_channel(), NULL, NULL);
	ck_assert_int_eq(guest_execute(g, "W", &all, &p, NULL), -ERR_UNAVAILABLE);
	ck_assert_uint_eq(fake_listening(), 0);
	guest_close(g);
	ck_assert_int_eq(guest_execute(g, "W", &all, &p, NULL), -ERR_UNAVAILABLE);
	ck_assert_ptr_null(p);
	g = guest_free(g);
}

START_TEST(no_process_starts_without_a_connection)
{
	fake_run(host_is_not_connected, NULL);
}
END_TEST

/* --- exit --- */

static void host_sees_exit(void)
{
	begin();
	execute(&none);
	wait_exit();
	/* a second callback gets nothing */
	guest_process_on_exit(p, on_exit_told, &exits);
	co_sleep(5000);
	ck_assert_uint_eq(exits, 1);
	ck_assert_uint_eq(exit_code, 137);
	ck_assert_int_eq(guest_process_signal(p, SIGKILL, NULL), -ERR_NOT_FOUND);
	ck_assert_int_eq(guest_process_resize(p, 80, 24, NULL), -ERR_NOT_FOUND);
	finish();
}

static void guest_exits(void)
{
	int fd = fake_boot();

	fake_answer(fd, GCS_WAIT_FOR_PROCESS, start(fd), ",\"ExitCode\":137");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(an_exit_is_told_once)
{
	fake_run(host_sees_exit, guest_exits);
}
END_TEST

static void host_asks_late(void)
{
	begin();
	execute(&none);
	co_sleep(20000);
	wait_exit();
	ck_assert_uint_eq(exit_code, 137);
	finish();
}

START_TEST(an_exit_before_anybody_asked_is_told_when_asked)
{
	fake_run(host_asks_late, guest_exits);
}
END_TEST

static void host_frees_before_exit_is_told(void)
{
	begin();
	execute(&none);
	co_sleep(20000);
	guest_process_on_exit(p, on_exit_told, &exits);
	p = guest_process_free(p);
	co_sleep(5000);
	ck_assert_uint_eq(exits, 0);
	finish();
}

START_TEST(a_freed_process_tells_nothing)
{
	fake_run(host_frees_before_exit_is_told, guest_exits);
}
END_TEST

static void free_in_callback(uint32_t code, bool lost, void *arg)
{
	exits++;
	p = guest_process_free(p);
}

static void host_frees_in_callback(void)
{
	begin();
	execute(&none);
	guest_process_on_exit(p, free_in_callback, NULL);
	while (!exits)
		co_sleep(1000);
	finish();
}

START_TEST(a_process_may_be_freed_in_its_exit_callback)
{
	fake_run(host_frees_in_callback, guest_exits);
}
END_TEST

static const struct {
	uint32_t hresult;
	uint32_t code;
} wait_refusals[] = {
	{ HR_NOT_FOUND, 0 }, /* forgotten by the guest: it had ended */
	{ HR_SYSTEM_NOT_FOUND, 255 },
	{ HR_FAIL, 255 },
};
static unsigned wait_refusal;

static void host_wait_is_refused(void)
{
	begin();
	execute(&none);
	wait_exit();
	ck_assert_uint_eq(exit_code, wait_refusals[wait_refusal].code);
	ck_assert(!exit_lost);
	finish();
}

static void guest_refuses_wait(void)
{
	int fd = fake_boot();

	fake_refusal(fd, GCS_WAIT_FOR_PROCESS, start(fd), wait_refusals[wait_refusal].hresult,
		     "what?");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_refused_wait_is_an_exit)
{
	wait_refusal = (unsigned)_i;
	fake_run(host_wait_is_refused, guest_refuses_wait);
}
END_TEST

static void host_loses_process(void)
{
	begin();
	execute(&none);
	wait_exit();
	ck_assert(exit_lost);
	ck_assert_uint_eq(exit_code, 255);
	ck_assert_int_eq(guest_process_signal(p, SIGKILL, NULL), -ERR_UNAVAILABLE);
	ck_assert_int_eq(guest_process_resize(p, 1, 1, NULL), -ERR_UNAVAILABLE);
	finish();
}

static void guest_dies(void)
{
	int fd = fake_boot();

	start(fd);
	fd_close(fd);
}

START_TEST(the_end_of_the_bridge_is_an_exit_with_255)
{
	fake_run(host_loses_process, guest_dies);
}
END_TEST

static void guest_babbles(void)
{
	int fd = fake_boot();

	fake_answer(fd, GCS_WAIT_FOR_PROCESS, start(fd), ",\"ExitCode\":-1");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_malformed_exit_ends_the_bridge)
{
	fake_run(host_loses_process, guest_babbles);
}
END_TEST

static void host_closes(void)
{
	begin();
	execute(&none);
	guest_process_on_exit(p, on_exit_told, &exits);
	guest_close(g);
	ck_assert_uint_eq(exits, 0); /* from the loop */
	co_sleep(5000);
	ck_assert_uint_eq(exits, 1);
	ck_assert(exit_lost);
	finish();
}

static void guest_stays(void)
{
	int fd = fake_boot();

	start(fd);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(closing_the_guest_is_an_exit_too)
{
	fake_run(host_closes, guest_stays);
}
END_TEST

static void host_frees_guest_first(void)
{
	begin();
	execute(&none);
	guest_process_on_exit(p, on_exit_told, &exits);
	g = guest_free(g);
	ck_assert_int_eq(guest_process_signal(p, SIGKILL, NULL), -ERR_UNAVAILABLE);
	co_sleep(5000);
	ck_assert_uint_eq(exits, 1);
	ck_assert(exit_lost);
	ck_assert_int_eq(guest_process_signal(p, SIGKILL, NULL), -ERR_UNAVAILABLE);
	guest_process_close(p, 0);
	p = guest_process_free(p);
	ck_assert_ptr_null(guest_process_free(NULL));
}

START_TEST(a_process_may_outlive_its_guest)
{
	fake_run(host_frees_guest_first, guest_stays);
}
END_TEST

/* --- signal and resize --- */

static void host_signals(void)
{
	struct err err = { 0 };

	begin();
	execute(&none);
	ck_assert_int_eq(guest_process_signal(p, SIGTERM, NULL), 0);
	ck_assert_int_eq(guest_process_signal(p, 0, NULL), 0);
	ck_assert_int_eq(guest_process_signal(p, -1, NULL), -ERR_INVALID);
	ck_assert_int_eq(guest_process_signal(p, 65, NULL), -ERR_INVALID);
	ck_assert_int_eq(guest_process_signal(p, 1, &err), -ERR_NOT_FOUND);
	ck_assert_int_eq(guest_process_signal(p, 1, &err), -ERR_NOT_FOUND);
	ck_assert_int_eq(err.code, -ERR_NOT_FOUND);
	ck_assert_int_eq(guest_process_signal(p, 1, &err), -ERR_NOT_FOUND);
	ck_assert_int_eq(guest_process_signal(p, 1, NULL), -ERR_NOT_FOUND);
	ck_assert_int_eq(guest_process_signal(p, 1, &err), -EREMOTEIO);
	ck_assert_str_eq(err.text, "guest: denied");
	ck_assert_int_eq(guest_process_resize(p, 80, 24, NULL), 0);
	ck_assert_int_eq(guest_process_resize(p, 80, 24, &err), -EREMOTEIO);
	ck_assert_str_eq(err.text, "guest: no tty");
	finish();
}

static void refuse_signal(int fd, uint32_t hresult, const char *why)
{
	fake_refusal(fd, GCS_SIGNAL_PROCESS,
		     fake_expect(fd, GCS_SIGNAL_PROCESS,
				 BASE("W") ",\"ProcessId\":42,\"Options\":{\"Signal\":1}}"),
		     hresult, why);
}

static void guest_is_signalled(void)
{
	static const char resize[] = BASE("W") ",\"ProcessId\":42,\"Height\":24,\"Width\":80}";
	int fd = fake_boot();

	start(fd);
	fake_answer(fd, GCS_SIGNAL_PROCESS,
		    fake_expect(fd, GCS_SIGNAL_PROCESS,
				BASE("W") ",\"ProcessId\":42,\"Options\":{\"Signal\":15}}"),
		    "");
	expect_kill(fd);
	refuse_signal(fd, HR_NOT_FOUND, "no process");
	refuse_signal(fd, HR_ALREADY_STOPPED, "not running");
	refuse_signal(fd, 0x8037011Fu, "stopped");
	refuse_signal(fd, HR_SYSTEM_NOT_FOUND, "no container");
	refuse_signal(fd, HR_FAIL, "denied");
	fake_answer(fd, GCS_RESIZE_CONSOLE, fake_expect(fd, GCS_RESIZE_CONSOLE, resize), "");
	fake_refusal(fd, GCS_RESIZE_CONSOLE, fake_expect(fd, GCS_RESIZE_CONSOLE, resize), HR_FAIL,
		     "no tty");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(signals_and_sizes_reach_the_process)
{
	fake_run(host_signals, guest_is_signalled);
}
END_TEST

static void host_signals_a_simple_guest(void)
{
	begin();
	execute(&none);
	ck_assert_int_eq(guest_process_signal(p, SIGTERM, NULL), 0);
	ck_assert_int_eq(guest_process_signal(p, SIGHUP, NULL), -ERR_UNIMPLEMENTED);
	finish();
}

static void guest_is_simple(void)
{
	int fd = fake_boot_with("");

	start(fd);
	fake_answer(fd, GCS_SIGNAL_PROCESS,
		    fake_expect(fd, GCS_SIGNAL_PROCESS, BASE("W") ",\"ProcessId\":42}"), "");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_guest_that_only_kills_is_sent_no_other_signal)
{
	fake_run(host_signals_a_simple_guest, guest_is_simple);
}
END_TEST

/* --- faults --- */

enum { FAULTS = 8 };
static unsigned fault;
static unsigned outcomes;

/** session() - a guest's life; each step either works or ends with the bridge */
static void session(void)
{
	struct err err = { 0 };
	int r;

	g = guest_new(fake_channel(), NULL, NULL);
	ck_assert_int_eq(guest_listen(g, NULL), 0);
	fake_send_fail(fault);
	r = guest_connect(g, &err);
	if (r >= 0)
		r = guest_start(g, "W", &err);
	if (r >= 0)
		r = guest_execute(g, "W", &all, &p, &err);
	if (r >= 0)
		r = guest_process_signal(p, SIGTERM, &err);
	if (r >= 0)
		r = guest_modify(g, NULL, "Update", "PodCgroupMemoryLimit", NULL, NULL, &err);
	ck_assert_msg(r == 0 || (r == -ERR_UNAVAILABLE && err.text[0]), "%d: %s", r, err.text);
	outcomes += r == 0;
	fake_send_fail(0);
	guest_close(g);
	co_sleep(0);
	if (fault % 2) {
		g = guest_free(g);
		p = guest_process_free(p);
	} else {
		p = guest_process_free(p);
		g = guest_free(g);
	}
}

static void answer_all(void)
{
	int fd = fake_dial_wait(GCS_PORT_BRIDGE), stdio[3] = { -EBADF, -EBADF, -EBADF };
	uint8_t raw[GCS_HEADER];

	while (co_read_full(fd, raw, sizeof(raw)) == 0) {
		_cleanup_free_ char *body = NULL;
		struct gcs_header h;
		const char *fields = "";

		ck_assert_int_eq(gcs_header_decode(raw, GCS_FRAME_MAX, &h), 0);
		body = mem_new0(1, h.size);
		if (co_read_full(fd, body, h.size - GCS_HEADER) < 0)
			break;
		if (h.type == GCS_NEGOTIATE)
			fields = ",\"Version\":4,\"Capabilities\":{\"RuntimeOsType\":\"Linux\"}";
		if (h.type == GCS_EXECUTE_PROCESS) {
			fields = ",\"ProcessId\":42";
			for (uint32_t i = 0; i < 3; i++)
				stdio[i] = fake_dial(GCS_PORT_STDIO + i);
		}
		if (h.type != GCS_WAIT_FOR_PROCESS)
			fake_answer(fd, h.type, h.id, fields);
	}
	for (int i = 0; i < 3; i++)
		fd_close(stdio[i]);
	fd_close(fd);
}

START_TEST(whichever_write_fails_nothing_is_left_behind)
{
	fault = (unsigned)_i;
	fake_run(session, answer_all);
	/* The last fault is beyond the last write. */
	ck_assert_uint_eq(outcomes, fault == 0 || fault >= 7 ? 1 : 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest process");
	TCase *c = tcase_create("process");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_test(c, a_process_starts_with_its_streams_and_its_exit_is_told);
	tcase_add_test(c, ports_are_for_the_wanted_streams_and_are_not_used_twice);
	tcase_add_test(c, a_process_may_run_in_the_uvm_itself);
	tcase_add_test(c, an_exec_sends_its_oci_process);
	tcase_add_test(c, a_refused_start_leaves_no_listener_and_closes_what_was_dialled);
	tcase_add_test(c, a_process_that_comes_without_a_stream_is_killed);
	tcase_add_test(c, a_deadline_while_waiting_for_a_stream_kills_the_process);
	tcase_add_test(c, the_end_of_the_bridge_ends_the_wait_for_streams);
	tcase_add_test(c, a_process_that_starts_after_its_caller_gave_up_is_killed);
	tcase_add_test(c, a_process_that_starts_after_its_caller_was_cancelled_is_killed);
	tcase_add_test(c, an_abandoned_start_ends_with_the_guest);
	tcase_add_test(c, a_process_needs_an_id);
	tcase_add_test(c, a_port_that_is_taken_is_passed_over_and_another_failure_ends_the_start);
	tcase_add_test(c, after_the_last_port_comes_the_first);
	tcase_add_test(c, no_process_starts_without_a_connection);
	tcase_add_test(c, an_exit_is_told_once);
	tcase_add_test(c, an_exit_before_anybody_asked_is_told_when_asked);
	tcase_add_test(c, a_freed_process_tells_nothing);
	tcase_add_test(c, a_process_may_be_freed_in_its_exit_callback);
	tcase_add_loop_test(c, a_refused_wait_is_an_exit, 0, (int)ARRAY_SIZE(wait_refusals));
	tcase_add_test(c, the_end_of_the_bridge_is_an_exit_with_255);
	tcase_add_test(c, a_malformed_exit_ends_the_bridge);
	tcase_add_test(c, closing_the_guest_is_an_exit_too);
	tcase_add_test(c, a_process_may_outlive_its_guest);
	tcase_add_test(c, signals_and_sizes_reach_the_process);
	tcase_add_test(c, a_guest_that_only_kills_is_sent_no_other_signal);
	tcase_add_loop_test(c, whichever_write_fails_nothing_is_left_behind, 0, FAULTS);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
