/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/mounts.h"

#include <json-c/json.h>

#include "controller/fakevm.h"
#include "wire/json.h"

static struct json_object *spec;
static char **ids, **socket_ids, **disk_ids;
static struct err err;

static void setup(void)
{
	fake_vm_init();
	memset(&err, 0, sizeof(err));
	ids = socket_ids = disk_ids = NULL;
}

static CO void release(void *arg)
{
	for (char **id = ids; id && *id; id++)
		ck_assert_int_eq(share_unmap(vm.env.shares, *id, NULL), 0);
	for (char **id = socket_ids; id && *id; id++)
		ck_assert_int_eq(socket_unmap(vm.env.sockets, *id, NULL), 0);
	for (char **id = disk_ids; id && *id; id++)
		ck_assert_int_eq(scsi_unmap(vm.env.scsi, *id, NULL), 0);
}

/* What was reserved is in the list, whatever became of it. */
static void teardown(void)
{
	in_coroutine(release, NULL);
	fake_nothing_reserved();
	strv_free(ids);
	strv_free(socket_ids);
	strv_free(disk_ids);
	json_put(spec);
	fake_vm_free();
}

static CO void map(void *arg)
{
	*(int *)arg = mounts_map(&vm.env, spec, &ids, &socket_ids, &disk_ids, &err);
}

/* $ in the entries is the fixture's directory. */
static int map_entries(const char *entries)
{
	char text[2048];
	struct buf b = { 0 };
	int result = 1;

	buf_addf(&b, "{\"mounts\":[");
	for (const char *p = entries; *p; p++) {
		if (*p == '$')
			buf_addf(&b, "%s", vm.dir);
		else
			buf_add(&b, p, 1);
	}
	buf_addf(&b, "]}");
	snprintf(text, sizeof(text), "%.*s", (int)b.len, (char *)b.data);
	buf_free(&b);
	ck_assert_msg(json_parse(text, strlen(text), &spec, &err) == 0, "%s", text);
	in_coroutine(map, &result);
	return result;
}

static const char *source_of(size_t n)
{
	return json_get_str(json_object_array_get_idx(json_get(spec, "mounts", NULL), n), "source");
}

START_TEST(a_directory_is_shared_and_its_source_becomes_the_guest_s)
{
	ck_assert_int_eq(map_entries("{\"destination\":\"/v\",\"type\":\"bind\",\"source\":\"$/"
				     "volume\",\"options\":[\"rbind\"]}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), "share 0 volume rw;mount 0;");
	ck_assert_str_eq(source_of(0), "/run/mounts/plan9/0");
}
END_TEST

START_TEST(a_file_is_shared_alone_and_its_name_joined)
{
	_cleanup_free_ char *calls =
		str_printf("share 0 file of %s ro;mount 0;", strrchr(vm.dir, '/') + 1);

	ck_assert_int_eq(map_entries("{\"destination\":\"/f\",\"source\":\"$/"
				     "file\",\"options\":[\"bind\",\"RO\"]}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), calls);
	ck_assert_str_eq(source_of(0), "/run/mounts/plan9/0/file");
}
END_TEST

START_TEST(what_is_read_only_with_all_below_it_is_so_on_the_host)
{
	ck_assert_int_eq(map_entries("{\"destination\":\"/v\",\"type\":\"bind\",\"source\":\"$/"
				     "volume\",\"options\":[\"rbind\",\"rro\",\"rslave\"]},"
				     "{\"destination\":\"/d\",\"type\":\"virtual-disk\",\"source\":"
				     "\"$/file\",\"options\":[\"rro\"]}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f),
			 "share 0 volume ro;mount 0;attach 0:0 file ro;mount 0:0 ro;");
}
END_TEST

START_TEST(two_files_of_one_directory_are_two_shares_and_the_same_twice_is_one)
{
	fake_file("other", "y");
	ck_assert_int_eq(
		map_entries("{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"$/file\"},"
			    "{\"destination\":\"/b\",\"type\":\"bind\",\"source\":\"$/other\"},"
			    "{\"destination\":\"/c\",\"type\":\"bind\",\"source\":\"$/file\"},"
			    "{\"destination\":\"/d\",\"type\":\"bind\",\"source\":\"$/"
			    "file\",\"options\":[\"ro\"]}"),
		0);
	ck_assert_uint_eq(shares_in_use(vm.env.shares), 3);
	ck_assert_uint_eq(strv_len(ids), 4);
	ck_assert_str_eq(source_of(0), source_of(2));
	ck_assert_str_ne(source_of(0), source_of(3));
}
END_TEST

START_TEST(a_unix_socket_is_relayed_and_not_shared)
{
	_cleanup_free_ char *path = str_printf("%s/sock", vm.dir);

	fake_unix_socket(path);
	ck_assert_int_eq(map_entries(
				 "{\"destination\":\"/s\",\"type\":\"uds\",\"source\":\"$/sock\"},"
				 "{\"destination\":\"/t\",\"type\":\"bind\",\"source\":\"$/sock\","
				 "\"options\":[\"rbind\",\"ro\"]}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), "open;listen /run/mounts/uds/0/socket 1000 640;"
					    "open;listen /run/mounts/uds/1/socket 1001 640;");
	ck_assert_str_eq(source_of(0), "/run/mounts/uds/0/socket");
	ck_assert_str_eq(source_of(1), "/run/mounts/uds/1/socket");
	ck_assert_ptr_null(ids);
	ck_assert_uint_eq(strv_len(socket_ids), 2);
}
END_TEST

START_TEST(a_disk_is_attached_and_mounted_in_the_guest_and_bound)
{
	static const char *const types[] = { "virtual-disk", "physical-disk" };
	_cleanup_free_ char *entry =
		str_printf("{\"destination\":\"/d\",\"type\":\"%s\",\"source\":\"$/file\"}",
			   types[_i]);
	struct json_object *mount;

	ck_assert_int_eq(map_entries(entry), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "attach 0:0 file rw;mount 0:0;");
	ck_assert_str_eq(source_of(0), "/run/mounts/scsi/0_0_0");
	mount = json_object_array_get_idx(json_get(spec, "mounts", NULL), 0);
	ck_assert_str_eq(json_get_str(mount, "type"), "bind");
	ck_assert_str_eq(json_object_get_string(json_get(mount, "options", NULL)), "[ \"rbind\" ]");
	ck_assert_uint_eq(strv_len(disk_ids), 1);
}
END_TEST

START_TEST(a_disk_mounted_twice_is_attached_once)
{
	ck_assert_int_eq(map_entries("{\"destination\":\"/d\",\"type\":\"virtual-disk\","
				     "\"source\":\"$/file\",\"options\":[\"bind\",\"ro\"]},"
				     "{\"destination\":\"/e\",\"type\":\"virtual-disk\","
				     "\"source\":\"$/file\",\"options\":[\"RO\"]}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), "attach 0:0 file ro;mount 0:0 ro;");
	ck_assert_str_eq(source_of(0), source_of(1));
	ck_assert_uint_eq(strv_len(disk_ids), 2);
}
END_TEST

START_TEST(a_disk_can_be_the_container_s_itself)
{
	struct json_object *mount;

	ck_assert_int_eq(map_entries("{\"destination\":\"blockdev:///dev/x\",\"options\":[\"ro\"],"
				     "\"type\":\"virtual-disk\",\"source\":\"$/file\"}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), "attach 0:0 file ro;mount 0:0 ro blockdev;");
	ck_assert_str_eq(source_of(0), "/run/mounts/scsi/0_0_0");
	mount = json_object_array_get_idx(json_get(spec, "mounts", NULL), 0);
	ck_assert_str_eq(json_get_str(mount, "type"), "bind");
	ck_assert_str_eq(json_get_str(mount, "destination"), "blockdev:///dev/x");
}
END_TEST

/* _i is the call that fails: the disk's attachment or its mount. */
START_TEST(a_disk_that_fails_stays_in_the_list)
{
	vm.f.fail_at = (unsigned)_i + 1;
	ck_assert_int_eq(map_entries("{\"destination\":\"/d\",\"type\":\"virtual-disk\","
				     "\"source\":\"$/file\"}"),
			 -EIO);
	ck_assert_uint_eq(strv_len(disk_ids), 1);
	ck_assert_ptr_nonnull(strstr(err.text, "mount /d"));
}
END_TEST

#define THREE_DISKS \
	"{\"destination\":\"/d\",\"type\":\"virtual-disk\",\"source\":\"$/file\"}," \
	"{\"destination\":\"blockdev:///e\",\"type\":\"virtual-disk\",\"source\":\"$/two\"}," \
	"{\"destination\":\"/f\",\"type\":\"virtual-disk\",\"source\":\"$/three\"}"

static void three_disks(void)
{
	fake_file("two", "y");
	fake_file("three", "z");
}

START_TEST(disks_come_one_after_the_other)
{
	three_disks();
	ck_assert_int_eq(map_entries(THREE_DISKS), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "attach 0:0 file rw;mount 0:0;"
					    "attach 0:1 two rw;mount 0:1 blockdev;"
					    "attach 0:2 three rw;mount 0:2;");
	for (size_t i = 0; i < 3; i++) {
		_cleanup_free_ char *path = str_printf("/run/mounts/scsi/0_%zu_0", i);

		ck_assert_str_eq(source_of(i), path);
	}
}
END_TEST

/* _i is the call that fails; teardown() releases, and sees that nothing is left. */
START_TEST(of_many_disks_the_one_that_fails_is_named_and_all_can_be_released)
{
	static const char *const destinations[] = { "mount /d", "mount blockdev:///e", "mount /f" };

	three_disks();
	vm.f.fail_at = (unsigned)_i + 1;
	ck_assert_int_eq(map_entries(THREE_DISKS), -EIO);
	ck_assert_uint_eq(strv_len(disk_ids), 3);
	ck_assert_msg(strstr(err.text, destinations[_i / 2]), "%s", err.text);
}
END_TEST

/* A reservation that fails, of whichever. */
START_TEST(where_one_cannot_be_had_none_is_attached)
{
	three_disks();
	ck_assert_int_eq(map_entries(THREE_DISKS ",{\"destination\":\"/g\","
						 "\"type\":\"virtual-disk\","
						 "\"source\":\"$/missing\"}"),
			 -ERR_INVALID);
	ck_assert_str_eq(fake_calls(&vm.f), "");
	ck_assert_uint_eq(strv_len(disk_ids), 3);
}
END_TEST

static const char *const passing[] = {
	"{\"destination\":\"/x\",\"type\":\"tmpfs\",\"source\":\"tmpfs\"}",
	"{\"destination\":\"/x\",\"type\":\"tmpfs\"}",
	"{\"destination\":\"/x\",\"type\":\"proc\",\"source\":\"proc\"}",
	"{\"destination\":\"/x\",\"type\":\"sysfs\",\"source\":\"sysfs\"}",
	"{\"destination\":\"/x\",\"type\":\"cgroup\",\"source\":\"cgroup\"}",
	"{\"destination\":\"/x\",\"type\":\"cgroup2\",\"source\":\"cgroup\"}",
	"{\"destination\":\"/x\",\"type\":\"devpts\",\"source\":\"devpts\"}",
	"{\"destination\":\"/x\",\"type\":\"mqueue\",\"source\":\"mqueue\"}",
	"{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"sandbox:///a\"}",
	"{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"sandbox-tmp:///a\"}",
	"{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"hugepages://2M/a\"}",
	"{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"uvm:///a\"}",
};

START_TEST(what_has_no_part_on_the_host_passes_unchanged)
{
	_cleanup_free_ char *before = str_printf("{\"mounts\":[%s]}", passing[_i]), *after = NULL;

	ck_assert_int_eq(map_entries(passing[_i]), 0);
	after = json_text(spec);
	ck_assert_str_eq(after, before);
	ck_assert_str_eq(fake_calls(&vm.f), "");
}
END_TEST

static const struct {
	const char *entry;
	const char *why;
} refused[] = {
	{ "{\"type\":\"bind\",\"source\":\"$/file\"}", "no destination" },
	{ "{\"destination\":\"\",\"type\":\"bind\",\"source\":\"$/file\"}", "no destination" },
	{ "{\"destination\":\"/x\",\"type\":\"bind\"}", "mount /x has no source" },
	{ "{\"destination\":\"/x\",\"type\":\"virtual-disk\"}", "mount /x: no source" },
	{ "{\"destination\":\"/x\",\"type\":\"virtual-disk\",\"source\":\"$/missing\"}",
	  "mount /x" },
	{ "{\"destination\":\"/x\",\"type\":\"extensible-virtual-disk\",\"source\":\"evd://a/b\"}",
	  "type extensible-virtual-disk is not supported" },
	{ "{\"destination\":\"blockdev:///x\",\"type\":\"bind\",\"source\":\"$/volume\"}",
	  "must be virtual-disk" },
	{ "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"$/volume\","
	  "\"options\":[\"rbind\",\"rshared\"]}",
	  "mount /x: rshared is not supported" },
	{ "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"$/file\","
	  "\"options\":[\"shared\"]}",
	  "mount /x: shared is not supported" },
	{ "{\"destination\":\"/x\",\"type\":\"nfs\",\"source\":\"h:/x\"}",
	  "mount /x: type nfs is not supported" },
	{ "{\"destination\":\"/x\",\"source\":\"$/file\"}",
	  "mount /x: type \"\" is not supported" },
	{ "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"$/missing\"}", "mount /x" },
	{ "{\"destination\":\"/x\",\"type\":\"uds\",\"source\":\"$/file\"}", "no unix socket" },
	{ "null", "no destination" },
	{ "[]", "no destination" },
	{ "{\"destination\":3}", "no destination" },
};

START_TEST(others_are_refused_by_name)
{
	ck_assert_int_eq(map_entries(refused[_i].entry), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, refused[_i].why), "%s", err.text);
}
END_TEST

START_TEST(a_spec_without_mounts_needs_nothing)
{
	int result = 1;

	ck_assert_int_eq(json_parse("{\"mounts\":{}}", 13, &spec, NULL), 0);
	in_coroutine(map, &result);
	ck_assert_int_eq(result, 0);
	ck_assert_ptr_null(ids);
}
END_TEST

/* _i is the call that fails: the first or the second mount's share or guest mount. */
START_TEST(a_failure_keeps_what_was_reserved_in_the_list)
{
	vm.f.fail_at = (unsigned)_i + 1;
	ck_assert_int_eq(
		map_entries("{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"$/file\"},"
			    "{\"destination\":\"/b\",\"type\":\"bind\",\"source\":\"$/volume\"}"),
		-EIO);
	ck_assert_uint_eq(strv_len(ids), _i < 2 ? 1 : 2);
	ck_assert_ptr_nonnull(strstr(err.text, _i < 2 ? "mount /a" : "mount /b"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller mounts");
	TCase *t = tcase_create("mounts");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_directory_is_shared_and_its_source_becomes_the_guest_s);
	tcase_add_test(t, a_file_is_shared_alone_and_its_name_joined);
	tcase_add_test(t, what_is_read_only_with_all_below_it_is_so_on_the_host);
	tcase_add_test(t, two_files_of_one_directory_are_two_shares_and_the_same_twice_is_one);
	tcase_add_test(t, a_unix_socket_is_relayed_and_not_shared);
	tcase_add_loop_test(t, a_disk_is_attached_and_mounted_in_the_guest_and_bound, 0, 2);
	tcase_add_test(t, a_disk_mounted_twice_is_attached_once);
	tcase_add_test(t, a_disk_can_be_the_container_s_itself);
	tcase_add_loop_test(t, a_disk_that_fails_stays_in_the_list, 0, 2);
	tcase_add_test(t, disks_come_one_after_the_other);
	tcase_add_loop_test(t, of_many_disks_the_one_that_fails_is_named_and_all_can_be_released, 0,
			    6);
	tcase_add_test(t, where_one_cannot_be_had_none_is_attached);
	tcase_add_loop_test(t, what_has_no_part_on_the_host_passes_unchanged, 0,
			    ARRAY_SIZE(passing));
	tcase_add_loop_test(t, others_are_refused_by_name, 0, ARRAY_SIZE(refused));
	tcase_add_test(t, a_spec_without_mounts_needs_nothing);
	tcase_add_loop_test(t, a_failure_keeps_what_was_reserved_in_the_list, 0, 4);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
