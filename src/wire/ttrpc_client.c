/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "ttrpc.pb-c.h"
#include "wire/pb.h"
#include "wire/ttrpc.h"
#include "wire/ttrpc_frame.h"

struct ttrpc_client {
	struct ttrpc_conn *wire;
	struct list pending;
	uint32_t last_stream;
};

/* A call that waits; on the stack of its coroutine. Whoever completes it unlinks it first. */
struct pending {
	struct list link;
	uint32_t stream;
	struct co_event done;
	int result;
	struct err err;
	Ttrpc__Response *response;
};

static void complete(struct pending *p, int result)
{
	list_remove(&p->link);
	p->result = result;
	co_event_set(&p->done);
}

static void complete_all(struct ttrpc_client *c)
{
	while (!list_empty(&c->pending)) {
		struct pending *p = LIST_ENTRY(c->pending.next, struct pending, link);
		complete(p, err_set(&p->err, -ECONNRESET, "the connection was closed"));
	}
}

static void on_frame(void *arg, const struct ttrpc_frame *frame)
{
	struct ttrpc_client *c = arg;

	if (frame->type != TTRPC_RESPONSE)
		return;
	LIST_FOR_EACH(it, &c->pending) {
		struct pending *p = LIST_ENTRY(it, struct pending, link);
		if (p->stream != frame->stream)
			continue;
		if (frame->oversize)
			complete(p,
				 err_set(&p->err, -ERR_EXHAUSTED,
					 "the answer is longer than %d bytes", TTRPC_MESSAGE_MAX));
		else
			complete(p, pb_unpack(&ttrpc__response__descriptor, frame->payload,
					      frame->len, &p->response, &p->err));
		return;
	}
	/* The answer to a call that nobody waits for any more. */
}

static void on_closed(void *arg)
{
	struct ttrpc_client *c = arg;

	c->wire = ttrpc_conn_free(c->wire);
	complete_all(c);
}

static const struct ttrpc_conn_ops client_conn_ops = {
	.frame = on_frame,
	.closed = on_closed,
};

int ttrpc_client_new(int fd, struct ttrpc_client **ret)
{
	struct ttrpc_client *c = NEW0(struct ttrpc_client);

	list_init(&c->pending);
	int r = ttrpc_conn_new(fd, &client_conn_ops, c, &c->wire);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct ttrpc_client *ttrpc_client_free(struct ttrpc_client *c)
{
	if (!c)
		return NULL;
	complete_all(c);
	ttrpc_conn_free(c->wire);
	free(c);
	return NULL;
}

bool ttrpc_client_dead(const struct ttrpc_client *c)
{
	return !c->wire;
}

/* Return: 0, -ETIMEDOUT when there is no time left */
static int timeout_left(int64_t *ret)
{
	uint64_t deadline = co_deadline();
	uint64_t now = time_mono();

	if (deadline == USEC_NEVER) {
		*ret = 0;
		return 0;
	}
	if (deadline <= now)
		return -ETIMEDOUT;
	uint64_t usec = deadline - now;
	*ret = usec > INT64_MAX / 1000 ? INT64_MAX : (int64_t)usec * 1000;
	return 0;
}

static int send_request(struct ttrpc_client *c, uint32_t stream, const char *service,
			const char *method, const char *namespace, const ProtobufCMessage *request,
			int64_t timeout_nano)
{
	/* The generated structs want char *, and only read it. */
	_cleanup_free_ char *key = mem_strdup(TTRPC_NAMESPACE_KEY),
			    *value = mem_strdup(namespace ? namespace : "");
	_cleanup_free_ char *own_service = mem_strdup(service), *own_method = mem_strdup(method);
	Ttrpc__KeyValue pair = TTRPC__KEY_VALUE__INIT;
	Ttrpc__KeyValue *metadata[] = { &pair };
	Ttrpc__Request req = TTRPC__REQUEST__INIT;
	_cleanup_free_ uint8_t *payload = pb_pack(request, &req.payload.len);

	pair.key = key;
	pair.value = value;
	req.service = own_service;
	req.method = own_method;
	req.payload.data = payload;
	req.timeout_nano = timeout_nano;
	req.metadata = metadata;
	req.n_metadata = namespace ? 1 : 0;
	return ttrpc_conn_send(c->wire, TTRPC_REQUEST, stream, &req.base);
}

/* What the peer's answer comes to */
static int take_response(const Ttrpc__Response *response,
			 const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **ret_reply,
			 struct err *err)
{
	if (response->status && response->status->code != 0) {
		str_clean(response->status->message, strlen(response->status->message));
		return err_set(err, err_from_grpc(response->status->code), "%s",
			       response->status->message);
	}
	if (!reply_type || !ret_reply)
		return 0;
	return pb_unpack(reply_type, response->payload.data, response->payload.len, ret_reply, err);
}

CO int ttrpc_client_call(struct ttrpc_client *c, const char *service, const char *method,
			 const char *namespace, const ProtobufCMessage *request,
			 const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **ret_reply,
			 struct err *err)
{
	struct pending p = { .result = 0 };
	int64_t timeout_nano;

	int r = timeout_left(&timeout_nano);
	if (r < 0)
		return err_sys(err, r, "%s", method);
	/* Ids are never used twice: who has used them all up connects again. */
	if (c->wire && c->last_stream >= UINT32_MAX - 2)
		ttrpc_conn_hangup(c->wire);
	if (!c->wire)
		return err_set(err, -ECONNRESET, "%s: the connection was closed", method);

	p.stream = c->last_stream == 0 ? 1 : c->last_stream + 2;
	r = send_request(c, p.stream, service, method, namespace, request, timeout_nano);
	if (r == -EMSGSIZE)
		return err_set(err, -ERR_EXHAUSTED, "%s: the request is longer than %d bytes",
			       method, TTRPC_MESSAGE_MAX);
	if (r < 0)
		return err_sys(err, r, "%s: cannot send the request", method);
	c->last_stream = p.stream;
	co_event_init(&p.done);
	list_append(&c->pending, &p.link);
	r = co_event_wait(&p.done);
	/* Answered while a deadline or a cancellation was on its way: then it is answered. */
	if (r < 0 && !p.done.set) {
		list_remove(&p.link);
		return err_sys(err, r, "%s", method);
	}

	_cleanup_pb_ Ttrpc__Response *response = p.response;
	r = p.result;
	if (r < 0)
		err_copy(err, &p.err);
	else
		r = take_response(response, reply_type, ret_reply, err);
	return r < 0 ? err_wrap(err, r, "%s", method) : 0;
}
