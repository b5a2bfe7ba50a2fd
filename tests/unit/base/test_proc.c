/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/proc.h"

START_TEST(fields_are_counted_from_behind_a_name_that_holds_anything)
{
	uint64_t before, after, pages;

	ck_assert_int_eq(proc_stat(getpid(), PROC_START_TIME, &before), 0);
	ck_assert_int_eq(prctl(PR_SET_NAME, ") R 1 2 (x"), 0);
	ck_assert_int_eq(proc_stat(getpid(), PROC_START_TIME, &after), 0);
	ck_assert_uint_ne(before, 0);
	ck_assert_uint_eq(before, after);
	ck_assert_int_eq(proc_stat(getpid(), PROC_RESIDENT, &pages), 0);
	ck_assert_uint_gt(pages, 10);
}
END_TEST

START_TEST(who_is_not_there_has_none)
{
	uint64_t n = 7;

	ck_assert_int_eq(proc_stat(1 << 30, PROC_FLAGS, &n), -ESRCH);
	ck_assert_uint_eq(n, 7);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("base proc");
	TCase *t = tcase_create("proc");

	tcase_add_test(t, fields_are_counted_from_behind_a_name_that_holds_anything);
	tcase_add_test(t, who_is_not_there_has_none);
	suite_add_tcase(suite, t);

	SRunner *r = srunner_create(suite);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
