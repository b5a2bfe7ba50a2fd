/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/mounts.h"

#include <errno.h>
#include <linux/magic.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <json-c/json.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/uuid.h"
#include "controller/container.h"
#include "controller/device/scsi.h"
#include "controller/device/share.h"
#include "controller/device/socket.h"
#include "wire/json.h"

static bool among(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (str_eq(s, list[i]))
			return true;
	}
	return false;
}

static bool in_guest(const char *source)
{
	static const char *const schemes[] = { "sandbox://", "sandbox-tmp://", "hugepages://",
					       "uvm://" };

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (str_starts(source, schemes[i]))
			return true;
	}
	return false;
}

static bool has_option(struct json_object *mount, const char *option)
{
	struct json_object *options = json_get(mount, "options", NULL);
	size_t n = json_object_is_type(options, json_type_array) ? json_object_array_length(options)
								 : 0;

	for (size_t i = 0; i < n; i++) {
		const char *o = json_object_get_string(json_object_array_get_idx(options, i));

		if (o && strcasecmp(o, option) == 0)
			return true;
	}
	return false;
}

static bool read_only(struct json_object *mount)
{
	return has_option(mount, "ro") || has_option(mount, "rro");
}

/*
 * Pages cannot be shared with the VM: what is a directory of huge pages on the host is one of the
 * pod in the guest, the same for all who mount the same one.
 */
static int hugepages_of(const char *source, char **ret, struct err *err)
{
	static const struct {
		long bytes;
		const char *name;
	} sizes[] = { { 2l << 20, "2M" }, { 1l << 30, "1G" } };
	struct statfs fs;
	struct stat st;

	if (statfs(source, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC)
		return 0;
	if (stat(source, &st) < 0)
		return err_sys(err, -errno, "stat %s", source);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -ERR_INVALID, "%s is no directory of huge pages", source);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (fs.f_bsize != sizes[i].bytes)
			continue;
		*ret = str_printf("hugepages://%s/%llx-%llx", sizes[i].name,
				  (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
		return 0;
	}
	return err_set(err, -ERR_INVALID, "huge pages of %ld KiB are not supported",
		       (long)fs.f_bsize >> 10);
}

static CO int map_bind(struct shares *shares, struct json_object *mount, const char *source,
		       char ***ids, struct err *err)
{
	static const char *const outward[] = { "shared", "rshared" };
	_cleanup_free_ char *hugepages = NULL;
	char id[UUID_LEN + 1];
	const char *guest_path;
	int r = hugepages_of(source, &hugepages, err);

	if (r < 0)
		return r;
	if (hugepages) {
		json_object_object_add(mount, "source", json_object_new_string(hugepages));
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(outward); i++) {
		if (has_option(mount, outward[i]))
			return err_set(err, -ERR_INVALID,
				       "%s is not supported: what is mounted in the VM does not "
				       "reach the host",
				       outward[i]);
	}
	r = share_reserve(shares, source, read_only(mount), id, err);
	if (r < 0)
		return r;
	strv_add(ids, id);
	r = share_map(shares, id, &guest_path, err);
	if (r < 0)
		return r;
	json_object_object_add(mount, "source", json_object_new_string(guest_path));
	return 0;
}

/* ---- disks ---- */

static bool is_disk(struct json_object *mount)
{
	static const char *const types[] = { "virtual-disk", "physical-disk" };

	return among(json_get_str(mount, "type"), types, ARRAY_SIZE(types));
}

static int reserve_disk(struct scsi *scsi, struct json_object *mount, char ***ids, struct err *err)
{
	const char *source = json_get_str(mount, "source");
	const char *destination = json_get_str(mount, "destination");
	bool ro = read_only(mount);
	const struct scsi_disk disk = { .path = source, .read_only = ro };
	const struct scsi_mount in_guest = { .read_only = ro,
					     .block_dev =
						     str_starts(destination, MOUNTS_BLOCKDEV) };
	char id[UUID_LEN + 1];
	int r = str_empty(source) ? err_set(err, -ERR_INVALID, "no source")
				  : scsi_reserve(scsi, &disk, &in_guest, id, err);

	if (r < 0)
		return err_wrap(err, r, "mount %s", destination);
	strv_add(ids, id);
	return 0;
}

/**
 * struct disks - mounts that are disks, and the reservation of each
 */
struct disks {
	struct scsi *scsi;
	struct json_object **mounts;
	char **ids;
};

/*
 * The image or device becomes a disk of the VM. The guest mounts it, and the container binds that;
 * or the container gets the disk itself, for which the guest looks at the destination.
 */
static CO int map_disk(size_t i, const struct disks *d, struct err *err)
{
	struct json_object *mount = d->mounts[i], *options = json_get(mount, "options", NULL);
	const char *guest_path;
	int r = scsi_map(d->scsi, d->ids[i], &guest_path, err);

	if (r < 0)
		return err_wrap(err, r, "mount %s", json_get_str(mount, "destination"));
	json_object_object_add(mount, "type", json_object_new_string("bind"));
	json_object_object_add(mount, "source", json_object_new_string(guest_path));
	if (!json_object_is_type(options, json_type_array)) {
		options = json_object_new_array();
		json_object_object_add(mount, "options", options);
	}
	if (!has_option(mount, "bind") && !has_option(mount, "rbind"))
		json_object_array_add(options, json_object_new_string("rbind"));
	return 0;
}

/* All are reserved before the first is mapped: where slots run out, none is plugged in vain. */
static CO int map_disks(const struct container_env *env, struct json_object *mounts, size_t n,
			char ***ids, struct err *err)
{
	_cleanup_free_ struct json_object **disks = mem_new0(n + 1, sizeof(*disks));
	size_t n_disks = 0, before = strv_len(*ids);
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		struct json_object *mount = json_object_array_get_idx(mounts, i);

		if (!is_disk(mount))
			continue;
		disks[n_disks++] = mount;
		r = reserve_disk(env->scsi, mount, ids, err);
	}

	if (n_disks == 0 || r < 0)
		return r;

	struct disks d = { env->scsi, disks, *ids + before };

	/* One after the other: while one is plugged, the guest may misread the size of another. */
	for (size_t i = 0; i < n_disks && r >= 0; i++)
		r = map_disk(i, &d, err);
	return r;
}

/* ---- all ---- */

static CO int map_mount(const struct container_env *env, struct json_object *mount,
			char ***share_ids, char ***socket_ids, struct err *err)
{
	static const char *const no_host_part[] = { "tmpfs",   "proc",   "sysfs", "cgroup",
						    "cgroup2", "devpts", "mqueue" };
	const char *type = json_get_str(mount, "type");
	const char *source = json_get_str(mount, "source");
	const char *destination = json_get_str(mount, "destination");
	bool bind = str_eq(type, "bind") || has_option(mount, "bind") || has_option(mount, "rbind");
	int r;

	if (str_empty(destination))
		return err_set(err, -ERR_INVALID, "a mount has no destination");
	if (is_disk(mount))
		return 0;
	if (str_starts(destination, MOUNTS_BLOCKDEV))
		return err_set(err, -ERR_INVALID,
			       "mount %s: its type must be virtual-disk or physical-disk",
			       destination);
	if (among(type, no_host_part, ARRAY_SIZE(no_host_part)))
		return 0;
	if (socket_mounted(mount, bind)) {
		r = socket_map(env->sockets, mount, socket_ids, err);
		return r < 0 ? err_wrap(err, r, "mount %s", destination) : 0;
	}
	if (!bind)
		return err_set(err, -ERR_INVALID, "mount %s: type %s is not supported", destination,
			       type ? type : "\"\"");
	if (str_empty(source))
		return err_set(err, -ERR_INVALID, "mount %s has no source", destination);
	if (in_guest(source))
		return 0;
	r = map_bind(env->shares, mount, source, share_ids, err);
	return r < 0 ? err_wrap(err, r, "mount %s", destination) : 0;
}

CO int mounts_map(const struct container_env *env, struct json_object *spec, char ***share_ids,
		  char ***socket_ids, char ***disk_ids, struct err *err)
{
	struct json_object *mounts = json_get(spec, "mounts", NULL);
	size_t n =
		json_object_is_type(mounts, json_type_array) ? json_object_array_length(mounts) : 0;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = map_mount(env, json_object_array_get_idx(mounts, i), share_ids, socket_ids,
			      err);
	return r < 0 ? r : map_disks(env, mounts, n, disk_ids, err);
}
