/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdint.h>

void *mem_new0(size_t n, size_t size)
{
	/* One byte at least: NULL would be a failure. */
	void *p = n && size ? calloc(n, size) : calloc(1, 1);

	if (!p)
		abort();
	return p;
}

char *mem_strdup(const char *s)
{
	return s ? mem_strndup(s, strlen(s)) : NULL;
}

char *mem_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = mem_resize(NULL, len + 1, 1);

	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

void *mem_resize(void *p, size_t n, size_t size)
{
	size_t total;
	void *q;

	if (__builtin_mul_overflow(n, size, &total))
		abort();
	q = realloc(p, total ? total : 1);
	if (!q)
		abort();
	return q;
}
