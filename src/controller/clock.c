/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "loop/loop.h"

enum { SET_SEC = 10 };

/**
 * struct clock - see clock.h
 * @timer:	of CLOCK_REALTIME: readable after each period, and when the host's clock is set
 * @telling:	the coroutine that tells the guest, NULL when none does
 * @again:	once more after this time
 * @freed:	clock_free() was called while the guest was told: the coroutine frees
 */
struct clock {
	const struct clock_ops *ops;
	void *ctx;
	uint64_t period_usec;
	int timer;
	struct loop_watch *watch;
	struct co *telling;
	bool again;
	bool freed;
};

static int arm(struct clock *c)
{
	uint64_t at = time_real_ns() + c->period_usec * 1000;
	struct itimerspec when = { .it_value = { .tv_sec = (time_t)(at / NSEC_PER_SEC),
						 .tv_nsec = (long)(at % NSEC_PER_SEC) } };

	if (timerfd_settime(c->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL) < 0)
		return -errno;
	return 0;
}

static void stop(struct clock *c)
{
	c->watch = loop_watch_free(c->watch);
	c->timer = fd_close(c->timer);
}

static CO void tell(void *arg)
{
	struct clock *c = arg;
	struct err err = { 0 };
	int r;

	do {
		CO_LIMIT(SET_SEC * USEC_PER_SEC);
		c->again = false;
		r = c->ops->set(c->ctx, time_real_ns(), &err);
		if (r < 0 && !c->freed)
			log_debug("set the guest's clock: %s", err.text);
	} while (c->again && !c->freed);
	c->telling = NULL;
	if (c->freed)
		free(c);
	else if (r == -ERR_UNIMPLEMENTED)
		stop(c);
}

void clock_sync(struct clock *c)
{
	if (!c)
		return;
	c->again = true;
	if (!c->telling)
		c->telling = co_spawn("guest clock", tell, c, USEC_NEVER);
}

static void on_timer(int fd, uint32_t events, void *arg)
{
	struct clock *c = arg;
	uint64_t count;

	/* ECANCELED: the host's clock was set. */
	if (read(fd, &count, sizeof(count)) < 0 && errno == EAGAIN)
		return;
	if (arm(c) < 0)
		stop(c);
	clock_sync(c);
}

struct clock *clock_new(const struct clock_ops *ops, void *ctx, uint64_t period_usec)
{
	struct clock *c = NEW0(struct clock);
	int r;

	c->ops = ops;
	c->ctx = ctx;
	c->period_usec = period_usec;
	c->timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = c->timer < 0 ? -errno : arm(c);
	if (r >= 0)
		r = loop_watch_new(c->timer, EPOLLIN, on_timer, c, &c->watch);
	if (r < 0) {
		log_error("the guest's clock will not be kept: %s", strerror(-r));
		return clock_free(c);
	}
	clock_sync(c);
	return c;
}

struct clock *clock_free(struct clock *c)
{
	if (!c)
		return NULL;
	stop(c);
	c->freed = true;
	if (c->telling)
		co_cancel(c->telling);
	else
		free(c);
	return NULL;
}
