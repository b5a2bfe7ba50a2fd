/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/each.h"

#include "base/err.h"

/**
 * struct each - calls under way; lives on the stack of who waits for them
 * @workers:	NULL where one has ended
 * @n, @next:	calls that there are to be, and that were begun
 * @first:	the first failure, with its text in @err
 * @idle:	the last worker has ended
 */
struct each {
	struct worker {
		struct each *each;
		struct co *co;
	} workers[EACH_AT_ONCE];
	unsigned running;
	size_t n, next;
	CO int (*fn)(size_t i, void *arg, struct err *err);
	void *arg;
	bool go_on;
	int first;
	struct err *err;
	struct co_event idle;
};

static CO void call(struct each *e)
{
	struct err err = { 0 };
	int r = e->fn(e->next++, e->arg, &err);

	if (r >= 0 || e->first < 0)
		return;
	e->first = r;
	err_copy(e->err, &err);
}

static CO void work(void *arg)
{
	struct worker *w = arg;
	struct each *e = w->each;

	while (e->next < e->n && (e->first >= 0 || e->go_on))
		call(e);
	w->co = NULL;
	if (--e->running == 0)
		co_event_set(&e->idle);
}

/* They hold on to this stack, and must have ended before it goes. */
static CO void give_up(struct each *e)
{
	CO_SHIELD(USEC_NEVER);

	e->n = e->next;
	for (size_t i = 0; i < EACH_AT_ONCE; i++) {
		if (e->workers[i].co)
			co_cancel(e->workers[i].co);
	}
	co_event_wait(&e->idle);
}

CO int each_call(const char *name, size_t n, CO int (*fn)(size_t i, void *arg, struct err *err),
		 void *arg, bool go_on, struct err *err)
{
	struct each e = { .n = n, .fn = fn, .arg = arg, .go_on = go_on, .err = err };
	int r;

	/* Who calls one only need not wait for another turn of the loop. */
	if (n < 2)
		return n == 0 ? 0 : fn(0, arg, err);
	co_event_init(&e.idle);
	for (size_t i = 0; i < n && i < EACH_AT_ONCE; i++) {
		e.running++;
		e.workers[i].each = &e;
		e.workers[i].co = co_spawn(name, work, &e.workers[i], co_deadline());
	}
	r = co_event_wait(&e.idle);
	if (r < 0)
		give_up(&e);
	/* Those that were not begun are not done. */
	if (r < 0 && e.first >= 0 && e.n < n)
		e.first = err_sys(err, r, "%s", name);
	return e.first;
}
