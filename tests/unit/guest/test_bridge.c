/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "fake.h"
#include "guest/bridge.h"
#include "guest/rate.h"
#include "wire/json.h"

static struct bridge *b;
static int peer;
static unsigned ended;

static void on_ended(void *arg)
{
	ck_assert(!bridge_alive(b));
	ended++;
}

static void begin(void)
{
	int pair[2];

	ended = 0;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	peer = pair[1];
	ck_assert_int_eq(bridge_new(pair[0], on_ended, NULL, &b), 0);
}

static void finish(void)
{
	b = bridge_free(b);
	peer = fd_close(peer);
}

/** properties() - a call whose answer has a text; the text, or NULL */
static char *properties(const char *id, int expected, struct err *err)
{
	char *name = strdup(id);
	struct gcs_properties_query query = { 0 };
	struct gcs_properties_request request = { .base.container_id = name, .query = &query };
	struct gcs_properties_reply reply = { 0 };
	char *text;
	int r;

	r = bridge_call(b, GCS_GET_PROPERTIES, &gcs_properties_request_table, &request,
			&gcs_properties_reply_table, &reply, err);
	ck_assert_msg(r == expected, "%d, not %d: %s", r, expected, err ? err->text : "");
	text = TAKE_PTR(reply.properties);
	json_free(&gcs_properties_reply_table, &reply);
	free(name);
	return text;
}

static void expect_text(const char *id, const char *text)
{
	_cleanup_free_ char *got = properties(id, 0, NULL);

	ck_assert_str_eq(got, text);
}

/** expect_broken() - the next call breaks the bridge for a reason */
static void expect_broken(const char *reason)
{
	struct err err = { 0 };

	ck_assert_ptr_null(properties("c", -ERR_UNAVAILABLE, &err));
	ck_assert_msg(strstr(err.text, reason), "%s", err.text);
	ck_assert(!bridge_alive(b));
	ck_assert_uint_eq(ended, 1);
	/* later calls end at once, and for the same reason */
	ck_assert_ptr_null(properties("c", -ERR_UNAVAILABLE, &err));
	ck_assert_msg(strstr(err.text, reason), "%s", err.text);
	ck_assert_uint_eq(ended, 1);
	finish();
}

static void answer(uint64_t id, const char *text)
{
	_cleanup_free_ char *fields = str_printf(",\"Properties\":\"%s\"", text);

	fake_answer(peer, GCS_GET_PROPERTIES, id, fields);
}

/* --- one frame after the other --- */

static void host_counts(void)
{
	begin();
	for (int i = 0; i < 3; i++)
		expect_text("c", "x");
	finish();
}

static void guest_counts(void)
{
	while (!b)
		co_sleep(0);
	for (uint64_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(fake_expect(peer, GCS_GET_PROPERTIES, NULL), i);
		answer(i, "x");
	}
}

START_TEST(ids_count_from_zero)
{
	fake_run(host_counts, guest_counts);
}
END_TEST

static void host_one_write(void)
{
	begin();
	ck_assert_uint_eq(fake_sends(), 0);
	expect_text("c", "x");
	ck_assert_uint_eq(fake_sends(), 1);
	finish();
}

static void guest_one(void)
{
	while (!b)
		co_sleep(0);
	answer(fake_expect(peer, GCS_GET_PROPERTIES,
			   "{\"ContainerId\":\"c\",\"ActivityId\":\"00000000-0000-0000-0000-"
			   "000000000000\","
			   "\"Query\":\"{}\"}"),
	       "x");
}

START_TEST(a_frame_is_sent_with_one_write)
{
	fake_run(host_one_write, guest_one);
}
END_TEST

static void host_dribbles(void)
{
	begin();
	fake_send_max(1);
	expect_text("c", "x");
	finish();
}

static void guest_dribbles(void)
{
	static const char body[] = "{\"Result\":0,\"Properties\":\"x\"}";
	uint8_t frame[GCS_HEADER + sizeof(body) - 1];
	uint64_t id;

	while (!b)
		co_sleep(0);
	id = fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	gcs_header_encode(&(struct gcs_header){ gcs_response(GCS_GET_PROPERTIES), sizeof(frame),
						id },
			  frame);
	memcpy(frame + GCS_HEADER, body, sizeof(body) - 1);
	for (size_t i = 0; i < sizeof(frame); i++) {
		ck_assert_int_eq(write(peer, frame + i, 1), 1);
		co_sleep(0);
	}
}

START_TEST(frames_may_come_and_go_byte_by_byte)
{
	fake_run(host_dribbles, guest_dribbles);
}
END_TEST

/* --- many at once --- */

enum { MANY = 20 };
static unsigned many_left;

static void one_of_many(void *arg)
{
	_cleanup_free_ char *id = str_printf("c%u", (unsigned)(uintptr_t)arg);

	expect_text(id, id);
	many_left--;
}

static void host_many(void)
{
	begin();
	many_left = MANY;
	for (uintptr_t i = 0; i < MANY; i++)
		co_spawn("one", one_of_many, (void *)i, USEC_NEVER);
	while (many_left)
		co_sleep(1000);
	finish();
}

static void guest_backwards(void)
{
	struct fake_request rq[MANY];

	while (!b)
		co_sleep(0);
	for (int i = 0; i < MANY; i++)
		rq[i] = fake_read(peer);
	for (int i = MANY - 1; i >= 0; i--) {
		unsigned n;

		ck_assert_int_eq(sscanf(rq[i].body, "{\"ContainerId\":\"c%u\"", &n), 1);
		free(rq[i].body);
		_cleanup_free_ char *text = str_printf("c%u", n);
		answer(rq[i].header.id, text);
	}
}

START_TEST(answers_may_come_in_any_order)
{
	fake_run(host_many, guest_backwards);
}
END_TEST

static void one_lost(void *arg)
{
	struct err err = { 0 };

	ck_assert_ptr_null(properties("c", -ERR_UNAVAILABLE, &err));
	ck_assert_str_eq(err.text, "guest: the bridge has ended: the guest closed it");
	many_left--;
}

static void host_many_lost(void)
{
	begin();
	many_left = MANY;
	for (int i = 0; i < MANY; i++)
		co_spawn("one", one_lost, NULL, USEC_NEVER);
	while (many_left)
		co_sleep(1000);
	ck_assert_uint_eq(ended, 1);
	finish();
}

static void guest_dies(void)
{
	while (!b)
		co_sleep(0);
	for (int i = 0; i < MANY; i++)
		fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	peer = fd_close(peer);
}

START_TEST(the_end_of_the_bridge_ends_every_pending_call)
{
	fake_run(host_many_lost, guest_dies);
}
END_TEST

static void one_closed(void *arg)
{
	struct err err = { 0 };

	ck_assert_ptr_null(properties("c", -ERR_UNAVAILABLE, &err));
	many_left--;
}

static void host_closes(void)
{
	begin();
	many_left = 2;
	co_spawn("one", one_closed, NULL, USEC_NEVER);
	co_spawn("two", one_closed, NULL, USEC_NEVER);
	co_sleep(1000);
	bridge_close(b);
	bridge_close(b);
	while (many_left)
		co_sleep(1000);
	ck_assert_uint_eq(ended, 0);
	finish();
}

START_TEST(closing_ends_pending_calls_and_is_no_loss)
{
	fake_run(host_closes, NULL);
}
END_TEST

/* --- violations --- */

static const struct violation {
	uint32_t type;
	uint32_t size; /* 0: as the body has it */
	const char *body;
	const char *reason;
} violations[] = {
	{ GCS_RESPONSE | 0x100901, 15, "", "a frame has a bad size" },
	{ GCS_RESPONSE | 0x100901, 0, "", "malformed message" },
	{ GCS_RESPONSE | 0x100901, GCS_FRAME_MAX + 1, "", "a frame has a bad size" },
	{ GCS_RESPONSE | 0x100901, UINT32_MAX, "", "a frame has a bad size" },
	{ GCS_RESPONSE | 0x100901, 0, "{", "malformed message" },
	{ GCS_RESPONSE | 0x100901, 0, "{\"Result\":0,\"Properties\":\"\xff\"}",
	  "malformed message" },
	{ GCS_RESPONSE | 0x100901, 0, "[]", "malformed answer to GetProperties" },
	{ GCS_RESPONSE | 0x100901, 0, "{\"Result\":\"zero\"}",
	  "malformed answer to GetProperties" },
	{ GCS_RESPONSE | 0x100901, 0, "{\"Result\":2147500037}",
	  "malformed answer to GetProperties" },
	{ GCS_RESPONSE | 0x100901, 0, "{\"Result\":0,\"Properties\":7}",
	  "malformed answer to GetProperties" },
	{ GCS_RESPONSE | 0x100101, 0, "{\"Result\":0}",
	  "was answered with a message of type 0x20100101" },
	{ GCS_REQUEST | 0x100901, 0, "{}", "a message of type 0x10100901 is not for the host" },
	{ 0, 0, "{}", "a message of type 0x00000000 is not for the host" },
	{ 0x40000000, 0, "{}", "a message of type 0x40000000 is not for the host" },
	{ GCS_CONTAINER_EXITED, 0, "{\"Type\":{}}", "malformed notification" },
	{ GCS_CONTAINER_OOM, 0, "{\"OomKills\":-1}", "malformed notification" },
};
static const struct violation *violation;

static void host_violated(void)
{
	begin();
	expect_broken(violation->reason);
}

static void guest_violates(void)
{
	uint8_t raw[GCS_HEADER];
	uint64_t id;

	while (!b)
		co_sleep(0);
	id = fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	if (violation->size == 0) {
		fake_write(peer, violation->type, id, violation->body);
	} else {
		gcs_header_encode(&(struct gcs_header){ violation->type, violation->size, id },
				  raw);
		ck_assert_int_eq(write(peer, raw, sizeof(raw)), sizeof(raw));
	}
	while (b)
		co_sleep(1000);
}

START_TEST(a_violation_ends_the_bridge_and_says_which)
{
	_cleanup_free_ char *log = NULL;

	violation = &violations[_i];
	fake_run(host_violated, guest_violates);
	log = fake_log();
	ck_assert_msg(strstr(log, violation->reason), "%s", log);
}
END_TEST

static void host_cut(void)
{
	begin();
	expect_broken("the guest closed it");
}

static int cut_at;

static void guest_cuts(void)
{
	while (!b)
		co_sleep(0);
	fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	/* type, size and id of an answer of 64 bytes, and the beginning of its body */
	ck_assert_int_eq(write(peer, "\1\11\20\40\100\0\0\0\0\0\0\0\0\0\0\0{\"Re", (size_t)cut_at),
			 cut_at);
	peer = fd_close(peer);
}

START_TEST(an_end_within_a_frame_is_a_disconnect)
{
	cut_at = _i;
	fake_run(host_cut, guest_cuts);
}
END_TEST

/* --- what is not fatal --- */

static char oom_seen[64];

static void on_oom(const char *container, uint64_t kills, void *arg)
{
	snprintf(oom_seen + strlen(oom_seen), sizeof(oom_seen) - strlen(oom_seen), "%s %llu;",
		 container, (unsigned long long)kills);
}

static void host_unmoved(void)
{
	begin();
	oom_seen[0] = '\0';
	bridge_on_oom(b, on_oom, NULL);
	expect_text("c", "x");
	ck_assert(bridge_alive(b));
	finish();
}

static void guest_chatters(void)
{
	uint64_t id;

	while (!b)
		co_sleep(0);
	id = fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	fake_write(peer, gcs_response(GCS_CREATE), 4711, "{\"Result\":0}");
	fake_write(peer, 0x30100999, 0, "{}");
	fake_write(peer, GCS_CONTAINER_EXITED, 0,
		   "{\"ContainerId\":\"../x\",\"Type\":\"ForcedExit\"}");
	fake_write(peer, GCS_CONTAINER_EXITED, 0,
		   "{\"ContainerId\":\"c7\",\"ActivityId\":\"\",\"Type\":\"Forced\\u0007Exit\","
		   "\"Operation\":\"None\"}");
	fake_write(peer, GCS_CONTAINER_OOM, 0, "{\"ContainerId\":\"../x\",\"OomKills\":1}");
	fake_write(peer, GCS_CONTAINER_OOM, 0, "{\"ContainerId\":\"c7\",\"OomKills\":2}");
	answer(id, "x");
}

START_TEST(unknown_ids_and_notifications_are_dropped_with_a_line_in_the_log)
{
	_cleanup_free_ char *log = NULL;

	fake_run(host_unmoved, guest_chatters);
	log = fake_log();
	ck_assert_msg(strstr(log, "dropped an answer to request 4711"), "%s", log);
	ck_assert_msg(strstr(log, "dropped a notification of unknown type 0x30100999"), "%s", log);
	ck_assert_msg(strstr(log, "without a valid container id"), "%s", log);
	ck_assert_msg(strstr(log, "the container has ended: Forced?Exit\" container=c7"), "%s",
		      log);
	ck_assert_str_eq(oom_seen, "c7 2;");
}
END_TEST

enum { FLOOD = 2000 };

static void guest_floods(void)
{
	uint64_t id;

	while (!b)
		co_sleep(0);
	id = fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	for (int i = 0; i < FLOOD; i++)
		fake_write(peer, 0x30100999, 0, "{}");
	answer(id, "x");
}

START_TEST(a_flood_of_notifications_does_not_flood_the_log)
{
	_cleanup_free_ char *log = NULL;
	unsigned lines = 0;

	fake_run(host_unmoved, guest_floods);
	log = fake_log();
	for (const char *p = log; (p = strchr(p, '\n')); p++)
		lines++;
	ck_assert_uint_ge(lines, 1);
	ck_assert_uint_lt(lines, 100);
}
END_TEST

/* --- refusals --- */

static const struct {
	uint32_t hresult;
	const char *message;
	int code;
	const char *text;
} refusals[] = {
	{ HR_SYSTEM_NOT_FOUND, "HRESULT: 0xc037010e", -ERR_NOT_FOUND,
	  "guest: HRESULT: 0xc037010e" },
	{ HR_NOT_FOUND, "gone", -ERR_NOT_FOUND, "guest: gone" },
	{ HR_SYSTEM_EXISTS, "id exists", -ERR_EXISTS, "guest: id exists" },
	{ HR_INVALID_STATE, "still running", -ERR_STATE, "guest: still running" },
	{ HR_NOT_IMPL, "no", -ERR_UNIMPLEMENTED, "guest: no" },
	{ HR_TIMEOUT, "late", -ETIMEDOUT, "guest: late" },
	{ HR_FAIL, "bell \\u0007 and \\u001b[31mred", -EREMOTEIO, "guest: bell ? and ?[31mred" },
	{ HR_FAIL, "", -EREMOTEIO, "guest: GetProperties failed with HRESULT 0x80004005" },
	{ 0x80079999, "odd", -EREMOTEIO, "guest: odd" },
};

static void host_refused(void)
{
	begin();
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct err err = { 0 };

		ck_assert_ptr_null(properties("c", refusals[i].code, &err));
		ck_assert_str_eq(err.text, refusals[i].text);
		ck_assert_uint_eq(err.hresult, refusals[i].hresult);
		ck_assert_int_eq(err.code, refusals[i].code);
	}
	ck_assert_ptr_null(properties("c", -EREMOTEIO, NULL));
	ck_assert(bridge_alive(b));
	finish();
}

static void guest_refuses(void)
{
	while (!b)
		co_sleep(0);
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		fake_refusal(peer, GCS_GET_PROPERTIES, fake_expect(peer, GCS_GET_PROPERTIES, NULL),
			     refusals[i].hresult, refusals[i].message);
	fake_refusal(peer, GCS_GET_PROPERTIES, fake_expect(peer, GCS_GET_PROPERTIES, NULL), HR_FAIL,
		     "x");
}

START_TEST(a_refusal_keeps_its_hresult_and_its_words_are_cleaned)
{
	fake_run(host_refused, guest_refuses);
}
END_TEST

static void host_long_words(void)
{
	struct err err = { 0 };

	begin();
	ck_assert_ptr_null(properties("c", -EREMOTEIO, &err));
	ck_assert_uint_ge(strlen(err.text), ERR_TEXT_MAX - 4);
	ck_assert_uint_lt(strlen(err.text), ERR_TEXT_MAX);
	finish();
}

static void guest_long_words(void)
{
	_cleanup_free_ char *words = mem_new0(1, 100001);

	while (!b)
		co_sleep(0);
	memset(words, 'w', 100000);
	fake_refusal(peer, GCS_GET_PROPERTIES, fake_expect(peer, GCS_GET_PROPERTIES, NULL), HR_FAIL,
		     words);
}

START_TEST(long_words_of_a_refusal_are_cut)
{
	fake_run(host_long_words, guest_long_words);
}
END_TEST

/* --- deadlines --- */

static void host_short_deadline(void)
{
	struct err err = { 0 };

	begin();
	{
		CO_LIMIT(20000);
		ck_assert_ptr_null(properties("c", -ETIMEDOUT, &err));
	}
	ck_assert_str_eq(err.text, "guest: GetProperties: Connection timed out");
	ck_assert(bridge_alive(b));
	expect_text("c", "second");
	ck_assert_uint_eq(ended, 0);
	finish();
}

static void guest_late(void)
{
	uint64_t late;

	while (!b)
		co_sleep(0);
	late = fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	fake_expect(peer, GCS_GET_PROPERTIES, NULL);
	answer(late, "first");
	answer(late + 1, "second");
}

START_TEST(a_callers_deadline_ends_its_call_only_and_the_late_answer_is_dropped)
{
	_cleanup_free_ char *log = NULL;

	fake_run(host_short_deadline, guest_late);
	log = fake_log();
	ck_assert_msg(strstr(log, "dropped an answer to request 0"), "%s", log);
}
END_TEST

static void host_timeout(void)
{
	begin();
	bridge_set_timeout(b, 20000);
	expect_broken("no answer to GetProperties within 0 s");
}

START_TEST(an_answer_that_takes_too_long_ends_the_bridge)
{
	fake_run(host_timeout, NULL);
}
END_TEST

static void cancelled_call(void *arg)
{
	struct err err = { 0 };

	ck_assert_ptr_null(properties("c", -ECANCELED, &err));
	many_left--;
}

static void host_cancels(void)
{
	struct co *co;

	begin();
	many_left = 1;
	co = co_spawn("cancelled", cancelled_call, NULL, USEC_NEVER);
	co_sleep(5000);
	co_cancel(co);
	while (many_left)
		co_sleep(0);
	expect_text("c", "second");
	finish();
}

START_TEST(a_cancelled_call_ends_and_the_bridge_stays)
{
	fake_run(host_cancels, guest_late);
}
END_TEST

/* --- sizes and writes --- */

static void host_too_large(void)
{
	_cleanup_free_ char *id = mem_new0(1, GCS_FRAME_MAX + 1);
	struct err err = { 0 };

	begin();
	memset(id, 'i', GCS_FRAME_MAX);
	ck_assert_ptr_null(properties(id, -ERR_EXHAUSTED, &err));
	ck_assert_msg(strstr(err.text, "is too large"), "%s", err.text);
	ck_assert_uint_eq(fake_sends(), 0);
	expect_text("c", "x");
	finish();
}

START_TEST(a_request_that_is_too_large_is_not_sent)
{
	fake_run(host_too_large, guest_one);
}
END_TEST

enum { LARGE = 10 };

static void host_large(void)
{
	_cleanup_free_ char *id = mem_new0(1, (2 << 20) + 1);

	begin();
	memset(id, 'i', 2 << 20);
	/* More than the host would keep waiting for a guest that takes nothing. */
	for (int i = 0; i < LARGE; i++) {
		_cleanup_free_ char *text = properties(id, 0, NULL);

		ck_assert_uint_eq(strlen(text), 2 << 20);
	}
	finish();
}

static void guest_large(void)
{
	_cleanup_free_ char *text = mem_new0(1, (2 << 20) + 1);

	while (!b)
		co_sleep(0);
	memset(text, 't', 2 << 20);
	for (int i = 0; i < LARGE; i++)
		answer(fake_expect(peer, GCS_GET_PROPERTIES, NULL), text);
}

START_TEST(messages_larger_than_a_socket_buffer_pass_both_ways)
{
	fake_run(host_large, guest_large);
}
END_TEST

static void stuck_call(void *arg)
{
	_cleanup_free_ char *id = mem_new0(1, (3 << 20) + 1);
	int *result = arg;
	struct gcs_simple_request request = { .base.container_id = id };
	struct gcs_reply reply = { 0 };

	memset(id, 'i', 3 << 20);
	*result = bridge_call(b, GCS_START, &gcs_simple_request_table, &request, &gcs_reply_table,
			      &reply, NULL);
	many_left--;
}

static void host_stuck(void)
{
	int results[8] = { 0 };
	unsigned exhausted = 0, lost = 0;

	begin();
	many_left = ARRAY_SIZE(results);
	for (size_t i = 0; i < ARRAY_SIZE(results); i++)
		co_spawn("stuck", stuck_call, &results[i], USEC_NEVER);
	co_sleep(100000);
	bridge_close(b);
	while (many_left)
		co_sleep(1000);
	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		exhausted += results[i] == -ERR_EXHAUSTED;
		lost += results[i] == -ERR_UNAVAILABLE;
	}
	ck_assert_uint_ge(exhausted, 2);
	ck_assert_uint_ge(lost, 3);
	ck_assert_uint_eq(exhausted + lost, ARRAY_SIZE(results));
	finish();
}

START_TEST(a_guest_that_takes_nothing_does_not_fill_the_hosts_memory)
{
	fake_run(host_stuck, NULL);
}
END_TEST

static void host_write_fails(void)
{
	begin();
	fake_send_fail(1);
	expect_broken("write: Broken pipe");
}

START_TEST(a_failed_write_ends_the_bridge)
{
	fake_run(host_write_fails, NULL);
}
END_TEST

/* --- without a coroutine --- */

static struct bridge_pending pending;
static unsigned done;

static void on_done(struct bridge_pending *p, struct json_object *o)
{
	struct gcs_wait_reply reply = { 0 };

	ck_assert_ptr_eq(p, &pending);
	done++;
	ck_assert_int_eq(bridge_decode(b, GCS_WAIT_FOR_PROCESS, o, &gcs_wait_reply_table, &reply,
				       NULL),
			 o ? 0 : -ERR_UNAVAILABLE);
	ck_assert_uint_eq(reply.exit_code, o ? 7 : 0);
	json_free(&gcs_wait_reply_table, &reply);
}

static void begin_wait(void)
{
	struct gcs_wait_request request = { .pid = 42, .timeout_ms = UINT32_MAX };

	done = 0;
	pending.done = on_done;
	ck_assert_int_eq(bridge_begin(b, &pending, GCS_WAIT_FOR_PROCESS, &gcs_wait_request_table,
				      &request, NULL),
			 0);
}

static void host_begins(void)
{
	begin();
	bridge_set_timeout(b, 1000); /* counts for calls only */
	begin_wait();
	while (!done)
		co_sleep(1000);
	bridge_forget(&pending);
	ck_assert_uint_eq(done, 1);
	begin_wait();
	bridge_forget(&pending);
	begin_wait();
	finish();
	ck_assert_uint_eq(done, 1);
}

static void guest_waits(void)
{
	uint64_t id;

	while (!b)
		co_sleep(0);
	id = fake_expect(peer, GCS_WAIT_FOR_PROCESS, NULL);
	co_sleep(20000);
	fake_answer(peer, GCS_WAIT_FOR_PROCESS, id, ",\"ExitCode\":7");
}

START_TEST(a_request_may_be_pending_without_limit_and_be_forgotten)
{
	fake_run(host_begins, guest_waits);
}
END_TEST

START_TEST(the_rate_lets_a_burst_pass_and_then_so_many_a_second)
{
	struct rate r = { .per_sec = 10, .burst = 3 };
	uint64_t now = 1000000000;
	unsigned yes = 0;

	for (int i = 0; i < 10; i++)
		yes += rate_take(&r, now);
	ck_assert_uint_eq(yes, 3);
	ck_assert_uint_eq(r.dropped, 7);
	ck_assert(!rate_take(&r, now + 50000));
	ck_assert(rate_take(&r, now + 100000));
	ck_assert(!rate_take(&r, now + 100000));
	yes = 0;
	for (int i = 0; i < 10; i++)
		yes += rate_take(&r, now + 60000000);
	ck_assert_uint_eq(yes, 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest bridge");
	TCase *c = tcase_create("bridge");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_test(c, ids_count_from_zero);
	tcase_add_test(c, a_frame_is_sent_with_one_write);
	tcase_add_test(c, frames_may_come_and_go_byte_by_byte);
	tcase_add_test(c, answers_may_come_in_any_order);
	tcase_add_test(c, the_end_of_the_bridge_ends_every_pending_call);
	tcase_add_test(c, closing_ends_pending_calls_and_is_no_loss);
	tcase_add_loop_test(c, a_violation_ends_the_bridge_and_says_which, 0,
			    (int)ARRAY_SIZE(violations));
	tcase_add_loop_test(c, an_end_within_a_frame_is_a_disconnect, 0, 21);
	tcase_add_test(c, unknown_ids_and_notifications_are_dropped_with_a_line_in_the_log);
	tcase_add_test(c, a_flood_of_notifications_does_not_flood_the_log);
	tcase_add_test(c, a_refusal_keeps_its_hresult_and_its_words_are_cleaned);
	tcase_add_test(c, long_words_of_a_refusal_are_cut);
	tcase_add_test(c, a_callers_deadline_ends_its_call_only_and_the_late_answer_is_dropped);
	tcase_add_test(c, an_answer_that_takes_too_long_ends_the_bridge);
	tcase_add_test(c, a_cancelled_call_ends_and_the_bridge_stays);
	tcase_add_test(c, a_request_that_is_too_large_is_not_sent);
	tcase_add_test(c, messages_larger_than_a_socket_buffer_pass_both_ways);
	tcase_add_test(c, a_guest_that_takes_nothing_does_not_fill_the_hosts_memory);
	tcase_add_test(c, a_failed_write_ends_the_bridge);
	tcase_add_test(c, a_request_may_be_pending_without_limit_and_be_forgotten);
	tcase_add_test(c, the_rate_lets_a_burst_pass_and_then_so_many_a_second);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
