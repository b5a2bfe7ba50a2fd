/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/worker.h"
#include "vmm/vmm_priv.h"

int vmm_namespace_setup(struct err *err)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_sys(err, -errno, "make a mount namespace");
	/* What the host mounts and unmounts is seen here, nothing goes back. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_sys(err, -errno, "make the mount namespace a slave of the host's");
	return 0;
}

int shares_init(const char *path, struct err *err)
{
	int r = dir_make(path, 0755);

	if (r < 0)
		return err_sys(err, r, "make %s", path);
	if (mount(path, path, NULL, MS_BIND, NULL) < 0)
		return err_sys(err, -errno, "bind %s", path);
	/* First out of the host's peer group, then a group of its own, of which QEMU's namespace
	 * gets a slave. */
	if (mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0 ||
	    mount(NULL, path, NULL, MS_SHARED, NULL) < 0) {
		r = err_sys(err, -errno, "share the mounts below %s", path);
		umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
		return r;
	}
	return 0;
}

void shares_fini(const char *path)
{
	if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		log_warn("unmount %s: %m", path);
	dir_remove(path);
}

/**
 * struct share - a share to make or to take away, on a worker
 * @path:	host directory
 * @only:	see vmm_share_add()
 * @target:	<export root>/<name>
 */
struct share {
	const char *path;
	const char *only;
	bool read_only;
	const char *target;
	struct err *err;
};

/**
 * tree_take() - a detached copy of what lies at @fd, with its flags set before anybody can see it;
 * Return: fd or negative errno
 */
static int tree_take(int fd, bool recursive, bool read_only)
{
	struct mount_attr attr = {
		.attr_set =
			MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0),
		.propagation = MS_PRIVATE,
	};
	unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
	_cleanup_fd_ int tree = -EBADF;

	tree = open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
	if (tree < 0)
		return -errno;
	if (mount_setattr(tree, "", flags, &attr, sizeof(attr)) < 0)
		return -errno;
	return TAKE_FD(tree);
}

static int tree_put(int tree, int fd)
{
	return move_mount(tree, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

static int put_directory(const struct share *s, int source)
{
	_cleanup_fd_ int target = open(s->target, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int tree = -EBADF;

	if (target < 0)
		return err_sys(s->err, -errno, "open %s", s->target);
	tree = tree_take(source, true, s->read_only);
	if (tree < 0)
		return err_sys(s->err, tree, "take %s", s->path);

	int r = tree_put(tree, target);

	return r < 0 ? err_sys(s->err, r, "mount %s", s->path) : 0;
}

/** put_file() - a read-only directory in which one file is mounted */
static int put_file(const struct share *s, int source)
{
	_cleanup_fd_ int file = openat(source, s->only, O_PATH | O_NOFOLLOW | O_CLOEXEC),
			 dir = -EBADF, inner = -EBADF;
	_cleanup_fd_ int point = -EBADF, tree = -EBADF, cover = -EBADF;
	struct stat st;
	int r;

	if (file < 0 || fstat(file, &st) < 0)
		return err_sys(s->err, -errno, "open %s/%s", s->path, s->only);
	if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode))
		return err_set(s->err, -ERR_INVALID, "%s/%s is a %s, not a file", s->path, s->only,
			       S_ISDIR(st.st_mode) ? "directory" : "symbolic link");
	dir = open(s->target, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_sys(s->err, -errno, "open %s", s->target);
	inner = openat(dir, s->only, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (inner < 0)
		return err_sys(s->err, -errno, "make %s/%s", s->target, s->only);
	tree = tree_take(file, false, s->read_only);
	if (tree < 0)
		return err_sys(s->err, tree, "take %s/%s", s->path, s->only);
	/* The guest must not fill the run directory with files of its own. */
	cover = tree_take(dir, false, true);
	r = cover < 0 ? cover : tree_put(cover, dir);
	if (r < 0)
		return err_sys(s->err, r, "cover %s", s->target);
	point = openat(cover, s->only, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	r = point < 0 ? -errno : tree_put(tree, point);
	return r < 0 ? err_sys(s->err, r, "mount %s/%s", s->path, s->only) : 0;
}

/** share_undo() - unmount all that is there and remove the mount point; absent is success */
static int share_undo(void *arg)
{
	const struct share *s = arg;
	int r;

	while (umount2(s->target, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	if (errno != EINVAL && errno != ENOENT)
		return err_sys(s->err, -errno, "unmount %s", s->target);
	r = dir_remove(s->target);
	return r < 0 ? err_sys(s->err, r, "remove %s", s->target) : 0;
}

static int share_do(void *arg)
{
	struct share *s = arg;
	_cleanup_fd_ int source = open(s->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (source < 0)
		return err_sys(s->err, -errno, "open %s", s->path);
	if (mkdir(s->target, 0755) < 0 && errno == EEXIST)
		return err_set(s->err, -ERR_EXISTS, "%s exists", s->target);
	if (access(s->target, F_OK) < 0)
		return err_sys(s->err, -errno, "make %s", s->target);
	r = s->only ? put_file(s, source) : put_directory(s, source);
	if (r < 0)
		share_undo(&(struct share){ .target = s->target });
	return r;
}

static int name_check(const char *name, struct err *err)
{
	uint64_t n;

	/* A plain decimal number: no sign, no dot, and one spelling only. */
	if (str_empty(name) || strspn(name, "0123456789") != strlen(name) ||
	    (name[0] == '0' && name[1]) || str_u64(name, &n) < 0)
		return err_set(err, -ERR_INVALID, "share: \"%s\" is no decimal number", name);
	return 0;
}

CO int vmm_share_add(struct vmm *v, const char *name, const char *path, const char *only,
		     bool read_only, struct err *err)
{
	_cleanup_free_ char *target = NULL;
	struct share s = { .path = path, .only = only, .read_only = read_only, .err = err };
	int r = name_check(name, err);

	if (r < 0)
		return r;
	if (!vmm_running(v))
		return err_set(err, -ERR_UNAVAILABLE, "share %s: the VM is not running", name);
	if (!v->boot.virtio_shares)
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "share %s: this guest takes no shares over virtio-9p", name);
	if (only &&
	    (str_empty(only) || strchr(only, '/') || str_eq(only, ".") || str_eq(only, "..")))
		return err_set(err, -ERR_INVALID, "share %s: \"%s\" is no file name", name, only);
	s.target = target = str_printf("%s/%s", v->shares, name);
	r = worker_call(share_do, &s);
	return r < 0 ? err_wrap(err, r, "share %s", name) : 0;
}

CO int vmm_share_remove(struct vmm *v, const char *name, struct err *err)
{
	_cleanup_free_ char *target = NULL;
	struct share s = { .err = err };
	int r = name_check(name, err);

	if (r < 0)
		return r;
	s.target = target = str_printf("%s/%s", v->shares, name);
	r = worker_call(share_undo, &s);
	return r < 0 ? err_wrap(err, r, "share %s", name) : 0;
}
