/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

char *str_vprintf(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	return s;
}

char *str_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = str_vprintf(fmt, ap);
	va_end(ap);
	return s;
}

void str_set(char **p, const char *s)
{
	char *copy = mem_strdup(s);

	free(*p);
	*p = copy;
}

/** digits() - read the decimal number at *@s and step over it */
static int digits(const char **s, uint64_t *ret)
{
	uint64_t v = 0;

	if (**s < '0' || **s > '9')
		return -EINVAL;
	for (; **s >= '0' && **s <= '9'; (*s)++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(**s - '0'), &v))
			return -ERANGE;
	*ret = v;
	return 0;
}

int str_u64(const char *s, uint64_t *ret)
{
	uint64_t v;
	int r;

	if (!s)
		return -EINVAL;
	r = digits(&s, &v);
	/* "99999999999999999999x" is no number rather than too large a one, but nobody needs to
	 * tell them apart. */
	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	*ret = v;
	return 0;
}

int str_size(const char *s, uint64_t *ret)
{
	static const char units[] = "KMGT";
	uint64_t v;
	int r;

	if (!s)
		return -EINVAL;
	r = digits(&s, &v);
	if (r < 0)
		return r;
	if (*s && *s != 'B') {
		const char *u = strchr(units, toupper((unsigned char)*s));
		unsigned shift;

		if (!u)
			return -EINVAL;
		shift = 10 * (unsigned)(u - units + 1);
		if (v > UINT64_MAX >> shift)
			return -ERANGE;
		v <<= shift;
		s++;
		if (*s == 'i' && s[1] == 'B')
			s++;
	}
	if (*s == 'B')
		s++;
	if (*s)
		return -EINVAL;
	*ret = v;
	return 0;
}

int str_bool(const char *s, bool *ret)
{
	static const char *const words[][2] = {
		{ "false", "true" }, { "no", "yes" }, { "off", "on" }, { "0", "1" }, { "f", "t" }
	};

	for (size_t i = 0; s && i < ARRAY_SIZE(words); i++)
		for (int value = 0; value < 2; value++)
			if (strcasecmp(s, words[i][value]) == 0) {
				*ret = value;
				return 0;
			}
	return -EINVAL;
}

bool str_id_valid(const char *s)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.#:@-";
	size_t len = s ? strnlen(s, 129) : 0;

	return len >= 1 && len <= 128 && strspn(s, allowed) == len && !str_eq(s, ".") &&
	       !str_eq(s, "..");
}

/**
 * utf8_len() - length of the well-formed character at @s (RFC 3629: shortest form, no surrogates),
 * 0 for none
 */
static size_t utf8_len(const unsigned char *s, size_t len)
{
	size_t need = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
		      : s[0] >= 0xe0 && s[0] <= 0xef ? 3
		      : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
						     : 0;

	if (!need || need > len)
		return 0;
	for (size_t i = 1; i < need; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	/* The C1 controls are well-formed, but terminals obey them. */
	if (s[0] == 0xc2 && s[1] < 0xa0)
		return 0;
	return need;
}

void str_clean(char *s, size_t len)
{
	unsigned char *p = (unsigned char *)s;

	while (len > 0) {
		size_t n = *p >= 0x20 && *p < 0x7f ? 1 : utf8_len(p, len);

		if (!n) {
			*p = '?';
			n = 1;
		}
		p += n;
		len -= n;
	}
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

char **strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
	return NULL;
}

/** strv_push() - append @s, which the vector owns from here on */
static void strv_push(char ***v, char *s)
{
	size_t n = strv_len(*v);

	*v = mem_resize(*v, n + 2, sizeof(**v));
	(*v)[n] = s;
	(*v)[n + 1] = NULL;
}

void strv_add(char ***v, const char *s)
{
	strv_push(v, mem_strdup(s));
}

void strv_addf(char ***v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_push(v, str_vprintf(fmt, ap));
	va_end(ap);
}

char **strv_copy(char *const *v)
{
	size_t n = strv_len(v);
	char **copy;

	if (!v)
		return NULL;
	copy = mem_new0(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = mem_strdup(v[i]);
	return copy;
}

bool strv_has(char *const *v, const char *s)
{
	for (; v && *v; v++)
		if (strcmp(*v, s) == 0)
			return true;
	return false;
}

char *strv_join(char *const *v, const char *sep)
{
	struct buf b = { 0 };

	for (size_t i = 0; v && v[i]; i++) {
		if (i)
			buf_add(&b, sep, strlen(sep));
		buf_add(&b, v[i], strlen(v[i]));
	}
	buf_add(&b, "", 1);
	return (char *)b.data;
}

char **strv_split(const char *s, const char *seps)
{
	char **v = NULL;

	while (s && *(s += strspn(s, seps))) {
		size_t n = strcspn(s, seps);

		strv_push(&v, mem_strndup(s, n));
		s += n;
	}
	return v;
}

uint8_t *buf_reserve(struct buf *b, size_t len)
{
	size_t need;

	if (__builtin_add_overflow(b->len, len, &need))
		abort();
	if (need > b->cap || !b->data) {
		size_t cap = b->cap ? b->cap : 256;

		while (cap < need)
			cap = cap > SIZE_MAX / 2 ? need : cap * 2;
		b->data = mem_resize(b->data, cap, 1);
		b->cap = cap;
	}
	return b->data + b->len;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	if (!len)
		return;
	memcpy(buf_reserve(b, len), data, len);
	b->len += len;
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = str_vprintf(fmt, ap);
	va_end(ap);
	buf_add(b, s, strlen(s));
	free(s);
}

void buf_eat(struct buf *b, size_t len)
{
	if (len > b->len)
		abort();
	b->len -= len;
	if (b->len)
		memmove(b->data, b->data + len, b->len);
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}
