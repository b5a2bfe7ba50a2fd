/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/volumes.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "gcs/mounts.h"
#include "gcs/spec.h"
#include "wire/json.h"

#define BINDS "/run/gcs/volumes"
#define UVM "uvm://"
#define HUGEPAGES "hugepages://"

static const struct {
	const char *prefix, *below;
} of_pod[] = {
	{ "sandbox://", "sandbox" },
	{ "sandbox-tmp://", "tmp" },
};

static const char *source_of(struct json_object *mounts, size_t i)
{
	const char *source = json_get_str(json_object_array_get_idx(mounts, i), "source");

	return source ? source : "";
}

bool volumes_asked(struct json_object *spec)
{
	struct json_object *mounts = spec_mounts(spec);

	for (size_t i = 0; i < json_object_array_length(mounts); i++)
		for (size_t k = 0; k < ARRAY_SIZE(of_pod); k++)
			if (str_starts(source_of(mounts, i), of_pod[k].prefix))
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

static int fit(struct json_object *mount, const char *source, const char *dir, struct volumes *v,
	       struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(of_pod); i++) {
		_cleanup_free_ char *root = dir ? str_printf("%s/%s", dir, of_pod[i].below) : NULL;
		_cleanup_free_ char *path = NULL;

		if (!str_starts(source, of_pod[i].prefix))
			continue;
		path = mem_strdup(source + strlen(of_pod[i].prefix));
		return fit_of_pod(mount, root, path, v, err);
	}
	if (str_starts(source, HUGEPAGES))
		return err_set(err, -ERR_UNIMPLEMENTED, "hugepages are not supported: %s", source);
	if (str_starts(source, UVM)) {
		_cleanup_free_ char *path = mem_strdup(source + strlen(UVM));

		if (!mount_path_valid(path) || access(path, F_OK) < 0)
			return err_set(err, -ERR_INVALID, "could not open uVM mount target: %s",
				       path);
		set_source(mount, path);
	}
	return 0;
}

int volumes_fit(struct json_object *spec, const char *dir, struct volumes *v, struct err *err)
{
	struct json_object *mounts = spec_mounts(spec);

	for (size_t i = 0; i < json_object_array_length(mounts); i++) {
		int r = fit(json_object_array_get_idx(mounts, i), source_of(mounts, i), dir, v,
			    err);

		if (r < 0)
			return err_wrap(err, r, "mounts");
	}
	return 0;
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
