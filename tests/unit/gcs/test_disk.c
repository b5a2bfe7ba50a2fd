/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/disk.h"

#include "tmpdir.h"

static unsigned char head[DISK_HEAD];

static void put(size_t at, const char *bytes, size_t n)
{
	memset(head, 0, sizeof(head));
	memcpy(head + at, bytes, n);
}

START_TEST(each_file_system_is_known_by_its_magic)
{
	put(1080, "\x53\xef", 2);
	ck_assert_str_eq(disk_filesystem(head, sizeof(head)), "ext4");
	put(1024, "\xe2\xe1\xf5\xe0", 4);
	ck_assert_str_eq(disk_filesystem(head, sizeof(head)), "erofs");
	put(0, "XFSB", 4);
	ck_assert_str_eq(disk_filesystem(head, sizeof(head)), "xfs");
	put(0, "hsqs", 4);
	ck_assert_str_eq(disk_filesystem(head, sizeof(head)), "squashfs");
}
END_TEST

START_TEST(a_blank_or_short_disk_holds_nothing)
{
	put(0, "", 1);
	ck_assert_ptr_null(disk_filesystem(head, sizeof(head)));
	put(1080, "\x53\xef", 2);
	ck_assert_ptr_null(disk_filesystem(head, 1081));
	ck_assert_ptr_null(disk_filesystem(head, 0));
}
END_TEST

TMPDIR_MAIN("gcs disk", each_file_system_is_known_by_its_magic, a_blank_or_short_disk_holds_nothing)
