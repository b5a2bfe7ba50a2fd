/* SPDX-License-Identifier: Apache-2.0 */
/* container_pause(), container_resume(), container_metrics(): every state has its answer. */
#include <json-c/json.h>

#include "controller/container.h"
#include "controller/fakevm.h"
#include "wire/json.h"

static struct container *c;
static struct err err;
static char *metrics;

static CO void on_exited(const char *id, const struct process_status *s, void *arg) {}

static void setup(void)
{
	struct container_events e = { .exited = on_exited };

	fake_vm_init();
	memset(&err, 0, sizeof(err));
	metrics = NULL;
	c = container_new(&vm.env, "c1", "c1", &e);
}

static void teardown(void)
{
	free(metrics);
	c = container_free(c);
	fake_vm_free();
}

struct call {
	int result;
	bool done;
};

static CO void create_main(void *arg)
{
	struct call *k = arg;
	_cleanup_json_ struct json_object *spec = NULL;
	static const char text[] = "{\"process\":{},\"root\":{\"path\":\"rootfs\"},\"linux\":{}}";
	struct container_request request = { .bundle = vm.bundle };

	ck_assert_int_eq(json_parse(text, strlen(text), &spec, NULL), 0);
	request.spec = spec;
	k->result = container_create(c, &request, &err);
	k->done = true;
}

static CO void start_main(void *arg)
{
	struct call *k = arg;
	uint32_t pid;

	k->result = container_start(c, "", &pid, &err);
	container_started(c, "");
	k->done = true;
}

static CO void pause_main(void *arg)
{
	struct call *k = arg;

	k->result = container_pause(c, &err);
	k->done = true;
}

static CO void resume_main(void *arg)
{
	struct call *k = arg;

	k->result = container_resume(c, &err);
	k->done = true;
}

static CO void exec_main(void *arg)
{
	struct call *k = arg;
	struct stdio_paths io = { 0 };

	k->result = container_exec(c, "e1", &io, json_object_new_object(), &err);
	k->done = true;
}

static CO void delete_main(void *arg)
{
	struct call *k = arg;
	struct process_status status;

	k->result = container_delete(c, "", &status, &err);
	k->done = true;
}

static CO void metrics_main(void *arg)
{
	struct call *k = arg;

	free(metrics);
	metrics = NULL;
	k->result = container_metrics(c, &metrics, &err);
	k->done = true;
}

static int run(CO void (*what)(void *arg))
{
	static struct call k;

	k = (struct call){ 0 };
	co_spawn("test", what, &k, USEC_NEVER);
	for (int i = 0; i < 3000 && !k.done; i++)
		run_for(1);
	ck_assert(k.done);
	return k.result;
}

static void running(void)
{
	ck_assert_int_eq(run(create_main), 0);
	ck_assert_int_eq(run(start_main), 0);
	fake_calls(&vm.f);
}

static void end(void)
{
	fake_exit(0, 137);
	run_for(20);
	ck_assert_int_eq(container_get_state(c), CONTAINER_STOPPED);
}

START_TEST(a_running_container_is_paused_and_resumed_once)
{
	running();
	ck_assert_int_eq(run(resume_main), -ERR_STATE);
	ck_assert_int_eq(run(pause_main), 0);
	ck_assert_int_eq(container_get_state(c), CONTAINER_PAUSED);
	ck_assert_int_eq(run(pause_main), -ERR_STATE);
	ck_assert_int_eq(run(resume_main), 0);
	ck_assert_int_eq(container_get_state(c), CONTAINER_RUNNING);
	ck_assert_str_eq(fake_calls(&vm.f), "freeze c1;thaw c1;");
	end();
}
END_TEST

START_TEST(what_does_not_run_is_not_paused)
{
	ck_assert_int_eq(run(pause_main), -ERR_STATE);
	ck_assert_int_eq(run(create_main), 0);
	ck_assert_int_eq(run(pause_main), -ERR_STATE);
	ck_assert_int_eq(run(resume_main), -ERR_STATE);
	ck_assert_int_eq(run(start_main), 0);
	end();
	ck_assert_int_eq(run(pause_main), -ERR_STATE);
	ck_assert_int_eq(run(resume_main), -ERR_STATE);
}
END_TEST

START_TEST(a_paused_container_takes_no_exec_and_is_not_deleted)
{
	running();
	ck_assert_int_eq(run(pause_main), 0);
	ck_assert_int_eq(run(exec_main), -ERR_STATE);
	ck_assert_str_eq(err.text, "cannot exec in a paused state");
	ck_assert_int_eq(run(delete_main), -ERR_STATE);
	ck_assert_str_eq(err.text, "cannot delete a paused process");
	end();
	ck_assert_int_eq(run(delete_main), 0);
}
END_TEST

START_TEST(a_freezer_that_fails_changes_no_state)
{
	running();
	vm.f.fail_at = vm.f.n_calls + 1;
	ck_assert_int_lt(run(pause_main), 0);
	ck_assert_int_eq(container_get_state(c), CONTAINER_RUNNING);
	end();
}
END_TEST

START_TEST(metrics_that_cannot_be_asked_for_are_the_last_ones)
{
	running();
	vm.properties = "{\"CgroupMetrics\":{}}";
	ck_assert_int_eq(run(metrics_main), 0);
	ck_assert_str_eq(metrics, "{\"CgroupMetrics\":{}}");
	vm.f.fail_at = vm.f.n_calls + 1;
	ck_assert_int_eq(run(metrics_main), 0);
	ck_assert_str_eq(metrics, "{\"CgroupMetrics\":{}}");
	end();
}
END_TEST

START_TEST(metrics_that_nobody_ever_gave_are_an_error)
{
	running();
	vm.f.fail_at = vm.f.n_calls + 1;
	ck_assert_int_lt(run(metrics_main), 0);
	ck_assert_ptr_null(metrics);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller pause");
	TCase *tc = tcase_create("pause");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_running_container_is_paused_and_resumed_once);
	tcase_add_test(tc, what_does_not_run_is_not_paused);
	tcase_add_test(tc, a_paused_container_takes_no_exec_and_is_not_deleted);
	tcase_add_test(tc, a_freezer_that_fails_changes_no_state);
	tcase_add_test(tc, metrics_that_cannot_be_asked_for_are_the_last_ones);
	tcase_add_test(tc, metrics_that_nobody_ever_gave_are_an_error);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
