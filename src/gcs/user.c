/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

enum { FILE_MAX_BYTES = 4 << 20, FIELDS = 4 };

/* Fields of a line "name:x:id:…": at most FIELDS, cut in place. */
static unsigned cut(char *line, char *field[FIELDS])
{
	unsigned n = 0;

	while (n < FIELDS) {
		char *colon = strchr(line, ':');

		field[n++] = line;
		if (!colon)
			break;
		*colon = '\0';
		line = colon + 1;
	}
	return n;
}

static int id_parse(const char *s, uint32_t *ret)
{
	uint64_t v;
	int r = str_u64(s, &v);

	if (r < 0)
		return r;
	if (v > UINT32_MAX)
		return -ERANGE;
	*ret = (uint32_t)v;
	return 0;
}

struct entry {
	unsigned matches;
	uint32_t id; /* third field */
	uint32_t group; /* fourth field, of passwd */
};

/* Entries of passwd or group with this name, or with this id when name is NULL. */
static int look_up(const char *rootfs, const char *file, const char *name, uint32_t id,
		   struct entry *ret, struct err *err)
{
	_cleanup_fd_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = -EBADF;
	_cleanup_free_ char *text = NULL;
	char *next = NULL;
	int r;

	*ret = (struct entry){ 0 };
	if (root < 0)
		return err_sys(err, -errno, "open %s", rootfs);
	fd = fd_open_in(root, file, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	r = fd < 0 ? fd : fd_read_all(fd, FILE_MAX_BYTES, &text, NULL);
	if (r < 0)
		return err_sys(err, r, "read /%s of the container", file);
	for (char *line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
		char *field[FIELDS];
		struct entry e = { 0 };
		unsigned n = cut(line, field);

		if (n < 3 || id_parse(field[2], &e.id) < 0)
			continue;
		if (n == FIELDS)
			id_parse(field[3], &e.group);
		if (name ? !str_eq(field[0], name) : e.id != id)
			continue;
		e.matches = ret->matches + 1;
		*ret = e;
	}
	return 0;
}

static int one(const struct entry *e, const char *what, const char *name, struct err *err)
{
	if (e->matches == 1)
		return 0;
	return err_set(err, e->matches ? -ERR_INVALID : -ERR_NOT_FOUND,
		       "failed to find %s by name: %s: expected exactly 1 match, got %u", what,
		       name, e->matches);
}

static int resolve_user(const char *rootfs, const char *name, uint32_t *ret_uid, uint32_t *ret_gid,
			struct err *err)
{
	struct entry e;
	uint32_t uid;
	int r = id_parse(name, &uid);

	if (r == -ERANGE)
		return err_set(err, -ERR_INVALID, "uid %s is out of range", name);
	if (r == 0) {
		r = look_up(rootfs, "etc/passwd", NULL, uid, &e, err);
		if (r < 0)
			return r;
		if (e.matches > 1)
			return err_set(err, -ERR_INVALID, "%u users have the uid %u", e.matches,
				       uid);
		*ret_uid = uid;
		*ret_gid = e.matches ? e.group : 0;
		return 0;
	}
	r = look_up(rootfs, "etc/passwd", name, 0, &e, err);
	if (r >= 0)
		r = one(&e, "user", name, err);
	if (r < 0)
		return r;
	*ret_uid = e.id;
	*ret_gid = e.group;
	return 0;
}

int user_resolve(const char *rootfs, const char *user, uint32_t *ret_uid, uint32_t *ret_gid,
		 struct err *err)
{
	_cleanup_free_ char *name = mem_strdup(user);
	char *group = strchr(name, ':');
	struct entry e;
	uint32_t uid = 0, gid = 0;
	int r;

	if (group)
		*group++ = '\0';
	if (!*name || (group && (!*group || strchr(group, ':'))))
		return err_set(err, -ERR_INVALID, "invalid userstr: '%s'", user);
	r = resolve_user(rootfs, name, &uid, &gid, err);
	if (r < 0)
		return r;
	if (group) {
		r = id_parse(group, &gid);
		if (r == -ERANGE)
			return err_set(err, -ERR_INVALID, "gid %s is out of range", group);
		if (r < 0) {
			r = look_up(rootfs, "etc/group", group, 0, &e, err);
			if (r >= 0)
				r = one(&e, "group", group, err);
			if (r < 0)
				return r;
			gid = e.id;
		}
	}
	*ret_uid = uid;
	*ret_gid = gid;
	return 0;
}
