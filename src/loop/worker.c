/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "loop/internal.h"
#include "loop/loop.h"

enum { THREADS = 2, THREAD_STACK = 1024 * 1024 };

/**
 * struct job - lives on the stack of the coroutine that waits for it
 */
struct job {
	struct list link;
	struct co *co;
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static struct {
	pthread_mutex_t lock; /* of todo, done and quit */
	pthread_cond_t more;
	struct list todo;
	struct list done;
	bool quit;
	unsigned n_threads;
	pthread_t threads[THREADS];
	int wake;
	struct loop_watch *watch;
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER,
	.todo = { &pool.todo, &pool.todo },
	.done = { &pool.done, &pool.done },
	.wake = -EBADF,
};

static struct job *take(struct list *l)
{
	struct job *j;

	if (list_empty(l))
		return NULL;
	j = LIST_ENTRY(l->next, struct job, link);
	list_remove(&j->link);
	return j;
}

static void *thread(void *unused)
{
	static const uint64_t one = 1;

	pthread_mutex_lock(&pool.lock);
	for (;;) {
		struct job *j = take(&pool.todo);

		if (!j) {
			if (pool.quit)
				break;
			pthread_cond_wait(&pool.more, &pool.lock);
			continue;
		}
		pthread_mutex_unlock(&pool.lock);
		j->result = j->fn(j->arg);
		pthread_mutex_lock(&pool.lock);
		list_append(&pool.done, &j->link);
		/* A counter that is full has woken the loop already. */
		(void)!write(pool.wake, &one, sizeof(one));
	}
	pthread_mutex_unlock(&pool.lock);
	return unused;
}

static void on_done(int fd, uint32_t events, void *arg)
{
	uint64_t count;
	struct job *j;

	(void)!read(fd, &count, sizeof(count));
	for (;;) {
		pthread_mutex_lock(&pool.lock);
		j = take(&pool.done);
		pthread_mutex_unlock(&pool.lock);
		if (!j)
			return;
		co_wake(j->co, 0);
	}
}

static int threads_start(void)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int r = 0;

	if (pool.wake < 0) {
		pool.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (pool.wake < 0)
			return -errno;
	}
	if (!pool.watch) {
		r = loop_watch_new(pool.wake, EPOLLIN, on_done, NULL, &pool.watch);
		if (r < 0)
			return r;
	}
	/* Signals are for the loop's signalfd: no thread takes any. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	while (pool.n_threads < THREADS && r == 0) {
		r = -pthread_create(&pool.threads[pool.n_threads], &attr, thread, NULL);
		if (r == 0)
			pool.n_threads++;
	}
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pool.n_threads > 0 ? 0 : r;
}

int worker_call(int (*fn)(void *arg), void *arg)
{
	struct job j = { .co = co_self(), .fn = fn, .arg = arg };
	int r = pool.n_threads == THREADS ? 0 : threads_start();

	if (r < 0) {
		log_error("worker threads: %s", strerrordesc_np(-r));
		return r;
	}
	list_init(&j.link);
	pthread_mutex_lock(&pool.lock);
	list_append(&pool.todo, &j.link);
	pthread_cond_signal(&pool.more);
	pthread_mutex_unlock(&pool.lock);
	co_suspend("worker", -1, NULL, true);
	return j.result;
}

void worker_fini(void)
{
	pthread_mutex_lock(&pool.lock);
	pool.quit = true;
	pthread_cond_broadcast(&pool.more);
	pthread_mutex_unlock(&pool.lock);
	while (pool.n_threads > 0)
		pthread_join(pool.threads[--pool.n_threads], NULL);
	pool.quit = false;
	pool.watch = loop_watch_free(pool.watch);
	pool.wake = fd_close(pool.wake);
}
