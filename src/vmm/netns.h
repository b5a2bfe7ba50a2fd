/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_NETNS_H
#define LCOW_VMM_NETNS_H

#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

struct err;

/*
 * What CNI made of a network namespace, and taps in it. Nothing stays open in the namespace but the
 * taps, so that it goes when they do.
 */

/**
 * struct netns_address - of a card, without those of IPv6's link scope, which everybody makes anew
 * @text:	"10.0.0.2", "fd00::2"
 */
struct netns_address {
	char text[INET6_ADDRSTRLEN];
	uint8_t prefix_length;
};

/**
 * struct netns_route - of the main table, over one card, without those that its addresses imply
 * @next_hop:	"" for none
 * @destination: "10.1.0.0/16"; "0.0.0.0/0" or "::/0" for the default
 */
struct netns_route {
	char next_hop[INET6_ADDRSTRLEN];
	char destination[INET6_ADDRSTRLEN + sizeof("/128")];
	uint32_t metric;
};

/** struct netns_link - an Ethernet card */
struct netns_link {
	char name[IFNAMSIZ];
	uint8_t mac[6];
	unsigned mtu;
	struct netns_address *addresses;
	size_t n_addresses;
	struct netns_route *routes;
	size_t n_routes;
};

/**
 * netns_links() - the Ethernet cards of a namespace: eth0 first, then as they were made
 * @path:	of a namespace; no cards has an ordinary file, as those name who want none, and
 *		this process's own, which is the host's
 * @ret:	for netns_links_free()
 *
 * Return: 0; -ERR_INVALID when there is nothing at @path; or negative errno with text
 */
CO int netns_links(const char *path, struct netns_link **ret, size_t *ret_n, struct err *err);
/** netns_links_free() - NULL is fine; Return: NULL */
struct netns_link *netns_links_free(struct netns_link *links, size_t n);

/**
 * netns_tap() - a tap beside a card: from now on each gets what the other receives, and the
 * namespace itself sees nothing of it
 * @tap:	name for the tap in the namespace
 * @ret_fd:	of the tap, with vnet headers; it goes with its last fd
 *
 * Return: 0 or negative errno with text; then nothing has changed
 */
CO int netns_tap(const char *path, const char *link, const char *tap, int *ret_fd, struct err *err);
/**
 * netns_untap() - let the card's packets go their way again, once the tap is gone; a namespace or
 * card that is gone is success
 */
CO int netns_untap(const char *path, const char *link, struct err *err);

#endif
