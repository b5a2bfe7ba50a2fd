/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_SPEC_H
#define LCOW_GCS_SPEC_H

#include <json-c/json.h>
#include <stdbool.h>
#include <sys/types.h>

struct err;
struct json_object;

/**
 * enum spec_kind - what the annotations make of a container
 */
enum spec_kind {
	SPEC_STANDALONE, /* its own pod */
	SPEC_SANDBOX, /* the first container of a pod */
	SPEC_WORKLOAD, /* a further one */
};

/**
 * struct spec_facts - what the agent keeps of a spec; free with spec_facts_clear()
 * @kind:	see there
 * @sandbox:	id of the pod
 * @cgroup:	as in linux.cgroupsPath: "/pods/<pod>/<container>"
 * @rootfs:	root.path
 * @terminal:	init has a terminal
 * @own_pidns:	the kernel kills all of it when init dies
 * @named_user:	the user was given by name: execs without a name run as @user
 * @user:	process.user with uid and gid filled in
 * @rlimits:	process.rlimits, NULL when there are none
 * @log:	file below the pod's logs that init's output is appended to as well; NULL for none
 */
struct spec_facts {
	enum spec_kind kind;
	char *sandbox;
	char *cgroup;
	char *rootfs;
	bool terminal;
	bool own_pidns;
	bool named_user;
	struct json_object *user;
	struct json_object *rlimits;
	char *log;
};

/**
 * spec_classify() - check an OCI spec as the host sent it, and find its pod
 * @id:		container id
 * @bundle:	"/run/gcs/pods/<pod>/<container>" says the pod of a container whose annotations do
 *		not
 * @ret:	all but @own_pidns and what comes after it
 *
 * Return: 0, or -ERR_INVALID with text for a spec that names no command, root …
 */
int spec_classify(struct json_object *spec, const char *id, const char *bundle,
		  struct spec_facts *ret, struct err *err);

/**
 * spec_hostname() - the name that a spec gives its container
 * @ret:	NULL for none; the caller frees it
 *
 * Return: 0, or -ERR_INVALID for what would break the files that it ends up in
 */
int spec_hostname(struct json_object *spec, char **ret, struct err *err);

/**
 * spec_write_files() - write hostname, hosts and resolv.conf to an existing directory
 * Return: 0 or negative errno with text
 */
int spec_write_files(const char *dir, const char *hostname, const char *resolv, struct err *err);
/** spec_mount_files() - mount these below /etc where the spec does not mount them itself */
void spec_mount_files(struct json_object *spec, const char *dir);

/** spec_namespace() - the entry of linux.namespaces of a type; NULL for none; borrowed */
struct json_object *spec_namespace(struct json_object *spec, const char *type);

/**
 * spec_set_namespace() - put a container into a namespace
 * @path:	NULL for one of its own
 */
void spec_set_namespace(struct json_object *spec, const char *type, const char *path);

/** spec_member() - member of an object, an empty object or array when it is not there; borrowed */
struct json_object *spec_member(struct json_object *o, const char *name, enum json_type type);
/** spec_mounts() - its mounts, an array that is made when there is none; borrowed */
struct json_object *spec_mounts(struct json_object *spec);
/** spec_add_mount() - append one; @options end with NULL */
void spec_add_mount(struct json_object *mounts, const char *type, const char *source,
		    const char *destination, const char *const *options);

/** spec_has_option() - whether a mount has an option, in upper or lower case */
bool spec_has_option(struct json_object *mount, const char *option);

/** spec_annotation() - NULL for none; borrowed */
const char *spec_annotation(struct json_object *spec, const char *name);

/**
 * spec_flag() - an annotation that says yes or no in one of the ways of hcsshim (1, t, true, …);
 * false for anything else, and with a warning for what is neither
 */
bool spec_flag(struct json_object *spec, const char *name);

/**
 * spec_prepare() - make an OCI spec fit the VM
 * @spec:	changed in place: cgroupsPath set, section windows removed, ociVersion 1.x lowered
 *		to what every crun takes, user name resolved with the groups that name the user
 * @facts:	of spec_classify(), the rest is filled in
 *
 * Everything that is not named here goes to the runtime as it is.
 *
 * Return: 0 or negative errno with text
 */
int spec_prepare(struct json_object *spec, struct spec_facts *facts, struct err *err);

/**
 * spec_exec() - make an exec's process object fit its container
 * @process:	OCI process as the host sent it, changed in place: rlimits are the container's, user
 *		names are resolved as in spec_prepare()
 */
int spec_exec(struct json_object *process, const struct spec_facts *facts, struct err *err);

/**
 * spec_make_cwd() - make process.cwd in the rootfs when it is not there; a failure shows when the
 * container starts
 */
void spec_make_cwd(struct json_object *process, const char *rootfs);

/** spec_make_dirs() - mkdir -p of a path within a directory, as far as it goes */
void spec_make_dirs(const char *root, const char *path, mode_t mode);

/** spec_facts_clear() - free what is owned, and zero it */
void spec_facts_clear(struct spec_facts *f);

#endif
