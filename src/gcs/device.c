/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/device.h"

#include <dirent.h>
#include <json-c/json.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/err.h"
#include "base/str.h"
#include "gcs/spec.h"
#include "wire/json.h"

#define A_PRIVILEGED "io.microsoft.virtualmachine.lcow.privileged"

enum { DEPTH_MAX = 4 };

static bool is_device(const struct stat *st)
{
	return S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode);
}

static void set_numbers(struct json_object *o, const struct stat *st)
{
	json_object_object_add(o, "type", json_object_new_string(S_ISBLK(st->st_mode) ? "b" : "c"));
	json_object_object_add(o, "major", json_object_new_int64(major(st->st_rdev)));
	json_object_object_add(o, "minor", json_object_new_int64(minor(st->st_rdev)));
}

static struct json_object *rules_of(struct json_object *spec)
{
	struct json_object *resources = spec_member(spec_member(spec, "linux", json_type_object),
						    "resources", json_type_object);

	return spec_member(resources, "devices", json_type_array);
}

static struct json_object *new_rule(bool allow, const char *access)
{
	struct json_object *rule = json_object_new_object();

	json_object_object_add(rule, "allow", json_object_new_boolean(allow));
	json_object_object_add(rule, "access", json_object_new_string(access));
	return rule;
}

void device_allow(struct json_object *spec, const struct stat *st, const char *access)
{
	struct json_object *rule = new_rule(true, access);

	set_numbers(rule, st);
	json_object_array_add(rules_of(spec), rule);
}

static struct json_object *nodes_of(struct json_object *spec)
{
	return spec_member(spec_member(spec, "linux", json_type_object), "devices",
			   json_type_array);
}

static struct json_object *new_node(const char *path, const struct stat *st)
{
	struct json_object *node = json_object_new_object();

	json_object_object_add(node, "path", json_object_new_string(path));
	set_numbers(node, st);
	json_object_object_add(node, "uid", json_object_new_int64(st->st_uid));
	json_object_object_add(node, "gid", json_object_new_int64(st->st_gid));
	return node;
}

void device_add(struct json_object *spec, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || !is_device(&st))
		return;
	json_object_array_add(nodes_of(spec), new_node(path, &st));
	device_allow(spec, &st, "rwm");
}

/* Owner and mode stay as the host has them: the container's user counts on them. */
static int translate(struct json_object *spec, struct json_object *node, const char *dev,
		     struct err *err)
{
	const char *path = json_get_str(node, "path");
	_cleanup_free_ char *here = NULL;
	struct stat st;

	if (!path || !str_starts(path, "/dev/"))
		return err_set(err, -ERR_INVALID, "linux.devices: '%s' is not below /dev",
			       path ? path : "");
	here = str_printf("%s%s", dev, path + strlen("/dev"));
	if (stat(here, &st) < 0 || !is_device(&st))
		return err_set(err, -ERR_INVALID, "linux.devices: the VM has no device %s", path);
	set_numbers(node, &st);
	device_allow(spec, &st, "rwm");
	return 0;
}

/* What the runtime makes itself, and what is no business of containers. */
static bool skipped(const char *name)
{
	static const char *const names[] = { ".",      "..",   "pts",         "shm",   "fd",
					     "mqueue", ".lxc", ".lxd-mounts", ".udev", "console" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq(name, names[i]))
			return true;
	return false;
}

/* @path is that of @dir in the container. */
static void add_all(struct json_object *nodes, const char *dir, const char *path, unsigned depth)
{
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		_cleanup_free_ char *here = str_printf("%s/%s", dir, e->d_name);
		_cleanup_free_ char *there = str_printf("%s/%s", path, e->d_name);
		struct stat st;

		if (skipped(e->d_name) || lstat(here, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			add_all(nodes, here, there, depth + 1);
		else if (is_device(&st))
			json_object_array_add(nodes, new_node(there, &st));
	}
	closedir(d);
}

int device_fit(struct json_object *spec, const char *dev, struct err *err)
{
	struct json_object *nodes = nodes_of(spec), *rules = json_object_new_array();
	bool privileged = spec_flag(spec, A_PRIVILEGED);
	int r = 0;

	json_object_array_add(rules, new_rule(privileged, "rwm"));
	rules_of(spec);
	json_object_object_add(json_get(spec, "linux", "resources", NULL), "devices", rules);
	if (privileged) {
		json_object_array_del_idx(nodes, 0, json_object_array_length(nodes));
		add_all(nodes, dev, "/dev", 0);
		return 0;
	}
	for (size_t i = 0; r == 0 && i < json_object_array_length(nodes); i++)
		r = translate(spec, json_object_array_get_idx(nodes, i), dev, err);
	return r;
}
