/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/boot.h"
#include "gcs/cgroup.h"
#include "gcs/container.h"
#include "gcs/mounts.h"
#include "gcs/namespace.h"
#include "gcs/network.h"
#include "gcs/process.h"
#include "gcs/spec.h"
#include "gcs/volumes.h"
#include "loop/child.h"
#include "wire/json.h"

#define PODS_DIR "/run/gcs/sandboxes"
#define SHM "/dev/shm"
#define SHM_SIZE "size=65536k"

/* In the VM's memory. */
#define LOGS_SIZE "size=16m"

#define A_LOGS "io.microsoft.container.lcow.tee-log-dir-mount"
#define A_HOST_NETWORK "io.microsoft.virtualmachine.lcow.hostnetwork"
#define A_SHM_SIZE "io.microsoft.lcow.shm.size-kb"

enum shared { SHARED_IPC, SHARED_UTS, SHARED_PID, SHARED_END };

static const struct {
	const char *type;
	int kind;
} shared[] = {
	[SHARED_IPC] = { "ipc", CLONE_NEWIPC },
	[SHARED_UTS] = { "uts", CLONE_NEWUTS },
	[SHARED_PID] = { "pid", CLONE_NEWPID },
};
_Static_assert(ARRAY_SIZE(shared) == SHARED_END, "a row for each kind");

/**
 * struct pod - see pod.h
 * @dir:	of this pod only: namespaces, shm, network files
 * @cgroup:	directory of the cgroup above the containers'
 * @hostname:	of those who share uts, and of those who have no name; NULL: not settled yet
 * @files:	the network files with this name are in @dir
 * @host_network: the VM's own network, unless there are cards
 * @members:	containers, and those being created
 * @up:		everything above is there
 * @paths:	of namespaces, NULL before they were asked for
 * @init:	first process of the pid namespace, if that is not a container's
 * @shm:	where the pod's /dev/shm is mounted, NULL before it was asked for
 * @logs:	likewise for the directory of logs
 * @volumes:	likewise for its directories that containers mount
 * @lock:	one change at a time
 */
struct pod {
	struct agent *agent;
	char *id;
	char *dir;
	char *cgroup;
	char *hostname;
	bool files;
	bool host_network;
	unsigned members;
	bool up;
	char *paths[SHARED_END];
	struct child *init;
	char *shm;
	char *logs;
	char *volumes[VOLUME_KINDS];
	struct network *network;
	struct co_mutex lock;
};

/* ---- coming and going ---- */

static struct pod *pod_new(struct agent *a, const char *id)
{
	static unsigned number;
	struct pod *p = NEW0(struct pod);

	p->agent = a;
	p->id = mem_strdup(id);
	p->dir = str_printf(PODS_DIR "/%u", ++number);
	p->cgroup = str_printf(BOOT_CGROUP_PODS "/%s", id);
	co_mutex_init(&p->lock);
	map_set(&a->pods, id, p);
	return p;
}

static CO int bring_up(struct pod *p, struct json_object *spec, struct err *err)
{
	const char *network =
		json_get_str(json_get(spec, "windows", "network", NULL), "networkNamespace");
	int r;

	CO_LOCK(&p->lock);
	if (p->up)
		return 0;
	r = dir_make(p->dir, 0755);
	if (r < 0)
		return err_sys(err, r, "mkdir %s", p->dir);
	if (mkdir(p->cgroup, 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "mkdir %s", p->cgroup);
	r = cgroup_delegate(p->cgroup, err);
	if (r >= 0 && !p->network)
		r = network_join(p->agent, str_empty(network) ? p->id : network, &p->network, err);
	p->up = r >= 0;
	return r;
}

CO int pod_join(struct agent *a, const struct spec_facts *facts, struct json_object *spec,
		struct pod **ret, struct err *err)
{
	struct pod *p = map_get(&a->pods, facts->sandbox);
	int r;

	if (!p)
		p = pod_new(a, facts->sandbox);
	p->members++;
	r = bring_up(p, spec, err);
	if (r < 0) {
		pod_leave(p);
		return err_wrap(err, r, "pod %s", facts->sandbox);
	}
	*ret = p;
	return 0;
}

/* The one place where a pod ends. Who comes from now on makes it anew. */
CO void pod_leave(struct pod *p)
{
	int r;

	if (!p || --p->members > 0)
		return;
	map_remove(&p->agent->pods, p->id);
	if (rmdir(p->cgroup) < 0 && errno != ENOENT)
		log_warn("remove %s: %m", p->cgroup);
	if (p->init) {
		child_kill(p->init, SIGKILL);
		child_forget(p->init);
	}
	for (size_t i = 0; i < SHARED_END; i++) {
		if (p->paths[i])
			namespace_free(p->paths[i]);
		free(p->paths[i]);
	}
	if (p->shm)
		mount_undo(p->shm, true, NULL);
	if (p->logs)
		mount_undo(p->logs, true, NULL);
	for (size_t i = 0; i < VOLUME_KINDS; i++) {
		if (p->volumes[i])
			mount_undo(p->volumes[i], true, NULL);
		free(p->volumes[i]);
	}
	r = dir_remove(p->dir);
	if (r < 0)
		log_warn("remove %s: %s", p->dir, strerror(-r));
	network_leave(p->network);
	free(p->shm);
	free(p->logs);
	free(p->hostname);
	free(p->cgroup);
	free(p->dir);
	free(p->id);
	free(p);
}

int pod_limit(struct pod *p, struct json_object *resources, struct err *err)
{
	int r = cgroup_limit(p->cgroup, resources, err);

	return r < 0 ? err_wrap(err, r, "limits of pod %s", p->id) : 0;
}

/* ---- namespaces ---- */

/* First process of a container; 0 when it does not live. */
static pid_t init_of(const struct container *c)
{
	return c && c->state != CONTAINER_CREATING && !c->init->exited ? c->init->pid : 0;
}

/* That of the container with the pod's id. */
static pid_t owner_of(const struct pod *p)
{
	return init_of(map_get(&p->agent->containers, p->id));
}

static int set_hostname(void *arg)
{
	const char *name = arg;

	return sethostname(name, strlen(name)) < 0 ? -errno : 0;
}

/* A pid namespace lives as long as its first process. */
static int start_init(struct pod *p, const char *path, struct err *err)
{
	const char *const argv[] = { p->agent->program, "pause", NULL };
	const struct child_spec spec = {
		.argv = argv,
		.clone_flags =
			CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.pdeathsig = SIGKILL,
	};
	int r = child_spawn(&spec, &p->init, err);

	if (r >= 0)
		r = namespace_bind(child_pid(p->init), CLONE_NEWPID, path, err);
	if (r < 0)
		p->init = child_free(p->init);
	return r;
}

static bool pid_namespace_lives(const struct pod *p)
{
	return p->init ? !child_exited(p->init, NULL) : owner_of(p) != 0;
}

/* From the first who asks on. */
static CO int share(struct pod *p, enum shared which, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/%s", p->dir, shared[which].type);
	pid_t owner = owner_of(p);
	int r;

	if (p->paths[which])
		return which != SHARED_PID || pid_namespace_lives(p)
			       ? 0
			       : err_set(err, -ERR_STATE,
					 "the first process of the pod's pid namespace has ended");
	if (owner)
		r = namespace_bind(owner, shared[which].kind, path, err);
	else if (which == SHARED_PID)
		r = start_init(p, path, err);
	else
		r = namespace_new(path, shared[which].kind,
				  which == SHARED_UTS ? set_hostname : NULL, p->hostname, NULL,
				  err);
	if (r >= 0)
		p->paths[which] = TAKE_PTR(path);
	return r;
}

/* Whether a container asks for the pod's namespace. The one with the pod's id brings its own. */
static bool shares(const struct pod *p, const char *id, struct json_object *spec, enum shared which)
{
	struct json_object *ns = spec_namespace(spec, shared[which].type);

	return !str_empty(json_get_str(ns, "path")) && (!str_eq(id, p->id) || p->paths[which]);
}

/*
 * The exception to that a path means nothing: "/proc/<pid>/ns/pid" of another member's first
 * process is how CRI asks for the pids of one container, to debug it.
 */
static pid_t target_of(const struct pod *p, const char *id, struct json_object *spec)
{
	const char *path = json_get_str(spec_namespace(spec, "pid"), "path");

	MAP_FOR_EACH(e, &p->agent->containers) {
		struct container *c = e->value;
		_cleanup_free_ char *its = str_printf("/proc/%d/ns/pid", (int)init_of(c));

		if (c->pod == p && init_of(c) && !str_eq(c->id, p->id) && !str_eq(c->id, id) &&
		    str_eq(path, its))
			return c->init->pid;
	}
	return 0;
}

static void drop_namespace(struct json_object *spec, const char *type)
{
	struct json_object *list = json_get(spec, "linux", "namespaces", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = n; i > 0; i--)
		if (str_eq(json_get_str(json_object_array_get_idx(list, i - 1), "type"), type))
			json_object_array_del_idx(list, i - 1, 1);
}

static CO int fit_namespaces(struct pod *p, const char *id, struct json_object *spec,
			     struct err *err)
{
	for (enum shared i = 0; i < SHARED_END; i++) {
		bool with_pod = shares(p, id, spec, i);

		/* It goes to the runtime as it is. */
		if (i == SHARED_PID && target_of(p, id, spec))
			continue;

		int r = with_pod ? share(p, i, err) : 0;

		if (r < 0)
			return err_wrap(err, r, "share the %s namespace", shared[i].type);
		/* Without an entry pids are the VM's. It has no other names or ipc for containers.
		 */
		if (with_pod || i != SHARED_PID || spec_namespace(spec, "pid"))
			spec_set_namespace(spec, shared[i].type, with_pod ? p->paths[i] : NULL);
	}
	if (!spec_namespace(spec, "mount"))
		spec_set_namespace(spec, "mount", NULL);
	if (p->host_network && !network_has_cards(p->network))
		drop_namespace(spec, "network");
	else
		spec_set_namespace(spec, "network", network_path(p->network));
	return 0;
}

/* ---- names ---- */

static int vm_name(char **ret, struct err *err)
{
	char name[HOST_NAME_MAX + 1] = "";

	if (gethostname(name, HOST_NAME_MAX) < 0)
		return err_sys(err, -errno, "get the VM's hostname");
	*ret = mem_strdup(name);
	return 0;
}

static int write_files(struct pod *p, const char *dir, const char *name, struct err *err)
{
	_cleanup_free_ char *resolv = network_resolv(p->network);

	return spec_write_files(dir, name, resolv, err);
}

/*
 * The pod's name is that of its sandbox container, or of the first who shares it. Those who have
 * none take it over.
 */
static int fit_names(struct pod *p, const char *id, struct json_object *spec, const char *bundle,
		     struct err *err)
{
	bool with_pod = shares(p, id, spec, SHARED_UTS), files;
	_cleanup_free_ char *name = NULL;
	int r = spec_hostname(spec, &name, err);

	if (r >= 0 && with_pod && p->hostname && name && !str_eq(name, p->hostname))
		return err_set(err, -ERR_INVALID, "workload container must not change hostname: %s",
			       name);
	if (r >= 0 && !name && p->hostname)
		name = mem_strdup(p->hostname);
	else if (r >= 0 && !name)
		r = vm_name(&name, err);
	if (r < 0)
		return r;
	if (!p->hostname && (with_pod || str_eq(id, p->id)))
		p->hostname = mem_strdup(name);
	files = str_eq(name, p->hostname);
	if (!files || !p->files)
		r = write_files(p, files ? p->dir : bundle, name, err);
	if (r < 0)
		return r;
	p->files |= files;
	spec_mount_files(spec, files ? p->dir : bundle);
	if (with_pod)
		json_object_object_del(spec, "hostname");
	else
		json_object_object_add(spec, "hostname", json_object_new_string(name));
	return 0;
}

/* ---- /dev/shm ---- */

static bool is_tmpfs_shm(struct json_object *mount)
{
	return str_eq(json_get_str(mount, "destination"), SHM) &&
	       str_eq(json_get_str(mount, "type"), "tmpfs");
}

static const char *size_of(struct json_object *mount)
{
	struct json_object *list = json_get(mount, "options", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		const char *o = json_object_get_string(json_object_array_get_idx(list, i));

		if (o && str_starts(o, "size="))
			return o;
	}
	return SHM_SIZE;
}

/* A tmpfs of the pod, when it is first asked for. */
static CO int mount_tmpfs(struct pod *p, const char *name, unsigned long flags, const char *options,
			  char **path, struct err *err)
{
	_cleanup_free_ char *target = str_printf("%s/%s", p->dir, name);
	int r;

	if (*path)
		return 0;
	r = mount_at(name, target, "tmpfs", MS_NOSUID | MS_NODEV | flags, options, err);
	if (r >= 0)
		*path = TAKE_PTR(target);
	return r;
}

static CO int mount_shm(struct pod *p, const char *size, struct err *err)
{
	_cleanup_free_ char *options = str_printf("mode=1777,%s", size);

	return mount_tmpfs(p, "shm", MS_NOEXEC, options, &p->shm, err);
}

/* One of its own with a size that the container's annotation says. */
static int own_shm(struct json_object *mounts, const char *kib, struct err *err)
{
	_cleanup_free_ char *size = NULL;
	uint64_t v;

	if (str_u64(kib, &v) < 0 || v == 0)
		return err_set(err, -ERR_INVALID, "invalid '" A_SHM_SIZE "': '%s'", kib);
	size = str_printf("size=%lluk", (unsigned long long)v);

	const char *const options[] = { "nosuid", "noexec", "nodev", "mode=1777", size, NULL };

	for (size_t i = json_object_array_length(mounts); i > 0; i--)
		if (str_eq(json_get_str(json_object_array_get_idx(mounts, i - 1), "destination"),
			   SHM))
			json_object_array_del_idx(mounts, i - 1, 1);
	spec_add_mount(mounts, "tmpfs", "shm", SHM, options);
	return 0;
}

/* Who shares ipc shares /dev/shm too, and a sandbox container has what its members will see. */
static CO int fit_shm(struct pod *p, const char *id, const struct spec_facts *facts,
		      struct json_object *spec, struct err *err)
{
	static const char *const options[] = { "bind", "nosuid", "nodev", "noexec", NULL };
	struct json_object *mounts = spec_mounts(spec);
	const char *kib = spec_annotation(spec, A_SHM_SIZE);

	if (facts->kind == SPEC_WORKLOAD && !str_empty(kib))
		return own_shm(mounts, kib, err);
	if (!shares(p, id, spec, SHARED_IPC) && facts->kind != SPEC_SANDBOX)
		return 0;
	for (size_t i = 0; i < json_object_array_length(mounts); i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);
		struct json_object *list;
		int r;

		if (!is_tmpfs_shm(m))
			continue;
		r = mount_shm(p, size_of(m), err);
		if (r < 0)
			return r;
		list = json_object_new_array();
		for (const char *const *o = options; *o; o++)
			json_object_array_add(list, json_object_new_string(*o));
		json_object_object_add(m, "type", json_object_new_string("bind"));
		json_object_object_add(m, "source", json_object_new_string(p->shm));
		json_object_object_add(m, "options", list);
	}
	return 0;
}

/* ---- logs ---- */

static CO int mount_logs(struct pod *p, struct err *err)
{
	return mount_tmpfs(p, "logs", MS_NOEXEC, "mode=0777," LOGS_SIZE, &p->logs, err);
}

static CO int fit_logs(struct pod *p, struct json_object *spec, struct err *err)
{
	static const char *const options[] = { "bind", NULL };
	const char *destination = spec_annotation(spec, A_LOGS);
	int r = str_empty(destination) ? 0 : mount_logs(p, err);

	if (r >= 0 && !str_empty(destination))
		spec_add_mount(spec_mounts(spec), "bind", p->logs, destination, options);
	return r;
}

CO int pod_log(struct pod *p, const char *path, int *ret, struct err *err)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dirs = slash ? mem_strndup(path, (size_t)(slash - path)) : NULL;
	_cleanup_fd_ int root = -EBADF, fd = -EBADF;
	struct stat st;
	int r;

	CO_LOCK(&p->lock);
	r = mount_logs(p, err);
	if (r < 0)
		return r;
	if (dirs)
		spec_make_dirs(p->logs, dirs, 0777);
	root = open(p->logs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* Containers may write there: nothing that could block is opened for long. */
	fd = root < 0 ? -errno
		      : fd_open_in(root, path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK, 0666);
	if (fd < 0)
		return err_sys(err, fd, "open the log %s of pod %s", path, p->id);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, -ERR_INVALID, "the log %s of pod %s is no file", path, p->id);
	*ret = TAKE_FD(fd);
	return 0;
}

CO int pod_volumes(struct pod *p, struct json_object *spec, struct volumes *v, struct err *err)
{
	int r = 0;

	CO_LOCK(&p->lock);
	for (unsigned i = 0; r >= 0 && i < VOLUME_KINDS; i++) {
		_cleanup_free_ char *target = str_printf("%s/volumes-%u", p->dir, i);

		if (p->volumes[i] || !volumes_asked(spec, i))
			continue;
		r = volumes_mount(i, target, err);
		if (r >= 0)
			p->volumes[i] = TAKE_PTR(target);
	}
	if (r >= 0)
		r = volumes_fit(spec, (const char *const *)p->volumes, v, err);
	return r < 0 ? err_wrap(err, r, "pod %s", p->id) : 0;
}

CO int pod_fit(struct pod *p, const char *id, const struct spec_facts *facts,
	       struct json_object *spec, const char *bundle, struct err *err)
{
	int r = 0;

	CO_LOCK(&p->lock);
	if (str_eq(id, p->id))
		p->host_network = spec_flag(spec, A_HOST_NETWORK);
	if (facts->kind == SPEC_SANDBOX)
		r = pod_limit(p, json_get(spec, "linux", "resources", NULL), err);
	if (r >= 0)
		r = fit_names(p, id, spec, bundle, err);
	if (r >= 0)
		r = fit_shm(p, id, facts, spec, err);
	if (r >= 0)
		r = fit_logs(p, spec, err);
	if (r >= 0)
		r = fit_namespaces(p, id, spec, err);
	return r < 0 ? err_wrap(err, r, "pod %s", p->id) : 0;
}
