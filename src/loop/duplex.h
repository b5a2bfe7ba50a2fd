/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_DUPLEX_H
#define LCOW_LOOP_DUPLEX_H

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

#endif
