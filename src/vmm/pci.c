/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/worker.h"
#include "vmm/vmm_priv.h"
#include "wire/qmp.h"

/*
 * Each device takes one of the root ports that the VM has from the start. A device of the host
 * comes by vfio-pci, for which QEMU needs the VFIO nodes: they are bound into a directory that the
 * jail knows as /dev/vfio, when a device of their group is added, and into nobody else's. Beside
 * them lies what QEMU reads of the device's sysfs, which is its group's number:
 *
 *   <run_dir>/vfio/vfio, 17              nodes
 *   <run_dir>/vfio/0000:3b:00.0/iommu_group → 17
 *
 * A network card has a tap behind it, which QEMU is handed over the QMP socket.
 */

#define ROLLBACK_USEC (10 * USEC_PER_SEC)
#define EMULATED "emulated:"

/* What DMA maps beside the memory: BARs of other devices, and the kernel's own bookkeeping. */
enum { LOCKED_EXTRA_MB = 1024, TESTDEV_BAR = 1 << 30 };

static const char *const emulated[] = { "edu", "nvme", "pci-testdev" };

static void put_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static unsigned port_number(const struct vmm *v, const struct pci_port *p)
{
	return (unsigned)(p - v->ports) + VM_PCI_FIRST;
}

static void device_name(const struct vmm *v, const struct pci_port *p, char name[16])
{
	snprintf(name, 16, "pci%u", port_number(v, p));
}

/* ---- what QEMU needs of VFIO, on a worker ---- */

/**
 * struct nodes - see above
 * @dir:	<run_dir>/vfio
 * @group_taken: another device of the group has its node already
 */
struct nodes {
	const char *dir;
	const char *host_root;
	const struct pci_host *host;
	bool group_taken;
	struct err *err;
};

static int node_bind(const struct nodes *n, const char *name)
{
	_cleanup_free_ char *source = str_printf("%s/dev/vfio/%s", n->host_root, name);
	_cleanup_free_ char *target = str_printf("%s/%s", n->dir, name);
	_cleanup_fd_ int fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	/* The container node stays until the end of the VM. */
	if (fd < 0)
		return errno == EEXIST ? 0 : err_sys(n->err, -errno, "make %s", target);
	if (mount(source, target, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NOEXEC, NULL) < 0) {
		int r = err_sys(n->err, -errno, "bind %s", source);

		umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
		unlink(target);
		return r;
	}
	return 0;
}

static int nodes_put(void *arg)
{
	const struct nodes *n = arg;
	_cleanup_free_ char *dir = str_printf("%s/%s", n->dir, n->host->address);
	_cleanup_free_ char *link = str_printf("%s/iommu_group", dir);
	_cleanup_free_ char *group = str_printf("%u", n->host->group);
	int r = node_bind(n, "vfio");

	if (r == 0)
		r = node_bind(n, group);
	if (r < 0)
		return r;
	r = dir_make(dir, 0755);
	if (r == 0 && symlink(group, link) < 0 && errno != EEXIST)
		r = -errno;
	return r < 0 ? err_sys(n->err, r, "make %s", link) : 0;
}

/** nodes_take() - absent is success */
static int nodes_take(void *arg)
{
	const struct nodes *n = arg;
	_cleanup_free_ char *dir = str_printf("%s/%s", n->dir, n->host->address);
	_cleanup_free_ char *node = str_printf("%s/%u", n->dir, n->host->group);
	int r = dir_remove(dir);

	if (r < 0)
		return err_sys(n->err, r, "remove %s", dir);
	if (n->group_taken)
		return 0;
	if (umount2(node, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return err_sys(n->err, -errno, "unmount %s", node);
	if (unlink(node) < 0 && errno != ENOENT)
		return err_sys(n->err, -errno, "remove %s", node);
	return 0;
}

static struct nodes nodes_of(struct vmm *v, const struct pci_port *port, struct err *err)
{
	struct nodes n = {
		.dir = v->vfio, .host_root = v->host_root, .host = &port->host, .err = err
	};

	for (unsigned i = 0; i < VM_PCI_PORTS; i++) {
		const struct pci_port *p = &v->ports[i];

		if (p != port && p->step != PORT_EMPTY && p->kind == PORT_VFIO &&
		    p->host.group == port->host.group)
			n.group_taken = true;
	}
	return n;
}

/** nodes_do() - one at a time, lest a node that somebody gives up be another's already */
CO static int nodes_do(struct vmm *v, const struct pci_port *p, int (*fn)(void *nodes),
		       struct err *err)
{
	CO_LOCK(&v->vfio_lock);
	struct nodes n = nodes_of(v, p, err);

	return worker_call(fn, &n);
}

/**
 * allow_locking() - a device may write anywhere in the VM's memory, so all of it is pinned
 * Return: whether it may; what QEMU needs in fact shows when the device is added
 */
static bool allow_locking(struct vmm *v)
{
	uint64_t mb = v->cfg.memory_mb + vm_memory_room_mb(&v->cfg) + LOCKED_EXTRA_MB;
	const struct rlimit limit = { mb << 20, mb << 20 };
	struct rlimit now;

	if (prlimit(vmm_pid(v), RLIMIT_MEMLOCK, NULL, &now) == 0 && now.rlim_cur >= limit.rlim_cur)
		return true;
	return prlimit(vmm_pid(v), RLIMIT_MEMLOCK, &limit, NULL) == 0;
}

/* ---- what QEMU needs of a tap ---- */

static void netdev_name(const struct vmm *v, const struct pci_port *p, char name[16])
{
	snprintf(name, 16, "net%u", port_number(v, p));
}

CO static int netdev_add(struct vmm *v, const struct pci_port *p, int tap, struct err *err)
{
	struct json_object *o = json_object_new_object();
	char name[16];
	int r;

	netdev_name(v, p, name);
	put_text(o, "fdname", name);
	r = vmm_call(v, "getfd", o, tap, err);
	if (r < 0)
		return r;
	o = json_object_new_object();
	put_text(o, "type", "tap");
	put_text(o, "id", name);
	put_text(o, "fd", name);
	return vmm_call(v, "netdev_add", o, -EBADF, err);
}

/** netdev_remove() - absent is success; QEMU closes its fd with it, or when the next one comes */
CO static int netdev_remove(struct vmm *v, const struct pci_port *p, struct err *err)
{
	struct json_object *o = json_object_new_object();
	struct err e = { 0 };
	char name[16];
	int r;

	netdev_name(v, p, name);
	put_text(o, "id", name);
	r = vmm_call(v, "netdev_del", o, -EBADF, &e);
	if (r < 0 && !(r == -EREMOTEIO && strstr(e.text, "not found")))
		return err_copy(err, &e), r;
	return 0;
}

/* ---- a port ---- */

/**
 * struct plug - what is to be plugged
 * @name:	for errors
 * @host:	PORT_VFIO
 * @nic:	PORT_NIC
 */
struct plug {
	const char *id;
	const char *name;
	const char *driver;
	enum port_kind kind;
	const struct pci_host *host;
	const struct vmm_nic *nic;
};

static void nic_args(struct json_object *o, const struct vmm_nic *nic, const char *netdev)
{
	const uint8_t *m = nic->mac;
	char mac[18];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		 m[5]);
	put_text(o, "netdev", netdev);
	put_text(o, "mac", mac);
	/* Nobody boots from it. */
	put_text(o, "romfile", "");
	if (nic->mtu > ETHERMTU)
		json_object_object_add(o, "host_mtu", json_object_new_int((int)nic->mtu));
}

static struct json_object *device_args(struct vmm *v, const struct pci_port *p,
				       const struct plug *what)
{
	struct json_object *o = json_object_new_object();
	_cleanup_free_ char *bus = str_printf("rp%u", port_number(v, p));
	char name[16];

	device_name(v, p, name);
	put_text(o, "driver", what->driver);
	put_text(o, "id", name);
	put_text(o, "bus", bus);
	if (p->kind == PORT_VFIO) {
		_cleanup_free_ char *dir = str_printf("%s/%s", v->vfio, p->host.address);

		put_text(o, "sysfsdev", dir);
	} else if (what->nic) {
		char netdev[16];

		netdev_name(v, p, netdev);
		nic_args(o, what->nic, netdev);
	} else if (str_eq(what->driver, "nvme")) {
		put_text(o, "serial", name);
	} else if (str_eq(what->driver, "pci-testdev")) {
		/* As much of the address space as a device with memory of its own. */
		json_object_object_add(o, "membar", json_object_new_int64(TESTDEV_BAR));
	}
	return o;
}

CO static int backend_add(struct vmm *v, struct pci_port *p, const struct plug *what,
			  struct err *err)
{
	switch (p->kind) {
	case PORT_VFIO:
		return nodes_do(v, p, nodes_put, err);
	case PORT_NIC:
		return netdev_add(v, p, what->nic->tap, err);
	case PORT_EMULATED:
		break;
	}
	return 0;
}

CO static int backend_remove(struct vmm *v, struct pci_port *p, struct err *err)
{
	switch (p->kind) {
	case PORT_VFIO:
		return nodes_do(v, p, nodes_take, err);
	case PORT_NIC:
		return netdev_remove(v, p, err);
	case PORT_EMULATED:
		break;
	}
	return 0;
}

/** port_undo() - stops at the first failure, to be tried again from there */
CO static int port_undo(struct vmm *v, struct pci_port *p, struct err *err)
{
	char name[16];
	int r;

	if (p->step == PORT_DEVICE) {
		device_name(v, p, name);
		r = device_unplug(v, name, &p->gone, err);
		if (r < 0)
			return r;
		p->step = PORT_BACKEND;
	}
	if (p->step == PORT_BACKEND) {
		r = backend_remove(v, p, err);
		if (r < 0)
			return r;
	}
	p->step = PORT_EMPTY;
	p->id[0] = '\0';
	return 0;
}

CO static int port_fill(struct vmm *v, struct pci_port *p, const struct plug *what, struct err *err)
{
	bool may_lock = true;
	int r;

	/* Each step counts before its answer: when that is lost, the undoing of what never was is
	 * harmless. */
	p->step = PORT_BACKEND;
	r = backend_add(v, p, what, err);
	if (p->kind == PORT_VFIO)
		may_lock = allow_locking(v);
	if (r < 0)
		return r;
	p->step = PORT_DEVICE;
	r = vmm_call(v, "device_add", device_args(v, p, what), -EBADF, err);
	if (r < 0 && !may_lock)
		err_wrap(err, r,
			 "QEMU may be unable to lock the VM's memory: start containerd with "
			 "LimitMEMLOCK=infinity");
	return r;
}

static struct pci_port *port_find(struct vmm *v, const char *id)
{
	for (unsigned i = 0; i < VM_PCI_PORTS; i++)
		if (v->ports[i].step != PORT_EMPTY && str_eq(v->ports[i].id, id))
			return &v->ports[i];
	return NULL;
}

/** port_take() - a port of its own for a device, NULL when all are taken */
CO static struct pci_port *port_take(struct vmm *v, const char *id)
{
	for (unsigned i = 0; i < VM_PCI_PORTS; i++) {
		struct pci_port *p = &v->ports[i];

		/* What could not be undone when its add failed gets another try. */
		if (p->step != PORT_EMPTY && p->left && !p->busy) {
			p->busy = true;
			port_undo(v, p, NULL);
			p->busy = false;
		}
		if (p->step != PORT_EMPTY || p->busy)
			continue;
		p->busy = true;
		p->left = false;
		snprintf(p->id, sizeof(p->id), "%s", id);
		return p;
	}
	return NULL;
}

/* ---- adding and removing ---- */

/**
 * struct lookup - a device of the host to find, on a worker
 */
struct lookup {
	const char *root;
	const struct vmm_pci *want;
	struct pci_host host;
	struct err *err;
};

static int lookup_host(void *arg)
{
	struct lookup *l = arg;
	char address[PCI_ADDRESS_MAX];

	if (pci_address_parse(l->want->device, address) < 0)
		return err_set(l->err, -ERR_INVALID,
			       "\"%s\" is no PCI address such as 0000:3b:00.0", l->want->device);
	return pci_host_find(l->root, address, l->want->vf, &l->host, l->err);
}

static int check_emulated(const struct vmm *v, const char *driver, struct err *err)
{
	if (!v->cfg.emulated_devices)
		return err_set(err, -ERR_INVALID,
			       EMULATED "%s: emulated devices are for tests; the configuration "
					"does not have emulated_devices = true",
			       driver);
	for (size_t i = 0; i < ARRAY_SIZE(emulated); i++)
		if (str_eq(driver, emulated[i]))
			return 0;
	return err_set(err, -ERR_INVALID, EMULATED "%s: edu, nvme or pci-testdev is wanted",
		       driver);
}

CO static int plug(struct vmm *v, const struct plug *what, char ret_path[VM_PCI_PATH_MAX],
		   struct err *err)
{
	struct pci_port *p = port_take(v, what->id);
	int r;

	if (!p)
		return err_set(err, -ERR_EXHAUSTED, "%s: all %d PCI slots of the VM are taken",
			       what->name, VM_PCI_PORTS);
	p->kind = what->kind;
	if (what->host)
		p->host = *what->host;
	r = port_fill(v, p, what, err);
	if (r < 0) {
		struct err e = { 0 };
		CO_SHIELD(ROLLBACK_USEC);

		err_wrap(err, r, "%s", what->name);
		p->left = port_undo(v, p, &e) < 0;
		if (p->left && !v->dead)
			log_warn("%s: undo the failed add: %s", what->name, e.text);
	} else {
		snprintf(ret_path, VM_PCI_PATH_MAX, "%02x.%u/00.0", VM_PCI_PORTS_SLOT,
			 port_number(v, p));
	}
	p->busy = false;
	return r;
}

/** may_add() - whether there is a VM, and the name is free */
static int may_add(struct vmm *v, const char *id, const char *name, struct err *err)
{
	if (!vmm_running(v))
		return err_set(err, -ERR_UNAVAILABLE, "%s: the VM is not running", name);
	if (port_find(v, id))
		return err_set(err, -ERR_EXISTS, "%s: %s is taken", name, id);
	return 0;
}

CO int vmm_pci_add(struct vmm *v, const struct vmm_pci *want, char ret_path[VM_PCI_PATH_MAX],
		   struct err *err)
{
	struct lookup l = { .root = v->host_root, .want = want, .err = err };
	_cleanup_free_ char *name = str_printf("PCI device %s", want->device);
	struct plug what = { .id = want->id, .name = name };
	int r = may_add(v, want->id, name, err);

	if (r < 0)
		return r;
	if (str_starts(want->device, EMULATED)) {
		what.driver = want->device + strlen(EMULATED);
		what.kind = PORT_EMULATED;
		r = check_emulated(v, what.driver, err);
	} else {
		what.driver = "vfio-pci";
		what.kind = PORT_VFIO;
		what.host = &l.host;
		r = worker_call(lookup_host, &l);
	}
	return r < 0 ? r : plug(v, &what, ret_path, err);
}

/** port_remove() - absent, or the VM gone, is success */
CO static int port_remove(struct vmm *v, const char *id, const char *name, struct err *err)
{
	struct pci_port *p = port_find(v, id);
	int r;

	if (!p || !vmm_running(v))
		return 0;
	if (p->busy)
		return err_set(err, -ERR_STATE, "%s %s: another operation is under way", name, id);
	p->busy = true;
	r = port_undo(v, p, err);
	p->busy = false;
	if (r < 0 && !vmm_running(v))
		return 0;
	return r < 0 ? err_wrap(err, r, "%s %s: remove", name, id) : 0;
}

CO int vmm_pci_remove(struct vmm *v, const char *id, struct err *err)
{
	return port_remove(v, id, "PCI device", err);
}

CO int vmm_nic_add(struct vmm *v, const struct vmm_nic *nic, struct err *err)
{
	char path[VM_PCI_PATH_MAX];
	struct plug what = { .id = nic->id,
			     .name = "network card",
			     .driver = "virtio-net-pci",
			     .kind = PORT_NIC,
			     .nic = nic };
	int r = may_add(v, nic->id, what.name, err);

	return r < 0 ? r : plug(v, &what, path, err);
}

CO int vmm_nic_remove(struct vmm *v, const char *id, struct err *err)
{
	return port_remove(v, id, "network card", err);
}

void pci_init(struct vmm *v)
{
	v->host_root = "";
	co_mutex_init(&v->vfio_lock);
	for (unsigned i = 0; i < VM_PCI_PORTS; i++)
		co_event_init(&v->ports[i].gone);
}

void pci_event(struct vmm *v, const char *device)
{
	char name[16];

	for (unsigned i = 0; i < VM_PCI_PORTS; i++) {
		device_name(v, &v->ports[i], name);
		if (str_eq(name, device))
			co_event_set(&v->ports[i].gone);
	}
}

void pci_end(struct vmm *v)
{
	for (unsigned i = 0; i < VM_PCI_PORTS; i++)
		co_event_set(&v->ports[i].gone);
}
