/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/relay.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "turns.h"

static int src[2], dst[2]; /* [0] is read from, [1] is written to */
static struct relay *relay;
static int ended;

static void make_pipe(int p[2])
{
	ck_assert_int_eq(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
}

static void make_pair(int p[2])
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p), 0);
}

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	relay = NULL;
	ended = -1;
	src[0] = src[1] = dst[0] = dst[1] = -EBADF;
}

static void teardown(void)
{
	relay_free(relay);
	loop_fini();
	fd_close(src[0]);
	fd_close(src[1]);
	fd_close(dst[0]);
	fd_close(dst[1]);
}

static void done(struct relay *r, enum relay_end end, void *arg)
{
	ck_assert_ptr_eq(r, relay);
	ck_assert_int_eq(ended, -1);
	ended = (int)end;
}

static void start(void)
{
	ck_assert_int_eq(relay_new(src[0], dst[1], done, NULL, &relay), 0);
}

static void run_until_end(void)
{
	for (int i = 0; ended < 0 && i < 500; i++)
		run_for(5);
	ck_assert_int_ge(ended, 0);
}

/* Which ends are pipes and which are sockets: splice both ways, and the buffer. */
static void make_ends(int i)
{
	if (i & 1)
		make_pipe(src);
	else
		make_pair(src);
	if (i & 2)
		make_pipe(dst);
	else
		make_pair(dst);
}

enum { BULK = 20 << 20 };

static uint8_t pattern(size_t i)
{
	return (uint8_t)((i * 2654435761u) >> 13);
}

static void bulk_writer(void *arg)
{
	static uint8_t b[50000];
	size_t sent = 0;

	while (sent < BULK) {
		size_t len = BULK - sent < sizeof(b) ? BULK - sent : sizeof(b);

		for (size_t i = 0; i < len; i++)
			b[i] = pattern(sent + i);
		ck_assert_int_eq(co_write_full(src[1], b, len), 0);
		sent += len;
	}
	src[1] = fd_close(src[1]);
}

static size_t received;

static void slow_reader(void *arg)
{
	static uint8_t b[70000];

	while (received < BULK) {
		ssize_t n = co_read(dst[0], b, sizeof(b));

		ck_assert_int_gt(n, 0);
		for (ssize_t i = 0; i < n; i++, received++)
			if (b[i] != pattern(received))
				ck_abort_msg("byte %zu differs", received);
		/* Now and then it rests, so that everything before it fills up. */
		if (received >> 20 != (received - (size_t)n) >> 20)
			ck_assert_int_eq(co_sleep(3 * USEC_PER_MSEC), 0);
	}
}

START_TEST(twenty_mib_arrive_byte_for_byte_at_a_slow_reader)
{
	received = 0;
	make_ends(_i);
	start();
	co_spawn("writer", bulk_writer, NULL, USEC_NEVER);
	co_spawn("reader", slow_reader, NULL, USEC_NEVER);
	for (int i = 0; (ended < 0 || co_count() > 0) && i < 5000; i++)
		run_for(10);
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_uint_eq(received, BULK);
	ck_assert_uint_eq(relay_bytes(relay), BULK);
}
END_TEST

START_TEST(a_copy_goes_elsewhere_too_and_its_failure_ends_nothing)
{
	int file = memfd_create("copy", MFD_CLOEXEC);
	int no_file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char copied[16] = "", got[16] = "";

	make_ends(_i);
	start();
	relay_tee(relay, file);
	ck_assert_int_eq(write(src[1], "hello", 5), 5);
	run_for(20);
	relay_tee(relay, no_file);
	ck_assert_int_eq(write(src[1], " you", 4), 4);
	src[1] = fd_close(src[1]);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_int_eq(read(dst[0], got, sizeof(got)), 9);
	ck_assert_str_eq(got, "hello you");
	ck_assert_int_eq(pread(file, copied, sizeof(copied), 0), 5);
	ck_assert_str_eq(copied, "hello");
	close(file);
	close(no_file);
}
END_TEST

START_TEST(the_end_of_the_source_ends_the_relay)
{
	char b[8];

	make_ends(_i);
	start();
	ck_assert_int_eq(write(src[1], "abc", 3), 3);
	src[1] = fd_close(src[1]);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_int_eq(read(dst[0], b, sizeof(b)), 3);
	ck_assert_mem_eq(b, "abc", 3);
}
END_TEST

START_TEST(a_target_that_is_gone_is_broken)
{
	make_ends(_i);
	start();
	dst[0] = fd_close(dst[0]);
	run_for(5);
	ck_assert_int_eq(ended, -1); /* an idle relay does not look */
	ck_assert_int_eq(write(src[1], "abc", 3), 3);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_BROKEN);
	ck_assert_uint_eq(relay_bytes(relay), 0);
}
END_TEST

START_TEST(a_full_device_is_broken)
{
	make_ends(_i);
	fd_close(dst[1]);
	dst[1] = open("/dev/full", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	start();
	ck_assert_int_eq(write(src[1], "abc", 3), 3);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_BROKEN);
}
END_TEST

START_TEST(a_source_that_cannot_be_read_has_failed)
{
	make_pipe(dst);
	src[0] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	start();
	run_until_end();
	ck_assert_int_eq(ended, RELAY_FAILED);
}
END_TEST

START_TEST(finish_copies_what_is_readable_and_ends_though_the_source_does_not)
{
	char b[8];

	make_ends(_i);
	start();
	run_for(2);
	ck_assert_int_eq(write(src[1], "abc", 3), 3);
	relay_finish(relay, 0);
	relay_finish(relay, 0);
	ck_assert_int_eq(ended, -1); /* never from within */
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_int_eq(read(dst[0], b, sizeof(b)), 3);
	relay_finish(relay, 0);
}
END_TEST

START_TEST(finish_of_an_idle_relay_ends_it)
{
	make_ends(_i);
	start();
	run_for(2);
	relay_finish(relay, 0);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_uint_eq(relay_bytes(relay), 0);
}
END_TEST

START_TEST(finish_takes_what_comes_until_it_was_quiet_for_long_enough)
{
	char b[8];

	make_ends(_i);
	start();
	/* Far apart, for a busy machine; the sum of the pauses is more than the quiet. */
	relay_finish(relay, 500 * USEC_PER_MSEC);
	for (int i = 0; i < 6; i++) {
		run_for(100);
		ck_assert_int_eq(ended, -1);
		if (i < 3)
			ck_assert_int_eq(write(src[1], "abc", 3), 3);
	}
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_uint_eq(relay_bytes(relay), 9);
	ck_assert_int_eq(read(dst[0], b, sizeof(b)), 8);
}
END_TEST

START_TEST(finish_ends_with_its_source_however_long_the_quiet)
{
	make_ends(_i);
	start();
	relay_finish(relay, 60 * USEC_PER_SEC);
	run_for(10);
	ck_assert_int_eq(write(src[1], "abc", 3), 3);
	src[1] = fd_close(src[1]);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_uint_eq(relay_bytes(relay), 3);
}
END_TEST

START_TEST(finish_waits_for_a_full_target_and_loses_nothing)
{
	static char b[4096];
	size_t sent = 0, got = 0;
	ssize_t n;

	make_ends(_i);
	start();
	for (int i = 0; i < 20; i++) {
		while ((n = write(src[1], b, sizeof(b))) > 0)
			sent += (size_t)n;
		run_for(2);
	}
	relay_finish(relay, 0);
	run_for(10);
	ck_assert_int_eq(ended, -1);
	for (int i = 0; ended < 0 && i < 1000; i++) {
		while ((n = read(dst[0], b, sizeof(b))) > 0)
			got += (size_t)n;
		run_for(2);
	}
	while ((n = read(dst[0], b, sizeof(b))) > 0)
		got += (size_t)n;
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_uint_eq(got, sent);
	ck_assert_uint_eq(relay_bytes(relay), sent);
}
END_TEST

START_TEST(a_source_that_hangs_up_while_the_target_is_full_does_not_spin)
{
	static char b[4096];
	struct timespec before, after;

	make_ends(_i);
	start();
	for (int i = 0; i < 20; i++) {
		while (write(src[1], b, sizeof(b)) > 0)
			;
		run_for(2);
	}
	src[1] = fd_close(src[1]);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	run_for(200);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	ck_assert_int_lt((after.tv_sec - before.tv_sec) * 1000 +
				 (after.tv_nsec - before.tv_nsec) / 1000000,
			 50);
	ck_assert_int_eq(ended, -1);
}
END_TEST

START_TEST(a_regular_file_is_a_target_and_a_source)
{
	char b[16] = "";

	make_pipe(src);
	dst[1] = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | (_i ? O_APPEND : 0), 0600);
	start();
	ck_assert_int_eq(write(src[1], "abc", 3), 3);
	src[1] = fd_close(src[1]);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_int_eq(pread(dst[1], b, sizeof(b), 0), 3);
	ck_assert_str_eq(b, "abc");
	relay = relay_free(relay);
	fd_close(src[0]);
	src[0] = dst[1];
	ck_assert_int_eq(lseek(src[0], 0, SEEK_SET), 0);
	make_pair(dst);
	ended = -1;
	start();
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_int_eq(read(dst[0], b, sizeof(b)), 3);
}
END_TEST

START_TEST(the_hang_up_of_a_terminal_is_its_end)
{
	char b[16] = "";
	int slave;

	ck_assert_int_eq(openpty(&src[0], &slave, NULL, NULL, NULL), 0);
	ck_assert_int_eq(fd_nonblock(src[0], true), 0);
	if (_i)
		make_pipe(dst);
	else
		make_pair(dst);
	start();
	ck_assert_int_eq(write(slave, "abc", 3), 3);
	run_for(5);
	fd_close(slave);
	run_until_end();
	ck_assert_int_eq(ended, RELAY_EOF);
	ck_assert_int_eq(read(dst[0], b, sizeof(b)), 3);
	ck_assert_str_eq(b, "abc");
}
END_TEST

static void done_free(struct relay *r, enum relay_end end, void *arg)
{
	ended = (int)end;
	relay = relay_free(r);
}

START_TEST(the_relay_is_freed_when_it_ends)
{
	make_ends(_i);
	ck_assert_int_eq(relay_new(src[0], dst[1], done_free, NULL, &relay), 0);
	src[1] = fd_close(src[1]);
	run_until_end();
	ck_assert_ptr_null(relay);
}
END_TEST

START_TEST(two_relays_share_one_terminal_or_socket)
{
	struct relay *back = NULL;
	char b[8] = "";
	int far[2];

	/* dst[1] is written to by one relay and read from by the other, as a pty master is. */
	make_pair(src);
	make_pair(dst);
	make_pipe(far);
	start();
	ck_assert_int_eq(relay_new(dst[1], far[1], done, NULL, &back), 0);
	ck_assert_int_eq(write(src[1], "to", 2), 2);
	ck_assert_int_eq(write(dst[0], "from", 4), 4);
	run_for(10);
	ck_assert_int_eq(read(dst[0], b, sizeof(b)), 2);
	ck_assert_str_eq(b, "to");
	ck_assert_int_eq(read(far[0], b, sizeof(b)), 4);
	ck_assert_str_eq(b, "from");
	relay_free(back);
	fd_close(far[0]);
	fd_close(far[1]);
}
END_TEST

START_TEST(a_bad_fd_is_refused)
{
	make_pipe(dst);
	ck_assert_int_eq(relay_new(-EBADF, dst[1], done, NULL, &relay), -EBADF);
	ck_assert_int_eq(relay_new(dst[0], -EBADF, done, NULL, &relay), -EBADF);
	ck_assert_ptr_null(relay);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop relay");
	TCase *t = tcase_create("relay");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, twenty_mib_arrive_byte_for_byte_at_a_slow_reader, 0, 4);
	tcase_add_loop_test(t, a_copy_goes_elsewhere_too_and_its_failure_ends_nothing, 0, 4);
	tcase_add_loop_test(t, the_end_of_the_source_ends_the_relay, 0, 4);
	tcase_add_loop_test(t, a_target_that_is_gone_is_broken, 0, 4);
	tcase_add_loop_test(t, a_full_device_is_broken, 0, 4);
	tcase_add_test(t, a_source_that_cannot_be_read_has_failed);
	tcase_add_loop_test(t, finish_copies_what_is_readable_and_ends_though_the_source_does_not,
			    0, 4);
	tcase_add_loop_test(t, finish_of_an_idle_relay_ends_it, 0, 4);
	tcase_add_loop_test(t, finish_takes_what_comes_until_it_was_quiet_for_long_enough, 0, 4);
	tcase_add_loop_test(t, finish_ends_with_its_source_however_long_the_quiet, 0, 4);
	tcase_add_loop_test(t, finish_waits_for_a_full_target_and_loses_nothing, 0, 4);
	tcase_add_loop_test(t, a_source_that_hangs_up_while_the_target_is_full_does_not_spin, 0, 4);
	tcase_add_loop_test(t, a_regular_file_is_a_target_and_a_source, 0, 2);
	tcase_add_loop_test(t, the_hang_up_of_a_terminal_is_its_end, 0, 2);
	tcase_add_loop_test(t, the_relay_is_freed_when_it_ends, 0, 4);
	tcase_add_test(t, two_relays_share_one_terminal_or_socket);
	tcase_add_test(t, a_bad_fd_is_refused);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
