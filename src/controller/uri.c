/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/uri.h"

#include <ctype.h>

#include "base/err.h"
#include "base/str.h"

enum { URI_MAX = 64 * 1024 };

/* The length of "scheme" before "://", 0 when there is none. */
static size_t scheme_len(const char *text)
{
	size_t n = 0;

	if (!isalpha((unsigned char)*text))
		return 0;
	while (isalnum((unsigned char)text[n]) || (text[n] && strchr("+-.", text[n])))
		n++;
	return str_starts(text + n, "://") ? n : 0;
}

bool uri_is(const char *text)
{
	return scheme_len(text) > 0;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/**
 * decode() - text without its escapes
 * @plus:	"+" is a space, as in a query
 * Return: the text, which the caller frees, or NULL for a broken escape or one of a NUL
 */
static char *decode(const char *s, size_t len, bool plus)
{
	_cleanup_free_ char *text = mem_strndup(s, len);
	char *out = text;

	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (s[i] != '%') {
			*out++ = plus && s[i] == '+' ? ' ' : s[i];
			continue;
		}
		if (len - i < 3)
			return NULL;
		high = hex_digit(s[i + 1]);
		low = hex_digit(s[i + 2]);
		if (high < 0 || low < 0 || high + low == 0)
			return NULL;
		*out++ = (char)(high << 4 | low);
		i += 2;
	}
	*out = '\0';
	return TAKE_PTR(text);
}

static bool has_key(char *const *query, const char *key)
{
	for (; query && *query; query += 2) {
		if (str_eq(*query, key))
			return true;
	}
	return false;
}

/* Return: whether every escape was sound */
static bool add_pairs(char ***query, const char *s, size_t len)
{
	const char *end = s + len;

	while (s < end) {
		size_t n = strcspn(s, "&#");
		size_t key_len = strcspn(s, "=&#");
		size_t value_at = key_len < n ? key_len + 1 : n;
		_cleanup_free_ char *key = decode(s, key_len, true);
		_cleanup_free_ char *value = decode(s + value_at, n - value_at, true);

		if (!key || !value)
			return false;
		if (n > 0 && !has_key(*query, key)) {
			strv_add(query, key);
			strv_add(query, value);
		}
		s += n + 1;
	}
	return true;
}

int uri_parse(const char *text, struct uri *ret, struct err *err)
{
	size_t n = scheme_len(text);
	_cleanup_uri_ struct uri u = { 0 };

	if (n == 0 || strnlen(text, URI_MAX + 1) > URI_MAX)
		return err_set(err, -ERR_INVALID, "not a URI, or longer than %d bytes", URI_MAX);

	const char *path = text + n + strlen("://");
	size_t path_len = strcspn(path, "?#");

	if (*path != '/')
		return err_set(err, -ERR_INVALID, "%s: a URI of a stream is %.*s:///path", text,
			       (int)n, text);
	u.scheme = mem_strndup(text, n);
	u.path = decode(path, path_len, false);
	if (!u.path || (path[path_len] == '?' && !add_pairs(&u.query, path + path_len + 1,
							    strcspn(path + path_len + 1, "#"))))
		return err_set(err, -ERR_INVALID, "%s: broken escape", text);
	*ret = u;
	u = (struct uri){ 0 };
	return 0;
}

void uri_free(struct uri *u)
{
	free(u->scheme);
	free(u->path);
	strv_free(u->query);
	*u = (struct uri){ 0 };
}
