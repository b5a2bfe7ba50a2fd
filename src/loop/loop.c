/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/time.h"
#include "loop/internal.h"
#include "loop/worker.h"

enum { BATCH = 64 };

/**
 * struct loop_watch - one of possibly several watches of an fd
 * @link:	in its slot, until the sweep after it was freed
 * @dead_link:	among those to be swept
 * @born:	turn in which it was made: what happened before that is not for it
 * @dead:	freed, but perhaps still being walked over
 */
struct loop_watch {
	struct list link;
	struct list dead_link;
	int fd;
	uint32_t events;
	loop_watch_fn fn;
	void *arg;
	uint64_t born;
	bool dead;
};

/**
 * struct slot - an fd number in epoll, which takes each only once
 * @watches:	who wants to know
 * @events:	registered with epoll: what all of them want
 * @generation:	counts registrations, so that events of a closed fd do not reach the next owner of
 *		its number
 * @added:	registered with epoll
 * @always:	a regular file: always ready
 */
struct slot {
	struct list watches;
	uint32_t events;
	uint32_t generation;
	bool added;
	bool always;
};

/**
 * struct loop_timer - in the heap while armed
 * @when:	monotonic microseconds
 * @seq:	order of arming, for equal times
 * @pos:	position in the heap + 1, 0 while not armed
 */
struct loop_timer {
	uint64_t when;
	uint64_t seq;
	size_t pos;
	void (*fn)(void *arg);
	void *arg;
};

struct deferred {
	void (*fn)(void *arg);
	void *arg;
};

struct signal_fn {
	void (*fn)(int signo, void *arg);
	void *arg;
};

static struct {
	int epfd;
	struct slot **slots;
	size_t n_slots;
	unsigned n_watches; /* live ones */
	struct list dead;
	unsigned n_always; /* slots of regular files with a live watch */
	struct loop_timer **heap;
	size_t heap_len, heap_cap;
	uint64_t seq;
	unsigned n_timers;
	struct deferred *deferred;
	size_t deferred_len, deferred_cap;
	uint64_t turn;
	bool stopping;
	int code;
	bool told;
	int sigfd;
	struct loop_watch *sigwatch;
	struct signal_fn signals[_NSIG];
	sigset_t handled; /* signals in sigfd */
	sigset_t mask; /* blocked signals */
} loop = { .epfd = -EBADF, .sigfd = -EBADF, .dead = { &loop.dead, &loop.dead } };

const sigset_t *loop_sigmask(void)
{
	return &loop.mask;
}

void loop_slice_told(void)
{
	loop.told = true;
}

static uint64_t slice_begin(void)
{
	loop.told = false;
	return time_mono();
}

static void slice_end(uint64_t start, const char *what, const void *fn)
{
	uint64_t took = time_mono() - start;

	if (took > SLICE_MAX && !loop.told)
		log_msg(SLICE_LEVEL(took), NULL, "loop was held up for %llu ms by the %s %p",
			(unsigned long long)(took / USEC_PER_MSEC), what, fn);
}

int loop_init(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int fd;

	if (loop.epfd >= 0)
		return -EBUSY;
	fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (sigprocmask(SIG_SETMASK, NULL, &loop.mask) < 0 ||
	    sigaction(SIGPIPE, &ignore, NULL) < 0) {
		int r = -errno;

		fd_close(fd);
		return r;
	}
	sigemptyset(&loop.handled);
	loop.epfd = fd;
	loop.stopping = false;
	return 0;
}

/* --- watches --- */

static struct slot *slot_of(int fd)
{
	size_t n = (size_t)fd;

	if (n >= loop.n_slots) {
		size_t cap = n + 64;

		loop.slots = mem_resize(loop.slots, cap, sizeof(struct slot *));
		memset(loop.slots + loop.n_slots, 0, (cap - loop.n_slots) * sizeof(struct slot *));
		loop.n_slots = cap;
	}
	if (!loop.slots[n]) {
		loop.slots[n] = NEW0(struct slot);
		list_init(&loop.slots[n]->watches);
	}
	return loop.slots[n];
}

/** slot_update() - bring epoll in line with what the live watches of @fd want */
static int slot_update(int fd, struct slot *s)
{
	struct epoll_event ev = { 0 };
	unsigned live = 0;
	uint32_t events = 0;

	LIST_FOR_EACH(it, &s->watches) {
		struct loop_watch *w = LIST_ENTRY(it, struct loop_watch, link);

		if (w->dead)
			continue;
		live++;
		events |= w->events;
	}
	if (s->always) {
		if (live == 0) {
			s->always = false;
			loop.n_always--;
		}
		return 0;
	}
	if (live == 0) {
		if (s->added)
			epoll_ctl(loop.epfd, EPOLL_CTL_DEL, fd, NULL);
		s->added = false;
		return 0;
	}
	if (s->added && s->events == events)
		return 0;
	if (!s->added)
		s->generation++;
	ev.events = events;
	ev.data.u64 = (uint64_t)s->generation << 32 | (uint32_t)fd;
	if (epoll_ctl(loop.epfd, s->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0) {
		if (errno != EPERM || s->added)
			return -errno;
		s->always = true;
		loop.n_always++;
		return 0;
	}
	s->added = true;
	s->events = events;
	return 0;
}

int loop_watch_new(int fd, uint32_t events, loop_watch_fn fn, void *arg, struct loop_watch **ret)
{
	struct loop_watch *w;
	struct slot *s;
	int r;

	if (fd < 0)
		return -EBADF;
	s = slot_of(fd);
	w = NEW0(struct loop_watch);
	w->fd = fd;
	w->events = events;
	w->fn = fn;
	w->arg = arg;
	w->born = loop.turn;
	list_append(&s->watches, &w->link);
	r = slot_update(fd, s);
	if (r < 0) {
		list_remove(&w->link);
		free(w);
		return r;
	}
	loop.n_watches++;
	*ret = w;
	return 0;
}

void loop_watch_events(struct loop_watch *w, uint32_t events)
{
	int r;

	if (w->events == events)
		return;
	w->events = events;
	r = slot_update(w->fd, loop.slots[w->fd]);
	if (r < 0)
		log_error("watch of fd %d: %s", w->fd, strerrordesc_np(-r));
}

struct loop_watch *loop_watch_free(struct loop_watch *w)
{
	if (!w)
		return NULL;
	w->dead = true;
	loop.n_watches--;
	list_append(&loop.dead, &w->dead_link);
	slot_update(w->fd, loop.slots[w->fd]);
	return NULL;
}

static void watches_sweep(void)
{
	LIST_FOR_EACH_SAFE(it, &loop.dead) {
		struct loop_watch *w = LIST_ENTRY(it, struct loop_watch, dead_link);

		list_remove(&w->link);
		free(w);
	}
	list_init(&loop.dead);
}

/**
 * slot_dispatch() - tell the watches of a slot; dead ones stay linked until the sweep, so the walk
 * is safe
 */
static void slot_dispatch(int fd, struct slot *s, uint32_t events)
{
	LIST_FOR_EACH(it, &s->watches) {
		struct loop_watch *w = LIST_ENTRY(it, struct loop_watch, link);
		uint32_t mine = events & (w->events | EPOLLERR | EPOLLHUP);
		loop_watch_fn fn = w->fn;
		uint64_t start;

		if (w->dead || !mine || w->born == loop.turn)
			continue;
		start = slice_begin();
		fn(fd, mine, w->arg);
		slice_end(start, "watch callback", (const void *)(uintptr_t)fn);
	}
}

static bool always_ready(void)
{
	if (loop.n_always == 0)
		return false;
	for (size_t i = 0; i < loop.n_slots; i++) {
		if (!loop.slots[i] || !loop.slots[i]->always)
			continue;
		LIST_FOR_EACH(it, &loop.slots[i]->watches) {
			struct loop_watch *w = LIST_ENTRY(it, struct loop_watch, link);

			if (!w->dead && (w->events & (EPOLLIN | EPOLLOUT)))
				return true;
		}
	}
	return false;
}

static void watches_run(const struct epoll_event *events, int n)
{
	for (int i = 0; i < n; i++) {
		int fd = (int)(uint32_t)events[i].data.u64;
		struct slot *s = loop.slots[fd];

		if (s->added && s->generation == (uint32_t)(events[i].data.u64 >> 32))
			slot_dispatch(fd, s, events[i].events);
	}
	if (loop.n_always > 0)
		for (size_t i = 0; i < loop.n_slots; i++)
			if (loop.slots[i] && loop.slots[i]->always)
				slot_dispatch((int)i, loop.slots[i], EPOLLIN | EPOLLOUT);
}

/* --- timers: a binary heap --- */

static bool timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}

static void heap_place(struct loop_timer *t, size_t pos)
{
	loop.heap[pos] = t;
	t->pos = pos + 1;
}

static void heap_sift(struct loop_timer *t, size_t pos)
{
	while (pos > 0 && timer_before(t, loop.heap[(pos - 1) / 2])) {
		heap_place(loop.heap[(pos - 1) / 2], pos);
		pos = (pos - 1) / 2;
	}
	for (;;) {
		size_t kid = 2 * pos + 1;

		if (kid + 1 < loop.heap_len && timer_before(loop.heap[kid + 1], loop.heap[kid]))
			kid++;
		if (kid >= loop.heap_len || !timer_before(loop.heap[kid], t))
			break;
		heap_place(loop.heap[kid], pos);
		pos = kid;
	}
	heap_place(t, pos);
}

static void timer_disarm(struct loop_timer *t)
{
	size_t pos = t->pos - 1;
	struct loop_timer *last;

	if (!t->pos)
		return;
	t->pos = 0;
	last = loop.heap[--loop.heap_len];
	if (last != t)
		heap_sift(last, pos);
}

void loop_timer_set(struct loop_timer *t, uint64_t usec)
{
	timer_disarm(t);
	if (usec == USEC_NEVER || __builtin_add_overflow(time_mono(), usec, &t->when))
		return;
	t->seq = loop.seq++;
	if (loop.heap_len == loop.heap_cap) {
		loop.heap_cap = loop.heap_cap ? loop.heap_cap * 2 : 32;
		loop.heap = mem_resize(loop.heap, loop.heap_cap, sizeof(struct loop_timer *));
	}
	heap_sift(t, loop.heap_len++);
}

struct loop_timer *loop_timer_new(uint64_t usec, void (*fn)(void *arg), void *arg)
{
	struct loop_timer *t = NEW0(struct loop_timer);

	t->fn = fn;
	t->arg = arg;
	loop.n_timers++;
	loop_timer_set(t, usec);
	return t;
}

struct loop_timer *loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return NULL;
	timer_disarm(t);
	loop.n_timers--;
	free(t);
	return NULL;
}

static void timers_run(void)
{
	uint64_t now = time_mono(), end = loop.seq;

	/* One that a callback arms for this very moment waits for the next turn. */
	while (loop.heap_len > 0 && loop.heap[0]->when <= now && loop.heap[0]->seq < end) {
		struct loop_timer *t = loop.heap[0];
		void (*fn)(void *) = t->fn;
		uint64_t start = slice_begin();

		timer_disarm(t);
		fn(t->arg); /* may free t */
		slice_end(start, "timer callback", (const void *)(uintptr_t)fn);
	}
}

/* --- deferred calls --- */

void loop_defer(void (*fn)(void *arg), void *arg)
{
	if (loop.deferred_len == loop.deferred_cap) {
		loop.deferred_cap = loop.deferred_cap ? loop.deferred_cap * 2 : 32;
		loop.deferred =
			mem_resize(loop.deferred, loop.deferred_cap, sizeof(*loop.deferred));
	}
	loop.deferred[loop.deferred_len++] = (struct deferred){ fn, arg };
}

static void deferred_run(void)
{
	size_t n = loop.deferred_len;

	/* Calls that these ones add are for the next turn; the array may move meanwhile. */
	for (size_t i = 0; i < n; i++) {
		struct deferred d = loop.deferred[i];
		uint64_t start = slice_begin();

		d.fn(d.arg);
		slice_end(start, "deferred call", (const void *)(uintptr_t)d.fn);
	}
	if (n > 0) {
		loop.deferred_len -= n;
		memmove(loop.deferred, loop.deferred + n,
			loop.deferred_len * sizeof(*loop.deferred));
	}
}

/* --- signals --- */

static void on_signal(int fd, uint32_t events, void *arg)
{
	struct signalfd_siginfo si;

	(void)events;
	(void)arg;
	while (read(fd, &si, sizeof(si)) == sizeof(si)) {
		struct signal_fn s = loop.signals[si.ssi_signo];

		if (s.fn)
			s.fn((int)si.ssi_signo, s.arg);
		if (loop.sigfd != fd)
			return;
	}
}

static int signals_apply(void)
{
	int fd = signalfd(loop.sigfd >= 0 ? loop.sigfd : -1, &loop.handled,
			  SFD_CLOEXEC | SFD_NONBLOCK);
	int r;

	if (fd < 0)
		return -errno;
	loop.sigfd = fd;
	if (!loop.sigwatch) {
		r = loop_watch_new(fd, EPOLLIN, on_signal, NULL, &loop.sigwatch);
		if (r < 0)
			return r;
		loop.n_watches--; /* the loop's own: not one that somebody forgot */
	}
	return sigprocmask(SIG_SETMASK, &loop.mask, NULL) < 0 ? -errno : 0;
}

int loop_signal(int signo, void (*fn)(int signo, void *arg), void *arg)
{
	if (signo <= 0 || signo >= _NSIG || signo == SIGKILL || signo == SIGSTOP)
		return -EINVAL;
	if (fn) {
		sigaddset(&loop.handled, signo);
		sigaddset(&loop.mask, signo);
	} else {
		sigdelset(&loop.handled, signo);
		sigdelset(&loop.mask, signo);
	}
	loop.signals[signo] = (struct signal_fn){ fn, arg };
	return signals_apply();
}

/* --- the loop --- */

static int turn_timeout(void)
{
	uint64_t now, left;

	if (loop.stopping || loop.deferred_len > 0 || always_ready())
		return 0;
	if (loop.heap_len == 0)
		return -1;
	now = time_mono();
	if (loop.heap[0]->when <= now)
		return 0;
	/* Round up: a timer never runs early, and no turn is for nothing. */
	left = (loop.heap[0]->when - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
	return left > INT_MAX ? INT_MAX : (int)left;
}

int loop_run(void)
{
	struct epoll_event events[BATCH];
	int n;

	do {
		loop.turn++;
		deferred_run();
		n = epoll_wait(loop.epfd, events, BATCH, turn_timeout());
		if (n < 0 && errno != EINTR) {
			log_error("epoll_wait: %m");
			abort();
		}
		/* A watch that deferred calls made may have something to hear already. */
		loop.turn++;
		watches_run(events, n < 0 ? 0 : n);
		timers_run();
		watches_sweep();
	} while (!loop.stopping);
	loop.stopping = false;
	return loop.code;
}

void loop_stop(int code)
{
	loop.stopping = true;
	loop.code = code;
}

static void signals_fini(void)
{
	for (int i = 1; i < _NSIG; i++)
		if (loop.signals[i].fn)
			sigdelset(&loop.mask, i);
	memset(loop.signals, 0, sizeof(loop.signals));
	if (loop.sigwatch) {
		loop.n_watches++;
		loop.sigwatch = loop_watch_free(loop.sigwatch);
	}
	loop.sigfd = fd_close(loop.sigfd);
	sigprocmask(SIG_SETMASK, &loop.mask, NULL);
}

void loop_fini(void)
{
	bool clean;

	if (loop.epfd < 0)
		return;
	worker_fini();
	signals_fini();
	watches_sweep();
	clean = loop.n_watches == 0 && loop.n_timers == 0 && co_count() == 0;
	if (!clean)
		log_error("at the end of the loop %u watches, %u timers and %u coroutines are left",
			  loop.n_watches, loop.n_timers, co_count());
	assert(clean);
	co_fini();
	for (size_t i = 0; i < loop.n_slots; i++)
		free(loop.slots[i]);
	free(loop.slots);
	loop.slots = NULL;
	loop.n_slots = 0;
	free(loop.heap);
	loop.heap = NULL;
	loop.heap_len = loop.heap_cap = 0;
	free(loop.deferred);
	loop.deferred = NULL;
	loop.deferred_len = loop.deferred_cap = 0;
	loop.epfd = fd_close(loop.epfd);
}

void loop_dump(FILE *out)
{
	fprintf(out, "loop: %u watches, %u timers (%zu armed), %zu deferred calls, %u coroutines\n",
		loop.n_watches, loop.n_timers, loop.heap_len, loop.deferred_len, co_count());
	co_dump(out);
}
