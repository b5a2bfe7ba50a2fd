/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/ttrpc_frame.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "wire/ttrpc.h"

enum {
	READ_CHUNK = 16 << 10,
	/* What one connection may read in one turn of the loop, so that others get theirs. */
	READ_TURN_MAX = 1 << 20,
};

static uint32_t get_u32be(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static void put_u32be(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

int ttrpc_parser_space(struct ttrpc_parser *p, uint8_t **ret, size_t *ret_len)
{
	if (p->pos > 0) {
		memmove(p->data, p->data + p->pos, p->len - p->pos);
		p->len -= p->pos;
		p->pos = 0;
	}
	/* A connection that carried one large message should not hold its memory for ever. */
	if (p->len == 0 && p->cap > READ_CHUNK) {
		free(p->data);
		p->data = NULL;
		p->cap = 0;
	}

	size_t want = p->len < READ_CHUNK / 2 ? READ_CHUNK : 2 * p->len;
	if (want > p->cap) {
		uint8_t *data = realloc(p->data, want);
		if (!data)
			return -ENOMEM;
		p->data = data;
		p->cap = want;
	}
	*ret = p->data + p->len;
	*ret_len = p->cap - p->len;
	return 0;
}

void ttrpc_parser_filled(struct ttrpc_parser *p, size_t len)
{
	p->len += len;
}

/* Drop bytes of a message that is too long; Return: whether its last one was there. */
static bool discard(struct ttrpc_parser *p)
{
	size_t n = p->len - p->pos;

	if (n > p->discard)
		n = p->discard;
	p->pos += n;
	p->discard -= (uint32_t)n;
	return p->discard == 0;
}

bool ttrpc_parser_next(struct ttrpc_parser *p, struct ttrpc_frame *ret)
{
	if (!p->discarding) {
		size_t have = p->len - p->pos;

		if (have < TTRPC_HEADER_LEN)
			return false;

		const uint8_t *h = p->data + p->pos;
		uint32_t len = get_u32be(h);
		struct ttrpc_frame f = { .stream = get_u32be(h + 4), .type = h[8], .flags = h[9] };
		if (len <= TTRPC_MESSAGE_MAX) {
			if (have - TTRPC_HEADER_LEN < len)
				return false;
			f.payload = h + TTRPC_HEADER_LEN;
			f.len = len;
			p->pos += TTRPC_HEADER_LEN + len;
			*ret = f;
			return true;
		}
		f.oversize = true;
		p->discarded = f;
		p->discarding = true;
		p->discard = len;
		p->pos += TTRPC_HEADER_LEN;
	}
	if (!discard(p))
		return false;
	p->discarding = false;
	*ret = p->discarded;
	return true;
}

void ttrpc_parser_free(struct ttrpc_parser *p)
{
	free(p->data);
	*p = (struct ttrpc_parser){ 0 };
}

struct chunk {
	struct list link;
	size_t len;
	size_t off;
	uint8_t data[];
};

struct ttrpc_conn {
	int fd;
	struct loop_watch *watch;
	const struct ttrpc_conn_ops *ops;
	void *arg;
	struct ttrpc_parser parser;
	struct list out;
	uint64_t queued;
	uint64_t written;
	bool broken;
};

void ttrpc_conn_hangup(struct ttrpc_conn *c)
{
	if (c->broken)
		return;
	c->broken = true;
	/*
	 * The loop sees the hang-up and calls on_ready(): callers of ours need not expect to be
	 * called back.
	 */
	shutdown(c->fd, SHUT_RDWR);
	loop_watch_events(c->watch, EPOLLIN);
}

/* Write what the socket takes. */
static void flush(struct ttrpc_conn *c)
{
	while (!list_empty(&c->out)) {
		struct chunk *k = LIST_ENTRY(c->out.next, struct chunk, link);
		ssize_t n =
			send(c->fd, k->data + k->off, k->len - k->off, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			ttrpc_conn_hangup(c);
			return;
		}
		c->written += (size_t)n;
		k->off += (size_t)n;
		if (k->off == k->len) {
			list_remove(&k->link);
			free(k);
		}
	}
}

/* Return: whether the connection still lives */
static bool fill(struct ttrpc_conn *c)
{
	for (size_t total = 0; total < READ_TURN_MAX;) {
		uint8_t *space;
		size_t len;
		if (ttrpc_parser_space(&c->parser, &space, &len) < 0)
			return false;

		ssize_t n = recv(c->fd, space, len, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		ttrpc_parser_filled(&c->parser, (size_t)n);
		total += (size_t)n;

		struct ttrpc_frame frame;
		while (!c->broken && ttrpc_parser_next(&c->parser, &frame))
			c->ops->frame(c->arg, &frame);
		if (c->broken)
			return false;
	}
	return true;
}

static void on_ready(int fd, uint32_t events, void *arg)
{
	struct ttrpc_conn *c = arg;
	bool alive = !c->broken;

	if (alive && (events & EPOLLOUT)) {
		flush(c);
		if (list_empty(&c->out) && !c->broken)
			loop_watch_events(c->watch, EPOLLIN);
		if (c->ops->written)
			c->ops->written(c->arg);
	}
	if (alive && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		alive = fill(c);
	if (alive && !c->broken)
		return;

	c->broken = true;
	c->watch = loop_watch_free(c->watch);
	c->ops->closed(c->arg);
}

int ttrpc_conn_new(int fd, const struct ttrpc_conn_ops *ops, void *arg, struct ttrpc_conn **ret)
{
	struct ttrpc_conn *c = NEW0(struct ttrpc_conn);

	*c = (struct ttrpc_conn){ .fd = fd, .ops = ops, .arg = arg };
	list_init(&c->out);
	int r = loop_watch_new(fd, EPOLLIN, on_ready, c, &c->watch);
	if (r < 0) {
		ttrpc_conn_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct ttrpc_conn *ttrpc_conn_free(struct ttrpc_conn *c)
{
	if (!c)
		return NULL;
	loop_watch_free(c->watch);
	fd_close(c->fd);
	LIST_FOR_EACH_SAFE(it, &c->out)
		free(LIST_ENTRY(it, struct chunk, link));
	ttrpc_parser_free(&c->parser);
	free(c);
	return NULL;
}

int ttrpc_conn_send(struct ttrpc_conn *c, uint8_t type, uint32_t stream,
		    const ProtobufCMessage *msg)
{
	if (c->broken)
		return -ECONNRESET;

	size_t len = protobuf_c_message_get_packed_size(msg);
	if (len > TTRPC_MESSAGE_MAX)
		return -EMSGSIZE;
	if (c->queued - c->written + len > TTRPC_QUEUE_MAX) {
		log_warn("ttrpc: a peer leaves %zu MiB unread, closing",
			 (size_t)TTRPC_QUEUE_MAX >> 20);
		ttrpc_conn_hangup(c);
		return -ECONNRESET;
	}

	struct chunk *k = malloc(sizeof(*k) + TTRPC_HEADER_LEN + len);
	if (!k)
		return -ENOMEM;
	*k = (struct chunk){ .len = TTRPC_HEADER_LEN + len };
	put_u32be(k->data, (uint32_t)len);
	put_u32be(k->data + 4, stream);
	k->data[8] = type;
	k->data[9] = 0;
	protobuf_c_message_pack(msg, k->data + TTRPC_HEADER_LEN);

	bool idle = list_empty(&c->out);
	list_append(&c->out, &k->link);
	c->queued += k->len;
	if (!idle)
		return 0;
	flush(c);
	if (!list_empty(&c->out) && !c->broken)
		loop_watch_events(c->watch, EPOLLIN | EPOLLOUT);
	return 0;
}

uint64_t ttrpc_conn_queued(const struct ttrpc_conn *c)
{
	return c->queued;
}

uint64_t ttrpc_conn_written(const struct ttrpc_conn *c)
{
	return c->written;
}
