/* SPDX-License-Identifier: Apache-2.0 */
#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/network.h"
#include "controller/sysctls.h"
#include "events.pb-c.h"
#include "google/protobuf/empty.pb-c.h"
#include "runc.pb-c.h"
#include "service/service_priv.h"
#include "task.pb-c.h"
#include "wire/json.h"
#include "wire/pb.h"

int task_not_found(const char *id, struct err *err)
{
	return err_set(err, -ERR_NOT_FOUND, "%s: container not created: not found", id ? id : "");
}

#define REQUEST(type) \
	const Containerd__Task__V2__##type *req = (const Containerd__Task__V2__##type *)request
#define REPLY(type) Containerd__Task__V2__##type *rep = (Containerd__Task__V2__##type *)reply
#define HANDLER(name) \
	static CO int name(struct ttrpc_call *call, const ProtobufCMessage *request, \
			   ProtobufCMessage *reply, void *ctx, struct err *err)

/* ---- Create ---- */

/* The pod that a container belongs to: what CRI says, or that of the Sandbox API, or the container
 * is its own. @ret_joins: it must be there already. */
static int pod_of(const struct service *s, struct json_object *spec, const char *id,
		  const char **ret, bool *ret_joins, struct err *err)
{
	struct json_object *annotations = json_get(spec, "annotations", NULL);
	const char *type = json_get_str(annotations, "io.kubernetes.cri.container-type");
	const char *sandbox = json_get_str(annotations, "io.kubernetes.cri.sandbox-id");

	if (!type && !sandbox) {
		*ret = s->sandbox.id ? s->sandbox.id : id;
		*ret_joins = false;
		return 0;
	}
	if (!type || (!str_eq(type, "sandbox") && !str_eq(type, "container")))
		return err_set(err, -ERR_INVALID, "unsupported container type \"%s\"",
			       type ? type : "");
	if (!str_id_valid(sandbox))
		return err_set(err, -ERR_INVALID,
			       "annotation io.kubernetes.cri.sandbox-id is missing or no valid id");
	if (str_eq(type, "sandbox") && !str_eq(sandbox, id))
		return err_set(err, -ERR_INVALID, "sandbox container %s names another sandbox, %s",
			       id, sandbox);
	*ret = sandbox;
	/* That of the Sandbox API is there as long as its VM is. */
	*ret_joins = str_eq(type, "container") && !str_eq(sandbox, s->sandbox.id);
	return 0;
}

/* A pod that CRI's sandbox container did not make is not made by another: the namespaces that its
 * spec names are the guest's, by pids that may be anybody's here. */
static int require_pod(const struct service *s, const char *pod, struct err *err)
{
	if (vm_state(s->vm) != VM_NOT_CREATED && pods_have(vm_pods(s->vm), pod))
		return 0;
	return err_set(err, -ERR_NOT_FOUND, "pod %s: not found", pod);
}

/* The path of a network namespace that the spec names. */
static const char *netns_of(struct json_object *spec)
{
	struct json_object *list = json_get(spec, "linux", "namespaces", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *ns = json_object_array_get_idx(list, i);

		if (str_eq(json_get_str(ns, "type"), "network"))
			return json_get_str(ns, "path");
	}
	return NULL;
}

/* As hcsshim's clients say which of the guest's network namespaces a container is in. */
static void name_network(struct json_object *spec, const char *pod)
{
	struct json_object *windows = json_object_new_object();
	struct json_object *network = json_object_new_object();
	struct json_object *devices = json_get(spec, "windows", "devices", NULL);

	json_object_object_add(network, "networkNamespace", json_object_new_string(pod));
	json_object_object_add(windows, "network", network);
	if (devices)
		json_object_object_add(windows, "devices", json_object_get(devices));
	json_object_object_add(spec, "windows", windows);
}

static void name_host(struct json_object *spec, const char *hostname)
{
	if (hostname && str_empty(json_get_str(spec, "hostname")))
		json_object_object_add(spec, "hostname", json_object_new_string(hostname));
}

/* The namespace of a pod is that of its first container, or of the Sandbox API's pod. */
static CO int join_pod(struct task *t, struct json_object *spec, const char *pod, struct err *err)
{
	const struct network_config network = { .netns = netns_of(spec),
						.policy_routing = t->service->policy_routing };
	int r = pod_get(vm_pods(t->service->vm), pod, &network, &t->pod, err);

	if (r >= 0 && pod_has_network(t->pod))
		name_network(spec, pod);
	return r;
}

static void publish_create(struct service *s, const Containerd__Task__V2__CreateTaskRequest *req,
			   uint32_t pid)
{
	Containerd__Events__TaskCreate e = CONTAINERD__EVENTS__TASK_CREATE__INIT;
	Containerd__Events__TaskIO io = CONTAINERD__EVENTS__TASK_IO__INIT;

	/* Nothing of this is owned: the request lives until after the event was encoded. */
	io.stdin = req->stdin;
	io.stdout = req->stdout;
	io.stderr = req->stderr;
	io.terminal = req->terminal;
	e.container_id = req->id;
	e.bundle = req->bundle;
	e.n_rootfs = req->n_rootfs;
	e.rootfs = req->rootfs;
	e.io = &io;
	e.checkpoint = req->checkpoint;
	e.pid = pid;
	publisher_send(s->publisher, "/tasks/create", &e.base);
}

static CO int create_container(struct task *t, const Containerd__Task__V2__CreateTaskRequest *req,
			       struct json_object *spec, struct err *err)
{
	struct rootfs_mount *mounts = mem_new0(req->n_rootfs + 1, sizeof(*mounts));
	char ***options = mem_new0(req->n_rootfs + 1, sizeof(*options));
	struct container_request creq = {
		.bundle = req->bundle,
		.spec = spec,
		.rootfs = mounts,
		.n_rootfs = req->n_rootfs,
		.io = { .in = req->stdin,
			.out = req->stdout,
			.err = req->stderr,
			.terminal = req->terminal },
	};

	for (size_t i = 0; i < req->n_rootfs; i++) {
		const Containerd__Types__Mount *m = req->rootfs[i];

		for (size_t k = 0; k < m->n_options; k++)
			strv_add(&options[i], m->options[k]);
		mounts[i] = (struct rootfs_mount){ m->type, m->source, m->target, options[i] };
	}

	int r = container_create(t->container, &creq, err);

	for (size_t i = 0; i < req->n_rootfs; i++)
		strv_free(options[i]);
	free(options);
	free(mounts);
	return r;
}

HANDLER(task_create)
{
	REQUEST(CreateTaskRequest);
	REPLY(CreateTaskResponse);
	struct service *s = ctx;
	_cleanup_json_ struct json_object *spec = NULL;
	_cleanup_task_ struct task *t = NULL;
	struct process_status status;
	const char *pod = NULL;
	bool joins = false;

	s->touched = true;
	if (!str_id_valid(req->id))
		return err_set(err, -ERR_INVALID, "container id \"%s\" is not valid", req->id);
	if (!str_empty(req->checkpoint))
		return err_set(err, -ERR_INVALID,
			       "create %s: restore from a checkpoint is not supported", req->id);

	int r = service_read_config(req->bundle, &spec, err);

	if (r >= 0 && !spec)
		r = err_set(err, -ERR_INVALID, "%s has no config.json", req->bundle);
	if (r >= 0)
		r = pod_of(s, spec, req->id, &pod, &joins, err);
	if (r < 0)
		return err_wrap(err, r, "create %s", req->id);
	if (map_get(&s->tasks, req->id))
		return err_set(err, -ERR_EXISTS, "container %s: already exists", req->id);
	r = joins && vm_state(s->vm) == VM_NOT_CREATED ? require_pod(s, pod, err)
						       : service_ensure_vm(s, spec, err);
	if (r >= 0 && joins)
		r = require_pod(s, pod, err);
	/* Its pod has the network that CreateSandbox named, which nobody else knows. */
	if (r >= 0 && s->sandbox.id && !s->sandbox.pod)
		r = err_set(err, -ERR_STATE, "sandbox %s has not been started", s->sandbox.id);
	if (r < 0)
		return err_wrap(err, r, "create %s", req->id);
	t = task_new(s, req->id, pod);
	if (!t)
		return err_set(err, -ERR_EXISTS, "container %s: already exists", req->id);
	/* Other pods of the VM have those of their own. */
	if (str_eq(pod, s->sandbox.id)) {
		name_host(spec, s->sandbox.hostname);
		sysctls_add(spec, s->sandbox.sysctls);
	}
	r = join_pod(t, spec, pod, err);
	if (r >= 0)
		r = create_container(t, req, spec, err);
	if (r < 0) {
		t->pod = pod_put(t->pod);
		task_remove(t, NULL);
		/* Unimplemented from Create makes containerd 2.x talk to us as to a version-2 shim
		 * from then on. */
		return err_wrap(err, r == -ERR_UNIMPLEMENTED ? -ERR_INVALID : r, "create %s",
				req->id);
	}
	t->created = true;
	if (container_status(t->container, "", &status, NULL) == 0)
		rep->pid = status.pid;
	publish_create(s, req, rep->pid);
	return 0;
}

/* ---- Start, Exec ---- */

static void publish_start(struct service *s, const char *id, const char *exec_id, uint32_t pid)
{
	if (str_empty(exec_id)) {
		Containerd__Events__TaskStart *e =
			pb_new(&containerd__events__task_start__descriptor);

		pb_str(&e->container_id, id);
		e->pid = pid;
		publisher_send(s->publisher, "/tasks/start", &e->base);
		pb_free(e);
		return;
	}
	Containerd__Events__TaskExecStarted *e =
		pb_new(&containerd__events__task_exec_started__descriptor);

	pb_str(&e->container_id, id);
	pb_str(&e->exec_id, exec_id);
	e->pid = pid;
	publisher_send(s->publisher, "/tasks/exec-started", &e->base);
	pb_free(e);
}

HANDLER(task_start)
{
	REQUEST(StartRequest);
	REPLY(StartResponse);
	struct service *s = ctx;
	_cleanup_task_ struct task *t = task_find(s, req->id);

	if (!t)
		return task_not_found(req->id, err);

	int r = container_start(t->container, req->exec_id, &rep->pid, err);

	if (r < 0) {
		struct process_status status;

		/* A process whose start failed has ended, and nothing else tells those who wait for
		 * it. */
		if (container_status(t->container, req->exec_id, &status, NULL) == 0 &&
		    status.state == PROCESS_TERMINATED)
			task_answer_waits(t, &status);
		return err_wrap(err, r, "start %s%s%s", req->id,
				str_empty(req->exec_id) ? "" : " exec ", req->exec_id);
	}
	publish_start(s, req->id, req->exec_id, rep->pid);
	container_started(t->container, req->exec_id);
	return 0;
}

HANDLER(task_exec)
{
	REQUEST(ExecProcessRequest);
	struct service *s = ctx;
	_cleanup_task_ struct task *t = task_find(s, req->id);
	struct stdio_paths io = {
		.in = req->stdin, .out = req->stdout, .err = req->stderr, .terminal = req->terminal
	};
	struct json_object *spec = NULL;

	if (!t)
		return task_not_found(req->id, err);
	if (!str_id_valid(req->exec_id))
		return err_set(err, -ERR_INVALID, "exec id \"%s\" is not valid", req->exec_id);
	if (!req->spec || req->spec->value.len == 0)
		return err_set(err, -ERR_INVALID, "exec %s: the process spec is missing",
			       req->exec_id);

	int r = json_parse((const char *)req->spec->value.data, req->spec->value.len, &spec, err);

	if (r >= 0)
		r = container_exec(t->container, req->exec_id, &io, spec, err);
	if (r < 0)
		return err_wrap(err, r, "exec %s in %s", req->exec_id, req->id);

	Containerd__Events__TaskExecAdded *e =
		pb_new(&containerd__events__task_exec_added__descriptor);

	pb_str(&e->container_id, req->id);
	pb_str(&e->exec_id, req->exec_id);
	publisher_send(s->publisher, "/tasks/exec-added", &e->base);
	pb_free(e);
	return 0;
}

/* ---- State, Wait, Kill, Delete ---- */

static Containerd__V1__Types__Status status_of(enum process_state state)
{
	switch (state) {
	case PROCESS_CREATED:
		return CONTAINERD__V1__TYPES__STATUS__CREATED;
	case PROCESS_RUNNING:
		return CONTAINERD__V1__TYPES__STATUS__RUNNING;
	case PROCESS_TERMINATED:
		return CONTAINERD__V1__TYPES__STATUS__STOPPED;
	default:
		return CONTAINERD__V1__TYPES__STATUS__UNKNOWN;
	}
}

HANDLER(task_state)
{
	REQUEST(StateRequest);
	REPLY(StateResponse);
	_cleanup_task_ struct task *t = task_find(ctx, req->id);
	struct process_status status;

	if (!t)
		return task_not_found(req->id, err);

	int r = container_status(t->container, req->exec_id, &status, err);

	if (r < 0)
		return r;
	pb_str(&rep->id, str_empty(req->exec_id) ? req->id : req->exec_id);
	pb_str(&rep->bundle, container_bundle(t->container));
	pb_str(&rep->stdin, status.in);
	pb_str(&rep->stdout, status.out);
	pb_str(&rep->stderr, status.err);
	pb_str(&rep->exec_id, req->exec_id);
	rep->pid = status.pid;
	rep->status = status_of(status.state);
	if (status.state == PROCESS_RUNNING &&
	    container_get_state(t->container) == CONTAINER_PAUSED)
		rep->status = CONTAINERD__V1__TYPES__STATUS__PAUSED;
	rep->terminal = status.terminal;
	rep->exit_status = status.exit_status;
	rep->exited_at = pb_time(status.exited_at);
	return 0;
}

HANDLER(task_wait)
{
	REQUEST(WaitRequest);
	REPLY(WaitResponse);
	_cleanup_task_ struct task *t = task_find(ctx, req->id);
	struct process_status status;

	if (!t)
		return task_not_found(req->id, err);

	int r = container_status(t->container, req->exec_id, &status, err);

	if (r < 0)
		return r;
	if (status.state != PROCESS_TERMINATED) {
		task_park_wait(t, req->exec_id, call);
		return TTRPC_PARKED;
	}
	rep->exit_status = status.exit_status;
	rep->exited_at = pb_time(status.exited_at);
	return 0;
}

HANDLER(task_kill)
{
	REQUEST(KillRequest);
	_cleanup_task_ struct task *t = task_find(ctx, req->id);

	if (!t)
		return task_not_found(req->id, err);

	int r = container_kill(t->container, req->exec_id, req->signal, req->all, err);

	return r < 0 ? err_wrap(err, r, "kill %s", req->id) : 0;
}

static void publish_delete(struct service *s, const char *id, const struct process_status *status)
{
	Containerd__Events__TaskDelete *e = pb_new(&containerd__events__task_delete__descriptor);

	pb_str(&e->container_id, id);
	pb_str(&e->id, id);
	e->pid = status->pid;
	e->exit_status = status->exit_status;
	e->exited_at = pb_time(status->exited_at);
	publisher_send(s->publisher, "/tasks/delete", &e->base);
	pb_free(e);
}

HANDLER(task_delete)
{
	REQUEST(DeleteRequest);
	REPLY(DeleteResponse);
	struct service *s = ctx;
	_cleanup_task_ struct task *t = task_find(s, req->id);
	struct process_status status;

	if (!t)
		return task_not_found(req->id, err);

	int r = container_delete(t->container, req->exec_id, &status, err);

	if (r < 0)
		return err_wrap(err, r, "delete %s", req->id);
	status.exec_id = req->exec_id;
	rep->pid = status.pid;
	rep->exit_status = status.exit_status;
	rep->exited_at = pb_time(status.exited_at);
	task_answer_waits(t, &status);
	if (!str_empty(req->exec_id))
		return 0;
	/* Two Deletes may have come together, and the table may hold another task of this name by
	 * now. */
	if (map_get(&s->tasks, t->id) == t) {
		publish_delete(s, req->id, &status);
		task_remove(t, &status);
		t->pod = pod_put(t->pod);
	}
	return 0;
}

/* ---- the rest ---- */

HANDLER(task_pids)
{
	REQUEST(PidsRequest);
	_cleanup_task_ struct task *t = task_find(ctx, req->id);
	_cleanup_free_ uint32_t *pids = NULL;
	_cleanup_free_ const char **exec_ids = NULL;
	size_t n;

	if (!t)
		return task_not_found(req->id, err);

	int r = container_pids(t->container, &pids, &exec_ids, &n, err);

	for (size_t i = 0; r >= 0 && i < n; i++) {
		Containerd__V1__Types__ProcessInfo *p =
			pb_new(&containerd__v1__types__process_info__descriptor);

		p->pid = pids[i];
		if (!str_empty(exec_ids[i])) {
			Containerd__Runc__V1__ProcessDetails d =
				CONTAINERD__RUNC__V1__PROCESS_DETAILS__INIT;
			_cleanup_free_ char *exec_id = mem_strdup(exec_ids[i]);

			d.exec_id = exec_id;
			p->info = pb_any(&d.base);
		}
		pb_append(reply, "processes", p);
	}
	return r;
}

HANDLER(task_resize)
{
	REQUEST(ResizePtyRequest);
	_cleanup_task_ struct task *t = task_find(ctx, req->id);

	if (!t)
		return task_not_found(req->id, err);
	if (req->width > UINT16_MAX || req->height > UINT16_MAX)
		return err_set(err, -ERR_INVALID, "resize: %u × %u is too large", req->width,
			       req->height);
	return container_resize(t->container, req->exec_id, (uint16_t)req->width,
				(uint16_t)req->height, err);
}

HANDLER(task_close_io)
{
	REQUEST(CloseIORequest);
	_cleanup_task_ struct task *t = task_find(ctx, req->id);

	if (!t)
		return task_not_found(req->id, err);
	return req->stdin ? container_close_stdin(t->container, req->exec_id, err) : 0;
}

/* Asked again by a restarted daemon: must not wait for the guest. A sandbox id is known even
 * without a task of that name. */
HANDLER(task_connect)
{
	REQUEST(ConnectRequest);
	REPLY(ConnectResponse);
	struct service *s = ctx;
	_cleanup_task_ struct task *t = task_find(s, req->id);
	struct process_status status;

	if (!t && !str_eq(req->id, s->options->sandbox) && !str_eq(req->id, s->sandbox.id))
		return task_not_found(req->id, err);
	rep->shim_pid = (uint32_t)getpid();
	if (t && container_status(t->container, "", &status, NULL) == 0)
		rep->task_pid = status.pid;
	return 0;
}

HANDLER(task_shutdown)
{
	struct service *s = ctx;

	/* A sandbox ends by ShutdownSandbox only: clients send this for each of its containers. */
	if (s->tasks.len == 0 && !s->sandbox.id)
		service_shutdown(s);
	return 0;
}

HANDLER(task_checkpoint)
{
	return err_set(err, -ERR_UNIMPLEMENTED,
		       "checkpoints are not supported by io.containerd.lcow.v2");
}

#define ROW(name, request, reply, handler) \
	{ \
		name, &containerd__task__v2__##request##__descriptor, reply, handler \
	}
#define REPLY_TYPE(x) &containerd__task__v2__##x##__descriptor
#define EMPTY &google__protobuf__empty__descriptor

static const struct ttrpc_method methods[] = {
	ROW("State", state_request, REPLY_TYPE(state_response), task_state),
	ROW("Create", create_task_request, REPLY_TYPE(create_task_response), task_create),
	ROW("Start", start_request, REPLY_TYPE(start_response), task_start),
	ROW("Delete", delete_request, REPLY_TYPE(delete_response), task_delete),
	ROW("Pids", pids_request, REPLY_TYPE(pids_response), task_pids),
	ROW("Pause", pause_request, EMPTY, task_pause),
	ROW("Resume", resume_request, EMPTY, task_resume),
	ROW("Checkpoint", checkpoint_task_request, EMPTY, task_checkpoint),
	ROW("Kill", kill_request, EMPTY, task_kill),
	ROW("Exec", exec_process_request, EMPTY, task_exec),
	ROW("ResizePty", resize_pty_request, EMPTY, task_resize),
	ROW("CloseIO", close_iorequest, EMPTY, task_close_io),
	ROW("Update", update_task_request, EMPTY, task_update),
	ROW("Wait", wait_request, REPLY_TYPE(wait_response), task_wait),
	ROW("Stats", stats_request, REPLY_TYPE(stats_response), task_stats),
	ROW("Connect", connect_request, REPLY_TYPE(connect_response), task_connect),
	ROW("Shutdown", shutdown_request, EMPTY, task_shutdown),
};

/* The messages are the same; only the service's name differs. */
const struct ttrpc_service task_service_v2 = { "containerd.task.v2.Task", methods,
					       ARRAY_SIZE(methods) };
const struct ttrpc_service task_service_v3 = { "containerd.task.v3.Task", methods,
					       ARRAY_SIZE(methods) };
