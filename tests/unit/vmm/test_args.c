/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"
#include "vmm/transport.h"
#include "vmm/vmm.h"

static struct boot_files boot;
static struct vm_config cfg;
static const struct vm_fds fds = { .qmp = 3, .console = 4, .channel = 5 };

static void setup(void)
{
	boot = (struct boot_files){ .kernel = (char *)(uintptr_t) "/b/vmlinux",
				    .initrd = (char *)(uintptr_t) "/b/initrd.img",
				    .cmdline = (char *)(uintptr_t) "quiet",
				    .serial = true,
				    .virtio_shares = true };
	cfg = (struct vm_config){ .id = "pod1",
				  .qemu = "qemu",
				  .boot = &boot,
				  .run_dir = "/run/x",
				  .accel = VM_ACCEL_TCG,
				  .transport = VM_TRANSPORT_SERIAL,
				  .cpus = 1,
				  .memory_mb = 256,
				  .cid = 42 };
}

static char *line_of(void)
{
	_cleanup_strv_ char **v = vm_command_line(&cfg, &fds);

	return strv_join(v, " ");
}

/** value_of() - what follows an option, the @n-th time that it occurs; the caller frees it */
static char *value_of(const char *option, unsigned n)
{
	_cleanup_strv_ char **v = vm_command_line(&cfg, &fds);

	for (size_t i = 0; v[i]; i++)
		if (str_eq(v[i], option) && n-- == 0)
			return mem_strdup(v[i + 1]);
	return NULL;
}

#define DEVICES \
	"-device virtio-rng-pci,id=rng0,bus=pcie.0,addr=0x4 " \
	"-device " \
	"virtio-balloon-pci,id=balloon0,free-page-reporting=on,deflate-on-oom=on,bus=pcie.0,addr=" \
	"0x5 "
#define SHARES \
	"-fsdev local,id=shares,path=/run/x/shares,security_model=passthrough,multidevs=remap " \
	"-device virtio-9p-pci,id=shares0,fsdev=shares,mount_tag=lcow-shares,bus=pcie.0,addr=0x6 "
#define SCSI \
	"-device virtio-scsi-pci,id=scsi0,bus=pcie.0,addr=0x8 -device " \
	"virtio-scsi-pci,id=scsi1,bus=pcie.0,addr=0x9 " \
	"-device virtio-scsi-pci,id=scsi2,bus=pcie.0,addr=0xa -device " \
	"virtio-scsi-pci,id=scsi3,bus=pcie.0,addr=0xb "
#define PORT(i, n) \
	"-device pcie-root-port,id=rp" #i ",chassis=" #n ",slot=" #n ",bus=pcie.0,addr=0x10." #i
#define PORTS_LOW PORT(0, 1) ",multifunction=on " PORT(1, 2) " " PORT(2, 3) " " PORT(3, 4) " "
#define PORTS PORTS_LOW PORT(4, 5) " " PORT(5, 6) " " PORT(6, 7) " " PORT(7, 8)
#define HEAD \
	"qemu -name guest=pod1 -sandbox " \
	"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny " \
	"-nodefaults -no-user-config -no-reboot -S -display none -M " \
	"q35,memory-backend=m0,vmport=off,usb=off "
#define TCG \
	"-accel tcg,tb-size=32 -cpu qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand -bios " \
	"qboot.rom "
#define WINDOWS "pci=hpmmiosize=32M,hpmmioprefsize=2G"
#define MONITOR \
	"-chardev socket,id=qmp,fd=3 -mon chardev=qmp,mode=control -chardev " \
	"socket,id=console,fd=4 -serial " \
	"chardev:console "
#define SERIAL \
	"-chardev socket,id=mux,fd=5 -device " \
	"virtio-serial-pci,id=serial0,max_ports=2,bus=pcie.0,addr=0x2 " \
	"-device virtserialport,bus=serial0.0,nr=1,chardev=mux,name=lcow.mux "

START_TEST(a_plain_vm_has_this_command_line)
{
	_cleanup_free_ char *line = line_of();

	ck_assert_str_eq(line, HEAD TCG
			 "-smp cpus=1 -m size=256M -object memory-backend-ram,id=m0,size=256M "
			 "-kernel /b/vmlinux -initrd /b/initrd.img -append quiet console=ttyS0 "
			 "panic=-1 no_timer_check nr_cpus=1 " WINDOWS
			 " " MONITOR SERIAL DEVICES SHARES SCSI PORTS);
}
END_TEST

START_TEST(a_vm_under_KVM_that_may_grow_has_this_command_line)
{
	_cleanup_free_ char *line = NULL;

	cfg.accel = VM_ACCEL_KVM;
	cfg.cpus = 2;
	cfg.max_cpus = 8;
	cfg.max_memory_mb = 4097;
	cfg.transport = VM_TRANSPORT_VHOST_VSOCK;
	boot.virtio_shares = false;
	boot.initrd = NULL;
	boot.cmdline = NULL;
	cfg.kernel_args = "debug";
	line = line_of();
	ck_assert_str_eq(line,
			 HEAD "-accel kvm -cpu host -bios qboot.rom -smp cpus=2,maxcpus=8 -m "
			      "size=256M,maxmem=4097M "
			      "-object memory-backend-ram,id=m0,size=256M -kernel /b/vmlinux "
			      "-append console=ttyS0 panic=-1 no_timer_check nr_cpus=8 " WINDOWS
			      " swiotlb=512 "
			      "debug " MONITOR "-device "
			      "vhost-vsock-pci,id=vsock0,guest-cid=42,vhostfd=5,bus=pcie.0,addr="
			      "0x3 " DEVICES SCSI PORTS);
}
END_TEST

START_TEST(a_vm_with_limits_for_its_disks_has_one_group_for_them_all)
{
	_cleanup_free_ char *group = NULL, *other = NULL;

	cfg.storage_iops = 500;
	cfg.storage_bandwidth = 4 << 20;
	group = value_of("-object", 1);
	ck_assert_str_eq(group, "{\"qom-type\":\"throttle-group\",\"id\":\"storage\",\"limits\":"
				"{\"iops-total\":500,\"bps-total\":4194304}}");
	cfg.storage_iops = 0;
	other = value_of("-object", 1);
	ck_assert_ptr_nonnull(strstr(other, "{\"iops-total\":0,\"bps-total\":4194304}"));
}
END_TEST

START_TEST(memory_is_shared_where_a_daemon_serves_a_device_and_nowhere_else)
{
	_cleanup_free_ char *line = NULL;

	cfg.transport = VM_TRANSPORT_VHOST_USER_VSOCK;
	line = line_of();
	ck_assert_ptr_nonnull(strstr(line, "memory-backend-memfd,id=m0,size=256M,share=on"));
	ck_assert_ptr_nonnull(strstr(line, "-chardev socket,id=vsock,fd=5 -device "
					   "vhost-user-vsock-pci,id=vsock0,chardev=vsock,"));
	ck_assert_ptr_null(strstr(line, "lcow.mux"));
}
END_TEST

START_TEST(the_agent_s_placeholders_are_replaced_and_nothing_else)
{
	_cleanup_free_ char *append = NULL, *vsock = NULL;

	boot.agent =
		(char *)(uintptr_t) "transport=%transport% at %wall% %id%%loglevel% 100% %other% %";
	cfg.wall_ns = 1234567890123456789ull;
	cfg.kernel_args = "a b";
	append = value_of("-append", 0);
	ck_assert_str_eq(append,
			 "quiet console=ttyS0 panic=-1 no_timer_check nr_cpus=1 " WINDOWS " a b -- "
			 "transport=serial at 1234567890123456789 pod1info 100% %other% %");
	cfg.transport = VM_TRANSPORT_VHOST_VSOCK;
	cfg.log_level = "trace";
	vsock = value_of("-append", 0);
	ck_assert_ptr_nonnull(
		strstr(vsock, "-- transport=vsock at 1234567890123456789 pod1trace 100%"));
}
END_TEST

START_TEST(a_comma_in_a_path_ends_no_option)
{
	_cleanup_free_ char *fsdev = NULL, *name = NULL;

	cfg.run_dir = "/run/a,readonly=off,b";
	cfg.id = "x,debug-threads=on";
	fsdev = value_of("-fsdev", 0);
	name = value_of("-name", 0);
	ck_assert_str_eq(fsdev, "local,id=shares,path=/run/a,,readonly=off,,b/"
				"shares,security_model=passthrough,multidevs=remap");
	ck_assert_str_eq(name, "guest=x,,debug-threads=on");
}
END_TEST

START_TEST(room_to_grow_by_less_than_a_step_is_no_room)
{
	_cleanup_free_ char *line = NULL;

	cfg.max_memory_mb = cfg.memory_mb + VM_MEMORY_STEP_MB - 1;
	line = line_of();
	ck_assert_ptr_null(strstr(line, "maxmem"));
	ck_assert_ptr_null(strstr(line, "swiotlb"));
}
END_TEST

START_TEST(the_vsock_daemon_gets_its_CID_and_sockets_of_the_run_directory)
{
	_cleanup_strv_ char **v = transport_daemon_args(&cfg, "/usr/bin/vhost-device-vsock");
	_cleanup_free_ char *line = strv_join(v, " ");

	ck_assert_str_eq(line, "/usr/bin/vhost-device-vsock --vm "
			       "guest-cid=42,socket=/run/x/vsock/vhost,uds-path=/run/x/vsock/vm");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm args");
	TCase *tc = tcase_create("args");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, a_plain_vm_has_this_command_line);
	tcase_add_test(tc, a_vm_under_KVM_that_may_grow_has_this_command_line);
	tcase_add_test(tc, a_vm_with_limits_for_its_disks_has_one_group_for_them_all);
	tcase_add_test(tc, memory_is_shared_where_a_daemon_serves_a_device_and_nowhere_else);
	tcase_add_test(tc, the_agent_s_placeholders_are_replaced_and_nothing_else);
	tcase_add_test(tc, a_comma_in_a_path_ends_no_option);
	tcase_add_test(tc, room_to_grow_by_less_than_a_step_is_no_room);
	tcase_add_test(tc, the_vsock_daemon_gets_its_CID_and_sockets_of_the_run_directory);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
