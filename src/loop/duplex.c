/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/duplex.h"

#include <stdbool.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "loop/relay.h"

/**
 * struct way - one direction
 * @from, @to:	the sockets; the other direction has them the other way round
 * @gone:	once @from has ended: until it has hung up, so that nobody reads there any more
 */
struct way {
	struct duplex *duplex;
	int from, to;
	struct relay *relay;
	struct loop_watch *gone;
};

struct duplex {
	struct way way[2];
	unsigned ended;
	void (*over)(struct duplex *d, void *arg);
	void *arg;
};

static void stop(struct duplex *d)
{
	for (int i = 0; i < 2; i++) {
		d->way[i].relay = relay_free(d->way[i].relay);
		d->way[i].gone = loop_watch_free(d->way[i].gone);
	}
}

static void finish(struct duplex *d)
{
	stop(d);
	d->over(d, d->arg); /* may free d */
}

static void on_gone(int fd, uint32_t events, void *arg)
{
	struct way *w = arg;

	finish(w->duplex);
}

/* However it ended: where nothing can be written any more, shutdown() does no harm. */
static void on_ended(struct relay *r, enum relay_end end, void *arg)
{
	struct way *w = arg;
	struct duplex *d = w->duplex;

	w->relay = relay_free(w->relay);
	shutdown(w->to, SHUT_WR);
	if (++d->ended == 2 || loop_watch_new(w->from, 0, on_gone, w, &w->gone) < 0)
		finish(d);
}

int duplex_new(int a, int b, void (*over)(struct duplex *d, void *arg), void *arg,
	       struct duplex **ret)
{
	struct duplex *d = NEW0(struct duplex);
	int r = 0;

	d->over = over;
	d->arg = arg;
	d->way[0] = (struct way){ .duplex = d, .from = a, .to = b };
	d->way[1] = (struct way){ .duplex = d, .from = b, .to = a };
	for (int i = 0; i < 2 && r >= 0; i++) {
		struct way *w = &d->way[i];

		r = relay_new(w->from, w->to, on_ended, w, &w->relay);
	}
	if (r < 0) {
		duplex_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

struct duplex *duplex_free(struct duplex *d)
{
	if (!d)
		return NULL;
	stop(d);
	fd_close(d->way[0].from);
	fd_close(d->way[0].to);
	free(d);
	return NULL;
}
