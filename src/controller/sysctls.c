/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/sysctls.h"

#include <json-c/json.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "wire/json.h"

/* kernel.hostname is the spec's hostname, and refused by crun. */
static const struct {
	const char *name; /* one that ends in a slash has all below it */
	const char *type; /* of the namespace */
} known[] = {
	{ "net/", "network" },          { "fs/mqueue/", "ipc" },
	{ "kernel/msgmax", "ipc" },     { "kernel/msgmnb", "ipc" },
	{ "kernel/msgmni", "ipc" },     { "kernel/sem", "ipc" },
	{ "kernel/shmall", "ipc" },     { "kernel/shmmax", "ipc" },
	{ "kernel/shmmni", "ipc" },     { "kernel/shm_rmid_forced", "ipc" },
	{ "kernel/domainname", "uts" },
};

/* The namespace that a parameter is of; NULL for none. */
static const char *type_of(const char *name)
{
	_cleanup_free_ char *path = mem_strdup(name);

	for (char *p = path; *p; p++)
		*p = *p == '.' ? '/' : *p;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		size_t len = strlen(known[i].name);
		bool below = known[i].name[len - 1] == '/';

		if (below ? str_starts(path, known[i].name) && path[len]
			  : str_eq(path, known[i].name))
			return known[i].type;
	}
	return NULL;
}

int sysctls_check(struct json_object *sysctls, struct err *err)
{
	json_object_object_foreach(sysctls, name, value)
	{
		_cleanup_free_ char *shown = mem_strndup(name, 128);

		(void)value;
		if (type_of(name))
			continue;
		str_clean(shown, strlen(shown));
		return err_set(err, -ERR_INVALID,
			       "sysctl %s is of none of the namespaces network, ipc and uts",
			       shown);
	}
	return 0;
}

/* As the guest has it: all containers of a pod share its network, and a path says that ipc or uts
 * is shared. */
static bool shares(struct json_object *spec, const char *type)
{
	struct json_object *list = json_get(spec, "linux", "namespaces", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	if (str_eq(type, "network"))
		return true;
	for (size_t i = 0; i < n; i++) {
		struct json_object *ns = json_object_array_get_idx(list, i);

		if (str_eq(json_get_str(ns, "type"), type))
			return !str_empty(json_get_str(ns, "path"));
	}
	return false;
}

void sysctls_add(struct json_object *spec, struct json_object *sysctls)
{
	struct json_object *section = json_get(spec, "linux", NULL), *own;

	if (!sysctls || !json_object_is_type(section, json_type_object))
		return;
	own = json_get(section, "sysctl", NULL);
	if (!own) {
		own = json_object_new_object();
		json_object_object_add(section, "sysctl", own);
	}
	/* Another type is refused with the rest of the spec. */
	if (!json_object_is_type(own, json_type_object))
		return;
	json_object_object_foreach(sysctls, name, value)
	{
		if (shares(spec, type_of(name)) && !json_object_object_get_ex(own, name, NULL))
			json_object_object_add(own, name, json_object_get(value));
	}
}
