/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_MOUNTS_H
#define LCOW_CONTROLLER_MOUNTS_H

#include "loop/co.h"

struct err;
struct json_object;
struct shares;

/**
 * mounts_map() - bring the host's part of a spec's mounts into the guest
 * @shares:	share controller of the VM
 * @spec:	the guest's copy of the spec; sources of bind mounts become guest paths
 * @ids:	strv that takes the reservations, also when this fails
 *
 * bind mounts of directories and files become shares, read-only where an option says "ro". File
 * systems without a host part (tmpfs, proc, sysfs, cgroup, devpts, mqueue) and sources inside the
 * guest (sandbox://, sandbox-tmp://, hugepages://, uvm://) pass. Other types are refused by name.
 */
CO int mounts_map(struct shares *shares, struct json_object *spec, char ***ids, struct err *err);

#endif
