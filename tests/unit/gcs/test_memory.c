/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/err.h"
#include "gcs/cgroup.h"
#include "tmpdir.h"

#define MIB (1ull << 20)

START_TEST(the_reserve_grows_with_the_VM_up_to_that_of_hcsshim)
{
	ck_assert(memory_reserve(16 * MIB) == 8 * MIB);
	ck_assert(memory_reserve(128 * MIB) == 20 * MIB);
	ck_assert(memory_reserve(1024 * MIB) == 48 * MIB);
	ck_assert(memory_reserve(4096 * MIB) == 75 * MIB);
	ck_assert(memory_reserve(MIB * MIB) == 75 * MIB);
}
END_TEST

START_TEST(the_limit_is_what_is_not_reserved)
{
	tmpdir_write("memory.max", "max\n");
	ck_assert_int_eq(memory_limit(tmpdir, 1024 * MIB + 4095, NULL), 0);
	ck_assert(cgroup_number(tmpdir, "memory.max") == 976 * MIB);
	/* More, and less again. */
	ck_assert_int_eq(memory_limit(tmpdir, 4096 * MIB, NULL), 0);
	ck_assert(cgroup_number(tmpdir, "memory.max") == 4021 * MIB);
	ck_assert_int_eq(memory_limit(tmpdir, 1024 * MIB, NULL), 0);
	ck_assert(cgroup_number(tmpdir, "memory.max") == 976 * MIB);
}
END_TEST

START_TEST(a_limit_that_is_right_is_not_written)
{
	_cleanup_free_ char *path = str_printf("%s/memory.max", tmpdir);
	const struct timespec long_ago[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct stat st;

	tmpdir_write("memory.max", "1023410176\n");
	ck_assert_int_eq(utimensat(AT_FDCWD, path, long_ago, 0), 0);
	ck_assert_int_eq(memory_limit(tmpdir, 1024 * MIB, NULL), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert(st.st_mtim.tv_sec == 1);
}
END_TEST

START_TEST(a_limit_that_cannot_be_set_is_an_error)
{
	static struct err err;

	ck_assert_int_eq(memory_limit(tmpdir, 1024 * MIB, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "memory.max"));
}
END_TEST

TMPDIR_MAIN("gcs memory", the_reserve_grows_with_the_VM_up_to_that_of_hcsshim,
	    the_limit_is_what_is_not_reserved, a_limit_that_is_right_is_not_written,
	    a_limit_that_cannot_be_set_is_an_error)
