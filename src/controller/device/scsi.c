/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/scsi.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/vm.h"
#include "loop/each.h"
#include "wire/gcs.h"

enum { CONTROLLERS = 4, LUNS = 64, SLOTS = CONTROLLERS * LUNS };

/*
 * Disk:  RESERVED --attach--> ATTACHED --eject--> EJECTED --detach--> gone
 *        RESERVED --attach failed--> INVALID: refuses everything, drains
 * Mount: RESERVED --mount--> MOUNTED --unmount--> gone
 *        RESERVED --mount failed--> INVALID: refuses everything, drains
 */
enum disk_state { DISK_RESERVED, DISK_ATTACHED, DISK_EJECTED, DISK_INVALID };
enum mount_state { MOUNT_RESERVED, MOUNT_MOUNTED, MOUNT_UNMOUNTED, MOUNT_INVALID };

/**
 * struct disk - what takes a slot
 * @dev, @ino, @read_only: what makes it this disk
 * @lock:	one attach, mount, unmount or detach at a time; other disks go on
 * @users:	calls that hold or wait for @lock
 * @going:	its last reservation is being given up; who reserves it now gets it again afterwards
 */
struct disk {
	unsigned slot;
	char *path;
	dev_t dev;
	ino_t ino;
	bool read_only;
	enum disk_state state;
	struct list mounts;
	struct co_mutex lock;
	unsigned users;
	bool going;
};

/**
 * struct mount - a partition of a disk in the guest; @refs counts reservations
 * @in_doubt:	the guest may mount it yet, or has: the answer was not waited for
 */
struct mount {
	struct list link;
	struct disk *disk;
	uint64_t partition;
	bool read_only;
	bool encrypted;
	bool ensure_filesystem;
	bool block_dev;
	bool attach_only;
	char *filesystem;
	char **options;
	struct gcs_verity verity;
	struct gcs_scsi_device *devices;
	size_t n_devices;
	char *guest_path;
	enum mount_state state;
	bool in_doubt;
	unsigned refs;
};

struct scsi {
	const struct scsi_ops *ops;
	void *ctx;
	struct disk *slots[SLOTS];
	struct map reservations; /* id → struct mount */
};

/* ---- disks and mounts ---- */

static void mount_free(struct mount *m)
{
	list_remove(&m->link);
	free(m->filesystem);
	strv_free(m->options);
	free(m->verity.root_digest);
	free(m->devices);
	free(m->guest_path);
	free(m);
}

/* Frees the slot once nothing refers to the disk and no call is at work on it. */
static void disk_release(struct scsi *s, struct disk *d)
{
	if (d->users > 0 || !list_empty(&d->mounts))
		return;
	if (d->state == DISK_ATTACHED || d->state == DISK_EJECTED)
		return;
	s->slots[d->slot] = NULL;
	free(d->path);
	free(d);
}

static struct disk *find_disk(struct scsi *s, const struct stat *st, bool read_only)
{
	bool block = S_ISBLK(st->st_mode);

	for (unsigned i = 0; i < SLOTS; i++) {
		struct disk *d = s->slots[i];

		if (!d || d->read_only != read_only)
			continue;
		/* Two nodes of one block device are one disk. */
		if (block ? d->ino == 0 && d->dev == st->st_rdev
			  : d->ino == st->st_ino && d->dev == st->st_dev)
			return d;
	}
	return NULL;
}

static struct disk *new_disk(struct scsi *s, const char *path, const struct stat *st,
			     bool read_only)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (s->slots[i])
			continue;

		struct disk *d = NEW0(struct disk);

		d->slot = i;
		d->path = mem_strdup(path);
		d->dev = S_ISBLK(st->st_mode) ? st->st_rdev : st->st_dev;
		d->ino = S_ISBLK(st->st_mode) ? 0 : st->st_ino;
		d->read_only = read_only;
		list_init(&d->mounts);
		co_mutex_init(&d->lock);
		s->slots[i] = d;
		return d;
	}
	return NULL;
}

static bool same_options(char *const *a, char *const *b)
{
	if (strv_len(a) != strv_len(b))
		return false;
	for (; a && *a; a++) {
		if (!strv_has(b, *a))
			return false;
	}
	return true;
}

static struct gcs_scsi_device address_of(const struct disk *d)
{
	return (struct gcs_scsi_device){ .controller = (uint8_t)(d->slot / LUNS),
					 .lun = (uint8_t)(d->slot % LUNS) };
}

static bool same_devices(const struct scsi *s, const struct mount *m, char *const *ids)
{
	if (strv_len(ids) != m->n_devices)
		return false;
	for (size_t i = 0; i < m->n_devices; i++) {
		const struct mount *other = map_get(&s->reservations, ids[i]);
		struct gcs_scsi_device at = address_of(other->disk);

		if (at.controller != m->devices[i].controller || at.lun != m->devices[i].lun)
			return false;
	}
	return true;
}

static bool same_settings(const struct scsi *s, const struct mount *m,
			  const struct scsi_mount *want)
{
	return m->read_only == want->read_only && m->encrypted == want->encrypted &&
	       m->ensure_filesystem == want->ensure_filesystem && m->block_dev == want->block_dev &&
	       str_eq(m->verity.root_digest, want->root_digest) &&
	       m->verity.data_bytes == want->hash_offset &&
	       str_eq(m->filesystem, want->filesystem) && same_options(m->options, want->options) &&
	       same_devices(s, m, want->devices);
}

static struct mount *find_mount(struct disk *d, const struct scsi_mount *want)
{
	LIST_FOR_EACH(link, &d->mounts) {
		struct mount *m = LIST_ENTRY(link, struct mount, link);

		if (m->partition == want->partition && m->attach_only == want->attach_only)
			return m;
	}
	return NULL;
}

static struct mount *new_mount(const struct scsi *s, struct disk *d, const struct scsi_mount *want)
{
	struct mount *m = NEW0(struct mount);

	m->disk = d;
	m->partition = want->partition;
	m->read_only = want->read_only;
	m->encrypted = want->encrypted;
	m->ensure_filesystem = want->ensure_filesystem;
	m->block_dev = want->block_dev;
	m->filesystem = mem_strdup(want->filesystem);
	m->options = strv_copy(want->options);
	m->verity.root_digest = mem_strdup(want->root_digest);
	m->verity.data_bytes = want->hash_offset;
	m->verity.superblock = true;
	m->attach_only = want->attach_only;
	m->devices = mem_new0(strv_len(want->devices) + 1, sizeof(*m->devices));
	for (char *const *id = want->devices; id && *id; id++) {
		const struct mount *other = map_get(&s->reservations, *id);

		m->devices[m->n_devices++] = address_of(other->disk);
	}
	if (!m->attach_only)
		m->guest_path = str_printf("/run/mounts/scsi/%u_%u_%llu", d->slot / LUNS,
					   d->slot % LUNS, (unsigned long long)want->partition);
	list_append(&d->mounts, &m->link);
	return m;
}

/* The request for mounting and unmounting borrows from the mount. */
static struct gcs_mapped_disk request_of(struct mount *m)
{
	return (struct gcs_mapped_disk){
		.mount_path = m->guest_path,
		.lun = (uint8_t)(m->disk->slot % LUNS),
		.controller = (uint8_t)(m->disk->slot / LUNS),
		.partition = m->partition,
		.read_only = m->read_only,
		.encrypted = m->encrypted,
		.options = m->options,
		.block_dev = m->block_dev,
		.ensure_filesystem = m->ensure_filesystem,
		.filesystem = m->filesystem,
		.verity = m->verity.root_digest ? &m->verity : NULL,
		.devices = m->devices,
		.n_devices = m->n_devices,
	};
}

/* ---- the controller ---- */

struct scsi *scsi_new(const struct scsi_ops *ops, void *ctx)
{
	struct scsi *s = NEW0(struct scsi);

	s->ops = ops;
	s->ctx = ctx;
	return s;
}

struct scsi *scsi_free(struct scsi *s)
{
	if (!s)
		return NULL;
	for (unsigned i = 0; i < SLOTS; i++) {
		struct disk *d = s->slots[i];

		if (!d)
			continue;
		LIST_FOR_EACH_SAFE(link, &d->mounts)
			mount_free(LIST_ENTRY(link, struct mount, link));
		free(d->path);
		free(d);
	}
	map_free(&s->reservations);
	free(s);
	return NULL;
}

int scsi_reserve(struct scsi *s, const struct scsi_disk *disk, const struct scsi_mount *mount,
		 char ret_id[UUID_LEN + 1], struct err *err)
{
	_cleanup_free_ char *path = realpath(disk->path, NULL);
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return err_set(err, -ERR_INVALID, "disk %s: %s", disk->path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -ERR_INVALID, "disk %s is neither a file nor a block device",
			       disk->path);

	for (char *const *id = mount->devices; id && *id; id++) {
		if (!map_get(&s->reservations, *id))
			return err_set(err, -ERR_NOT_FOUND, "SCSI reservation %s not found", *id);
	}

	struct disk *d = find_disk(s, &st, disk->read_only);

	if (d && (d->state == DISK_INVALID || (d->state == DISK_EJECTED && !d->going)))
		return err_set(err, -ERR_STATE, "disk %s is being torn down after a failure",
			       disk->path);

	struct mount *m = d ? find_mount(d, mount) : NULL;

	if (m && (m->state == MOUNT_INVALID || (m->state == MOUNT_UNMOUNTED && !d->going)))
		return err_set(err, -ERR_STATE, "partition %llu of disk %s is being torn down",
			       (unsigned long long)m->partition, disk->path);
	if (m && !same_settings(s, m, mount))
		return err_set(err, -ERR_STATE,
			       "partition %llu of disk %s is mounted with other settings",
			       (unsigned long long)m->partition, disk->path);
	if (!d)
		d = new_disk(s, path, &st, disk->read_only);
	if (!d)
		return err_set(err, -ERR_EXHAUSTED,
			       "disk %s: all %d SCSI slots of the VM are taken", disk->path, SLOTS);
	if (!m)
		m = new_mount(s, d, mount);
	m->refs++;
	uuid_new(ret_id);
	map_set(&s->reservations, ret_id, m);
	return 0;
}

/* ---- mapping ---- */

static CO int attach(struct scsi *s, struct disk *d, struct err *err)
{
	if (d->state == DISK_ATTACHED)
		return 0;
	if (d->state != DISK_RESERVED)
		return err_set(err, -ERR_STATE, "disk %s has failed before: release it first",
			       d->path);

	int r = s->ops->attach(s->ctx, d->slot / LUNS, d->slot % LUNS, d->path, d->read_only, err);

	d->state = r < 0 ? DISK_INVALID : DISK_ATTACHED;
	return r < 0 ? err_wrap(err, r, "attach disk %s", d->path) : 0;
}

static CO int mount_partition(struct scsi *s, struct mount *m, struct err *err)
{
	struct gcs_mapped_disk request = request_of(m);

	if (m->state == MOUNT_MOUNTED)
		return 0;
	if (m->state != MOUNT_RESERVED)
		return err_set(err, -ERR_STATE, "disk %s has failed before: release it first",
			       m->disk->path);

	int r = s->ops->mount(s->ctx, &request, err);

	m->state = r < 0 ? MOUNT_INVALID : MOUNT_MOUNTED;
	m->in_doubt = vm_call_abandoned(r);
	return r < 0 ? err_wrap(err, r, "mount disk %s in the guest", m->disk->path) : 0;
}

CO int scsi_map(struct scsi *s, const char *id, const char **ret_path, struct err *err)
{
	struct mount *m = map_get(&s->reservations, id);

	if (!m)
		return err_set(err, -ERR_NOT_FOUND, "SCSI reservation %s not found", id);

	struct disk *d = m->disk;

	d->users++;

	int r = co_mutex_lock(&d->lock);

	if (r < 0) {
		err_sys(err, r, "wait for disk %s", d->path);
	} else {
		r = attach(s, d, err);
		if (r >= 0)
			r = mount_partition(s, m, err);
		co_mutex_unlock(&d->lock);
	}
	d->users--;
	if (r >= 0)
		*ret_path = m->guest_path;
	return r;
}

/* ---- releasing ---- */

/* A failure leaves the mount as it is, for another try. */
static CO int unmount_partition(struct scsi *s, struct mount *m, struct err *err)
{
	struct gcs_mapped_disk request = request_of(m);

	if (m->state != MOUNT_MOUNTED && !m->in_doubt)
		return 0;

	int r = s->ops->unmount(s->ctx, &request, err);

	if (r < 0)
		return err_wrap(err, r, "unmount disk %s in the guest", m->disk->path);
	m->in_doubt = false;
	/* Whoever reserved it meanwhile will mount it again. */
	if (m->state == MOUNT_MOUNTED)
		m->state = m->refs > 1 ? MOUNT_RESERVED : MOUNT_UNMOUNTED;
	return 0;
}

static bool is_last(const struct mount *m)
{
	const struct list *mounts = &m->disk->mounts;

	return m->refs == 1 && mounts->next == &m->link && mounts->prev == &m->link;
}

/* The guest lets go of the disk before the VM loses it. A failure keeps what was reached, for
 * another try. */
static CO int detach(struct scsi *s, struct disk *d, struct err *err)
{
	unsigned controller = d->slot / LUNS, lun = d->slot % LUNS;
	int r;

	if (d->state == DISK_ATTACHED) {
		r = s->ops->eject(s->ctx, controller, lun, err);
		if (r < 0)
			return err_wrap(err, r, "eject disk %s in the guest", d->path);
		d->state = DISK_EJECTED;
	}
	if (d->state == DISK_EJECTED) {
		r = s->ops->detach(s->ctx, controller, lun, err);
		if (r < 0)
			return err_wrap(err, r, "detach disk %s", d->path);
		/* Whoever reserved it meanwhile will attach it again; else the slot is free with
		 * the last reference. */
		d->state = DISK_RESERVED;
	}
	return 0;
}

/* A reservation that comes during the unmount keeps the disk; one that comes later has it attached
 * again, or mounted again where it could not be ejected. */
static CO int take_down(struct scsi *s, struct mount *m, struct err *err)
{
	struct disk *d = m->disk;
	int r;

	d->going = true;
	r = unmount_partition(s, m, err);
	if (r >= 0 && is_last(m))
		r = detach(s, d, err);
	d->going = false;
	if (m->refs > 1 && m->state == MOUNT_UNMOUNTED && d->state != DISK_EJECTED)
		m->state = MOUNT_RESERVED;
	return r;
}

static CO int release(struct scsi *s, const char *id, struct mount *m, struct err *err)
{
	int r;

	/* Another call may have released it while this one waited for the disk. */
	if (map_get(&s->reservations, id) != m)
		return 0;
	r = m->refs == 1 ? take_down(s, m, err) : 0;
	if (r < 0)
		return r;
	map_remove(&s->reservations, id);
	if (--m->refs == 0)
		mount_free(m);
	return 0;
}

CO int scsi_unmap(struct scsi *s, const char *id, struct err *err)
{
	struct mount *m = map_get(&s->reservations, id);

	if (!m)
		return 0;

	struct disk *d = m->disk;

	d->users++;

	int r = co_mutex_lock(&d->lock);

	if (r < 0) {
		err_sys(err, r, "wait for disk %s", d->path);
	} else {
		r = release(s, id, m, err);
		co_mutex_unlock(&d->lock);
	}
	d->users--;
	disk_release(s, d);
	return r;
}

/**
 * struct unmapping - scsi_unmap_all() under way
 * @ids:	"" where it is done
 */
struct unmapping {
	struct scsi *scsi;
	char **ids;
};

static CO int unmap_one(size_t i, void *arg, struct err *err)
{
	struct unmapping *u = arg;
	int r = scsi_unmap(u->scsi, u->ids[i], err);

	if (r >= 0)
		*u->ids[i] = '\0';
	return r;
}

CO int scsi_unmap_all(struct scsi *s, char ***ids, struct err *err)
{
	_cleanup_strv_ char **all = TAKE_PTR(*ids);
	struct unmapping u = { .scsi = s, .ids = all };
	int r = each_call("unmap disks", strv_len(all), unmap_one, &u, true, err);

	for (char **id = all; id && *id; id++) {
		if (**id)
			strv_add(ids, *id);
	}
	return r;
}

unsigned scsi_in_use(const struct scsi *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		n += s->slots[i] != NULL;
	return n;
}
