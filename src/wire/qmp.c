/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/loop.h"
#include "wire/json.h"
#include "wire/qmp_internal.h"

enum { READ_MAX = 64 << 10 };

/**
 * struct call - a command without answer, on the stack of its coroutine
 * @link:	in qmp.calls until it is answered
 * @value:	"return", or "error"; a reference
 */
struct call {
	struct list link;
	struct co_event done;
	int64_t id;
	int result;
	struct json_object *value;
};

/** struct waiter - a wait for an event, on the stack of its coroutine */
struct waiter {
	struct list link;
	struct co_event done;
	int result;
	const char *event;
	const char *key;
	const char *value;
};

/**
 * struct message - a command on its way out
 * @fd:		goes with its first byte, -EBADF for none
 */
struct message {
	struct list link;
	char *text;
	size_t len;
	size_t done;
	int fd;
};

/**
 * struct qmp - the client
 * @depth:	callbacks on the stack; freeing is put off until the last returns
 * @why:	why it is over, 0 while it is not
 * @greeted:	set by the greeting, or by the end
 * @in:		an unfinished line
 */
struct qmp {
	int fd;
	struct loop_watch *watch;
	qmp_event_fn on_event;
	void *arg;
	unsigned depth;
	bool freed;
	int why;
	struct co_event greeted;
	int64_t last_id;
	struct list calls;
	struct list waiters;
	struct list out;
	struct buf in;
};

static void message_free(struct message *msg)
{
	list_remove(&msg->link);
	fd_close(msg->fd);
	free(msg->text);
	free(msg);
}

/* The connection is over: whoever waits is told */
static void end(struct qmp *q, int why)
{
	if (q->why)
		return;
	q->why = why;
	q->watch = loop_watch_free(q->watch);
	co_event_set(&q->greeted);
	LIST_FOR_EACH_SAFE(it, &q->calls) {
		struct call *c = LIST_ENTRY(it, struct call, link);

		list_remove(&c->link);
		c->result = -ECONNRESET;
		co_event_set(&c->done);
	}
	LIST_FOR_EACH_SAFE(it, &q->waiters) {
		struct waiter *w = LIST_ENTRY(it, struct waiter, link);

		list_remove(&w->link);
		w->result = -ECONNRESET;
		co_event_set(&w->done);
	}
	LIST_FOR_EACH_SAFE(it, &q->out)
		message_free(LIST_ENTRY(it, struct message, link));
}

static void destroy(struct qmp *q)
{
	fd_close(q->fd);
	buf_free(&q->in);
	free(q);
}

static void enter(struct qmp *q)
{
	q->depth++;
}

static void leave(struct qmp *q)
{
	if (--q->depth == 0 && q->freed)
		destroy(q);
}

/* ---- out ---- */

static ssize_t send_some(int sock, const struct message *msg)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { .iov_base = msg->text + msg->done, .iov_len = msg->len - msg->done };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (msg->fd >= 0 && !msg->done) {
		struct cmsghdr *c;

		hdr.msg_control = control.space;
		hdr.msg_controllen = sizeof(control.space);
		c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &msg->fd, sizeof(int));
	}
	return sendmsg(sock, &hdr, MSG_NOSIGNAL);
}

static void flush(struct qmp *q)
{
	while (!q->why && !list_empty(&q->out)) {
		struct message *msg = LIST_ENTRY(q->out.next, struct message, link);
		ssize_t n = send_some(q->fd, msg);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			end(q, -errno);
			return;
		}
		msg->done += (size_t)n;
		if (msg->done == msg->len)
			message_free(msg);
	}
	if (q->watch)
		loop_watch_events(q->watch, EPOLLIN | (list_empty(&q->out) ? 0 : EPOLLOUT));
}

/* Queue a command; @args is taken over, @fd is duplicated. Return: 0 or negative errno */
static int post(struct qmp *q, const char *command, struct json_object *args, int fd, int64_t id)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	_cleanup_fd_ int copy = -EBADF;
	struct message *msg;

	json_object_object_add(o, "execute", json_object_new_string(command));
	if (args)
		json_object_object_add(o, "arguments", args);
	json_object_object_add(o, "id", json_object_new_int64(id));
	if (q->why)
		return -ECONNRESET;
	if (fd >= 0) {
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (copy < 0)
			return -errno;
	}
	msg = NEW0(struct message);
	msg->text = json_text(o);
	msg->len = strlen(msg->text);
	msg->text[msg->len++] = '\n'; /* in place of the NUL */
	msg->fd = TAKE_FD(copy);
	list_append(&q->out, &msg->link);
	flush(q);
	return 0;
}

/* ---- in ---- */

static void on_answer(struct qmp *q, struct json_object *o, struct json_object *id)
{
	LIST_FOR_EACH_SAFE(it, &q->calls) {
		struct call *c = LIST_ENTRY(it, struct call, link);
		struct json_object *error = json_get(o, "error", NULL);

		if (c->id != json_object_get_int64(id))
			continue;
		list_remove(&c->link);
		c->result = error ? -EREMOTEIO : 0;
		c->value = json_object_get(error ? error : json_get(o, "return", NULL));
		co_event_set(&c->done);
		return;
	}
	/* the caller gave up */
}

static void on_event(struct qmp *q, const char *event, struct json_object *data)
{
	LIST_FOR_EACH_SAFE(it, &q->waiters) {
		struct waiter *w = LIST_ENTRY(it, struct waiter, link);
		struct json_object *v = w->key ? json_get(data, w->key, NULL) : NULL;

		if (!str_eq(w->event, event) ||
		    (w->key && !(v && str_eq(json_object_get_string(v), w->value))))
			continue;
		list_remove(&w->link);
		w->result = 0;
		co_event_set(&w->done);
	}
	if (q->on_event)
		q->on_event(event, data, q->arg);
}

/* One line from QEMU. What we do not know is let pass. Return: 0 or -EBADMSG */
static int on_line(struct qmp *q, const char *line, size_t len)
{
	_cleanup_json_ struct json_object *o = NULL;
	struct json_object *id;
	struct err why = { 0 };
	const char *event;

	while (len && (line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	if (!len)
		return 0;
	if (json_parse(line, len, &o, &why) < 0) {
		log_error("QMP: %s", why.text);
		return -EBADMSG;
	}
	event = json_get_str(o, "event");
	id = json_get(o, "id", NULL);
	if (event)
		on_event(q, event, json_get(o, "data", NULL));
	else if (json_object_is_type(id, json_type_int) &&
		 (json_get(o, "error", NULL) || json_get(o, "return", NULL)))
		on_answer(q, o, id);
	else if (json_get(o, "QMP", NULL))
		co_event_set(&q->greeted);
	return 0;
}

int qmp_receive(struct qmp *q, const char *data, size_t len)
{
	int r = 0;

	enter(q);
	while (len && r >= 0 && !q->freed && !q->why) {
		const char *newline = memchr(data, '\n', len);
		size_t n = newline ? (size_t)(newline - data) : len;

		if (q->in.len + n > QMP_LINE_MAX) {
			log_error("QMP: a line is longer than %d bytes", QMP_LINE_MAX);
			r = -EBADMSG;
			break;
		}
		buf_add(&q->in, data, n);
		data += n;
		len -= n;
		if (!newline)
			break;
		data++;
		len--;
		r = on_line(q, (const char *)q->in.data, q->in.len);
		q->in.len = 0;
	}
	if (r < 0)
		end(q, r);
	leave(q);
	return r;
}

static void on_ready(int fd, uint32_t events, void *arg)
{
	_cleanup_free_ char *data = mem_new0(1, READ_MAX);
	struct qmp *q = arg;
	ssize_t n;

	enter(q);
	flush(q);
	if (!q->why) {
		n = recv(q->fd, data, READ_MAX, 0);
		if (n > 0)
			qmp_receive(q, data, (size_t)n);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			end(q, n ? -errno : -ECONNRESET);
	}
	leave(q);
}

/* ---- users ---- */

int qmp_open(int fd, qmp_event_fn event_fn, void *arg, struct qmp **ret)
{
	struct qmp *q = NEW0(struct qmp);
	int r;

	q->fd = fd;
	q->on_event = event_fn;
	q->arg = arg;
	co_event_init(&q->greeted);
	list_init(&q->calls);
	list_init(&q->waiters);
	list_init(&q->out);
	r = loop_watch_new(fd, EPOLLIN, on_ready, q, &q->watch);
	if (r < 0) {
		destroy(q);
		return r;
	}
	*ret = q;
	return 0;
}

CO int qmp_new(int fd, qmp_event_fn event_fn, void *arg, struct qmp **ret, struct err *err)
{
	struct qmp *q;
	int r;

	r = qmp_open(fd, event_fn, arg, &q);
	if (r < 0)
		return err_sys(err, r, "watch the QMP socket");
	r = co_event_wait(&q->greeted);
	if (r >= 0 && q->why)
		r = -ECONNRESET;
	if (r < 0)
		err_sys(err, r, "wait for QEMU's greeting");
	else
		r = qmp_call(q, "qmp_capabilities", NULL, -EBADF, NULL, err);
	if (r < 0) {
		qmp_free(q);
		return r;
	}
	*ret = q;
	return 0;
}

struct qmp *qmp_free(struct qmp *q)
{
	if (!q)
		return NULL;
	enter(q);
	end(q, -ECONNRESET);
	q->freed = true;
	leave(q);
	return NULL;
}

static int refused(const char *command, struct json_object *error, struct err *err)
{
	const char *desc = json_get_str(error, "desc");
	_cleanup_free_ char *text = mem_strdup(desc ? desc : "no reason given");

	str_clean(text, strlen(text));
	return err_set(err, -EREMOTEIO, "%s: %s", command, text);
}

CO int qmp_call(struct qmp *q, const char *command, struct json_object *args, int fd,
		struct json_object **ret, struct err *err)
{
	struct call call = { .id = ++q->last_id };
	_cleanup_json_ struct json_object *value = NULL;
	int r;

	list_init(&call.link);
	co_event_init(&call.done);
	/* before the command is out: nothing of the client may be touched after the wait */
	list_append(&q->calls, &call.link);
	r = post(q, command, args, fd, call.id);
	if (r >= 0)
		r = co_event_wait(&call.done);
	if (r >= 0)
		r = call.result;
	list_remove(&call.link);
	value = call.value;
	if (r == -EREMOTEIO && value)
		return refused(command, value, err);
	if (r < 0)
		return err_sys(err, r, "%s", command);
	if (ret)
		*ret = TAKE_PTR(value);
	return 0;
}

static void waiter_add(struct qmp *q, struct waiter *w, const char *event, const char *key,
		       const char *value)
{
	*w = (struct waiter){ .event = event, .key = key, .value = value };
	co_event_init(&w->done);
	list_append(&q->waiters, &w->link);
}

CO static int waiter_wait(struct waiter *w)
{
	int r = co_event_wait(&w->done);

	list_remove(&w->link);
	return r < 0 ? r : w->result;
}

CO int qmp_call_event(struct qmp *q, const char *command, struct json_object *args,
		      const char *event, const char *key, const char *value, struct err *err)
{
	struct waiter w;
	int r;

	waiter_add(q, &w, event, key, value);
	r = qmp_call(q, command, args, -EBADF, NULL, err);
	if (r < 0) {
		list_remove(&w.link);
		return r;
	}
	r = waiter_wait(&w);
	return r < 0 ? err_sys(err, r, "%s: wait for %s", command, event) : 0;
}

CO int qmp_wait_event(struct qmp *q, const char *event, const char *key, const char *value)
{
	struct waiter w;

	if (q->why)
		return -ECONNRESET;
	waiter_add(q, &w, event, key, value);
	return waiter_wait(&w);
}
