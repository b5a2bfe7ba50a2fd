/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_GATEWAY_H
#define LCOW_LOOP_GATEWAY_H

#include <stdint.h>

#include "loop/co.h"

/**
 * struct gateway - a socket that is listened on: for each connection another one is dialled, and
 * the two are joined
 *
 * The peer of a connection for which none could be dialled sees a reset where there is such a
 * thing, and the end otherwise. What is too much waits in the listener's queue.
 */
struct gateway;

/**
 * struct gateway_spec - what a gateway does
 * @name:	static text for dumps
 * @max:	connections at a time, with those that are being dialled
 * @dial_usec:	for one @dial
 * @dial:	make the other connection of one that has come: non-blocking, the caller's. Other
 *		calls may be under way. It is cancelled when the gateway goes, and then should
 *		return soon
 * @gone:	called once when the gateway is free and the last @dial has returned; may be NULL
 * @arg:	for @dial and @gone
 */
struct gateway_spec {
	const char *name;
	unsigned max;
	uint64_t dial_usec;
	CO int (*dial)(int from, void *arg, int *ret_fd);
	void (*gone)(void *arg);
	void *arg;
};

/**
 * gateway_new() - take connections from now on
 * @listener:	non-blocking, listening; owned from now on, whatever is returned
 *
 * Return: 0 or negative errno; then @gone is not called
 */
int gateway_new(int listener, const struct gateway_spec *spec, struct gateway **ret);
/** gateway_free() - listen no more and close every connection; NULL is fine; Return: NULL */
struct gateway *gateway_free(struct gateway *g);

#endif
