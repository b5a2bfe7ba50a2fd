/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_MUX_INTERNAL_H
#define LCOW_WIRE_MUX_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "loop/co.h"
#include "wire/mux.h"
#include "wire/mux_frame.h"

/* What the files of the multiplexer share; tests may feed it bytes through mux_receive(). */

struct loop_timer;
struct loop_watch;

enum {
	MUX_BUCKETS = 1024,
	MUX_IN_MAX = 256 << 10, /* read from the channel at a time */
	/* with that much unwritten, no more data is read from the streams */
	MUX_BACKLOG = 256 << 10,
	/* with that much unwritten the peer is out of order: it makes us answer and reads nothing
	 * */
	MUX_OUT_MAX = 2 << 20,
	MUX_CREDIT_STEP = MUX_WINDOW / 4,
};

/**
 * struct mux_dial - a dial under way, on the stack of its coroutine
 * @stream:	NULL once it is decided
 * @fd:		the user's end of the pair
 */
struct mux_dial {
	struct co_event done;
	struct mux_stream *stream;
	int result;
	int fd;
};

/**
 * struct mux_stream - an open stream; mux_stream_settle() alone makes it go
 * @link:	in mux.streams, in the order of opening
 * @ready:	in mux.ready while it has data that the channel had no room for
 * @key:	number; MUX_YOURS set when this end opened it. As in frames received; inverted in
 *		frames sent
 * @fd:		our end of the pair
 * @dial:	of a stream that was not accepted yet
 * @open_sent:	OPEN was sent
 * @credit:	bytes that may be sent
 * @window:	bytes that the peer may send
 * @unacked:	passed on, not yet told to the peer
 * @inbox:	what the user has not taken yet, from @inbox_head on
 * @eof:	the user sends no more and everything was read
 * @gone:	the user takes no more
 * @sent_shut:	SHUT was sent, or nobody wants to hear it
 * @peer_shut:	SHUT was received
 * @peer_gone:	RESET was received after SHUT
 * @ended:	the user has been told of @peer_shut
 */
struct mux_stream {
	struct mux *mux;
	struct list link;
	struct list ready;
	struct mux_stream *next;
	uint32_t key;
	uint32_t port;
	int fd;
	struct loop_watch *watch;
	struct mux_dial *dial;
	bool open_sent;
	uint32_t credit;
	uint32_t window;
	uint32_t unacked;
	uint8_t *inbox;
	size_t inbox_head;
	size_t inbox_len;
	bool eof;
	bool gone;
	bool sent_shut;
	bool peer_shut;
	bool peer_gone;
	bool ended;
};

struct mux_listener {
	struct list link;
	uint32_t port;
	void (*accept)(int fd, void *arg);
	void *arg;
};

/**
 * struct mux - the multiplexer
 * @depth:	callbacks on the stack; what is put off until the last returns: writing, and freeing
 * @why:	why the channel is over, 1 while it is not
 * @over:	tells @broken from the loop
 * @in:		read and not yet handled, @in_len bytes
 * @out:	not yet written, @out_len bytes from @out_head on
 * @nonce:	of our HELLO
 * @peer_nonce:	of the last HELLO received, once @greeted
 * @synced:	our HELLO was answered
 * @last_local:	last number that we chose
 * @last_peer:	last number that the peer chose
 */
struct mux {
	int fd;
	bool is_socket;
	struct loop_watch *watch;
	void (*broken)(int why, void *arg);
	void *arg;
	unsigned depth;
	bool freed;
	int why;
	struct loop_timer *over;
	uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_head;
	size_t out_len;
	size_t out_cap;
	uint32_t nonce;
	uint32_t peer_nonce;
	bool greeted;
	bool synced;
	uint32_t last_local;
	uint32_t last_peer;
	struct list listeners;
	struct list streams;
	struct list ready;
	struct mux_stream *buckets[MUX_BUCKETS];
	unsigned n_streams;
};

/**
 * mux_enter() / mux_leave() - bracket everything that comes from the loop or a user; the last leave
 * writes what there is
 */
void mux_enter(struct mux *m);
void mux_leave(struct mux *m);
/** mux_fail() - the channel is over; @broken follows from the loop */
void mux_fail(struct mux *m, int why);
/**
 * mux_out() - room for @len bytes at the end of what is to be written; the caller adds to out_len
 */
uint8_t *mux_out(struct mux *m, size_t len);
/** mux_send() - append a frame without payload */
void mux_send(struct mux *m, enum mux_type type, uint32_t stream, uint32_t arg);
/** mux_receive() - handle bytes as if the channel had brought them; Return: 0 or -EBADMSG */
int mux_receive(struct mux *m, const uint8_t *data, size_t len);

/** mux_stream_new() - a stream and its pair; Return: 0 with the user's end, or negative errno */
int mux_stream_new(struct mux *m, uint32_t key, struct mux_stream **ret, int *ret_fd);
struct mux_stream *mux_stream_find(struct mux *m, uint32_t key);
/** mux_stream_start() - it was accepted: data may flow */
void mux_stream_start(struct mux_stream *s);
/** mux_stream_pump() - read up to @frames frames from the user */
void mux_stream_pump(struct mux_stream *s, unsigned frames);
/** mux_stream_take() - payload from the peer, within the window; Return: 0 or -EBADMSG */
int mux_stream_take(struct mux_stream *s, const uint8_t *data, size_t len);
/** mux_stream_reset() - the peer reset it; the stream may be gone afterwards */
void mux_stream_reset(struct mux_stream *s);
/** mux_stream_settle() - do what follows from the flags; the stream may be gone afterwards */
void mux_stream_settle(struct mux_stream *s);
/** mux_stream_free() - forget it; a dial ends with @result */
void mux_stream_free(struct mux_stream *s, int result);

#endif
