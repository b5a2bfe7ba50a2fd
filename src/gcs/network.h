/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_NETWORK_H
#define LCOW_GCS_NETWORK_H

#include "loop/co.h"

struct agent;
struct err;
struct gcs_network_adapter;
struct json_object;

/*
 * Networks by the host's NamespaceID. Each is a network namespace of its own from its first card
 * on, whichever containers come later, and goes with its last card and container.
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
 * network_join() - let a container be in the network that its spec names, or its sandbox container
 * is in
 * @spec:	OCI spec as the host sent it, its network namespace is set
 *
 * Return: for network_leave(); NULL for none
 */
struct network *network_join(struct agent *a, struct json_object *spec);
/** network_leave() - NULL is fine */
CO void network_leave(struct network *n);
/** network_resolv() - text for resolv.conf, "" for NULL; the caller frees it */
char *network_resolv(const struct network *n);

#endif
