/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With a real QEMU: needs root, and LCOW_BOOT_FILES as a boot files directory whose kernel boots
 * (its agent is not asked).
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "vmm/vmm_priv.h"

static struct boot_files boot;
static struct vm_config cfg;
static struct vmm *vm;
static struct err err;
static char *dir, *run_dir;
static unsigned ends, fds_before;
static void (*body)(void);

static void text_put(const char *path, const char *text)
{
	ck_assert_int_eq(file_write(path, text, strlen(text), 0644), 0);
}

/**
 * text_get() - content of a file of /proc, or anywhere; "" when it cannot be read; the caller frees
 * it
 */
static char *text_get(const char *path)
{
	char *text = NULL;
	size_t len;

	return file_read(path, 1 << 20, &text, &len) < 0 ? mem_strdup("") : text;
}

static unsigned entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void setup(void)
{
	char name[] = "/tmp/lcow-vmm-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(name));
	dir = mem_strdup(name);
	run_dir = str_printf("%s/run", dir);
	ck_assert_int_eq(mkdir(run_dir, 0700), 0);
	ck_assert_int_eq(loop_init(), 0);
	memset(&err, 0, sizeof(err));
	ends = 0;
	ck_assert_msg(boot_files_load(getenv("LCOW_BOOT_FILES"), &boot, &err) == 0, "%s", err.text);
	boot.virtio_shares = boot.serial = true;
	cfg = (struct vm_config){
		.id = "test",
		.qemu = "qemu-system-x86_64",
		.boot = &boot,
		.run_dir = run_dir,
		.accel = VM_ACCEL_TCG,
		.transport = VM_TRANSPORT_SERIAL,
		.cpus = 1,
		.memory_mb = 256,
		.uid = 65534,
		.gid = 65534,
	};
	fds_before = entries("/proc/self/fd");
}

static void teardown(void)
{
	vm = vmm_free(vm);
	worker_fini();
	ck_assert_uint_eq(entries("/proc/self/fd"), fds_before);
	loop_fini();
	boot_files_free(&boot);

	_cleanup_free_ char *mounts = text_get("/proc/self/mountinfo");

	ck_assert_ptr_null(strstr(mounts, run_dir));
	/* Nothing of the VM is left in the run directory. */
	ck_assert_int_eq(rmdir(run_dir), 0);
	ck_assert_int_eq(dir_remove(dir), 0);
	free(run_dir);
	free(dir);
}

static void on_exit_seen(void *arg)
{
	ends++;
}

static void in_coroutine(void *arg)
{
	body();
	loop_stop(0);
}

static void run(void (*fn)(void))
{
	body = fn;
	co_spawn("test", in_coroutine, NULL, time_mono() + 100 * USEC_PER_SEC);
	loop_run();
}

static void boot_vm(void)
{
	ck_assert_msg(vmm_new(&cfg, on_exit_seen, NULL, &vm, &err) == 0, "%s", err.text);
	ck_assert_msg(vmm_start(vm, &err) == 0, "%s", err.text);
	ck_assert(vmm_running(vm));
}

static char *of_qemu(const char *what)
{
	return str_printf("/proc/%d/%s", (int)vmm_pid(vm), what);
}

/* --- */

static void life(void)
{
	_cleanup_free_ char *record = str_printf("%s/qemu.pid", run_dir), *text = NULL, *pid = NULL;

	boot_vm();
	text = text_get(record);
	pid = str_printf("%d ", (int)vmm_pid(vm));
	ck_assert_msg(str_starts(text, pid), "record: %s", text);
	ck_assert_int_eq(vmm_terminate(vm), 0);
	ck_assert(!vmm_running(vm));
	ck_assert_uint_eq(ends, 1);
	ck_assert(vmm_clean_exit(vm));
	ck_assert_int_eq(vmm_terminate(vm), 0);
	ck_assert_int_eq(vmm_wait(vm), 0);
}

START_TEST(a_vm_starts_and_is_terminated)
{
	run(life);
}
END_TEST

static bool has_line(const char *text, const char *line)
{
	return strstr(text, line);
}

static void jailed(void)
{
	static const char *const spaces[] = { "mnt", "pid_for_children", "ipc", "net", "uts" };
	_cleanup_free_ char *path = NULL, *status = NULL, *root = NULL, *etc = NULL;

	boot_vm();
	path = of_qemu("status");
	status = text_get(path);
	ck_assert_msg(has_line(status, "Uid:\t65534\t65534\t65534\t65534\n"), "%s", status);
	ck_assert_msg(has_line(status, "Groups:\t \n"), "%s", status);
	ck_assert_msg(has_line(status, "NoNewPrivs:\t1\n"), "%s", status);
	ck_assert_msg(has_line(status, "Seccomp:\t2\n"), "%s", status);
	ck_assert_msg(has_line(status, "CapEff:\t000000000000001f\n"), "%s", status);
	ck_assert_msg(has_line(status, "CapBnd:\t000000000000001f\n"), "%s", status);
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		_cleanup_free_ char *what = str_printf("ns/%s", spaces[i]), *theirs = of_qemu(what);
		_cleanup_free_ char *ours = str_printf("/proc/self/%s", what);
		struct stat a, b;

		ck_assert_int_eq(stat(theirs, &a), 0);
		ck_assert_int_eq(stat(ours, &b), 0);
		ck_assert_msg(a.st_ino != b.st_ino, "%s", what);
	}
	root = of_qemu("root");
	etc = of_qemu("root/root");
	ck_assert_int_lt(access(etc, F_OK), 0);
	free(TAKE_PTR(etc));
	etc = of_qemu("root/etc/passwd");
	ck_assert_int_lt(access(etc, F_OK), 0);
	free(TAKE_PTR(etc));
	etc = of_qemu("root/usr/bin");
	ck_assert_int_eq(access(etc, F_OK), 0);

	struct statvfs fs;

	ck_assert_int_eq(statvfs(root, &fs), 0);
	ck_assert(fs.f_flag & ST_RDONLY);
	ck_assert_int_eq(vmm_terminate(vm), 0);
}

START_TEST(QEMU_sees_only_what_it_was_handed_and_has_few_privileges)
{
	run(jailed);
}
END_TEST

static void jailed_root(void)
{
	_cleanup_free_ char *path = NULL, *status = NULL;

	cfg.uid = cfg.gid = 0;
	boot_vm();
	path = of_qemu("status");
	status = text_get(path);
	ck_assert_msg(has_line(status, "CapEff:\t000000000000001f\n"), "%s", status);
	ck_assert_int_eq(vmm_terminate(vm), 0);
}

START_TEST(as_root_QEMU_has_no_more_capabilities)
{
	run(jailed_root);
}
END_TEST

/* The agent loads the guest's driver, and nobody talks to the agent here. */
static void growth(void)
{
	cfg.max_memory_mb = 4096;
	cfg.max_cpus = 3;
	boot_vm();
	for (int i = 0; i < 2; i++) {
		CO_LIMIT(100 * USEC_PER_MSEC);
		ck_assert_int_eq(vmm_grow_memory(vm, 512, &err), -ETIMEDOUT);
		/* The second time QEMU has it already, and says so. */
		vm->memory_device = false;
	}
	ck_assert_msg(vmm_grow_cpus(vm, 3, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(vmm_cpus(vm), 3);
	vm->plugged_cpus = 0;
	ck_assert_int_eq(vmm_grow_cpus(vm, 4, &err), -ERR_EXHAUSTED);
	ck_assert_int_eq(vmm_terminate(vm), 0);
}

START_TEST(memory_and_CPUs_are_plugged_into_a_jailed_QEMU)
{
	run(growth);
}
END_TEST

#define GPU "0000:65:00.0"

static void host_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/host%s", dir, name);
	_cleanup_free_ char *parent = mem_strdup(path);

	*strrchr(parent, '/') = '\0';
	ck_assert_int_eq(dir_make(parent, 0755), 0);
	text_put(path, text);
}

static void host_link(const char *name, const char *to)
{
	_cleanup_free_ char *path = str_printf("%s/host/sys/bus/pci/devices/" GPU "/%s", dir, name);

	ck_assert_int_eq(symlink(to, path), 0);
}

static void host_node(const char *name)
{
	_cleanup_free_ char *path = str_printf("%s/host/dev/vfio/%s", dir, name);

	ck_assert_int_eq(mknod(path, S_IFCHR | 0600, makedev(1, 3)), 0);
}

/* A GPU in group 18, whose nodes are no VFIO nodes, as a look at them shows. */
static char *make_host(void)
{
	host_file("/sys/bus/pci/devices/" GPU "/class", "0x030000\n");
	host_file("/sys/kernel/iommu_groups/18/devices/" GPU, "");
	host_link("driver", "../../../../bus/pci/drivers/vfio-pci");
	host_link("iommu_group", "../../../../kernel/iommu_groups/18");
	host_file("/dev/vfio/x", "");
	host_node("vfio");
	host_node("18");
	return str_printf("%s/host", dir);
}

static void vfio(void)
{
	const struct vmm_pci gpu = { .id = "g", .device = "65:00.0", .vf = -1 };
	_cleanup_free_ char *host = make_host(), *limits = NULL, *text = NULL;
	_cleanup_free_ char *common = NULL, *group = NULL;
	char path[VM_PCI_PATH_MAX];

	boot_vm();
	vm->host_root = host;
	common = of_qemu("root/dev/vfio/vfio");
	group = of_qemu("root/dev/vfio/18");
	ck_assert_int_lt(access(common, F_OK), 0);
	ck_assert_int_eq(vmm_pci_add(vm, &gpu, path, &err), -EREMOTEIO);
	ck_assert_msg(strstr(err.text, "group 18 status"), "%s", err.text);
	ck_assert_int_eq(access(common, F_OK), 0);
	ck_assert_int_lt(access(group, F_OK), 0);
	limits = of_qemu("limits");
	text = text_get(limits);
	/* 256 MiB, and one GiB. */
	ck_assert_msg(strstr(text, "Max locked memory         1342177280") ||
			      strstr(err.text, "LimitMEMLOCK"),
		      "%s: %s", err.text, text);
	ck_assert_uint_eq(vm->ports[0].step, PORT_EMPTY);
	ck_assert_int_eq(vmm_terminate(vm), 0);
}

START_TEST(a_jailed_QEMU_can_open_the_VFIO_nodes_of_what_it_is_given)
{
	run(vfio);
}
END_TEST

static unsigned disks_done, disks_failed;

struct disk_job {
	unsigned controller;
	unsigned lun;
	bool remove;
	const char *path;
};

static void disk_job(void *arg)
{
	struct disk_job *j = arg;
	struct err e = { 0 };
	int r = j->remove ? vmm_disk_remove(vm, j->controller, j->lun, &e)
			  : vmm_disk_add(vm, j->controller, j->lun,
					 &(struct vmm_disk){ .path = j->path, .read_only = true },
					 &e);

	if (r < 0) {
		fprintf(stderr, "disk %u:%u: %s\n", j->controller, j->lun, e.text);
		disks_failed++;
	}
	disks_done++;
	free(j);
}

static void disks_at_once(const char *path, bool remove)
{
	disks_done = disks_failed = 0;
	for (unsigned i = 0; i < 64; i++) {
		struct disk_job *j = NEW0(struct disk_job);

		*j = (struct disk_job){
			.controller = i % 4, .lun = i, .remove = remove, .path = path
		};
		co_spawn("disk", disk_job, j, USEC_NEVER);
	}
	while (disks_done < 64)
		ck_assert_int_eq(co_sleep(1000), 0);
	ck_assert_uint_eq(disks_failed, 0);
}

static void disks(void)
{
	_cleanup_free_ char *image = str_printf("%s/image", dir), *fds = NULL;
	_cleanup_buf_ struct buf zeros = { 0 };
	unsigned before;
	uint64_t t0;

	memset(buf_reserve(&zeros, 65536), 0, 65536);
	ck_assert_int_eq(file_write(image, zeros.data, 65536, 0600), 0);
	boot_vm();
	fds = of_qemu("fd");
	before = entries(fds);
	for (int round = 0; round < 2; round++) {
		t0 = time_mono();
		disks_at_once(image, false);
		ck_assert_uint_ge(entries(fds), before + 64);
		printf("64 disks added in %llu ms", (unsigned long long)(time_mono() - t0) / 1000);
		t0 = time_mono();
		disks_at_once(image, true);
		printf(", removed in %llu ms\n", (unsigned long long)(time_mono() - t0) / 1000);
		ck_assert_uint_eq(entries(fds), before);
	}
	ck_assert_int_eq(vmm_terminate(vm), 0);
}

START_TEST(many_disks_come_and_go_at_once_and_QEMU_lets_go_of_their_files)
{
	run(disks);
}
END_TEST

static void disk_errors(void)
{
	_cleanup_free_ char *image = str_printf("%s/image", dir),
			    *fifo = str_printf("%s/fifo", dir), *fds = NULL;
	struct vmm_disk disk = { .path = image };
	unsigned before;

	text_put(image, "not much, but a disk");
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	boot_vm();
	fds = of_qemu("fd");
	ck_assert_int_eq(vmm_disk_add(vm, 4, 0, &disk, &err), -ERR_INVALID);
	ck_assert_int_eq(vmm_disk_add(vm, 0, 64, &disk, &err), -ERR_INVALID);
	ck_assert_int_eq(vmm_disk_add(vm, 0, 1, &(struct vmm_disk){ .path = "/nonexistent/x" },
				      &err),
			 -ENOENT);
	ck_assert_int_eq(vmm_disk_add(vm, 0, 1, &(struct vmm_disk){ .path = fifo }, &err),
			 -ERR_INVALID);
	ck_assert_int_eq(vmm_disk_add(vm, 0, 1,
				      &(struct vmm_disk){ .path = dir, .read_only = true }, &err),
			 -ERR_INVALID);
	ck_assert_msg(vmm_disk_add(vm, 0, 1, &disk, &err) == 0, "%s", err.text);
	ck_assert_int_eq(vmm_disk_add(vm, 0, 1, &disk, &err), -ERR_EXISTS);
	before = entries(fds);
	/* Writable twice: QEMU's lock refuses the second after its fd and node were added. */
	ck_assert_int_eq(vmm_disk_add(vm, 0, 2, &disk, &err), -EREMOTEIO);
	ck_assert_msg(strstr(err.text, "lock"), "%s", err.text);
	ck_assert_uint_eq(entries(fds), before);
	disk.read_only = true;
	ck_assert_msg(vmm_disk_add(vm, 0, 2, &disk, &err) == 0, "%s", err.text);
	ck_assert_int_eq(vmm_disk_remove(vm, 0, 2, &err), 0);
	ck_assert_int_eq(vmm_disk_remove(vm, 0, 2, &err), 0);
	ck_assert_int_eq(vmm_disk_remove(vm, 0, 1, &err), 0);
	ck_assert_int_eq(vmm_terminate(vm), 0);
}

START_TEST(a_disk_that_cannot_be_added_leaves_its_LUN_free)
{
	run(disk_errors);
}
END_TEST

static void shares(void)
{
	_cleanup_free_ char *host = str_printf("%s/host", dir), *f = str_printf("%s/a", host),
			    *g = str_printf("%s/b", host);
	_cleanup_free_ char *root = NULL, *path = NULL, *text = NULL, *only = NULL, *other = NULL;

	ck_assert_int_eq(mkdir(host, 0755), 0);
	text_put(f, "hello");
	text_put(g, "neighbour");
	boot_vm();
	root = str_printf("/proc/%d/root%s/shares", (int)vmm_pid(vm), run_dir);
	ck_assert_msg(vmm_share_add(vm, "0", host, NULL, true, &err) == 0, "%s", err.text);
	ck_assert_msg(vmm_share_add(vm, "1", host, NULL, false, &err) == 0, "%s", err.text);
	ck_assert_msg(vmm_share_add(vm, "12", host, "a", false, &err) == 0, "%s", err.text);
	ck_assert_msg(vmm_share_add(vm, "13", host, "a", true, &err) == 0, "%s", err.text);
	path = str_printf("%s/0/a", root);
	text = text_get(path);
	ck_assert_str_eq(text, "hello");
	ck_assert_int_lt(open(path, O_WRONLY | O_CLOEXEC), 0);
	ck_assert_int_eq(errno, EROFS);
	path[strlen(path) - 3] = '1';
	ck_assert_int_eq(file_put(path, "HELLO"), 0);
	only = str_printf("%s/12", root);
	ck_assert_uint_eq(entries(only), 3);
	other = str_printf("%s/12/new", root);
	ck_assert_int_lt(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), 0);
	ck_assert_int_eq(errno, EROFS);
	free(TAKE_PTR(other));
	other = str_printf("%s/12/a", root);
	free(TAKE_PTR(text));
	text = text_get(other);
	ck_assert_str_eq(text, "HELLO");
	ck_assert_int_eq(file_put(other, "Hallo"), 0);
	free(TAKE_PTR(other));
	other = str_printf("%s/13/a", root);
	ck_assert_int_lt(open(other, O_WRONLY | O_CLOEXEC), 0);
	free(TAKE_PTR(other));
	other = str_printf("%s/new", root);
	ck_assert_int_lt(mkdir(other, 0700), 0);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(vmm_share_add(vm, "1", host, NULL, false, &err), -ERR_EXISTS);
	ck_assert_int_eq(vmm_share_add(vm, "2", "/nonexistent/x", NULL, false, &err), -ENOENT);
	ck_assert_int_eq(vmm_share_add(vm, "2", f, NULL, false, &err), -ENOTDIR);
	ck_assert_int_eq(vmm_share_add(vm, "2", host, "nobody", false, &err), -ENOENT);
	ck_assert_int_eq(vmm_share_add(vm, "2", host, "..", false, &err), -ERR_INVALID);
	ck_assert_int_eq(vmm_share_add(vm, "../2", host, NULL, false, &err), -ERR_INVALID);
	for (const char *const *n = (const char *const[]){ "0", "1", "12", "13", "13", "99", NULL };
	     *n; n++)
		ck_assert_msg(vmm_share_remove(vm, *n, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(entries(root), 2);
	free(TAKE_PTR(text));
	text = text_get(f);
	ck_assert_str_eq(text, "Hallo");
	ck_assert_int_eq(vmm_terminate(vm), 0);
}

START_TEST(shares_appear_in_QEMU_s_namespace_with_their_flags)
{
	run(shares);
}
END_TEST

static void killed(void)
{
	_cleanup_free_ char *image = str_printf("%s/image", dir);
	struct vmm_disk disk = { .path = image, .read_only = true };
	struct channel_listener *l = NULL;
	int fd;

	text_put(image, "a disk");
	ck_assert_int_eq(vmm_new(&cfg, on_exit_seen, NULL, &vm, &err), 0);
	ck_assert_int_eq(channel_listen(vmm_channel(vm), 77, &l, &err), 0);
	ck_assert_msg(vmm_start(vm, &err) == 0, "%s", err.text);
	ck_assert_int_eq(vmm_disk_add(vm, 1, 1, &disk, &err), 0);
	ck_assert_int_eq(kill(vmm_pid(vm), SIGKILL), 0);
	ck_assert_int_eq(channel_accept(l, &fd), -ECONNRESET);
	ck_assert_int_eq(vmm_wait(vm), 0);
	ck_assert_uint_eq(ends, 1);
	ck_assert(!vmm_clean_exit(vm));
	ck_assert_int_eq(vmm_disk_add(vm, 1, 2, &disk, &err), -ERR_UNAVAILABLE);
	ck_assert_int_eq(vmm_share_add(vm, "1", dir, NULL, true, &err), -ERR_UNAVAILABLE);
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 1, &err), 0);
	ck_assert_int_eq(vmm_share_remove(vm, "1", &err), 0);
	ck_assert_int_eq(vmm_terminate(vm), 0);
	channel_listener_free(l);
}

START_TEST(when_QEMU_is_killed_additions_fail_and_removals_succeed)
{
	run(killed);
}
END_TEST

static void start_fails(void)
{
	ck_assert_int_eq(vmm_new(&cfg, on_exit_seen, NULL, &vm, &err), 0);
	ck_assert_int_lt(vmm_start(vm, &err), 0);
	ck_assert(!vmm_running(vm));
}

START_TEST(a_QEMU_that_ends_at_once_is_quoted)
{
	_cleanup_free_ char *script = str_printf("%s/qemu", dir);

	cfg.qemu = script;
	text_put(script, "#!/bin/sh\necho 'no such luck' >&2\nexit 3\n");
	ck_assert_int_eq(chmod(script, 0755), 0);
	run(start_fails);
	ck_assert_int_eq(err.code, -ERR_UNAVAILABLE);
	ck_assert_msg(strstr(err.text, "no such luck"), "%s", err.text);
}
END_TEST

START_TEST(privileges_are_gone_before_anything_is_executed)
{
	_cleanup_free_ char *script = str_printf("%s/qemu", dir);

	cfg.qemu = script;
	/* QEMU's own sandbox would hide what the jail forgets. */
	text_put(script, "#!/bin/sh\ngrep -E 'NoNewPrivs|CapEff' /proc/self/status >&2\nexit 3\n");
	ck_assert_int_eq(chmod(script, 0755), 0);
	run(start_fails);
	ck_assert_msg(strstr(err.text, "CapEff:?000000000000001f") ||
			      strstr(err.text, "CapEff:\t000000000000001f"),
		      "%s", err.text);
	ck_assert_msg(strstr(err.text, "NoNewPrivs:?1") || strstr(err.text, "NoNewPrivs:\t1"), "%s",
		      err.text);
}
END_TEST

START_TEST(memory_that_the_host_does_not_have_is_told_as_such)
{
	cfg.memory_mb = 64ull << 20;
	run(start_fails);
	ck_assert_msg(err.code == -ERR_EXHAUSTED, "%s", err.text);
}
END_TEST

static void missing(void)
{
	ck_assert_int_eq(vmm_new(&cfg, NULL, NULL, &vm, &err), -ERR_UNAVAILABLE);
}

START_TEST(a_QEMU_that_is_missing_is_named)
{
	cfg.qemu = "/nonexistent/qemu";
	run(missing);
	ck_assert_msg(strstr(err.text, "/nonexistent/qemu"), "%s", err.text);
}
END_TEST

static void report_pid(void)
{
	boot_vm();
	printf("%d\n", (int)vmm_pid(vm));
	fflush(stdout);
	for (;;)
		co_sleep(USEC_PER_SEC);
}

START_TEST(QEMU_dies_with_its_shim)
{
	int ends_[2], status;
	char text[32] = "";
	pid_t child;

	ck_assert_int_eq(pipe(ends_), 0);
	child = fork();
	if (child == 0) {
		loop_fini();
		ck_assert_int_eq(loop_init(), 0);
		dup2(ends_[1], 1);
		run(report_pid);
		_exit(0);
	}
	ck_assert_int_gt(read(ends_[0], text, sizeof(text) - 1), 0);
	close(ends_[0]);
	close(ends_[1]);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	for (int i = 0; kill(atoi(text), 0) == 0; i++) {
		_cleanup_free_ char *path = str_printf("/proc/%d/status", atoi(text)),
				    *state = text_get(path);

		if (strstr(state, "State:\tZ"))
			break; /* dead, and nobody reaps it here */
		ck_assert_int_lt(i, 200);
		usleep(10000);
	}
	/* A shim's mounts end with its namespace; here that is this process's. */
	static const char *const names[] = { "shares", "vfio" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *left = str_printf("%s/%s", run_dir, names[i]);

		ck_assert_int_eq(umount2(left, MNT_DETACH), 0);
	}
	run(life);
}
END_TEST

int main(void)
{
	Suite *s;
	TCase *tc;
	SRunner *sr;
	int failed;

	if (geteuid() != 0 || !getenv("LCOW_BOOT_FILES"))
		return 77;
	if (vmm_namespace_setup(&err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 77;
	}
	s = suite_create("vmm vm");
	tc = tcase_create("vm");
	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_vm_starts_and_is_terminated);
	tcase_add_test(tc, QEMU_sees_only_what_it_was_handed_and_has_few_privileges);
	tcase_add_test(tc, as_root_QEMU_has_no_more_capabilities);
	tcase_add_test(tc, memory_and_CPUs_are_plugged_into_a_jailed_QEMU);
	tcase_add_test(tc, a_jailed_QEMU_can_open_the_VFIO_nodes_of_what_it_is_given);
	tcase_add_test(tc, many_disks_come_and_go_at_once_and_QEMU_lets_go_of_their_files);
	tcase_add_test(tc, a_disk_that_cannot_be_added_leaves_its_LUN_free);
	tcase_add_test(tc, shares_appear_in_QEMU_s_namespace_with_their_flags);
	tcase_add_test(tc, when_QEMU_is_killed_additions_fail_and_removals_succeed);
	tcase_add_test(tc, a_QEMU_that_ends_at_once_is_quoted);
	tcase_add_test(tc, privileges_are_gone_before_anything_is_executed);
	tcase_add_test(tc, memory_that_the_host_does_not_have_is_told_as_such);
	tcase_add_test(tc, a_QEMU_that_is_missing_is_named);
	tcase_add_test(tc, QEMU_dies_with_its_shim);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
