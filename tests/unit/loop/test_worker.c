/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "loop/loop.h"
#include "turns.h"

static unsigned done;
static int result;
static pthread_t main_thread;

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	main_thread = pthread_self();
	done = 0;
}

static void run_out(void)
{
	for (int i = 0; co_count() > 0 && i < 1000; i++)
		run_for(5);
	ck_assert_uint_eq(co_count(), 0);
}

static void teardown(void)
{
	worker_fini();
	worker_fini();
	loop_fini();
}

static int nap(void *arg)
{
	sigset_t mask;

	ck_assert(!pthread_equal(pthread_self(), main_thread));
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	ck_assert_int_eq(sigismember(&mask, SIGTERM), 1);
	usleep(*(useconds_t *)arg);
	return 17;
}

static void caller(void *arg)
{
	result = worker_call(nap, arg);
	ck_assert_int_eq(result, 17);
	done++;
}

static void ticker(void *arg)
{
	while (!done && co_sleep(USEC_PER_MSEC) == 0)
		(*(unsigned *)arg)++;
}

START_TEST(the_loop_goes_on_while_a_worker_blocks)
{
	useconds_t usec = 50000;
	unsigned ticks = 0;

	co_spawn("caller", caller, &usec, USEC_NEVER);
	co_spawn("ticker", ticker, &ticks, USEC_NEVER);
	run_out();
	ck_assert_uint_eq(done, 1);
	ck_assert_uint_gt(ticks, 1);
}
END_TEST

START_TEST(many_calls_queue_for_two_threads_and_all_return)
{
	useconds_t usec = 1000;

	for (int i = 0; i < 100; i++)
		co_spawn("caller", caller, &usec, USEC_NEVER);
	run_out();
	ck_assert_uint_eq(done, 100);
}
END_TEST

static void stubborn(void *arg)
{
	result = worker_call(nap, arg);
	ck_assert_int_eq(result, 17);
	done++;
	ck_assert_int_lt(co_sleep(1), 0);
}

START_TEST(neither_cancellation_nor_the_deadline_cuts_a_call_short)
{
	useconds_t usec = 40000;
	uint64_t start = time_mono();
	struct co *co =
		co_spawn("stubborn", stubborn, &usec, _i ? start + 5 * USEC_PER_MSEC : USEC_NEVER);

	run_for(10);
	if (!_i)
		co_cancel(co);
	run_out();
	ck_assert_uint_eq(done, 1);
	ck_assert_uint_ge(time_mono() - start, 40 * USEC_PER_MSEC);
}
END_TEST

START_TEST(workers_start_again_after_the_end)
{
	useconds_t usec = 100;

	for (int i = 0; i < 3; i++) {
		co_spawn("caller", caller, &usec, USEC_NEVER);
		run_out();
		worker_fini();
	}
	ck_assert_uint_eq(done, 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop worker");
	TCase *t = tcase_create("worker");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_loop_goes_on_while_a_worker_blocks);
	tcase_add_test(t, many_calls_queue_for_two_threads_and_all_return);
	tcase_add_loop_test(t, neither_cancellation_nor_the_deadline_cuts_a_call_short, 0, 2);
	tcase_add_test(t, workers_start_again_after_the_end);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
