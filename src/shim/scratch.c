/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#define IMAGE_SUFFIX ".img"

/* Tries are 10 ms apart; containerd gives a clean-up 5 s in all. */
enum { KEY_LEN = 32, TRY_NSEC = 10 * 1000 * 1000, OPEN_TRIES = 500, REMOVE_TRIES = 200 };

/* ---- a sandbox's own ---- */

/* Whether what @fd was opened as still is at @name, below @dir. */
static bool is_same(int fd, int dir, const char *name)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* Return: 0, -EAGAIN when somebody else has the lock, or when @name is another directory by now;
 * or another negative errno */
static int open_locked(int dir, const char *name, int *ret_fd)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (!is_same(fd, dir, name))
		return -EAGAIN;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A file system without locks, which no sweep touches for want of one. */
static bool has_no_locks(int r)
{
	return r == -EBADF || r == -ENOLCK || r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL;
}

/* A path that nothing can be at: with a file above it, on a file system that cannot be written. */
static bool is_gone(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -EROFS || r == -ELOOP || r == -ENAMETOOLONG;
}

static void wait_a_little(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = TRY_NSEC }, NULL);
}

int scratch_open(const char *path, int *ret_lock, struct err *err)
{
	int r = -EAGAIN;

	/* A sweep holds the lock while it removes; its directory is gone when it lets go. */
	for (int i = 0; i < OPEN_TRIES && (r == -EAGAIN || r == -ENOENT); i++) {
		if (i > 0)
			wait_a_little();
		r = dir_make(path, 0700);
		if (r < 0)
			break;
		r = open_locked(AT_FDCWD, path, ret_lock);
	}
	if (has_no_locks(r)) {
		log_info("scratch_dir: %s cannot be locked: %s", path, strerror(-r));
		*ret_lock = -EBADF;
		return 0;
	}
	if (r == -EAGAIN)
		return err_set(err, -ERR_STATE,
			       "scratch_dir: %s is in use by another sandbox of this name", path);
	return r < 0 ? err_sys(err, r, "scratch_dir: make %s", path) : 0;
}

int scratch_remove(const char *path)
{
	_cleanup_fd_ int lock = -EBADF;
	int r = -EAGAIN;

	for (int i = 0; i < REMOVE_TRIES && r == -EAGAIN; i++) {
		if (i > 0)
			wait_a_little();
		r = open_locked(AT_FDCWD, path, &lock);
	}
	if (r < 0 && !has_no_locks(r))
		return is_gone(r) ? 0 : r == -EAGAIN ? -EBUSY : r;
	r = dir_remove(path);
	return is_gone(r) ? 0 : r;
}

/* ---- those of nobody ---- */

enum owner { FOREIGN, OURS, OURS_OF_OLD };

static enum owner owner_of(const char *name)
{
	static const char digits[] = "0123456789abcdef";
	bool prefixed = str_starts(name, SCRATCH_PREFIX);
	const char *key = prefixed ? name + strlen(SCRATCH_PREFIX) : name;

	if (strlen(key) != KEY_LEN || strspn(key, digits) != KEY_LEN)
		return FOREIGN;
	return prefixed ? OURS : OURS_OF_OLD;
}

static bool is_image(int dir, const char *name, struct stat *st)
{
	size_t len = strlen(name);

	return len > strlen(IMAGE_SUFFIX) &&
	       str_eq(name + len - strlen(IMAGE_SUFFIX), IMAGE_SUFFIX) &&
	       fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode);
}

/* QEMU locks bytes of the images that it writes to. */
static bool is_in_use(int dir, const char *name)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return true;
	return lock.l_type != F_UNLCK;
}

static DIR *list(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		fd_close(fd);
	return d;
}

/* Return: 1 when one of the images is in use, else 0 or negative errno */
static int images_in_use(int dir)
{
	DIR *d = list(dir);
	struct stat st;
	int r = 0;

	if (!d)
		return -errno;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		r = is_image(dir, e->d_name, &st) && is_in_use(dir, e->d_name);
	closedir(d);
	return r;
}

static int remove_images(int dir, struct scratch_swept *swept)
{
	DIR *d = list(dir);
	struct stat st;
	int r = 0;

	if (!d)
		return -errno;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		if (!is_image(dir, e->d_name, &st))
			continue;
		if (unlinkat(dir, e->d_name, 0) == 0)
			swept->bytes += (uint64_t)st.st_blocks * 512;
		else if (errno != ENOENT)
			r = -errno;
	}
	closedir(d);
	return r;
}

/*
 * Return: 1 when @name was removed, 0 when it stays, or negative errno. Nobody removes it who has
 * no lock on it, so it is the same one until the end.
 */
static int sweep_one(int top, const char *name, enum owner owner, time_t booted,
		     struct scratch_swept *swept)
{
	_cleanup_fd_ int dir = -EBADF;
	struct stat st;
	/* Held until the directory is gone: whoever makes it anew comes after that. */
	int r = open_locked(top, name, &dir);

	if (r < 0)
		return r == -EAGAIN || is_gone(r) || has_no_locks(r) ? 0 : r;
	if (fstat(dir, &st) < 0)
		return -errno;
	if (owner == OURS_OF_OLD && st.st_ctime >= booted)
		return 0;

	r = images_in_use(dir);
	if (r != 0)
		return r < 0 ? r : 0;
	r = remove_images(dir, swept);
	if (r < 0)
		return r;
	if (unlinkat(top, name, AT_REMOVEDIR) == 0)
		return 1;
	return errno == ENOENT || errno == ENOTEMPTY ? 0 : -errno;
}

void scratch_sweep(const char *scratch_dir, time_t booted, uint64_t until,
		   struct scratch_swept *ret)
{
	DIR *d = opendir(scratch_dir);

	*ret = (struct scratch_swept){ 0 };
	if (!d) {
		ret->failed = errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
		return;
	}
	for (struct dirent *e; time_mono() < until && (e = readdir(d));) {
		enum owner owner = owner_of(e->d_name);
		int r = owner == FOREIGN ? 0 : sweep_one(dirfd(d), e->d_name, owner, booted, ret);

		if (r > 0)
			ret->directories++;
		else if (r < 0 && ret->failed == 0)
			ret->failed = r;
	}
	closedir(d);
}

void scratch_sweep_host(const char *scratch_dir, uint64_t until, struct scratch_swept *ret)
{
	struct timespec now = { 0 }, up = { 0 };

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	scratch_sweep(scratch_dir, now.tv_sec - up.tv_sec, until, ret);
}

void scratch_log(const char *scratch_dir, const struct scratch_swept *swept)
{
	if (swept->directories > 0)
		log_info("scratch_dir %s: removed what %u ended sandboxes had left, %" PRIu64
			 " KiB",
			 scratch_dir, swept->directories, swept->bytes >> 10);
	if (swept->failed < 0)
		log_warn("scratch_dir %s: remove what ended sandboxes have left: %s", scratch_dir,
			 strerror(-swept->failed));
}
