/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/cgroup.h"

/* with crun, for as long as it runs */
#define OWN_MEMORY "8M"

enum {
	LOCKED = MS_NODEV | MS_NOSUID | MS_NOEXEC,
	/* the agent holds a handful for every stream; containers get what their spec says */
	NOFILE_SOFT = 65536,
	NOFILE_HARD = 1048576,
	HOSTNAME_LIMIT = 63, /* a DNS label, one less than the kernel takes */
};

/* /dev comes before what lies below it; the order is that of hcsshim's init. */
static const struct {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
} early_mounts[] = {
	{ "proc", "/proc", "proc", LOCKED, NULL },
	{ "sysfs", "/sys", "sysfs", LOCKED, NULL },
	{ "dev", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL },
	{ "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5" },
	{ "shm", "/dev/shm", "tmpfs", LOCKED, "mode=1777" },
	{ "run", "/run", "tmpfs", LOCKED, "mode=0755" },
	{ "tmp", "/tmp", "tmpfs", LOCKED, "mode=1777" },
	{ "cgroup2", BOOT_CGROUP_ROOT, "cgroup2", LOCKED, NULL },
};

static const struct {
	const char *target, *path;
} dev_links[] = {
	{ "/proc/self/fd", "/dev/fd" },
	{ "/proc/self/fd/0", "/dev/stdin" },
	{ "/proc/self/fd/1", "/dev/stdout" },
	{ "/proc/self/fd/2", "/dev/stderr" },
};

/* The OOM killer spares PID 1 anyway; that its pages stay keeps it quick when memory is short. */
static int own_cgroup(struct err *err)
{
	int r;

	if (mkdir(BOOT_CGROUP_SELF, 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "mkdir %s", BOOT_CGROUP_SELF);
	r = file_put(BOOT_CGROUP_SELF "/memory.min", OWN_MEMORY);
	if (r < 0)
		log_warn("cannot protect the agent's memory: %s", strerror(-r));
	r = file_put(BOOT_CGROUP_SELF "/cgroup.procs", "0");
	return r < 0 ? err_sys(err, r, "move to %s", BOOT_CGROUP_SELF) : 0;
}

int boot_mounts(struct err *err)
{
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(early_mounts); i++) {
		r = dir_make(early_mounts[i].target, 0755);
		if (r < 0)
			return err_sys(err, r, "mkdir %s", early_mounts[i].target);
		/* EBUSY: the kernel mounted devtmpfs by itself. */
		if (mount(early_mounts[i].source, early_mounts[i].target, early_mounts[i].type,
			  early_mounts[i].flags, early_mounts[i].options) < 0 &&
		    errno != EBUSY)
			return err_sys(err, -errno, "mount %s on %s", early_mounts[i].type,
				       early_mounts[i].target);
	}
	for (size_t i = 0; i < ARRAY_SIZE(dev_links); i++)
		if (symlink(dev_links[i].target, dev_links[i].path) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "symlink %s", dev_links[i].path);
	r = cgroup_delegate(BOOT_CGROUP_ROOT, err);
	if (r < 0)
		return r;
	if (mkdir(BOOT_CGROUP_PODS, 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "mkdir %s", BOOT_CGROUP_PODS);
	r = cgroup_delegate(BOOT_CGROUP_PODS, err);
	return r < 0 ? r : own_cgroup(err);
}

static int loopback_up(void)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo" };

	if (fd < 0)
		return -errno;
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

int boot_settings(const char *hostname, struct err *err)
{
	const struct rlimit nofile = { .rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD };
	size_t len = strnlen(hostname, HOSTNAME_LIMIT);
	int r;

	/* The OOM killer never takes PID 1, so oom_score_adj stays 0: containers would inherit a
	 * lower one. */
	if (setrlimit(RLIMIT_NOFILE, &nofile) < 0)
		return err_sys(err, -errno, "set RLIMIT_NOFILE to %d", NOFILE_HARD);
	/* The host names the VM by an id of its own, which may be longer than the kernel allows:
	 * cut. */
	if (sethostname(hostname, len) < 0)
		return err_sys(err, -errno, "set hostname %s", hostname);
	if (reboot(RB_DISABLE_CAD) < 0)
		return err_sys(err, -errno, "disable ctrl-alt-del");
	r = loopback_up();
	return r < 0 ? err_sys(err, r, "bring lo up") : 0;
}
