/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/co.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "turns.h"

/* A pair that nobody writes to, an event that nobody sets, a lock that is held: whatever suspends
 * does so for good. */
static struct fixture {
	int pair[2];
	int listener;
	struct co_mutex mutex;
	struct co_event event;
	struct co_event release;
	struct child *child;
	char log[256];
	unsigned n;
	int result;
	struct co *co;
} f;

static void setup(void)
{
	memset(&f, 0, sizeof(f));
	ck_assert_int_eq(loop_init(), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, f.pair),
			 0);
	f.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(f.listener,
			      (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX },
			      sizeof(sa_family_t)),
			 0);
	ck_assert_int_eq(listen(f.listener, 1), 0);
	co_mutex_init(&f.mutex);
	co_event_init(&f.event);
	co_event_init(&f.release);
}

static void teardown(void)
{
	f.child = child_free(f.child);
	loop_fini();
	fd_close(f.pair[0]);
	fd_close(f.pair[1]);
	fd_close(f.listener);
}

/** run_out() - until no coroutine is left, for at most ten seconds */
static void run_out(void)
{
	for (int i = 0; co_count() > 0 && i < 1000; i++)
		run_for(10);
	ck_assert_uint_eq(co_count(), 0);
}

/* --- each way to suspend --- */

static int wait_sleep(void)
{
	return co_sleep(60 * USEC_PER_SEC);
}

static int wait_fd(void)
{
	return co_wait_fd(f.pair[0], EPOLLIN);
}

static int wait_read(void)
{
	char c;

	return (int)co_read(f.pair[0], &c, 1);
}

static int wait_read_full(void)
{
	char c[8];

	return co_read_full(f.pair[0], c, sizeof(c));
}

static int wait_write(void)
{
	_cleanup_free_ char *big = mem_new0(8, 1 << 20);

	return co_write_full(f.pair[0], big, 8 << 20);
}

static int wait_accept(void)
{
	return co_accept(f.listener);
}

static struct sockaddr_in at;

/* In a loopback's queue of @backlog. */
static int listen_tcp(int backlog)
{
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	ck_assert_int_eq(backlog < 0 ? 0 : listen(fd, backlog), 0);
	return fd;
}

static CO int connect_tcp(void)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return co_connect(fd, (struct sockaddr *)&at, sizeof(at));
}

/* The second one's queue is full. */
static int wait_connect(void)
{
	int listener = listen_tcp(0), r;
	_cleanup_fd_ int first = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(first, (struct sockaddr *)&at, sizeof(at)), 0);
	r = connect_tcp();
	fd_close(listener);
	return r;
}

static int wait_mutex(void)
{
	int r = co_mutex_lock(&f.mutex);

	if (r == 0)
		co_mutex_unlock(&f.mutex);
	return r;
}

static int wait_event(void)
{
	return co_event_wait(&f.event);
}

static int wait_child(void)
{
	const char *argv[] = { "sleep", "60", NULL };
	int status;

	ck_assert_int_eq(child_spawn(&(struct child_spec){ .argv = argv }, &f.child, NULL), 0);
	return child_wait(f.child, &status);
}

static int wait_child_run(void)
{
	const char *argv[] = { "sleep", "60", NULL };

	return child_run(argv, NULL, NULL, NULL);
}

static const struct {
	const char *name;
	int (*fn)(void);
} kinds[] = {
	{ "sleep", wait_sleep },         { "fd", wait_fd },           { "read", wait_read },
	{ "read_full", wait_read_full }, { "write", wait_write },     { "accept", wait_accept },
	{ "mutex", wait_mutex },         { "event", wait_event },     { "child", wait_child },
	{ "child_run", wait_child_run }, { "connect", wait_connect },
};

static void holder(void *arg)
{
	ck_assert_int_eq(co_mutex_lock(&f.mutex), 0);
	ck_assert_int_eq(co_event_wait(&f.release), 0);
	co_mutex_unlock(&f.mutex);
}

static void suspend_in(void *arg)
{
	int (*fn)(void) = kinds[(intptr_t)arg].fn;

	f.result = 1;
	f.result = fn();
}

START_TEST(cancelling_ends_every_kind_of_suspend)
{
	struct co *co;

	co_spawn("holder", holder, NULL, USEC_NEVER);
	run_for(1);
	co = co_spawn(kinds[_i].name, suspend_in, (void *)(intptr_t)_i, USEC_NEVER);
	run_for(20);
	ck_assert_int_eq(f.result, 1);
	co_cancel(co);
	co_cancel(co);
	run_for(1);
	ck_assert_int_eq(f.result, -ECANCELED);
	co_event_set(&f.release);
	run_out();
}
END_TEST

START_TEST(the_deadline_ends_every_kind_of_suspend)
{
	uint64_t start = time_mono();

	co_spawn("holder", holder, NULL, USEC_NEVER);
	run_for(1);
	co_spawn(kinds[_i].name, suspend_in, (void *)(intptr_t)_i,
		 time_mono() + 30 * USEC_PER_MSEC);
	run_for(20);
	for (int i = 0; f.result == 1 && i < 500; i++)
		run_for(10);
	ck_assert_int_eq(f.result, -ETIMEDOUT);
	ck_assert_uint_ge(time_mono() - start, 30 * USEC_PER_MSEC);
	co_event_set(&f.release);
	run_out();
}
END_TEST

START_TEST(a_cancelled_coroutine_cannot_suspend_again)
{
	f.co = co_spawn(kinds[_i].name, suspend_in, (void *)(intptr_t)_i, USEC_NEVER);
	co_cancel(f.co); /* before it has run at all */
	run_for(5);
	ck_assert_int_eq(f.result, -ECANCELED);
	run_out();
}
END_TEST

/* --- shield and limit --- */

static void shielded(void *arg)
{
	uint64_t deadline = co_deadline();

	{
		CO_SHIELD(USEC_PER_SEC);
		f.result = co_sleep(40 * USEC_PER_MSEC);
		ck_assert_uint_ne(co_deadline(), deadline);
	}
	ck_assert_uint_eq(co_deadline(), deadline);
	ck_assert_int_eq(co_sleep(USEC_PER_SEC), *(int *)arg);
	f.n++;
}

START_TEST(a_shield_holds_cancellation_off_until_it_ends)
{
	int want = -ECANCELED;
	struct co *co = co_spawn("shielded", shielded, &want, USEC_NEVER);

	run_for(10);
	co_cancel(co);
	run_out();
	ck_assert_int_eq(f.result, 0);
	ck_assert_uint_eq(f.n, 1);
}
END_TEST

START_TEST(a_shield_holds_the_deadline_off_until_it_ends)
{
	int want = -ETIMEDOUT;

	co_spawn("shielded", shielded, &want, time_mono() + 10 * USEC_PER_MSEC);
	run_out();
	ck_assert_int_eq(f.result, 0);
	ck_assert_uint_eq(f.n, 1);
}
END_TEST

static void short_shield(void *arg)
{
	CO_SHIELD(20 * USEC_PER_MSEC);
	f.result = co_sleep(USEC_PER_SEC);
}

START_TEST(a_shield_has_an_end_of_its_own)
{
	co_spawn("short shield", short_shield, NULL, USEC_NEVER);
	run_out();
	ck_assert_int_eq(f.result, -ETIMEDOUT);
}
END_TEST

static void limited(void *arg)
{
	uint64_t deadline = co_deadline();

	{
		CO_LIMIT(10 * USEC_PER_MSEC);
		f.result = co_sleep(USEC_PER_SEC);
	}
	{
		CO_LIMIT(USEC_NEVER);
		ck_assert_uint_eq(co_deadline(), deadline);
	}
	ck_assert_uint_eq(co_deadline(), deadline);
	ck_assert_int_eq(co_sleep(USEC_PER_MSEC), 0);
}

START_TEST(a_limit_only_brings_the_deadline_nearer_and_ends_with_its_scope)
{
	co_spawn("limited", limited, NULL, time_mono() + 10 * USEC_PER_SEC);
	run_out();
	ck_assert_int_eq(f.result, -ETIMEDOUT);
}
END_TEST

/* --- mutex --- */

static int locked_step(const char *name)
{
	CO_LOCK(&f.mutex);
	strcat(f.log, name);
	return co_sleep(USEC_PER_MSEC);
}

static void locker(void *arg)
{
	int r = locked_step(arg);

	if (r < 0)
		strcat(f.log, "!");
}

START_TEST(a_mutex_is_given_in_the_order_of_asking)
{
	static char names[6][2] = { "a", "b", "c", "d", "e", "f" };

	for (int i = 0; i < 6; i++)
		co_spawn("locker", locker, names[i], USEC_NEVER);
	run_out();
	ck_assert_str_eq(f.log, "abcdef");
	ck_assert_ptr_null(f.mutex.owner);
}
END_TEST

static void greedy(void *arg)
{
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(co_mutex_lock(&f.mutex), 0);
		strcat(f.log, arg);
		ck_assert_int_eq(co_sleep(USEC_PER_MSEC), 0);
		co_mutex_unlock(&f.mutex);
	}
}

START_TEST(a_mutex_is_handed_over_so_that_nobody_overtakes_the_waiter)
{
	co_spawn("greedy", greedy, (char[]){ "a" }, USEC_NEVER);
	co_spawn("greedy", greedy, (char[]){ "b" }, USEC_NEVER);
	run_out();
	ck_assert_str_eq(f.log, "ababab");
}
END_TEST

START_TEST(a_cancelled_waiter_does_not_get_the_mutex_and_the_next_does)
{
	struct co *waiter;

	co_spawn("holder", holder, NULL, USEC_NEVER);
	waiter = co_spawn("locker", locker, (char[]){ "x" }, USEC_NEVER);
	co_spawn("locker", locker, (char[]){ "y" }, USEC_NEVER);
	run_for(5);
	/* Both in one turn: the waiter is already out of the queue when the mutex is given on. */
	co_cancel(waiter);
	co_event_set(&f.release);
	run_out();
	ck_assert_str_eq(f.log, "!y");
	ck_assert_ptr_null(f.mutex.owner);
}
END_TEST

static void unlock_then_cancel(void *arg)
{
	ck_assert_int_eq(co_mutex_lock(&f.mutex), 0);
	ck_assert_int_eq(co_event_wait(&f.release), 0);
	co_mutex_unlock(&f.mutex);
	co_cancel(f.co);
}

START_TEST(a_waiter_cancelled_after_the_hand_over_holds_the_mutex_and_gives_it_back)
{
	co_spawn("holder", unlock_then_cancel, NULL, USEC_NEVER);
	f.co = co_spawn("locker", locker, (char[]){ "x" }, USEC_NEVER);
	run_for(5);
	co_event_set(&f.release);
	run_out();
	/* It got in, its sleep was cancelled, and the scope unlocked. */
	ck_assert_str_eq(f.log, "x!");
	ck_assert_ptr_null(f.mutex.owner);
}
END_TEST

static void lock_outside(void *arg)
{
	co_mutex_lock(&f.mutex);
	co_mutex_lock(&f.mutex);
}

START_TEST(locking_twice_aborts_rather_than_hangs)
{
	co_spawn("twice", lock_outside, NULL, USEC_NEVER);
	run_for(5);
}
END_TEST

START_TEST(suspending_outside_of_a_coroutine_aborts)
{
	co_sleep(1);
}
END_TEST

/* --- event --- */

static void event_waiter(void *arg)
{
	if (co_event_wait(&f.event) == 0)
		f.n++;
}

START_TEST(an_event_that_is_set_already_does_not_suspend)
{
	co_event_set(&f.event);
	co_spawn("waiter", event_waiter, NULL, USEC_NEVER);
	run_for(1);
	ck_assert_uint_eq(f.n, 1);
	run_out();
}
END_TEST

START_TEST(an_event_wakes_all_that_wait_and_each_once)
{
	for (int i = 0; i < 5; i++)
		co_spawn("waiter", event_waiter, NULL, USEC_NEVER);
	run_for(1);
	ck_assert_uint_eq(f.n, 0);
	co_event_set(&f.event);
	co_event_set(&f.event);
	run_out();
	ck_assert_uint_eq(f.n, 5);
}
END_TEST

START_TEST(an_event_stays_set_until_it_is_cleared)
{
	co_event_set(&f.event);
	co_event_clear(&f.event);
	f.co = co_spawn("waiter", event_waiter, NULL, USEC_NEVER);
	run_for(5);
	ck_assert_uint_eq(f.n, 0);
	co_cancel(f.co);
	run_out();
	ck_assert_uint_eq(f.n, 0);
}
END_TEST

/* --- fds --- */

static void full_reader(void *arg)
{
	char b[6];

	f.result = co_read_full(f.pair[0], b, sizeof(b));
	if (f.result == 0)
		memcpy(f.log, b, sizeof(b));
}

START_TEST(read_full_puts_pieces_together)
{
	co_spawn("reader", full_reader, NULL, USEC_NEVER);
	ck_assert_int_eq(write(f.pair[1], "abc", 3), 3);
	run_for(5);
	ck_assert_uint_eq(co_count(), 1);
	ck_assert_int_eq(write(f.pair[1], "def", 3), 3);
	run_out();
	ck_assert_str_eq(f.log, "abcdef");
}
END_TEST

START_TEST(read_full_tells_a_clean_end_from_a_cut)
{
	if (_i)
		ck_assert_int_eq(write(f.pair[1], "abc", 3), 3);
	shutdown(f.pair[1], SHUT_WR);
	co_spawn("reader", full_reader, NULL, USEC_NEVER);
	run_out();
	ck_assert_int_eq(f.result, _i ? -EPIPE : -ENODATA);
}
END_TEST

static void big_writer(void *arg)
{
	_cleanup_free_ uint8_t *b = mem_new0(1, 1 << 20);

	for (int i = 0; i < 1 << 20; i++)
		b[i] = (uint8_t)(i * 31 >> 3);
	f.result = co_write_full(*(int *)arg, b, 1 << 20);
}

static void big_reader(void *arg)
{
	_cleanup_free_ uint8_t *b = mem_new0(1, 1 << 20);

	ck_assert_int_eq(co_read_full(*(int *)arg, b, 1 << 20), 0);
	for (int i = 0; i < 1 << 20; i++)
		ck_assert_int_eq(b[i], (uint8_t)(i * 31 >> 3));
	f.n++;
}

START_TEST(a_reader_and_a_writer_share_one_fd)
{
	/* Both directions of both ends at once: two coroutines wait for each fd. */
	co_spawn("writer", big_writer, &f.pair[0], USEC_NEVER);
	co_spawn("writer", big_writer, &f.pair[1], USEC_NEVER);
	co_spawn("reader", big_reader, &f.pair[0], USEC_NEVER);
	co_spawn("reader", big_reader, &f.pair[1], USEC_NEVER);
	run_out();
	ck_assert_uint_eq(f.n, 2);
}
END_TEST

START_TEST(writing_to_a_closed_peer_is_epipe_and_no_signal)
{
	int p[2];

	f.pair[1] = fd_close(f.pair[1]);
	co_spawn("writer", big_writer, &f.pair[0], USEC_NEVER);
	run_out();
	ck_assert_int_eq(f.result, -EPIPE);
	ck_assert_int_eq(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	fd_close(p[0]);
	f.result = 0;
	co_spawn("writer", big_writer, &p[1], USEC_NEVER);
	run_out();
	ck_assert_int_eq(f.result, -EPIPE);
	fd_close(p[1]);
}
END_TEST

static void acceptor(void *arg)
{
	f.result = co_accept(f.listener);
}

START_TEST(accept_gives_a_nonblocking_cloexec_fd)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	socklen_t len = sizeof(a);

	ck_assert_int_eq(getsockname(f.listener, (struct sockaddr *)&a, &len), 0);
	co_spawn("acceptor", acceptor, NULL, USEC_NEVER);
	run_for(2);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, len), 0);
	run_out();
	ck_assert_int_ge(f.result, 0);
	ck_assert(fcntl(f.result, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(f.result, F_GETFD) & FD_CLOEXEC);
	fd_close(f.result);
}
END_TEST

static void connector(void *arg)
{
	f.result = connect_tcp();
}

START_TEST(connecting_waits_for_the_answer_whatever_it_is)
{
	static const int backlogs[] = { 1, -1 }, answers[] = { 0, -ECONNREFUSED };
	int listener = listen_tcp(backlogs[_i]);

	f.result = 1;
	co_spawn("connector", connector, NULL, USEC_NEVER);
	run_out();
	ck_assert_int_eq(f.result, answers[_i]);
	fd_close(listener);
}
END_TEST

static void bad_fd(void *arg)
{
	f.result = co_wait_fd(-EBADF, EPOLLIN);
	ck_assert_int_eq(co_read(9999, f.log, 1), -EBADF);
}

START_TEST(a_bad_fd_is_an_error_and_no_wait)
{
	co_spawn("bad fd", bad_fd, NULL, USEC_NEVER);
	run_out();
	ck_assert_int_eq(f.result, -EBADF);
}
END_TEST

/* --- the machinery --- */

static void brief(void *arg)
{
	volatile char deep[6000];

	memset((char *)(uintptr_t)deep, 1, sizeof(deep));
	f.n += (unsigned)deep[17];
}

START_TEST(ten_thousand_coroutines_in_a_row_leave_nothing)
{
	for (int i = 0; i < 10000; i++) {
		co_spawn("brief", brief, NULL, USEC_NEVER);
		loop_stop(0);
		loop_run();
	}
	ck_assert_uint_eq(f.n, 10000);
	ck_assert_uint_eq(co_count(), 0);
}
END_TEST

START_TEST(hundreds_at_once_outgrow_the_pool_and_leave_nothing)
{
	for (int i = 0; i < 300; i++)
		co_spawn("waiter", event_waiter, NULL, USEC_NEVER);
	run_for(1);
	ck_assert_uint_eq(co_count(), 300);
	co_event_set(&f.event);
	run_out();
	ck_assert_uint_eq(f.n, 300);
}
END_TEST

static void parent(void *arg)
{
	for (int i = 0; i < 3; i++)
		co_spawn("brief", brief, NULL, USEC_NEVER);
	ck_assert_uint_eq(f.n, 0);
	co_sleep(USEC_PER_MSEC);
	ck_assert_uint_eq(f.n, 3);
}

START_TEST(a_coroutine_starts_others_that_run_later)
{
	co_spawn("parent", parent, NULL, USEC_NEVER);
	run_out();
}
END_TEST

static void on_usr1(int signo, void *arg)
{
	f.n++;
}

static void signaller(void *arg)
{
	ck_assert_int_eq(loop_signal(SIGUSR1, on_usr1, NULL), 0);
	ck_assert_int_eq(co_sleep(USEC_PER_MSEC), 0);
	/* Were it not blocked here as well, it would kill. */
	raise(SIGUSR1);
	ck_assert_int_eq(co_sleep(USEC_PER_MSEC), 0);
	raise(SIGUSR1);
}

static void old_one(void *arg)
{
	ck_assert_int_eq(co_event_wait(&f.event), 0);
	raise(SIGUSR1);
}

START_TEST(a_signal_blocked_in_a_coroutine_is_blocked_in_all)
{
	co_spawn("old", old_one, NULL,
		 USEC_NEVER); /* its context was saved before the mask changed */
	co_spawn("signaller", signaller, NULL, USEC_NEVER);
	while (co_count() > 1)
		run_for(1);
	run_for(1);
	ck_assert_uint_eq(f.n, 2);
	co_event_set(&f.event);
	run_out();
	run_for(1);
	ck_assert_uint_eq(f.n, 3);
	ck_assert_int_eq(loop_signal(SIGUSR1, NULL, NULL), 0);
}
END_TEST

static void noted(void *arg)
{
	co_note("pod %s", "p1");
	co_event_wait(&f.event);
}

static void noted_fd(void *arg)
{
	co_note("%070d", 7);
	co_wait_fd(f.pair[0], EPOLLIN);
}

START_TEST(the_dump_names_every_coroutine_and_what_it_waits_for)
{
	_cleanup_free_ char *text = NULL;
	char fd_text[64];
	size_t len;
	FILE *out = open_memstream(&text, &len);
	struct co *a = co_spawn("create", noted, NULL, time_mono() + 9 * USEC_PER_SEC), *b;

	b = co_spawn("serve", noted_fd, NULL, USEC_NEVER);
	run_for(5);
	loop_dump(out);
	fclose(out);
	ck_assert_ptr_nonnull(strstr(text, "co create (pod p1): waits for event since 0.0"));
	ck_assert_ptr_nonnull(strstr(text, ", deadline in 8."));
	snprintf(fd_text, sizeof(fd_text), "waits for read from fd %d since", f.pair[0]);
	ck_assert_ptr_nonnull(strstr(text, fd_text));
	ck_assert_ptr_nonnull(strstr(text, "2 coroutines"));
	co_cancel(a);
	co_cancel(b);
	run_out();
}
END_TEST

static void slow(void *arg)
{
	co_note("nap");
	usleep(60000);
}

START_TEST(what_holds_the_loop_up_is_logged_by_name)
{
	char line[512] = "";
	int p[2];

	ck_assert_int_eq(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	log_init(p[1], LOG_DEBUG);
	co_spawn("slow one", slow, NULL, USEC_NEVER);
	run_out();
	log_init(-EBADF, LOG_WARN);
	ck_assert_int_gt(read(p[0], line, sizeof(line) - 1), 0);
	ck_assert_ptr_nonnull(strstr(line, "by the coroutine slow one (nap)"));
	/* No warning: it may be the processor that was away. */
	ck_assert_ptr_nonnull(strstr(line, "level=debug"));
	/* and not once more as the callback that resumed it */
	ck_assert_ptr_null(strstr(line, "deferred call"));
	fd_close(p[0]);
	fd_close(p[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop co");
	TCase *t = tcase_create("co"), *fatal = tcase_create("fatal");
	SRunner *sr = srunner_create(s);
	int failed, n = (int)ARRAY_SIZE(kinds);

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, cancelling_ends_every_kind_of_suspend, 0, n);
	tcase_add_loop_test(t, the_deadline_ends_every_kind_of_suspend, 0, n);
	tcase_add_loop_test(t, a_cancelled_coroutine_cannot_suspend_again, 0, n);
	tcase_add_test(t, a_shield_holds_cancellation_off_until_it_ends);
	tcase_add_test(t, a_shield_holds_the_deadline_off_until_it_ends);
	tcase_add_test(t, a_shield_has_an_end_of_its_own);
	tcase_add_test(t, a_limit_only_brings_the_deadline_nearer_and_ends_with_its_scope);
	tcase_add_test(t, a_mutex_is_given_in_the_order_of_asking);
	tcase_add_test(t, a_mutex_is_handed_over_so_that_nobody_overtakes_the_waiter);
	tcase_add_test(t, a_cancelled_waiter_does_not_get_the_mutex_and_the_next_does);
	tcase_add_test(t, a_waiter_cancelled_after_the_hand_over_holds_the_mutex_and_gives_it_back);
	tcase_add_test(t, an_event_that_is_set_already_does_not_suspend);
	tcase_add_test(t, an_event_wakes_all_that_wait_and_each_once);
	tcase_add_test(t, an_event_stays_set_until_it_is_cleared);
	tcase_add_test(t, read_full_puts_pieces_together);
	tcase_add_loop_test(t, read_full_tells_a_clean_end_from_a_cut, 0, 2);
	tcase_add_test(t, a_reader_and_a_writer_share_one_fd);
	tcase_add_test(t, writing_to_a_closed_peer_is_epipe_and_no_signal);
	tcase_add_test(t, accept_gives_a_nonblocking_cloexec_fd);
	tcase_add_loop_test(t, connecting_waits_for_the_answer_whatever_it_is, 0, 2);
	tcase_add_test(t, a_bad_fd_is_an_error_and_no_wait);
	tcase_add_test(t, ten_thousand_coroutines_in_a_row_leave_nothing);
	tcase_add_test(t, hundreds_at_once_outgrow_the_pool_and_leave_nothing);
	tcase_add_test(t, a_coroutine_starts_others_that_run_later);
	tcase_add_test(t, a_signal_blocked_in_a_coroutine_is_blocked_in_all);
	tcase_add_test(t, the_dump_names_every_coroutine_and_what_it_waits_for);
	tcase_add_test(t, what_holds_the_loop_up_is_logged_by_name);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(fatal, setup, NULL);
	tcase_add_test_raise_signal(fatal, locking_twice_aborts_rather_than_hangs, SIGABRT);
	tcase_add_test_raise_signal(fatal, suspending_outside_of_a_coroutine_aborts, SIGABRT);
	suite_add_tcase(s, fatal);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
