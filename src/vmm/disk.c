/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/worker.h"
#include "vmm/vmm_priv.h"
#include "wire/qmp.h"

#define UNPLUG_USEC (10 * USEC_PER_SEC)
#define ROLLBACK_USEC (10 * USEC_PER_SEC)

/**
 * struct names - what a slot's parts are called in QEMU
 */
struct names {
	char node[16];
	char device[16];
	char file[24];
	int fdset;
};

/**
 * struct image - a file to open on a worker
 */
struct image {
	const char *path;
	bool read_only;
	bool block;
	int fd;
};

static void names_of(unsigned controller, unsigned lun, struct names *n)
{
	n->fdset = (int)(controller * VM_SCSI_LUNS + lun) + 1;
	snprintf(n->node, sizeof(n->node), "n%u-%u", controller, lun);
	snprintf(n->device, sizeof(n->device), "d%u-%u", controller, lun);
	snprintf(n->file, sizeof(n->file), "/dev/fdset/%d", n->fdset);
}

static void put_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static void put_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

static void put_int(struct json_object *o, const char *key, int value)
{
	json_object_object_add(o, key, json_object_new_int(value));
}

/* A filter above a node; QEMU takes away both when it is told to take away this one. */
static struct json_object *throttled(struct json_object *node, bool read_only)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "driver", "throttle");
	put_text(o, "throttle-group", VM_THROTTLE_GROUP);
	put_bool(o, "read-only", read_only);
	put_text(o, "discard", "unmap");
	json_object_object_add(o, "file", node);
	return o;
}

static struct json_object *node_args(const struct vmm *v, const struct names *n,
				     const struct image *im)
{
	struct json_object *o = json_object_new_object(), *file = json_object_new_object();

	put_text(file, "driver", im->block ? "host_device" : "file");
	put_text(file, "filename", n->file);
	put_text(file, "discard", "unmap");
	put_bool(file, "read-only", im->read_only);
	/* A layer is shared between VMs, and was opened read-only. */
	if (im->read_only)
		put_text(file, "locking", "off");
	put_text(o, "driver", "raw");
	put_bool(o, "read-only", im->read_only);
	put_text(o, "discard", "unmap");
	json_object_object_add(o, "file", file);
	if (vm_storage_limited(&v->cfg))
		o = throttled(o, im->read_only);
	put_text(o, "node-name", n->node);
	return o;
}

static struct json_object *device_args(const struct names *n, unsigned controller, unsigned lun,
				       const char *serial)
{
	struct json_object *o = json_object_new_object();
	char bus[16];

	snprintf(bus, sizeof(bus), "scsi%u.0", controller);
	put_text(o, "driver", "scsi-hd");
	put_text(o, "id", n->device);
	put_text(o, "bus", bus);
	put_int(o, "channel", 0);
	put_int(o, "scsi-id", 0);
	put_int(o, "lun", (int)lun);
	put_text(o, "drive", n->node);
	/* By default QEMU stops the whole VM when the host's disk is full, and nobody would let it
	 * go on: what is written fails in the guest instead. */
	put_text(o, "werror", "report");
	if (!str_empty(serial))
		put_text(o, "serial", serial);
	return o;
}

static struct json_object *one_text(const char *key, const char *value)
{
	struct json_object *o = json_object_new_object();

	put_text(o, key, value);
	return o;
}

static struct json_object *one_int(const char *key, int value)
{
	struct json_object *o = json_object_new_object();

	put_int(o, key, value);
	return o;
}

static int image_open(void *arg)
{
	struct image *im = arg;
	_cleanup_fd_ int fd = -EBADF;
	struct stat st;

	/* Non-blocking, for a fifo would wait for its other end. */
	fd = open(im->path,
		  (im->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ERR_INVALID;
	im->block = S_ISBLK(st.st_mode);
	im->fd = TAKE_FD(fd);
	return fd_nonblock(im->fd, false);
}

CO static int file_add(struct vmm *v, const struct names *n, int fd, struct err *err)
{
	struct json_object *o = one_int("fdset-id", n->fdset);

	put_text(o, "opaque", n->node);
	return vmm_call(v, "add-fd", o, fd, err);
}

/** gone_or() - a part that QEMU does not know (any more) is a part that is removed */
static int gone_or(int r, const struct err *e, const char *absent)
{
	return r == -EREMOTEIO && strstr(e->text, absent) ? 0 : r;
}

CO int device_unplug(struct vmm *v, const char *device, struct co_event *gone, struct err *err)
{
	CO_LIMIT(UNPLUG_USEC);
	struct err e = { 0 };
	int r;

	/* Before the command: the event may overtake its answer. */
	co_event_clear(gone);
	r = vmm_call(v, "device_del", one_text("id", device), -EBADF, &e);
	if (r == -EREMOTEIO && strstr(e.text, "not found"))
		return 0;
	/* An earlier attempt that was given up may still be under way. */
	if (r < 0 && !(r == -EREMOTEIO && strstr(e.text, "in the process of unplug")))
		return err_copy(err, &e), r;
	r = co_event_wait(gone);
	if (r == 0 && v->dead)
		return err_set(err, -ERR_UNAVAILABLE, "the VM has ended");
	return r < 0 ? err_sys(err, r, "wait until it is unplugged") : 0;
}

/**
 * slot_undo() - from whatever step the slot is at down to empty; stops at the first failure, to be
 * tried again from there
 */
CO static int slot_undo(struct vmm *v, const struct names *n, struct slot *s, struct err *err)
{
	struct err e = { 0 };
	int r;

	if (s->step == SLOT_DEVICE) {
		r = device_unplug(v, n->device, &s->gone, err);
		if (r < 0)
			return r;
		s->step = SLOT_NODE;
	}
	if (s->step == SLOT_NODE) {
		r = vmm_call(v, "blockdev-del", one_text("node-name", n->node), -EBADF, &e);
		r = gone_or(r, &e, "Failed to find node");
		if (r < 0)
			return err_copy(err, &e), r;
		s->step = SLOT_FILE;
	}
	if (s->step == SLOT_FILE) {
		r = vmm_call(v, "remove-fd", one_int("fdset-id", n->fdset), -EBADF, &e);
		r = gone_or(r, &e, "File descriptor named");
		if (r < 0)
			return err_copy(err, &e), r;
		s->step = SLOT_EMPTY;
	}
	return 0;
}

CO static int slot_fill(struct vmm *v, const struct names *n, struct slot *s,
			const struct image *im, unsigned controller, unsigned lun,
			const char *serial, struct err *err)
{
	int r;

	/* Each step counts before its answer: when that is lost, the undoing of what never was is
	 * harmless. */
	s->step = SLOT_FILE;
	r = file_add(v, n, im->fd, err);
	if (r < 0)
		return r;
	s->step = SLOT_NODE;
	r = vmm_call(v, "blockdev-add", node_args(v, n, im), -EBADF, err);
	if (r < 0)
		return r;
	s->step = SLOT_DEVICE;
	return vmm_call(v, "device_add", device_args(n, controller, lun, serial), -EBADF, err);
}

static int slot_find(struct vmm *v, unsigned controller, unsigned lun, struct slot **ret,
		     struct err *err)
{
	if (controller >= VM_SCSI_CONTROLLERS || lun >= VM_SCSI_LUNS)
		return err_set(err, -ERR_INVALID,
			       "disk %u:%u: there are %d controllers with %d LUNs each", controller,
			       lun, VM_SCSI_CONTROLLERS, VM_SCSI_LUNS);
	*ret = &v->slots[controller][lun];
	if ((*ret)->busy)
		return err_set(err, -ERR_STATE, "disk %u:%u: another operation is under way",
			       controller, lun);
	return 0;
}

CO int vmm_disk_add(struct vmm *v, unsigned controller, unsigned lun, const struct vmm_disk *disk,
		    struct err *err)
{
	struct image im = { .path = disk->path, .read_only = disk->read_only, .fd = -EBADF };
	struct names n;
	struct slot *s = NULL;
	int r = slot_find(v, controller, lun, &s, err);

	if (r < 0)
		return r;
	if (!vmm_running(v))
		return err_set(err, -ERR_UNAVAILABLE, "disk %u:%u: the VM is not running",
			       controller, lun);
	if (s->step != SLOT_EMPTY)
		return err_set(err, -ERR_EXISTS, "disk %u:%u: the LUN is taken", controller, lun);
	s->busy = true;
	names_of(controller, lun, &n);
	r = worker_call(image_open, &im);
	if (r == -ERR_INVALID)
		err_set(err, r, "disk %s: neither a regular file nor a block device", disk->path);
	else if (r < 0)
		err_sys(err, r, "disk %s: open", disk->path);
	else
		r = slot_fill(v, &n, s, &im, controller, lun, disk->serial, err);
	fd_close(im.fd);
	if (r < 0 && s->step != SLOT_EMPTY) {
		struct err e = { 0 };

		CO_SHIELD(ROLLBACK_USEC);
		err_wrap(err, r, "disk %u:%u: add %s", controller, lun, disk->path);
		if (slot_undo(v, &n, s, &e) < 0 && !v->dead)
			log_warn("disk %u:%u: undo the failed add: %s", controller, lun, e.text);
	}
	s->busy = false;
	return r;
}

CO int vmm_disk_remove(struct vmm *v, unsigned controller, unsigned lun, struct err *err)
{
	struct names n;
	struct slot *s = NULL;
	int r = slot_find(v, controller, lun, &s, err);

	if (r < 0)
		return r;
	if (s->step == SLOT_EMPTY || !vmm_running(v))
		return 0;
	s->busy = true;
	names_of(controller, lun, &n);
	r = slot_undo(v, &n, s, err);
	s->busy = false;
	if (r < 0 && !vmm_running(v))
		return 0;
	return r < 0 ? err_wrap(err, r, "disk %u:%u: remove", controller, lun) : 0;
}

void disk_event(struct vmm *v, const char *device)
{
	unsigned controller, lun;
	struct names n;

	if (sscanf(device, "d%u-%u", &controller, &lun) != 2 || controller >= VM_SCSI_CONTROLLERS ||
	    lun >= VM_SCSI_LUNS)
		return;
	names_of(controller, lun, &n);
	if (str_eq(n.device, device))
		co_event_set(&v->slots[controller][lun].gone);
}

void disk_end(struct vmm *v)
{
	for (unsigned i = 0; i < VM_SCSI_CONTROLLERS; i++)
		for (unsigned j = 0; j < VM_SCSI_LUNS; j++)
			co_event_set(&v->slots[i][j].gone);
}
