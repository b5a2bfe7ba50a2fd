/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_POD_H
#define LCOW_GCS_POD_H

#include "loop/co.h"

struct agent;
struct err;
struct json_object;
struct spec_facts;
struct volumes;

/**
 * struct pod - what its containers have in common: a cgroup, a network, a name, and those
 * namespaces that they ask to share
 *
 * There is one kind of pod, however it came to be: with a sandbox container (hcsshim's, virtual
 * pods, CRI's pause container), without one (CRI's "shim" sandboxer), or as that of a lone
 * container. It is there from the creation of its first container to the deletion of its last.
 *
 * A namespace is shared by those whose spec has a path in its entry; the path itself means nothing
 * here, but for the pids of another member ("/proc/<its first process>/ns/pid"), which are shared
 * with that. The namespace of the container with the pod's id is the pod's, if it lives when it is
 * first asked for; else the agent makes one. ipc and uts outlive whoever is in them. pid ends with
 * its first process, and everything in it ends too.
 */
struct pod;

/**
 * pod_join() - a container into its pod, the first one makes it
 * @facts:	of spec_classify()
 * @spec:	OCI spec as the host sent it; the first one's windows.network.networkNamespace names
 *		the pod's network, which else has the pod's id
 * @ret:	for pod_leave()
 *
 * Return: 0 or negative errno with text
 */
CO int pod_join(struct agent *a, const struct spec_facts *facts, struct json_object *spec,
		struct pod **ret, struct err *err);
/**
 * pod_leave() - the container's cgroup, mounts and processes are gone; the last one takes the pod
 * along. NULL is fine
 */
CO void pod_leave(struct pod *p);

/**
 * pod_fit() - make the spec of a container that has joined fit the pod
 * @id:		of the container
 * @spec:	changed in place: namespaces, host name, /dev/shm, and the files hostname, hosts and
 *		resolv.conf below /etc where it does not mount them itself
 * @bundle:	existing directory
 *
 * The resources of a sandbox container become the pod's limits.
 *
 * Return: 0; -ERR_INVALID for a member that would change the pod's name; -ERR_STATE when the pod's
 * pid namespace has ended; or negative errno with text
 */
CO int pod_fit(struct pod *p, const char *id, const struct spec_facts *facts,
	       struct json_object *spec, const char *bundle, struct err *err);

/**
 * pod_volumes() - give mounts of what is in the VM their sources; see volumes_fit()
 *
 * Directories of the pod are kept in the VM's memory.
 */
CO int pod_volumes(struct pod *p, struct json_object *spec, struct volumes *v, struct err *err);

/**
 * pod_log() - open a file in the pod's directory of logs, 16 MiB for all of them
 * @path:	below that; directories are made, and it cannot lead out of there
 * @ret:	fd, for appending
 *
 * Return: 0; -ERR_INVALID for what is no file; or negative errno with text
 */
CO int pod_log(struct pod *p, const char *path, int *ret, struct err *err);

/** pod_limit() - limits for all of the pod, an OCI linux.resources object; see cgroup_limit() */
int pod_limit(struct pod *p, struct json_object *resources, struct err *err);

#endif
