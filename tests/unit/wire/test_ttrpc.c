/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/ttrpc.h"

#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "google/protobuf/empty.pb-c.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "task.pb-c.h"
#include "ttrpc.pb-c.h"
#include "wire/pb.h"
#include "wire/ttrpc_frame.h"

typedef Containerd__Task__V2__WaitRequest WaitRequest;
typedef Containerd__Task__V2__WaitResponse WaitResponse;
typedef Containerd__Task__V2__ConnectResponse ConnectResponse;

/*
 * The service under test. What a method shall do is in the request's id: milliseconds, or a number
 * of bytes.
 */
enum { PARKED_MAX = 1000 };

static struct {
	char dir[64];
	char path[80];
	struct ttrpc_server *server;
	struct ttrpc_call *parked[PARKED_MAX];
	unsigned n_parked;
	unsigned finished;
	uint64_t deadline;
	char namespace[64];
} t;

static CO int handle_sleep(struct ttrpc_call *call, const ProtobufCMessage *request,
			   ProtobufCMessage *reply, void *ctx, struct err *err)
{
	const WaitRequest *req = (const void *)request;
	uint64_t ms = strtoull(req->id, NULL, 10);

	t.deadline = co_deadline();
	snprintf(t.namespace, sizeof(t.namespace), "%s", ttrpc_call_namespace(call));
	int r = co_sleep(ms * USEC_PER_MSEC);
	t.finished++;
	if (r < 0)
		return err_sys(err, r, "sleep");
	((WaitResponse *)(void *)reply)->exit_status = (uint32_t)ms;
	return 0;
}

static CO int handle_park(struct ttrpc_call *call, const ProtobufCMessage *request,
			  ProtobufCMessage *reply, void *ctx, struct err *err)
{
	ttrpc_park(call);
	t.parked[t.n_parked++] = call;
	return TTRPC_PARKED;
}

/* Parks, and is answered before it returns. */
static CO int handle_park_slowly(struct ttrpc_call *call, const ProtobufCMessage *request,
				 ProtobufCMessage *reply, void *ctx, struct err *err)
{
	handle_park(call, request, reply, ctx, err);
	co_sleep(20 * USEC_PER_MSEC);
	t.finished++;
	return TTRPC_PARKED;
}

static CO int handle_fail(struct ttrpc_call *call, const ProtobufCMessage *request,
			  ProtobufCMessage *reply, void *ctx, struct err *err)
{
	const WaitRequest *req = (const void *)request;

	if (str_eq(req->id, "bare"))
		return -ERR_STATE;
	return err_set(err, -ERR_NOT_FOUND, "no such thing: %s\xff", req->id);
}

static CO int handle_nothing(struct ttrpc_call *call, const ProtobufCMessage *request,
			     ProtobufCMessage *reply, void *ctx, struct err *err)
{
	return 0;
}

static CO int handle_bytes(struct ttrpc_call *call, const ProtobufCMessage *request,
			   ProtobufCMessage *reply, void *ctx, struct err *err)
{
	const WaitRequest *req = (const void *)request;
	size_t len = strtoull(req->id, NULL, 10);
	char *text = mem_new0(len + 1, 1);

	memset(text, 'x', len);
	((ConnectResponse *)(void *)reply)->version = text;
	return 0;
}

#define METHOD(n, out, h) \
	{ \
		n, &containerd__task__v2__wait_request__descriptor, &out##__descriptor, h \
	}
static const struct ttrpc_method methods[] = {
	METHOD("Sleep", containerd__task__v2__wait_response, handle_sleep),
	METHOD("Park", containerd__task__v2__wait_response, handle_park),
	METHOD("ParkSlowly", containerd__task__v2__wait_response, handle_park_slowly),
	METHOD("Fail", containerd__task__v2__wait_response, handle_fail),
	METHOD("Nothing", google__protobuf__empty, handle_nothing),
	METHOD("Bytes", containerd__task__v2__connect_response, handle_bytes),
};
static const struct ttrpc_service service = { "test.Service", methods, ARRAY_SIZE(methods) };
static const struct ttrpc_service alias = { "test.v2.Service", methods, ARRAY_SIZE(methods) };
static const struct ttrpc_service *const services[] = { &service, &alias, NULL };

static void scenario(void *arg)
{
	void (*fn)(void) = *(void (**)(void))arg;

	fn();
	t.server = ttrpc_server_free(t.server);
	while (co_count() > 1)
		co_sleep(USEC_PER_MSEC);
	loop_stop(0);
}

/* Run a coroutine with a server on a socket beside it. */
static void run(void (*fn)(void))
{
	memset(&t, 0, sizeof(t));
	snprintf(t.dir, sizeof(t.dir), "/tmp/test-ttrpc-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(t.dir));
	snprintf(t.path, sizeof(t.path), "%s/sock", t.dir);
	log_init(-EBADF, LOG_ERROR);
	ck_assert_int_eq(loop_init(), 0);
	int fd = sock_unix_listen(t.path, 0777);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ttrpc_server_new(fd, services, NULL, true, &t.server), 0);
	co_spawn("scenario", scenario, &fn, USEC_NEVER);
	ck_assert_int_eq(loop_run(), 0);
	loop_fini();
	unlink(t.path);
	rmdir(t.dir);
}

static int dial(void)
{
	int fd = sock_unix_connect(t.path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fd_nonblock(fd, true), 0);
	return fd;
}

static struct ttrpc_client *client(void)
{
	struct ttrpc_client *c;

	ck_assert_int_eq(ttrpc_client_new(dial(), &c), 0);
	return c;
}

static CO int call_with(struct ttrpc_client *c, const char *method, const char *id, void *ret,
			struct err *err)
{
	WaitRequest req = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
	_cleanup_free_ char *own = mem_strdup(id);
	const ProtobufCMessageDescriptor *type = &containerd__task__v2__wait_response__descriptor;

	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (str_eq(methods[i].name, method))
			type = methods[i].reply;
	req.id = own;
	return ttrpc_client_call(c, "test.Service", method, "ns1", &req.base, type, ret, err);
}

/* A peer by hand: whole frames and parts of them. */
static void add_frame(struct buf *b, uint32_t stream, uint8_t type, uint8_t flags,
		      const void *payload, size_t len)
{
	uint8_t h[] = { (uint8_t)(len >> 24),
			(uint8_t)(len >> 16),
			(uint8_t)(len >> 8),
			(uint8_t)len,
			(uint8_t)(stream >> 24),
			(uint8_t)(stream >> 16),
			(uint8_t)(stream >> 8),
			(uint8_t)stream,
			type,
			flags };

	buf_add(b, h, sizeof(h));
	buf_add(b, payload, payload ? len : 0);
}

static void add_request(struct buf *b, uint32_t stream, uint8_t flags, const char *svc,
			const char *method, const char *id)
{
	WaitRequest wait = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
	Ttrpc__Request req = TTRPC__REQUEST__INIT;
	_cleanup_free_ char *own_svc = mem_strdup(svc), *own_method = mem_strdup(method),
			    *own_id = mem_strdup(id);

	wait.id = own_id;
	_cleanup_free_ uint8_t *payload = pb_pack(&wait, &req.payload.len);
	req.payload.data = payload;
	req.service = own_svc;
	req.method = own_method;
	size_t len;
	_cleanup_free_ uint8_t *bytes = pb_pack(&req, &len);
	add_frame(b, stream, TTRPC_REQUEST, flags, bytes, len);
}

static CO void put(int fd, const struct buf *b)
{
	ck_assert_int_eq(co_write_full(fd, b->data, b->len), 0);
}

/* Read a response frame; Return: its status code, text to @text if not NULL */
static CO int take(int fd, uint32_t stream, char *text, size_t *ret_payload)
{
	uint8_t h[TTRPC_HEADER_LEN];

	ck_assert_int_eq(co_read_full(fd, h, sizeof(h)), 0);
	size_t len = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
	ck_assert_uint_eq((uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7],
			  stream);
	ck_assert_int_eq(h[8], TTRPC_RESPONSE);
	ck_assert_int_eq(h[9], 0);

	_cleanup_free_ uint8_t *data = malloc(len + 1);
	if (len > 0)
		ck_assert_int_eq(co_read_full(fd, data, len), 0);
	_cleanup_pb_ Ttrpc__Response *resp = NULL;
	ck_assert_int_eq(pb_unpack(&ttrpc__response__descriptor, data, len, &resp, NULL), 0);
	if (ret_payload)
		*ret_payload = resp->payload.len;
	if (text)
		snprintf(text, 200, "%s", resp->status ? resp->status->message : "");
	return resp->status ? resp->status->code : 0;
}

struct sleeper {
	struct ttrpc_client *c;
	const char *method;
	const char *id;
	int result;
	struct err err;
	unsigned order;
	bool done;
};
static unsigned sleepers_done;

static void sleeper_run(void *arg)
{
	struct sleeper *s = arg;
	_cleanup_pb_ void *reply = NULL;

	s->result = call_with(s->c, s->method, s->id, &reply, &s->err);
	if (s->result == 0 && str_eq(s->method, "Sleep"))
		ck_assert_uint_eq(((WaitResponse *)reply)->exit_status, strtoul(s->id, NULL, 10));
	s->order = sleepers_done++;
	s->done = true;
}

static CO void wait_for(const bool *flag)
{
	CO_LIMIT(10 * USEC_PER_SEC);
	while (!*flag)
		ck_assert_int_eq(co_sleep(USEC_PER_MSEC), 0);
}

static CO void wait_parked(unsigned n)
{
	CO_LIMIT(20 * USEC_PER_SEC);
	while (t.n_parked < n)
		ck_assert_int_eq(co_sleep(USEC_PER_MSEC), 0);
}

static CO void out_of_order(void)
{
	struct ttrpc_client *c = client();
	struct sleeper s[3] = { { c, "Sleep", "90" }, { c, "Sleep", "10" }, { c, "Sleep", "50" } };

	sleepers_done = 0;
	for (int i = 0; i < 3; i++)
		co_spawn("sleeper", sleeper_run, &s[i], USEC_NEVER);
	wait_for(&s[0].done);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(s[i].result, 0);
	ck_assert_uint_eq(s[1].order, 0);
	ck_assert_uint_eq(s[2].order, 1);
	ck_assert_uint_eq(s[0].order, 2);
	ck_assert_str_eq(t.namespace, "ns1");
	ck_assert_uint_eq(ttrpc_server_connections(t.server), 1);
	ttrpc_client_free(c);
}

START_TEST(calls_on_one_connection_run_at_once_and_answer_out_of_order)
{
	run(out_of_order);
}
END_TEST

static CO void statuses(void)
{
	struct ttrpc_client *c = client();
	struct err err = { 0 };
	WaitRequest req = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
	void *reply = NULL;

	ck_assert_int_eq(call_with(c, "Fail", "x", &reply, &err), -ERR_NOT_FOUND);
	ck_assert_str_eq(err.text, "Fail: no such thing: x?");
	ck_assert_int_eq(call_with(c, "Fail", "bare", &reply, &err), -ERR_STATE);
	ck_assert_int_eq(call_with(c, "Absent", "x", &reply, &err), -ERR_UNIMPLEMENTED);
	ck_assert_str_eq(err.text, "Absent: method Absent");
	ck_assert_int_eq(ttrpc_client_call(c, "test.v3.Service", "Sleep", NULL, &req.base, NULL,
					   NULL, &err),
			 -ERR_UNIMPLEMENTED);
	ck_assert_str_eq(err.text, "Sleep: service test.v3.Service");
	ck_assert_ptr_null(reply);
	/* The same methods under another service's name; no namespace; the answer does not matter.
	 */
	ck_assert_int_eq(ttrpc_client_call(c, "test.v2.Service", "Sleep", NULL, &req.base, NULL,
					   NULL, &err),
			 0);
	ck_assert_str_eq(t.namespace, "");
	ck_assert_int_eq(call_with(c, "Nothing", "x", &reply, &err), 0);
	ck_assert_ptr_nonnull(reply);
	pb_free(reply);
	ttrpc_client_free(c);
}

START_TEST(failures_become_statuses_and_come_back_as_kinds_with_their_text)
{
	run(statuses);
}
END_TEST

static CO void empty_reply(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };
	uint8_t frame[TTRPC_HEADER_LEN];
	static const uint8_t want[] = { 0, 0, 0, 0, 0, 0, 0, 1, 2, 0 };

	add_request(&b, 1, 0, "test.Service", "Nothing", "");
	put(fd, &b);
	ck_assert_int_eq(co_read_full(fd, frame, sizeof(frame)), 0);
	ck_assert_mem_eq(frame, want, sizeof(want));
}

START_TEST(an_empty_reply_is_a_frame_of_length_zero)
{
	run(empty_reply);
}
END_TEST

static CO void not_utf8(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };
	char text[200];

	add_request(&b, 1, 0, "test.Service", "Fail", "x");
	put(fd, &b);
	ck_assert_int_eq(take(fd, 1, text, NULL), 5);
	ck_assert_str_eq(text, "no such thing: x?");
}

START_TEST(what_is_no_utf8_never_reaches_a_client)
{
	run(not_utf8);
}
END_TEST

static CO void byte_by_byte(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };

	add_request(&b, 1, 0, "test.Service", "Sleep", "1");
	add_request(&b, 3, 0, "test.Service", "Fail", "x");
	for (size_t i = 0; i < b.len; i++) {
		ck_assert_int_eq(co_write_full(fd, b.data + i, 1), 0);
		co_sleep(100);
	}
	/* The first answers while the second still comes in. */
	ck_assert_int_eq(take(fd, 1, NULL, NULL), 0);
	ck_assert_int_eq(take(fd, 3, NULL, NULL), 5);
}

START_TEST(frames_may_come_byte_by_byte)
{
	run(byte_by_byte);
}
END_TEST

static CO void many_in_one(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };

	for (uint32_t i = 0; i < 500; i++)
		add_request(&b, 2 * i + 1, 0, "test.Service", "Nothing", "x");
	put(fd, &b);
	for (uint32_t i = 0; i < 500; i++)
		ck_assert_int_eq(take(fd, 2 * i + 1, NULL, NULL), 0);
}

START_TEST(many_frames_may_come_in_one_read)
{
	run(many_in_one);
}
END_TEST

static CO void oversize(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_free_ uint8_t *big = mem_new0(TTRPC_MESSAGE_MAX + 1, 1);
	char text[200];

	add_frame(&b, 1, TTRPC_REQUEST, 0, big, TTRPC_MESSAGE_MAX + 1);
	add_request(&b, 3, 0, "test.Service", "Nothing", "");
	put(fd, &b);
	ck_assert_int_eq(take(fd, 1, text, NULL), 8);
	ck_assert_ptr_nonnull(strstr(text, "4194304"));
	ck_assert_int_eq(take(fd, 3, NULL, NULL), 0);

	/* The largest that is allowed is read whole: it is no protobuf, and told so. */
	_cleanup_buf_ struct buf exact = { 0 };
	memset(big, 0xff, TTRPC_MESSAGE_MAX);
	add_frame(&exact, 5, TTRPC_REQUEST, 0, big, TTRPC_MESSAGE_MAX);
	put(fd, &exact);
	ck_assert_int_eq(take(fd, 5, NULL, NULL), 3);
}

START_TEST(a_message_over_4_mib_is_dropped_and_the_connection_lives)
{
	run(oversize);
}
END_TEST

static CO void big_reply(void)
{
	struct ttrpc_client *c = client();
	struct err err = { 0 };
	ConnectResponse *reply = NULL;
	void *none = NULL;

	ck_assert_int_eq(call_with(c, "Bytes", "4000000", &reply, &err), 0);
	ck_assert_uint_eq(strlen(reply->version), 4000000);
	pb_free(reply);
	ck_assert_int_eq(call_with(c, "Bytes", "4194304", &none, &err), -ERR_EXHAUSTED);
	ck_assert_ptr_null(none);

	_cleanup_free_ char *id = mem_new0(TTRPC_MESSAGE_MAX + 1, 1);
	memset(id, 'x', TTRPC_MESSAGE_MAX);
	ck_assert_int_eq(call_with(c, "Nothing", id, &none, &err), -ERR_EXHAUSTED);
	ck_assert_int_eq(call_with(c, "Nothing", "x", NULL, &err), 0);
	ttrpc_client_free(c);
}

START_TEST(an_answer_over_4_mib_becomes_resource_exhausted)
{
	run(big_reply);
}
END_TEST

static CO void protocol_errors(void)
{
	_cleanup_fd_ int fd = dial();
	char text[200];
	_cleanup_buf_ struct buf b = { 0 };

	add_request(&b, 2, 0, "test.Service", "Nothing", "");
	add_request(&b, 0, 0, "test.Service", "Nothing", "");
	add_request(&b, 7, 0, "test.Service", "Nothing", "");
	put(fd, &b);
	ck_assert_int_eq(take(fd, 2, text, NULL), 3);
	ck_assert_str_eq(text, "StreamID must be odd for client initiated streams");
	ck_assert_int_eq(take(fd, 0, text, NULL), 3);
	ck_assert_int_eq(take(fd, 7, NULL, NULL), 0);

	buf_eat(&b, b.len);
	add_request(&b, 7, 0, "test.Service", "Nothing", "");
	add_request(&b, 5, 0, "test.Service", "Nothing", "");
	put(fd, &b);
	ck_assert_int_eq(take(fd, 7, text, NULL), 3);
	ck_assert_str_eq(text, "StreamID cannot be re-used and must increment");
	ck_assert_int_eq(take(fd, 5, NULL, NULL), 3);

	buf_eat(&b, b.len);
	add_frame(&b, 9, TTRPC_DATA, 0, "x", 1);
	add_request(&b, 9, TTRPC_FLAG_REMOTE_OPEN, "test.Service", "Nothing", "");
	add_frame(&b, 11, TTRPC_REQUEST, 0, "\xff\xff\xff", 3);
	/* Responses and types of the future are none of a server's business. */
	add_frame(&b, 13, TTRPC_RESPONSE, 0, "x", 1);
	add_frame(&b, 13, 77, 0, "x", 1);
	add_request(&b, 13, TTRPC_FLAG_REMOTE_CLOSED, "test.Service", "Nothing", "");
	put(fd, &b);
	ck_assert_int_eq(take(fd, 9, NULL, NULL), 12);
	ck_assert_int_eq(take(fd, 9, NULL, NULL), 12);
	ck_assert_int_eq(take(fd, 11, NULL, NULL), 3);
	ck_assert_int_eq(take(fd, 13, NULL, NULL), 0);
}

START_TEST(protocol_errors_are_answered_on_their_stream_and_the_connection_lives)
{
	run(protocol_errors);
}
END_TEST

static CO void bad_payload(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };
	static const uint8_t req[] = "\x0a\x0ctest.Service\x12\x07Nothing\x1a\x03\x0a\x7f!";
	char text[200];

	add_frame(&b, 1, TTRPC_REQUEST, 0, req, sizeof(req) - 1);
	put(fd, &b);
	ck_assert_int_eq(take(fd, 1, text, NULL), 3);
	ck_assert_str_eq(text, "malformed containerd.task.v2.WaitRequest");
}

START_TEST(a_payload_that_does_not_decode_is_an_invalid_argument)
{
	run(bad_payload);
}
END_TEST

static CO void garbage(void)
{
	for (unsigned seed = 1; seed <= 50; seed++) {
		_cleanup_fd_ int fd = dial();
		uint8_t data[512];

		srandom(seed);
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)random();
		ck_assert_int_eq(co_write_full(fd, data, sizeof(data)), 0);
	}
	struct ttrpc_client *c = client();
	ck_assert_int_eq(call_with(c, "Nothing", "", NULL, NULL), 0);
	ck_assert_uint_eq(ttrpc_server_connections(t.server), 1);
	ttrpc_client_free(c);
}

START_TEST(garbage_harms_nobody_else)
{
	run(garbage);
}
END_TEST

static CO void deadlines(void)
{
	struct ttrpc_client *c = client();
	struct err err = { 0 };

	ck_assert_int_eq(call_with(c, "Sleep", "1", NULL, &err), 0);
	ck_assert(t.deadline == USEC_NEVER);
	uint64_t before = time_mono();
	{
		CO_LIMIT(100 * USEC_PER_MSEC);
		ck_assert_int_eq(call_with(c, "Sleep", "60000", NULL, &err), -ETIMEDOUT);
	}
	ck_assert_uint_lt(time_mono() - before, 5 * USEC_PER_SEC);
	ck_assert(t.deadline >= before + 50 * USEC_PER_MSEC);
	ck_assert(t.deadline <= before + 500 * USEC_PER_MSEC);
	/* The server's side ends as well, and its late answer confuses nobody. */
	bool ended = false;
	while (!ended) {
		co_sleep(10 * USEC_PER_MSEC);
		ended = t.finished == 2;
	}
	ck_assert_int_eq(call_with(c, "Sleep", "2", NULL, &err), 0);
	{
		CO_LIMIT(0);
		ck_assert_int_eq(call_with(c, "Sleep", "1", NULL, &err), -ETIMEDOUT);
	}
	ttrpc_client_free(c);
}

START_TEST(the_deadline_travels_and_ends_both_sides)
{
	run(deadlines);
}
END_TEST

static CO void expired_status(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };
	/* timeout_nano 1000000, and -1 */
	static const uint8_t soon[] = "\x0a\x0ctest.Service\x12\x05Sleep\x1a\x04\x0a\x02"
				      "99\x20\xc0\x84\x3d";
	static const uint8_t past[] = "\x0a\x0ctest.Service\x12\x05Sleep\x1a\x04\x0a\x02"
				      "99\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";

	add_frame(&b, 1, TTRPC_REQUEST, 0, soon, sizeof(soon) - 1);
	put(fd, &b);
	ck_assert_int_eq(take(fd, 1, NULL, NULL), 4);
	buf_eat(&b, b.len);
	add_frame(&b, 3, TTRPC_REQUEST, 0, past, sizeof(past) - 1);
	put(fd, &b);
	ck_assert_int_eq(take(fd, 3, NULL, NULL), 4);
}

START_TEST(an_expired_call_answers_deadline_exceeded)
{
	run(expired_status);
}
END_TEST

static CO void parked(void)
{
	struct ttrpc_client *c = client();
	struct sleeper ok = { c, "Park", "a" }, bad = { c, "Park", "b" };
	struct err err = { 0 };

	co_spawn("sleeper", sleeper_run, &ok, USEC_NEVER);
	co_spawn("sleeper", sleeper_run, &bad, USEC_NEVER);
	wait_parked(2);
	((WaitResponse *)(void *)ttrpc_parked_reply(t.parked[0]))->exit_status = 5;
	ttrpc_reply(t.parked[0], 0, NULL);
	err_set(&err, -ERR_NOT_FOUND, "gone");
	ttrpc_reply(t.parked[1], -ERR_NOT_FOUND, &err);
	wait_for(&ok.done);
	wait_for(&bad.done);
	ck_assert_int_eq(ok.result, 0);
	ck_assert_int_eq(bad.result, -ERR_NOT_FOUND);
	ck_assert_str_eq(bad.err.text, "Park: gone");
	ttrpc_client_free(c);
}

START_TEST(a_parked_call_is_answered_later)
{
	run(parked);
}
END_TEST

static CO void parked_slowly(void)
{
	struct ttrpc_client *c = client();
	struct sleeper s = { c, "ParkSlowly", "a" };

	co_spawn("sleeper", sleeper_run, &s, USEC_NEVER);
	wait_parked(1);
	ttrpc_reply(t.parked[0], 0, NULL);
	wait_for(&s.done);
	ck_assert_int_eq(s.result, 0);
	ck_assert_uint_eq(t.finished, 0);
	co_sleep(60 * USEC_PER_MSEC);
	ck_assert_uint_eq(t.finished, 1);
	ttrpc_client_free(c);
}

START_TEST(a_parked_call_may_be_answered_before_its_handler_returns)
{
	run(parked_slowly);
}
END_TEST

static CO void client_gone(void)
{
	int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };

	add_request(&b, 1, 0, "test.Service", "Park", "");
	add_request(&b, 3, 0, "test.Service", "Sleep", "50");
	put(fd, &b);
	wait_parked(1);
	fd_close(fd);
	while (ttrpc_server_connections(t.server) > 0)
		co_sleep(USEC_PER_MSEC);
	ck_assert_uint_eq(t.finished, 0);
	ttrpc_reply(t.parked[0], 0, NULL);
	co_sleep(100 * USEC_PER_MSEC);
	/* Its handler was not torn: it slept to its end. */
	ck_assert_uint_eq(t.finished, 1);
	struct ttrpc_client *c = client();
	ck_assert_int_eq(call_with(c, "Nothing", "", NULL, NULL), 0);
	ttrpc_client_free(c);
}

START_TEST(handlers_and_parked_calls_outlive_their_client)
{
	run(client_gone);
}
END_TEST

static CO void server_gone(void)
{
	struct ttrpc_client *c = client();
	struct sleeper park = { c, "Park", "" }, slow = { c, "Sleep", "60000" };

	co_spawn("sleeper", sleeper_run, &park, USEC_NEVER);
	co_spawn("sleeper", sleeper_run, &slow, USEC_NEVER);
	wait_parked(1);
	t.server = ttrpc_server_free(t.server);
	wait_for(&park.done);
	wait_for(&slow.done);
	ck_assert_int_eq(park.result, -ECONNRESET);
	ck_assert_int_eq(slow.result, -ECONNRESET);
	ck_assert(ttrpc_client_dead(c));
	ck_assert_int_eq(call_with(c, "Nothing", "", NULL, NULL), -ECONNRESET);
	/* The parked call is dead, and still to be answered by who holds it. */
	ttrpc_reply(t.parked[0], 0, NULL);
	ttrpc_client_free(c);
}

START_TEST(freeing_the_server_cancels_handlers_and_ends_clients)
{
	run(server_gone);
	ck_assert_uint_eq(t.finished, 1);
}
END_TEST

static CO void client_freed(void)
{
	struct ttrpc_client *c = client();
	struct sleeper s = { c, "Sleep", "100" };

	co_spawn("sleeper", sleeper_run, &s, USEC_NEVER);
	co_sleep(20 * USEC_PER_MSEC);
	ttrpc_client_free(c);
	wait_for(&s.done);
	ck_assert_int_eq(s.result, -ECONNRESET);
}

START_TEST(freeing_a_client_ends_its_pending_calls)
{
	run(client_freed);
}
END_TEST

static CO void cancelled(void)
{
	struct ttrpc_client *c = client();
	struct sleeper s = { c, "Sleep", "50" };

	struct co *co = co_spawn("sleeper", sleeper_run, &s, USEC_NEVER);
	co_sleep(10 * USEC_PER_MSEC);
	co_cancel(co);
	wait_for(&s.done);
	ck_assert_int_eq(s.result, -ECANCELED);
	co_sleep(80 * USEC_PER_MSEC);
	ck_assert_int_eq(call_with(c, "Nothing", "", NULL, NULL), 0);
	ttrpc_client_free(c);
}

START_TEST(a_cancelled_call_leaves_its_connection_usable)
{
	run(cancelled);
}
END_TEST

static CO void other_uid(void)
{
	/* Go by root's child: only root can be somebody else. */
	pid_t pid = fork();

	if (pid == 0) {
		char byte;
		int fd = -1;
		if (chmod(t.dir, 0755) == 0 && setresuid(65534, 65534, 65534) == 0)
			fd = sock_unix_connect(t.path);
		_exit(fd >= 0 && read(fd, &byte, 1) == 0 ? 42 : 1);
	}
	int status = 0;
	while (waitpid(pid, &status, WNOHANG) == 0)
		co_sleep(USEC_PER_MSEC);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 42);
	ck_assert_uint_eq(ttrpc_server_connections(t.server), 0);
	struct ttrpc_client *c = client();
	ck_assert_int_eq(call_with(c, "Nothing", "", NULL, NULL), 0);
	ttrpc_client_free(c);
}

START_TEST(peers_of_another_uid_are_refused)
{
	if (geteuid() != 0) {
		fprintf(stderr, "not root: cannot be another uid, not tested\n");
		return;
	}
	run(other_uid);
}
END_TEST

static CO void thousand(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };

	struct mallinfo2 before = mallinfo2();
	for (uint32_t i = 0; i < PARKED_MAX; i++) {
		buf_eat(&b, b.len);
		add_request(&b, 2 * i + 1, 0, "test.Service", "Park",
			    "a-container-id-of-64-bytes-as-containerd-makes-them");
		put(fd, &b);
		if (i % 100 == 99)
			wait_parked(i + 1);
	}
	wait_parked(PARKED_MAX);
	struct mallinfo2 after = mallinfo2();
	fprintf(stderr, "1000 parked calls: %zu bytes each, %u coroutines\n",
		(after.uordblks - before.uordblks) / PARKED_MAX, co_count());
	ck_assert_uint_eq(co_count(), 1);
	for (unsigned i = PARKED_MAX; i-- > 0;)
		ttrpc_reply(t.parked[i], 0, NULL);
	for (unsigned i = PARKED_MAX; i-- > 0;)
		ck_assert_int_eq(take(fd, 2 * i + 1, NULL, NULL), 0);
}

START_TEST(a_thousand_parked_calls_hold_no_coroutine)
{
	run(thousand);
}
END_TEST

static CO void too_many(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };

	/* Above the cap at once: those over it are refused, none is lost. */
	for (uint32_t i = 0; i < 1100; i++)
		add_request(&b, 2 * i + 1, 0, "test.Service", "Sleep", "300");
	put(fd, &b);
	for (uint32_t i = 1024; i < 1100; i++)
		ck_assert_int_eq(take(fd, 2 * i + 1, NULL, NULL), 8);
	for (uint32_t i = 0; i < 1024; i++)
		ck_assert_int_eq(take(fd, 2 * i + 1, NULL, NULL), 0);
}

START_TEST(requests_beyond_the_cap_of_running_handlers_are_refused)
{
	run(too_many);
}
END_TEST

static CO void flush_waits(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };

	ck_assert_int_eq(ttrpc_server_flush(t.server), 0);
	add_request(&b, 1, 0, "test.Service", "Bytes", "3000000");
	put(fd, &b);
	co_sleep(100 * USEC_PER_MSEC);
	{
		/* More than a socket holds, and nobody reads. */
		CO_LIMIT(500 * USEC_PER_MSEC);
		ck_assert_int_eq(ttrpc_server_flush(t.server), -ETIMEDOUT);
	}
	size_t payload;
	ck_assert_int_eq(take(fd, 1, NULL, &payload), 0);
	ck_assert_uint_gt(payload, 3000000);
	ck_assert_int_eq(ttrpc_server_flush(t.server), 0);
}

START_TEST(flush_waits_until_answers_are_written)
{
	run(flush_waits);
}
END_TEST

struct flusher {
	int result;
	bool done;
};

static void flusher_run(void *arg)
{
	struct flusher *f = arg;

	f->result = ttrpc_server_flush(t.server);
	f->done = true;
}

static CO void flush_hangup(void)
{
	int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };
	struct flusher f = { .result = 1 };

	add_request(&b, 1, 0, "test.Service", "Bytes", "3000000");
	put(fd, &b);
	co_sleep(100 * USEC_PER_MSEC);
	co_spawn("flusher", flusher_run, &f, USEC_NEVER);
	co_sleep(50 * USEC_PER_MSEC);
	ck_assert(!f.done);
	fd_close(fd);
	wait_for(&f.done);
	ck_assert_int_eq(f.result, 0);
}

START_TEST(flush_ends_with_the_connection_it_waits_for)
{
	run(flush_hangup);
}
END_TEST

static CO void slow_reader(void)
{
	_cleanup_fd_ int fd = dial();
	_cleanup_buf_ struct buf b = { 0 };

	/* 20 answers of 4 MB, not one read. */
	for (uint32_t i = 0; i < 20; i++)
		add_request(&b, 2 * i + 1, 0, "test.Service", "Bytes", "4000000");
	put(fd, &b);
	CO_LIMIT(20 * USEC_PER_SEC);
	do
		ck_assert_int_eq(co_sleep(5 * USEC_PER_MSEC), 0);
	while (ttrpc_server_connections(t.server) > 0);
}

START_TEST(a_peer_that_does_not_read_is_cut_off)
{
	run(slow_reader);
}
END_TEST

static CO void stop_listening(void)
{
	struct ttrpc_client *c = client();

	ck_assert_int_eq(call_with(c, "Nothing", "", NULL, NULL), 0);
	ttrpc_server_stop_listening(t.server);
	ck_assert_int_lt(sock_unix_connect(t.path), 0);
	ck_assert_int_eq(call_with(c, "Nothing", "", NULL, NULL), 0);
	ttrpc_client_free(c);
}

START_TEST(open_connections_live_on_when_listening_stops)
{
	run(stop_listening);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire ttrpc");
	TCase *tc = tcase_create("ttrpc");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, calls_on_one_connection_run_at_once_and_answer_out_of_order);
	tcase_add_test(tc, failures_become_statuses_and_come_back_as_kinds_with_their_text);
	tcase_add_test(tc, an_empty_reply_is_a_frame_of_length_zero);
	tcase_add_test(tc, what_is_no_utf8_never_reaches_a_client);
	tcase_add_test(tc, frames_may_come_byte_by_byte);
	tcase_add_test(tc, many_frames_may_come_in_one_read);
	tcase_add_test(tc, a_message_over_4_mib_is_dropped_and_the_connection_lives);
	tcase_add_test(tc, an_answer_over_4_mib_becomes_resource_exhausted);
	tcase_add_test(tc, protocol_errors_are_answered_on_their_stream_and_the_connection_lives);
	tcase_add_test(tc, a_payload_that_does_not_decode_is_an_invalid_argument);
	tcase_add_test(tc, garbage_harms_nobody_else);
	tcase_add_test(tc, the_deadline_travels_and_ends_both_sides);
	tcase_add_test(tc, an_expired_call_answers_deadline_exceeded);
	tcase_add_test(tc, a_parked_call_is_answered_later);
	tcase_add_test(tc, a_parked_call_may_be_answered_before_its_handler_returns);
	tcase_add_test(tc, handlers_and_parked_calls_outlive_their_client);
	tcase_add_test(tc, freeing_the_server_cancels_handlers_and_ends_clients);
	tcase_add_test(tc, freeing_a_client_ends_its_pending_calls);
	tcase_add_test(tc, a_cancelled_call_leaves_its_connection_usable);
	tcase_add_test(tc, peers_of_another_uid_are_refused);
	tcase_add_test(tc, a_thousand_parked_calls_hold_no_coroutine);
	tcase_add_test(tc, requests_beyond_the_cap_of_running_handlers_are_refused);
	tcase_add_test(tc, flush_waits_until_answers_are_written);
	tcase_add_test(tc, flush_ends_with_the_connection_it_waits_for);
	tcase_add_test(tc, a_peer_that_does_not_read_is_cut_off);
	tcase_add_test(tc, open_connections_live_on_when_listening_stops);
	suite_add_tcase(suite, tc);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
