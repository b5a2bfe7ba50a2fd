/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_LIST_H
#define LCOW_BASE_LIST_H

#include <stdbool.h>

#include "base/mem.h"

/**
 * struct list - a link of a circular doubly linked list; also its head. An unlinked link points to
 * itself
 */
struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/** list_append() - link @item at the end of @head */
static inline void list_append(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

/** list_remove() - unlink @item; harmless on an item that list_init() made */
static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

#define LIST_ENTRY(link, type, member) CONTAINER_OF(link, type, member)
#define LIST_FOR_EACH(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/** LIST_FOR_EACH_SAFE() - the body may unlink @it */
#define LIST_FOR_EACH_SAFE(it, head) \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head); \
	     it = it##_next, it##_next = it->next)

#endif
