/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_TTRPC_H
#define LCOW_WIRE_TTRPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

struct err;

/*
 * ttrpc (https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md), unary calls, server and
 * client. Messages are protobuf-c structs.
 */

enum { TTRPC_MESSAGE_MAX = 4 << 20 };

/**
 * struct ttrpc_call - one request being served
 *
 * A handler is a coroutine (deadline and name set from the request) and answers exactly once:
 * either by returning from the handler with @reply filled, or, when it parks the call with
 * ttrpc_park(), later by ttrpc_reply(). A client that leaves does not cancel what it asked for:
 * handlers run to their end, parked calls stay, and their answers go nowhere.
 */
struct ttrpc_call;

/**
 * ttrpc_handler - serve a call
 * @call:	the call, for ttrpc_park() and the namespace
 * @request:	decoded request, valid until the call is answered
 * @reply:	initialised reply of the method's type; strings and sub-messages put into it must be
 *		allocated with malloc() (they are freed with protobuf_c_message_free_unpacked)
 * @ctx:	what was registered with the service
 * @err:	text of a failure
 *
 * Return: 0, or a negative errno or kind that becomes the status; TTRPC_PARKED after ttrpc_park()
 */
typedef CO int (*ttrpc_handler)(struct ttrpc_call *call, const ProtobufCMessage *request,
				ProtobufCMessage *reply, void *ctx, struct err *err);

enum { TTRPC_PARKED = 1 };

/**
 * struct ttrpc_method - a row of a service
 * @for_caller:	a call is cancelled when its caller hangs up; others go on
 */
struct ttrpc_method {
	const char *name;
	const ProtobufCMessageDescriptor *request;
	const ProtobufCMessageDescriptor *reply;
	ttrpc_handler handler;
	bool for_caller;
};

/**
 * struct ttrpc_service - "containerd.task.v3.Task" and its methods; static
 */
struct ttrpc_service {
	const char *name;
	const struct ttrpc_method *methods;
	size_t n_methods;
};

struct ttrpc_server;

/**
 * ttrpc_server_new() - serve a listening unix socket
 * @fd:		listening, non-blocking; taken over in every case
 * @services:	NULL-terminated array of services; static
 * @ctx:	for the handlers
 * @refuse_other_uids: close connections of peers with another uid (SO_PEERCRED)
 *
 * Unknown services and methods answer Unimplemented; a message over the cap, or a request beyond
 * 1024 running handlers (parked calls do not count), ResourceExhausted: the connection lives on. A
 * peer that leaves 64 MiB unread is cut off.
 *
 * Return: 0 or negative errno
 */
int ttrpc_server_new(int fd, const struct ttrpc_service *const *services, void *ctx,
		     bool refuse_other_uids, struct ttrpc_server **ret);
/** ttrpc_server_stop_listening() - take no new connections */
void ttrpc_server_stop_listening(struct ttrpc_server *s);
/** ttrpc_server_connections() - how many are open */
unsigned ttrpc_server_connections(const struct ttrpc_server *s);
/**
 * ttrpc_server_flush() - wait until every answer given so far was written to its socket or its
 * connection ended
 */
CO int ttrpc_server_flush(struct ttrpc_server *s);
/**
 * ttrpc_server_free() - cancel running handlers, close connections; parked calls become dead; NULL
 * is fine
 *
 * A parked call is still to be given to ttrpc_reply(), which frees it. Cancelled handlers end in
 * later turns of the loop and use their ctx until then. Nobody may be in ttrpc_server_flush().
 *
 * Return: NULL
 */
struct ttrpc_server *ttrpc_server_free(struct ttrpc_server *s);

/**
 * ttrpc_park() - keep @call (and its reply message) beyond the handler; the handler then returns
 * TTRPC_PARKED
 */
void ttrpc_park(struct ttrpc_call *call);
/** ttrpc_parked_reply() - the reply message of a parked call, to fill before ttrpc_reply() */
ProtobufCMessage *ttrpc_parked_reply(struct ttrpc_call *call);
/**
 * ttrpc_reply() - answer a parked call and free it; @code < 0 answers with the status of @err; the
 * peer may be long gone
 */
void ttrpc_reply(struct ttrpc_call *call, int code, const struct err *err);
/** ttrpc_call_namespace() - value of containerd-namespace-ttrpc, or "" */
const char *ttrpc_call_namespace(const struct ttrpc_call *call);

/**
 * struct ttrpc_client - a connection to a server
 */
struct ttrpc_client;
/**
 * ttrpc_client_new() - on a connected socket (taken over in every case); Return: 0 or negative
 * errno
 */
int ttrpc_client_new(int fd, struct ttrpc_client **ret);
struct ttrpc_client *ttrpc_client_free(struct ttrpc_client *c);
/** ttrpc_client_dead() - whether the peer has gone */
bool ttrpc_client_dead(const struct ttrpc_client *c);
/**
 * ttrpc_client_call() - call a unary method; several may be pending
 * @namespace:	containerd-namespace-ttrpc metadata; NULL for none
 * @reply_type:	NULL when the answer does not matter
 * @ret_reply:	unpacked message, freed with protobuf_c_message_free_unpacked(); may be NULL
 *
 * The coroutine's deadline is sent as timeout_nano.
 *
 * Return: 0, a kind from the peer's status with its text, -ECONNRESET when the peer is gone,
 * -ETIMEDOUT, -ECANCELED
 */
CO int ttrpc_client_call(struct ttrpc_client *c, const char *service, const char *method,
			 const char *namespace, const ProtobufCMessage *request,
			 const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **ret_reply,
			 struct err *err);

#endif
