/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "fake.h"
#include "guest/port.h"
#include "vmm/channel.h"

enum { NUMBER = 77 };

static struct port *p;
static struct co_event changed;
static unsigned served;

static void serve(int fd, void *arg)
{
	char c;

	served++;
	while (co_read(fd, &c, 1) > 0)
		;
	served += 100;
}

static void begin(const struct port_spec *spec)
{
	co_event_init(&changed);
	served = 0;
	ck_assert_int_eq(port_listen(fake_channel(), NUMBER, spec, &p, NULL), 0);
	ck_assert(!port_ended(p));
}

static const struct port_spec keeps = { .name = "keeps", .changed = &changed };
static const struct port_spec serves = {
	.name = "serves", .serve = serve, .again = true, .changed = &changed
};

static void host_keeps(void)
{
	int fd, peer;

	begin(&keeps);
	/* Dialled before anybody accepts: it waits. */
	peer = fake_dial(NUMBER);
	ck_assert_int_ge(peer, 0);
	port_accept(p);
	ck_assert_int_eq(co_event_wait(&changed), 0);
	ck_assert(port_ended(p));
	ck_assert_uint_eq(fake_listening(), 0);
	fd = port_take(p);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(port_take(p), -EBADF);
	p = port_free(p);
	ck_assert_int_eq(write(peer, "x", 1), 1);
	fd_close(fd);
	fd_close(peer);
	ck_assert_ptr_null(port_free(NULL));
}

START_TEST(one_stream_is_accepted_and_kept)
{
	fake_run(host_keeps, NULL);
}
END_TEST

static void host_drops(void)
{
	int peer;

	begin(&keeps);
	peer = fake_dial(NUMBER);
	port_accept(p);
	ck_assert_int_eq(co_event_wait(&changed), 0);
	p = port_free(p);
	fake_expect_end(peer);
	fd_close(peer);
}

START_TEST(a_stream_that_nobody_takes_is_closed)
{
	fake_run(host_drops, NULL);
}
END_TEST

static void host_closes_unused(void)
{
	int peer;

	begin(&keeps);
	peer = fake_dial(NUMBER);
	port_close(p);
	port_close(p);
	ck_assert(port_ended(p));
	ck_assert_uint_eq(fake_listening(), 0);
	fake_expect_end(peer);
	fd_close(peer);
	ck_assert_int_eq(port_take(p), -ENOTCONN);
	p = port_free(p);
}

START_TEST(a_port_that_does_not_accept_closes_at_once)
{
	fake_run(host_closes_unused, NULL);
}
END_TEST

static void host_closes_accepting(void)
{
	begin(&keeps);
	port_accept(p);
	co_sleep(1000);
	port_close(p);
	ck_assert_int_eq(co_event_wait(&changed), 0);
	ck_assert_int_eq(port_take(p), -ECANCELED);
	ck_assert_uint_eq(fake_listening(), 0);
	p = port_free(p);
	/* before its coroutine has run at all */
	begin(&keeps);
	port_accept(p);
	port_join(p, 0);
	ck_assert(port_ended(p));
	p = port_free(p);
}

START_TEST(a_port_that_accepts_closes_at_the_next_turn)
{
	fake_run(host_closes_accepting, NULL);
}
END_TEST

static void host_frees(void)
{
	begin(&keeps);
	port_accept(p);
	co_sleep(1000);
	p = port_free(p);
	co_sleep(1000);
	ck_assert(!changed.set);
	ck_assert_uint_eq(fake_listening(), 0);
}

START_TEST(a_freed_port_ends_without_a_word)
{
	fake_run(host_frees, NULL);
}
END_TEST

static void host_loses_channel(void)
{
	begin(&keeps);
	port_accept(p);
	co_sleep(1000);
	channel_close(fake_channel());
	ck_assert_int_eq(co_event_wait(&changed), 0);
	ck_assert_int_eq(port_take(p), -ECONNRESET);
	p = port_free(p);
}

START_TEST(the_end_of_the_channel_ends_the_port)
{
	fake_run(host_loses_channel, NULL);
}
END_TEST

static void host_serves(void)
{
	begin(&serves);
	port_accept(p);
	for (unsigned i = 0; i < 3; i++) {
		int peer = fake_dial(NUMBER);

		co_sleep(1000);
		ck_assert_uint_eq(served, i * 101 + 1);
		fd_close(peer);
		co_sleep(1000);
		ck_assert_uint_eq(served, i * 101 + 101);
	}
	ck_assert(!port_ended(p));
	p = port_free(p);
}

START_TEST(streams_are_served_one_after_the_other)
{
	fake_run(host_serves, NULL);
}
END_TEST

static void host_closes_serving(void)
{
	int peer;

	begin(&serves);
	port_accept(p);
	peer = fake_dial(NUMBER);
	co_sleep(1000);
	port_close(p);
	ck_assert_uint_eq(fake_listening(), 0);
	co_sleep(1000);
	ck_assert(!port_ended(p));
	fd_close(peer);
	port_join(p, 10 * USEC_PER_SEC);
	ck_assert(port_ended(p));
	ck_assert_uint_eq(served, 101);
	p = port_free(p);
}

START_TEST(a_stream_that_is_served_goes_on_after_close)
{
	fake_run(host_closes_serving, NULL);
}
END_TEST

static void host_frees_serving(void)
{
	int peer;

	begin(&serves);
	port_accept(p);
	peer = fake_dial(NUMBER);
	co_sleep(1000);
	p = port_free(p);
	fake_expect_end(peer);
	ck_assert_uint_eq(served, 101);
	fd_close(peer);
}

START_TEST(a_stream_that_is_served_ends_with_free)
{
	fake_run(host_frees_serving, NULL);
}
END_TEST

static void host_is_refused(void)
{
	fake_refuse(NUMBER, -EADDRINUSE);
	ck_assert_int_eq(port_listen(fake_channel(), NUMBER, &keeps, &p, NULL), -EADDRINUSE);
	ck_assert_ptr_null(p);
}

START_TEST(a_port_that_is_taken_is_no_port)
{
	fake_run(host_is_refused, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest port");
	TCase *c = tcase_create("port");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_test(c, one_stream_is_accepted_and_kept);
	tcase_add_test(c, a_stream_that_nobody_takes_is_closed);
	tcase_add_test(c, a_port_that_does_not_accept_closes_at_once);
	tcase_add_test(c, a_port_that_accepts_closes_at_the_next_turn);
	tcase_add_test(c, a_freed_port_ends_without_a_word);
	tcase_add_test(c, the_end_of_the_channel_ends_the_port);
	tcase_add_test(c, streams_are_served_one_after_the_other);
	tcase_add_test(c, a_stream_that_is_served_goes_on_after_close);
	tcase_add_test(c, a_stream_that_is_served_ends_with_free);
	tcase_add_test(c, a_port_that_is_taken_is_no_port);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
