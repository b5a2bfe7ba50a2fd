/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_DEVICE_SHARE_H
#define LCOW_CONTROLLER_DEVICE_SHARE_H

#include <stdbool.h>

#include "base/uuid.h"
#include "loop/co.h"

struct err;

/*
 * Share controller (the role of hcsshim's Plan9 controller): host directories and single files in
 * the guest. Reserve → Map → Unmap as in scsi.h. A share is keyed by (path, read-only, single
 * file), so that two files of one directory, or the same directory read-only and writable, are two
 * shares.
 */

struct shares;

/**
 * struct share_ops - what the controller needs of the VM and of the guest; see struct scsi_ops for
 * the rules
 */
struct share_ops {
	CO int (*add)(void *ctx, const char *name, const char *path, const char *only,
		      bool read_only, struct err *err);
	CO int (*remove)(void *ctx, const char *name, struct err *err);
	CO int (*mount)(void *ctx, const char *name, const char *guest_path, bool read_only,
			struct err *err);
	CO int (*unmount)(void *ctx, const char *name, const char *guest_path, bool read_only,
			  struct err *err);
};

/** shares_new() - @deny_writable refuses every writable share with -ERR_DENIED */
struct shares *shares_new(const struct share_ops *ops, void *ctx, bool deny_writable);
struct shares *shares_free(struct shares *s);

/**
 * share_reserve() - a reference to a host directory or file; a symlink is resolved first
 * Return: 0; -ERR_DENIED; -ERR_STATE while it drains after a failure; -ERR_INVALID when @path does
 * not exist or is neither
 */
int share_reserve(struct shares *s, const char *path, bool read_only, char ret_id[UUID_LEN + 1],
		  struct err *err);
/**
 * share_map() - make it appear in the guest
 * @ret_path:	guest path: /run/mounts/plan9/<name> for a directory,
 *		/run/mounts/plan9/<name>/<file> for a file; borrowed until the reservation is
 *		unmapped
 */
CO int share_map(struct shares *s, const char *id, const char **ret_path, struct err *err);
/** share_unmap() - as scsi_unmap() */
CO int share_unmap(struct shares *s, const char *id, struct err *err);
/** shares_in_use() - shares that exist */
unsigned shares_in_use(const struct shares *s);

#endif
