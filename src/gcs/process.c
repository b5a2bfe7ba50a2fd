/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/container.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "wire/gcs.h"

/* A parked WaitForProcess: no coroutine, so hundreds cost next to nothing. */
struct waiter {
	struct list link;
	struct agent *agent;
	struct ticket ticket;
	struct loop_timer *timer;
};

struct process *process_new(struct agent *a, struct container *c, bool init)
{
	struct process *p = NEW0(struct process);

	list_init(&p->link);
	list_init(&p->waiters);
	p->agent = a;
	p->container = c;
	p->init = init;
	p->pid = -1;
	p->pidfd = -EBADF;
	co_event_init(&p->gone);
	stdio_init(&p->io);
	return p;
}

static void waiter_free(struct waiter *w)
{
	list_remove(&w->link);
	loop_timer_free(w->timer);
	free(w->ticket.activity);
	free(w);
}

void process_drop_waiters(struct process *p)
{
	LIST_FOR_EACH_SAFE(it, &p->waiters)
		waiter_free(LIST_ENTRY(it, struct waiter, link));
}

static void free_later(void *arg)
{
	struct process *p = arg;

	stdio_free(&p->io);
	loop_watch_free(p->exit_watch);
	fd_close(p->pidfd);
	child_free(p->child);
	free(p);
}

static int answer(struct process *p, const struct ticket *t)
{
	struct gcs_wait_reply reply = { .exit_code = p->exit_code };

	if (p->container)
		container_exit_seen(p->container);
	return bridge_reply(p->agent->bridge, t, &gcs_wait_reply_table, &reply);
}

/* The host shall not wait for ever for a process that is being forgotten. */
static void answer_waiters(struct process *p)
{
	struct err err;

	err_set(&err, -ERR_NOT_FOUND, "process %d is gone", (int)p->pid);
	err.hresult = HR_NOT_FOUND;
	LIST_FOR_EACH(it, &p->waiters) {
		struct waiter *w = LIST_ENTRY(it, struct waiter, link);

		if (p->exited)
			answer(p, &w->ticket);
		else
			bridge_fail(p->agent->bridge, &w->ticket, &err);
	}
	process_drop_waiters(p);
}

void process_free(struct process *p)
{
	if (!p || p->dying)
		return;
	p->dying = true;
	list_remove(&p->link);
	if (!list_empty(&p->waiters))
		answer_waiters(p);
	loop_defer(free_later, p);
}

static void forget(void *arg)
{
	process_free(arg);
}

/*
 * Somebody has been told: an init stays until its container is deleted, the others are forgotten,
 * but only when their output is out.
 */
static void told(struct process *p)
{
	if (p->waited)
		return;
	p->waited = true;
	if (p->init)
		container_note_exit(p->container);
	else
		stdio_when_idle(&p->io, forget, p);
}

static void publish(void *arg)
{
	struct process *p = arg;
	bool any = false;

	p->published = true;
	LIST_FOR_EACH_SAFE(it, &p->waiters) {
		struct waiter *w = LIST_ENTRY(it, struct waiter, link);

		any = answer(p, &w->ticket) == 0 || any;
		waiter_free(w);
	}
	if (any)
		told(p);
}

static void process_exited(struct process *p, uint32_t code)
{
	p->exited = true;
	p->exit_code = code;
	log_debug("process %d exited with %u", (int)p->pid, code);
	if (p->init)
		container_init_gone(p->container);
	co_event_set(&p->gone);
	stdio_exited(&p->io, publish, p);
}

static void on_pidfd(int fd, uint32_t events, void *arg)
{
	struct process *p = arg;
	siginfo_t info = { 0 };
	uint32_t code;

	if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0) {
		if (errno != ECHILD)
			return;
		/* Not a child of ours after all: its status is not to be had. */
		log_error("the exit status of process %d is lost", (int)p->pid);
		code = 255;
	} else if (info.si_pid == 0) {
		return;
	} else {
		code = info.si_code == CLD_EXITED ? (uint32_t)info.si_status
						  : 128u + (uint32_t)info.si_status;
	}
	p->exit_watch = loop_watch_free(p->exit_watch);
	process_exited(p, code);
}

int process_watch(struct process *p, pid_t pid, struct err *err)
{
	int r;

	p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p->pidfd < 0) {
		r = -errno;
		p->pidfd = -EBADF;
		return err_sys(err, r, "open process %d", (int)pid);
	}
	fcntl(p->pidfd, F_SETFD, FD_CLOEXEC);
	p->pid = pid;
	r = loop_watch_new(p->pidfd, EPOLLIN, on_pidfd, p, &p->exit_watch);
	return r < 0 ? err_sys(err, r, "watch process %d", (int)pid) : 0;
}

int process_signal(struct process *p, int signo, struct err *err)
{
	int r = 0;

	if (signo < 0 || signo > SIGRTMAX)
		return err_set(err, -ERR_INVALID, "%d is not a signal", signo);
	if (p->exited)
		r = -ESRCH;
	else if (p->child)
		r = child_kill(p->child, signo);
	else if (syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0) < 0)
		r = -errno;
	if (r == -ESRCH) {
		r = err_set(err, -ERR_NOT_FOUND, "process %d has exited", (int)p->pid);
		err->hresult = HR_NOT_FOUND;
		return r;
	}
	return r < 0 ? err_sys(err, r, "send signal %d to process %d", signo, (int)p->pid) : 0;
}

int process_resize(struct process *p, uint16_t rows, uint16_t cols, struct err *err)
{
	const struct winsize size = { .ws_row = rows, .ws_col = cols };

	if (p->exited)
		return 0;
	if (p->io.pty < 0)
		return err_set(err, -ENOTTY, "pid: %d, is not a tty and cannot be resized",
			       (int)p->pid);
	if (ioctl(p->io.pty, TIOCSWINSZ, &size) < 0)
		return err_sys(err, -errno, "resize the terminal of process %d", (int)p->pid);
	return 0;
}

static void on_wait_timeout(void *arg)
{
	struct waiter *w = arg;
	struct err err;

	err_set(&err, -ETIMEDOUT, "the process is still running");
	err.hresult = HR_TIMEOUT;
	bridge_fail(w->agent->bridge, &w->ticket, &err);
	waiter_free(w);
}

int process_wait(struct process *p, struct request *rq, uint32_t timeout_ms, struct err *err)
{
	struct waiter *w;

	if (p->published) {
		if (answer(p, &rq->ticket) == 0)
			told(p);
		return 0;
	}
	if (timeout_ms == 0) {
		err_set(err, -ETIMEDOUT, "process %d is still running", (int)p->pid);
		err->hresult = HR_TIMEOUT;
		return err->code;
	}
	w = NEW0(struct waiter);
	w->agent = p->agent;
	w->ticket = rq->ticket;
	rq->ticket.activity = NULL;
	list_init(&w->link);
	list_append(&p->waiters, &w->link);
	if (timeout_ms != UINT32_MAX)
		w->timer = loop_timer_new(timeout_ms * USEC_PER_MSEC, on_wait_timeout, w);
	return 0;
}

/* ---- processes beside the containers ---- */

static void on_child_exit(struct child *c, int status, void *arg)
{
	process_exited(arg, (uint32_t)child_status_code(status));
}

static int set_terminal(void *arg)
{
	return ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0 ? -errno : 0;
}

static int open_terminal(struct process *p, int *ret_slave, struct err *err)
{
	p->io.pty = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->io.pty < 0) {
		p->io.pty = -EBADF;
		return err_sys(err, -errno, "open a terminal");
	}
	if (unlockpt(p->io.pty) < 0)
		return err_sys(err, -errno, "unlock a terminal");
	fd_nonblock(p->io.pty, true);
	*ret_slave = ioctl(p->io.pty, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return *ret_slave < 0 ? err_sys(err, -errno, "open the far end of a terminal") : 0;
}

/* Words of a command line: blanks part them, quotes and backslashes keep them together. */
static char **shell_words(const char *line)
{
	char **words = NULL;
	_cleanup_buf_ struct buf word = { 0 };
	bool in_word = false;
	char quote = 0;

	for (const char *p = line;; p++) {
		bool blank = !quote && (*p == ' ' || *p == '\t' || *p == '\n');

		if (!*p || blank) {
			if (in_word) {
				buf_add(&word, "", 1);
				strv_add(&words, (char *)word.data);
				buf_eat(&word, word.len);
			}
			in_word = false;
			if (!*p)
				return words;
			continue;
		}
		in_word = true;
		if (quote ? *p == quote : (*p == '"' || *p == '\''))
			quote = quote ? 0 : *p;
		else if (*p == '\\' && quote != '\'' && p[1])
			buf_add(&word, ++p, 1);
		else
			buf_add(&word, p, 1);
	}
}

static int spawn_external(struct process *p, const struct gcs_process_params *params,
			  struct err *err)
{
	_cleanup_strv_ char **words =
		params->args ? NULL : shell_words(params->command_line ? params->command_line : "");
	char **argv = params->args ? params->args : words;
	char *no_env[] = { NULL };
	_cleanup_fd_ int slave = -EBADF;
	int fds[STDIO_COUNT];
	struct child_spec spec = {
		.argv = (const char *const *)argv,
		.envp = (const char *const *)(params->env ? params->env : no_env),
		.cwd = params->cwd && *params->cwd ? params->cwd : "/",
		.fds = fds,
		.n_fds = STDIO_COUNT,
		.setsid = true,
	};
	int r;

	if (!argv || !argv[0] || !argv[0][0])
		return err_set(err, -ERR_INVALID, "an external process without a command");
	if (params->console) {
		r = open_terminal(p, &slave, err);
		if (r < 0)
			return r;
		spec.prepare = set_terminal;
	}
	for (unsigned i = 0; i < STDIO_COUNT; i++) {
		fds[i] = params->console ? slave : p->io.stream[i].sock;
		/* The process gets the connection itself, and expects it to block. */
		if (!params->console && fds[i] >= 0)
			fd_nonblock(fds[i], false);
	}
	r = child_spawn(&spec, &p->child, err);
	if (r < 0)
		return err_wrap(err, r, "failed to call Start for external process");
	p->pid = child_pid(p->child);
	for (unsigned i = 0; i < STDIO_COUNT && !params->console; i++)
		p->io.stream[i].sock = fd_close(p->io.stream[i].sock);
	r = params->console ? stdio_start(&p->io, err) : 0;
	child_on_exit(p->child, on_child_exit, p);
	return r;
}

int external_start(struct agent *a, const struct gcs_execute_request *m, struct process **ret,
		   struct err *err)
{
	struct process *p = process_new(a, NULL, false);
	int r = stdio_dial(&p->io, a->transport, m->settings.params, &m->settings.ports, err);

	if (r >= 0)
		r = spawn_external(p, m->settings.params, err);
	if (r < 0) {
		process_free(p);
		return r;
	}
	list_append(&a->externals, &p->link);
	*ret = p;
	return 0;
}
