/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <linux/magic.h>
#include <linux/neighbour.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netlink/netlink.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/addr.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/u32.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/netns.h"
#include "base/str.h"
#include "loop/worker.h"
#include "vmm/sk_lookup.h"
#include "wire/nl.h"

enum {
	LINKS_MAX = 16,
	ADDRESSES_MAX = 32,
	ROUTES_MAX = 256,
	NEIGHBORS_MAX = 64,
	BACKLOG = 128,
	RECORD_MAX = 8192
};

/**
 * struct visit - one thing done inside of a namespace, on a worker thread that goes there for it
 * @links, @n:	for reading; @n also says how many are whole
 * @record, @tap_fd: for netns_tap()
 * @netns:	of the namespace, for netns_loopback()
 * @dev, @ino:	of the namespace, for its record
 */
struct visit {
	const char *path;
	const char *link;
	const char *tap;
	const char *record;
	int (*run)(struct visit *v, struct nl_sock *sock);
	struct netns_link *links;
	size_t n;
	int tap_fd;
	int netns;
	struct netns_loopback loopback;
	uint64_t dev;
	uint64_t ino;
	struct err *err;
};

static int nl_failed(const struct visit *v, int r, const char *what)
{
	return err_set(v->err, nl_errno(r), "%s: %s", what, nl_geterror(r));
}

static int with_socket(void *arg)
{
	struct visit *v = arg;
	struct nl_sock *sock = nl_socket_alloc();
	int r;

	if (!sock)
		return err_sys(v->err, -ENOMEM, "netlink");
	r = nl_connect(sock, NETLINK_ROUTE);
	r = r < 0 ? nl_failed(v, r, "open netlink") : v->run(v, sock);
	nl_socket_free(sock);
	return r;
}

static int visit(void *arg)
{
	struct visit *v = arg;
	_cleanup_fd_ int there = open(v->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat own, other;
	struct statfs fs;

	if (there < 0)
		return err_set(v->err, -ERR_INVALID, "open: %s", strerror(errno));
	if (fstatfs(there, &fs) < 0 || fstat(there, &other) < 0 ||
	    stat("/proc/thread-self/ns/net", &own) < 0)
		return err_sys(v->err, -errno, "look at it");
	/* A placeholder for "no network"; or the host's own, whose cards are nobody's to take. */
	if (fs.f_type != NSFS_MAGIC || (own.st_dev == other.st_dev && own.st_ino == other.st_ino))
		return 0;
	v->netns = there;
	v->dev = other.st_dev;
	v->ino = other.st_ino;
	return netns_visit(there, with_socket, v);
}

static CO int go(struct visit *v, struct err *err)
{
	struct err e = { 0 };
	int r;

	/* cppcheck-suppress autoVariables ; the visit ends before this call does */
	v->err = &e;
	r = worker_call(visit, v);
	if (r < 0 && !*e.text)
		err_sys(&e, r, "a worker");
	if (r < 0) {
		err_copy(err, &e);
		return err_wrap(err, r, "network namespace %s", v->path);
	}
	return r;
}

/* ---- reading ---- */

static bool link_usable(struct rtnl_link *link)
{
	struct nl_addr *mac = rtnl_link_get_addr(link);

	return rtnl_link_get_arptype(link) == ARPHRD_ETHER && mac && nl_addr_get_len(mac) == 6 &&
	       rtnl_link_get_name(link) && strlen(rtnl_link_get_name(link)) < IFNAMSIZ;
}

/* Without the prefix length that nl_addr2str() adds. */
static void put_address(struct nl_addr *from, char to[INET6_ADDRSTRLEN])
{
	inet_ntop(nl_addr_get_family(from), nl_addr_get_binary_addr(from), to, INET6_ADDRSTRLEN);
}

static bool is_ip(struct nl_addr *a)
{
	return a && (nl_addr_get_family(a) == AF_INET || nl_addr_get_family(a) == AF_INET6);
}

static void add_address(struct netns_link *l, struct rtnl_addr *a)
{
	struct nl_addr *local = rtnl_addr_get_local(a);
	struct netns_address *to;

	if (!is_ip(local) || rtnl_addr_get_scope(a) == RT_SCOPE_LINK ||
	    l->n_addresses == ADDRESSES_MAX)
		return;
	to = &l->addresses[l->n_addresses++];
	put_address(local, to->text);
	to->prefix_length = (uint8_t)rtnl_addr_get_prefixlen(a);
}

static int read_addresses(struct visit *v, struct nl_sock *sock, struct netns_link *l, int index)
{
	struct nl_cache *cache;
	int r = rtnl_addr_alloc_cache(sock, &cache);

	if (r < 0)
		return nl_failed(v, r, "read addresses");
	l->addresses = mem_new0(ADDRESSES_MAX, sizeof(*l->addresses));
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
		if (rtnl_addr_get_ifindex((struct rtnl_addr *)o) == index)
			add_address(l, (struct rtnl_addr *)o);
	}
	nl_cache_free(cache);
	return 0;
}

/* The kernel makes the routes to a card's own networks from its addresses. */
static bool route_wanted(struct rtnl_route *r)
{
	return rtnl_route_get_table(r) == RT_TABLE_MAIN && rtnl_route_get_type(r) == RTN_UNICAST &&
	       rtnl_route_get_protocol(r) != RTPROT_KERNEL;
}

static void add_route(struct netns_link *l, struct rtnl_route *r, struct rtnl_nexthop *hop)
{
	struct nl_addr *to = rtnl_route_get_dst(r), *gateway = rtnl_route_nh_get_gateway(hop);
	char text[INET6_ADDRSTRLEN] = "";
	struct netns_route *route;

	if (l->n_routes == ROUTES_MAX)
		return;
	route = &l->routes[l->n_routes++];
	if (to && nl_addr_get_len(to) > 0)
		put_address(to, text);
	else
		snprintf(text, sizeof(text), "%s",
			 rtnl_route_get_family(r) == AF_INET6 ? "::" : "0.0.0.0");
	snprintf(route->destination, sizeof(route->destination), "%s/%u", text,
		 to ? nl_addr_get_prefixlen(to) : 0);
	if (is_ip(gateway))
		put_address(gateway, route->next_hop);
	route->metric = rtnl_route_get_priority(r);
}

static int read_routes(struct visit *v, struct nl_sock *sock, struct netns_link *l, int index)
{
	struct nl_cache *cache;
	int r = rtnl_route_alloc_cache(sock, AF_UNSPEC, 0, &cache);

	if (r < 0)
		return nl_failed(v, r, "read routes");
	l->routes = mem_new0(ROUTES_MAX, sizeof(*l->routes));
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
		struct rtnl_route *route = (struct rtnl_route *)o;

		for (int i = 0; route_wanted(route) && i < rtnl_route_get_nnexthops(route); i++) {
			struct rtnl_nexthop *hop = rtnl_route_nexthop_n(route, i);

			if (rtnl_route_nh_get_ifindex(hop) == index)
				add_route(l, route, hop);
		}
	}
	nl_cache_free(cache);
	return 0;
}

static void add_neighbor(struct netns_link *l, struct rtnl_neigh *n)
{
	struct nl_addr *address = rtnl_neigh_get_dst(n), *mac = rtnl_neigh_get_lladdr(n);
	struct netns_neighbor *to;

	if (!(rtnl_neigh_get_state(n) & NUD_PERMANENT) || !is_ip(address) || !mac ||
	    nl_addr_get_len(mac) != sizeof(to->mac) || l->n_neighbors == NEIGHBORS_MAX)
		return;
	to = &l->neighbors[l->n_neighbors++];
	put_address(address, to->address);
	memcpy(to->mac, nl_addr_get_binary_addr(mac), sizeof(to->mac));
}

static int read_neighbors(struct visit *v, struct nl_sock *sock, struct netns_link *l, int index)
{
	struct nl_cache *cache;
	int r = rtnl_neigh_alloc_cache(sock, &cache);

	if (r < 0)
		return nl_failed(v, r, "read neighbours");
	l->neighbors = mem_new0(NEIGHBORS_MAX, sizeof(*l->neighbors));
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
		if (rtnl_neigh_get_ifindex((struct rtnl_neigh *)o) == index)
			add_neighbor(l, (struct rtnl_neigh *)o);
	}
	nl_cache_free(cache);
	return 0;
}

static int read_link(struct visit *v, struct nl_sock *sock, struct rtnl_link *link)
{
	struct netns_link *l = &v->links[v->n++];
	int index = rtnl_link_get_ifindex(link);
	int r;

	snprintf(l->name, sizeof(l->name), "%s", rtnl_link_get_name(link));
	memcpy(l->mac, nl_addr_get_binary_addr(rtnl_link_get_addr(link)), sizeof(l->mac));
	l->mtu = rtnl_link_get_mtu(link);
	r = read_addresses(v, sock, l, index);
	if (r >= 0)
		r = read_routes(v, sock, l, index);
	return r < 0 ? r : read_neighbors(v, sock, l, index);
}

static int read_links(struct visit *v, struct nl_sock *sock)
{
	struct nl_cache *cache;
	int r = rtnl_link_alloc_cache(sock, AF_UNSPEC, &cache);

	if (r < 0)
		return nl_failed(v, r, "read links");
	v->links = mem_new0(LINKS_MAX, sizeof(*v->links));
	for (struct nl_object *o = nl_cache_get_first(cache); r >= 0 && o;
	     o = nl_cache_get_next(o)) {
		if (!link_usable((struct rtnl_link *)o))
			continue;
		if (v->n == LINKS_MAX)
			r = err_set(v->err, -ERR_EXHAUSTED, "it has more than %d cards", LINKS_MAX);
		else
			r = read_link(v, sock, (struct rtnl_link *)o);
	}
	nl_cache_free(cache);
	return r;
}

static void put_eth0_first(struct netns_link *links, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		if (str_eq(links[i].name, "eth0")) {
			struct netns_link eth0 = links[i];

			memmove(&links[1], &links[0], i * sizeof(*links));
			links[0] = eth0;
			return;
		}
	}
}

CO int netns_links(const char *path, struct netns_link **ret, size_t *ret_n, struct err *err)
{
	struct visit v = { .path = path, .run = read_links };
	int r = go(&v, err);

	if (r < 0) {
		netns_links_free(v.links, v.n);
		return r;
	}
	put_eth0_first(v.links, v.n);
	*ret = v.links;
	*ret_n = v.n;
	return 0;
}

struct netns_link *netns_links_free(struct netns_link *links, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(links[i].addresses);
		free(links[i].routes);
		free(links[i].neighbors);
	}
	free(links);
	return NULL;
}

/* ---- taps ---- */

static int tap_open(struct visit *v, int *ret_index)
{
	_cleanup_fd_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	if (fd < 0)
		return err_sys(v->err, -errno, "open /dev/net/tun");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", v->tap);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return err_sys(v->err, -errno, "make tap %s", v->tap);
	*ret_index = (int)if_nametoindex(v->tap);
	v->tap_fd = TAKE_FD(fd);
	return 0;
}

static int tap_up(struct visit *v, struct nl_sock *sock, int index, int mtu_of)
{
	struct rtnl_link *card = NULL, *change = rtnl_link_alloc();
	int r = rtnl_link_get_kernel(sock, mtu_of, NULL, &card);

	if (r >= 0) {
		rtnl_link_set_ifindex(change, index);
		rtnl_link_set_mtu(change, rtnl_link_get_mtu(card));
		rtnl_link_set_flags(change, IFF_UP);
		r = rtnl_link_change(sock, change, change, 0);
	}
	rtnl_link_put(card);
	rtnl_link_put(change);
	return r < 0 ? nl_failed(v, r, "set the tap up") : 0;
}

static struct rtnl_qdisc *ingress_of(int index)
{
	struct rtnl_qdisc *q = rtnl_qdisc_alloc();

	rtnl_tc_set_ifindex(TC_CAST(q), index);
	rtnl_tc_set_parent(TC_CAST(q), TC_H_INGRESS);
	rtnl_tc_set_handle(TC_CAST(q), TC_HANDLE(0xffffu, 0));
	rtnl_tc_set_kind(TC_CAST(q), "ingress");
	return q;
}

static int redirect_all(struct nl_sock *sock, int from, int to)
{
	struct rtnl_cls *cls = rtnl_cls_alloc();
	struct rtnl_act *act = rtnl_act_alloc();
	int r;

	rtnl_tc_set_kind(TC_CAST(act), "mirred");
	rtnl_mirred_set_action(act, TCA_EGRESS_REDIR);
	rtnl_mirred_set_policy(act, TC_ACT_STOLEN);
	rtnl_mirred_set_ifindex(act, (uint32_t)to);

	rtnl_tc_set_ifindex(TC_CAST(cls), from);
	rtnl_tc_set_parent(TC_CAST(cls), TC_HANDLE(0xffffu, 0));
	rtnl_tc_set_kind(TC_CAST(cls), "u32");
	rtnl_cls_set_protocol(cls, ETH_P_ALL);
	rtnl_cls_set_prio(cls, 1);
	/* What every packet matches. */
	rtnl_u32_add_key_uint8(cls, 0, 0, 0, 0);
	rtnl_u32_set_cls_terminal(cls);
	rtnl_u32_add_action(cls, act);
	r = rtnl_cls_add(sock, cls, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_act_put(act);
	rtnl_cls_put(cls);
	return r;
}

static int redirect(struct visit *v, struct nl_sock *sock, int from, int to)
{
	struct rtnl_qdisc *q = ingress_of(from);
	int r = rtnl_qdisc_add(sock, q, NLM_F_CREATE | NLM_F_EXCL);

	rtnl_qdisc_put(q);
	if (r < 0)
		return nl_failed(v, r, "add the ingress queue");
	r = redirect_all(sock, from, to);
	return r < 0 ? nl_failed(v, r, "redirect packets") : 0;
}

static int drop_redirect(struct nl_sock *sock, int index)
{
	struct rtnl_qdisc *q = ingress_of(index);
	int r = rtnl_qdisc_delete(sock, q);

	rtnl_qdisc_put(q);
	return r;
}

static int write_record(struct visit *v)
{
	_cleanup_free_ char *text =
		str_printf("%" PRIu64 " %" PRIu64 " %s %s\n", v->dev, v->ino, v->link, v->path);
	int r = file_write(v->record, text, strlen(text), 0600);

	return r < 0 ? err_sys(v->err, r, "write %s", v->record) : 0;
}

/* The tap goes with its fd, and with it what was redirected from it. */
static int make_tap(struct visit *v, struct nl_sock *sock)
{
	int card = (int)if_nametoindex(v->link), tap = 0;
	int r;

	if (card == 0)
		return err_sys(v->err, -ENODEV, "card %s", v->link);
	r = tap_open(v, &tap);
	if (r >= 0)
		r = tap_up(v, sock, tap, card);
	if (r >= 0)
		r = redirect(v, sock, tap, card);
	if (r >= 0)
		r = write_record(v);
	if (r >= 0)
		r = redirect(v, sock, card, tap);
	if (r < 0) {
		if (r != -EEXIST)
			drop_redirect(sock, card);
		unlink(v->record);
		v->tap_fd = fd_close(v->tap_fd);
		return err_wrap(v->err, r, "card %s", v->link);
	}
	return 0;
}

CO int netns_tap(const char *path, const char *link, const char *tap, const char *record,
		 int *ret_fd, struct err *err)
{
	struct visit v = { .path = path,
			   .link = link,
			   .tap = tap,
			   .record = record,
			   .run = make_tap,
			   .tap_fd = -EBADF };
	int r = go(&v, err);

	if (r >= 0 && v.tap_fd < 0)
		r = err_set(err, -ERR_INVALID, "%s is no network namespace", path);
	if (r >= 0)
		*ret_fd = v.tap_fd;
	return r;
}

static int end_redirect(struct visit *v, struct nl_sock *sock)
{
	int card = (int)if_nametoindex(v->link);
	int r = card ? drop_redirect(sock, card) : 0;

	if (r == -NLE_OBJ_NOTFOUND || r == -NLE_NODEV || r == -NLE_INVAL)
		return 0;
	return r < 0 ? nl_failed(v, r, "end the redirection") : 0;
}

CO int netns_untap(const char *path, const char *link, const char *record, struct err *err)
{
	struct visit v = { .path = path, .link = link, .run = end_redirect };
	int r = access(path, F_OK) < 0 ? 0 : go(&v, err);

	if (r >= 0)
		unlink(record);
	return r;
}

int netns_untap_recorded(const char *record, struct err *err)
{
	struct visit v = { .run = end_redirect, .err = err };
	_cleanup_free_ char *text = NULL;
	_cleanup_fd_ int there = -EBADF;
	char link[IFNAMSIZ];
	struct stat st;
	int path = 0;
	size_t len;
	int r;

	if (file_read(record, RECORD_MAX, &text, &len) < 0 ||
	    sscanf(text, "%" SCNu64 " %" SCNu64 " %15s %n", &v.dev, &v.ino, link, &path) != 3)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	there = open(text + path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (there < 0 || fstat(there, &st) < 0 || st.st_dev != v.dev || st.st_ino != v.ino)
		return 0;
	v.link = link;
	r = netns_visit(there, with_socket, &v);
	return r < 0 ? err_wrap(err, r, "network namespace %s", text + path) : 0;
}

/* ---- the loopback ---- */

/* On a port of its own, which nobody is told. The address need not be there yet: lo may be down. */
static int listen_at(const struct sockaddr *at, socklen_t len, int level, int freebind)
{
	_cleanup_fd_ int fd = socket(at->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int yes = 1;

	if (fd < 0 || setsockopt(fd, level, freebind, &yes, sizeof(yes)) < 0 ||
	    bind(fd, at, len) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int take_loopback(struct visit *v, struct nl_sock *sock)
{
	const struct sockaddr_in four = { .sin_family = AF_INET,
					  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	const struct sockaddr_in6 six = { .sin6_family = AF_INET6,
					  .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct netns_loopback *l = &v->loopback;

	l->four = listen_at((const struct sockaddr *)&four, sizeof(four), IPPROTO_IP, IP_FREEBIND);
	if (l->four < 0)
		return err_sys(v->err, l->four, "listen on 127.0.0.1");
	l->six = listen_at((const struct sockaddr *)&six, sizeof(six), IPPROTO_IPV6, IPV6_FREEBIND);
	/* A kernel without IPv6 has nobody who dials ::1. */
	if (l->six == -EAFNOSUPPORT)
		l->six = -EBADF;
	else if (l->six < 0)
		return err_sys(v->err, l->six, "listen on ::1");
	l->link = sk_lookup_attach(v->netns, l->four, l->six, v->err);
	return l->link < 0 ? l->link : 0;
}

CO int netns_loopback(const char *path, struct netns_loopback *ret, struct err *err)
{
	struct visit v = { .path = path, .run = take_loopback, .loopback = NETNS_NO_LOOPBACK };
	int r = go(&v, err);

	if (r < 0)
		netns_loopback_close(&v.loopback);
	else
		*ret = v.loopback;
	return r;
}

void netns_loopback_close(struct netns_loopback *l)
{
	l->link = fd_close(l->link);
	l->four = fd_close(l->four);
	l->six = fd_close(l->six);
}
