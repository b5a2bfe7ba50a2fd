/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/duplex.h"

#include <stdlib.h>
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

/* ---- several ---- */

struct joined {
	struct list link;
	struct duplexes *of;
	struct duplex *duplex;
};

void duplexes_init(struct duplexes *s, unsigned max, void (*left)(void *arg), void *arg)
{
	*s = (struct duplexes){ .max = max, .left = left, .arg = arg };
	list_init(&s->list);
	co_event_init(&s->room);
}

bool duplexes_take(struct duplexes *s)
{
	if (s->n >= s->max)
		return false;
	s->n++;
	return true;
}

CO int duplexes_await(struct duplexes *s)
{
	while (!duplexes_take(s)) {
		int r;

		co_event_clear(&s->room);
		r = co_event_wait(&s->room);
		if (r < 0)
			return r;
	}
	return 0;
}

void duplexes_give(struct duplexes *s)
{
	s->n--;
	co_event_set(&s->room);
	if (s->left)
		s->left(s->arg);
}

static void joined_free(struct joined *j)
{
	list_remove(&j->link);
	duplex_free(j->duplex);
	free(j);
}

static void on_over(struct duplex *d, void *arg)
{
	struct joined *j = arg;
	struct duplexes *s = j->of;

	joined_free(j);
	duplexes_give(s);
}

int duplexes_join(struct duplexes *s, int a, int b)
{
	struct joined *j = NEW0(struct joined);
	int r = duplex_new(a, b, on_over, j, &j->duplex);

	if (r < 0) {
		free(j);
		duplexes_give(s);
		return r;
	}
	j->of = s;
	list_append(&s->list, &j->link);
	return 0;
}

void duplexes_close(struct duplexes *s)
{
	LIST_FOR_EACH_SAFE(it, &s->list) {
		s->n--;
		joined_free(LIST_ENTRY(it, struct joined, link));
	}
}
