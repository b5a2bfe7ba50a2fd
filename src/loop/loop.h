/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_LOOP_H
#define LCOW_LOOP_LOOP_H

#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"

/*
 * One epoll loop for the one thread of the process. Callbacks run on the loop's own stack and never
 * suspend; work of several steps runs in coroutines (co.h).
 *
 * What holds the loop up for more than 50 ms is logged when it is over: a coroutine by its name and
 * note, a callback by its address (addr2line finds the name; a backtrace would need a signal
 * handler, which this house does without).
 */

/**
 * loop_init() - make the loop; once per process (a unit test pairs it with loop_fini())
 *
 * SIGPIPE is ignored from here on: a broken target is an EPIPE (children start with default
 * dispositions again). The signal mask must be changed by loop_signal() only, since coroutines are
 * switched to with the mask that it keeps.
 *
 * Return: 0 or negative errno
 */
int loop_init(void);
/** loop_run() - turn until loop_stop(); Return: the code given to loop_stop() */
int loop_run(void);
/** loop_stop() - let loop_run() return @code after this turn */
void loop_stop(int code);
/**
 * loop_fini() - free the loop, worker threads too; every watch, timer and coroutine must be gone
 * (logged and asserted)
 */
void loop_fini(void);

/**
 * struct loop_watch - an fd and what is done when it is ready. The fd stays the caller's and must
 * outlive the watch
 */
struct loop_watch;
typedef void (*loop_watch_fn)(int fd, uint32_t events, void *arg);

/**
 * loop_watch_new() - call @fn whenever @fd has one of @events (EPOLLIN, EPOLLOUT; EPOLLERR and
 * EPOLLHUP always)
 *
 * A regular file, which epoll refuses, counts as always ready. Events may be 0: nothing but errors
 * then; but a peer that has hung up is told again and again, so free a watch that shall rest. An fd
 * may have several watches.
 *
 * Return: 0 or negative errno
 */
int loop_watch_new(int fd, uint32_t events, loop_watch_fn fn, void *arg, struct loop_watch **ret);
/** loop_watch_events() - change the events waited for */
void loop_watch_events(struct loop_watch *w, uint32_t events);
/**
 * loop_watch_free() - stop watching; NULL is fine; may be called from within the callback; Return:
 * NULL
 */
struct loop_watch *loop_watch_free(struct loop_watch *w);

/**
 * struct loop_timer - something done once, later
 */
struct loop_timer;
/**
 * loop_timer_new() - call @fn(@arg) once, @usec from now (one-shot; the timer stays allocated until
 * freed)
 */
struct loop_timer *loop_timer_new(uint64_t usec, void (*fn)(void *arg), void *arg);
/** loop_timer_set() - arm again, @usec from now; USEC_NEVER disarms */
void loop_timer_set(struct loop_timer *t, uint64_t usec);
/** loop_timer_free() - NULL is fine; may be called from within the callback; Return: NULL */
struct loop_timer *loop_timer_free(struct loop_timer *t);

/** loop_defer() - call @fn(@arg) at the beginning of the next turn */
void loop_defer(void (*fn)(void *arg), void *arg);

/**
 * loop_signal() - block @signo and call @fn for it through a signalfd; one per signal; NULL fn
 * removes it
 * Return: 0 or negative errno
 */
int loop_signal(int signo, void (*fn)(int signo, void *arg), void *arg);

/**
 * loop_dump() - write what lives on the loop: every coroutine, what it waits for and since when;
 * watches and timers by number
 */
void loop_dump(FILE *out);

#endif
