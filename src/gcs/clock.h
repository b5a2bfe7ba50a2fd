/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_CLOCK_H
#define LCOW_GCS_CLOCK_H

#include <stdint.h>

struct err;

/** enum clock_move - what is to be done with a clock that is off */
enum clock_move {
	CLOCK_SLEW, /* by 100 ms at most: let it run a little faster or slower, for minutes */
	CLOCK_STEP,
};

/**
 * clock_decide() - compare two times of day
 * @now_ns:	the clock's, nanoseconds since 1970
 * @wanted_ns:	the right one
 * @ret_off_ns:	how much is missing
 *
 * Return: an enum clock_move; -ERR_INVALID when @wanted_ns is no time that can be: before 2020, or
 * after 2200
 */
int clock_decide(uint64_t now_ns, uint64_t wanted_ns, int64_t *ret_off_ns, struct err *err);

/**
 * clock_set() - set the VM's time of day by the host's
 * Return: 0 or negative errno with text
 */
int clock_set(uint64_t wanted_ns, struct err *err);

/** clock_step() - set it at once, whatever it says now; Return: 0 or negative errno with text */
int clock_step(uint64_t wanted_ns, struct err *err);

#endif
