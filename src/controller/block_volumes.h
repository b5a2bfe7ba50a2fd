/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_BLOCK_VOLUMES_H
#define LCOW_CONTROLLER_BLOCK_VOLUMES_H

struct err;
struct json_object;

/**
 * block_volumes_fit() - make mounts of the host's block devices among a spec's devices
 * @host:	the spec as the client sent it, for the device rules of its cgroup
 * @spec:	the guest's copy, changed in place
 * @root:	"", another directory than / in tests
 *
 * Each entry of linux.devices with the numbers of a block device of the host becomes a mount of
 * type physical-disk, whose destination says that the container gets the device itself
 * (controller/mounts.h). It is read-only unless a rule allows to write. What the host has not is
 * left to the guest, and so are the devices of a privileged container: they are all of the host's.
 *
 * Return: 0, or -ERR_INVALID with text for a device that sysfs knows and /dev has not
 */
int block_volumes_fit(struct json_object *host, struct json_object *spec, const char *root,
		      struct err *err);

#endif
