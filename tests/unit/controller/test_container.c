/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/container.h"

#include <json-c/json.h>

#include "controller/fakevm.h"
#include "wire/json.h"

static const char spec_text[] =
	"{\"process\":{\"args\":[\"sh\"]},\"root\":{\"path\":\"rootfs\"},\"linux\":{},\"mounts\":["
	"{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
	"{\"destination\":\"/v\",\"type\":\"bind\",\"source\":\"%s/"
	"volume\",\"options\":[\"rbind\",\"rw\"]},"
	"{\"destination\":\"/f\",\"type\":\"bind\",\"source\":\"%s/"
	"file\",\"options\":[\"rbind\",\"ro\"]},"
	"{\"destination\":\"/d\",\"type\":\"virtual-disk\",\"source\":\"%s/file\"},"
	"{\"destination\":\"blockdev:///dev/x\",\"type\":\"virtual-disk\",\"source\":\"%s/file\","
	"\"options\":[\"ro\"]},"
	"{\"destination\":\"/s\",\"type\":\"uds\",\"source\":\"%s/sock\"}],"
	"\"windows\":{\"devices\":[{\"idType\":\"vpci\",\"id\":\"3b:00.0\"}]}}";

#define COMBINE \
	"combine /run/mounts/plan9/0 at /run/gcs/pods/p1/c1/rootfs on " \
	"/run/mounts/scsi/0_0_0/scratch/p1/c1"

/* What Create and Delete ask for, in order; the fault tests fail each in turn. */
static const char *const create_calls[] = {
	"share 0 rootfs ro",
	"mount 0",
	"attach 0:0 c1.img rw",
	"mount 0:0 ensure",
	COMBINE,
	"share 1 volume rw",
	"mount 1",
	"share 2 file of %s ro",
	"mount 2",
	"open",
	"listen /run/mounts/uds/0/socket 1000 640",
	"attach 0:1 file rw",
	"mount 0:1",
	"attach 0:2 file ro",
	"mount 0:2 ro blockdev",
	"add 0000:3b:00.0 -1",
	"await",
	"create c1",
};
static const char *const delete_calls[] = {
	"take apart /run/gcs/pods/p1/c1/rootfs",
	"delete c1",
	"unmount 0:0",
	"eject 0:0",
	"detach 0:0",
	"unmount 0",
	"unshare 0",
	"unmount 1",
	"unshare 1",
	"unmount 2",
	"unshare 2",
	"unlisten /run/mounts/uds/0/socket",
	"remove",
	"unmount 0:1",
	"eject 0:1",
	"detach 0:1",
	"unmount 0:2",
	"eject 0:2",
	"detach 0:2",
};

static struct container *c;
static struct json_object *spec;
static struct buf events;
static struct err err;
static const char *missing_out;

static CO void on_exited(const char *container, const struct process_status *s, void *arg)
{
	buf_addf(&events, "%s/%s %u;", container, s->exec_id, s->exit_status);
}

static const char *events_seen(void)
{
	static char text[512];

	snprintf(text, sizeof(text), "%.*s", (int)events.len,
		 events.data ? (char *)events.data : "");
	buf_eat(&events, events.len);
	return text;
}

static struct container *new_container(void)
{
	struct container_events e = { .exited = on_exited };

	return container_new(&vm.env, "c1", "p1", &e);
}

static void setup(void)
{
	fake_vm_init();
	memset(&err, 0, sizeof(err));

	_cleanup_free_ char *text = str_printf(spec_text, vm.dir, vm.dir, vm.dir, vm.dir, vm.dir);
	_cleanup_free_ char *socket = str_printf("%s/sock", vm.dir);

	fake_unix_socket(socket);

	ck_assert_int_eq(json_parse(text, strlen(text), &spec, NULL), 0);
	missing_out = NULL;
	c = new_container();
}

static void teardown(void)
{
	c = container_free(c);
	fake_vm_free();
	json_put(spec);
	buf_free(&events);
}

/* Calls on the container, and what became of them. */

struct call {
	int result;
	bool done;
	uint32_t pid;
	struct process_status status;
	struct err err;
};

#define CALL(name, expression) \
	static CO void name(void *arg) \
	{ \
		struct call *k = arg; \
\
		k->result = expression; \
		k->done = true; \
	}

static CO int do_create(struct err *e)
{
	struct container_request request = { .bundle = vm.bundle,
					     .spec = spec,
					     .io = { .out = missing_out } };

	return container_create(c, &request, e);
}

static CO int do_start(const char *exec_id, struct call *k)
{
	int r = container_start(c, exec_id, &k->pid, &k->err);

	if (r >= 0)
		container_started(c, exec_id);
	return r;
}

static int do_exec(const char *exec_id, struct err *e)
{
	struct stdio_paths io = { 0 };

	return container_exec(c, exec_id, &io, json_object_new_object(), e);
}

static CO int do_pids(char **ret, struct err *e)
{
	_cleanup_free_ uint32_t *pids = NULL;
	_cleanup_free_ const char **exec_ids = NULL;
	struct buf text = { 0 };
	size_t n = 0;
	int r = container_pids(c, &pids, &exec_ids, &n, e);

	for (size_t i = 0; i < n; i++)
		buf_addf(&text, "%u=%s;", pids[i], exec_ids[i]);
	buf_add(&text, "", 1);
	*ret = (char *)text.data;
	return r;
}

static char *pids_seen;

CALL(create, do_create(&k->err))
CALL(start, do_start("", k))
CALL(start_exec, do_start("e1", k))
CALL(add_exec, do_exec("e1", &k->err))
CALL(kill_9, container_kill(c, "", 9, false, &k->err))
CALL(kill_all, container_kill(c, "", 9, true, &k->err))
CALL(kill_exec, container_kill(c, "e1", 9, false, &k->err))
CALL(delete, container_delete(c, "", &k->status, &k->err))
CALL(delete_exec, container_delete(c, "e1", &k->status, &k->err))
CALL(add_exec_2, do_exec("e2", &k->err))
CALL(start_exec_2, do_start("e2", k))
CALL(delete_exec_2, container_delete(c, "e2", &k->status, &k->err))
CALL(wait_init, container_wait(c, "", &k->status, &k->err))
CALL(wait_exec, container_wait(c, "e1", &k->status, &k->err))
CALL(list_pids, do_pids(&pids_seen, &k->err))

static struct call last;

static int run(CO void (*what)(void *arg))
{
	memset(&last, 0, sizeof(last));
	in_coroutine(what, &last);
	ck_assert(last.done);
	return last.result;
}

static void begin(CO void (*what)(void *arg), struct call *k)
{
	memset(k, 0, sizeof(*k));
	co_spawn("call", what, k, USEC_NEVER);
	run_for(10);
}

static void reach(enum container_state state)
{
	if (state == CONTAINER_NOT_CREATED)
		return;
	ck_assert_int_eq(run(create), 0);
	if (state == CONTAINER_INVALID) {
		vm.f.fail_at = vm.f.n_calls + 1;
		ck_assert_int_eq(run(start), -EIO);
	}
	if (state == CONTAINER_RUNNING || state == CONTAINER_STOPPED)
		ck_assert_int_eq(run(start), 0);
	if (state == CONTAINER_STOPPED) {
		fake_exit(0, 7);
		run_all();
	}
	ck_assert_int_eq(container_get_state(c), state);
	fake_calls(&vm.f);
	events_seen();
}

/* ---- the state table ---- */

static const struct row {
	enum container_state from;
	CO void (*call)(void *arg);
	int result;
	enum container_state to;
} table[] = {
	{ CONTAINER_NOT_CREATED, create, 0, CONTAINER_CREATED },
	{ CONTAINER_NOT_CREATED, start, -ERR_NOT_FOUND, CONTAINER_NOT_CREATED },
	{ CONTAINER_NOT_CREATED, add_exec, -ERR_STATE, CONTAINER_NOT_CREATED },
	{ CONTAINER_NOT_CREATED, kill_9, -ERR_NOT_FOUND, CONTAINER_NOT_CREATED },
	{ CONTAINER_NOT_CREATED, delete, -ERR_NOT_FOUND, CONTAINER_NOT_CREATED },
	{ CONTAINER_NOT_CREATED, wait_init, -ERR_NOT_FOUND, CONTAINER_NOT_CREATED },
	{ CONTAINER_CREATED, create, -ERR_STATE, CONTAINER_CREATED },
	{ CONTAINER_CREATED, start, 0, CONTAINER_RUNNING },
	{ CONTAINER_CREATED, add_exec, -ERR_STATE, CONTAINER_CREATED },
	{ CONTAINER_CREATED, kill_9, 0, CONTAINER_STOPPED },
	{ CONTAINER_CREATED, delete, 0, CONTAINER_STOPPED },
	{ CONTAINER_RUNNING, create, -ERR_STATE, CONTAINER_RUNNING },
	{ CONTAINER_RUNNING, start, -ERR_STATE, CONTAINER_RUNNING },
	{ CONTAINER_RUNNING, add_exec, 0, CONTAINER_RUNNING },
	{ CONTAINER_RUNNING, start_exec, -ERR_NOT_FOUND, CONTAINER_RUNNING },
	{ CONTAINER_RUNNING, kill_exec, -ERR_NOT_FOUND, CONTAINER_RUNNING },
	{ CONTAINER_RUNNING, delete_exec, -ERR_NOT_FOUND, CONTAINER_RUNNING },
	{ CONTAINER_RUNNING, kill_9, 0, CONTAINER_STOPPED },
	{ CONTAINER_RUNNING, delete, -ERR_STATE, CONTAINER_RUNNING },
	{ CONTAINER_STOPPED, create, -ERR_STATE, CONTAINER_STOPPED },
	{ CONTAINER_STOPPED, start, -ERR_STATE, CONTAINER_STOPPED },
	{ CONTAINER_STOPPED, add_exec, -ERR_STATE, CONTAINER_STOPPED },
	{ CONTAINER_STOPPED, kill_9, -ERR_NOT_FOUND, CONTAINER_STOPPED },
	{ CONTAINER_STOPPED, wait_init, 0, CONTAINER_STOPPED },
	{ CONTAINER_STOPPED, delete, 0, CONTAINER_STOPPED },
	{ CONTAINER_INVALID, create, -ERR_STATE, CONTAINER_INVALID },
	{ CONTAINER_INVALID, start, -ERR_STATE, CONTAINER_INVALID },
	{ CONTAINER_INVALID, add_exec, -ERR_STATE, CONTAINER_INVALID },
	{ CONTAINER_INVALID, kill_9, -ERR_NOT_FOUND, CONTAINER_INVALID },
	{ CONTAINER_INVALID, wait_init, 0, CONTAINER_INVALID },
	{ CONTAINER_INVALID, delete, 0, CONTAINER_INVALID },
};

START_TEST(each_row_of_the_state_table_holds)
{
	const struct row *row = &table[_i];

	reach(row->from);
	ck_assert_int_eq(run(row->call), row->result);
	ck_assert_int_eq(container_get_state(c), row->to);
}
END_TEST

/* ---- Create ---- */

static char *joined(const char *const *calls, size_t n, const char *end)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++) {
		if (strstr(calls[i], "%s"))
			buf_addf(&b, "share 2 file of %s ro;", strrchr(vm.dir, '/') + 1);
		else
			buf_addf(&b, "%s;", calls[i]);
	}
	buf_add(&b, end, strlen(end) + 1);
	return (char *)b.data;
}

START_TEST(create_builds_from_the_host_to_the_guest_and_delete_takes_back_in_reverse)
{
	_cleanup_free_ char *up =
		joined(create_calls, ARRAY_SIZE(create_calls), "properties ProcessList;");
	_cleanup_free_ char *down = joined(delete_calls, ARRAY_SIZE(delete_calls), "");
	struct process_status s;

	ck_assert_int_eq(run(create), 0);
	ck_assert_str_eq(fake_calls(&vm.f), up);
	ck_assert(fake_exists("scratch/c1.img"));
	ck_assert_int_eq(container_status(c, "", &s, NULL), 0);
	ck_assert_uint_eq(s.pid, 42);
	ck_assert_int_eq(run(delete), 0);
	ck_assert_str_eq(fake_calls(&vm.f), down);
	fake_nothing_reserved();
}
END_TEST

START_TEST(a_create_that_fails_at_any_call_leaves_nothing_and_can_be_repeated)
{
	vm.f.fail_at = (unsigned)_i + 1;
	ck_assert_int_eq(run(create), -EIO);
	ck_assert_ptr_nonnull(strstr(last.err.text, "was made to fail"));
	ck_assert_int_eq(container_get_state(c), CONTAINER_INVALID);
	fake_nothing_reserved();
	ck_assert_uint_eq(co_count(), 0);

	container_free(c);
	c = new_container();
	ck_assert_int_eq(run(create), 0);
}
END_TEST

START_TEST(a_guest_that_does_not_tell_the_pid_fails_nothing)
{
	vm.f.fail_at = ARRAY_SIZE(create_calls) + 1;
	ck_assert_int_eq(run(create), 0);
}
END_TEST

START_TEST(strange_answers_about_the_pid_are_survived)
{
	static const char *const answers[] = {
		"",
		"[]",
		"{}",
		"{\"ProcessList\":{}}",
		"{\"ProcessList\":[]}",
		"{\"ProcessList\":[1]}",
		"{\"ProcessList\":[{\"ProcessId\":\"x\"}]}",
	};
	struct process_status s;

	vm.properties = answers[_i];
	ck_assert_int_eq(run(create), 0);
	container_status(c, "", &s, NULL);
	ck_assert_uint_eq(s.pid, 0);
	ck_assert_int_eq(run(list_pids), 0);
	free(pids_seen);
}
END_TEST

START_TEST(a_create_whose_stdio_cannot_be_opened_asks_for_nothing)
{
	missing_out = "/nonexistent/out";
	ck_assert_int_eq(run(create), -ENOENT);
	ck_assert_str_eq(fake_calls(&vm.f), "");
	ck_assert_int_eq(container_get_state(c), CONTAINER_INVALID);
}
END_TEST

START_TEST(a_spec_that_is_refused_after_the_layers_leaves_nothing)
{
	json_object_object_del(spec, "linux");
	ck_assert_int_eq(run(create), -ERR_INVALID);
	fake_nothing_reserved();
}
END_TEST

/* A call that may yet be carried out is taken back: _i is the guest call whose answer comes too
 * late. */
START_TEST(a_create_that_runs_out_of_time_takes_back_what_the_guest_may_do_yet)
{
	static const char *const held[] = { "combine", "create", "mount 0:0", "mount 0",
					    "mount 1" };
	static const char *const undone[] = { "take apart", "delete c1", "unmount 0:0",
					      "unmount 0;", "unmount 1;" };
	struct call k = { 0 };

	vm.f.hold_at = held[_i];
	co_spawn("create", create, &k, time_mono() + 50 * USEC_PER_MSEC);
	run_all();
	ck_assert_int_eq(k.result, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(fake_calls(&vm.f), undone[_i]));
	fake_nothing_reserved();
}
END_TEST

/* ---- Start, Kill, Wait ---- */

START_TEST(init_s_exit_stops_the_container_and_is_published_once)
{
	struct call k;

	reach(CONTAINER_RUNNING);
	begin(wait_init, &k);
	ck_assert(!k.done);
	fake_exit(0, 7);
	run_all();
	ck_assert_int_eq(k.result, 0);
	ck_assert_uint_eq(k.status.exit_status, 7);
	ck_assert_str_eq(events_seen(), "c1/ 7;");
	ck_assert_int_eq(container_get_state(c), CONTAINER_STOPPED);
}
END_TEST

START_TEST(killing_a_container_that_was_never_started_is_its_exit)
{
	struct call k;

	reach(CONTAINER_CREATED);
	begin(wait_init, &k);
	ck_assert_int_eq(run(kill_9), 0);
	ck_assert_str_eq(events_seen(), "c1/ 137;");
	ck_assert_uint_eq(k.status.exit_status, 137);
	ck_assert_int_eq(run(start), -ERR_STATE);
	ck_assert_int_eq(run(delete), 0);
	ck_assert_uint_eq(last.status.exit_status, 137);
	fake_nothing_reserved();
}
END_TEST

START_TEST(killing_an_exec_that_was_never_started_is_its_exit)
{
	struct call k;

	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	begin(wait_exec, &k);
	ck_assert_int_eq(run(kill_exec), 0);
	ck_assert_str_eq(events_seen(), "c1/e1 137;");
	ck_assert_int_eq(k.result, 0);
	ck_assert_int_eq(container_get_state(c), CONTAINER_RUNNING);
}
END_TEST

/* _i: the guest's Start, or ExecuteProcess. */
START_TEST(a_failed_start_leaves_code_1_and_everything_for_delete)
{
	reach(CONTAINER_CREATED);
	vm.f.fail_at = vm.f.n_calls + 1 + (unsigned)_i;
	ck_assert_int_eq(run(start), -EIO);
	ck_assert_int_eq(container_get_state(c), CONTAINER_INVALID);
	ck_assert_int_eq(run(wait_init), 0);
	ck_assert_uint_eq(last.status.exit_status, 1);
	ck_assert_uint_gt(scsi_in_use(vm.env.scsi), 0);
	ck_assert_int_eq(run(delete), 0);
	ck_assert_uint_eq(last.status.exit_status, 1);
	fake_nothing_reserved();
}
END_TEST

START_TEST(a_kill_that_overtakes_the_start_wins)
{
	struct call k;

	reach(CONTAINER_CREATED);
	vm.f.hold_at = "start";
	begin(start, &k);
	ck_assert(!k.done);
	ck_assert_int_eq(container_get_state(c), CONTAINER_CREATED);

	struct call other;

	begin(kill_9, &other);
	ck_assert_int_eq(other.result, 0);
	co_event_set(&vm.f.gate);
	run_all();
	ck_assert_int_eq(k.result, -ERR_STATE);
	ck_assert_int_eq(container_get_state(c), CONTAINER_STOPPED);
	ck_assert_str_eq(events_seen(), "c1/ 137;");
	ck_assert_uint_eq(vm.n_processes, 0);
}
END_TEST

static const struct {
	const char *exec_id;
	uint32_t signal;
	bool all;
	int result;
} kills[] = {
	{ "", 0, false, -ERR_INVALID },          { "", 65, false, -ERR_INVALID },
	{ "", UINT32_MAX, false, -ERR_INVALID }, { "", 64, false, 0 },
	{ "e1", 9, true, -ERR_STATE },           { "e9", 9, false, -ERR_NOT_FOUND },
};
static int kill_number;

CALL(kill_row, container_kill(c, kills[kill_number].exec_id, kills[kill_number].signal,
			      kills[kill_number].all, &k->err))

START_TEST(signals_are_checked)
{
	kill_number = _i;
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(kill_row), kills[_i].result);
}
END_TEST

START_TEST(all_means_every_exec_and_then_init)
{
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(start_exec), 0);
	fake_calls(&vm.f);
	ck_assert_int_eq(run(kill_all), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "signal exec 9;signal init 9;");
	ck_assert_str_eq(events_seen(), "c1/e1 137;c1/ 137;");
}
END_TEST

START_TEST(a_signal_to_init_leaves_the_execs_alone)
{
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(start_exec), 0);
	fake_calls(&vm.f);
	kill_number = 3;
	ck_assert_int_eq(run(kill_row), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "signal init 64;");
}
END_TEST

/* ---- Exec ---- */

START_TEST(an_exec_id_is_taken_until_it_is_deleted)
{
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(add_exec), -ERR_EXISTS);
	ck_assert_int_eq(run(start_exec), 0);
	ck_assert_uint_eq(last.pid, FAKE_FIRST_PID + 1);
	ck_assert_int_eq(run(delete_exec), -ERR_STATE);
	fake_exit(1, 3);
	run_all();
	ck_assert_str_eq(events_seen(), "c1/e1 3;");
	ck_assert_int_eq(run(delete_exec), 0);
	ck_assert_uint_eq(last.status.exit_status, 3);
	ck_assert_int_eq(run(add_exec), 0);
}
END_TEST

START_TEST(an_exec_that_has_ended_is_deleted_while_another_is_being_started)
{
	static struct call begun, deleted;

	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(start_exec), 0);
	fake_exit(1, 3);
	run_all();
	ck_assert_int_eq(run(add_exec_2), 0);
	vm.f.hold_at = "execute exec";
	begin(start_exec_2, &begun);
	ck_assert(!begun.done);
	begin(delete_exec_2, &deleted);
	ck_assert_int_eq(deleted.result, -ERR_STATE);
	begin(delete_exec, &deleted);
	ck_assert(deleted.done);
	ck_assert_int_eq(deleted.result, 0);
	ck_assert_uint_eq(deleted.status.exit_status, 3);
	co_event_set(&vm.f.gate);
	run_all();
	ck_assert_int_eq(begun.result, 0);
}
END_TEST

START_TEST(an_exec_that_was_never_started_is_deleted_with_code_0)
{
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(delete_exec), 0);
	ck_assert_uint_eq(last.status.exit_status, 0);
	ck_assert_str_eq(events_seen(), "");
}
END_TEST

START_TEST(a_failed_exec_leaves_no_entry)
{
	struct stdio_paths io = { .out = "/nonexistent/out" };

	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(container_exec(c, "e1", &io, json_object_new_object(), &err), -ENOENT);
	ck_assert_int_eq(container_exec(c, "e1", &io, json_object_new_array(), &err), -ERR_INVALID);
	ck_assert_int_eq(container_exec(c, "e1", &io, NULL, &err), -ERR_INVALID);
	ck_assert_int_eq(run(delete_exec), -ERR_NOT_FOUND);
	ck_assert_int_eq(run(add_exec), 0);
}
END_TEST

START_TEST(an_exec_that_cannot_be_started_ends_with_code_1_and_the_container_runs_on)
{
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	vm.f.fail_at = vm.f.n_calls + 1;
	ck_assert_int_eq(run(start_exec), -EIO);
	ck_assert_int_eq(container_get_state(c), CONTAINER_RUNNING);
	ck_assert_int_eq(run(wait_exec), 0);
	ck_assert_uint_eq(last.status.exit_status, 1);
	ck_assert_int_eq(run(delete_exec), 0);
}
END_TEST

/* ---- Delete ---- */

START_TEST(a_delete_that_fails_at_any_step_can_be_repeated_and_does_no_step_twice)
{
	reach(CONTAINER_STOPPED);
	vm.f.fail_at = vm.f.n_calls + 1 + (unsigned)_i;
	ck_assert_int_eq(run(delete), -EIO);

	_cleanup_free_ char *saved = mem_strdup(fake_calls(&vm.f));

	ck_assert_int_eq(run(delete), 0);
	ck_assert_uint_eq(last.status.exit_status, 7);

	const char *second = fake_calls(&vm.f);

	fake_nothing_reserved();
	for (int i = 0; i < (int)ARRAY_SIZE(delete_calls); i++) {
		_cleanup_free_ char *call = str_printf("%s;", delete_calls[i]);
		bool in_first = strstr(saved, call), in_second = strstr(second, call);

		/* The one that failed is in both, any other in one. */
		ck_assert_msg(i == _i ? in_first && in_second : in_first != in_second, "%s",
			      delete_calls[i]);
	}
}
END_TEST

START_TEST(deleting_from_a_guest_that_is_gone_succeeds)
{
	reach(CONTAINER_STOPPED);
	vm.gone = true;
	ck_assert_int_eq(run(delete), 0);
	fake_nothing_reserved();
}
END_TEST

START_TEST(calls_that_overlap_a_delete_find_an_ended_container)
{
	static struct call del, again, begun, waited, killed, added;

	reach(CONTAINER_STOPPED);
	vm.f.hold_at = "delete c1";
	begin(delete, &del);
	ck_assert(!del.done);
	begin(delete, &again);
	begin(start, &begun);
	begin(wait_init, &waited);
	begin(kill_9, &killed);
	begin(add_exec, &added);
	ck_assert_int_eq(waited.result, 0);
	ck_assert_uint_eq(waited.status.exit_status, 7);
	ck_assert_int_eq(killed.result, -ERR_NOT_FOUND);
	ck_assert_int_eq(added.result, -ERR_STATE);
	ck_assert(!again.done && !begun.done);
	co_event_set(&vm.f.gate);
	run_all();
	ck_assert_int_eq(del.result, 0);
	ck_assert_int_eq(again.result, 0);
	ck_assert_int_eq(begun.result, -ERR_STATE);
	fake_nothing_reserved();
}
END_TEST

START_TEST(a_client_that_gives_up_does_not_stop_the_delete)
{
	struct call k = { 0 };

	reach(CONTAINER_STOPPED);
	vm.f.hold_at = "delete c1";

	struct co *co = co_spawn("delete", delete, &k, USEC_NEVER);

	run_for(10);
	co_cancel(co);
	run_for(10);
	ck_assert(!k.done);
	co_event_set(&vm.f.gate);
	run_all();
	ck_assert_int_eq(k.result, 0);
	fake_nothing_reserved();
}
END_TEST

START_TEST(a_wait_that_was_cancelled_leaves_the_others)
{
	struct call a = { 0 }, b = { 0 };

	reach(CONTAINER_RUNNING);

	struct co *co = co_spawn("wait", wait_init, &a, USEC_NEVER);

	co_spawn("wait", wait_init, &b, USEC_NEVER);
	run_for(10);
	co_cancel(co);
	run_for(10);
	ck_assert_int_eq(a.result, -ECANCELED);
	ck_assert(!b.done);
	fake_exit(0, 0);
	run_all();
	ck_assert_int_eq(b.result, 0);
}
END_TEST

START_TEST(deleting_a_container_ends_its_execs_first)
{
	struct call k;

	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(start_exec), 0);
	begin(wait_exec, &k);
	fake_exit(0, 0);
	run_for(10);
	fake_calls(&vm.f);
	ck_assert_int_eq(run(delete), 0);
	ck_assert(str_starts(fake_calls(&vm.f), "signal exec 9;take apart"));
	ck_assert_int_eq(k.result, 0);
	ck_assert_uint_eq(k.status.exit_status, 137);
	ck_assert_str_eq(events_seen(), "c1/ 0;c1/e1 137;");
}
END_TEST

START_TEST(an_exec_that_does_not_end_does_not_hold_up_the_delete)
{
	uint64_t before = time_mono();

	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(start_exec), 0);
	vm.processes[1]->stubborn = true;
	fake_exit(0, 0);
	run_all();
	ck_assert_int_eq(run(delete), 0);
	ck_assert_uint_lt(time_mono() - before, 4 * USEC_PER_SEC);
	fake_nothing_reserved();
}
END_TEST

START_TEST(freeing_it_when_the_vm_is_gone_leaves_nothing_on_the_host)
{
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(start_exec), 0);
	c = container_free(c);
	ck_assert(!fake_exists("scratch/c1.img"));
	ck_assert_str_eq(events_seen(), "");
}
END_TEST

/* ---- Pids ---- */

START_TEST(pids_come_with_the_exec_ids_that_are_known)
{
	reach(CONTAINER_RUNNING);
	ck_assert_int_eq(run(add_exec), 0);
	ck_assert_int_eq(run(start_exec), 0);
	vm.properties =
		"{\"ProcessList\":[{\"ProcessId\":100},{\"ProcessId\":101},{\"ProcessId\":5}]}";
	ck_assert_int_eq(run(list_pids), 0);
	ck_assert_str_eq(pids_seen, "100=;101=e1;5=;");
	free(pids_seen);
}
END_TEST

START_TEST(an_ended_container_still_has_the_pid_of_its_init)
{
	reach(CONTAINER_STOPPED);
	ck_assert_int_eq(run(list_pids), 0);
	ck_assert_str_eq(pids_seen, "100=;");
	ck_assert_str_eq(fake_calls(&vm.f), "");
	free(pids_seen);
}
END_TEST

START_TEST(a_silent_guest_does_not_hold_up_pids)
{
	uint64_t before = time_mono();

	reach(CONTAINER_RUNNING);
	vm.f.hold_at = "properties";
	in_coroutine(list_pids, &last);
	ck_assert_int_eq(last.result, 0);
	ck_assert_str_eq(pids_seen, "100=;");
	ck_assert_uint_lt(time_mono() - before, 5 * USEC_PER_SEC);
	free(pids_seen);
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_loop_test(t, each_row_of_the_state_table_holds, 0, ARRAY_SIZE(table));
	tcase_add_test(t,
		       create_builds_from_the_host_to_the_guest_and_delete_takes_back_in_reverse);
	tcase_add_loop_test(t, a_create_that_fails_at_any_call_leaves_nothing_and_can_be_repeated,
			    0, ARRAY_SIZE(create_calls));
	tcase_add_test(t, a_guest_that_does_not_tell_the_pid_fails_nothing);
	tcase_add_loop_test(t, strange_answers_about_the_pid_are_survived, 0, 7);
	tcase_add_test(t, a_create_whose_stdio_cannot_be_opened_asks_for_nothing);
	tcase_add_test(t, a_spec_that_is_refused_after_the_layers_leaves_nothing);
	tcase_add_loop_test(t, a_create_that_runs_out_of_time_takes_back_what_the_guest_may_do_yet,
			    0, 5);
	tcase_add_test(t, init_s_exit_stops_the_container_and_is_published_once);
	tcase_add_test(t, killing_a_container_that_was_never_started_is_its_exit);
	tcase_add_test(t, killing_an_exec_that_was_never_started_is_its_exit);
	tcase_add_loop_test(t, a_failed_start_leaves_code_1_and_everything_for_delete, 0, 2);
	tcase_add_test(t, a_kill_that_overtakes_the_start_wins);
	tcase_add_loop_test(t, signals_are_checked, 0, ARRAY_SIZE(kills));
	tcase_add_test(t, all_means_every_exec_and_then_init);
	tcase_add_test(t, a_signal_to_init_leaves_the_execs_alone);
	tcase_add_test(t, an_exec_id_is_taken_until_it_is_deleted);
	tcase_add_test(t, an_exec_that_has_ended_is_deleted_while_another_is_being_started);
	tcase_add_test(t, an_exec_that_was_never_started_is_deleted_with_code_0);
	tcase_add_test(t, a_failed_exec_leaves_no_entry);
	tcase_add_test(t,
		       an_exec_that_cannot_be_started_ends_with_code_1_and_the_container_runs_on);
	tcase_add_loop_test(t,
			    a_delete_that_fails_at_any_step_can_be_repeated_and_does_no_step_twice,
			    0, ARRAY_SIZE(delete_calls));
	tcase_add_test(t, deleting_from_a_guest_that_is_gone_succeeds);
	tcase_add_test(t, calls_that_overlap_a_delete_find_an_ended_container);
	tcase_add_test(t, a_client_that_gives_up_does_not_stop_the_delete);
	tcase_add_test(t, a_wait_that_was_cancelled_leaves_the_others);
	tcase_add_test(t, deleting_a_container_ends_its_execs_first);
	tcase_add_test(t, an_exec_that_does_not_end_does_not_hold_up_the_delete);
	tcase_add_test(t, freeing_it_when_the_vm_is_gone_leaves_nothing_on_the_host);
	tcase_add_test(t, pids_come_with_the_exec_ids_that_are_known);
	tcase_add_test(t, an_ended_container_still_has_the_pid_of_its_init);
	tcase_add_test(t, a_silent_guest_does_not_hold_up_pids);
}

int main(void)
{
	Suite *s = suite_create("controller container");
	TCase *t = tcase_create("container");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	add_tests(t);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
