/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/gateway.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/list.h"
#include "loop/duplex.h"
#include "loop/loop.h"

enum { AGAIN_USEC = 100000 };

/**
 * struct gateway - shared by its owner and by who dials for it
 * @watch:	of the listener; NULL while there is no room for another connection
 * @again:	tries again after accept() has failed
 * @dials:	those under way
 */
struct gateway {
	unsigned refs;
	struct gateway_spec spec;
	int listener;
	struct loop_watch *watch;
	struct loop_timer *again;
	struct list dials;
	struct duplexes joined;
	bool closed;
};

struct dial {
	struct list link;
	struct gateway *gateway;
	int fd;
	struct co *co;
};

static void on_arrival(int fd, uint32_t events, void *arg);

static void unref(struct gateway *g)
{
	if (--g->refs > 0)
		return;
	if (g->spec.gone)
		g->spec.gone(g->spec.arg);
	free(g);
}

static void listen_again(void *arg)
{
	struct gateway *g = arg;

	if (!g->closed && !g->watch && g->joined.n < g->joined.max &&
	    loop_watch_new(g->listener, EPOLLIN, on_arrival, g, &g->watch) < 0)
		loop_timer_set(g->again, AGAIN_USEC);
}

/* An end would look like an answer: TCP has a word for a failure. */
static void reset(int fd)
{
	const struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	fd_close(fd);
}

static CO void dial_main(void *arg)
{
	struct dial *d = arg;
	struct gateway *g = d->gateway;
	int fd = -EBADF;
	int r = g->closed ? -ECANCELED : g->spec.dial(d->fd, g->spec.arg, &fd);

	list_remove(&d->link);
	if (r >= 0 && !g->closed) {
		duplexes_join(&g->joined, d->fd, fd);
	} else {
		reset(d->fd);
		fd_close(fd);
		duplexes_give(&g->joined);
	}
	free(d);
	unref(g);
}

static void take(struct gateway *g, int fd)
{
	struct dial *d = NEW0(struct dial);

	d->gateway = g;
	d->fd = fd;
	list_append(&g->dials, &d->link);
	g->refs++;
	d->co = co_spawn(g->spec.name, dial_main, d, time_mono() + g->spec.dial_usec);
}

static void on_arrival(int listener, uint32_t events, void *arg)
{
	struct gateway *g = arg;

	while (duplexes_take(&g->joined)) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		int r = fd < 0 ? -errno : 0;

		if (r >= 0) {
			take(g, fd);
			continue;
		}
		duplexes_give(&g->joined);
		if (r == -EAGAIN || r == -ECONNABORTED || r == -EINTR)
			return;
		/* There are no more fds. */
		loop_timer_set(g->again, AGAIN_USEC);
		break;
	}
	g->watch = loop_watch_free(g->watch);
}

int gateway_new(int listener, const struct gateway_spec *spec, struct gateway **ret)
{
	struct gateway *g = NEW0(struct gateway);
	int r;

	g->refs = 1;
	g->spec = *spec;
	g->listener = listener;
	list_init(&g->dials);
	duplexes_init(&g->joined, spec->max, listen_again, g);
	g->again = loop_timer_new(USEC_NEVER, listen_again, g);
	r = loop_watch_new(listener, EPOLLIN, on_arrival, g, &g->watch);
	if (r < 0) {
		g->spec.gone = NULL;
		gateway_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

struct gateway *gateway_free(struct gateway *g)
{
	if (!g)
		return NULL;
	g->closed = true;
	g->watch = loop_watch_free(g->watch);
	g->again = loop_timer_free(g->again);
	g->listener = fd_close(g->listener);
	LIST_FOR_EACH(it, &g->dials)
		co_cancel(LIST_ENTRY(it, struct dial, link)->co);
	duplexes_close(&g->joined);
	unref(g);
	return NULL;
}
