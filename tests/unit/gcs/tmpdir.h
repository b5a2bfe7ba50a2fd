/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_GCS_TMPDIR_H
#define LCOW_TESTS_GCS_TMPDIR_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"

/* A directory of the test's own, and files in it. */
static char tmpdir[64];

static inline void tmpdir_setup(void)
{
	strcpy(tmpdir, "/tmp/lcow-gcs-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(tmpdir));
}

static inline void tmpdir_teardown(void)
{
	ck_assert_int_eq(dir_remove(tmpdir), 0);
}

static inline void tmpdir_write(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/%s", tmpdir, name);
	_cleanup_free_ char *dir = mem_strdup(path);

	*strrchr(dir, '/') = '\0';
	ck_assert_int_eq(dir_make(dir, 0755), 0);
	ck_assert_int_eq(file_write(path, text, strlen(text), 0644), 0);
}

/* Runs the tests of a file, each in its directory. */
static inline int tmpdir_run(const char *name, const TTest *const *tests, size_t n)
{
	Suite *s = suite_create(name);
	TCase *tc = tcase_create(name);
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, tmpdir_setup, tmpdir_teardown);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define TMPDIR_MAIN(name, ...) \
	int main(void) \
	{ \
		const TTest *const tests[] = { __VA_ARGS__ }; \
		return tmpdir_run(name, tests, sizeof(tests) / sizeof(tests[0])); \
	}

#endif
