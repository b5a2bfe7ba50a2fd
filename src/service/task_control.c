/* SPDX-License-Identifier: Apache-2.0 */
#include <json-c/json.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "cgroups2.pb-c.h"
#include "events.pb-c.h"
#include "service/service_priv.h"
#include "task.pb-c.h"
#include "wire/json.h"
#include "wire/pb.h"

/* Task.Pause, Resume and Stats; the event of an out-of-memory kill. */

CO int task_pause(struct ttrpc_call *call, const ProtobufCMessage *request, ProtobufCMessage *reply,
		  void *ctx, struct err *err)
{
	const Containerd__Task__V2__PauseRequest *req =
		(const Containerd__Task__V2__PauseRequest *)request;
	struct service *s = ctx;
	_cleanup_task_ struct task *t = task_find(s, req->id);
	Containerd__Events__TaskPaused event = CONTAINERD__EVENTS__TASK_PAUSED__INIT;

	if (!t)
		return task_not_found(req->id, err);

	int r = container_pause(t->container, err);

	if (r < 0)
		return err_wrap(err, r, "pause %s", req->id);
	event.container_id = t->id;
	publisher_send(s->publisher, "/tasks/paused", &event.base);
	return 0;
}

CO int task_resume(struct ttrpc_call *call, const ProtobufCMessage *request,
		   ProtobufCMessage *reply, void *ctx, struct err *err)
{
	const Containerd__Task__V2__ResumeRequest *req =
		(const Containerd__Task__V2__ResumeRequest *)request;
	struct service *s = ctx;
	_cleanup_task_ struct task *t = task_find(s, req->id);
	Containerd__Events__TaskResumed event = CONTAINERD__EVENTS__TASK_RESUMED__INIT;

	if (!t)
		return task_not_found(req->id, err);

	int r = container_resume(t->container, err);

	if (r < 0)
		return err_wrap(err, r, "resume %s", req->id);
	/* It may have been paused together with the host. */
	vm_sync_clock(s->vm);
	event.container_id = t->id;
	publisher_send(s->publisher, "/tasks/resumed", &event.base);
	return 0;
}

/* ---- Stats ---- */

/* hcsshim's guest gives cgroup v1's names to the counters of cgroup v2. */
static const struct {
	const char *section, *part, *name; /* in LCOWMetrics; @part may be NULL */
	const char *to, *field;
	uint64_t divisor;
} v1_rows[] = {
	{ "pids", NULL, "current", "pids", "current", 1 },
	{ "pids", NULL, "limit", "pids", "limit", 1 },
	{ "cpu", "usage", "total", "cpu", "usage_usec", 1000 },
	{ "cpu", "usage", "user", "cpu", "user_usec", 1000 },
	{ "cpu", "usage", "kernel", "cpu", "system_usec", 1000 },
	{ "cpu", "throttling", "periods", "cpu", "nr_periods", 1 },
	{ "cpu", "throttling", "throttled_periods", "cpu", "nr_throttled", 1 },
	{ "cpu", "throttling", "throttled_time", "cpu", "throttled_usec", 1000 },
	{ "memory", NULL, "rss", "memory", "anon", 1 },
	{ "memory", NULL, "cache", "memory", "file", 1 },
	{ "memory", NULL, "mapped_file", "memory", "file_mapped", 1 },
	{ "memory", NULL, "dirty", "memory", "file_dirty", 1 },
	{ "memory", NULL, "writeback", "memory", "file_writeback", 1 },
	{ "memory", NULL, "pg_fault", "memory", "pgfault", 1 },
	{ "memory", NULL, "pg_maj_fault", "memory", "pgmajfault", 1 },
	{ "memory", NULL, "inactive_anon", "memory", "inactive_anon", 1 },
	{ "memory", NULL, "active_anon", "memory", "active_anon", 1 },
	{ "memory", NULL, "inactive_file", "memory", "inactive_file", 1 },
	{ "memory", NULL, "active_file", "memory", "active_file", 1 },
	{ "memory", NULL, "unevictable", "memory", "unevictable", 1 },
	{ "memory", "usage", "usage", "memory", "usage", 1 },
	{ "memory", "usage", "limit", "memory", "usage_limit", 1 },
	{ "memory", "usage", "max", "memory", "max_usage", 1 },
	{ "memory", "swap", "usage", "memory", "swap_usage", 1 },
	{ "memory", "swap", "limit", "memory", "swap_limit", 1 },
	{ "memory", "swap", "max", "memory", "swap_max_usage", 1 },
	{ "memory_oom_control", NULL, "oom_kill", "memory_events", "oom_kill", 1 },
};

static struct json_object *v2_of(struct json_object *v1)
{
	struct json_object *v2;

	if (!v1)
		return NULL;
	v2 = json_object_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(v1_rows); i++) {
		struct json_object *from = json_get(v1, v1_rows[i].section, NULL);
		struct json_object *to = json_get(v2, v1_rows[i].to, NULL);

		if (v1_rows[i].part)
			from = json_get(from, v1_rows[i].part, NULL);
		from = json_get(from, v1_rows[i].name, NULL);
		if (!json_object_is_type(from, json_type_int))
			continue;
		if (!to) {
			to = json_object_new_object();
			json_object_object_add(v2, v1_rows[i].to, to);
		}
		json_object_object_add(to, v1_rows[i].field,
				       json_object_new_uint64(json_object_get_uint64(from) /
							      v1_rows[i].divisor));
	}
	return v2;
}

CO int task_stats(struct ttrpc_call *call, const ProtobufCMessage *request, ProtobufCMessage *reply,
		  void *ctx, struct err *err)
{
	const Containerd__Task__V2__StatsRequest *req =
		(const Containerd__Task__V2__StatsRequest *)request;
	Containerd__Task__V2__StatsResponse *rep = (Containerd__Task__V2__StatsResponse *)reply;
	_cleanup_task_ struct task *t = task_find(ctx, req->id);
	_cleanup_json_ struct json_object *document = NULL;
	_cleanup_json_ struct json_object *own = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_pb_ void *metrics = NULL;

	if (!t)
		return task_not_found(req->id, err);

	int r = container_metrics(t->container, &text, err);

	if (r >= 0)
		r = json_parse(text, strlen(text), &document, err);
	if (r >= 0) {
		struct json_object *v2 = json_get(document, "CgroupMetrics", NULL);

		own = v2 ? json_object_get(v2) : v2_of(json_get(document, "LCOWMetrics", NULL));
		r = pb_from_json(&io__containerd__cgroups__v2__metrics__descriptor, own, &metrics,
				 err);
	}
	if (r < 0)
		return err_wrap(err, r, "stats of %s", req->id);
	rep->stats = pb_any(metrics);
	return 0;
}

/* ---- OOM ---- */

void task_oom(const char *container, uint64_t kills, void *arg)
{
	struct service *s = arg;
	_cleanup_task_ struct task *t = task_find(s, container);
	Containerd__Events__TaskOOM event = CONTAINERD__EVENTS__TASK_OOM__INIT;

	/* The count may come again, when the guest has dialled anew. */
	if (!t || kills <= t->oom_kills)
		return;
	t->oom_kills = kills;
	event.container_id = t->id;
	publisher_send(s->publisher, "/tasks/oom", &event.base);
}
