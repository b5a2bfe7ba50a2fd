/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_ROOTFS_PLAN_H
#define LCOW_CONTROLLER_ROOTFS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "controller/container.h"

struct err;

/*
 * What Create.rootfs comes to, read before anything is done: disk images, how they are stacked, or
 * that the host has to mount it.
 *
 * A place is "@N", the mount point of disk N in the guest, or a path below it: "@0/upper". Paths of
 * the host begin with '/'.
 */

enum {
	PLAN_MOUNTS_MAX = 512, /* entries of Create.rootfs; disks are fewer: 256 */
};

/**
 * struct plan_mkfs - an image to make if it is absent or empty
 * @filesystem:	"ext4" …, NULL for none
 * @uuid:	of the file system, NULL for a random one
 * @bytes:	size of the image
 */
struct plan_mkfs {
	const char *filesystem;
	char *uuid;
	uint64_t bytes;
};

/**
 * struct plan_disk - a disk that the root file system takes
 * @source:	image or block device on the host
 * @filesystem:	as in struct scsi_mount
 * @partition:	0 is the whole disk
 * @ensure_filesystem: the guest makes a file system where there is none
 * @devices:	further images that the file system spans, in the order of its device table
 * @root_digest, @hash_offset: as in struct scsi_mount
 */
struct plan_disk {
	char *source;
	const char *filesystem;
	uint64_t partition;
	bool read_only;
	bool ensure_filesystem;
	char **devices;
	char *root_digest;
	uint64_t hash_offset;
	struct plan_mkfs mkfs;
};

/**
 * enum plan_form - where the root file system is put together
 */
enum plan_form {
	PLAN_BUNDLE, /* there are no mounts: the bundle's own root directory */
	PLAN_HOST, /* mounted on the host, and shared */
	PLAN_DISKS, /* of disks, in the guest */
};

/**
 * struct rootfs_plan - what the rows of PLAN_DISKS mean
 * @lower:	places of the layers, top-most first
 * @writable:	place of the directory that has or gets upper and work directories; NULL for a
 *		scratch disk of lcow's own. Without layers its upper directory is the root
 * @per_container: below @writable each container has a directory of its own
 * @root:	place of the root itself: there are no layers
 * @read_only:	the container's root shall be read-only (in every form)
 */
struct rootfs_plan {
	enum plan_form form;
	struct plan_disk *disks;
	size_t n_disks;
	char **lower;
	char *writable;
	bool per_container;
	char *root;
	bool read_only;
};

/**
 * plan_read() - read the mounts of a request
 * @upper:	where writes go that a mount sends to a directory of the host
 * @ret:	free with plan_free()
 *
 * Looks at the host only to see whether the upper directory of a chain of disks has something in
 * it: then the chain has to be mounted there; and to read what is said of layers' hash trees.
 *
 * Return: 0; -ERR_INVALID naming what is not understood; -ERR_STATE for hcsshim's forms when they
 * are incomplete
 */
int plan_read(const struct container_request *request, enum rootfs_upper upper,
	      struct rootfs_plan *ret, struct err *err);
void plan_free(struct rootfs_plan *p);
#define _cleanup_plan_ _cleanup_(plan_free)

/** plan_add_disk() - append one; what it holds is the plan's from now on; Return: its number */
unsigned plan_add_disk(struct rootfs_plan *p, const struct plan_disk *disk);

/**
 * plan_place() - the path of a place
 * @points:	mount points of the disks, @n of them
 * @ret:	the caller frees it
 *
 * Return: 0, or -ERR_INVALID for what is no place: another number, or ".." in it
 */
int plan_place(const char *place, char *const *points, size_t n, char **ret, struct err *err);

#endif
