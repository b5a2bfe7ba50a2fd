/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/clock.h"

#include <check.h>
#include <stdlib.h>

#include "base/err.h"

#define NOW 1700000000000000000ull
#define MSEC 1000000ull

static int64_t off;
static struct err err;

START_TEST(up_to_100_ms_are_slewed)
{
	ck_assert_int_eq(clock_decide(NOW, NOW, &off, NULL), CLOCK_SLEW);
	ck_assert_int_eq(clock_decide(NOW, NOW + 100 * MSEC, &off, NULL), CLOCK_SLEW);
	ck_assert(off == 100 * (int64_t)MSEC);
	ck_assert_int_eq(clock_decide(NOW, NOW - 100 * MSEC, &off, NULL), CLOCK_SLEW);
	ck_assert(off == -100 * (int64_t)MSEC);
}
END_TEST

START_TEST(more_is_stepped)
{
	ck_assert_int_eq(clock_decide(NOW, NOW + 100 * MSEC + 1, &off, NULL), CLOCK_STEP);
	ck_assert_int_eq(clock_decide(NOW, NOW - 100 * MSEC - 1, &off, NULL), CLOCK_STEP);
	/* A VM whose clock was never set. */
	ck_assert_int_eq(clock_decide(0, NOW, &off, NULL), CLOCK_STEP);
	ck_assert(off == (int64_t)NOW);
}
END_TEST

START_TEST(what_is_no_time_of_day_is_refused)
{
	off = 7;
	ck_assert_int_eq(clock_decide(NOW, 0, &off, &err), -ERR_INVALID);
	ck_assert_int_eq(clock_decide(NOW, 1577836799999999999ull, &off, &err), -ERR_INVALID);
	ck_assert_int_eq(clock_decide(NOW, 1577836800000000000ull, &off, &err), CLOCK_STEP);
	off = 7;
	ck_assert_int_eq(clock_decide(NOW, 7258118400000000000ull, &off, &err), -ERR_INVALID);
	ck_assert_int_eq(clock_decide(NOW, UINT64_MAX, &off, &err), -ERR_INVALID);
	ck_assert(off == 7);
	ck_assert_int_eq(clock_set(UINT64_MAX, &err), -ERR_INVALID);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gcs clock");
	TCase *tc = tcase_create("gcs clock");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, up_to_100_ms_are_slewed);
	tcase_add_test(tc, more_is_stepped);
	tcase_add_test(tc, what_is_no_time_of_day_is_refused);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
