/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *key(int i)
{
	static char text[32];

	snprintf(text, sizeof(text), "key-%d", i);
	return text;
}

static void *value(int i)
{
	return (void *)(uintptr_t)(i + 1);
}

START_TEST(an_empty_map_has_nothing_and_can_be_freed)
{
	struct map m = { 0 };

	ck_assert_ptr_null(map_get(&m, "a"));
	ck_assert_ptr_null(map_remove(&m, "a"));
	MAP_FOR_EACH(e, &m)
		ck_abort();
	map_free(&m);
	map_free(&m);
}
END_TEST

START_TEST(a_set_replaces_and_gives_the_former_value)
{
	struct map m = { 0 };
	char k[] = "a";

	ck_assert_ptr_null(map_set(&m, k, value(1)));
	k[0] = 'z'; /* the key was copied */
	ck_assert_ptr_eq(map_set(&m, "a", value(2)), value(1));
	ck_assert_ptr_eq(map_get(&m, "a"), value(2));
	ck_assert_uint_eq(m.len, 1);
	map_free(&m);
}
END_TEST

START_TEST(order_of_insertion_outlives_many_keys_and_removals)
{
	struct map m = { 0 };
	int i, want = 0;

	for (i = 0; i < 2000; i++)
		ck_assert_ptr_null(map_set(&m, key(i), value(i)));
	for (i = 0; i < 2000; i += 3)
		ck_assert_ptr_eq(map_remove(&m, key(i)), value(i));
	for (i = 0; i < 2000; i++)
		ck_assert_ptr_eq(map_get(&m, key(i)), i % 3 ? value(i) : NULL);
	MAP_FOR_EACH(e, &m) {
		if (want % 3 == 0)
			want++;
		ck_assert_str_eq(e->key, key(want));
		ck_assert_ptr_eq(e->value, value(want));
		want++;
	}
	ck_assert_int_eq(want, 2000);
	map_free(&m);
}
END_TEST

START_TEST(a_map_shrinks_to_a_few_keys_and_grows_again)
{
	struct map m = { 0 };

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 100; i++)
			map_set(&m, key(i), value(i));
		for (int i = 99; i >= 4; i--)
			ck_assert_ptr_eq(map_remove(&m, key(i)), value(i));
		ck_assert_uint_eq(m.len, 4);
		ck_assert_ptr_eq(map_get(&m, key(3)), value(3));
		ck_assert_ptr_null(map_get(&m, key(4)));
	}
	map_free(&m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base map");
	TCase *t = tcase_create("map");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, an_empty_map_has_nothing_and_can_be_freed);
	tcase_add_test(t, a_set_replaces_and_gives_the_former_value);
	tcase_add_test(t, order_of_insertion_outlives_many_keys_and_removals);
	tcase_add_test(t, a_map_shrinks_to_a_few_keys_and_grows_again);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
