/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "shim/args.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/config.h"
#include "shim/rundir.h"

enum { STDIN_MAX = 4 << 20, READY_WAIT_MS = 20000 };

/**
 * struct starting - what `start` knows and holds
 * @lock:	one start at a time for a group
 */
struct starting {
	const struct shim_args *args;
	struct shim_config config;
	struct bootstrap boot;
	struct rundir dir;
	char *cwd;
	char *group;
	int lock;
	int socket;
};

static void starting_free(struct starting *s)
{
	shim_config_free(&s->config);
	bootstrap_free(&s->boot);
	rundir_free(&s->dir);
	free(s->cwd);
	free(s->group);
	fd_close(s->socket);
	fd_close(s->lock);
}

static int read_request(struct starting *s, struct err *err)
{
	_cleanup_free_ char *input = NULL;
	size_t len = 0;
	int r = fd_read_all(STDIN_FILENO, STDIN_MAX, &input, &len);

	if (r < 0 && r != -EBADF)
		return err_sys(err, r, "read standard input");
	r = bootstrap_parse(s->args, input, len, &s->boot, err);
	if (r < 0)
		return r;
	s->cwd = getcwd(NULL, 0);
	if (!s->cwd)
		return err_sys(err, -errno, "current directory");
	if (!bundle_exists(s->cwd))
		return err_set(err, -ERR_INVALID,
			       "%s is no bundle: there is neither config.json nor containerd's log "
			       "in it. containerd runs start; to run a container, use ctr run "
			       "--runtime io.containerd.lcow.v2",
			       s->cwd);
	s->group = bundle_group(s->cwd, s->args->id);
	return shim_config_host(&s->config, err);
}

static int name_directories(struct starting *s, struct err *err)
{
	const char *dir = s->boot.socket_dir ? s->boot.socket_dir : getenv("SHIM_SOCKET_DIR");
	const char *address = s->args->address ? s->args->address : "";

	if (str_empty(dir))
		dir = "/run/containerd/s";

	int r = rundir_init(&s->dir, &s->config, dir, address, s->args->namespace, s->group, err);

	if (r < 0)
		return r;
	r = dir_make(dir, 0700);
	if (r < 0)
		return err_sys(err, r, "make socket directory %s", dir);
	r = dir_make(s->config.run_dir, 0711);
	return r < 0 ? err_sys(err, r, "run_dir: make %s", s->config.run_dir) : 0;
}

static int take_lock(struct starting *s, struct err *err)
{
	s->lock = open(s->config.run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->lock < 0 || flock(s->lock, LOCK_EX) < 0)
		return err_sys(err, -errno, "run_dir: lock %s", s->config.run_dir);
	return 0;
}

/* Whether somebody answers at the group's socket already. */
static bool group_lives(const struct starting *s)
{
	_cleanup_fd_ int fd = sock_unix_connect(s->dir.socket);

	return fd >= 0;
}

static int prepare(struct starting *s, struct err *err)
{
	int r = rundir_create(&s->dir, err);

	if (r < 0)
		return r;
	if (unlink(s->dir.socket) < 0 && errno != ENOENT)
		return err_sys(err, -errno, "remove stale socket %s", s->dir.socket);
	s->socket = sock_unix_listen(s->dir.socket, 0600);
	if (s->socket < 0)
		return err_sys(err, s->socket, "listen on %s", s->dir.socket);
	if (s->boot.options.len == 0)
		return 0;

	_cleanup_free_ char *options = str_printf("%s/options", s->dir.path);

	r = file_write(options, s->boot.options.data, s->boot.options.len, 0600);
	return r < 0 ? err_sys(err, r, "write %s", options) : 0;
}

/* In the child: becomes the serving shim once the parent has recorded it. */
static void exec_serve(const struct starting *s, int gate, int status)
{
	const struct shim_args *a = s->args;
	char byte;
	int null = open("/dev/null", O_RDWR);

	if (read(gate, &byte, 1) != 1)
		_exit(1);
	setsid();
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);

	/* 3 is the socket, 4 takes the verdict; both were chosen above 4 by the caller. */
	dup2(s->socket, SHIM_SOCKET_FD);
	dup2(status, SHIM_STATUS_FD);
	setenv("LCOW_RUN_DIR", s->dir.path, 1);
	if (s->boot.events)
		setenv("TTRPC_ADDRESS", s->boot.events, 1);

	bool debug = a->debug || s->boot.debug;
	const char *argv[] = { "containerd-shim-lcow-v2",
			       "-namespace",
			       a->namespace,
			       "-id",
			       s->group,
			       "-address",
			       a->address ? a->address : "",
			       "-socket",
			       s->dir.socket,
			       debug ? "-debug" : "serve",
			       debug ? "serve" : NULL,
			       NULL };

	execv("/proc/self/exe", (char *const *)(const void *)argv);
	_exit(127);
}

static void pipe_high(int ret[2])
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		abort();
	for (int i = 0; i < 2; i++) {
		ret[i] = fcntl(p[i], F_DUPFD_CLOEXEC, 10);
		close(p[i]);
	}
}

/* Waits for the verdict: "ok", or the text of what went wrong. */
static int await_ready(pid_t pid, int status, struct err *err)
{
	char text[ERR_TEXT_MAX];
	size_t len = 0;
	struct pollfd p = { .fd = status, .events = POLLIN };

	while (len < sizeof(text) - 1 && poll(&p, 1, READY_WAIT_MS) > 0) {
		ssize_t n = read(status, text + len, sizeof(text) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	if (str_eq(text, "ok"))
		return 0;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return err_set(err, -ERR_UNAVAILABLE, "%s",
		       len ? text : "the shim ended, or did not get ready in 20 s");
}

static int spawn_serve(struct starting *s, struct err *err)
{
	int gate[2], status[2];

	if (s->socket < 10) {
		int high = fcntl(s->socket, F_DUPFD_CLOEXEC, 10);

		fd_close(s->socket);
		s->socket = high;
	}
	pipe_high(gate);
	pipe_high(status);

	pid_t pid = fork();

	if (pid == 0) {
		close(gate[1]);
		exec_serve(s, gate[0], status[1]);
	}
	close(gate[0]);
	close(status[1]);

	int r = pid < 0 ? -errno : rundir_record_pid(s->dir.path, "shim", pid);

	if (r < 0)
		err_sys(err, r, "start the serving shim");
	else if (write(gate[1], "", 1) == 1)
		r = await_ready(pid, status[0], err);
	else
		r = err_set(err, -ERR_UNAVAILABLE, "the serving shim ended at once");
	close(gate[1]);
	close(status[0]);
	return r;
}

static int answer(const struct starting *s, struct err *err)
{
	_cleanup_free_ char *address = str_printf("unix://%s", s->dir.socket);
	_cleanup_buf_ struct buf text = { 0 };
	int r = file_write("address", address, strlen(address), 0600);

	if (r < 0)
		return err_sys(err, r, "write the bundle's address file");
	bootstrap_answer_text(bootstrap_answer_form(&s->boot, getenv("MAX_SHIM_VERSION"), s->cwd),
			      address, &text);
	r = fd_write_all(STDOUT_FILENO, text.data, text.len);
	return r < 0 ? err_sys(err, r, "answer containerd") : 0;
}

int shim_start(const struct shim_args *args, struct err *err)
{
	_cleanup_(starting_free) struct starting s = { .args = args,
						       .lock = -EBADF,
						       .socket = -EBADF };
	_cleanup_free_ char *t0 = str_printf("%" PRIu64, time_mono());

	setenv("LCOW_START_USEC", t0, 1);
	shim_config_init(&s.config);

	int r = read_request(&s, err);

	if (r >= 0)
		r = name_directories(&s, err);
	if (r >= 0)
		r = take_lock(&s, err);
	if (r < 0)
		return r;
	if (!group_lives(&s)) {
		r = prepare(&s, err);
		if (r >= 0)
			r = spawn_serve(&s, err);
		if (r < 0) {
			rundir_clean(s.dir.path, 0, NULL);
			return r;
		}
	}
	return answer(&s, err);
}
