/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/worker.h"

struct making {
	const char *path;
	int kind;
	int (*setup)(void *arg);
	void *arg;
	int fd;
};

static const char *name_of(int kind)
{
	switch (kind) {
	case CLONE_NEWIPC:
		return "ipc";
	case CLONE_NEWUTS:
		return "uts";
	case CLONE_NEWPID:
		return "pid";
	default:
		return "net";
	}
}

static int free_fn(void *arg)
{
	const char *path = arg;

	umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	return unlink(path) < 0 ? -errno : 0;
}

static int make(struct making *m, const char *here)
{
	if (unshare(m->kind) < 0)
		return -errno;
	m->fd = open(here, O_RDONLY | O_CLOEXEC);
	if (m->fd < 0 || mount(here, m->path, NULL, MS_BIND, NULL) < 0)
		return -errno;
	return m->setup ? m->setup(m->arg) : 0;
}

static int new_fn(void *arg)
{
	struct making *m = arg;
	_cleanup_free_ char *here = str_printf("/proc/thread-self/ns/%s", name_of(m->kind));
	_cleanup_fd_ int home = open(here, O_RDONLY | O_CLOEXEC);
	int r;

	if (home < 0)
		return -errno;
	r = make(m, here);
	if (setns(home, m->kind) < 0) {
		log_error("return from a namespace: %m");
		abort();
	}
	return r;
}

CO int namespace_new(const char *path, int kind, int (*setup)(void *arg), void *arg, int *ret_fd,
		     struct err *err)
{
	struct making m = { .path = path, .kind = kind, .setup = setup, .arg = arg, .fd = -EBADF };
	int r = file_write(path, "", 0, 0444);

	if (r < 0)
		return err_sys(err, r, "make %s", path);
	r = worker_call(new_fn, &m);
	if (r < 0) {
		namespace_free(path);
		fd_close(m.fd);
		return err_sys(err, r, "make %s namespace %s", name_of(kind), path);
	}
	if (ret_fd)
		*ret_fd = m.fd;
	else
		fd_close(m.fd);
	return 0;
}

int namespace_bind(pid_t pid, int kind, const char *path, struct err *err)
{
	_cleanup_free_ char *source = str_printf("/proc/%d/ns/%s", (int)pid, name_of(kind));
	int r = file_write(path, "", 0, 0444);

	if (r < 0)
		return err_sys(err, r, "make %s", path);
	if (mount(source, path, NULL, MS_BIND, NULL) < 0) {
		err_sys(err, -errno, "bind %s to %s", source, path);
		unlink(path);
		return err->code;
	}
	return 0;
}

CO void namespace_free(const char *path)
{
	_cleanup_free_ char *own = mem_strdup(path);
	int r = worker_call(free_fn, own);

	if (r < 0 && r != -ENOENT)
		log_warn("remove %s: %s", path, strerror(-r));
}
