/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rootfs.h"

#include <errno.h>
#include <fcntl.h>
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
#include "controller/vm.h"
#include "loop/child.h"
#include "wire/gcs.h"
#include "wire/json.h"

enum { MOUNT_DATA_MAX = 4095 };

/* ---- mounting on the host ---- */

static const struct mount_flag {
	const char *name;
	unsigned long flag;
} mount_flags[] = {
	{ "bind", MS_BIND },
	{ "rbind", MS_BIND | MS_REC },
	{ "ro", MS_RDONLY },
	{ "rw", 0 },
	{ "nosuid", MS_NOSUID },
	{ "nodev", MS_NODEV },
	{ "noexec", MS_NOEXEC },
	{ "noatime", MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME },
	{ "relatime", MS_RELATIME },
	{ "defaults", 0 },
	{ "sync", MS_SYNCHRONOUS },
};

static bool take_flag(const char *option, unsigned long *flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(mount_flags); i++) {
		if (str_eq(option, mount_flags[i].name)) {
			*flags |= mount_flags[i].flag;
			return true;
		}
	}
	return false;
}

/* mount(2) copies one page of options and silently cuts the rest: layers would be missing. */
static int options_of(const struct rootfs_mount *m, unsigned long *ret_flags, char **ret_data,
		      struct err *err)
{
	_cleanup_strv_ char **data = NULL;

	*ret_flags = 0;
	for (char *const *o = m->options; o && *o; o++) {
		if (str_starts(*o, "X-containerd."))
			return err_set(err, -ERR_INVALID, "rootfs mount option %s is not supported",
				       *o);
		if (!take_flag(*o, ret_flags))
			strv_add(&data, *o);
	}
	*ret_data = strv_join(data, ",");
	if (strlen(*ret_data) > MOUNT_DATA_MAX) {
		free(TAKE_PTR(*ret_data));
		return err_set(err, -ERR_INVALID,
			       "rootfs: the options of the %s mount are over a page: too many "
			       "layers",
			       m->type);
	}
	return 0;
}

static int mount_on_host(struct rootfs *r, const struct container_env *env, const char *id,
			 const struct rootfs_mount *m, struct err *err)
{
	_cleanup_free_ char *target = str_printf("%s/%s/rootfs", env->work_dir, id);
	_cleanup_free_ char *data = NULL;
	unsigned long flags;
	int k = options_of(m, &flags, &data, err);

	if (k < 0)
		return k;
	k = dir_make(target, 0700);
	if (k < 0)
		return err_sys(err, k, "make %s", target);
	r->host_mount = TAKE_PTR(target);
	if (str_eq(m->type, "bind"))
		flags |= MS_BIND;
	if (mount(m->source, r->host_mount, m->type, flags & ~(flags & MS_BIND ? MS_RDONLY : 0ul),
		  data) < 0)
		return err_set(err, errno == ENOENT || errno == ENOTDIR ? -ERR_INVALID : -errno,
			       "mount rootfs (%s of %s): %s", m->type, m->source, strerror(errno));
	return 0;
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

/* Formatted here where the host can: it is much quicker than in the guest, which formats what it
 * finds unformatted. */
static CO int make_scratch_image(struct rootfs *r, const struct container_env *env, const char *id,
				 struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/%s.img", env->scratch_dir, id);
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(err, -errno, "make scratch image %s", path);
	r->scratch_image = TAKE_PTR(path);
	if (ftruncate(fd, (off_t)env->scratch_bytes) < 0)
		return err_sys(err, -errno, "size scratch image %s", r->scratch_image);

	const char *const argv[] = { "mkfs.ext4",
				     "-q",
				     "-F",
				     "-E",
				     "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
				     "-O",
				     "^has_journal",
				     "-m",
				     "0",
				     r->scratch_image,
				     NULL };
	struct err mkfs = { 0 };
	int k = child_run(argv, NULL, NULL, &mkfs);

	if (k == -ETIMEDOUT || k == -ECANCELED)
		return err_sys(err, k, "format scratch image %s", r->scratch_image);
	if (k != 0)
		log_info("scratch is left for the guest to format: %s", mkfs.text);
	return 0;
}

static CO int map_scratch(struct rootfs *r, const struct container_env *env, const char *id,
			  const char *pod, struct err *err)
{
	const char *path;
	int k = make_scratch_image(r, env, id, err);

	if (k < 0)
		return k;

	struct scsi_disk disk = { .path = r->scratch_image };
	struct scsi_mount mount = { .ensure_filesystem = true, .filesystem = "ext4" };

	k = scsi_reserve(env->scsi, &disk, &mount, r->scratch, err);
	if (k >= 0)
		k = scsi_map(env->scsi, r->scratch, &path, err);
	if (k < 0)
		return err_wrap(err, k, "scratch disk");
	r->scratch_dir = str_printf("%s/scratch/%s/%s", path, pod, id);
	return 0;
}

/* ---- layers ---- */

static CO int map_directory(struct rootfs *r, const struct container_env *env, const char *path,
			    bool read_only, struct err *err)
{
	const char *guest_path;
	int k = share_reserve(env->shares, path, read_only, r->share, err);

	if (k >= 0)
		k = share_map(env->shares, r->share, &guest_path, err);
	if (k < 0)
		return err_wrap(err, k, "rootfs");
	r->layer_path = mem_strdup(guest_path);
	return 0;
}

static CO int map_image(struct rootfs *r, const struct container_env *env,
			const struct rootfs_mount *m, bool read_only, struct err *err)
{
	static char ro[] = "ro";
	static char *const ro_options[] = { ro, NULL };
	const char *guest_path;
	struct scsi_disk disk = { .path = m->source, .read_only = read_only };
	struct scsi_mount mount = {
		.read_only = read_only,
		.filesystem = m->type,
		.options = read_only ? ro_options : NULL,
	};
	int k = scsi_reserve(env->scsi, &disk, &mount, r->disk, err);

	if (k >= 0)
		k = scsi_map(env->scsi, r->disk, &guest_path, err);
	if (k < 0)
		return err_wrap(err, k, "rootfs");
	r->layer_path = mem_strdup(guest_path);
	return 0;
}

/* The request's strings are the rootfs' own. */
static CO int combine(struct rootfs *r, const struct container_env *env, const char *id, bool add,
		      struct err *err)
{
	_cleanup_free_ char *container_id = mem_strdup(id);
	struct gcs_layer layer = { .path = r->layer_path };
	struct gcs_combined_layers layers = {
		.container_id = container_id,
		.root_path = r->guest_path,
		.layers = &layer,
		.n_layers = 1,
		.scratch_path = r->scratch_dir,
	};

	return add ? env->ops->combine_layers(env->guest, &layers, err)
		   : env->ops->remove_layers(env->guest, &layers, err);
}

static CO int put_scratch_above(struct rootfs *r, const struct container_env *env, const char *id,
				const char *pod, struct err *err)
{
	int k = map_scratch(r, env, id, pod, err);

	if (k < 0)
		return k;
	r->guest_path = str_printf("/run/gcs/pods/%s/%s/rootfs", pod, id);
	k = combine(r, env, id, true, err);
	r->combined = k >= 0 || vm_call_abandoned(k);
	return k < 0 ? err_wrap(err, k, "combine layers") : 0;
}

/* ---- choosing the form ---- */

/* A read-only root gets a writable layer as well: the guest's runtime makes mount points in it
 * before it closes it. */
static CO int prepare_directory(struct rootfs *r, const struct container_env *env, const char *id,
				const char *pod, const char *path, bool read_only, struct err *err)
{
	bool writable = env->upper == ROOTFS_UPPER_HOST && !read_only;
	int k = map_directory(r, env, path, !writable, err);

	if (k < 0)
		return k;
	if (!writable)
		return put_scratch_above(r, env, id, pod, err);
	r->guest_path = mem_strdup(r->layer_path);
	return 0;
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
	return prepare_directory(r, env, id, pod, path, false, err);
}

static CO int prepare_image(struct rootfs *r, const struct container_env *env, const char *id,
			    const char *pod, const struct rootfs_mount *m, struct err *err)
{
	int k = map_image(r, env, m, r->read_only, err);

	if (k < 0)
		return k;
	if (r->read_only)
		return put_scratch_above(r, env, id, pod, err);
	r->guest_path = mem_strdup(r->layer_path);
	return 0;
}

CO int rootfs_prepare(struct rootfs *r, const struct container_env *env, const char *id,
		      const char *pod, const struct container_request *request, struct err *err)
{
	const struct rootfs_mount *m = request->rootfs;

	if (request->n_rootfs == 0)
		return prepare_bundle_root(r, env, id, pod, request, err);
	if (request->n_rootfs > 1)
		return err_set(err, -ERR_INVALID, "a rootfs of %zu mounts is not supported: one is",
			       request->n_rootfs);
	if (!str_empty(m->target))
		return err_set(err, -ERR_INVALID, "the rootfs mount has a target, %s", m->target);
	if (str_empty(m->source))
		return err_set(err, -ERR_INVALID, "the rootfs mount has no source");
	r->read_only = strv_has(m->options, "ro") || str_eq(m->type, "erofs");
	if (str_eq(m->type, "ext4") || str_eq(m->type, "xfs") || str_eq(m->type, "erofs"))
		return prepare_image(r, env, id, pod, m, err);
	if (!str_eq(m->type, "overlay") && !str_eq(m->type, "bind"))
		return err_set(err, -ERR_INVALID, "unrecognized rootfs mount type: %s",
			       m->type ? m->type : "");

	int k = mount_on_host(r, env, id, m, err);

	return k < 0 ? k : prepare_directory(r, env, id, pod, r->host_mount, r->read_only, err);
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
	int k = release_disk(env->scsi, r->disk, first < 0 ? &other : err);

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
	free(r->layer_path);
	free(r->scratch_dir);
	free(r->guest_path);
	*r = (struct rootfs){ 0 };
}
