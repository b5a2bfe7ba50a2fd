/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fake.h"
#include "guest/logs.h"

static struct logs logs;

static void feed(const char *text)
{
	logs_feed(&logs, text, strlen(text));
}

static void nothing(void) {}

/** begin() - a log to look into; fake_run() makes it */
static void begin(void)
{
	fake_run(nothing, nothing);
	logs_init(&logs);
}

/** count() - how often @what is in the log */
static unsigned count(const char *what)
{
	_cleanup_free_ char *log = fake_log();
	unsigned n = 0;

	for (const char *p = log; (p = strstr(p, what)); p++)
		n++;
	return n;
}

#define has(what) \
	do { \
		_cleanup_free_ char *log_ = fake_log(); \
		ck_assert_msg(strstr(log_, (what)), "%s in %s", (what), log_); \
	} while (0)

static const struct {
	const char *line;
	const char *out;
} lines[] = {
	{ "{\"level\":\"info\",\"msg\":\"GCS started\",\"time\":\"2026-11-23T19:54:48.5Z\"}",
	  "level=info msg=\"guest: GCS started vm.time=2026-11-23T19:54:48.5Z\"" },
	{ "{\"level\":\"debug\",\"msg\":\"d\"}", "level=debug msg=\"guest: d\"" },
	{ "{\"level\":\"warning\",\"msg\":\"w\"}", "level=warning msg=\"guest: w\"" },
	{ "{\"level\":\"error\",\"msg\":\"e\"}", "level=error msg=\"guest: e\"" },
	{ "{\"level\":\"fatal\",\"msg\":\"f\"}", "level=error msg=\"guest: f\"" },
	{ "{\"level\":\"panic\",\"msg\":\"p\"}", "level=error msg=\"guest: p\"" },
	{ "{\"level\":\"odd\",\"msg\":\"o\"}", "level=info msg=\"guest: o\"" },
	{ "{\"msg\":\"none\"}", "level=info msg=\"guest: none\"" },
	{ "{\"level\":7,\"msg\":{\"a\":1}}", "level=info msg=\"guest: \"" },
	{ "{\"msg\":\"m\",\"n\":4.0,\"f\":4.5,\"i\":-3,\"b\":true,\"z\":null,\"s\":\"a "
	  "b\",\"o\":{\"k\":[1]}}",
	  "msg=\"guest: m n=4 f=4.5 i=-3 b=true z=null s=\\\"a b\\\" o={\\\"k\\\":[1]}\"" },
	{ "{\"msg\":\"m\",\"big\":1e300,\"u\":18446744073709551615}",
	  "msg=\"guest: m big=1e300 u=18446744073709551615\"" },
	{ "{\"msg\":\"m\",\"container\":\"c1\",\"exec\":\"e1\"}",
	  "msg=\"guest: m\" container=c1 exec=e1" },
	{ "{\"msg\":\"m\",\"cid\":\"c1\",\"eid\":\"e1\"}",
	  "msg=\"guest: m\" container=c1 exec=e1" },
	{ "{\"msg\":\"m\",\"cid\":\"../x\"}", "msg=\"guest: m cid=../x\"" },
	{ "{\"msg\":\"m\",\"sandbox\":\"other\",\"a\":1}", "msg=\"guest: m a=1\"" },
	{ "{\"Source\":\"ETW\",\"message\":\"etw\"}", "msg=\"guest: etw Source=ETW\"" },
	{ "{\"Source\":\"ETW\",\"Message\":\"Etw\"}", "msg=\"guest: Etw Source=ETW\"" },
	{ "{\"msg\":\"kmsg read\",\"message\":\"usb 1-1: gone\"}",
	  "msg=\"guest: kmsg read message=\\\"usb 1-1: gone\\\"\"" },
	{ "{\"msg\":\"a\\u001b[31mb\\nc\",\"k\\u0007\":\"v\\u0007\"}",
	  "msg=\"guest: a?[31mb?c k?=v?\"" },
	{ "{\"msg\":\"%s%n\"}", "msg=\"guest: %s%n\"" },
};

START_TEST(a_line_of_json_becomes_a_line_of_ours)
{
	begin();
	feed(lines[_i].line);
	feed("\n");
	has(lines[_i].out);
	ck_assert_uint_eq(count("\n"), 1);
	logs_end(&logs);
	ck_assert_uint_eq(count("\n"), 1);
}
END_TEST

START_TEST(lines_may_come_in_any_pieces)
{
	static const char text[] =
		"{\"msg\":\"one\"}\r\n\n  \n{\"msg\":\"two\"}\n{\"msg\":\"three\"}";

	begin();
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		logs_feed(&logs, text + i, 1);
	ck_assert_uint_eq(count("\n"), 2);
	logs_end(&logs);
	has("guest: one");
	has("guest: two");
	has("guest: three");
	ck_assert_uint_eq(count("\n"), 3);
}
END_TEST

START_TEST(a_level_that_is_not_logged_is_skipped)
{
	begin();
	log_set_level(LOG_INFO);
	feed("{\"level\":\"debug\",\"msg\":\"d\"}\n{\"msg\":\"i\"}\n");
	logs_end(&logs);
	ck_assert_uint_eq(count("\n"), 1);
}
END_TEST

START_TEST(a_line_that_is_too_long_is_cut_and_the_next_one_is_whole)
{
	_cleanup_free_ char *big = mem_new0(1, 100001);

	begin();
	memset(big, 'x', 100000);
	feed("{\"msg\":\"");
	feed(big);
	ck_assert_uint_le(logs.line.len, LOGS_LINE_MAX);
	feed("\"}\n{\"msg\":\"next\"}\n");
	logs_end(&logs);
	has("a line of its log was cut: {\\\"msg\\\":\\\"xxx");
	has("guest: next");
	ck_assert_uint_eq(count("\n"), 2);
	ck_assert_uint_eq(count("gcs terminated"), 0);
}
END_TEST

START_TEST(a_line_of_the_greatest_length_is_whole)
{
	_cleanup_free_ char *big = mem_new0(1, LOGS_LINE_MAX + 1);

	begin();
	memset(big, 'x', LOGS_LINE_MAX);
	memcpy(big, "{\"msg\":\"", 8);
	memcpy(big + LOGS_LINE_MAX - 2, "\"}", 2);
	feed(big);
	feed("\n");
	logs_end(&logs);
	ck_assert_uint_eq(count("was cut"), 0);
	has("guest: xxx");
}
END_TEST

START_TEST(what_is_no_json_at_the_end_is_the_agents_last_words)
{
	begin();
	feed("{\"msg\":\"last\"}\npanic: nil \033[31mmap\ngoroutine 1:\nmain.main()");
	ck_assert_uint_eq(count("\n"), 1);
	logs_end(&logs);
	has("level=error msg=\"guest: gcs terminated stderr=\\\"panic: nil ?[31mmap\\n"
	    "goroutine 1:\\nmain.main()\\n\\\"\"");
	ck_assert_uint_eq(count("\n"), 2);
}
END_TEST

START_TEST(what_is_no_json_between_lines_is_one_entry_and_does_not_end_the_relay)
{
	begin();
	feed("odd\nwords\n{\"msg\":\"on\"}\n{broken\n");
	logs_end(&logs);
	has("guest: text in its log stderr=\\\"odd\\nwords\\n\\\"");
	has("guest: on");
	has("gcs terminated stderr=\\\"{broken\\n\\\"");
}
END_TEST

START_TEST(last_words_without_end_are_cut)
{
	begin();
	for (int i = 0; i < 100000; i++)
		feed("no json at all\n");
	ck_assert_uint_le(logs.stray.len, LOGS_STRAY_MAX);
	logs_end(&logs);
	ck_assert_uint_le(count("\n"), LOGS_STRAY_MAX / 3000 + 1);
	ck_assert_uint_ge(count("no json at all"), 1000);
}
END_TEST

START_TEST(a_line_with_many_members_or_long_values_is_cut)
{
	_cleanup_free_ char *big = mem_new0(1, 5001);

	begin();
	memset(big, 'v', 5000);
	feed("{\"msg\":\"members\"");
	for (int i = 0; i < 500; i++) {
		_cleanup_free_ char *member = str_printf(",\"k%d\":1", i);

		feed(member);
	}
	feed("}\n{\"msg\":\"values\",\"long\":\"");
	feed(big);
	feed("\",\"after\":1}\n{\"msg\":\"deep\",\"d\":");
	for (int i = 0; i < 1000; i++)
		feed("[");
	for (int i = 0; i < 1000; i++)
		feed("]");
	feed("}\n");
	logs_end(&logs);
	has("guest: members k0=1 k1=1 ");
	has(" k47=1 ...\"");
	has("vvv... after=1");
	/* beyond the depth that our parser takes, a line is no JSON */
	has("gcs terminated stderr=\\\"{\\\"msg\\\":\\\"deep");
}
END_TEST

START_TEST(too_many_lines_are_dropped_and_counted)
{
	begin();
	for (int i = 0; i < 3 * LOGS_BURST; i++)
		feed("{\"msg\":\"again\"}\n");
	logs_end(&logs);
	ck_assert_uint_ge(count("guest: again"), LOGS_BURST);
	ck_assert_uint_lt(count("guest: again"), 2 * LOGS_BURST);
	has("lines of its log were dropped, there were too many");
}
END_TEST

/* --- the stream --- */

static int pair[2];
static bool served;

static void host_serves(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	logs_serve(pair[0], NULL);
	close(pair[0]);
	served = true;
}

static void guest_writes(void)
{
	co_sleep(0);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(co_write_full(pair[1], "{\"msg\":\"line\"}\n", 15), 0);
	ck_assert_int_eq(co_write_full(pair[1], "{\"msg\":\"bye\"}\n", 14), 0);
	ck_assert(!served);
	close(pair[1]);
}

START_TEST(a_stream_is_read_to_its_end)
{
	fake_run(host_serves, guest_writes);
	ck_assert(served);
	has("guest: bye");
	ck_assert_uint_eq(count("guest: line"), 1000);
}
END_TEST

static void serve_zeros(void *arg)
{
	int fd = open("/dev/zero", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	logs_serve(fd, NULL);
	close(fd);
	served = true;
}

static void host_serves_zeros(void)
{
	struct co *co = co_spawn("zeros", serve_zeros, NULL, USEC_NEVER);

	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(co_sleep(100), 0);
	ck_assert(!served);
	co_cancel(co);
	while (!served)
		co_sleep(0);
}

START_TEST(a_stream_that_is_always_ready_lets_others_run_and_can_be_cancelled)
{
	fake_run(host_serves_zeros, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest logs");
	TCase *c = tcase_create("logs");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, a_line_of_json_becomes_a_line_of_ours, 0, (int)ARRAY_SIZE(lines));
	tcase_add_test(c, lines_may_come_in_any_pieces);
	tcase_add_test(c, a_level_that_is_not_logged_is_skipped);
	tcase_add_test(c, a_line_that_is_too_long_is_cut_and_the_next_one_is_whole);
	tcase_add_test(c, a_line_of_the_greatest_length_is_whole);
	tcase_add_test(c, what_is_no_json_at_the_end_is_the_agents_last_words);
	tcase_add_test(c, what_is_no_json_between_lines_is_one_entry_and_does_not_end_the_relay);
	tcase_add_test(c, last_words_without_end_are_cut);
	tcase_add_test(c, a_line_with_many_members_or_long_values_is_cut);
	tcase_add_test(c, too_many_lines_are_dropped_and_counted);
	tcase_add_test(c, a_stream_is_read_to_its_end);
	tcase_add_test(c, a_stream_that_is_always_ready_lets_others_run_and_can_be_cancelled);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
