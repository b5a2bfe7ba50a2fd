/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_MAP_H
#define LCOW_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct map - string keys (copied) to pointers (not owned), in order of insertion; {0} is an empty
 * map
 */
struct map {
	struct map_entry {
		char *key;
		void *value;
	} * entries;
	size_t len;
	size_t cap;
	uint32_t *index; /* open hash of entry numbers + 1, private */
	size_t index_cap;
};

/** map_get() - value of @key, or NULL */
void *map_get(const struct map *m, const char *key);
/** map_set() - add or replace; Return: the former value, or NULL */
void *map_set(struct map *m, const char *key, void *value);
/** map_remove() - take out; order of the others is kept; Return: the value, or NULL */
void *map_remove(struct map *m, const char *key);
/** map_free() - free keys and table, not the values; the map is empty then */
void map_free(struct map *m);

#define MAP_FOR_EACH(e, m) \
	for (struct map_entry *e = (m)->entries; e && e < (m)->entries + (m)->len; e++)

#endif
