/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/logport.h"

#include <json-c/json.h>
#include <unistd.h>

#include "tmpdir.h"
#include "wire/json.h"

START_TEST(a_log_line_becomes_an_object_on_a_line)
{
	_cleanup_free_ char *text = logport_json(
		"time=\"2026-01-02T03:04:05Z\" level=info msg=\"a \\\"b\\\" c\" container=x");
	_cleanup_json_ struct json_object *o = NULL;

	ck_assert_int_eq(text[strlen(text) - 1], '\n');
	ck_assert_int_eq(json_parse(text, strlen(text), &o, NULL), 0);
	ck_assert_str_eq(json_get_str(o, "time"), "2026-01-02T03:04:05Z");
	ck_assert_str_eq(json_get_str(o, "level"), "info");
	ck_assert_str_eq(json_get_str(o, "msg"), "a \"b\" c");
	ck_assert_str_eq(json_get_str(o, "container"), "x");
}
END_TEST

START_TEST(a_line_that_is_cut_or_odd_is_still_one_object)
{
	static const char *const lines[] = { "", "msg=\"never ends", "= =x", "word other",
					     "a=\"\\" };

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		_cleanup_free_ char *text = logport_json(lines[i]);
		_cleanup_json_ struct json_object *o = NULL;

		ck_assert_int_eq(json_parse(text, strlen(text), &o, NULL), 0);
		ck_assert(json_object_is_type(o, json_type_object));
	}
}
END_TEST

START_TEST(what_was_logged_before_anybody_listened_is_kept_for_the_end)
{
	int fds[2];
	char text[4096] = "";

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(logport_init(LOG_INFO), 0);
	log_info("the reason");
	logport_last_words(fds[1]);
	ck_assert_int_gt(read(fds[0], text, sizeof(text) - 1), 0);
	ck_assert_ptr_nonnull(strstr(text, "the reason"));
	log_init(-EBADF, LOG_INFO);
}
END_TEST

TMPDIR_MAIN("gcs logport", a_log_line_becomes_an_object_on_a_line,
	    a_line_that_is_cut_or_odd_is_still_one_object,
	    what_was_logged_before_anybody_listened_is_kept_for_the_end)
