/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/block_volumes.h"

#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/mounts.h"
#include "controller/spec.h"
#include "wire/json.h"

static size_t length(struct json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

static bool number_of(struct json_object *o, const char *name, unsigned *ret)
{
	struct json_object *n = json_get(o, name, NULL);

	if (!json_object_is_type(n, json_type_int) || json_object_get_int64(n) < 0)
		return false;
	*ret = (unsigned)json_object_get_int64(n);
	return true;
}

/* What a rule doesn't say it says of all. */
static bool rule_names(struct json_object *rule, dev_t device)
{
	const char *type = json_get_str(rule, "type");
	unsigned n;

	return (!type || str_eq(type, "a") || str_eq(type, "b")) &&
	       (!number_of(rule, "major", &n) || n == major(device)) &&
	       (!number_of(rule, "minor", &n) || n == minor(device));
}

/* The last rule that names it counts. */
static bool may_write(struct json_object *rules, dev_t device)
{
	for (size_t i = length(rules); i > 0; i--) {
		struct json_object *rule = json_object_array_get_idx(rules, i - 1);
		const char *access = json_get_str(rule, "access");

		if (rule_names(rule, device) && (!access || strchr(access, 'w')))
			return json_get_bool(rule, "allow", false);
	}
	return false;
}

/* Its node: sysfs has "sda1" and "mapper!x" where /dev has sda1 and mapper/x. NULL for none. */
static int find_node(dev_t device, const char *root, char **ret, struct err *err)
{
	_cleanup_free_ char *link =
		str_printf("%s/sys/dev/block/%u:%u", root, major(device), minor(device));
	char target[PATH_MAX];
	ssize_t n = readlink(link, target, sizeof(target) - 1);
	_cleanup_free_ char *node = NULL;
	struct stat st;

	if (n < 0)
		return 0;
	target[n] = '\0';

	const char *slash = strrchr(target, '/');

	node = str_printf("%s/dev/%s", root, slash ? slash + 1 : target);
	for (char *c = node; *c; c++)
		if (*c == '!')
			*c = '/';
	if (stat(node, &st) < 0 || !S_ISBLK(st.st_mode) || st.st_rdev != device)
		return err_set(err, -ERR_INVALID, "%s is not block device %u:%u", node,
			       major(device), minor(device));
	*ret = TAKE_PTR(node);
	return 0;
}

static struct json_object *new_mount(const char *node, const char *path, bool writable)
{
	struct json_object *mount = json_object_new_object();
	struct json_object *options = json_object_new_array();
	_cleanup_free_ char *destination = str_printf(MOUNTS_BLOCKDEV "%s", path);

	json_object_array_add(options, json_object_new_string("bind"));
	if (!writable)
		json_object_array_add(options, json_object_new_string("ro"));
	json_object_object_add(mount, "type", json_object_new_string("physical-disk"));
	json_object_object_add(mount, "source", json_object_new_string(node));
	json_object_object_add(mount, "destination", json_object_new_string(destination));
	json_object_object_add(mount, "options", options);
	return mount;
}

static void add_mount(struct json_object *spec, struct json_object *mount)
{
	struct json_object *mounts = json_get(spec, "mounts", NULL);

	if (!json_object_is_type(mounts, json_type_array)) {
		mounts = json_object_new_array();
		json_object_object_add(spec, "mounts", mounts);
	}
	json_object_array_add(mounts, mount);
}

int block_volumes_fit(struct json_object *host, struct json_object *spec, const char *root,
		      struct err *err)
{
	struct json_object *rules = json_get(host, "linux", "resources", "devices", NULL);
	struct json_object *devices = json_get(spec, "linux", "devices", NULL);

	if (spec_privileged(spec))
		return 0;
	for (size_t i = length(devices); i > 0; i--) {
		struct json_object *entry = json_object_array_get_idx(devices, i - 1);
		const char *path = json_get_str(entry, "path");
		_cleanup_free_ char *node = NULL;
		unsigned high, low;
		int r;

		if (!path || !str_eq(json_get_str(entry, "type"), "b") ||
		    !number_of(entry, "major", &high) || !number_of(entry, "minor", &low))
			continue;
		r = find_node(makedev(high, low), root, &node, err);
		if (r < 0)
			return err_wrap(err, r, "linux.devices: %s", path);
		if (!node)
			continue;
		add_mount(spec, new_mount(node, path, may_write(rules, makedev(high, low))));
		json_object_array_del_idx(devices, i - 1, 1);
	}
	return 0;
}
