/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/bridge.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/host.h"
#include "gcs/transport.h"
#include "wire/gcs.h"
#include "wire/json.h"

enum {
	REDIAL_USEC = 100000,
	FIRST_DIAL_USEC = 10000, /* until the host was there once: what a user waits for */
	REQUESTS_MAX = 256, /* handled at a time; parked waits do not count */
	LINE_UNKNOWN = -1,
};

struct frame {
	struct list link;
	bool keep; /* a notification for whichever connection */
	size_t len;
	uint8_t data[];
};

struct bridge {
	struct agent *agent;
	int fd;
	uint64_t connection; /* counts up; that of the requests now accepted */
	bool met; /* there has been a connection */
	bool negotiated;
	char **extensions; /* agreed for this connection */
	bool closing; /* the writer shall end */
	bool writing; /* the writer lives */
	struct list out; /* frames to send */
	struct list kept; /* notifications for the next connection */
	struct co_event wake; /* for the writer */
	struct co_event room; /* a request has ended, or the writer */
	unsigned requests;
};

/* What a request coroutine owns. */
struct work {
	struct request rq;
	size_t len;
	char *body;
};

static void ticket_clear(struct ticket *t)
{
	free(t->activity);
	t->activity = NULL;
}

/* Takes @json. */
static struct frame *frame_new(uint32_t type, uint64_t id, char *json)
{
	size_t body = strlen(json);
	struct frame *f = mem_new0(1, sizeof(*f) + GCS_HEADER + body);
	struct gcs_header h = { .type = type, .size = (uint32_t)(GCS_HEADER + body), .id = id };

	list_init(&f->link);
	f->len = GCS_HEADER + body;
	gcs_header_encode(&h, f->data);
	memcpy(f->data + GCS_HEADER, json, body);
	free(json);
	return f;
}

static void frames_drop(struct list *head)
{
	LIST_FOR_EACH_SAFE(it, head) {
		list_remove(it);
		free(LIST_ENTRY(it, struct frame, link));
	}
}

static void enqueue(struct bridge *b, struct frame *f)
{
	list_append(&b->out, &f->link);
	co_event_set(&b->wake);
}

static bool connected(const struct bridge *b, uint64_t connection)
{
	return b->fd >= 0 && !b->closing && b->connection == connection;
}

int bridge_fail(struct bridge *b, const struct ticket *t, const struct err *e)
{
	struct err copy = *e;
	/* "Not found" by itself would tell the host that its container is gone; what means that,
	 * says so. */
	int32_t hr = (int32_t)(!e->hresult && e->code == -ERR_NOT_FOUND ? HR_FAIL : err_hresult(e));
	/* The table frees nothing here: all of it is borrowed. */
	struct gcs_error_record record = {
		.result = hr,
		.message = copy.text,
		.module = (char[]){ "gcs" },
		.file = (char[]){ "" },
		.line = (uint32_t)LINE_UNKNOWN,
	};
	struct gcs_reply reply = {
		.result = hr,
		.activity_id = t->activity,
		.error_message = copy.text,
		.records = &record,
		.n_records = 1,
	};

	if (!connected(b, t->connection))
		return -ENOTCONN;
	str_clean(copy.text, strlen(copy.text));
	enqueue(b, frame_new(gcs_response(t->type), t->id, json_encode(&gcs_reply_table, &reply)));
	return 0;
}

int bridge_reply(struct bridge *b, const struct ticket *t, const struct json_table *table,
		 void *reply)
{
	struct gcs_reply *base = reply;
	struct err err = { 0 };
	char *json;
	size_t len;

	if (!connected(b, t->connection))
		return -ENOTCONN;
	base->activity_id = t->activity;
	json = json_encode(table, reply);
	base->activity_id = NULL;
	len = strlen(json);
	if (len + GCS_HEADER > GCS_REPLY_MAX) {
		free(json);
		err_set(&err, -ERR_EXHAUSTED, "the response has %zu bytes, over the limit of %d",
			len, GCS_REPLY_MAX);
		bridge_fail(b, t, &err);
		return -EMSGSIZE;
	}
	enqueue(b, frame_new(gcs_response(t->type), t->id, json));
	return 0;
}

int request_reply(struct request *rq, const struct json_table *table, void *reply)
{
	if (bridge_reply(rq->agent->bridge, &rq->ticket, table, reply) == -ENOTCONN)
		log_info("the host hung up before the response to %s",
			 gcs_type_name(rq->ticket.type));
	return 0;
}

void bridge_notify(struct bridge *b, uint32_t type, const struct json_table *table,
		   const void *message)
{
	struct frame *f = frame_new(type, 0, json_encode(table, message));

	f->keep = true;
	if (b->fd >= 0 && !b->closing)
		enqueue(b, f);
	else
		list_append(&b->kept, &f->link);
}

bool bridge_agreed(const struct bridge *b, const char *extension)
{
	return b->fd >= 0 && !b->closing && strv_has(b->extensions, extension);
}

void bridge_notify_agreed(struct bridge *b, const char *extension, uint32_t type,
			  const struct json_table *table, const void *message)
{
	if (bridge_agreed(b, extension))
		enqueue(b, frame_new(type, 0, json_encode(table, message)));
}

/* Sends frames until the connection ends; what it does not get rid of stays in the list. */
static void writer(void *arg)
{
	struct bridge *b = arg;

	while (!b->closing) {
		struct frame *f;

		if (list_empty(&b->out)) {
			co_event_clear(&b->wake);
			if (co_event_wait(&b->wake) < 0)
				break;
			continue;
		}
		f = LIST_ENTRY(b->out.next, struct frame, link);
		if (co_write_full(b->fd, f->data, f->len) < 0) {
			/* The reader sees the end and does the rest. */
			shutdown(b->fd, SHUT_RDWR);
			break;
		}
		list_remove(&f->link);
		free(f);
	}
	b->writing = false;
	co_event_set(&b->room);
}

/* Those of the host's wishes that this guest can grant. */
static char **agree(char **wanted)
{
	static const char *const known[] = { GCS_EXT_OOM,      GCS_EXT_METRICS, GCS_EXT_FREEZER,
					     GCS_EXT_DEVICES,  GCS_EXT_CLOCK,   GCS_EXT_PCI,
					     GCS_EXT_SOCKETS,  GCS_EXT_FORWARD, GCS_EXT_VERITY,
					     GCS_EXT_ENCRYPTED };
	char **agreed = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strv_has(wanted, known[i]))
			strv_add(&agreed, known[i]);
	return agreed;
}

static int negotiate(struct bridge *b, struct request *rq, const struct gcs_negotiate_request *m,
		     struct err *err)
{
	struct gcs_schema_version schema = { .major = 2, .minor = 1 };
	struct gcs_negotiate_reply reply = {
		.version = GCS_PROTOCOL,
		.caps = {
			.schemas = &schema,
			.n_schemas = 1,
			.os_type = (char[]){ "Linux" },
			.guest = { true, true, true, true, NULL },
		},
	};
	int r;

	if (m->max < GCS_PROTOCOL || m->min > GCS_PROTOCOL) {
		err_set(err, -ERR_INVALID,
			"the host speaks versions %u to %u of the protocol, this guest only %d",
			m->min, m->max, GCS_PROTOCOL);
		err->hresult = HR_UNSUPPORTED_PROTOCOL;
		return err->code;
	}
	b->negotiated = true;
	strv_free(b->extensions);
	b->extensions = agree(m->extensions);
	reply.caps.guest.extensions = b->extensions;
	co_event_set(&b->agent->ready);
	log_info("negotiated version %d with the host", GCS_PROTOCOL);
	r = request_reply(rq, &gcs_negotiate_reply_table, &reply);
	host_negotiated(b->agent);
	return r;
}

static int run_negotiate(struct request *rq, void *message, struct err *err)
{
	return negotiate(rq->agent->bridge, rq, message, err);
}

static const struct handler *find_handler(const struct bridge *b, uint32_t type, struct err *err)
{
	static const struct handler first = {
		GCS_NEGOTIATE,
		&gcs_negotiate_request_table,
		run_negotiate,
	};

	if (!b->negotiated && type == GCS_NEGOTIATE)
		return &first;
	for (const struct handler *h = handlers; b->negotiated && h->type; h++)
		if (h->type == type)
			return h;
	err_set(err, -ERR_UNIMPLEMENTED, "bridge: function not supported, header type: %u (%s)%s",
		type, gcs_type_name(type), b->negotiated ? "" : ", before NegotiateProtocol");
	err->hresult = HR_NOT_IMPL;
	return NULL;
}

static int handle(struct work *w, struct err *err)
{
	struct request *rq = &w->rq;
	const struct handler *h = find_handler(rq->agent->bridge, rq->ticket.type, err);
	struct gcs_base *base;
	void *message;
	int r;

	if (!h)
		return err->code;
	message = mem_new0(1, h->table->size);
	r = json_decode(w->body, w->len, h->table, message, err);
	if (r < 0) {
		free(message);
		err->hresult = HR_INVALID_JSON;
		return err_wrap(err, r, "failed to unmarshal JSON of %s",
				gcs_type_name(rq->ticket.type));
	}
	free(w->body);
	w->body = NULL;
	base = message;
	if (!base->container_id)
		base->container_id = mem_strdup("");
	if (!str_empty(base->activity_id))
		rq->ticket.activity = mem_strdup(base->activity_id);
	co_note("%s %s", gcs_type_name(rq->ticket.type), base->container_id);
	r = h->run(rq, message, err);
	json_free(h->table, message);
	free(message);
	return r;
}

static void request_main(void *arg)
{
	struct work *w = arg;
	struct bridge *b = w->rq.agent->bridge;
	_cleanup_free_ struct err *err = NEW0(struct err);
	int r = handle(w, err);

	if (r < 0) {
		if (!err->text[0])
			err_sys(err, r, "%s", gcs_type_name(w->rq.ticket.type));
		log_warn("%s failed: %s", gcs_type_name(w->rq.ticket.type), err->text);
		bridge_fail(b, &w->rq.ticket, err);
	}
	ticket_clear(&w->rq.ticket);
	free(w->body);
	free(w);
	b->requests--;
	co_event_set(&b->room);
}

/* Reads one frame and starts its handling. */
static int read_request(struct bridge *b)
{
	uint8_t raw[GCS_HEADER];
	struct gcs_header h;
	struct work *w;
	int r = co_read_full(b->fd, raw, sizeof(raw));

	if (r < 0)
		return r;
	r = gcs_header_decode(raw, GCS_FRAME_MAX, &h);
	if (r < 0) {
		log_error("a frame with a size that cannot be: hanging up");
		return r;
	}
	w = NEW0(struct work);
	w->rq.agent = b->agent;
	w->rq.ticket = (struct ticket){ .connection = b->connection, .type = h.type, .id = h.id };
	w->len = h.size - GCS_HEADER;
	w->body = malloc(w->len + 1);
	r = w->body ? co_read_full(b->fd, w->body, w->len) : -ENOMEM;
	if (r < 0) {
		free(w->body);
		free(w);
		return r;
	}
	w->body[w->len] = '\0';
	log_trace("request %s, id %llu, %zu bytes", gcs_type_name(h.type), (unsigned long long)h.id,
		  w->len);
	b->requests++;
	co_spawn("request", request_main, w, USEC_NEVER);
	while (b->requests >= REQUESTS_MAX) {
		co_event_clear(&b->room);
		r = co_event_wait(&b->room);
		if (r < 0)
			return r;
	}
	return 0;
}

static void serve(struct bridge *b, int fd)
{
	int r;

	b->fd = fd;
	b->connection++;
	b->negotiated = false;
	b->closing = false;
	b->met = true;
	LIST_FOR_EACH_SAFE(it, &b->kept) {
		list_remove(it);
		list_append(&b->out, it);
	}
	b->writing = true;
	co_spawn("bridge writer", writer, b, USEC_NEVER);
	do
		r = read_request(b);
	while (r >= 0);
	b->closing = true;
	shutdown(fd, SHUT_RDWR);
	co_event_set(&b->wake);
	while (b->writing) {
		co_event_clear(&b->room);
		co_event_wait(&b->room);
	}
	b->fd = fd_close(fd);
	b->extensions = strv_free(b->extensions);
	LIST_FOR_EACH_SAFE(it, &b->out) {
		if (!LIST_ENTRY(it, struct frame, link)->keep)
			continue;
		list_remove(it);
		list_append(&b->kept, it);
	}
	frames_drop(&b->out);
	host_bridge_lost(b->agent);
	if (!b->agent->stopping)
		log_warn("bridge connection lost (%s), will reconnect",
			 r == -ENODATA ? "closed" : strerror(-r));
}

static void bridge_main(void *arg)
{
	struct bridge *b = arg;

	while (!b->agent->stopping) {
		int fd = -EBADF;

		if (transport_dial(b->agent->transport, GCS_PORT_BRIDGE, &fd, NULL) == 0)
			serve(b, fd);
		if (co_sleep(b->met ? REDIAL_USEC : FIRST_DIAL_USEC) < 0)
			break;
	}
}

struct bridge *bridge_start(struct agent *a)
{
	struct bridge *b = NEW0(struct bridge);

	b->agent = a;
	b->fd = -EBADF;
	list_init(&b->out);
	list_init(&b->kept);
	co_event_init(&b->wake);
	co_event_init(&b->room);
	co_spawn("bridge", bridge_main, b, USEC_NEVER);
	return b;
}
