/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/uri.h"

#include <check.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"

static struct err err;

/* The parts as one text: "scheme path key value …", or the failure's. */
static const char *parts(const char *text)
{
	static char *last;
	_cleanup_uri_ struct uri u = { 0 };
	_cleanup_free_ char *query = NULL;

	free(last);
	last = NULL;
	if (uri_parse(text, &u, &err) < 0) {
		ck_assert_int_eq(err.code, -ERR_INVALID);
		last = mem_strdup("invalid");
		return last;
	}
	query = u.query ? strv_join(u.query, "|") : NULL;
	last = str_printf("%s|%s%s%s", u.scheme, u.path, query ? "|" : "", query ? query : "");
	return last;
}

START_TEST(a_path_is_no_URI)
{
	static const char *const paths[] = { "",      "/run/fifo", "fifo", "/a://b", "://x",
					     "1a://", "a b://c",   "a:/b", "file:",  "a%://" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		ck_assert_msg(!uri_is(paths[i]), "%s", paths[i]);
		ck_assert_str_eq(parts(paths[i]), "invalid");
	}
	ck_assert(uri_is("file:///x") && uri_is("binary-v2:///x") && uri_is("ttrpc+unix://x"));
}
END_TEST

START_TEST(a_query_is_told_in_its_order_and_decoded)
{
	static const char *const rows[][2] = {
		{ "binary:///bin/log", "binary|/bin/log" },
		{ "binary:///bin/log?", "binary|/bin/log" },
		{ "binary:///bin/log?z=1&a=2", "binary|/bin/log|z|1|a|2" },
		{ "binary-v2:///l?k", "binary-v2|/l|k|" },
		{ "binary:///l?k=", "binary|/l|k|" },
		{ "binary:///l?=v", "binary|/l||v" },
		{ "binary:///l?a=b=c", "binary|/l|a|b=c" },
		{ "binary:///l?&&a=1&", "binary|/l|a|1" },
		{ "binary:///l?a=1&b=2&a=3", "binary|/l|a|1|b|2" },
		{ "binary:///l%20og?a%3d=x+y%2B%26z", "binary|/l og|a=|x y+&z" },
		{ "file:///a+b", "file|/a+b" },
		{ "file:///a#b?c=d", "file|/a" },
		{ "binary:///l?a=1#b&c=2", "binary|/l|a|1" },
		{ "binary:///l?a=b?c", "binary|/l|a|b?c" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ck_assert_str_eq(parts(rows[i][0]), rows[i][1]);
}
END_TEST

START_TEST(broken_escapes_NULs_and_hosts_are_refused)
{
	static const char *const bad[] = {
		"file:///a%",     "file:///a%4",     "file:///a%4g",    "file:///a%g4",
		"file:///a%00b",  "binary:///l?a=%", "binary:///l?%=b", "binary:///l?a=%00",
		"binary://host/", "binary://",       "binary://?a=b",   "file://relative",
		"file://#/x",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(str_eq(parts(bad[i]), "invalid"), "%s", bad[i]);
}
END_TEST

START_TEST(a_URI_of_more_than_64_KiB_is_refused)
{
	_cleanup_free_ char *text = mem_new0(1, (64 << 10) + 2);

	memset(text, 'x', (64 << 10) + 1);
	memcpy(text, "file:///", 8);
	ck_assert_str_eq(parts(text), "invalid");
	text[64 << 10] = '\0';
	ck_assert_str_ne(parts(text), "invalid");
	parts("");
}
END_TEST

START_TEST(a_failure_leaves_the_result_alone)
{
	struct uri u = { .path = (char *)1 };

	ck_assert_int_eq(uri_parse("file:///%", &u, NULL), -ERR_INVALID);
	ck_assert_ptr_eq(u.path, (char *)1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller uri");
	TCase *t = tcase_create("uri");

	tcase_add_test(t, a_path_is_no_URI);
	tcase_add_test(t, a_query_is_told_in_its_order_and_decoded);
	tcase_add_test(t, broken_escapes_NULs_and_hosts_are_refused);
	tcase_add_test(t, a_URI_of_more_than_64_KiB_is_refused);
	tcase_add_test(t, a_failure_leaves_the_result_alone);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
