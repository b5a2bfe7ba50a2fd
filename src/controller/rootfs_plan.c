/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rootfs_plan.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"
#include "controller/layer_verity.h"
#include "controller/lcow_layers.h"
#include "controller/mount_chain.h"

#define CONTAINERD_OPTION "X-containerd."
#define MKDIR_OPTION CONTAINERD_OPTION "mkdir.path="
#define VERITY_OPTION CONTAINERD_OPTION "dmverity="
#define MKFS_OPTION CONTAINERD_OPTION "mkfs."

/* ---- the plan ---- */

unsigned plan_add_disk(struct rootfs_plan *p, const struct plan_disk *disk)
{
	p->disks = mem_resize(p->disks, p->n_disks + 1, sizeof(*p->disks));
	p->disks[p->n_disks] = *disk;
	return (unsigned)p->n_disks++;
}

static void disk_free(struct plan_disk *d)
{
	free(d->source);
	strv_free(d->devices);
	free(d->root_digest);
	free(d->mkfs.uuid);
}

void plan_free(struct rootfs_plan *p)
{
	for (size_t i = 0; i < p->n_disks; i++)
		disk_free(&p->disks[i]);
	free(p->disks);
	strv_free(p->lower);
	free(p->writable);
	free(p->root);
	*p = (struct rootfs_plan){ 0 };
}

static bool is_place(const char *path)
{
	return path && path[0] == '@';
}

int plan_place(const char *place, char *const *points, size_t n, char **ret, struct err *err)
{
	_cleanup_strv_ char **parts = strv_split(place, "/");
	uint64_t i;

	if (!is_place(place) || str_u64(parts[0] + 1, &i) < 0 || i >= n || strv_has(parts, ".."))
		return err_set(err, -ERR_INVALID, "%s is no place on a disk of the rootfs", place);
	*ret = str_printf("%s%s", points[i], place + strlen(parts[0]));
	return 0;
}

/* ---- an entry, its templates expanded ---- */

/**
 * struct entry - a mount of the list
 * @prefixes:	enum chain_prefix bits
 */
struct entry {
	int prefixes;
	const char *type;
	char *source;
	char **options;
};

static void entry_free(struct entry *e)
{
	free(e->source);
	strv_free(e->options);
}

static int expand(const struct container_request *q, char *const *points, unsigned i, bool format,
		  const char *text, char **ret, struct err *err)
{
	if (!format) {
		*ret = mem_strdup(text);
		return 0;
	}
	return chain_expand(text, q->rootfs, points, i, ret, err);
}

/* Entry @i; the @points of those before it are places. */
static int read_entry(const struct container_request *q, char *const *points, unsigned i,
		      struct entry *e, struct err *err)
{
	const struct rootfs_mount *m = &q->rootfs[i];
	bool format;
	int k = chain_type(m->type, &e->type, err);

	if (k < 0)
		return k;
	e->prefixes = k;
	format = k & CHAIN_FORMAT;
	if (!str_empty(m->target))
		return err_set(err, -ERR_INVALID, "the rootfs mount has a target, %s", m->target);
	if (str_empty(m->source))
		return err_set(err, -ERR_INVALID, "the rootfs mount has no source");
	k = expand(q, points, i, format, m->source, &e->source, err);
	for (char *const *o = m->options; k >= 0 && o && *o; o++) {
		_cleanup_free_ char *option = NULL;

		k = expand(q, points, i, format, *o, &option, err);
		if (k >= 0)
			strv_add(&e->options, option);
	}
	return k;
}

/* What follows "name=" in the options, the last one if there are several; NULL for none. */
static const char *value_of(const struct entry *e, const char *name)
{
	size_t n = strlen(name);
	const char *value = NULL;

	for (char *const *o = e->options; o && *o; o++) {
		if (str_starts(*o, name) && (*o)[n] == '=')
			value = *o + n + 1;
	}
	return value;
}

/* ---- images ---- */

/* The driver of the file system that a mount type means; ext4's mounts its elders, too. */
static const char *image_filesystem(const char *type)
{
	static const struct {
		const char *type, *filesystem;
	} types[] = { { "erofs", "erofs" },
		      { "ext4", "ext4" },
		      { "ext3", "ext4" },
		      { "ext2", "ext4" },
		      { "xfs", "xfs" } };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (str_eq(type, types[i].type))
			return types[i].filesystem;
	}
	return NULL;
}

static int read_mkfs(const struct entry *e, struct plan_mkfs *ret, struct err *err)
{
	static const char *const made[] = { "ext2", "ext3", "ext4", "xfs" };
	const char *size = value_of(e, MKFS_OPTION "size"), *fs = value_of(e, MKFS_OPTION "fs");
	struct plan_mkfs mkfs = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		if (str_eq(fs ? fs : "ext4", made[i]))
			mkfs.filesystem = made[i];
	}
	if (!mkfs.filesystem)
		return err_set(err, -ERR_INVALID, "mkfs of %s: %s is none of ext2, ext3, ext4, xfs",
			       e->source, fs);
	if (!size || str_size(size, &mkfs.bytes) < 0 || mkfs.bytes == 0)
		return err_set(err, -ERR_INVALID, "mkfs of %s: %s is no size", e->source,
			       size ? size : "''");
	mkfs.uuid = mem_strdup(value_of(e, MKFS_OPTION "uuid"));
	*ret = mkfs;
	return 0;
}

/* Of its options only those count that say what is mounted: the guest has its own for how. */
static int read_image_options(const struct entry *e, struct plan_disk *d, struct err *err)
{
	for (char *const *o = e->options; o && *o; o++) {
		if (str_starts(*o, "device=")) {
			if (!str_eq(e->type, "erofs") || (*o)[7] != '/')
				return err_set(err, -ERR_INVALID,
					       "rootfs mount option %s of a %s image", *o, e->type);
			strv_add(&d->devices, *o + 7);
		} else if (str_starts(*o, VERITY_OPTION)) {
			int k = layer_verity_read(*o + strlen(VERITY_OPTION), e->source,
						  &d->root_digest, &d->hash_offset, err);

			if (k < 0)
				return k;
		} else if (str_starts(*o, CONTAINERD_OPTION) &&
			   (!(e->prefixes & CHAIN_MKFS) || !str_starts(*o, MKFS_OPTION))) {
			return err_set(err, -ERR_INVALID, "rootfs mount option %s is not supported",
				       *o);
		}
	}
	if (d->root_digest && !d->read_only)
		return err_set(err, -ERR_INVALID,
			       "rootfs image %s: a layer with a dm-verity hash tree is read-only",
			       e->source);
	return e->prefixes & CHAIN_MKFS ? read_mkfs(e, &d->mkfs, err) : 0;
}

/* Return: its number or a negative code. */
static int add_image(struct rootfs_plan *p, struct entry *e, struct err *err)
{
	struct plan_disk d = { .filesystem = image_filesystem(e->type) };

	if (!d.filesystem)
		return err_set(err, -ERR_INVALID, "unrecognized rootfs mount type: %s%s", e->type,
			       str_eq(e->type, "overlay") || str_eq(e->type, "bind")
				       ? " (only the last of several may be it)"
				       : "");
	if (e->source[0] != '/')
		return err_set(err, -ERR_INVALID, "rootfs image %s: no absolute path", e->source);
	d.read_only = strv_has(e->options, "ro") || str_eq(e->type, "erofs");

	int k = read_image_options(e, &d, err);

	if (k < 0) {
		disk_free(&d);
		return k;
	}
	d.source = TAKE_PTR(e->source);
	return (int)plan_add_disk(p, &d);
}

static int read_single_image(struct rootfs_plan *p, struct entry *e, struct err *err)
{
	int k = add_image(p, e, err);

	if (k < 0)
		return k;
	p->read_only = p->disks[0].read_only;
	if (p->read_only)
		strv_add(&p->lower, "@0");
	else
		p->root = mem_strdup("@0");
	return 0;
}

/* ---- what stands above the images ---- */

/*
 * Directories to be made: the guest makes upper and work directories itself, of root, 0755, so
 * that nothing else can be asked for.
 */
static int check_directories(const struct entry *e, const char *upper, const char *work,
			     struct err *err)
{
	for (char *const *o = e->options; o && *o; o++) {
		_cleanup_free_ char *path = NULL;
		struct chain_dir dir;

		if (!str_starts(*o, CONTAINERD_OPTION))
			continue;
		if (!(e->prefixes & CHAIN_MKDIR) || !str_starts(*o, MKDIR_OPTION))
			return err_set(err, -ERR_INVALID, "rootfs mount option %s is not supported",
				       *o);

		int k = chain_dir_parse(*o + strlen(MKDIR_OPTION), &dir, err);

		if (k < 0)
			return k;
		path = dir.path;
		if (str_eq(path, work))
			continue;
		if (!str_eq(path, upper) || dir.mode != 0755 || dir.uid != 0 || dir.gid != 0)
			return err_set(err, -ERR_INVALID,
				       "rootfs: %s: only the upper directory can be made, of root "
				       "with mode 0755, and the work directory beside it",
				       *o);
	}
	return 0;
}

/* "@0/x" of "@0/x/upper"; NULL when that is not its name. */
static char *parent_of(const char *path, const char *name)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash && str_eq(slash + 1, name) ? mem_strndup(path, (size_t)(slash - path)) : NULL;
}

static int set_writable(struct rootfs_plan *p, const char *upper, const char *work, struct err *err)
{
	_cleanup_free_ char *above = parent_of(upper, "upper"), *beside = parent_of(work, "work");

	if (!above || !str_eq(above, beside))
		return err_set(err, -ERR_INVALID,
			       "rootfs: upperdir %s and workdir %s must be the directories upper "
			       "and work of one disk",
			       upper, work ? work : "''");
	p->writable = TAKE_PTR(above);
	return 0;
}

static bool has_entries(const char *path)
{
	DIR *d = opendir(path);
	bool found = !d;

	for (struct dirent *e = d ? readdir(d) : NULL; e && !found; e = readdir(d))
		found = !str_eq(e->d_name, ".") && !str_eq(e->d_name, "..");
	if (d)
		closedir(d);
	return found;
}

/* Those that tell how the host's kernel does it, not what is in it, are left to the guest. */
static int check_overlay_options(const struct entry *e, struct err *err)
{
	static const char *const passed[] = {
		"lowerdir=",   "upperdir=", "workdir=", "index=", "xino=",         "volatile",
		"nfs_export=", "metacopy=", "ro",       "rw",     "redirect_dir=", "noatime",
		"relatime",    "nodev",     "nosuid",   "noexec", "loop",          "defaults"
	};

	for (char *const *o = e->options; o && *o; o++) {
		bool known = str_starts(*o, CONTAINERD_OPTION);

		for (size_t i = 0; i < ARRAY_SIZE(passed) && !known; i++) {
			size_t n = strlen(passed[i]);

			known = passed[i][n - 1] == '=' ? str_starts(*o, passed[i])
							: str_eq(*o, passed[i]);
		}
		if (!known)
			return err_set(err, -ERR_INVALID,
				       "rootfs mount option %s of an overlay of disks is not "
				       "supported",
				       *o);
	}
	return 0;
}

static int read_overlay(struct rootfs_plan *p, const struct entry *e, enum rootfs_upper upper_is,
			struct err *err)
{
	const char *lower = value_of(e, "lowerdir"), *upper = value_of(e, "upperdir"),
		   *work = value_of(e, "workdir");
	size_t places = 0;

	if (str_empty(lower))
		return err_set(err, -ERR_INVALID, "the overlay of the rootfs has no lowerdir");
	p->lower = strv_split(lower, ":");
	for (char **l = p->lower; *l; l++)
		places += is_place(*l);
	/* A directory of the host below the writable layer, or above it with something in it: the
	 * host has to stack them. */
	if (places < strv_len(p->lower) ||
	    (upper && !is_place(upper) && (upper_is == ROOTFS_UPPER_HOST || has_entries(upper)))) {
		p->form = PLAN_HOST;
		return 0;
	}

	int k = check_overlay_options(e, err);

	if (k >= 0)
		k = check_directories(e, upper, work, err);
	if (k >= 0 && is_place(upper))
		k = set_writable(p, upper, work, err);
	p->read_only = !upper || strv_has(e->options, "ro");
	return k;
}

static int read_bind(struct rootfs_plan *p, const struct entry *e, struct err *err)
{
	bool made = value_of(e, CONTAINERD_OPTION "mkdir.path");
	_cleanup_free_ char *above = NULL;
	uint64_t i;

	if (!is_place(e->source)) {
		p->form = PLAN_HOST;
		return 0;
	}

	_cleanup_strv_ char **parts = strv_split(e->source, "/");
	bool read_only = str_u64(parts[0] + 1, &i) >= 0 && i < p->n_disks && p->disks[i].read_only;
	int k;

	p->read_only = read_only || strv_has(e->options, "ro");
	above = parent_of(e->source, "upper");
	if (made && above) {
		_cleanup_free_ char *work = str_printf("%s/work", above);

		p->writable = TAKE_PTR(above);
		return check_directories(e, e->source, work, err);
	}
	k = check_directories(e, NULL, NULL, err);
	if (k < 0)
		return k;
	if (p->read_only)
		strv_add(&p->lower, e->source);
	else
		p->root = mem_strdup(e->source);
	return 0;
}

static int read_last(struct rootfs_plan *p, struct entry *e, size_t n, enum rootfs_upper upper,
		     struct err *err)
{
	p->form = PLAN_DISKS;
	if (str_eq(e->type, "overlay") && n > 1)
		return read_overlay(p, e, upper, err);
	if (str_eq(e->type, "bind") && n > 1)
		return read_bind(p, e, err);
	if (str_eq(e->type, "overlay") || str_eq(e->type, "bind")) {
		p->form = PLAN_HOST;
		return 0;
	}
	if (n == 1)
		return read_single_image(p, e, err);
	return err_set(err, -ERR_INVALID,
		       "the last of several rootfs mounts must be an overlay or a bind, not %s",
		       e->type);
}

/* ---- the list ---- */

static int read_list(const struct container_request *q, enum rootfs_upper upper,
		     struct rootfs_plan *p, char ***points, struct err *err)
{
	for (unsigned i = 0; i < q->n_rootfs; i++) {
		struct entry e = { 0 };
		bool last = i + 1 == q->n_rootfs;
		int k = read_entry(q, *points, i, &e, err);

		if (k >= 0)
			k = last ? read_last(p, &e, q->n_rootfs, upper, err)
				 : add_image(p, &e, err);
		/* Options of the host's own mount() are its business. */
		if (k >= 0 && last && p->form == PLAN_HOST)
			p->read_only = strv_has(e.options, "ro");
		entry_free(&e);
		if (k < 0)
			return q->n_rootfs > 1 ? err_wrap(err, k, "rootfs mount %u", i) : k;
		strv_addf(points, "@%u", i);
	}
	return 0;
}

/* The host checks no hash trees. */
static int check_verified(const struct rootfs_plan *p, struct err *err)
{
	for (size_t i = 0; i < p->n_disks && p->form == PLAN_HOST; i++) {
		if (p->disks[i].root_digest)
			return err_set(err, -ERR_INVALID,
				       "rootfs image %s: its dm-verity hash tree is checked in the "
				       "VM only, but with a directory of the host among the layers "
				       "the host would mount it",
				       p->disks[i].source);
	}
	return 0;
}

int plan_read(const struct container_request *request, enum rootfs_upper upper,
	      struct rootfs_plan *ret, struct err *err)
{
	_cleanup_strv_ char **points = NULL;
	_cleanup_plan_ struct rootfs_plan p = { 0 };
	int k;

	if (request->n_rootfs > PLAN_MOUNTS_MAX)
		return err_set(err, -ERR_INVALID, "a rootfs of %zu mounts: at most %d are taken",
			       request->n_rootfs, PLAN_MOUNTS_MAX);
	if (lcow_layers_given(request))
		k = lcow_layers_read(request, &p, err);
	else
		k = read_list(request, upper, &p, &points, err);
	if (k >= 0)
		k = check_verified(&p, err);
	if (k < 0)
		return k;
	*ret = p;
	p = (struct rootfs_plan){ 0 };
	return 0;
}
