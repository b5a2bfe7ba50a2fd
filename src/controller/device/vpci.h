/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_DEVICE_VPCI_H
#define LCOW_CONTROLLER_DEVICE_VPCI_H

#include <stdbool.h>

#include "base/uuid.h"
#include "loop/co.h"

struct err;

/*
 * vPCI controller: PCI devices of the host in the VM. Reserve (no I/O) → Map → Unmap as in scsi.h.
 * A device has one GUID for as long as anybody holds a reservation of it, by which the guest's
 * containers name it.
 */

struct vpci;

enum { VPCI_PATH_MAX = 32, VPCI_WHOLE = -1 };

/**
 * struct vpci_device - what makes it this device
 * @id:		PCI address on the host, "0000:3b:00.0"; another name is the VM's to refuse
 * @vf:		number of its virtual function, each an independent device; VPCI_WHOLE for the
 *		function that @id names
 */
struct vpci_device {
	const char *id;
	int vf;
};

/**
 * struct vpci_ops - what the controller needs of the VM and of the guest; see struct scsi_ops for
 * the rules
 * @add:	@ret_path: where the guest finds it, see struct gcs_vpci_device
 * @await:	the guest's driver has it
 * @group:	PCI addresses of an IOMMU group's devices, a strv
 * @remove:	the guest gives it up when the hardware is asked back; there is no request for it
 */
struct vpci_ops {
	CO int (*add)(void *ctx, const char *guid, const struct vpci_device *device,
		      char ret_path[VPCI_PATH_MAX], struct err *err);
	CO int (*await)(void *ctx, const char *guid, const char *path, struct err *err);
	CO int (*remove)(void *ctx, const char *guid, struct err *err);
	int (*group)(void *ctx, unsigned group, char ***ret, struct err *err);
};

struct vpci *vpci_new(const struct vpci_ops *ops, void *ctx);
/** vpci_free() - NULL is fine; reservations that are left are forgotten; Return: NULL */
struct vpci *vpci_free(struct vpci *v);

/**
 * vpci_reserve() - a reference to a device
 * @ret_id:	reservation id, a random UUID of this call's own
 * Return: 0, or -ERR_STATE while it drains after a failure
 */
int vpci_reserve(struct vpci *v, const struct vpci_device *device, char ret_id[UUID_LEN + 1],
		 struct err *err);
/**
 * vpci_map() - plug it into the VM and wait until the guest can use it, unless another reservation
 * has done so
 * @ret_guid:	the device's VMBus GUID; borrowed until the reservation is unmapped
 * Return: 0 or a negative code; -ERR_NOT_FOUND for an unknown reservation, -ERR_STATE for one that
 * must drain
 */
CO int vpci_map(struct vpci *v, const char *id, const char **ret_guid, struct err *err);
/**
 * vpci_unmap() - give up a reservation: the last one takes the device out of the VM
 * Return: as scsi_unmap()
 */
CO int vpci_unmap(struct vpci *v, const char *id, struct err *err);

/** vpci_group() - what struct vpci_ops' group says */
int vpci_group(struct vpci *v, unsigned group, char ***ret, struct err *err);

/** vpci_in_use() - devices that are reserved or plugged */
unsigned vpci_in_use(const struct vpci *v);

#endif
