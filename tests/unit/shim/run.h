/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_UNIT_SHIM_RUN_H
#define LCOW_TESTS_UNIT_SHIM_RUN_H

#include <check.h>

/** run_case() - run a test case as a suite of its own; Return: exit status */
static inline int run_case(TCase *t, const char *name)
{
	Suite *s = suite_create(name);
	SRunner *r;
	int failed;

	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed > 0;
}

#endif
