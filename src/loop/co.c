/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/co.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/internal.h"
#include "loop/loop.h"

#ifdef __SANITIZE_ADDRESS__
enum { STACK_SIZE = 256 * 1024 }; /* red zones take their part */
#else
enum { STACK_SIZE = 64 * 1024 };
#endif
enum { POOL_MAX = 32, NOTE_MAX = 64 };

/**
 * struct stack - a mapping whose lowest page is the guard
 */
struct stack {
	struct list link;
	char *base;
	size_t guard;
	unsigned valgrind_id;
};

/**
 * struct co - a coroutine
 * @link:	in the list of all
 * @wait:	in the waiters of a mutex or an event
 * @deadline:	the one in force; under a shield, the shield's
 * @what:	what it waits for, NULL while it does not
 * @since:	when the wait began
 * @result:	what the pending suspend returns
 * @suspended:	in co_suspend(), and not yet woken
 * @firm:	that suspend is not cancelled
 */
struct co {
	ucontext_t ctx;
	struct stack *stack;
	struct list link;
	struct list wait;
	const char *name;
	char note[NOTE_MAX];
	void (*fn)(void *arg);
	void *arg;
	uint64_t deadline;
	struct loop_timer *timer;
	const char *what;
	long id;
	uint64_t since;
	int result;
	bool suspended;
	bool firm;
	bool cancelled;
	bool shielded;
	bool done;
};

static struct {
	ucontext_t loop;
	const void *loop_bottom; /* of the loop's own stack, for ASan */
	size_t loop_size;
	struct co *self;
	struct list all;
	struct list pool;
	unsigned count;
	unsigned pooled;
} state = {
	.all = { &state.all, &state.all },
	.pool = { &state.pool, &state.pool },
};

/* --- stacks --- */

static struct stack *stack_new(void)
{
	struct stack *s;

	if (!list_empty(&state.pool)) {
		s = LIST_ENTRY(state.pool.next, struct stack, link);
		list_remove(&s->link);
		state.pooled--;
#ifdef __SANITIZE_ADDRESS__
		ASAN_UNPOISON_MEMORY_REGION(s->base + s->guard, STACK_SIZE);
#endif
		return s;
	}
	s = NEW0(struct stack);
	s->guard = (size_t)sysconf(_SC_PAGESIZE);
	s->base = mmap(NULL, s->guard + STACK_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	if (s->base == MAP_FAILED || mprotect(s->base, s->guard, PROT_NONE) < 0) {
		log_error("stack of a coroutine: %m");
		abort();
	}
#ifdef HAVE_VALGRIND
	s->valgrind_id =
		VALGRIND_STACK_REGISTER(s->base + s->guard, s->base + s->guard + STACK_SIZE);
#endif
	return s;
}

static void stack_unmap(struct stack *s)
{
#ifdef HAVE_VALGRIND
	VALGRIND_STACK_DEREGISTER(s->valgrind_id);
#endif
	munmap(s->base, s->guard + STACK_SIZE);
	free(s);
}

static void stack_free(struct stack *s)
{
	if (state.pooled >= POOL_MAX) {
		stack_unmap(s);
		return;
	}
	list_append(&state.pool, &s->link);
	state.pooled++;
}

void co_fini(void)
{
	LIST_FOR_EACH_SAFE(it, &state.pool)
		stack_unmap(LIST_ENTRY(it, struct stack, link));
	list_init(&state.pool);
	state.pooled = 0;
}

/* --- switching --- */

/**
 * to_loop() - from the coroutine's stack to the loop's; returns when it is resumed, never when it
 * is done
 */
static void to_loop(struct co *c)
{
#ifdef __SANITIZE_ADDRESS__
	void *fake = NULL;

	__sanitizer_start_switch_fiber(c->done ? NULL : &fake, state.loop_bottom, state.loop_size);
#endif
	/* swapcontext() puts back the signal mask of its target, which loop_signal() may have
	 * changed meanwhile. */
	state.loop.uc_sigmask = *loop_sigmask();
	swapcontext(&c->ctx, &state.loop);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(fake, &state.loop_bottom, &state.loop_size);
#endif
}

static void to_co(struct co *c)
{
#ifdef __SANITIZE_ADDRESS__
	void *fake = NULL;

	__sanitizer_start_switch_fiber(&fake, c->stack->base + c->stack->guard, STACK_SIZE);
#endif
	c->ctx.uc_sigmask = *loop_sigmask();
	state.self = c;
	swapcontext(&state.loop, &c->ctx);
	state.self = NULL;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

static void entry(void)
{
	struct co *c = state.self;

#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(NULL, &state.loop_bottom, &state.loop_size);
#endif
	c->fn(c->arg);
	c->done = true;
	to_loop(c);
	abort();
}

static void resume(void *arg)
{
	struct co *c = arg;
	uint64_t start = time_mono(), took;

	to_co(c);
	took = time_mono() - start;
	if (took > SLICE_MAX) {
		log_msg(SLICE_LEVEL(took), NULL,
			"loop was held up for %llu ms by the coroutine %s (%s)",
			(unsigned long long)(took / USEC_PER_MSEC), c->name, c->note);
		loop_slice_told();
	}
	if (!c->done)
		return;
	list_remove(&c->link);
	state.count--;
	loop_timer_free(c->timer);
	stack_free(c->stack);
	free(c);
}

struct co *co_spawn(const char *name, void (*fn)(void *arg), void *arg, uint64_t deadline)
{
	struct co *c = NEW0(struct co);

	c->name = name;
	c->fn = fn;
	c->arg = arg;
	c->deadline = deadline;
	c->since = time_mono();
	c->stack = stack_new();
	list_init(&c->wait);
	list_append(&state.all, &c->link);
	state.count++;
	if (getcontext(&c->ctx) < 0)
		abort();
	c->ctx.uc_stack.ss_sp = c->stack->base + c->stack->guard;
	c->ctx.uc_stack.ss_size = STACK_SIZE;
	c->ctx.uc_link = NULL;
	makecontext(&c->ctx, entry, 0);
	loop_defer(resume, c);
	return c;
}

struct co *co_self(void)
{
	return state.self;
}

unsigned co_count(void)
{
	return state.count;
}

/* --- suspending --- */

static struct co *must_self(void)
{
	if (!state.self) {
		log_error("a function that may suspend was called outside of a coroutine");
		abort();
	}
	return state.self;
}

int co_check(void)
{
	const struct co *c = must_self();

	if (c->cancelled && !c->shielded)
		return -ECANCELED;
	if (c->deadline != USEC_NEVER && time_mono() >= c->deadline)
		return -ETIMEDOUT;
	return 0;
}

void co_wake(struct co *c, int result)
{
	if (!c->suspended)
		return;
	c->suspended = false;
	c->result = result;
	list_remove(&c->wait);
	loop_defer(resume, c);
}

static void on_deadline(void *arg)
{
	co_wake(arg, -ETIMEDOUT);
}

int co_suspend(const char *what, long id, struct list *waiters, bool firm)
{
	struct co *c = must_self();
	bool timed = !firm && c->deadline != USEC_NEVER;
	int r;

	r = firm ? 0 : co_check();
	if (r < 0)
		return r;
	c->since = time_mono();
	if (timed) {
		uint64_t left = c->deadline > c->since ? c->deadline - c->since : 0;

		if (c->timer)
			loop_timer_set(c->timer, left);
		else
			c->timer = loop_timer_new(left, on_deadline, c);
	}
	if (waiters)
		list_append(waiters, &c->wait);
	c->what = what;
	c->id = id;
	c->firm = firm;
	c->suspended = true;
	to_loop(c);
	c->what = NULL;
	c->since = time_mono();
	if (timed)
		loop_timer_set(c->timer, USEC_NEVER);
	return c->result;
}

void co_cancel(struct co *c)
{
	c->cancelled = true;
	if (!c->shielded && !c->firm)
		co_wake(c, -ECANCELED);
}

void co_note(const char *fmt, ...)
{
	struct co *c = must_self();
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->note, sizeof(c->note), fmt, ap);
	va_end(ap);
}

uint64_t co_deadline(void)
{
	return must_self()->deadline;
}

static uint64_t after(uint64_t usec)
{
	uint64_t when;

	return __builtin_add_overflow(time_mono(), usec, &when) ? USEC_NEVER : when;
}

struct co_scope co_limit(uint64_t usec)
{
	struct co *c = must_self();
	struct co_scope s = { c->deadline, c->shielded };
	uint64_t limit = after(usec);

	if (limit < c->deadline)
		c->deadline = limit;
	return s;
}

struct co_scope co_shield(uint64_t usec)
{
	struct co *c = must_self();
	struct co_scope s = { c->deadline, c->shielded };

	c->deadline = after(usec);
	c->shielded = true;
	return s;
}

void co_scope_end(struct co_scope *s)
{
	struct co *c = must_self();

	c->deadline = s->deadline;
	c->shielded = s->shielded;
}

static void on_sleep_end(void *arg)
{
	co_wake(arg, 0);
}

int co_sleep(uint64_t usec)
{
	struct loop_timer *t;
	int r = co_check();

	if (r < 0)
		return r;
	t = loop_timer_new(usec, on_sleep_end, co_self());
	r = co_suspend("sleep", -1, NULL, false);
	loop_timer_free(t);
	return r;
}

/* --- fds --- */

static void on_fd(int fd, uint32_t events, void *arg)
{
	co_wake(arg, 0);
}

int co_wait_fd(int fd, uint32_t events)
{
	struct loop_watch *w = NULL;
	int r = co_check();

	if (r < 0)
		return r;
	r = loop_watch_new(fd, events, on_fd, co_self(), &w);
	if (r < 0)
		return r;
	r = co_suspend(events & EPOLLOUT ? "write to fd" : "read from fd", fd, NULL, false);
	loop_watch_free(w);
	return r;
}

ssize_t co_read(int fd, void *data, size_t len)
{
	for (;;) {
		ssize_t n = co_check();

		if (n < 0)
			return n;
		n = read(fd, data, len);
		if (n >= 0)
			return n;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		n = co_wait_fd(fd, EPOLLIN);
		if (n < 0)
			return n;
	}
}

int co_read_full(int fd, void *data, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = co_read(fd, (char *)data + have, len - have);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return have ? -EPIPE : -ENODATA;
		have += (size_t)n;
	}
	return 0;
}

int co_write_full(int fd, const void *data, size_t len)
{
	const char *p = data;
	bool sock = true;

	while (len > 0) {
		ssize_t n = co_check();

		if (n < 0)
			return (int)n;
		n = sock ? send(fd, p, len, MSG_NOSIGNAL) : write(fd, p, len);
		if (n >= 0) {
			p += n;
			len -= (size_t)n;
		} else if (errno == ENOTSOCK && sock) {
			sock = false;
		} else if (errno == EAGAIN) {
			n = co_wait_fd(fd, EPOLLOUT);
			if (n < 0)
				return (int)n;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

int co_accept(int fd)
{
	for (;;) {
		int r = co_check();

		if (r < 0)
			return r;
		r = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (r >= 0)
			return r;
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno != EAGAIN)
			return -errno;
		r = co_wait_fd(fd, EPOLLIN);
		if (r < 0)
			return r;
	}
}

int co_connect(int fd, const struct sockaddr *to, size_t len)
{
	int r = co_check(), failed = 0;
	socklen_t size = sizeof(failed);

	if (r < 0 || connect(fd, to, (socklen_t)len) == 0)
		return r;
	if (errno != EINPROGRESS && errno != EINTR)
		return -errno;
	r = co_wait_fd(fd, EPOLLOUT);
	if (r < 0)
		return r;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) < 0 ? -errno : -failed;
}

/* --- mutex and event --- */

void co_mutex_init(struct co_mutex *m)
{
	m->owner = NULL;
	list_init(&m->waiters);
}

int co_mutex_lock(struct co_mutex *m)
{
	struct co *c = must_self();
	int r = co_check();

	if (r < 0)
		return r;
	if (!m->owner) {
		m->owner = c;
		return 0;
	}
	if (m->owner == c) {
		log_error("coroutine %s (%s) locks a mutex that it holds", c->name, c->note);
		abort();
	}
	/* co_mutex_unlock() makes this coroutine the owner before it wakes it. */
	return co_suspend("mutex", -1, &m->waiters, false);
}

void co_mutex_unlock(struct co_mutex *m)
{
	if (!m->owner || m->owner != co_self()) {
		log_error("a mutex is unlocked by a coroutine that does not hold it");
		abort();
	}
	m->owner = NULL;
	if (!list_empty(&m->waiters)) {
		struct co *next = LIST_ENTRY(m->waiters.next, struct co, wait);

		m->owner = next;
		co_wake(next, 0);
	}
}

void co_event_init(struct co_event *e)
{
	e->set = false;
	list_init(&e->waiters);
}

void co_event_set(struct co_event *e)
{
	e->set = true;
	while (!list_empty(&e->waiters))
		co_wake(LIST_ENTRY(e->waiters.next, struct co, wait), 0);
}

void co_event_clear(struct co_event *e)
{
	e->set = false;
}

int co_event_wait(struct co_event *e)
{
	int r = co_check();

	if (r < 0)
		return r;
	return e->set ? 0 : co_suspend("event", -1, &e->waiters, false);
}

/* --- dump --- */

void co_dump(FILE *out)
{
	uint64_t now = time_mono();

	LIST_FOR_EACH(it, &state.all) {
		const struct co *c = LIST_ENTRY(it, struct co, link);

		fprintf(out, "co %s (%s): ", c->name, c->note);
		if (c == state.self)
			fputs("running", out);
		else if (!c->what || !c->suspended)
			fputs("ready", out);
		else if (c->id >= 0)
			fprintf(out, "waits for %s %ld", c->what, c->id);
		else
			fprintf(out, "waits for %s", c->what);
		fprintf(out, " since %.3f s", (double)(now - c->since) / USEC_PER_SEC);
		if (c->deadline != USEC_NEVER)
			fprintf(out, ", deadline in %.3f s",
				((double)c->deadline - (double)now) / USEC_PER_SEC);
		fprintf(out, "%s%s\n", c->shielded ? ", shielded" : "",
			c->cancelled ? ", cancelled" : "");
	}
}
