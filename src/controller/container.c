/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/container.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/err.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "controller/block_volumes.h"
#include "controller/device/scsi.h"
#include "controller/device/share.h"
#include "controller/device/socket.h"
#include "controller/device/vpci.h"
#include "controller/devices.h"
#include "controller/mounts.h"
#include "controller/resources.h"
#include "controller/rootfs.h"
#include "controller/sizing.h"
#include "controller/spec.h"
#include "controller/vm.h"
#include "guest/guest.h"
#include "wire/gcs.h"
#include "wire/json.h"

enum { ROLLBACK_SEC = 60, EXECS_SEC = 2, PIDS_SEC = 3, METRICS_SEC = 5, SIGNAL_MAX = 64 };

static const char *const state_names[] = { "NotCreated", "Created", "Running",
					   "Paused",     "Stopped", "Invalid" };
_Static_assert(ARRAY_SIZE(state_names) == CONTAINER_STATE_END, "a name for each state");

#define TO(s) (1u << (s))
static const unsigned moves[] = {
	[CONTAINER_NOT_CREATED] = TO(CONTAINER_CREATED) | TO(CONTAINER_INVALID),
	[CONTAINER_CREATED] = TO(CONTAINER_RUNNING) | TO(CONTAINER_STOPPED) | TO(CONTAINER_INVALID),
	[CONTAINER_RUNNING] = TO(CONTAINER_PAUSED) | TO(CONTAINER_STOPPED),
	[CONTAINER_PAUSED] = TO(CONTAINER_RUNNING) | TO(CONTAINER_STOPPED),
	[CONTAINER_STOPPED] = 0,
	[CONTAINER_INVALID] = 0,
};
_Static_assert(ARRAY_SIZE(moves) == CONTAINER_STATE_END, "a row for each state");

/**
 * struct container - see container.h
 * @lock:	one of create, start, delete at a time
 * @in_guest:	the guest knows it
 * @claim:	what its limits ask of the VM
 * @share_ids:	reservations of its mounts
 * @socket_ids: what its mounts have of the host's unix sockets
 * @device_ids:	reservations of its PCI devices
 * @disk_ids:	reservations of disks that its mounts name
 * @metrics:	the last ones that the guest gave
 * @processes:	exec id → struct process; init is ""
 */
struct container {
	const struct container_env *env;
	struct container_events events;
	char *id;
	char *pod;
	char *bundle;
	enum container_state state;
	struct co_mutex lock;
	struct claim claim;
	struct rootfs rootfs;
	char **share_ids;
	char **socket_ids;
	char **device_ids;
	char **disk_ids;
	bool in_guest;
	char *metrics;
	struct map processes;
};

static void set_state(struct container *c, enum container_state to)
{
	struct log_fields f = { .container = c->id };

	if (!(moves[c->state] & TO(to))) {
		log_msg(LOG_ERROR, &f, "illegal move from %s to %s refused", state_names[c->state],
			state_names[to]);
		return;
	}
	c->state = to;
}

/* ---- the guest behind the ops ---- */

static CO int guest_combine(void *ctx, const struct gcs_combined_layers *layers, struct err *err)
{
	return guest_modify(ctx, NULL, "Add", "CombinedLayers", &gcs_combined_layers_table, layers,
			    err);
}

static CO int guest_remove_layers(void *ctx, const struct gcs_combined_layers *layers,
				  struct err *err)
{
	return guest_modify(ctx, NULL, "Remove", "CombinedLayers", &gcs_combined_layers_table,
			    layers, err);
}

/* hcsshim's agent hands limits of page sizes that the VM does not have to its runtime, which fails.
 */
static void fit_hugepages(void *ctx, struct json_object *resources)
{
	if (json_object_is_type(resources, json_type_object) && !guest_has(ctx, GCS_EXT_METRICS))
		json_object_object_del(resources, "hugepageLimits");
}

static CO int guest_create_container(void *ctx, const char *id,
				     const struct gcs_container_config *config, struct err *err)
{
	fit_hugepages(ctx, json_get(config->spec, "linux", "resources", NULL));
	return guest_create(ctx, id, config, err);
}

static CO int guest_start_container(void *ctx, const char *id, struct err *err)
{
	return guest_start(ctx, id, err);
}

static CO int guest_delete_container(void *ctx, const char *id, struct err *err)
{
	return guest_delete_state(ctx, id, err);
}

static CO int guest_freeze(void *ctx, const char *id, bool frozen, struct err *err)
{
	struct gcs_freezer freezer = { .frozen = frozen };

	if (!guest_has(ctx, GCS_EXT_FREEZER))
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "the agent in the VM cannot pause containers");
	return guest_modify(ctx, id, "Update", "Freezer", &gcs_freezer_table, &freezer, err);
}

static CO int guest_get_metrics(void *ctx, const char *id, char **ret, struct err *err)
{
	bool own = guest_has(ctx, GCS_EXT_METRICS);

	return guest_properties(ctx, id, own ? GCS_EXT_METRICS : "Statistics", ret, err);
}

static CO int guest_get_properties(void *ctx, const char *id, const char *type, char **ret,
				   struct err *err)
{
	return guest_properties(ctx, id, type, ret, err);
}

static CO int guest_update_container(void *ctx, const char *id, struct json_object *resources,
				     struct err *err)
{
	_cleanup_json_ struct json_object *windows = json_object_new_object();
	struct gcs_constraints constraints = { .windows = windows, .lin = resources };

	fit_hugepages(ctx, resources);
	return guest_modify(ctx, id, "Update", "ContainerConstraints", &gcs_constraints_table,
			    &constraints, err);
}

const struct container_ops container_guest_ops = {
	.combine_layers = guest_combine,
	.remove_layers = guest_remove_layers,
	.create = guest_create_container,
	.start = guest_start_container,
	.delete_state = guest_delete_container,
	.freeze = guest_freeze,
	.metrics = guest_get_metrics,
	.properties = guest_get_properties,
	.update = guest_update_container,
};

/* ---- life ---- */

struct container *container_new(const struct container_env *env, const char *id, const char *pod,
				const struct container_events *events)
{
	struct container *c = NEW0(struct container);

	c->env = env;
	c->events = *events;
	c->id = mem_strdup(id);
	c->pod = mem_strdup(pod);
	co_mutex_init(&c->lock);
	claim_init(&c->claim, c->id, c->pod);
	return c;
}

struct container *container_free(struct container *c)
{
	if (!c)
		return NULL;
	MAP_FOR_EACH(e, &c->processes)
		process_free(e->value);
	map_free(&c->processes);
	claim_release(&c->claim);
	rootfs_drop_host(&c->rootfs);
	strv_free(c->share_ids);
	strv_free(c->socket_ids);
	strv_free(c->device_ids);
	strv_free(c->disk_ids);
	free(c->bundle);
	free(c->metrics);
	free(c->id);
	free(c->pod);
	free(c);
	return NULL;
}

static struct process *find(struct container *c, const char *exec_id)
{
	return map_get(&c->processes, exec_id ? exec_id : "");
}

static int no_process(const struct container *c, const char *exec_id, struct err *err)
{
	if (str_empty(exec_id))
		return err_set(err, -ERR_NOT_FOUND, "%s: container not created: not found", c->id);
	return err_set(err, -ERR_NOT_FOUND, "%s: process does not exist %s: not found", c->id,
		       exec_id);
}

/* ---- releasing ---- */

/* Gives up each of @ids, with the controller's unmap; those that fail are left, and the first
 * failure is told. */
static CO int release_each(char ***ids,
			   CO int (*unmap)(void *ctrl, const char *id, struct err *err), void *ctrl,
			   struct err *err)
{
	char **left = NULL;
	int first = 0;

	for (char **id = *ids; id && *id; id++) {
		struct err other = { 0 };
		int r = unmap(ctrl, *id, first < 0 ? &other : err);

		if (r < 0) {
			strv_add(&left, *id);
			first = first < 0 ? first : r;
		}
	}
	strv_free(*ids);
	*ids = left;
	return first;
}

static CO int unmap_share(void *shares, const char *id, struct err *err)
{
	return share_unmap(shares, id, err);
}

static CO int unmap_socket(void *sockets, const char *id, struct err *err)
{
	return socket_unmap(sockets, id, err);
}

static CO int unmap_device(void *vpci, const char *id, struct err *err)
{
	return vpci_unmap(vpci, id, err);
}

/*
 * Layers, then the guest's state (which unmounts what lies on the scratch disk), then what these
 * were made of, and shares, sockets, devices and disks. What was released is forgotten at once, so
 * that a repeated call goes on where this one failed. Independent steps go on after a failure.
 */
static CO int release_resources(struct container *c, struct err *err)
{
	const struct {
		char ***ids;
		CO int (*unmap)(void *ctrl, const char *id, struct err *err);
		void *ctrl;
	} reserved[] = {
		{ &c->share_ids, unmap_share, c->env->shares },
		{ &c->socket_ids, unmap_socket, c->env->sockets },
		{ &c->device_ids, unmap_device, c->env->vpci },
	};
	struct err other = { 0 };
	int r;

	claim_release(&c->claim);
	r = rootfs_uncombine(&c->rootfs, c->env, c->id, err);

	if (r < 0)
		return r;
	if (c->in_guest) {
		r = c->env->ops->delete_state(c->env->guest, c->id, err);
		if (r < 0 && !vm_device_gone(r))
			return err_wrap(err, r, "delete the guest's state");
		c->in_guest = false;
	}
	r = rootfs_release(&c->rootfs, c->env, err);
	for (size_t i = 0; i < ARRAY_SIZE(reserved); i++) {
		int k = release_each(reserved[i].ids, reserved[i].unmap, reserved[i].ctrl,
				     r < 0 ? &other : err);

		r = r < 0 ? r : k;
	}

	bool any = c->disk_ids != NULL;
	uint64_t t0 = time_mono();
	int k = scsi_unmap_all(c->env->scsi, &c->disk_ids, r < 0 ? &other : err);

	if (any && k >= 0)
		log_phase("disks released", t0);
	return r < 0 ? r : k;
}

/* ---- limits ---- */

/* What @size becomes with these resources, and the VM with it. */
static CO int claim(struct container *c, struct json_object *resources, struct claim_size *size,
		    struct err *err)
{
	int r = resources_size(resources, size, err);

	if (r < 0)
		return err_wrap(err, r, "resources");
	return c->env->sizing ? sizing_claim(c->env->sizing, &c->claim, size, err) : 0;
}

CO int container_update(struct container *c, struct json_object *resources, struct err *err)
{
	CO_LOCK(&c->lock);

	const struct claim_size before = c->claim.size;
	struct claim_size size = before;

	if (c->state != CONTAINER_CREATED && c->state != CONTAINER_RUNNING &&
	    c->state != CONTAINER_PAUSED)
		return err_set(err, -ERR_STATE, "cannot update a stopped container");

	int r = claim(c, resources, &size, err);

	if (r < 0)
		return r;

	_cleanup_json_ struct json_object *limits = resources_for_guest(resources);

	r = c->env->ops->update(c->env->guest, c->id, limits, err);
	if (r >= 0)
		return 0;
	/* What was not waited for may have been done or not: be ready for both. */
	c->claim.size = vm_call_abandoned(r) ? size : before;
	if (c->claim.size.memory < before.memory)
		c->claim.size.memory = before.memory;
	return r;
}

/* ---- Create ---- */

static CO int make_guest_container(struct container *c, struct json_object *spec, struct err *err)
{
	_cleanup_free_ char *bundle = str_printf("/run/gcs/pods/%s/%s", c->pod, c->id);
	_cleanup_free_ char *scratch = str_printf("%s/scratch", bundle);
	struct gcs_container_config config = {
		.schema = { .major = 2, .minor = 1 },
		.bundle = bundle,
		.spec = spec,
		/* The guest removes it with the container. */
		.scratch = c->rootfs.scratch_is_own ? c->rootfs.scratch_dir : scratch,
	};
	uint64_t t0 = time_mono();
	int r = c->env->ops->create(c->env->guest, c->id, &config, err);

	c->in_guest = r >= 0 || vm_call_abandoned(r);
	if (r < 0)
		return err_wrap(err, r, "create container in the guest");
	log_phase("create in the guest", t0);
	return 0;
}

static CO int build(struct container *c, const struct container_request *request, struct err *err)
{
	_cleanup_json_ struct json_object *spec = NULL;
	struct claim_size size = { 0 };
	uint64_t t0 = time_mono();
	int r;

	c->claim.sum = str_eq(c->id, c->pod) &&
		       resources_of_pod(json_get(request->spec, "annotations", NULL), &size);
	r = claim(c, json_get(request->spec, "linux", "resources", NULL), &size, err);
	if (r >= 0)
		r = rootfs_prepare(&c->rootfs, c->env, c->id, c->pod, request, err);
	if (r < 0)
		return r;
	log_phase("layers", t0);
	t0 = time_mono();
	r = spec_for_guest(request->spec, c->rootfs.guest_path, c->pod, &spec, err);
	if (r >= 0 && c->rootfs.read_only)
		json_object_object_add(json_get(spec, "root", NULL), "readonly",
				       json_object_new_boolean(true));
	if (r >= 0)
		r = block_volumes_fit(request->spec, spec, "", err);
	if (r >= 0)
		r = mounts_map(c->env, spec, &c->share_ids, &c->socket_ids, &c->disk_ids, err);
	if (r >= 0)
		r = devices_map(c->env->vpci, spec, &c->device_ids, err);
	if (r < 0)
		return r;
	log_phase("mounts and devices", t0);
	return make_guest_container(c, spec, err);
}

/* The guest has made init already, and its pid is what the client shall know. A guest that doesn't
 * say leaves it 0. */
static CO void ask_init_pid(struct container *c, struct process *init)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ struct json_object *o = NULL;

	if (c->env->ops->properties(c->env->guest, c->id, "ProcessList", &text, NULL) < 0 ||
	    json_parse(text, strlen(text), &o, NULL) < 0)
		return;

	struct json_object *list = json_get(o, "ProcessList", NULL);

	if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) == 0)
		return;

	struct json_object *pid = json_get(json_object_array_get_idx(list, 0), "ProcessId", NULL);

	if (json_object_is_type(pid, json_type_int))
		process_set_pid(init, (uint32_t)json_object_get_int64(pid));
}

static struct stdio_paths with_logger(const struct container *c, const struct stdio_paths *io)
{
	struct stdio_paths named = *io;

	named.logger.namespace = c->env->namespace;
	named.logger.run_dir = c->env->run_dir;
	return named;
}

CO int container_create(struct container *c, const struct container_request *request,
			struct err *err)
{
	struct stdio_paths io = with_logger(c, &request->io);
	CO_LOCK(&c->lock);

	if (c->state != CONTAINER_NOT_CREATED)
		return err_set(err, -ERR_STATE, "container is in state %s", state_names[c->state]);
	c->bundle = mem_strdup(request->bundle);

	struct process *init = process_new(c->env->process_ops, c->env->guest, c->id, "");
	int r = process_create(init, &io, NULL, err);

	if (r >= 0)
		r = build(c, request, err);
	if (r < 0) {
		struct err rollback = { 0 };
		CO_SHIELD(ROLLBACK_SEC * USEC_PER_SEC);

		process_delete(init, NULL);
		process_free(init);
		set_state(c, CONTAINER_INVALID);
		if (release_resources(c, &rollback) < 0)
			log_error("roll back container %s: %s", c->id, rollback.text);
		return r;
	}
	ask_init_pid(c, init);
	map_set(&c->processes, "", init);
	set_state(c, CONTAINER_CREATED);
	return 0;
}

/* ---- Start, exec, exit ---- */

static CO void on_process_exit(struct process *p, void *arg)
{
	struct container *c = arg;
	struct process_status status;

	process_get_status(p, &status);
	if (str_empty(status.exec_id) &&
	    (c->state == CONTAINER_RUNNING || c->state == CONTAINER_CREATED ||
	     c->state == CONTAINER_PAUSED))
		set_state(c, CONTAINER_STOPPED);
	c->events.exited(c->id, &status, c->events.arg);
}

static CO int start_init(struct container *c, struct process *init, struct err *err)
{
	if (c->state != CONTAINER_CREATED)
		return err_set(err, -ERR_STATE, "cannot start a container in state %s",
			       state_names[c->state]);

	int r = c->env->ops->start(c->env->guest, c->id, err);

	if (r >= 0)
		r = process_start(init, on_process_exit, c, err);
	if (r < 0)
		process_fail(init);
	/* It may have been killed meanwhile, and is Stopped then. */
	if (c->state == CONTAINER_CREATED)
		set_state(c, r < 0 ? CONTAINER_INVALID : CONTAINER_RUNNING);
	return r;
}

static int exec_paused(struct err *err)
{
	return err_set(err, -ERR_STATE, "cannot exec in a paused state");
}

CO int container_start(struct container *c, const char *exec_id, uint32_t *ret_pid, struct err *err)
{
	CO_LOCK(&c->lock);

	struct process *p = find(c, exec_id);
	struct process_status status;
	int r;

	if (!p)
		return no_process(c, exec_id, err);
	if (str_empty(exec_id))
		r = start_init(c, p, err);
	else if (c->state == CONTAINER_PAUSED)
		r = exec_paused(err);
	else if (c->state != CONTAINER_RUNNING)
		r = err_set(err, -ERR_STATE, "cannot exec in a container in state %s",
			    state_names[c->state]);
	else
		r = process_start(p, on_process_exit, c, err);
	if (r < 0)
		return r;
	process_get_status(p, &status);
	*ret_pid = status.pid;
	return 0;
}

void container_started(struct container *c, const char *exec_id)
{
	struct process *p = find(c, exec_id);

	if (p)
		process_release_exit(p);
}

CO int container_exec(struct container *c, const char *exec_id, const struct stdio_paths *io,
		      struct json_object *spec, struct err *err)
{
	_cleanup_json_ struct json_object *owned = spec;
	struct stdio_paths named = with_logger(c, io);

	if (c->state == CONTAINER_PAUSED)
		return exec_paused(err);
	if (c->state != CONTAINER_RUNNING)
		return err_set(err, -ERR_STATE, "cannot exec in a container in state %s",
			       state_names[c->state]);
	if (!json_object_is_type(spec, json_type_object))
		return err_set(err, -ERR_INVALID, "the process spec is no JSON object");
	if (find(c, exec_id))
		return err_set(err, -ERR_EXISTS, "exec process %s: already exists", exec_id);

	struct process *p = process_new(c->env->process_ops, c->env->guest, c->id, exec_id);
	int r = process_create(p, &named, TAKE_PTR(owned), err);

	/* A logging driver takes its time: others may have come, or the container gone. */
	if (r >= 0 && find(c, exec_id))
		r = err_set(err, -ERR_EXISTS, "exec process %s: already exists", exec_id);
	else if (r >= 0 && c->state != CONTAINER_RUNNING)
		r = err_set(err, -ERR_STATE, "the container has stopped: exec %s", exec_id);
	if (r < 0) {
		process_delete(p, NULL);
		process_free(p);
		return r;
	}
	map_set(&c->processes, exec_id, p);
	return 0;
}

/* ---- Kill, Delete, Wait ---- */

static CO int kill_process(struct container *c, struct process *p, int signal, struct err *err)
{
	struct process_status before;

	process_get_status(p, &before);

	int r = process_kill(p, signal, err);

	/* It was never started, so no exit will come from the guest: this is it. */
	if (r >= 0 && before.state == PROCESS_CREATED)
		on_process_exit(p, c);
	return r;
}

/* By name, because the table may change while one of them is under way. */
static char **exec_names(const struct container *c)
{
	char **ids = NULL;

	MAP_FOR_EACH(e, &c->processes) {
		if (*e->key)
			strv_add(&ids, e->key);
	}
	return ids;
}

static CO void kill_execs(struct container *c, int signal)
{
	_cleanup_strv_ char **ids = exec_names(c);

	for (char **id = ids; id && *id; id++) {
		struct process *p = find(c, *id);
		struct err err = { 0 };
		int r = p ? kill_process(c, p, signal, &err) : 0;

		if (r < 0 && r != -ERR_NOT_FOUND)
			log_warn("signal exec %s: %s", *id, err.text);
	}
}

/* Whoever waits for an exec is told of its end before its container is gone. */
static CO void end_execs(struct container *c)
{
	CO_LIMIT(EXECS_SEC * USEC_PER_SEC);
	_cleanup_strv_ char **ids = exec_names(c);

	kill_execs(c, SIGKILL);
	for (char **id = ids; id && *id; id++) {
		struct process *p = find(c, *id);

		if (p && process_wait(p) < 0)
			return;
	}
}

/* Those of execs that nobody deleted. */
static CO void await_loggers(struct container *c)
{
	_cleanup_strv_ char **ids = exec_names(c);

	for (char **id = ids; id && *id; id++) {
		struct process *p = find(c, *id);

		if (p)
			process_delete(p, NULL);
	}
}

CO int container_kill(struct container *c, const char *exec_id, uint32_t signal, bool all,
		      struct err *err)
{
	struct process *p = find(c, exec_id);

	if (all && !str_empty(exec_id))
		return err_set(err, -ERR_STATE, "\"all\" and an exec id exclude each other");
	if (!p)
		return no_process(c, exec_id, err);
	if (signal < 1 || signal > SIGNAL_MAX)
		return err_set(err, -ERR_INVALID, "signal %u is not valid: 1 to %d are", signal,
			       SIGNAL_MAX);
	if (all)
		kill_execs(c, (int)signal);
	return kill_process(c, p, (int)signal, err);
}

static int delete_process(struct process *p, struct process_status *ret, struct err *err)
{
	int r = process_delete(p, err);

	if (r < 0)
		return r;
	process_get_status(p, ret);
	ret->in = ret->out = ret->err = NULL;
	ret->exec_id = "";
	return 0;
}

/* Not under the lock: it never suspends, and what has ended need not wait for others' starts. */
static int delete_exec(struct container *c, const char *exec_id, struct process_status *ret,
		       struct err *err)
{
	struct process *p = find(c, exec_id);

	if (!p)
		return no_process(c, exec_id, err);

	int r = delete_process(p, ret, err);

	if (r < 0)
		return r;
	map_remove(&c->processes, exec_id);
	process_free(p);
	return 0;
}

CO int container_delete(struct container *c, const char *exec_id, struct process_status *ret,
			struct err *err)
{
	if (!str_empty(exec_id))
		return delete_exec(c, exec_id, ret, err);
	CO_LOCK(&c->lock);

	struct process *init = find(c, "");

	if (!init)
		return no_process(c, "", err);

	int r = c->state == CONTAINER_PAUSED
			? err_set(err, -ERR_STATE, "cannot delete a paused process")
			: delete_process(init, ret, err);

	if (r < 0)
		return r;
	if (c->state == CONTAINER_CREATED)
		set_state(c, CONTAINER_STOPPED);

	/* A client that gives up must not leave it half released. */
	CO_SHIELD(ROLLBACK_SEC * USEC_PER_SEC);

	end_execs(c);
	r = release_resources(c, err);
	await_loggers(c);
	return r;
}

CO int container_wait(struct container *c, const char *exec_id, struct process_status *ret,
		      struct err *err)
{
	struct process *p = find(c, exec_id);

	if (!p)
		return no_process(c, exec_id, err);

	int r = process_wait(p);

	if (r < 0)
		return err_sys(err, r, "wait for the process");
	return container_status(c, exec_id, ret, err);
}

/* ---- Pause, Resume, Stats ---- */

static CO int set_frozen(struct container *c, bool frozen, struct err *err)
{
	CO_LOCK(&c->lock);
	enum container_state from = frozen ? CONTAINER_RUNNING : CONTAINER_PAUSED;

	if (c->state != from)
		return err_set(err, -ERR_STATE, "cannot %s a container in state %s",
			       frozen ? "pause" : "resume", state_names[c->state]);

	int r = c->env->ops->freeze(c->env->guest, c->id, frozen, err);

	/* Init may have ended meanwhile. */
	if (r >= 0 && c->state == from)
		set_state(c, frozen ? CONTAINER_PAUSED : CONTAINER_RUNNING);
	return r;
}

CO int container_pause(struct container *c, struct err *err)
{
	return set_frozen(c, true, err);
}

CO int container_resume(struct container *c, struct err *err)
{
	return set_frozen(c, false, err);
}

CO int container_metrics(struct container *c, char **ret, struct err *err)
{
	CO_LIMIT(METRICS_SEC * USEC_PER_SEC);
	_cleanup_free_ char *text = NULL;
	int r = c->env->ops->metrics(c->env->guest, c->id, &text, err);

	if (r < 0 && !c->metrics)
		return err_wrap(err, r, "metrics");
	if (r >= 0) {
		free(c->metrics);
		c->metrics = TAKE_PTR(text);
	}
	*ret = mem_strdup(c->metrics);
	return 0;
}

/* ---- the rest ---- */

CO int container_resize(struct container *c, const char *exec_id, uint16_t width, uint16_t height,
			struct err *err)
{
	struct process *p = find(c, exec_id);

	return p ? process_resize(p, width, height, err) : no_process(c, exec_id, err);
}

int container_close_stdin(struct container *c, const char *exec_id, struct err *err)
{
	struct process *p = find(c, exec_id);

	if (!p)
		return no_process(c, exec_id, err);
	process_close_stdin(p);
	return 0;
}

int container_status(struct container *c, const char *exec_id, struct process_status *ret,
		     struct err *err)
{
	struct process *p = find(c, exec_id);

	if (!p)
		return no_process(c, exec_id, err);
	process_get_status(p, ret);
	return 0;
}

/* The exec id of a pid of the guest, "" when it is none of ours. */
static const char *exec_of(const struct container *c, uint32_t pid)
{
	MAP_FOR_EACH(e, &c->processes) {
		struct process_status status;

		process_get_status(e->value, &status);
		if (status.pid == pid && status.state == PROCESS_RUNNING)
			return e->key;
	}
	return "";
}

/* What the guest lists. Asked by a daemon that restarts and has little patience: a guest that
 * doesn't answer is no failure. */
static CO struct json_object *list_processes(struct container *c)
{
	CO_LIMIT(PIDS_SEC * USEC_PER_SEC);
	_cleanup_free_ char *text = NULL;
	struct json_object *o = NULL;

	if (c->env->ops->properties(c->env->guest, c->id, "ProcessList", &text, NULL) < 0 ||
	    json_parse(text, strlen(text), &o, NULL) < 0)
		return NULL;
	return o;
}

CO int container_pids(struct container *c, uint32_t **ret_pids, const char ***ret_exec_ids,
		      size_t *ret_n, struct err *err)
{
	struct process_status init;
	int r = container_status(c, "", &init, err);

	if (r < 0)
		return r;

	bool live = c->state == CONTAINER_RUNNING || c->state == CONTAINER_CREATED ||
		    c->state == CONTAINER_PAUSED;
	_cleanup_json_ struct json_object *o = live ? list_processes(c) : NULL;
	struct json_object *list = json_get(o, "ProcessList", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	uint32_t *pids = mem_new0(n + 1, sizeof(*pids));
	const char **exec_ids = mem_new0(n + 1, sizeof(*exec_ids));

	for (size_t i = 0; i < n; i++) {
		struct json_object *pid =
			json_get(json_object_array_get_idx(list, i), "ProcessId", NULL);

		pids[i] = (uint32_t)json_object_get_int64(pid);
		exec_ids[i] = exec_of(c, pids[i]);
	}
	/* A daemon that restarts takes a task without pids for leaked, and deletes it. */
	if (n == 0 && init.pid != 0) {
		pids[n] = init.pid;
		exec_ids[n++] = "";
	}
	*ret_pids = pids;
	*ret_exec_ids = exec_ids;
	*ret_n = n;
	return 0;
}

size_t container_processes(const struct container *c, struct process_status **ret)
{
	struct process_status *all = mem_new0(c->processes.len + 1, sizeof(*all));
	size_t n = 0;

	MAP_FOR_EACH(e, &c->processes)
		process_get_status(e->value, &all[n++]);
	*ret = all;
	return n;
}

enum container_state container_get_state(const struct container *c)
{
	return c->state;
}

const char *container_id(const struct container *c)
{
	return c->id;
}

const char *container_bundle(const struct container *c)
{
	return c->bundle;
}
