/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/crypt.h"

#include <unistd.h>

#include "fakedm.h"
#include "gcs/agent.h"
#include "gcs/module.h"
#include "gcs/verity.h"
#include "tmpdir.h"

enum { KEY_HEX = 128 };

static struct agent a;
static char *device;

static void setup(void)
{
	tmpdir_setup();
	tmpdir_write("modules/modules.dep", "");
	tmpdir_write("modules/modules.builtin",
		     "kernel/md/dm-crypt.ko\nkernel/md/dm-verity.ko\nkernel/crypto/xts.ko\n"
		     "kernel/crypto/ecb.ko\nkernel/x86/aesni-intel.ko\n");
	tmpdir_write("disk", "some bytes");
	device = str_printf("%s/disk", tmpdir);
	/* The last 1000 bytes are no whole sector. */
	ck_assert_int_eq(truncate(device, 5 * 4096 + 1000), 0);
}

static void teardown(void)
{
	free(device);
	tmpdir_teardown();
}

static void open_modules(void)
{
	_cleanup_free_ char *dir = str_printf("%s/modules", tmpdir);

	memset(&a, 0, sizeof(a));
	a.modules = modules_open(dir);
	a.dm = dm;
}

static CO int open_it(const char *owner, const char *name, char key[KEY_HEX + 1])
{
	static const char before[] = "crypt aes-xts-plain64 ";
	_cleanup_free_ char *node = NULL, *after = str_printf(" 0 %s 0 1 sector_size:4096", device);
	int r = crypt_open(&a, owner, name, device, &node, &err);

	if (r < 0)
		return r;
	ck_assert_msg(str_starts(table, before), "%s", table);
	ck_assert_str_eq(table + strlen(before) + KEY_HEX, after);
	memcpy(key, table + strlen(before), KEY_HEX);
	key[KEY_HEX] = '\0';
	ck_assert_uint_eq(strspn(key, "0123456789abcdef"), KEY_HEX);
	ck_assert_uint_eq(flags, DM_SECURE_DATA_FLAG);
	ck_assert_uint_eq(sectors, 5 * 8);
	return 0;
}

static CO void two_keys(void)
{
	char one[KEY_HEX + 1], two[KEY_HEX + 1];

	open_modules();
	ck_assert_msg(open_it("/m", "c1", one) == 0, "%s", err.text);
	ck_assert_msg(open_it("/n", "c2", two) == 0, "%s", err.text);
	ck_assert_str_ne(one, two);
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_int_eq(dm_close(dm, "/n", &err), 0);
	a.modules = modules_free(a.modules);
}

START_TEST(each_device_has_a_key_of_its_own_and_sectors_of_a_page)
{
	run_with_dm(two_keys);
}
END_TEST

static CO void failing(void)
{
	char key[KEY_HEX + 1];

	open_modules();
	fail_calls(2, 1, -EINVAL);
	ck_assert_int_eq(open_it("/m", "c1", key), -EINVAL);
	ck_assert_ptr_null(strstr(err.text, "xts"));
	called();
	ck_assert_int_eq(unlink(device), 0);
	ck_assert_int_eq(open_it("/m", "c1", key), -ENOENT);
	ck_assert_str_eq(called(), "");
	a.modules = modules_free(a.modules);
}

START_TEST(a_failure_leaves_no_device_and_tells_no_key)
{
	run_with_dm(failing);
}
END_TEST

static CO void no_module(void)
{
	char key[KEY_HEX + 1];

	tmpdir_write("modules/modules.builtin", "kernel/crypto/xts.ko\n");
	open_modules();
	if (open_it("/m", "c1", key) == 0)
		return; /* this kernel has it loaded */
	ck_assert_ptr_nonnull(strstr(err.text, "kernel module dm_crypt is not in"));
	ck_assert_str_eq(called(), "");
	a.modules = modules_free(a.modules);
}

START_TEST(an_image_without_the_module_is_told_so)
{
	run_with_dm(no_module);
}
END_TEST

static CO void verity(void)
{
	const struct verity v = { .data_blocks = 7,
				  .data_block_size = 1024,
				  .hash_block_size = 4096,
				  .hash_start = 3,
				  .root_digest = "abc" };
	_cleanup_free_ char *node = NULL;

	open_modules();
	ck_assert_int_eq(verity_open(&a, "/m", "v", "/dev/sdx", &v, &node, &err), 0);
	ck_assert_str_eq(node, "/dev/mapper/v-abc");
	ck_assert_str_eq(table, "verity 1 /dev/sdx /dev/sdx 1024 4096 7 3 sha256 abc -");
	ck_assert_uint_eq(flags, DM_READONLY_FLAG);
	ck_assert_uint_eq(sectors, 14);
	a.modules = modules_free(a.modules);
}

START_TEST(a_verity_device_is_as_large_as_its_data)
{
	run_with_dm(verity);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gcs crypt");
	TCase *t = tcase_create("crypt");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, each_device_has_a_key_of_its_own_and_sectors_of_a_page);
	tcase_add_test(t, a_failure_leaves_no_device_and_tells_no_key);
	tcase_add_test(t, an_image_without_the_module_is_told_so);
	tcase_add_test(t, a_verity_device_is_as_large_as_its_data);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed > 0;
}
