/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_DEVICE_SCSI_H
#define LCOW_CONTROLLER_DEVICE_SCSI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/uuid.h"
#include "loop/co.h"

struct err;
struct gcs_mapped_disk;

/*
 * SCSI controller: one per VM, 4 × 64 slots. Everything block-like goes through it. Reserve (no
 * I/O) → Map → Unmap; after a successful reserve the caller must unmap, even when mapping failed. A
 * reservation holds its mount and thereby its disk; the slot is free again when the last reference
 * goes, whatever the states. Different disks are mapped in parallel.
 */

struct scsi;

/**
 * struct scsi_ops - what the controller needs of the VM and of the guest
 *
 * Each returns 0 or a negative code with text. Removal of what is gone (the VM too) is success.
 */
struct scsi_ops {
	CO int (*attach)(void *ctx, unsigned controller, unsigned lun, const char *path,
			 bool read_only, struct err *err);
	CO int (*detach)(void *ctx, unsigned controller, unsigned lun, struct err *err);
	CO int (*mount)(void *ctx, const struct gcs_mapped_disk *disk, struct err *err);
	CO int (*unmount)(void *ctx, const struct gcs_mapped_disk *disk, struct err *err);
	CO int (*eject)(void *ctx, unsigned controller, unsigned lun, struct err *err);
};

/**
 * struct scsi_disk - a disk on the host. Disks are shared by (device, inode, read_only), not by the
 * text of the path
 */
struct scsi_disk {
	const char *path;
	bool read_only;
};

/**
 * struct scsi_mount - how a partition of it is mounted in the guest (all but @partition and
 * @attach_only must match to share the mount)
 * @partition:	0 is the whole disk
 * @options:	NULL-terminated, compared as a set
 * @filesystem:	"ext4", "xfs", or NULL to let the guest detect it
 * @block_dev:	a device node instead of a mount
 * @attach_only: no mount at all, beside those that there may be: for a disk that another one's file
 *		system spans
 * @root_digest: SHA-256 in hex that the guest must find for the disk's dm-verity hash tree; NULL to
 *		demand none
 * @hash_offset: where the superblock of the tree must be, in bytes; 0 behind the file system
 * @devices:	NULL-terminated reservations of such disks, in the order of the file system's device
 *		table; they must be mapped before this one, and unmapped after it
 */
struct scsi_mount {
	uint64_t partition;
	bool read_only;
	bool encrypted;
	bool ensure_filesystem;
	bool block_dev;
	bool attach_only;
	const char *filesystem;
	const char *root_digest;
	uint64_t hash_offset;
	char *const *options;
	char *const *devices;
};

/** scsi_new() - @ctx is handed to the ops */
struct scsi *scsi_new(const struct scsi_ops *ops, void *ctx);
/** scsi_free() - NULL is fine; reservations that are left are forgotten; Return: NULL */
struct scsi *scsi_free(struct scsi *s);

/**
 * scsi_reserve() - a reference to a partition of a disk
 * @ret_id:	reservation id, a random UUID
 * Return: 0; -ERR_EXHAUSTED when all 256 slots are taken; -ERR_STATE when it is reserved with other
 * settings, or is being torn down after a failure; -ERR_INVALID when the path cannot be opened;
 * -ERR_NOT_FOUND for a device that is none
 */
int scsi_reserve(struct scsi *s, const struct scsi_disk *disk, const struct scsi_mount *mount,
		 char ret_id[UUID_LEN + 1], struct err *err);
/**
 * scsi_map() - attach the disk and mount the partition, unless another reservation has done so
 * @ret_path:	guest path, /run/mounts/scsi/<controller>_<lun>_<partition>; borrowed until the
 *		reservation is unmapped; NULL when it is attached only
 * Return: 0 or a negative code; -ERR_NOT_FOUND for an unknown reservation, -ERR_STATE for one that
 * must drain
 */
CO int scsi_map(struct scsi *s, const char *id, const char **ret_path, struct err *err);
/**
 * scsi_unmap() - give up a reservation: the last one of a partition unmounts, the last of a disk
 * ejects and detaches
 * Return: 0, also for an unknown reservation (released already); a failed step keeps the
 * reservation, so that the call can be repeated
 */
CO int scsi_unmap(struct scsi *s, const char *id, struct err *err);

/**
 * scsi_unmap_all() - scsi_unmap() for each of a vector of reservations, several at a time
 * @ids:	those that failed are left in it, for another try
 *
 * Return: 0, or the first failure
 */
CO int scsi_unmap_all(struct scsi *s, char ***ids, struct err *err);

/** scsi_in_use() - slots that are taken */
unsigned scsi_in_use(const struct scsi *s);

#endif
