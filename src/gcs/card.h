/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_CARD_H
#define LCOW_GCS_CARD_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"

struct err;
struct gcs_network_adapter;

/* Network namespaces of this VM, and network cards in them. */

/**
 * card_namespace_new() - a network namespace with nothing but "lo", which is up
 * @path:	where it is bound, for others to join it; a file made here
 * @ret:	its fd
 *
 * Return: 0 or negative errno with text; then there is nothing at @path; else namespace_free() ends
 * it
 */
CO int card_namespace_new(const char *path, int *ret, struct err *err);

/** card_mac_parse() - six bytes in hex, apart by ':' or '-'; Return: 0 or -ERR_INVALID */
int card_mac_parse(const char *text, uint8_t ret[6]);
/**
 * card_find() - the card with a MAC that is in nobody's namespace yet
 * @dir:	"/sys/class/net", another one in tests
 *
 * Return: 0, or -ERR_NOT_FOUND
 */
int card_find(const char *dir, const uint8_t mac[6], char ret_name[IFNAMSIZ]);

/**
 * struct card_place - where a card goes to, and as what
 * @netns:	fd of the namespace
 * @link:	its name here
 * @name:	its name there
 * @table:	routing table of its own, for what its addresses send; 0: the namespace's
 */
struct card_place {
	int netns;
	const char *link;
	const char *name;
	uint32_t table;
};

/**
 * card_put() - move a card into a namespace, and set it up as its settings say
 * Return: 0; -ERR_INVALID naming the address or route that is none; or negative errno with text;
 * then the card is here again
 */
CO int card_put(const struct card_place *place, const struct gcs_network_adapter *settings,
		struct err *err);

#endif
