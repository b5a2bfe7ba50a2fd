/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_BRIDGE_H
#define LCOW_GUEST_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "loop/co.h"

struct err;
struct json_object;
struct json_table;

/*
 * The host's end of the bridge: requests with ids counted from 0, answered in any order. Reading
 * and writing are done by callbacks of the loop, a few frames a turn, so that a guest that sends
 * without end holds up nobody else.
 */

struct bridge;

enum { BRIDGE_TIMEOUT_SEC = 300 };

/**
 * bridge_new() - speak over a connected stream
 * @fd:		non-blocking stream socket; the bridge's from here on
 * @ended:	called once when the bridge has broken, after every pending call was ended; not by
 *		bridge_close(). From the loop or from a coroutine; it must not free the bridge; may
 *		be NULL
 *
 * Return: 0 or negative errno (then @fd is closed)
 */
int bridge_new(int fd, void (*ended)(void *arg), void *arg, struct bridge **ret);
/**
 * bridge_set_timeout() - how long an answer may take before the bridge counts as broken;
 * microseconds
 */
void bridge_set_timeout(struct bridge *b, uint64_t usec);
/** bridge_on_oom() - whom to tell of GCS_CONTAINER_OOM; see guest_on_oom() */
void bridge_on_oom(struct bridge *b, void (*fn)(const char *container, uint64_t kills, void *arg),
		   void *arg);
/** bridge_alive() - whether requests can be made */
bool bridge_alive(const struct bridge *b);
/** bridge_close() - end it; every pending call ends; idempotent */
void bridge_close(struct bridge *b);
/** bridge_break() - end it for a violation by the guest, which is logged; later calls do nothing */
void bridge_break(struct bridge *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/**
 * bridge_free() - close and forget; NULL is fine; no coroutine may be in bridge_call(); Return:
 * NULL
 */
struct bridge *bridge_free(struct bridge *b);

/**
 * bridge_call() - make a request and wait for its answer
 * @type:	GCS_CREATE …
 * @table, @request: body
 * @reply_table, @reply: where a success is decoded to; a struct that begins with struct gcs_reply,
 *		zeroed; the caller's to free with json_free(). Untouched on failure
 * @err:	"guest: <what it said>" and its HRESULT
 *
 * When the caller's deadline ends first, only this call ends; its late answer is dropped. An answer
 * that takes longer than the bridge's timeout ends the bridge.
 *
 * Return: 0; what err_from_hresult() makes of the guest's answer; -ERR_UNAVAILABLE when the bridge
 * is down or breaks; -ERR_EXHAUSTED when the request is too large; -ETIMEDOUT, -ECANCELED
 */
CO int bridge_call(struct bridge *b, uint32_t type, const struct json_table *table,
		   const void *request, const struct json_table *reply_table, void *reply,
		   struct err *err);

/**
 * struct bridge_pending - a request without a coroutine; lives in what its caller owns
 * @done:	called once, from the loop or from a coroutine, with the answer (borrowed; see
 *		bridge_decode()), or with NULL when the bridge has ended. The pending is forgotten
 *		before, and may be freed in it
 */
struct bridge_pending {
	struct list link;
	uint64_t id;
	uint32_t type;
	void (*done)(struct bridge_pending *p, struct json_object *answer);
};

/**
 * bridge_begin() - make a request without waiting
 * Return: 0, or -ERR_UNAVAILABLE or -ERR_EXHAUSTED (then @p was not begun)
 */
int bridge_begin(struct bridge *b, struct bridge_pending *p, uint32_t type,
		 const struct json_table *table, const void *request, struct err *err);
/**
 * bridge_wait() - wait for the answer of a pending request, with the limits of bridge_call()
 * @answered:	set by the request's done()
 *
 * Return: 0 once it is set, -ETIMEDOUT or -ECANCELED
 */
CO int bridge_wait(struct bridge *b, const struct bridge_pending *p, struct co_event *answered);
/**
 * bridge_forget() - drop a request that was begun: done is not called; harmless when it has been
 * answered
 */
void bridge_forget(struct bridge_pending *p);
/**
 * bridge_decode() - result and body of an answer
 *
 * An answer that is not of the table's shape breaks the bridge.
 *
 * Return: as bridge_call()
 */
int bridge_decode(struct bridge *b, uint32_t type, struct json_object *answer,
		  const struct json_table *reply_table, void *reply, struct err *err);

#endif
