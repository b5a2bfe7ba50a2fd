/* SPDX-License-Identifier: Apache-2.0 */
#include "service/publisher.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "forward.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/empty.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "types.pb-c.h"
#include "wire/ttrpc.h"

enum { SEND_SEC = 5, RETRY_MAX_SEC = 5 };

struct event {
	struct list link;
	uint64_t at_ns;
	char *topic;
	char *type;
	uint8_t *data;
	size_t len;
};

/**
 * struct publisher - see publisher.h
 * @more:	set while events wait
 * @empty:	set while none waits or is under way
 * @sender:	the one coroutine that sends; NULL once it has ended
 */
struct publisher {
	char *path;
	char *namespace;
	struct list queue;
	unsigned waiting;
	struct co_event more;
	struct co_event empty;
	struct co *sender;
	struct ttrpc_client *client;
	bool closing;
};

static void event_free(struct event *e)
{
	list_remove(&e->link);
	free(e->topic);
	free(e->type);
	free(e->data);
	free(e);
}

static int connect_client(struct publisher *p)
{
	if (p->client && ttrpc_client_dead(p->client))
		p->client = ttrpc_client_free(p->client);
	if (p->client)
		return 0;

	int fd = sock_unix_connect(p->path);

	if (fd < 0)
		return fd;

	int r = fd_nonblock(fd, true);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return ttrpc_client_new(fd, &p->client);
}

static CO int forward(struct publisher *p, struct event *e, struct err *err)
{
	Containerd__Services__Events__Ttrpc__V1__ForwardRequest request =
		CONTAINERD__SERVICES__EVENTS__TTRPC__V1__FORWARD_REQUEST__INIT;
	Containerd__Types__Envelope envelope = CONTAINERD__TYPES__ENVELOPE__INIT;
	Google__Protobuf__Timestamp timestamp = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	int r = connect_client(p);

	if (r < 0)
		return err_sys(err, r, "connect to %s", p->path);
	timestamp.seconds = (int64_t)(e->at_ns / NSEC_PER_SEC);
	timestamp.nanos = (int32_t)(e->at_ns % NSEC_PER_SEC);
	any.type_url = e->type;
	any.value.data = e->data;
	any.value.len = e->len;
	envelope.timestamp = &timestamp;
	envelope.namespace_ = p->namespace;
	envelope.topic = e->topic;
	envelope.event = &any;
	request.envelope = &envelope;

	CO_LIMIT(SEND_SEC * USEC_PER_SEC);
	return ttrpc_client_call(p->client, "containerd.services.events.ttrpc.v1.Events", "Forward",
				 p->namespace, &request.base, &google__protobuf__empty__descriptor,
				 NULL, err);
}

/* Only a daemon that is away is worth another try: an event that it refuses would be refused for
 * ever. */
static bool worth_retry(int r)
{
	return r != -ERR_INVALID && r != -ERR_UNIMPLEMENTED && r != -ERR_NOT_FOUND &&
	       r != -ERR_EXISTS;
}

static CO void send_events(void *arg)
{
	struct publisher *p = arg;
	unsigned failures = 0;

	while (!p->closing && co_event_wait(&p->more) == 0) {
		struct event *e = LIST_ENTRY(p->queue.next, struct event, link);
		struct err err = { 0 };

		/* Out of the queue while it is under way: a full queue drops its oldest. */
		list_remove(&e->link);
		int r = forward(p, e, &err);

		if (r < 0 && worth_retry(r) && !p->closing) {
			/* Appending to the first entry puts it before that one: back to the head of
			 * the queue. */
			list_append(p->queue.next, &e->link);
			p->client = ttrpc_client_free(p->client);
			if (++failures == 1)
				log_warn("event %s cannot be sent, will be tried again: %s",
					 e->topic, err.text);
			if (co_sleep((failures < RETRY_MAX_SEC ? failures : RETRY_MAX_SEC) *
				     USEC_PER_SEC) < 0)
				break;
			continue;
		}
		if (r < 0)
			log_warn("event %s is lost: %s", e->topic, err.text);
		failures = 0;
		event_free(e);
		if (--p->waiting == 0) {
			co_event_clear(&p->more);
			co_event_set(&p->empty);
		}
	}
	p->sender = NULL;
	if (p->closing) {
		while (!list_empty(&p->queue))
			event_free(LIST_ENTRY(p->queue.next, struct event, link));
		ttrpc_client_free(p->client);
		free(p->path);
		free(p->namespace);
		free(p);
	}
}

struct publisher *publisher_new(const char *address, const char *namespace)
{
	struct publisher *p = NEW0(struct publisher);

	list_init(&p->queue);
	co_event_init(&p->more);
	co_event_init(&p->empty);
	co_event_set(&p->empty);
	p->namespace = mem_strdup(namespace);
	if (str_empty(address))
		return p;
	p->path =
		mem_strdup(str_starts(address, "unix://") ? address + strlen("unix://") : address);
	p->sender = co_spawn("events", send_events, p, USEC_NEVER);
	return p;
}

void publisher_send(struct publisher *p, const char *topic, const ProtobufCMessage *message)
{
	if (!p->path)
		return;
	if (p->waiting >= PUBLISHER_QUEUE_MAX) {
		struct event *oldest = LIST_ENTRY(p->queue.next, struct event, link);

		log_warn("event %s is lost: %d wait already", oldest->topic, PUBLISHER_QUEUE_MAX);
		event_free(oldest);
		p->waiting--;
	}
	struct event *e = NEW0(struct event);

	e->at_ns = time_real_ns();
	e->topic = mem_strdup(topic);
	e->type = mem_strdup(message->descriptor->name);
	e->len = protobuf_c_message_get_packed_size(message);
	e->data = mem_new0(e->len ? e->len : 1, 1);
	protobuf_c_message_pack(message, e->data);
	list_append(&p->queue, &e->link);
	p->waiting++;
	co_event_clear(&p->empty);
	co_event_set(&p->more);
}

CO void publisher_drain(struct publisher *p, uint64_t usec)
{
	CO_LIMIT(usec);

	if (co_event_wait(&p->empty) < 0)
		log_warn("%u events could not be sent", p->waiting);
}

struct publisher *publisher_free(struct publisher *p)
{
	if (!p)
		return NULL;
	p->closing = true;
	if (p->sender) {
		/* The coroutine frees everything: it may be in the middle of a call. */
		co_cancel(p->sender);
		return NULL;
	}
	while (!list_empty(&p->queue))
		event_free(LIST_ENTRY(p->queue.next, struct event, link));
	ttrpc_client_free(p->client);
	free(p->path);
	free(p->namespace);
	free(p);
	return NULL;
}
