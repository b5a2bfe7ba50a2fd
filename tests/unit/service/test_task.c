/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "cgroups2.pb-c.h"
#include "events.pb-c.h"

static int kill_with(const char *exec_id, uint32_t signal)
{
	Containerd__Task__V2__KillRequest *q =
		pb_new(&containerd__task__v2__kill_request__descriptor);
	static struct rpc r;

	pb_str(&q->id, "c1");
	pb_str(&q->exec_id, exec_id);
	q->signal = signal;
	begin(&r, "Kill", q, empty);
	return code_of(&r);
}

static void begin_delete(struct rpc *r, const char *exec_id)
{
	Containerd__Task__V2__DeleteRequest *q =
		pb_new(&containerd__task__v2__delete_request__descriptor);

	pb_str(&q->id, "c1");
	pb_str(&q->exec_id, exec_id);
	begin(r, "Delete", q, &containerd__task__v2__delete_response__descriptor);
}

static int delete_task(const char *id)
{
	Containerd__Task__V2__DeleteRequest *q =
		pb_new(&containerd__task__v2__delete_request__descriptor);
	static struct rpc r;

	pb_str(&q->id, id);
	begin(&r, "Delete", q, &containerd__task__v2__delete_response__descriptor);
	return code_of(&r);
}

static int delete (const char *exec_id)
{
	static struct rpc r;

	begin_delete(&r, exec_id);
	return code_of(&r);
}

static void begin_wait(struct rpc *r, const char *exec_id)
{
	Containerd__Task__V2__WaitRequest *q =
		pb_new(&containerd__task__v2__wait_request__descriptor);

	pb_str(&q->id, "c1");
	pb_str(&q->exec_id, exec_id);
	begin(r, "Wait", q, &containerd__task__v2__wait_response__descriptor);
	run_for(20);
}

/* The exit status that a Wait answers. */
static unsigned waited(struct rpc *r)
{
	ck_assert_int_eq(finish(r), 0);

	Containerd__Task__V2__WaitResponse *reply = (Containerd__Task__V2__WaitResponse *)r->reply;
	unsigned status = reply->exit_status;

	ck_assert_uint_ne(pb_time_ns(reply->exited_at), 0);
	r->reply = pb_free(r->reply);
	return status;
}

static struct rpc updated;

/* @type NULL: without resources. */
static int update(const char *id, const char *type, const char *text)
{
	Containerd__Task__V2__UpdateTaskRequest *q =
		pb_new(&containerd__task__v2__update_task_request__descriptor);

	pb_str(&q->id, id);
	if (type)
		q->resources = pb_any_raw(type, text, strlen(text));
	begin(&updated, "Update", q, empty);
	return code_of(&updated);
}

static void expect_topics(const char *topics)
{
	events_await(&d, strlen(topics), WAIT_MS);
	run_for(20);
	ck_assert_str_eq(events_topics(&d), topics);
}

static Containerd__Events__TaskExit *last_exit(void)
{
	Containerd__Events__TaskExit *e = NULL;

	ck_assert_int_eq(pb_any_unpack(d.last->event, &containerd__events__task_exit__descriptor,
				       &e, NULL),
			 0);
	return e;
}

/* ---- a task's life ---- */

START_TEST(a_task_lives_and_its_events_come_in_order)
{
	static struct rpc r;

	begin_create(&r, "c1", "");
	ck_assert_int_eq(finish(&r), 0);
	ck_assert_uint_eq(((Containerd__Task__V2__CreateTaskResponse *)r.reply)->pid, 42);
	pb_free(r.reply);
	begin_start(&r, "");
	ck_assert_int_eq(finish(&r), 0);
	ck_assert_uint_eq(((Containerd__Task__V2__StartResponse *)r.reply)->pid, FAKE_FIRST_PID);
	pb_free(r.reply);
	exit_of(0, 7);
	expect_topics("/tasks/create;/tasks/start;/tasks/exit;");

	Containerd__Events__TaskExit *e = last_exit();

	ck_assert_str_eq(e->container_id, "c1");
	ck_assert_str_eq(e->id, "c1");
	ck_assert_uint_eq(e->exit_status, 7);
	ck_assert_uint_ne(pb_time_ns(e->exited_at), 0);
	pb_free(e);
	begin_delete(&r, "");
	ck_assert_int_eq(finish(&r), 0);
	ck_assert_uint_eq(((Containerd__Task__V2__DeleteResponse *)r.reply)->exit_status, 7);
	pb_free(r.reply);
	expect_topics("/tasks/delete;");
	fake_nothing_reserved();
	ck_assert_int_eq(delete (""), -ERR_NOT_FOUND);
	ck_assert_int_eq(create("c1"), 0);
}
END_TEST

START_TEST(an_exit_that_overtakes_the_start_s_answer_comes_after_the_start_event)
{
	vm.brief = true;
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	expect_topics("/tasks/create;/tasks/start;/tasks/exit;");
}
END_TEST

START_TEST(an_exec_has_events_of_its_own_and_none_for_its_delete)
{
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	ck_assert_int_eq(start("e1"), 0);
	exit_of(1, 3);
	expect_topics(
		"/tasks/create;/tasks/start;/tasks/exec-added;/tasks/exec-started;/tasks/exit;");

	Containerd__Events__TaskExit *e = last_exit();

	ck_assert_str_eq(e->container_id, "c1");
	ck_assert_str_eq(e->id, "e1");
	ck_assert_uint_eq(e->exit_status, 3);
	pb_free(e);
	ck_assert_int_eq(delete ("e1"), 0);
	expect_topics("");
}
END_TEST

START_TEST(the_state_of_an_exec_has_the_exec_s_id)
{
	Containerd__Task__V2__StateRequest *q =
		pb_new(&containerd__task__v2__state_request__descriptor);
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	pb_str(&q->id, "c1");
	pb_str(&q->exec_id, "e1");
	begin(&r, "State", q, &containerd__task__v2__state_response__descriptor);
	ck_assert_int_eq(finish(&r), 0);

	Containerd__Task__V2__StateResponse *state = (Containerd__Task__V2__StateResponse *)r.reply;

	ck_assert_str_eq(state->id, "e1");
	ck_assert_str_eq(state->bundle, vm.bundle);
	ck_assert_int_eq(state->status, CONTAINERD__V1__TYPES__STATUS__CREATED);
	pb_free(state);
}
END_TEST

/* ---- Wait ---- */

START_TEST(a_wait_is_parked_until_the_exit_and_then_answered_each_time)
{
	static struct rpc early, again, late;

	ck_assert_int_eq(create("c1"), 0);
	begin_wait(&early, "");
	ck_assert_int_eq(start(""), 0);
	begin_wait(&again, "");
	ck_assert(!early.done && !again.done);
	exit_of(0, 9);
	ck_assert_uint_eq(waited(&early), 9);
	ck_assert_uint_eq(waited(&again), 9);
	begin_wait(&late, "");
	ck_assert_uint_eq(waited(&late), 9);
}
END_TEST

START_TEST(the_exit_of_an_exec_answers_its_own_waits_only)
{
	static struct rpc init, exec;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	begin_wait(&exec, "e1");
	begin_wait(&init, "");
	ck_assert_int_eq(start("e1"), 0);
	exit_of(1, 3);
	ck_assert_uint_eq(waited(&exec), 3);
	ck_assert(!init.done);
	exit_of(0, 4);
	ck_assert_uint_eq(waited(&init), 4);
}
END_TEST

/* _i: init, or an exec. */
START_TEST(killing_what_was_never_started_answers_its_waits)
{
	const char *exec_id = _i ? "e1" : "";
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	if (_i) {
		ck_assert_int_eq(start(""), 0);
		ck_assert_int_eq(add_exec("e1"), 0);
		expect_topics("/tasks/create;/tasks/start;/tasks/exec-added;");
	} else {
		expect_topics("/tasks/create;");
	}
	begin_wait(&r, exec_id);
	ck_assert_int_eq(kill_with(exec_id, 15), 0);
	ck_assert_uint_eq(waited(&r), 143);
	expect_topics("/tasks/exit;");
	ck_assert_int_eq(kill_with(exec_id, 15), -ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_start_that_fails_answers_the_waits_with_code_1)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	if (_i) {
		ck_assert_int_eq(start(""), 0);
		ck_assert_int_eq(add_exec("e1"), 0);
	}
	begin_wait(&r, _i ? "e1" : "");
	vm.f.fail_at = vm.f.n_calls + 1;
	ck_assert_int_lt(start(_i ? "e1" : ""), 0);
	ck_assert_uint_eq(waited(&r), 1);
}
END_TEST

START_TEST(deleting_what_was_never_started_answers_its_waits_with_code_0)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	begin_wait(&r, "");
	ck_assert_int_eq(delete (""), 0);
	ck_assert_uint_eq(waited(&r), 0);
}
END_TEST

START_TEST(deleting_an_exec_that_was_never_started_answers_its_waits_with_code_0)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	begin_wait(&r, "e1");
	ck_assert_int_eq(delete ("e1"), 0);
	ck_assert_uint_eq(waited(&r), 0);
}
END_TEST

START_TEST(deleting_a_task_answers_the_waits_for_its_execs_with_their_own_code)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	ck_assert_int_eq(start("e1"), 0);
	begin_wait(&r, "e1");
	exit_of(0, 0);
	expect_topics(
		"/tasks/create;/tasks/start;/tasks/exec-added;/tasks/exec-started;/tasks/exit;");
	ck_assert_int_eq(delete (""), 0);
	ck_assert_uint_eq(waited(&r), 137);
	expect_topics("/tasks/exit;/tasks/delete;");
}
END_TEST

START_TEST(a_wait_of_a_client_that_left_harms_nothing)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	begin_wait(&r, "");
	client = ttrpc_client_free(client);
	run_for(20);
	pb_free(r.request);
	exit_of(0, 0);
	expect_topics("/tasks/create;/tasks/start;/tasks/exit;");
}
END_TEST

/* ---- Create and Delete that go wrong ---- */

START_TEST(an_id_is_taken_while_its_task_lives)
{
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(create("c1"), -ERR_EXISTS);
	expect_topics("/tasks/create;");
}
END_TEST

START_TEST(a_task_is_nobodys_while_it_is_being_created)
{
	static struct rpc r;

	vm.f.hold_at = "create c1";
	begin_create(&r, "c1", "");
	run_for(20);
	ck_assert(!r.done);
	ck_assert_int_eq(create("c1"), -ERR_EXISTS);
	ck_assert_int_eq(delete (""), -ERR_NOT_FOUND);
	ck_assert_int_eq(start(""), -ERR_NOT_FOUND);
	co_event_set(&vm.f.gate);
	ck_assert_int_eq(code_of(&r), 0);
}
END_TEST

START_TEST(a_create_that_fails_leaves_the_id_free_and_publishes_nothing)
{
	vm.f.fail_at = 3;
	ck_assert_int_lt(create("c1"), 0);
	fake_nothing_reserved();
	ck_assert_int_eq(delete (""), -ERR_NOT_FOUND);
	expect_topics("");
	ck_assert_int_eq(create("c1"), 0);
}
END_TEST

#define LINUX_RESOURCES "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

START_TEST(an_update_reaches_the_guest_as_it_came)
{
	ck_assert_int_eq(create("c1"), 0);
	fake_calls(&vm.f);
	ck_assert_int_eq(update("c1", LINUX_RESOURCES, "{\"pids\":{\"limit\":7}}"), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "update c1 {\"pids\":{\"limit\":7}};");
	ck_assert_int_eq(start(""), 0);
	exit_of(0, 0);
	ck_assert_int_eq(update("c1", LINUX_RESOURCES, "{}"), -ERR_STATE);
	ck_assert_ptr_nonnull(
		strstr(updated.err.text, "update c1: cannot update a stopped container"));
}
END_TEST

static const struct bad_update {
	const char *id;
	const char *type;
	const char *text;
	int code;
	const char *says;
} bad_updates[] = {
	{ "c2", LINUX_RESOURCES, "{}", -ERR_NOT_FOUND, "c2: container not created: not found" },
	{ "c1", NULL, NULL, -ERR_INVALID, "resources are missing" },
	{ "c1", "types.example/Windows", "{}", -ERR_INVALID, "types.example/Windows" },
	{ "c1", "", "{}", -ERR_INVALID, "not supported" },
	{ "c1", LINUX_RESOURCES, "", -ERR_INVALID, "update c1" },
	{ "c1", LINUX_RESOURCES, "{", -ERR_INVALID, "update c1" },
	{ "c1", LINUX_RESOURCES, "null", -ERR_INVALID, "update c1" },
	{ "c1", LINUX_RESOURCES, "[]", -ERR_INVALID, "update c1" },
	{ "c1", LINUX_RESOURCES, "{\"cpu\":{\"quota\":true}}", -ERR_INVALID, "cpu.quota" },
};

START_TEST(a_bad_update_says_what_is_wrong_and_asks_nobody)
{
	const struct bad_update *b = &bad_updates[_i];

	ck_assert_int_eq(create("c1"), 0);
	fake_calls(&vm.f);
	ck_assert_int_eq(update(b->id, b->type, b->text), b->code);
	ck_assert_msg(strstr(updated.err.text, b->says) != NULL, "%s", updated.err.text);
	ck_assert_str_eq(fake_calls(&vm.f), "");
}
END_TEST

START_TEST(a_create_never_answers_unimplemented)
{
	static struct rpc r;

	begin_create(&r, "c1", "nfs:///export");
	ck_assert_int_eq(code_of(&r), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(r.err.text, "nfs:///export"));
}
END_TEST

#define ID "\"io.kubernetes.cri.sandbox-id\":"
#define TYPE "\"io.kubernetes.cri.container-type\":"

static const struct {
	const char *annotations;
	int code;
} pods[] = {
	{ "{}", 0 },
	{ "{" TYPE "\"sandbox\"," ID "\"c1\"}", 0 },
	{ "{" TYPE "\"container\"," ID "\"p1\"}", -ERR_NOT_FOUND },
	{ "{" TYPE "\"sandbox\"," ID "\"p1\"}", -ERR_INVALID },
	{ "{" TYPE "\"other\"," ID "\"c1\"}", -ERR_INVALID },
	{ "{" TYPE "\"container\"}", -ERR_INVALID },
	{ "{" TYPE "\"container\"," ID "\"../p1\"}", -ERR_INVALID },
	{ "{" ID "\"p1\"}", -ERR_INVALID },
};

START_TEST(the_annotations_must_make_sense)
{
	_cleanup_free_ char *text = str_printf("{\"process\":{},\"root\":{\"path\":\"rootfs\"},"
					       "\"linux\":{},\"annotations\":%s}",
					       pods[_i].annotations);

	write_spec(text);
	ck_assert_int_eq(create("c1"), pods[_i].code);
}
END_TEST

#define MEMBER \
	"{\"process\":{},\"root\":{\"path\":\"rootfs\"},\"linux\":{},\"annotations\":{" TYPE \
	"\"container\"," ID "\"c1\"}}"

START_TEST(a_pod_is_made_by_its_sandbox_container_and_there_for_all_that_come_while_it_lives)
{
	write_spec(MEMBER);
	ck_assert_int_eq(create("m1"), -ERR_NOT_FOUND);
	write_spec("{\"process\":{},\"root\":{\"path\":\"rootfs\"},\"linux\":{}}");
	ck_assert_int_eq(create("c1"), 0);
	write_spec(MEMBER);
	ck_assert_int_eq(create("m1"), 0);
	/* It ends with its last container, whichever that is. */
	ck_assert_int_eq(delete_task("c1"), 0);
	ck_assert_int_eq(create("m2"), 0);
	ck_assert_int_eq(delete_task("m1"), 0);
	ck_assert_int_eq(delete_task("m2"), 0);
	ck_assert_int_eq(create("m3"), -ERR_NOT_FOUND);
}
END_TEST

/* ---- pause, stats, out of memory ---- */

static int set_paused(bool paused)
{
	static struct rpc r;

	if (paused) {
		Containerd__Task__V2__PauseRequest *q =
			pb_new(&containerd__task__v2__pause_request__descriptor);

		pb_str(&q->id, "c1");
		begin(&r, "Pause", q, empty);
	} else {
		Containerd__Task__V2__ResumeRequest *q =
			pb_new(&containerd__task__v2__resume_request__descriptor);

		pb_str(&q->id, "c1");
		begin(&r, "Resume", q, empty);
	}
	return code_of(&r);
}

static unsigned status_of(void)
{
	Containerd__Task__V2__StateRequest *q =
		pb_new(&containerd__task__v2__state_request__descriptor);
	static struct rpc r;

	pb_str(&q->id, "c1");
	begin(&r, "State", q, &containerd__task__v2__state_response__descriptor);
	ck_assert_int_eq(finish(&r), 0);

	unsigned status = ((Containerd__Task__V2__StateResponse *)r.reply)->status;

	r.reply = pb_free(r.reply);
	return status;
}

START_TEST(a_pause_and_its_end_are_told_and_set_the_guest_s_clock)
{
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	run_for(20);

	unsigned before = clocks_set;

	ck_assert_int_eq(set_paused(true), 0);
	ck_assert_uint_eq(status_of(), CONTAINERD__V1__TYPES__STATUS__PAUSED);
	ck_assert_int_eq(set_paused(false), 0);
	ck_assert_uint_eq(status_of(), CONTAINERD__V1__TYPES__STATUS__RUNNING);
	expect_topics("/tasks/create;/tasks/start;/tasks/paused;/tasks/resumed;");
	ck_assert_uint_eq(clocks_set, before + 1);
}
END_TEST

START_TEST(a_pause_that_fails_is_not_told)
{
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(set_paused(true), -ERR_STATE);
	ck_assert_int_eq(set_paused(false), -ERR_STATE);
	ck_assert_int_eq(start(""), 0);
	vm.f.fail_at = vm.f.n_calls + 1;
	ck_assert_int_lt(set_paused(true), 0);
	ck_assert_uint_eq(status_of(), CONTAINERD__V1__TYPES__STATUS__RUNNING);
	expect_topics("/tasks/create;/tasks/start;");
}
END_TEST

static struct rpc measured;

static int stats(Io__Containerd__Cgroups__V2__Metrics **ret)
{
	Containerd__Task__V2__StatsRequest *q =
		pb_new(&containerd__task__v2__stats_request__descriptor);

	pb_str(&q->id, "c1");
	begin(&measured, "Stats", q, &containerd__task__v2__stats_response__descriptor);

	int r = finish(&measured);

	if (r >= 0)
		ck_assert_int_eq(pb_any_unpack(((Containerd__Task__V2__StatsResponse *)
							measured.reply)
						       ->stats,
					       &io__containerd__cgroups__v2__metrics__descriptor,
					       ret, NULL),
				 0);
	measured.reply = pb_free(measured.reply);
	return r;
}

START_TEST(stats_are_what_the_guest_measured)
{
	Io__Containerd__Cgroups__V2__Metrics *m;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	vm.properties = "{\"CgroupMetrics\":{\"pids\":{\"current\":3,\"limit\":9},"
			"\"cpu\":{\"usage_usec\":77}}}";
	ck_assert_int_eq(stats(&m), 0);
	ck_assert_uint_eq(m->pids->current, 3);
	ck_assert_uint_eq(m->cpu->usage_usec, 77);
	ck_assert_ptr_null(m->memory);
	pb_free(m);
}
END_TEST

START_TEST(stats_of_hcsshim_s_guest_get_the_names_and_units_of_cgroup_v2)
{
	Io__Containerd__Cgroups__V2__Metrics *m;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	vm.properties = "{\"LCOWMetrics\":{\"pids\":{\"current\":2},"
			"\"cpu\":{\"usage\":{\"total\":5000,\"user\":3000,\"kernel\":2000},"
			"\"throttling\":{\"periods\":4,\"throttled_time\":9000}},"
			"\"memory\":{\"rss\":10,\"cache\":20,\"usage\":{\"usage\":40,"
			"\"limit\":18446744073709551615,\"max\":50},\"swap\":{\"usage\":\"?\"}},"
			"\"memory_oom_control\":{\"oom_kill\":1}}}";
	ck_assert_int_eq(stats(&m), 0);
	ck_assert_uint_eq(m->pids->current, 2);
	ck_assert_uint_eq(m->cpu->usage_usec, 5);
	ck_assert_uint_eq(m->cpu->user_usec, 3);
	ck_assert_uint_eq(m->cpu->system_usec, 2);
	ck_assert_uint_eq(m->cpu->nr_periods, 4);
	ck_assert_uint_eq(m->cpu->throttled_usec, 9);
	ck_assert_uint_eq(m->memory->anon, 10);
	ck_assert_uint_eq(m->memory->file, 20);
	ck_assert_uint_eq(m->memory->usage, 40);
	ck_assert_uint_eq(m->memory->usage_limit, UINT64_MAX);
	ck_assert_uint_eq(m->memory->max_usage, 50);
	ck_assert_uint_eq(m->memory->swap_usage, 0);
	ck_assert_uint_eq(m->memory_events->oom_kill, 1);
	pb_free(m);
}
END_TEST

static const char *const bad_metrics[] = {
	"",
	"[]",
	"{\"CgroupMetrics\":[]}",
	"{\"CgroupMetrics\":{\"pids\":{\"current\":\"3\"}}}",
};

START_TEST(stats_that_make_no_sense_are_an_error)
{
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	vm.properties = bad_metrics[_i];
	ck_assert_int_eq(stats(NULL), -ERR_INVALID);
}
END_TEST

START_TEST(an_oom_kill_is_told_once_for_every_new_count)
{
	ck_assert_int_eq(create("c1"), 0);
	task_oom("c1", 1, s);
	task_oom("c1", 1, s);
	task_oom("c1", 3, s);
	task_oom("c2", 1, s);
	expect_topics("/tasks/create;/tasks/oom;/tasks/oom;");
}
END_TEST

static const char *const bad_ids[] = { "", "..", "a/b", "a b" };

START_TEST(an_id_that_is_no_part_of_a_path_is_refused)
{
	ck_assert_int_eq(create(bad_ids[_i]), -ERR_INVALID);
}
END_TEST

START_TEST(a_delete_that_fails_can_be_repeated_and_is_published_once)
{
	ck_assert_int_eq(create("c1"), 0);
	vm.f.fail_at = vm.f.n_calls + 1;
	ck_assert_int_lt(delete (""), 0);
	expect_topics("/tasks/create;");
	ck_assert_int_eq(delete (""), 0);
	expect_topics("/tasks/delete;");
}
END_TEST

START_TEST(deletes_that_come_together_are_published_once)
{
	static struct rpc a, b;

	ck_assert_int_eq(create("c1"), 0);
	vm.f.hold_at = "delete c1";
	begin_delete(&a, "");
	begin_delete(&b, "");
	run_for(20);
	ck_assert(!a.done && !b.done);
	ck_assert_int_eq(create("c1"), -ERR_EXISTS);
	co_event_set(&vm.f.gate);
	ck_assert_int_eq(code_of(&a), 0);
	ck_assert_int_eq(code_of(&b), 0);
	expect_topics("/tasks/create;/tasks/delete;");
	fake_nothing_reserved();
}
END_TEST

START_TEST(a_running_task_cannot_be_deleted)
{
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(delete (""), -ERR_STATE);
}
END_TEST

/* ---- what is not there ---- */

struct answer_of {
	const char *method;
	const ProtobufCMessageDescriptor *request, *reply;
	int code;
};

static const struct answer_of unknown[] = {
	{ "State", &containerd__task__v2__state_request__descriptor,
	  &containerd__task__v2__state_response__descriptor, -ERR_NOT_FOUND },
	{ "Start", &containerd__task__v2__start_request__descriptor,
	  &containerd__task__v2__start_response__descriptor, -ERR_NOT_FOUND },
	{ "Delete", &containerd__task__v2__delete_request__descriptor,
	  &containerd__task__v2__delete_response__descriptor, -ERR_NOT_FOUND },
	{ "Pids", &containerd__task__v2__pids_request__descriptor,
	  &containerd__task__v2__pids_response__descriptor, -ERR_NOT_FOUND },
	{ "Kill", &containerd__task__v2__kill_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_NOT_FOUND },
	{ "Exec", &containerd__task__v2__exec_process_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_NOT_FOUND },
	{ "ResizePty", &containerd__task__v2__resize_pty_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_NOT_FOUND },
	{ "CloseIO", &containerd__task__v2__close_iorequest__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_NOT_FOUND },
	{ "Wait", &containerd__task__v2__wait_request__descriptor,
	  &containerd__task__v2__wait_response__descriptor, -ERR_NOT_FOUND },
	{ "Connect", &containerd__task__v2__connect_request__descriptor,
	  &containerd__task__v2__connect_response__descriptor, -ERR_NOT_FOUND },
	{ "Pause", &containerd__task__v2__pause_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_NOT_FOUND },
	{ "Resume", &containerd__task__v2__resume_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_NOT_FOUND },
	{ "Update", &containerd__task__v2__update_task_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_NOT_FOUND },
	{ "Stats", &containerd__task__v2__stats_request__descriptor,
	  &containerd__task__v2__stats_response__descriptor, -ERR_NOT_FOUND },
};

START_TEST(a_task_that_is_not_there_is_not_found)
{
	static struct rpc r;

	begin(&r, unknown[_i].method, pb_new(unknown[_i].request), unknown[_i].reply);
	ck_assert_int_eq(code_of(&r), unknown[_i].code);
}
END_TEST

START_TEST(connecting_to_the_sandbox_succeeds_without_a_task)
{
	Containerd__Task__V2__ConnectRequest *q =
		pb_new(&containerd__task__v2__connect_request__descriptor);
	static struct rpc r;

	pb_str(&q->id, "c1");
	begin(&r, "Connect", q, &containerd__task__v2__connect_response__descriptor);
	ck_assert_int_eq(finish(&r), 0);
	ck_assert_uint_eq(((Containerd__Task__V2__ConnectResponse *)r.reply)->shim_pid,
			  (unsigned)getpid());
	pb_free(r.reply);
}
END_TEST

START_TEST(both_versions_of_the_service_are_served)
{
	Containerd__Task__V2__ConnectRequest *q =
		pb_new(&containerd__task__v2__connect_request__descriptor);
	static struct rpc r;

	pb_str(&q->id, "c1");
	begin(&r, "Connect", q, &containerd__task__v2__connect_response__descriptor);
	r.service = "containerd.task.v2.Task";
	ck_assert_int_eq(code_of(&r), 0);
}
END_TEST

/* ---- the end ---- */

START_TEST(shutdown_ends_a_service_without_tasks_only)
{
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(shut_down(), 0);
	run_for(50);
	ck_assert_uint_eq(dones, 0);
	ck_assert_int_eq(delete (""), 0);
	ck_assert_int_eq(shut_down(), 0);
	ck_assert_int_eq(shut_down(), 0);
	run_for(100);
	ck_assert_uint_eq(dones, 1);
	expect_topics("/tasks/create;/tasks/delete;");
}
END_TEST

START_TEST(the_end_of_the_sandbox_is_every_task_s_exit)
{
	static struct rpc a, b;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	ck_assert_int_eq(start("e1"), 0);
	begin_wait(&a, "");
	begin_wait(&b, "e1");
	expect_topics("/tasks/create;/tasks/start;/tasks/exec-added;/tasks/exec-started;");
	service_shutdown(s);
	ck_assert_uint_eq(waited(&a), 255);
	ck_assert_uint_eq(waited(&b), 255);
	run_for(100);
	ck_assert_uint_eq(dones, 1);
	/* All of it was told before the process may end. */
	ck_assert_uint_eq(seen_when_done, strlen("/tasks/exit;/tasks/exit;"));
	expect_topics("/tasks/exit;/tasks/exit;");
	ck_assert_int_lt(create("c2"), 0);
}
END_TEST

START_TEST(a_vm_that_dies_leaves_tasks_that_can_be_deleted)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	begin_wait(&r, "");
	vm_exited(vm_exited_arg);
	ck_assert_uint_eq(waited(&r), 255);
	ck_assert_int_eq(kill_with("", 9), -ERR_NOT_FOUND);
	ck_assert_int_eq(delete (""), 0);
	expect_topics("/tasks/create;/tasks/start;/tasks/exit;/tasks/delete;");
	fake_nothing_reserved();
	ck_assert_int_eq(create("c1"), -ERR_STATE);
}
END_TEST

/* What a request with nothing but the id of a task is answered once the VM has ended. */
static const struct answer_of ended[] = {
	{ "State", &containerd__task__v2__state_request__descriptor,
	  &containerd__task__v2__state_response__descriptor, 0 },
	{ "Wait", &containerd__task__v2__wait_request__descriptor,
	  &containerd__task__v2__wait_response__descriptor, 0 },
	{ "Connect", &containerd__task__v2__connect_request__descriptor,
	  &containerd__task__v2__connect_response__descriptor, 0 },
	{ "Pids", &containerd__task__v2__pids_request__descriptor,
	  &containerd__task__v2__pids_response__descriptor, 0 },
	{ "CloseIO", &containerd__task__v2__close_iorequest__descriptor,
	  &google__protobuf__empty__descriptor, 0 },
	{ "Shutdown", &containerd__task__v2__shutdown_request__descriptor,
	  &google__protobuf__empty__descriptor, 0 },
	{ "Start", &containerd__task__v2__start_request__descriptor,
	  &containerd__task__v2__start_response__descriptor, -ERR_STATE },
	{ "ResizePty", &containerd__task__v2__resize_pty_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_STATE },
	{ "Pause", &containerd__task__v2__pause_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_STATE },
	{ "Resume", &containerd__task__v2__resume_request__descriptor,
	  &google__protobuf__empty__descriptor, -ERR_STATE },
	{ "Stats", &containerd__task__v2__stats_request__descriptor,
	  &containerd__task__v2__stats_response__descriptor, -ERR_UNAVAILABLE },
};

START_TEST(once_the_vm_has_ended_what_needs_it_is_refused_and_the_rest_is_answered)
{
	/* The id is the first field of each. */
	Containerd__Task__V2__StateRequest *q = pb_new(ended[_i].request);
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	vm_exited(vm_exited_arg);
	run_for(20);
	pb_str(&q->id, "c1");
	begin(&r, ended[_i].method, q, ended[_i].reply);
	ck_assert_int_eq(code_of(&r), ended[_i].code);
	ck_assert_int_eq(add_exec("e1"), -ERR_STATE);
	ck_assert_int_eq(update("c1", LINUX_RESOURCES, "{}"), -ERR_STATE);
	ck_assert_uint_eq(dones, 0);
	ck_assert_int_eq(delete (""), 0);
}
END_TEST

START_TEST(a_service_can_be_freed_with_waits_parked)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	begin_wait(&r, "");
	pb_free(r.request);
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_task_lives_and_its_events_come_in_order);
	tcase_add_test(t, an_exit_that_overtakes_the_start_s_answer_comes_after_the_start_event);
	tcase_add_test(t, an_exec_has_events_of_its_own_and_none_for_its_delete);
	tcase_add_test(t, the_state_of_an_exec_has_the_exec_s_id);
	tcase_add_test(t, a_wait_is_parked_until_the_exit_and_then_answered_each_time);
	tcase_add_test(t, the_exit_of_an_exec_answers_its_own_waits_only);
	tcase_add_loop_test(t, killing_what_was_never_started_answers_its_waits, 0, 2);
	tcase_add_loop_test(t, a_start_that_fails_answers_the_waits_with_code_1, 0, 2);
	tcase_add_test(t, deleting_what_was_never_started_answers_its_waits_with_code_0);
	tcase_add_test(t, deleting_an_exec_that_was_never_started_answers_its_waits_with_code_0);
	tcase_add_test(t, deleting_a_task_answers_the_waits_for_its_execs_with_their_own_code);
	tcase_add_test(t, a_wait_of_a_client_that_left_harms_nothing);
	tcase_add_test(t, an_id_is_taken_while_its_task_lives);
	tcase_add_test(t, a_task_is_nobodys_while_it_is_being_created);
	tcase_add_test(t, a_create_that_fails_leaves_the_id_free_and_publishes_nothing);
	tcase_add_test(t, an_update_reaches_the_guest_as_it_came);
	tcase_add_loop_test(t, a_bad_update_says_what_is_wrong_and_asks_nobody, 0,
			    ARRAY_SIZE(bad_updates));
	tcase_add_test(t, a_pause_and_its_end_are_told_and_set_the_guest_s_clock);
	tcase_add_test(t, a_pause_that_fails_is_not_told);
	tcase_add_test(t, stats_are_what_the_guest_measured);
	tcase_add_test(t, stats_of_hcsshim_s_guest_get_the_names_and_units_of_cgroup_v2);
	tcase_add_loop_test(t, stats_that_make_no_sense_are_an_error, 0, ARRAY_SIZE(bad_metrics));
	tcase_add_test(t, an_oom_kill_is_told_once_for_every_new_count);
	tcase_add_test(t, a_create_never_answers_unimplemented);
	tcase_add_loop_test(t, the_annotations_must_make_sense, 0, ARRAY_SIZE(pods));
	tcase_add_test(
		t,
		a_pod_is_made_by_its_sandbox_container_and_there_for_all_that_come_while_it_lives);
	tcase_add_loop_test(t, an_id_that_is_no_part_of_a_path_is_refused, 0, ARRAY_SIZE(bad_ids));
	tcase_add_test(t, a_delete_that_fails_can_be_repeated_and_is_published_once);
	tcase_add_test(t, deletes_that_come_together_are_published_once);
	tcase_add_test(t, a_running_task_cannot_be_deleted);
	tcase_add_loop_test(t, a_task_that_is_not_there_is_not_found, 0, ARRAY_SIZE(unknown));
	tcase_add_test(t, connecting_to_the_sandbox_succeeds_without_a_task);
	tcase_add_test(t, both_versions_of_the_service_are_served);
	tcase_add_test(t, shutdown_ends_a_service_without_tasks_only);
	tcase_add_test(t, the_end_of_the_sandbox_is_every_task_s_exit);
	tcase_add_test(t, a_vm_that_dies_leaves_tasks_that_can_be_deleted);
	tcase_add_loop_test(t,
			    once_the_vm_has_ended_what_needs_it_is_refused_and_the_rest_is_answered,
			    0, ARRAY_SIZE(ended));
	tcase_add_test(t, a_service_can_be_freed_with_waits_parked);
}

int main(void)
{
	Suite *suite = suite_create("service task");
	TCase *t = tcase_create("task");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	add_tests(t);
	suite_add_tcase(suite, t);

	SRunner *r = srunner_create(suite);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
