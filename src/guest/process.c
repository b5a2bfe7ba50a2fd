/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "guest/private.h"
#include "loop/loop.h"
#include "wire/json.h"

enum {
	STREAMS = 3,
	EXIT_LOST = 255,
};

/* HCS_E_PROCESS_ALREADY_STOPPED */
static const uint32_t hr_process_stopped = 0x8037011F;

static const char *const stream_names[STREAMS] = { "stdin", "stdout", "stderr" };

/**
 * struct guest_process - a process in the guest
 * @link:	in the guest's processes
 * @guest:	NULL once the guest is gone
 * @container:	NULL for the UVM
 * @ports:	while it is being started
 * @changed:	a port has ended, or the bridge
 * @wait:	the pending WaitForProcess, while @waiting
 * @timer:	delivers the exit from the loop
 */
struct guest_process {
	struct list link;
	struct guest *guest;
	char *container;
	uint32_t pid;
	int fds[STREAMS];
	bool in_closed;
	struct port *ports[STREAMS];
	struct co_event changed;
	struct bridge_pending wait;
	bool waiting;
	bool exited;
	bool lost;
	bool delivered;
	uint32_t code;
	void (*fn)(uint32_t code, bool lost, void *arg);
	void *arg;
	struct loop_timer *timer;
};

/* --- a process that nobody wants --- */

static void on_killed(struct bridge_pending *p, struct json_object *answer)
{
	free(p);
}

/**
 * kill_unwanted() - SIGKILL to a process that was started, but cannot be handed to who asked for it
 */
static void kill_unwanted(struct guest *g, const char *container, uint32_t pid)
{
	struct gcs_signal_options kill = { SIGKILL };
	struct gcs_signal_request request = { .pid = pid };
	struct bridge_pending *pending = NEW0(struct bridge_pending);

	if (g->negotiated.caps.guest.signal_process)
		request.options = &kill;
	pending->done = on_killed;
	if (guest_begin(g, pending, GCS_SIGNAL_PROCESS, container, &request.base,
			&gcs_signal_request_table, &request, NULL) < 0)
		free(pending);
}

/* --- start --- */

/**
 * struct start - an ExecuteProcess under way; it outlives a caller that gave up
 * @abandoned:	nobody waits: what was started is killed
 * @err:	the caller's
 */
struct start {
	struct bridge_pending pending;
	struct guest *guest;
	char *container;
	struct co_event answered;
	bool abandoned;
	int result;
	uint32_t pid;
	struct err *err;
};

static void start_free(struct start *s)
{
	free(s->container);
	free(s);
}

static void on_started(struct bridge_pending *pending, struct json_object *answer)
{
	struct start *s = CONTAINER_OF(pending, struct start, pending);
	struct gcs_execute_reply reply = { 0 };

	s->result = bridge_decode(s->guest->bridge, GCS_EXECUTE_PROCESS, answer,
				  &gcs_execute_reply_table, &reply, s->err);
	s->pid = reply.pid;
	json_free(&gcs_execute_reply_table, &reply);
	if (!s->abandoned) {
		co_event_set(&s->answered);
		return;
	}
	if (s->result >= 0)
		kill_unwanted(s->guest, s->container, s->pid);
	start_free(s);
}

/** start_call() - ExecuteProcess; Return: 0 with the pid, or a negative code with text */
static int start_call(struct guest *g, struct guest_process *p, struct gcs_execute_request *request,
		      struct err *err)
{
	struct start *s = NEW0(struct start);
	int r;

	s->pending.done = on_started;
	s->guest = g;
	s->container = mem_strdup(p->container);
	s->err = err;
	co_event_init(&s->answered);
	r = guest_begin(g, &s->pending, GCS_EXECUTE_PROCESS, p->container, &request->base,
			&gcs_execute_request_table, request, err);
	if (r < 0) {
		start_free(s);
		return r;
	}
	r = bridge_wait(g->bridge, &s->pending, &s->answered);
	if (r < 0) {
		s->abandoned = true;
		s->err = NULL;
		return err_sys(err, r, "guest: %s", gcs_type_name(GCS_EXECUTE_PROCESS));
	}
	r = s->result;
	if (r >= 0 && s->pid == 0)
		r = err_set(err, -EPROTO, "guest: it started a process without an id");
	p->pid = s->pid;
	start_free(s);
	return r;
}

static int stdio_listen_one(struct guest *g, struct guest_process *p, int stream,
			    uint32_t *ret_port, struct err *err)
{
	const struct port_spec spec = { .name = stream_names[stream], .changed = &p->changed };
	int r = guest_listen_any(g, &spec, &p->ports[stream], ret_port, err);

	if (r < 0)
		return err_wrap(err, r, "guest: listen for %s", stream_names[stream]);
	port_accept(p->ports[stream]);
	return 0;
}

static int stdio_listen(struct guest *g, struct guest_process *p,
			const struct gcs_process_params *params, struct gcs_ports *ret,
			struct err *err)
{
	int r = 0;

	if (params->in)
		r = stdio_listen_one(g, p, 0, &ret->in, err);
	if (r >= 0 && params->out)
		r = stdio_listen_one(g, p, 1, &ret->out, err);
	if (r >= 0 && params->err)
		r = stdio_listen_one(g, p, 2, &ret->err, err);
	return r;
}

/** stdio_missing() - the first wanted stream that the guest has not dialled, -1 for none */
static int stdio_missing(const struct guest_process *p)
{
	for (int i = 0; i < STREAMS; i++)
		if (p->ports[i] && !port_ended(p->ports[i]))
			return i;
	return -1;
}

/** stdio_take() - the streams, which an honest guest has dialled before it answered */
static int stdio_take(struct guest *g, struct guest_process *p, struct err *err)
{
	uint64_t begun = time_mono();
	CO_LIMIT(g->dial_usec);
	int stream;

	while ((stream = stdio_missing(p)) >= 0) {
		int r;

		if (!bridge_alive(g->bridge))
			return err_set(err, -ERR_UNAVAILABLE, "guest: the bridge has ended");
		co_event_clear(&p->changed);
		r = co_event_wait(&p->changed);
		if (r == -ETIMEDOUT && time_mono() - begun >= g->dial_usec)
			return err_set(err, -EREMOTEIO,
				       "guest: it started the process without its %s",
				       stream_names[stream]);
		if (r < 0)
			return err_sys(err, r, "guest: wait for it to dial %s",
				       stream_names[stream]);
	}
	for (int i = 0; i < STREAMS; i++) {
		int fd = p->ports[i] ? port_take(p->ports[i]) : -EBADF;

		if (p->ports[i] && fd < 0)
			return err_set(err, -ERR_UNAVAILABLE, "guest: %s: %s", stream_names[i],
				       strerrordesc_np(-fd));
		p->fds[i] = fd;
	}
	return 0;
}

static void on_exited(struct bridge_pending *pending, struct json_object *answer);

static int wait_begin(struct guest *g, struct guest_process *p, struct err *err)
{
	struct gcs_wait_request request = { .pid = p->pid, .timeout_ms = UINT32_MAX };
	int r;

	p->wait.done = on_exited;
	p->waiting = true;
	r = guest_begin(g, &p->wait, GCS_WAIT_FOR_PROCESS, p->container, &request.base,
			&gcs_wait_request_table, &request, err);
	if (r < 0)
		p->waiting = false;
	return r;
}

static struct guest_process *process_new(struct guest *g, const char *id)
{
	struct guest_process *p = NEW0(struct guest_process);

	p->guest = g;
	p->container = mem_strdup(id);
	for (int i = 0; i < STREAMS; i++)
		p->fds[i] = -EBADF;
	co_event_init(&p->changed);
	list_append(&g->processes, &p->link);
	return p;
}

int guest_execute(struct guest *g, const char *id, const struct gcs_process_params *params,
		  struct guest_process **ret, struct err *err)
{
	struct gcs_process_params borrowed = *params;
	struct gcs_execute_request request = { .settings.params = &borrowed };
	struct guest_process *p;
	int r;

	if (!g->connected)
		return err_set(err, -ERR_UNAVAILABLE, "guest: not connected");
	p = process_new(g, id);
	r = stdio_listen(g, p, params, &request.settings.ports, err);
	if (r >= 0)
		r = start_call(g, p, &request, err);
	if (r >= 0) {
		r = stdio_take(g, p, err);
		if (r >= 0)
			r = wait_begin(g, p, err);
		if (r < 0)
			kill_unwanted(g, p->container, p->pid);
	}
	for (int i = 0; i < STREAMS; i++) {
		if (p->ports[i])
			port_join(p->ports[i], 0);
		p->ports[i] = port_free(p->ports[i]);
	}
	if (r < 0) {
		guest_process_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* --- exit --- */

static void deliver_exit(void *arg)
{
	struct guest_process *p = arg;

	p->timer = loop_timer_free(p->timer);
	p->delivered = true;
	p->fn(p->code, p->lost, p->arg);
}

/** exit_known() - the callback is due once there is both an exit and a callback */
static void exit_known(struct guest_process *p)
{
	if (p->exited && p->fn && !p->delivered && !p->timer)
		p->timer = loop_timer_new(0, deliver_exit, p);
}

static void on_exited(struct bridge_pending *pending, struct json_object *answer)
{
	struct guest_process *p = CONTAINER_OF(pending, struct guest_process, wait);
	struct gcs_wait_reply reply = { 0 };
	struct err err = { 0 };
	int r;

	p->waiting = false;
	p->exited = true;
	r = bridge_decode(p->guest->bridge, GCS_WAIT_FOR_PROCESS, answer, &gcs_wait_reply_table,
			  &reply, &err);
	if (r >= 0) {
		p->code = reply.exit_code;
	} else if (err.hresult == HR_NOT_FOUND) {
		/* The guest forgets an exec once its exit was told: upstream counts that as
		 * success. */
		p->code = 0;
	} else {
		p->code = EXIT_LOST;
		p->lost = !bridge_alive(p->guest->bridge);
		if (!p->lost)
			log_msg(LOG_WARN, &(struct log_fields){ .container = p->container },
				"exit of process %u: %s", p->pid, err.text);
	}
	json_free(&gcs_wait_reply_table, &reply);
	exit_known(p);
}

void guest_process_on_exit(struct guest_process *p, void (*fn)(uint32_t code, bool lost, void *arg),
			   void *arg)
{
	p->fn = fn;
	p->arg = arg;
	exit_known(p);
}

/* --- a running process --- */

uint32_t guest_process_pid(const struct guest_process *p)
{
	return p->pid;
}

int guest_process_fd(const struct guest_process *p, int stream)
{
	if (stream < 0 || stream >= STREAMS || (stream == 0 && p->in_closed))
		return -EBADF;
	return p->fds[stream];
}

void guest_process_close(struct guest_process *p, int stream)
{
	if (guest_process_fd(p, stream) < 0)
		return;
	if (stream == 0) {
		/* A guest may take a full close for a broken connection. */
		shutdown(p->fds[0], SHUT_WR);
		p->in_closed = true;
	} else {
		p->fds[stream] = fd_close(p->fds[stream]);
	}
}

/** process_call() - guest_call() about a process; @p may go meanwhile */
static int process_call(struct guest_process *p, uint32_t type, struct gcs_base *base,
			const struct json_table *table, const void *request, struct err *err)
{
	struct gcs_reply reply = { 0 };
	uint32_t pid = p->pid;
	int r;

	if (p->exited && !p->lost)
		return err_set(err, -ERR_NOT_FOUND, "guest: process %u has ended", pid);
	if (!p->guest || p->lost)
		return err_set(err, -ERR_UNAVAILABLE, "guest: the bridge has ended");
	r = guest_call(p->guest, type, p->container, base, table, request, &gcs_reply_table, &reply,
		       err);
	json_free(&gcs_reply_table, &reply);
	return r;
}

int guest_process_signal(struct guest_process *p, int signal, struct err *err)
{
	struct gcs_signal_options options = { signal ? signal : SIGKILL };
	struct gcs_signal_request request = { .pid = p->pid, .options = &options };
	struct err why = { 0 };
	int r;

	if (signal < 0 || signal > SIGRTMAX)
		return err_set(err, -ERR_INVALID, "guest: no signal %d", signal);
	if (p->guest && p->guest->connected && !p->guest->negotiated.caps.guest.signal_process) {
		if (options.signal != SIGKILL && options.signal != SIGTERM)
			return err_set(err, -ERR_UNIMPLEMENTED,
				       "guest: it delivers no signal but SIGKILL");
		request.options = NULL;
	}
	r = process_call(p, GCS_SIGNAL_PROCESS, &request.base, &gcs_signal_request_table, &request,
			 &why);
	if (r < 0)
		err_copy(err, &why);
	if (why.hresult == HR_ALREADY_STOPPED || why.hresult == hr_process_stopped) {
		r = -ERR_NOT_FOUND;
		if (err)
			err->code = r;
	}
	return r;
}

int guest_process_resize(struct guest_process *p, uint16_t width, uint16_t height, struct err *err)
{
	struct gcs_resize_request request = { .pid = p->pid, .height = height, .width = width };

	return process_call(p, GCS_RESIZE_CONSOLE, &request.base, &gcs_resize_request_table,
			    &request, err);
}

struct guest_process *guest_process_free(struct guest_process *p)
{
	if (!p)
		return NULL;
	if (p->waiting)
		bridge_forget(&p->wait);
	loop_timer_free(p->timer);
	for (int i = 0; i < STREAMS; i++) {
		fd_close(p->fds[i]);
		port_free(p->ports[i]);
	}
	list_remove(&p->link);
	free(p->container);
	free(p);
	return NULL;
}

/* --- the guest goes --- */

void guest_processes_ended(struct guest *g)
{
	LIST_FOR_EACH(it, &g->processes)
		co_event_set(&LIST_ENTRY(it, struct guest_process, link)->changed);
}

void guest_processes_forget(struct guest *g)
{
	LIST_FOR_EACH_SAFE(it, &g->processes) {
		LIST_ENTRY(it, struct guest_process, link)->guest = NULL;
		list_remove(it);
	}
}
