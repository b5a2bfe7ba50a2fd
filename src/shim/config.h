/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SHIM_CONFIG_H
#define LCOW_SHIM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "controller/container.h"
#include "vmm/vmm.h"

struct err;

/**
 * struct shim_config - lcow.conf(5): section [lcow]; the defaults are in shim_config_init()
 *
 * The host's file is $LCOW_CONFIG, or lcow/lcow.conf in sysconfdir (/etc), or nothing. A file or
 * text named by runtime options is read over it and may set anything but @run_dir and @scratch_dir,
 * which start and delete must agree on, and @emulated_devices.
 */
struct shim_config {
	char *run_dir; /* "/run/lcow": a sandbox's run directory lies below */
	char *scratch_dir; /* "/var/lib/lcow": likewise for scratch images; on disk */
	char *boot_files; /* lib/lcow/uvm in prefix (/usr) */
	char *qemu; /* "qemu-system-x86_64" */
	char *vhost_device_vsock; /* "vhost-device-vsock" */
	char *kernel_args; /* more kernel arguments, NULL for none */
	enum vm_accel accel; /* auto | kvm | tcg */
	enum vm_transport transport; /* auto | serial | vhost-vsock | vhost-user-vsock */
	enum rootfs_upper upper; /* guest | host */
	enum log_level log_level; /* trace … error */
	uint64_t memory_mb; /* memory = 512M, at boot */
	uint64_t max_memory_mb; /* max_memory: 0 is shim_config_max_memory_mb()'s choice */
	uint64_t overhead_mb; /* overhead = 128M, of the VM beside its pods */
	uint64_t scratch_bytes; /* scratch = 10G */
	uint64_t storage_iops; /* 0: no limit */
	uint64_t storage_bandwidth; /* bytes per second, likewise */
	unsigned cpus; /* at boot */
	unsigned max_cpus; /* 0 is shim_config_max_cpus()'s choice */
	uid_t qemu_uid; /* qemu_user = lcow-qemu | 65534 | root: a name or a number */
	gid_t qemu_gid;
	bool deny_writable_shares;
	bool emulated_devices; /* for tests */
};

/** shim_config_init() - the defaults */
void shim_config_init(struct shim_config *c);
void shim_config_free(struct shim_config *c);

/**
 * shim_config_host() - read the host's file
 * Return: 0 (also when there is none), or -ERR_INVALID with file, line and what was wrong
 */
int shim_config_host(struct shim_config *c, struct err *err);

/**
 * shim_config_options() - read what runtime options bring: a google.protobuf.Any, packed
 *
 * runtimeoptions.v1.Options: its config_path is read, else its config_body. Any other type is
 * ignored.
 *
 * Return: 0, or -ERR_INVALID
 */
int shim_config_options(struct shim_config *c, const void *any, size_t len, struct err *err);

/**
 * shim_config_text() - read a configuration text; @name stands in its errors; @host: run_dir and
 * scratch_dir may be set
 */
int shim_config_text(struct shim_config *c, const char *name, const char *text, bool host,
		     struct err *err);

/** shim_config_max_memory_mb() - how far the VM's memory may grow: as set, or the host's memory */
uint64_t shim_config_max_memory_mb(const struct shim_config *c);
/** shim_config_max_cpus() - likewise: as set, or the host's CPUs, 32 at most */
unsigned shim_config_max_cpus(const struct shim_config *c);

#endif
