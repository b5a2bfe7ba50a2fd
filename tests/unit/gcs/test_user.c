/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/user.h"

#include <unistd.h>

#include "base/err.h"
#include "tmpdir.h"

static struct err err;
static uint32_t uid, gid;

static int resolve(const char *user)
{
	tmpdir_write("etc/passwd", "root:x:0:0::/:/bin/sh\ngames:x:5:60::/:/bin/"
				   "sh\ntwin:x:7:7:::\ntwin:x:8:8:::\nbroken\n");
	tmpdir_write("etc/group", "root:x:0:\nstaff:x:50:games\n");
	uid = gid = 4711;
	return user_resolve(tmpdir, user, &uid, &gid, &err);
}

START_TEST(a_name_gives_the_uid_and_gid_of_its_entry)
{
	ck_assert_int_eq(resolve("games"), 0);
	ck_assert_uint_eq(uid, 5);
	ck_assert_uint_eq(gid, 60);
}
END_TEST

START_TEST(a_number_with_an_entry_has_the_group_of_the_entry)
{
	ck_assert_int_eq(resolve("5"), 0);
	ck_assert_uint_eq(uid, 5);
	ck_assert_uint_eq(gid, 60);
}
END_TEST

START_TEST(a_number_without_an_entry_has_group_0)
{
	ck_assert_int_eq(resolve("12345"), 0);
	ck_assert_uint_eq(uid, 12345);
	ck_assert_uint_eq(gid, 0);
}
END_TEST

START_TEST(a_group_may_be_a_name_or_a_number)
{
	ck_assert_int_eq(resolve("games:staff"), 0);
	ck_assert_uint_eq(gid, 50);
	ck_assert_int_eq(resolve("games:99"), 0);
	ck_assert_uint_eq(gid, 99);
}
END_TEST

START_TEST(an_unknown_name_is_not_found_and_named)
{
	ck_assert_int_eq(resolve("nobody"), -ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.text, "nobody"));
	ck_assert_int_eq(resolve("games:nogroup"), -ERR_NOT_FOUND);
	ck_assert_uint_eq(uid, 4711);
}
END_TEST

START_TEST(a_name_with_two_entries_is_refused)
{
	ck_assert_int_eq(resolve("twin"), -ERR_INVALID);
}
END_TEST

START_TEST(malformed_strings_are_refused)
{
	static const char *const bad[] = { "a:b:c", ":",          "root:",
					   ":root", "4294967296", "root:4294967296" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(resolve(bad[i]), -ERR_INVALID);
}
END_TEST

START_TEST(a_symlinked_etc_stays_within_the_root)
{
	_cleanup_free_ char *link = str_printf("%s/rootfs/etc", tmpdir);

	tmpdir_write("rootfs/real/passwd", "inner:x:42:43:::\n");
	tmpdir_write("real/passwd", "inner:x:1:1:::\n");
	ck_assert_int_eq(symlink("../../real", link), 0);
	_cleanup_free_ char *root = str_printf("%s/rootfs", tmpdir);
	ck_assert_int_eq(user_resolve(root, "inner", &uid, &gid, &err), 0);
	ck_assert_uint_eq(uid, 42);
}
END_TEST

START_TEST(a_root_without_passwd_knows_numbers_only)
{
	ck_assert_int_eq(user_resolve(tmpdir, "1000:1000", &uid, &gid, &err), 0);
	ck_assert_uint_eq(uid, 1000);
	ck_assert_uint_eq(gid, 1000);
	ck_assert_int_eq(user_resolve(tmpdir, "root", &uid, &gid, &err), -ERR_NOT_FOUND);
}
END_TEST

static void check_groups(const char *user, const char *expected)
{
	_cleanup_buf_ struct buf text = { 0 };
	_cleanup_free_ uint32_t *gids = NULL;
	size_t n = 99;

	ck_assert_int_eq(user_groups(tmpdir, user, &gids, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		buf_addf(&text, "%u ", gids[i]);
	buf_add(&text, "", 1);
	ck_assert_str_eq((char *)text.data, expected);
}

START_TEST(groups_that_name_the_user_are_found)
{
	tmpdir_write("etc/passwd", "joe:x:1000:1000::/:/bin/sh\n:x:1001:1:::\n");
	tmpdir_write("etc/group", "joe:x:1000:\naudio:x:29:joe\nvideo:x:44:bob,joe\njoey:x:45:joey,"
				  "ajoe\nbad:x:none:joe\nshort:x:46\nlast:x:47:joe,bob\n");
	check_groups("joe", "29 44 47 ");
	check_groups("1000", "29 44 47 ");
	check_groups("bob", "44 47 ");
	/* A group that is asked for is the only one. */
	check_groups("joe:audio", "");
	check_groups("1001", "");
	check_groups("4711", "");
}
END_TEST

START_TEST(without_a_group_file_there_are_no_groups)
{
	check_groups("joe", "");
	check_groups("0", "");
}
END_TEST

TMPDIR_MAIN("gcs user", groups_that_name_the_user_are_found,
	    without_a_group_file_there_are_no_groups, a_name_gives_the_uid_and_gid_of_its_entry,
	    a_number_with_an_entry_has_the_group_of_the_entry,
	    a_number_without_an_entry_has_group_0, a_group_may_be_a_name_or_a_number,
	    an_unknown_name_is_not_found_and_named, a_name_with_two_entries_is_refused,
	    malformed_strings_are_refused, a_symlinked_etc_stays_within_the_root,
	    a_root_without_passwd_knows_numbers_only)
