/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/vm_devices.h"

#include <fcntl.h>

#include "base/fd.h"
#include "controller/device/scsi.h"
#include "controller/device/socket.h"
#include "controller/fixture.h"
#include "controller/network.h"
#include "guest/guest.h"
#include "wire/gcs.h"

/* A guest that has agreed to nothing. */
static struct vm_devices devices;
static struct err err;

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	devices = (struct vm_devices){ .guest = guest_new(NULL, NULL, NULL) };
	memset(&err, 0, sizeof(err));
}

static void teardown(void)
{
	guest_free(devices.guest);
	loop_fini();
}

static CO void mount_spanning(void *arg)
{
	struct gcs_scsi_device other = { .lun = 1 };
	struct gcs_mapped_disk disk = { .devices = &other, .n_devices = 1 };

	*(int *)arg = vm_devices_scsi_ops.mount(&devices, &disk, &err);
}

START_TEST(a_guest_that_cannot_span_disks_is_not_asked_to)
{
	int r = 1;

	in_coroutine(mount_spanning, &r);
	ck_assert_int_eq(r, -ERR_UNIMPLEMENTED);
	ck_assert_ptr_nonnull(strstr(err.text, "spans several disks"));
}
END_TEST

static CO void mount_demanding(void *arg)
{
	struct gcs_verity verity = { .root_digest = (char[]){ "abc" } };
	struct gcs_mapped_disk disk = { .verity = &verity };

	*(int *)arg = vm_devices_scsi_ops.mount(&devices, &disk, &err);
}

START_TEST(a_guest_that_does_not_heed_a_root_digest_is_given_no_layer_that_needs_one)
{
	int r = 1;

	in_coroutine(mount_demanding, &r);
	ck_assert_int_eq(r, -ERR_UNIMPLEMENTED);
	ck_assert_ptr_nonnull(strstr(err.text, "root digest"));
}
END_TEST

static CO void set_clock(void *arg)
{
	*(int *)arg = vm_devices_set_clock(&devices, 1, &err);
}

START_TEST(a_guest_that_keeps_its_own_time_is_not_told_it)
{
	int r = 1;

	in_coroutine(set_clock, &r);
	ck_assert_int_eq(r, -ERR_UNIMPLEMENTED);
}
END_TEST

START_TEST(a_guest_that_cannot_relay_sockets_is_given_none)
{
	struct guest_forward *f = NULL;
	uint32_t port;
	int fd = open("/dev/null", O_PATH | O_CLOEXEC);

	ck_assert_int_eq(vm_devices_socket_ops.open(&devices, fd, &f, &port, &err),
			 -ERR_UNIMPLEMENTED);
	ck_assert_ptr_nonnull(strstr(err.text, "unix sockets"));
	ck_assert_ptr_null(f);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

static struct guest_loopback *loopback;

static CO void lead(void *arg)
{
	*(int *)arg = vm_devices_network_ops.forward(&devices, "/nowhere", "p1", &loopback, &err);
}

START_TEST(a_guest_that_cannot_forward_ports_is_led_to_nothing)
{
	int r = 1;

	in_coroutine(lead, &r);
	ck_assert_int_eq(r, 0);
	ck_assert_ptr_null(loopback);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller vm_devices");
	TCase *t = tcase_create("vm_devices");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_guest_that_cannot_span_disks_is_not_asked_to);
	tcase_add_test(t,
		       a_guest_that_does_not_heed_a_root_digest_is_given_no_layer_that_needs_one);
	tcase_add_test(t, a_guest_that_keeps_its_own_time_is_not_told_it);
	tcase_add_test(t, a_guest_that_cannot_relay_sockets_is_given_none);
	tcase_add_test(t, a_guest_that_cannot_forward_ports_is_led_to_nothing);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
