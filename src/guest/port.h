/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_PORT_H
#define LCOW_GUEST_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "loop/co.h"

struct channel;
struct err;

/*
 * A port that the guest dials, with a coroutine that accepts. It ends by itself: port_close() and
 * port_free() only tell it to. It lets go of the channel at the next turn of the loop, at the
 * latest.
 */

struct port;

/**
 * struct port_spec - what a port does
 * @name:	static text for dumps
 * @serve:	what is done with a stream, which is closed afterwards; NULL: the stream is kept for
 *		port_take()
 * @arg:	for @serve; it is not called any more once port_close() or port_free() has been
 * @again:	accept the next one when @serve has returned; else the port ends after one
 * @changed:	set when the port has ended, unless port_free() came before; may be NULL
 */
struct port_spec {
	const char *name;
	CO void (*serve)(int fd, void *arg);
	void *arg;
	bool again;
	struct co_event *changed;
};

/** port_listen() - listen; streams wait until port_accept(); Return: 0 or negative errno */
int port_listen(struct channel *c, uint32_t number, const struct port_spec *spec, struct port **ret,
		struct err *err);
/** port_accept() - start accepting */
void port_accept(struct port *p);
/** port_ended() - whether it accepts no more and serves nothing */
bool port_ended(const struct port *p);
/**
 * port_take() - the stream that was accepted, now the caller's; or why there is none: negative
 * errno
 */
int port_take(struct port *p);
/** port_close() - accept no more; a stream that is being served goes on */
void port_close(struct port *p);
/**
 * port_join() - close, cancel what is being served after @usec, and wait for the end; not cut short
 * by anything
 */
CO void port_join(struct port *p, uint64_t usec);
/** port_free() - close, cancel and forget; NULL is fine; Return: NULL */
struct port *port_free(struct port *p);
static inline void port_freep(struct port **p)
{
	port_free(*p);
}

#endif
