/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_MOUNTS_H
#define LCOW_CONTROLLER_MOUNTS_H

#include "loop/co.h"

struct container_env;
struct err;
struct json_object;

/* What the destination of a disk starts with that is to be a block device in the container. */
#define MOUNTS_BLOCKDEV "blockdev://"

/**
 * mounts_map() - bring the host's part of a spec's mounts into the guest
 * @env:	controllers of the VM
 * @spec:	the guest's copy of the spec; sources of bind mounts become guest paths
 * @share_ids, @socket_ids, @disk_ids: strvs that take the reservations, also when this fails
 *
 * bind mounts of directories and files become shares, read-only where an option says "ro" or "rro"
 * (on the host with all that is mounted below), and refused where one says "shared" or "rshared";
 * but those of directories in a hugetlbfs become ones of the guest (hugepages://). Mounts
 * of type uds, and binds of unix sockets, are relayed (controller/device/socket.h). File
 * systems without a host part (tmpfs, proc, sysfs, cgroup, devpts, mqueue) and sources inside the
 * guest (sandbox://, sandbox-tmp://, hugepages://, uvm://) pass. virtual-disk and physical-disk are
 * disk images and block devices of the host, with a file system that the guest mounts, or with a
 * destination MOUNTS_BLOCKDEV "<path>" the device at <path> itself. Other types are refused by
 * name.
 */
CO int mounts_map(const struct container_env *env, struct json_object *spec, char ***share_ids,
		  char ***socket_ids, char ***disk_ids, struct err *err);

#endif
