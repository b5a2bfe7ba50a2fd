/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_EACH_H
#define LCOW_LOOP_EACH_H

#include <stdbool.h>
#include <stddef.h>

#include "loop/co.h"

struct err;

/* How many of its calls are under way at a time. */
enum { EACH_AT_ONCE = 16 };

/**
 * each_call() - call @fn for 0 to @n - 1, several at a time, each in a coroutine with the caller's
 * deadline; begun in this order, they may end in any
 * @name:	of the coroutines, static text for dumps
 * @go_on:	after a failure too; else no more are begun
 *
 * Returns when all that were begun have. Cancellation of the caller and its deadline are theirs:
 * they still are waited for, and no more are begun.
 *
 * Return: 0, or what the first of them to fail returned, with its text
 */
CO int each_call(const char *name, size_t n, CO int (*fn)(size_t i, void *arg, struct err *err),
		 void *arg, bool go_on, struct err *err);

#endif
