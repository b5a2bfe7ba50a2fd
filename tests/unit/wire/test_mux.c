/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/mux.h"

#include "mux_fixture.h"

/* ---- both ends ---- */

static void bytes_both_ways(void)
{
	int g, h;

	open_stream(&g, &h);
	ck_assert_uint_eq(mux_streams(f.guest), 1);
	ck_assert_uint_eq(mux_streams(f.host), 1);
	send_text(g, "to the host");
	assert_reads(h, "to the host");
	send_text(h, "to the guest");
	assert_reads(g, "to the guest");
	close(g);
	close(h);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
}

START_TEST(a_dialled_stream_carries_bytes_both_ways_and_closes)
{
	both(bytes_both_ways);
}
END_TEST

static void the_other_way(void)
{
	int g, h, host_end = -EBADF;

	ck_assert_int_eq(mux_listen(f.guest, PORT, on_accept, &f.guest), 0);
	open_stream(&g, &h);
	ck_assert_int_eq(mux_dial(f.host, PORT, &host_end), 0);
	ck_assert_uint_eq(mux_streams(f.host), 2);
	send_text(host_end, "first from the host");
	assert_reads(f.accepted[1], "first from the host");
	send_text(g, "first from the guest");
	assert_reads(h, "first from the guest");
	close(g);
	close(h);
	close(host_end);
}

START_TEST(both_ends_may_dial_at_the_same_time)
{
	both(the_other_way);
}
END_TEST

static void half_close(void)
{
	int g, h;

	open_stream(&g, &h);
	send_text(g, "question");
	ck_assert_int_eq(shutdown(g, SHUT_WR), 0);
	assert_reads(h, "question");
	assert_ends(h);
	send_text(h, "answer");
	assert_reads(g, "answer");
	ck_assert_int_eq(shutdown(h, SHUT_WR), 0);
	assert_ends(g);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	close(g);
	close(h);

	/* and the listening end first */
	open_stream(&g, &h);
	send_text(h, "greeting");
	ck_assert_int_eq(shutdown(h, SHUT_WR), 0);
	assert_reads(g, "greeting");
	assert_ends(g);
	send_text(g, "thanks");
	close(g);
	assert_reads(h, "thanks");
	assert_ends(h);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	close(h);
}

START_TEST(a_half_closed_stream_goes_on_the_other_way)
{
	both(half_close);
}
END_TEST

static void write_and_close(void)
{
	static char big[MUX_WINDOW + 100000];
	char *got = mem_new0(1, sizeof(big));
	size_t n = 0;
	int g, h;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 + i / 251);
	open_stream(&g, &h);
	/* neither reads: what the host wrote is lost, what the guest wrote is not, though it is
	 * more than a window */
	send_text(h, "nobody reads this");
	ck_assert_int_eq(co_write_full(g, big, sizeof(big)), 0);
	close(g);
	settle();
	for (ssize_t r; n < sizeof(big); n += (size_t)r) {
		r = co_read(h, got + n, sizeof(big) - n);
		ck_assert_int_gt(r, 0);
	}
	assert_ends(h);
	ck_assert_mem_eq(got, big, sizeof(big));
	ck_assert_int_lt(send(h, "x", 1, MSG_NOSIGNAL), 0);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	close(h);
	free(got);
}

START_TEST(what_was_written_before_a_close_is_delivered)
{
	both(write_and_close);
}
END_TEST

static void close_after_shut(void)
{
	int g, h;

	open_stream(&g, &h);
	ck_assert_int_eq(shutdown(h, SHUT_WR), 0);
	assert_ends(g);
	close(g);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	close(h);

	/* a user that has shut down and then goes away, while the other end does nothing at all */
	open_stream(&g, &h);
	ck_assert_int_eq(shutdown(g, SHUT_WR), 0);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 1);
	close(g);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	assert_ends(h);
	close(h);
}

START_TEST(a_close_after_either_shutdown_leaves_no_stream_behind)
{
	both(close_after_shut);
}
END_TEST

static void writer_to_closed(void)
{
	int g, h;
	ssize_t n = 1;

	open_stream(&g, &h);
	close(h);
	for (int i = 0; i < 100 && n > 0; i++) {
		n = send(g, "x", 1, MSG_NOSIGNAL);
		co_sleep(USEC_PER_MSEC);
	}
	ck_assert_int_lt(n, 0);
	ck_assert_int_eq(errno, EPIPE);
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	close(g);
}

START_TEST(a_writer_learns_that_the_reader_has_closed)
{
	both(writer_to_closed);
}
END_TEST

static void refused(void)
{
	int fd = -1234;

	ck_assert_int_eq(mux_dial(f.guest, PORT + 1, &fd), -ECONNREFUSED);
	ck_assert_int_eq(fd, -1234);
	mux_unlisten(f.host, PORT);
	ck_assert_int_eq(mux_dial(f.guest, PORT, &fd), -ECONNREFUSED);
	ck_assert_uint_eq(mux_streams(f.guest), 0);
}

START_TEST(a_dial_to_a_port_without_listener_is_refused)
{
	both(refused);
}
END_TEST

static void once(void)
{
	int g, fd;

	f.unlisten_when_accepted = true;
	ck_assert_int_eq(mux_dial(f.guest, PORT, &g), 0);
	ck_assert_int_eq(mux_dial(f.guest, PORT, &fd), -ECONNREFUSED);
	send_text(g, "still there");
	assert_reads(f.accepted[0], "still there");
	close(g);
}

START_TEST(a_listener_may_go_when_it_has_accepted_and_the_stream_stays)
{
	both(once);
}
END_TEST

static void freed_in_accept(void)
{
	int fd;

	f.free_when_accepted = true;
	ck_assert_int_eq(mux_dial(f.guest, PORT, &fd), 0);
	assert_ends(fd);
	close(fd);
	ck_assert_ptr_null(f.host);
}

START_TEST(the_multiplexer_may_be_freed_while_it_accepts)
{
	both(freed_in_accept);
}
END_TEST

START_TEST(a_port_has_one_listener)
{
	start_host();
	ck_assert_int_eq(mux_listen(f.host, PORT, on_accept, NULL), -EADDRINUSE);
	mux_unlisten(f.host, PORT);
	mux_unlisten(f.host, PORT);
	ck_assert_int_eq(mux_listen(f.host, PORT, on_accept, NULL), 0);
}
END_TEST

/* ---- much data ---- */

struct transfer {
	int fd;
	unsigned seed;
	bool done;
};

static uint8_t pattern(unsigned seed, size_t i)
{
	return (uint8_t)(i * 31 + i / 4093 + seed);
}

static void write_big(void *arg)
{
	struct transfer *t = arg;
	static uint8_t chunk[2][50000];
	uint8_t *p = chunk[t->seed & 1];

	for (size_t at = 0; at < BIG;) {
		size_t n = BIG - at < sizeof(chunk[0]) ? BIG - at : sizeof(chunk[0]);

		for (size_t i = 0; i < n; i++)
			p[i] = pattern(t->seed, at + i);
		ck_assert_int_eq(co_write_full(t->fd, p, n), 0);
		at += n;
	}
	shutdown(t->fd, SHUT_WR);
	t->done = true;
}

static void read_big(void *arg)
{
	struct transfer *t = arg;
	static uint8_t chunk[2][60000];
	uint8_t *p = chunk[t->seed & 1];
	size_t at = 0;
	ssize_t n;

	while ((n = co_read(t->fd, p, sizeof(chunk[0]))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (p[i] != pattern(t->seed, at + (size_t)i))
				ck_abort_msg("byte %zu differs", at + (size_t)i);
		at += (size_t)n;
	}
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(at, BIG);
	t->done = true;
}

static void big_both_ways(void)
{
	struct transfer t[4] = { 0 };
	int g, h;

	open_stream(&g, &h);
	for (int i = 0; i < 4; i++)
		t[i] = (struct transfer){ .fd = i == 0 || i == 3 ? g : h, .seed = (unsigned)i / 2 };
	co_spawn("write", write_big, &t[0], USEC_NEVER);
	co_spawn("read", read_big, &t[1], USEC_NEVER);
	co_spawn("write", write_big, &t[2], USEC_NEVER);
	co_spawn("read", read_big, &t[3], USEC_NEVER);
	while (!t[0].done || !t[1].done || !t[2].done || !t[3].done)
		ck_assert_int_eq(co_sleep(USEC_PER_MSEC), 0);
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	close(g);
	close(h);
}

START_TEST(twenty_megabytes_arrive_exactly_both_ways)
{
	both(big_both_ways);
}
END_TEST

static void slow_reader(void)
{
	static char chunk[65536];
	int g[2], h[2];
	size_t n = 0;
	char *got;

	open_stream(&g[0], &h[0]);
	open_stream(&g[1], &h[1]);
	/* nobody reads h[0]: the writer is stopped before long */
	for (int idle = 0; idle < 5;) {
		ssize_t r = send(g[0], chunk, sizeof(chunk), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (r > 0)
			n += (size_t)r;
		idle = r > 0 ? 0 : idle + 1;
		co_sleep(2 * USEC_PER_MSEC);
	}
	/* a window, and what the two socket pairs hold */
	ck_assert_uint_ge(n, MUX_WINDOW);
	ck_assert_uint_lt(n, MUX_WINDOW + (2 << 20));
	for (int i = 0; i < 100; i++) {
		send_text(g[1], "ping");
		assert_reads(h[1], "ping");
		send_text(h[1], "pong");
		assert_reads(g[1], "pong");
	}
	got = malloc(n);
	ck_assert_int_eq(co_read_full(h[0], got, n), 0);
	send_text(g[0], "and on");
	assert_reads(h[0], "and on");
	free(got);
	for (int i = 0; i < 2; i++) {
		close(g[i]);
		close(h[i]);
	}
}

static void slow_and_exact(void)
{
	struct transfer t = { .seed = 3 };
	static uint8_t piece[50000];
	size_t at = 0;
	int h;
	ssize_t n;

	open_stream(&t.fd, &h);
	co_spawn("write", write_big, &t, USEC_NEVER);
	settle();
	while ((n = co_read(h, piece, sizeof(piece))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (piece[i] != pattern(t.seed, at + (size_t)i))
				ck_abort_msg("byte %zu differs", at + (size_t)i);
		at += (size_t)n;
		/* what is under way piles up behind a full buffer */
		if (at < BIG / 4)
			co_sleep(USEC_PER_MSEC);
	}
	ck_assert_uint_eq(at, BIG);
	close(t.fd);
	close(h);
}

START_TEST(what_waits_for_a_slow_reader_stays_in_order)
{
	both(slow_and_exact);
}
END_TEST

START_TEST(a_slow_reader_stalls_its_own_stream_only)
{
	both(slow_reader);
}
END_TEST

static void churn(void)
{
	for (int i = 0; i < 2000; i++) {
		int g, h;

		open_stream(&g, &h);
		f.n_accepted = 0;
		if (i & 1)
			send_text(i & 2 ? g : h, "x");
		if (i & 4)
			shutdown(g, SHUT_WR);
		close(i & 8 ? g : h);
		if (i & 16)
			co_sleep(0);
		close(i & 8 ? h : g);
	}
	settle();
	ck_assert_uint_eq(mux_streams(f.guest), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
}

START_TEST(streams_that_come_and_go_in_every_order_leave_nothing)
{
	both(churn);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mux");
	TCase *tc = tcase_create("mux");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_dialled_stream_carries_bytes_both_ways_and_closes);
	tcase_add_test(tc, both_ends_may_dial_at_the_same_time);
	tcase_add_test(tc, a_half_closed_stream_goes_on_the_other_way);
	tcase_add_test(tc, what_was_written_before_a_close_is_delivered);
	tcase_add_test(tc, a_close_after_either_shutdown_leaves_no_stream_behind);
	tcase_add_test(tc, a_writer_learns_that_the_reader_has_closed);
	tcase_add_test(tc, a_dial_to_a_port_without_listener_is_refused);
	tcase_add_test(tc, a_listener_may_go_when_it_has_accepted_and_the_stream_stays);
	tcase_add_test(tc, the_multiplexer_may_be_freed_while_it_accepts);
	tcase_add_test(tc, a_port_has_one_listener);
	tcase_add_test(tc, twenty_megabytes_arrive_exactly_both_ways);
	tcase_add_test(tc, what_waits_for_a_slow_reader_stays_in_order);
	tcase_add_test(tc, a_slow_reader_stalls_its_own_stream_only);
	tcase_add_test(tc, streams_that_come_and_go_in_every_order_leave_nothing);
	return run_suite(suite, tc);
}
