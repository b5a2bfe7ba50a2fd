/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "guest/private.h"
#include "loop/gateway.h"
#include "vmm/netns.h"

enum { DIAL_USEC = 30000000 };

struct guest_loopback {
	int link;
	struct gateway *four;
	struct gateway *six;
};

/** struct way - where a gateway leads to; its own */
struct way {
	struct guest *guest;
	char *network;
};

static void way_free(void *arg)
{
	struct way *w = arg;

	free(w->network);
	free(w);
}

/* What was dialled on the host. */
static int read_target(int client, char address[INET6_ADDRSTRLEN], uint16_t *ret_port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} at = { 0 };
	socklen_t len = sizeof(at);

	if (getsockname(client, &at.any, &len) < 0)
		return -errno;
	if (at.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &at.six.sin6_addr, address, INET6_ADDRSTRLEN);
		*ret_port = ntohs(at.six.sin6_port);
	} else {
		inet_ntop(AF_INET, &at.four.sin_addr, address, INET6_ADDRSTRLEN);
		*ret_port = ntohs(at.four.sin_port);
	}
	return 0;
}

/* The guest dials before it answers, so that there is nothing to wait for but our own accepting. */
static CO int ask(struct guest *g, struct gcs_port_forward *s, int *ret_fd, struct err *err)
{
	_cleanup_(port_freep) struct port *port = NULL;
	struct co_event ended;
	const struct port_spec spec = { .name = "forwarded port", .changed = &ended };
	int r;

	co_event_init(&ended);
	r = guest_listen_any(g, &spec, &port, &s->port, err);
	if (r < 0)
		return r;
	port_accept(port);
	r = guest_modify(g, NULL, "Add", "PortForward", &gcs_port_forward_table, s, err);
	if (r < 0)
		return r;
	{
		CO_LIMIT(GUEST_DIAL_SEC * USEC_PER_SEC);
		r = co_event_wait(&ended);
	}
	if (r >= 0)
		r = port_take(port);
	if (r < 0)
		return err_sys(err, r, "wait for the guest to dial");
	*ret_fd = r;
	return 0;
}

static CO int dial(int client, void *arg, int *ret_fd)
{
	struct way *w = arg;
	char address[INET6_ADDRSTRLEN] = "";
	struct gcs_port_forward s = { .namespace_id = w->network, .address = address };
	struct err err = { 0 };
	int r = read_target(client, address, &s.target_port);

	if (r < 0)
		err_sys(&err, r, "getsockname");
	else
		r = ask(w->guest, &s, ret_fd, &err);
	/* An everyday thing: whoever dials tries whether somebody listens. */
	if (r < 0 && r != -ECANCELED)
		log_info("connect to port %u of pod %s: %s", s.target_port, w->network, err.text);
	return r;
}

static int open_gateway(struct guest *g, const char *network, int listener, struct gateway **ret)
{
	struct gateway_spec spec = {
		.name = "port forward",
		.max = GCS_FORWARD_CONNECTIONS / 2,
		.dial_usec = DIAL_USEC,
		.dial = dial,
		.gone = way_free,
	};
	struct way *w = NEW0(struct way);
	int r;

	w->guest = g;
	w->network = mem_strdup(network);
	spec.arg = w;
	r = gateway_new(listener, &spec, ret);
	if (r < 0)
		way_free(w);
	return r;
}

int guest_loopback_new(struct guest *g, const char *network, const struct netns_loopback *from,
		       struct guest_loopback **ret, struct err *err)
{
	struct guest_loopback *l = NEW0(struct guest_loopback);
	_cleanup_fd_ int six = from->six;
	int r;

	l->link = from->link;
	r = open_gateway(g, network, from->four, &l->four);
	if (r >= 0 && six >= 0)
		r = open_gateway(g, network, TAKE_FD(six), &l->six);
	if (r < 0) {
		guest_loopback_free(l);
		return err_sys(err, r, "guest: forward ports");
	}
	*ret = l;
	return 0;
}

struct guest_loopback *guest_loopback_free(struct guest_loopback *l)
{
	if (!l)
		return NULL;
	fd_close(l->link);
	gateway_free(l->four);
	gateway_free(l->six);
	free(l);
	return NULL;
}
