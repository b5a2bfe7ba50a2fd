/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_WORKER_H
#define LCOW_LOOP_WORKER_H

#include "loop/co.h"

/**
 * worker_call() - run a blocking function on one of two threads while the loop goes on
 * @fn:		runs on the worker; touches nothing but @arg and what it owns
 * @arg:	for @fn; must live until worker_call() returns
 *
 * Not interrupted by cancellation or the deadline: it returns when @fn has.
 *
 * Return: what @fn returned
 */
CO int worker_call(int (*fn)(void *arg), void *arg);

/** worker_fini() - join the threads, if any were started */
void worker_fini(void);

#endif
