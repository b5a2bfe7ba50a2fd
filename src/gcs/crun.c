/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/crun.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "gcs/streams.h"
#include "loop/child.h"
#include "wire/json.h"

#define STATE_ROOT "/run/crun"
#define CALLS_DIR "/run/gcs/crun"
#define INSTALLED "/usr/bin/crun"
#define SEALED "/run/gcs/crun-sealed"

enum {
	CALL_LIMIT_USEC = 120000000, /* an emulated CPU under load is slow, but not that slow */
	LOG_MAX_BYTES = 64 << 10,
};

/* One invocation: its directory and the files in it. */
struct call {
	char *dir, *log, *pid_file, *process_file, *console;
	int listener; /* for the console */
	char **argv;
	char oom[8]; /* oom_score_adj of the process, "" to leave it */
};

static void call_end(struct call *c)
{
	if (c->dir)
		dir_remove(c->dir);
	fd_close(c->listener);
	strv_free(c->argv);
	free(c->dir);
	free(c->log);
	free(c->pid_file);
	free(c->process_file);
	free(c->console);
}

/* A copy of crun that nobody can change any more. Its fd stays open for as long as the agent lives.
 * */
static int seal(void)
{
	_cleanup_fd_ int in = open(INSTALLED, O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int out = memfd_create("crun", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	_cleanup_free_ char *target = str_printf("/proc/%d/fd/%d", getpid(), out);
	struct stat st;

	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return -errno;
	for (off_t at = 0; at < st.st_size;) {
		ssize_t n = sendfile(out, in, &at, (size_t)(st.st_size - at));

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	if (fcntl(out, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0 ||
	    symlink(target, SEALED) < 0)
		return -errno;
	(void)TAKE_FD(out);
	return 0;
}

/*
 * crun does not run from a file that a container might write to (CVE-2019-5736): it makes a copy of
 * itself first, and starts again from there. From a sealed copy it starts at once, which halves the
 * time of every call.
 */
static const char *program(void)
{
	return access(SEALED, X_OK) == 0 || seal() == 0 ? SEALED : "crun";
}

static int call_begin(struct call *c, struct err *err)
{
	_cleanup_free_ char *dir = str_printf(CALLS_DIR "/XXXXXX");
	int r = dir_make(CALLS_DIR, 0700);

	if (r < 0)
		return err_sys(err, r, "mkdir " CALLS_DIR);
	if (!mkdtemp(dir))
		return err_sys(err, -errno, "make a directory below " CALLS_DIR);
	c->dir = TAKE_PTR(dir);
	c->log = str_printf("%s/log", c->dir);
	c->pid_file = str_printf("%s/pid", c->dir);
	c->process_file = str_printf("%s/process.json", c->dir);
	c->console = str_printf("%s/console.sock", c->dir);
	strv_add(&c->argv, program());
	strv_add(&c->argv, "--root=" STATE_ROOT);
	strv_add(&c->argv, "--cgroup-manager=cgroupfs");
	strv_addf(&c->argv, "--log=file:%s", c->log);
	strv_add(&c->argv, "--log-format=json");
	return 0;
}

static const struct {
	const char *begin, *part;
	uint32_t hresult;
	int code;
} known[] = {
	{ "error opening file `" STATE_ROOT "/", "/status`: No such file", HR_SYSTEM_NOT_FOUND,
	  -ERR_NOT_FOUND },
	{ "cannot open directory '" STATE_ROOT "/", ": No such file", HR_SYSTEM_NOT_FOUND,
	  -ERR_NOT_FOUND },
	{ "container", "does not exist", HR_SYSTEM_NOT_FOUND, -ERR_NOT_FOUND },
	{ "", "already exists", HR_SYSTEM_EXISTS, -ERR_EXISTS },
	{ "", "invalid container ID", HR_INVALID_ARG, -ERR_INVALID },
	{ "", "is not stopped", HR_INVALID_STATE, -ERR_STATE },
	{ "", "is not in 'stopped' state", HR_INVALID_STATE, -ERR_STATE },
	{ "", "is not running", HR_ALREADY_STOPPED, -ERR_STATE },
};

int crun_error(const char *log, int status, struct err *err)
{
	_cleanup_strv_ char **lines = strv_split(log ? log : "", "\n");
	_cleanup_free_ char *text = NULL;

	for (size_t i = strv_len(lines); i > 0 && !text; i--) {
		_cleanup_json_ struct json_object *o = NULL;
		const char *level, *msg;

		if (json_parse(lines[i - 1], strlen(lines[i - 1]), &o, NULL) < 0)
			continue;
		level = json_get_str(o, "level");
		msg = json_get_str(o, "msg");
		if (str_eq(level, "error") && !str_empty(msg))
			text = mem_strdup(msg);
	}
	if (!text)
		return err_set(err, -EREMOTEIO, "crun failed with status %d and said nothing",
			       status);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (!str_starts(text, known[i].begin) || !strstr(text, known[i].part))
			continue;
		err_set(err, known[i].code, "%s", text);
		if (err)
			err->hresult = known[i].hresult;
		return known[i].code;
	}
	return err_set(err, -EREMOTEIO, "%s", text);
}

/* "crun exec" of these years forgets it; what crun has, its processes inherit. */
static int set_oom(void *arg)
{
	const char *text = arg;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int take_oom(struct call *c, struct json_object *process, struct err *err)
{
	struct json_object *o = json_get(process, "oomScoreAdj", NULL);
	int64_t v = json_object_get_int64(o);

	if (!o)
		return 0;
	if (!json_object_is_type(o, json_type_int) || v < -1000 || v > 1000)
		return err_set(err, -ERR_INVALID, "process.oomScoreAdj is not from -1000 to 1000");
	snprintf(c->oom, sizeof(c->oom), "%d", (int)v);
	return 0;
}

static int call_run(struct call *c, const int *fds, unsigned n_fds, struct err *err)
{
	struct child *child __attribute__((cleanup(child_freep))) = NULL;
	const struct child_spec spec = {
		.argv = (const char *const *)c->argv,
		.fds = fds,
		.n_fds = n_fds,
		.prepare = c->oom[0] ? set_oom : NULL,
		.prepare_arg = c->oom,
	};
	_cleanup_free_ char *log = NULL;
	int r, status;

	r = child_spawn(&spec, &child, err);
	if (r < 0)
		return r;
	CO_LIMIT(CALL_LIMIT_USEC);
	r = child_wait(child, &status);
	if (r < 0)
		return err_sys(err, r, "wait for crun");
	status = child_status_code(status);
	if (status == 0)
		return 0;
	file_read(c->log, LOG_MAX_BYTES, &log, NULL);
	return crun_error(log, status, err);
}

static int read_pid(const struct call *c, pid_t *ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	uint64_t pid;
	int r = file_read(c->pid_file, 32, &text, NULL);

	if (r < 0)
		return err_sys(err, r, "read the pid that crun wrote");
	text[strcspn(text, " \n")] = '\0';
	r = str_u64(text, &pid);
	if (r < 0 || pid == 0 || pid > INT32_MAX)
		return err_set(err, -EBADMSG, "crun wrote '%s' as a pid", text);
	*ret = (pid_t)pid;
	return 0;
}

static int receive_console(struct call *c, int *ret_pty, struct err *err)
{
	_cleanup_fd_ int sock = -EBADF;
	char name[256];
	int fd = -EBADF;
	ssize_t n;

	CO_LIMIT(CALL_LIMIT_USEC);
	sock = co_accept(c->listener);
	if (sock < 0)
		return err_sys(err, sock, "accept the terminal from crun");
	do {
		n = co_wait_fd(sock, EPOLLIN);
		if (n >= 0)
			n = fd_recv(sock, name, sizeof(name), &fd);
	} while (n == -EAGAIN);
	if (n < 0)
		return err_sys(err, (int)n, "receive the terminal from crun");
	if (fd < 0)
		return err_set(err, -EBADMSG, "crun sent no terminal");
	fd_nonblock(fd, true);
	*ret_pty = fd;
	return 0;
}

/* What create and exec have in common: options are in place, the id follows. */
static int start_process(struct call *c, const char *id, struct stdio *io, bool terminal,
			 pid_t *ret_pid, struct err *err)
{
	pid_t pid = 0;
	int r;

	strv_addf(&c->argv, "--pid-file=%s", c->pid_file);
	if (terminal) {
		c->listener = sock_unix_listen(c->console, 0600);
		if (c->listener < 0)
			return err_sys(err, c->listener, "listen on %s", c->console);
		strv_addf(&c->argv, "--console-socket=%s", c->console);
	}
	strv_add(&c->argv, id);
	r = call_run(c, terminal ? NULL : io->child, terminal ? 0 : STDIO_COUNT, err);
	if (r < 0)
		return r;
	r = read_pid(c, &pid, err);
	if (r >= 0 && terminal)
		r = receive_console(c, &io->pty, err);
	if (r >= 0)
		*ret_pid = pid;
	return r;
}

int crun_create(const char *id, const char *bundle, struct stdio *io, bool terminal, pid_t *ret_pid,
		struct err *err)
{
	struct call c __attribute__((cleanup(call_end))) = { .listener = -EBADF };
	int r = call_begin(&c, err);

	if (r < 0)
		return r;
	strv_add(&c.argv, "create");
	strv_addf(&c.argv, "--bundle=%s", bundle);
	/* The root of an initramfs cannot be pivoted away from. */
	strv_add(&c.argv, "--no-pivot");
	return start_process(&c, id, io, terminal, ret_pid, err);
}

int crun_exec(const char *id, struct json_object *process, struct stdio *io, bool terminal,
	      pid_t *ret_pid, struct err *err)
{
	struct call c __attribute__((cleanup(call_end))) = { .listener = -EBADF };
	_cleanup_free_ char *text = json_text(process);
	int r = call_begin(&c, err);

	if (r >= 0)
		r = take_oom(&c, process, err);
	if (r < 0)
		return r;
	r = file_write(c.process_file, text, strlen(text), 0600);
	if (r < 0)
		return err_sys(err, r, "write %s", c.process_file);
	strv_add(&c.argv, "exec");
	strv_add(&c.argv, "--detach");
	strv_addf(&c.argv, "--process=%s", c.process_file);
	return start_process(&c, id, io, terminal, ret_pid, err);
}

static int plain(const char *verb, const char *option, const char *id, struct err *err)
{
	struct call c __attribute__((cleanup(call_end))) = { .listener = -EBADF };
	int r = call_begin(&c, err);

	if (r < 0)
		return r;
	strv_add(&c.argv, verb);
	if (option)
		strv_add(&c.argv, option);
	strv_add(&c.argv, id);
	return call_run(&c, NULL, 0, err);
}

int crun_start(const char *id, struct err *err)
{
	return plain("start", NULL, id, err);
}

int crun_delete(const char *id, struct err *err)
{
	_cleanup_free_ char *state = str_printf(STATE_ROOT "/%s", id);

	/* Saves a process when a step of the creation had failed before crun kept anything. */
	if (access(state, F_OK) < 0 && errno == ENOENT)
		return 0;
	return plain("delete", "--force", id, err);
}

int crun_update(const char *id, struct json_object *resources, struct err *err)
{
	struct call c __attribute__((cleanup(call_end))) = { .listener = -EBADF };
	_cleanup_free_ char *text = json_text(resources);
	int r = call_begin(&c, err);

	if (r < 0)
		return r;
	r = file_write(c.process_file, text, strlen(text), 0600);
	if (r < 0)
		return err_sys(err, r, "write %s", c.process_file);
	strv_add(&c.argv, "update");
	strv_addf(&c.argv, "--resources=%s", c.process_file);
	strv_add(&c.argv, id);
	return call_run(&c, NULL, 0, err);
}
