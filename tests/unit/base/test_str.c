/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(numbers_fill_the_whole_string)
{
	uint64_t v = 7;

	ck_assert_int_eq(str_u64("18446744073709551615", &v), 0);
	ck_assert_uint_eq(v, UINT64_MAX);
	ck_assert_int_eq(str_u64("0", &v), 0);
	ck_assert_uint_eq(v, 0);
	v = 7;
	ck_assert_int_eq(str_u64("18446744073709551616", &v), -ERANGE);
	ck_assert_int_eq(str_u64("", &v), -EINVAL);
	ck_assert_int_eq(str_u64("-1", &v), -EINVAL);
	ck_assert_int_eq(str_u64("+1", &v), -EINVAL);
	ck_assert_int_eq(str_u64(" 1", &v), -EINVAL);
	ck_assert_int_eq(str_u64("1x", &v), -EINVAL);
	ck_assert_int_eq(str_u64(NULL, &v), -EINVAL);
	ck_assert_uint_eq(v, 7);
}
END_TEST

START_TEST(sizes_have_binary_units)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "512", 512 },          { "512B", 512 },
		{ "64K", 65536 },        { "64k", 65536 },
		{ "256M", 268435456 },   { "1G", 1073741824 },
		{ "64MiB", 67108864 },   { "2GB", 2147483648 },
		{ "1T", 1099511627776 }, { "0", 0 },
	};
	static const char *const bad[] = { "",    "K",   "1X",   "1Ki", "1KiBB",
					   "1 K", "-1K", "1.5G", "1BK" };
	uint64_t v = 7;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(str_size(good[i].text, &v), 0);
		ck_assert_uint_eq(v, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(str_size(bad[i], &v), -EINVAL);
	ck_assert_int_eq(str_size("18446744073709551615K", &v), -ERANGE);
	ck_assert_int_eq(str_size("16777216T", &v), -ERANGE);
}
END_TEST

START_TEST(booleans_are_words)
{
	bool b = false;

	ck_assert_int_eq(str_bool("true", &b), 0);
	ck_assert(b);
	ck_assert_int_eq(str_bool("off", &b), 0);
	ck_assert(!b);
	ck_assert_int_eq(str_bool("F", &b), 0);
	ck_assert(!b);
	ck_assert_int_eq(str_bool("1", &b), 0);
	ck_assert(b);
	ck_assert_int_eq(str_bool("maybe", &b), -EINVAL);
	ck_assert_int_eq(str_bool("", &b), -EINVAL);
	ck_assert_int_eq(str_bool(NULL, &b), -EINVAL);
	ck_assert(b);
}
END_TEST

START_TEST(an_id_is_one_safe_path_part)
{
	char longest[130];

	memset(longest, 'a', sizeof(longest));
	longest[129] = '\0';
	ck_assert(!str_id_valid(longest));
	longest[128] = '\0';
	ck_assert(str_id_valid(longest));
	ck_assert(str_id_valid("a.b_c-1#2:3@x"));
	ck_assert(str_id_valid("..."));
	ck_assert(!str_id_valid(""));
	ck_assert(!str_id_valid(NULL));
	ck_assert(!str_id_valid("."));
	ck_assert(!str_id_valid(".."));
	ck_assert(!str_id_valid("a/b"));
	ck_assert(!str_id_valid("a b"));
	ck_assert(!str_id_valid("a\n"));
	ck_assert(!str_id_valid("\xc3\xa9"));
}
END_TEST

static void clean(const char *in, size_t len, const char *want)
{
	char s[64];

	memcpy(s, in, len);
	str_clean(s, len);
	ck_assert_mem_eq(s, want, len);
}

START_TEST(cleaning_leaves_text_and_kills_controls_and_broken_utf8)
{
	clean("plain ~", 7, "plain ~");
	clean("a\n\x1b[0m\x7f", 7, "a??[0m?");
	clean("a\0b", 3, "a?b");
	clean("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	clean("\xc3", 1, "?"); /* cut */
	clean("\xc0\xaf", 2, "??"); /* too long a form */
	clean("\xe0\x80\xaf", 3, "???");
	clean("\xed\xa0\x80", 3, "???"); /* surrogate */
	clean("\xf4\x90\x80\x80", 4, "????"); /* beyond Unicode */
	clean("\xc2\x9b", 2, "??"); /* C1 control */
	clean("\xff\xc3\xa9", 3, "?\xc3\xa9");
}
END_TEST

START_TEST(vectors_grow_copy_and_join)
{
	_cleanup_strv_ char **v = NULL, **copy = NULL;
	_cleanup_free_ char *joined = NULL, *none = strv_join(NULL, ",");

	ck_assert_uint_eq(strv_len(NULL), 0);
	ck_assert(!strv_has(NULL, "a"));
	ck_assert_ptr_null(strv_copy(NULL));
	ck_assert_str_eq(none, "");
	strv_add(&v, "a");
	strv_addf(&v, "b%d", 2);
	copy = strv_copy(v);
	ck_assert_uint_eq(strv_len(copy), 2);
	ck_assert(strv_has(copy, "b2"));
	ck_assert(!strv_has(copy, "b"));
	joined = strv_join(copy, ", ");
	ck_assert_str_eq(joined, "a, b2");
}
END_TEST

START_TEST(splitting_drops_empty_parts)
{
	_cleanup_strv_ char **v = strv_split("::a:b;c:", ":;");

	ck_assert_uint_eq(strv_len(v), 3);
	ck_assert_str_eq(v[0], "a");
	ck_assert_str_eq(v[2], "c");
	ck_assert_uint_eq(strv_len(strv_split("::", ":")), 0);
}
END_TEST

START_TEST(a_string_is_replaced_even_by_itself)
{
	char *s = NULL;

	str_set(&s, "one");
	str_set(&s, s);
	ck_assert_str_eq(s, "one");
	str_set(&s, NULL);
	ck_assert_ptr_null(s);
}
END_TEST

START_TEST(a_buffer_grows_at_the_end_and_is_eaten_at_the_front)
{
	_cleanup_buf_ struct buf b = { 0 };
	size_t want = 0;

	for (int i = 0; i < 1000; i++)
		buf_addf(&b, "%d,", i);
	for (int i = 0; i < 500; i++)
		want += i < 10 ? 2 : i < 100 ? 3 : 4;
	buf_eat(&b, want);
	ck_assert_int_eq(memcmp(b.data, "500,501,", 8), 0);
	memcpy(buf_reserve(&b, 4), "tail", 4);
	b.len += 4;
	ck_assert_int_eq(memcmp(b.data + b.len - 8, "999,tail", 8), 0);
	buf_eat(&b, b.len);
	ck_assert_uint_eq(b.len, 0);
	buf_add(&b, NULL, 0);
}
END_TEST

START_TEST(comparisons_take_null)
{
	ck_assert(str_eq(NULL, NULL));
	ck_assert(!str_eq(NULL, ""));
	ck_assert(str_empty(NULL));
	ck_assert(str_starts("abc", "ab"));
	ck_assert(!str_starts("a", "ab"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base str");
	TCase *t = tcase_create("str");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, numbers_fill_the_whole_string);
	tcase_add_test(t, sizes_have_binary_units);
	tcase_add_test(t, booleans_are_words);
	tcase_add_test(t, an_id_is_one_safe_path_part);
	tcase_add_test(t, cleaning_leaves_text_and_kills_controls_and_broken_utf8);
	tcase_add_test(t, vectors_grow_copy_and_join);
	tcase_add_test(t, splitting_drops_empty_parts);
	tcase_add_test(t, a_string_is_replaced_even_by_itself);
	tcase_add_test(t, a_buffer_grows_at_the_end_and_is_eaten_at_the_front);
	tcase_add_test(t, comparisons_take_null);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
