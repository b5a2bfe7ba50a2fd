/* SPDX-License-Identifier: Apache-2.0 */
/* The listeners are on the loopback here; the guest is scripted. */
#include "guest/loopback.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "fake.h"
#include "guest/guest.h"
#include "vmm/netns.h"

#define NULL_ID "00000000-0000-0000-0000-000000000000"

static struct err err;
static struct guest *guest;
static struct guest_loopback *loopback;
static struct sockaddr_in four;
static struct sockaddr_in6 six;
/* What stands for the socket lookup program. */
static int link_end;

static int listen_at(struct sockaddr *at, socklen_t len)
{
	int fd = socket(at->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, at, len), 0);
	ck_assert_int_eq(getsockname(fd, at, &len), 0);
	ck_assert_int_eq(listen(fd, 256), 0);
	return fd;
}

static CO void begin(struct netns_loopback *l)
{
	int ends[2];

	memset(&err, 0, sizeof(err));
	four = (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_addr = { htonl(INADDR_LOOPBACK) } };
	six = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	link_end = ends[0];
	l->link = ends[1];
	l->four = listen_at((struct sockaddr *)&four, sizeof(four));
	l->six = listen_at((struct sockaddr *)&six, sizeof(six));
	guest = guest_new(fake_channel(), NULL, NULL);
	ck_assert_int_eq(guest_listen(guest, NULL), 0);
	ck_assert_msg(guest_connect(guest, &err) == 0, "%s", err.text);
	loopback = NULL;
}

static void host_begins(void)
{
	struct netns_loopback l;

	begin(&l);
	ck_assert_int_eq(guest_loopback_new(guest, "p1", &l, &loopback, &err), 0);
}

static CO void finish(void)
{
	char byte;

	loopback = guest_loopback_free(loopback);
	ck_assert_int_eq(read(link_end, &byte, 1), 0);
	fd_close(link_end);
	co_sleep(20000);
	guest_close(guest);
	co_sleep(0);
	guest = guest_free(guest);
}

static CO int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(co_connect(fd, (struct sockaddr *)&four, sizeof(four)), 0);
	return fd;
}

/* That is soon: connecting sees it, or reading. */
static CO void dial_reset(void)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r = co_connect(fd, (struct sockaddr *)&four, sizeof(four));
	char byte;

	ck_assert_int_eq(r < 0 ? r : co_read(fd, &byte, 1), -ECONNRESET);
}

static CO int dial_six(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(co_connect(fd, (struct sockaddr *)&six, sizeof(six)), 0);
	return fd;
}

static CO void expect(int fd, const char *text)
{
	char got[64] = "";

	ck_assert_int_eq(co_read(fd, got, sizeof(got) - 1), (ssize_t)strlen(text));
	ck_assert_str_eq(got, text);
}

static CO void say(int fd, const char *text)
{
	ck_assert_int_eq(co_write_full(fd, text, strlen(text)), 0);
}

/* The guest is asked for a connection to there: the id, and the port to dial. */
static CO uint64_t asked(int bridge, const char *address, in_port_t port, uint32_t *ret)
{
	struct fake_request q = fake_read(bridge);
	_cleanup_free_ char *before =
		str_printf("{\"ContainerId\":\"" NULL_ID "\",\"ActivityId\":\"" NULL_ID
			   "\",\"Request\":{"
			   "\"RequestType\":\"Add\",\"ResourceType\":\"PortForward\",\"Settings\":{"
			   "\"NamespaceID\":\"p1\",\"Address\":\"%s\",\"TargetPort\":%u,\"Port\":",
			   address, ntohs(port));

	ck_assert_uint_eq(q.header.type, GCS_MODIFY_SETTINGS);
	ck_assert_msg(str_starts(q.body, before), "%s", q.body);
	*ret = (uint32_t)strtoul(q.body + strlen(before), NULL, 10);
	free(q.body);
	return q.header.id;
}

static void host_relays(void)
{
	int a, b;

	host_begins();
	a = dial();
	say(a, "question");
	shutdown(a, SHUT_WR);
	expect(a, "answer");
	expect(a, "");
	b = dial_six();
	expect(b, "sixth");
	fd_close(a);
	fd_close(b);
	finish();
}

static void guest_relays(void)
{
	int bridge = fake_boot(), stream;
	unsigned listening = fake_listening();
	uint32_t port;
	uint64_t id = asked(bridge, "127.0.0.1", four.sin_port, &port);

	stream = fake_dial(port);
	fake_answer(bridge, GCS_MODIFY_SETTINGS, id, "");
	expect(stream, "question");
	expect(stream, "");
	/* That port is for one connection. */
	ck_assert_int_eq(fake_dial(port), -ECONNREFUSED);
	ck_assert_uint_eq(fake_listening(), listening);
	say(stream, "answer");
	fd_close(stream);
	id = asked(bridge, "::1", six.sin6_port, &port);
	stream = fake_dial(port);
	say(stream, "sixth");
	fake_answer(bridge, GCS_MODIFY_SETTINGS, id, "");
	expect(stream, "");
	fd_close(stream);
	fake_expect_end(bridge);
	fd_close(bridge);
}

START_TEST(a_connection_is_one_in_the_guest_to_the_same_address)
{
	fake_run(host_relays, guest_relays);
}
END_TEST

static void host_is_refused(void)
{
	host_begins();
	dial_reset();
	dial_reset();
	finish();
}

static void guest_refuses(void)
{
	int bridge = fake_boot(), stream;
	unsigned listening = fake_listening();
	uint32_t port;
	uint64_t id = asked(bridge, "127.0.0.1", four.sin_port, &port);

	fake_refusal(bridge, GCS_MODIFY_SETTINGS, id, HR_FAIL, "nobody there");
	/* Whatever the guest dials for it leads nowhere. */
	id = asked(bridge, "127.0.0.1", four.sin_port, &port);
	stream = fake_dial(port);
	fake_refusal(bridge, GCS_MODIFY_SETTINGS, id, HR_FAIL, "nobody there");
	expect(stream, "");
	fd_close(stream);
	ck_assert_int_eq(fake_dial(port), -ECONNREFUSED);
	ck_assert_uint_eq(fake_listening(), listening);
	fake_expect_end(bridge);
	fd_close(bridge);
}

START_TEST(a_connection_that_the_guest_refuses_is_reset)
{
	fake_run(host_is_refused, guest_refuses);
}
END_TEST

static void host_ends(void)
{
	char byte;
	int joined, asking;

	host_begins();
	joined = dial();
	expect(joined, "hello");
	asking = dial();
	co_sleep(20000);
	finish();
	expect(joined, "");
	ck_assert_int_eq(co_read(asking, &byte, 1), -ECONNRESET);
	fd_close(joined);
	fd_close(asking);
}

static void guest_is_left(void)
{
	int bridge = fake_boot(), stream;
	uint32_t port;
	uint64_t id = asked(bridge, "127.0.0.1", four.sin_port, &port);

	stream = fake_dial(port);
	say(stream, "hello");
	fake_answer(bridge, GCS_MODIFY_SETTINGS, id, "");
	asked(bridge, "127.0.0.1", four.sin_port, &port);
	expect(stream, "");
	fd_close(stream);
	/* Late. */
	co_sleep(20000);
	ck_assert_int_eq(fake_dial(port), -ECONNREFUSED);
	fake_expect_end(bridge);
	fd_close(bridge);
}

START_TEST(its_end_is_that_of_every_connection)
{
	fake_run(host_ends, guest_is_left);
}
END_TEST

static void host_loses(void)
{
	host_begins();
	dial_reset();
	dial_reset();
	finish();
}

static void guest_dies(void)
{
	int bridge = fake_boot();
	uint32_t port;

	asked(bridge, "127.0.0.1", four.sin_port, &port);
	fd_close(bridge);
}

START_TEST(when_the_guest_has_gone_connections_are_reset)
{
	fake_run(host_loses, guest_dies);
}
END_TEST

static void host_cannot(void)
{
	struct netns_loopback l;
	char byte;

	begin(&l);
	fd_close(l.four);
	l.four = -EBADF;
	ck_assert_int_eq(guest_loopback_new(guest, "p1", &l, &loopback, &err), -EBADF);
	ck_assert_ptr_nonnull(strstr(err.text, "forward ports"));
	ck_assert_int_eq(fcntl(l.six, F_GETFD), -1);
	ck_assert_int_eq(read(link_end, &byte, 1), 0);
	finish();
}

static void guest_boots(void)
{
	int bridge = fake_boot();

	fake_expect_end(bridge);
	fd_close(bridge);
}

START_TEST(what_cannot_be_listened_on_is_closed)
{
	fake_run(host_cannot, guest_boots);
}
END_TEST

static void host_has_no_ports(void)
{
	host_begins();
	fake_refuse(GCS_PORT_STDIO, -EMFILE);
	dial_reset();
	finish();
}

START_TEST(without_a_port_for_the_guest_a_connection_is_reset)
{
	fake_run(host_has_no_ports, guest_boots);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest loopback");
	TCase *t = tcase_create("loopback");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, a_connection_is_one_in_the_guest_to_the_same_address);
	tcase_add_test(t, a_connection_that_the_guest_refuses_is_reset);
	tcase_add_test(t, its_end_is_that_of_every_connection);
	tcase_add_test(t, when_the_guest_has_gone_connections_are_reset);
	tcase_add_test(t, what_cannot_be_listened_on_is_closed);
	tcase_add_test(t, without_a_port_for_the_guest_a_connection_is_reset);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
