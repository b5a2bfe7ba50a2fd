/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/mount_chain.h"

#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "controller/container.h"

enum { EXPANDED_MAX = 64 << 10, ID_MAX = INT32_MAX };

int chain_type(const char *type, const char **ret_type, struct err *err)
{
	static const struct {
		const char *name;
		int bit;
	} prefixes[] = { { "format/", CHAIN_FORMAT },
			 { "mkdir/", CHAIN_MKDIR },
			 { "mkfs/", CHAIN_MKFS } };
	const char *rest = type ? type : "";
	int bits = 0;

	for (size_t i = 0; i < ARRAY_SIZE(prefixes);) {
		if (str_starts(rest, prefixes[i].name)) {
			rest += strlen(prefixes[i].name);
			bits |= prefixes[i].bit;
			i = 0;
		} else {
			i++;
		}
	}
	if (!*rest || strchr(rest, '/'))
		return err_set(err, -ERR_INVALID, "unrecognized rootfs mount type: %s",
			       type ? type : "");
	*ret_type = rest;
	return bits;
}

static int read_index(const char *word, unsigned n, unsigned *ret, struct err *err)
{
	uint64_t v;

	if (!word || str_u64(word, &v) < 0)
		return err_set(err, -ERR_INVALID, "%s is no number of a mount", word ? word : "''");
	if (v >= n)
		return err_set(err, -ERR_INVALID, "mount %s does not come before this one", word);
	*ret = (unsigned)v;
	return 0;
}

static int add_overlay(struct buf *b, char *const *words, char *const *points, unsigned n,
		       struct err *err)
{
	unsigned from, to;
	int r = read_index(words[1], n, &from, err);

	if (r >= 0)
		r = read_index(words[2], n, &to, err);
	if (r < 0)
		return r;
	for (unsigned i = from;; i = from < to ? i + 1 : i - 1) {
		buf_addf(b, "%s%s", i == from ? "" : ":", points[i]);
		if (i == to)
			return 0;
	}
}

/* @words are those between the braces. */
static int add_value(struct buf *b, char *const *words, const struct rootfs_mount *mounts,
		     char *const *points, unsigned n, struct err *err)
{
	size_t len = strv_len(words);
	const char *value;
	unsigned i;

	if (len == 3 && str_eq(words[0], "overlay"))
		return add_overlay(b, words, points, n, err);
	if (len != 2 || (!str_eq(words[0], "mount") && !str_eq(words[0], "source") &&
			 !str_eq(words[0], "target")))
		return err_set(err, -ERR_INVALID, "unknown template function %s",
			       len ? words[0] : "''");

	int r = read_index(words[1], n, &i, err);

	if (r < 0)
		return r;
	if (str_eq(words[0], "mount"))
		value = points[i];
	else
		value = str_eq(words[0], "source") ? mounts[i].source : mounts[i].target;
	if (value)
		buf_addf(b, "%s", value);
	return 0;
}

int chain_expand(const char *text, const struct rootfs_mount *mounts, char *const *points,
		 unsigned n, char **ret, struct err *err)
{
	_cleanup_buf_ struct buf b = { 0 };
	const char *rest = text, *open;

	while ((open = strstr(rest, "{{"))) {
		const char *close = strstr(open + 2, "}}");

		if (!close)
			return err_set(err, -ERR_INVALID, "%s: {{ without }}", text);

		_cleanup_free_ char *inside = mem_strndup(open + 2, (size_t)(close - open - 2));
		_cleanup_strv_ char **words = strv_split(inside, " \t\r\n");

		buf_add(&b, rest, (size_t)(open - rest));

		int r = add_value(&b, words, mounts, points, n, err);

		if (r < 0)
			return err_wrap(err, r, "%s", text);
		if (b.len > EXPANDED_MAX)
			return err_set(err, -ERR_INVALID, "%s: longer than %d bytes when expanded",
				       text, EXPANDED_MAX);
		rest = close + 2;
	}
	buf_add(&b, rest, strlen(rest) + 1);
	*ret = mem_strdup((char *)b.data);
	return 0;
}

static int read_octal(const char *s, uint32_t *ret)
{
	size_t len = strlen(s);
	uint32_t v = 0;

	if (len == 0 || len > 5 || strspn(s, "01234567") != len)
		return -ERR_INVALID;
	while (*s)
		v = v * 8 + (uint32_t)(*s++ - '0');
	*ret = v;
	return v > 07777 ? -ERR_INVALID : 0;
}

/* The next part of @rest, up to ':' or its end. */
static char *next_part(const char **rest)
{
	size_t len = strcspn(*rest, ":");
	char *part = mem_strndup(*rest, len);

	*rest = (*rest)[len] ? *rest + len + 1 : NULL;
	return part;
}

int chain_dir_parse(const char *value, struct chain_dir *ret, struct err *err)
{
	_cleanup_strv_ char **parts = NULL;
	struct chain_dir dir = { .mode = 0700 };
	const char *rest = value;
	uint64_t uid = 0, gid = 0;

	while (rest) {
		_cleanup_free_ char *part = next_part(&rest);

		strv_add(&parts, part);
	}

	size_t n = strv_len(parts);

	if (!parts || (n != 1 && n != 2 && n != 4) || !*parts[0])
		return err_set(err, -ERR_INVALID, "directory %s is not PATH[:MODE[:UID:GID]]",
			       value);
	if (n > 1 && read_octal(parts[1], &dir.mode) < 0)
		return err_set(err, -ERR_INVALID, "directory %s: %s is no mode", value, parts[1]);
	if (n == 4 && (str_u64(parts[2], &uid) < 0 || str_u64(parts[3], &gid) < 0 || uid > ID_MAX ||
		       gid > ID_MAX))
		return err_set(err, -ERR_INVALID, "directory %s: bad uid or gid", value);
	dir.uid = (uint32_t)uid;
	dir.gid = (uint32_t)gid;
	dir.path = mem_strdup(parts[0]);
	*ret = dir;
	return 0;
}
