/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/bridge.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "guest/rate.h"
#include "loop/loop.h"
#include "wire/gcs.h"
#include "wire/json.h"

enum {
	READS_PER_TURN = 16,
	REASON_MAX = 256,
	/* Requests that a guest has not taken. More can only come from callers that gave up on
	 * earlier ones. */
	QUEUE_MAX = 4 * GCS_FRAME_MAX,
	LOG_PER_SEC = 5,
	LOG_BURST = 20,
};

/**
 * struct frame - header and body under way to the guest
 */
struct frame {
	struct list link;
	size_t len;
	size_t sent;
	uint8_t bytes[];
};

/**
 * struct bridge - the host's end
 * @reason:	why it is down, "" while it is up
 * @head, @have, @body: the frame that is being read; @have counts header and body bytes
 */
struct bridge {
	int fd;
	struct loop_watch *watch;
	void (*ended)(void *arg);
	void *arg;
	uint64_t timeout;
	uint64_t next_id;
	struct list pending;
	struct list queue;
	size_t queued;
	uint8_t head[GCS_HEADER];
	struct gcs_header header;
	size_t have;
	char *body;
	struct rate chatter;
	char reason[REASON_MAX];
	void (*on_oom)(const char *container, uint64_t kills, void *arg);
	void *oom_arg;
};

static void on_ready(int fd, uint32_t events, void *arg);

int bridge_new(int fd, void (*ended)(void *arg), void *arg, struct bridge **ret)
{
	struct bridge *b = NEW0(struct bridge);
	int r;

	b->fd = fd;
	b->ended = ended;
	b->arg = arg;
	b->timeout = BRIDGE_TIMEOUT_SEC * USEC_PER_SEC;
	b->chatter = (struct rate){ .per_sec = LOG_PER_SEC, .burst = LOG_BURST };
	list_init(&b->pending);
	list_init(&b->queue);
	r = loop_watch_new(fd, EPOLLIN, on_ready, b, &b->watch);
	if (r < 0) {
		bridge_free(b);
		return r;
	}
	*ret = b;
	return 0;
}

void bridge_set_timeout(struct bridge *b, uint64_t usec)
{
	b->timeout = usec;
}

bool bridge_alive(const struct bridge *b)
{
	return b->reason[0] == '\0';
}

/** end() - take everything down; who made a request learns of it */
static void end(struct bridge *b)
{
	b->watch = loop_watch_free(b->watch);
	b->fd = fd_close(b->fd);
	free(TAKE_PTR(b->body));
	LIST_FOR_EACH_SAFE(it, &b->queue)
		free(LIST_ENTRY(it, struct frame, link));
	list_init(&b->queue);
	b->queued = 0;
	while (!list_empty(&b->pending)) {
		struct bridge_pending *p = LIST_ENTRY(b->pending.next, struct bridge_pending, link);

		list_remove(&p->link);
		p->done(p, NULL);
	}
}

void bridge_close(struct bridge *b)
{
	if (!bridge_alive(b))
		return;
	snprintf(b->reason, sizeof(b->reason), "it was closed");
	end(b);
}

static __attribute__((format(printf, 3, 0))) void break_off(struct bridge *b, enum log_level level,
							    const char *fmt, va_list ap)
{
	if (!bridge_alive(b))
		return;
	if (vsnprintf(b->reason, sizeof(b->reason), fmt, ap) <= 0)
		snprintf(b->reason, sizeof(b->reason), "unknown reason");
	str_clean(b->reason, strlen(b->reason));
	log_msg(level, NULL, "guest: the bridge has ended: %s", b->reason);
	end(b);
	if (b->ended)
		b->ended(b->arg);
}

void bridge_break(struct bridge *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	break_off(b, LOG_WARN, fmt, ap);
	va_end(ap);
}

/* Its other end is gone, which is how every VM ends: whoever did not expect it says so. */
static __attribute__((format(printf, 2, 3))) void lose(struct bridge *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	break_off(b, LOG_INFO, fmt, ap);
	va_end(ap);
}

struct bridge *bridge_free(struct bridge *b)
{
	if (!b)
		return NULL;
	bridge_close(b);
	free(b);
	return NULL;
}

static int unavailable(const struct bridge *b, struct err *err)
{
	return err_set(err, -ERR_UNAVAILABLE, "guest: the bridge has ended: %s", b->reason);
}

/** chatter() - whether a guest's doing may be logged once more */
static bool chatter(struct bridge *b)
{
	return rate_take(&b->chatter, time_mono());
}

/* --- from the guest --- */

static void on_response(struct bridge *b, struct json_object *answer)
{
	LIST_FOR_EACH(it, &b->pending) {
		struct bridge_pending *p = LIST_ENTRY(it, struct bridge_pending, link);

		if (p->id != b->header.id)
			continue;
		if (gcs_response(p->type) != b->header.type) {
			bridge_break(b,
				     "request %llu (%s) was answered with a message of type 0x%08x",
				     (unsigned long long)p->id, gcs_type_name(p->type),
				     b->header.type);
			return;
		}
		list_remove(&p->link);
		p->done(p, answer);
		return;
	}
	/* Its caller may have given up, or, after a migration, another host made the request. */
	if (chatter(b))
		log_debug("guest: dropped an answer to request %llu, which nobody waits for",
			  (unsigned long long)b->header.id);
}

static void note_free(struct gcs_exit_notification *note)
{
	json_free(&gcs_exit_notification_table, note);
}

void bridge_on_oom(struct bridge *b, void (*fn)(const char *container, uint64_t kills, void *arg),
		   void *arg)
{
	b->on_oom = fn;
	b->oom_arg = arg;
}

static void on_oom(struct bridge *b, struct json_object *body)
{
	struct gcs_oom_notification note = { 0 };
	struct err err = { 0 };

	if (json_decode_object(body, &gcs_oom_notification_table, &note, &err) < 0) {
		bridge_break(b, "malformed notification: %s", err.text);
		return;
	}
	if (!str_id_valid(note.base.container_id)) {
		if (chatter(b))
			log_info("guest: dropped a notification without a valid container id");
	} else if (b->on_oom) {
		b->on_oom(note.base.container_id, note.kills, b->oom_arg);
	}
	json_free(&gcs_oom_notification_table, &note);
}

static void on_notification(struct bridge *b, struct json_object *body)
{
	_cleanup_(note_free) struct gcs_exit_notification note = { 0 };
	struct err err = { 0 };

	if (b->header.type == GCS_CONTAINER_OOM) {
		on_oom(b, body);
		return;
	}
	if (b->header.type != GCS_CONTAINER_EXITED) {
		if (chatter(b))
			log_info("guest: dropped a notification of unknown type 0x%08x",
				 b->header.type);
		return;
	}
	if (json_decode_object(body, &gcs_exit_notification_table, &note, &err) < 0) {
		bridge_break(b, "malformed notification: %s", err.text);
		return;
	}
	if (!str_id_valid(note.base.container_id)) {
		if (chatter(b))
			log_info("guest: dropped a notification without a valid container id");
		return;
	}
	if (note.type)
		str_clean(note.type, strlen(note.type));
	if (chatter(b))
		log_msg(LOG_DEBUG, &(struct log_fields){ .container = note.base.container_id },
			"guest: the container has ended: %.64s", note.type ? note.type : "");
}

static void on_frame(struct bridge *b, const char *body, size_t len)
{
	_cleanup_json_ struct json_object *o = NULL;
	uint32_t class = b->header.type & GCS_TYPE_MASK;
	struct err err = { 0 };

	if (class != GCS_RESPONSE && class != GCS_NOTIFY) {
		bridge_break(b, "a message of type 0x%08x is not for the host", b->header.type);
		return;
	}
	if (json_parse(body, len, &o, &err) < 0) {
		bridge_break(b, "malformed message of type 0x%08x: %s", b->header.type, err.text);
		return;
	}
	if (class == GCS_RESPONSE)
		on_response(b, o);
	else
		on_notification(b, o);
}

/** on_bytes() - @n more bytes of the current frame are here; may break the bridge */
static void on_bytes(struct bridge *b, size_t n)
{
	_cleanup_free_ char *body = NULL;

	b->have += n;
	if (b->have == GCS_HEADER && !b->body) {
		if (gcs_header_decode(b->head, GCS_FRAME_MAX, &b->header) < 0) {
			bridge_break(b, "a frame has a bad size");
			return;
		}
		b->body = malloc(b->header.size - GCS_HEADER + 1);
		if (!b->body) {
			bridge_break(b, "no memory for a frame of %u bytes", b->header.size);
			return;
		}
	}
	if (b->have < GCS_HEADER || b->have < b->header.size)
		return;
	b->have = 0;
	body = TAKE_PTR(b->body);
	body[b->header.size - GCS_HEADER] = '\0';
	on_frame(b, body, b->header.size - GCS_HEADER);
}

static void read_some(struct bridge *b)
{
	for (int i = 0; i < READS_PER_TURN && bridge_alive(b); i++) {
		bool in_head = b->have < GCS_HEADER;
		void *to = in_head ? (void *)(b->head + b->have) : b->body + (b->have - GCS_HEADER);
		size_t want = (in_head ? (size_t)GCS_HEADER : b->header.size) - b->have;
		ssize_t n = read(b->fd, to, want);

		if (n > 0) {
			on_bytes(b, (size_t)n);
		} else if (n == 0) {
			lose(b, "the guest closed it");
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR) {
			lose(b, "read: %s", strerrordesc_np(errno));
		}
	}
}

/* --- to the guest --- */

static void write_some(struct bridge *b)
{
	while (!list_empty(&b->queue)) {
		struct frame *f = LIST_ENTRY(b->queue.next, struct frame, link);
		ssize_t n = send(b->fd, f->bytes + f->sent, f->len - f->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			lose(b, "write: %s", strerrordesc_np(errno));
			return;
		}
		f->sent += (size_t)n;
		if (f->sent < f->len)
			continue;
		list_remove(&f->link);
		b->queued -= f->len;
		free(f);
	}
	loop_watch_events(b->watch, list_empty(&b->queue) ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

static void on_ready(int fd, uint32_t events, void *arg)
{
	struct bridge *b = arg;

	if (events & EPOLLOUT)
		write_some(b);
	if (bridge_alive(b) && (events & ~(uint32_t)EPOLLOUT))
		read_some(b);
}

/**
 * enqueue() - append a frame; Go's encoder ends a body with a newline, and guests have seen no
 * other
 */
static int enqueue(struct bridge *b, uint32_t type, uint64_t id, const char *json, struct err *err)
{
	size_t len = strlen(json), size = GCS_HEADER + len + 1;
	struct frame *f;

	if (size > GCS_FRAME_MAX)
		return err_set(err, -ERR_EXHAUSTED, "guest: a %s request of %zu bytes is too large",
			       gcs_type_name(type), len);
	if (b->queued + size > QUEUE_MAX)
		return err_set(err, -ERR_EXHAUSTED, "guest: it takes no requests");
	f = malloc(sizeof(*f) + size);
	if (!f)
		return err_sys(err, -ENOMEM, "%s request", gcs_type_name(type));
	f->len = size;
	f->sent = 0;
	gcs_header_encode(&(struct gcs_header){ .type = type, .size = (uint32_t)size, .id = id },
			  f->bytes);
	memcpy(f->bytes + GCS_HEADER, json, len);
	f->bytes[size - 1] = '\n';
	list_append(&b->queue, &f->link);
	b->queued += size;
	return 0;
}

int bridge_begin(struct bridge *b, struct bridge_pending *p, uint32_t type,
		 const struct json_table *table, const void *request, struct err *err)
{
	_cleanup_free_ char *json = NULL;
	int r;

	if (!bridge_alive(b))
		return unavailable(b, err);
	json = json_encode(table, request);
	r = enqueue(b, type, b->next_id, json, err);
	if (r < 0)
		return r;
	p->id = b->next_id++;
	p->type = type;
	list_append(&b->pending, &p->link);
	/* A failure ends every pending request, this one too: that is how its caller learns of it.
	 * */
	write_some(b);
	return 0;
}

int bridge_wait(struct bridge *b, const struct bridge_pending *p, struct co_event *answered)
{
	uint64_t begun = time_mono(), timeout = b->timeout;
	int r;

	{
		CO_LIMIT(timeout);
		r = co_event_wait(answered);
	}
	if (r == -ETIMEDOUT && !answered->set && time_mono() - begun >= timeout)
		bridge_break(b, "no answer to %s within %llu s", gcs_type_name(p->type),
			     (unsigned long long)(timeout / USEC_PER_SEC));
	/* An answer that came together with the deadline counts. */
	return answered->set ? 0 : r;
}

void bridge_forget(struct bridge_pending *p)
{
	list_remove(&p->link);
}

/* --- answers --- */

/** refusal() - what the guest said about a request that failed */
static int refusal(uint32_t type, const struct gcs_reply *reply, struct err *err)
{
	uint32_t hresult = (uint32_t)reply->result;
	int code = err_from_hresult(hresult);
	const char *text = reply->error_message;
	_cleanup_free_ char *clean = NULL;

	if (str_empty(text) && reply->n_records > 0)
		text = reply->records[0].message;
	if (str_empty(text)) {
		err_set(err, code, "guest: %s failed with HRESULT 0x%08x", gcs_type_name(type),
			hresult);
	} else {
		clean = mem_strndup(text, ERR_TEXT_MAX);
		str_clean(clean, strlen(clean));
		err_set(err, code, "guest: %s", clean);
	}
	if (err)
		err->hresult = hresult;
	return code;
}

int bridge_decode(struct bridge *b, uint32_t type, struct json_object *answer,
		  const struct json_table *reply_table, void *reply, struct err *err)
{
	struct gcs_reply base = { 0 };
	struct err why = { 0 };
	int r;

	if (!answer)
		return unavailable(b, err);
	/* A refusal is a bare base, whatever the table requires of a success. */
	r = json_decode_object(answer, &gcs_reply_table, &base, &why);
	if (r >= 0 && base.result != 0) {
		r = refusal(type, &base, err);
		json_free(&gcs_reply_table, &base);
		return r;
	}
	json_free(&gcs_reply_table, &base);
	if (r >= 0)
		r = json_decode_object(answer, reply_table, reply, &why);
	if (r >= 0)
		return 0;
	bridge_break(b, "malformed answer to %s: %s", gcs_type_name(type), why.text);
	return unavailable(b, err);
}

/**
 * struct waiting - a request that a coroutine waits for, on its stack
 */
struct waiting {
	struct bridge_pending pending;
	struct co_event answered;
	struct bridge *bridge;
	const struct json_table *table;
	void *reply;
	struct err *err;
	int result;
};

static void on_answered(struct bridge_pending *p, struct json_object *answer)
{
	struct waiting *w = CONTAINER_OF(p, struct waiting, pending);

	w->result = bridge_decode(w->bridge, p->type, answer, w->table, w->reply, w->err);
	co_event_set(&w->answered);
}

int bridge_call(struct bridge *b, uint32_t type, const struct json_table *table,
		const void *request, const struct json_table *reply_table, void *reply,
		struct err *err)
{
	struct waiting w = { .bridge = b, .table = reply_table, .reply = reply, .err = err };
	int r;

	w.pending.done = on_answered;
	co_event_init(&w.answered);
	r = bridge_begin(b, &w.pending, type, table, request, err);
	if (r < 0)
		return r;
	r = bridge_wait(b, &w.pending, &w.answered);
	if (r >= 0)
		return w.result;
	bridge_forget(&w.pending);
	return err_sys(err, r, "guest: %s", gcs_type_name(type));
}
