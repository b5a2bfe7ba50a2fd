/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/netns.h"
#include "gcs/agent.h"
#include "gcs/network.h"
#include "gcs/transport.h"
#include "loop/duplex.h"
#include "loop/worker.h"
#include "wire/gcs.h"

/* As long as the host waits for it. */
enum { CONNECT_USEC = 30 * USEC_PER_SEC };

/* An address of either family, with a port. */
union target {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

static int parse(const struct gcs_port_forward *s, union target *ret, struct err *err)
{
	const char *address = s->address ? s->address : "";
	union target t = { 0 };

	if (!s->target_port || !s->port)
		return err_set(err, -ERR_INVALID, "%s is missing", s->port ? "TargetPort" : "Port");
	if (inet_pton(AF_INET, address, &t.four.sin_addr) == 1) {
		t.four.sin_family = AF_INET;
		t.four.sin_port = htons(s->target_port);
	} else if (inet_pton(AF_INET6, address, &t.six.sin6_addr) == 1) {
		t.six.sin6_family = AF_INET6;
		t.six.sin6_port = htons(s->target_port);
	} else {
		return err_set(err, -ERR_INVALID, "Address '%s' is no IP address", address);
	}
	*ret = t;
	return 0;
}

/* The other address of "localhost"; Return: whether @t is one */
static bool other(const union target *t, union target *ret)
{
	union target o = { 0 };

	if (t->any.sa_family == AF_INET && t->four.sin_addr.s_addr == htonl(INADDR_LOOPBACK)) {
		o.six.sin6_family = AF_INET6;
		o.six.sin6_port = t->four.sin_port;
		o.six.sin6_addr = in6addr_loopback;
	} else if (t->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&t->six.sin6_addr)) {
		o.four.sin_family = AF_INET;
		o.four.sin_port = t->six.sin6_port;
		o.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	} else {
		return false;
	}
	*ret = o;
	return true;
}

/* A socket belongs to the namespace that it was made in. */
struct visit {
	int netns;
	int family;
};

static int make_socket(void *arg)
{
	const struct visit *v = arg;
	int fd = socket(v->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int go(void *arg)
{
	const struct visit *v = arg;

	return netns_visit(v->netns, make_socket, arg);
}

static CO int dial(int netns, const union target *t, int *ret)
{
	struct visit v = { .netns = netns, .family = t->any.sa_family };
	_cleanup_fd_ int fd = worker_call(go, &v);
	int r = fd < 0 ? fd : co_connect(fd, &t->any, sizeof(*t));

	if (r >= 0)
		*ret = TAKE_FD(fd);
	return r;
}

static CO int dial_either(int netns, const union target *t, int *ret)
{
	union target o;
	int r = dial(netns, t, ret);

	/* Why the second one failed would mislead: it was not asked for. */
	return r == -ECONNREFUSED && other(t, &o) && dial(netns, &o, ret) >= 0 ? 0 : r;
}

/* In a place that was taken. */
static CO int join(struct agent *a, struct network *n, const union target *t, uint32_t port,
		   struct err *err)
{
	_cleanup_fd_ int there = -EBADF, host = -EBADF;
	int r = dial_either(network_netns(n), t, &there);

	if (r < 0)
		err_sys(err, r, "connect");
	else
		r = transport_dial(a->transport, port, &host, err);
	if (r < 0) {
		duplexes_give(network_forwards(n));
		return r;
	}
	r = duplexes_join(network_forwards(n), TAKE_FD(there), TAKE_FD(host));
	return r < 0 ? err_sys(err, r, "join two connections") : 0;
}

CO int forward_add(struct agent *a, const struct gcs_port_forward *s, struct err *err)
{
	struct network *n;
	union target t;
	int r = parse(s, &t, err);
	CO_LIMIT(CONNECT_USEC);

	if (r >= 0)
		r = network_find(a, s->namespace_id, &n, err);
	if (r < 0)
		return err_wrap(err, r, "forward a port");
	r = duplexes_await(network_forwards(n));
	if (r < 0)
		err_sys(err, r, "wait for others to end");
	else
		r = join(a, n, &t, s->port, err);
	network_leave(n);
	return r < 0 ? err_wrap(err, r, "forward port %u of %s", s->target_port, s->address) : 0;
}
