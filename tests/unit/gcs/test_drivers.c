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

TMPDIR_MAIN("gcs drivers", a_device_type_has_its_driver,
	    what_requests_load_and_what_is_no_virtio_device_has_none)
