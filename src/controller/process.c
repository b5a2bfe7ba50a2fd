/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/process.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "controller/vm.h"
#include "guest/guest.h"
#include "wire/gcs.h"
#include "wire/json.h"

enum { EXIT_UNKNOWN = 255, STALL_SEC = 10 };

static const char *const state_names[] = { "NotCreated", "Created", "Running", "Terminated" };
_Static_assert(ARRAY_SIZE(state_names) == PROCESS_STATE_END, "a name for each state");

#define TO(s) (1u << (s))
static const unsigned moves[] = {
	[PROCESS_NOT_CREATED] = TO(PROCESS_CREATED),
	[PROCESS_CREATED] = TO(PROCESS_RUNNING) | TO(PROCESS_TERMINATED),
	[PROCESS_RUNNING] = TO(PROCESS_TERMINATED),
	[PROCESS_TERMINATED] = 0,
};
_Static_assert(ARRAY_SIZE(moves) == PROCESS_STATE_END, "a row for each state");

static CO int guest_execute_for(void *ctx, const char *container,
				const struct gcs_process_params *params, struct guest_process **ret,
				struct err *err)
{
	return guest_execute(ctx, container, params, ret, err);
}

const struct process_ops process_guest_ops = {
	.execute = guest_execute_for,
	.pid = guest_process_pid,
	.fd = guest_process_fd,
	.close = guest_process_close,
	.on_exit = guest_process_on_exit,
	.signal = guest_process_signal,
	.resize = guest_process_resize,
	.free = guest_process_free,
};

/**
 * struct process - see process.h
 * @refs:	the owner's, and the exit coroutine's
 * @width:	of the terminal, and @height, as said before its start; 0 by 0 when nobody has
 * @starting:	execute is under way
 * @started:	when that began, monotonic microseconds
 * @released:	the start was published, so the exit may be
 * @terminated: set in state Terminated
 */
struct process {
	const struct process_ops *ops;
	void *ctx;
	unsigned refs;
	char *container;
	char *exec_id;
	char *paths[3];
	bool terminal;
	uint16_t width, height;
	struct json_object *spec;
	struct io *io;
	enum process_state state;
	bool starting;
	struct guest_process *guest;
	struct co_event released;
	struct co_event terminated;
	CO void (*exited)(struct process *p, void *arg);
	void *arg;
	uint32_t pid;
	uint32_t exit_status;
	uint64_t exited_at;
	uint64_t started;
};

static void set_state(struct process *p, enum process_state to)
{
	if (!(moves[p->state] & TO(to))) {
		log_error("process: illegal move from %s to %s refused", state_names[p->state],
			  state_names[to]);
		return;
	}
	p->state = to;
}

static void terminate(struct process *p, uint32_t code)
{
	p->exit_status = code;
	p->exited_at = time_real_ns();
	set_state(p, PROCESS_TERMINATED);
	co_event_set(&p->terminated);
}

static void process_put(struct process *p)
{
	if (--p->refs > 0)
		return;
	/* Before the guest's end goes: a relay is given back to it. */
	io_free(p->io);
	p->ops->free(p->guest);
	json_put(p->spec);
	for (int i = 0; i < 3; i++)
		free(p->paths[i]);
	free(p->container);
	free(p->exec_id);
	free(p);
}

struct process *process_new(const struct process_ops *ops, void *ctx, const char *container,
			    const char *exec_id)
{
	struct process *p = NEW0(struct process);

	p->ops = ops;
	p->ctx = ctx;
	p->refs = 1;
	p->container = mem_strdup(container);
	p->exec_id = mem_strdup(exec_id);
	p->exit_status = EXIT_UNKNOWN;
	co_event_init(&p->released);
	co_event_init(&p->terminated);
	return p;
}

CO int process_create(struct process *p, const struct stdio_paths *io, struct json_object *spec,
		      struct err *err)
{
	_cleanup_json_ struct json_object *owned = spec;
	const char *const paths[] = { io->in, io->out, io->err };
	struct stdio_paths named = *io;

	if (p->state != PROCESS_NOT_CREATED)
		return err_set(err, -ERR_STATE, "process is in state %s", state_names[p->state]);
	/* All comes out of the terminal. CRI makes a FIFO for stderr nevertheless, and clients that
	 * give a logging URI give it for both. */
	if (io->terminal)
		named.err = NULL;

	/* runc's shim says an exec's id, too. */
	named.logger.id = *p->exec_id ? p->exec_id : p->container;

	int r = io_open(&named, &p->io, err);

	if (r < 0)
		return r;
	for (int i = 0; i < 3; i++)
		str_set(&p->paths[i], paths[i]);
	p->terminal = io->terminal;
	p->spec = TAKE_PTR(owned);
	set_state(p, PROCESS_CREATED);
	return 0;
}

/* ---- start and exit ---- */

struct exit_report {
	struct process *process;
	uint32_t code;
};

static CO void handle_exit(void *arg)
{
	_cleanup_free_ struct exit_report *report = arg;
	struct process *p = report->process;

	io_drain(p->io, STALL_SEC * USEC_PER_SEC);
	terminate(p, report->code);
	/* containerd must see the start before the exit. */
	if (co_event_wait(&p->released) == 0 && p->exited)
		p->exited(p, p->arg);
	process_put(p);
}

static void on_guest_exit(uint32_t code, bool lost, void *arg)
{
	struct exit_report *report = NEW0(struct exit_report);

	report->process = arg;
	report->code = lost ? EXIT_UNKNOWN : code;
	report->process->refs++;
	co_spawn("exit", handle_exit, report, USEC_NEVER);
}

static void close_guest_end(int stream, void *arg)
{
	struct process *p = arg;

	p->ops->close(p->guest, stream);
}

static void on_first_output(void *arg)
{
	struct process *p = arg;

	log_phase("start to first output", p->started);
}

#define FIELD(key, form, member) \
	{ \
		.name = key, .type = form, .offset = offsetof(struct gcs_process_params, member) \
	}
/* Of an OCI process, what a process of the VM itself has. */
static const struct json_field program_fields[] = {
	FIELD("args", JSON_STRINGS, args),
	FIELD("cwd", JSON_STRING, cwd),
	FIELD("env", JSON_STRINGS, env),
	FIELD("terminal", JSON_BOOL, console),
};
#undef FIELD
static const struct json_table program_table = {
	.name = "process",
	.size = sizeof(struct gcs_process_params),
	.fields = program_fields,
	.n_fields = ARRAY_SIZE(program_fields),
};

static CO int execute_in_guest(struct process *p, struct err *err)
{
	struct gcs_process_params params = { 0 };
	int r = 0;

	if (!p->container)
		r = json_decode_object(p->spec, &program_table, &params, err);
	if (r < 0)
		return r;
	params.in = io_wants(p->io, 0);
	params.out = io_wants(p->io, 1);
	params.err = io_wants(p->io, 2);
	params.process = p->container ? p->spec : NULL;
	r = p->ops->execute(p->ctx, p->container, &params, &p->guest, err);
	json_free(&program_table, &params);
	return r;
}

static CO int execute(struct process *p, struct err *err)
{
	int r = execute_in_guest(p, err);

	if (r < 0)
		return r;
	p->pid = p->ops->pid(p->guest);

	int fds[3];

	for (int i = 0; i < 3; i++)
		fds[i] = io_wants(p->io, i) ? p->ops->fd(p->guest, i) : -EBADF;
	if (!*p->exec_id)
		io_on_first_output(p->io, on_first_output, p);
	r = io_start(p->io, fds, close_guest_end, p, err);
	if (r < 0)
		p->ops->signal(p->guest, 0, NULL);
	return r;
}

void process_fail(struct process *p)
{
	if (p->state != PROCESS_CREATED)
		return;
	terminate(p, 1);
	io_abandon(p->io);
}

CO int process_start(struct process *p, CO void (*exited)(struct process *p, void *arg), void *arg,
		     struct err *err)
{
	if (p->state != PROCESS_CREATED || p->starting)
		return err_set(err, -ERR_STATE, "cannot start a process in state %s",
			       p->starting ? "Starting" : state_names[p->state]);
	p->starting = true;
	p->started = time_mono();
	p->refs++;

	int r = execute(p, err);

	p->starting = false;
	if (r < 0) {
		process_fail(p);
	} else {
		p->exited = exited;
		p->arg = arg;
		set_state(p, PROCESS_RUNNING);
		p->ops->on_exit(p->guest, on_guest_exit, p);
		/* It may have ended already, and runs in any case. */
		if (p->width || p->height)
			p->ops->resize(p->guest, p->width, p->height, NULL);
	}
	process_put(p);
	return r;
}

void process_release_exit(struct process *p)
{
	co_event_set(&p->released);
}

CO int process_wait(struct process *p)
{
	p->refs++;

	int r = co_event_wait(&p->terminated);

	process_put(p);
	return r;
}

/* ---- signals, stdio, end ---- */

CO int process_kill(struct process *p, int signal, struct err *err)
{
	if (p->starting || p->state == PROCESS_NOT_CREATED)
		return err_set(err, -ERR_STATE, "cannot signal a process that is being started");
	if (p->state == PROCESS_TERMINATED)
		return err_set(err, -ERR_NOT_FOUND, "process already finished: not found");
	if (p->state == PROCESS_CREATED) {
		terminate(p, 128 + (uint32_t)signal);
		io_abandon(p->io);
		return 0;
	}
	p->refs++;

	int r = p->ops->signal(p->guest, signal, err);

	process_put(p);
	if (r < 0 && vm_device_gone(r))
		return err_set(err, -ERR_NOT_FOUND, "process already finished: not found");
	return r;
}

CO int process_resize(struct process *p, uint16_t width, uint16_t height, struct err *err)
{
	if (p->state != PROCESS_CREATED && p->state != PROCESS_RUNNING)
		return err_set(err, -ERR_STATE, "cannot resize a stopped container");
	if (!p->terminal)
		return 0;
	if (p->state == PROCESS_CREATED) {
		p->width = width;
		p->height = height;
		return 0;
	}
	p->refs++;

	int r = p->ops->resize(p->guest, width, height, err);

	process_put(p);
	return r;
}

void process_close_stdin(struct process *p)
{
	if (p->io)
		io_close_stdin(p->io);
}

CO int process_delete(struct process *p, struct err *err)
{
	if (p->starting || p->state == PROCESS_RUNNING)
		return err_set(err, -ERR_STATE, "cannot delete a running process");
	if (p->state == PROCESS_CREATED) {
		terminate(p, 0);
		io_abandon(p->io);
	}
	if (p->io) {
		io_await_readers(p->io);
		io_await_logger(p->io);
	}
	return 0;
}

void process_set_pid(struct process *p, uint32_t pid)
{
	p->pid = pid;
}

void process_get_status(const struct process *p, struct process_status *ret)
{
	*ret = (struct process_status){
		.state = p->state,
		.pid = p->pid,
		.exit_status = p->exit_status,
		.exited_at = p->exited_at,
		.exec_id = p->exec_id,
		.in = p->paths[0],
		.out = p->paths[1],
		.err = p->paths[2],
		.terminal = p->terminal,
	};
}

struct process *process_free(struct process *p)
{
	if (!p)
		return NULL;
	co_event_set(&p->released);
	p->exited = NULL;
	/* Output that nobody takes must not keep the exit's coroutine. */
	if (p->io)
		io_abandon(p->io);
	process_put(p);
	return NULL;
}
