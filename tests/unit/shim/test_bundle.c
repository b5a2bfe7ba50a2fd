/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bundle.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "run.h"

static char dir[] = "/tmp/test_bundle.XXXXXX";

static void setup(void)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	dir_remove(dir);
}

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, name);

	ck_assert_int_eq(file_write(path, text, strlen(text), 0600), 0);
}

#define ID "\"io.kubernetes.cri.sandbox-id\":"
#define TYPE "\"io.kubernetes.cri.container-type\":"

static const struct {
	const char *config; /* NULL: none */
	const char *group;
	bool member;
} rows[] = {
	{ NULL, "c1", false },
	{ "", "c1", false },
	{ "no JSON", "c1", false },
	{ "[]", "c1", false },
	{ "{}", "c1", false },
	{ "{\"annotations\":null}", "c1", false },
	{ "{\"annotations\":[\"x\"]}", "c1", false },
	{ "{\"annotations\":{" TYPE "\"sandbox\"," ID "\"p1\"}}", "p1", false },
	{ "{\"annotations\":{" TYPE "\"container\"," ID "\"p1\"}}", "p1", true },
	{ "{\"annotations\":{" TYPE "\"container\"}}", "c1", true },
	/* An id becomes a part of paths. */
	{ "{\"annotations\":{" ID "\"../p1\"}}", "c1", false },
	{ "{\"annotations\":{" ID "\"\"}}", "c1", false },
	{ "{\"annotations\":{" ID "7}}", "c1", false },
};

START_TEST(a_bundle_is_of_the_pod_that_its_annotations_name)
{
	_cleanup_free_ char *group = NULL;

	if (rows[_i].config)
		put("config.json", rows[_i].config);
	group = bundle_group(dir, "c1");
	ck_assert_str_eq(group, rows[_i].group);
	ck_assert(bundle_is_member(dir) == rows[_i].member);
}
END_TEST

START_TEST(the_file_sandbox_marks_a_member)
{
	put("sandbox", "p1");
	ck_assert(bundle_is_member(dir));
}
END_TEST

START_TEST(a_bundle_that_is_gone_is_nobodys_member)
{
	_cleanup_free_ char *group = bundle_group("/nonexistent", "c1");

	ck_assert_str_eq(group, "c1");
	ck_assert(!bundle_is_member("/nonexistent"));
}
END_TEST

START_TEST(a_bundle_has_a_config_or_what_containerd_puts_into_every_one)
{
	_cleanup_free_ char *log = str_printf("%s/log", dir), *work = str_printf("%s/work", dir);

	ck_assert(!bundle_exists(dir));
	/* A log, but not containerd's. */
	put("log", "");
	ck_assert(!bundle_exists(dir));
	ck_assert_int_eq(unlink(log), 0);
	ck_assert_int_eq(mkfifo(log, 0700), 0);
	ck_assert(bundle_exists(dir));
	ck_assert_int_eq(unlink(log), 0);
	ck_assert_int_eq(symlink("/nonexistent", work), 0);
	ck_assert(bundle_exists(dir));
	ck_assert_int_eq(unlink(work), 0);
	put("config.json", "{}");
	ck_assert(bundle_exists(dir));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("bundle");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, a_bundle_is_of_the_pod_that_its_annotations_name, 0,
			    ARRAY_SIZE(rows));
	tcase_add_test(t, the_file_sandbox_marks_a_member);
	tcase_add_test(t, a_bundle_that_is_gone_is_nobodys_member);
	tcase_add_test(t, a_bundle_has_a_config_or_what_containerd_puts_into_every_one);
	return run_case(t, "shim bundle");
}
