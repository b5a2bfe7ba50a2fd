/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/uri.h"
#include "loop/child.h"
#include "loop/loop.h"

enum { READY_SEC = 10, FINISH_SEC = 2, TERM_SEC = 12 };

/**
 * struct logger - see logger.h
 * @name:	path of the program, for the log
 * @record:	path of its record, NULL for none
 * @patience:	until the next signal, once it is closing
 */
struct logger {
	char *name;
	char *record;
	struct child *child;
	struct loop_timer *patience;
	bool closing;
	bool terminated;
	struct co_event ended;
};

/* ---- starting ---- */

/**
 * struct ends - the pipes: [0] is read from, [1] written to
 */
struct ends {
	int out[2];
	int err[2];
	int ready[2];
};

static void ends_close(struct ends *e)
{
	for (int i = 0; i < 2; i++) {
		fd_close(e->out[i]);
		fd_close(e->err[i]);
		fd_close(e->ready[i]);
	}
}

/* What the shim holds must not make it wait; what the driver gets waits as a pipe does. */
static int ends_open(struct ends *e)
{
	if (pipe2(e->out, O_CLOEXEC) < 0 || pipe2(e->err, O_CLOEXEC) < 0 ||
	    pipe2(e->ready, O_CLOEXEC) < 0)
		return -errno;
	for (int r, i = 0; i < 3; i++) {
		r = fd_nonblock((const int[]){ e->out[1], e->err[1], e->ready[0] }[i], true);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The keys that are no arguments: env.NAME. Who it logs for is not theirs to say. */
static const char *env_name(const char *key)
{
	return str_starts(key, "env.") ? key + strlen("env.") : NULL;
}

static char **make_argv(const struct uri *uri)
{
	char **argv = NULL;

	strv_add(&argv, uri->path);
	for (char **pair = uri->query; pair && *pair; pair += 2) {
		if (env_name(pair[0]))
			continue;
		strv_add(&argv, pair[0]);
		strv_add(&argv, pair[1]);
	}
	return argv;
}

static char **make_environment(const struct uri *uri, const struct logger_env *env)
{
	char **envp = NULL;

	strv_addf(&envp, "CONTAINER_ID=%s", env->id ? env->id : "");
	strv_addf(&envp, "CONTAINER_NAMESPACE=%s", env->namespace ? env->namespace : "");
	for (char **pair = uri->query; pair && *pair; pair += 2) {
		const char *name = env_name(pair[0]);

		if (name && !str_eq(name, "CONTAINER_ID") && !str_eq(name, "CONTAINER_NAMESPACE"))
			strv_addf(&envp, "%s=%s", name, pair[1]);
	}
	return envp;
}

static int on_prepare(void *arg)
{
	return child_record(*(const int *)arg);
}

static int open_record(struct logger *l, const struct logger_env *env)
{
	static unsigned number;

	l->record = str_printf("%s/logger-%u.pid", env->run_dir, ++number);

	int fd = open(l->record, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static int spawn(struct logger *l, const struct uri *uri, const struct logger_env *env,
		 const struct ends *e, struct err *err)
{
	const int fds[] = { -EBADF, -EBADF, -EBADF, e->out[0], e->err[0], e->ready[1] };
	_cleanup_strv_ char **argv = make_argv(uri);
	_cleanup_strv_ char **envp = make_environment(uri, env);
	_cleanup_fd_ int record = env->run_dir ? open_record(l, env) : -EBADF;

	if (env->run_dir && record < 0)
		return err_sys(err, record, "record %s", l->record);
	return child_spawn(&(struct child_spec){ .argv = (const char *const *)argv,
						 .envp = (const char *const *)envp,
						 .fds = fds,
						 .n_fds = ARRAY_SIZE(fds),
						 .prepare = record >= 0 ? on_prepare : NULL,
						 .prepare_arg = &record },
			   &l->child, err);
}

static CO int await_ready(struct logger *l, int fd, bool need_byte, struct err *err)
{
	CO_LIMIT(READY_SEC * USEC_PER_SEC);
	char byte;
	int status;
	ssize_t n = co_read(fd, &byte, 1);

	if (n == 1)
		return 0;
	if (n == -ETIMEDOUT)
		return err_set(err, -ETIMEDOUT, "was not ready within %d s", READY_SEC);
	if (n == 0 && child_ending(l->child) && child_wait(l->child, &status) == 0)
		return err_set(err, -EIO, "ended before it was ready, exit status %d",
			       child_status_code(status));
	if (n == 0 && need_byte)
		return err_set(err, -EIO, "closed fd 5 without saying that it is ready");
	return n < 0 ? err_sys(err, (int)n, "wait until it is ready") : 0;
}

static void on_ended(struct child *child, int status, void *arg)
{
	struct logger *l = arg;

	if (!l->closing)
		log_warn("logging driver %s has ended before its streams, exit status %d", l->name,
			 child_status_code(status));
	l->patience = loop_timer_free(l->patience);
	if (l->record)
		unlink(l->record);
	co_event_set(&l->ended);
}

/* A start that failed leaves nothing. */
static void drop(struct logger *l)
{
	l->child = child_free(l->child);
	if (l->record)
		unlink(l->record);
	logger_free(l);
}

CO int logger_start(const struct uri *uri, const struct logger_env *env, struct logger **ret,
		    int ret_fds[2], struct err *err)
{
	_cleanup_(ends_close) struct ends e = { { -EBADF, -EBADF },
						{ -EBADF, -EBADF },
						{ -EBADF, -EBADF } };
	struct logger *l = NEW0(struct logger);
	int r = ends_open(&e);

	l->name = mem_strdup(uri->path);
	co_event_init(&l->ended);
	r = r < 0 ? err_sys(err, r, "make pipes") : spawn(l, uri, env, &e, err);
	if (r >= 0) {
		/* Its end shall be seen where it holds the last one. */
		e.ready[1] = fd_close(e.ready[1]);
		e.out[0] = fd_close(e.out[0]);
		e.err[0] = fd_close(e.err[0]);
		r = await_ready(l, e.ready[0], str_eq(uri->scheme, "binary-v2"), err);
	}
	if (r < 0) {
		drop(l);
		return err_wrap(err, r, "logging driver %s", uri->path);
	}
	child_on_exit(l->child, on_ended, l);
	ret_fds[0] = TAKE_FD(e.out[1]);
	ret_fds[1] = TAKE_FD(e.err[1]);
	*ret = l;
	return 0;
}

/* ---- the end ---- */

static void on_patience(void *arg)
{
	struct logger *l = arg;

	log_warn("logging driver %s goes on after the end of its streams: %s", l->name,
		 l->terminated ? "SIGKILL" : "SIGTERM");
	child_kill(l->child, l->terminated ? SIGKILL : SIGTERM);
	if (!l->terminated)
		loop_timer_set(l->patience, TERM_SEC * USEC_PER_SEC);
	l->terminated = true;
}

void logger_close(struct logger *l)
{
	if (l->closing || l->ended.set)
		return;
	l->closing = true;
	l->patience = loop_timer_new(FINISH_SEC * USEC_PER_SEC, on_patience, l);
}

CO int logger_wait(struct logger *l)
{
	return co_event_wait(&l->ended);
}

struct logger *logger_free(struct logger *l)
{
	if (!l)
		return NULL;
	loop_timer_free(l->patience);
	child_forget(l->child);
	free(l->name);
	free(l->record);
	free(l);
	return NULL;
}
