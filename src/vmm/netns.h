/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_NETNS_H
#define LCOW_VMM_NETNS_H

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

struct err;

/*
 * What CNI made of a network namespace, taps in it, and its loopback. Nothing stays open in the
 * namespace but what is returned as fds, so that it goes when they do.
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

/** struct netns_neighbor - a permanent entry of one card, as some plugins make for gateways */
struct netns_neighbor {
	char address[INET6_ADDRSTRLEN];
	uint8_t mac[6];
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
	struct netns_neighbor *neighbors;
	size_t n_neighbors;
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
 * @record:	file that says so from before it is, for netns_untap_recorded()
 * @ret_fd:	of the tap, with vnet headers; it goes with its last fd
 *
 * Return: 0 or negative errno with text; then nothing has changed
 */
CO int netns_tap(const char *path, const char *link, const char *tap, const char *record,
		 int *ret_fd, struct err *err);
/**
 * netns_untap() - let the card's packets go their way again, once the tap is gone; a namespace or
 * card that is gone is success
 * @record:	as for netns_tap(); removed
 */
CO int netns_untap(const char *path, const char *link, const char *record, struct err *err);
/**
 * netns_untap_recorded() - netns_untap() by its record, after its process has ended
 *
 * For a process with one thread, or a worker. Another namespace at that path by now is left alone,
 * and so is what a broken record may name.
 *
 * Return: 0 or negative errno with text
 */
int netns_untap_recorded(const char *record, struct err *err);

/**
 * struct netns_loopback - who has the TCP connections to the loopback of a namespace, whatever port
 * they are to: listening sockets, non-blocking
 * @four, @six:	for those to 127.0.0.0/8, and to ::1; @six may be -EBADF
 * @link:	what leads there; -EBADF for none, and then there are no sockets
 */
struct netns_loopback {
	int four;
	int six;
	int link;
};
#define NETNS_NO_LOOPBACK ((struct netns_loopback){ -EBADF, -EBADF, -EBADF })

/**
 * netns_loopback() - take all TCP connections to the loopback from now on; see sk_lookup_attach()
 * @ret:	its fds are the caller's. Sockets keep the namespace as long as they are open, those
 *		that were accepted too. None for an ordinary file and for this process's own
 *		namespace
 *
 * Return: 0; -ERR_UNIMPLEMENTED when the host's kernel can't; or negative errno with text; then
 * nothing has changed
 */
CO int netns_loopback(const char *path, struct netns_loopback *ret, struct err *err);
/** netns_loopback_close() - and no more, at once */
void netns_loopback_close(struct netns_loopback *l);

#endif
