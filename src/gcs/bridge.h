/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_BRIDGE_H
#define LCOW_GCS_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

struct agent;
struct err;
struct json_table;

/**
 * struct bridge - the agent's end of the GCS bridge: dials the host, reads requests, writes
 * responses
 *
 * Each request runs in a coroutine of its own; one writer sends what they answer. A connection
 * begins unnegotiated.
 */
struct bridge;

/**
 * struct ticket - what a response needs to find its request; small, so that a wait can be parked
 * @connection:	number of the connection that the request came over
 * @type:	of the request
 * @id:		of the request
 * @activity:	ActivityId to echo; owned, NULL when there was none
 */
struct ticket {
	uint64_t connection;
	uint32_t type;
	uint64_t id;
	char *activity;
};

/**
 * struct request - a request being handled
 * @agent:	agent
 * @ticket:	for the response; a handler that parks the request takes its activity out
 */
struct request {
	struct agent *agent;
	struct ticket ticket;
};

/**
 * struct handler - a request type
 * @type:	request type
 * @table:	of its message, which begins with struct gcs_base
 * @run:	handles it. It answers by request_reply() or keeps the ticket for later; on failure
 *		its error is answered
 */
struct handler {
	uint32_t type;
	const struct json_table *table;
	CO int (*run)(struct request *rq, void *message, struct err *err);
};

/** handlers - every request type but NegotiateProtocol, in host.c; ends with a row of type 0 */
extern const struct handler handlers[];

/** bridge_start() - begin to dial; for the life of the agent */
struct bridge *bridge_start(struct agent *a);

/**
 * bridge_reply() - send a response
 * @t:		ticket of the request
 * @table:	of @reply
 * @reply:	begins with struct gcs_reply, whose activity_id is filled here from the ticket; not
 *		freed
 *
 * Return: 0; -ENOTCONN when the request's connection is gone, -EMSGSIZE when an error was sent
 * instead of a response that is too large
 */
int bridge_reply(struct bridge *b, const struct ticket *t, const struct json_table *table,
		 void *reply);

/** request_reply() - bridge_reply() for a handler; a lost connection is no failure of its */
int request_reply(struct request *rq, const struct json_table *table, void *reply);

/** bridge_fail() - send an error response with one record; see bridge_reply() */
int bridge_fail(struct bridge *b, const struct ticket *t, const struct err *e);

/**
 * bridge_notify() - send a notification, on the next connection when there is none
 */
void bridge_notify(struct bridge *b, uint32_t type, const struct json_table *table,
		   const void *message);

/**
 * bridge_agreed() - whether the host of this connection has agreed to one of lcow's extensions
 * (GCS_EXT_…)
 */
bool bridge_agreed(const struct bridge *b, const char *extension);

/**
 * bridge_notify_agreed() - send a notification to a host that has agreed to @extension; to another
 * one, or without a connection, nothing is sent, and host_negotiated() is the time to make good
 */
void bridge_notify_agreed(struct bridge *b, const char *extension, uint32_t type,
			  const struct json_table *table, const void *message);

#endif
