/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_CO_H
#define LCOW_LOOP_CO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "base/time.h"

/**
 * CO - marks a function that may suspend: it must be called from a coroutine, and from no callback
 *
 * Every suspending call returns -ETIMEDOUT when the coroutine's deadline has passed and -ECANCELED
 * when it was cancelled; the caller returns up its stack and its cleanups run.
 */
#define CO

struct co;
struct sockaddr;

/**
 * co_spawn() - start a coroutine at the beginning of the next turn (64 KiB stack with a guard page,
 * pooled)
 * @name:	static text for dumps
 * @fn:		body; the coroutine ends when it returns
 * @arg:	for @fn; fn owns it
 * @deadline:	monotonic microseconds (time_mono()), USEC_NEVER for none
 *
 * Return: the coroutine, valid until @fn returns; for co_cancel()
 */
struct co *co_spawn(const char *name, void (*fn)(void *arg), void *arg, uint64_t deadline);
/** co_self() - the running coroutine, NULL on the loop's own stack */
struct co *co_self(void);
/**
 * co_cancel() - let the pending (or next) suspend of @co return -ECANCELED, once it is not
 * shielded; twice is harmless
 */
void co_cancel(struct co *co);
/** co_note() - name what the coroutine is about (copied, cut at 63 bytes), for dumps */
void co_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** co_deadline() - deadline of the running coroutine */
uint64_t co_deadline(void);
/** co_count() - how many coroutines live */
unsigned co_count(void);

/**
 * struct co_scope - a changed deadline or a shield, put back at the end of the scope that declared
 * it
 */
struct co_scope {
	uint64_t deadline;
	bool shielded;
};
/** co_limit() - for this scope, let the deadline be no later than @usec from now */
struct co_scope co_limit(uint64_t usec);
/**
 * co_shield() - for this scope, ignore cancellation and the deadline, but end after @usec from now:
 * for rollback and teardown
 */
struct co_scope co_shield(uint64_t usec);
/** co_scope_end() - put back what co_limit() or co_shield() changed */
void co_scope_end(struct co_scope *s);
#define CO_LIMIT(usec) \
	__attribute__((cleanup(co_scope_end), unused)) struct co_scope co_limit_scope_ = \
		co_limit(usec)
#define CO_SHIELD(usec) \
	__attribute__((cleanup(co_scope_end), unused)) struct co_scope co_shield_scope_ = \
		co_shield(usec)

/** co_sleep() - Return: 0, -ETIMEDOUT or -ECANCELED */
CO int co_sleep(uint64_t usec);
/**
 * co_wait_fd() - wait until @fd has one of @events (EPOLLIN/EPOLLOUT); Return: 0, -ETIMEDOUT,
 * -ECANCELED or negative errno
 */
CO int co_wait_fd(int fd, uint32_t events);
/**
 * co_read() - read(2) on a non-blocking fd, waiting as needed; Return: bytes, 0 at the end, or
 * negative errno
 */
CO ssize_t co_read(int fd, void *data, size_t len);
/**
 * co_read_full() - exactly @len bytes; -ENODATA at a clean end before the first byte, -EPIPE in the
 * middle
 */
CO int co_read_full(int fd, void *data, size_t len);
/** co_write_full() - all bytes to a non-blocking fd; no SIGPIPE; Return: 0 or negative errno */
CO int co_write_full(int fd, const void *data, size_t len);
/**
 * co_accept() - accept4() on a non-blocking listener; the new fd is non-blocking; Return: fd or
 * negative errno
 */
CO int co_accept(int fd);
/**
 * co_connect() - connect(2) on a non-blocking socket, waiting as needed; not for unix sockets,
 * whose queue cannot be waited for
 * Return: 0 or negative errno
 */
CO int co_connect(int fd, const struct sockaddr *to, size_t len);

/**
 * struct co_mutex - FIFO lock that is held across suspends; {0}-initialised is not enough:
 * co_mutex_init()
 */
struct co_mutex {
	struct co *owner;
	struct list waiters;
};
void co_mutex_init(struct co_mutex *m);
/** co_mutex_lock() - Return: 0, -ETIMEDOUT or -ECANCELED (then not held) */
CO int co_mutex_lock(struct co_mutex *m);
void co_mutex_unlock(struct co_mutex *m);
static inline void co_mutex_unlockp(struct co_mutex **m)
{
	if (*m)
		co_mutex_unlock(*m);
}
/**
 * CO_LOCK() - hold @m until the scope ends, or return what co_mutex_lock() failed with (from a
 * function that returns int)
 */
#define CO_LOCK(m) \
	__attribute__((cleanup(co_mutex_unlockp))) struct co_mutex *co_locked_ = NULL; \
	do { \
		int co_lock_r_ = co_mutex_lock(m); \
		if (co_lock_r_ < 0) \
			return co_lock_r_; \
		co_locked_ = (m); \
	} while (0)

/**
 * struct co_event - a flag that coroutines wait for; stays set until cleared
 */
struct co_event {
	bool set;
	struct list waiters;
};
void co_event_init(struct co_event *e);
/** co_event_set() - wake every waiter; from anywhere, twice is harmless */
void co_event_set(struct co_event *e);
void co_event_clear(struct co_event *e);
/** co_event_wait() - Return: 0 once set, -ETIMEDOUT or -ECANCELED */
CO int co_event_wait(struct co_event *e);

#endif
