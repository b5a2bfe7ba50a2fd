/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/qmp.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/loop.h"
#include "wire/json.h"
#include "wire/qmp_internal.h"
#include "turns.h"

#define GREETING \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 19, \"minor\": 2, \"major\": 7}}, " \
	"\"capabilities\": [\"oob\"]}}\r\n"

/* The test plays QEMU at the other end of a socket pair. */
static struct fixture {
	int qemu;
	int client;
	struct qmp *q;
	unsigned events;
	char last_event[64];
	char last_data[64];
	bool free_in_event;
	int result;
	int result2;
	bool done;
	struct err err;
	void (*body)(void);
} f;

static void setup(void)
{
	int pair[2];

	memset(&f, 0, sizeof(f));
	log_init(-EBADF, LOG_ERROR);
	ck_assert_int_eq(loop_init(), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	f.qemu = pair[0];
	f.client = pair[1];
}

static void teardown(void)
{
	f.q = qmp_free(f.q);
	fd_close(f.qemu);
	fd_close(f.client);
	loop_fini();
}

static void on_event(const char *event, struct json_object *data, void *arg)
{
	const char *id = json_get_str(data, "id");

	f.events++;
	snprintf(f.last_event, sizeof(f.last_event), "%s", event);
	snprintf(f.last_data, sizeof(f.last_data), "%s", id ? id : "");
	if (f.free_in_event)
		f.q = qmp_free(f.q);
}

static void run_body(void *arg)
{
	f.body();
	loop_stop(0);
}

static void in_co(void (*body)(void))
{
	f.body = body;
	co_spawn("test", run_body, NULL, time_mono() + 20 * USEC_PER_SEC);
	ck_assert_int_eq(loop_run(), 0);
}

CO static void say(const char *text)
{
	ck_assert_int_eq(co_write_full(f.qemu, text, strlen(text)), 0);
}

CO static void settle(void)
{
	ck_assert_int_eq(settle_for(5), 0);
}

/* Reads what there is, to the end of the line at most. Return: how many bytes */
CO static size_t hear_part(char *line, size_t size)
{
	ssize_t n;
	char *end;

	ck_assert_int_eq(co_wait_fd(f.qemu, EPOLLIN), 0);
	n = recv(f.qemu, line, size, MSG_PEEK);
	ck_assert_int_gt(n, 0);
	end = memchr(line, '\n', (size_t)n);
	if (end)
		n = end + 1 - line;
	ck_assert_int_eq(co_read_full(f.qemu, line, (size_t)n), 0);
	return (size_t)n;
}

/* The next command from the client; @ret_id is its id, @ret_fd the descriptor that came along */
CO static struct json_object *hear(const char *command, int64_t *ret_id, int *ret_fd)
{
	static char line[1 << 20];
	struct json_object *o;
	size_t n = 0;

	ck_assert_int_eq(co_wait_fd(f.qemu, EPOLLIN), 0);
	if (ret_fd) {
		ssize_t r = fd_recv(f.qemu, line, 1, ret_fd);

		ck_assert_int_eq(r, 1);
		n = 1;
	}
	do
		n += hear_part(line + n, sizeof(line) - n);
	while (line[n - 1] != '\n');
	ck_assert_int_eq(json_parse(line, n, &o, NULL), 0);
	ck_assert_str_eq(json_get_str(o, "execute"), command);
	*ret_id = json_object_get_int64(json_get(o, "id", NULL));
	return o;
}

CO static void answer(int64_t id, const char *rest)
{
	_cleanup_free_ char *text = str_printf("{%s, \"id\": %jd}\r\n", rest, (intmax_t)id);

	say(text);
}

static void negotiate(void *arg)
{
	f.result = qmp_new(TAKE_FD(f.client), on_event, NULL, &f.q, &f.err);
	f.done = true;
}

/* A client that has negotiated */
CO static void start(void)
{
	int64_t id;

	co_spawn("negotiate", negotiate, NULL, USEC_NEVER);
	say(GREETING);
	json_put(hear("qmp_capabilities", &id, NULL));
	answer(id, "\"return\": {}");
	settle();
	ck_assert(f.done);
	ck_assert_int_eq(f.result, 0);
	f.done = false;
}

struct command {
	const char *name;
	const char *args;
	int fd;
	uint64_t limit;
	int result;
	bool done;
	struct json_object *value;
	struct err err;
};

static void run_command(void *arg)
{
	struct command *c = arg;
	struct json_object *args = NULL;

	if (c->args)
		ck_assert_int_eq(json_parse(c->args, strlen(c->args), &args, NULL), 0);
	c->result = qmp_call(f.q, c->name, args, c->fd, &c->value, &c->err);
	c->done = true;
}

static void give(struct command *c, uint64_t deadline)
{
	co_spawn("command", run_command, c, deadline);
}

static void greet(void)
{
	start();
}

START_TEST(a_client_negotiates_after_the_greeting)
{
	in_co(greet);
	ck_assert_ptr_nonnull(f.q);
}
END_TEST

static void no_greeting(void)
{
	co_spawn("negotiate", negotiate, NULL, time_mono() + 10 * USEC_PER_MSEC);
	co_sleep(30 * USEC_PER_MSEC);
	ck_assert(f.done);
	ck_assert_int_eq(f.result, -ETIMEDOUT);
}

START_TEST(a_qemu_that_does_not_greet_is_given_up)
{
	in_co(no_greeting);
	ck_assert_ptr_null(f.q);
}
END_TEST

static void refuse_capabilities(void)
{
	int64_t id;

	co_spawn("negotiate", negotiate, NULL, USEC_NEVER);
	say(GREETING);
	json_put(hear("qmp_capabilities", &id, NULL));
	answer(id, "\"error\": {\"class\": \"GenericError\", \"desc\": \"not today\"}");
	settle();
	ck_assert_int_eq(f.result, -EREMOTEIO);
	ck_assert_str_eq(f.err.text, "qmp_capabilities: not today");
}

START_TEST(a_refused_negotiation_is_an_error)
{
	in_co(refuse_capabilities);
	ck_assert_ptr_null(f.q);
}
END_TEST

static void hang_up_early(void)
{
	co_spawn("negotiate", negotiate, NULL, USEC_NEVER);
	say("{\"QMP\"");
	f.qemu = fd_close(f.qemu);
	settle();
	ck_assert_int_eq(f.result, -ECONNRESET);
}

START_TEST(a_qemu_that_dies_before_the_greeting_is_an_error)
{
	in_co(hang_up_early);
	ck_assert_ptr_null(f.q);
}
END_TEST

static void call(void)
{
	struct command c = { .name = "blockdev-add",
			     .args = "{\"node-name\":\"n0\"}",
			     .fd = -EBADF };
	_cleanup_json_ struct json_object *o = NULL;
	int64_t id;

	start();
	give(&c, USEC_NEVER);
	o = hear("blockdev-add", &id, NULL);
	ck_assert_str_eq(json_get_str(json_get(o, "arguments", NULL), "node-name"), "n0");
	ck_assert(!c.done);
	answer(id, "\"return\": {\"size\": 18446744073709551615}");
	settle();
	ck_assert(c.done);
	ck_assert_int_eq(c.result, 0);
	ck_assert_uint_eq(json_object_get_uint64(json_get(c.value, "size", NULL)), UINT64_MAX);
	json_put(c.value);
}

START_TEST(a_command_carries_its_arguments_and_returns_the_answer)
{
	in_co(call);
}
END_TEST

static void refused(void)
{
	struct command c = { .name = "device_add", .fd = -EBADF };
	int64_t id;

	start();
	give(&c, USEC_NEVER);
	json_put(hear("device_add", &id, NULL));
	answer(id, "\"error\": {\"class\": \"GenericError\", \"desc\": \"Bus 'x\\n' not "
		   "found\\u001b[31m\"}");
	settle();
	ck_assert_int_eq(c.result, -EREMOTEIO);
	ck_assert_str_eq(c.err.text, "device_add: Bus 'x?' not found?[31m");
	ck_assert_ptr_null(c.value);

	/* an error without anything in it */
	c.done = false;
	give(&c, USEC_NEVER);
	json_put(hear("device_add", &id, NULL));
	answer(id, "\"error\": 7");
	settle();
	ck_assert_int_eq(c.result, -EREMOTEIO);
	ck_assert_str_eq(c.err.text, "device_add: no reason given");
}

START_TEST(an_error_is_told_in_qemus_words_made_harmless)
{
	in_co(refused);
}
END_TEST

static void out_of_order(void)
{
	struct command a = { .name = "a", .fd = -EBADF }, b = { .name = "b", .fd = -EBADF };
	int64_t ia, ib;

	start();
	give(&a, USEC_NEVER);
	give(&b, USEC_NEVER);
	json_put(hear("a", &ia, NULL));
	json_put(hear("b", &ib, NULL));
	answer(ib, "\"return\": \"B\"");
	settle();
	ck_assert(b.done && !a.done);
	ck_assert_str_eq(json_object_get_string(b.value), "B");
	answer(ia, "\"return\": \"A\"");
	settle();
	ck_assert(a.done);
	ck_assert_str_eq(json_object_get_string(a.value), "A");
	json_put(a.value);
	json_put(b.value);
}

START_TEST(commands_may_be_pending_together_and_answered_in_any_order)
{
	in_co(out_of_order);
}
END_TEST

static void pass_fd(void)
{
	struct command c = { .name = "getfd", .args = "{\"fdname\":\"tap\"}" };
	struct stat mine, theirs;
	int64_t id;
	int pipe_fds[2], got = -EBADF;

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	c.fd = pipe_fds[1];
	start();
	give(&c, USEC_NEVER);
	json_put(hear("getfd", &id, &got));
	ck_assert_int_ge(got, 0);
	/* else the client would have closed the caller's, and its number were used again */
	ck_assert_int_ne(got, pipe_fds[1]);
	fstat(pipe_fds[1], &mine);
	fstat(got, &theirs);
	ck_assert_uint_eq(mine.st_ino, theirs.st_ino);
	answer(id, "\"return\": {}");
	settle();
	ck_assert_int_eq(c.result, 0);
	json_put(c.value);
	/* the caller's own is still open */
	ck_assert_int_eq(close(pipe_fds[1]), 0);
	close(pipe_fds[0]);
	close(got);
}

static void pass_fd_with_much(void)
{
	_cleanup_free_ char *big = mem_new0(1, 900001);
	struct command c = { .name = "add-fd" };
	_cleanup_free_ char *args = NULL;
	unsigned n_fds = 0;
	size_t n = 0;
	char last = 0;

	memset(big, 'x', 900000);
	args = str_printf("{\"opaque\":\"%s\"}", big);
	c.args = args;
	c.fd = f.qemu;
	start();
	give(&c, USEC_NEVER);
	while (last != '\n') {
		static char piece[60000];
		int got = -EBADF;
		ssize_t r;

		ck_assert_int_eq(co_wait_fd(f.qemu, EPOLLIN), 0);
		r = fd_recv(f.qemu, piece, sizeof(piece), &got);
		ck_assert_int_gt(r, 0);
		ck_assert(got < 0 || n == 0);
		n_fds += got >= 0;
		fd_close(got);
		n += (size_t)r;
		last = piece[r - 1];
	}
	ck_assert_uint_gt(n, 900000);
	ck_assert_uint_eq(n_fds, 1);
	f.q = qmp_free(f.q);
	settle();
	ck_assert_int_eq(c.result, -ECONNRESET);
}

START_TEST(a_descriptor_goes_along_once_however_often_the_command_is_cut)
{
	in_co(pass_fd_with_much);
}
END_TEST

START_TEST(a_descriptor_goes_along_with_the_first_byte)
{
	in_co(pass_fd);
}
END_TEST

static void events(void)
{
	start();
	say("{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"DEVICE_DELETED\", "
	    "\"data\": {\"id\": \"d0\"}}\r\n"
	    "{\"event\": \"STOP\"}\n\r\n{\"event\": \"RESU");
	settle();
	ck_assert_uint_eq(f.events, 2);
	ck_assert_str_eq(f.last_event, "STOP");
	ck_assert_str_eq(f.last_data, "");
	say("ME\", \"data\": {\"id\": \"x\"}}\n");
	settle();
	ck_assert_uint_eq(f.events, 3);
	ck_assert_str_eq(f.last_data, "x");
}

START_TEST(events_are_told_however_the_bytes_are_cut)
{
	in_co(events);
}
END_TEST

static void wait_deleted(void *arg)
{
	f.result = qmp_wait_event(f.q, "DEVICE_DELETED", "device", "d1");
	f.done = true;
}

static void wait_event(void)
{
	start();
	co_spawn("wait", wait_deleted, NULL, USEC_NEVER);
	settle();
	say("{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"d0\"}}\n{\"event\": "
	    "\"DEVICE_DELETED\"}\n"
	    "{\"event\": \"STOP\", \"data\": {\"device\": \"d1\"}}\n");
	settle();
	ck_assert(!f.done);
	say("{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"d1\"}}\n");
	settle();
	ck_assert(f.done);
	ck_assert_int_eq(f.result, 0);
}

START_TEST(a_wait_ends_with_the_event_of_that_value_and_no_other)
{
	in_co(wait_event);
}
END_TEST

static void delete_device(void *arg)
{
	f.result =
		qmp_call_event(f.q, "device_del", NULL, "DEVICE_DELETED", "device", "d1", &f.err);
	f.done = true;
}

static void event_first(void)
{
	int64_t id;

	start();
	co_spawn("delete", delete_device, NULL, USEC_NEVER);
	json_put(hear("device_del", &id, NULL));
	say("{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"d1\"}}\n");
	settle();
	ck_assert(!f.done);
	answer(id, "\"return\": {}");
	settle();
	ck_assert(f.done);
	ck_assert_int_eq(f.result, 0);

	/* refused: no event is waited for */
	f.done = false;
	co_spawn("delete", delete_device, NULL, USEC_NEVER);
	json_put(hear("device_del", &id, NULL));
	answer(id, "\"error\": {\"desc\": \"no such device\"}");
	settle();
	ck_assert(f.done);
	ck_assert_int_eq(f.result, -EREMOTEIO);
	ck_assert_str_eq(f.err.text, "device_del: no such device");
}

START_TEST(an_event_that_comes_before_the_answer_is_not_missed)
{
	in_co(event_first);
}
END_TEST

static void late_answer(void)
{
	struct command a = { .name = "slow", .fd = -EBADF }, b = { .name = "next", .fd = -EBADF };
	int64_t id;

	start();
	give(&a, time_mono() + 10 * USEC_PER_MSEC);
	json_put(hear("slow", &id, NULL));
	co_sleep(20 * USEC_PER_MSEC);
	ck_assert_int_eq(a.result, -ETIMEDOUT);
	answer(id, "\"return\": \"late\"");
	give(&b, USEC_NEVER);
	json_put(hear("next", &id, NULL));
	answer(id, "\"return\": \"in time\"");
	settle();
	ck_assert_str_eq(json_object_get_string(b.value), "in time");
	json_put(b.value);
}

START_TEST(a_late_answer_is_nobodys)
{
	in_co(late_answer);
}
END_TEST

static void die(void)
{
	struct command a = { .name = "a", .fd = -EBADF }, b = { .name = "b", .fd = -EBADF };

	start();
	give(&a, USEC_NEVER);
	co_spawn("wait", wait_deleted, NULL, USEC_NEVER);
	settle();
	f.qemu = fd_close(f.qemu);
	settle();
	ck_assert_int_eq(a.result, -ECONNRESET);
	ck_assert_int_eq(f.result, -ECONNRESET);
	give(&b, USEC_NEVER);
	settle();
	ck_assert_int_eq(b.result, -ECONNRESET);
	ck_assert_int_eq(qmp_wait_event(f.q, "X", NULL, NULL), -ECONNRESET);
	ck_assert_int_eq(qmp_call_event(f.q, "x", NULL, "X", NULL, NULL, NULL), -ECONNRESET);
}

START_TEST(the_death_of_qemu_ends_everything_that_waits)
{
	in_co(die);
}
END_TEST

static void free_pending(void)
{
	struct command a = { .name = "a", .fd = -EBADF };

	start();
	give(&a, USEC_NEVER);
	settle();
	f.q = qmp_free(f.q);
	settle();
	ck_assert_int_eq(a.result, -ECONNRESET);
}

START_TEST(freeing_the_client_ends_pending_commands)
{
	in_co(free_pending);
}
END_TEST

static void free_in_event(void)
{
	start();
	f.free_in_event = true;
	say("{\"event\": \"A\"}\n{\"event\": \"B\"}\n");
	settle();
	ck_assert_uint_eq(f.events, 1);
	ck_assert_ptr_null(f.q);
}

START_TEST(the_client_may_be_freed_by_an_event)
{
	in_co(free_in_event);
}
END_TEST

static void nonsense(void)
{
	struct command a = { .name = "a", .fd = -EBADF };
	int64_t id;

	start();
	say("{}\n[]\n7\nnull\n\n \r\n{\"event\": 5}\n{\"return\": 1}\n{\"id\": 99, \"return\": "
	    "1}\n{\"id\": \"1\", \"return\": 1}\n"
	    "{\"QMP\": {}}\n{\"id\": 1}\n");
	give(&a, USEC_NEVER);
	json_put(hear("a", &id, NULL));
	answer(id, "\"return\": null, \"return\": [1]");
	settle();
	ck_assert_int_eq(a.result, 0);
	ck_assert_int_eq(json_object_array_length(a.value), 1);
	json_put(a.value);
	ck_assert_uint_eq(f.events, 0);
}

START_TEST(lines_that_mean_nothing_are_let_pass)
{
	in_co(nonsense);
}
END_TEST

static void not_json(void)
{
	struct command a = { .name = "a", .fd = -EBADF };

	start();
	give(&a, USEC_NEVER);
	settle();
	say("{'id': 1}\n");
	settle();
	ck_assert_int_eq(a.result, -ECONNRESET);
}

START_TEST(a_line_that_is_not_json_ends_the_connection)
{
	in_co(not_json);
}
END_TEST

static void long_line(void)
{
	static char line[QMP_LINE_MAX + 2];
	struct command a = { .name = "a", .fd = -EBADF }, b = { .name = "b", .fd = -EBADF };
	int64_t id;

	start();
	give(&a, USEC_NEVER);
	json_put(hear("a", &id, NULL));
	/* the longest that is read */
	memset(line, ' ', sizeof(line));
	snprintf(line, 64, "{\"id\": %jd, \"return\": 5}", (intmax_t)id);
	line[strlen(line)] = ' ';
	line[QMP_LINE_MAX] = '\n';
	ck_assert_int_eq(co_write_full(f.qemu, line, QMP_LINE_MAX + 1), 0);
	settle();
	ck_assert_int_eq(a.result, 0);
	ck_assert_int_eq(json_object_get_int(a.value), 5);
	json_put(a.value);
	give(&b, USEC_NEVER);
	settle();
	line[QMP_LINE_MAX] = ' ';
	co_write_full(f.qemu, line, QMP_LINE_MAX + 1);
	settle();
	ck_assert_int_eq(b.result, -ECONNRESET);
}

START_TEST(a_line_may_be_one_mebibyte_long_and_no_more)
{
	in_co(long_line);
}
END_TEST

static void long_command(void)
{
	_cleanup_free_ char *big = mem_new0(1, 900001);
	struct command a = { .name = "a", .fd = -EBADF }, b = { .name = "b", .fd = -EBADF };
	_cleanup_free_ char *args = NULL;
	_cleanup_json_ struct json_object *o = NULL;
	int64_t id;

	memset(big, 'x', 900000);
	args = str_printf("{\"big\":\"%s\"}", big);
	a.args = args;
	start();
	/* more than the socket takes at once */
	give(&a, USEC_NEVER);
	give(&b, USEC_NEVER);
	settle();
	o = hear("a", &id, NULL);
	ck_assert_str_eq(json_get_str(json_get(o, "arguments", NULL), "big"), big);
	answer(id, "\"return\": {}");
	json_put(hear("b", &id, NULL));
	answer(id, "\"return\": {}");
	settle();
	ck_assert(a.done && b.done);
	json_put(a.value);
	json_put(b.value);
}

START_TEST(a_command_longer_than_the_socket_takes_arrives_whole)
{
	in_co(long_command);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qmp");
	TCase *tc = tcase_create("qmp");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_client_negotiates_after_the_greeting);
	tcase_add_test(tc, a_qemu_that_does_not_greet_is_given_up);
	tcase_add_test(tc, a_refused_negotiation_is_an_error);
	tcase_add_test(tc, a_qemu_that_dies_before_the_greeting_is_an_error);
	tcase_add_test(tc, a_command_carries_its_arguments_and_returns_the_answer);
	tcase_add_test(tc, an_error_is_told_in_qemus_words_made_harmless);
	tcase_add_test(tc, commands_may_be_pending_together_and_answered_in_any_order);
	tcase_add_test(tc, a_descriptor_goes_along_with_the_first_byte);
	tcase_add_test(tc, a_descriptor_goes_along_once_however_often_the_command_is_cut);
	tcase_add_test(tc, events_are_told_however_the_bytes_are_cut);
	tcase_add_test(tc, a_wait_ends_with_the_event_of_that_value_and_no_other);
	tcase_add_test(tc, an_event_that_comes_before_the_answer_is_not_missed);
	tcase_add_test(tc, a_late_answer_is_nobodys);
	tcase_add_test(tc, the_death_of_qemu_ends_everything_that_waits);
	tcase_add_test(tc, freeing_the_client_ends_pending_commands);
	tcase_add_test(tc, the_client_may_be_freed_by_an_event);
	tcase_add_test(tc, lines_that_mean_nothing_are_let_pass);
	tcase_add_test(tc, a_line_that_is_not_json_ends_the_connection);
	tcase_add_test(tc, a_line_may_be_one_mebibyte_long_and_no_more);
	tcase_add_test(tc, a_command_longer_than_the_socket_takes_arrives_whole);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
