/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/mux.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/loop.h"
#include "wire/mux_internal.h"

/* The channel: handshake, frames in and out, listeners and dials. */

enum { NOT_OVER = 1, ROUNDS = 4, IN_ROOM = MUX_HEADER + MUX_DATA_MAX };

static void destroy(struct mux *m)
{
	loop_watch_free(m->watch);
	loop_timer_free(m->over);
	free(m->in);
	free(m->out);
	free(m);
}

static void drop_streams(struct mux *m)
{
	LIST_FOR_EACH_SAFE(it, &m->streams)
		mux_stream_free(LIST_ENTRY(it, struct mux_stream, link), -ECONNRESET);
}

/* From the loop, not from within a dial or a callback that others still work in */
static void on_over(void *arg)
{
	struct mux *m = arg;

	mux_enter(m);
	drop_streams(m);
	if (m->broken)
		m->broken(m->why, m->arg);
	mux_leave(m);
}

void mux_fail(struct mux *m, int why)
{
	if (m->why != NOT_OVER)
		return;
	m->why = why;
	m->watch = loop_watch_free(m->watch);
	m->out_len = 0;
	m->over = loop_timer_new(0, on_over, m);
}

uint8_t *mux_out(struct mux *m, size_t len)
{
	if (m->out_head + m->out_len + len > m->out_cap) {
		if (m->out_len)
			memmove(m->out, m->out + m->out_head, m->out_len);
		m->out_head = 0;
	}
	if (m->out_len + len > m->out_cap) {
		m->out_cap = (m->out_len + len) * 2;
		m->out = mem_resize(m->out, m->out_cap, 1);
	}
	return m->out + m->out_head + m->out_len;
}

void mux_send(struct mux *m, enum mux_type type, uint32_t stream, uint32_t arg)
{
	if (m->why != NOT_OVER)
		return;
	if (m->out_len > MUX_OUT_MAX) {
		mux_fail(m, -EBADMSG);
		return;
	}
	if (type != MUX_HELLO && type != MUX_WELCOME)
		stream ^= MUX_YOURS;
	mux_frame_encode(&(struct mux_frame){ .type = (uint8_t)type, .stream = stream, .arg = arg },
			 mux_out(m, MUX_HEADER));
	m->out_len += MUX_HEADER;
}

static void flush(struct mux *m)
{
	while (m->out_len && m->why == NOT_OVER) {
		const uint8_t *p = m->out + m->out_head;
		ssize_t n = m->is_socket ? send(m->fd, p, m->out_len, MSG_NOSIGNAL)
					 : write(m->fd, p, m->out_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			mux_fail(m, -errno);
			break;
		}
		m->out_head += (size_t)n;
		m->out_len -= (size_t)n;
	}
	if (!m->out_len)
		m->out_head = 0;
}

/* Give every stream that waits for room in the channel its turn, a frame at a time */
static void serve_ready(struct mux *m)
{
	while (m->out_len < MUX_BACKLOG / 2 && !list_empty(&m->ready) && m->why == NOT_OVER) {
		struct list round = m->ready;

		/* a stream that still has data is linked anew behind them */
		round.next->prev = round.prev->next = &round;
		list_init(&m->ready);
		while (!list_empty(&round)) {
			struct mux_stream *s = LIST_ENTRY(round.next, struct mux_stream, ready);

			list_remove(&s->ready);
			if (m->out_len < MUX_BACKLOG)
				mux_stream_pump(s, 1);
			else
				list_append(&m->ready, &s->ready);
			mux_stream_settle(s);
		}
		flush(m);
	}
}

void mux_enter(struct mux *m)
{
	m->depth++;
}

void mux_leave(struct mux *m)
{
	if (m->depth > 1) {
		m->depth--;
		return;
	}
	if (!m->freed && m->why == NOT_OVER) {
		flush(m);
		serve_ready(m);
	}
	m->depth--;
	if (m->freed)
		destroy(m);
	else if (m->watch)
		loop_watch_events(m->watch, EPOLLIN | (m->out_len ? EPOLLOUT : 0));
}

/* ---- frames ---- */

static struct mux_listener *find_listener(struct mux *m, uint32_t port)
{
	LIST_FOR_EACH(it, &m->listeners) {
		struct mux_listener *l = LIST_ENTRY(it, struct mux_listener, link);

		if (l->port == port)
			return l;
	}
	return NULL;
}

static int on_open(struct mux *m, const struct mux_frame *f)
{
	struct mux_listener *l = find_listener(m, f->arg);
	struct mux_stream *s;
	int fd;

	if (f->stream & MUX_YOURS || f->stream <= m->last_peer)
		return -EBADMSG;
	m->last_peer = f->stream;
	if (!l || mux_stream_new(m, f->stream, &s, &fd) < 0) {
		mux_send(m, MUX_RESET, f->stream, 0);
		return 0;
	}
	mux_send(m, MUX_ACCEPT, f->stream, 0);
	mux_stream_start(s);
	l->accept(fd, l->arg);
	return 0;
}

static int on_accept(struct mux_stream *s)
{
	struct mux_dial *d = s->dial;

	if (!d || !s->open_sent)
		return -EBADMSG;
	d->stream = NULL;
	d->result = 0;
	co_event_set(&d->done);
	mux_stream_start(s);
	return 0;
}

static int on_credit(struct mux_stream *s, uint32_t bytes)
{
	if (s->dial || bytes > MUX_WINDOW - s->credit)
		return -EBADMSG;
	s->credit += bytes;
	mux_stream_pump(s, 1);
	mux_stream_settle(s);
	return 0;
}

static int on_shut(struct mux_stream *s)
{
	if (s->dial || s->peer_shut)
		return -EBADMSG;
	s->peer_shut = true;
	mux_stream_settle(s);
	return 0;
}

/* A frame about a stream that we do not know: it crossed the one that closed the stream, unless
 * there never was such a one */
static int on_unknown(struct mux *m, const struct mux_frame *f)
{
	uint32_t last = f->stream & MUX_YOURS ? m->last_local : m->last_peer;
	uint32_t number = f->stream & ~MUX_YOURS;

	return number && number <= last ? 0 : -EBADMSG;
}

static void on_hello(struct mux *m, uint32_t nonce)
{
	bool anew = !m->greeted || nonce != m->peer_nonce;

	m->greeted = true;
	m->peer_nonce = nonce;
	/* an end that came before this one may have eaten our HELLO and died */
	if (anew && !m->synced)
		mux_send(m, MUX_HELLO, m->nonce, MUX_VERSION);
	/* before, dials were not sent and stay */
	if (anew && m->synced)
		drop_streams(m);
	if (anew)
		m->last_peer = 0;
	mux_send(m, MUX_WELCOME, nonce, MUX_VERSION);
}

static void on_welcome(struct mux *m, uint32_t nonce)
{
	if (m->synced || nonce != m->nonce)
		return;
	m->synced = true;
	LIST_FOR_EACH(it, &m->streams) {
		struct mux_stream *s = LIST_ENTRY(it, struct mux_stream, link);

		mux_send(m, MUX_OPEN, s->key, s->port);
		s->open_sent = true;
	}
}

static int on_frame(struct mux *m, const struct mux_frame *f, const uint8_t *payload)
{
	struct mux_stream *s;

	if (f->type == MUX_HELLO)
		on_hello(m, f->stream);
	else if (f->type == MUX_WELCOME)
		on_welcome(m, f->stream);
	else if (f->type == MUX_OPEN)
		return on_open(m, f);
	if (f->type == MUX_HELLO || f->type == MUX_WELCOME)
		return 0;

	s = mux_stream_find(m, f->stream);
	if (!s)
		return on_unknown(m, f);
	switch (f->type) {
	case MUX_ACCEPT:
		return on_accept(s);
	case MUX_DATA:
		return mux_stream_take(s, payload, f->len);
	case MUX_CREDIT:
		return on_credit(s, f->arg);
	case MUX_SHUT:
		return on_shut(s);
	default:
		mux_stream_reset(s);
		return 0;
	}
}

/* How many bytes at @p are of no use while we wait for our WELCOME: all but HELLO and WELCOME */
static size_t skip_stale(const uint8_t *p, size_t len)
{
	size_t at = 0;

	for (; len - at >= MUX_HEADER; at++) {
		struct mux_frame f;

		if (p[at] != MUX_HELLO && p[at] != MUX_WELCOME)
			continue;
		if (mux_frame_decode(p + at, &f) >= 0)
			break;
	}
	return at;
}

/* Handle the whole frames at @p. Return: bytes used, or -EBADMSG */
static ssize_t handle(struct mux *m, const uint8_t *p, size_t len)
{
	size_t at = 0;

	while (!m->freed && m->why == NOT_OVER) {
		struct mux_frame f;
		int r;

		if (!m->synced)
			at += skip_stale(p + at, len - at);
		if (len - at < MUX_HEADER)
			break;
		r = mux_frame_decode(p + at, &f);
		if (r < 0)
			return r;
		if (len - at < MUX_HEADER + (size_t)f.len)
			break;
		r = on_frame(m, &f, p + at + MUX_HEADER);
		if (r < 0)
			return r;
		at += MUX_HEADER + (size_t)f.len;
	}
	return (ssize_t)at;
}

/* Handle what is in the buffer, keep the rest */
static int handle_in(struct mux *m)
{
	ssize_t used = handle(m, m->in, m->in_len);

	if (used < 0)
		return (int)used;
	m->in_len -= (size_t)used;
	if (m->in_len && used)
		memmove(m->in, m->in + used, m->in_len);
	return 0;
}

int mux_receive(struct mux *m, const uint8_t *data, size_t len)
{
	int r = 0;

	mux_enter(m);
	while (len && r >= 0 && !m->freed && m->why == NOT_OVER) {
		size_t n = MUX_IN_MAX + IN_ROOM - m->in_len;

		n = n < len ? n : len;
		memcpy(m->in + m->in_len, data, n);
		m->in_len += n;
		data += n;
		len -= n;
		r = handle_in(m);
	}
	if (r < 0)
		mux_fail(m, r);
	mux_leave(m);
	return r;
}

/*
 * Read what there is, within limits. A socket gives it at once, and a short read has emptied it; a
 * virtio port gives a page at a time. Return: whether there may be more
 */
static bool fill(struct mux *m, int *ret_why)
{
	/* what was left over is less than a frame: there is always room for MUX_IN_MAX more */
	size_t end = m->in_len + MUX_IN_MAX;

	while (m->in_len < end) {
		size_t room = end - m->in_len;
		ssize_t n = read(m->fd, m->in + m->in_len, room);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (n <= 0) {
			*ret_why = n < 0 ? -errno : 0;
			return false;
		}
		m->in_len += (size_t)n;
		if (m->is_socket && (size_t)n < room)
			return false;
	}
	return true;
}

static void on_channel(int fd, uint32_t events, void *arg)
{
	struct mux *m = arg;
	bool more = true;

	mux_enter(m);
	for (int i = 0; i < ROUNDS && more && !m->freed && m->why == NOT_OVER; i++) {
		int why = NOT_OVER, r;

		more = fill(m, &why);
		r = handle_in(m);
		if (r < 0 || why != NOT_OVER)
			mux_fail(m, r < 0 ? r : why);
	}
	mux_leave(m);
}

/* ---- users ---- */

int mux_new(int fd, void (*broken)(int why, void *arg), void *arg, struct mux **ret)
{
	struct mux *m = NEW0(struct mux);
	struct stat st;
	int r;

	m->fd = fd;
	m->is_socket = fstat(fd, &st) >= 0 && S_ISSOCK(st.st_mode);
	m->broken = broken;
	m->arg = arg;
	m->why = NOT_OVER;
	m->in = mem_new0(1, MUX_IN_MAX + IN_ROOM);
	list_init(&m->listeners);
	list_init(&m->streams);
	list_init(&m->ready);
	r = loop_watch_new(fd, EPOLLIN, on_channel, m, &m->watch);
	if (r >= 0 && getrandom(&m->nonce, sizeof(m->nonce), GRND_INSECURE) != sizeof(m->nonce))
		r = -errno;
	if (r < 0) {
		destroy(m);
		return r;
	}
	mux_enter(m);
	mux_send(m, MUX_HELLO, m->nonce, MUX_VERSION);
	mux_leave(m);
	*ret = m;
	return 0;
}

struct mux *mux_free(struct mux *m)
{
	if (!m)
		return NULL;
	mux_enter(m);
	LIST_FOR_EACH(it, &m->streams) {
		struct mux_stream *s = LIST_ENTRY(it, struct mux_stream, link);

		if (!s->dial || s->open_sent)
			mux_send(m, MUX_RESET, s->key, 0);
	}
	drop_streams(m);
	LIST_FOR_EACH_SAFE(it, &m->listeners)
		free(LIST_ENTRY(it, struct mux_listener, link));
	list_init(&m->listeners);
	flush(m);
	m->freed = true;
	mux_leave(m);
	return NULL;
}

int mux_listen(struct mux *m, uint32_t port, void (*accept)(int fd, void *arg), void *arg)
{
	struct mux_listener *l;

	if (find_listener(m, port))
		return -EADDRINUSE;
	l = NEW0(struct mux_listener);
	l->port = port;
	l->accept = accept;
	l->arg = arg;
	list_append(&m->listeners, &l->link);
	return 0;
}

void mux_unlisten(struct mux *m, uint32_t port)
{
	struct mux_listener *l = find_listener(m, port);

	if (!l)
		return;
	list_remove(&l->link);
	free(l);
}

CO int mux_dial(struct mux *m, uint32_t port, int *ret_fd)
{
	struct mux_dial dial = { .fd = -EBADF };
	struct mux_stream *s;
	int r;

	if (m->why != NOT_OVER || m->freed)
		return -ECONNRESET;
	if (m->last_local == ~MUX_YOURS)
		return -EMFILE;
	r = mux_stream_new(m, (m->last_local + 1) | MUX_YOURS, &s, &dial.fd);
	if (r < 0)
		return r;
	m->last_local++;
	co_event_init(&dial.done);
	s->dial = &dial;
	s->port = port;
	dial.stream = s;
	if (m->synced) {
		mux_enter(m);
		mux_send(m, MUX_OPEN, s->key, port);
		s->open_sent = true;
		mux_leave(m);
	}
	r = co_event_wait(&dial.done);
	if (r >= 0)
		r = dial.result;
	if (dial.stream) {
		/* given up: the multiplexer is still there, or it would have ended the dial */
		s->dial = NULL;
		mux_enter(m);
		if (s->open_sent)
			mux_send(m, MUX_RESET, s->key, 0);
		mux_stream_free(s, 0);
		mux_leave(m);
	}
	if (r < 0)
		fd_close(dial.fd);
	else
		*ret_fd = dial.fd;
	return r;
}

unsigned mux_streams(const struct mux *m)
{
	return m->n_streams;
}
