/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

static int ends[2];
static char text[8192];

static void setup(void)
{
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(fd_nonblock(ends[0], true), 0);
	/* The writing end stays blocking: not even so may a log line block. */
	log_init(ends[1], LOG_INFO);
}

static void teardown(void)
{
	log_init(-EBADF, LOG_INFO);
	log_set_sandbox(NULL);
	fd_close(ends[0]);
	fd_close(ends[1]);
}

/** logged() - what was written, from "level" on */
static const char *logged(void)
{
	ssize_t n = read(ends[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? strstr(text, "level") : "";
}

START_TEST(a_line_is_logfmt_with_a_utc_time)
{
	log_info("VM %s", "started");
	ck_assert_str_eq(logged(), "level=info msg=\"VM started\"\n");
	ck_assert_int_eq(strncmp(text, "time=\"20", 8), 0);
	ck_assert_int_eq(strncmp(text + 35, "Z\" level", 8), 0);
}
END_TEST

START_TEST(fields_follow_in_order_and_null_ones_are_left_out)
{
	log_set_sandbox("s1");
	log_msg(LOG_WARN, &(struct log_fields){ .container = "c1", .exec = "e1" }, "m");
	ck_assert_str_eq(logged(), "level=warning msg=\"m\" sandbox=s1 container=c1 exec=e1\n");
	log_msg(LOG_ERROR, &(struct log_fields){ .exec = "e1" }, "m");
	ck_assert_str_eq(logged(), "level=error msg=\"m\" sandbox=s1 exec=e1\n");
	log_set_sandbox(NULL);
	log_error("m");
	ck_assert_str_eq(logged(), "level=error msg=\"m\"\n");
}
END_TEST

START_TEST(values_are_quoted_and_cannot_forge_a_line)
{
	log_msg(LOG_INFO, &(struct log_fields){ .container = "a b\"", .exec = "" },
		"x \"y\"\nlevel=\t\\ \x1b");
	ck_assert_str_eq(logged(), "level=info msg=\"x \\\"y\\\"\\nlevel=\\t\\\\ \\x1b\" "
				   "container=\"a b\\\"\" exec=\"\"\n");
}
END_TEST

START_TEST(lines_below_the_level_are_dropped)
{
	log_debug("no");
	ck_assert_str_eq(logged(), "");
	ck_assert(!log_enabled(LOG_DEBUG));
	log_set_level(LOG_TRACE);
	ck_assert(log_enabled(LOG_TRACE));
	log_trace("yes");
	ck_assert_str_eq(logged(), "level=trace msg=\"yes\"\n");
}
END_TEST

START_TEST(a_long_message_is_cut_but_the_fields_and_the_newline_stay)
{
	static char big[10000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_set_sandbox("s1");
	log_info("%s", big);
	logged();
	ck_assert_uint_le(strlen(text), 4096);
	ck_assert_str_eq(text + strlen(text) - strlen("x\" sandbox=s1\n"), "x\" sandbox=s1\n");
}
END_TEST

START_TEST(a_full_fifo_never_blocks_and_the_loss_is_told_later)
{
	char big[3000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	alarm(10);
	for (int i = 0; i < 100; i++)
		log_info("%s", big);
	alarm(0);
	while (*logged())
		;
	log_info("again");
	logged();
	ck_assert_ptr_nonnull(strstr(text, " log lines were lost\""));
	ck_assert_ptr_nonnull(strstr(text, "msg=\"again\"\n"));
	log_info("once more");
	logged();
	ck_assert_ptr_null(strstr(text, "lost"));
}
END_TEST

START_TEST(errno_survives_a_log_call_and_percent_m_sees_it)
{
	errno = ENOENT;
	log_info("open: %m");
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_str_eq(logged(), "level=info msg=\"open: No such file or directory\"\n");
}
END_TEST

START_TEST(level_names_are_read)
{
	enum log_level l = LOG_ERROR;

	ck_assert_int_eq(log_level_parse("trace", &l), 0);
	ck_assert_int_eq(l, LOG_TRACE);
	ck_assert_int_eq(log_level_parse("warn", &l), 0);
	ck_assert_int_eq(l, LOG_WARN);
	ck_assert_int_eq(log_level_parse("warning", &l), 0);
	ck_assert_int_eq(l, LOG_WARN);
	ck_assert_int_eq(log_level_parse("error", &l), 0);
	ck_assert_int_eq(log_level_parse("loud", &l), -EINVAL);
	ck_assert_int_eq(log_level_parse(NULL, &l), -EINVAL);
	ck_assert_int_eq(l, LOG_ERROR);
}
END_TEST

static void scrubs(const char *json, const char *want)
{
	_cleanup_free_ char *s = log_scrub_json(json);

	ck_assert_str_eq(s, want);
}

START_TEST(environment_and_annotations_are_scrubbed_at_any_depth)
{
	scrubs("{\"process\":{\"args\":[\"sh\"],\"env\":[\"PW=x\"]},\"annotations\":{\"k\":\"v\"}}",
	       "{\"process\":{\"args\":[\"sh\"],\"env\":[\"<scrubbed>\"]},"
	       "\"annotations\":{\"<scrubbed>\":\"<scrubbed>\"}}");
	scrubs("[{\"Environment\":{\"PW\":\"x\"}},{\"Environment\":[\"PW=x\"]}]",
	       "[{\"Environment\":{\"<scrubbed>\":\"<scrubbed>\"}},"
	       "{\"Environment\":[\"<scrubbed>\"]}]");
}
END_TEST

START_TEST(json_in_strings_is_scrubbed_too)
{
	_cleanup_free_ char *s =
		log_scrub_json("{\"Settings\":\"{\\\"In\\\":\\\"{\\\\\\\"env\\\\\\\":[\\\\\\\"PW="
			       "x\\\\\\\"]}\\\"}\"}");

	ck_assert_ptr_null(strstr(s, "PW=x"));
	ck_assert_ptr_nonnull(strstr(s, "Settings"));
	ck_assert_ptr_nonnull(strstr(s, "env"));
	ck_assert_ptr_nonnull(strstr(s, "<scrubbed>"));
}
END_TEST

START_TEST(what_is_no_json_is_replaced_as_a_whole)
{
	scrubs("PW=x", "<scrubbed>");
	scrubs("", "<scrubbed>");
	scrubs("{\"env\":[\"PW=x\"]", "<scrubbed>");
	scrubs("{} PW=x", "<scrubbed>");
	scrubs("12 ", "12");
	scrubs("{\"a\":\"{not json\"}", "{\"a\":\"{not json\"}");
}
END_TEST

START_TEST(endless_nesting_is_refused_rather_than_followed)
{
	char deep[4001];

	memset(deep, '[', 2000);
	memset(deep + 2000, ']', 2000);
	deep[4000] = '\0';
	scrubs(deep, "<scrubbed>");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base log");
	TCase *t = tcase_create("log");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_line_is_logfmt_with_a_utc_time);
	tcase_add_test(t, fields_follow_in_order_and_null_ones_are_left_out);
	tcase_add_test(t, values_are_quoted_and_cannot_forge_a_line);
	tcase_add_test(t, lines_below_the_level_are_dropped);
	tcase_add_test(t, a_long_message_is_cut_but_the_fields_and_the_newline_stay);
	tcase_add_test(t, a_full_fifo_never_blocks_and_the_loss_is_told_later);
	tcase_add_test(t, errno_survives_a_log_call_and_percent_m_sees_it);
	tcase_add_test(t, level_names_are_read);
	tcase_add_test(t, environment_and_annotations_are_scrubbed_at_any_depth);
	tcase_add_test(t, json_in_strings_is_scrubbed_too);
	tcase_add_test(t, what_is_no_json_is_replaced_as_a_whole);
	tcase_add_test(t, endless_nesting_is_refused_rather_than_followed);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
