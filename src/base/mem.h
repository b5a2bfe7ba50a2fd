/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_MEM_H
#define LCOW_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/**
 * _cleanup_() - run @f on the address of the variable when it leaves its scope
 */
#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(mem_freep)

/**
 * TAKE_PTR() - move a pointer out of a variable, which becomes NULL
 */
#define TAKE_PTR(p) \
	({ \
		__typeof__(p) taken_ = (p); \
		(p) = NULL; \
		taken_; \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/**
 * DEFINE_CLEANUP() - define name##p(), which runs @func on what a variable points to, for
 * _cleanup_()
 */
#define DEFINE_CLEANUP(type, func) \
	static inline void func##p(type **p) \
	{ \
		if (*p) \
			func(*p); \
	}

static inline void mem_freep(void *p)
{
	free(*(void **)p);
}

/* Small allocations of fixed size: they abort when memory is out. What a peer sizes is capped and
 * uses malloc() itself. */

/**
 * mem_new0() - zeroed memory for @n objects of @size bytes, or abort
 */
void *mem_new0(size_t n, size_t size) __attribute__((malloc, returns_nonnull, alloc_size(1, 2)));

/**
 * mem_strdup() - copy of @s, or abort; NULL gives NULL
 */
char *mem_strdup(const char *s);

/**
 * mem_strndup() - copy of at most @n bytes of @s, NUL-terminated, or abort
 */
char *mem_strndup(const char *s, size_t n) __attribute__((returns_nonnull));

/**
 * mem_resize() - realloc() to @n objects of @size bytes with overflow check, or abort
 */
void *mem_resize(void *p, size_t n, size_t size) __attribute__((returns_nonnull));

#define NEW0(type) ((type *)mem_new0(1, sizeof(type)))

#endif
