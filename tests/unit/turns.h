/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_TURNS_H
#define LCOW_TESTS_TURNS_H

#include "base/time.h"
#include "loop/co.h"
#include "loop/loop.h"

/* On a busy machine the time may be over before the first turn of the loop. */
enum { TURNS_MIN = 20 };

struct turns {
	struct loop_timer *timer;
	unsigned left;
};

static inline void turns_on_time(void *arg)
{
	struct turns *t = arg;

	if (t->left == 0) {
		loop_stop(0);
		return;
	}
	t->left--;
	loop_timer_set(t->timer, 0);
}

/* Turns of the loop for so many microseconds, and then some more. */
static inline void run_usec(uint64_t usec)
{
	struct turns t = { .left = TURNS_MIN };

	t.timer = loop_timer_new(usec, turns_on_time, &t);
	loop_run();
	loop_timer_free(t.timer);
}

static inline void run_for(uint64_t msec)
{
	run_usec(msec * USEC_PER_MSEC);
}

/* The same from within a coroutine. Return: 0, or what co_sleep() says */
CO static inline int settle_for(uint64_t msec)
{
	int r = co_sleep(msec * USEC_PER_MSEC);

	for (int i = 0; r == 0 && i < TURNS_MIN; i++)
		r = co_sleep(1);
	return r;
}

#endif
