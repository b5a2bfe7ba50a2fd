/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_TIME_H
#define LCOW_BASE_TIME_H

#include <stdint.h>

#define USEC_PER_SEC 1000000ull
#define USEC_PER_MSEC 1000ull
#define NSEC_PER_SEC 1000000000ull
/** a deadline that never comes */
#define USEC_NEVER UINT64_MAX

/** time_mono() - CLOCK_MONOTONIC in microseconds */
uint64_t time_mono(void);
/** time_real_ns() - CLOCK_REALTIME in nanoseconds since 1970 */
uint64_t time_real_ns(void);

#endif
