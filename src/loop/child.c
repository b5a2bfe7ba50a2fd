/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "loop/loop.h"

enum { OUTPUT_MAX = 64 * 1024, LINE_MAX_LEN = 256 };

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/**
 * struct child - see child.h
 * @watch:	of @pidfd, until it has exited
 * @late:	timer for a child_on_exit() that came after the exit
 */
struct child {
	pid_t pid;
	int pidfd;
	bool exited;
	int status;
	struct loop_watch *watch;
	struct loop_timer *late;
	struct co_event event;
	void (*fn)(struct child *c, int status, void *arg);
	void *arg;
};

/** enum stage - where a start failed */
enum stage {
	STAGE_CGROUP,
	STAGE_FDS,
	STAGE_SESSION,
	STAGE_CWD,
	STAGE_PREPARE,
	STAGE_PARENT,
	STAGE_EXEC
};

static const char *const stage_names[] = {
	[STAGE_CGROUP] = "enter a cgroup",
	[STAGE_FDS] = "set up its fds",
	[STAGE_SESSION] = "start a session",
	[STAGE_CWD] = "change directory",
	[STAGE_PREPARE] = "prepare",
	[STAGE_PARENT] = "follow the parent",
	[STAGE_EXEC] = "execute",
};

/**
 * struct start - everything that the child needs, made before the fork, since it may not allocate
 * @path:	program
 * @fds:	working copy of the fds, at least three
 * @null:	/dev/null, -EBADF when not needed
 * @report:	write end of the pipe that tells of a failure
 */
struct start {
	const struct child_spec *spec;
	char *path;
	int *fds;
	unsigned n_fds;
	int null;
	int report;
};

struct failure {
	int code;
	int stage;
};

static void start_free(struct start *s)
{
	free(s->path);
	free(s->fds);
	fd_close(s->null);
	fd_close(s->report);
}

/** path_lookup() - find a program in PATH as execvp(3) does */
static int path_lookup(const char *name, char **ret)
{
	const char *path = getenv("PATH");
	_cleanup_strv_ char **dirs = NULL;
	int r = -ENOENT;

	if (strchr(name, '/')) {
		*ret = mem_strdup(name);
		return 0;
	}
	dirs = strv_split(path ? path
			       : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			  ":");
	for (size_t i = 0; dirs && dirs[i]; i++) {
		_cleanup_free_ char *full = str_printf("%s/%s", dirs[i], name);
		struct stat st;

		if (stat(full, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (access(full, X_OK) == 0) {
			*ret = TAKE_PTR(full);
			return 0;
		}
		r = -EACCES;
	}
	return r;
}

/* --- in the child: async-signal-safe calls only --- */

static void signals_reset(void)
{
	/* As rt_sigaction(2) takes it: handler, flags, restorer, mask. glibc refuses its own
	 * signals 32 and 33. */
	static const unsigned long def[4];
	sigset_t none;

	for (int i = 1; i < _NSIG; i++)
		syscall(SYS_rt_sigaction, i, def, NULL, sizeof(def[3]));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/**
 * fds_move() - put the fds into their places; the report and the sources first go where they are in
 * nobody's way
 */
static int fds_move(struct start *s)
{
	int top = (int)s->n_fds;
	int report = fcntl(s->report, F_DUPFD_CLOEXEC, top);

	if (report < 0)
		return -errno;
	s->report = report;
	for (unsigned i = 0; i < s->n_fds; i++) {
		int fd = s->fds[i] >= 0 ? s->fds[i] : s->null;

		s->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, top);
		if (s->fds[i] < 0)
			return -errno;
	}
	for (unsigned i = 0; i < s->n_fds; i++)
		if (dup2(s->fds[i], (int)i) < 0)
			return -errno;
	/* The rest goes with execve(): until then, @prepare may want it. */
	if (syscall(SYS_close_range, s->n_fds, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	return 0;
}

/**
 * parent_follow() - die with the parent; the reading end of the report is the parent's only, so it
 * tells if that lives
 */
static int parent_follow(const struct start *s)
{
	struct pollfd p = { .fd = s->report };

	if (!s->spec->pdeathsig)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, s->spec->pdeathsig) < 0)
		return -errno;
	if (poll(&p, 1, 0) > 0)
		_exit(127);
	return 0;
}

int child_record(int fd)
{
	char text[1024], *p, *end;
	int stat_fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC), fields;
	ssize_t n;

	if (stat_fd < 0)
		return -errno;
	n = read(stat_fd, text, sizeof(text) - 1);
	close(stat_fd);
	if (n <= 0)
		return -EIO;
	text[n] = '\0';
	end = strchr(text, ' ');
	/* Field 2 is in parentheses and may hold anything; the start time is field 22. */
	p = strrchr(text, ')');
	if (!end || !p)
		return -EIO;
	for (fields = 2; fields < 22 && p; fields++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -EIO;
	p[1 + strspn(p + 1, "0123456789")] = '\n';
	memmove(end, p, (size_t)(strchr(p, '\n') + 1 - p));
	n = strchr(text, '\n') + 1 - text;
	return write(fd, text, (size_t)n) == n ? 0 : -EIO;
}

static int child_steps(struct start *s, enum stage *stage)
{
	const struct child_spec *spec = s->spec;
	int r;

	signals_reset();
	/* First, for memory is charged to where a process is when it asks for it. */
	*stage = STAGE_CGROUP;
	for (unsigned i = 0; i < spec->n_cgroup_procs; i++)
		if (write(spec->cgroup_procs[i], "0", 1) < 0)
			return -errno;
	*stage = STAGE_FDS;
	r = fds_move(s);
	if (r < 0)
		return r;
	*stage = STAGE_SESSION;
	if (spec->setsid && setsid() < 0)
		return -errno;
	*stage = STAGE_CWD;
	if (spec->cwd && chdir(spec->cwd) < 0)
		return -errno;
	*stage = STAGE_PREPARE;
	r = spec->prepare ? spec->prepare(spec->prepare_arg) : 0;
	if (r < 0)
		return r;
	/* After prepare, for a change of user clears it. */
	*stage = STAGE_PARENT;
	r = parent_follow(s);
	if (r < 0)
		return r;
	*stage = STAGE_EXEC;
	execve(s->path, (char *const *)(uintptr_t)spec->argv,
	       spec->envp ? (char *const *)(uintptr_t)spec->envp : environ);
	return -errno;
}

static __attribute__((noreturn)) void child_main(struct start *s)
{
	enum stage stage;
	struct failure f;

	f.code = child_steps(s, &stage);
	f.stage = (int)stage;
	(void)!write(s->report, &f, sizeof(f));
	_exit(127);
}

/* --- in the parent --- */

/** child_reap() - fetch the wait status through the pidfd, which can be of no other process */
static void child_reap(struct child *c, int flags)
{
	siginfo_t si = { 0 };
	int r;

	do
		r = waitid((idtype_t)P_PIDFD, (id_t)c->pidfd, &si, WEXITED | flags);
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		/* Somebody waited for all children: gone, but how is lost. */
		log_warn("wait for process %d: %m", (int)c->pid);
		c->status = 255 << 8;
	} else if (si.si_pid == 0) {
		return;
	} else if (si.si_code == CLD_EXITED) {
		c->status = (si.si_status & 0xff) << 8;
	} else {
		c->status = si.si_status | (si.si_code == CLD_DUMPED ? 0x80 : 0);
	}
	c->exited = true;
	c->watch = loop_watch_free(c->watch);
	co_event_set(&c->event);
}

static void on_pidfd(int fd, uint32_t events, void *arg)
{
	struct child *c = arg;

	child_reap(c, WNOHANG);
	if (c->exited && c->fn)
		c->fn(c, c->status, c->arg); /* may free c */
}

static int start_init(struct start *s, const struct child_spec *spec, struct err *err)
{
	bool need_null = spec->n_fds < 3;
	int r;

	*s = (struct start){ .spec = spec, .null = -EBADF, .report = -EBADF };
	if (!spec->argv || !spec->argv[0])
		return err_set(err, -EINVAL, "no program to start");
	r = path_lookup(spec->argv[0], &s->path);
	if (r < 0)
		return err_sys(err, r, "%s", spec->argv[0]);
	s->n_fds = need_null ? 3 : spec->n_fds;
	s->fds = mem_new0(s->n_fds, sizeof(int));
	for (unsigned i = 0; i < s->n_fds; i++) {
		s->fds[i] = i < spec->n_fds ? spec->fds[i] : -EBADF;
		need_null |= s->fds[i] < 0;
	}
	if (need_null)
		s->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (need_null && s->null < 0)
		return err_sys(err, -errno, "open /dev/null");
	return 0;
}

/** report_read() - wait until the child has executed its program, or has told why not */
static int report_read(int fd, const struct child_spec *spec, struct err *err)
{
	struct failure f;
	ssize_t n;

	do
		n = read(fd, &f, sizeof(f));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	if (n != sizeof(f) || f.code >= 0 || f.stage < 0 || f.stage >= (int)ARRAY_SIZE(stage_names))
		return err_set(err, -EIO, "%s: start: no proper report", spec->argv[0]);
	if (f.stage == STAGE_CWD)
		return err_sys(err, f.code, "%s: change directory to %s", spec->argv[0], spec->cwd);
	return err_sys(err, f.code, "%s: %s", spec->argv[0], stage_names[f.stage]);
}

int child_spawn(const struct child_spec *spec, struct child **ret, struct err *err)
{
	_cleanup_(start_free) struct start s;
	_cleanup_(child_freep) struct child *c = NULL;
	_cleanup_fd_ int report = -EBADF;
	int pidfd = -EBADF, ends[2], r;
	struct clone_args args = {
		.flags = CLONE_PIDFD | spec->clone_flags,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = spec->clone_flags & CLONE_INTO_CGROUP ? (uint64_t)spec->cgroup : 0,
	};
	long pid;

	r = start_init(&s, spec, err);
	if (r < 0)
		return r;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "%s: pipe", spec->argv[0]);
	report = ends[0];
	s.report = ends[1];
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		close(report);
		child_main(&s);
	}
	if (pid < 0)
		return err_sys(err, -errno, "%s: clone3%s", spec->argv[0],
			       spec->clone_flags & CLONE_INTO_CGROUP ? " into a cgroup" : "");
	c = NEW0(struct child);
	c->pid = (pid_t)pid;
	c->pidfd = pidfd;
	co_event_init(&c->event);
	s.report = fd_close(s.report);
	r = report_read(report, spec, err);
	if (r < 0)
		return r;
	r = loop_watch_new(pidfd, EPOLLIN, on_pidfd, c, &c->watch);
	if (r < 0)
		return err_sys(err, r, "%s: watch", spec->argv[0]);
	*ret = TAKE_PTR(c);
	return 0;
}

pid_t child_pid(const struct child *c)
{
	return c->pid;
}

bool child_exited(const struct child *c, int *ret_status)
{
	if (c->exited && ret_status)
		*ret_status = c->status;
	return c->exited;
}

static void on_late(void *arg)
{
	struct child *c = arg;

	c->late = loop_timer_free(c->late);
	if (c->fn)
		c->fn(c, c->status, c->arg); /* may free c */
}

void child_on_exit(struct child *c, void (*fn)(struct child *c, int status, void *arg), void *arg)
{
	c->fn = fn;
	c->arg = arg;
	if (c->exited && !c->late)
		c->late = loop_timer_new(0, on_late, c);
}

int child_kill(struct child *c, int signo)
{
	if (c->exited)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, c->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

int child_wait(struct child *c, int *ret_status)
{
	int r = co_event_wait(&c->event);

	if (r < 0)
		return r;
	if (ret_status)
		*ret_status = c->status;
	return 0;
}

struct child *child_free(struct child *c)
{
	if (!c)
		return NULL;
	if (!c->exited) {
		child_kill(c, SIGKILL);
		child_reap(c, 0);
	}
	loop_watch_free(c->watch);
	loop_timer_free(c->late);
	fd_close(c->pidfd);
	free(c);
	return NULL;
}

struct child *child_forget(struct child *c)
{
	/* One that has exited was reaped already. */
	if (c)
		c->exited = true;
	return child_free(c);
}

bool child_ending(const struct child *c)
{
	enum { PF_EXITING = 0x4 }; /* linux/sched.h of the kernel */
	uint64_t flags;

	if (c->exited)
		return true;
	return proc_stat(c->pid, PROC_FLAGS, &flags) == 0 && (flags & PF_EXITING);
}

int child_status_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* --- child_run() --- */

/**
 * struct capture - output of a program
 * @head:	the first OUTPUT_MAX bytes
 * @tail:	the last few, for the error text
 */
struct capture {
	struct buf head;
	struct buf tail;
	struct loop_watch *watch;
};

static void capture_done(struct capture *c)
{
	loop_watch_free(c->watch);
	buf_free(&c->head);
	buf_free(&c->tail);
}

static void on_output(int fd, uint32_t events, void *arg)
{
	struct capture *c = arg;
	char chunk[4096];

	/* At most what a pipe holds: a program that never stops talking must not keep the loop
	 * here. */
	for (int i = 0; i < 16; i++) {
		ssize_t n = read(fd, chunk, sizeof(chunk));
		size_t len = n > 0 ? (size_t)n : 0, room = OUTPUT_MAX - c->head.len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			c->watch = loop_watch_free(c->watch);
			return;
		}
		buf_add(&c->head, chunk, len < room ? len : room);
		buf_add(&c->tail, chunk, len);
		if (c->tail.len > LINE_MAX_LEN)
			buf_eat(&c->tail, c->tail.len - LINE_MAX_LEN);
	}
}

/** last_line() - the last line of output that is not empty, safe to log; the caller frees it */
static char *last_line(const struct capture *c)
{
	size_t end = c->tail.len, start;
	const char *p = (const char *)c->tail.data;
	char *line;

	while (end > 0 && strchr("\r\n\t ", p[end - 1]))
		end--;
	for (start = end; start > 0 && p[start - 1] != '\n';)
		start--;
	/* Up to a NUL, where there is one: it is text. */
	line = end > start ? mem_strndup(p + start, end - start) : mem_strdup("");
	str_clean(line, strlen(line));
	return line;
}

/**
 * input_open() - a file in memory that holds @text: it takes any length, and nobody needs to feed
 * it
 */
static int input_open(const char *text)
{
	_cleanup_fd_ int fd = memfd_create("stdin", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, strlen(text));
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int run_failed(const char *name, int status, const struct capture *c, struct err *err)
{
	_cleanup_free_ char *line = last_line(c);
	const char *sep = *line ? ": " : "";

	if (WIFSIGNALED(status))
		err_set(err, -EIO, "%s: killed by signal %d%s%s", name, WTERMSIG(status), sep,
			line);
	else
		err_set(err, -EIO, "%s: exit status %d%s%s", name, WEXITSTATUS(status), sep, line);
	return child_status_code(status);
}

int child_run(const char *const *argv, const char *input, char **ret_output, struct err *err)
{
	_cleanup_fd_ int in = -EBADF, out_read = -EBADF, out_write = -EBADF;
	_cleanup_(capture_done) struct capture cap = { 0 };
	_cleanup_(child_freep) struct child *c = NULL;
	int ends[2], status, r;

	if (input) {
		in = input_open(input);
		if (in < 0)
			return err_sys(err, in, "%s: input", argv[0]);
	}
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "%s: pipe", argv[0]);
	out_read = ends[0];
	out_write = ends[1];
	r = fd_nonblock(out_read, true);
	if (r == 0)
		r = loop_watch_new(out_read, EPOLLIN, on_output, &cap, &cap.watch);
	if (r < 0)
		return err_sys(err, r, "%s: output", argv[0]);
	r = child_spawn(&(struct child_spec){ .argv = argv,
					      .fds = (int[]){ in, out_write, out_write },
					      .n_fds = 3 },
			&c, err);
	if (r < 0)
		return r;
	out_write = fd_close(out_write);
	r = child_wait(c, &status);
	if (r < 0)
		return err_sys(err, r, "%s", argv[0]);
	/* What is still in the pipe; but a process that it left behind may hold the other end for
	 * ever. */
	if (cap.watch)
		on_output(out_read, EPOLLIN, &cap);
	buf_add(&cap.head, "", 1);
	r = status ? run_failed(argv[0], status, &cap, err) : 0;
	if (ret_output)
		*ret_output = (char *)TAKE_PTR(cap.head.data);
	return r;
}
