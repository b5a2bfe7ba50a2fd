/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/card.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/route/rule.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/netns.h"
#include "base/str.h"
#include "gcs/namespace.h"
#include "loop/worker.h"
#include "wire/gcs.h"
#include "wire/nl.h"

/* As hcsshim's guest numbers them. */
enum { OWN_TABLE_PRIORITY = 5, OWN_TABLE_METRIC = 500 };

static struct nl_sock *open_netlink(void)
{
	struct nl_sock *sock = nl_socket_alloc();

	if (sock && nl_connect(sock, NETLINK_ROUTE) < 0) {
		nl_socket_free(sock);
		return NULL;
	}
	return sock;
}

/* libnl leaves out what a change has in common with what it changes, of which nothing is known
 * here. */
static int link_change(struct nl_sock *sock, const char *link, struct rtnl_link *change)
{
	struct rtnl_link *of = rtnl_link_alloc();
	int r;

	rtnl_link_set_ifindex(of, (int)if_nametoindex(link));
	r = rtnl_link_change(sock, of, change, 0);
	rtnl_link_put(of);
	rtnl_link_put(change);
	return r;
}

static int link_up(struct nl_sock *sock, const char *name, unsigned mtu)
{
	struct rtnl_link *change = rtnl_link_alloc();

	rtnl_link_set_flags(change, IFF_UP);
	if (mtu)
		rtnl_link_set_mtu(change, mtu);
	return link_change(sock, name, change);
}

/* ---- namespaces ---- */

static int bring_lo_up(void *arg)
{
	struct nl_sock *sock = open_netlink();
	int r = sock ? link_up(sock, "lo", 0) : -NLE_NOMEM;

	nl_socket_free(sock);
	return nl_errno(r);
}

CO int card_namespace_new(const char *path, int *ret, struct err *err)
{
	return namespace_new(path, CLONE_NEWNET, bring_lo_up, NULL, ret, err);
}

/* ---- finding ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int card_mac_parse(const char *text, uint8_t ret[6])
{
	uint8_t mac[6];

	if (!text || strlen(text) != 17)
		return -ERR_INVALID;
	for (size_t i = 0; i < 6; i++) {
		const char *p = text + 3 * i;
		int high = hex_value(p[0]), low = hex_value(p[1]);

		if (high < 0 || low < 0 || (i < 5 && !strchr(":-", p[2])))
			return -ERR_INVALID;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(ret, mac, sizeof(mac));
	return 0;
}

int card_find(const char *dir, const uint8_t mac[6], char ret_name[IFNAMSIZ])
{
	DIR *d = opendir(dir);
	int r = -ERR_NOT_FOUND;

	for (struct dirent *e; d && r < 0 && (e = readdir(d));) {
		_cleanup_free_ char *path = str_printf("%s/%s/address", dir, e->d_name);
		_cleanup_free_ char *text = NULL;
		uint8_t its[6];
		size_t len;

		if (strlen(e->d_name) >= IFNAMSIZ || file_read(path, 64, &text, &len) < 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (card_mac_parse(text, its) == 0 && memcmp(its, mac, 6) == 0) {
			memcpy(ret_name, e->d_name, strlen(e->d_name) + 1);
			r = 0;
		}
	}
	if (d)
		closedir(d);
	return r;
}

/* ---- settings ---- */

/**
 * struct job - a card to be set up, on a worker
 * @index:	of the card in its namespace
 */
struct job {
	const struct card_place *place;
	const struct gcs_network_adapter *settings;
	struct nl_sock *sock;
	int index;
	int home;
	struct err *err;
};

static int failed(const struct job *j, int r, const char *what, const char *which)
{
	return err_set(j->err, nl_errno(r), "%s %s: %s", what, which, nl_geterror(r));
}

/* An address, or a network with its prefix length; NULL when it is none. */
static struct nl_addr *parse(const char *text)
{
	struct nl_addr *a = NULL;

	if (str_empty(text) || nl_addr_parse(text, AF_UNSPEC, &a) < 0)
		return NULL;
	if ((nl_addr_get_family(a) == AF_INET || nl_addr_get_family(a) == AF_INET6) &&
	    nl_addr_get_prefixlen(a) <= 8 * (nl_addr_get_family(a) == AF_INET ? 4 : 16))
		return a;
	nl_addr_put(a);
	return NULL;
}

/* What an address sends goes by the card's own table. */
static int add_rule(struct job *j, const char *address)
{
	struct nl_addr *from = parse(address);
	struct rtnl_rule *rule = rtnl_rule_alloc();
	int r;

	rtnl_rule_set_family(rule, nl_addr_get_family(from));
	rtnl_rule_set_src(rule, from);
	rtnl_rule_set_table(rule, j->place->table);
	rtnl_rule_set_prio(rule, OWN_TABLE_PRIORITY);
	rtnl_rule_set_action(rule, FR_ACT_TO_TBL);
	r = rtnl_rule_add(j->sock, rule, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_rule_put(rule);
	nl_addr_put(from);
	return r < 0 ? failed(j, r, "rule for", address) : 0;
}

static int add_address(struct job *j, const struct gcs_ip_config *c)
{
	struct nl_addr *local = parse(c->address);
	struct rtnl_addr *a;
	int r;

	if (!local || strchr(c->address, '/') || c->prefix_length > 8 * nl_addr_get_len(local)) {
		nl_addr_put(local);
		return err_set(j->err, -ERR_INVALID, "\"%s/%u\" is no IP address",
			       c->address ? c->address : "", c->prefix_length);
	}
	nl_addr_set_prefixlen(local, c->prefix_length);
	a = rtnl_addr_alloc();
	rtnl_addr_set_ifindex(a, j->index);
	rtnl_addr_set_local(a, local);
	/* The host has made sure that nobody else has it. */
	if (nl_addr_get_family(local) == AF_INET6)
		rtnl_addr_set_flags(a, IFA_F_NODAD);
	r = rtnl_addr_add(j->sock, a, 0);
	rtnl_addr_put(a);
	nl_addr_put(local);
	if (r < 0)
		return failed(j, r, "address", c->address);
	return j->place->table ? add_rule(j, c->address) : 0;
}

static bool is_any(const char *hop)
{
	return str_empty(hop) || str_eq(hop, "0.0.0.0") || str_eq(hop, "::");
}

static int put_route(struct job *j, const struct gcs_route *c, struct nl_addr *to,
		     struct nl_addr *gateway, bool on_link)
{
	struct rtnl_route *route = rtnl_route_alloc();
	struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
	uint32_t metric = c->metric;
	int r;

	if (j->place->table && metric == 0)
		metric = OWN_TABLE_METRIC;
	rtnl_route_set_family(route, (uint8_t)nl_addr_get_family(to));
	rtnl_route_set_dst(route, to);
	rtnl_route_set_scope(route, gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
	rtnl_route_set_protocol(route, RTPROT_STATIC);
	rtnl_route_set_table(route, j->place->table ? j->place->table : RT_TABLE_MAIN);
	if (metric)
		rtnl_route_set_priority(route, metric);
	rtnl_route_nh_set_ifindex(hop, j->index);
	if (gateway)
		rtnl_route_nh_set_gateway(hop, gateway);
	if (on_link)
		rtnl_route_nh_set_flags(hop, RTNH_F_ONLINK);
	rtnl_route_add_nexthop(route, hop);
	r = rtnl_route_add(j->sock, route, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_route_put(route);
	return r;
}

static int add_route(struct job *j, const struct gcs_route *c)
{
	struct nl_addr *to = parse(c->destination);
	struct nl_addr *gateway = is_any(c->next_hop) ? NULL : parse(c->next_hop);
	int r;

	if (!to || (!gateway && !is_any(c->next_hop)) ||
	    (gateway && nl_addr_get_family(gateway) != nl_addr_get_family(to))) {
		r = err_set(j->err, -ERR_INVALID, "\"%s\" by \"%s\" is no route",
			    c->destination ? c->destination : "", c->next_hop ? c->next_hop : "");
	} else if (!gateway && nl_addr_get_prefixlen(to) == 0) {
		r = 0; /* "no gateway" */
	} else {
		r = put_route(j, c, to, gateway, false);
		/* A gateway outside of the card's networks. */
		if (r < 0 && r != -NLE_EXIST && gateway)
			r = put_route(j, c, to, gateway, true);
		if (r < 0)
			r = failed(j, r, "route", c->destination);
	}
	nl_addr_put(to);
	nl_addr_put(gateway);
	return r;
}

/* The gateway of some plugins answers to nobody who asks for its address. */
static int add_neighbor(struct job *j, const struct gcs_neighbor *c)
{
	struct nl_addr *to = parse(c->address), *lladdr;
	struct rtnl_neigh *n;
	uint8_t mac[6];
	int r;

	if (!to || strchr(c->address, '/') || card_mac_parse(c->mac, mac) < 0) {
		nl_addr_put(to);
		return err_set(j->err, -ERR_INVALID, "\"%s\" at \"%s\" is no neighbour",
			       c->address ? c->address : "", c->mac ? c->mac : "");
	}
	lladdr = nl_addr_build(AF_LLC, mac, sizeof(mac));
	n = rtnl_neigh_alloc();
	rtnl_neigh_set_ifindex(n, j->index);
	rtnl_neigh_set_dst(n, to);
	rtnl_neigh_set_lladdr(n, lladdr);
	rtnl_neigh_set_state(n, NUD_PERMANENT);
	r = rtnl_neigh_add(j->sock, n, NLM_F_CREATE | NLM_F_REPLACE);
	rtnl_neigh_put(n);
	nl_addr_put(lladdr);
	nl_addr_put(to);
	return r < 0 ? failed(j, r, "neighbour", c->address) : 0;
}

static int current_mtu(struct job *j, unsigned *ret)
{
	struct rtnl_link *link = NULL;
	int r = rtnl_link_get_kernel(j->sock, j->index, NULL, &link);

	if (r < 0)
		return failed(j, r, "card", j->place->name);
	*ret = rtnl_link_get_mtu(link);
	rtnl_link_put(link);
	return 0;
}

static int configure(struct job *j)
{
	const struct gcs_network_adapter *s = j->settings;
	unsigned mtu = 0;
	int r;

	j->index = (int)if_nametoindex(j->place->name);
	if (s->encap_overhead) {
		r = current_mtu(j, &mtu);
		if (r < 0)
			return r;
		if (mtu <= s->encap_overhead)
			return err_set(j->err, -ERR_INVALID, "EncapOverhead %u leaves no packet",
				       s->encap_overhead);
		mtu -= s->encap_overhead;
	}
	r = link_up(j->sock, j->place->name, mtu);
	if (r < 0)
		return failed(j, r, "set up", j->place->name);
	r = 0;
	for (size_t i = 0; r >= 0 && i < s->n_ip_configs; i++)
		r = add_address(j, &s->ip_configs[i]);
	for (size_t i = 0; r >= 0 && i < s->n_routes; i++)
		r = add_route(j, &s->routes[i]);
	for (size_t i = 0; r >= 0 && i < s->n_neighbors; i++)
		r = add_neighbor(j, &s->neighbors[i]);
	return r;
}

/* ---- moving ---- */

static int move(struct nl_sock *sock, const char *link, const char *name, int netns)
{
	struct rtnl_link *change = rtnl_link_alloc();

	rtnl_link_set_name(change, name);
	rtnl_link_set_ns_fd(change, netns);
	return link_change(sock, link, change);
}

/* In the namespace. */
static int settle(void *arg)
{
	struct job *j = arg;
	int r;

	j->sock = open_netlink();
	if (!j->sock)
		return err_sys(j->err, -ENOMEM, "netlink");
	r = configure(j);
	if (r < 0 && move(j->sock, j->place->name, j->place->link, j->home) < 0)
		log_warn("card %s stays where it failed to be set up", j->place->name);
	nl_socket_free(j->sock);
	return r;
}

static int put(void *arg)
{
	struct job *j = arg;
	_cleanup_fd_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct nl_sock *sock = open_netlink();
	int r;

	if (!sock || home < 0) {
		nl_socket_free(sock);
		return err_sys(j->err, -ENOMEM, "netlink");
	}
	j->home = home;
	r = move(sock, j->place->link, j->place->name, j->place->netns);
	nl_socket_free(sock);
	if (r < 0)
		return failed(j, r, "move", j->place->link);
	return netns_visit(j->place->netns, settle, j);
}

CO int card_put(const struct card_place *place, const struct gcs_network_adapter *settings,
		struct err *err)
{
	struct err e = { 0 };
	struct job j = { .place = place, .settings = settings, .err = &e };
	int r = worker_call(put, &j);

	if (r < 0 && !*e.text)
		err_sys(&e, r, "set up %s", place->name);
	if (r < 0)
		err_copy(err, &e);
	return r;
}
