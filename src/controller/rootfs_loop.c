/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rootfs_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "controller/mount_chain.h"
#include "controller/rootfs_host.h"
#include "controller/rootfs_plan.h"

enum { FREE_TRIES = 16 };

/* ---- loop devices ---- */

/* A free device may be taken by another before it is configured: try the next. */
static int attach_to_free(int control, const struct loop_config *config, char **ret)
{
	for (int i = 0; i < FREE_TRIES; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		if (n < 0)
			return -errno;

		_cleanup_free_ char *path = str_printf("/dev/loop%d", n);
		int fd = open(path, O_RDWR | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		if (ioctl(fd, LOOP_CONFIGURE, config) == 0) {
			*ret = TAKE_PTR(path);
			return fd;
		}

		int r = -errno;

		fd_close(fd);
		if (r != -EBUSY)
			return r;
	}
	return -EBUSY;
}

/* Return: an fd that keeps the device until something is mounted from it, or negative errno. */
static int attach(const char *image, bool read_only, char **ret_device, struct err *err)
{
	_cleanup_fd_ int file = open(image, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	_cleanup_fd_ int control = -EBADF;
	struct stat st;

	if (file < 0 || fstat(file, &st) < 0)
		return err_set(err, -ERR_INVALID, "rootfs image %s: %s", image, strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		*ret_device = mem_strdup(image);
		return TAKE_FD(file);
	}
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return err_sys(err, -errno, "open /dev/loop-control");

	struct loop_config config = {
		.fd = (uint32_t)file,
		.info = { .lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0) },
	};
	int r = attach_to_free(control, &config, ret_device);

	return r < 0 ? err_sys(err, r, "loop device for %s", image) : r;
}

/* ---- images ---- */

static void close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fd_close(fds[i]);
	free(fds);
}

/* A disk and those that its file system spans, which it names by device= options. */
static int mount_disk(const struct plan_disk *d, const char *point, struct err *err)
{
	size_t n = strv_len(d->devices), attached = 0;
	int *fds = mem_new0(n + 1, sizeof(*fds));
	_cleanup_free_ char *device = NULL, *data = NULL;
	_cleanup_strv_ char **options = NULL;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		_cleanup_free_ char *other = NULL;

		r = attach(d->devices[i], true, &other, err);
		if (r >= 0) {
			fds[attached++] = r;
			strv_addf(&options, "device=%s", other);
		}
	}
	if (r >= 0)
		r = attach(d->source, d->read_only, &device, err);
	if (r >= 0) {
		fds[attached++] = r;
		data = strv_join(options, ",");
		r = mount(device, point, d->filesystem, d->read_only ? MS_RDONLY : 0, data);
		if (r < 0)
			r = err_sys(err, -errno, "mount rootfs image %s", d->source);
	}
	close_all(fds, attached);
	return r < 0 ? r : 0;
}

static int mount_disks(const struct rootfs_plan *plan, char *const *points, struct err *err)
{
	for (size_t i = 0; i < plan->n_disks; i++) {
		int r = dir_make(points[i], 0700);

		r = r < 0 ? err_sys(err, r, "make %s", points[i])
			  : mount_disk(&plan->disks[i], points[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void unmount_disks(char *const *points)
{
	for (char *const *p = points; p && *p; p++) {
		umount2(*p, MNT_DETACH | UMOUNT_NOFOLLOW);
		rmdir(*p);
	}
}

/* ---- the entry above them ---- */

static int mount_last(const struct container_request *q, char *const *points, const char *target,
		      struct err *err)
{
	unsigned last = (unsigned)q->n_rootfs - 1;
	_cleanup_free_ char *source = NULL;
	_cleanup_strv_ char **options = NULL;
	struct rootfs_mount m = { 0 };
	int r = chain_type(q->rootfs[last].type, &m.type, err);

	if (r >= 0)
		r = chain_expand(q->rootfs[last].source, q->rootfs, points, last, &source, err);
	for (char *const *o = q->rootfs[last].options; r >= 0 && o && *o; o++) {
		_cleanup_free_ char *option = NULL;

		r = chain_expand(*o, q->rootfs, points, last, &option, err);
		if (r >= 0)
			strv_add(&options, option);
	}
	if (r < 0)
		return r;
	m.source = source;
	m.options = options;
	return host_mount(&m, target, err);
}

int loop_mount_chain(const struct rootfs_plan *plan, const struct container_request *request,
		     const char *base, const char *target, struct err *err)
{
	_cleanup_strv_ char **points = NULL;

	for (size_t i = 0; i < plan->n_disks; i++)
		strv_addf(&points, "%s/m%zu", base, i);

	int r = mount_disks(plan, points, err);

	if (r >= 0)
		r = mount_last(request, points, target, err);
	unmount_disks(points);
	return r;
}
