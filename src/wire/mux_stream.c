/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/loop.h"
#include "wire/mux_internal.h"

/* One stream: the copying between its socket pair and the frames, and its end. */

static void on_ready(int fd, uint32_t events, void *arg);

static struct mux_stream **bucket(struct mux *m, uint32_t key)
{
	return &m->buckets[(key ^ key >> 21) % MUX_BUCKETS];
}

struct mux_stream *mux_stream_find(struct mux *m, uint32_t key)
{
	struct mux_stream *s = *bucket(m, key);

	while (s && s->key != key)
		s = s->next;
	return s;
}

int mux_stream_new(struct mux *m, uint32_t key, struct mux_stream **ret, int *ret_fd)
{
	struct mux_stream *s, **head = bucket(m, key);
	int pair[2];

	if (m->n_streams >= MUX_STREAMS_MAX)
		return -EMFILE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	s = NEW0(struct mux_stream);
	s->mux = m;
	s->key = key;
	s->fd = pair[0];
	s->credit = s->window = MUX_WINDOW;
	s->next = *head;
	*head = s;
	list_append(&m->streams, &s->link);
	list_init(&s->ready);
	m->n_streams++;
	*ret = s;
	*ret_fd = pair[1];
	return 0;
}

void mux_stream_free(struct mux_stream *s, int result)
{
	struct mux *m = s->mux;
	struct mux_stream **p = bucket(m, s->key);

	if (s->dial) {
		s->dial->stream = NULL;
		s->dial->result = result;
		co_event_set(&s->dial->done);
	}
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	m->n_streams--;
	list_remove(&s->link);
	list_remove(&s->ready);
	loop_watch_free(s->watch);
	fd_close(s->fd);
	free(s->inbox);
	free(s);
}

/* Bytes have left our hands: the peer may send as many again, told in larger steps */
static void passed_on(struct mux_stream *s, size_t n)
{
	s->unacked += (uint32_t)n;
	if (s->unacked < MUX_CREDIT_STEP || s->peer_shut)
		return;
	mux_send(s->mux, MUX_CREDIT, s->key, s->unacked);
	s->window += s->unacked;
	s->unacked = 0;
}

/* Write to the user. Return: bytes that are done with, all of them when the user is gone */
static size_t deliver(struct mux_stream *s, const uint8_t *data, size_t len)
{
	ssize_t n;

	if (s->gone)
		return len;
	do
		n = send(s->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return (size_t)n;
	if (errno == EAGAIN)
		return 0;
	s->gone = true;
	return len;
}

static void deliver_inbox(struct mux_stream *s)
{
	size_t n;

	if (!s->inbox_len)
		return;
	n = deliver(s, s->inbox + s->inbox_head, s->inbox_len);
	s->inbox_head += n;
	s->inbox_len -= n;
	passed_on(s, n);
	if (!s->inbox_len) {
		free(TAKE_PTR(s->inbox));
		s->inbox_head = 0;
	}
}

int mux_stream_take(struct mux_stream *s, const uint8_t *data, size_t len)
{
	size_t n = 0;

	if (s->dial || s->peer_shut || len > s->window)
		return -EBADMSG;
	s->window -= (uint32_t)len;
	if (!s->inbox_len)
		n = deliver(s, data, len);
	if (n < len) {
		if (!s->inbox)
			s->inbox = mem_new0(1, MUX_WINDOW);
		/* the window keeps it within MUX_WINDOW */
		if (s->inbox_head + s->inbox_len + len - n > MUX_WINDOW) {
			memmove(s->inbox, s->inbox + s->inbox_head, s->inbox_len);
			s->inbox_head = 0;
		}
		memcpy(s->inbox + s->inbox_head + s->inbox_len, data + n, len - n);
		s->inbox_len += len - n;
	}
	passed_on(s, n);
	mux_stream_settle(s);
	return 0;
}

/* Read a frame from the user straight into what is to be written. Return: whether there may be more
 * */
static bool read_frame(struct mux_stream *s)
{
	struct mux *m = s->mux;
	size_t max = s->credit < MUX_DATA_MAX ? s->credit : MUX_DATA_MAX;
	uint8_t *p = mux_out(m, MUX_HEADER + max);
	ssize_t n = read(s->fd, p + MUX_HEADER, max);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		/* ECONNRESET: it closed without having read all; what it wrote came before */
		s->gone |= n < 0;
		s->eof = true;
		return false;
	}
	mux_frame_encode(&(struct mux_frame){ .type = MUX_DATA,
					      .len = (uint16_t)n,
					      .stream = s->key ^ MUX_YOURS },
			 p);
	m->out_len += MUX_HEADER + (size_t)n;
	s->credit -= (uint32_t)n;
	return true;
}

void mux_stream_pump(struct mux_stream *s, unsigned frames)
{
	struct mux *m = s->mux;
	bool more = true;

	if (s->dial || s->eof)
		return;
	for (; frames && more && s->credit && m->out_len < MUX_BACKLOG; frames--)
		more = read_frame(s);
	list_remove(&s->ready);
	if (more && !s->eof && s->credit && m->out_len >= MUX_BACKLOG)
		list_append(&m->ready, &s->ready);
}

void mux_stream_reset(struct mux_stream *s)
{
	if (s->dial || !s->peer_shut || s->gone) {
		mux_stream_free(s, -ECONNREFUSED);
		return;
	}
	/* everything of the peer's has arrived, and it takes nothing more: the user's writes shall
	 * fail */
	s->peer_gone = s->eof = s->sent_shut = true;
	shutdown(s->fd, SHUT_RD);
	mux_stream_settle(s);
}

/* What the stream waits for. No watch at all where it is nothing: a user that hung up would be told
 * again and again */
static void watch(struct mux_stream *s)
{
	uint32_t events = s->inbox_len ? EPOLLOUT : 0;

	if (!s->eof && s->credit && list_empty(&s->ready))
		events |= EPOLLIN;
	/* a user that has shut down one way may still close */
	if (!events && !(s->sent_shut && !s->gone)) {
		s->watch = loop_watch_free(s->watch);
	} else if (s->watch) {
		loop_watch_events(s->watch, events);
	} else {
		int r = loop_watch_new(s->fd, events, on_ready, s, &s->watch);

		if (r < 0)
			mux_fail(s->mux, r);
	}
}

void mux_stream_settle(struct mux_stream *s)
{
	struct mux *m = s->mux;

	deliver_inbox(s);
	if (s->eof && !s->sent_shut) {
		mux_send(m, MUX_SHUT, s->key, 0);
		s->sent_shut = true;
	}
	if (s->peer_shut && !s->inbox_len) {
		if (s->sent_shut) {
			mux_stream_free(s, 0);
			return;
		}
		if (!s->ended)
			shutdown(s->fd, SHUT_WR);
		s->ended = true;
	}
	if (s->gone && s->sent_shut) {
		/* the peer has, or will get, all that the user wrote: RESET after SHUT keeps it */
		if (!s->peer_gone)
			mux_send(m, MUX_RESET, s->key, 0);
		mux_stream_free(s, 0);
		return;
	}
	watch(s);
}

void mux_stream_start(struct mux_stream *s)
{
	s->dial = NULL;
	mux_stream_settle(s);
}

static void on_ready(int fd, uint32_t events, void *arg)
{
	struct mux_stream *s = arg;
	struct mux *m = s->mux;

	mux_enter(m);
	/* both ways are shut; unless one was by us, the user has closed */
	if (events & (EPOLLHUP | EPOLLERR) && !s->ended)
		s->gone = true;
	mux_stream_pump(s, 4);
	mux_stream_settle(s);
	mux_leave(m);
}
