/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/host.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "gcs/agent.h"
#include "gcs/boot.h"
#include "gcs/bridge.h"
#include "gcs/container.h"
#include "gcs/metrics.h"
#include "gcs/modify.h"
#include "gcs/process.h"
#include "gcs/properties.h"
#include "loop/loop.h"
#include "wire/gcs.h"

enum { STACKS_MAX = 60 << 10 };

static int done(struct request *rq)
{
	struct gcs_reply reply = { 0 };

	return request_reply(rq, &gcs_reply_table, &reply);
}

static bool is_null(const struct gcs_base *base)
{
	return str_eq(base->container_id, UUID_NULL);
}

static int external_find(struct agent *a, pid_t pid, struct process **ret, struct err *err)
{
	LIST_FOR_EACH(it, &a->externals) {
		struct process *p = LIST_ENTRY(it, struct process, link);

		if (p->pid == pid && !p->waited) {
			*ret = p;
			return 0;
		}
	}
	err_set(err, -ERR_NOT_FOUND, "no external process %d", (int)pid);
	if (err)
		err->hresult = HR_NOT_FOUND;
	return -ERR_NOT_FOUND;
}

/* The process that a request is about: beside the containers with the null id, else in the
 * container. */
static int find_process(struct agent *a, const struct gcs_base *base, uint32_t pid,
			struct process **ret, struct err *err)
{
	struct container *c = NULL;
	int r;

	if (is_null(base))
		return external_find(a, (pid_t)pid, ret, err);
	r = container_find(a, base->container_id, &c, err);
	if (r >= 0)
		r = container_process(c, (pid_t)pid, ret, err);
	/* A process beside the containers may have been started with a container's id. */
	if (r < 0 && external_find(a, (pid_t)pid, ret, NULL) == 0)
		r = 0;
	return r;
}

static int handle_create(struct request *rq, void *message, struct err *err)
{
	const struct gcs_create_request *m = message;
	struct gcs_create_reply reply = { 0 };
	int r;

	if (rq->agent->test)
		return err_set(err, -ERR_DENIED, "no container may be created from a test channel");
	r = container_create(rq->agent, m->base.container_id, m->base.activity_id, m->config, err);
	return r < 0 ? r : request_reply(rq, &gcs_create_reply_table, &reply);
}

/* Containers are started by their first ExecuteProcess. */
static int handle_start(struct request *rq, void *message, struct err *err)
{
	return done(rq);
}

static int handle_execute(struct request *rq, void *message, struct err *err)
{
	const struct gcs_execute_request *m = message;
	const struct gcs_process_params *params = m->settings.params;
	struct gcs_execute_reply reply = { 0 };
	struct process *p = NULL;
	struct container *c = NULL;
	int r;

	if (!params) {
		err_set(err, -ERR_INVALID, "Settings.ProcessParameters is missing");
		err->hresult = HR_INVALID_JSON;
		return err->code;
	}
	if (params->in_uvm || is_null(&m->base)) {
		r = external_start(rq->agent, m, &p, err);
	} else {
		r = container_find(rq->agent, m->base.container_id, &c, err);
		if (r >= 0)
			r = params->process ? container_exec(c, m, &p, err)
					    : container_start(c, m, &p, err);
	}
	if (r < 0)
		return r;
	reply.pid = (uint32_t)p->pid;
	return request_reply(rq, &gcs_execute_reply_table, &reply);
}

static int handle_wait(struct request *rq, void *message, struct err *err)
{
	const struct gcs_wait_request *m = message;
	struct process *p = NULL;
	int r = find_process(rq->agent, &m->base, m->pid, &p, err);

	return r < 0 ? r : process_wait(p, rq, m->timeout_ms, err);
}

static int handle_signal(struct request *rq, void *message, struct err *err)
{
	const struct gcs_signal_request *m = message;
	int signo = m->options && m->options->signal ? m->options->signal : 9;
	struct process *p = NULL;
	int r = find_process(rq->agent, &m->base, m->pid, &p, err);

	if (r >= 0)
		r = p->container ? container_signal(p->container, p->pid, signo, err)
				 : process_signal(p, signo, err);
	return r < 0 ? r : done(rq);
}

static int handle_resize(struct request *rq, void *message, struct err *err)
{
	const struct gcs_resize_request *m = message;
	struct process *p = NULL;
	int r = find_process(rq->agent, &m->base, m->pid, &p, err);

	if (r >= 0)
		r = process_resize(p, m->height, m->width, err);
	return r < 0 ? r : done(rq);
}

static int shut_down(struct request *rq, const struct gcs_simple_request *m, bool forced,
		     struct err *err)
{
	struct container *c = NULL;
	int r;

	/* No response: the host sees the connection, and the VM, go. */
	if (is_null(&m->base))
		agent_power_off(rq->agent, NULL);
	r = container_find(rq->agent, m->base.container_id, &c, err);
	if (r >= 0)
		r = container_shutdown(c, forced, err);
	return r < 0 ? r : done(rq);
}

static int handle_shutdown_graceful(struct request *rq, void *message, struct err *err)
{
	return shut_down(rq, message, false, err);
}

static int handle_shutdown_forced(struct request *rq, void *message, struct err *err)
{
	return shut_down(rq, message, true, err);
}

static int handle_properties(struct request *rq, void *message, struct err *err)
{
	const struct gcs_properties_request *m = message;
	char **types = m->query ? m->query->types : NULL;
	_cleanup_json_ struct json_object *o = json_object_new_object();
	_cleanup_free_ char *dir = NULL;
	_cleanup_free_ char *text = NULL;
	struct gcs_properties_reply reply = { 0 };
	struct container *c = NULL;
	int r;

	if (is_null(&m->base))
		return err_set(err, -EOPNOTSUPP,
			       "getPropertiesV2 is not supported against the UVM");
	r = container_find(rq->agent, m->base.container_id, &c, err);
	if (r < 0)
		return r;
	dir = str_printf(BOOT_CGROUP_ROOT "%s", c->facts.cgroup);
	if (strv_has(types, "ProcessList")) {
		struct json_object *list = properties_processes(dir);

		if (json_object_array_length(list))
			json_object_object_add(o, "ProcessList", list);
		else
			json_put(list);
	}
	if (strv_has(types, "Statistics"))
		json_object_object_add(o, "LCOWMetrics", properties_statistics(dir));
	if (strv_has(types, "CgroupMetrics") && bridge_agreed(rq->agent->bridge, GCS_EXT_METRICS))
		json_object_object_add(o, "CgroupMetrics", metrics_read(dir));
	text = json_text(o);
	reply.properties = text;
	return request_reply(rq, &gcs_properties_reply_table, &reply);
}

static int handle_modify(struct request *rq, void *message, struct err *err)
{
	int r = modify_settings(rq->agent, message, err);

	return r < 0 ? r : done(rq);
}

static int handle_stacks(struct request *rq, void *message, struct err *err)
{
	struct gcs_stacks_reply reply = { 0 };
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return err_sys(err, -errno, "dump stacks");
	fprintf(out, "lcow-gcs " LCOW_VERSION "\n");
	loop_dump(out);
	fclose(out);
	if (len > STACKS_MAX)
		text[STACKS_MAX] = '\0';
	reply.stacks = text;
	return request_reply(rq, &gcs_stacks_reply_table, &reply);
}

static int handle_delete(struct request *rq, void *message, struct err *err)
{
	const struct gcs_simple_request *m = message;
	struct container *c = NULL;
	int r = container_find(rq->agent, m->base.container_id, &c, err);

	if (r >= 0)
		r = container_delete(c, err);
	return r < 0 ? r : done(rq);
}

const struct handler handlers[] = {
	{ GCS_CREATE, &gcs_create_request_table, handle_create },
	{ GCS_START, &gcs_simple_request_table, handle_start },
	{ GCS_SHUTDOWN_GRACEFUL, &gcs_simple_request_table, handle_shutdown_graceful },
	{ GCS_SHUTDOWN_FORCED, &gcs_simple_request_table, handle_shutdown_forced },
	{ GCS_EXECUTE_PROCESS, &gcs_execute_request_table, handle_execute },
	{ GCS_WAIT_FOR_PROCESS, &gcs_wait_request_table, handle_wait },
	{ GCS_SIGNAL_PROCESS, &gcs_signal_request_table, handle_signal },
	{ GCS_RESIZE_CONSOLE, &gcs_resize_request_table, handle_resize },
	{ GCS_GET_PROPERTIES, &gcs_properties_request_table, handle_properties },
	{ GCS_MODIFY_SETTINGS, &gcs_modify_request_table, handle_modify },
	{ GCS_DUMP_STACKS, &gcs_simple_request_table, handle_stacks },
	{ GCS_DELETE_STATE, &gcs_simple_request_table, handle_delete },
	{ 0, NULL, NULL },
};

void host_negotiated(struct agent *a)
{
	MAP_FOR_EACH(e, &a->containers)
		container_tell_oom(e->value);
}

void host_bridge_lost(struct agent *a)
{
	LIST_FOR_EACH(it, &a->externals)
		process_drop_waiters(LIST_ENTRY(it, struct process, link));
	MAP_FOR_EACH(e, &a->containers) {
		struct container *c = e->value;

		if (c->init)
			process_drop_waiters(c->init);
		LIST_FOR_EACH(it, &c->execs)
			process_drop_waiters(LIST_ENTRY(it, struct process, link));
	}
}
