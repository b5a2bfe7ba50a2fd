/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_DUPLEX_H
#define LCOW_LOOP_DUPLEX_H

#include <stdbool.h>

#include "base/list.h"
#include "loop/co.h"

/**
 * struct duplex - two stream sockets that are joined: a relay in each direction
 *
 * The end of one direction becomes a half-close of its target, and the other direction goes on. It
 * is over when both have ended, or when an end that has nothing more to say is gone altogether.
 */
struct duplex;

/**
 * duplex_new() - join two sockets
 * @a, @b:	non-blocking; owned from now on, whatever is returned
 * @over:	called once at the end, from the loop; the duplex may be freed in it
 * @arg:	for @over
 *
 * Return: 0 or negative errno
 */
int duplex_new(int a, int b, void (*over)(struct duplex *d, void *arg), void *arg,
	       struct duplex **ret);
/** duplex_free() - stop and close both; NULL is fine; Return: NULL */
struct duplex *duplex_free(struct duplex *d);

/**
 * struct duplexes - those of one owner, who is rid of each when it is over; a limited number
 * @n:		places that are taken: by them, and for those that are still to come
 * @max:	how many places there are
 * @room:	set when one was given back
 * @left:	called then, too; may be NULL
 */
struct duplexes {
	struct list list;
	unsigned n;
	unsigned max;
	struct co_event room;
	void (*left)(void *arg);
	void *arg;
};

/** duplexes_init() - none, and @max places; @left and @arg as above */
void duplexes_init(struct duplexes *s, unsigned max, void (*left)(void *arg), void *arg);
/** duplexes_take() - a place; Return: false when there is none */
bool duplexes_take(struct duplexes *s);
/** duplexes_await() - a place, once there is one; Return: 0, -ETIMEDOUT or -ECANCELED */
CO int duplexes_await(struct duplexes *s);
/** duplexes_give() - give a place back */
void duplexes_give(struct duplexes *s);
/**
 * duplexes_join() - join two sockets, in a place that was taken
 * @a, @b:	as for duplex_new()
 *
 * Return: 0 or negative errno; then the place was given back
 */
int duplexes_join(struct duplexes *s, int a, int b);
/** duplexes_close() - end them all, without a word to @left */
void duplexes_close(struct duplexes *s);

#endif
