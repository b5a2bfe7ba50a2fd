/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#define MADE "trusted.lcow.made"
#define SLICE ".slice"

enum {
	PATH_LEN_MAX = 1024,
	PART_LEN_MAX = 255,
	MOUNTINFO_MAX = 4 << 20,
	RECORD_MAX = 1 << 20,
	FILE_MAX = 4096,
	WALKS_MAX = 16,
	REMOVE_WAIT_MS = 1000,
	REMOVE_POLL_MS = 10
};

/* ---- names ---- */

static int refuse(const char *name, const char *why, struct err *err)
{
	_cleanup_free_ char *shown = mem_strndup(name, PATH_LEN_MAX);

	str_clean(shown, strlen(shown));
	return err_set(err, -ERR_INVALID, "cgroup \"%s\": %s", shown, why);
}

static int path_check(const char *name, const char *path, struct err *err)
{
	if (strlen(path) > PATH_LEN_MAX)
		return refuse(name, "the path is too long", err);
	for (const char *p = path;; p++) {
		size_t len = strcspn(p, "/");

		if (len == 0 || len > PART_LEN_MAX || (len == 1 && p[0] == '.') ||
		    (len == 2 && p[0] == '.' && p[1] == '.'))
			return refuse(name,
				      "a part of the path is empty, \".\", \"..\" or too long",
				      err);
		for (size_t i = 0; i < len; i++) {
			if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
				return refuse(name, "the path has a control character", err);
		}
		p += len;
		if (!*p)
			return 0;
	}
}

/* "a-b.slice" is in "a.slice"; "-.slice" is the root. Its name ends at @len. */
static int slice_path(const char *name, size_t len, struct buf *path, struct err *err)
{
	const size_t tail = strlen(SLICE);

	if (len <= tail || memcmp(name + len - tail, SLICE, tail) != 0 || memchr(name, '/', len))
		return refuse(name, "what is before the first colon is no slice", err);
	len -= tail;
	if (len == 1 && name[0] == '-')
		return 0;
	for (size_t i = 0; i <= len; i++) {
		if (i < len && name[i] != '-')
			continue;
		if (i == 0 || name[i - 1] == '-')
			return refuse(name, "the name of the slice has an empty part", err);
		buf_addf(path, "%.*s" SLICE "/", (int)i, name);
	}
	return 0;
}

/* As systemd would place the unit. */
static int unit_path(const char *name, const char *colon, struct buf *path, struct err *err)
{
	const char *prefix = colon + 1, *last = strchr(prefix, ':') + 1;
	int prefix_len = (int)(last - 1 - prefix), r = 0;

	if (colon == name)
		buf_addf(path, "system" SLICE "/");
	else
		r = slice_path(name, (size_t)(colon - name), path, err);
	if (r < 0)
		return r;
	if (str_empty(last))
		return refuse(name, "the name after the last colon is empty", err);
	buf_addf(path, "%.*s%s%s.scope", prefix_len, prefix, prefix_len > 0 ? "-" : "", last);
	return 0;
}

int cgroup_path(const char *name, char **ret, struct err *err)
{
	_cleanup_buf_ struct buf path = { 0 };
	const char *colon = name[0] == '/' ? NULL : strchr(name, ':');
	const char *second = colon ? strchr(colon + 1, ':') : NULL;
	int r = 0;

	if (strlen(name) > PATH_LEN_MAX)
		return refuse(name, "the path is too long", err);
	if (second && !strchr(second + 1, ':'))
		r = unit_path(name, colon, &path, err);
	else
		buf_addf(&path, "%s", name + (name[0] == '/'));
	if (r < 0)
		return r;
	if (path.len == 0) {
		*ret = NULL;
		return 0;
	}
	buf_add(&path, "", 1);
	r = path_check(name, (const char *)path.data, err);
	if (r >= 0)
		*ret = (char *)TAKE_PTR(path.data);
	return r;
}

/* ---- hierarchies ---- */

/**
 * struct hierarchy - where one is mounted
 * @device:	tells hierarchies apart
 * @unified:	version 2
 */
struct hierarchy {
	char *mount;
	char *device;
	bool unified;
};

struct hierarchies {
	struct hierarchy *list;
	unsigned n;
};

static void hierarchies_free(struct hierarchies *all)
{
	for (unsigned i = 0; i < all->n; i++) {
		free(all->list[i].mount);
		free(all->list[i].device);
	}
	free(all->list);
}

/* Blanks and backslashes are "\040" there, proc_pid_mountinfo(5). */
static char *unescape(const char *text)
{
	char *s = mem_strdup(text), *to = s;

	for (const char *p = s; *p; p++) {
		if (p[0] == '\\' && strspn(p + 1, "01234567") >= 3) {
			*to++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 3;
		} else {
			*to++ = *p;
		}
	}
	*to = '\0';
	return s;
}

/* The first mount of each hierarchy is the system's; others are those of containers. */
static void take_mount(struct hierarchies *all, char *const *fields)
{
	_cleanup_free_ char *mount = NULL, *procs = NULL;
	char *const *dash = fields;
	bool unified;

	while (*dash && !str_eq(*dash, "-"))
		dash++;
	if (dash < fields + 6 || !*dash || !dash[1])
		return;
	unified = str_eq(dash[1], "cgroup2");
	if (!unified && !str_eq(dash[1], "cgroup"))
		return;
	for (unsigned i = 0; i < all->n; i++) {
		if (str_eq(all->list[i].device, fields[2]))
			return;
	}
	mount = unescape(fields[4]);
	procs = str_printf("%s/cgroup.procs", mount);
	/* Something else may be mounted over it. */
	if (access(procs, F_OK) < 0)
		return;
	all->list = mem_resize(all->list, all->n + 1, sizeof(*all->list));
	all->list[all->n++] = (struct hierarchy){ TAKE_PTR(mount), mem_strdup(fields[2]), unified };
}

static int hierarchies_read(const char *mountinfo, struct hierarchies *ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **lines = NULL;
	size_t len;
	int r = file_read(mountinfo, MOUNTINFO_MAX, &text, &len);

	if (r < 0)
		return err_sys(err, r, "read %s", mountinfo);
	lines = strv_split(text, "\n");
	for (char **line = lines; line && *line; line++) {
		_cleanup_strv_ char **fields = strv_split(*line, " ");

		take_mount(ret, fields);
	}
	return 0;
}

/* ---- making ---- */

static int open_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A file of a cgroup; NULL when it cannot be read, and the caller frees it. */
static char *read_at(int dir, const char *name)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char *text = NULL;

	return fd < 0 || fd_read_all(fd, FILE_MAX, &text, NULL) < 0 ? NULL : text;
}

static int write_at(int dir, const char *name, const char *text)
{
	_cleanup_fd_ int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* What has a controller for its children counts by itself. One that cannot be passed on is none of
 * a VM's needs: the cgroups above count for it. */
static void pass_controllers(int dir)
{
	_cleanup_free_ char *list = read_at(dir, "cgroup.controllers");
	_cleanup_strv_ char **names = list ? strv_split(list, " \n") : NULL;

	for (char **name = names; name && *name; name++) {
		_cleanup_free_ char *word = str_printf("+%s", *name);

		write_at(dir, "cgroup.subtree_control", word);
	}
}

/* No process gets into a cpuset of version 1 that is empty, as each is when it is made. */
static int inherit_cpuset(int parent, int dir)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *own = read_at(dir, files[i]), *its = NULL;

		if (!own || own[strspn(own, "\n")])
			continue;
		its = read_at(parent, files[i]);
		r = its ? write_at(dir, files[i], its) : 0;
	}
	return r;
}

/* The directory @part of @parent, made if need be. */
static int enter(const struct hierarchy *h, int parent, const char *part, bool top)
{
	_cleanup_fd_ int dir = -EBADF;
	bool made = mkdirat(parent, part, 0755) == 0;
	int r;

	if (!made && errno != EEXIST)
		return -errno;
	if (h->unified && made && !top)
		pass_controllers(parent);
	dir = open_dir(parent, part);
	if (dir < 0)
		return dir;
	/* Where that is not allowed, the record alone says what is to be removed. */
	if (made)
		(void)!fsetxattr(dir, MADE, "1", 1, 0);
	r = h->unified ? 0 : inherit_cpuset(parent, dir);
	return r < 0 ? r : TAKE_FD(dir);
}

static int walk(const struct hierarchy *h, char *const *parts)
{
	_cleanup_fd_ int dir = open_dir(AT_FDCWD, h->mount);
	int procs;

	for (char *const *part = parts; dir >= 0 && *part; part++) {
		int next = enter(h, dir, *part, part == parts);

		fd_close(dir);
		dir = next;
	}
	if (dir < 0 || h->unified)
		return TAKE_FD(dir);
	procs = openat(dir, "cgroup.procs", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	return procs < 0 ? -errno : procs;
}

static int make_in(const struct hierarchy *h, char *const *parts)
{
	int r = 0;

	/* The end of another sandbox may take away what is above. */
	for (int i = 0; i < WALKS_MAX; i++) {
		r = walk(h, parts);
		if (r != -ENOENT && r != -ENODEV)
			break;
	}
	return r;
}

/* How much of a cgroup's name is there already. */
static size_t present(const char *dir, size_t mount_len)
{
	_cleanup_free_ char *path = mem_strdup(dir);

	for (;;) {
		size_t len = strlen(path);

		if (len <= mount_len || access(path, F_OK) == 0)
			return len;
		*strrchr(path, '/') = '\0';
	}
}

static int record(const char *run_dir, const struct hierarchies *all, const char *path,
		  struct err *err)
{
	_cleanup_free_ char *file = str_printf("%s/cgroup", run_dir);
	_cleanup_buf_ struct buf text = { 0 };
	int r;

	for (unsigned i = 0; i < all->n; i++) {
		const char *mount = all->list[i].mount;
		_cleanup_free_ char *dir = str_printf("%s/%s", mount, path);

		buf_addf(&text, "%zu %s\n", present(dir, strlen(mount)), dir);
	}
	r = file_write(file, text.data, text.len, 0600);
	return r < 0 ? err_sys(err, r, "record %s", file) : 0;
}

static bool may_not(int code)
{
	return code == -EROFS || code == -EACCES || code == -EPERM;
}

int cgroup_make(const char *mountinfo, const char *run_dir, const char *path, struct cgroups *ret,
		struct err *err)
{
	_cleanup_(hierarchies_free) struct hierarchies all = { 0 };
	_cleanup_cgroups_ struct cgroups c = { 0 };
	_cleanup_strv_ char **parts = strv_split(path, "/"), **left_out = NULL;
	int r = hierarchies_read(mountinfo, &all, err), why = 0;

	if (r >= 0 && all.n > 0)
		r = record(run_dir, &all, path, err);
	if (r < 0)
		return r;
	c.procs = mem_new0(all.n + 1, sizeof(int));
	for (unsigned i = 0; i < all.n; i++) {
		const char *mount = all.list[i].mount;

		r = make_in(&all.list[i], parts);
		if (r >= 0 && all.list[i].unified) {
			c.clone_flags = CLONE_INTO_CGROUP;
			c.dir = r;
		} else if (r >= 0) {
			c.procs[c.n_procs++] = r;
		} else if (may_not(r)) {
			strv_add(&left_out, mount);
			why = r;
		} else {
			return err_sys(err, r, "make cgroup %s/%s", mount, path);
		}
	}
	if (left_out) {
		_cleanup_free_ char *list = strv_join(left_out, ", ");

		log_warn("the VM is not accounted for in cgroup /%s, for this may not be made in "
			 "%s: %s",
			 path, list, strerror(-why));
	}
	*ret = c;
	c = (struct cgroups){ 0 };
	return 0;
}

void cgroups_close(struct cgroups *c)
{
	if (c->clone_flags)
		fd_close(c->dir);
	for (unsigned i = 0; i < c->n_procs; i++)
		fd_close(c->procs[i]);
	free(c->procs);
	*c = (struct cgroups){ 0 };
}

/* ---- removing ---- */

static bool busy(int code)
{
	return code == -EBUSY || code == -ENOTEMPTY;
}

/* Whether a cgroup has children or processes. */
static bool in_use(const char *path)
{
	_cleanup_fd_ int fd = open_dir(AT_FDCWD, path);
	_cleanup_free_ char *procs = fd < 0 ? NULL : read_at(fd, "cgroup.procs");
	bool found = procs && *procs;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		return found;
	fd = -EBADF;
	for (struct dirent *e; !found && (e = readdir(dir));)
		found = e->d_type == DT_DIR && !str_eq(e->d_name, ".") && !str_eq(e->d_name, "..");
	closedir(dir);
	return found;
}

/* Where nothing may be written, that is what rmdir() says, whether there is something or not. */
static int remove_one(const char *path)
{
	int r = rmdir(path) < 0 ? -errno : 0;

	return r < 0 && access(path, F_OK) < 0 ? 0 : r;
}

/* The last process of a cgroup is counted for a moment longer than it lives. */
static int remove_leaf(const char *path, uint64_t end)
{
	for (;;) {
		int r = remove_one(path);

		if (!busy(r))
			return r;
		if (time_mono() >= end)
			return in_use(path) ? 0 : r;
		usleep(REMOVE_POLL_MS * 1000);
	}
}

static bool made(const char *path)
{
	char value[8];

	return getxattr(path, MADE, value, sizeof(value)) >= 0;
}

/* @kept bytes of its name were there before, and stay unless another sandbox made them. */
static int remove_dir(char *path, size_t kept, uint64_t end)
{
	int r = 0;

	if (strlen(path) > kept || made(path))
		r = remove_leaf(path, end);
	while (r >= 0) {
		char *slash = strrchr(path, '/');

		if (!slash || slash == path)
			break;
		*slash = '\0';
		if (strlen(path) <= kept && !made(path))
			break;
		r = remove_one(path);
		if (busy(r))
			return 0;
	}
	return r;
}

int cgroup_remove(const char *run_dir, struct err *err)
{
	_cleanup_free_ char *file = str_printf("%s/cgroup", run_dir), *text = NULL;
	_cleanup_strv_ char **lines = NULL;
	uint64_t end = time_mono() + REMOVE_WAIT_MS * USEC_PER_MSEC;
	size_t len;
	int r = file_read(file, RECORD_MAX, &text, &len), first = 0;

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_sys(err, r, "read %s", file);
	lines = strv_split(text, "\n");
	for (char **line = lines; line && *line; line++) {
		char *space = strchr(*line, ' ');
		uint64_t kept;

		if (!space || space[1] != '/')
			continue;
		*space = '\0';
		if (str_u64(*line, &kept) < 0)
			continue;
		r = remove_dir(space + 1, (size_t)kept, end);
		if (r < 0 && first == 0)
			first = err_sys(err, r, "remove cgroup %s", space + 1);
	}
	if (first == 0 && unlink(file) < 0 && errno != ENOENT)
		first = err_sys(err, -errno, "remove %s", file);
	return first;
}
