/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "gcs/device.h"
#include "gcs/memory.h"
#include "gcs/mounts.h"
#include "gcs/spec.h"
#include "wire/json.h"

#define BINDS "/run/gcs/volumes"
#define UVM "uvm://"
#define HUGEPAGES "hugepages://"
#define BLOCKDEV "blockdev://"

/* Each in its directory of the pod. */
static const struct {
	const char *prefix;
	enum volume_kind kind;
	const char *below;
} of_pod[] = {
	{ "sandbox://", VOLUME_PLAIN, "sandbox" },
	{ "sandbox-tmp://", VOLUME_PLAIN, "tmp" },
	{ HUGEPAGES "2M/", VOLUME_HUGE_2M, "." },
	{ HUGEPAGES "1G/", VOLUME_HUGE_1G, "." },
};

static const char *source_of(struct json_object *mounts, size_t i)
{
	const char *source = json_get_str(json_object_array_get_idx(mounts, i), "source");

	return source ? source : "";
}

bool volumes_asked(struct json_object *spec, enum volume_kind kind)
{
	struct json_object *mounts = spec_mounts(spec);

	for (size_t i = 0; i < json_object_array_length(mounts); i++)
		for (size_t k = 0; k < ARRAY_SIZE(of_pod); k++)
			if (of_pod[k].kind == kind &&
			    str_starts(source_of(mounts, i), of_pod[k].prefix))
				return true;
	return false;
}

static void set_source(struct json_object *mount, const char *source)
{
	json_object_object_add(mount, "source", json_object_new_string(source));
}

/* Where the runtime mounts, an fd of this mount namespace is of no use. */
static int bind_fd(int fd, struct volumes *v, struct err *err)
{
	static unsigned number;
	_cleanup_free_ char *path = str_printf(BINDS "/%u", ++number);
	_cleanup_free_ char *here = str_printf("/proc/self/fd/%d", fd);
	int r = dir_make(path, 0700);

	if (r >= 0 && mount(here, path, NULL, MS_BIND, NULL) < 0)
		r = -errno;
	if (r < 0) {
		rmdir(path);
		return err_sys(err, r, "bind a directory of the pod to %s", path);
	}
	strv_add(&v->paths, path);
	return 0;
}

static int fit_of_pod(struct json_object *mount, const char *root, const char *path,
		      struct volumes *v, struct err *err)
{
	_cleanup_fd_ int dir = -EBADF, fd = -EBADF;
	int r = dir_make(root, 0755);

	if (r < 0)
		return err_sys(err, r, "mkdir %s", root);
	spec_make_dirs(root, path, 0777);
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): every pod has its directories */
	dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = dir < 0 ? -errno
		     : fd_open_in(dir, str_empty(path) ? "." : path, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return err_set(err, -ERR_INVALID, "there is no directory %s in the pod: %s", path,
			       strerror(-fd));
	r = bind_fd(fd, v, err);
	if (r >= 0)
		set_source(mount, v->paths[strv_len(v->paths) - 1]);
	return r;
}

/* The runtime binds the device's node, and the container may use what that stands for. */
static int fit_device(struct json_object *spec, struct json_object *mount, const char *source,
		      const char *destination, struct err *err)
{
	_cleanup_free_ char *path = mem_strdup(destination + strlen(BLOCKDEV));
	char device[PATH_MAX];
	ssize_t n = readlink(source, device, sizeof(device) - 1);
	struct stat st;

	if (!mount_path_valid(path))
		return err_set(err, -ERR_INVALID, "'%s' is not a clean absolute path", path);
	if (n < 0)
		return err_set(err, -ERR_INVALID, "%s is no disk of the VM: %s", source,
			       strerror(errno));
	device[n] = '\0';
	if (stat(device, &st) < 0 || !S_ISBLK(st.st_mode))
		return err_set(err, -ERR_INVALID, "%s is no block device", device);
	device_allow(spec, &st, spec_has_option(mount, "ro") ? "r" : "rwm");
	set_source(mount, device);
	json_object_object_add(mount, "destination", json_object_new_string(path));
	return 0;
}

static int fit(struct json_object *spec, struct json_object *mount, const char *source,
	       const char *const *dirs, struct volumes *v, struct err *err)
{
	const char *destination = json_get_str(mount, "destination");

	for (size_t i = 0; i < ARRAY_SIZE(of_pod); i++) {
		const char *dir = dirs[of_pod[i].kind];
		_cleanup_free_ char *root = dir ? str_printf("%s/%s", dir, of_pod[i].below) : NULL;
		_cleanup_free_ char *path = NULL;

		if (!str_starts(source, of_pod[i].prefix))
			continue;
		path = mem_strdup(source + strlen(of_pod[i].prefix));
		return fit_of_pod(mount, root, path, v, err);
	}
	if (str_starts(source, HUGEPAGES))
		return err_set(err, -ERR_INVALID, "huge pages have 2M or 1G: %s", source);
	if (destination && str_starts(destination, BLOCKDEV))
		return fit_device(spec, mount, source, destination, err);
	if (str_starts(source, UVM)) {
		_cleanup_free_ char *path = mem_strdup(source + strlen(UVM));

		if (!mount_path_valid(path) || access(path, F_OK) < 0)
			return err_set(err, -ERR_INVALID, "could not open uVM mount target: %s",
				       path);
		set_source(mount, path);
	}
	return 0;
}

int volumes_fit(struct json_object *spec, const char *const dirs[VOLUME_KINDS], struct volumes *v,
		struct err *err)
{
	struct json_object *mounts = spec_mounts(spec);

	for (size_t i = 0; i < json_object_array_length(mounts); i++) {
		int r = fit(spec, json_object_array_get_idx(mounts, i), source_of(mounts, i), dirs,
			    v, err);

		if (r < 0)
			return err_wrap(err, r, "mounts");
	}
	return 0;
}

/* ---- huge pages ---- */

/*
 * Pages of 2 MiB are taken from memory when a container touches them, up to what pods may have;
 * those of 1 GiB would not be found then, and are those that the kernel reserved when it booted.
 */
static int offer_pages(const char *size, unsigned long kib, bool on_demand, struct err *err)
{
	_cleanup_free_ char *dir = str_printf("/sys/kernel/mm/hugepages/hugepages-%lukB", kib);
	_cleanup_free_ char *path =
		str_printf("%s/%s", dir, on_demand ? "nr_overcommit_hugepages" : "nr_hugepages");
	_cleanup_free_ char *text = NULL;
	struct sysinfo info = { 0 };
	uint64_t total;
	size_t len;

	if (file_read(path, 64, &text, &len) < 0)
		return err_set(err, -ERR_INVALID, "the VM has no huge pages of %s", size);
	if (!on_demand)
		return str_eq(text, "0\n") ? err_set(err, -ERR_EXHAUSTED,
						     "the VM's kernel has reserved no huge pages "
						     "of %s",
						     size)
					   : 0;
	sysinfo(&info);
	total = (uint64_t)info.totalram * info.mem_unit;
	free(TAKE_PTR(text));
	text = str_printf("%llu", (unsigned long long)(total - memory_reserve(total)) / 1024 / kib);

	int r = file_put(path, text);

	return r < 0 ? err_sys(err, r, "write %s", path) : 0;
}

CO int volumes_mount(enum volume_kind kind, const char *target, struct err *err)
{
	static const struct {
		const char *size;
		unsigned long kib;
		const char *options;
	} huge[] = {
		[VOLUME_HUGE_2M] = { "2M", 2 << 10, "pagesize=2M,mode=0755" },
		[VOLUME_HUGE_1G] = { "1G", 1 << 20, "pagesize=1G,mode=0755" },
	};
	int r;

	if (!huge[kind].kib)
		return mount_at("volumes", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755", err);
	r = offer_pages(huge[kind].size, huge[kind].kib, kind == VOLUME_HUGE_2M, err);
	return r < 0 ? r
		     : mount_at("hugepages", target, "hugetlbfs", MS_NOSUID | MS_NODEV,
				huge[kind].options, err);
}

void volumes_clear(struct volumes *v)
{
	for (char **path = v->paths; path && *path; path++) {
		umount2(*path, MNT_DETACH | UMOUNT_NOFOLLOW);
		rmdir(*path);
	}
	strv_free(v->paths);
	v->paths = NULL;
}
