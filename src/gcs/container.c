/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/container.h"

#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "gcs/agent.h"
#include "gcs/boot.h"
#include "gcs/bridge.h"
#include "gcs/cgroup.h"
#include "gcs/crun.h"
#include "gcs/device.h"
#include "gcs/layers.h"
#include "gcs/mounts.h"
#include "gcs/oom.h"
#include "gcs/pci.h"
#include "gcs/pod.h"
#include "gcs/process.h"
#include "gcs/reaper.h"
#include "gcs/volumes.h"
#include "loop/worker.h"
#include "wire/gcs.h"
#include "wire/json.h"

enum {
	ROLLBACK_USEC = 60000000,
	DEATH_USEC = 30000000, /* from SIGKILL to the exit */
	FREEZE_USEC = 10000000,
};

static int fail(struct err *err, int code, uint32_t hresult, const char *text, const char *id)
{
	err_set(err, code, "%s: %s", text, id);
	if (err)
		err->hresult = hresult;
	return code;
}

/* Takes the container out of the map, unless another one has its id by now. */
static void container_free(struct container *c)
{
	if (map_get(&c->agent->containers, c->id) == c)
		map_remove(&c->agent->containers, c->id);
	process_free(c->init);
	LIST_FOR_EACH_SAFE(it, &c->execs)
		process_free(LIST_ENTRY(it, struct process, link));
	oom_watch_free(c->oom);
	pod_leave(c->pod);
	spec_facts_clear(&c->facts);
	free(c->id);
	free(c->activity);
	free(c->bundle);
	free(c->scratch);
	free(c);
}

int container_find(struct agent *a, const char *id, struct container **ret, struct err *err)
{
	struct container *c = map_get(&a->containers, id);

	if (!c)
		return fail(err, -ERR_NOT_FOUND, HR_SYSTEM_NOT_FOUND, "no such container", id);
	if (c->state == CONTAINER_CREATING)
		return fail(err, -ERR_STATE, HR_INVALID_STATE, "container is still being created",
			    id);
	*ret = c;
	return 0;
}

int container_process(struct container *c, pid_t pid, struct process **ret, struct err *err)
{
	if (c->init && c->init->pid == pid) {
		*ret = c->init;
		return 0;
	}
	LIST_FOR_EACH(it, &c->execs) {
		struct process *p = LIST_ENTRY(it, struct process, link);

		if (p->pid == pid && !p->waited) {
			*ret = p;
			return 0;
		}
	}
	err_set(err, -ERR_NOT_FOUND, "container %s has no process %d", c->id, (int)pid);
	err->hresult = HR_NOT_FOUND;
	return err->code;
}

static char *cgroup_dir(const struct container *c)
{
	return str_printf(BOOT_CGROUP_ROOT "%s", c->facts.cgroup);
}

static int write_config(const char *bundle, struct json_object *spec, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/config.json", bundle);
	_cleanup_free_ char *text = json_text(spec);
	int r = file_write(path, text, strlen(text), 0600);

	return r < 0 ? err_sys(err, r, "write %s", path) : 0;
}

/* crun create, up to the process that we watch. Nobody may be reaped meanwhile who could be that
 * process. */
static int create_init(struct container *c, struct err *err)
{
	struct process *p = c->init;
	pid_t pid;
	int r;

	reaper_hold(c->agent->reaper);
	r = crun_create(c->id, c->bundle, &p->io, c->facts.terminal, &pid, err);
	if (r >= 0)
		r = process_watch(p, pid, err);
	reaper_release(c->agent->reaper);
	stdio_close_child(&p->io);
	return r;
}

static int create(struct container *c, struct json_object *spec, struct err *err)
{
	struct volumes volumes __attribute__((cleanup(volumes_clear))) = { 0 };
	int r = dir_make(c->bundle, 0755);

	if (r < 0)
		return err_sys(err, r, "mkdir %s", c->bundle);
	r = spec_classify(spec, c->id, c->bundle, &c->facts, err);
	if (r >= 0)
		r = device_fit(spec, "/dev", err);
	if (r >= 0)
		r = pci_add_nodes(c->agent, spec, err);
	if (r >= 0)
		r = pod_join(c->agent, &c->facts, spec, &c->pod, err);
	if (r >= 0)
		r = pod_fit(c->pod, c->id, &c->facts, spec, c->bundle, err);
	if (r >= 0)
		r = pod_volumes(c->pod, spec, &volumes, err);
	if (r >= 0)
		r = spec_prepare(spec, &c->facts, err);
	if (r < 0)
		return r;
	cgroup_fit_hugepages(BOOT_CGROUP_PODS, json_get(spec, "linux", "resources", NULL));
	spec_make_cwd(json_get(spec, "process", NULL), c->facts.rootfs);
	r = write_config(c->bundle, spec, err);
	if (r < 0)
		return r;
	c->init = process_new(c->agent, c, true);
	r = c->facts.terminal ? 0 : stdio_pipes(&c->init->io, true, err);
	if (r < 0)
		return r;
	r = create_init(c, err);
	if (r < 0) {
		CO_SHIELD(ROLLBACK_USEC);
		crun_delete(c->id, NULL);
	}
	return r;
}

static int check_config(const char *id, const struct gcs_container_config *config, struct err *err)
{
	if (!config)
		return err_set(err, -ERR_INVALID, "ContainerConfig is missing");
	if (config->schema.major < 2 || (config->schema.major == 2 && config->schema.minor < 1)) {
		err_set(err, -ERR_INVALID, "invalid schema version: {%u %u}", config->schema.major,
			config->schema.minor);
		err->hresult = HR_INVALID_JSON;
		return err->code;
	}
	if (!str_id_valid(id) || str_eq(id, UUID_NULL))
		return err_set(err, -ERR_INVALID, "'%s' is not a container id", id);
	if (!mount_path_valid(config->bundle))
		return err_set(err, -ERR_INVALID, "OciBundlePath is not a clean absolute path");
	if (!str_empty(config->scratch) && !mount_path_valid(config->scratch))
		return err_set(err, -ERR_INVALID, "ScratchDirPath is not a clean absolute path");
	return 0;
}

static void on_oom(uint64_t kills, void *arg)
{
	struct container *c = arg;

	log_warn("container %s: out of memory, %llu processes killed so far", c->id,
		 (unsigned long long)kills);
	c->oom_kills = kills;
	container_tell_oom(c);
}

static void watch_memory(struct container *c)
{
	_cleanup_free_ char *dir = cgroup_dir(c);

	c->oom = oom_watch_new(c->agent->oom, dir, on_oom, c);
	oom_look(c->oom);
}

void container_tell_oom(struct container *c)
{
	const struct gcs_oom_notification n = {
		.base = { .container_id = c->id, .activity_id = c->activity },
		.kills = c->oom_kills,
	};

	if (c->oom_kills)
		bridge_notify_agreed(c->agent->bridge, GCS_EXT_OOM, GCS_CONTAINER_OOM,
				     &gcs_oom_notification_table, &n);
}

void container_exit_seen(struct container *c)
{
	oom_look(c->oom);
}

int container_create(struct agent *a, const char *id, const char *activity,
		     const struct gcs_container_config *config, struct err *err)
{
	struct container *c;
	int r = check_config(id, config, err);

	if (r < 0)
		return r;
	if (map_get(&a->containers, id))
		return fail(err, -ERR_EXISTS, HR_SYSTEM_EXISTS, "the container exists already", id);
	c = NEW0(struct container);
	c->agent = a;
	c->id = mem_strdup(id);
	c->activity = mem_strdup(str_empty(activity) ? UUID_NULL : activity);
	c->bundle = mem_strdup(config->bundle);
	c->scratch = mem_strdup(config->scratch);
	c->state = CONTAINER_CREATING;
	c->exit_type = "UnexpectedExit";
	list_init(&c->execs);
	co_mutex_init(&c->lock);
	map_set(&a->containers, c->id, c);
	r = create(c, config->spec, err);
	if (r < 0) {
		container_free(c);
		return err_wrap(err, r, "create container %s", id);
	}
	watch_memory(c);
	c->state = c->init->exited ? CONTAINER_TERMINATED : CONTAINER_CREATED;
	log_info("created container %s, init is process %d", c->id, (int)c->init->pid);
	return 0;
}

static int start(struct container *c, const struct gcs_execute_request *m, struct err *err)
{
	struct process *p = c->init;
	int r;

	CO_LOCK(&c->lock);
	if (c->state == CONTAINER_TERMINATED || c->state == CONTAINER_DELETING)
		return fail(err, -ERR_STATE, HR_FAIL, "cannot start a container that has stopped",
			    c->id);
	if (c->state != CONTAINER_CREATED)
		return fail(err, -ERR_STATE, HR_INVALID_STATE,
			    "the container has been started already", c->id);
	r = stdio_dial(&p->io, c->agent->transport, m->settings.params, &m->settings.ports, err);
	if (r < 0)
		return r;
	if (c->facts.log)
		r = pod_log(c->pod, c->facts.log, &p->io.tee, err);
	if (r >= 0)
		r = stdio_start(&p->io, err);
	if (r >= 0)
		r = crun_start(c->id, err);
	if (r < 0) {
		/* The streams are spent, so it cannot be tried again: end it. */
		process_signal(p, SIGKILL, NULL);
		return r;
	}
	if (c->state == CONTAINER_CREATED)
		c->state = CONTAINER_RUNNING;
	return 0;
}

int container_start(struct container *c, const struct gcs_execute_request *m, struct process **ret,
		    struct err *err)
{
	int r;

	c->starting++;
	r = start(c, m, err);
	c->starting--;
	if (r < 0)
		return err_wrap(err, r, "start container %s", c->id);
	*ret = c->init;
	return 0;
}

static int exec(struct container *c, const struct gcs_execute_request *m, struct process *p,
		struct err *err)
{
	struct json_object *process = m->settings.params->process;
	bool terminal;
	pid_t pid;
	int r;

	r = spec_exec(process, &c->facts, err);
	if (r < 0)
		return r;
	terminal = json_get_bool(process, "terminal", false);
	r = stdio_dial(&p->io, c->agent->transport, m->settings.params, &m->settings.ports, err);
	if (r >= 0 && !terminal)
		r = stdio_pipes(&p->io, false, err);
	if (r < 0)
		return r;
	reaper_hold(c->agent->reaper);
	r = crun_exec(c->id, process, &p->io, terminal, &pid, err);
	if (r >= 0)
		r = process_watch(p, pid, err);
	reaper_release(c->agent->reaper);
	stdio_close_child(&p->io);
	if (r < 0)
		return r;
	r = stdio_start(&p->io, err);
	if (r < 0)
		process_signal(p, SIGKILL, NULL);
	return r;
}

int container_exec(struct container *c, const struct gcs_execute_request *m, struct process **ret,
		   struct err *err)
{
	struct process *p;
	int r;

	if (c->state != CONTAINER_RUNNING)
		return fail(err, -ERR_STATE, HR_FAIL,
			    c->state == CONTAINER_CREATED
				    ? "cannot exec in a container that has not been started"
				    : "cannot exec in a stopped container",
			    c->id);
	if (c->frozen)
		return fail(err, -ERR_STATE, HR_INVALID_STATE, "cannot exec in a paused container",
			    c->id);
	p = process_new(c->agent, c, false);
	c->starting++;
	r = exec(c, m, p, err);
	c->starting--;
	if (r < 0) {
		process_free(p);
		return err_wrap(err, r, "exec in container %s", c->id);
	}
	list_append(&c->execs, &p->link);
	*ret = p;
	return 0;
}

int container_shutdown(struct container *c, bool forced, struct err *err)
{
	if (c->init->exited)
		return fail(err, -ERR_STATE, HR_ALREADY_STOPPED, "container not running", c->id);
	return container_signal(c, c->init->pid, forced ? SIGKILL : SIGTERM, err);
}

int container_signal(struct container *c, pid_t pid, int signo, struct err *err)
{
	struct process *p = NULL;
	const char *before = c->exit_type;
	int r = container_process(c, pid, &p, err);

	if (r < 0)
		return r;
	/* Before the signal: the exit may be noted at once. */
	if (p->init && signo == SIGTERM)
		c->exit_type = "GracefulExit";
	else if (p->init && signo == SIGKILL)
		c->exit_type = "ForcedExit";
	r = process_signal(p, signo, err);
	if (r < 0)
		c->exit_type = before;
	return r;
}

int container_update(struct container *c, struct json_object *resources, struct err *err)
{
	int r;

	if (c->state != CONTAINER_CREATED && c->state != CONTAINER_RUNNING)
		return fail(err, -ERR_STATE, HR_ALREADY_STOPPED, "container not running", c->id);
	c->starting++;
	cgroup_fit_hugepages(BOOT_CGROUP_PODS, resources);
	r = crun_update(c->id, resources, err);
	if (r >= 0 && c->facts.kind == SPEC_SANDBOX)
		r = pod_limit(c->pod, resources, err);
	c->starting--;
	return r < 0 ? err_wrap(err, r, "update container %s", c->id) : 0;
}

/* crun would wait for ever for a process that is stopped while it sets it up. */
static int wait_started(struct container *c, struct err *err)
{
	while (c->starting) {
		int r = co_sleep(10 * USEC_PER_MSEC);

		if (r < 0)
			return err_sys(err, r, "wait for what is being started in the container");
	}
	return 0;
}

static int set_frozen(struct container *c, bool frozen, struct err *err)
{
	_cleanup_free_ char *dir = cgroup_dir(c);
	int r = 0;

	CO_LOCK(&c->lock);
	c->frozen = frozen;
	if (frozen)
		r = wait_started(c, err);
	if (r >= 0 && c->state != CONTAINER_RUNNING)
		r = fail(err, -ERR_STATE, HR_ALREADY_STOPPED, "container not running", c->id);
	if (r >= 0)
		r = cgroup_freeze(dir, frozen, FREEZE_USEC, err);
	if (r < 0)
		c->frozen = false;
	return r;
}

int container_freeze(struct container *c, bool frozen, struct err *err)
{
	int r;

	c->freezing++;
	r = set_frozen(c, frozen, err);
	c->freezing--;
	return r < 0 ? err_wrap(err, r, "%s container %s", frozen ? "freeze" : "thaw", c->id) : 0;
}

bool container_uses_bundle(struct agent *a, const char *bundle)
{
	MAP_FOR_EACH(e, &a->containers)
		if (str_eq(((struct container *)e->value)->bundle, bundle))
			return true;
	return false;
}

void container_init_gone(struct container *c)
{
	if (c->state != CONTAINER_CREATING && c->state != CONTAINER_DELETING)
		c->state = CONTAINER_TERMINATED;
	if (!c->facts.own_pidns) {
		/* In a pid namespace of its own the kernel has done that already. */
		_cleanup_free_ char *path =
			str_printf(BOOT_CGROUP_ROOT "%s/cgroup.kill", c->facts.cgroup);
		int r = file_put(path, "1");

		if (r < 0 && r != -ENOENT)
			log_warn("cannot kill what is left of container %s: %s", c->id,
				 strerror(-r));
	}
}

void container_note_exit(struct container *c)
{
	struct gcs_exit_notification n = {
		.base = { .container_id = c->id, .activity_id = c->activity },
		.operation = (char[]){ "None" },
	};
	_cleanup_free_ char *type = mem_strdup(c->exit_type);

	if (c->noted)
		return;
	c->noted = true;
	n.type = type;
	bridge_notify(c->agent->bridge, GCS_CONTAINER_EXITED, &gcs_exit_notification_table, &n);
}

/* ---- deletion ---- */

static int kill_unstarted(struct container *c, struct err *err)
{
	int r;

	if (!c->init->exited) {
		process_signal(c->init, SIGKILL, NULL);
		CO_LIMIT(DEATH_USEC);
		r = co_event_wait(&c->init->gone);
		if (r < 0)
			return err_sys(err, r, "kill process %d", (int)c->init->pid);
	}
	while (c->freezing) {
		r = co_sleep(10 * USEC_PER_MSEC);
		if (r < 0)
			return err_sys(err, r, "wait for the freezer of the container");
	}
	return wait_started(c, err);
}

static int remove_fn(void *arg)
{
	return dir_remove(arg);
}

static int remove_tree(char *path, struct err *err)
{
	int r = str_empty(path) ? 0 : worker_call(remove_fn, path);

	return r < 0 ? err_sys(err, r, "remove %s", path) : 0;
}

static int tear_down(struct container *c, struct err *err)
{
	_cleanup_free_ char *freeze =
		str_printf(BOOT_CGROUP_ROOT "%s/cgroup.freeze", c->facts.cgroup);
	int r = kill_unstarted(c, err);

	/* What is stopped would not go by anything but SIGKILL. */
	if (r >= 0 && c->frozen)
		file_put(freeze, "0");
	if (r >= 0)
		r = crun_delete(c->id, err);
	if (r >= 0)
		r = layers_release_bundle(c->bundle, err);
	if (r >= 0)
		r = remove_tree(c->scratch, err);
	/* A scratch disk mounted at the bundle itself (hcsshim's V1) stays until it is unmounted by
	 * its own request. */
	if (r >= 0)
		r = remove_tree(c->bundle, err);
	if (r == -EBUSY || r == -EXDEV)
		r = 0;
	if (r >= 0)
		layers_remove_pod_dir(c->bundle);
	return r;
}

int container_delete(struct container *c, struct err *err)
{
	int r;

	if (c->state == CONTAINER_RUNNING)
		return fail(err, -ERR_STATE, HR_INVALID_STATE, "container still running", c->id);
	if (c->state == CONTAINER_DELETING)
		return fail(err, -ERR_STATE, HR_INVALID_STATE, "container is being deleted", c->id);
	c->state = CONTAINER_DELETING;
	r = tear_down(c, err);
	if (r < 0) {
		c->state = CONTAINER_TERMINATED;
		return err_wrap(err, r, "delete container %s", c->id);
	}
	log_info("deleted container %s", c->id);
	container_free(c);
	return 0;
}
