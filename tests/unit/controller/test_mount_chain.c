/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/mount_chain.h"

#include <check.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/container.h"

static char points_text[3][4] = { "/m0", "/m1", "/m2" };
static char *const points[] = { points_text[0], points_text[1], points_text[2] };
static const struct rootfs_mount mounts[] = { { .source = "/a.img", .target = "/t0" },
					      { .source = "/b.img" },
					      { .source = "/c.img" } };
static struct err err;

static const struct {
	const char *type, *real;
	int bits;
} types[] = {
	{ "erofs", "erofs", 0 },
	{ "format/mkdir/overlay", "overlay", CHAIN_FORMAT | CHAIN_MKDIR },
	{ "mkdir/format/bind", "bind", CHAIN_FORMAT | CHAIN_MKDIR },
	{ "mkfs/format/mkfs/ext4", "ext4", CHAIN_FORMAT | CHAIN_MKFS },
};

START_TEST(prefixes_are_peeled_in_any_order_and_number)
{
	const char *real = NULL;

	ck_assert_int_eq(chain_type(types[_i].type, &real, &err), types[_i].bits);
	ck_assert_str_eq(real, types[_i].real);
}
END_TEST

static const char *const bad_types[] = { NULL, "", "format/", "other/overlay",
					 "format/other/bind" };

START_TEST(an_unknown_prefix_or_an_absent_type_is_refused)
{
	const char *real = NULL;

	ck_assert_int_eq(chain_type(bad_types[_i], &real, &err), -ERR_INVALID);
	ck_assert_ptr_null(real);
}
END_TEST

static const struct {
	const char *text, *expanded;
} templates[] = {
	{ "plain", "plain" },
	{ "", "" },
	{ "{{ mount 0 }}/upper", "/m0/upper" },
	{ "{{mount 1}}:{{  mount\t2  }}", "/m1:/m2" },
	{ "{{ source 1 }}", "/b.img" },
	{ "{{ target 0 }}x{{ target 1 }}", "/t0x" },
	{ "lowerdir={{ overlay 0 2 }}", "lowerdir=/m0:/m1:/m2" },
	{ "lowerdir={{ overlay 2 0 }}", "lowerdir=/m2:/m1:/m0" },
	{ "{{ overlay 1 1 }}", "/m1" },
	{ "}} alone", "}} alone" },
};

START_TEST(templates_name_earlier_mounts)
{
	_cleanup_free_ char *text = NULL;

	ck_assert_int_eq(chain_expand(templates[_i].text, mounts, points, 3, &text, &err), 0);
	ck_assert_str_eq(text, templates[_i].expanded);
}
END_TEST

static const char *const bad_templates[] = {
	"{{ mount 3 }}",     "{{ overlay 0 3 }}",
	"{{ overlay 3 0 }}", "{{ mount }}",
	"{{ mount -1 }}",    "{{ mount x }}",
	"{{ mount 0",        "{{ }}",
	"{{ overlay 0 }}",   "{{ other 0 }}",
	"{{ mount 0 1 }}",   "{{ mount 99999999999999999999 }}",
};

START_TEST(a_template_that_says_nothing_is_refused)
{
	char *text = NULL;

	ck_assert_int_eq(chain_expand(bad_templates[_i], mounts, points, 3, &text, &err),
			 -ERR_INVALID);
	ck_assert_ptr_null(text);
}
END_TEST

static const struct {
	const char *value;
	struct chain_dir dir;
} dirs[] = {
	{ "/m0/upper", { .mode = 0700 } },
	{ "/m0/upper:0755", { .mode = 0755 } },
	{ "/m0/upper:1777:5:6", { .mode = 01777, .uid = 5, .gid = 6 } },
};

START_TEST(a_directory_has_a_path_and_may_have_a_mode_and_an_owner)
{
	struct chain_dir d = { 0 };

	ck_assert_int_eq(chain_dir_parse(dirs[_i].value, &d, &err), 0);
	ck_assert_str_eq(d.path, "/m0/upper");
	ck_assert_uint_eq(d.mode, dirs[_i].dir.mode);
	ck_assert_uint_eq(d.uid, dirs[_i].dir.uid);
	ck_assert_uint_eq(d.gid, dirs[_i].dir.gid);
	free(d.path);
}
END_TEST

static const char *const bad_dirs[] = {
	"",          ":0755",         "/a:",        "/a:8",      "/a:10000",
	"/a:0755:1", "/a:0755:1:2:3", "/a:0755::2", "/a:07:x:1", "/a:07:1:99999999999",
	"/a:123456"
};

START_TEST(another_number_of_parts_or_a_bad_number_is_refused)
{
	struct chain_dir d = { 0 };

	ck_assert_int_eq(chain_dir_parse(bad_dirs[_i], &d, &err), -ERR_INVALID);
	ck_assert_ptr_null(d.path);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller mount_chain");
	TCase *t = tcase_create("mount_chain");

	tcase_add_loop_test(t, prefixes_are_peeled_in_any_order_and_number, 0, ARRAY_SIZE(types));
	tcase_add_loop_test(t, an_unknown_prefix_or_an_absent_type_is_refused, 0,
			    ARRAY_SIZE(bad_types));
	tcase_add_loop_test(t, templates_name_earlier_mounts, 0, ARRAY_SIZE(templates));
	tcase_add_loop_test(t, a_template_that_says_nothing_is_refused, 0,
			    ARRAY_SIZE(bad_templates));
	tcase_add_loop_test(t, a_directory_has_a_path_and_may_have_a_mode_and_an_owner, 0,
			    ARRAY_SIZE(dirs));
	tcase_add_loop_test(t, another_number_of_parts_or_a_bad_number_is_refused, 0,
			    ARRAY_SIZE(bad_dirs));
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
