/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>

#include "base/fd.h"

START_TEST(new_memory_is_zero)
{
	_cleanup_free_ char *p = mem_new0(100, 3);

	for (int i = 0; i < 300; i++)
		ck_assert_int_eq(p[i], 0);
}
END_TEST

START_TEST(nothing_is_still_a_pointer)
{
	/* volatile: gcc 14 warns of an allocation that it sees to be of nothing */
	volatile size_t none = 0;
	_cleanup_free_ char *p = mem_new0(none, 8), *q = mem_resize(NULL, none, 8);

	ck_assert_ptr_nonnull(p);
	ck_assert_ptr_nonnull(q);
}
END_TEST

START_TEST(copies_end_at_the_nul_or_the_length)
{
	_cleanup_free_ char *a = mem_strndup("abc", 2), *b = mem_strndup("abc", 9),
			    *c = mem_strdup("abc");

	ck_assert_str_eq(a, "ab");
	ck_assert_str_eq(b, "abc");
	ck_assert_str_eq(c, "abc");
	ck_assert_ptr_null(mem_strdup(NULL));
}
END_TEST

START_TEST(taking_empties_the_variable)
{
	char *p = mem_strdup("x");
	_cleanup_free_ char *q = TAKE_PTR(p);
	int fd = 7;

	ck_assert_ptr_null(p);
	ck_assert_str_eq(q, "x");
	ck_assert_int_eq(TAKE_FD(fd), 7);
	ck_assert_int_eq(fd, -EBADF);
}
END_TEST

START_TEST(a_size_that_overflows_aborts)
{
	volatile size_t half = SIZE_MAX / 2;

	free(mem_resize(NULL, half, 4));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base mem");
	TCase *t = tcase_create("mem");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, new_memory_is_zero);
	tcase_add_test(t, nothing_is_still_a_pointer);
	tcase_add_test(t, copies_end_at_the_nul_or_the_length);
	tcase_add_test(t, taking_empties_the_variable);
	tcase_add_test_raise_signal(t, a_size_that_overflows_aborts, SIGABRT);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
