/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_RATE_H
#define LCOW_GUEST_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

/**
 * struct rate - how often a guest may make us write to the log; a bucket of tokens
 * @per_sec:	tokens that come back a second
 * @burst:	size of the bucket
 * @spent:	tokens taken, in millionths
 * @at:		when @spent was true
 * @dropped:	how often it said no since it last said yes
 */
struct rate {
	uint32_t per_sec;
	uint32_t burst;
	uint64_t spent;
	uint64_t at;
	uint64_t dropped;
};

/** rate_take() - whether one more is allowed at @now, in monotonic microseconds */
static inline bool rate_take(struct rate *r, uint64_t now)
{
	uint64_t back = (now - r->at) * r->per_sec;

	r->spent = back < r->spent ? r->spent - back : 0;
	r->at = now;
	if (r->spent + USEC_PER_SEC > r->burst * USEC_PER_SEC) {
		r->dropped++;
		return false;
	}
	r->spent += USEC_PER_SEC;
	return true;
}

#endif
