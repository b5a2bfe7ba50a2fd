/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_DISK_H
#define LCOW_GCS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

struct agent;
struct err;
struct gcs_mapped_disk;

/**
 * disk_add() - MappedVirtualDisk Add: wait for a disk, make its file system if asked for and
 * absent, mount it
 *
 * A read-only one that has a hash tree behind its file system is mounted through dm-verity, an
 * encrypted one through dm-crypt, with a new key and a new file system.
 */
CO int disk_add(struct agent *a, const struct gcs_mapped_disk *d, struct err *err);
/**
 * disk_remove() - MappedVirtualDisk Remove: unmount, and close what the mount was made through,
 * which the request need not say; not mounted is success, a disk that has vanished too
 */
CO int disk_remove(struct agent *a, const struct gcs_mapped_disk *d, struct err *err);

enum { DISK_HEAD = 4096 };

/**
 * disk_filesystem() - what a disk's first bytes say that it holds
 * @head:	first DISK_HEAD bytes
 *
 * Return: "ext4" (ext2 and ext3 too), "erofs", "xfs", "squashfs" or NULL
 */
const char *disk_filesystem(const unsigned char *head, size_t len);

/**
 * disk_filesystem_size() - bytes of the disk that its file system takes, by the same first bytes; 0
 * when they don't say
 */
uint64_t disk_filesystem_size(const unsigned char *head, size_t len);

#endif
