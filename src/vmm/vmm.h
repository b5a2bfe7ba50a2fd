/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_VMM_H
#define LCOW_VMM_VMM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop/co.h"
#include "vmm/boot.h"
#include "vmm/channel.h"

struct err;

enum { VM_SCSI_CONTROLLERS = 4, VM_SCSI_LUNS = 64 };

/* PCI devices that a VM takes at a time, and the room for where its guest finds one. */
enum { VM_PCI_PORTS = 7, VM_PCI_PATH_MAX = 32 };

/* Memory grows by multiples of what Linux's virtio-mem driver takes at once. */
enum { VM_MEMORY_STEP_MB = 4 };

enum vm_accel { VM_ACCEL_AUTO, VM_ACCEL_KVM, VM_ACCEL_TCG };
enum vm_transport {
	VM_TRANSPORT_AUTO,
	VM_TRANSPORT_SERIAL,
	VM_TRANSPORT_VHOST_VSOCK,
	VM_TRANSPORT_VHOST_USER_VSOCK
};

/**
 * struct vm_config - a VM, typed. The QEMU command line is a pure function of it. Strings are
 * borrowed by vmm_new() and copied where it keeps them
 * @id:		sandbox id; QEMU's -name
 * @qemu:	QEMU program, looked up in PATH unless it has a slash
 * @vhost_device_vsock: daemon for VM_TRANSPORT_VHOST_USER_VSOCK, looked up likewise
 * @boot:	what boots
 * @run_dir:	the sandbox's run directory, 0700, exists: sockets, pid records, export root
 * @accel, @transport: VM_…_AUTO is resolved by vmm_new()
 * @cpus:	vCPUs at boot; @max_cpus for hot plug (0: the same)
 * @memory_mb:	RAM at boot in MiB; @max_memory_mb for virtio-mem (0: the same)
 * @overhead_mb: memory in MiB that the guest needs beside its pods, and beside a 64th of theirs
 * @storage_iops, @storage_bandwidth: how many requests and bytes per second all disks take together
 *		(0: no limit)
 * @cid:	guest CID for the vsock transports, 0 otherwise
 * @kernel_args: more kernel arguments, NULL for none
 * @log_level:	of the agent: "info" …
 * @cgroup:	of its processes on the host, as cgroup_path() takes it; NULL: they stay in the
 *		shim's
 * @uid, @gid:	whom QEMU runs as (0: root, then with the capabilities that a share needs and no
 *		others)
 * @probe_cache: file that keeps the accelerator's verdict; NULL for none
 * @emulated_devices: vmm_pci_add() takes QEMU's own devices
 * @wall_ns:	time of day that the agent is told, nanoseconds since 1970; 0: the time of
 *		vmm_start()
 */
struct vm_config {
	const char *id;
	const char *qemu;
	const char *vhost_device_vsock;
	const struct boot_files *boot;
	const char *run_dir;
	enum vm_accel accel;
	enum vm_transport transport;
	unsigned cpus;
	unsigned max_cpus;
	uint64_t memory_mb;
	uint64_t max_memory_mb;
	uint64_t overhead_mb;
	uint64_t storage_iops;
	uint64_t storage_bandwidth;
	uint32_t cid;
	const char *kernel_args;
	const char *log_level;
	const char *cgroup;
	uid_t uid;
	gid_t gid;
	const char *probe_cache;
	bool emulated_devices;
	uint64_t wall_ns;
};

/**
 * struct vm_fds - numbers that the command line mentions: fds that QEMU inherits, 3 upwards
 * @qmp, @console: connected sockets
 * @channel:	serial: a connected socket; vhost-vsock: the open /dev/vhost-vsock; vhost-user: a
 *		socket to the daemon
 */
struct vm_fds {
	int qmp;
	int console;
	int channel;
};

/**
 * vm_command_line() - QEMU's argv for a VM (accel and transport resolved)
 * Return: NULL-terminated vector; the caller frees it with strv_free()
 */
char **vm_command_line(const struct vm_config *cfg, const struct vm_fds *fds);

/**
 * struct vmm - one QEMU
 */
struct vmm;

/**
 * vmm_new() - everything that must exist before the VM starts: resolve accelerator and transport,
 * open the guest channel
 * @on_exit:	called once from the loop when QEMU has ended, whoever ended it; may be NULL
 *
 * Return: 0 or a negative code with text (-ERR_UNAVAILABLE when QEMU is not installed)
 */
CO int vmm_new(const struct vm_config *cfg, void (*on_exit)(void *arg), void *arg, struct vmm **ret,
	       struct err *err);

/** vmm_run_dir() - the sandbox's run directory */
const char *vmm_run_dir(const struct vmm *v);
/** vmm_channel() - the guest channel; listen before vmm_start() */
struct channel *vmm_channel(struct vmm *v);

/**
 * vmm_start() - start QEMU in its jail, agree on QMP, let the vCPUs run
 *
 * Its pid is recorded as <run_dir>/qemu.pid before it runs anything, and its cgroup as
 * <run_dir>/cgroup before that is made. Failure says why in QEMU's own
 * words.
 *
 * Return: 0 or a negative code with text
 */
CO int vmm_start(struct vmm *v, struct err *err);

/** vmm_pid() - QEMU's pid, 0 before it was started */
pid_t vmm_pid(const struct vmm *v);
/** vmm_running() - whether QEMU was started and has not ended */
bool vmm_running(const struct vmm *v);
/**
 * vmm_clean_exit() - after the end: whether the guest powered off (or we asked), and it was no
 * crash, panic or signal
 */
bool vmm_clean_exit(const struct vmm *v);
/**
 * vmm_wait() - wait for the end of QEMU; 0 at once when it never ran or has ended; -ETIMEDOUT,
 * -ECANCELED
 */
CO int vmm_wait(struct vmm *v);
/**
 * vmm_terminate() - end QEMU: QMP quit, SIGKILL after 2 s; returns when it is gone; idempotent;
 * "gone already" is success
 */
CO int vmm_terminate(struct vmm *v);
/**
 * vmm_last_words() - what QEMU wrote to stderr and the last lines of the guest's console, cleaned,
 * at most 1.5 KiB
 * Return: text ("" when there is nothing); the caller frees it
 */
char *vmm_last_words(const struct vmm *v);

/** vmm_memory_mb(), vmm_cpus() - what the VM has: at boot, and plugged since */
uint64_t vmm_memory_mb(const struct vmm *v);
unsigned vmm_cpus(const struct vmm *v);
/**
 * vmm_grow_memory() - let the VM have at least @mb MiB; returns once the guest has taken them
 *
 * Repeatable after any failure; what the guest has taken stays. Memory is not taken away again: the
 * guest gives back free pages by itself.
 *
 * Return: 0; -ERR_EXHAUSTED above the maximum, or when the guest takes none for 10 s; what QEMU
 * refused
 */
CO int vmm_grow_memory(struct vmm *v, uint64_t mb, struct err *err);
/**
 * vmm_grow_cpus() - let the VM have at least @cpus; the guest starts to use them by itself
 * Return: 0, -ERR_EXHAUSTED above the maximum, or what QEMU refused
 */
CO int vmm_grow_cpus(struct vmm *v, unsigned cpus, struct err *err);

/**
 * struct vmm_disk - a disk for vmm_disk_add()
 * @path:	image file or block device on the host
 * @read_only:	the guest sees a write-protected disk, and the file is opened read-only and may be
 *		shared between VMs
 * @serial:	SCSI serial number, NULL for none
 */
struct vmm_disk {
	const char *path;
	bool read_only;
	const char *serial;
};

/**
 * vmm_disk_add() - hot plug a disk at controller 0–3, lun 0–63; the guest sees it as
 * <host>:0:0:<lun>
 */
CO int vmm_disk_add(struct vmm *v, unsigned controller, unsigned lun, const struct vmm_disk *disk,
		    struct err *err);
/**
 * vmm_disk_remove() - unplug and wait until QEMU has let go of the file; retryable; absent, or the
 * VM gone, is success
 */
CO int vmm_disk_remove(struct vmm *v, unsigned controller, unsigned lun, struct err *err);

/**
 * vmm_share_add() - make a host directory or file appear below the export root
 * @name:	directory name below the root, a decimal number
 * @path:	host directory; or, with @only, the parent directory of one file
 * @only:	name of the single file to show, NULL for the whole directory; its neighbours stay
 *		hidden
 *
 * With @only the share is a directory that holds just that file. Read-only is enforced on the host.
 *
 * Return: 0 or a negative code with text
 */
CO int vmm_share_add(struct vmm *v, const char *name, const char *path, const char *only,
		     bool read_only, struct err *err);
/** vmm_share_remove() - take it away; retryable; absent, or the VM gone, is success */
CO int vmm_share_remove(struct vmm *v, const char *name, struct err *err);

/**
 * struct vmm_pci - a PCI device for vmm_pci_add()
 * @id:		its name in this VM, a UUID
 * @device:	PCI address on the host, "0000:3b:00.0"; or "emulated:" and one of edu, nvme,
 *		pci-testdev: a device of QEMU's own, when the VM's configuration allows it
 * @vf:		virtual function of it to take, negative for itself; of emulated devices any
 */
struct vmm_pci {
	const char *id;
	const char *device;
	int vf;
};

/**
 * vmm_pci_add() - hot plug a PCI device
 * @ret_path:	where the guest finds it: functions from the root bus down, "10.3/00.0"
 *
 * A device of the host must be bound to vfio-pci: see pci_host.h. QEMU is allowed to lock all of
 * the VM's memory, and gets the node of the device's IOMMU group.
 *
 * Return: 0; -ERR_EXHAUSTED when VM_PCI_PORTS devices are there; -ERR_INVALID for what is no
 * device; -ERR_STATE when the host lacks something, which the text tells
 */
CO int vmm_pci_add(struct vmm *v, const struct vmm_pci *want, char ret_path[VM_PCI_PATH_MAX],
		   struct err *err);
/**
 * vmm_pci_remove() - unplug and wait until guest and QEMU have let go of it; retryable; absent, or
 * the VM gone, is success
 */
CO int vmm_pci_remove(struct vmm *v, const char *id, struct err *err);

/**
 * struct vmm_nic - a network card for vmm_nic_add()
 * @id:		its name in this VM, a UUID
 * @tap:	with vnet headers; stays the caller's, who may close it afterwards
 * @mtu:	of the network; the guest is told of what is above 1500
 */
struct vmm_nic {
	const char *id;
	int tap;
	uint8_t mac[6];
	unsigned mtu;
};

/**
 * vmm_nic_add() - hot plug a network card, which takes a port like a PCI device
 * Return: 0; -ERR_EXHAUSTED when VM_PCI_PORTS devices are there; or what failed
 */
CO int vmm_nic_add(struct vmm *v, const struct vmm_nic *nic, struct err *err);
/** vmm_nic_remove() - as vmm_pci_remove(); then nothing holds the tap */
CO int vmm_nic_remove(struct vmm *v, const char *id, struct err *err);

/** vmm_free() - QEMU must have ended (else it is killed); NULL is fine; Return: NULL */
struct vmm *vmm_free(struct vmm *v);

/**
 * vmm_namespace_setup() - once, before the first thread or vmm_new(): a private mount namespace for
 * this process, slave of the host's
 */
int vmm_namespace_setup(struct err *err);

#endif
