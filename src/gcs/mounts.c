/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/mounts.h"

#include <errno.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/worker.h"

enum { STACKED_MAX = 5 };

bool mount_path_valid(const char *path)
{
	_cleanup_strv_ char **parts = NULL;

	if (str_empty(path) || path[0] != '/' || strlen(path) >= PATH_MAX)
		return false;
	parts = strv_split(path, "/");
	return strv_len(parts) > 0 && !strv_has(parts, "..");
}

struct mount_call {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
	bool remove;
};

static int mount_fn(void *arg)
{
	const struct mount_call *c = arg;

	return mount(c->source, c->target, c->type, c->flags, c->options) < 0 ? -errno : 0;
}

int mount_at(const char *source, const char *target, const char *type, unsigned long flags,
	     const char *options, struct err *err)
{
	struct mount_call c = {
		.source = source,
		.target = target,
		.type = type,
		.flags = flags,
		.options = options,
	};
	int r = dir_make(target, 0700);

	if (r < 0)
		return err_sys(err, r, "mkdir %s", target);
	r = worker_call(mount_fn, &c);
	if (r < 0) {
		rmdir(target);
		return err_sys(err, r, "mount %s (%s) on %s", source, type, target);
	}
	return 0;
}

int mount_bind(const char *source, const char *target, bool read_only, struct err *err)
{
	struct mount_call again = { .source = "none",
				    .target = target,
				    .flags = MS_REMOUNT | MS_BIND | MS_RDONLY };
	int r = mount_at(source, target, "bind", MS_BIND | MS_REC, NULL, err);

	if (r < 0 || !read_only)
		return r;
	r = worker_call(mount_fn, &again);
	if (r < 0) {
		mount_undo(target, true, NULL);
		return err_sys(err, r, "make %s read-only", target);
	}
	return 0;
}

int mount_propagation(const char *target, char *const *options, struct err *err)
{
	static const struct {
		const char *word;
		unsigned long flags;
	} words[] = {
		{ "shared", MS_SHARED },         { "rshared", MS_SHARED | MS_REC },
		{ "slave", MS_SLAVE },           { "rslave", MS_SLAVE | MS_REC },
		{ "private", MS_PRIVATE },       { "rprivate", MS_PRIVATE | MS_REC },
		{ "unbindable", MS_UNBINDABLE }, { "runbindable", MS_UNBINDABLE | MS_REC },
	};

	for (char *const *o = options; o && *o; o++)
		for (size_t i = 0; i < ARRAY_SIZE(words); i++)
			if (str_eq(*o, words[i].word) &&
			    mount(target, target, NULL, words[i].flags, NULL) < 0)
				return err_sys(err, -errno, "make %s %s", target, *o);
	return 0;
}

static int undo_fn(void *arg)
{
	const struct mount_call *c = arg;
	struct stat st;

	if (lstat(c->target, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	for (unsigned i = 0; i < STACKED_MAX; i++) {
		if (umount2(c->target, UMOUNT_NOFOLLOW) == 0)
			continue;
		if (errno == EINVAL)
			break;
		return -errno;
	}
	return c->remove ? dir_remove(c->target) : 0;
}

int mount_undo(const char *target, bool remove, struct err *err)
{
	struct mount_call c = { .target = target, .remove = remove };
	int r = worker_call(undo_fn, &c);

	return r < 0 ? err_sys(err, r, "unmount %s", target) : 0;
}
