/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_DM_H
#define LCOW_GCS_DM_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"

struct dm_ioctl;
struct err;

/*
 * Device mapper: block devices that lie over others, made by its ioctls (linux/dm-ioctl.h). Their
 * nodes are /dev/mapper/<name>.
 */

#define DM_NODES "/dev/mapper"

/**
 * struct dm - the mapped devices of this VM, and whose they are
 */
struct dm;

/**
 * struct dm_ops - the kernel's side; unit tests give fakes. Called by worker threads
 * @call:	one ioctl of the device mapper
 * @add_node, @drop_node: the node of a device; one that is absent is dropped with success
 *
 * Each returns 0 or negative errno.
 */
struct dm_ops {
	int (*call)(unsigned long request, struct dm_ioctl *message);
	int (*add_node)(const char *name, uint64_t dev);
	int (*drop_node)(const char *name);
};

/** dm_new() - @ops is NULL for the kernel's own */
struct dm *dm_new(const struct dm_ops *ops);
/** dm_free() - forgets the devices, which stay; NULL is fine; Return: NULL */
struct dm *dm_free(struct dm *dm);

/**
 * struct dm_target - a device of one target
 * @name:	at most 127 bytes
 * @type, @params: as in a table of dmsetup(8); the target's module is loaded
 * @sectors:	size, in units of 512 bytes
 * @read_only:	it is not written; others that ask for the same name share it
 * @secret:	@params hold a key: neither the kernel nor we leave a copy in memory that is freed
 */
struct dm_target {
	const char *name;
	const char *type;
	const char *params;
	uint64_t sectors;
	bool read_only;
	bool secret;
};

/**
 * dm_open() - make a device for an owner, or share the one of that name
 * @owner:	who gives it back by dm_close(); any text
 * @ret_node:	path of its node; the caller frees it
 *
 * A device below it that is not there yet, or is busy, is waited for, up to 5 s.
 *
 * Return: 0; -ERR_STATE when the name is taken by one that cannot be shared; or negative errno with
 * text: nothing is left then
 */
CO int dm_open(struct dm *dm, const char *owner, const struct dm_target *target, char **ret_node,
	       struct err *err);

/**
 * dm_close() - give back all that an owner has: the last one removes the device
 *
 * A busy device is tried again for 5 s. What cannot be removed stays the owner's, for another call,
 * and is shared with nobody; the rest goes on.
 *
 * Return: 0, also when there is nothing or it is gone; or the first failure
 */
CO int dm_close(struct dm *dm, const char *owner, struct err *err);

/**
 * dm_corrupted() - whether a verity device of an owner has found a block that does not match its
 * hash, since it was made
 */
CO bool dm_corrupted(struct dm *dm, const char *owner);

#endif
