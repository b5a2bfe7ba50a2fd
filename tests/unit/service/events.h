/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_UNIT_SERVICE_EVENTS_H
#define LCOW_TESTS_UNIT_SERVICE_EVENTS_H

#include <unistd.h>

#include "base/fd.h"
#include "controller/fixture.h"
#include "forward.pb-c.h"
#include "google/protobuf/empty.pb-c.h"
#include "types.pb-c.h"
#include "wire/pb.h"
#include "wire/ttrpc.h"

/**
 * struct events_daemon - containerd's event service, as far as a shim sees it
 * @seen:	"<topic>;" of each event that was taken
 * @last:	the last envelope, packed
 * @namespace:	of the last call
 * @refuse:	what Forward answers, 0 to take the event
 * @refusals:	how often it did
 * @hold:	Forward does not answer
 */
struct events_daemon {
	char *path;
	struct ttrpc_server *server;
	struct buf seen;
	Containerd__Types__Envelope *last;
	char *namespace;
	int refuse;
	unsigned refusals;
	bool hold;
};

static CO int events_forward(struct ttrpc_call *call, const ProtobufCMessage *request,
			     ProtobufCMessage *reply, void *ctx, struct err *err)
{
	struct events_daemon *d = ctx;
	const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *req =
		(const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *)request;
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t len;

	if (d->hold)
		return co_sleep(USEC_NEVER);
	if (d->refuse) {
		d->refusals++;
		return err_set(err, d->refuse, "refused");
	}
	buf_addf(&d->seen, "%s;", req->envelope->topic);
	str_set(&d->namespace, ttrpc_call_namespace(call));
	bytes = pb_pack(req->envelope, &len);
	d->last = pb_free(d->last);
	return pb_unpack(&containerd__types__envelope__descriptor, bytes, len, &d->last, err);
}

static const struct ttrpc_method events_methods[] = {
	{ "Forward", &containerd__services__events__ttrpc__v1__forward_request__descriptor,
	  &google__protobuf__empty__descriptor, events_forward },
};
static const struct ttrpc_service events_service = { "containerd.services.events.ttrpc.v1.Events",
						     events_methods, 1 };
static const struct ttrpc_service *const events_services[] = { &events_service, NULL };

static inline void events_up(struct events_daemon *d)
{
	int fd;

	unlink(d->path);
	fd = sock_unix_listen(d->path, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ttrpc_server_new(fd, events_services, d, true, &d->server), 0);
}

static inline void events_down(struct events_daemon *d)
{
	d->server = ttrpc_server_free(d->server);
	unlink(d->path);
}

static inline void events_free(struct events_daemon *d)
{
	events_down(d);
	buf_free(&d->seen);
	pb_free(d->last);
	free(d->namespace);
	free(d->path);
}

/* The topics since the last time. */
static inline const char *events_topics(struct events_daemon *d)
{
	static char text[2048];

	snprintf(text, sizeof(text), "%.*s", (int)d->seen.len,
		 d->seen.data ? (char *)d->seen.data : "");
	buf_eat(&d->seen, d->seen.len);
	return text;
}

/* Turns of the loop until @len bytes of topics were seen, at most @ms. */
static inline void events_await(struct events_daemon *d, size_t len, unsigned ms)
{
	for (unsigned i = 0; d->seen.len < len && i < ms; i += 5)
		run_for(5);
}

#endif
