/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/module.h"

#include "base/err.h"
#include "tmpdir.h"

static struct err err;

static char **order(const char *name, int expected)
{
	struct modules *m = modules_open(tmpdir);
	char **list = NULL;

	ck_assert_int_eq(modules_order(m, name, &list, &err), expected);
	modules_free(m);
	return list;
}

START_TEST(dependencies_come_first_in_the_reverse_order_of_the_file)
{
	tmpdir_write("modules.dep",
		     "kernel/a/virtio.ko:\n"
		     "kernel/a/virtio_console.ko: kernel/a/virtio.ko kernel/a/virtio_ring.ko\n");
	_cleanup_strv_ char **list = order("virtio_console", 0);
	_cleanup_free_ char *text = strv_join(list, " ");

	ck_assert_str_eq(text,
			 "kernel/a/virtio_ring.ko kernel/a/virtio.ko kernel/a/virtio_console.ko");
}
END_TEST

START_TEST(dashes_and_underscores_are_the_same)
{
	tmpdir_write("modules.dep", "kernel/block/t10-pi.ko:\n");
	_cleanup_strv_ char **list = order("t10_pi", 0);

	ck_assert_uint_eq(strv_len(list), 1);
}
END_TEST

START_TEST(a_longer_name_is_another_module)
{
	tmpdir_write("modules.dep", "kernel/net/9p/9pnet_virtio.ko:\nkernel/net/9p/9pnet.ko:\n");
	_cleanup_strv_ char **list = order("9pnet", 0);

	ck_assert_str_eq(list[0], "kernel/net/9p/9pnet.ko");
}
END_TEST

START_TEST(a_module_that_is_built_in_needs_nothing)
{
	tmpdir_write("modules.dep", "");
	tmpdir_write("modules.builtin", "kernel/fs/ext4/ext4.ko\n");
	ck_assert_ptr_null(order("ext4", 0));
}
END_TEST

START_TEST(an_unknown_module_is_named)
{
	tmpdir_write("modules.dep", "kernel/a/b.ko:\n");
	order("nope", -ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.text, "nope"));
}
END_TEST

START_TEST(a_missing_index_is_named)
{
	order("nope", -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "modules.dep"));
}
END_TEST

START_TEST(a_module_is_found_by_the_alias_of_its_device)
{
	tmpdir_write("modules.alias", "# Aliases\n"
				      "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n"
				      "alias pci:v*d*sv*sd*bc01sc08i02* nvme\n");
	struct modules *m = modules_open(tmpdir), *none = modules_open("/nonexistent");
	_cleanup_free_ char *found =
		modules_by_alias(m, "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02");

	ck_assert_str_eq(found, "nvme");
	ck_assert_ptr_null(
		modules_by_alias(m, "pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00"));
	ck_assert_ptr_null(modules_by_alias(m, ""));
	ck_assert_ptr_null(modules_by_alias(none, "pci:v"));
	modules_free(m);
	modules_free(none);
}
END_TEST

TMPDIR_MAIN("gcs module", dependencies_come_first_in_the_reverse_order_of_the_file,
	    dashes_and_underscores_are_the_same, a_longer_name_is_another_module,
	    a_module_that_is_built_in_needs_nothing, an_unknown_module_is_named,
	    a_missing_index_is_named, a_module_is_found_by_the_alias_of_its_device)
