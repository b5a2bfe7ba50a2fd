/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/pci.h"

#include <json-c/json.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "gcs/agent.h"
#include "tmpdir.h"
#include "wire/gcs.h"
#include "wire/json.h"

static void directory(const char *name)
{
	_cleanup_free_ char *path = str_printf("%s/%s", tmpdir, name);

	ck_assert_int_eq(dir_make(path, 0755), 0);
}

static void expect_path(const char *path, const char *below)
{
	_cleanup_free_ char *wanted = str_printf("%s/%s", tmpdir, below);
	_cleanup_free_ char *found = NULL;

	ck_assert_int_eq(pci_find(tmpdir, path, &found), 0);
	ck_assert_str_eq(found, wanted);
}

START_TEST(a_device_is_found_by_its_port_whatever_number_its_bus_has)
{
	char *found = NULL;

	directory("0000:00:10.1/0000:07:00.0/0000:08:00.0");
	directory("0000:00:10.2/0000:09:00.0");
	directory("0000:00:10.2/power");
	expect_path("10.1/00.0", "0000:00:10.1/0000:07:00.0");
	expect_path("10.2/00.0", "0000:00:10.2/0000:09:00.0");
	expect_path("10.1/00.0/00.0", "0000:00:10.1/0000:07:00.0/0000:08:00.0");
	expect_path("10.2", "0000:00:10.2");
	ck_assert_int_eq(pci_find(tmpdir, "10.3/00.0", &found), -ERR_NOT_FOUND);
	ck_assert_int_eq(pci_find(tmpdir, "10.2/00.1", &found), -ERR_NOT_FOUND);
	ck_assert_ptr_null(found);
}
END_TEST

START_TEST(what_is_no_path_is_refused)
{
	static const char *const bad[] = { "",      "/",          "10.1/",  "10.8", "20.0",
					   "10.1x", "10.1/../..", "0x10.1", "1.1",  "10.1//00.0" };
	char *found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(pci_find(tmpdir, bad[i], &found) == -ERR_INVALID, "%s", bad[i]);
	ck_assert_ptr_null(found);
}
END_TEST

static void node(const char *kind, const char *numbers, const char *target, const char *uevent)
{
	_cleanup_free_ char *dir = str_printf("%s/dev/%s", tmpdir, kind);
	_cleanup_free_ char *link = str_printf("%s/%s", dir, numbers);
	_cleanup_free_ char *to = str_printf("../../%s", target);
	_cleanup_free_ char *file = str_printf("%s/uevent", target);

	ck_assert_int_eq(dir_make(dir, 0755), 0);
	directory(target);
	ck_assert_int_eq(symlink(to, link), 0);
	tmpdir_write(file, uevent);
}

START_TEST(the_nodes_of_a_device_are_those_below_it)
{
#define AT "devices/pci0000:00/0000:00:10.1/0000:07:00.0"
	_cleanup_free_ char *device = str_printf("%s/" AT, tmpdir);
	_cleanup_strv_ char **names = NULL;

	node("char", "245:0", AT "/nvme/nvme0", "MAJOR=245\nDEVNAME=nvme0\n");
	node("char", "1:3", "devices/virtual/mem/null", "DEVNAME=null\n");
	node("char", "226:0", AT "0/drm/card0", "DEVNAME=dri/card0\n");
	node("block", "259:0", AT "/nvme/nvme0/nvme0n1", "MAJOR=259\nDEVNAME=nvme0n1\n");
	pci_nodes(tmpdir, device, "char", &names);
	ck_assert_uint_eq(strv_len(names), 1);
	ck_assert_str_eq(names[0], "nvme0");
	pci_nodes(tmpdir, device, "block", &names);
	ck_assert_uint_eq(strv_len(names), 2);
	ck_assert_str_eq(names[1], "nvme0n1");
}
END_TEST

START_TEST(a_request_needs_a_GUID_and_a_path)
{
	static struct agent a;
	static struct err err;
	char guid[] = "g", path[] = "10.1/../x";

	ck_assert_int_eq(pci_add(&a, &(struct gcs_vpci_device){ .pci_path = path }, &err),
			 -ERR_INVALID);
	ck_assert_int_eq(pci_add(&a, &(struct gcs_vpci_device){ .vmbus_guid = guid }, &err),
			 -ERR_UNIMPLEMENTED);
	ck_assert_ptr_nonnull(strstr(err.text, "PCIPath"));
}
END_TEST

START_TEST(a_container_cannot_have_a_device_that_was_not_added)
{
	static const char text[] =
		"{\"linux\":{},\"windows\":{\"devices\":[{\"id\":\"g\",\"idType\":\"vpci\"}]}}";
	static struct agent a;
	static struct err err;
	_cleanup_json_ struct json_object *spec = NULL;

	ck_assert_int_eq(json_parse(text, strlen(text), &spec, NULL), 0);
	ck_assert_int_eq(pci_add_nodes(&a, spec, &err), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, "PCI device g was not added"), "%s", err.text);
}
END_TEST

TMPDIR_MAIN("gcs pci", a_device_is_found_by_its_port_whatever_number_its_bus_has,
	    what_is_no_path_is_refused, the_nodes_of_a_device_are_those_below_it,
	    a_request_needs_a_GUID_and_a_path, a_container_cannot_have_a_device_that_was_not_added)
