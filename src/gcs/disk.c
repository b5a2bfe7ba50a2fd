/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/crypt.h"
#include "gcs/dm.h"
#include "gcs/module.h"
#include "gcs/mounts.h"
#include "gcs/scsi.h"
#include "gcs/verity.h"
#include "loop/child.h"
#include "loop/worker.h"
#include "wire/gcs.h"

enum {
	LOOK_AGAIN_USEC = 500000,
	SETTLE_USEC = 100000,
	SETTLE_TURNS = 20,
	MOUNT_TURNS = 5,
	ROLLBACK_USEC = 10000000,
	OPTIONS_MAX = 4096 - 1,
	EXT4_64BIT = 0x80, /* INCOMPAT_64BIT: there are upper halves */
};

/*
 * What can be mounted. A read-only mount must not replay a journal, since the disk may not be
 * written at all. The scratch needs no journal either: it dies with its VM.
 */
static const struct filesystem {
	const char *name;
	bool crc32c; /* asks the crypto layer for it, by a name that no module has */
	const char *read_only; /* options of a read-only mount */
	const char *scratch; /* those of one whose file system was made for it */
	const char *mkfs[9];
} filesystems[] = {
	/* Zeros for inode tables, which nobody will miss, would be written in the background: they
	 * count against the limits of the VM's disks, and are encrypted first where that is so. */
	{ "ext4",
	  true,
	  "noload",
	  "noinit_itable",
	  { "mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", "-m",
	    "0" } },
	{ "erofs", true, NULL, NULL, { NULL } },
	{ "xfs", true, "norecovery", NULL, { "mkfs.xfs", "-q", "-f" } },
	{ "squashfs", false, NULL, NULL, { NULL } },
};

static const struct filesystem *filesystem_of(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(filesystems); i++)
		if (str_eq(name, filesystems[i].name))
			return &filesystems[i];
	return NULL;
}

const char *disk_filesystem(const unsigned char *head, size_t len)
{
	static const struct {
		size_t at, len;
		const char *magic, *name;
	} magics[] = {
		{ 1080, 2, "\x53\xef", "ext4" },
		{ 1024, 4, "\xe2\xe1\xf5\xe0", "erofs" },
		{ 0, 4, "XFSB", "xfs" },
		{ 0, 4, "hsqs", "squashfs" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (len >= magics[i].at + magics[i].len &&
		    memcmp(head + magics[i].at, magics[i].magic, magics[i].len) == 0)
			return magics[i].name;
	return NULL;
}

static uint64_t number(const unsigned char *head, size_t at, size_t bytes)
{
	uint64_t n = 0;

	for (size_t i = bytes; i > 0; i--)
		n = n << 8 | head[at + i - 1];
	return n;
}

/* Numbers of ext4, erofs and squashfs are little endian; xfs is left out. */
uint64_t disk_filesystem_size(const unsigned char *head, size_t len)
{
	const char *name = len >= DISK_HEAD ? disk_filesystem(head, len) : NULL;

	if (str_eq(name, "ext4")) {
		uint64_t blocks = number(head, 1024 + 4, 4), order = number(head, 1024 + 24, 4);

		if (number(head, 1024 + 96, 4) & EXT4_64BIT)
			blocks |= number(head, 1024 + 336, 4) << 32;
		return order <= 6 && blocks < UINT64_MAX >> 16 ? blocks << (10 + order) : 0;
	}
	if (str_eq(name, "erofs")) {
		unsigned bits = head[1024 + 12];

		return bits <= 16 ? number(head, 1024 + 36, 4) << bits : 0;
	}
	return str_eq(name, "squashfs") ? number(head, 40, 8) : 0;
}

/**
 * struct detection - what a disk holds
 * @demand:	where its dm-verity superblock is said to be, NULL for nowhere in particular
 * @read_only:	only then the superblock is of interest
 * @found:	name of the file system, NULL for none
 * @hashed:	there is a hash tree, @verity
 */
struct detection {
	char *device;
	const struct gcs_verity *demand;
	bool read_only;
	const char *found;
	bool hashed;
	struct verity verity;
	struct err *err;
};

static int detect_verity(struct detection *d, int fd, uint64_t data)
{
	off_t size = lseek(fd, 0, SEEK_END);
	int r;

	if (size < 0)
		return err_sys(d->err, -errno, "size of %s", d->device);
	if (d->demand && d->demand->data_bytes)
		data = d->demand->data_bytes;
	r = data ? verity_read(fd, data, (uint64_t)size, &d->verity, d->err) : 0;
	d->hashed = r > 0;
	return r < 0 ? err_wrap(d->err, r, "%s", d->device) : 0;
}

/*
 * While others were plugged a disk has failed to mount that did well later. Each plug is a unit
 * attention to all of a controller's disks, so that the kernel may have taken it for empty when it
 * asked for its size at the opening: let it ask again.
 */
static int rescan_fn(void *arg)
{
	const char *name = strrchr((const char *)arg, '/') + 1;
	_cleanup_free_ char *disk = str_printf("/sys/class/block/%s/device/rescan", name);
	_cleanup_free_ char *partition = str_printf("/sys/class/block/%s/../device/rescan", name);

	return file_put(disk, "1\n") < 0 ? file_put(partition, "1\n") : 0;
}

static CO void settle(char *device)
{
	worker_call(rescan_fn, device);
	co_sleep(SETTLE_USEC);
}

static int detect_fn(void *arg)
{
	struct detection *d = arg;
	_cleanup_free_ unsigned char *head = mem_new0(1, DISK_HEAD);
	_cleanup_fd_ int fd = open(d->device, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, head, DISK_HEAD, 0);

	if (n < 0)
		return err_sys(d->err, -errno, "read %s", d->device);
	if (n == 0)
		return err_sys(d->err, -ENODATA, "read %s", d->device);
	d->found = disk_filesystem(head, (size_t)n);
	return d->read_only ? detect_verity(d, fd, disk_filesystem_size(head, (size_t)n)) : 0;
}

/* A file system that is awaited may just be being written by somebody. */
static CO int detect(const struct gcs_mapped_disk *d, char *device, struct detection *ret,
		     struct err *err)
{
	int r;

	*ret = (struct detection){
		.device = device, .demand = d->verity, .read_only = d->read_only, .err = err
	};
	r = worker_call(detect_fn, ret);
	for (int i = 0; r == -ENODATA && i < SETTLE_TURNS; i++) {
		settle(device);
		r = worker_call(detect_fn, ret);
	}
	if (r >= 0 && !ret->found && !d->ensure_filesystem) {
		co_sleep(LOOK_AGAIN_USEC);
		r = worker_call(detect_fn, ret);
	}
	return r;
}

static int make_filesystem(const struct filesystem *fs, const char *device, struct err *err)
{
	const char *argv[ARRAY_SIZE(fs->mkfs) + 1] = { NULL };
	size_t n = 0;
	int r;

	while (fs->mkfs[n]) {
		argv[n] = fs->mkfs[n];
		n++;
	}
	if (!n)
		return err_set(err, -ERR_INVALID, "unsupported filesystem %s requested for device",
			       fs->name);
	argv[n] = device;
	r = child_run(argv, NULL, NULL, err);
	if (r > 0)
		r = err_set(err, -EIO, "%s %s failed with status %d%s%s", argv[0], device, r,
			    err && err->text[0] ? ": " : "", err ? err->text : "");
	return r;
}

/* The file system to mount, made first when the host wants it and the disk has none. */
static CO int settle_filesystem(const struct gcs_mapped_disk *d, const char *device,
				const char *found, const struct filesystem **ret, struct err *err)
{
	const struct filesystem *wanted = filesystem_of(d->filesystem);
	int r;

	if (d->ensure_filesystem) {
		/* A disk with something else on it is no blank scratch disk, but somebody's data.
		 * */
		if (found && !str_eq(found, wanted->name))
			return err_set(err, -ERR_STATE, "%s holds %s: not made %s", device, found,
				       wanted->name);
		if (!found) {
			r = make_filesystem(wanted, device, err);
			if (r < 0)
				return r;
		}
	}
	*ret = wanted ? wanted : filesystem_of(found);
	if (!*ret)
		return err_set(err, -ERR_INVALID,
			       "getting device's filesystem: could not get device filesystem type "
			       "of %s",
			       device);
	return 0;
}

static int add_block_device(const struct gcs_mapped_disk *d, const char *device, struct err *err)
{
	_cleanup_free_ char *dir = mem_strdup(d->mount_path);
	int r;

	*strrchr(dir, '/') = '\0';
	r = *dir ? dir_make(dir, 0700) : 0;
	if (r < 0)
		return err_sys(err, r, "mkdir %s", dir);
	if (symlink(device, d->mount_path) < 0)
		return err_sys(err, -errno, "symlink %s", d->mount_path);
	return 0;
}

static bool cpu_has_crc32c(void)
{
#ifdef __x86_64__
	return __builtin_cpu_supports("sse4.2");
#else
	return false;
#endif
}

static int load_filesystem(struct agent *a, const struct filesystem *fs, struct err *err)
{
	static const char *const fast[] = { "crc32c_intel", NULL };
	static const char *const plain[] = { "crc32c_generic", NULL };
	const char *const own[] = { fs->name, NULL };
	int r = 0;

	if (fs->crc32c && (!cpu_has_crc32c() || modules_need(a->modules, fast, NULL) < 0))
		r = modules_need(a->modules, plain, err);
	return r < 0 ? r : modules_need(a->modules, own, err);
}

/* ---- what a disk is mounted through ---- */

static bool digest_demanded(const struct gcs_mapped_disk *d)
{
	return d->verity && !str_empty(d->verity->root_digest);
}

static int check_demand(const struct gcs_mapped_disk *d, const struct detection *found,
			struct err *err)
{
	if (!digest_demanded(d))
		return 0;
	if (!found->hashed)
		return err_set(err, -ERR_INVALID,
			       "%s has no dm-verity superblock where it should be, but the root "
			       "digest %s is demanded of it",
			       found->device, d->verity->root_digest);
	if (strcasecmp(found->verity.root_digest, d->verity->root_digest) != 0)
		return err_set(err, -ERR_INVALID,
			       "the layer does not match its hash tree: the root digest of %s is "
			       "%s, not %s as demanded",
			       found->device, found->verity.root_digest, d->verity->root_digest);
	return 0;
}

/* Names of hcsshim's. */
static char *mapping_name(const char *kind, const struct scsi_address *at)
{
	return str_printf("dm-%s-scsi-contr%u-lun%u-p%" PRIu64, kind, at->controller, at->lun,
			  at->partition);
}

/* Replaces @device by one that checks what is read from it, if it has a hash tree. */
static CO int verify(struct agent *a, const char *owner, const struct scsi_address *at,
		     const struct detection *found, char **device, struct err *err)
{
	_cleanup_free_ char *name = mapping_name("verity", at);
	char *node = NULL;
	int r;

	if (!found->hashed)
		return 0;
	r = verity_open(a, owner, name, *device, &found->verity, &node, err);
	if (r < 0)
		return r;
	log_info("%s is checked against %s", *device, found->verity.root_digest);
	free(*device);
	*device = node;
	return 0;
}

/* Replaces @device by one that encrypts what is written to it, with a file system. */
static CO int encrypt(struct agent *a, const struct gcs_mapped_disk *d,
		      const struct scsi_address *at, char **device, struct err *err)
{
	_cleanup_free_ char *name = mapping_name("crypt", at);
	char *node = NULL;
	int r = crypt_open(a, d->mount_path, name, *device, &node, err);

	if (r < 0)
		return r;
	free(*device);
	*device = node;
	return make_filesystem(filesystem_of(d->filesystem), node, err);
}

/* ---- mounting ---- */

/* A further disk of the same file system. */
static CO int add_device(struct agent *a, const struct gcs_mapped_disk *d,
			 const struct gcs_scsi_device *other, char ***options, struct err *err)
{
	const struct scsi_address at = { .controller = other->controller, .lun = other->lun };
	const struct gcs_mapped_disk plain = { .read_only = d->read_only,
					       .ensure_filesystem = true /* don't wait for one */ };
	_cleanup_free_ char *device = NULL;
	struct detection found;
	int r = scsi_device(a->modules, &at, true, &device, err);

	if (r >= 0)
		r = detect(&plain, device, &found, err);
	if (r >= 0)
		r = verify(a, d->mount_path, &at, &found, &device, err);
	if (r >= 0)
		strv_addf(options, "device=%s", device);
	return r;
}

/* Options of a mount: those of its kind, and the disks that the file system spans. */
static CO int mount_options(struct agent *a, const struct gcs_mapped_disk *d,
			    const struct filesystem *fs, char **ret, struct err *err)
{
	_cleanup_strv_ char **options = NULL;

	if (d->n_devices > 0 && !str_eq(fs->name, "erofs"))
		return err_set(err, -ERR_INVALID, "%s does not span several disks", fs->name);
	if (d->read_only && fs->read_only)
		strv_add(&options, fs->read_only);
	if (d->ensure_filesystem && fs->scratch)
		strv_add(&options, fs->scratch);
	for (size_t i = 0; i < d->n_devices; i++) {
		int r = add_device(a, d, &d->devices[i], &options, err);

		if (r < 0)
			return r;
	}
	*ret = options ? strv_join(options, ",") : NULL;
	if (*ret && strlen(*ret) > OPTIONS_MAX) {
		free(TAKE_PTR(*ret));
		return err_set(err, -ERR_EXHAUSTED, "%zu devices do not fit a page of options",
			       d->n_devices);
	}
	return 0;
}

/* Replaces @device by what shall be mounted. */
static CO int prepare_device(struct agent *a, const struct gcs_mapped_disk *d,
			     const struct scsi_address *at, char **device,
			     const struct filesystem **ret, struct err *err)
{
	struct detection found;
	int r;

	if (d->encrypted) {
		*ret = filesystem_of(d->filesystem);
		r = load_filesystem(a, *ret, err);
		return r < 0 ? r : encrypt(a, d, at, device, err);
	}
	r = detect(d, *device, &found, err);
	if (r >= 0)
		r = check_demand(d, &found, err);
	if (r >= 0)
		r = settle_filesystem(d, *device, found.found, ret, err);
	if (r >= 0)
		r = load_filesystem(a, *ret, err);
	return r < 0 ? r : verify(a, d->mount_path, at, &found, device, err);
}

static CO int mount_once_settled(const struct gcs_mapped_disk *d, const struct filesystem *fs,
				 char *device, const char *options, struct err *err)
{
	unsigned long flags = d->read_only ? MS_RDONLY : 0;
	int r = mount_at(device, d->mount_path, fs->name, flags, options, err);

	for (int i = 0; (r == -EINVAL || r == -EIO) && i < MOUNT_TURNS; i++) {
		settle(device);
		r = mount_at(device, d->mount_path, fs->name, flags, options, err);
	}
	return r;
}

static CO int mount_device(struct agent *a, const struct gcs_mapped_disk *d,
			   const struct scsi_address *at, char **device, struct err *err)
{
	const struct filesystem *fs = NULL;
	_cleanup_free_ char *options = NULL;
	int r = prepare_device(a, d, at, device, &fs, err);

	if (r >= 0)
		r = mount_options(a, d, fs, &options, err);
	if (r >= 0)
		r = mount_once_settled(d, fs, *device, options, err);
	if (r < 0)
		return r;
	r = mount_propagation(d->mount_path, d->options, err);
	if (r < 0)
		mount_undo(d->mount_path, true, NULL);
	return r;
}

static CO int mount_disk(struct agent *a, const struct gcs_mapped_disk *d,
			 const struct scsi_address *at, char **device, struct err *err)
{
	/* There may be some left of a Remove that failed. */
	int r = dm_close(a->dm, d->mount_path, err);

	if (r < 0)
		return r;
	r = mount_device(a, d, at, device, err);
	if (r < 0) {
		CO_SHIELD(ROLLBACK_USEC);
		if (dm_corrupted(a->dm, d->mount_path))
			err_wrap(err, r, "the layer does not match its hash tree");
		dm_close(a->dm, d->mount_path, NULL);
	}
	return r;
}

/* ---- requests ---- */

static struct scsi_address address_of(const struct gcs_mapped_disk *d)
{
	return (struct scsi_address){ .controller = d->controller,
				      .lun = d->lun,
				      .partition = d->partition };
}

static int check_path(const struct gcs_mapped_disk *d, struct err *err)
{
	if (!str_empty(d->mount_path) && !mount_path_valid(d->mount_path))
		return err_set(err, -ERR_INVALID, "MountPath '%s' is not a clean absolute path",
			       d->mount_path);
	return 0;
}

static int check(const struct gcs_mapped_disk *d, struct err *err)
{
	const struct filesystem *wanted = filesystem_of(d->filesystem);
	bool mounted = !str_empty(d->mount_path) && !d->block_dev;

	if (!str_empty(d->filesystem) && !wanted)
		return err_set(err, -ERR_INVALID, "unsupported filesystem %s requested for device",
			       d->filesystem);
	if (d->ensure_filesystem && !wanted)
		return err_set(err, -ERR_INVALID, "a filesystem is to be made, but none is named");
	if (d->encrypted && (!d->ensure_filesystem || d->read_only || !mounted))
		return err_set(err, -ERR_INVALID,
			       "an encrypted disk has a key that is made with its filesystem: it "
			       "must be mounted, writable, with EnsureFilesystem");
	if (digest_demanded(d) && (!d->read_only || !mounted || !d->verity->superblock))
		return err_set(err, -ERR_INVALID,
			       "a root digest is demanded of a disk: it must be mounted, "
			       "read-only, with SuperBlock");
	return check_path(d, err);
}

int disk_add(struct agent *a, const struct gcs_mapped_disk *d, struct err *err)
{
	const struct scsi_address at = address_of(d);
	_cleanup_free_ char *device = NULL;
	int r = check(d, err);

	if (r >= 0)
		r = scsi_device(a->modules, &at, true, &device, err);
	if (r >= 0 && !str_empty(d->mount_path))
		r = d->block_dev ? add_block_device(d, device, err)
				 : mount_disk(a, d, &at, &device, err);
	return r < 0 ? err_wrap(err, r, "add disk %u:%u at '%s'", at.controller, at.lun,
				d->mount_path ? d->mount_path : "")
		     : 0;
}

int disk_remove(struct agent *a, const struct gcs_mapped_disk *d, struct err *err)
{
	int r = check_path(d, err);

	if (r < 0 || str_empty(d->mount_path))
		return r;
	if (d->block_dev) {
		if (unlink(d->mount_path) < 0 && errno != ENOENT)
			return err_sys(err, -errno, "remove %s", d->mount_path);
		return 0;
	}
	r = mount_undo(d->mount_path, true, err);
	return r < 0 ? r : dm_close(a->dm, d->mount_path, err);
}
