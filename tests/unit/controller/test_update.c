/* SPDX-License-Identifier: Apache-2.0 */
/* container_update(): a container's limits, what it claims of its VM, and the guest. */
#include "controller/container.h"
#include "controller/fakevm.h"
#include "controller/sizing.h"
#include "wire/json.h"
#include "vmm/vmm.h"

enum { BOOT_MB = 512, MAX_MB = 2048, OVERHEAD_MB = 128, MAX_CPUS = 2 };

static struct container *c, *other;
static struct err err;
static uint64_t mb;
static unsigned n_cpus;

static uint64_t on_memory(void *ctx)
{
	return mb;
}

static unsigned on_cpus(void *ctx)
{
	return n_cpus;
}

static CO int on_grow_memory(void *ctx, uint64_t want, struct err *e)
{
	int r = fake_call(&vm.f, e, "memory %llu", (unsigned long long)want);

	mb = r >= 0 ? want : mb;
	return r;
}

static CO int on_grow_cpus(void *ctx, unsigned want, struct err *e)
{
	int r = fake_call(&vm.f, e, "cpus %u", want);

	n_cpus = r >= 0 ? want : n_cpus;
	return r;
}

static CO int on_limit(void *ctx, struct err *e)
{
	return fake_call(&vm.f, e, "limit");
}

static const struct sizing_ops sizing_ops = {
	on_memory, on_cpus, on_grow_memory, on_grow_cpus, on_limit,
};

static CO void on_exited(const char *id, const struct process_status *s, void *arg) {}

static struct container *new_container(const char *id)
{
	struct container_events e = { .exited = on_exited };

	return container_new(&vm.env, id, id, &e);
}

static void setup(void)
{
	fake_vm_init();
	memset(&err, 0, sizeof(err));
	mb = BOOT_MB;
	n_cpus = 1;
	vm.env.sizing = sizing_new(&sizing_ops, NULL,
				   &(struct vm_config){ .max_memory_mb = MAX_MB,
							.overhead_mb = OVERHEAD_MB,
							.max_cpus = MAX_CPUS });
	c = new_container("c1");
	other = new_container("c2");
}

static void teardown(void)
{
	c = container_free(c);
	other = container_free(other);
	sizing_free(vm.env.sizing);
	fake_vm_free();
}

struct call {
	struct container *container;
	const char *text;
	int result;
	bool done;
};

static CO void create_main(void *arg)
{
	struct call *k = arg;
	_cleanup_json_ struct json_object *spec = NULL;
	_cleanup_free_ char *text = str_printf("{\"process\":{},\"root\":{\"path\":\"rootfs\"},"
					       "\"linux\":{\"resources\":%s}}",
					       k->text);
	struct container_request request = { .bundle = vm.bundle };

	ck_assert_int_eq(json_parse(text, strlen(text), &spec, NULL), 0);
	request.spec = spec;
	k->result = container_create(k->container, &request, &err);
	k->done = true;
}

static CO void start_main(void *arg)
{
	struct call *k = arg;
	uint32_t pid;

	k->result = container_start(k->container, "", &pid, &err);
	container_started(k->container, "");
	k->done = true;
}

static CO void update_main(void *arg)
{
	struct call *k = arg;
	_cleanup_json_ struct json_object *o = NULL;

	ck_assert_int_eq(json_parse(k->text, strlen(k->text), &o, NULL), 0);
	k->result = container_update(k->container, o, &err);
	k->done = true;
}

static CO void hasty_update_main(void *arg)
{
	CO_LIMIT(500 * USEC_PER_MSEC);
	update_main(arg);
}

static CO void delete_main(void *arg)
{
	struct call *k = arg;
	struct process_status status;

	k->result = container_delete(k->container, "", &status, &err);
	k->done = true;
}

/* Only what was asked of the VM's size and of limits; the rest belongs to other tests. */
static void expect(const char *wanted)
{
	_cleanup_strv_ char **all = strv_split(fake_calls(&vm.f), ";"), **seen = NULL;
	_cleanup_free_ char *text = NULL;

	for (char **p = all; p && *p; p++)
		if (str_starts(*p, "memory") || str_starts(*p, "cpus") || str_starts(*p, "limit") ||
		    str_starts(*p, "update"))
			strv_add(&seen, *p);
	text = strv_join(seen, ";");
	ck_assert_str_eq(text, wanted);
}

static int run(CO void (*what)(void *arg), struct container *on, const char *text)
{
	static struct call k;

	k = (struct call){ .container = on, .text = text };
	co_spawn("test", what, &k, USEC_NEVER);
	for (int i = 0; i < 3000 && !k.done; i++)
		run_for(1);
	ck_assert(k.done);
	return k.result;
}

#define GIB "{\"memory\":{\"limit\":1073741824}}"
#define GIB_UPDATE "update c1 " GIB

START_TEST(a_container_is_created_in_a_VM_that_has_what_it_may_use)
{
	ck_assert_int_eq(run(create_main, c, GIB), 0);
	expect("memory 1168;limit");
}
END_TEST

START_TEST(a_container_that_does_not_fit_is_not_created_and_nothing_is_reserved)
{
	ck_assert_int_eq(run(create_main, c, "{\"memory\":{\"limit\":4294967296}}"),
			 -ERR_EXHAUSTED);
	ck_assert_int_eq(container_get_state(c), CONTAINER_INVALID);
	fake_nothing_reserved();
	expect("");
	/* Nor does what it wanted count any more. */
	ck_assert_int_eq(run(create_main, other, GIB), 0);
	expect("memory 1168;limit");
}
END_TEST

START_TEST(the_VM_grows_before_the_guest_is_told_the_limits_as_they_came)
{
	ck_assert_int_eq(run(create_main, c, "{}"), 0);
	ck_assert_int_eq(run(start_main, c, NULL), 0);
	expect("");
	ck_assert_int_eq(run(update_main, c,
			     "{\"cpu\":{\"quota\":150000,\"period\":100000},\"new\":[1],"
			     "\"devices\":[],\"memory\":{\"limit\":1073741824}}"),
			 0);
	expect("memory 1168;cpus 2;limit;"
	       "update c1 {\"cpu\":{\"quota\":150000,\"period\":100000},\"new\":[1],"
	       "\"memory\":{\"limit\":1073741824}}");
	fake_exit(0, 0);
	run_for(20);
}
END_TEST

static const struct row {
	enum container_state state;
	int result;
} rows[] = {
	{ CONTAINER_NOT_CREATED, -ERR_STATE },
	{ CONTAINER_CREATED, 0 },
	{ CONTAINER_RUNNING, 0 },
	{ CONTAINER_STOPPED, -ERR_STATE },
	{ CONTAINER_INVALID, -ERR_STATE },
};

START_TEST(each_state_has_its_answer)
{
	enum container_state state = rows[_i].state;

	if (state == CONTAINER_INVALID)
		vm.f.fail_at = 1;
	if (state != CONTAINER_NOT_CREATED)
		run(create_main, c, "{}");
	if (state == CONTAINER_RUNNING || state == CONTAINER_STOPPED)
		ck_assert_int_eq(run(start_main, c, NULL), 0);
	if (state == CONTAINER_STOPPED) {
		fake_exit(0, 0);
		run_for(20);
	}
	ck_assert_int_eq(container_get_state(c), state);
	expect("");
	ck_assert_int_eq(run(update_main, c, GIB), rows[_i].result);
	expect(rows[_i].result == 0 ? "memory 1168;limit;" GIB_UPDATE : "");
	if (rows[_i].result < 0)
		ck_assert_str_eq(err.text, "cannot update a stopped container");
	if (state == CONTAINER_RUNNING)
		fake_exit(0, 0);
	run_for(20);
}
END_TEST

/* What is asked for when the step that fails is reached: memory, limit, update. */
static const char *const reached[] = { "memory 1168", "memory 1168;limit",
				       "memory 1168;limit;" GIB_UPDATE };

START_TEST(a_step_that_fails_leaves_what_the_container_claimed_before)
{
	ck_assert_int_eq(run(create_main, c, "{}"), 0);
	expect("");
	vm.f.fail_at = vm.f.n_calls + 1 + (unsigned)_i;
	ck_assert_int_eq(run(update_main, c, GIB), -EIO);
	expect(reached[_i]);
	/* Beside 1 GiB this would need 1168 and more; the first has none, so it needs no more. */
	ck_assert_int_eq(run(update_main, c, "{\"pids\":{\"limit\":5}}"), 0);
	mb = 1168;
	fake_calls(&vm.f);
	ck_assert_int_eq(run(create_main, other, GIB), 0);
	expect("");
}
END_TEST

START_TEST(an_update_that_was_not_waited_for_counts_as_done_and_as_not_done)
{
	ck_assert_int_eq(run(create_main, c, "{\"memory\":{\"limit\":805306368}}"), 0);
	expect("memory 908;limit");
	vm.f.hold_at = "update";
	ck_assert_int_eq(run(hasty_update_main, c, GIB), -ETIMEDOUT);
	ck_assert_int_eq(run(hasty_update_main, c, "{\"memory\":{\"limit\":1048576}}"), -ETIMEDOUT);
	vm.f.hold_at = NULL;
	fake_calls(&vm.f);
	ck_assert_int_eq(run(create_main, other, "{\"memory\":{\"limit\":268435456}}"), 0);
	expect("memory 1428;limit");
}
END_TEST

START_TEST(wrong_types_are_named_and_ask_nobody)
{
	ck_assert_int_eq(run(create_main, c, "{}"), 0);
	fake_calls(&vm.f);
	ck_assert_int_eq(run(update_main, c, "{\"memory\":{\"limit\":\"1G\"}}"), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, "memory.limit") != NULL, "%s", err.text);
	ck_assert_int_eq(run(update_main, c, "[1]"), -ERR_INVALID);
	expect("");
}
END_TEST

START_TEST(what_a_container_claimed_is_free_when_it_is_deleted)
{
	ck_assert_int_eq(run(create_main, c, GIB), 0);
	ck_assert_int_eq(run(create_main, other, GIB), -ERR_EXHAUSTED);
	container_free(other);
	other = new_container("c2");
	ck_assert_int_eq(run(delete_main, c, NULL), 0);
	fake_calls(&vm.f);
	ck_assert_int_eq(run(create_main, other, GIB), 0);
	expect("");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller update");
	TCase *tc = tcase_create("update");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_container_is_created_in_a_VM_that_has_what_it_may_use);
	tcase_add_test(tc, a_container_that_does_not_fit_is_not_created_and_nothing_is_reserved);
	tcase_add_test(tc, the_VM_grows_before_the_guest_is_told_the_limits_as_they_came);
	tcase_add_loop_test(tc, each_state_has_its_answer, 0, ARRAY_SIZE(rows));
	tcase_add_loop_test(tc, a_step_that_fails_leaves_what_the_container_claimed_before, 0,
			    ARRAY_SIZE(reached));
	tcase_add_test(tc, an_update_that_was_not_waited_for_counts_as_done_and_as_not_done);
	tcase_add_test(tc, wrong_types_are_named_and_ask_nobody);
	tcase_add_test(tc, what_a_container_claimed_is_free_when_it_is_deleted);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
