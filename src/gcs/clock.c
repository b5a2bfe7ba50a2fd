/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/clock.h"

#include <errno.h>
#include <sys/timex.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "base/time.h"

#define YEAR_2020_NS (1577836800 * NSEC_PER_SEC)
#define YEAR_2200_NS (7258118400 * NSEC_PER_SEC)

enum { STEP_NS = 100000000, NSEC_PER_USEC = 1000, NSEC_PER_MSEC = 1000000 };

int clock_decide(uint64_t now_ns, uint64_t wanted_ns, int64_t *ret_off_ns, struct err *err)
{
	int64_t off;

	if (wanted_ns < YEAR_2020_NS || wanted_ns >= YEAR_2200_NS)
		return err_set(err, -ERR_INVALID, "%llu ns is no time of day of these years",
			       (unsigned long long)wanted_ns);
	off = (int64_t)(wanted_ns - now_ns);
	*ret_off_ns = off;
	return off > STEP_NS || off < -STEP_NS ? CLOCK_STEP : CLOCK_SLEW;
}

int clock_step(uint64_t wanted_ns, struct err *err)
{
	const struct timespec ts = {
		.tv_sec = (time_t)(wanted_ns / NSEC_PER_SEC),
		.tv_nsec = (long)(wanted_ns % NSEC_PER_SEC),
	};

	/* It ends a slew that is under way, too. */
	if (clock_settime(CLOCK_REALTIME, &ts) < 0)
		return err_sys(err, -errno, "set the clock to %llu ns",
			       (unsigned long long)wanted_ns);
	return 0;
}

int clock_set(uint64_t wanted_ns, struct err *err)
{
	struct timex slew = { .modes = ADJ_OFFSET_SINGLESHOT };
	int64_t off = 0;
	int r = clock_decide(time_real_ns(), wanted_ns, &off, err);

	if (r < 0)
		return r;
	if (r == CLOCK_STEP) {
		r = clock_step(wanted_ns, err);
		if (r >= 0)
			log_info("the clock was off by %lld ms: set",
				 (long long)(off / NSEC_PER_MSEC));
		return r;
	}
	slew.offset = (long)(off / NSEC_PER_USEC);
	if (adjtimex(&slew) < 0)
		return err_sys(err, -errno, "slew the clock by %ld us", slew.offset);
	return 0;
}
