/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_MUX_H
#define LCOW_WIRE_MUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

/*
 * The port multiplexer: vsock-like streams over one byte channel (a virtio-serial port). One end
 * listens on ports (the host), the other dials (the guest). A stream is handed out as one end of a
 * unix stream socket pair, so that whoever uses it sees an ordinary fd with half-close; the
 * multiplexer copies between the pair and the channel.
 *
 * Frame, little-endian, 12 bytes and payload: u8 type, u8 zero, u16 payload length, u32 stream, u32
 * argument.
 *   HELLO   (0)  argument = version 1, stream = a random number; the first frame of an end that has
 *                started. It resets every stream that the other end still has
 *   OPEN    (1)  argument = port; stream number chosen by the dialling end, counting up, never
 *                reused
 *   ACCEPT  (2)  the listening end took it
 *   DATA    (3)  payload of 1 to 32768 bytes, within the credit
 *   CREDIT  (4)  argument = bytes that the sender of this frame has passed on and that may be sent
 *                again
 *   SHUT    (5)  no more data from this end (half-close)
 *   RESET   (6)  the stream is gone (also the answer to an OPEN that nobody listens for). After
 *                SHUT it means that the sender takes no more data: what it had sent is still passed
 *                on
 *   WELCOME (7)  argument = version 1, stream = that of the HELLO which it answers
 * The top bit of a stream number is set in the frames of the end that did not open it, so that both
 * ends may dial.
 *
 * An end sends HELLO, then skips all that comes, be it the rest of a frame for a former user of the
 * channel, until it finds its WELCOME; only then it sends anything else. A HELLO is answered at any
 * time, and by an end that is still without WELCOME with a HELLO too; one with the number of the
 * last one resets nothing. So either end may start anew on a channel that the other one goes on to
 * use, as a restored VM and its new host do.
 *
 * Each end may have MUX_WINDOW unacknowledged bytes of a stream under way, so that one slow reader
 * stalls nobody. A stream is closed once both ends have sent SHUT and everything was passed on, or
 * one has sent RESET. A user who closes its fd has shut down both ways: what it wrote before is
 * still delivered. To a user a reset looks like the end of the stream (or ECONNRESET, when what it
 * wrote was not all sent) when it reads, and like EPIPE when it writes.
 */

enum { MUX_WINDOW = 256 << 10, MUX_DATA_MAX = 32 << 10, MUX_STREAMS_MAX = 4096 };

struct mux;

/**
 * mux_new() - speak the protocol over @fd
 * @fd:		non-blocking byte channel (stream socket or character device); stays the caller's
 *		and outlives the multiplexer. The peer need not be there yet: dials wait for it
 * @broken:	called once from the loop (the multiplexer may be freed in it) when the channel
 *		ended (0) or broke (negative errno: -EBADMSG for a protocol violation); every stream
 *		was reset before; may be NULL
 * @arg:	for @broken
 *
 * Return: 0 or negative errno
 */
int mux_new(int fd, void (*broken)(int why, void *arg), void *arg, struct mux **ret);
/** mux_free() - reset every stream and forget; NULL is fine; Return: NULL */
struct mux *mux_free(struct mux *m);

/**
 * mux_listen() - accept streams that the peer opens to @port
 * @accept:	called from the loop with each new stream's fd (non-blocking, the callee's); may
 *		unlisten or free the multiplexer
 *
 * Return: 0, or -EADDRINUSE
 */
int mux_listen(struct mux *m, uint32_t port, void (*accept)(int fd, void *arg), void *arg);
/** mux_unlisten() - further opens of @port are answered with RESET; accepted streams stay */
void mux_unlisten(struct mux *m, uint32_t port);

/**
 * mux_dial() - open a stream to a port of the peer
 * @ret_fd:	non-blocking stream socket, the caller's
 * Return: 0, -ECONNREFUSED when nobody listens, -ECONNRESET when the channel is gone or the peer
 * started anew, -EMFILE when MUX_STREAMS_MAX are open, -ETIMEDOUT, -ECANCELED
 */
CO int mux_dial(struct mux *m, uint32_t port, int *ret_fd);

/** mux_streams() - how many streams are open, for dumps and tests */
unsigned mux_streams(const struct mux *m);

#endif
