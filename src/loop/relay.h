/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_RELAY_H
#define LCOW_LOOP_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

/**
 * struct relay - copies bytes from one fd to another by callbacks, with a bounded buffer (64 KiB)
 *
 * A full target stops the reading of its source and of nothing else.
 */
struct relay;

/** enum relay_end - why a relay ended */
enum relay_end {
	RELAY_EOF, /* the source ended and everything was written */
	RELAY_BROKEN, /* the target takes no more (EPIPE, ECONNRESET …) */
	RELAY_FAILED, /* reading failed */
};

/**
 * relay_new() - copy from @in to @out until the end of @in
 * @in:		non-blocking source; stays the caller's, and must outlive the relay
 * @out:	non-blocking target; likewise
 * @done:	called once at the end, from the loop; the relay may be freed in it
 * @arg:	for @done
 *
 * splice(2) where both ends allow, else a buffer. EIO of a pty master counts as EOF.
 *
 * Return: 0 or negative errno
 */
int relay_new(int in, int out, void (*done)(struct relay *r, enum relay_end end, void *arg),
	      void *arg, struct relay **ret);
/**
 * relay_finish() - the source will get no more: copy what is readable, then end with RELAY_EOF
 * @quiet:	while its other end is held open, how many microseconds nothing must be readable for
 *		that; 0 ends it at the first moment
 */
void relay_finish(struct relay *r, uint64_t quiet);
/** relay_on_first() - call @fn once from the loop when the first bytes have been written */
void relay_on_first(struct relay *r, void (*fn)(void *arg), void *arg);
/**
 * relay_tee() - write what is read from now on to another fd, too
 * @fd:		a file, which never makes the relay wait; stays the caller's, and must outlive the
 *		relay. A failure to write is logged, and ends the copy but not the relay
 */
void relay_tee(struct relay *r, int fd);
/** relay_bytes() - how many were written so far */
uint64_t relay_bytes(const struct relay *r);
/** relay_free() - stop and forget; NULL is fine; Return: NULL */
struct relay *relay_free(struct relay *r);

#endif
