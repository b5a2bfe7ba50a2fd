/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/network.h"

#include <errno.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/vm.h"
#include "vmm/netns.h"
#include "wire/gcs.h"

enum { MAC_LEN = 17 };

static const char *const state_names[] = { "NotConfigured", "Configured", "Invalid", "TornDown" };
_Static_assert(ARRAY_SIZE(state_names) == NETWORK_STATE_END, "a name for each state");

#define TO(s) (1u << (s))
static const unsigned moves[] = {
	[NETWORK_NOT_CONFIGURED] = TO(NETWORK_CONFIGURED) | TO(NETWORK_INVALID),
	[NETWORK_CONFIGURED] = TO(NETWORK_TORN_DOWN) | TO(NETWORK_INVALID),
	[NETWORK_INVALID] = TO(NETWORK_TORN_DOWN) | TO(NETWORK_INVALID),
	[NETWORK_TORN_DOWN] = 0,
};
_Static_assert(ARRAY_SIZE(moves) == NETWORK_STATE_END, "a row for each state");

/**
 * struct card - in the VM
 * @id:		its name in VM and guest
 * @link:	of the card on the host
 * @in_vm, @in_guest: what there is to take back
 */
struct card {
	char id[UUID_LEN + 1];
	char link[IFNAMSIZ];
	bool in_vm;
	bool in_guest;
};

struct network {
	const struct network_ops *ops;
	void *ctx;
	char *netns;
	char *dns_servers;
	char *dns_search;
	char *dns_options;
	char *id;
	bool policy_routing;
	enum network_state state;
	struct card *cards;
	size_t n_cards;
	struct guest_loopback *loopback;
	struct co_mutex lock;
};

static void set_state(struct network *n, enum network_state to)
{
	if (!(moves[n->state] & TO(to))) {
		log_error("network: illegal move from %s to %s refused", state_names[n->state],
			  state_names[to]);
		return;
	}
	n->state = to;
}

struct network *network_new(const struct network_ops *ops, void *ctx,
			    const struct network_config *config, const char *id)
{
	struct network *n = NEW0(struct network);

	n->ops = ops;
	n->ctx = ctx;
	n->netns = str_empty(config->netns) ? NULL : mem_strdup(config->netns);
	n->dns_servers = mem_strdup(config->dns_servers);
	n->dns_search = mem_strdup(config->dns_search);
	n->dns_options = mem_strdup(config->dns_options);
	n->policy_routing = config->policy_routing;
	n->id = mem_strdup(id);
	co_mutex_init(&n->lock);
	return n;
}

static void close_loopback(struct network *n)
{
	if (n->loopback)
		n->ops->unforward(n->ctx, TAKE_PTR(n->loopback));
}

struct network *network_free(struct network *n)
{
	if (!n)
		return NULL;
	close_loopback(n);
	free(n->cards);
	free(n->netns);
	free(n->dns_servers);
	free(n->dns_search);
	free(n->dns_options);
	free(n->id);
	free(n);
	return NULL;
}

/* ---- what the guest is told ---- */

/* Those of a default route say which family it is of. */
static const char *no_hop(const struct netns_route *r)
{
	return strchr(r->destination, ':') ? "::" : "0.0.0.0";
}

/**
 * struct adapter - the guest's view of a card, with what its strings point into
 */
struct adapter {
	struct gcs_network_adapter settings;
	char mac[MAC_LEN + 1];
	char (*neighbor_macs)[MAC_LEN + 1];
};

static void put_mac(const uint8_t m[6], char ret[MAC_LEN + 1])
{
	snprintf(ret, MAC_LEN + 1, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		 m[5]);
}

static void adapter_init(struct adapter *a, struct network *n, struct card *card,
			 struct netns_link *link)
{
	struct gcs_network_adapter *s = &a->settings;

	put_mac(link->mac, a->mac);
	a->neighbor_macs = mem_new0(link->n_neighbors + 1, sizeof(*a->neighbor_macs));
	*s = (struct gcs_network_adapter){
		.namespace_id = n->id,
		.id = card->id,
		.mac = a->mac,
		.dns_suffix = n->dns_search,
		.dns_options = n->dns_options,
		.dns_servers = n->dns_servers,
		.encap_overhead = link->mtu < ETHERMTU ? (uint16_t)(ETHERMTU - link->mtu) : 0,
		.ip_configs = mem_new0(link->n_addresses + 1, sizeof(*s->ip_configs)),
		.n_ip_configs = link->n_addresses,
		.routes = mem_new0(link->n_routes + 1, sizeof(*s->routes)),
		.n_routes = link->n_routes,
		.neighbors = mem_new0(link->n_neighbors + 1, sizeof(*s->neighbors)),
		.n_neighbors = link->n_neighbors,
		.policy_routing = n->policy_routing,
	};
	for (size_t i = 0; i < link->n_addresses; i++) {
		s->ip_configs[i].address = link->addresses[i].text;
		s->ip_configs[i].prefix_length = link->addresses[i].prefix_length;
	}
	for (size_t i = 0; i < link->n_routes; i++) {
		struct netns_route *r = &link->routes[i];

		if (!*r->next_hop)
			snprintf(r->next_hop, sizeof(r->next_hop), "%s", no_hop(r));
		s->routes[i].next_hop = r->next_hop;
		s->routes[i].destination = r->destination;
		s->routes[i].metric = r->metric < UINT16_MAX ? (uint16_t)r->metric : UINT16_MAX;
	}
	for (size_t i = 0; i < link->n_neighbors; i++) {
		put_mac(link->neighbors[i].mac, a->neighbor_macs[i]);
		s->neighbors[i].address = link->neighbors[i].address;
		s->neighbors[i].mac = a->neighbor_macs[i];
	}
}

static void adapter_done(struct adapter *a)
{
	free(a->settings.ip_configs);
	free(a->settings.routes);
	free(a->settings.neighbors);
	free(a->neighbor_macs);
}

/* ---- setup ---- */

/* Each step counts before its answer, which may be lost. */
static CO int add_card(struct network *n, struct card *card, struct netns_link *link,
		       struct err *err)
{
	struct adapter adapter;
	int r;

	uuid_new(card->id);
	memcpy(card->link, link->name, sizeof(card->link));
	card->in_vm = true;
	r = n->ops->attach(n->ctx, n->netns, link, card->id, err);
	if (r < 0)
		return r;
	card->in_guest = true;
	adapter_init(&adapter, n, card, link);
	r = n->ops->guest_add(n->ctx, &adapter.settings, err);
	adapter_done(&adapter);
	return r;
}

static CO int add_cards(struct network *n, struct err *err)
{
	struct netns_link *links = NULL;
	size_t n_links = 0;
	int r = n->ops->links(n->ctx, n->netns, &links, &n_links, err);

	if (r < 0)
		return r;
	if (n_links > 0 && n->ops->supported && !n->ops->supported(n->ctx)) {
		log_warn("the agent in the VM takes no network cards: %s is without a network",
			 n->id);
		netns_links_free(links, n_links);
		return 0;
	}
	n->cards = mem_new0(n_links + 1, sizeof(*n->cards));
	for (size_t i = 0; r >= 0 && i < n_links; i++) {
		r = add_card(n, &n->cards[n->n_cards++], &links[i], err);
		if (r < 0)
			err_wrap(err, r, "card %s", links[i].name);
	}
	netns_links_free(links, n_links);
	return r;
}

/* A pod does without, where the kernel of the host is too old for it. */
static CO int open_loopback(struct network *n, struct err *err)
{
	struct err e = { 0 };
	int r = n->ops->forward(n->ctx, n->netns, n->id, &n->loopback, &e);

	if (r == -ERR_UNIMPLEMENTED) {
		log_warn("no port forwarding to pod %s: %s", n->id, e.text);
		return 0;
	}
	if (r < 0)
		err_copy(err, &e);
	return r;
}

CO int network_setup(struct network *n, struct err *err)
{
	CO_LOCK(&n->lock);

	if (n->state != NETWORK_NOT_CONFIGURED)
		return err_set(err, -ERR_STATE, "cannot set up network in state %s",
			       state_names[n->state]);

	int r = n->netns ? add_cards(n, err) : 0;

	if (r >= 0 && n->netns)
		r = open_loopback(n, err);
	set_state(n, r < 0 ? NETWORK_INVALID : NETWORK_CONFIGURED);
	return r < 0 ? err_wrap(err, r, "network of pod %s", n->id) : 0;
}

/* ---- teardown ---- */

/* The hardware is not taken from a guest that has refused to let it go. */
static CO int remove_card(struct network *n, struct card *card, struct err *err)
{
	const struct gcs_network_adapter adapter = { .namespace_id = n->id, .id = card->id };
	int r = card->in_guest ? n->ops->guest_remove(n->ctx, &adapter, err) : 0;

	if (r < 0 && !vm_device_gone(r))
		return r;
	card->in_guest = false;
	r = card->in_vm ? n->ops->detach(n->ctx, n->netns, card->link, card->id, err) : 0;
	if (r < 0 && !vm_device_gone(r))
		return r;
	card->in_vm = false;
	return 0;
}

CO int network_teardown(struct network *n, struct err *err)
{
	CO_LOCK(&n->lock);

	if (n->state == NETWORK_NOT_CONFIGURED || n->state == NETWORK_TORN_DOWN)
		return 0;

	int first = 0;
	size_t left = 0;

	close_loopback(n);
	for (size_t i = 0; i < n->n_cards; i++) {
		struct err e = { 0 };
		int r = remove_card(n, &n->cards[i], &e);

		if (r < 0) {
			n->cards[left++] = n->cards[i];
			if (first >= 0)
				err_copy(err, &e);
			first = first < 0 ? first : r;
		}
	}
	n->n_cards = left;
	set_state(n, first < 0 ? NETWORK_INVALID : NETWORK_TORN_DOWN);
	return first < 0 ? err_wrap(err, first, "take down the network of pod %s", n->id) : 0;
}

enum network_state network_state(const struct network *n)
{
	return n->state;
}

size_t network_cards(const struct network *n)
{
	return n->n_cards;
}
