/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/duplex.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "turns.h"

/* client - joined[0] = joined[1] - server */
static int client, server, joined[2];
static struct duplex *duplex;
static bool ended;

static void pair(int *a, int *b)
{
	int p[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p), 0);
	*a = p[0];
	*b = p[1];
}

static void over(struct duplex *d, void *arg)
{
	ck_assert_ptr_eq(d, duplex);
	ck_assert_ptr_eq(arg, &ended);
	ck_assert(!ended);
	ended = true;
	duplex = duplex_free(d);
}

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	ended = false;
	pair(&client, &joined[0]);
	pair(&server, &joined[1]);
	ck_assert_int_eq(duplex_new(joined[0], joined[1], over, &ended, &duplex), 0);
}

static void teardown(void)
{
	duplex_free(duplex);
	loop_fini();
	fd_close(client);
	fd_close(server);
}

static void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	run_for(20);
}

static void hear(int fd, const char *text)
{
	char got[64] = "";

	ck_assert_int_eq(read(fd, got, sizeof(got) - 1), (ssize_t)strlen(text));
	ck_assert_str_eq(got, text);
}

START_TEST(bytes_go_both_ways)
{
	say(client, "question");
	hear(server, "question");
	say(server, "answer");
	hear(client, "answer");
	ck_assert(!ended);
}
END_TEST

START_TEST(an_answer_comes_after_the_end_of_the_question)
{
	say(client, "question");
	shutdown(client, SHUT_WR);
	run_for(20);
	hear(server, "question");
	hear(server, "");
	ck_assert(!ended);
	say(server, "answer");
	hear(client, "answer");
	server = fd_close(server);
	run_for(20);
	ck_assert(ended);
	hear(client, "");
}
END_TEST

START_TEST(an_end_that_is_gone_takes_the_other_one_along)
{
	say(client, "last words");
	client = fd_close(client);
	run_for(20);
	ck_assert(ended);
	hear(server, "last words");
	hear(server, "");
}
END_TEST

START_TEST(an_end_that_goes_after_its_half_close_takes_the_other_one_along)
{
	shutdown(server, SHUT_WR);
	run_for(20);
	ck_assert(!ended);
	server = fd_close(server);
	run_for(20);
	ck_assert(ended);
}
END_TEST

START_TEST(an_end_that_reads_no_more_may_still_write)
{
	shutdown(server, SHUT_RD);
	say(client, "unheard");
	ck_assert(!ended);
	say(server, "answer");
	hear(client, "answer");
	client = fd_close(client);
	run_for(20);
	ck_assert(ended);
}
END_TEST

START_TEST(a_reader_that_does_not_read_stops_the_writer_and_nobody_else)
{
	static char block[64 << 10];
	size_t sent = 0;

	for (int i = 0; i < 100; i++) {
		ssize_t n = send(client, block, sizeof(block), MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		run_for(1);
	}
	ck_assert_uint_lt(sent, 2 << 20);
	say(server, "answer");
	hear(client, "answer");

	size_t got = 0;

	shutdown(client, SHUT_WR);
	for (int i = 0; i < 2000 && got < sent; i++) {
		ssize_t n = read(server, block, sizeof(block));

		got += n > 0 ? (size_t)n : 0;
		run_for(1);
	}
	ck_assert_uint_eq(got, sent);
}
END_TEST

START_TEST(both_are_closed_when_they_cannot_be_joined)
{
	int a, b;
	struct duplex *d = NULL;

	pair(&a, &b);
	b = fd_close(b);
	ck_assert_int_eq(duplex_new(a, -EBADF, over, &ended, &d), -EBADF);
	ck_assert_ptr_null(d);
	ck_assert_int_eq(fcntl(a, F_GETFD), -1);
}
END_TEST

/* ---- several ---- */

static struct duplexes set;
static unsigned n_left;

static void left(void *arg)
{
	ck_assert_ptr_eq(arg, &set);
	n_left++;
}

/* The far ends of one more of the set. */
static int join(int *a, int *b)
{
	int x, y;

	pair(a, &x);
	pair(b, &y);
	return duplexes_join(&set, x, y);
}

START_TEST(a_place_is_given_back_at_the_end_and_not_before)
{
	int a, b, c, d;

	n_left = 0;
	duplexes_init(&set, 2, left, &set);
	ck_assert(duplexes_take(&set));
	ck_assert_int_eq(join(&a, &b), 0);
	ck_assert(duplexes_take(&set));
	ck_assert(!duplexes_take(&set));
	ck_assert_int_eq(join(&c, &d), 0);
	fd_close(a);
	run_for(20);
	ck_assert_uint_eq(n_left, 1);
	hear(b, "");
	ck_assert(duplexes_take(&set));
	ck_assert(!duplexes_take(&set));
	duplexes_give(&set);
	ck_assert_uint_eq(n_left, 2);
	/* What is closed by its owner needs no word to him. */
	duplexes_close(&set);
	hear(d, "");
	ck_assert_uint_eq(n_left, 2);
	ck_assert_uint_eq(set.n, 0);
	fd_close(b);
	fd_close(c);
	fd_close(d);
}
END_TEST

START_TEST(a_place_is_given_back_when_two_cannot_be_joined)
{
	duplexes_init(&set, 1, NULL, NULL);
	ck_assert(duplexes_take(&set));
	ck_assert_int_eq(duplexes_join(&set, -EBADF, -EBADF), -EBADF);
	ck_assert_uint_eq(set.n, 0);
}
END_TEST

static int waited;

static CO void await(void *arg)
{
	waited = duplexes_await(&set);
}

START_TEST(a_place_can_be_waited_for)
{
	struct co *co;

	waited = 1;
	duplexes_init(&set, 1, NULL, NULL);
	ck_assert(duplexes_take(&set));
	co_spawn("await", await, NULL, USEC_NEVER);
	run_for(5);
	ck_assert_int_eq(waited, 1);
	duplexes_give(&set);
	run_for(5);
	ck_assert_int_eq(waited, 0);
	ck_assert(!duplexes_take(&set));
	co = co_spawn("await", await, NULL, USEC_NEVER);
	run_for(5);
	co_cancel(co);
	run_for(5);
	ck_assert_int_eq(waited, -ECANCELED);
	ck_assert_uint_eq(set.n, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop duplex");
	TCase *t = tcase_create("duplex");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, bytes_go_both_ways);
	tcase_add_test(t, an_answer_comes_after_the_end_of_the_question);
	tcase_add_test(t, an_end_that_is_gone_takes_the_other_one_along);
	tcase_add_test(t, an_end_that_goes_after_its_half_close_takes_the_other_one_along);
	tcase_add_test(t, an_end_that_reads_no_more_may_still_write);
	tcase_add_test(t, a_reader_that_does_not_read_stops_the_writer_and_nobody_else);
	tcase_add_test(t, both_are_closed_when_they_cannot_be_joined);
	tcase_add_test(t, a_place_is_given_back_at_the_end_and_not_before);
	tcase_add_test(t, a_place_is_given_back_when_two_cannot_be_joined);
	tcase_add_test(t, a_place_can_be_waited_for);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
