/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/spec.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "wire/json.h"

#define A_PRIVILEGED "io.microsoft.virtualmachine.lcow.privileged"

enum { CPU_PERIOD = 100000, SHM_KIB = 65536 };

static void drop(struct json_object *o, const char *const *names, size_t n)
{
	for (size_t i = 0; o && i < n; i++)
		json_object_object_del(o, names[i]);
}

static void set_if_zero(struct json_object *o, const char *name, int64_t value)
{
	struct json_object *v = json_get(o, name, NULL);

	if (v && json_object_get_int64(v) == 0)
		json_object_object_add(o, name, json_object_new_int64(value));
}

static void clean_resources(struct json_object *resources)
{
	static const char *const host_only[] = { "devices", "blockIO", "network", "rdma" };
	struct json_object *cpu = json_get(resources, "cpu", NULL);

	drop(resources, host_only, ARRAY_SIZE(host_only));
	if (!cpu)
		return;
	set_if_zero(cpu, "period", CPU_PERIOD);
	set_if_zero(cpu, "quota", -1);
}

/*
 * Of ipc, uts and pid a path says that the pod's is shared; CRI's leads by the sandbox container's
 * pid, which is the guest's. So does that of a member's network. Others name what is on the host.
 */
static bool is_of_pod(struct json_object *spec, struct json_object *entry)
{
	const char *type = json_get_str(entry, "type");
	const char *path = json_get_str(entry, "path");
	bool member = str_eq(json_get_str(json_get(spec, "annotations", NULL),
					  "io.kubernetes.cri.container-type"),
			     "container");

	return str_eq(type, "ipc") || str_eq(type, "uts") || str_eq(type, "pid") ||
	       (str_eq(type, "network") && member && path && str_starts(path, "/proc/"));
}

static void clean_namespaces(struct json_object *spec, struct json_object *section)
{
	struct json_object *list = json_get(section, "namespaces", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *entry = json_object_array_get_idx(list, i);

		if (json_object_is_type(entry, json_type_object) && !is_of_pod(spec, entry))
			json_object_object_del(entry, "path");
	}
}

/*
 * The directory that CRI shares between the containers of a pod as their /dev/shm (that of the
 * host, if they share its ipc) would be one of the host's: in the guest there is one for each pod.
 */
static bool is_cri_shm(struct json_object *mount)
{
	const char *source = json_get_str(mount, "source");
	const char *sandbox = source ? strstr(source, "/sandboxes/") : NULL;
	const char *id = sandbox ? strchr(sandbox + 1, '/') + 1 : "";

	return str_eq(json_get_str(mount, "destination"), "/dev/shm") &&
	       str_eq(json_get_str(mount, "type"), "bind") &&
	       (str_eq(source, "/dev/shm") || str_eq(id + strcspn(id, "/"), "/shm"));
}

/* In KiB, if it is a tmpfs of its own; else what CRI would give it. That of the host may be larger
 * than the VM. */
static uint64_t shm_size(const char *source)
{
	struct statfs fs;

	if (str_eq(source, "/dev/shm") || statfs(source, &fs) < 0 || fs.f_type != TMPFS_MAGIC ||
	    fs.f_blocks == 0)
		return SHM_KIB;
	return (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize / 1024;
}

static void replace_shm(struct json_object *spec)
{
	static const char *const options[] = { "nosuid", "noexec", "nodev", "mode=1777" };
	struct json_object *list = json_get(spec, "mounts", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *mount = json_object_array_get_idx(list, i);
		_cleanup_free_ char *size = NULL;
		struct json_object *words;

		if (!is_cri_shm(mount))
			continue;
		size = str_printf("size=%" PRIu64 "k", shm_size(json_get_str(mount, "source")));
		words = json_object_new_array();
		for (size_t k = 0; k < ARRAY_SIZE(options); k++)
			json_object_array_add(words, json_object_new_string(options[k]));
		json_object_array_add(words, json_object_new_string(size));
		json_object_object_add(mount, "type", json_object_new_string("tmpfs"));
		json_object_object_add(mount, "source", json_object_new_string("shm"));
		json_object_object_add(mount, "options", words);
	}
}

/* The rule for all devices, "a" or no type and no numbers. */
static bool allows_all_devices(struct json_object *section)
{
	struct json_object *list = json_get(section, "resources", "devices", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *rule = json_object_array_get_idx(list, i);
		const char *type = json_get_str(rule, "type");

		if (json_get_bool(rule, "allow", false) && (!type || str_eq(type, "a")) &&
		    !json_get(rule, "major", NULL) && !json_get(rule, "minor", NULL))
			return true;
	}
	return false;
}

static void mark_privileged(struct json_object *spec)
{
	struct json_object *annotations = json_get(spec, "annotations", NULL);

	if (!allows_all_devices(json_get(spec, "linux", NULL)))
		return;
	if (!annotations) {
		annotations = json_object_new_object();
		json_object_object_add(spec, "annotations", annotations);
	}
	if (json_object_is_type(annotations, json_type_object) &&
	    !json_get(annotations, A_PRIVILEGED, NULL))
		json_object_object_add(annotations, A_PRIVILEGED, json_object_new_string("true"));
}

bool spec_privileged(struct json_object *spec)
{
	return str_eq(json_get_str(json_get(spec, "annotations", NULL), A_PRIVILEGED), "true");
}

static void clean_linux(struct json_object *spec, struct json_object *section)
{
	static const char *const host_only[] = { "cgroupsPath", "mountLabel", "intelRdt" };
	struct json_object *resources = json_get(section, "resources", NULL);

	drop(section, host_only, ARRAY_SIZE(host_only));
	if (json_object_is_type(resources, json_type_object))
		clean_resources(resources);
	clean_namespaces(spec, section);
	if (spec_privileged(spec))
		json_object_object_del(section, "seccomp");
}

static void keep_of_windows(struct json_object *spec)
{
	struct json_object *windows = json_get(spec, "windows", NULL);
	struct json_object *network = json_get(windows, "network", "networkNamespace", NULL);
	struct json_object *devices = json_get(windows, "devices", NULL);

	if (!windows)
		return;

	struct json_object *kept = json_object_new_object();

	if (network) {
		struct json_object *n = json_object_new_object();

		json_object_object_add(n, "networkNamespace", json_object_get(network));
		json_object_object_add(kept, "network", n);
	}
	if (devices)
		json_object_object_add(kept, "devices", json_object_get(devices));
	if (json_object_object_length(kept) > 0) {
		json_object_object_add(spec, "windows", kept);
	} else {
		json_put(kept);
		json_object_object_del(spec, "windows");
	}
}

int spec_for_guest(struct json_object *spec, const char *rootfs, const char *pod,
		   struct json_object **ret, struct err *err)
{
	static const char *const host_labels[] = { "apparmorProfile", "selinuxLabel" };
	_cleanup_json_ struct json_object *copy = NULL;

	if (!json_object_is_type(json_get(spec, "linux", NULL), json_type_object))
		return err_set(err, -ERR_INVALID, "config.json has no linux section");
	if (!json_object_is_type(json_get(spec, "process", NULL), json_type_object))
		return err_set(err, -ERR_INVALID, "config.json has no process section");
	if (json_object_deep_copy(spec, &copy, NULL) < 0)
		return err_set(err, -ERR_EXHAUSTED, "config.json cannot be copied");

	struct json_object *root = json_get(copy, "root", NULL);

	json_object_object_del(copy, "hooks");
	mark_privileged(copy);
	clean_linux(copy, json_get(copy, "linux", NULL));
	replace_shm(copy);
	keep_of_windows(copy);
	drop(json_get(copy, "process", NULL), host_labels, ARRAY_SIZE(host_labels));
	if (!json_object_is_type(root, json_type_object)) {
		root = json_object_new_object();
		json_object_object_add(copy, "root", root);
	}
	json_object_object_add(root, "path", json_object_new_string(rootfs));

	struct json_object *annotations = json_get(copy, "annotations", NULL);

	if (json_get_str(annotations, "io.kubernetes.cri.sandbox-id"))
		json_object_object_add(annotations, "io.kubernetes.cri.sandbox-id",
				       json_object_new_string(pod));
	*ret = TAKE_PTR(copy);
	return 0;
}
