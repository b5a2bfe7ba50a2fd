/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/forward.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "fake.h"
#include "guest/private.h"

static struct err err;
static struct guest *guest;
static struct guest_forward *forward;
static uint32_t port;
static struct sockaddr_un address;
static int server;

static void bind_server(int backlog)
{
	server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(server, backlog), 0);
}

static int begin(int backlog)
{
	memset(&err, 0, sizeof(err));
	address.sun_family = AF_UNIX;
	strcpy(address.sun_path, "/tmp/test_forward.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(address.sun_path));
	strcat(address.sun_path, "/sock");
	bind_server(backlog);
	guest = guest_new(fake_channel(), NULL, NULL);
	forward = NULL;
	return guest_forward_new(guest, open(address.sun_path, O_PATH | O_CLOEXEC), &forward, &port,
				 &err);
}

static void finish(void)
{
	forward = guest_forward_free(forward);
	guest_close(guest);
	guest = guest_free(guest);
	fd_close(server);
	*strrchr(address.sun_path, '/') = '\0';
	ck_assert_int_eq(dir_remove(address.sun_path), 0);
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

static void host_relays(void)
{
	ck_assert_int_eq(begin(8), 0);

	int stream = fake_dial(port), sock = co_accept(server);

	say(stream, "question");
	shutdown(stream, SHUT_WR);
	expect(sock, "question");
	expect(sock, "");
	say(sock, "answer");
	expect(stream, "answer");
	fd_close(sock);
	expect(stream, "");
	fd_close(stream);
	finish();
}

START_TEST(a_connection_to_the_port_is_one_to_the_socket)
{
	fake_run(host_relays, NULL);
}
END_TEST

static void host_serves_many(void)
{
	int streams[GCS_SOCKET_CONNECTIONS + 1], socks[GCS_SOCKET_CONNECTIONS];

	ck_assert_int_eq(begin(GCS_SOCKET_CONNECTIONS), 0);
	for (int i = 0; i < GCS_SOCKET_CONNECTIONS; i++) {
		streams[i] = fake_dial_wait(port);
		socks[i] = co_accept(server);
		ck_assert_int_ge(socks[i], 0);
	}
	/* One more waits until another one has ended. */
	streams[GCS_SOCKET_CONNECTIONS] = fake_dial_wait(port);
	co_sleep(20000);
	ck_assert_int_eq(accept(server, NULL, NULL), -1);
	fd_close(streams[0]);
	fd_close(socks[0]);
	socks[0] = co_accept(server);
	say(streams[GCS_SOCKET_CONNECTIONS], "late");
	expect(socks[0], "late");
	forward = guest_forward_free(forward);
	for (int i = 0; i < GCS_SOCKET_CONNECTIONS; i++) {
		expect(streams[i + 1], "");
		fd_close(streams[i + 1]);
		fd_close(socks[i]);
	}
	finish();
}

START_TEST(there_is_a_limit_beyond_which_connections_wait)
{
	fake_run(host_serves_many, NULL);
}
END_TEST

static void host_refuses(void)
{
	ck_assert_int_eq(begin(8), 0);
	server = fd_close(server);
	for (int i = 0; i < 3; i++) {
		int stream = fake_dial_wait(port);

		expect(stream, "");
		fd_close(stream);
	}

	_cleanup_free_ char *log = fake_log();
	char *first = strstr(log, "Connection refused");

	/* Once: a guest may try as often as it likes. */
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(strstr(first + 1, "Connection refused"));
	finish();
}

START_TEST(a_connection_ends_at_once_where_nobody_listens)
{
	fake_run(host_refuses, NULL);
}
END_TEST

static CO void host_is_deceived(void)
{
	int honest, stream, sock;

	ck_assert_int_eq(begin(8), 0);
	honest = server;
	ck_assert_int_eq(unlink(address.sun_path), 0);
	bind_server(8);
	stream = fake_dial(port);
	sock = co_accept(honest);
	ck_assert_int_ge(sock, 0);
	ck_assert_int_eq(accept(server, NULL, NULL), -1);
	fd_close(sock);
	fd_close(honest);
	expect(stream, "");
	fd_close(stream);
	finish();
}

START_TEST(what_takes_the_socket_s_place_is_not_connected_to)
{
	fake_run(host_is_deceived, NULL);
}
END_TEST

static void host_frees_while_dialling(void)
{
	int streams[4], other;

	/* A queue that is full: connect() would block. */
	ck_assert_int_eq(begin(0), 0);
	other = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(other, (struct sockaddr *)&address, sizeof(address)), 0);
	for (int i = 0; i < 4; i++)
		streams[i] = fake_dial(port);
	co_sleep(20000);
	forward = guest_forward_free(forward);
	co_sleep(20000);
	for (int i = 0; i < 4; i++) {
		expect(streams[i], "");
		fd_close(streams[i]);
	}
	fd_close(other);
	finish();
}

START_TEST(it_can_be_freed_while_the_socket_s_queue_is_full)
{
	fake_run(host_frees_while_dialling, NULL);
}
END_TEST

static void host_waits_for_room_in_the_queue(void)
{
	int stream, other, sock;

	ck_assert_int_eq(begin(0), 0);
	other = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(other, (struct sockaddr *)&address, sizeof(address)), 0);
	stream = fake_dial(port);
	co_sleep(20000);
	fd_close(co_accept(server));
	sock = co_accept(server);
	say(stream, "patience");
	expect(sock, "patience");
	fd_close(sock);
	fd_close(other);
	expect(stream, "");
	fd_close(stream);
	finish();
}

START_TEST(a_full_queue_is_waited_for)
{
	fake_run(host_waits_for_room_in_the_queue, NULL);
}
END_TEST

static void host_cannot_listen(void)
{
	fake_refuse(GCS_PORT_STDIO, -EMFILE);
	ck_assert_int_eq(begin(8), -EMFILE);
	ck_assert_ptr_nonnull(strstr(err.text, "unix socket"));
	fake_refuse(0, 0);
	finish();
	/* Another program has that port. */
	fake_refuse(GCS_PORT_STDIO, -EADDRINUSE);
	ck_assert_int_eq(begin(8), 0);
	ck_assert_uint_eq(port, GCS_PORT_STDIO + 1);
	finish();
}

START_TEST(it_takes_a_port_that_is_free_or_fails)
{
	fake_run(host_cannot_listen, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest forward");
	TCase *t = tcase_create("forward");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, a_connection_to_the_port_is_one_to_the_socket);
	tcase_add_test(t, there_is_a_limit_beyond_which_connections_wait);
	tcase_add_test(t, a_connection_ends_at_once_where_nobody_listens);
	tcase_add_test(t, what_takes_the_socket_s_place_is_not_connected_to);
	tcase_add_test(t, it_can_be_freed_while_the_socket_s_queue_is_full);
	tcase_add_test(t, a_full_queue_is_waited_for);
	tcase_add_test(t, it_takes_a_port_that_is_free_or_fails);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
