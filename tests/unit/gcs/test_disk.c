/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/disk.h"

#include "fakedm.h"
#include "gcs/agent.h"
#include "tmpdir.h"
#include "wire/gcs.h"

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

/* ---- requests ---- */

static struct agent a;
static char ext4[] = "ext4", unknown[] = "ext5", path[] = "/run/m", digest[] = "abc";
static struct gcs_verity whole = { .superblock = true, .root_digest = digest },
			 headless = { .root_digest = digest };

static const struct {
	struct gcs_mapped_disk d;
	const char *text;
} bad[] = {
	{ { .mount_path = path, .encrypted = true, .filesystem = ext4 }, "EnsureFilesystem" },
	{ { .mount_path = path,
	    .encrypted = true,
	    .filesystem = ext4,
	    .ensure_filesystem = true,
	    .read_only = true },
	  "must be mounted, writable" },
	{ { .mount_path = path,
	    .encrypted = true,
	    .filesystem = ext4,
	    .ensure_filesystem = true,
	    .block_dev = true },
	  "must be mounted, writable" },
	{ { .encrypted = true, .filesystem = ext4, .ensure_filesystem = true },
	  "must be mounted, writable" },
	{ { .mount_path = path, .encrypted = true, .ensure_filesystem = true }, "none is named" },
	{ { .mount_path = path, .ensure_filesystem = true }, "none is named" },
	{ { .mount_path = path, .filesystem = unknown }, "unsupported filesystem ext5" },
	{ { .mount_path = path, .verity = &whole }, "read-only, with SuperBlock" },
	{ { .mount_path = path, .verity = &headless, .read_only = true },
	  "read-only, with SuperBlock" },
	{ { .verity = &whole, .read_only = true }, "must be mounted" },
	{ { .mount_path = path, .verity = &whole, .read_only = true, .block_dev = true },
	  "must be mounted" },
};

static int row;

static CO void add_bad(void)
{
	ck_assert_int_eq(disk_add(&a, &bad[row].d, &err), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, bad[row].text), "%s", err.text);
	ck_assert_str_eq(called(), "");
}

START_TEST(what_cannot_be_asked_of_a_disk_is_refused_before_it_is_looked_for)
{
	for (row = 0; row < (int)ARRAY_SIZE(bad); row++)
		run_with_dm(add_bad);
}
END_TEST

/* As hcsshim's host asks, which does not say that the disk is encrypted. */
static CO void remove_it(void)
{
	const struct dm_target t = { .name = "c", .type = "crypt", .params = "", .sectors = 8 };
	_cleanup_free_ char *where = str_printf("%s/m", tmpdir), *node = NULL;
	const struct gcs_mapped_disk d = { .mount_path = where },
				     device = { .mount_path = where, .block_dev = true };

	a.dm = dm;
	ck_assert_int_eq(dm_open(dm, where, &t, &node, &err), 0);
	called();
	ck_assert_int_eq(disk_remove(&a, &device, &err), 0);
	ck_assert_str_eq(called(), "");
	fail_calls(1, 1, -EIO);
	ck_assert_int_eq(disk_remove(&a, &d, &err), -EIO);
	ck_assert_str_eq(called(), "remove c;");
	ck_assert_int_eq(disk_remove(&a, &d, &err), 0);
	ck_assert_str_eq(called(), "remove c;no node c;");
	ck_assert_int_eq(disk_remove(&a, &d, &err), 0);
	ck_assert_str_eq(called(), "");
}

START_TEST(a_mount_s_device_is_closed_with_it_and_a_failure_can_be_repeated)
{
	run_with_dm(remove_it);
}
END_TEST

TMPDIR_MAIN("gcs disk", each_file_system_is_known_by_its_magic, a_blank_or_short_disk_holds_nothing,
	    a_file_system_says_how_large_it_is, a_size_that_cannot_be_is_none,
	    what_cannot_be_asked_of_a_disk_is_refused_before_it_is_looked_for,
	    a_mount_s_device_is_closed_with_it_and_a_failure_can_be_repeated)
