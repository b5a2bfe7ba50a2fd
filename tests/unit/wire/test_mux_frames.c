/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/mux_frame.h"

#include "mux_fixture.h"

/* ---- by hand ---- */

static void hand_frames(void)
{
	static uint8_t data[MUX_DATA_MAX];
	struct mux_frame fr;

	open_by_hand();
	put(MUX_DATA, 1, 0, "hello", 5);
	assert_reads(f.accepted[0], "hello");
	send_text(f.accepted[0], "bye");
	shutdown(f.accepted[0], SHUT_WR);
	fr = get(data);
	ck_assert_uint_eq(fr.type, MUX_DATA);
	ck_assert_uint_eq(fr.stream, 1 | MUX_YOURS);
	ck_assert_uint_eq(fr.len, 3);
	ck_assert_mem_eq(data, "bye", 3);
	assert_get(MUX_SHUT, 1 | MUX_YOURS, 0);
	put(MUX_SHUT, 1, 0, NULL, 0);
	assert_ends(f.accepted[0]);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	put(MUX_OPEN, 2, PORT + 5, NULL, 0);
	assert_get(MUX_RESET, 2 | MUX_YOURS, 0);
}

START_TEST(frames_are_as_documented)
{
	start_host();
	in_co(hand_frames);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void credit(void)
{
	static uint8_t chunk[MUX_DATA_MAX];
	static char big[3 * MUX_WINDOW];
	size_t n = 0;
	uint32_t credits = 0;
	ssize_t sent = 0;

	open_by_hand();
	/* the host sends a window and no more, then what is granted */
	while (n < MUX_WINDOW) {
		ssize_t r = send(f.accepted[0], big, sizeof(big) - (size_t)sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		sent += r > 0 ? r : 0;
		n += get(NULL).len;
	}
	ck_assert_uint_eq(n, MUX_WINDOW);
	send(f.accepted[0], big, 1000, MSG_NOSIGNAL | MSG_DONTWAIT);
	settle();
	ck_assert_int_lt(recv(f.channel[1], chunk, 1, MSG_DONTWAIT), 0);
	put(MUX_CREDIT, 1, 100, NULL, 0);
	ck_assert_uint_eq(get(NULL).len, 100);
	/* and grants what its user has read */
	for (n = 0; n < MUX_WINDOW; n += sizeof(chunk))
		put(MUX_DATA, 1, 0, chunk, sizeof(chunk));
	settle();
	for (n = 0; n < MUX_WINDOW;) {
		ssize_t r = co_read(f.accepted[0], big, sizeof(big));

		ck_assert_int_gt(r, 0);
		n += (size_t)r;
	}
	settle();
	while (credits < MUX_WINDOW) {
		struct mux_frame fr = get(NULL);

		ck_assert_uint_eq(fr.type, MUX_CREDIT);
		credits += fr.arg;
	}
	ck_assert_uint_eq(credits, MUX_WINDOW);
}

/* Nothing may be said again and again by epoll while there is nothing to do */
CO static void assert_idle(void)
{
	struct timespec before, after;
	int64_t ms;

	settle();
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	ck_assert_int_eq(co_sleep(200 * USEC_PER_MSEC), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
	ck_assert_int_lt(ms, 100);
}

static void full_channel(void)
{
	static char big[MUX_WINDOW];
	/* the end is seen only with credit left */
	const size_t most = MUX_WINDOW - 1000;
	size_t sent[3] = { 0 }, got[3] = { 0 };

	shake_hands();
	for (uint32_t i = 1; i <= 3; i++) {
		put(MUX_OPEN, i, PORT, NULL, 0);
		assert_get(MUX_ACCEPT, i | MUX_YOURS, 0);
	}
	/* three windows are more than the channel and the backlog hold */
	for (int idle = 0; idle < 5; idle++) {
		for (int i = 0; i < 3; i++) {
			ssize_t r = send(f.accepted[i], big, most - sent[i],
					 MSG_NOSIGNAL | MSG_DONTWAIT);

			sent[i] += r > 0 ? (size_t)r : 0;
		}
		settle();
	}
	assert_idle();
	for (int i = 0; i < 3; i++)
		f.accepted[i] = fd_close(f.accepted[i]);
	assert_idle();
	for (unsigned ended = 0; ended < 3;) {
		struct mux_frame fr = get(NULL);

		if (fr.type == MUX_DATA)
			got[(fr.stream & ~MUX_YOURS) - 1] += fr.len;
		ended += fr.type == MUX_SHUT;
	}
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(got[i], sent[i]);
}

START_TEST(a_full_channel_holds_the_users_back_and_costs_nothing)
{
	start_host();
	in_co(full_channel);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void hung_up_without_credit(void)
{
	static char big[MUX_WINDOW];
	size_t sent = 0, got = 0;

	open_by_hand();
	while (got < MUX_WINDOW) {
		ssize_t r = send(f.accepted[0], big, sizeof(big), MSG_NOSIGNAL | MSG_DONTWAIT);

		sent += r > 0 ? (size_t)r : 0;
		got += get(NULL).len;
	}
	while (sent == got)
		sent += (size_t)send(f.accepted[0], big, 1000, MSG_NOSIGNAL);
	f.accepted[0] = fd_close(f.accepted[0]);
	assert_idle();
	ck_assert_uint_eq(mux_streams(f.host), 1);
	put(MUX_CREDIT, 1, MUX_WINDOW, NULL, 0);
	while (got < sent)
		got += get(NULL).len;
	ck_assert_uint_eq(got, sent);
	assert_get(MUX_SHUT, 1 | MUX_YOURS, 0);
	assert_get(MUX_RESET, 1 | MUX_YOURS, 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
}

START_TEST(a_user_that_hung_up_waits_for_credit_and_costs_nothing)
{
	start_host();
	in_co(hung_up_without_credit);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

START_TEST(credit_is_kept_to_and_given_back)
{
	start_host();
	in_co(credit);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void reset(void)
{
	open_by_hand();
	put(MUX_RESET, 1, 0, NULL, 0);
	assert_ends(f.accepted[0]);
	ck_assert_int_lt(send(f.accepted[0], "x", 1, MSG_NOSIGNAL), 0);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	/* what crosses a reset is let pass */
	put(MUX_DATA, 1, 0, "x", 1);
	put(MUX_CREDIT, 1, 1, NULL, 0);
	put(MUX_SHUT, 1, 0, NULL, 0);
	put(MUX_RESET, 1, 0, NULL, 0);
	settle();
	ck_assert_uint_eq(f.n_broken, 0);

	/* after SHUT it leaves what was sent */
	put(MUX_OPEN, 2, PORT, NULL, 0);
	assert_get(MUX_ACCEPT, 2 | MUX_YOURS, 0);
	put(MUX_DATA, 2, 0, "last words", 10);
	put(MUX_SHUT, 2, 0, NULL, 0);
	put(MUX_RESET, 2, 0, NULL, 0);
	settle();
	assert_reads(f.accepted[1], "last words");
	assert_ends(f.accepted[1]);
	ck_assert_uint_eq(mux_streams(f.host), 0);
}

static void reset_behind_data(void)
{
	static uint8_t chunk[MUX_DATA_MAX];
	size_t n = 0;
	ssize_t r;

	open_by_hand();
	/* more than the user's socket holds: some waits in the multiplexer */
	for (int i = 0; i < MUX_WINDOW / MUX_DATA_MAX; i++)
		put(MUX_DATA, 1, 0, chunk, sizeof(chunk));
	put(MUX_SHUT, 1, 0, NULL, 0);
	put(MUX_RESET, 1, 0, NULL, 0);
	settle();
	ck_assert_uint_eq(mux_streams(f.host), 1);
	ck_assert_int_lt(send(f.accepted[0], "x", 1, MSG_NOSIGNAL), 0);
	ck_assert_int_eq(errno, EPIPE);
	while ((r = co_read(f.accepted[0], chunk, sizeof(chunk))) > 0)
		n += (size_t)r;
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(n, MUX_WINDOW);
	ck_assert_uint_eq(mux_streams(f.host), 0);
}

START_TEST(after_a_reset_behind_data_the_user_reads_on_and_cannot_write)
{
	start_host();
	in_co(reset_behind_data);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

START_TEST(a_reset_ends_a_stream_and_nothing_else)
{
	start_host();
	in_co(reset);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void new_peer(void)
{
	open_by_hand();
	put(MUX_DATA, 1, 0, "old", 3);
	assert_reads(f.accepted[0], "old");
	/* the same HELLO again is no new start */
	put(MUX_HELLO, 77, MUX_VERSION, NULL, 0);
	assert_get(MUX_WELCOME, 77, MUX_VERSION);
	ck_assert_uint_eq(mux_streams(f.host), 1);
	put(MUX_HELLO, 78, MUX_VERSION, NULL, 0);
	assert_get(MUX_WELCOME, 78, MUX_VERSION);
	ck_assert_uint_eq(mux_streams(f.host), 0);
	assert_ends(f.accepted[0]);
	/* it counts from 1 again */
	put(MUX_OPEN, 1, PORT, NULL, 0);
	assert_get(MUX_ACCEPT, 1 | MUX_YOURS, 0);
	put(MUX_DATA, 1, 0, "new", 3);
	assert_reads(f.accepted[1], "new");
}

START_TEST(a_peer_that_starts_anew_resets_every_stream)
{
	start_host();
	in_co(new_peer);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void eaten_hello(void)
{
	uint8_t scratch[1];
	uint32_t nonce = get(NULL).stream;

	/* who read it has died; what it left is no answer, without which nothing counts */
	put(MUX_WELCOME, nonce + 1, MUX_VERSION, NULL, 0);
	put(MUX_OPEN, 1, PORT, NULL, 0);
	settle();
	ck_assert_int_lt(recv(f.channel[1], scratch, 1, MSG_DONTWAIT), 0);
	put(MUX_HELLO, 77, MUX_VERSION, NULL, 0);
	assert_get(MUX_HELLO, nonce, MUX_VERSION);
	assert_get(MUX_WELCOME, 77, MUX_VERSION);
	put(MUX_WELCOME, nonce, MUX_VERSION, NULL, 0);
	put(MUX_OPEN, 1, PORT, NULL, 0);
	assert_get(MUX_ACCEPT, 1 | MUX_YOURS, 0);
}

START_TEST(a_hello_that_a_former_peer_has_eaten_is_said_again)
{
	start_host();
	in_co(eaten_hello);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void new_end(void)
{
	int g, h, fd;

	open_stream(&g, &h);
	/* the host's end is replaced by one that finds half a frame of the former in the channel */
	send_text(g, "stale");
	settle();
	f.host = mux_free(f.host);
	put(MUX_OPEN, 9, PORT, NULL, 0);
	ck_assert_int_eq(send(f.channel[1], "\3\0\377\177", 4, MSG_NOSIGNAL), 4);
	start_host();
	assert_ends(g);
	settle();
	ck_assert_int_eq(mux_dial(f.guest, PORT, &fd), 0);
	send_text(fd, "fresh");
	assert_reads(f.accepted[1], "fresh");
	close(fd);
	close(g);
	close(h);
}

START_TEST(an_end_may_start_anew_amid_stale_bytes)
{
	both(new_end);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void dial_first(void)
{
	int fd = -EBADF;

	ck_assert_int_eq(mux_dial(f.guest, PORT, &fd), 0);
	close(fd);
}

static void late_host(void *arg)
{
	start_host();
}

START_TEST(a_dial_waits_for_a_peer_that_is_not_there_yet)
{
	struct loop_timer *t;

	start_guest();
	t = loop_timer_new(20 * USEC_PER_MSEC, late_host, NULL);
	in_co(dial_first);
	loop_timer_free(t);
}
END_TEST

static void dial_in_vain(void)
{
	int fd = -1234;
	CO_LIMIT(500 * USEC_PER_MSEC);

	ck_assert_int_eq(mux_dial(f.guest, PORT, &fd), -ETIMEDOUT);
	ck_assert_int_eq(fd, -1234);
	ck_assert_uint_eq(mux_streams(f.guest), 0);
}

START_TEST(a_dial_that_times_out_leaves_nothing)
{
	start_guest();
	in_co(dial_in_vain);
}
END_TEST

static void dial_unanswered(void)
{
	int fd;

	shake_hands();
	{
		CO_LIMIT(500 * USEC_PER_MSEC);
		ck_assert_int_eq(mux_dial(f.host, 5, &fd), -ETIMEDOUT);
	}
	assert_get(MUX_OPEN, 1, 5);
	assert_get(MUX_RESET, 1, 0);
	/* the answer crossed it */
	put(MUX_ACCEPT, 1 | MUX_YOURS, 0, NULL, 0);
	put(MUX_DATA, 1 | MUX_YOURS, 0, "x", 1);
	settle();
}

START_TEST(a_dial_that_is_given_up_is_reset_and_its_late_answer_let_pass)
{
	start_host();
	in_co(dial_unanswered);
	ck_assert_uint_eq(f.n_broken, 0);
}
END_TEST

static void dialler(void *arg)
{
	int fd;

	f.result = mux_dial(f.guest, PORT, &fd);
}

static void free_while_dialling(void)
{
	co_spawn("dialler", dialler, NULL, USEC_NEVER);
	settle();
	f.guest = mux_free(f.guest);
	settle();
	ck_assert_int_eq(f.result, -ECONNRESET);
}

START_TEST(a_pending_dial_fails_when_the_multiplexer_goes)
{
	start_guest();
	in_co(free_while_dialling);
}
END_TEST

static void vanish(void)
{
	int fd;

	open_by_hand();
	put(MUX_DATA, 1, 0, "half", 4);
	assert_reads(f.accepted[0], "half");
	/* in the middle of a frame */
	ck_assert_int_eq(send(f.channel[1], "\3\0\5", 3, MSG_NOSIGNAL), 3);
	f.channel[1] = fd_close(f.channel[1]);
	assert_ends(f.accepted[0]);
	settle();
	ck_assert_uint_eq(f.n_broken, 1);
	ck_assert_int_eq(f.broken, 0);
	if (f.host)
		ck_assert_int_eq(mux_dial(f.host, 1, &fd), -ECONNRESET);
}

START_TEST(a_peer_that_vanishes_ends_every_stream_and_is_told_once)
{
	start_host();
	in_co(vanish);
}
END_TEST

START_TEST(the_multiplexer_may_be_freed_when_it_is_told_of_the_end)
{
	f.free_when_broken = true;
	start_host();
	in_co(vanish);
	ck_assert_ptr_null(f.host);
}
END_TEST

/* ---- what no correct peer sends ---- */

static const struct {
	const char *what;
	struct mux_frame frame;
} violations[] = {
	{ "an unknown type", { .type = 8, .stream = 1 } },
	{ "an empty DATA", { .type = MUX_DATA, .stream = 1 } },
	{ "DATA longer than allowed", { .type = MUX_DATA, .stream = 1, .len = MUX_DATA_MAX + 1 } },
	{ "a payload where none belongs", { .type = MUX_SHUT, .stream = 1, .len = 1 } },
	{ "DATA of a stream that never was", { .type = MUX_DATA, .stream = 2, .len = 1 } },
	{ "DATA of a stream that we never opened",
	  { .type = MUX_DATA, .stream = 1 | MUX_YOURS, .len = 1 } },
	{ "CREDIT beyond the window", { .type = MUX_CREDIT, .stream = 1, .arg = 1 } },
	{ "CREDIT of a stream that never was", { .type = MUX_CREDIT, .stream = 2, .arg = 1 } },
	{ "OPEN of a number that was used", { .type = MUX_OPEN, .stream = 1, .arg = PORT } },
	{ "OPEN of number 0", { .type = MUX_OPEN, .stream = 0, .arg = PORT } },
	{ "OPEN in our name", { .type = MUX_OPEN, .stream = 2 | MUX_YOURS, .arg = PORT } },
	{ "ACCEPT of a stream of its own", { .type = MUX_ACCEPT, .stream = 1 } },
	{ "ACCEPT of a stream that we never opened",
	  { .type = MUX_ACCEPT, .stream = 1 | MUX_YOURS } },
	{ "RESET of a stream that never was", { .type = MUX_RESET, .stream = 5 } },
	{ "HELLO of another version", { .type = MUX_HELLO, .stream = 1, .arg = 2 } },
};

static int violation;

static void violate(void)
{
	const struct mux_frame *fr = &violations[violation].frame;
	uint8_t raw[MUX_HEADER];

	open_by_hand();
	mux_frame_encode(fr, raw);
	ck_assert_int_eq(send(f.channel[1], raw, sizeof(raw), MSG_NOSIGNAL), sizeof(raw));
	if (fr->len == 1)
		ck_assert_int_eq(send(f.channel[1], "x", 1, MSG_NOSIGNAL), 1);
	settle();
	ck_assert_msg(f.n_broken == 1 && f.broken == -EBADMSG, "%s: %d", violations[violation].what,
		      f.broken);
	assert_ends(f.accepted[0]);
}

START_TEST(a_violation_of_the_protocol_breaks_the_channel)
{
	violation = _i;
	start_host();
	in_co(violate);
}
END_TEST

START_TEST(the_second_byte_of_a_frame_is_zero)
{
	const struct mux_frame credit_frame = { .type = MUX_CREDIT,
						.stream = 0x81234567,
						.arg = 0xfedcba98 };
	static const uint8_t expected[] = { 4,    0,    0,    0,    0x67, 0x45,
					    0x23, 0x81, 0x98, 0xba, 0xdc, 0xfe };
	uint8_t raw[MUX_HEADER];
	struct mux_frame fr;

	mux_frame_encode(&credit_frame, raw);
	ck_assert_mem_eq(raw, expected, sizeof(raw));
	ck_assert_int_eq(mux_frame_decode(raw, &fr), 0);
	ck_assert_uint_eq(fr.arg, credit_frame.arg);
	raw[1] = 1;
	ck_assert_int_eq(mux_frame_decode(raw, &fr), -EBADMSG);
}
END_TEST

static void overrun(void)
{
	static uint8_t chunk[MUX_DATA_MAX];

	open_by_hand();
	/* the user does not read; its socket pair takes some, for which there is credit. In the end
	 * it is too much */
	for (int i = 0; i < 64 && !f.n_broken; i++) {
		put(MUX_DATA, 1, 0, chunk, sizeof(chunk));
		co_sleep(USEC_PER_MSEC);
	}
	ck_assert_uint_eq(f.n_broken, 1);
	ck_assert_int_eq(f.broken, -EBADMSG);
}

START_TEST(data_beyond_the_credit_breaks_the_channel)
{
	start_host();
	in_co(overrun);
}
END_TEST

static void twice_shut(void)
{
	open_by_hand();
	put(MUX_SHUT, 1, 0, NULL, 0);
	put(MUX_SHUT, 1, 0, NULL, 0);
	settle();
	ck_assert_int_eq(f.broken, -EBADMSG);
}

START_TEST(a_second_shut_breaks_the_channel)
{
	start_host();
	in_co(twice_shut);
}
END_TEST

static void data_after_shut(void)
{
	open_by_hand();
	put(MUX_SHUT, 1, 0, NULL, 0);
	put(MUX_DATA, 1, 0, "x", 1);
	settle();
	ck_assert_int_eq(f.broken, -EBADMSG);
}

START_TEST(data_after_shut_breaks_the_channel)
{
	start_host();
	in_co(data_after_shut);
}
END_TEST

static void early_data(void)
{
	int fd = -1;

	shake_hands();
	co_spawn("dialler", dialler, NULL, USEC_NEVER);
	f.guest = f.host; /* dialler() takes the guest */
	assert_get(MUX_OPEN, 1, PORT);
	put(MUX_DATA, 1 | MUX_YOURS, 0, "x", 1);
	settle();
	ck_assert_int_eq(f.broken, -EBADMSG);
	ck_assert_int_eq(f.result, -ECONNRESET);
	ck_assert_int_eq(fd, -1);
	f.guest = NULL;
}

START_TEST(data_before_accept_breaks_the_channel)
{
	start_host();
	in_co(early_data);
}
END_TEST

static void deaf_peer(void)
{
	shake_hands();
	/* it makes us answer and never reads */
	for (uint32_t i = 1; i < 1000000 && !f.n_broken; i++) {
		uint8_t raw[MUX_HEADER];

		mux_frame_encode(&(struct mux_frame){ .type = MUX_OPEN, .stream = i, .arg = 1 },
				 raw);
		if (co_write_full(f.channel[1], raw, sizeof(raw)) < 0)
			break;
	}
	settle();
	ck_assert_uint_eq(f.n_broken, 1);
	ck_assert_int_eq(f.broken, -EBADMSG);
}

START_TEST(a_peer_that_only_asks_and_never_reads_is_cut_off)
{
	start_host();
	in_co(deaf_peer);
}
END_TEST

/* ---- many ---- */

static int many[MUX_STREAMS_MAX];
static unsigned n_many;

static void count_accept(int fd, void *arg)
{
	ck_assert_uint_lt(n_many, ARRAY_SIZE(many));
	many[n_many++] = fd;
}

static void many_streams(void)
{
	shake_hands();
	for (uint32_t i = 1; i <= MUX_STREAMS_MAX; i++) {
		put(MUX_OPEN, i, PORT + 1, NULL, 0);
		assert_get(MUX_ACCEPT, i | MUX_YOURS, 0);
	}
	ck_assert_uint_eq(mux_streams(f.host), MUX_STREAMS_MAX);
	put(MUX_OPEN, MUX_STREAMS_MAX + 1, PORT + 1, NULL, 0);
	assert_get(MUX_RESET, (MUX_STREAMS_MAX + 1) | MUX_YOURS, 0);
	ck_assert_int_eq(mux_dial(f.host, 1, &f.result), -EMFILE);
	put(MUX_DATA, MUX_STREAMS_MAX, 0, "last", 4);
	assert_reads(many[MUX_STREAMS_MAX - 1], "last");
	put(MUX_RESET, 1, 0, NULL, 0);
	put(MUX_OPEN, MUX_STREAMS_MAX + 2, PORT, NULL, 0);
	assert_get(MUX_ACCEPT, (MUX_STREAMS_MAX + 2) | MUX_YOURS, 0);
}

START_TEST(there_are_4096_streams_at_most)
{
	struct rlimit files;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	ck_assert_msg(files.rlim_max > 2 * MUX_STREAMS_MAX + 64,
		      "the hard limit of files is too low for this test");
	start_host();
	ck_assert_int_eq(mux_listen(f.host, PORT + 1, count_accept, NULL), 0);
	in_co(many_streams);
	for (unsigned i = 0; i < n_many; i++)
		close(many[i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mux frames");
	TCase *tc = tcase_create("mux frames");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, frames_are_as_documented);
	tcase_add_test(tc, a_full_channel_holds_the_users_back_and_costs_nothing);
	tcase_add_test(tc, a_user_that_hung_up_waits_for_credit_and_costs_nothing);
	tcase_add_test(tc, credit_is_kept_to_and_given_back);
	tcase_add_test(tc, after_a_reset_behind_data_the_user_reads_on_and_cannot_write);
	tcase_add_test(tc, a_reset_ends_a_stream_and_nothing_else);
	tcase_add_test(tc, a_peer_that_starts_anew_resets_every_stream);
	tcase_add_test(tc, a_hello_that_a_former_peer_has_eaten_is_said_again);
	tcase_add_test(tc, an_end_may_start_anew_amid_stale_bytes);
	tcase_add_test(tc, a_dial_waits_for_a_peer_that_is_not_there_yet);
	tcase_add_test(tc, a_dial_that_times_out_leaves_nothing);
	tcase_add_test(tc, a_dial_that_is_given_up_is_reset_and_its_late_answer_let_pass);
	tcase_add_test(tc, a_pending_dial_fails_when_the_multiplexer_goes);
	tcase_add_test(tc, a_peer_that_vanishes_ends_every_stream_and_is_told_once);
	tcase_add_test(tc, the_multiplexer_may_be_freed_when_it_is_told_of_the_end);
	tcase_add_loop_test(tc, a_violation_of_the_protocol_breaks_the_channel, 0,
			    ARRAY_SIZE(violations));
	tcase_add_test(tc, the_second_byte_of_a_frame_is_zero);
	tcase_add_test(tc, data_beyond_the_credit_breaks_the_channel);
	tcase_add_test(tc, a_second_shut_breaks_the_channel);
	tcase_add_test(tc, data_after_shut_breaks_the_channel);
	tcase_add_test(tc, data_before_accept_breaks_the_channel);
	tcase_add_test(tc, a_peer_that_only_asks_and_never_reads_is_cut_off);
	tcase_add_test(tc, there_are_4096_streams_at_most);
	return run_suite(suite, tc);
}
