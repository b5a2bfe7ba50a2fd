/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TEST_MUX_FIXTURE_H
#define LCOW_TEST_MUX_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/loop.h"
#include "wire/mux_internal.h"
#include "turns.h"

enum { PORT = 0x40000000, BIG = 20 << 20 };

/* Two multiplexers at the ends of a channel; or one, and a peer that the test plays by hand. */
static struct fixture {
	int channel[2];
	struct mux *host;
	struct mux *guest;
	int accepted[16];
	unsigned n_accepted;
	int broken;
	unsigned n_broken;
	bool free_when_broken;
	bool unlisten_when_accepted;
	bool free_when_accepted;
	int result;
	uint32_t last;
	void (*body)(void);
} f;

static inline void setup(void)
{
	memset(&f, 0, sizeof(f));
	ck_assert_int_eq(loop_init(), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
				    f.channel),
			 0);
}

static inline void teardown(void)
{
	f.host = mux_free(f.host);
	f.guest = mux_free(f.guest);
	for (unsigned i = 0; i < f.n_accepted; i++)
		fd_close(f.accepted[i]);
	fd_close(f.channel[0]);
	fd_close(f.channel[1]);
	loop_fini();
}

static inline void on_broken(int why, void *arg)
{
	struct mux **m = arg;

	f.broken = why;
	f.n_broken++;
	ck_assert_uint_eq(mux_streams(*m), 0);
	if (f.free_when_broken)
		*m = mux_free(*m);
}

static inline void on_accept(int fd, void *arg)
{
	struct mux **m = arg;

	ck_assert_uint_lt(f.n_accepted, ARRAY_SIZE(f.accepted));
	f.accepted[f.n_accepted++] = fd;
	if (f.unlisten_when_accepted)
		mux_unlisten(*m, PORT);
	if (f.free_when_accepted)
		*m = mux_free(*m);
}

static inline void start_host(void)
{
	ck_assert_int_eq(mux_new(f.channel[0], on_broken, &f.host, &f.host), 0);
	ck_assert_int_eq(mux_listen(f.host, PORT, on_accept, &f.host), 0);
}

static inline void start_guest(void)
{
	ck_assert_int_eq(mux_new(f.channel[1], NULL, NULL, &f.guest), 0);
}

static inline void run_body(void *arg)
{
	f.body();
	loop_stop(0);
}

/* Run a test's body as a coroutine, with both ends up */
static inline void in_co(void (*body)(void))
{
	f.body = body;
	co_spawn("test", run_body, NULL, time_mono() + 60 * USEC_PER_SEC);
	ck_assert_int_eq(loop_run(), 0);
}

static inline void both(void (*body)(void))
{
	start_host();
	start_guest();
	in_co(body);
}

/* Let everything that is under way arrive */
CO static inline void settle(void)
{
	ck_assert_int_eq(settle_for(10), 0);
}

/* A stream, both its ends */
CO static inline void open_stream(int *guest, int *host)
{
	unsigned n = f.n_accepted;

	ck_assert_int_eq(mux_dial(f.guest, PORT, guest), 0);
	ck_assert_uint_eq(f.n_accepted, n + 1);
	*host = f.accepted[n];
	f.accepted[n] = -EBADF;
}

CO static inline void assert_reads(int fd, const char *text)
{
	char got[256] = "";

	ck_assert_uint_lt(strlen(text), sizeof(got));
	if (*text)
		ck_assert_int_eq(co_read_full(fd, got, strlen(text)), 0);
	ck_assert_str_eq(got, text);
}

CO static inline void assert_ends(int fd)
{
	char c;

	ck_assert_int_eq(co_read(fd, &c, 1), 0);
}

CO static inline void send_text(int fd, const char *text)
{
	ck_assert_int_eq(co_write_full(fd, text, strlen(text)), 0);
}

CO static inline void put(enum mux_type type, uint32_t stream, uint32_t arg, const void *data,
			  size_t len)
{
	uint8_t raw[MUX_HEADER];

	mux_frame_encode(&(struct mux_frame){ .type = (uint8_t)type,
					      .len = (uint16_t)len,
					      .stream = stream,
					      .arg = arg },
			 raw);
	ck_assert_int_eq(co_write_full(f.channel[1], raw, sizeof(raw)), 0);
	if (len)
		ck_assert_int_eq(co_write_full(f.channel[1], data, len), 0);
}

/* The next frame from the host, payload to @data */
CO static inline struct mux_frame get(uint8_t *data)
{
	static uint8_t scratch[MUX_DATA_MAX];
	uint8_t raw[MUX_HEADER];
	struct mux_frame fr;

	ck_assert_int_eq(co_read_full(f.channel[1], raw, sizeof(raw)), 0);
	ck_assert_int_eq(mux_frame_decode(raw, &fr), 0);
	if (fr.len)
		ck_assert_int_eq(co_read_full(f.channel[1], data ? data : scratch, fr.len), 0);
	return fr;
}

CO static inline void assert_get(enum mux_type type, uint32_t stream, uint32_t arg)
{
	struct mux_frame fr = get(NULL);

	ck_assert_uint_eq(fr.type, type);
	ck_assert_uint_eq(fr.stream, stream);
	ck_assert_uint_eq(fr.arg, arg);
}

/* HELLO both ways: an end that is not yet answered says it again when it is greeted */
CO static inline void shake_hands(void)
{
	struct mux_frame hello = get(NULL);

	ck_assert_uint_eq(hello.type, MUX_HELLO);
	ck_assert_uint_eq(hello.arg, MUX_VERSION);
	put(MUX_WELCOME, hello.stream, MUX_VERSION, NULL, 0);
	put(MUX_HELLO, 77, MUX_VERSION, NULL, 0);
	assert_get(MUX_WELCOME, 77, MUX_VERSION);
}

static inline void open_by_hand(void)
{
	shake_hands();
	put(MUX_OPEN, ++f.last, PORT, NULL, 0);
	assert_get(MUX_ACCEPT, f.last | MUX_YOURS, 0);
}

/* The suite's end of main(); Return: exit status */
static inline int run_suite(Suite *suite, TCase *tc)
{
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}

#endif
