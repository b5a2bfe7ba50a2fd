/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

static char *dir;
static struct boot_files boot;
static struct err err;

static void put(const char *name, const void *data, size_t len)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, name);

	ck_assert_int_eq(file_write(path, data, len, 0644), 0);
}

static void put_text(const char *name, const char *text)
{
	put(name, text, strlen(text));
}

static void setup(void)
{
	static const char elf[64] = { 0x7f, 'E', 'L', 'F', 2, 1, 1, [18] = 62 };
	char name[] = "/tmp/lcow-boot-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(name));
	dir = mem_strdup(name);
	memset(&boot, 0, sizeof(boot));
	memset(&err, 0, sizeof(err));
	put("vmlinux", elf, sizeof(elf));
	put_text("initrd.img", "070701 and so on");
}

static void teardown(void)
{
	boot_files_free(&boot);
	ck_assert_int_eq(dir_remove(dir), 0);
	free(dir);
}

static int load(const char *conf)
{
	put_text("boot.conf", conf);
	return boot_files_load(dir, &boot, &err);
}

START_TEST(a_complete_boot_conf_is_read)
{
	_cleanup_free_ char *kernel = str_printf("%s/vmlinux", dir),
			    *initrd = str_printf("%s/initrd.img", dir);

	ck_assert_msg(load("# comment\n[boot]\nkernel = vmlinux\ninitrd=initrd.img\ncmdline = "
			   "panic=-1\n\tquiet\n\ta=\"b\"\n"
			   "agent = transport=%transport%\ntransports = serial vsock\nshares = "
			   "virtio\nnewer = thing\n"
			   "[other]\nkernel = x\n") == 0,
		      "%s", err.text);
	ck_assert_str_eq(boot.kernel, kernel);
	ck_assert_str_eq(boot.initrd, initrd);
	ck_assert_str_eq(boot.cmdline, "panic=-1 quiet a=\"b\"");
	ck_assert_str_eq(boot.agent, "transport=%transport%");
	ck_assert(boot.serial);
	ck_assert(boot.vsock);
	ck_assert(boot.virtio_shares);
}
END_TEST

START_TEST(what_is_absent_is_assumed_to_be_a_foreign_guest_s)
{
	ck_assert_msg(load("[boot]\nkernel = vmlinux\nagent =\n") == 0, "%s", err.text);
	ck_assert_ptr_null(boot.initrd);
	ck_assert_ptr_null(boot.cmdline);
	ck_assert_ptr_null(boot.agent);
	ck_assert(!boot.serial);
	ck_assert(boot.vsock);
	ck_assert(!boot.virtio_shares);
}
END_TEST

static const struct {
	const char *conf;
	int code;
	const char *text;
} bad[] = {
	{ "", -ERR_INVALID, "names no kernel" },
	{ "[boot]\nkernel =\n", -ERR_INVALID, "names no kernel" },
	{ "[boot]\nkernel = vmlinux\ntransports = smoke\n", -ERR_INVALID, "smoke" },
	{ "[boot]\nkernel = vmlinux\ntransports =\n", -ERR_INVALID, "transports is empty" },
	{ "[boot]\nkernel = vmlinux\nshares = nfs\n", -ERR_INVALID, "nfs" },
	{ "[boot]\nkernel = vmlinux\nwhat is this\n", -ERR_INVALID, "line 3" },
	{ "[boot]\nkernel = absent\n", -ERR_NOT_FOUND,
	  "absent does not exist; make the directory with uvm/build" },
	{ "[boot]\nkernel = ../../../../../../etc/hostname/x\n", -ERR_NOT_FOUND, "kernel" },
	{ "[boot]\nkernel = .\n", -ERR_INVALID, "no regular file" },
	{ "[boot]\nkernel = boot.conf\n", -ERR_INVALID,
	  "neither an x86-64 ELF image nor a bzImage" },
	{ "[boot]\nkernel = vmlinux\ninitrd = absent\n", -ERR_NOT_FOUND, "initrd" },
	{ "[boot]\nkernel = vmlinux\ninitrd = vmlinux\n", -ERR_INVALID, "no cpio archive" },
	{ "[boot]\nkernel = vmlinux\ninitrd = empty\n", -ERR_INVALID, "is empty" },
};

START_TEST(a_bad_boot_conf_is_refused_by_its_fault)
{
	put("empty", "", 0);
	ck_assert_int_eq(load(bad[_i].conf), bad[_i].code);
	ck_assert_msg(strstr(err.text, bad[_i].text), "%s", err.text);
	ck_assert_ptr_null(boot.kernel);
}
END_TEST

START_TEST(a_missing_directory_or_boot_conf_is_not_found)
{
	ck_assert_int_eq(boot_files_load("/nonexistent/uvm", &boot, &err), -ERR_NOT_FOUND);
	ck_assert_msg(strstr(err.text, "/nonexistent/uvm"), "%s", err.text);
	ck_assert_int_eq(boot_files_load(dir, &boot, &err), -ERR_NOT_FOUND);
	ck_assert_msg(strstr(err.text, "boot.conf"), "%s", err.text);
	ck_assert_int_eq(boot_files_load("/dev/null", &boot, &err), -ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_bzImage_is_a_kernel_and_another_machine_s_is_not)
{
	char image[0x210] = { 0 };

	memcpy(image + 0x202, "HdrS", 4);
	put("bz", image, sizeof(image));
	ck_assert_msg(load("[boot]\nkernel = bz\n") == 0, "%s", err.text);
	boot_files_free(&boot);
	put("arm", "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\xb7\0", 20);
	ck_assert_int_eq(load("[boot]\nkernel = arm\n"), -ERR_INVALID);
}
END_TEST

START_TEST(a_link_does_not_lead_out_of_the_directory)
{
	_cleanup_free_ char *link = str_printf("%s/out", dir);

	ck_assert_int_eq(symlink("/etc/passwd", link), 0);
	ck_assert_int_eq(load("[boot]\nkernel = out\n"), -ERR_NOT_FOUND);
}
END_TEST

static const struct {
	const char *head;
	size_t len;
} packed[] = { { "\x1f\x8b", 2 },
	       { "\x28\xb5\x2f\xfd", 4 },
	       { "\x02\x21\x4c\x18", 4 },
	       { "\xfd"
		 "7zXZ",
		 6 } };

START_TEST(an_initrd_may_be_compressed)
{
	put("packed", packed[_i].head, packed[_i].len);
	ck_assert_msg(load("[boot]\nkernel = vmlinux\ninitrd = packed\n") == 0, "%s", err.text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm boot");
	TCase *tc = tcase_create("boot");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_complete_boot_conf_is_read);
	tcase_add_test(tc, what_is_absent_is_assumed_to_be_a_foreign_guest_s);
	tcase_add_loop_test(tc, a_bad_boot_conf_is_refused_by_its_fault, 0, ARRAY_SIZE(bad));
	tcase_add_test(tc, a_missing_directory_or_boot_conf_is_not_found);
	tcase_add_test(tc, a_bzImage_is_a_kernel_and_another_machine_s_is_not);
	tcase_add_test(tc, a_link_does_not_lead_out_of_the_directory);
	tcase_add_loop_test(tc, an_initrd_may_be_compressed, 0, ARRAY_SIZE(packed));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
