/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/vm_devices.h"

#include <errno.h>
#include <signal.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/device/scsi.h"
#include "controller/device/share.h"
#include "controller/device/socket.h"
#include "controller/device/vpci.h"
#include "controller/network.h"
#include "controller/sizing.h"
#include "controller/vm.h"
#include "guest/forward.h"
#include "guest/guest.h"
#include "guest/loopback.h"
#include "vmm/pci_host.h"
#include "vmm/netns.h"
#include "vmm/vmm.h"
#include "wire/gcs.h"

bool vm_device_gone(int code)
{
	return code == -ERR_UNAVAILABLE || code == -ERR_NOT_FOUND || code == -ECONNRESET ||
	       code == -ESRCH;
}

bool vm_call_abandoned(int code)
{
	return code == -ETIMEDOUT || code == -ECANCELED;
}

/* Teardown of what is gone anyway has succeeded. */
static int torn_down(int r)
{
	return r < 0 && vm_device_gone(r) ? 0 : r;
}

/* ---- SCSI ---- */

static CO int scsi_attach(void *ctx, unsigned controller, unsigned lun, const char *path,
			  bool read_only, struct err *err)
{
	struct vm_devices *d = ctx;
	struct vmm_disk disk = { .path = path, .read_only = read_only };

	return vmm_disk_add(d->vmm, controller, lun, &disk, err);
}

static CO int scsi_detach(void *ctx, unsigned controller, unsigned lun, struct err *err)
{
	struct vm_devices *d = ctx;

	return torn_down(vmm_disk_remove(d->vmm, controller, lun, err));
}

static CO int scsi_mount_disk(void *ctx, const struct gcs_mapped_disk *disk, struct err *err)
{
	static char xfs[] = "xfs";
	struct gcs_mapped_disk request = *disk;
	struct vm_devices *d = ctx;

	if (disk->n_devices > 0 && !guest_has(d->guest, GCS_EXT_DEVICES))
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "the VM's agent cannot mount a file system that spans several "
			       "disks");
	if (disk->verity && !guest_has(d->guest, GCS_EXT_VERITY))
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "the VM's agent cannot be told which root digest a layer must have");
	/* hcsshim's agent encrypts with integrity: mkfs.ext4 would read what was never written. */
	if (disk->encrypted && !guest_has(d->guest, GCS_EXT_ENCRYPTED))
		request.filesystem = xfs;
	return guest_modify(d->guest, NULL, "Add", "MappedVirtualDisk", &gcs_mapped_disk_table,
			    &request, err);
}

static CO int scsi_unmount_disk(void *ctx, const struct gcs_mapped_disk *disk, struct err *err)
{
	struct vm_devices *d = ctx;

	return torn_down(guest_modify(d->guest, NULL, "Remove", "MappedVirtualDisk",
				      &gcs_mapped_disk_table, disk, err));
}

static CO int scsi_eject(void *ctx, unsigned controller, unsigned lun, struct err *err)
{
	struct vm_devices *d = ctx;
	struct gcs_scsi_device device = { .controller = (uint8_t)controller, .lun = (uint8_t)lun };

	return torn_down(guest_modify(d->guest, NULL, "Remove", "SCSIDevice",
				      &gcs_scsi_device_table, &device, err));
}

const struct scsi_ops vm_devices_scsi_ops = {
	.attach = scsi_attach,
	.detach = scsi_detach,
	.mount = scsi_mount_disk,
	.unmount = scsi_unmount_disk,
	.eject = scsi_eject,
};

/* ---- shares ---- */

static CO int share_add(void *ctx, const char *name, const char *path, const char *only,
			bool read_only, struct err *err)
{
	struct vm_devices *d = ctx;

	if (!d->virtio_shares)
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "the VM's agent takes shares over a 9P port only, which is not "
			       "served: use disk images");
	return vmm_share_add(d->vmm, name, path, only, read_only, err);
}

static CO int share_remove(void *ctx, const char *name, struct err *err)
{
	struct vm_devices *d = ctx;

	return torn_down(vmm_share_remove(d->vmm, name, err));
}

static CO int modify_directory(struct vm_devices *d, const char *request, const char *name,
			       const char *guest_path, bool read_only, struct err *err)
{
	_cleanup_free_ char *mount_path = mem_strdup(guest_path);
	_cleanup_free_ char *share_name = mem_strdup(name);
	/* No port: below the export root. */
	struct gcs_mapped_directory directory = {
		.mount_path = mount_path,
		.share_name = share_name,
		.read_only = read_only,
	};

	return guest_modify(d->guest, NULL, request, "MappedDirectory", &gcs_mapped_directory_table,
			    &directory, err);
}

static CO int share_mount(void *ctx, const char *name, const char *guest_path, bool read_only,
			  struct err *err)
{
	return modify_directory(ctx, "Add", name, guest_path, read_only, err);
}

static CO int share_unmount(void *ctx, const char *name, const char *guest_path, bool read_only,
			    struct err *err)
{
	return torn_down(modify_directory(ctx, "Remove", name, guest_path, read_only, err));
}

const struct share_ops vm_devices_share_ops = {
	.add = share_add,
	.remove = share_remove,
	.mount = share_mount,
	.unmount = share_unmount,
};

/* ---- unix sockets ---- */

static int socket_open(void *ctx, int socket, struct guest_forward **ret, uint32_t *ret_port,
		       struct err *err)
{
	struct vm_devices *d = ctx;

	if (!guest_has(d->guest, GCS_EXT_SOCKETS)) {
		fd_close(socket);
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "the agent in the VM cannot relay unix sockets of the host");
	}
	return guest_forward_new(d->guest, socket, ret, ret_port, err);
}

static void socket_close(void *ctx, struct guest_forward *f)
{
	guest_forward_free(f);
}

static CO int socket_add(void *ctx, const struct gcs_unix_socket *s, struct err *err)
{
	struct vm_devices *d = ctx;

	return guest_modify(d->guest, NULL, "Add", "UnixSocket", &gcs_unix_socket_table, s, err);
}

static CO int socket_remove(void *ctx, const struct gcs_unix_socket *s, struct err *err)
{
	struct vm_devices *d = ctx;
	struct gcs_unix_socket named = { .path = s->path };

	return torn_down(guest_modify(d->guest, NULL, "Remove", "UnixSocket",
				      &gcs_unix_socket_table, &named, err));
}

const struct socket_ops vm_devices_socket_ops = {
	.open = socket_open,
	.close = socket_close,
	.add = socket_add,
	.remove = socket_remove,
};

/* ---- PCI devices ---- */

_Static_assert(VPCI_PATH_MAX == (int)VM_PCI_PATH_MAX, "one kind of path");

static CO int vpci_add(void *ctx, const char *guid, const struct vpci_device *device,
		       char ret_path[VPCI_PATH_MAX], struct err *err)
{
	struct vm_devices *d = ctx;
	const struct vmm_pci want = { .id = guid, .device = device->id, .vf = device->vf };

	if (!guest_has(d->guest, GCS_EXT_PCI))
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "the agent in the VM looks for PCI devices on a VMBus only, which "
			       "the VM does not have");
	return vmm_pci_add(d->vmm, &want, ret_path, err);
}

static CO int vpci_await(void *ctx, const char *guid, const char *path, struct err *err)
{
	struct vm_devices *d = ctx;
	_cleanup_free_ char *own_guid = mem_strdup(guid);
	_cleanup_free_ char *own_path = mem_strdup(path);
	struct gcs_vpci_device device = { .vmbus_guid = own_guid, .pci_path = own_path };

	return guest_modify(d->guest, NULL, "Add", "VPCIDevice", &gcs_vpci_device_table, &device,
			    err);
}

static CO int vpci_remove(void *ctx, const char *guid, struct err *err)
{
	struct vm_devices *d = ctx;

	return torn_down(vmm_pci_remove(d->vmm, guid, err));
}

static int vpci_members(void *ctx, unsigned group, char ***ret, struct err *err)
{
	return pci_host_group("", group, ret, err);
}

const struct vpci_ops vm_devices_vpci_ops = {
	.add = vpci_add,
	.await = vpci_await,
	.remove = vpci_remove,
	.group = vpci_members,
};

/* ---- network cards ---- */

static bool network_supported(void *ctx)
{
	struct vm_devices *d = ctx;

	return guest_caps(d->guest)->guest.namespace_add;
}

static CO int network_links(void *ctx, const char *netns, struct netns_link **ret, size_t *ret_n,
			    struct err *err)
{
	return netns_links(netns, ret, ret_n, err);
}

static char *tap_record(const struct vm_devices *d, const char *id)
{
	return str_printf("%s/tap-%s", vmm_run_dir(d->vmm), id);
}

/* The tap's name need only be free in that namespace. */
static CO int network_attach(void *ctx, const char *netns, const struct netns_link *link,
			     const char *id, struct err *err)
{
	struct vm_devices *d = ctx;
	struct vmm_nic nic = { .id = id, .mtu = link->mtu };
	_cleanup_free_ char *name = str_printf("lcow-%.8s", id);
	_cleanup_free_ char *record = tap_record(d, id);
	_cleanup_fd_ int tap = -EBADF;
	int r = netns_tap(netns, link->name, name, record, &tap, err);

	if (r < 0)
		return r;
	nic.tap = tap;
	memcpy(nic.mac, link->mac, sizeof(nic.mac));
	return vmm_nic_add(d->vmm, &nic, err);
}

static CO int network_detach(void *ctx, const char *netns, const char *link, const char *id,
			     struct err *err)
{
	struct vm_devices *d = ctx;
	_cleanup_free_ char *record = tap_record(d, id);
	int r = torn_down(vmm_nic_remove(d->vmm, id, err));

	return r < 0 ? r : netns_untap(netns, link, record, err);
}

static CO int network_forward(void *ctx, const char *netns, const char *id,
			      struct guest_loopback **ret, struct err *err)
{
	struct vm_devices *d = ctx;
	struct netns_loopback l;
	int r;

	if (!guest_has(d->guest, GCS_EXT_FORWARD))
		return 0;
	r = netns_loopback(netns, &l, err);
	return r < 0 || l.link < 0 ? r : guest_loopback_new(d->guest, id, &l, ret, err);
}

static void network_unforward(void *ctx, struct guest_loopback *l)
{
	guest_loopback_free(l);
}

static CO int network_guest_add(void *ctx, const struct gcs_network_adapter *adapter,
				struct err *err)
{
	struct vm_devices *d = ctx;

	return guest_modify(d->guest, NULL, "Add", "Network", &gcs_network_adapter_table, adapter,
			    err);
}

static CO int network_guest_remove(void *ctx, const struct gcs_network_adapter *adapter,
				   struct err *err)
{
	struct vm_devices *d = ctx;

	return torn_down(guest_modify(d->guest, NULL, "Remove", "Network",
				      &gcs_network_adapter_table, adapter, err));
}

const struct network_ops vm_devices_network_ops = {
	.supported = network_supported,
	.links = network_links,
	.attach = network_attach,
	.detach = network_detach,
	.forward = network_forward,
	.unforward = network_unforward,
	.guest_add = network_guest_add,
	.guest_remove = network_guest_remove,
};

/* ---- size ---- */

static uint64_t memory_mb(void *ctx)
{
	return vmm_memory_mb(((struct vm_devices *)ctx)->vmm);
}

static unsigned cpus(void *ctx)
{
	return vmm_cpus(((struct vm_devices *)ctx)->vmm);
}

static CO int grow_memory(void *ctx, uint64_t mb, struct err *err)
{
	return vmm_grow_memory(((struct vm_devices *)ctx)->vmm, mb, err);
}

static CO int grow_cpus(void *ctx, unsigned n, struct err *err)
{
	return vmm_grow_cpus(((struct vm_devices *)ctx)->vmm, n, err);
}

static CO int raise_pods_limit(void *ctx, struct err *err)
{
	return guest_modify(((struct vm_devices *)ctx)->guest, NULL, "Update",
			    "PodCgroupMemoryLimit", NULL, NULL, err);
}

const struct sizing_ops vm_devices_sizing_ops = {
	.memory_mb = memory_mb,
	.cpus = cpus,
	.grow_memory = grow_memory,
	.grow_cpus = grow_cpus,
	.raise_pods_limit = raise_pods_limit,
};

/* ---- the clock ---- */

CO int vm_devices_set_clock(struct vm_devices *d, uint64_t unix_ns, struct err *err)
{
	struct gcs_clock clock = { .unix_ns = unix_ns };

	if (!guest_has(d->guest, GCS_EXT_CLOCK))
		return err_set(err, -ERR_UNIMPLEMENTED, "the agent keeps its own time");
	return guest_modify(d->guest, NULL, "Update", "Clock", &gcs_clock_table, &clock, err);
}

/* ---- the agent's death ---- */

void vm_devices_guest_lost(void *ctx)
{
	struct vm_devices *d = ctx;

	if (d->ending || !d->vmm || !vmm_running(d->vmm))
		return;
	log_error("the guest agent is gone: ending the VM");
	/* From a callback, so at once and without asking; the exit watch does the rest. */
	kill(vmm_pid(d->vmm), SIGKILL);
}
