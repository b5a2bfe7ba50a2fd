/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/layers.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/container.h"
#include "gcs/module.h"
#include "gcs/mounts.h"
#include "loop/worker.h"
#include "wire/gcs.h"

/* Below the scratch path: what the bundle is bound to. Its presence under a bundle tells that we
 * bound it. */
#define BUNDLE_MARK ".lcow-bundle-on-scratch"

#define V2_BUNDLES "/run/gcs/pods/"

enum { OPTIONS_MAX = 4096 - 1, MOUNTINFO_MAX = 8 << 20 };

static int check_path(const char *path, struct err *err)
{
	if (!mount_path_valid(path))
		return err_set(err, -ERR_INVALID, "'%s' is not a clean absolute path",
			       path ? path : "");
	if (strpbrk(path, ":,\\"))
		return err_set(err, -ERR_INVALID,
			       "%s: an overlay cannot have ':', ',' or '\\' in a path", path);
	return 0;
}

int layers_options(const struct gcs_combined_layers *l, char **ret, struct err *err)
{
	_cleanup_buf_ struct buf b = { 0 };
	int r;

	if (!l->n_layers && str_empty(l->scratch_path))
		return err_set(err, -ERR_INVALID, "no layers");
	for (size_t i = 0; i < l->n_layers; i++) {
		r = check_path(l->layers[i].path, err);
		if (r < 0)
			return r;
		buf_addf(&b, "%s%s", i ? ":" : "lowerdir=", l->layers[i].path);
	}
	if (!str_empty(l->scratch_path)) {
		r = check_path(l->scratch_path, err);
		if (r < 0)
			return r;
		buf_addf(&b, ",upperdir=%s/upper,workdir=%s/work", l->scratch_path,
			 l->scratch_path);
	}
	if (b.len > OPTIONS_MAX)
		return err_set(err, -ERR_EXHAUSTED,
			       "the paths of %zu layers take %zu bytes; the kernel takes %d in all",
			       l->n_layers, b.len, OPTIONS_MAX);
	*ret = mem_strndup((char *)b.data, b.len);
	return 0;
}

static char *bundle_of(const char *root_path)
{
	const char *slash = strrchr(root_path, '/');

	return mem_strndup(root_path, (size_t)(slash - root_path));
}

static bool inside(const char *dir, const char *path)
{
	size_t n = strlen(dir);

	return strncmp(dir, path, n) == 0 && (path[n] == '/' || !path[n]);
}

int layers_empty_bundle(const char *bundle)
{
	DIR *d = opendir(bundle);

	if (!d)
		return -errno;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		_cleanup_free_ char *path = str_printf("%s/%s", bundle, e->d_name);

		if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, "..") &&
		    !str_eq(e->d_name, BUNDLE_MARK))
			dir_remove(path);
	}
	closedir(d);
	return 0;
}

static int empty_fn(void *arg)
{
	const char *const *bundle = arg;

	return layers_empty_bundle(*bundle);
}

int layers_release_bundle(const char *bundle, struct err *err)
{
	_cleanup_free_ char *mark = str_printf("%s/" BUNDLE_MARK, bundle);

	if (access(mark, F_OK) < 0)
		return 0;
	/* The disk may be the client's and outlive the VM: a spec holds what is nobody's business.
	 */
	worker_call(empty_fn, &bundle);
	return mount_undo(bundle, false, err);
}

void layers_remove_pod_dir(const char *bundle)
{
	_cleanup_free_ char *dir = mem_strdup(bundle);

	if (!str_starts(dir, V2_BUNDLES))
		return;
	*strrchr(dir, '/') = '\0';
	if (strlen(dir) > strlen(V2_BUNDLES))
		rmdir(dir);
}

static int bind_bundle(const char *bundle, const char *scratch, struct err *err)
{
	_cleanup_free_ char *backing = str_printf("%s/bundle", scratch);
	_cleanup_free_ char *mark = str_printf("%s/" BUNDLE_MARK, backing);
	int r = dir_make(backing, 0755);

	if (r >= 0)
		r = dir_make(bundle, 0755);
	if (r >= 0)
		r = file_write(mark, "", 0, 0600);
	if (r < 0)
		return err_sys(err, r, "prepare %s", backing);
	return mount_bind(backing, bundle, false, err);
}

/* A full disk is the likeliest failure, and the plain text does not say of which kind. */
static void explain_full(const char *path)
{
	struct statfs s;

	if (statfs(path, &s) == 0)
		log_error("%s: %llu of %llu blocks and %llu of %llu inodes are free", path,
			  (unsigned long long)s.f_bavail, (unsigned long long)s.f_blocks,
			  (unsigned long long)s.f_ffree, (unsigned long long)s.f_files);
}

bool layers_upper_taken(const char *mountinfo, const char *upper)
{
	_cleanup_free_ char *option = str_printf("upperdir=%s", upper);

	for (const char *s = mountinfo; (s = strstr(s, option)); s++) {
		if (strchr(", \n", s[strlen(option)]))
			return true;
	}
	return false;
}

/* The kernel would only warn, and then neither overlay would show what is in it. */
static int check_untaken(const char *upper, struct err *err)
{
	_cleanup_free_ char *mountinfo = NULL;
	size_t len;
	int r = file_read("/proc/self/mountinfo", MOUNTINFO_MAX, &mountinfo, &len);

	if (r < 0)
		return err_sys(err, r, "read mountinfo");
	if (layers_upper_taken(mountinfo, upper))
		return err_set(err, -ERR_STATE, "%s is another container's writable layer", upper);
	return 0;
}

static int mount_overlay(const struct gcs_combined_layers *l, const char *options, struct err *err)
{
	bool writable = !str_empty(l->scratch_path);
	_cleanup_free_ char *upper = writable ? str_printf("%s/upper", l->scratch_path) : NULL;
	_cleanup_free_ char *work = writable ? str_printf("%s/work", l->scratch_path) : NULL;
	int r = 0;

	if (writable) {
		r = check_untaken(upper, err);
		if (r < 0)
			return r;
		r = dir_make(upper, 0755);
		if (r >= 0)
			r = dir_make(work, 0755);
	}
	if (r >= 0)
		r = dir_make(l->root_path, 0755);
	if (r < 0)
		err_sys(err, r, "make the directories of the overlay at %s", l->root_path);
	else
		r = mount_at("overlay", l->root_path, "overlay", writable ? 0 : MS_RDONLY, options,
			     err);
	if (r == -ENOSPC && writable)
		explain_full(l->scratch_path);
	if (r < 0 && writable) {
		rmdir(upper);
		dir_remove(work);
	}
	return r;
}

/* No layers below it: what the writable layer holds is the root. */
static int mount_upper(const struct gcs_combined_layers *l, struct err *err)
{
	_cleanup_free_ char *upper = str_printf("%s/upper", l->scratch_path);
	int r = dir_make(upper, 0755);

	return r < 0 ? err_sys(err, r, "mkdir %s", upper)
		     : mount_bind(upper, l->root_path, false, err);
}

int layers_add(struct agent *a, const struct gcs_combined_layers *l, struct err *err)
{
	static const char *const modules[] = { "overlay", NULL };
	_cleanup_free_ char *options = NULL;
	_cleanup_free_ char *bundle = NULL;
	bool bound = false;
	int r;

	r = mount_path_valid(l->root_path)
		    ? layers_options(l, &options, err)
		    : err_set(err, -ERR_INVALID, "ContainerRootPath is not a clean absolute path");
	if (r >= 0 && l->n_layers)
		r = modules_need(a->modules, modules, err);
	if (r < 0)
		return err_wrap(err, r, "combine layers");
	bundle = bundle_of(l->root_path);
	if (*bundle && !str_empty(l->scratch_path) && !inside(bundle, l->scratch_path)) {
		r = bind_bundle(bundle, l->scratch_path, err);
		bound = r >= 0;
	}
	if (r >= 0)
		r = l->n_layers ? mount_overlay(l, options, err) : mount_upper(l, err);
	if (r < 0 && bound) {
		CO_SHIELD(10 * USEC_PER_SEC);
		mount_undo(bundle, true, NULL);
	}
	return r < 0 ? err_wrap(err, r, "combine layers") : 0;
}

int layers_remove(struct agent *a, const struct gcs_combined_layers *l, struct err *err)
{
	_cleanup_free_ char *bundle = NULL;
	int r;

	if (!mount_path_valid(l->root_path))
		return err_set(err, -ERR_INVALID, "ContainerRootPath is not a clean absolute path");
	r = mount_undo(l->root_path, true, err);
	if (r < 0)
		return r;
	bundle = bundle_of(l->root_path);
	if (container_uses_bundle(a, bundle))
		return 0;
	r = layers_release_bundle(bundle, err);
	if (r >= 0 && rmdir(bundle) == 0)
		layers_remove_pod_dir(bundle);
	return r;
}
