/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_CLOCK_H
#define LCOW_CONTROLLER_CLOCK_H

#include <stdint.h>

#include "loop/co.h"

struct err;

/*
 * Keeps the guest's time of day at the host's: told at once, whenever the host's is set, and from
 * time to time for what the two drift apart. Between, the guest's own clock goes on.
 */
struct clock;

/**
 * struct clock_ops - how the guest is told
 * @set:	-ERR_UNIMPLEMENTED: it cannot be, and is not asked again
 */
struct clock_ops {
	CO int (*set)(void *ctx, uint64_t unix_ns, struct err *err);
};

enum { CLOCK_PERIOD_SEC = 600 };

/**
 * clock_new() - tell the guest, and go on
 * @period_usec: how often
 *
 * Return: NULL without timers, which is logged
 */
struct clock *clock_new(const struct clock_ops *ops, void *ctx, uint64_t period_usec);
/** clock_sync() - tell the guest again, soon; NULL is fine */
void clock_sync(struct clock *c);
/**
 * clock_free() - end, and what is under way with it; from anywhere; NULL is fine
 * @ops ctx must live until the next turn of the loop. Return: NULL
 */
struct clock *clock_free(struct clock *c);

#endif
