/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/block_volumes.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/json.h"

/* A host with the block devices 8:1, /dev/sda1, and 253:2, /dev/mapper/x. */
static char root[64];
static struct err err;
static bool may_mknod;

static void add_device(const char *name, const char *node, unsigned high, unsigned low)
{
	_cleanup_free_ char *link = str_printf("%s/sys/dev/block/%u:%u", root, high, low);
	_cleanup_free_ char *target = str_printf("../../devices/pci/block/%s", name);
	_cleanup_free_ char *path = str_printf("%s/dev/%s", root, node);

	ck_assert_int_eq(symlink(target, link), 0);
	may_mknod = mknod(path, S_IFBLK | 0600, makedev(high, low)) == 0;
}

static void setup(void)
{
	static const char *const dirs[] = { "sys/dev/block", "dev/mapper" };

	memset(&err, 0, sizeof(err));
	strcpy(root, "/tmp/lcow-block-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *path = str_printf("%s/%s", root, dirs[i]);

		ck_assert_int_eq(dir_make(path, 0755), 0);
	}
	add_device("sda1", "sda1", 8, 1);
	add_device("mapper!x", "mapper/x", 253, 2);
}

static void teardown(void)
{
	ck_assert_int_eq(dir_remove(root), 0);
}

#define DEVICE(path, type, major, minor) \
	"{\"path\":\"" path "\",\"type\":\"" type "\",\"major\":" major ",\"minor\":" minor "}"
#define RULE(type, major, minor, access) \
	"{\"allow\":true,\"type\":\"" type "\",\"major\":" major ",\"minor\":" minor \
	",\"access\":\"" access "\"}"
#define DENY "{\"allow\":false,\"access\":\"rwm\"}"

/* The mounts and the devices that are left; "" on failure. The caller frees it. */
static char *fit(const char *devices, const char *rules, const char *annotations, int expected)
{
	_cleanup_free_ char *text = str_printf("{\"annotations\":{%s},\"linux\":{\"devices\":[%s],"
					       "\"resources\":{\"devices\":[%s]}}}",
					       annotations, devices, rules);
	_cleanup_json_ struct json_object *spec = NULL, *host = NULL;

	ck_assert_msg(json_parse(text, strlen(text), &spec, &err) == 0, "%s", text);
	ck_assert_int_eq(json_parse(text, strlen(text), &host, &err), 0);
	ck_assert_msg(block_volumes_fit(host, spec, root, &err) == expected, "%s", err.text);

	struct json_object *mounts = json_get(spec, "mounts", NULL);
	_cleanup_free_ char *made = mounts ? json_text(mounts) : mem_strdup("[]");
	_cleanup_free_ char *left = json_text(json_get(spec, "linux", "devices", NULL));

	return str_printf("%s %s", made, left);
}

static char *mount_of(const char *node, const char *path, const char *options)
{
	return str_printf("{\"type\":\"physical-disk\",\"source\":\"%s/dev/%s\",\"destination\":"
			  "\"blockdev://%s\",\"options\":[%s]}",
			  root, node, path, options);
}

START_TEST(a_block_device_of_the_host_becomes_a_mount_of_it)
{
	_cleanup_free_ char *mount = mount_of("mapper/x", "/dev/xvda", "\"bind\"");
	_cleanup_free_ char *expected = str_printf("[%s] []", mount);
	_cleanup_free_ char *got = NULL;

	if (!may_mknod)
		return;
	got = fit(DEVICE("/dev/xvda", "b", "253", "2"), DENY "," RULE("b", "253", "2", "rwm"), "",
		  0);
	ck_assert_str_eq(got, expected);
}
END_TEST

static const char *const read_only[] = {
	"",
	DENY,
	DENY "," RULE("b", "8", "1", "r"),
	DENY "," RULE("b", "8", "2", "rwm"),
	DENY "," RULE("c", "8", "1", "rwm"),
	RULE("b", "8", "1", "rw") "," DENY,
	"null,3,{}",
};

START_TEST(it_is_read_only_where_no_rule_lets_one_write)
{
	_cleanup_free_ char *mount = mount_of("sda1", "/d", "\"bind\",\"ro\"");
	_cleanup_free_ char *expected = str_printf("[%s] []", mount);
	_cleanup_free_ char *got = NULL;

	if (!may_mknod)
		return;
	got = fit(DEVICE("/d", "b", "8", "1"), read_only[_i], "", 0);
	ck_assert_str_eq(got, expected);
}
END_TEST

static const char *const left[] = {
	DEVICE("/d", "c", "8", "1"),
	DEVICE("/d", "b", "8", "9"),
	"{\"path\":\"/d\",\"type\":\"b\",\"major\":8}",
	"{\"type\":\"b\",\"major\":8,\"minor\":1}",
	"{\"path\":\"/d\",\"type\":\"b\",\"major\":-8,\"minor\":1}",
	"null",
};

START_TEST(everything_else_is_left_to_the_guest)
{
	_cleanup_free_ char *expected = str_printf("[] [%s]", left[_i]);
	_cleanup_free_ char *got = fit(left[_i], "", "", 0);

	ck_assert_str_eq(got, expected);
}
END_TEST

START_TEST(a_privileged_container_s_are_all_of_the_host_s_and_not_meant)
{
	static const char device[] = DEVICE("/d", "b", "8", "1");
	_cleanup_free_ char *expected = str_printf("[] [%s]", device);
	_cleanup_free_ char *got =
		fit(device, "", "\"io.microsoft.virtualmachine.lcow.privileged\":\"true\"", 0);

	ck_assert_str_eq(got, expected);
}
END_TEST

START_TEST(a_node_that_is_another_device_is_an_error)
{
	_cleanup_free_ char *node = str_printf("%s/dev/sda1", root);
	_cleanup_free_ char *got = NULL;

	unlink(node);
	got = fit(DEVICE("/d", "b", "8", "1"), "", "", -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "linux.devices: /d: "));
	ck_assert_ptr_nonnull(strstr(err.text, "sda1 is not block device 8:1"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller block volumes");
	TCase *t = tcase_create("block volumes");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_block_device_of_the_host_becomes_a_mount_of_it);
	tcase_add_loop_test(t, it_is_read_only_where_no_rule_lets_one_write, 0,
			    ARRAY_SIZE(read_only));
	tcase_add_loop_test(t, everything_else_is_left_to_the_guest, 0, ARRAY_SIZE(left));
	tcase_add_test(t, a_privileged_container_s_are_all_of_the_host_s_and_not_meant);
	tcase_add_test(t, a_node_that_is_another_device_is_an_error);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
