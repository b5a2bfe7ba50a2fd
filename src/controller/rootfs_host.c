/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rootfs_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "controller/container.h"
#include "controller/rootfs_plan.h"
#include "loop/child.h"

#define LOWERDIR "lowerdir="

enum { MOUNT_DATA_MAX = 4095, ROOM_BYTES = 64 << 10 };

/* ---- mounts ---- */

static const struct mount_flag {
	const char *name;
	unsigned long flag;
} mount_flags[] = {
	{ "bind", MS_BIND },
	{ "rbind", MS_BIND | MS_REC },
	{ "ro", MS_RDONLY },
	{ "rw", 0 },
	{ "nosuid", MS_NOSUID },
	{ "nodev", MS_NODEV },
	{ "noexec", MS_NOEXEC },
	{ "noatime", MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME },
	{ "relatime", MS_RELATIME },
	{ "defaults", 0 },
	{ "sync", MS_SYNCHRONOUS },
};

static bool take_flag(const char *option, unsigned long *flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(mount_flags); i++) {
		if (str_eq(option, mount_flags[i].name)) {
			*flags |= mount_flags[i].flag;
			return true;
		}
	}
	return false;
}

static int options_of(const struct rootfs_mount *m, unsigned long *ret_flags, char ***ret_data,
		      struct err *err)
{
	*ret_flags = 0;
	for (char *const *o = m->options; o && *o; o++) {
		if (str_starts(*o, "X-containerd."))
			return err_set(err, -ERR_INVALID, "rootfs mount option %s is not supported",
				       *o);
		if (!take_flag(*o, ret_flags))
			strv_add(ret_data, *o);
	}
	return 0;
}

static void close_all(struct buf *fds)
{
	const int *fd = (const int *)(const void *)fds->data;

	for (size_t i = 0; i < fds->len / sizeof(*fd); i++)
		fd_close(fd[i]);
	buf_free(fds);
}

/* "lowerdir=" with the directories' fds instead of their paths. */
static int name_by_fds(char **option, struct buf *fds, struct err *err)
{
	_cleanup_strv_ char **paths = strv_split(*option + strlen(LOWERDIR), ":");
	_cleanup_buf_ struct buf names = { 0 };

	/* The overlay's syntax has more to it, none of which containerd writes. */
	if (strchr(*option, '\\') || strstr(*option, "::"))
		return err_set(err, -ERR_INVALID,
			       "rootfs: over a page of lower directories, with '\\' or '::'");
	buf_addf(&names, LOWERDIR);
	for (char **p = paths; p && *p; p++) {
		int fd = open(*p, O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			return err_set(err, -ERR_INVALID, "rootfs: layer %s: %s", *p,
				       strerror(errno));
		buf_add(fds, &fd, sizeof(fd));
		buf_addf(&names, "%s/proc/self/fd/%d", p == paths ? "" : ":", fd);
	}
	free(*option);
	*option = mem_strndup((char *)names.data, names.len);
	return 0;
}

/* mount(2) copies one page of options and silently cuts the rest: layers would be missing. */
static int fit_page(const struct rootfs_mount *m, char **options, struct buf *fds, char **ret,
		    struct err *err)
{
	_cleanup_free_ char *data = strv_join(options, ",");

	for (char **o = options; o && *o && strlen(data) > MOUNT_DATA_MAX; o++) {
		if (!str_starts(*o, LOWERDIR))
			continue;

		int r = name_by_fds(o, fds, err);

		if (r < 0)
			return r;
		free(data);
		data = strv_join(options, ",");
		break;
	}
	if (strlen(data) > MOUNT_DATA_MAX)
		return err_set(err, -ERR_INVALID,
			       "rootfs: the options of the %s mount are over a page: too many "
			       "layers",
			       m->type);
	*ret = TAKE_PTR(data);
	return 0;
}

int host_mount(const struct rootfs_mount *m, const char *target, struct err *err)
{
	_cleanup_(close_all) struct buf fds = { 0 };
	_cleanup_strv_ char **options = NULL;
	_cleanup_free_ char *data = NULL;
	unsigned long flags;
	int r = options_of(m, &flags, &options, err);

	if (r >= 0)
		r = fit_page(m, options, &fds, &data, err);
	if (r < 0)
		return r;
	if (str_eq(m->type, "bind"))
		flags |= MS_BIND;
	if (mount(m->source, target, m->type, flags & ~(flags & MS_BIND ? MS_RDONLY : 0ul), data) <
	    0)
		return err_set(err, errno == ENOENT || errno == ENOTDIR ? -ERR_INVALID : -errno,
			       "mount rootfs (%s of %s): %s", m->type, m->source, strerror(errno));
	return 0;
}

/* ---- images ---- */

static int make_sparse(const char *path, uint64_t bytes, mode_t mode, struct err *err)
{
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	if (fd < 0)
		return err_sys(err, -errno, "make image %s", path);
	if (ftruncate(fd, (off_t)bytes) < 0) {
		int r = -errno;

		unlink(path);
		return err_sys(err, r, "size image %s", path);
	}
	return 0;
}

static bool has_bytes(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > 0);
}

/*
 * Whether it was for want of room that mkfs failed, which only its words would tell: then there is
 * none for a little more, either. The image is of no use any more. Return: 0 or -ENOSPC
 */
static int check_room(const char *path)
{
	_cleanup_free_ char *zeros = mem_new0(1, ROOM_BYTES);
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (end < ROOM_BYTES)
		return 0;

	ssize_t n = pwrite(fd, zeros, ROOM_BYTES, end - ROOM_BYTES);

	/* What is written in part met the end of the room. */
	return (n >= 0 && n < ROOM_BYTES) || (n < 0 && (errno == ENOSPC || errno == EDQUOT))
		       ? -ENOSPC
		       : 0;
}

/* Return: 0; -ENOSPC; -ENOENT when there is no such program; or another negative code */
static CO int run_mkfs(const char *path, const char *const *argv, struct err *err)
{
	int r = child_run(argv, NULL, NULL, err);

	if (r > 0)
		r = check_room(path) < 0 ? err_sys(err, -ENOSPC, "%s", argv[0]) : -EIO;
	return r;
}

static CO int format(const char *path, const struct plan_mkfs *mkfs, struct err *err)
{
	_cleanup_free_ char *program = str_printf("mkfs.%s", mkfs->filesystem);
	_cleanup_free_ char *uuid = mkfs->uuid ? str_printf("uuid=%s", mkfs->uuid) : NULL;
	bool xfs = str_eq(mkfs->filesystem, "xfs");
	const char *argv[10] = { program, "-q", xfs ? "-f" : "-F" };
	size_t n = 3;

	if (!xfs) {
		argv[n++] = "-E";
		argv[n++] = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
	}
	if (uuid) {
		argv[n++] = xfs ? "-m" : "-U";
		argv[n++] = xfs ? uuid : mkfs->uuid;
	}
	argv[n++] = path;

	return run_mkfs(path, argv, err);
}

CO int host_make_image(const char *path, const struct plan_mkfs *mkfs, struct err *err)
{
	_cleanup_free_ char *fresh = str_printf("%s.lcow-new", path);
	int r;

	if (has_bytes(path))
		return 0;
	/* One of a shim that was killed on the way. */
	unlink(fresh);
	r = make_sparse(fresh, mkfs->bytes, 0640, err);
	if (r >= 0)
		r = format(fresh, mkfs, err);
	if (r >= 0 && rename(fresh, path) < 0)
		r = err_sys(err, -errno, "rename %s", fresh);
	if (r < 0)
		unlink(fresh);
	return r < 0 ? err_wrap(err, r, "make rootfs image %s", path) : 0;
}

int host_check_raw(const char *path, struct err *err)
{
	static const char signature[8] = { 'v', 'h', 'd', 'x', 'f', 'i', 'l', 'e' };
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char head[sizeof(signature)];

	if (fd < 0 || pread(fd, head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head, signature, sizeof(head)) != 0)
		return 0;
	return err_set(err, -ERR_INVALID, "%s is a VHDX image: only raw images are supported",
		       path);
}

CO int host_make_scratch(const char *path, uint64_t bytes, bool blank, struct err *err)
{
	const char *const argv[] = { "mkfs.ext4",
				     "-q",
				     "-F",
				     "-E",
				     "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
				     "-O",
				     "^has_journal",
				     "-m",
				     "0",
				     path,
				     NULL };
	struct err mkfs = { 0 };
	int r = make_sparse(path, bytes, 0600, err);

	if (r < 0 || blank)
		return r;
	r = run_mkfs(path, argv, &mkfs);
	if (r >= 0)
		return 0;
	if (r != -ETIMEDOUT && r != -ECANCELED && r != -ENOSPC) {
		log_info("scratch is left for the guest to format: %s", mkfs.text);
		/* As it was, lest the guest takes it for one that is formatted. */
		if (truncate(path, 0) == 0 && truncate(path, (off_t)bytes) == 0)
			return 0;
		r = -errno;
	}
	unlink(path);
	return err_sys(err, r, "scratch_dir: format scratch image %s", path);
}
