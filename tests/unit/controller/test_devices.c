/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/devices.h"

#include <json-c/json.h>

#include "controller/device/vpci.h"
#include "controller/fakevm.h"
#include "wire/json.h"

static struct json_object *spec;
static char **ids;
static struct err err;

static void setup(void)
{
	fake_vm_init();
	memset(&err, 0, sizeof(err));
	ids = NULL;
}

static CO void release(void *arg)
{
	for (char **id = ids; id && *id; id++)
		ck_assert_int_eq(vpci_unmap(vm.env.vpci, *id, NULL), 0);
}

/* What was reserved is in the list, whatever became of it. */
static void teardown(void)
{
	in_coroutine(release, NULL);
	fake_nothing_reserved();
	strv_free(ids);
	json_put(spec);
	fake_vm_free();
}

static CO void map(void *arg)
{
	*(int *)arg = devices_map(vm.env.vpci, spec, &ids, &err);
}

static int map_text(const char *text)
{
	int result = 1;

	ck_assert_msg(json_parse(text, strlen(text), &spec, &err) == 0, "%s", text);
	in_coroutine(map, &result);
	return result;
}

static struct json_object *in_guest(size_t i)
{
	return json_object_array_get_idx(json_get(spec, "windows", "devices", NULL), i);
}

START_TEST(a_spec_without_devices_stays_as_it_is)
{
	ck_assert_int_eq(map_text("{\"linux\":{\"devices\":[{\"path\":\"/dev/fuse\"}]}}"), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "");
	ck_assert_uint_eq(json_object_object_length(spec), 1);
	ck_assert_uint_eq(json_object_array_length(json_get(spec, "linux", "devices", NULL)), 1);
}
END_TEST

START_TEST(an_id_becomes_the_GUID_of_its_device_and_the_type_stays)
{
	ck_assert_int_eq(map_text("{\"windows\":{\"devices\":["
				  "{\"id\":\"3B:00.0\",\"idType\":\"gpu\"},"
				  "{\"id\":\"0000:3b:00.0\",\"idType\":\"vpci\"},"
				  "{\"id\":\"0000:3b:00.0/2\",\"idType\":\"vpci-instance-id\"}]}}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), "add 0000:3b:00.0 -1;await;add 0000:3b:00.0 2;await;");
	ck_assert_str_eq(json_get_str(in_guest(0), "idType"), "gpu");
	ck_assert_uint_eq(strlen(json_get_str(in_guest(0), "id")), UUID_LEN);
	ck_assert_str_eq(json_get_str(in_guest(1), "id"), json_get_str(in_guest(0), "id"));
	ck_assert_str_ne(json_get_str(in_guest(2), "id"), json_get_str(in_guest(0), "id"));
	ck_assert_uint_eq(strv_len(ids), 3);
}
END_TEST

START_TEST(the_node_of_an_IOMMU_group_becomes_its_devices)
{
	ck_assert_int_eq(map_text("{\"linux\":{\"devices\":[{\"path\":\"/dev/vfio/vfio\"},"
				  "{\"path\":\"/dev/vfio/17\"},{\"path\":\"/dev/fuse\"}]}}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), "add 0000:3b:00.0 -1;await;add 0000:3b:00.1 -1;await;");
	ck_assert_uint_eq(json_object_array_length(json_get(spec, "linux", "devices", NULL)), 1);
	ck_assert_str_eq(json_get_str(in_guest(1), "idType"), "vpci-instance-id");
	ck_assert_uint_eq(strlen(json_get_str(in_guest(1), "id")), UUID_LEN);
}
END_TEST

START_TEST(annotations_name_devices_as_CDI_does)
{
	ck_assert_int_eq(map_text("{\"annotations\":{\"cdi.k8s.io/plugin_one\":"
				  "\"lcow.dev/pci=0000:3b:00.0,lcow.dev/pci=3C:00.0\","
				  "\"cdi.k8s.iox\":\"a=b\",\"other\":\"x\","
				  "\"cdi.k8s.io/two\":\"lcow.dev/pci=0000:3d:00.1\"}}"),
			 0);
	ck_assert_str_eq(fake_calls(&vm.f), "add 0000:3b:00.0 -1;await;add 0000:3c:00.0 -1;await;"
					    "add 0000:3d:00.1 -1;await;");
	ck_assert_uint_eq(strv_len(ids), 3);
	for (size_t i = 0; i < 3; i++) {
		ck_assert_str_eq(json_get_str(in_guest(i), "idType"), "vpci-instance-id");
		ck_assert_uint_eq(strlen(json_get_str(in_guest(i), "id")), UUID_LEN);
	}
}
END_TEST

START_TEST(a_device_that_is_named_in_several_ways_is_one_in_the_guest)
{
	ck_assert_int_eq(
		map_text("{\"annotations\":{\"cdi.k8s.io/x\":\"lcow.dev/pci=0000:3b:00.0\"},"
			 "\"linux\":{\"devices\":[{\"path\":\"/dev/vfio/17\"}]},"
			 "\"windows\":{\"devices\":[{\"id\":\"3b:00.0\",\"idType\":\"gpu\"}]}}"),
		0);
	ck_assert_str_eq(fake_calls(&vm.f), "add 0000:3b:00.0 -1;await;add 0000:3b:00.1 -1;await;");
	ck_assert_uint_eq(strv_len(ids), 4);
	ck_assert_ptr_nonnull(in_guest(1));
	ck_assert_ptr_null(in_guest(2));
}
END_TEST

static const struct {
	const char *spec;
	const char *text;
} bad[] = {
	{ "{\"annotations\":{\"cdi.k8s.io/x\":\"nvidia.com/gpu=0\"}}",
	  "annotation cdi.k8s.io/x: nvidia.com/gpu=0: devices of kind lcow.dev/pci" },
	{ "{\"annotations\":{\"cdi.k8s.io/x\":\"lcow.dev/pci\"}}",
	  "lcow.dev/pci: devices of kind" },
	{ "{\"annotations\":{\"cdi.k8s.io/x\":\",\"}}", "cdi.k8s.io/x: no device is named" },
	{ "{\"annotations\":{\"cdi.k8s.io/x\":3}}", "cdi.k8s.io/x: no device is named" },
	{ "{\"windows\":{\"devices\":[{\"id\":\"3b:00.0\",\"idType\":\"class\"}]}}",
	  "reserve device 3b:00.0: unsupported type class" },
	{ "{\"windows\":{\"devices\":[{\"id\":\"3b:00.0\"}]}}",
	  "reserve device 3b:00.0: unsupported type \"\"" },
	{ "{\"linux\":{\"devices\":[{\"path\":\"/dev/vfio/noiommu-0\"}]}}", "/dev/vfio/<number>" },
	{ "{\"linux\":{\"devices\":[{\"path\":\"/dev/vfio/18\"}]}}", "no group 18" },
};

START_TEST(what_is_no_device_is_refused_by_name)
{
	ck_assert_int_eq(map_text(bad[_i].spec), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, bad[_i].text), "%s", err.text);
	ck_assert_str_eq(fake_calls(&vm.f), "");
}
END_TEST

START_TEST(whatever_call_fails_the_reservations_are_known)
{
	vm.f.fail_at = (unsigned)_i;
	ck_assert_int_eq(map_text("{\"annotations\":{\"cdi.k8s.io/x\":\"lcow.dev/pci=3d:00.0\"},"
				  "\"windows\":{\"devices\":["
				  "{\"id\":\"3b:00.0\",\"idType\":\"gpu\"},"
				  "{\"id\":\"3c:00.0\",\"idType\":\"gpu\"}]}}"),
			 -EIO);
	ck_assert_uint_eq(strv_len(ids), ((unsigned)_i + 1) / 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller devices");
	TCase *t = tcase_create("devices");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_spec_without_devices_stays_as_it_is);
	tcase_add_test(t, an_id_becomes_the_GUID_of_its_device_and_the_type_stays);
	tcase_add_test(t, the_node_of_an_IOMMU_group_becomes_its_devices);
	tcase_add_test(t, annotations_name_devices_as_CDI_does);
	tcase_add_test(t, a_device_that_is_named_in_several_ways_is_one_in_the_guest);
	tcase_add_loop_test(t, what_is_no_device_is_refused_by_name, 0, ARRAY_SIZE(bad));
	tcase_add_loop_test(t, whatever_call_fails_the_reservations_are_known, 1, 7);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
