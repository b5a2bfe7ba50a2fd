/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "fake.h"
#include "guest/guest.h"
#include "vmm/channel.h"

static struct guest *g;
static unsigned lost;
static bool go;

static void on_lost(void *arg)
{
	ck_assert_ptr_null(co_self());
	ck_assert_ptr_eq(arg, &lost);
	ck_assert(!guest_connected(g));
	lost++;
}

static void listen_all(void)
{
	lost = 0;
	g = guest_new(fake_channel(), on_lost, &lost);
	ck_assert_int_eq(guest_listen(g, NULL), 0);
	ck_assert_uint_eq(fake_listening(), 3);
}

static void connect_ok(void)
{
	struct err err = { 0 };

	listen_all();
	ck_assert_msg(guest_connect(g, &err) == 0, "%s", err.text);
	ck_assert(guest_connected(g));
}

/** expect_failure() - of guest_connect() */
static void expect_failure(int code, const char *text)
{
	struct err err = { 0 };
	int r = guest_connect(g, &err);

	ck_assert_msg(r == code, "%d, not %d: %s", r, code, err.text);
	ck_assert_msg(strstr(err.text, text), "%s", err.text);
	ck_assert(!guest_connected(g));
}

static void wait_go(void)
{
	while (!go)
		co_sleep(1000);
}

/* --- ports --- */

static void host_connects(void)
{
	connect_ok();
	ck_assert(guest_caps(g)->guest.signal_process);
	ck_assert(guest_caps(g)->guest.dump_stacks);
	ck_assert(guest_caps(g)->guest.delete_container_state);
	ck_assert(guest_caps(g)->guest.namespace_add);
	ck_assert_str_eq(guest_caps(g)->os_type, "Linux");
	wait_go();
	ck_assert_uint_eq(lost, 0);
	guest_close(g);
	guest_close(g);
	ck_assert(!guest_connected(g));
	co_sleep(0);
	g = guest_free(g);
	ck_assert_ptr_null(guest_free(NULL));
	ck_assert_uint_eq(lost, 0);
}

static void guest_boots(void)
{
	uint8_t bytes[GCS_ENTROPY_BYTES], again[GCS_ENTROPY_BYTES], zero[GCS_ENTROPY_BYTES] = { 0 };
	int fd = fake_dial_wait(GCS_PORT_ENTROPY);

	ck_assert_int_eq(co_read_full(fd, bytes, sizeof(bytes)), 0);
	ck_assert_mem_ne(bytes, zero, sizeof(bytes));
	ck_assert_int_eq(co_read_full(fd, again, sizeof(again)), -ENODATA);
	fd_close(fd);
	ck_assert_int_eq(fake_dial(GCS_PORT_ENTROPY), -ECONNREFUSED);
	fd = fake_boot();
	co_sleep(5000);
	ck_assert_int_eq(fake_dial(GCS_PORT_BRIDGE), -ECONNREFUSED);
	go = true;
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(the_guest_gets_entropy_once_and_then_negotiates)
{
	fake_run(host_connects, guest_boots);
}
END_TEST

static void guest_is_brief(void)
{
	int fd = fake_boot();

	go = true;
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_guest_may_skip_entropy_and_log)
{
	fake_run(host_connects, guest_is_brief);
}
END_TEST

static void guest_logs(void)
{
	int log = fake_dial_wait(GCS_PORT_LOG), fd;

	fake_boot_with("");
	ck_assert_int_eq(co_write_full(log, "{\"msg\":\"one\"}\n", 14), 0);
	fd_close(log);
	/* It lost the stream, and dials again. */
	log = fake_dial_wait(GCS_PORT_LOG);
	ck_assert_int_eq(co_write_full(log, "{\"msg\":\"two\"}\n", 14), 0);
	co_sleep(5000);
	go = true;
	/* The host has closed the bridge; last words still count. */
	co_sleep(20000);
	ck_assert_int_eq(co_write_full(log, "{\"msg\":\"three\"}\nbye", 19), 0);
	fd_close(log);
	fd = fake_dial(GCS_PORT_LOG);
	ck_assert_int_eq(fd, -ECONNREFUSED);
}

static void host_drains(void)
{
	uint64_t begun;

	connect_ok();
	ck_assert(!guest_caps(g)->guest.signal_process);
	wait_go();
	guest_close(g);
	begun = time_mono();
	guest_drain_log(g, 10 * USEC_PER_SEC);
	ck_assert_uint_lt(time_mono() - begun, 5 * USEC_PER_SEC);
	g = guest_free(g);
}

START_TEST(the_log_is_relayed_over_redials_and_past_the_end_of_the_bridge)
{
	_cleanup_free_ char *log = NULL;

	fake_run(host_drains, guest_logs);
	log = fake_log();
	ck_assert(strstr(log, "guest: one"));
	ck_assert(strstr(log, "guest: two"));
	ck_assert(strstr(log, "guest: three"));
	ck_assert(strstr(log, "gcs terminated stderr=\\\"bye"));
}
END_TEST

static void host_drains_shortly(void)
{
	uint64_t begun;

	connect_ok();
	wait_go();
	begun = time_mono();
	guest_drain_log(g, 20000);
	ck_assert_uint_ge(time_mono() - begun, 20000);
	ck_assert_uint_lt(time_mono() - begun, 5 * USEC_PER_SEC);
	guest_drain_log(g, 20000);
	g = guest_free(g);
}

static void guest_holds_its_log(void)
{
	int log = fake_dial_wait(GCS_PORT_LOG);
	int fd = fake_boot();

	ck_assert_int_eq(co_write_full(log, "cut", 3), 0);
	co_sleep(5000);
	go = true;
	fake_expect_end(log);
	fd_close(log);
	fd_close(fd);
}

START_TEST(draining_ends_in_time_and_keeps_what_was_read)
{
	_cleanup_free_ char *log = NULL;

	fake_run(host_drains_shortly, guest_holds_its_log);
	log = fake_log();
	ck_assert_msg(strstr(log, "stderr=\\\"cut"), "%s", log);
}
END_TEST

static void host_frees_at_once(void)
{
	connect_ok();
	wait_go();
	g = guest_free(g);
}

START_TEST(a_guest_may_be_freed_while_its_log_streams)
{
	fake_run(host_frees_at_once, guest_holds_its_log);
}
END_TEST

static const uint32_t ports[] = { GCS_PORT_ENTROPY, GCS_PORT_LOG, GCS_PORT_BRIDGE };
static uint32_t refused;

static void host_cannot_listen(void)
{
	struct err err = { 0 };

	g = guest_new(fake_channel(), on_lost, NULL);
	fake_refuse(refused, -EADDRINUSE);
	ck_assert_int_eq(guest_listen(g, &err), -EADDRINUSE);
	ck_assert_msg(str_starts(err.text, "guest: listen: "), "%s", err.text);
	ck_assert_uint_eq(fake_listening(), 0);
	expect_failure(-ERR_STATE, "does not listen");
	fake_refuse(refused, 0);
	ck_assert_int_eq(guest_listen(g, &err), 0);
	ck_assert_int_eq(guest_listen(g, &err), -ERR_STATE);
	ck_assert_uint_eq(fake_listening(), 3);
	guest_close(g);
	ck_assert_uint_eq(fake_listening(), 0);
	ck_assert_int_eq(guest_listen(g, &err), -ERR_STATE);
	expect_failure(-ERR_STATE, "was closed");
	g = guest_free(g);
}

START_TEST(a_port_that_cannot_be_listened_on_leaves_no_other)
{
	refused = ports[_i];
	fake_run(host_cannot_listen, NULL);
}
END_TEST

static void host_never_listens(void)
{
	g = guest_new(fake_channel(), NULL, NULL);
	ck_assert(!guest_connected(g));
	ck_assert(!guest_caps(g)->guest.signal_process);
	guest_drain_log(g, 1000);
	g = guest_free(g);
}

START_TEST(a_guest_that_never_listened_can_be_freed)
{
	fake_run(host_never_listens, NULL);
}
END_TEST

/* --- failures of the negotiation --- */

static const struct {
	const char *reply;
	int code;
	const char *text;
} replies[] = {
	{ "{\"Result\":0,\"Version\":5,\"Capabilities\":{\"RuntimeOsType\":\"Linux\","
	  "\"GuestDefinedCapabilities\":{}}}",
	  -EPROTO, "it wants protocol version 5, not 4" },
	{ "{\"Result\":0}", -EPROTO, "it wants protocol version 0, not 4" },
	{ "{\"Result\":0,\"Version\":4,\"Capabilities\":{\"RuntimeOsType\":\"Windows\"}}", -EPROTO,
	  "it does not run Linux" },
	{ "{\"Result\":0,\"Version\":4}", -EPROTO, "it does not run Linux" },
	{ "{\"Result\":0,\"Version\":4,\"Capabilities\":{\"SendHostCreateMessage\":true,"
	  "\"RuntimeOsType\":\"Linux\"}}",
	  -ERR_UNIMPLEMENTED, "wants a Create of the VM" },
	{ "{\"Result\":-1070137076,\"ErrorMessage\":\"HRESULT: 0xc037010c\"}", -ERR_UNIMPLEMENTED,
	  "guest: HRESULT: 0xc037010c" },
	{ "{\"Result\":0,\"Version\":-4}", -ERR_UNAVAILABLE,
	  "malformed answer to NegotiateProtocol" },
	{ "{\"Result\":0,\"Version\":4,\"Capabilities\":{\"RuntimeOsType\":4}}", -ERR_UNAVAILABLE,
	  "malformed answer to NegotiateProtocol" },
	{ "", -ERR_UNAVAILABLE, "malformed message" },
};
static unsigned reply;

static void host_does_not_connect(void)
{
	listen_all();
	expect_failure(replies[reply].code, replies[reply].text);
	expect_failure(-ERR_STATE, "was connected before");
	ck_assert_int_eq(guest_modify(g, NULL, "Add", "X", NULL, NULL, NULL), -ERR_UNAVAILABLE);
	co_sleep(5000);
	/* Its caller knows: nothing was lost that there had been. */
	ck_assert_uint_eq(lost, 0);
	ck_assert_ptr_null(guest_caps(g)->os_type);
	wait_go();
	guest_close(g);
	co_sleep(0);
	g = guest_free(g);
}

static void guest_replies(void)
{
	int fd = fake_dial_wait(GCS_PORT_BRIDGE);

	fake_write(fd, gcs_response(GCS_NEGOTIATE), fake_expect(fd, GCS_NEGOTIATE, NULL),
		   replies[reply].reply);
	/* The host hangs up, and not only once it is told to. */
	fake_expect_end(fd);
	fd_close(fd);
	go = true;
}

START_TEST(a_guest_that_does_not_agree_is_not_connected)
{
	reply = (unsigned)_i;
	fake_run(host_does_not_connect, guest_replies);
}
END_TEST

static void host_left(void)
{
	listen_all();
	expect_failure(-ERR_UNAVAILABLE, "the bridge has ended: the guest closed it");
	g = guest_free(g);
}

static void guest_leaves(void)
{
	int fd = fake_dial_wait(GCS_PORT_BRIDGE);

	fake_expect(fd, GCS_NEGOTIATE, NULL);
	fd_close(fd);
}

START_TEST(a_guest_that_hangs_up_while_negotiating_is_not_connected)
{
	fake_run(host_left, guest_leaves);
}
END_TEST

static void host_left_behind(void)
{
	listen_all();
	expect_failure(-ERR_UNAVAILABLE, "hung up once it had negotiated");
	co_sleep(5000);
	ck_assert_uint_eq(lost, 0);
	g = guest_free(g);
}

static void guest_answers_and_leaves(void)
{
	fd_close(fake_boot());
}

START_TEST(a_guest_that_hangs_up_right_behind_its_answer_is_not_connected)
{
	fake_run(host_left_behind, guest_answers_and_leaves);
}
END_TEST

/* --- a guest that never comes --- */

static void host_waits_in_vain(void)
{
	listen_all();
	{
		CO_LIMIT(20000);
		expect_failure(-ETIMEDOUT, "wait for it to dial the bridge");
	}
	ck_assert_int_eq(fake_dial(GCS_PORT_BRIDGE), -ECONNREFUSED);
	guest_close(g);
	co_sleep(0);
	ck_assert_uint_eq(fake_listening(), 0);
	g = guest_free(g);
}

START_TEST(connecting_ends_with_the_callers_deadline)
{
	fake_run(host_waits_in_vain, NULL);
}
END_TEST

static bool connect_done;

static void connect_cancelled(void *arg)
{
	expect_failure(-ECANCELED, "wait for it to dial the bridge");
	connect_done = true;
}

static void connect_unavailable(void *arg)
{
	expect_failure(-ERR_UNAVAILABLE, arg);
	connect_done = true;
}

static void host_cancels(void)
{
	struct co *co;

	listen_all();
	co = co_spawn("connect", connect_cancelled, NULL, USEC_NEVER);
	co_sleep(5000);
	co_cancel(co);
	while (!connect_done)
		co_sleep(0);
	g = guest_free(g);
}

START_TEST(connecting_ends_when_cancelled)
{
	fake_run(host_cancels, NULL);
}
END_TEST

static char text_closed[] = "closed before it dialled";
static char text_channel[] = "the channel ended before it dialled the bridge";
static char text_bridge[] = "the bridge has ended: it was closed";

static void host_closes_meanwhile(void)
{
	listen_all();
	co_spawn("connect", connect_unavailable, text_closed, USEC_NEVER);
	co_sleep(5000);
	guest_close(g);
	while (!connect_done)
		co_sleep(0);
	g = guest_free(g);
}

START_TEST(connecting_ends_when_the_guest_is_closed)
{
	fake_run(host_closes_meanwhile, NULL);
}
END_TEST

static void host_loses_the_channel(void)
{
	listen_all();
	co_spawn("connect", connect_unavailable, text_channel, USEC_NEVER);
	co_sleep(5000);
	channel_close(fake_channel());
	while (!connect_done)
		co_sleep(0);
	g = guest_free(g);
}

START_TEST(connecting_ends_with_the_channel)
{
	fake_run(host_loses_the_channel, NULL);
}
END_TEST

static void host_closes_while_negotiating(void)
{
	listen_all();
	co_spawn("connect", connect_unavailable, text_bridge, USEC_NEVER);
	wait_go();
	guest_close(g);
	while (!connect_done)
		co_sleep(0);
	g = guest_free(g);
}

static void guest_is_silent(void)
{
	int fd = fake_dial_wait(GCS_PORT_BRIDGE);

	fake_expect(fd, GCS_NEGOTIATE, NULL);
	go = true;
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(negotiating_ends_when_the_guest_is_closed)
{
	fake_run(host_closes_while_negotiating, guest_is_silent);
}
END_TEST

/* --- the end --- */

static void host_loses(void)
{
	connect_ok();
	go = true;
	while (!lost)
		co_sleep(1000);
	co_sleep(5000);
	guest_close(g);
	co_sleep(5000);
	ck_assert_uint_eq(lost, 1);
	ck_assert_int_eq(guest_start(g, "c", NULL), -ERR_UNAVAILABLE);
	g = guest_free(g);
}

static void guest_dies(void)
{
	int fd = fake_boot();

	wait_go();
	fd_close(fd);
}

START_TEST(the_end_of_the_bridge_is_told_once_from_the_loop)
{
	fake_run(host_loses, guest_dies);
}
END_TEST

static void host_loses_by_a_failed_write(void)
{
	struct err err = { 0 };

	connect_ok();
	fake_send_fail(1);
	ck_assert_int_eq(guest_start(g, "c", &err), -ERR_UNAVAILABLE);
	ck_assert_str_eq(err.text, "guest: the bridge has ended: write: Broken pipe");
	if (go) {
		/* before the loop could tell */
		ck_assert_uint_eq(lost, 0);
	} else {
		co_sleep(5000);
		ck_assert_uint_eq(lost, 1);
	}
	g = guest_free(g);
	co_sleep(5000);
	ck_assert_uint_eq(lost, go ? 0 : 1);
}

static void guest_stays(void)
{
	int fd = fake_boot();

	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(a_failed_write_is_told_from_the_loop_too)
{
	fake_run(host_loses_by_a_failed_write, guest_stays);
}
END_TEST

START_TEST(nothing_is_told_to_who_has_freed_the_guest)
{
	go = true;
	fake_run(host_loses_by_a_failed_write, guest_stays);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest connect");
	TCase *c = tcase_create("connect");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_test(c, the_guest_gets_entropy_once_and_then_negotiates);
	tcase_add_test(c, a_guest_may_skip_entropy_and_log);
	tcase_add_test(c, the_log_is_relayed_over_redials_and_past_the_end_of_the_bridge);
	tcase_add_test(c, draining_ends_in_time_and_keeps_what_was_read);
	tcase_add_test(c, a_guest_may_be_freed_while_its_log_streams);
	tcase_add_loop_test(c, a_port_that_cannot_be_listened_on_leaves_no_other, 0,
			    (int)ARRAY_SIZE(ports));
	tcase_add_test(c, a_guest_that_never_listened_can_be_freed);
	tcase_add_loop_test(c, a_guest_that_does_not_agree_is_not_connected, 0,
			    (int)ARRAY_SIZE(replies));
	tcase_add_test(c, a_guest_that_hangs_up_while_negotiating_is_not_connected);
	tcase_add_test(c, a_guest_that_hangs_up_right_behind_its_answer_is_not_connected);
	tcase_add_test(c, connecting_ends_with_the_callers_deadline);
	tcase_add_test(c, connecting_ends_when_cancelled);
	tcase_add_test(c, connecting_ends_when_the_guest_is_closed);
	tcase_add_test(c, connecting_ends_with_the_channel);
	tcase_add_test(c, negotiating_ends_when_the_guest_is_closed);
	tcase_add_test(c, the_end_of_the_bridge_is_told_once_from_the_loop);
	tcase_add_test(c, a_failed_write_is_told_from_the_loop_too);
	tcase_add_test(c, nothing_is_told_to_who_has_freed_the_guest);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
