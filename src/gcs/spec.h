/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_SPEC_H
#define LCOW_GCS_SPEC_H

#include <stdbool.h>

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
 * @cgroup:	as in linux.cgroupsPath: "/pods/…"
 * @rootfs:	root.path
 * @terminal:	init has a terminal
 * @own_pidns:	the kernel kills all of it when init dies
 * @named_user:	the user was given by name: execs without a name run as @user
 * @user:	process.user with uid and gid filled in
 * @rlimits:	process.rlimits, NULL when there are none
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
};

/**
 * spec_prepare() - check an OCI spec as the host sent it, and make it fit the VM
 * @spec:	changed in place: cgroupsPath set, section windows removed, ociVersion 1.x lowered
 *		to what every crun takes, user name resolved with the groups that name the user,
 *		and the files hostname, hosts and resolv.conf written to @bundle and mounted below
 *		/etc where the spec does not mount them itself
 * @id:		container id
 * @bundle:	existing directory
 * @resolv:	text for resolv.conf
 *
 * Everything that is not named here goes to the runtime as it is.
 *
 * Return: 0 or negative errno with text; -ERR_INVALID for a spec that names no command, root …
 */
int spec_prepare(struct json_object *spec, const char *id, const char *bundle, const char *resolv,
		 struct spec_facts *ret, struct err *err);

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

/** spec_facts_clear() - free what is owned, and zero it */
void spec_facts_clear(struct spec_facts *f);

#endif
