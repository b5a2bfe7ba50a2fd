/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/streams.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/time.h"
#include "loop/loop.h"
#include "tmpdir.h"
#include "turns.h"

static struct stdio io;
static struct err err;
static int host[STDIO_COUNT];
static bool drained;
static uint64_t begun;

static void on_drained(void *arg)
{
	drained = true;
	loop_stop(0);
}

/* A process with the three streams, the host's ends in host[]. */
static void begin(bool out_wanted)
{
	ck_assert_int_eq(loop_init(), 0);
	stdio_init(&io);
	drained = false;
	begun = time_mono();
	for (int i = 0; i < STDIO_COUNT; i++) {
		int pair[2];

		host[i] = -EBADF;
		if (i == STDIO_OUT && !out_wanted)
			continue;
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
					    pair),
				 0);
		io.stream[i].sock = pair[0];
		host[i] = pair[1];
	}
	ck_assert_int_eq(stdio_pipes(&io, true, &err), 0);
	ck_assert_int_eq(stdio_start(&io, &err), 0);
}

static void finish(void)
{
	stdio_free(&io);
	for (int i = 0; i < STDIO_COUNT; i++)
		fd_close(host[i]);
	loop_fini();
}

START_TEST(the_exit_is_held_until_the_host_has_closed_its_ends)
{
	char text[16] = "";

	begin(true);
	ck_assert_int_eq(write(io.child[STDIO_OUT], "hello", 5), 5);
	stdio_close_child(&io);
	stdio_exited(&io, on_drained, NULL);
	run_usec(100000);
	ck_assert(!drained);
	ck_assert_int_eq(read(host[STDIO_OUT], text, sizeof(text)), 5);
	ck_assert_int_eq(read(host[STDIO_OUT], text, sizeof(text)), 0);
	host[STDIO_OUT] = fd_close(host[STDIO_OUT]);
	run_usec(50000);
	ck_assert(!drained);
	host[STDIO_ERR] = fd_close(host[STDIO_ERR]);
	run_usec(1000000);
	ck_assert(drained);
	finish();
}
END_TEST

START_TEST(a_host_that_never_closes_holds_the_exit_for_some_seconds_only)
{
	begin(true);
	stdio_close_child(&io);
	stdio_exited(&io, on_drained, NULL);
	run_usec(20000000);
	ck_assert(drained);
	ck_assert_uint_ge(time_mono() - begun, 3000000);
	finish();
}
END_TEST

START_TEST(a_child_that_keeps_the_output_open_does_not_hold_the_exit)
{
	int kept;

	begin(true);
	kept = dup(io.child[STDIO_OUT]);
	stdio_close_child(&io);
	host[STDIO_ERR] = fd_close(host[STDIO_ERR]);
	stdio_exited(&io, on_drained, NULL);
	run_usec(1500000);
	ck_assert(!drained);
	host[STDIO_OUT] = fd_close(host[STDIO_OUT]);
	run_usec(1000000);
	ck_assert(drained);
	close(kept);
	finish();
}
END_TEST

START_TEST(output_that_nobody_wants_is_read_all_the_same)
{
	static char block[65536];
	int child;

	begin(false);
	child = io.child[STDIO_OUT];
	fcntl(child, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_gt(write(child, block, sizeof(block)), 0);
		run_usec(20000);
	}
	finish();
}
END_TEST

START_TEST(a_host_that_hangs_up_does_not_break_the_process)
{
	static char block[65536];
	int child;

	begin(true);
	child = io.child[STDIO_OUT];
	fcntl(child, F_SETFL, O_NONBLOCK);
	host[STDIO_OUT] = fd_close(host[STDIO_OUT]);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_gt(write(child, block, sizeof(block)), 0);
		run_usec(20000);
	}
	host[STDIO_ERR] = fd_close(host[STDIO_ERR]);
	stdio_close_child(&io);
	stdio_exited(&io, on_drained, NULL);
	run_usec(2000000);
	ck_assert(drained);
	finish();
}
END_TEST

START_TEST(the_end_of_the_hosts_input_is_the_end_of_stdin)
{
	char text[16];

	begin(true);
	ck_assert_int_eq(write(host[STDIO_IN], "abc", 3), 3);
	shutdown(host[STDIO_IN], SHUT_WR);
	run_usec(100000);
	ck_assert_int_eq(read(io.child[STDIO_IN], text, sizeof(text)), 3);
	ck_assert_int_eq(read(io.child[STDIO_IN], text, sizeof(text)), 0);
	finish();
}
END_TEST

START_TEST(a_host_that_reads_nothing_cannot_keep_the_exit_from_being_known)
{
	static char block[65536];
	int child;

	begin(true);
	child = io.child[STDIO_OUT];
	fcntl(child, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 50; i++) {
		if (write(child, block, sizeof(block)) < 0)
			break;
		run_usec(10000);
	}
	host[STDIO_ERR] = fd_close(host[STDIO_ERR]);
	stdio_close_child(&io);
	stdio_exited(&io, on_drained, NULL);
	run_usec(30000000);
	ck_assert(drained);
	ck_assert(io.stream[STDIO_OUT].active);
	finish();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gcs streams");
	TCase *tc = tcase_create("gcs streams");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, the_exit_is_held_until_the_host_has_closed_its_ends);
	tcase_add_test(tc, a_host_that_never_closes_holds_the_exit_for_some_seconds_only);
	tcase_add_test(tc, a_child_that_keeps_the_output_open_does_not_hold_the_exit);
	tcase_add_test(tc, output_that_nobody_wants_is_read_all_the_same);
	tcase_add_test(tc, a_host_that_hangs_up_does_not_break_the_process);
	tcase_add_test(tc, the_end_of_the_hosts_input_is_the_end_of_stdin);
	tcase_add_test(tc, a_host_that_reads_nothing_cannot_keep_the_exit_from_being_known);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
