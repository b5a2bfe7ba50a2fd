/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_VM_DEVICES_H
#define LCOW_CONTROLLER_VM_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"

struct err;
struct guest;
struct network_ops;
struct scsi_ops;
struct share_ops;
struct sizing_ops;
struct socket_ops;
struct vpci_ops;
struct vmm;

/**
 * struct vm_devices - the real VM and guest of a VM controller, and what the device controllers'
 * ops work on
 * @virtio_shares: the agent takes shares from the VM's virtio-9p export root
 * @ending:	the VM is being ended, and its agent with it
 */
struct vm_devices {
	struct vmm *vmm;
	struct guest *guest;
	bool virtio_shares;
	bool ending;
};

/**
 * vm_devices_scsi_ops, vm_devices_share_ops, vm_devices_socket_ops, vm_devices_vpci_ops,
 * vm_devices_network_ops, vm_devices_sizing_ops - their ctx is a struct vm_devices
 */
extern const struct scsi_ops vm_devices_scsi_ops;
extern const struct share_ops vm_devices_share_ops;
extern const struct socket_ops vm_devices_socket_ops;
extern const struct vpci_ops vm_devices_vpci_ops;
extern const struct network_ops vm_devices_network_ops;
extern const struct sizing_ops vm_devices_sizing_ops;

/**
 * vm_devices_guest_lost() - the bridge has ended: a VM without its agent is of no use and is killed
 */
void vm_devices_guest_lost(void *ctx);

/** vm_devices_set_clock() - -ERR_UNIMPLEMENTED when that was not agreed with the agent */
CO int vm_devices_set_clock(struct vm_devices *d, uint64_t unix_ns, struct err *err);

#endif
