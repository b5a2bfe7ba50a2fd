/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/channel.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/loop.h"
#include "vmm/channel_backend.h"
#include "wire/mux.h"

static char *dir, *path;
static struct channel *channel;
static struct channel_listener *listener;
static struct mux *guest;
static int guest_fd;
static struct err err;
static void (*body)(void);

static void setup(void)
{
	char name[] = "/tmp/lcow-chan-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(name));
	dir = mem_strdup(name);
	path = str_printf("%s/vm", dir);
	channel = NULL;
	listener = NULL;
	guest = NULL;
	guest_fd = -EBADF;
	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(loop_init(), 0);
}

static void teardown(void)
{
	channel_listener_free(listener);
	mux_free(guest);
	channel_free(channel);
	fd_close(guest_fd);
	loop_fini();
	ck_assert_int_eq(dir_remove(dir), 0);
	free(dir);
	free(path);
}

static void in_coroutine(void *arg)
{
	body();
	loop_stop(0);
}

static void run(void (*fn)(void))
{
	body = fn;
	co_spawn("test", in_coroutine, NULL, time_mono() + 5 * USEC_PER_SEC);
	loop_run();
}

/** serial() - a channel whose guest end is a multiplexer here */
static void serial(void)
{
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends),
			 0);
	ck_assert_int_eq(channel_serial_new(ends[0], &channel, &err), 0);
	guest_fd = ends[1];
	ck_assert_int_eq(mux_new(guest_fd, NULL, NULL, &guest), 0);
}

static void talk(int host, int theirs)
{
	char text[16] = "";

	ck_assert_int_eq(co_write_full(theirs, "hello", 5), 0);
	ck_assert_int_eq(co_read_full(host, text, 5), 0);
	ck_assert_str_eq(text, "hello");
	ck_assert_int_eq(shutdown(host, SHUT_WR), 0);
	ck_assert_int_eq(co_read(theirs, text, sizeof(text)), 0);
	/* half-closed: the other way still works */
	ck_assert_int_eq(co_write_full(theirs, "there", 5), 0);
	ck_assert_int_eq(co_read_full(host, text, 5), 0);
	ck_assert_str_eq(text, "there");
}

static void serial_streams(void)
{
	_cleanup_fd_ int host = -EBADF, theirs = -EBADF;

	serial();
	ck_assert_int_eq(channel_listen(channel, 109, &listener, &err), 0);
	ck_assert_int_eq(mux_dial(guest, 110, &theirs), -ECONNREFUSED);
	ck_assert_int_eq(mux_dial(guest, 109, &theirs), 0);
	ck_assert_int_eq(channel_accept(listener, &host), 0);
	talk(host, theirs);
}

START_TEST(a_stream_that_the_guest_dials_over_the_multiplexer_is_accepted)
{
	run(serial_streams);
}
END_TEST

static void port_twice(void)
{
	struct channel_listener *again = NULL;
	_cleanup_fd_ int theirs = -EBADF;

	serial();
	ck_assert_int_eq(channel_listen(channel, 109, &listener, &err), 0);
	ck_assert_int_eq(channel_listen(channel, 109, &again, &err), -EADDRINUSE);
	ck_assert_ptr_null(again);
	listener = channel_listener_free(listener);
	ck_assert_int_eq(mux_dial(guest, 109, &theirs), -ECONNREFUSED);
	ck_assert_int_eq(channel_listen(channel, 109, &listener, &err), 0);
	ck_assert_int_eq(mux_dial(guest, 109, &theirs), 0);
}

START_TEST(a_port_has_one_listener_at_a_time)
{
	run(port_twice);
}
END_TEST

static void backlog(void)
{
	int theirs[CHANNEL_BACKLOG + 1], host, n = 0;
	char byte;

	serial();
	ck_assert_int_eq(channel_listen(channel, 5, &listener, &err), 0);
	for (int i = 0; i <= CHANNEL_BACKLOG; i++)
		ck_assert_int_eq(mux_dial(guest, 5, &theirs[i]), 0);
	/* The last one found the queue full, and was closed. */
	ck_assert_int_le(co_read(theirs[CHANNEL_BACKLOG], &byte, 1), 0);
	while (n < CHANNEL_BACKLOG) {
		ck_assert_int_eq(channel_accept(listener, &host), 0);
		fd_close(host);
		n++;
	}
	{
		CO_LIMIT(500 * USEC_PER_MSEC);
		ck_assert_int_eq(channel_accept(listener, &host), -ETIMEDOUT);
	}
	for (int i = 0; i <= CHANNEL_BACKLOG; i++)
		fd_close(theirs[i]);
}

START_TEST(a_guest_cannot_queue_more_streams_than_the_backlog)
{
	run(backlog);
}
END_TEST

static int accepted;

static void accept_one(void *arg)
{
	int fd;

	accepted = channel_accept(listener, &fd);
}

static void closing(void)
{
	struct channel_listener *late = NULL;
	int fd;

	serial();
	ck_assert_int_eq(channel_listen(channel, 5, &listener, &err), 0);
	accepted = 1;
	co_spawn("accept", accept_one, NULL, USEC_NEVER);
	ck_assert_int_eq(co_sleep(1000), 0);
	ck_assert_int_eq(accepted, 1);
	channel_close(channel);
	channel_close(channel);
	ck_assert_int_eq(co_sleep(1000), 0);
	ck_assert_int_eq(accepted, -ECONNRESET);
	ck_assert_int_eq(channel_accept(listener, &fd), -ECONNRESET);
	ck_assert_int_eq(channel_listen(channel, 6, &late, &err), -ERR_UNAVAILABLE);
	/* A listener may outlive its channel. */
	channel = channel_free(channel);
	ck_assert_int_eq(channel_accept(listener, &fd), -ECONNRESET);
}

START_TEST(the_end_of_the_channel_ends_every_accept)
{
	run(closing);
}
END_TEST

static void guest_goes(void)
{
	int fd;

	serial();
	ck_assert_int_eq(channel_listen(channel, 5, &listener, &err), 0);
	guest = mux_free(guest);
	guest_fd = fd_close(guest_fd);
	ck_assert_int_eq(channel_accept(listener, &fd), -ECONNRESET);
}

START_TEST(a_guest_that_goes_ends_the_channel)
{
	run(guest_goes);
}
END_TEST

static void guest_babbles(void)
{
	_cleanup_fd_ int host = -EBADF, theirs = -EBADF;
	char frame[12];
	int fd;

	serial();
	ck_assert_int_eq(channel_listen(channel, 5, &listener, &err), 0);
	ck_assert_int_eq(mux_dial(guest, 5, &theirs), 0);
	ck_assert_int_eq(channel_accept(listener, &host), 0);
	guest = mux_free(guest);
	memset(frame, 0xff, sizeof(frame));
	ck_assert_int_eq(co_write_full(guest_fd, frame, sizeof(frame)), 0);
	ck_assert_int_eq(channel_accept(listener, &fd), -ECONNRESET);
}

START_TEST(a_guest_that_breaks_the_protocol_ends_the_channel)
{
	run(guest_babbles);
}
END_TEST

static void guest_starts_late(void)
{
	_cleanup_fd_ int host = -EBADF, theirs = -EBADF;
	int ends[2];
	char frame[12];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends),
			 0);
	ck_assert_int_eq(channel_serial_new(ends[0], &channel, &err), 0);
	guest_fd = ends[1];
	ck_assert_int_eq(channel_listen(channel, 5, &listener, &err), 0);
	memset(frame, 0xff, sizeof(frame));
	ck_assert_int_eq(co_write_full(guest_fd, frame, sizeof(frame)), 0);
	ck_assert_int_eq(co_sleep(1000), 0);
	ck_assert_int_eq(mux_new(guest_fd, NULL, NULL, &guest), 0);
	ck_assert_int_eq(mux_dial(guest, 5, &theirs), 0);
	ck_assert_int_eq(channel_accept(listener, &host), 0);
}

START_TEST(what_came_before_the_guest_s_greeting_does_no_harm)
{
	run(guest_starts_late);
}
END_TEST

static void unix_streams(void)
{
	_cleanup_free_ char *name = str_printf("%s_1073741824", path);
	_cleanup_fd_ int host = -EBADF, theirs = -EBADF;
	struct stat st;

	ck_assert_int_eq(channel_unix_new(path, geteuid(), getegid(), &channel, &err), 0);
	ck_assert_msg(channel_listen(channel, 0x40000000, &listener, &err) == 0, "%s", err.text);
	ck_assert_int_eq(stat(name, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	theirs = sock_unix_connect(name);
	ck_assert_int_ge(theirs, 0);
	ck_assert_int_eq(fd_nonblock(theirs, true), 0);
	ck_assert_int_eq(channel_accept(listener, &host), 0);
	talk(host, theirs);
	listener = channel_listener_free(listener);
	ck_assert_int_lt(stat(name, &st), 0);
}

START_TEST(a_stream_to_the_daemon_s_socket_of_a_port_is_accepted)
{
	run(unix_streams);
}
END_TEST

START_TEST(a_path_too_long_for_a_unix_socket_is_told)
{
	_cleanup_free_ char *longer = str_printf("%s/%0100d", dir, 0);

	ck_assert_int_eq(channel_unix_new(longer, geteuid(), getegid(), &channel, &err), 0);
	ck_assert_int_eq(channel_listen(channel, 1, &listener, &err), -ENAMETOOLONG);
	ck_assert_msg(strstr(err.text, "too long"), "%s", err.text);
}
END_TEST

START_TEST(a_CID_that_is_no_guest_s_is_refused)
{
	for (uint32_t cid = 0; cid < 3; cid++)
		ck_assert_int_eq(channel_vsock_new(cid, &channel, &err), -ERR_INVALID);
	ck_assert_int_eq(channel_vsock_new(UINT32_MAX, &channel, &err), -ERR_INVALID);
	ck_assert_int_eq(channel_vsock_new(3, &channel, &err), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm channel");
	TCase *tc = tcase_create("channel");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_stream_that_the_guest_dials_over_the_multiplexer_is_accepted);
	tcase_add_test(tc, a_port_has_one_listener_at_a_time);
	tcase_add_test(tc, a_guest_cannot_queue_more_streams_than_the_backlog);
	tcase_add_test(tc, the_end_of_the_channel_ends_every_accept);
	tcase_add_test(tc, a_guest_that_goes_ends_the_channel);
	tcase_add_test(tc, a_guest_that_breaks_the_protocol_ends_the_channel);
	tcase_add_test(tc, what_came_before_the_guest_s_greeting_does_no_harm);
	tcase_add_test(tc, a_stream_to_the_daemon_s_socket_of_a_port_is_accepted);
	tcase_add_test(tc, a_path_too_long_for_a_unix_socket_is_told);
	tcase_add_test(tc, a_CID_that_is_no_guest_s_is_refused);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
