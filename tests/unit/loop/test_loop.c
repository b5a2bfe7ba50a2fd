/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "turns.h"

static int pair[2];
static char order[64];
static unsigned calls;
static struct loop_watch *watch, *other;
static struct loop_timer *timer;

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	order[0] = '\0';
	calls = 0;
	watch = other = NULL;
	timer = NULL;
}

static void teardown(void)
{
	loop_watch_free(watch);
	loop_watch_free(other);
	loop_timer_free(timer);
	loop_fini();
	fd_close(pair[0]);
	fd_close(pair[1]);
}

static void mark(void *arg)
{
	strcat(order, arg);
}

START_TEST(run_returns_what_stop_was_given)
{
	loop_stop(42);
	ck_assert_int_eq(loop_run(), 42);
	ck_assert_int_eq(loop_init(), -EBUSY);
}
END_TEST

/* --- timers --- */

START_TEST(timers_fire_in_order_of_time_and_then_of_arming)
{
	static const struct {
		unsigned msec;
		const char *name;
	} rows[] = { { 90, "e" }, { 30, "b" }, { 60, "c" }, { 0, "a" }, { 60, "d" }, { 120, "f" } };
	struct loop_timer *t[ARRAY_SIZE(rows)];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		t[i] = loop_timer_new(rows[i].msec * USEC_PER_MSEC, mark,
				      (void *)(uintptr_t)rows[i].name);
	run_for(150);
	ck_assert_str_eq(order, "abcdef");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		loop_timer_free(t[i]);
}
END_TEST

/* A timer's time lies between what can be measured before and after arming it. */
struct armed {
	uint64_t from;
	uint64_t to;
};

static uint64_t last;

static void in_order(void *arg)
{
	const struct armed *a = arg;

	ck_assert_uint_ge(time_mono(), a->from);
	ck_assert_uint_ge(a->to, last);
	last = a->from;
	calls++;
}

START_TEST(hundreds_of_timers_keep_order_while_some_are_taken_out)
{
	static struct armed when[500];
	struct loop_timer *t[500];
	unsigned seed = 1;

	for (int i = 0; i < 500; i++) {
		uint64_t usec = (seed = seed * 1103515245 + 12345) / 65536 % 20000;

		when[i].from = time_mono() + usec;
		t[i] = loop_timer_new(usec, in_order, &when[i]);
		when[i].to = time_mono() + usec;
	}
	for (int i = 0; i < 500; i += 7)
		t[i] = loop_timer_free(t[i]);
	for (int i = 1; i < 500; i += 7)
		loop_timer_set(t[i], USEC_NEVER);
	run_for(60);
	ck_assert_uint_eq(calls, 500 - 72 - 72);
	for (int i = 0; i < 500; i++)
		loop_timer_free(t[i]);
}
END_TEST

START_TEST(a_timer_is_armed_again_and_fires_once_each_time)
{
	timer = loop_timer_new(USEC_NEVER, mark, (void *)(uintptr_t) "x");
	run_for(3);
	ck_assert_str_eq(order, "");
	loop_timer_set(timer, 50 * USEC_PER_MSEC);
	loop_timer_set(timer, USEC_PER_MSEC);
	run_for(100);
	ck_assert_str_eq(order, "x");
	loop_timer_set(timer, 0);
	run_for(5);
	ck_assert_str_eq(order, "xx");
}
END_TEST

static void free_timer(void *arg)
{
	timer = loop_timer_free(timer);
	calls++;
}

START_TEST(a_timer_is_freed_in_its_callback)
{
	timer = loop_timer_new(0, free_timer, NULL);
	run_for(3);
	ck_assert_uint_eq(calls, 1);
}
END_TEST

static void rearm(void *arg)
{
	calls++;
	loop_timer_set(timer, 0);
}

static void on_readable(int fd, uint32_t events, void *arg)
{
	char b[16];

	ck_assert(events & EPOLLIN);
	while (read(fd, b, sizeof(b)) > 0)
		;
	strcat(order, arg);
}

START_TEST(a_timer_that_arms_itself_for_now_does_not_starve_others)
{
	timer = loop_timer_new(0, rearm, NULL);
	ck_assert_int_eq(loop_watch_new(pair[0], EPOLLIN, on_readable, (void *)(uintptr_t) "r",
					&watch),
			 0);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	run_for(5);
	ck_assert_uint_gt(calls, 1);
	ck_assert_str_eq(order, "r");
}
END_TEST

/* --- deferred calls --- */

static void defer_more(void *arg)
{
	strcat(order, "1");
	for (int i = 0; i < 100; i++)
		loop_defer(mark, (void *)(uintptr_t) "");
	loop_defer(mark, (void *)(uintptr_t) "3");
}

START_TEST(deferred_calls_run_in_order_and_new_ones_in_the_next_turn)
{
	loop_defer(defer_more, NULL);
	loop_defer(mark, (void *)(uintptr_t) "2");
	loop_stop(0);
	loop_run();
	ck_assert_str_eq(order, "12");
	loop_stop(0);
	loop_run();
	ck_assert_str_eq(order, "123");
}
END_TEST

/* --- watches --- */

START_TEST(a_watch_is_called_while_its_event_lasts)
{
	ck_assert_int_eq(loop_watch_new(pair[0], EPOLLIN, on_readable, (void *)(uintptr_t) "r",
					&watch),
			 0);
	run_for(3);
	ck_assert_str_eq(order, "");
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	run_for(3);
	ck_assert_str_eq(order, "r");
	loop_watch_events(watch, 0);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	run_for(3);
	ck_assert_str_eq(order, "r");
	loop_watch_events(watch, EPOLLIN);
	run_for(3);
	ck_assert_str_eq(order, "rr");
}
END_TEST

static void free_both(int fd, uint32_t events, void *arg)
{
	calls++;
	watch = loop_watch_free(watch);
	other = loop_watch_free(other);
}

START_TEST(a_watch_is_freed_within_a_callback_its_own_or_anothers)
{
	ck_assert_int_eq(loop_watch_new(pair[0], EPOLLIN, free_both, NULL, &watch), 0);
	ck_assert_int_eq(loop_watch_new(_i ? pair[1] : pair[0], EPOLLIN, free_both, NULL, &other),
			 0);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	ck_assert_int_eq(write(pair[0], "x", 1), 1);
	run_for(3);
	/* Whichever came first freed the other before its turn. */
	ck_assert_uint_eq(calls, 1);
}
END_TEST

static void on_writable(int fd, uint32_t events, void *arg)
{
	ck_assert(events & EPOLLOUT);
	ck_assert(!(events & EPOLLIN));
	calls++;
	other = loop_watch_free(other);
}

START_TEST(two_watches_of_one_fd_hear_each_its_own_events)
{
	ck_assert_int_eq(loop_watch_new(pair[0], EPOLLIN, on_readable, (void *)(uintptr_t) "r",
					&watch),
			 0);
	ck_assert_int_eq(loop_watch_new(pair[0], EPOLLOUT, on_writable, NULL, &other), 0);
	run_for(3);
	ck_assert_str_eq(order, "");
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	run_for(3);
	ck_assert_str_eq(order, "r");
}
END_TEST

static int reused[2];

static void must_not_be_called(int fd, uint32_t events, void *arg)
{
	ck_abort_msg("called with %x", events);
}

static void swap_fd(int fd, uint32_t events, void *arg)
{
	int mine = fd == pair[0] ? 0 : 1, theirs = !mine, n = pair[theirs];

	/* Both fds were reported ready at once: the other one's number now belongs to something
	 * idle. */
	watch = loop_watch_free(watch);
	other = loop_watch_free(other);
	ck_assert_int_eq(dup2(reused[0], n), n);
	ck_assert_int_eq(loop_watch_new(n, EPOLLIN, must_not_be_called, NULL, &watch), 0);
	calls++;
}

START_TEST(events_of_a_closed_fd_do_not_reach_the_next_of_its_number)
{
	ck_assert_int_eq(pipe2(reused, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(loop_watch_new(pair[0], EPOLLIN, swap_fd, NULL, &watch), 0);
	ck_assert_int_eq(loop_watch_new(pair[1], EPOLLIN, swap_fd, NULL, &other), 0);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	ck_assert_int_eq(write(pair[0], "x", 1), 1);
	run_for(5);
	ck_assert_uint_eq(calls, 1);
	watch = loop_watch_free(watch);
	fd_close(reused[0]);
	fd_close(reused[1]);
}
END_TEST

static void count_file(int fd, uint32_t events, void *arg)
{
	ck_assert_uint_eq(events, EPOLLIN);
	if (++calls == 5)
		watch = loop_watch_free(watch);
}

START_TEST(a_regular_file_is_always_ready)
{
	_cleanup_fd_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint64_t start = time_mono();

	ck_assert_int_eq(loop_watch_new(fd, EPOLLIN, count_file, NULL, &watch), 0);
	run_for(20);
	ck_assert_uint_eq(calls, 5);
	/* and when nobody watches it, the loop sleeps again */
	ck_assert_uint_ge(time_mono() - start, 20 * USEC_PER_MSEC);
	ck_assert_int_eq(loop_watch_new(fd, 0, count_file, NULL, &watch), 0);
	run_for(5);
	ck_assert_uint_eq(calls, 5);
}
END_TEST

START_TEST(a_bad_fd_is_refused)
{
	ck_assert_int_eq(loop_watch_new(-EBADF, EPOLLIN, on_readable, NULL, &watch), -EBADF);
	ck_assert_int_eq(loop_watch_new(1000, EPOLLIN, on_readable, NULL, &watch), -EBADF);
	ck_assert_ptr_null(watch);
}
END_TEST

/* --- signals --- */

static void on_signal(int signo, void *arg)
{
	strcat(order, signo == SIGTERM ? "T" : "U");
}

START_TEST(signals_come_by_the_loop_and_one_each)
{
	ck_assert_int_eq(loop_signal(SIGTERM, on_signal, NULL), 0);
	ck_assert_int_eq(loop_signal(SIGUSR2, on_signal, NULL), 0);
	raise(SIGTERM);
	ck_assert_str_eq(order, "");
	run_for(3);
	ck_assert_str_eq(order, "T");
	raise(SIGUSR2);
	run_for(3);
	ck_assert_str_eq(order, "TU");
	ck_assert_int_eq(loop_signal(SIGKILL, on_signal, NULL), -EINVAL);
	ck_assert_int_eq(loop_signal(999, on_signal, NULL), -EINVAL);
}
END_TEST

START_TEST(a_signal_given_back_has_its_default_again)
{
	sigset_t mask;

	ck_assert_int_eq(loop_signal(SIGTERM, on_signal, NULL), 0);
	ck_assert_int_eq(loop_signal(SIGTERM, NULL, NULL), 0);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	ck_assert_int_eq(sigismember(&mask, SIGTERM), 0);
}
END_TEST

START_TEST(a_broken_pipe_is_no_signal_once_there_is_a_loop)
{
	int p[2];

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	fd_close(p[0]);
	ck_assert_int_eq(write(p[1], "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	fd_close(p[1]);
}
END_TEST

START_TEST(the_loop_can_be_made_again)
{
	for (int i = 0; i < 3; i++) {
		loop_fini();
		ck_assert_int_eq(loop_init(), 0);
		run_for(1);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop loop");
	TCase *t = tcase_create("loop");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, run_returns_what_stop_was_given);
	tcase_add_test(t, timers_fire_in_order_of_time_and_then_of_arming);
	tcase_add_test(t, hundreds_of_timers_keep_order_while_some_are_taken_out);
	tcase_add_test(t, a_timer_is_armed_again_and_fires_once_each_time);
	tcase_add_test(t, a_timer_is_freed_in_its_callback);
	tcase_add_test(t, a_timer_that_arms_itself_for_now_does_not_starve_others);
	tcase_add_test(t, deferred_calls_run_in_order_and_new_ones_in_the_next_turn);
	tcase_add_test(t, a_watch_is_called_while_its_event_lasts);
	tcase_add_loop_test(t, a_watch_is_freed_within_a_callback_its_own_or_anothers, 0, 2);
	tcase_add_test(t, two_watches_of_one_fd_hear_each_its_own_events);
	tcase_add_test(t, events_of_a_closed_fd_do_not_reach_the_next_of_its_number);
	tcase_add_test(t, a_regular_file_is_always_ready);
	tcase_add_test(t, a_bad_fd_is_refused);
	tcase_add_test(t, signals_come_by_the_loop_and_one_each);
	tcase_add_test(t, a_signal_given_back_has_its_default_again);
	tcase_add_test(t, a_broken_pipe_is_no_signal_once_there_is_a_loop);
	tcase_add_test(t, the_loop_can_be_made_again);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
