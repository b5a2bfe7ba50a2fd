/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_STR_H
#define LCOW_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

static inline bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool str_empty(const char *s)
{
	return !s || !*s;
}

static inline bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/**
 * str_printf() - formatted string, or abort; the caller frees it
 */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
char *str_vprintf(const char *fmt, va_list ap)
	__attribute__((format(printf, 1, 0), returns_nonnull));

/**
 * str_set() - replace the string that *@p owns by a copy of @s (NULL allowed)
 */
void str_set(char **p, const char *s);

/**
 * str_u64() - read a decimal number that fills the whole string
 * Return: 0, -EINVAL or -ERANGE
 */
int str_u64(const char *s, uint64_t *ret);

/**
 * str_size() - read a size such as "512", "64K", "256M", "1G", "64MiB" (binary units), in bytes
 * Return: 0, -EINVAL or -ERANGE
 */
int str_size(const char *s, uint64_t *ret);

/**
 * str_bool() - read "true"/"false", "yes"/"no", "on"/"off", "1"/"0", "t"/"f"
 * Return: 0 or -EINVAL
 */
int str_bool(const char *s, bool *ret);

/**
 * str_id_valid() - whether @s is safe as an id and as one path part: 1 to 128 of [A-Za-z0-9_.#:@-],
 * not "." or ".."
 */
bool str_id_valid(const char *s);

/**
 * str_clean() - make hostile text safe to log: every byte that is not printable ASCII or valid
 * UTF-8 becomes '?', in place
 */
void str_clean(char *s, size_t len);

/*
 * A NULL-terminated vector of strings; NULL is the empty one.
 */
size_t strv_len(char *const *v);
char **strv_free(char **v);
static inline void strv_freep(char ***v)
{
	strv_free(*v);
}
#define _cleanup_strv_ _cleanup_(strv_freep)
/** strv_add() - append a copy of @s to the vector *@v */
void strv_add(char ***v, const char *s);
/** strv_addf() - append a formatted string to the vector *@v */
void strv_addf(char ***v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char **strv_copy(char *const *v);
bool strv_has(char *const *v, const char *s);
/** strv_join() - "a<sep>b<sep>c"; the caller frees it */
char *strv_join(char *const *v, const char *sep);
/**
 * strv_split() - parts of @s between runs of any byte of @seps, empty parts dropped; the caller
 * frees it
 */
char **strv_split(const char *s, const char *seps);

/**
 * struct buf - bytes that grow at the end and are eaten at the front
 */
struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
};

/** buf_add() - append bytes, or abort when memory is out (cap what a peer sends before calling) */
void buf_add(struct buf *b, const void *data, size_t len);
/** buf_addf() - append formatted text without its NUL */
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** buf_reserve() - make room for @len more bytes and return where they go (then add to b->len) */
uint8_t *buf_reserve(struct buf *b, size_t len);
/** buf_eat() - drop the first @len bytes */
void buf_eat(struct buf *b, size_t len);
/** buf_free() - free the bytes and empty the buffer */
void buf_free(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_free)

#endif
