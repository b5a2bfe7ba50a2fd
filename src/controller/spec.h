/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_SPEC_H
#define LCOW_CONTROLLER_SPEC_H

#include <stdbool.h>

struct err;
struct json_object;

/**
 * spec_for_guest() - a copy of a container's OCI spec without what means something on the host only
 * @spec:	config.json
 * @rootfs:	guest path that root.path becomes
 * @pod:	guest-facing pod id, which annotation io.kubernetes.cri.sandbox-id becomes where it
 *		is present
 * @ret:	one reference
 *
 * Dropped: hooks, paths of namespaces but where they say that the pod's is shared, cgroupsPath,
 * resources.{devices, blockIO, network, rdma}, security labels of the host, intelRdt; the
 * windows section but for network.networkNamespace and devices. A CPU period of 0 becomes 100000
 * and a quota of 0 becomes -1. The /dev/shm that CRI makes for a pod on the host becomes a tmpfs of
 * the same size, which the guest shares between those who share ipc.
 *
 * Annotation io.microsoft.virtualmachine.lcow.privileged drops seccomp. It is set for a container
 * that may use every device, as privileged ones of containerd may: it gets the VM's.
 *
 * Return: 0, or -ERR_INVALID when there is no linux or no process section
 */
int spec_for_guest(struct json_object *spec, const char *rootfs, const char *pod,
		   struct json_object **ret, struct err *err);

/** spec_privileged() - whether that annotation is in the guest's copy of a spec */
bool spec_privileged(struct json_object *spec);

#endif
