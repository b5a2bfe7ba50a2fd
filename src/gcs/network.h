/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_NETWORK_H
#define LCOW_GCS_NETWORK_H

#include <stdbool.h>

#include "loop/co.h"

struct agent;
struct duplexes;
struct err;
struct gcs_network_adapter;

/*
 * Networks by the host's NamespaceID. Each is a network namespace of its own from its first card or
 * pod on, whichever comes later, and goes with the last of both.
 */

struct network;

/**
 * network_add() - Network Add: a card, found by its MAC, into the network; eth0, eth1, … as they
 * come
 *
 * There is no DHCP: a card without addresses is up, and no more.
 *
 * Return: 0; -ERR_EXISTS for an ID that is in it; -ERR_INVALID for settings that are none;
 * -ERR_NOT_FOUND when the card has not come within 5 s; or negative errno. Then nothing has changed
 */
CO int network_add(struct agent *a, const struct gcs_network_adapter *settings, struct err *err);
/**
 * network_remove() - Network Remove: forget a card, which the host takes away; unknown is success
 */
CO int network_remove(struct agent *a, const struct gcs_network_adapter *settings, struct err *err);

/**
 * network_join() - hold on to a network, which is made when there is none of that id
 * @ret:	for network_leave()
 *
 * Return: 0 or negative errno with text
 */
CO int network_join(struct agent *a, const char *id, struct network **ret, struct err *err);
/** network_leave() - NULL is fine */
CO void network_leave(struct network *n);
/** network_find() - likewise, when there is one; Return: 0, or -ERR_NOT_FOUND with text */
int network_find(struct agent *a, const char *id, struct network **ret, struct err *err);
/** network_netns() - fd of its namespace */
int network_netns(const struct network *n);
/** network_forwards() - connections into it, which end with it; GCS_FORWARD_CONNECTIONS of them */
struct duplexes *network_forwards(struct network *n);
/** network_path() - of its namespace */
const char *network_path(const struct network *n);
/** network_has_cards() - whether there is more in it than lo */
bool network_has_cards(const struct network *n);
/** network_resolv() - text for resolv.conf; the caller frees it */
char *network_resolv(const struct network *n);

#endif
