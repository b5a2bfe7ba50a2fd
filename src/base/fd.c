/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"

int fd_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return -EBADF;
}

int fd_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (!!(flags & O_NONBLOCK) == on)
		return 0;
	return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

int fd_write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_buf_ struct buf b = { 0 };

	for (;;) {
		size_t room = max - b.len < 4096 ? max - b.len + 1 : 4096;
		ssize_t n;

		if (b.len > 65536 && b.len < max)
			room = b.len < max - b.len ? b.len : max - b.len;
		n = read(fd, buf_reserve(&b, room), room);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		b.len += (size_t)n;
		if (b.len > max)
			return -EFBIG;
	}
	*buf_reserve(&b, 1) = '\0';
	if (ret_len)
		*ret_len = b.len;
	*ret = (char *)TAKE_PTR(b.data);
	return 0;
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return fd_read_all(fd, max, ret, ret_len);
}

int file_write(const char *path, const void *data, size_t len, mode_t mode)
{
	_cleanup_free_ char *temp = str_printf("%s.XXXXXX", path);
	_cleanup_fd_ int fd = mkostemp(temp, O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, data, len);
	if (r == 0 && (fchmod(fd, mode) < 0 || rename(temp, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(temp);
	return r;
}

int file_put(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t len = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do
		n = write(fd, text, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int dir_make(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = mem_strdup(path);
	struct stat st;

	if (str_empty(path))
		return -ENOENT;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	/* One that is there may be removed before the next look. A dangling link stays. */
	for (int tries = 0; tries < 8; tries++) {
		if (mkdir(copy, mode) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
		if (stat(copy, &st) == 0)
			return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
		if (errno != ENOENT)
			return -errno;
	}
	return -ENOENT;
}

static int open_how(int dirfd, const char *path, uint64_t flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		/* openat2() refuses a mode that nothing is created with. */
		.mode = flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? mode & 07777 : 0,
		.resolve = resolve,
	};

	for (int tries = 0;; tries++) {
		long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

		if (fd >= 0)
			return (int)fd;
		/* EAGAIN: a rename somewhere raced with the walk through "..". */
		if (errno != EINTR && !(errno == EAGAIN && tries < 64))
			return -errno;
	}
}

int fd_open_in(int dirfd, const char *path, uint64_t how_flags, mode_t mode)
{
	return open_how(dirfd, path, how_flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* A container may leave a tree of any depth: this many levels are held open, what is deeper is
 * moved up to the top. */
enum { DEPTH_MAX = 64 };

/**
 * struct removal - a walk that removes what it meets
 * @level:	the directories from the top down to the one being read
 * @name:	names of these directories in the one above
 * @depth:	number of levels
 * @moved:	how many directories were moved up to the top
 * @error:	first failure
 */
struct removal {
	DIR *level[DEPTH_MAX];
	char *name[DEPTH_MAX];
	unsigned depth;
	unsigned moved;
	int error;
};

static void removal_failed(struct removal *rm, int code)
{
	if (!rm->error)
		rm->error = code;
}

/** removal_enter() - go down into @name below @at, unless it is of another mount or a symlink */
static int removal_enter(struct removal *rm, int at, const char *name)
{
	int fd = open_how(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, RESOLVE_NO_XDEV);
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return -ENOMEM;
	}
	rm->level[rm->depth] = dir;
	rm->name[rm->depth++] = mem_strdup(name);
	return 0;
}

static int removal_move_up(struct removal *rm, int at, const char *name)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		char to[32];

		snprintf(to, sizeof(to), ".deep-%u", rm->moved + tries);
		if (renameat(at, name, dirfd(rm->level[0]), to) == 0) {
			rm->moved += tries + 1;
			return 0;
		}
		if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			return -errno;
	}
	return -EEXIST;
}

static void removal_entry(struct removal *rm, int at, const char *name)
{
	int r;

	if (str_eq(name, ".") || str_eq(name, ".."))
		return;
	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return;
	if (errno != EISDIR && errno != EPERM) {
		removal_failed(rm, -errno);
		return;
	}
	if (rm->depth < DEPTH_MAX)
		r = removal_enter(rm, at, name);
	else
		r = removal_move_up(rm, at, name);
	if (r < 0 && r != -ENOENT)
		removal_failed(rm, r == -ENOTDIR ? -EPERM : r);
}

/**
 * removal_leave() - go up from an emptied directory and remove it; @base is the directory that the
 * top is in
 */
static void removal_leave(struct removal *rm, int base)
{
	int up = rm->depth > 1 ? dirfd(rm->level[rm->depth - 2]) : base;
	char *name = rm->name[--rm->depth];

	closedir(rm->level[rm->depth]);
	if (unlinkat(up, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		removal_failed(rm, -errno);
	free(name);
}

static int remove_tree(int base, const char *name)
{
	/* On the heap, for this may run on the small stack of a coroutine. */
	_cleanup_free_ struct removal *rm = NEW0(struct removal);
	unsigned moved = 0;
	int r;

	r = removal_enter(rm, base, name);
	if (r < 0)
		return r;
	while (rm->depth > 0) {
		int fd = dirfd(rm->level[rm->depth - 1]);
		struct dirent *e = readdir(rm->level[rm->depth - 1]);

		if (e) {
			removal_entry(rm, fd, e->d_name);
		} else if (rm->depth == 1 && rm->moved != moved) {
			moved = rm->moved;
			rewinddir(rm->level[0]);
		} else {
			removal_leave(rm, base);
		}
	}
	return rm->error;
}

int dir_remove(const char *path)
{
	_cleanup_free_ char *copy = mem_strdup(path);
	_cleanup_fd_ int base = -EBADF;
	size_t len = strlen(path);
	const char *name;
	char *slash;
	int r;

	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	if (str_empty(name) || str_eq(name, ".") || str_eq(name, ".."))
		return -EINVAL;
	if (slash)
		*slash = '\0';
	base = open(!slash ? "." : slash == copy ? "/" : copy, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (base < 0)
		return errno == ENOENT ? 0 : -errno;
	if (unlinkat(base, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	r = remove_tree(base, name);
	return r == -ENOENT ? 0 : r;
}

int fd_send(int sock, const void *data, size_t len, int fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	const uint8_t *p = data;

	/* At least one byte must carry the fd. */
	if (!len)
		return -EINVAL;
	while (len > 0) {
		struct iovec iov = { (void *)(uintptr_t)p, len };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		if (fd >= 0) {
			struct cmsghdr *c;

			msg.msg_control = &control;
			msg.msg_controllen = sizeof(control.space);
			c = CMSG_FIRSTHDR(&msg);
			*c = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
			memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		}
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		fd = -EBADF; /* went with the first bytes */
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t fd_recv(int sock, void *data, size_t len, int *ret_fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { data, len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control.space) };
	_cleanup_fd_ int got = -EBADF;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* Padding leaves room for a second one: whatever came beyond the first is closed.
		 * */
		for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (got < 0)
				got = fd;
			else
				fd_close(fd);
		}
	}
	if (ret_fd)
		*ret_fd = TAKE_FD(got);
	return n;
}

/**
 * unix_addr() - address of a socket path
 * @ret_dir:	directory that must stay open while the address is used, when the path is too long
 *		for an address
 */
static int unix_addr(const char *path, struct sockaddr_un *ret, int *ret_dir)
{
	_cleanup_free_ char *dir_path = NULL;
	const char *slash = strrchr(path, '/');
	int dir;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (str_empty(path))
		return -EINVAL;
	if (strlen(path) < sizeof(ret->sun_path)) {
		memcpy(ret->sun_path, path, strlen(path));
		return 0;
	}
	if (!slash || strlen(slash) > 64)
		return -ENAMETOOLONG;
	dir_path = mem_strndup(path, (size_t)(slash - path));
	dir = open(dir_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d%.64s", dir, slash);
	*ret_dir = dir;
	return 0;
}

int sock_unix_listen(const char *path, mode_t mode)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	_cleanup_fd_ int dir = -EBADF;
	struct sockaddr_un addr;
	int r;

	if (fd < 0)
		return -errno;
	r = unix_addr(path, &addr, &dir);
	if (r < 0)
		return r;
	/* The file takes its mode from the socket, less the umask: it is never wider than asked
	 * for. */
	if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (chmod(addr.sun_path, mode) < 0 || listen(fd, SOMAXCONN) < 0) {
		r = -errno;
		unlink(addr.sun_path);
		return r;
	}
	return TAKE_FD(fd);
}

int sock_unix_connect(const char *path)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_fd_ int dir = -EBADF;
	struct sockaddr_un addr;
	int r;

	if (fd < 0)
		return -errno;
	r = unix_addr(path, &addr, &dir);
	if (r < 0)
		return r;
	do
		r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : TAKE_FD(fd);
}
