/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_INTERNAL_H
#define LCOW_LOOP_INTERNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "loop/co.h"

/* What the files of this room share; no other room includes it. */

/*
 * Slices longer than SLICE_MAX microseconds are logged, for who looks for what blocks: no warning,
 * since on a busy host, and in a VM that is emulated, it is the processor that was away.
 */
#define SLICE_MAX (50 * USEC_PER_MSEC)
#define SLICE_LONG (1000 * USEC_PER_MSEC)
#define SLICE_LEVEL(took) ((took) > SLICE_LONG ? LOG_INFO : LOG_DEBUG)

/** loop_sigmask() - signals that are blocked while the loop runs; a context switch keeps to it */
const sigset_t *loop_sigmask(void);
/**
 * loop_slice_told() - the callback that runs has been reported as slow by a better name than its
 * own
 */
void loop_slice_told(void);

/**
 * co_suspend() - suspend the running coroutine until co_wake()
 * @what:	static text for dumps: what is waited for
 * @id:		number that goes with it, such as an fd; -1 for none
 * @waiters:	list to wait in, by struct co; NULL for none. co_wake() takes the coroutine out
 * @firm:	neither cancellation nor the deadline ends it
 *
 * Return: what co_wake() was given, -ETIMEDOUT or -ECANCELED
 */
CO int co_suspend(const char *what, long id, struct list *waiters, bool firm);
/**
 * co_wake() - let the pending suspend of @co return @result; harmless when it is not suspended or
 * already woken
 */
void co_wake(struct co *co, int result);
/** co_check() - Return: 0, -ETIMEDOUT or -ECANCELED, as the next suspend would */
int co_check(void);
/** co_dump() - write a line for every coroutine */
void co_dump(FILE *out);
/** co_fini() - free the pooled stacks */
void co_fini(void);

#endif
