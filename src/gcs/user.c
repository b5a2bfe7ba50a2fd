/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

/* Text of passwd or group; "" when there is none. */
static int read_in(const char *rootfs, const char *file, char **ret, struct err *err)
{
	_cleanup_fd_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = -EBADF;
	int r;

	if (root < 0)
		return err_sys(err, -errno, "open %s", rootfs);
	fd = fd_open_in(root, file, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT || fd == -ENOTDIR) {
		*ret = mem_strdup("");
		return 0;
	}
	r = fd < 0 ? fd : fd_read_all(fd, FILE_MAX_BYTES, ret, NULL);
	return r < 0 ? err_sys(err, r, "read /%s of the container", file) : 0;
}

/* Entries of passwd or group with this name, or with this id when name is NULL. */
static int look_up(const char *rootfs, const char *file, const char *name, uint32_t id,
		   struct entry *ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	char *next = NULL;
	int r = read_in(rootfs, file, &text, err);

	*ret = (struct entry){ 0 };
	if (r < 0)
		return r;
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

/* Name of the entry with this uid; NULL when there is none, or it has no name. */
static int name_of(const char *rootfs, uint32_t uid, char **ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	char *next = NULL;
	int r = read_in(rootfs, "etc/passwd", &text, err);

	if (r < 0)
		return r;
	for (char *line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
		char *field[FIELDS];
		uint32_t id;

		if (cut(line, field) < 3 || id_parse(field[2], &id) < 0 || id != uid)
			continue;
		*ret = str_empty(field[0]) ? NULL : mem_strdup(field[0]);
		return 0;
	}
	return 0;
}

static bool is_member(const char *members, const char *name)
{
	size_t len = strlen(name);

	for (const char *m = members; *m; m += strcspn(m, ",")) {
		m += *m == ',';
		if (strcspn(m, ",") == len && strncmp(m, name, len) == 0)
			return true;
	}
	return false;
}

int user_groups(const char *rootfs, const char *user, uint32_t **ret, size_t *ret_n,
		struct err *err)
{
	_cleanup_free_ char *name = strchr(user, ':') ? NULL : mem_strdup(user);
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ uint32_t *gids = NULL;
	char *next = NULL;
	size_t n = 0;
	uint32_t uid, gid;
	int r = 0;

	if (name && id_parse(name, &uid) >= 0) {
		free(TAKE_PTR(name));
		r = name_of(rootfs, uid, &name, err);
	}
	if (r >= 0 && name)
		r = read_in(rootfs, "etc/group", &text, err);
	if (r < 0)
		return r;
	for (char *line = text ? strtok_r(text, "\n", &next) : NULL; line && n < NGROUPS_MAX;
	     line = strtok_r(NULL, "\n", &next)) {
		char *field[FIELDS];

		if (cut(line, field) < FIELDS || id_parse(field[2], &gid) < 0 ||
		    !is_member(field[3], name))
			continue;
		gids = mem_resize(gids, n + 1, sizeof(*gids));
		gids[n++] = gid;
	}
	*ret = TAKE_PTR(gids);
	*ret_n = n;
	return 0;
}
