/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/io.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "controller/fixture.h"

enum { BURST = 300 << 10 };

static char dir[] = "/tmp/test_io.XXXXXX";
static char *paths[3];
static int guest[3][2]; /* [stream][0] is handed to io, [1] is the guest's process */
static bool closed[3];
static struct io *io;
static struct err err;

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (int i = 0; i < 3; i++) {
		paths[i] = str_printf("%s/%d", dir, i);
		ck_assert_int_eq(mkfifo(paths[i], 0600), 0);
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
					    guest[i]),
				 0);
		closed[i] = false;
	}
}

static void teardown(void)
{
	io = io_free(io);
	for (int i = 0; i < 3; i++) {
		fd_close(guest[i][0]);
		fd_close(guest[i][1]);
		free(paths[i]);
	}
	dir_remove(dir);
	loop_fini();
}

static void on_close(int stream, void *arg)
{
	ck_assert(!closed[stream]);
	closed[stream] = true;
	if (stream == 0)
		shutdown(guest[0][0], SHUT_WR);
	else
		guest[stream][0] = fd_close(guest[stream][0]);
}

static void open_all(void)
{
	struct stdio_paths p = { .in = paths[0], .out = paths[1], .err = paths[2] };

	ck_assert_int_eq(io_open(&p, &io, &err), 0);
}

static void start_all(void)
{
	int fds[3] = { guest[0][0], guest[1][0], guest[2][0] };

	ck_assert_int_eq(io_start(io, fds, on_close, NULL, &err), 0);
}

static void put(int fd, const char *text)
{
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* What can be read now, with "|" for the end. */
static const char *get(int fd)
{
	static char text[256];
	ssize_t n;
	size_t len = 0;

	run_for(20);
	while ((n = read(fd, text + len, sizeof(text) - 2 - len)) > 0)
		len += (size_t)n;
	if (n == 0)
		text[len++] = '|';
	text[len] = '\0';
	return text;
}

static CO void drain(void *arg)
{
	io_drain(io, *(uint64_t *)arg);
}

static void drain_in(uint64_t usec)
{
	co_spawn("drain", drain, &usec, USEC_NEVER);
	run_all();
}

START_TEST(opening_never_waits_for_the_client)
{
	open_all();
	ck_assert(io_wants(io, 0) && io_wants(io, 1) && io_wants(io, 2));
}
END_TEST

START_TEST(an_empty_path_is_no_stream)
{
	struct stdio_paths p = { .in = "", .out = paths[1] };

	ck_assert_int_eq(io_open(&p, &io, &err), 0);
	ck_assert(!io_wants(io, 0) && io_wants(io, 1) && !io_wants(io, 2));
}
END_TEST

START_TEST(a_path_that_is_missing_is_named_and_nothing_stays_open)
{
	struct stdio_paths p = { .in = paths[0], .out = "/nonexistent/out" };
	int before = dup(0);

	close(before);
	ck_assert_int_eq(io_open(&p, &io, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "stdout /nonexistent/out"));

	int after = dup(0);

	close(after);
	ck_assert_int_eq(before, after);
}
END_TEST

START_TEST(what_is_no_stream_is_refused_by_name_and_nothing_stays_open)
{
	const struct {
		struct stdio_paths paths;
		int code;
		const char *text;
	} rows[] = {
		{ { .out = "udp://x/y" }, -ERR_INVALID, "stdout: udp://x/y" },
		{ { .out = "udp:///y" }, -ERR_UNIMPLEMENTED, "stdout udp:///y: only paths" },
		{ { .in = "ttrpc+unix:///y" }, -ERR_UNIMPLEMENTED, "stdin ttrpc+unix:///y" },
		{ { .out = "file:///%" }, -ERR_INVALID, "broken escape" },
		{ { .err = "binary:///bin/cat" }, -ERR_INVALID, "is named as stdout" },
		{ { .in = paths[0], .out = paths[1], .err = "binary:///bin/cat" },
		  -ERR_INVALID,
		  "stderr binary:///bin/cat" },
		{ { .out = "binary:///no/such" }, -ENOENT, "stdout binary:///no/such" },
		{ { .out = "binary:///l?%" }, -ERR_INVALID, "broken escape" },
	};
	int before = dup(0);

	close(before);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ck_assert_int_eq(io_open(&rows[i].paths, &io, &err), rows[i].code);
		ck_assert_msg(strstr(err.text, rows[i].text), "%s", err.text);

		int after = dup(0);

		close(after);
		ck_assert_int_eq(before, after);
	}
}
END_TEST

static CO void open_paths(void *arg)
{
	ck_assert_int_eq(io_open(arg, &io, &err), 0);
}

static CO void await_logger(void *arg)
{
	io_await_logger(io);
}

/* A driver that keeps what it reads in the files "out" and "err", and a URI for it. */
static char *logger_uri(void)
{
	_cleanup_free_ char *script = str_printf("%s/driver", dir);
	_cleanup_free_ char *text = str_printf("#!/bin/sh\necho $CONTAINER_ID >%s/who; exec 5>&-\n"
					       "cat <&3 >%s/out & cat <&4 >%s/err; wait\n",
					       dir, dir, dir);

	ck_assert_int_eq(file_write(script, text, strlen(text), 0755), 0);
	return str_printf("binary://%s", script);
}

static void check_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, name);
	_cleanup_free_ char *there = NULL;
	size_t len;

	ck_assert_int_eq(file_read(path, 100, &there, &len), 0);
	ck_assert_str_eq(there, text);
}

START_TEST(a_logging_driver_gets_both_outputs_and_ends_with_them)
{
	_cleanup_free_ char *uri = logger_uri();
	/* Neither stdin nor stderr is looked at. */
	struct stdio_paths p = {
		.in = "/nonexistent", .out = uri, .err = "/nonexistent", .logger = { .id = "c1" }
	};

	in_coroutine(open_paths, &p);
	ck_assert(!io_wants(io, 0) && io_wants(io, 1) && io_wants(io, 2));

	int fds[3] = { -EBADF, guest[1][0], guest[2][0] };

	ck_assert_int_eq(io_start(io, fds, on_close, NULL, &err), 0);
	put(guest[1][1], "to out");
	put(guest[2][1], "to err");
	guest[1][1] = fd_close(guest[1][1]);
	guest[2][1] = fd_close(guest[2][1]);
	drain_in(USEC_PER_SEC);
	in_coroutine(await_logger, NULL);
	check_file("who", "c1\n");
	check_file("out", "to out");
	check_file("err", "to err");
}
END_TEST

START_TEST(a_terminal_with_a_logging_driver_has_stdin_and_no_stderr)
{
	_cleanup_free_ char *uri = logger_uri();
	struct stdio_paths p = { .in = paths[0], .out = uri, .err = uri, .terminal = true };

	in_coroutine(open_paths, &p);
	ck_assert(io_wants(io, 0) && io_wants(io, 1) && !io_wants(io, 2));

	int fds[3] = { guest[0][0], guest[1][0], -EBADF };

	ck_assert_int_eq(io_start(io, fds, on_close, NULL, &err), 0);
	put(guest[1][1], "typed");
	guest[1][1] = fd_close(guest[1][1]);
	drain_in(USEC_PER_SEC);
	in_coroutine(await_logger, NULL);
	check_file("out", "typed");
	check_file("err", "");
}
END_TEST

START_TEST(a_process_that_never_runs_ends_its_logging_driver_too)
{
	_cleanup_free_ char *uri = logger_uri();
	struct stdio_paths p = { .out = uri };

	in_coroutine(open_paths, &p);
	io_abandon(io);
	in_coroutine(await_logger, NULL);
	check_file("out", "");
}
END_TEST

START_TEST(a_writer_that_leaves_is_no_end_of_stdin)
{
	open_all();
	start_all();
	for (int i = 0; i < 2; i++) {
		int client = open(paths[0], O_WRONLY | O_NONBLOCK);

		put(client, i ? "second" : "first");
		close(client);
		ck_assert_str_eq(get(guest[0][1]), i ? "second" : "first");
	}
	ck_assert(!closed[0]);
}
END_TEST

START_TEST(closing_stdin_delivers_what_was_written_and_then_the_end)
{
	open_all();
	start_all();

	int client = open(paths[0], O_WRONLY | O_NONBLOCK);

	put(client, "last words");
	io_close_stdin(io);
	io_close_stdin(io);
	ck_assert_str_eq(get(guest[0][1]), "last words");
	put(client, ", and more");
	close(client);
	ck_assert_str_eq(get(guest[0][1]), ", and more|");
	ck_assert(closed[0]);
}
END_TEST

START_TEST(a_client_that_keeps_stdin_open_does_not_keep_it_from_ending)
{
	open_all();
	start_all();

	int client = open(paths[0], O_WRONLY | O_NONBLOCK);

	put(client, "x");
	io_close_stdin(io);
	run_for(400);
	ck_assert_str_eq(get(guest[0][1]), "x|");
	close(client);
}
END_TEST

START_TEST(closing_stdin_before_the_start_is_remembered)
{
	int client;

	open_all();
	client = open(paths[0], O_WRONLY | O_NONBLOCK);
	put(client, "early");
	close(client);
	io_close_stdin(io);
	start_all();
	ck_assert_str_eq(get(guest[0][1]), "early|");
}
END_TEST

START_TEST(output_waits_for_a_reader_and_survives_its_leaving)
{
	open_all();
	start_all();
	put(guest[1][1], "unread ");
	run_for(20);

	int reader = open(paths[1], O_RDONLY | O_NONBLOCK);

	ck_assert_str_eq(get(reader), "unread ");
	close(reader);
	put(guest[1][1], "again");
	run_for(20);
	reader = open(paths[1], O_RDONLY | O_NONBLOCK);
	ck_assert_str_eq(get(reader), "again");
	close(reader);
}
END_TEST

START_TEST(readers_see_the_end_once_it_is_drained)
{
	open_all();
	start_all();

	int reader = open(paths[1], O_RDONLY | O_NONBLOCK);

	put(guest[1][1], "bye");
	guest[1][1] = fd_close(guest[1][1]);
	guest[2][1] = fd_close(guest[2][1]);
	drain_in(USEC_PER_SEC);
	ck_assert(closed[1] && closed[2]);
	ck_assert_str_eq(get(reader), "bye|");
	close(reader);
}
END_TEST

static size_t received;

static CO void read_slowly(void *arg)
{
	static char chunk[8192];
	int fd = *(int *)arg;

	for (;;) {
		ssize_t n = co_read(fd, chunk, sizeof(chunk));

		if (n <= 0)
			return;
		received += (size_t)n;
		co_sleep(5 * USEC_PER_MSEC);
	}
}

static CO void write_burst(void *arg)
{
	static char burst[BURST];

	ck_assert_int_eq(co_write_full(guest[1][1], burst, sizeof(burst)), 0);
	guest[1][1] = fd_close(guest[1][1]);
	guest[2][1] = fd_close(guest[2][1]);
}

START_TEST(a_slow_reader_gets_every_byte_as_long_as_it_reads)
{
	uint64_t patience = 500 * USEC_PER_MSEC;

	open_all();
	start_all();

	int reader = open(paths[1], O_RDONLY | O_NONBLOCK);

	received = 0;
	co_spawn("write", write_burst, NULL, USEC_NEVER);
	co_spawn("read", read_slowly, &reader, USEC_NEVER);
	co_spawn("drain", drain, &patience, USEC_NEVER);
	run_all();
	ck_assert_uint_eq(received, BURST);
	close(reader);
}
END_TEST

START_TEST(a_reader_that_takes_nothing_does_not_hold_up_the_end_for_ever)
{
	open_all();
	start_all();
	co_spawn("write", write_burst, NULL, USEC_NEVER);
	run_for(50);
	drain_in(200 * USEC_PER_MSEC);
	ck_assert(closed[1]);
	run_all();
}
END_TEST

/* Output "left" of a process that has ended, not yet read by @reader, if there is one. */
static void leave_unread(int *reader)
{
	open_all();
	start_all();
	if (reader)
		*reader = open(paths[1], O_RDONLY | O_NONBLOCK);
	put(guest[1][1], "left");
	for (int i = 1; i < 3; i++)
		shutdown(guest[i][1], SHUT_WR);
	drain_in(USEC_PER_SEC);
}

static bool awaited;

static CO void await_readers(void *arg)
{
	io_await_readers(io);
	awaited = true;
}

static void begin_to_await(void)
{
	awaited = false;
	co_spawn("await", await_readers, NULL, USEC_NEVER);
	run_for(50);
}

START_TEST(who_deletes_waits_until_a_reader_has_read_what_was_left)
{
	int reader;

	leave_unread(&reader);
	begin_to_await();
	ck_assert(!awaited);
	ck_assert_str_eq(get(reader), "left");
	run_all();
	ck_assert(awaited);
	ck_assert_str_eq(get(reader), "|");
	close(reader);
}
END_TEST

START_TEST(a_reader_that_leaves_is_not_waited_for)
{
	int reader;

	leave_unread(&reader);
	begin_to_await();
	ck_assert(!awaited);
	close(reader);
	run_all();
	ck_assert(awaited);
}
END_TEST

START_TEST(output_without_a_reader_is_not_waited_for)
{
	leave_unread(NULL);
	begin_to_await();
	ck_assert(awaited);
}
END_TEST

START_TEST(a_reader_that_never_reads_is_not_waited_for_for_ever)
{
	int reader;

	leave_unread(&reader);
	in_coroutine(await_readers, NULL);
	close(reader);
}
END_TEST

START_TEST(a_blocked_stream_does_not_stop_another)
{
	open_all();
	start_all();

	int reader = open(paths[2], O_RDONLY | O_NONBLOCK);
	static char burst[BURST];
	ssize_t n;

	/* As much as stdout takes without a reader. */
	do {
		n = write(guest[1][1], burst, sizeof(burst));
		run_for(5);
	} while (n > 0);
	put(guest[2][1], "still here");
	ck_assert_str_eq(get(reader), "still here");
	close(reader);
}
END_TEST

START_TEST(a_file_uri_is_appended_to_and_its_parents_are_made)
{
	_cleanup_free_ char *uri = str_printf("file://%s/a/b/log", dir);
	struct stdio_paths p = { .out = uri, .err = uri };
	_cleanup_free_ char *text = NULL;
	size_t len;

	ck_assert_int_eq(io_open(&p, &io, &err), 0);

	int fds[3] = { -EBADF, guest[1][0], guest[2][0] };

	ck_assert_int_eq(io_start(io, fds, on_close, NULL, &err), 0);
	put(guest[1][1], "out ");
	run_for(20);
	put(guest[2][1], "err");
	run_for(20);
	guest[1][1] = fd_close(guest[1][1]);
	guest[2][1] = fd_close(guest[2][1]);
	drain_in(USEC_PER_SEC);
	ck_assert_int_eq(file_read(uri + strlen("file://"), 100, &text, &len), 0);
	ck_assert_str_eq(text, "out err");
}
END_TEST

START_TEST(a_process_that_closes_its_stdin_ends_nothing_else)
{
	open_all();
	start_all();

	int client = open(paths[0], O_WRONLY | O_NONBLOCK);

	guest[0][1] = fd_close(guest[0][1]);
	put(client, "nobody reads this");
	run_for(20);
	ck_assert(closed[0]);
	put(guest[1][1], "alive");

	int reader = open(paths[1], O_RDONLY | O_NONBLOCK);

	ck_assert_str_eq(get(reader), "alive");
	close(reader);
	close(client);
}
END_TEST

static void count_first(void *arg)
{
	++*(int *)arg;
}

START_TEST(the_first_output_is_told_once_for_both_streams)
{
	int n = 0;

	open_all();
	io_on_first_output(io, count_first, &n);
	start_all();
	run_for(20);
	ck_assert_int_eq(n, 0);
	put(guest[2][1], "one");
	run_for(20);
	put(guest[1][1], "two");
	put(guest[2][1], "three");
	run_for(20);
	ck_assert_int_eq(n, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller io");
	TCase *t = tcase_create("io");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, opening_never_waits_for_the_client);
	tcase_add_test(t, an_empty_path_is_no_stream);
	tcase_add_test(t, a_path_that_is_missing_is_named_and_nothing_stays_open);
	tcase_add_test(t, what_is_no_stream_is_refused_by_name_and_nothing_stays_open);
	tcase_add_test(t, a_logging_driver_gets_both_outputs_and_ends_with_them);
	tcase_add_test(t, a_terminal_with_a_logging_driver_has_stdin_and_no_stderr);
	tcase_add_test(t, a_process_that_never_runs_ends_its_logging_driver_too);
	tcase_add_test(t, a_writer_that_leaves_is_no_end_of_stdin);
	tcase_add_test(t, closing_stdin_delivers_what_was_written_and_then_the_end);
	tcase_add_test(t, a_client_that_keeps_stdin_open_does_not_keep_it_from_ending);
	tcase_add_test(t, closing_stdin_before_the_start_is_remembered);
	tcase_add_test(t, output_waits_for_a_reader_and_survives_its_leaving);
	tcase_add_test(t, readers_see_the_end_once_it_is_drained);
	tcase_add_test(t, a_slow_reader_gets_every_byte_as_long_as_it_reads);
	tcase_add_test(t, a_reader_that_takes_nothing_does_not_hold_up_the_end_for_ever);
	tcase_add_test(t, who_deletes_waits_until_a_reader_has_read_what_was_left);
	tcase_add_test(t, a_reader_that_leaves_is_not_waited_for);
	tcase_add_test(t, output_without_a_reader_is_not_waited_for);
	tcase_add_test(t, a_reader_that_never_reads_is_not_waited_for_for_ever);
	tcase_add_test(t, a_blocked_stream_does_not_stop_another);
	tcase_add_test(t, a_file_uri_is_appended_to_and_its_parents_are_made);
	tcase_add_test(t, a_process_that_closes_its_stdin_ends_nothing_else);
	tcase_add_test(t, the_first_output_is_told_once_for_both_streams);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
