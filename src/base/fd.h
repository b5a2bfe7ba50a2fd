/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_FD_H
#define LCOW_BASE_FD_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/mem.h"

struct err;

/* An empty fd is -EBADF. Every fd is born O_CLOEXEC. */

#define TAKE_FD(fd) \
	({ \
		int taken_ = (fd); \
		(fd) = -EBADF; \
		taken_; \
	})

/**
 * fd_close() - close @fd if it is one, errno kept
 * Return: -EBADF always: "fd = fd_close(fd)"
 */
int fd_close(int fd);
static inline void fd_closep(int *fd)
{
	*fd = fd_close(*fd);
}
#define _cleanup_fd_ _cleanup_(fd_closep)

/** fd_nonblock() - set or clear O_NONBLOCK; Return: 0 or negative errno */
int fd_nonblock(int fd, bool on);

/** fd_write_all() - write all bytes to a blocking fd; Return: 0 or negative errno */
int fd_write_all(int fd, const void *data, size_t len);

/**
 * fd_read_all() - read a blocking fd to its end
 * @max:	-EFBIG when there is more
 * @ret:	bytes, NUL-terminated after @ret_len; the caller frees them
 * Return: 0 or negative errno
 */
int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len);

/** file_read() - read a whole file; see fd_read_all() */
int file_read(const char *path, size_t max, char **ret, size_t *ret_len);

/**
 * file_write() - create or replace a file's content in one rename, mode @mode; Return: 0 or
 * negative errno
 */
int file_write(const char *path, const void *data, size_t len, mode_t mode);

/**
 * file_put() - write a string to an existing file with one write(2), as sysfs and cgroupfs want it
 */
int file_put(const char *path, const char *text);

/** dir_make() - mkdir -p; existing is fine; Return: 0 or negative errno */
int dir_make(const char *path, mode_t mode);

/**
 * dir_remove() - rm -rf that never follows a symlink and never crosses into another mount; absent
 * is success
 * Return: 0 or negative errno of the first failure (it goes on)
 */
int dir_remove(const char *path);

/**
 * fd_open_in() - open a path that came from outside below @dirfd
 * @how_flags:	open(2) flags, O_CLOEXEC is added
 * @mode:	with O_CREAT
 *
 * openat2() with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS.
 *
 * Return: fd or negative errno
 */
int fd_open_in(int dirfd, const char *path, uint64_t how_flags, mode_t mode);

/**
 * fd_send() - send @len bytes and one fd (SCM_RIGHTS) over a unix socket; Return: 0 or negative
 * errno
 */
int fd_send(int sock, const void *data, size_t len, int fd);
/**
 * fd_recv() - receive up to @len bytes and at most one fd; Return: bytes received (>= 0) or
 * negative errno
 */
ssize_t fd_recv(int sock, void *data, size_t len, int *ret_fd);

/**
 * sock_unix_listen() - unix stream socket bound to @path (mode @mode), listening; non-blocking;
 * Return: fd or negative errno
 */
int sock_unix_listen(const char *path, mode_t mode);
/** sock_unix_connect() - connected blocking unix stream socket; Return: fd or negative errno */
int sock_unix_connect(const char *path);

#endif
