/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rootfs.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/container.h"
#include "controller/device/scsi.h"
#include "controller/device/share.h"
#include "controller/rootfs_host.h"
#include "controller/rootfs_loop.h"
#include "controller/rootfs_plan.h"
#include "controller/vm.h"
#include "wire/gcs.h"
#include "wire/json.h"

#define SCRATCH_SIZE_ANNOTATION "io.microsoft.container.storage.rootfs.size-gb"

enum { SCRATCH_GIB_MAX = 16 << 10 }; /* ext4's largest */

/* ---- on the host ---- */

static CO int make_images(const struct rootfs_plan *plan, struct err *err)
{
	int k = 0;

	for (size_t i = 0; i < plan->n_disks && k >= 0; i++) {
		if (plan->disks[i].mkfs.filesystem)
			k = host_make_image(plan->disks[i].source, &plan->disks[i].mkfs, err);
	}
	return k;
}

static CO int mount_on_host(struct rootfs *r, const struct container_env *env, const char *id,
			    const struct rootfs_plan *plan, const struct container_request *request,
			    struct err *err)
{
	_cleanup_free_ char *base = str_printf("%s/%s", env->work_dir, id);
	_cleanup_free_ char *target = str_printf("%s/rootfs", base);
	int k = dir_make(target, 0700);

	if (k < 0)
		return err_sys(err, k, "make %s", target);
	r->host_mount = TAKE_PTR(target);
	if (request->n_rootfs == 1)
		return host_mount(request->rootfs, r->host_mount, err);
	k = make_images(plan, err);
	return k < 0 ? k : loop_mount_chain(plan, request, base, r->host_mount, err);
}

static void unmount_on_host(struct rootfs *r)
{
	if (!r->host_mount)
		return;
	/* Nothing mounted there is fine: mounting may be what failed. */
	umount2(r->host_mount, MNT_DETACH | UMOUNT_NOFOLLOW);
	rmdir(r->host_mount);

	char *slash = strrchr(r->host_mount, '/');

	*slash = '\0';
	rmdir(r->host_mount);
	free(TAKE_PTR(r->host_mount));
}

/* ---- the scratch disk ---- */

/* The container's own directory on a disk that others may use as well. */
static char *scratch_dir_of(const char *disk, const char *pod, const char *id)
{
	return str_printf("%s/scratch/%s/%s", disk, pod, id);
}

/* What the container asks for, else what is configured. */
static uint64_t scratch_bytes(const struct container_env *env,
			      const struct container_request *request)
{
	const char *text =
		json_get_str(json_get(request->spec, "annotations", NULL), SCRATCH_SIZE_ANNOTATION);
	uint64_t gib;

	if (!text)
		return env->scratch_bytes;
	if (str_u64(text, &gib) >= 0 && gib > 0 && gib <= SCRATCH_GIB_MAX)
		return gib << 30;
	log_warn("annotation %s: %s is no size in GiB (1 to %d): ignored", SCRATCH_SIZE_ANNOTATION,
		 text, SCRATCH_GIB_MAX);
	return env->scratch_bytes;
}

static CO int map_scratch(struct rootfs *r, const struct container_env *env, const char *id,
			  const char *pod, struct err *err)
{
	_cleanup_free_ char *image = str_printf("%s/%s.img", env->scratch_dir, id);
	const char *path;
	int k = host_make_scratch(image, r->scratch_bytes, env->encrypt_scratch, err);

	if (k < 0)
		return k;
	r->scratch_image = TAKE_PTR(image);

	struct scsi_disk disk = { .path = r->scratch_image };
	struct scsi_mount mount = { .ensure_filesystem = true,
				    .encrypted = env->encrypt_scratch,
				    .filesystem = "ext4" };

	k = scsi_reserve(env->scsi, &disk, &mount, r->scratch, err);
	if (k >= 0)
		k = scsi_map(env->scsi, r->scratch, &path, err);
	if (k < 0)
		return err_wrap(err, k, "scratch disk");
	r->scratch_dir = scratch_dir_of(path, pod, id);
	r->scratch_is_own = true;
	return 0;
}

/* ---- layers ---- */

/* The request's strings are the rootfs' own. */
static CO int combine(struct rootfs *r, const struct container_env *env, const char *id, bool add,
		      struct err *err)
{
	_cleanup_free_ char *container_id = mem_strdup(id);
	size_t n = strv_len(r->layers);
	_cleanup_free_ struct gcs_layer *layers = mem_new0(n + 1, sizeof(*layers));
	struct gcs_combined_layers request = {
		.container_id = container_id,
		.root_path = r->guest_path,
		.layers = layers,
		.n_layers = n,
		.scratch_path = r->scratch_dir,
	};

	for (size_t i = 0; i < n; i++)
		layers[i].path = r->layers[i];
	return add ? env->ops->combine_layers(env->guest, &request, err)
		   : env->ops->remove_layers(env->guest, &request, err);
}

/* Layers and a writable one, which is a scratch disk of its own when there is none yet. */
static CO int combine_layers(struct rootfs *r, const struct container_env *env, const char *id,
			     const char *pod, struct err *err)
{
	int k = r->scratch_dir ? 0 : map_scratch(r, env, id, pod, err);

	if (k < 0)
		return k;
	r->guest_path = str_printf("/run/gcs/pods/%s/%s/rootfs", pod, id);
	k = combine(r, env, id, true, err);
	r->combined = k >= 0 || vm_call_abandoned(k);
	return k < 0 ? err_wrap(err, k, "combine layers") : 0;
}

/* ---- a directory ---- */

/* A read-only root gets a writable layer as well: the guest's runtime makes mount points in it
 * before it closes it. */
static CO int prepare_directory(struct rootfs *r, const struct container_env *env, const char *id,
				const char *pod, const char *path, struct err *err)
{
	bool writable = env->upper == ROOTFS_UPPER_HOST && !r->read_only;
	const char *guest_path;
	int k = share_reserve(env->shares, path, !writable, r->share, err);

	if (k >= 0)
		k = share_map(env->shares, r->share, &guest_path, err);
	if (k < 0)
		return err_wrap(err, k, "rootfs");
	if (writable) {
		r->guest_path = mem_strdup(guest_path);
		return 0;
	}
	strv_add(&r->layers, guest_path);
	return combine_layers(r, env, id, pod, err);
}

static CO int prepare_bundle_root(struct rootfs *r, const struct container_env *env, const char *id,
				  const char *pod, const struct container_request *request,
				  struct err *err)
{
	const char *root = json_get_str(json_get(request->spec, "root", NULL), "path");
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (str_empty(root))
		return err_set(err, -ERR_INVALID,
			       "config.json has no root.path, and no rootfs mount was given");
	path = root[0] == '/' ? mem_strdup(root) : str_printf("%s/%s", request->bundle, root);
	if (stat(path, &st) < 0)
		return err_set(err, -ERR_INVALID, "rootfs %s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -ERR_INVALID, "rootfs %s is no directory", path);
	return prepare_directory(r, env, id, pod, path, err);
}

/* ---- disks ---- */

/* Disks without a mount of their own; @ret are their reservations. */
static int reserve_devices(struct rootfs *r, const struct container_env *env,
			   const struct plan_disk *d, char ***ret, struct err *err)
{
	for (char *const *path = d->devices; path && *path; path++) {
		struct scsi_disk disk = { .path = *path, .read_only = true };
		struct scsi_mount mount = { .attach_only = true, .read_only = true };
		char id[UUID_LEN + 1];
		int k = scsi_reserve(env->scsi, &disk, &mount, id, err);

		if (k < 0)
			return k;
		strv_add(&r->parts, id);
		strv_add(ret, id);
	}
	return 0;
}

static int reserve_disk(struct rootfs *r, const struct container_env *env,
			const struct plan_disk *d, struct err *err)
{
	static char ro[] = "ro";
	static char *const ro_options[] = { ro, NULL };
	struct scsi_disk disk = { .path = d->source, .read_only = d->read_only };
	struct scsi_mount mount = {
		.partition = d->partition,
		.read_only = d->read_only,
		.filesystem = d->filesystem,
		.ensure_filesystem = d->ensure_filesystem,
		.encrypted = d->ensure_filesystem && env->encrypt_scratch,
		.root_digest = d->root_digest,
		.hash_offset = d->hash_offset,
		.options = d->read_only ? ro_options : NULL,
	};
	_cleanup_strv_ char **devices = NULL;
	char id[UUID_LEN + 1];
	int k = d->ensure_filesystem ? host_check_raw(d->source, err) : 0;

	if (k >= 0)
		k = reserve_devices(r, env, d, &devices, err);
	mount.devices = devices;
	if (k >= 0)
		k = scsi_reserve(env->scsi, &disk, &mount, id, err);
	if (k < 0)
		return err_wrap(err, k, "rootfs");
	strv_add(&r->disks, id);
	return 0;
}

/**
 * struct mapping - disks being mapped
 * @points:	of each, NULL when it has no mount of its own
 */
struct mapping {
	struct scsi *scsi;
	char **ids;
	const char **points;
};

static CO int map_disk(size_t i, const struct mapping *m, struct err *err)
{
	int k = scsi_map(m->scsi, m->ids[i], &m->points[i], err);

	return k < 0 ? err_wrap(err, k, "rootfs") : 0;
}

/*
 * All are reserved before the first is mapped: where slots run out, nothing has been done. What a
 * file system spans must be there before it.
 *
 * @points: mount points of the plan's disks
 */
static CO int map_disks(struct rootfs *r, const struct container_env *env,
			const struct rootfs_plan *plan, char ***points, struct err *err)
{
	int k = make_images(plan, err);

	for (size_t i = 0; i < plan->n_disks && k >= 0; i++)
		k = reserve_disk(r, env, &plan->disks[i], err);

	size_t n = strv_len(r->disks), n_parts = strv_len(r->parts);
	_cleanup_free_ const char **found = mem_new0(n + n_parts + 1, sizeof(*found));
	struct mapping parts = { env->scsi, r->parts, found + n };
	struct mapping disks = { env->scsi, r->disks, found };

	/* One after the other: while one is plugged, the guest may misread the size of another. */
	for (size_t i = 0; k >= 0 && i < n_parts; i++)
		k = map_disk(i, &parts, err);
	for (size_t i = 0; k >= 0 && i < n; i++)
		k = map_disk(i, &disks, err);
	for (size_t i = 0; k >= 0 && i < n; i++)
		strv_add(points, found[i]);
	return k;
}

/* What the plan says of places, now that the disks have their mount points. */
static int place_layers(struct rootfs *r, const struct rootfs_plan *plan, char *const *points,
			const char *id, const char *pod, struct err *err)
{
	_cleanup_free_ char *writable = NULL;
	size_t n = strv_len(points);
	int k = 0;

	for (char *const *l = plan->lower; l && *l && k >= 0; l++) {
		_cleanup_free_ char *path = NULL;

		k = plan_place(*l, points, n, &path, err);
		if (k >= 0)
			strv_add(&r->layers, path);
	}
	if (k >= 0 && plan->root)
		k = plan_place(plan->root, points, n, &r->guest_path, err);
	if (k >= 0 && plan->writable)
		k = plan_place(plan->writable, points, n, &writable, err);
	r->scratch_is_own = plan->per_container;
	if (k >= 0 && writable)
		r->scratch_dir = plan->per_container ? scratch_dir_of(writable, pod, id)
						     : TAKE_PTR(writable);
	return k;
}

static CO int prepare_disks(struct rootfs *r, const struct container_env *env, const char *id,
			    const char *pod, const struct rootfs_plan *plan, struct err *err)
{
	_cleanup_strv_ char **points = NULL;
	int k = map_disks(r, env, plan, &points, err);

	if (k >= 0)
		k = place_layers(r, plan, points, id, pod, err);
	return k < 0 || r->guest_path ? k : combine_layers(r, env, id, pod, err);
}

/* ---- all forms ---- */

/* Only disks that are scratch, and can be made anew with a key of their own, can be encrypted. */
static int check_encrypted(const struct container_env *env, const struct rootfs_plan *plan,
			   struct err *err)
{
	const char *where = NULL;

	if (plan->form == PLAN_DISKS) {
		if (plan->root || (plan->writable && !plan->per_container))
			where = "an image that is not scratch";
	} else if (env->upper == ROOTFS_UPPER_HOST && !plan->read_only) {
		where = "a directory of the host";
	}
	if (!env->encrypt_scratch || !where)
		return 0;
	return err_set(err, -ERR_STATE,
		       "scratch is to be encrypted, but this rootfs would be written to %s, which "
		       "cannot be",
		       where);
}

CO int rootfs_prepare(struct rootfs *r, const struct container_env *env, const char *id,
		      const char *pod, const struct container_request *request, struct err *err)
{
	_cleanup_plan_ struct rootfs_plan plan = { 0 };
	int k = plan_read(request, env->upper, &plan, err);

	if (k >= 0)
		k = check_encrypted(env, &plan, err);
	if (k < 0)
		return k;
	r->read_only = plan.read_only;
	r->scratch_bytes = scratch_bytes(env, request);
	if (plan.form == PLAN_BUNDLE)
		return prepare_bundle_root(r, env, id, pod, request, err);
	if (plan.form == PLAN_DISKS)
		return prepare_disks(r, env, id, pod, &plan, err);
	k = mount_on_host(r, env, id, &plan, request, err);
	return k < 0 ? k : prepare_directory(r, env, id, pod, r->host_mount, err);
}

/* ---- giving back ---- */

CO int rootfs_uncombine(struct rootfs *r, const struct container_env *env, const char *id,
			struct err *err)
{
	if (!r->combined)
		return 0;

	int k = combine(r, env, id, false, err);

	if (k < 0 && !vm_device_gone(k))
		return err_wrap(err, k, "take layers apart");
	r->combined = false;
	return 0;
}

/* @id is a reservation of disk or share, "" when there is none (any more). */
static CO int release_disk(struct scsi *scsi, char *id, struct err *err)
{
	int k = *id ? scsi_unmap(scsi, id, err) : 0;

	if (k >= 0)
		*id = '\0';
	return k;
}

CO int rootfs_release(struct rootfs *r, const struct container_env *env, struct err *err)
{
	struct err other = { 0 };
	int first = release_disk(env->scsi, r->scratch, err);
	int k = scsi_unmap_all(env->scsi, &r->disks, first < 0 ? &other : err);

	first = first < 0 ? first : k;
	/* What a file system spans goes after it. */
	k = r->disks ? 0 : scsi_unmap_all(env->scsi, &r->parts, first < 0 ? &other : err);
	first = first < 0 ? first : k;
	k = *r->share ? share_unmap(env->shares, r->share, first < 0 ? &other : err) : 0;
	if (k >= 0)
		*r->share = '\0';
	first = first < 0 ? first : k;
	if (first >= 0)
		rootfs_drop_host(r);
	return first;
}

void rootfs_drop_host(struct rootfs *r)
{
	unmount_on_host(r);
	if (r->scratch_image && unlink(r->scratch_image) < 0 && errno != ENOENT)
		log_warn("remove scratch image %s: %s", r->scratch_image, strerror(errno));
	free(r->scratch_image);
	strv_free(r->disks);
	strv_free(r->parts);
	strv_free(r->layers);
	free(r->scratch_dir);
	free(r->guest_path);
	*r = (struct rootfs){ 0 };
}
