/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "loop/child.h"
#include "vmm/program.h"
#include "vmm/vmm_priv.h"

/*
 * That /dev/kvm opens proves nothing: on hosts that are virtual machines themselves KVM may start a
 * guest that never gets anywhere. So the kernel is booted once without an initrd; it panics for
 * want of a root file system, says so on its console and resets, by which QEMU ends. A triple fault
 * resets as well, hence the text.
 */
#define PROBE_USEC (5 * USEC_PER_SEC)
#define PROBE_TEXT "Kernel panic"

/** device_opens() - Return: 0 or negative errno */
static int device_opens(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int key_file(struct buf *b, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	buf_addf(b, "%s %lld %lld.%09ld\n", path, (long long)st.st_size,
		 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return 0;
}

/**
 * probe_key() - what the verdict depends on: QEMU, the kernel of the guest, and this boot of the
 * host
 */
static int probe_key(const char *qemu, const char *kernel, char ret[65])
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_free_ char *boot_id = NULL;
	size_t len;
	int r = file_read("/proc/sys/kernel/random/boot_id", 128, &boot_id, &len);

	if (r == 0)
		r = key_file(&b, qemu);
	if (r == 0)
		r = key_file(&b, kernel);
	if (r < 0)
		return r;
	buf_addf(&b, "%s", boot_id);
	sha256_hex(b.data, b.len, ret);
	return 0;
}

/**
 * cache_read() - Return: the accelerator, VM_ACCEL_AUTO when nothing (or nothing of this key) is
 * known
 */
static enum vm_accel cache_read(const char *path, const char *key)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (!path || file_read(path, 256, &text, &len) < 0 || len < 65 ||
	    memcmp(text, key, 64) != 0)
		return VM_ACCEL_AUTO;
	if (str_eq(text + 64, " kvm\n"))
		return VM_ACCEL_KVM;
	return str_eq(text + 64, " tcg\n") ? VM_ACCEL_TCG : VM_ACCEL_AUTO;
}

static void cache_write(const char *path, const char *key, enum vm_accel accel)
{
	_cleanup_free_ char *text =
		str_printf("%s %s\n", key, accel == VM_ACCEL_KVM ? "kvm" : "tcg");
	int r = path ? file_write(path, text, strlen(text), 0644) : 0;

	if (r < 0)
		log_warn("keep the accelerator's verdict in %s: %s", path, strerror(-r));
}

/**
 * probe_run() - whether KVM runs the guest's kernel; Return: 1, 0 with a text that says why not, or
 * negative errno when that was not found out
 */
CO static int probe_run(const char *qemu, const char *kernel, struct err *err)
{
	const char *const argv[] = { qemu,
				     "-nodefaults",
				     "-no-user-config",
				     "-display",
				     "none",
				     "-no-reboot",
				     "-M",
				     "q35",
				     "-accel",
				     "kvm",
				     "-cpu",
				     "host",
				     "-m",
				     "128",
				     "-bios",
				     "qboot.rom",
				     "-serial",
				     "stdio",
				     "-kernel",
				     kernel,
				     "-append",
				     "console=ttyS0 panic=-1 quiet",
				     NULL };
	_cleanup_free_ char *output = NULL;
	uint64_t begin = time_mono();
	struct err e = { 0 };
	int r;

	CO_LIMIT(PROBE_USEC);
	r = child_run(argv, NULL, &output, &e);
	if (r == -ECANCELED)
		return r;
	if (r == -ETIMEDOUT && time_mono() - begin < PROBE_USEC)
		return r;
	if (r == 0 && output && strstr(output, PROBE_TEXT))
		return 1;
	err_set(err, -ERR_UNAVAILABLE, "KVM does not run the guest's kernel here: %s",
		r == 0            ? "it ended without a word"
		: r == -ETIMEDOUT ? "it got nowhere in 5 s"
				  : e.text);
	return 0;
}

/** probe() - the accelerator; @err says why not KVM where that was tried and did not work */
CO static int probe(const struct vm_config *cfg, enum vm_accel *ret, struct err *err)
{
	_cleanup_free_ char *qemu = program_find(cfg->qemu);
	char key[65];
	int r;

	if (!qemu)
		return program_missing(cfg->qemu, err);
	r = probe_key(qemu, cfg->boot->kernel, key);
	if (r < 0)
		return err_sys(err, r, "probe the accelerator");
	*ret = cache_read(cfg->probe_cache, key);
	/* Who insists on KVM may have mended it since. */
	if (*ret == VM_ACCEL_KVM || (*ret == VM_ACCEL_TCG && cfg->accel == VM_ACCEL_AUTO))
		return 0;
	r = probe_run(qemu, cfg->boot->kernel, err);
	if (r < 0)
		return err_sys(err, r, "probe the accelerator");
	*ret = r ? VM_ACCEL_KVM : VM_ACCEL_TCG;
	cache_write(cfg->probe_cache, key, *ret);
	return 0;
}

/* Not by silence: who writes kvm into lcow.conf does not want emulation. */
static int refuse(struct err *err)
{
	return err_wrap(err, -ERR_UNAVAILABLE,
			"accel = kvm, but KVM does not work here (auto would emulate the VM)");
}

CO static int choose_kvm(const struct vm_config *cfg, const char *kvm, enum vm_accel *ret,
			 struct err *err)
{
	enum vm_accel found = VM_ACCEL_AUTO;
	int r = device_opens(kvm);

	if (r < 0) {
		err_sys(err, r, "%s", kvm);
		return refuse(err);
	}
	r = probe(cfg, &found, err);
	if (r < 0)
		return r;
	if (found != VM_ACCEL_KVM)
		return refuse(err);
	*ret = VM_ACCEL_KVM;
	return 0;
}

CO int accel_choose(const struct vm_config *cfg, const char *kvm, const char *pvm,
		    enum vm_accel *ret, struct err *err)
{
	struct err why = { 0 };
	int r;

	if (cfg->accel == VM_ACCEL_KVM)
		return choose_kvm(cfg, kvm, ret, err);
	/* kvm_pvm runs none but kernels made for it, and lets the others hang. */
	if (cfg->accel == VM_ACCEL_TCG || device_opens(kvm) < 0 || access(pvm, F_OK) == 0) {
		*ret = VM_ACCEL_TCG;
		return 0;
	}
	r = probe(cfg, ret, &why);
	if (r < 0)
		return err_copy(err, &why);
	if (why.text[0])
		log_info("%s", why.text);
	return 0;
}

CO int accel_resolve(const struct vm_config *cfg, enum vm_accel *ret, struct err *err)
{
	return accel_choose(cfg, "/dev/kvm", "/sys/module/kvm_pvm", ret, err);
}
