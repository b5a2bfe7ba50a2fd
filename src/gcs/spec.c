/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/spec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/user.h"
#include "wire/json.h"

#define A_TYPE "io.kubernetes.cri.container-type"
#define A_SANDBOX_ID "io.kubernetes.cri.sandbox-id"
#define A_VIRTUAL_POD "io.microsoft.cri.virtual-pod-id"
#define A_LOG "io.microsoft.container.lcow.tee-log-path"
#define A_RLIMIT_CORE "io.microsoft.lcow.rlimitcore"

/* Later 1.x only add to this version, yet crun before 1.9 refuses them by their number. */
#define OCI_VERSION "1.0.2"

#define BUNDLES "/run/gcs/pods/"

enum { HOSTNAME_MAX = 255 };

void spec_facts_clear(struct spec_facts *f)
{
	free(f->sandbox);
	free(f->cgroup);
	free(f->rootfs);
	json_put(f->user);
	json_put(f->rlimits);
	free(f->log);
	*f = (struct spec_facts){ 0 };
}

static int bad(struct err *err, const char *what)
{
	return err_set(err, -ERR_INVALID, "invalid OCI specification: %s", what);
}

static int check_process(struct json_object *process, struct err *err)
{
	struct json_object *args = json_get(process, "args", NULL);

	if (!json_object_is_type(process, json_type_object))
		return bad(err, "process is missing");
	if (!json_object_is_type(args, json_type_array) || json_object_array_length(args) == 0)
		return bad(err, "process.args is missing or empty");
	for (size_t i = 0; i < json_object_array_length(args); i++)
		if (!json_object_is_type(json_object_array_get_idx(args, i), json_type_string))
			return bad(err, "process.args holds something that is no string");
	return 0;
}

struct json_object *spec_member(struct json_object *o, const char *name, enum json_type type)
{
	struct json_object *m = json_get(o, name, NULL);

	if (json_object_is_type(m, type))
		return m;
	m = type == json_type_array ? json_object_new_array() : json_object_new_object();
	json_object_object_add(o, name, m);
	return m;
}

bool spec_has_option(struct json_object *mount, const char *option)
{
	struct json_object *list = json_get(mount, "options", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		const char *o = json_object_get_string(json_object_array_get_idx(list, i));

		if (o && strcasecmp(o, option) == 0)
			return true;
	}
	return false;
}

const char *spec_annotation(struct json_object *spec, const char *name)
{
	return json_get_str(json_get(spec, "annotations", NULL), name);
}

bool spec_flag(struct json_object *spec, const char *name)
{
	static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
	static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
	const char *text = spec_annotation(spec, name);

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (str_eq(text, yes[i]))
			return true;
	for (size_t i = 0; text && i < ARRAY_SIZE(no); i++)
		if (str_eq(text, no[i]))
			return false;
	if (text)
		log_warn("annotation %s is neither true nor false: '%s'", name, text);
	return false;
}

/* hcsshim's hosts name the pod in the path of the bundle: "/run/gcs/pods/<pod>/<container>". */
static char *pod_of_bundle(const char *bundle, const char *id)
{
	const char *pod = str_starts(bundle, BUNDLES) ? bundle + strlen(BUNDLES) : "";
	size_t n = strcspn(pod, "/");

	return pod[n] == '/' && str_eq(pod + n + 1, id) ? mem_strndup(pod, n) : mem_strdup(id);
}

static int classify(struct json_object *spec, const char *id, const char *bundle,
		    struct spec_facts *f, struct err *err)
{
	const char *type = spec_annotation(spec, A_TYPE);
	const char *pod = spec_annotation(spec, A_VIRTUAL_POD);
	_cleanup_free_ char *of_bundle = pod_of_bundle(bundle, id);
	const char *sandbox = id;

	if (!str_empty(pod) && str_eq(pod, id))
		type = "sandbox";
	if (!type) {
		sandbox = of_bundle;
		f->kind = str_eq(sandbox, id) ? SPEC_STANDALONE : SPEC_WORKLOAD;
	} else if (str_eq(type, "sandbox")) {
		f->kind = SPEC_SANDBOX;
	} else if (str_eq(type, "container")) {
		f->kind = SPEC_WORKLOAD;
		sandbox = spec_annotation(spec, A_SANDBOX_ID);
	} else {
		return err_set(err, -ERR_INVALID, "unsupported '" A_TYPE "': '%s'", type);
	}
	if (!str_empty(pod))
		sandbox = pod;
	if (!str_id_valid(sandbox))
		return err_set(err, -ERR_INVALID, "unsupported '" A_SANDBOX_ID "': '%s'",
			       sandbox ? sandbox : "");
	f->sandbox = mem_strdup(sandbox);
	f->cgroup = str_printf("/pods/%s/%s", sandbox, id);
	return 0;
}

struct json_object *spec_namespace(struct json_object *spec, const char *type)
{
	struct json_object *list = json_get(spec, "linux", "namespaces", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *ns = json_object_array_get_idx(list, i);

		if (str_eq(json_get_str(ns, "type"), type))
			return ns;
	}
	return NULL;
}

void spec_set_namespace(struct json_object *spec, const char *type, const char *path)
{
	struct json_object *ns = spec_namespace(spec, type);

	if (!ns) {
		struct json_object *lin = spec_member(spec, "linux", json_type_object);

		ns = json_object_new_object();
		json_object_object_add(ns, "type", json_object_new_string(type));
		json_object_array_add(spec_member(lin, "namespaces", json_type_array), ns);
	}
	if (path)
		json_object_object_add(ns, "path", json_object_new_string(path));
	else
		json_object_object_del(ns, "path");
}

static bool owns_pid_namespace(struct json_object *spec)
{
	struct json_object *ns = spec_namespace(spec, "pid");

	return ns && str_empty(json_get_str(ns, "path"));
}

int spec_hostname(struct json_object *spec, char **ret, struct err *err)
{
	const char *name = json_get_str(spec, "hostname");

	if (!str_empty(name) && strlen(name) > HOSTNAME_MAX)
		return bad(err, "hostname is too long");
	for (const char *c = name; c && *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
			return bad(err, "hostname holds characters other than letters, digits, "
					"'_', '-' and '.'");
	*ret = str_empty(name) ? NULL : mem_strdup(name);
	return 0;
}

static char *hosts_text(const char *hostname)
{
	size_t label = strcspn(hostname, ".");

	return str_printf("127.0.0.1 localhost\n"
			  "127.0.0.1 %s%s%.*s\n"
			  "\n"
			  "# The following lines are desirable for IPv6 capable hosts\n"
			  "::1     ip6-localhost ip6-loopback\n"
			  "fe00::0 ip6-localnet\n"
			  "ff00::0 ip6-mcastprefix\n"
			  "ff02::1 ip6-allnodes\n"
			  "ff02::2 ip6-allrouters\n",
			  hostname, hostname[label] ? " " : "", hostname[label] ? (int)label : 0,
			  hostname);
}

static bool mounts_at(struct json_object *mounts, const char *destination)
{
	for (size_t i = 0; i < json_object_array_length(mounts); i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);

		if (json_object_is_type(m, json_type_object) &&
		    str_eq(json_get_str(m, "destination"), destination))
			return true;
	}
	return false;
}

struct json_object *spec_mounts(struct json_object *spec)
{
	return spec_member(spec, "mounts", json_type_array);
}

void spec_add_mount(struct json_object *mounts, const char *type, const char *source,
		    const char *destination, const char *const *options)
{
	struct json_object *m = json_object_new_object();
	struct json_object *list = json_object_new_array();

	json_object_object_add(m, "destination", json_object_new_string(destination));
	json_object_object_add(m, "type", json_object_new_string(type));
	json_object_object_add(m, "source", json_object_new_string(source));
	for (const char *const *o = options; *o; o++)
		json_object_array_add(list, json_object_new_string(*o));
	json_object_object_add(m, "options", list);
	json_object_array_add(mounts, m);
}

static const char *const network_files[] = { "hostname", "hosts", "resolv.conf" };

int spec_write_files(const char *dir, const char *hostname, const char *resolv, struct err *err)
{
	_cleanup_free_ char *hosts = hosts_text(hostname);
	_cleanup_free_ char *line = str_printf("%s\n", hostname);
	const char *const texts[ARRAY_SIZE(network_files)] = { line, hosts, resolv };

	for (size_t i = 0; i < ARRAY_SIZE(network_files); i++) {
		_cleanup_free_ char *path = str_printf("%s/%s", dir, network_files[i]);
		int r = file_write(path, texts[i], strlen(texts[i]), 0644);

		if (r < 0)
			return err_sys(err, r, "write %s", path);
	}
	return 0;
}

void spec_mount_files(struct json_object *spec, const char *dir)
{
	static const char *const options[] = { "bind", NULL }, *const ro[] = { "bind", "ro", NULL };
	struct json_object *mounts = spec_mounts(spec);
	bool read_only = json_get_bool(json_get(spec, "root", NULL), "readonly", false);

	for (size_t i = 0; i < ARRAY_SIZE(network_files); i++) {
		_cleanup_free_ char *destination = str_printf("/etc/%s", network_files[i]);
		_cleanup_free_ char *source = str_printf("%s/%s", dir, network_files[i]);

		if (!mounts_at(mounts, destination))
			spec_add_mount(mounts, "bind", source, destination,
				       read_only ? ro : options);
	}
}

/* The primary group is among the additional ones, lest a process drop it to get round a file that
 * is closed to the group (CVE-2023-25173). */
static int add_groups(struct json_object *user, const char *rootfs, const char *name, uint32_t gid,
		      struct err *err)
{
	struct json_object *list = json_get(user, "additionalGids", NULL);
	_cleanup_free_ uint32_t *gids = NULL;
	size_t n = 0;
	int r;

	if (json_object_is_type(list, json_type_array) && json_object_array_length(list))
		return 0;
	r = user_groups(rootfs, name, &gids, &n, err);
	if (r < 0)
		return r;
	list = json_object_new_array();
	json_object_array_add(list, json_object_new_int64(gid));
	for (size_t i = 0; i < n; i++)
		if (gids[i] != gid)
			json_object_array_add(list, json_object_new_int64(gids[i]));
	json_object_object_add(user, "additionalGids", list);
	return 0;
}

/* Resolves user.username of a process object. Return: whether there was one, or negative errno. */
static int resolve_user(struct json_object *process, const char *rootfs, struct err *err)
{
	struct json_object *user = spec_member(process, "user", json_type_object);
	const char *name = json_get_str(user, "username");
	uint32_t uid, gid;
	int r;

	if (str_empty(name))
		return 0;
	r = user_resolve(rootfs, name, &uid, &gid, err);
	if (r >= 0)
		r = add_groups(user, rootfs, name, gid, err);
	if (r < 0)
		return r;
	json_object_object_add(user, "uid", json_object_new_int64(uid));
	json_object_object_add(user, "gid", json_object_new_int64(gid));
	json_object_object_del(user, "username");
	return 1;
}

/* "soft;hard" of the annotation becomes an RLIMIT_CORE. */
static int rlimit_core(struct json_object *spec, struct json_object *process, struct err *err)
{
	const char *text = spec_annotation(spec, A_RLIMIT_CORE);
	_cleanup_strv_ char **part = NULL;
	struct json_object *limit;
	uint64_t soft, hard;

	if (str_empty(text))
		return 0;
	part = strv_split(text, ";");
	if (strv_len(part) != 2 || str_u64(part[0], &soft) < 0 || str_u64(part[1], &hard) < 0)
		return err_set(err, -ERR_INVALID,
			       "invalid '" A_RLIMIT_CORE "': '%s' is not \"soft;hard\"", text);
	limit = json_object_new_object();
	json_object_object_add(limit, "type", json_object_new_string("RLIMIT_CORE"));
	json_object_object_add(limit, "soft", json_object_new_uint64(soft));
	json_object_object_add(limit, "hard", json_object_new_uint64(hard));
	json_object_array_add(spec_member(process, "rlimits", json_type_array), limit);
	return 0;
}

static void lower_version(struct json_object *spec)
{
	const char *version = json_get_str(spec, "ociVersion");

	if (version && str_starts(version, "1."))
		json_object_object_add(spec, "ociVersion", json_object_new_string(OCI_VERSION));
}

int spec_classify(struct json_object *spec, const char *id, const char *bundle,
		  struct spec_facts *ret, struct err *err)
{
	struct spec_facts f __attribute__((cleanup(spec_facts_clear))) = { 0 };
	struct json_object *process = json_get(spec, "process", NULL);
	const char *rootfs = json_get_str(json_get(spec, "root", NULL), "path");
	const char *log = spec_annotation(spec, A_LOG);
	int r;

	if (!json_object_is_type(spec, json_type_object))
		return bad(err, "it is missing");
	r = check_process(process, err);
	if (r < 0)
		return r;
	if (str_empty(rootfs) || rootfs[0] != '/')
		return bad(err, "root.path is not an absolute path");
	r = classify(spec, id, bundle, &f, err);
	if (r < 0)
		return r;
	f.rootfs = mem_strdup(rootfs);
	f.terminal = json_get_bool(process, "terminal", false);
	f.log = str_empty(log) ? NULL : mem_strdup(log);
	*ret = f;
	f = (struct spec_facts){ 0 };
	return 0;
}

int spec_prepare(struct json_object *spec, struct spec_facts *f, struct err *err)
{
	struct json_object *process = json_get(spec, "process", NULL);
	struct json_object *lin = spec_member(spec, "linux", json_type_object);
	int r;

	json_object_object_add(lin, "cgroupsPath", json_object_new_string(f->cgroup));
	json_object_object_del(spec, "windows");
	lower_version(spec);
	f->own_pidns = owns_pid_namespace(spec);
	r = resolve_user(process, f->rootfs, err);
	if (r < 0)
		return r;
	f->named_user = r > 0;
	if (f->kind != SPEC_STANDALONE) {
		r = rlimit_core(spec, process, err);
		if (r < 0)
			return r;
	}
	f->user = json_object_get(json_get(process, "user", NULL));
	f->rlimits = json_object_get(json_get(process, "rlimits", NULL));
	return 0;
}

int spec_exec(struct json_object *process, const struct spec_facts *facts, struct err *err)
{
	int r = check_process(process, err);

	if (r < 0)
		return r;
	if (facts->rlimits)
		json_object_object_add(process, "rlimits", json_object_get(facts->rlimits));
	else
		json_object_object_del(process, "rlimits");
	r = resolve_user(process, facts->rootfs, err);
	if (r == 0 && facts->named_user)
		json_object_object_add(process, "user", json_object_get(facts->user));
	if (!json_get_str(process, "cwd"))
		json_object_object_add(process, "cwd", json_object_new_string("/"));
	return r < 0 ? r : 0;
}

void spec_make_dirs(const char *root_path, const char *dirs, mode_t mode)
{
	_cleanup_fd_ int root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_strv_ char **parts = strv_split(dirs, "/");
	_cleanup_fd_ int dir = -EBADF;
	_cleanup_free_ char *path = mem_strdup(".");
	mode_t mask;

	for (char **p = parts; p && *p && root >= 0; p++) {
		char *longer = str_printf("%s/%s", path, *p);

		dir = fd_close(dir);
		dir = fd_open_in(root, path, O_PATH | O_DIRECTORY, 0);
		if (dir < 0 || str_eq(*p, "..")) {
			free(longer);
			return;
		}
		/* mkdirat() on a name: a symlink there makes it fail, and the next round follows it
		 * within the root. */
		mask = umask(0);
		mkdirat(dir, *p, mode);
		umask(mask);
		free(path);
		path = longer;
	}
}

void spec_make_cwd(struct json_object *process, const char *rootfs)
{
	const char *cwd = json_get_str(process, "cwd");

	if (cwd)
		spec_make_dirs(rootfs, cwd, 0755);
}
