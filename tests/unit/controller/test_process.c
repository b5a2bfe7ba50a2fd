/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/process.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/fd.h"
#include "controller/fixture.h"
#include "wire/gcs.h"

enum { PID = 77 };

/**
 * struct guest_process - the fake's
 * @fds:	[stream][0] is handed out, [1] is what the process in the guest holds
 */
struct guest_process {
	int fds[3][2];
	void (*exited)(uint32_t code, bool lost, void *arg);
	void *arg;
};

static struct fake f;
static struct guest_process guest;
static unsigned guests;
static struct gcs_process_params asked;
static int signal_result;
static struct process *p;
static struct err err;
static char dir[] = "/tmp/test_process.XXXXXX";
static unsigned exits;
static struct process_status at_exit;

/* ---- the guest ---- */

static CO int on_execute(void *ctx, const char *container, const struct gcs_process_params *params,
			 struct guest_process **ret, struct err *e)
{
	int r;

	ck_assert_str_eq(container, "c1");
	asked = *params;
	r = fake_call(&f, e, "execute");
	if (r < 0)
		return r;
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
					    guest.fds[i]),
				 0);
	guests++;
	*ret = &guest;
	return 0;
}

static uint32_t on_pid(const struct guest_process *g)
{
	return PID;
}

static int on_fd(const struct guest_process *g, int stream)
{
	return g->fds[stream][0];
}

static void on_close(struct guest_process *g, int stream)
{
	/* The process must still be there: it is what owns the stream. */
	ck_assert_uint_eq(guests, 1);
	if (stream == 0)
		shutdown(g->fds[0][0], SHUT_WR);
	else
		g->fds[stream][0] = fd_close(g->fds[stream][0]);
}

static void on_on_exit(struct guest_process *g, void (*fn)(uint32_t code, bool lost, void *arg),
		       void *arg)
{
	g->exited = fn;
	g->arg = arg;
}

static CO int on_signal(struct guest_process *g, int signal, struct err *e)
{
	int r = fake_call(&f, e, "signal %d", signal);

	return r < 0 ? r : signal_result;
}

static CO int on_resize(struct guest_process *g, uint16_t width, uint16_t height, struct err *e)
{
	return fake_call(&f, e, "resize %u %u", width, height);
}

static struct guest_process *on_free(struct guest_process *g)
{
	if (!g)
		return NULL;
	ck_assert_uint_eq(guests, 1);
	guests--;
	g->exited = NULL;
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 2; k++)
			g->fds[i][k] = fd_close(g->fds[i][k]);
	return NULL;
}

static const struct process_ops ops = {
	on_execute, on_pid, on_fd, on_close, on_on_exit, on_signal, on_resize, on_free,
};

/* ---- the fixture ---- */

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	fake_init(&f);
	memset(&guest, 0, sizeof(guest));
	memset(&err, 0, sizeof(err));
	memset(&at_exit, 0, sizeof(at_exit));
	guests = exits = 0;
	signal_result = 0;
	p = process_new(&ops, NULL, "c1", "");
}

static void teardown(void)
{
	p = process_free(p);
	run_all();
	ck_assert_uint_eq(guests, 0);
	fake_free(&f);
	dir_remove(dir);
	loop_fini();
}

static const char *path_of(const char *name)
{
	static char paths[4][64];
	static unsigned n;
	char *path = paths[n++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static const char *fifo(const char *name)
{
	const char *path = path_of(name);

	ck_assert_int_eq(mkfifo(path, 0600), 0);
	return path;
}

static CO void on_exited(struct process *process, void *arg)
{
	exits++;
	process_get_status(process, &at_exit);
}

/* Calls on the process, as coroutines and as the columns of its table. */

static CO void create(void *arg)
{
	struct stdio_paths none = { 0 };

	*(int *)arg = process_create(p, &none, NULL, &err);
}

static CO void start(void *arg)
{
	*(int *)arg = process_start(p, on_exited, NULL, &err);
	if (*(int *)arg >= 0)
		process_release_exit(p);
}

static CO void start_unpublished(void *arg)
{
	*(int *)arg = process_start(p, on_exited, NULL, &err);
}

static CO void kill_9(void *arg)
{
	*(int *)arg = process_kill(p, 9, &err);
}

static CO void resize(void *arg)
{
	*(int *)arg = process_resize(p, 80, 25, &err);
}

static CO void wait_end(void *arg)
{
	*(int *)arg = process_wait(p);
}

static CO void close_stdin(void *arg)
{
	process_close_stdin(p);
	*(int *)arg = 0;
}

static CO void delete (void *arg)
{
	*(int *)arg = process_delete(p, &err);
}

static CO void fail_it(void *arg)
{
	process_fail(p);
	*(int *)arg = 0;
}

static int run(CO void (*what)(void *arg))
{
	static int result;

	result = 1;
	in_coroutine(what, &result);
	return result;
}

static void exit_with(uint32_t code, bool lost)
{
	ck_assert_ptr_nonnull(guest.exited);
	guest.exited(code, lost, guest.arg);
	run_all();
}

static void reach(enum process_state state)
{
	if (state == PROCESS_NOT_CREATED)
		return;
	ck_assert_int_eq(run(create), 0);
	if (state == PROCESS_RUNNING || state == PROCESS_TERMINATED)
		ck_assert_int_eq(run(start), 0);
	if (state == PROCESS_TERMINATED)
		exit_with(7, false);
}

static struct process_status status(void)
{
	struct process_status s;

	process_get_status(p, &s);
	return s;
}

/* ---- the state table ---- */

static const struct row {
	enum process_state from;
	CO void (*call)(void *arg);
	int result;
	enum process_state to;
	unsigned code;
} table[] = {
	{ PROCESS_NOT_CREATED, create, 0, PROCESS_CREATED, 255 },
	{ PROCESS_NOT_CREATED, start, -ERR_STATE, PROCESS_NOT_CREATED, 255 },
	{ PROCESS_NOT_CREATED, kill_9, -ERR_STATE, PROCESS_NOT_CREATED, 255 },
	{ PROCESS_NOT_CREATED, resize, -ERR_STATE, PROCESS_NOT_CREATED, 255 },
	{ PROCESS_NOT_CREATED, close_stdin, 0, PROCESS_NOT_CREATED, 255 },
	{ PROCESS_NOT_CREATED, fail_it, 0, PROCESS_NOT_CREATED, 255 },
	{ PROCESS_NOT_CREATED, delete, 0, PROCESS_NOT_CREATED, 255 },
	{ PROCESS_CREATED, create, -ERR_STATE, PROCESS_CREATED, 255 },
	{ PROCESS_CREATED, start, 0, PROCESS_RUNNING, 255 },
	{ PROCESS_CREATED, kill_9, 0, PROCESS_TERMINATED, 137 },
	{ PROCESS_CREATED, resize, 0, PROCESS_CREATED, 255 },
	{ PROCESS_CREATED, close_stdin, 0, PROCESS_CREATED, 255 },
	{ PROCESS_CREATED, fail_it, 0, PROCESS_TERMINATED, 1 },
	{ PROCESS_CREATED, delete, 0, PROCESS_TERMINATED, 0 },
	{ PROCESS_RUNNING, create, -ERR_STATE, PROCESS_RUNNING, 255 },
	{ PROCESS_RUNNING, start, -ERR_STATE, PROCESS_RUNNING, 255 },
	{ PROCESS_RUNNING, kill_9, 0, PROCESS_RUNNING, 255 },
	{ PROCESS_RUNNING, resize, 0, PROCESS_RUNNING, 255 },
	{ PROCESS_RUNNING, close_stdin, 0, PROCESS_RUNNING, 255 },
	{ PROCESS_RUNNING, fail_it, 0, PROCESS_RUNNING, 255 },
	{ PROCESS_RUNNING, delete, -ERR_STATE, PROCESS_RUNNING, 255 },
	{ PROCESS_TERMINATED, create, -ERR_STATE, PROCESS_TERMINATED, 7 },
	{ PROCESS_TERMINATED, start, -ERR_STATE, PROCESS_TERMINATED, 7 },
	{ PROCESS_TERMINATED, kill_9, -ERR_NOT_FOUND, PROCESS_TERMINATED, 7 },
	{ PROCESS_TERMINATED, resize, -ERR_STATE, PROCESS_TERMINATED, 7 },
	{ PROCESS_TERMINATED, close_stdin, 0, PROCESS_TERMINATED, 7 },
	{ PROCESS_TERMINATED, fail_it, 0, PROCESS_TERMINATED, 7 },
	{ PROCESS_TERMINATED, delete, 0, PROCESS_TERMINATED, 7 },
	{ PROCESS_TERMINATED, wait_end, 0, PROCESS_TERMINATED, 7 },
};

START_TEST(each_row_of_the_state_table_holds)
{
	const struct row *row = &table[_i];

	reach(row->from);
	ck_assert_int_eq(run(row->call), row->result);
	ck_assert_int_eq(status().state, row->to);
	ck_assert_uint_eq(status().exit_status, row->code);
	ck_assert(row->to == PROCESS_TERMINATED ? status().exited_at > 0 : status().exited_at == 0);
}
END_TEST

/* ---- start and exit ---- */

START_TEST(a_failed_start_ends_it_with_code_1_and_closes_its_streams)
{
	const char *out = fifo("out");
	struct stdio_paths io = { .out = out };
	char byte;

	ck_assert_int_eq(process_create(p, &io, NULL, &err), 0);

	int reader = open(out, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	f.fail_at = 1;
	ck_assert_int_eq(run(start), -EIO);
	ck_assert_int_eq(status().state, PROCESS_TERMINATED);
	ck_assert_uint_eq(status().exit_status, 1);
	ck_assert_uint_eq(exits, 0);
	ck_assert_int_eq(run(wait_end), 0);
	ck_assert_int_eq(read(reader, &byte, 1), 0);
	close(reader);
}
END_TEST

START_TEST(the_exit_is_held_back_until_the_start_was_published)
{
	reach(PROCESS_CREATED);
	ck_assert_int_eq(run(start_unpublished), 0);
	guest.exited(3, false, guest.arg);
	run_for(30);
	ck_assert_uint_eq(exits, 0);
	process_release_exit(p);
	run_all();
	ck_assert_uint_eq(exits, 1);
	ck_assert_uint_eq(at_exit.exit_status, 3);
	ck_assert_int_eq(at_exit.state, PROCESS_TERMINATED);
}
END_TEST

START_TEST(an_exit_that_is_lost_with_the_vm_has_code_255)
{
	reach(PROCESS_RUNNING);
	exit_with(0, true);
	ck_assert_uint_eq(exits, 1);
	ck_assert_uint_eq(at_exit.exit_status, 255);
}
END_TEST

START_TEST(output_is_relayed_to_its_end_before_the_exit_is_told)
{
	const char *out = fifo("out");
	struct stdio_paths io = { .out = out };
	char text[16] = { 0 };

	ck_assert_int_eq(process_create(p, &io, NULL, &err), 0);

	int reader = open(out, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	ck_assert_int_eq(run(start), 0);
	ck_assert(!asked.in && asked.out && !asked.err);
	guest.exited(0, false, guest.arg);
	run_for(30);
	ck_assert_uint_eq(exits, 0);
	ck_assert_int_eq(write(guest.fds[1][1], "bye", 3), 3);
	guest.fds[1][1] = fd_close(guest.fds[1][1]);
	run_all();
	ck_assert_uint_eq(exits, 1);
	ck_assert_int_eq(read(reader, text, sizeof(text) - 1), 3);
	ck_assert_str_eq(text, "bye");
	ck_assert_int_eq(read(reader, text, 1), 0);
	close(reader);
}
END_TEST

START_TEST(waits_end_with_the_process)
{
	int results[2] = { 1, 1 };

	reach(PROCESS_RUNNING);
	co_spawn("wait", wait_end, &results[0], USEC_NEVER);
	co_spawn("wait", wait_end, &results[1], USEC_NEVER);
	run_for(10);
	ck_assert_int_eq(results[0], 1);
	exit_with(0, false);
	ck_assert_int_eq(results[0], 0);
	ck_assert_int_eq(results[1], 0);
}
END_TEST

START_TEST(it_cannot_be_signalled_started_or_deleted_while_it_is_being_started)
{
	int result = 1;

	reach(PROCESS_CREATED);
	f.hold_at = "execute";
	co_spawn("start", start, &result, USEC_NEVER);
	run_for(10);

	int others[3] = { 1, 1, 1 };

	co_spawn("kill", kill_9, &others[0], USEC_NEVER);
	co_spawn("start", start, &others[1], USEC_NEVER);
	co_spawn("delete", delete, &others[2], USEC_NEVER);
	run_for(10);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(others[i], -ERR_STATE);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(result, 0);
	ck_assert_int_eq(status().state, PROCESS_RUNNING);
}
END_TEST

START_TEST(the_pid_is_the_one_that_the_guest_gave)
{
	reach(PROCESS_CREATED);
	process_set_pid(p, 5);
	ck_assert_uint_eq(status().pid, 5);
	ck_assert_int_eq(run(start), 0);
	ck_assert_uint_eq(status().pid, PID);
}
END_TEST

START_TEST(a_guest_that_lost_the_process_or_is_gone_says_that_it_has_finished)
{
	static const int gone[] = { -ERR_NOT_FOUND, -ESRCH, -ERR_UNAVAILABLE, -ECONNRESET };

	reach(PROCESS_RUNNING);
	signal_result = gone[_i];
	ck_assert_int_eq(run(kill_9), -ERR_NOT_FOUND);
	ck_assert_str_eq(err.text, "process already finished: not found");
}
END_TEST

START_TEST(other_failures_of_a_signal_are_told)
{
	reach(PROCESS_RUNNING);
	signal_result = -EPERM;
	ck_assert_int_eq(run(kill_9), -EPERM);
	ck_assert_str_eq(fake_calls(&f), "execute;signal 9;");
}
END_TEST

/* ---- create ---- */

START_TEST(beside_a_terminal_stderr_is_not_opened)
{
	struct stdio_paths io = { .out = fifo("out"), .err = "/nonexistent/err", .terminal = true };

	ck_assert_int_eq(process_create(p, &io, NULL, &err), 0);
	ck_assert_int_eq(status().state, PROCESS_CREATED);
	ck_assert_str_eq(status().err, "/nonexistent/err");
}
END_TEST

START_TEST(a_stream_that_cannot_be_opened_leaves_it_not_created)
{
	struct stdio_paths io = { .out = "/nonexistent/out" };

	ck_assert_int_eq(process_create(p, &io, json_object_new_object(), &err), -ENOENT);
	ck_assert_int_eq(status().state, PROCESS_NOT_CREATED);
	ck_assert_int_eq(run(create), 0);
}
END_TEST

START_TEST(the_status_names_the_streams)
{
	const char *out = fifo("out");
	struct stdio_paths io = { .out = out, .terminal = true };

	ck_assert_int_eq(process_create(p, &io, NULL, &err), 0);
	ck_assert_str_eq(status().out, out);
	ck_assert_ptr_null(status().in);
	ck_assert(status().terminal);
	ck_assert_str_eq(status().exec_id, "");
}
END_TEST

START_TEST(a_terminal_can_be_resized_while_it_runs)
{
	struct stdio_paths io = { .terminal = true };

	ck_assert_int_eq(process_create(p, &io, NULL, &err), 0);
	ck_assert_int_eq(run(start), 0);
	ck_assert_int_eq(run(resize), 0);
	ck_assert_str_eq(fake_calls(&f), "execute;resize 80 25;");
}
END_TEST

START_TEST(a_size_that_comes_before_the_start_is_set_at_the_start)
{
	struct stdio_paths io = { .terminal = true };

	ck_assert_int_eq(process_create(p, &io, NULL, &err), 0);
	ck_assert_int_eq(run(resize), 0);
	ck_assert_str_eq(fake_calls(&f), "");
	ck_assert_int_eq(run(start), 0);
	ck_assert_str_eq(fake_calls(&f), "execute;resize 80 25;");
}
END_TEST

START_TEST(who_has_no_terminal_is_not_resized)
{
	ck_assert_int_eq(run(create), 0);
	ck_assert_int_eq(run(resize), 0);
	ck_assert_int_eq(run(start), 0);
	ck_assert_int_eq(run(resize), 0);
	ck_assert_str_eq(fake_calls(&f), "execute;");
}
END_TEST

/* ---- lifetime ---- */

static void run_with_streams(void)
{
	struct stdio_paths io = { .in = fifo("in"), .out = fifo("out"), .err = fifo("err") };

	ck_assert_int_eq(process_create(p, &io, NULL, &err), 0);
	ck_assert_int_eq(run(start), 0);
}

START_TEST(one_that_still_runs_can_be_freed_with_its_streams)
{
	run_with_streams();
	p = process_free(p);
	run_all();
	ck_assert_uint_eq(guests, 0);
	ck_assert_uint_eq(exits, 0);
}
END_TEST

START_TEST(freeing_one_ends_the_wait_for_a_reader_that_takes_nothing)
{
	uint64_t before = time_mono();

	run_with_streams();
	guest.exited(0, false, guest.arg);
	run_for(20);
	ck_assert_uint_gt(co_count(), 0);
	p = process_free(p);
	run_all();
	ck_assert_uint_eq(exits, 0);
	ck_assert_uint_lt(time_mono() - before, 5 * USEC_PER_SEC);
}
END_TEST

/* _i is the call that is under way when the owner lets go. */
START_TEST(a_call_that_is_under_way_survives_the_owner)
{
	static const struct {
		const char *hold_at;
		CO void (*call)(void *arg);
	} calls[] = { { "execute", start_unpublished },
		      { "signal", kill_9 },
		      { "none", wait_end } };
	int result = 1;

	reach(_i == 0 ? PROCESS_CREATED : PROCESS_RUNNING);
	f.hold_at = calls[_i].hold_at;

	struct co *co = co_spawn("call", calls[_i].call, &result, USEC_NEVER);

	run_for(10);
	p = process_free(p);
	if (_i == 2)
		co_cancel(co);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(result, _i == 2 ? -ECANCELED : 0);
	ck_assert_uint_eq(guests, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller process");
	TCase *t = tcase_create("process");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, each_row_of_the_state_table_holds, 0, ARRAY_SIZE(table));
	tcase_add_test(t, a_failed_start_ends_it_with_code_1_and_closes_its_streams);
	tcase_add_test(t, the_exit_is_held_back_until_the_start_was_published);
	tcase_add_test(t, an_exit_that_is_lost_with_the_vm_has_code_255);
	tcase_add_test(t, output_is_relayed_to_its_end_before_the_exit_is_told);
	tcase_add_test(t, waits_end_with_the_process);
	tcase_add_test(t, it_cannot_be_signalled_started_or_deleted_while_it_is_being_started);
	tcase_add_test(t, the_pid_is_the_one_that_the_guest_gave);
	tcase_add_loop_test(t, a_guest_that_lost_the_process_or_is_gone_says_that_it_has_finished,
			    0, 4);
	tcase_add_test(t, other_failures_of_a_signal_are_told);
	tcase_add_test(t, beside_a_terminal_stderr_is_not_opened);
	tcase_add_test(t, a_stream_that_cannot_be_opened_leaves_it_not_created);
	tcase_add_test(t, the_status_names_the_streams);
	tcase_add_test(t, a_terminal_can_be_resized_while_it_runs);
	tcase_add_test(t, a_size_that_comes_before_the_start_is_set_at_the_start);
	tcase_add_test(t, who_has_no_terminal_is_not_resized);
	tcase_add_test(t, one_that_still_runs_can_be_freed_with_its_streams);
	tcase_add_test(t, freeing_one_ends_the_wait_for_a_reader_that_takes_nothing);
	tcase_add_loop_test(t, a_call_that_is_under_way_survives_the_owner, 0, 3);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
