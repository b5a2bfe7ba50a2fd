/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_VMM_PRIV_H
#define LCOW_VMM_VMM_PRIV_H

#include "base/uuid.h"
#include "vmm/pci_host.h"
#include "vmm/tail.h"
#include "vmm/vmm.h"

struct child;
struct json_object;
struct loop_timer;
struct qmp;

/**
 * enum slot_step - how far a disk has come; each step is undone by itself, so that a removal that
 * failed goes on there
 */
enum slot_step { SLOT_EMPTY, SLOT_FILE, SLOT_NODE, SLOT_DEVICE };

/**
 * struct slot - a LUN
 * @busy:	an operation is under way
 * @gone:	set by DEVICE_DELETED
 */
struct slot {
	enum slot_step step;
	bool busy;
	struct co_event gone;
};

/* The root ports are functions of one slot; the first is for memory (resize.c). */
enum { VM_PCI_FIRST = 1, VM_PCI_PORTS_SLOT = 0x10 };

/** enum port_step - as enum slot_step; PORT_BACKEND: what stands behind the device is there */
enum port_step { PORT_EMPTY, PORT_BACKEND, PORT_DEVICE };

/**
 * enum port_kind - what a port's device is, and what stands behind it: nothing, nodes of VFIO, a
 * tap
 */
enum port_kind { PORT_EMULATED, PORT_VFIO, PORT_NIC };

/**
 * struct pci_port - a root port for a hot-plugged device
 * @id:		of the device
 * @host:	PORT_VFIO: the device on the host
 * @busy:	an operation is under way
 * @left:	its add failed and could not be undone; nobody knows of it any more
 * @gone:	set by DEVICE_DELETED
 */
struct pci_port {
	enum port_step step;
	char id[UUID_LEN + 1];
	enum port_kind kind;
	struct pci_host host;
	bool busy;
	bool left;
	struct co_event gone;
};

/**
 * struct vmm - one QEMU
 * @cfg:	accel and transport resolved; its strings are copies
 * @shares:	<run_dir>/shares
 * @vfio:	<run_dir>/vfio, the jail's /dev/vfio
 * @cgroup:	path of its processes' cgroup in each hierarchy, NULL for none
 * @vfio_lock:	one change of @vfio at a time
 * @host_root:	what stands before the host's /sys and /dev: "" but in tests
 * @channel_fd:	what QEMU inherits as the channel, -EBADF once it has
 * @daemon:	vhost-device-vsock, NULL without
 * @daemon_lost: it ended before QEMU did, with exit status @daemon_code
 * @settle:	after QEMU's end, lets what it said before be read
 * @turns:	how many turns of the loop @settle still waits
 * @reason:	of the SHUTDOWN event, "" when there was none
 * @memory_device: the virtio-mem device has been plugged
 * @plugged_mb, @plugged_cpus: what the VM has more than at boot
 * @stall_usec:	how long the guest may take no memory that it was given
 * @dead:	QEMU has ended
 * @ended:	set with @dead once everything that QEMU said was read
 */
struct vmm {
	struct vm_config cfg;
	struct boot_files boot;
	void (*on_exit)(void *arg);
	void *arg;
	char *shares;
	char *vfio;
	char *cgroup;
	struct co_mutex vfio_lock;
	const char *host_root;
	struct channel *channel;
	int channel_fd;
	struct child *child;
	struct child *daemon;
	struct qmp *qmp;
	struct tail console;
	struct tail messages;
	struct loop_timer *settle;
	int turns;
	char reason[32];
	uint64_t plugged_mb;
	uint64_t stall_usec;
	unsigned plugged_cpus;
	bool memory_device;
	int daemon_code;
	bool daemon_lost;
	bool started;
	bool dead;
	struct co_event ended;
	struct slot slots[VM_SCSI_CONTROLLERS][VM_SCSI_LUNS];
	struct pci_port ports[VM_PCI_PORTS];
};

/**
 * vmm_call() - qmp_call() without an answer of interest; a VM that has ended is -ERR_UNAVAILABLE
 */
CO int vmm_call(struct vmm *v, const char *command, struct json_object *args, int fd,
		struct err *err);

/** vmm_query() - vmm_call() with the answer, one reference */
CO int vmm_query(struct vmm *v, const char *command, struct json_object *args,
		 struct json_object **ret, struct err *err);

enum { VMM_STALL_SEC = 10 };

/** vm_memory_room_mb() - by how much a VM's memory can grow */
static inline uint64_t vm_memory_room_mb(const struct vm_config *cfg)
{
	uint64_t more =
		cfg->max_memory_mb > cfg->memory_mb ? cfg->max_memory_mb - cfg->memory_mb : 0;

	return more - more % VM_MEMORY_STEP_MB;
}

/* What the disks of a VM share where it has limits for them: the id of a QEMU throttle-group. */
#define VM_THROTTLE_GROUP "storage"

/** vm_storage_limited() - whether its disks are members of VM_THROTTLE_GROUP */
static inline bool vm_storage_limited(const struct vm_config *cfg)
{
	return cfg->storage_iops > 0 || cfg->storage_bandwidth > 0;
}

/**
 * vm_memory_shared() - whether another process maps the memory when it serves a device
 *
 * Otherwise it is private, which can be saved and cloned. A private mapping of a memfd would keep a
 * page twice once it was read and then written.
 */
static inline bool vm_memory_shared(const struct vm_config *cfg)
{
	return cfg->transport == VM_TRANSPORT_VHOST_USER_VSOCK;
}

/**
 * device_unplug() - have a device removed and wait until it is; what QEMU does not know (any more)
 * is gone
 * @gone:	what DEVICE_DELETED sets
 */
CO int device_unplug(struct vmm *v, const char *device, struct co_event *gone, struct err *err);

/** pci_init() - no port is taken */
void pci_init(struct vmm *v);
/** pci_event(), pci_end() - as disk_event() and disk_end() */
void pci_event(struct vmm *v, const char *device);
void pci_end(struct vmm *v);

/** disk_event() - take note of a device that has been unplugged */
void disk_event(struct vmm *v, const char *device);
/** disk_end() - the VM has ended: wake who waits for an unplug */
void disk_end(struct vmm *v);

/**
 * shares_init() - make the export root, a mount of its own whose inner mounts reach QEMU; Return: 0
 * or a negative code
 */
int shares_init(const char *path, struct err *err);
/** shares_fini() - unmount everything below and the export root itself */
void shares_fini(const char *path);

/**
 * accel_resolve() - choose the accelerator
 * @cfg:	VM_ACCEL_KVM is checked for its device only, VM_ACCEL_AUTO is probed (5 s at most,
 *		once per kernel, QEMU and boot)
 * Return: 0 or a negative code with text
 */
CO int accel_resolve(const struct vm_config *cfg, enum vm_accel *ret, struct err *err);

/** accel_choose() - accel_resolve() for any paths of KVM's device and of kvm_pvm's module */
CO int accel_choose(const struct vm_config *cfg, const char *kvm, const char *pvm,
		    enum vm_accel *ret, struct err *err);

#endif
