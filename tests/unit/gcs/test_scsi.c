/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/scsi.h"

#include <unistd.h>

#include "base/err.h"
#include "tmpdir.h"

static void host(int number, const char *device)
{
	_cleanup_free_ char *link = str_printf("%s/host%d", tmpdir, number);
	_cleanup_free_ char *target =
		str_printf("../../devices/pci0000:00/%s/host%d/scsi_host/host%d", device, number,
			   number);

	ck_assert_int_eq(symlink(target, link), 0);
}

START_TEST(controllers_go_by_pci_address_and_not_by_host_number)
{
	host(0, "0000:00:12.0/virtio5");
	host(2, "0000:00:10.0/virtio3");
	host(10, "0000:00:11.0/virtio4");
	ck_assert_int_eq(scsi_host_of(tmpdir, 0), 2);
	ck_assert_int_eq(scsi_host_of(tmpdir, 1), 10);
	ck_assert_int_eq(scsi_host_of(tmpdir, 2), 0);
}
END_TEST

START_TEST(a_controller_behind_a_port_goes_by_its_own_address)
{
	host(0, "0000:00:02.0/0000:05:00.0/virtio5");
	host(1, "0000:00:10.0/virtio3");
	ck_assert_int_eq(scsi_host_of(tmpdir, 0), 1);
	ck_assert_int_eq(scsi_host_of(tmpdir, 1), 0);
}
END_TEST

START_TEST(hosts_that_are_not_virtio_do_not_count)
{
	host(0, "0000:00:1f.2/ata1");
	host(1, "0000:00:1f.3/virtio3");
	ck_assert_int_eq(scsi_host_of(tmpdir, 0), 1);
	ck_assert_int_eq(scsi_host_of(tmpdir, 1), -ERR_NOT_FOUND);
	ck_assert_int_eq(scsi_host_of("/nonexistent", 0), -ERR_NOT_FOUND);
}
END_TEST

START_TEST(an_address_that_cannot_be_is_refused)
{
	const struct scsi_address at = { .controller = 4 };
	char *device = NULL;
	struct err err;

	ck_assert_int_eq(scsi_device(NULL, &at, true, &device, &err), -ERR_INVALID);
	ck_assert_int_eq(scsi_eject(NULL, &at, &err), -ERR_INVALID);
	ck_assert_ptr_null(device);
}
END_TEST

TMPDIR_MAIN("gcs scsi", controllers_go_by_pci_address_and_not_by_host_number,
	    a_controller_behind_a_port_goes_by_its_own_address,
	    hosts_that_are_not_virtio_do_not_count, an_address_that_cannot_be_is_refused)
