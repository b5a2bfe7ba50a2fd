/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/clock.h"

#include <sys/timex.h>
#include <time.h>

#include "controller/fixture.h"

static struct fake f;
static struct clock *k;
static uint64_t told_ns;
static int code;

static CO int on_set(void *ctx, uint64_t unix_ns, struct err *err)
{
	int r = fake_call(ctx, err, "set");

	told_ns = unix_ns;
	return r < 0 ? r : code;
}

static const struct clock_ops ops = { on_set };

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	fake_init(&f);
	code = 0;
}

static void teardown(void)
{
	k = clock_free(k);
	run_all();
	fake_free(&f);
	loop_fini();
}

static void expect(const char *calls)
{
	ck_assert_str_eq(fake_calls(&f), calls);
}

START_TEST(the_guest_is_told_the_time_at_once)
{
	uint64_t now = time_real_ns();

	k = clock_new(&ops, &f, USEC_PER_SEC);
	run_for(20);
	expect("set;");
	ck_assert_uint_ge(told_ns, now);
	ck_assert_uint_lt(told_ns, now + NSEC_PER_SEC);
}
END_TEST

/* The guest has been told so often. */
static void await_told(size_t times)
{
	size_t n = 0;

	while (n < times) {
		run_for(5);
		n += strlen(fake_calls(&f)) / strlen("set;");
	}
}

START_TEST(the_guest_is_told_again_after_each_period)
{
	uint64_t begin = time_mono();

	k = clock_new(&ops, &f, 50 * USEC_PER_MSEC);
	await_told(3);
	ck_assert_uint_ge(time_mono() - begin, 100 * USEC_PER_MSEC);
}
END_TEST

/* The host's clock by one nanosecond forth, and then back. */
static bool step_host(long ns)
{
	struct timex t = { .modes = ADJ_SETOFFSET | ADJ_NANO };

	t.time.tv_sec = ns < 0 ? -1 : 0;
	t.time.tv_usec = ns < 0 ? 1000000000 + ns : ns;
	return clock_adjtime(CLOCK_REALTIME, &t) >= 0;
}

START_TEST(the_guest_is_told_when_the_host_s_clock_is_set)
{
	k = clock_new(&ops, &f, 3600 * USEC_PER_SEC);
	run_for(20);
	expect("set;");
	if (!step_host(1)) {
		ck_assert_int_eq(errno, EPERM);
		return;
	}
	run_for(20);
	expect("set;");
	ck_assert(step_host(-1));
	run_for(20);
	expect("set;");
}
END_TEST

START_TEST(asking_while_the_guest_is_told_tells_it_once_more)
{
	f.hold_at = "set";
	k = clock_new(&ops, &f, 3600 * USEC_PER_SEC);
	run_for(20);
	clock_sync(k);
	clock_sync(k);
	expect("set;");
	co_event_set(&f.gate);
	run_for(20);
	expect("set;");
	clock_sync(NULL);
}
END_TEST

START_TEST(a_failure_is_made_good_the_next_time)
{
	f.fail_at = 1;
	k = clock_new(&ops, &f, 50 * USEC_PER_MSEC);
	await_told(2);
}
END_TEST

START_TEST(a_guest_that_cannot_be_told_is_not_asked_again)
{
	code = -ERR_UNIMPLEMENTED;
	k = clock_new(&ops, &f, 20 * USEC_PER_MSEC);
	run_for(100);
	expect("set;");
}
END_TEST

START_TEST(the_end_ends_what_is_under_way)
{
	f.hold_at = "set";
	k = clock_new(&ops, &f, 3600 * USEC_PER_SEC);
	run_for(20);
	k = clock_free(k);
	run_all();
	expect("set;");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller clock");
	TCase *tc = tcase_create("clock");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_guest_is_told_the_time_at_once);
	tcase_add_test(tc, the_guest_is_told_again_after_each_period);
	tcase_add_test(tc, the_guest_is_told_when_the_host_s_clock_is_set);
	tcase_add_test(tc, asking_while_the_guest_is_told_tells_it_once_more);
	tcase_add_test(tc, a_failure_is_made_good_the_next_time);
	tcase_add_test(tc, a_guest_that_cannot_be_told_is_not_asked_again);
	tcase_add_test(tc, the_end_ends_what_is_under_way);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
