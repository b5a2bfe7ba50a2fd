/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/drivers.h"

#include "tmpdir.h"

START_TEST(a_device_type_has_its_driver)
{
	ck_assert_str_eq(drivers_module("virtio:d00000001v00001AF4"), "virtio_net");
	ck_assert_str_eq(drivers_module("virtio:d00000005v00001AF4"), "virtio_balloon");
	/* hexadecimal */
	ck_assert_str_eq(drivers_module("virtio:d00000018v00001AF4"), "virtio_mem");
}
END_TEST

START_TEST(what_requests_load_and_what_is_no_virtio_device_has_none)
{
	ck_assert_ptr_null(drivers_module("virtio:d00000008v00001AF4"));
	ck_assert_ptr_null(drivers_module("virtio:d00000009v00001AF4"));
	ck_assert_ptr_null(drivers_module("pci:v00001AF4d00001041"));
	ck_assert_ptr_null(drivers_module(""));
}
END_TEST

START_TEST(an_event_is_read_to_its_end)
{
	static const char text[] = "add@/devices/system/cpu/cpu1\0ACTION=add\0"
				   "DEVPATH=/devices/system/cpu/cpu1\0SUBSYSTEM=cpu\0"
				   "MODALIAS=cpu:type:x86\0SEQNUM=7";
	struct uevent e;

	drivers_parse(text, sizeof(text) - 1, &e);
	ck_assert_str_eq(e.action, "add");
	ck_assert_str_eq(e.path, "/devices/system/cpu/cpu1");
	ck_assert_str_eq(e.subsystem, "cpu");
	ck_assert_str_eq(e.modalias, "cpu:type:x86");
	/* The rest of the buffer is that of an earlier one. */
	drivers_parse(text, strlen(text) + 1 + strlen("ACTION=add"), &e);
	ck_assert_str_eq(e.action, "add");
	ck_assert_ptr_null(e.path);
	drivers_parse("", 0, &e);
	ck_assert_ptr_null(e.action);
}
END_TEST

TMPDIR_MAIN("gcs drivers", an_event_is_read_to_its_end, a_device_type_has_its_driver,
	    what_requests_load_and_what_is_no_virtio_device_has_none)
