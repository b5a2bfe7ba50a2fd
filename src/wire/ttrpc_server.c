/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/loop.h"
#include "ttrpc.pb-c.h"
#include "wire/pb.h"
#include "wire/ttrpc.h"
#include "wire/ttrpc_frame.h"

enum {
	/* Handlers that may run at once: each has a stack. Parked calls do not count. */
	RUNNING_MAX = 1024,
	ACCEPT_TURN_MAX = 64,
};
#define ACCEPT_PAUSE_USEC (100 * USEC_PER_MSEC)

struct ttrpc_server {
	int fd;
	struct loop_watch *watch;
	struct loop_timer *resume;
	const struct ttrpc_service *const *services;
	void *ctx;
	bool refuse_other_uids;
	struct list conns;
	struct list calls;
	unsigned n_conns;
	unsigned n_running;
	struct co_event progress;
};

struct server_conn {
	struct list link;
	struct ttrpc_server *server;
	struct ttrpc_conn *wire;
	struct list calls;
	uint32_t last_stream;
	uint64_t flush_to;
};

struct ttrpc_call {
	struct list of_server;
	struct list of_conn;
	/*
	 * NULL once it has gone; unless its method is for the caller only, the call goes on: what
	 * a client asked for is not torn by its leaving.
	 */
	struct server_conn *conn;
	struct ttrpc_server *server;
	const struct ttrpc_method *method;
	void *ctx;
	uint32_t stream;
	struct co *co;
	bool parked;
	bool answered;
	char *namespace;
	ProtobufCMessage *request;
	ProtobufCMessage *reply;
};

static void call_free(struct ttrpc_call *call)
{
	list_remove(&call->of_server);
	list_remove(&call->of_conn);
	pb_free(call->request);
	pb_free(call->reply);
	free(call->namespace);
	free(call);
}

static int send_status(struct ttrpc_conn *wire, uint32_t stream, int grpc, const char *text)
{
	Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	/* Clients written in Go refuse a whole message for one byte that is not UTF-8. */
	_cleanup_free_ char *clean = mem_strdup(text);

	str_clean(clean, strlen(clean));
	status.code = grpc;
	status.message = clean;
	response.status = &status;
	return ttrpc_conn_send(wire, TTRPC_RESPONSE, stream, &response.base);
}

static int send_reply(struct ttrpc_conn *wire, uint32_t stream, const ProtobufCMessage *reply)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	_cleanup_free_ uint8_t *payload = pb_pack(reply, &response.payload.len);

	response.payload.data = payload;
	return ttrpc_conn_send(wire, TTRPC_RESPONSE, stream, &response.base);
}

static void answer(struct ttrpc_call *call, int code, const struct err *err)
{
	if (call->answered)
		return;
	call->answered = true;
	if (!call->conn)
		return;

	struct ttrpc_conn *wire = call->conn->wire;
	int r = 0;
	if (code < 0) {
		const char *text = err && err->text[0]     ? err->text
				   : -code < ERR_NOT_FOUND ? strerror(-code)
							   : "the request failed";
		r = send_status(wire, call->stream, err_grpc(code), text);
	} else {
		r = send_reply(wire, call->stream, call->reply);
	}
	if (r == -EMSGSIZE || r == -ENOMEM)
		send_status(wire, call->stream, err_grpc(-ERR_EXHAUSTED),
			    "the answer is too large for a message");
}

/* Tell dumps of coroutines what the call is about: most requests name an object by these fields. */
static void note_ids(const ProtobufCMessage *request)
{
	static const char *const names[] = { "id", "container_id", "sandbox_id", "exec_id" };
	char note[64] = "";
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && len < sizeof(note); i++) {
		const ProtobufCFieldDescriptor *f =
			protobuf_c_message_descriptor_get_field_by_name(request->descriptor,
									names[i]);
		if (!f || f->type != PROTOBUF_C_TYPE_STRING ||
		    f->label == PROTOBUF_C_LABEL_REPEATED)
			continue;
		const char *id = *(char *const *)(const void *)((const char *)request + f->offset);
		if (!str_empty(id))
			len += (size_t)snprintf(note + len, sizeof(note) - len, "%s%s",
						len ? "/" : "", id);
	}
	if (note[0]) {
		str_clean(note, strlen(note));
		co_note("%s", note);
	}
}

static void call_run(void *arg)
{
	struct ttrpc_call *call = arg;
	struct err err;

	err.code = 0;
	err.hresult = 0;
	err.text[0] = '\0';
	note_ids(call->request);
	int r = call->method->handler(call, call->request, call->reply, call->ctx, &err);
	call->co = NULL;
	if (call->server)
		call->server->n_running--;
	if (r == TTRPC_PARKED && call->parked && !call->answered)
		return;
	answer(call, r, &err);
	call_free(call);
}

static const struct ttrpc_service *find_service(const struct ttrpc_server *s, const char *name)
{
	for (const struct ttrpc_service *const *it = s->services; *it; it++)
		if (str_eq((*it)->name, name))
			return *it;
	return NULL;
}

static const struct ttrpc_method *find_method(const struct ttrpc_service *service, const char *name)
{
	for (size_t i = 0; i < service->n_methods; i++)
		if (str_eq(service->methods[i].name, name))
			return &service->methods[i];
	return NULL;
}

static const char *request_namespace(const Ttrpc__Request *req)
{
	for (size_t i = 0; i < req->n_metadata; i++)
		if (str_eq(req->metadata[i]->key, TTRPC_NAMESPACE_KEY))
			return req->metadata[i]->value;
	return "";
}

static uint64_t request_deadline(const Ttrpc__Request *req)
{
	if (req->timeout_nano == 0)
		return USEC_NEVER;
	return time_mono() + (req->timeout_nano > 0 ? (uint64_t)req->timeout_nano / 1000 : 0);
}

/* Return: 0 when a handler was started, or the failure to answer with */
static int start_call(struct server_conn *conn, const struct ttrpc_frame *frame, struct err *err)
{
	struct ttrpc_server *s = conn->server;
	_cleanup_pb_ Ttrpc__Request *req = NULL;
	_cleanup_pb_ ProtobufCMessage *request = NULL;

	int r = pb_unpack(&ttrpc__request__descriptor, frame->payload, frame->len, &req, err);
	if (r < 0)
		return r;

	const struct ttrpc_service *service = find_service(s, req->service);
	if (!service)
		return err_set(err, -ERR_UNIMPLEMENTED, "service %s", req->service);
	const struct ttrpc_method *method = find_method(service, req->method);
	if (!method)
		return err_set(err, -ERR_UNIMPLEMENTED, "method %s", req->method);
	if (frame->flags & TTRPC_FLAG_REMOTE_OPEN)
		return err_set(err, -ERR_UNIMPLEMENTED, "method %s does not stream", req->method);
	if (s->n_running >= RUNNING_MAX)
		return err_set(err, -ERR_EXHAUSTED, "%u requests are being served already",
			       s->n_running);
	r = pb_unpack(method->request, req->payload.data, req->payload.len, &request, err);
	if (r < 0)
		return r;

	struct ttrpc_call *call = NEW0(struct ttrpc_call);
	*call = (struct ttrpc_call){
		.conn = conn,
		.server = s,
		.method = method,
		.ctx = s->ctx,
		.stream = frame->stream,
		.namespace = mem_strdup(request_namespace(req)),
		.request = TAKE_PTR(request),
		.reply = pb_new(method->reply),
	};
	list_append(&s->calls, &call->of_server);
	list_append(&conn->calls, &call->of_conn);
	s->n_running++;
	call->co = co_spawn(method->name, call_run, call, request_deadline(req));
	return 0;
}

/*
 * What is wrong with a frame is answered as Go's server does: on its stream, and the connection
 * lives on.
 */
static int take_frame(struct server_conn *conn, const struct ttrpc_frame *frame, struct err *err)
{
	if (frame->oversize)
		return err_set(err, -ERR_EXHAUSTED, "message exceeds the maximum of %d bytes",
			       TTRPC_MESSAGE_MAX);
	if (frame->stream % 2 != 1)
		return err_set(err, -ERR_INVALID,
			       "StreamID must be odd for client initiated streams");
	if (frame->type == TTRPC_DATA)
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "no stream is open: streaming is not supported");
	if (frame->type != TTRPC_REQUEST)
		return 0;
	if (frame->stream <= conn->last_stream)
		return err_set(err, -ERR_INVALID, "StreamID cannot be re-used and must increment");
	conn->last_stream = frame->stream;
	return start_call(conn, frame, err);
}

static void on_frame(void *arg, const struct ttrpc_frame *frame)
{
	struct server_conn *conn = arg;
	struct err err;

	err.text[0] = '\0';
	int r = take_frame(conn, frame, &err);
	if (r < 0)
		send_status(conn->wire, frame->stream, err_grpc(r), err.text);
}

static void on_written(void *arg)
{
	struct server_conn *conn = arg;

	co_event_set(&conn->server->progress);
}

static void conn_free(struct server_conn *conn)
{
	LIST_FOR_EACH_SAFE(it, &conn->calls) {
		struct ttrpc_call *call = LIST_ENTRY(it, struct ttrpc_call, of_conn);
		list_remove(&call->of_conn);
		call->conn = NULL;
		if (call->co && call->method->for_caller)
			co_cancel(call->co);
	}
	list_remove(&conn->link);
	conn->server->n_conns--;
	ttrpc_conn_free(conn->wire);
	free(conn);
}

static void on_closed(void *arg)
{
	struct server_conn *conn = arg;

	co_event_set(&conn->server->progress);
	conn_free(conn);
}

static const struct ttrpc_conn_ops server_conn_ops = {
	.frame = on_frame,
	.written = on_written,
	.closed = on_closed,
};

static bool peer_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	if (peer.uid == geteuid())
		return true;
	log_warn("ttrpc: refused a connection of uid %u", peer.uid);
	return false;
}

static void conn_new(struct ttrpc_server *s, int fd)
{
	struct server_conn *conn = NEW0(struct server_conn);

	conn->server = s;
	list_init(&conn->calls);
	int r = ttrpc_conn_new(fd, &server_conn_ops, conn, &conn->wire);
	if (r < 0) {
		log_warn("ttrpc: cannot watch a connection: %s", strerror(-r));
		free(conn);
		return;
	}
	list_append(&s->conns, &conn->link);
	s->n_conns++;
}

static void on_resume(void *arg)
{
	struct ttrpc_server *s = arg;

	if (s->watch)
		loop_watch_events(s->watch, EPOLLIN);
}

static void on_listener(int fd, uint32_t events, void *arg)
{
	struct ttrpc_server *s = arg;

	for (int i = 0; i < ACCEPT_TURN_MAX; i++) {
		int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (peer < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
			return;
		if (peer < 0) {
			/* Out of files or memory: the listener would stay ready and spin the loop.
			 */
			log_warn("ttrpc: accept: %s", strerror(errno));
			loop_watch_events(s->watch, 0);
			loop_timer_set(s->resume, ACCEPT_PAUSE_USEC);
			return;
		}
		if (s->refuse_other_uids && !peer_allowed(peer))
			fd_close(peer);
		else
			conn_new(s, peer);
	}
}

int ttrpc_server_new(int fd, const struct ttrpc_service *const *services, void *ctx,
		     bool refuse_other_uids, struct ttrpc_server **ret)
{
	struct ttrpc_server *s = NEW0(struct ttrpc_server);

	*s = (struct ttrpc_server){
		.fd = fd,
		.services = services,
		.ctx = ctx,
		.refuse_other_uids = refuse_other_uids,
	};
	list_init(&s->conns);
	list_init(&s->calls);
	co_event_init(&s->progress);
	s->resume = loop_timer_new(USEC_NEVER, on_resume, s);
	int r = loop_watch_new(fd, EPOLLIN, on_listener, s, &s->watch);
	if (r < 0) {
		ttrpc_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void ttrpc_server_stop_listening(struct ttrpc_server *s)
{
	s->watch = loop_watch_free(s->watch);
	s->resume = loop_timer_free(s->resume);
	s->fd = fd_close(s->fd);
}

unsigned ttrpc_server_connections(const struct ttrpc_server *s)
{
	return s->n_conns;
}

static bool flushed(const struct ttrpc_server *s)
{
	LIST_FOR_EACH(it, &s->conns) {
		const struct server_conn *conn = LIST_ENTRY(it, struct server_conn, link);
		if (ttrpc_conn_written(conn->wire) < conn->flush_to)
			return false;
	}
	return true;
}

CO int ttrpc_server_flush(struct ttrpc_server *s)
{
	LIST_FOR_EACH(it, &s->conns) {
		struct server_conn *conn = LIST_ENTRY(it, struct server_conn, link);
		conn->flush_to = ttrpc_conn_queued(conn->wire);
	}
	while (!flushed(s)) {
		co_event_clear(&s->progress);
		int r = co_event_wait(&s->progress);
		if (r < 0)
			return r;
	}
	return 0;
}

struct ttrpc_server *ttrpc_server_free(struct ttrpc_server *s)
{
	if (!s)
		return NULL;
	ttrpc_server_stop_listening(s);
	LIST_FOR_EACH_SAFE(it, &s->conns)
		conn_free(LIST_ENTRY(it, struct server_conn, link));
	LIST_FOR_EACH_SAFE(it, &s->calls) {
		struct ttrpc_call *call = LIST_ENTRY(it, struct ttrpc_call, of_server);
		list_remove(&call->of_server);
		call->server = NULL;
		if (call->co)
			co_cancel(call->co);
	}
	free(s);
	return NULL;
}

void ttrpc_park(struct ttrpc_call *call)
{
	call->parked = true;
}

ProtobufCMessage *ttrpc_parked_reply(struct ttrpc_call *call)
{
	return call->reply;
}

void ttrpc_reply(struct ttrpc_call *call, int code, const struct err *err)
{
	answer(call, code, err);
	/* The handler that parked it may not have returned yet: call_run() frees it then. */
	if (!call->co)
		call_free(call);
}

const char *ttrpc_call_namespace(const struct ttrpc_call *call)
{
	return call->namespace;
}
