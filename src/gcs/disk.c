/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/module.h"
#include "gcs/mounts.h"
#include "gcs/scsi.h"
#include "loop/child.h"
#include "loop/worker.h"
#include "wire/gcs.h"

enum { LOOK_AGAIN_USEC = 500000, OPTIONS_MAX = 4096 - 1 };

/*
 * What can be mounted. A read-only mount must not replay a journal, since the disk may not be
 * written at all. The scratch needs no journal either: it dies with its VM.
 */
static const struct filesystem {
	const char *name;
	bool crc32c; /* asks the crypto layer for it, by a name that no module has */
	const char *read_only; /* options of a read-only mount */
	const char *mkfs[8];
} filesystems[] = {
	{ "ext4",
	  true,
	  "noload",
	  { "mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard" } },
	{ "erofs", true, NULL, { NULL } },
	{ "xfs", true, "norecovery", { "mkfs.xfs", "-q", "-f" } },
	{ "squashfs", false, NULL, { NULL } },
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

struct detection {
	const char *device;
	const char *found;
};

static int detect_fn(void *arg)
{
	struct detection *d = arg;
	_cleanup_free_ unsigned char *head = mem_new0(1, DISK_HEAD);
	_cleanup_fd_ int fd = open(d->device, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, head, DISK_HEAD, 0);
	if (n < 0)
		return -errno;
	d->found = disk_filesystem(head, (size_t)n);
	return 0;
}

static int detect(const char *device, const char **ret, struct err *err)
{
	struct detection d = { .device = device };
	int r = worker_call(detect_fn, &d);

	if (r < 0)
		return err_sys(err, r, "read %s", device);
	*ret = d.found;
	return 0;
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
static int settle_filesystem(const struct gcs_mapped_disk *d, const char *device,
			     const struct filesystem **ret, struct err *err)
{
	const struct filesystem *wanted = filesystem_of(d->filesystem);
	const char *found = NULL;
	int r;

	if (!str_empty(d->filesystem) && !wanted)
		return err_set(err, -ERR_INVALID, "unsupported filesystem %s requested for device",
			       d->filesystem);
	r = detect(device, &found, err);
	if (r < 0)
		return r;
	if (!found && !d->ensure_filesystem) {
		/* Somebody may just be writing it. */
		co_sleep(LOOK_AGAIN_USEC);
		r = detect(device, &found, err);
		if (r < 0)
			return r;
	}
	if (d->ensure_filesystem) {
		if (!wanted)
			return err_set(err, -ERR_INVALID,
				       "a filesystem is to be made, but none is named");
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

/* Options of a mount: those of its kind, and the disks that the file system spans. */
static int mount_options(struct agent *a, const struct gcs_mapped_disk *d,
			 const struct filesystem *fs, char **ret, struct err *err)
{
	_cleanup_strv_ char **options = NULL;

	if (d->n_devices > 0 && !str_eq(fs->name, "erofs"))
		return err_set(err, -ERR_INVALID, "%s does not span several disks", fs->name);
	if (d->read_only && fs->read_only)
		strv_add(&options, fs->read_only);
	for (size_t i = 0; i < d->n_devices; i++) {
		const struct scsi_address at = { .controller = d->devices[i].controller,
						 .lun = d->devices[i].lun };
		_cleanup_free_ char *device = NULL;
		int r = scsi_device(a->modules, &at, true, &device, err);

		if (r < 0)
			return r;
		strv_addf(&options, "device=%s", device);
	}
	*ret = options ? strv_join(options, ",") : NULL;
	if (*ret && strlen(*ret) > OPTIONS_MAX) {
		free(TAKE_PTR(*ret));
		return err_set(err, -ERR_EXHAUSTED, "%zu devices do not fit a page of options",
			       d->n_devices);
	}
	return 0;
}

static int mount_disk(struct agent *a, const struct gcs_mapped_disk *d, const char *device,
		      struct err *err)
{
	const struct filesystem *fs = NULL;
	_cleanup_free_ char *options = NULL;
	int r = settle_filesystem(d, device, &fs, err);

	if (r >= 0)
		r = load_filesystem(a, fs, err);
	if (r >= 0)
		r = mount_options(a, d, fs, &options, err);
	if (r >= 0)
		r = mount_at(device, d->mount_path, fs->name, d->read_only ? MS_RDONLY : 0, options,
			     err);
	if (r < 0)
		return r;
	r = mount_propagation(d->mount_path, d->options, err);
	if (r < 0)
		mount_undo(d->mount_path, true, NULL);
	return r;
}

static struct scsi_address address_of(const struct gcs_mapped_disk *d)
{
	return (struct scsi_address){ .controller = d->controller,
				      .lun = d->lun,
				      .partition = d->partition };
}

static int check(const struct gcs_mapped_disk *d, struct err *err)
{
	if (d->encrypted)
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "encrypted disks are not supported by this guest");
	if (!str_empty(d->mount_path) && !mount_path_valid(d->mount_path))
		return err_set(err, -ERR_INVALID, "MountPath '%s' is not a clean absolute path",
			       d->mount_path);
	return 0;
}

int disk_add(struct agent *a, const struct gcs_mapped_disk *d, struct err *err)
{
	const struct scsi_address at = address_of(d);
	_cleanup_free_ char *device = NULL;
	int r = check(d, err);

	if (r >= 0)
		r = scsi_device(a->modules, &at, true, &device, err);
	if (r >= 0 && !str_empty(d->mount_path))
		r = d->block_dev ? add_block_device(d, device, err) : mount_disk(a, d, device, err);
	return r < 0 ? err_wrap(err, r, "add disk %u:%u at '%s'", at.controller, at.lun,
				d->mount_path ? d->mount_path : "")
		     : 0;
}

int disk_remove(struct agent *a, const struct gcs_mapped_disk *d, struct err *err)
{
	int r = check(d, err);

	if (r < 0 || str_empty(d->mount_path))
		return r;
	if (d->block_dev) {
		if (unlink(d->mount_path) < 0 && errno != ENOENT)
			return err_sys(err, -errno, "remove %s", d->mount_path);
		return 0;
	}
	return mount_undo(d->mount_path, true, err);
}
