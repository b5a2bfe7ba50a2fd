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
#include "base/str.h"
#include "gcs/user.h"
#include "wire/json.h"

#define A_TYPE "io.kubernetes.cri.container-type"
#define A_SANDBOX_ID "io.kubernetes.cri.sandbox-id"
#define A_VIRTUAL_POD "io.microsoft.cri.virtual-pod-id"
#define A_RLIMIT_CORE "io.microsoft.lcow.rlimitcore"

/* Later 1.x only add to this version, yet crun before 1.9 refuses them by their number. */
#define OCI_VERSION "1.0.2"

enum { HOSTNAME_MAX = 255 };

void spec_facts_clear(struct spec_facts *f)
{
	free(f->sandbox);
	free(f->cgroup);
	free(f->rootfs);
	json_put(f->user);
	json_put(f->rlimits);
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

/* Member of an object, made as an empty object or array when absent. */
static struct json_object *member(struct json_object *o, const char *name, enum json_type type)
{
	struct json_object *m = json_get(o, name, NULL);

	if (json_object_is_type(m, type))
		return m;
	m = type == json_type_array ? json_object_new_array() : json_object_new_object();
	json_object_object_add(o, name, m);
	return m;
}

static int classify(struct json_object *spec, const char *id, struct spec_facts *f, struct err *err)
{
	struct json_object *annotations = json_get(spec, "annotations", NULL);
	const char *type = annotations ? json_get_str(annotations, A_TYPE) : NULL;
	const char *pod = annotations ? json_get_str(annotations, A_VIRTUAL_POD) : NULL;
	const char *sandbox = id;

	if (!str_empty(pod) && str_eq(pod, id))
		type = "sandbox";
	if (!type) {
		f->kind = SPEC_STANDALONE;
	} else if (str_eq(type, "sandbox")) {
		f->kind = SPEC_SANDBOX;
	} else if (str_eq(type, "container")) {
		f->kind = SPEC_WORKLOAD;
		sandbox = json_get_str(annotations, A_SANDBOX_ID);
	} else {
		return err_set(err, -ERR_INVALID, "unsupported '" A_TYPE "': '%s'", type);
	}
	if (!str_empty(pod))
		sandbox = pod;
	if (!str_id_valid(sandbox))
		return err_set(err, -ERR_INVALID, "unsupported '" A_SANDBOX_ID "': '%s'",
			       sandbox ? sandbox : "");
	f->sandbox = mem_strdup(sandbox);
	f->cgroup = f->kind == SPEC_STANDALONE ? str_printf("/pods/%s", id)
					       : str_printf("/pods/%s/%s", sandbox, id);
	return 0;
}

static bool owns_pid_namespace(struct json_object *lin)
{
	struct json_object *list = json_get(lin, "namespaces", NULL);

	if (!json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *ns = json_object_array_get_idx(list, i);

		if (json_object_is_type(ns, json_type_object) &&
		    str_eq(json_get_str(ns, "type"), "pid"))
			return str_empty(json_get_str(ns, "path"));
	}
	return false;
}

/* The host name ends up in files, so it is held to what a name may be. */
static int hostname_of(struct json_object *spec, char ret[HOSTNAME_MAX + 1], struct err *err)
{
	const char *name = json_get_str(spec, "hostname");

	if (str_empty(name)) {
		if (gethostname(ret, HOSTNAME_MAX + 1) < 0)
			return err_sys(err, -errno, "get the VM's hostname");
		ret[HOSTNAME_MAX] = '\0';
		return 0;
	}
	if (strlen(name) > HOSTNAME_MAX)
		return bad(err, "hostname is too long");
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
			return bad(err, "hostname holds characters other than letters, digits, "
					"'_', '-' and '.'");
	memcpy(ret, name, strlen(name) + 1);
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

static void add_bind(struct json_object *mounts, const char *source, const char *destination,
		     bool read_only)
{
	struct json_object *m = json_object_new_object();
	struct json_object *options = json_object_new_array();

	json_object_object_add(m, "destination", json_object_new_string(destination));
	json_object_object_add(m, "type", json_object_new_string("bind"));
	json_object_object_add(m, "source", json_object_new_string(source));
	json_object_array_add(options, json_object_new_string("bind"));
	if (read_only)
		json_object_array_add(options, json_object_new_string("ro"));
	json_object_object_add(m, "options", options);
	json_object_array_add(mounts, m);
}

static int network_files(struct json_object *spec, const char *bundle, const char *resolv,
			 struct err *err)
{
	struct json_object *mounts = member(spec, "mounts", json_type_array);
	bool read_only = json_get_bool(json_get(spec, "root", NULL), "readonly", false);
	char hostname[HOSTNAME_MAX + 1];
	_cleanup_free_ char *hosts = NULL;
	_cleanup_free_ char *line = NULL;
	int r = hostname_of(spec, hostname, err);

	if (r < 0)
		return r;
	hosts = hosts_text(hostname);
	line = str_printf("%s\n", hostname);
	const struct {
		const char *name, *text;
	} files[] = { { "hostname", line }, { "hosts", hosts }, { "resolv.conf", resolv } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *destination = str_printf("/etc/%s", files[i].name);
		_cleanup_free_ char *source = str_printf("%s/%s", bundle, files[i].name);

		if (mounts_at(mounts, destination))
			continue;
		r = file_write(source, files[i].text, strlen(files[i].text), 0644);
		if (r < 0)
			return err_sys(err, r, "write %s", source);
		add_bind(mounts, source, destination, read_only);
	}
	return 0;
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
	struct json_object *user = member(process, "user", json_type_object);
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
	struct json_object *annotations = json_get(spec, "annotations", NULL);
	const char *text = annotations ? json_get_str(annotations, A_RLIMIT_CORE) : NULL;
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
	json_object_array_add(member(process, "rlimits", json_type_array), limit);
	return 0;
}

static void lower_version(struct json_object *spec)
{
	const char *version = json_get_str(spec, "ociVersion");

	if (version && str_starts(version, "1."))
		json_object_object_add(spec, "ociVersion", json_object_new_string(OCI_VERSION));
}

int spec_prepare(struct json_object *spec, const char *id, const char *bundle, const char *resolv,
		 struct spec_facts *ret, struct err *err)
{
	struct json_object *process = json_get(spec, "process", NULL);
	struct json_object *root = json_get(spec, "root", NULL);
	struct spec_facts f __attribute__((cleanup(spec_facts_clear))) = { 0 };
	struct json_object *lin;
	const char *rootfs;
	int r;

	if (!json_object_is_type(spec, json_type_object))
		return bad(err, "it is missing");
	r = check_process(process, err);
	if (r < 0)
		return r;
	rootfs = json_object_is_type(root, json_type_object) ? json_get_str(root, "path") : NULL;
	if (str_empty(rootfs) || rootfs[0] != '/')
		return bad(err, "root.path is not an absolute path");
	r = classify(spec, id, &f, err);
	if (r < 0)
		return r;
	lin = member(spec, "linux", json_type_object);
	json_object_object_add(lin, "cgroupsPath", json_object_new_string(f.cgroup));
	json_object_object_del(spec, "windows");
	lower_version(spec);
	f.rootfs = mem_strdup(rootfs);
	f.terminal = json_get_bool(process, "terminal", false);
	f.own_pidns = owns_pid_namespace(lin);
	r = network_files(spec, bundle, resolv, err);
	if (r >= 0)
		r = resolve_user(process, rootfs, err);
	if (r < 0)
		return r;
	f.named_user = r > 0;
	if (f.kind != SPEC_STANDALONE) {
		r = rlimit_core(spec, process, err);
		if (r < 0)
			return r;
	}
	f.user = json_object_get(json_get(process, "user", NULL));
	f.rlimits = json_object_get(json_get(process, "rlimits", NULL));
	*ret = f;
	f = (struct spec_facts){ 0 };
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

void spec_make_cwd(struct json_object *process, const char *rootfs)
{
	const char *cwd = json_get_str(process, "cwd");
	_cleanup_fd_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_strv_ char **parts = cwd ? strv_split(cwd, "/") : NULL;
	_cleanup_fd_ int dir = -EBADF;
	_cleanup_free_ char *path = mem_strdup(".");

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
		mkdirat(dir, *p, 0755);
		free(path);
		path = longer;
	}
}
