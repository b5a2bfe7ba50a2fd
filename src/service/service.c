/* SPDX-License-Identifier: Apache-2.0 */
#include "service/service.h"

#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "events.pb-c.h"
#include "guest/guest.h"
#include "service/service_priv.h"
#include "task.pb-c.h"
#include "wire/json.h"
#include "wire/pb.h"

enum { EVENTS_SEC = 5, EXITS_SEC = 5 };

const struct ttrpc_service *const service_table[] = { &task_service_v2, &task_service_v3,
						      &sandbox_service, &diag_service, NULL };

/* ---- tasks and their parked Waits ---- */

struct waiter {
	struct list link;
	struct ttrpc_call *call;
	char *exec_id;
};

static void answer(struct waiter *w, const struct process_status *status)
{
	Containerd__Task__V2__WaitResponse *reply =
		(Containerd__Task__V2__WaitResponse *)ttrpc_parked_reply(w->call);
	struct err err = { 0 };
	int r = 0;

	if (status) {
		reply->exit_status = status->exit_status;
		reply->exited_at = pb_time(status->exited_at);
	} else {
		r = err_set(&err, -ERR_NOT_FOUND, "process was deleted: not found");
	}
	list_remove(&w->link);
	ttrpc_reply(w->call, r, &err);
	free(w->exec_id);
	free(w);
}

void task_park_wait(struct task *t, const char *exec_id, struct ttrpc_call *call)
{
	struct waiter *w = NEW0(struct waiter);

	ttrpc_park(call);
	w->call = call;
	w->exec_id = mem_strdup(exec_id);
	list_append(&t->waiters, &w->link);
}

void task_answer_waits(struct task *t, const struct process_status *status)
{
	LIST_FOR_EACH_SAFE(link, &t->waiters) {
		struct waiter *w = LIST_ENTRY(link, struct waiter, link);

		if (str_eq(w->exec_id, status->exec_id))
			answer(w, status);
	}
}

static CO void on_task_exit(const char *container, const struct process_status *status, void *arg)
{
	struct task *t = arg;
	Containerd__Events__TaskExit *e = pb_new(&containerd__events__task_exit__descriptor);

	pb_str(&e->container_id, container);
	pb_str(&e->id, str_empty(status->exec_id) ? container : status->exec_id);
	e->pid = status->pid;
	e->exit_status = status->exit_status;
	e->exited_at = pb_time(status->exited_at);
	publisher_send(t->service->publisher, "/tasks/exit", &e->base);
	pb_free(e);
	task_answer_waits(t, status);
}

struct task *task_new(struct service *s, const char *id, const char *pod)
{
	if (map_get(&s->tasks, id))
		return NULL;

	struct task *t = NEW0(struct task);
	struct container_events events = { .exited = on_task_exit, .arg = t };

	t->service = s;
	t->id = mem_strdup(id);
	t->refs = 2;
	list_init(&t->waiters);
	t->container = container_new(&s->env, id, pod, &events);
	map_set(&s->tasks, id, t);
	return t;
}

struct task *task_find(struct service *s, const char *id)
{
	struct task *t = map_get(&s->tasks, id ? id : "");

	if (!t || !t->created)
		return NULL;
	t->refs++;
	return t;
}

void task_put(struct task *t)
{
	if (--t->refs > 0)
		return;
	container_free(t->container);
	free(t->id);
	free(t);
}

void task_remove(struct task *t, const struct process_status *status)
{
	map_remove(&t->service->tasks, t->id);
	LIST_FOR_EACH_SAFE(link, &t->waiters)
		answer(LIST_ENTRY(link, struct waiter, link), status);
	task_put(t);
}

/* ---- the VM ---- */

int service_read_config(const char *bundle, struct json_object **ret, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/config.json", bundle);
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(path, JSON_TEXT_MAX, &text, &len);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_set(err, -ERR_INVALID, "read %s: %s", path, strerror(-r));
	r = json_parse(text, len, &o, err);
	if (r >= 0 && !json_object_is_type(o, json_type_object))
		r = err_set(err, -ERR_INVALID, "it is no JSON object");
	if (r < 0)
		return err_wrap(err, r, "%s", path);
	*ret = TAKE_PTR(o);
	return 0;
}

CO int service_create_vm(struct service *s, const struct vm_config *cfg, struct err *err)
{
	struct vm_config booted = *cfg;
	int r = boot_files_load(s->options->boot_files, &s->boot, err);

	if (r < 0)
		return r;
	booted.boot = &s->boot;
	r = vm_create(s->vm, &booted, s->deny_writable_shares, err);
	if (r < 0) {
		boot_files_free(&s->boot);
		return err_wrap(err, r, "create the VM");
	}
	s->env.guest = vm_guest(s->vm);
	if (s->env.guest)
		guest_on_oom(s->env.guest, task_oom, s);
	s->env.scsi = vm_scsi(s->vm);
	s->env.shares = vm_shares(s->vm);
	s->env.sockets = vm_sockets(s->vm);
	s->env.vpci = vm_vpci(s->vm);
	s->env.sizing = vm_sizing(s->vm);
	return 0;
}

CO int service_start_vm(struct service *s, struct err *err)
{
	if (vm_state(s->vm) != VM_CREATED && vm_state(s->vm) != VM_RUNNING)
		return vm_require_running(s->vm, err);

	int r = vm_start(s->vm, err);

	return r < 0 ? err_wrap(err, r, "start the VM") : 0;
}

CO int service_ensure_vm(struct service *s, struct json_object *spec, struct err *err)
{
	if (vm_state(s->vm) == VM_RUNNING)
		return 0;
	CO_LOCK(&s->vm_lock);

	if (s->closing)
		return err_set(err, -ERR_STATE, "the sandbox is being shut down");
	if (s->sandbox.id)
		return vm_require_running(s->vm, err);
	if (vm_state(s->vm) == VM_NOT_CREATED) {
		struct vm_config cfg = s->options->vm;
		int r = service_read_annotations(s, json_get(spec, "annotations", NULL), &cfg, err);

		cfg.cgroup = json_get_str(json_get(spec, "linux", NULL), "cgroupsPath");
		if (r >= 0)
			r = service_create_vm(s, &cfg, err);
		if (r < 0)
			return r;
	}
	return service_start_vm(s, err);
}

static void on_vm_exit(void *arg)
{
	struct service *s = arg;

	log_info("the VM has ended, exit status %u", vm_exit_status(s->vm));
	sandbox_answer_waits(s);
}

/* ---- life ---- */

struct service *service_new(const struct service_options *options)
{
	struct service *s = NEW0(struct service);
	struct vm_events events = { .exited = on_vm_exit, .arg = s };

	s->options = options;
	s->deny_writable_shares = options->deny_writable_shares;
	s->publisher = publisher_new(options->events, options->namespace);
	s->vm = vm_new(&events);
	co_mutex_init(&s->vm_lock);
	list_init(&s->sandbox.waiters);
	s->env = (struct container_env){
		.ops = &container_guest_ops,
		.process_ops = &process_guest_ops,
		.work_dir = options->work_dir,
		.scratch_dir = options->scratch_dir,
		.scratch_bytes = options->scratch_bytes,
		.upper = options->upper,
		.namespace = options->namespace,
		.run_dir = options->vm.run_dir,
	};
	return s;
}

bool service_untouched(const struct service *s)
{
	return !s->touched;
}

static struct task *find_running(struct service *s)
{
	MAP_FOR_EACH(e, &s->tasks) {
		struct task *t = e->value;

		enum container_state state = container_get_state(t->container);

		if (t->created && (state == CONTAINER_RUNNING || state == CONTAINER_PAUSED)) {
			t->refs++;
			return t;
		}
	}
	return NULL;
}

/* Until every task has ended, at most @usec. */
static CO void await_exits(struct service *s, uint64_t usec)
{
	CO_LIMIT(usec);

	/* The table may change while one is waited for. */
	for (struct task *t; (t = find_running(s));) {
		struct process_status status;
		int r = container_wait(t->container, "", &status, NULL);

		task_put(t);
		if (r < 0)
			return;
	}
}

static CO void tell_tasks(struct service *s)
{
	_cleanup_strv_ char **ids = NULL;

	/* The table may change while one is told. */
	MAP_FOR_EACH(e, &s->tasks)
		strv_add(&ids, e->key);
	for (char **id = ids; id && *id; id++) {
		_cleanup_task_ struct task *t = task_find(s, *id);

		if (t)
			container_kill(t->container, "", SIGTERM, false, NULL);
	}
}

CO void service_stop(struct service *s, uint64_t usec)
{
	if (usec > 0 && vm_state(s->vm) == VM_RUNNING) {
		/* A guest that hangs takes no signals either. */
		CO_LIMIT(usec);
		tell_tasks(s);
		await_exits(s, usec);
	}
	/* A Create that is starting the VM is not waited for: its start ends at once. */
	vm_terminate(s->vm, NULL);
	/* Its end is every task's exit: each Wait must be answered and each event queued before the
	 * queue is drained. */
	await_exits(s, EXITS_SEC * USEC_PER_SEC);

	struct pod *pod = TAKE_PTR(s->sandbox.pod);

	/* Clients remove the network namespace as soon as this is answered. */
	pods_release(vm_pods(s->vm));
	pod_put(pod);
	sandbox_answer_waits(s);
}

static CO void shutdown(void *arg)
{
	struct service *s = arg;

	service_stop(s, 0);
	publisher_drain(s->publisher, EVENTS_SEC * USEC_PER_SEC);
	s->options->done(s->options->arg);
}

void service_shutdown(struct service *s)
{
	if (s->closing)
		return;
	s->closing = true;
	co_spawn("shutdown", shutdown, s, USEC_NEVER);
}

struct service *service_free(struct service *s)
{
	if (!s)
		return NULL;
	while (s->tasks.len > 0)
		task_remove(s->tasks.entries[s->tasks.len - 1].value, NULL);
	map_free(&s->tasks);
	sandbox_free(s);
	publisher_free(s->publisher);
	vm_free(s->vm);
	boot_files_free(&s->boot);
	free(s);
	return NULL;
}
