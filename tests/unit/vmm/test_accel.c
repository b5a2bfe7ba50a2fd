/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/loop.h"
#include "vmm/transport.h"
#include "vmm/vmm_priv.h"

static char *dir, *qemu, *kernel, *cache, *runs;
static struct boot_files boot;
static struct vm_config cfg;
static enum vm_accel accel;
static struct err err;
static int result;
static const char *kvm, *pvm;

static void put(const char *path, const char *text)
{
	ck_assert_int_eq(file_write(path, text, strlen(text), 0755), 0);
}

static void setup(void)
{
	char name[] = "/tmp/lcow-accel-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(name));
	dir = mem_strdup(name);
	qemu = str_printf("%s/qemu", dir);
	kernel = str_printf("%s/vmlinux", dir);
	cache = str_printf("%s/cache", dir);
	runs = str_printf("%s/runs", dir);
	put(kernel, "kernel");
	boot = (struct boot_files){ .kernel = kernel };
	cfg = (struct vm_config){ .qemu = qemu, .boot = &boot, .probe_cache = cache };
	accel = VM_ACCEL_AUTO;
	kvm = "/dev/null";
	pvm = "/nonexistent";
	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(loop_init(), 0);
}

static void teardown(void)
{
	loop_fini();
	ck_assert_int_eq(dir_remove(dir), 0);
	free(dir);
	free(qemu);
	free(kernel);
	free(cache);
	free(runs);
}

static void script(const char *does)
{
	_cleanup_free_ char *text = str_printf("#!/bin/sh\necho x >>%s\n%s\n", runs, does);

	put(qemu, text);
}

/** run_count() - how often the QEMU was run */
static size_t run_count(void)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;

	file_read(runs, 1000, &text, &len);
	return len / 2;
}

static void in_coroutine(void *arg)
{
	result = accel_choose(&cfg, kvm, pvm, &accel, &err);
	loop_stop(0);
}

static enum vm_accel choose(void)
{
	accel = VM_ACCEL_AUTO;
	co_spawn("test", in_coroutine, NULL, time_mono() + 20 * USEC_PER_SEC);
	loop_run();
	return accel;
}

START_TEST(KVM_is_used_when_a_kernel_gets_as_far_as_a_panic)
{
	script("echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'");
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_int_eq(result, 0);
}
END_TEST

START_TEST(a_QEMU_that_ends_without_a_word_from_the_kernel_proves_nothing)
{
	script("exit 0");
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	script("echo 'Kernel panic'; exit 1");
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
}
END_TEST

START_TEST(a_guest_that_hangs_is_given_up_after_five_seconds)
{
	uint64_t begin = time_mono();

	script("exec sleep 60");
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	ck_assert_uint_lt(time_mono() - begin, 8 * USEC_PER_SEC);
	/* That is a verdict, and is kept. */
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	ck_assert_uint_eq(run_count(), 1);
}
END_TEST

START_TEST(the_verdict_is_kept_until_QEMU_or_the_kernel_changes)
{
	script("echo 'Kernel panic'");
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_uint_eq(run_count(), 1);
	put(kernel, "another kernel");
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_uint_eq(run_count(), 2);
	script("exit 1");
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	ck_assert_uint_eq(run_count(), 3);
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	ck_assert_uint_eq(run_count(), 3);
}
END_TEST

START_TEST(a_cache_that_says_nothing_sensible_is_no_cache)
{
	script("echo 'Kernel panic'");
	put(cache, "kvm\n");
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	put(cache, "");
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_uint_eq(run_count(), 2);
	cfg.probe_cache = NULL;
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_uint_eq(run_count(), 3);
}
END_TEST

START_TEST(without_the_device_or_with_kvm_pvm_nothing_is_probed)
{
	script("echo 'Kernel panic'");
	kvm = "/nonexistent/kvm";
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	kvm = "/dev/null";
	pvm = dir;
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	ck_assert_uint_eq(run_count(), 0);
}
END_TEST

START_TEST(emulation_that_is_asked_for_is_used_without_a_probe)
{
	script("exit 1");
	cfg.accel = VM_ACCEL_TCG;
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	ck_assert_uint_eq(run_count(), 0);
}
END_TEST

START_TEST(KVM_that_is_asked_for_and_works_is_used_with_one_probe)
{
	script("echo 'Kernel panic'");
	cfg.accel = VM_ACCEL_KVM;
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_int_eq(choose(), VM_ACCEL_KVM);
	ck_assert_uint_eq(run_count(), 1);
}
END_TEST

static void expect_refusal(const char *why)
{
	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(choose(), VM_ACCEL_AUTO);
	ck_assert_int_eq(result, -ERR_UNAVAILABLE);
	ck_assert_msg(str_starts(err.text, "accel = kvm, but KVM does not work here"), "%s",
		      err.text);
	ck_assert_msg(strstr(err.text, why), "%s", err.text);
}

START_TEST(KVM_that_is_asked_for_and_does_not_work_is_an_error_with_its_reason)
{
	cfg.accel = VM_ACCEL_KVM;
	script("echo 'ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy'; exit 1");
	expect_refusal("Device or resource busy");
	script("exit 0");
	expect_refusal("without a word");
	kvm = "/nonexistent/kvm";
	expect_refusal("/nonexistent/kvm: No such file or directory");
}
END_TEST

START_TEST(a_verdict_against_KVM_is_asked_again_by_who_insists_on_it)
{
	script("exit 1");
	ck_assert_int_eq(choose(), VM_ACCEL_TCG);
	cfg.accel = VM_ACCEL_KVM;
	expect_refusal("KVM does not run the guest's kernel here");
	ck_assert_uint_eq(run_count(), 2);
}
END_TEST

START_TEST(the_transport_is_one_that_the_guest_knows)
{
	enum vm_transport t = VM_TRANSPORT_AUTO;

	boot.serial = boot.vsock = true;
	ck_assert_int_eq(transport_resolve(&cfg, &t, &err), 0);
	ck_assert_int_eq(t, VM_TRANSPORT_SERIAL);
	boot.serial = false;
	cfg.transport = VM_TRANSPORT_VHOST_USER_VSOCK;
	ck_assert_int_eq(transport_resolve(&cfg, &t, &err), 0);
	ck_assert_int_eq(t, VM_TRANSPORT_VHOST_USER_VSOCK);
	cfg.transport = VM_TRANSPORT_SERIAL;
	ck_assert_int_eq(transport_resolve(&cfg, &t, &err), -ERR_STATE);
	boot.vsock = false;
	cfg.transport = VM_TRANSPORT_VHOST_USER_VSOCK;
	ck_assert_int_eq(transport_resolve(&cfg, &t, &err), -ERR_STATE);
	cfg.transport = VM_TRANSPORT_VHOST_VSOCK;
	ck_assert_int_eq(transport_resolve(&cfg, &t, &err), -ERR_STATE);
}
END_TEST

START_TEST(the_daemon_for_vsock_is_used_only_when_asked_for)
{
	enum vm_transport t = VM_TRANSPORT_AUTO;
	int r;

	boot.serial = false;
	boot.vsock = true;
	cfg.vhost_device_vsock = qemu;
	script("");
	r = transport_resolve(&cfg, &t, &err);
	if (access("/dev/vhost-vsock", R_OK | W_OK) == 0) {
		ck_assert_int_eq(r, 0);
		ck_assert_int_eq(t, VM_TRANSPORT_VHOST_VSOCK);
	} else {
		ck_assert_int_eq(r, -ERR_UNAVAILABLE);
		ck_assert_int_eq(t, VM_TRANSPORT_AUTO);
		ck_assert_msg(strstr(err.text, "vhost-user-vsock"), "%s", err.text);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm accel");
	TCase *tc = tcase_create("accel");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, KVM_is_used_when_a_kernel_gets_as_far_as_a_panic);
	tcase_add_test(tc, a_QEMU_that_ends_without_a_word_from_the_kernel_proves_nothing);
	tcase_add_test(tc, a_guest_that_hangs_is_given_up_after_five_seconds);
	tcase_add_test(tc, the_verdict_is_kept_until_QEMU_or_the_kernel_changes);
	tcase_add_test(tc, a_cache_that_says_nothing_sensible_is_no_cache);
	tcase_add_test(tc, without_the_device_or_with_kvm_pvm_nothing_is_probed);
	tcase_add_test(tc, emulation_that_is_asked_for_is_used_without_a_probe);
	tcase_add_test(tc, KVM_that_is_asked_for_and_works_is_used_with_one_probe);
	tcase_add_test(tc, KVM_that_is_asked_for_and_does_not_work_is_an_error_with_its_reason);
	tcase_add_test(tc, a_verdict_against_KVM_is_asked_again_by_who_insists_on_it);
	tcase_add_test(tc, the_transport_is_one_that_the_guest_knows);
	tcase_add_test(tc, the_daemon_for_vsock_is_used_only_when_asked_for);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
