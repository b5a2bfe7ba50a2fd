/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "base/uuid.h"
#include "shim/config.h"
#include "shim/scratch.h"
#include "vmm/cgroup.h"
#include "vmm/netns.h"

enum {
	RECORD_MAX = 4096,
	KEY_LEN = 32,
	KILL_WAIT_MS = 3000,
	LOGGER_WAIT_MS = 1000,
	LOGGERS_MAX = 1024
};

int rundir_init(struct rundir *r, const struct shim_config *config, const char *socket_dir,
		const char *address, const char *namespace, const char *group, struct err *err)
{
	char hash[65];
	_cleanup_free_ char *joined = str_printf("%s/%s/%s", address, namespace, group);

	sha256_hex(joined, strlen(joined), hash);

	_cleanup_free_ char *socket = str_printf("%s/%s", socket_dir, hash);

	if (strlen(socket) >= sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)
		return err_set(err, -ERR_INVALID,
			       "socket directory %s is too long: 40 characters are safe",
			       socket_dir);
	r->key = mem_strndup(hash, KEY_LEN);
	r->id = mem_strdup(group);
	r->namespace = mem_strdup(namespace);
	r->path = str_printf("%s/%s", config->run_dir, r->key);
	r->scratch = str_printf("%s/" SCRATCH_PREFIX "%s", config->scratch_dir, r->key);
	r->socket = TAKE_PTR(socket);
	return 0;
}

void rundir_free(struct rundir *r)
{
	free(r->key);
	free(r->id);
	free(r->namespace);
	free(r->path);
	free(r->socket);
	free(r->scratch);
	*r = (struct rundir){ 0 };
}

static int record(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, name);

	return file_write(path, text, strlen(text), 0600);
}

/* For people: with an end of line. */
static int record_line(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *line = str_printf("%s\n", text);

	return record(dir, name, line);
}

int rundir_create(const struct rundir *r, struct err *err)
{
	int k = rundir_clean(r->path, 0, err);

	if (k < 0)
		return err_wrap(err, k, "clean up after a former sandbox");
	k = dir_make(r->path, 0700);
	if (k >= 0)
		k = record_line(r->path, "id", r->id);
	if (k >= 0)
		k = record_line(r->path, "namespace", r->namespace);
	if (k >= 0)
		k = record(r->path, "socket", r->socket);
	if (k >= 0)
		k = record(r->path, "scratch", r->scratch);
	if (k < 0)
		return err_sys(err, k, "make run directory %s", r->path);
	return 0;
}

uint64_t process_start_time(pid_t pid)
{
	uint64_t start;

	return proc_stat(pid, PROC_START_TIME, &start) < 0 ? 0 : start;
}

int rundir_record_pid(const char *path, const char *name, pid_t pid)
{
	_cleanup_free_ char *file = str_printf("%s.pid", name);
	_cleanup_free_ char *text = str_printf("%d %" PRIu64 "\n", pid, process_start_time(pid));

	return record(path, file, text);
}

/* A pidfd of the recorded process, if it is still that one. */
static int open_recorded(const char *dir, const char *name)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, name);
	_cleanup_free_ char *text = NULL;
	size_t len;
	int pid;
	uint64_t start;

	if (file_read(path, RECORD_MAX, &text, &len) < 0)
		return -ENOENT;
	if (sscanf(text, "%d %" SCNu64, &pid, &start) != 2 || pid <= 1 || pid == getpid())
		return -ESRCH;

	_cleanup_fd_ int fd = pidfd_open(pid, 0);

	/* Compared after the pidfd is held: from here on the pid cannot become another process. */
	if (fd < 0 || process_start_time(pid) != start)
		return -ESRCH;
	return TAKE_FD(fd);
}

static bool ended(int pidfd, int wait_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, wait_ms) > 0;
}

static int end_recorded(const char *dir, const char *name, unsigned grace_ms)
{
	_cleanup_fd_ int pidfd = open_recorded(dir, name);

	if (pidfd < 0)
		return 0;
	if (grace_ms > 0) {
		pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
		if (ended(pidfd, (int)grace_ms))
			return 0;
	}
	pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	return ended(pidfd, KILL_WAIT_MS) ? 0 : -EBUSY;
}

/* The recorded logging drivers that still run, as pidfds; Return: how many */
static size_t open_loggers(const char *dir, int *fds, size_t max)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	if (!d)
		return 0;
	for (struct dirent *e; n < max && (e = readdir(d));) {
		int fd = str_starts(e->d_name, "logger-") ? open_recorded(dir, e->d_name) : -EBADF;

		if (fd >= 0)
			fds[n++] = fd;
	}
	closedir(d);
	return n;
}

/*
 * Their streams have ended with the shim, and they may still be writing what they read: they get
 * some time, and are asked before they are killed.
 */
static int end_loggers(const char *dir)
{
	static const struct {
		int signal;
		int wait_ms;
	} steps[] = { { 0, LOGGER_WAIT_MS },
		      { SIGTERM, LOGGER_WAIT_MS },
		      { SIGKILL, KILL_WAIT_MS } };
	_cleanup_free_ int *fds = mem_new0(LOGGERS_MAX, sizeof(*fds));
	size_t n = open_loggers(dir, fds, LOGGERS_MAX), left = n;

	for (size_t step = 0; step < ARRAY_SIZE(steps) && left > 0; step++) {
		uint64_t end = time_mono() + (uint64_t)steps[step].wait_ms * USEC_PER_MSEC;

		left = 0;
		for (size_t i = 0; i < n; i++)
			pidfd_send_signal(fds[i], steps[step].signal, NULL, 0);
		for (size_t i = 0; i < n; i++) {
			uint64_t now = time_mono();

			left += !ended(fds[i], now < end ? (int)((end - now) / USEC_PER_MSEC) : 0);
		}
	}
	for (size_t i = 0; i < n; i++)
		fd_close(fds[i]);
	return left > 0 ? -EBUSY : 0;
}

/* The taps have gone with QEMU; the first failure is told. */
static int free_cards(const char *dir, struct err *err)
{
	DIR *d = opendir(dir);
	int first = 0;

	if (!d)
		return 0;
	for (struct dirent *e; (e = readdir(d));) {
		_cleanup_free_ char *record = str_printf("%s/%s", dir, e->d_name);
		int r = str_starts(e->d_name, "tap-")
				? netns_untap_recorded(record, first < 0 ? NULL : err)
				: 0;

		first = first < 0 ? first : r;
	}
	closedir(d);
	return first;
}

/* What a record names, if it is an absolute path. */
static char *read_record(const char *dir, const char *name)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, name);
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (file_read(path, RECORD_MAX, &text, &len) < 0 || text[0] != '/')
		return NULL;
	return TAKE_PTR(text);
}

/*
 * Out of the way in one step: a start that comes meanwhile finds it with its records, and ends
 * whoever is removing it, or it finds nothing and makes a new one, which nobody else then touches.
 */
static int remove_run_dir(const char *path)
{
	_cleanup_free_ char *gone = str_printf("%s.gone", path);
	int r = dir_remove(gone);

	if (r < 0)
		return r;
	if (rename(path, gone) < 0 && errno != ENOENT)
		return -errno;
	return dir_remove(gone);
}

int rundir_clean(const char *path, unsigned grace_ms, struct err *err)
{
	static const char *const daemons[] = { "qemu.pid", "vsock.pid" };
	int first = 0;

	/* Where it cannot be, it never was. */
	if (access(path, F_OK) < 0 && errno != ENOENT)
		return errno == ENOTDIR || errno == ELOOP || errno == ENAMETOOLONG
			       ? 0
			       : err_sys(err, -errno, "run directory %s", path);

	/* The shim first: nothing else appears once it is gone. It may have removed everything
	 * itself by then. */
	int r = end_recorded(path, "shim.pid", grace_ms);

	if (r < 0)
		first = err_sys(err, r, "end the shim of %s", path);
	for (size_t i = 0; i < ARRAY_SIZE(daemons); i++) {
		r = end_recorded(path, daemons[i], 0);
		if (r < 0 && first == 0)
			first = err_sys(err, r, "end %s of %s", daemons[i], path);
	}
	/* Those who do not end are in it, and not somebody else. */
	if (first == 0)
		first = cgroup_remove(path, err);
	r = end_loggers(path);
	if (r < 0 && first == 0)
		first = err_sys(err, r, "end the logging drivers of %s", path);
	r = free_cards(path, first < 0 ? NULL : err);
	if (r < 0 && first == 0)
		first = r;

	_cleanup_free_ char *socket = read_record(path, "socket");
	_cleanup_free_ char *scratch = read_record(path, "scratch");

	if (socket && unlink(socket) < 0 && errno != ENOENT && first == 0)
		first = err_sys(err, -errno, "remove socket %s", socket);
	r = scratch ? scratch_remove(scratch) : 0;
	if (r < 0 && first == 0)
		first = err_sys(err, r, "remove scratch images %s", scratch);
	/* The records go last, and only when nothing that they name is left. */
	r = first == 0 ? remove_run_dir(path) : 0;
	if (r < 0 && r != -EROFS)
		first = err_sys(err, r, "remove run directory %s", path);
	return first;
}
