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

static void number(size_t at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		head[at + i] = (unsigned char)(value >> 8 * i);
}

START_TEST(a_file_system_says_how_large_it_is)
{
	put(1080, "\x53\xef", 2);
	number(1024 + 4, 1000, 4);
	number(1024 + 24, 2, 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 4096000);
	/* The upper half counts with the feature 64bit only. */
	number(1024 + 336, 1, 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 4096000);
	number(1024 + 96, 0x80, 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), ((1ull << 32) + 1000) << 12);
	put(1024, "\xe2\xe1\xf5\xe0", 4);
	head[1024 + 12] = 12;
	number(1024 + 36, 77, 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 77 << 12);
	put(0, "hsqs", 4);
	number(40, 1234567890123, 8);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 1234567890123);
}
END_TEST

START_TEST(a_size_that_cannot_be_is_none)
{
	put(1080, "\x53\xef", 2);
	number(1024 + 4, 1000, 4);
	number(1024 + 24, 7, 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 0);
	number(1024 + 24, UINT32_MAX, 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 0);
	put(1024, "\xe2\xe1\xf5\xe0", 4);
	head[1024 + 12] = 17;
	number(1024 + 36, 77, 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 0);
	put(0, "XFSB", 4);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 0);
	put(0, "", 1);
	ck_assert_uint_eq(disk_filesystem_size(head, sizeof(head)), 0);
	put(0, "hsqs", 4);
	ck_assert_uint_eq(disk_filesystem_size(head, DISK_HEAD - 1), 0);
}
END_TEST

TMPDIR_MAIN("gcs disk", each_file_system_is_known_by_its_magic, a_blank_or_short_disk_holds_nothing,
	    a_file_system_says_how_large_it_is, a_size_that_cannot_be_is_none)
