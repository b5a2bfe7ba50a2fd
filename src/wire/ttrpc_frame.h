/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_TTRPC_FRAME_H
#define LCOW_WIRE_TTRPC_FRAME_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Frames of ttrpc (https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md), and a connection
 * that carries them. Private to ttrpc_*.c, their tests and fuzzers.
 */

enum {
	TTRPC_HEADER_LEN = 10,
	TTRPC_REQUEST = 1,
	TTRPC_RESPONSE = 2,
	TTRPC_DATA = 3,
	TTRPC_FLAG_REMOTE_CLOSED = 1,
	TTRPC_FLAG_REMOTE_OPEN = 2,
	TTRPC_FLAG_NO_DATA = 4,
	/** a peer that leaves so much unread is gone */
	TTRPC_QUEUE_MAX = 64 << 20,
};

#define TTRPC_NAMESPACE_KEY "containerd-namespace-ttrpc"

/**
 * struct ttrpc_frame - one frame
 * @oversize:	the payload was longer than TTRPC_MESSAGE_MAX and has been dropped
 */
struct ttrpc_frame {
	uint32_t stream;
	uint8_t type;
	uint8_t flags;
	bool oversize;
	const uint8_t *payload;
	size_t len;
};

/**
 * struct ttrpc_parser - bytes that came in, and frames that come out of them; {0} is an empty one
 */
struct ttrpc_parser {
	uint8_t *data;
	size_t pos;
	size_t len;
	size_t cap;
	uint32_t discard;
	bool discarding;
	struct ttrpc_frame discarded;
};

/**
 * ttrpc_parser_space() - where the next bytes go; invalidates the payload of earlier frames
 * @ret:	pointer to at least one byte
 * @ret_len:	how many fit; grows with what has come in, not with what a header announces
 * Return: 0 or -ENOMEM
 */
int ttrpc_parser_space(struct ttrpc_parser *p, uint8_t **ret, size_t *ret_len);
/** ttrpc_parser_filled() - @len bytes were put there */
void ttrpc_parser_filled(struct ttrpc_parser *p, size_t len);
/**
 * ttrpc_parser_next() - Return: whether @ret is a frame; its payload stays valid until
 * ttrpc_parser_space()
 */
bool ttrpc_parser_next(struct ttrpc_parser *p, struct ttrpc_frame *ret);
/** ttrpc_parser_free() - free the bytes; @p is empty then */
void ttrpc_parser_free(struct ttrpc_parser *p);

/**
 * struct ttrpc_conn - a socket with a parser before it and a queue behind it
 */
struct ttrpc_conn;

/**
 * struct ttrpc_conn_ops - what the owner of a connection is told, from the loop's own stack
 * @frame:	a frame came in; must not free the connection
 * @written:	something was written; may be NULL
 * @closed:	the peer has gone, or was too slow; the last call, the owner frees the connection
 * (now or later)
 */
struct ttrpc_conn_ops {
	void (*frame)(void *arg, const struct ttrpc_frame *frame);
	void (*written)(void *arg);
	void (*closed)(void *arg);
};

/**
 * ttrpc_conn_new() - start reading from @fd, which is taken over in every case; Return: 0 or
 * negative errno
 */
int ttrpc_conn_new(int fd, const struct ttrpc_conn_ops *ops, void *arg, struct ttrpc_conn **ret);
/**
 * ttrpc_conn_free() - close, drop what is queued; NULL is fine; never from within @frame; Return:
 * NULL
 */
struct ttrpc_conn *ttrpc_conn_free(struct ttrpc_conn *c);
/**
 * ttrpc_conn_send() - queue a message as one frame
 *
 * Never waits and never calls back: a failure of the socket, or a queue above TTRPC_QUEUE_MAX,
 * shows as @closed later.
 *
 * Return: 0, or -EMSGSIZE when the message is above TTRPC_MESSAGE_MAX (nothing is sent), -ENOMEM,
 * -ECONNRESET
 */
int ttrpc_conn_send(struct ttrpc_conn *c, uint8_t type, uint32_t stream,
		    const ProtobufCMessage *msg);
/** ttrpc_conn_hangup() - end the connection; @closed follows from the loop */
void ttrpc_conn_hangup(struct ttrpc_conn *c);
/** ttrpc_conn_queued() - bytes ever queued; what was written is ttrpc_conn_written() */
uint64_t ttrpc_conn_queued(const struct ttrpc_conn *c);
uint64_t ttrpc_conn_written(const struct ttrpc_conn *c);

#endif
