/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_SCSI_H
#define LCOW_GCS_SCSI_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"

struct err;
struct modules;

enum { SCSI_CONTROLLERS_MAX = 4 };

/**
 * struct scsi_address - a disk as the host names it
 * @controller:	0 to 3: the virtio-scsi controllers in the order of their PCI addresses
 * @lun:	logical unit, on channel 0 target 0
 * @partition:	0 for the whole disk
 */
struct scsi_address {
	uint8_t controller;
	uint8_t lun;
	uint64_t partition;
};

/**
 * scsi_device() - wait for a disk and find its device node
 *
 * Kernel names (sda, …) are given in the order in which probing ends and say nothing: the address
 * does.
 *
 * @wait:	false to answer -ERR_NOT_FOUND at once when it is not there
 * @ret:	"/dev/sda" or "/dev/sda1"; the caller frees it
 *
 * Return: 0, -ERR_NOT_FOUND, -ETIMEDOUT, -ERR_INVALID for an address that cannot be, or negative
 * errno with text
 */
CO int scsi_device(struct modules *m, const struct scsi_address *at, bool wait, char **ret,
		   struct err *err);

/** scsi_eject() - let the kernel forget a disk that is about to be unplugged; absent is success */
CO int scsi_eject(struct modules *m, const struct scsi_address *at, struct err *err);

/**
 * scsi_host_of() - number of the kernel's SCSI host that is a controller
 * @dir:	"/sys/class/scsi_host", another one in tests
 *
 * Return: host number, -ERR_NOT_FOUND
 */
int scsi_host_of(const char *dir, unsigned controller);

#endif
