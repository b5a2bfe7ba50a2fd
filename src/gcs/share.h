/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_SHARE_H
#define LCOW_GCS_SHARE_H

#include "loop/co.h"

struct agent;
struct err;
struct gcs_mapped_directory;

/**
 * struct shares - the VM's virtio-9p export root (mount tag "lcow-shares"), mounted when first
 * needed
 */
struct shares;

struct shares *shares_new(void);
/** shares_free() - NULL is fine; what is mounted stays */
struct shares *shares_free(struct shares *s);

/**
 * share_add() - MappedDirectory Add: make a directory of the host visible at MountPath
 *
 * Without a port the share is a directory of the VM's export root; with one, the host serves
 * 9P2000.L there.
 */
CO int share_add(struct agent *a, const struct gcs_mapped_directory *d, struct err *err);
/** share_remove() - MappedDirectory Remove; not mounted is success */
CO int share_remove(struct agent *a, const struct gcs_mapped_directory *d, struct err *err);

#endif
