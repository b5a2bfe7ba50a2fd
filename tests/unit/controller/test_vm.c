/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/vm.h"

#include "controller/fixture.h"
#include "vmm/vmm.h"

static struct fake f;
static struct vm *vm;
static void (*exited)(void *arg);
static void *exited_arg;
static bool clean;
static unsigned exits;

static CO int on_create(void *ctx, const struct vm_config *cfg, void (*fn)(void *arg), void *arg,
			struct err *err)
{
	exited = fn;
	exited_arg = arg;
	return fake_call(ctx, err, "create");
}

static int on_listen(void *ctx, struct err *err)
{
	return fake_call(ctx, err, "listen");
}

static CO int on_boot(void *ctx, struct err *err)
{
	return fake_call(ctx, err, "boot");
}

static CO int on_connect(void *ctx, struct err *err)
{
	return fake_call(ctx, err, "connect");
}

static void on_disconnect(void *ctx)
{
	fake_call(ctx, NULL, "disconnect");
}

static CO int on_terminate(void *ctx)
{
	int r = fake_call(ctx, NULL, "terminate");

	exited(exited_arg);
	return r;
}

static CO void on_drain_log(void *ctx, uint64_t usec)
{
	fake_call(ctx, NULL, "drain");
}

static bool on_clean_exit(void *ctx)
{
	return clean;
}

static char *on_last_words(void *ctx)
{
	return mem_strdup("Kernel panic - not syncing");
}

static pid_t on_pid(void *ctx)
{
	return 42;
}

static CO int on_set_clock(void *ctx, uint64_t unix_ns, struct err *err)
{
	return fake_call(ctx, err, "clock");
}

static const struct vm_ops ops = {
	on_create,    on_listen,    on_boot,       on_connect,    on_disconnect,
	on_terminate, on_drain_log, on_clean_exit, on_last_words, on_pid,
};

static const struct vm_ops ops_with_clock = {
	on_create,    on_listen,     on_boot,       on_connect, on_disconnect, on_terminate,
	on_drain_log, on_clean_exit, on_last_words, on_pid,     on_set_clock,
};

static void on_exit_event(void *arg)
{
	exits++;
}

/* A call on the controller and what became of it. */
struct call {
	int result;
	bool done;
	struct err err;
};

static CO void create(void *arg)
{
	struct call *c = arg;
	struct vm_config cfg = { .id = "v" };

	c->result = vm_create(vm, &cfg, false, &c->err);
	c->done = true;
}

static CO void start(void *arg)
{
	struct call *c = arg;

	c->result = vm_start(vm, &c->err);
	c->done = true;
}

static CO void terminate(void *arg)
{
	struct call *c = arg;

	c->result = vm_terminate(vm, &c->err);
	c->done = true;
}

static CO void wait_end(void *arg)
{
	struct call *c = arg;

	c->result = vm_wait(vm, &c->err);
	c->done = true;
}

static int run(CO void (*what)(void *arg))
{
	static struct call c;

	memset(&c, 0, sizeof(c));
	in_coroutine(what, &c);
	return c.result;
}

static void setup(void)
{
	struct vm_events events = { .exited = on_exit_event };

	ck_assert_int_eq(loop_init(), 0);
	fake_init(&f);
	exits = 0;
	clean = true;
	vm = vm_new(&events);
	vm_set_ops(vm, &ops, &f);
}

static void teardown(void)
{
	vm = vm_free(vm);
	fake_free(&f);
	loop_fini();
}

/* The state table: rows are states, columns calls. */

static void reach(enum vm_state state)
{
	if (state == VM_NOT_CREATED)
		return;
	ck_assert_int_eq(run(create), 0);
	if (state == VM_INVALID)
		f.fail_at = f.n_calls + 2;
	if (state == VM_INVALID || state == VM_RUNNING || state == VM_TERMINATED)
		run(start);
	if (state == VM_TERMINATED)
		ck_assert_int_eq(run(terminate), 0);
	ck_assert_int_eq(vm_state(vm), state);
}

static const struct row {
	enum vm_state from;
	CO void (*call)(void *arg);
	int result;
	enum vm_state to;
} table[] = {
	{ VM_NOT_CREATED, create, 0, VM_CREATED },
	{ VM_NOT_CREATED, start, -ERR_STATE, VM_NOT_CREATED },
	{ VM_NOT_CREATED, terminate, 0, VM_NOT_CREATED },
	{ VM_NOT_CREATED, wait_end, -ERR_STATE, VM_NOT_CREATED },
	{ VM_CREATED, create, -ERR_STATE, VM_CREATED },
	{ VM_CREATED, start, 0, VM_RUNNING },
	{ VM_CREATED, terminate, 0, VM_TERMINATED },
	{ VM_RUNNING, create, -ERR_STATE, VM_RUNNING },
	{ VM_RUNNING, start, 0, VM_RUNNING },
	{ VM_RUNNING, terminate, 0, VM_TERMINATED },
	{ VM_INVALID, create, -ERR_STATE, VM_INVALID },
	{ VM_INVALID, start, -ERR_STATE, VM_INVALID },
	{ VM_INVALID, terminate, 0, VM_TERMINATED },
	{ VM_TERMINATED, create, -ERR_STATE, VM_TERMINATED },
	{ VM_TERMINATED, start, -ERR_STATE, VM_TERMINATED },
	{ VM_TERMINATED, terminate, 0, VM_TERMINATED },
	{ VM_TERMINATED, wait_end, 0, VM_TERMINATED },
};

START_TEST(each_row_of_the_state_table_holds)
{
	const struct row *row = &table[_i];

	reach(row->from);
	ck_assert_int_eq(run(row->call), row->result);
	ck_assert_int_eq(vm_state(vm), row->to);
}
END_TEST

START_TEST(listeners_exist_before_the_vm_boots)
{
	reach(VM_RUNNING);
	ck_assert_str_eq(fake_calls(&f), "create;listen;boot;connect;");
}
END_TEST

START_TEST(the_guest_is_told_the_time_once_it_is_connected_and_when_asked)
{
	vm_set_ops(vm, &ops_with_clock, &f);
	vm_sync_clock(vm);
	reach(VM_RUNNING);
	ck_assert_str_eq(fake_calls(&f), "create;listen;boot;connect;clock;");
	vm_sync_clock(vm);
	run_all();
	ck_assert_str_eq(fake_calls(&f), "clock;");
	ck_assert_int_eq(run(terminate), 0);
	fake_calls(&f);
	vm_sync_clock(vm);
	run_all();
	ck_assert_str_eq(fake_calls(&f), "");
}
END_TEST

START_TEST(the_vm_s_end_ends_what_tells_it_the_time)
{
	static struct call c;

	vm_set_ops(vm, &ops_with_clock, &f);
	f.hold_at = "clock";
	ck_assert_int_eq(run(create), 0);
	co_spawn("start", start, &c, USEC_NEVER);
	run_for(20);
	ck_assert_int_eq(vm_state(vm), VM_RUNNING);
	exited(exited_arg);
	run_all();
	ck_assert_str_eq(fake_calls(&f), "create;listen;boot;connect;clock;disconnect;");
}
END_TEST

START_TEST(a_failed_create_can_be_repeated)
{
	f.fail_at = 1;
	ck_assert_int_eq(run(create), -EIO);
	ck_assert_int_eq(vm_state(vm), VM_NOT_CREATED);
	ck_assert_int_eq(run(create), 0);
}
END_TEST

/* _i is the step that fails: listen, boot, connect. */
START_TEST(a_failed_start_says_the_last_words)
{
	static struct call c;

	reach(VM_CREATED);
	f.fail_at = f.n_calls + 1 + (unsigned)_i;
	memset(&c, 0, sizeof(c));
	in_coroutine(start, &c);
	ck_assert_int_eq(c.result, -EIO);
	ck_assert_ptr_nonnull(strstr(c.err.text, "Kernel panic"));
	ck_assert_int_eq(vm_state(vm), VM_INVALID);
}
END_TEST

START_TEST(a_vm_that_dies_while_it_starts_ends_the_start_at_once)
{
	static struct call c;

	memset(&c, 0, sizeof(c));
	reach(VM_CREATED);
	clean = false;
	f.hold_at = "connect";
	co_spawn("start", start, &c, USEC_NEVER);
	run_for(20);
	ck_assert(!c.done);
	exited(exited_arg);
	run_for(20);
	ck_assert(c.done);
	ck_assert_int_eq(c.result, -ERR_UNAVAILABLE);
	ck_assert_ptr_nonnull(strstr(c.err.text, "Kernel panic"));
	ck_assert_int_eq(vm_state(vm), VM_INVALID);
	ck_assert_int_eq(run(wait_end), 0);
	ck_assert_int_eq(run(terminate), 0);
	ck_assert_uint_eq(vm_exit_status(vm), 1359);
}
END_TEST

START_TEST(a_guest_that_never_dials_fails_the_start_and_the_vm_stays_until_it_is_ended)
{
	static struct call c;

	memset(&c, 0, sizeof(c));
	reach(VM_CREATED);
	f.hold_at = "connect";
	co_spawn("start", start, &c, time_mono() + 20 * USEC_PER_MSEC);
	run_for(50);
	ck_assert_int_eq(c.result, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(c.err.text, "did not answer in time"));
	ck_assert_ptr_nonnull(strstr(c.err.text, "Kernel panic"));
	ck_assert_int_eq(vm_state(vm), VM_INVALID);
	ck_assert_str_eq(fake_calls(&f), "create;listen;boot;connect;disconnect;");
	ck_assert_int_eq(run(terminate), 0);
	ck_assert_str_eq(fake_calls(&f), "terminate;disconnect;disconnect;");
	ck_assert_int_eq(vm_state(vm), VM_TERMINATED);
}
END_TEST

START_TEST(starts_that_come_together_boot_once)
{
	static struct call a, b;

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	reach(VM_CREATED);
	f.hold_at = "boot";
	co_spawn("a", start, &a, USEC_NEVER);
	co_spawn("b", start, &b, USEC_NEVER);
	run_for(20);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.result, 0);
	ck_assert_int_eq(b.result, 0);
	ck_assert_str_eq(fake_calls(&f), "create;listen;boot;connect;");
}
END_TEST

START_TEST(terminating_a_vm_that_starts_ends_the_start)
{
	static struct call a, b;

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	reach(VM_CREATED);
	f.hold_at = "connect";
	co_spawn("start", start, &a, USEC_NEVER);
	run_for(20);
	co_spawn("terminate", terminate, &b, USEC_NEVER);
	run_all();
	ck_assert_int_lt(a.result, 0);
	ck_assert_int_eq(b.result, 0);
	ck_assert_int_eq(vm_state(vm), VM_TERMINATED);
}
END_TEST

START_TEST(the_state_can_be_read_while_the_vm_starts)
{
	static struct call a;

	reach(VM_CREATED);
	f.hold_at = "connect";
	co_spawn("start", start, &a, USEC_NEVER);
	run_for(20);
	ck_assert_int_eq(vm_state(vm), VM_CREATED);
	co_event_set(&f.gate);
	run_all();
}
END_TEST

START_TEST(an_end_of_its_own_is_told_once_and_ends_every_wait)
{
	static struct call c;

	memset(&c, 0, sizeof(c));
	reach(VM_RUNNING);
	co_spawn("wait", wait_end, &c, USEC_NEVER);
	run_for(20);
	ck_assert(!c.done);
	exited(exited_arg);
	run_all();
	ck_assert_int_eq(c.result, 0);
	ck_assert_uint_eq(exits, 1);
	ck_assert_int_eq(vm_state(vm), VM_TERMINATED);
	ck_assert_uint_eq(vm_exit_status(vm), 0);
	ck_assert_uint_ne(vm_exited_at(vm), 0);
}
END_TEST

START_TEST(a_client_that_gives_up_does_not_stop_the_termination)
{
	static struct call c;

	memset(&c, 0, sizeof(c));
	reach(VM_RUNNING);
	f.hold_at = "terminate";

	struct co *co = co_spawn("terminate", terminate, &c, USEC_NEVER);

	run_for(20);
	co_cancel(co);
	run_for(20);
	ck_assert(!c.done);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(vm_state(vm), VM_TERMINATED);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller vm");
	TCase *t = tcase_create("vm");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, each_row_of_the_state_table_holds, 0, ARRAY_SIZE(table));
	tcase_add_test(t, listeners_exist_before_the_vm_boots);
	tcase_add_test(t, the_vm_s_end_ends_what_tells_it_the_time);
	tcase_add_test(t, the_guest_is_told_the_time_once_it_is_connected_and_when_asked);
	tcase_add_test(t, a_failed_create_can_be_repeated);
	tcase_add_loop_test(t, a_failed_start_says_the_last_words, 0, 3);
	tcase_add_test(t, a_vm_that_dies_while_it_starts_ends_the_start_at_once);
	tcase_add_test(t,
		       a_guest_that_never_dials_fails_the_start_and_the_vm_stays_until_it_is_ended);
	tcase_add_test(t, starts_that_come_together_boot_once);
	tcase_add_test(t, terminating_a_vm_that_starts_ends_the_start);
	tcase_add_test(t, the_state_can_be_read_while_the_vm_starts);
	tcase_add_test(t, an_end_of_its_own_is_told_once_and_ends_every_wait);
	tcase_add_test(t, a_client_that_gives_up_does_not_stop_the_termination);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
