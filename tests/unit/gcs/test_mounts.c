/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/mounts.h"

#include "tmpdir.h"

START_TEST(only_clean_absolute_paths_are_valid)
{
	static const char *const bad[] = { NULL, "", "/", "//", "a", "/a/../b", "/..", "/a/.." };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert(!mount_path_valid(bad[i]));
	ck_assert(mount_path_valid("/run/mounts/scsi/0_1_0"));
	ck_assert(mount_path_valid("/a..b/c"));
}
END_TEST

START_TEST(a_path_longer_than_the_kernel_takes_is_not)
{
	_cleanup_free_ char *path = mem_new0(1, 5000);

	memset(path, 'a', 4096);
	path[0] = '/';
	ck_assert(!mount_path_valid(path));
}
END_TEST

TMPDIR_MAIN("gcs mounts", only_clean_absolute_paths_are_valid,
	    a_path_longer_than_the_kernel_takes_is_not)
