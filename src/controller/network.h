/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_NETWORK_H
#define LCOW_CONTROLLER_NETWORK_H

#include <stddef.h>

#include "base/uuid.h"
#include "loop/co.h"

struct err;
struct gcs_network_adapter;
struct guest_loopback;
struct netns_link;

/*
 * Network controller: one per pod. Every Ethernet card of the pod's network namespace on the host
 * gets a card in the VM with the same MAC, addresses and routes, behind a tap that carries all of
 * its packets. Its loopback leads to that of the pod in the guest.
 *
 *   NotConfigured --setup--> Configured --teardown--> TornDown
 *   NotConfigured --setup failed--> Invalid; Configured --teardown failed--> Invalid
 *   Invalid --teardown--> TornDown, or Invalid again
 *   NotConfigured and TornDown --teardown--> unchanged
 */

enum network_state {
	NETWORK_NOT_CONFIGURED,
	NETWORK_CONFIGURED,
	NETWORK_INVALID,
	NETWORK_TORN_DOWN,
	NETWORK_STATE_END
};

/**
 * struct network_ops - what the controller needs of host, VM and guest; see struct scsi_ops for the
 * rules
 * @supported:	the guest can take cards; NULL: it can
 * @links:	as netns_links()
 * @attach:	a tap beside a card of the host, and a card in the VM behind it
 * @detach:	and away again
 * @forward:	lead the loopback of the namespace into the guest's network @id; *@ret stays NULL
 *		where there is none. -ERR_UNIMPLEMENTED: the host can't
 * @unforward:	and no more; also when the VM has ended
 */
struct network_ops {
	bool (*supported)(void *ctx);
	CO int (*links)(void *ctx, const char *netns, struct netns_link **ret, size_t *ret_n,
			struct err *err);
	CO int (*attach)(void *ctx, const char *netns, const struct netns_link *link,
			 const char *id, struct err *err);
	CO int (*detach)(void *ctx, const char *netns, const char *link, const char *id,
			 struct err *err);
	CO int (*forward)(void *ctx, const char *netns, const char *id, struct guest_loopback **ret,
			  struct err *err);
	void (*unforward)(void *ctx, struct guest_loopback *l);
	CO int (*guest_add)(void *ctx, const struct gcs_network_adapter *adapter, struct err *err);
	CO int (*guest_remove)(void *ctx, const struct gcs_network_adapter *adapter,
			       struct err *err);
};

struct network;

/**
 * struct network_config - where a pod's network comes from (borrowed)
 * @netns:	path of its namespace on the host, NULL or "" for none
 * @dns_servers, @dns_search, @dns_options: comma separated, NULL or "" for none; a namespace says
 *		nothing of them
 * @policy_routing: each card but the first has a routing table of its own in the guest
 */
struct network_config {
	const char *netns;
	const char *dns_servers;
	const char *dns_search;
	const char *dns_options;
	bool policy_routing;
};

/** network_new() - @id: what the guest calls the namespace */
struct network *network_new(const struct network_ops *ops, void *ctx,
			    const struct network_config *config, const char *id);
/** network_free() - cards that it has on the host end with the VM; NULL is fine; Return: NULL */
struct network *network_free(struct network *n);
/**
 * network_setup() - a card in the guest for every one of the namespace, and the loopback: none is
 * fine
 * Return: 0; -ERR_STATE unless NotConfigured; or what failed, and then teardown takes back what was
 * done
 */
CO int network_setup(struct network *n, struct err *err);
/**
 * network_teardown() - give all of it back; goes on after a failure, and can be repeated
 * Return: 0, or the first failure
 */
CO int network_teardown(struct network *n, struct err *err);

enum network_state network_state(const struct network *n);
/** network_cards() - how many it has in the VM */
size_t network_cards(const struct network *n);

#endif
