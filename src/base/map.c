/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Below this many entries a scan is quicker than the hash, and there is no index. */
enum { SCAN_MAX = 8 };

static uint32_t hash(const char *key)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *key; key++)
		h = (h ^ (uint8_t)*key) * 16777619u;
	return h;
}

static void index_put(struct map *m, size_t n)
{
	size_t i = hash(m->entries[n].key) & (m->index_cap - 1);

	while (m->index[i])
		i = (i + 1) & (m->index_cap - 1);
	m->index[i] = (uint32_t)n + 1;
}

static void index_build(struct map *m)
{
	size_t cap = 32;

	if (m->len <= SCAN_MAX) {
		free(m->index);
		m->index = NULL;
		m->index_cap = 0;
		return;
	}
	while (cap < m->len * 2)
		cap *= 2;
	if (cap > m->index_cap) {
		free(m->index);
		m->index = mem_new0(cap, sizeof(*m->index));
		m->index_cap = cap;
	} else {
		memset(m->index, 0, m->index_cap * sizeof(*m->index));
	}
	for (size_t n = 0; n < m->len; n++)
		index_put(m, n);
}

static struct map_entry *find(const struct map *m, const char *key)
{
	if (!m->index) {
		MAP_FOR_EACH(e, m)
			if (strcmp(e->key, key) == 0)
				return e;
		return NULL;
	}
	for (size_t i = hash(key) & (m->index_cap - 1); m->index[i];
	     i = (i + 1) & (m->index_cap - 1)) {
		struct map_entry *e = &m->entries[m->index[i] - 1];

		if (strcmp(e->key, key) == 0)
			return e;
	}
	return NULL;
}

void *map_get(const struct map *m, const char *key)
{
	struct map_entry *e = key ? find(m, key) : NULL;

	return e ? e->value : NULL;
}

void *map_set(struct map *m, const char *key, void *value)
{
	struct map_entry *e = find(m, key);

	if (e) {
		void *former = e->value;

		e->value = value;
		return former;
	}
	if (m->len == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 8;
		m->entries = mem_resize(m->entries, m->cap, sizeof(*m->entries));
	}
	m->entries[m->len++] = (struct map_entry){ .key = mem_strdup(key), .value = value };
	if (m->index && m->len * 2 <= m->index_cap)
		index_put(m, m->len - 1);
	else
		index_build(m);
	return NULL;
}

void *map_remove(struct map *m, const char *key)
{
	struct map_entry *e = key ? find(m, key) : NULL;
	size_t n;
	void *value;

	if (!e)
		return NULL;
	value = e->value;
	n = (size_t)(e - m->entries);
	free(e->key);
	memmove(e, e + 1, (m->len - n - 1) * sizeof(*e));
	m->len--;
	/* The numbers of all later entries have changed; maps are small, order matters more than
	 * this. */
	index_build(m);
	return value;
}

void map_free(struct map *m)
{
	MAP_FOR_EACH(e, m)
		free(e->key);
	free(m->entries);
	free(m->index);
	*m = (struct map){ 0 };
}
