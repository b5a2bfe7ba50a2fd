/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "gcs/transport.h"
#include "loop/loop.h"
#include "loop/relay.h"
#include "wire/gcs.h"

enum {
	CLOSE_LIMIT_USEC = 5000000, /* for the host to close its end after our half-close */
	ASK_USEC = 10000, /* for the host to close, until a vsock is asked to: doubled each time */
	ASK_MAX_USEC = 1000000,
	TICK_USEC = 1000000, /* children that keep a dead process' output open get one tick */
	STUCK_TICKS = 10, /* without progress: report the exit, go on copying */
};

static const char *const names[STDIO_COUNT] = { "stdin", "stdout", "stderr" };

void stdio_init(struct stdio *s)
{
	*s = (struct stdio){ .pty = -EBADF, .null = -EBADF, .tee = -EBADF };
	for (unsigned i = 0; i < STDIO_COUNT; i++) {
		s->stream[i] = (struct stream){
			.stdio = s, .sock = -EBADF, .end = -EBADF, .output = i != STDIO_IN
		};
		s->child[i] = -EBADF;
	}
}

int stdio_dial(struct stdio *s, struct transport *t, const struct gcs_process_params *params,
	       const struct gcs_ports *ports, struct err *err)
{
	const struct {
		bool wanted;
		uint32_t port;
	} want[STDIO_COUNT] = {
		{ params->in, ports->in },
		{ params->out, ports->out },
		{ params->err, ports->err },
	};

	for (unsigned i = 0; i < STDIO_COUNT; i++) {
		int r;

		if (!want[i].wanted)
			continue;
		if (!want[i].port)
			r = err_set(err, -ERR_INVALID,
				    "a pipe for %s is asked for, but no port given", names[i]);
		else
			r = transport_dial(t, want[i].port, &s->stream[i].sock, err);
		if (r < 0) {
			for (unsigned k = 0; k < i; k++)
				s->stream[k].sock = fd_close(s->stream[k].sock);
			return err_wrap(err, r, "connect %s", names[i]);
		}
	}
	return 0;
}

int stdio_pipes(struct stdio *s, bool all, struct err *err)
{
	for (unsigned i = 0; i < STDIO_COUNT; i++) {
		struct stream *st = &s->stream[i];
		int fds[2];

		if (!all && st->sock < 0)
			continue;
		if (pipe2(fds, O_CLOEXEC) < 0)
			return err_sys(err, -errno, "pipe for %s", names[i]);
		st->end = fds[st->output ? 0 : 1];
		s->child[i] = fds[st->output ? 1 : 0];
		fd_nonblock(st->end, true);
	}
	return 0;
}

void stdio_close_child(struct stdio *s)
{
	for (unsigned i = 0; i < STDIO_COUNT; i++)
		s->child[i] = fd_close(s->child[i]);
}

static void check_drained(struct stdio *s, bool anyway)
{
	void (*fn)(void *arg) = s->drained;

	for (unsigned i = 0; i < STDIO_COUNT; i++)
		if (s->stream[i].active && !anyway)
			return;
	s->drained = NULL;
	if (fn)
		fn(s->arg);
}

static void stream_close(struct stream *st)
{
	st->relay = relay_free(st->relay);
	st->closed = loop_watch_free(st->closed);
	st->close_limit = loop_timer_free(st->close_limit);
	st->sock = fd_close(st->sock);
	st->end = fd_close(st->end);
}

static void stream_done(struct stream *st)
{
	stream_close(st);
	st->active = false;
	check_drained(st->stdio, false);
}

static void on_host_closed(int fd, uint32_t events, void *arg)
{
	char drop[256];
	ssize_t n = read(fd, drop, sizeof(drop));

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	stream_done(arg);
}

static void on_close_limit(void *arg)
{
	log_warn("the host did not close a stream after its end");
	stream_done(arg);
}

static bool is_vsock(int fd)
{
	int domain;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_VSOCK;
}

/*
 * A host whose vsock is rust-vmm's daemon never hears of a half-close. The daemon passes on only
 * the end of both directions, and takes notice of that only at a moment when it has no data left;
 * so it is told again until the connection is gone. What is gone does not show in poll(2) after our
 * own end of both directions; but vsock refuses out-of-band data only while it is connected.
 */
static void on_ask(void *arg)
{
	struct stream *st = arg;
	char drop;

	if (st->asked &&
	    (recv(st->sock, &drop, 1, MSG_OOB | MSG_DONTWAIT) >= 0 || errno != EOPNOTSUPP)) {
		stream_done(st);
		return;
	}
	st->closed = loop_watch_free(st->closed);
	shutdown(st->sock, SHUT_RDWR);
	if (st->asked <= CLOSE_LIMIT_USEC)
		st->asked = st->asked ? 2 * st->asked : ASK_USEC;
	loop_timer_set(st->close_limit, st->asked < ASK_MAX_USEC ? st->asked : ASK_MAX_USEC);
	if (st->asked > CLOSE_LIMIT_USEC && st->active) {
		log_warn("the host has not read all of a stream yet");
		st->active = false;
		check_drained(st->stdio, false); /* may free st */
	}
}

/* The clean close of the protocol: half-close, then wait for the host to close, so that it has read
 * all. */
static void close_cleanly(struct stream *st)
{
	bool vsock = is_vsock(st->sock);

	st->end = fd_close(st->end);
	if (shutdown(st->sock, SHUT_WR) < 0 || (st->stdio->pty >= 0 && !vsock) ||
	    loop_watch_new(st->sock, EPOLLIN, on_host_closed, st, &st->closed) < 0) {
		stream_done(st);
		return;
	}
	st->close_limit = loop_timer_new(vsock ? ASK_USEC : CLOSE_LIMIT_USEC,
					 vsock ? on_ask : on_close_limit, st);
}

static int relay_output(struct stream *st, int to,
			void (*done)(struct relay *r, enum relay_end end, void *arg))
{
	int r = relay_new(st->end, to, done, st, &st->relay);

	if (r >= 0 && st->stdio->tee >= 0)
		relay_tee(st->relay, st->stdio->tee);
	return r;
}

static void on_discarded(struct relay *r, enum relay_end end, void *arg)
{
	stream_close(arg);
}

static void discard(struct stream *st)
{
	if (st->stdio->null < 0)
		st->stdio->null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (st->stdio->null < 0 || relay_output(st, st->stdio->null, on_discarded) < 0)
		stream_close(st);
}

static void on_relay_done(struct relay *r, enum relay_end end, void *arg)
{
	struct stream *st = arg;

	st->relay = relay_free(st->relay);
	if (!st->output) {
		stream_close(st);
	} else if (end == RELAY_BROKEN) {
		st->sock = fd_close(st->sock);
		discard(st);
		st->active = false;
		check_drained(st->stdio, false);
	} else {
		close_cleanly(st);
	}
}

int stdio_start(struct stdio *s, struct err *err)
{
	for (unsigned i = 0; i < STDIO_COUNT; i++) {
		struct stream *st = &s->stream[i];
		int r;

		if (s->pty >= 0 && i != STDIO_ERR) {
			st->end = fcntl(s->pty, F_DUPFD_CLOEXEC, 3);
			if (st->end < 0)
				return err_sys(err, -errno, "duplicate the terminal");
		}
		if (st->end < 0)
			continue;
		if (st->sock < 0) {
			if (st->output)
				discard(st);
			else
				st->end = fd_close(st->end);
			continue;
		}
		r = st->output ? relay_output(st, st->sock, on_relay_done)
			       : relay_new(st->sock, st->end, on_relay_done, st, &st->relay);
		if (r < 0)
			return err_sys(err, r, "relay %s", names[i]);
		st->active = st->output;
	}
	return 0;
}

static unsigned long long passed_on(const struct stdio *s)
{
	unsigned long long sum = 0;

	for (unsigned i = 0; i < STDIO_COUNT; i++)
		if (s->stream[i].relay)
			sum += relay_bytes(s->stream[i].relay);
	return sum;
}

/*
 * What the process itself wrote is in the pipe by now. Somebody else may hold the pipe open, for
 * ever: that output does not belong to the process. And a host that reads nothing must not keep the
 * exit from being known.
 */
static void on_tick(void *arg)
{
	struct stdio *s = arg;
	unsigned long long progress = passed_on(s);

	s->idle_ticks = progress == s->progress ? s->idle_ticks + 1 : 0;
	s->progress = progress;
	for (unsigned i = 0; i < STDIO_COUNT && s->ticks == 0; i++)
		if (s->stream[i].active && s->stream[i].relay)
			relay_finish(s->stream[i].relay, 0);
	s->ticks++;
	if (!s->drained)
		return;
	if (s->idle_ticks < STUCK_TICKS)
		loop_timer_set(s->after_exit, TICK_USEC);
	else
		check_drained(s, true);
}

void stdio_exited(struct stdio *s, void (*drained)(void *arg), void *arg)
{
	s->drained = drained;
	s->arg = arg;
	if (s->stream[STDIO_IN].sock >= 0)
		shutdown(s->stream[STDIO_IN].sock, SHUT_RD);
	stream_close(&s->stream[STDIO_IN]);
	s->progress = passed_on(s);
	s->after_exit = loop_timer_new(TICK_USEC, on_tick, s);
	check_drained(s, false);
}

void stdio_when_idle(struct stdio *s, void (*fn)(void *arg), void *arg)
{
	s->drained = fn;
	s->arg = arg;
	check_drained(s, false);
}

void stdio_free(struct stdio *s)
{
	s->drained = NULL;
	s->after_exit = loop_timer_free(s->after_exit);
	for (unsigned i = 0; i < STDIO_COUNT; i++)
		stream_close(&s->stream[i]);
	stdio_close_child(s);
	s->pty = fd_close(s->pty);
	s->null = fd_close(s->null);
	s->tee = fd_close(s->tee);
}
