/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/gateway.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/loop.h"
#include "turns.h"

/* Clients come by TCP; who is dialled for them is the other end of a socket pair, in @servers. */
enum { MAX = 3 };

static struct gateway *gateway;
static struct sockaddr_in address;
static int servers[MAX + 2];
static unsigned n_dials, n_gone;
/* What dialling does. */
static int result;
static struct co_event gate;
static int dialled;

static CO int dial(int from, void *arg, int *ret_fd)
{
	unsigned i = n_dials++;
	int ends[2], r;

	ck_assert_ptr_eq(arg, &gateway);
	ck_assert_int_ge(from, 0);
	r = co_event_wait(&gate);
	dialled = r < 0 ? r : result;
	/* The gateway may have gone, but not what is its. */
	ck_assert_uint_eq(n_gone, 0);
	if (dialled < 0)
		return dialled;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends),
			 0);
	servers[i] = ends[0];
	*ret_fd = ends[1];
	return 0;
}

static void gone(void *arg)
{
	ck_assert_ptr_eq(arg, &gateway);
	n_gone++;
}

static const struct gateway_spec spec = {
	.name = "test",
	.max = MAX,
	.dial_usec = 500 * USEC_PER_MSEC,
	.dial = dial,
	.gone = gone,
	.arg = &gateway,
};

static void setup(void)
{
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);

	ck_assert_int_eq(loop_init(), 0);
	n_dials = n_gone = 0;
	result = dialled = 0;
	for (unsigned i = 0; i < MAX + 2; i++)
		servers[i] = -EBADF;
	co_event_init(&gate);
	co_event_set(&gate);
	address = (struct sockaddr_in){ .sin_family = AF_INET,
					.sin_addr = { htonl(INADDR_LOOPBACK) } };
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	ck_assert_int_eq(listen(listener, 2 * MAX), 0);
	ck_assert_int_eq(gateway_new(listener, &spec, &gateway), 0);
}

static void teardown(void)
{
	gateway = gateway_free(gateway);
	run_for(5);
	ck_assert_uint_eq(n_gone, 1);
	ck_assert_uint_eq(co_count(), 0);
	for (unsigned i = 0; i < MAX + 2; i++)
		fd_close(servers[i]);
	loop_fini();
}

static int client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fd_nonblock(fd, true);
	run_for(5);
	return fd;
}

static void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	run_for(5);
}

/* What has come, "" for the end; or negative errno. */
static int heard(int fd, const char *text)
{
	char got[64] = "";
	ssize_t n = read(fd, got, sizeof(got) - 1);

	return n < 0 ? -errno : !strcmp(got, text);
}

START_TEST(a_connection_is_joined_with_the_one_that_is_dialled_for_it)
{
	int a = client(), b = client();

	say(a, "to the first");
	say(b, "to the second");
	ck_assert_int_eq(heard(servers[0], "to the first"), 1);
	ck_assert_int_eq(heard(servers[1], "to the second"), 1);
	shutdown(a, SHUT_WR);
	run_for(5);
	ck_assert_int_eq(heard(servers[0], ""), 1);
	say(servers[0], "answer");
	ck_assert_int_eq(heard(a, "answer"), 1);
	servers[0] = fd_close(servers[0]);
	run_for(5);
	ck_assert_int_eq(heard(a, ""), 1);
	ck_assert_int_eq(heard(b, ""), -EAGAIN);
	fd_close(a);
	fd_close(b);
}
END_TEST

START_TEST(one_for_which_none_can_be_dialled_is_reset)
{
	int fd;

	result = -ECONNREFUSED;
	fd = client();
	ck_assert_int_eq(heard(fd, ""), -ECONNRESET);
	fd_close(fd);
	result = 0;
	fd = client();
	ck_assert_int_eq(heard(fd, ""), -EAGAIN);
	fd_close(fd);
}
END_TEST

START_TEST(dialling_ends_in_time)
{
	int fd;

	co_event_clear(&gate);
	fd = client();
	ck_assert_int_eq(heard(fd, ""), -EAGAIN);
	for (int i = 0; dialled == 0 && i < 300; i++)
		run_for(10);
	ck_assert_int_eq(dialled, -ETIMEDOUT);
	ck_assert_int_eq(heard(fd, ""), -ECONNRESET);
	fd_close(fd);
}
END_TEST

START_TEST(what_is_too_much_waits)
{
	int fds[MAX + 2];

	co_event_clear(&gate);
	for (unsigned i = 0; i < MAX + 2; i++)
		fds[i] = client();
	/* Those that are being dialled count. */
	ck_assert_uint_eq(n_dials, MAX);
	co_event_set(&gate);
	run_for(10);
	ck_assert_uint_eq(n_dials, MAX);
	say(fds[MAX], "late");
	servers[1] = fd_close(servers[1]);
	fds[1] = fd_close(fds[1]);
	run_for(10);
	ck_assert_uint_eq(n_dials, MAX + 1);
	ck_assert_int_eq(heard(servers[MAX], "late"), 1);
	/* One that fails makes room, too. */
	result = -EIO;
	servers[0] = fd_close(servers[0]);
	fds[0] = fd_close(fds[0]);
	run_for(10);
	ck_assert_uint_eq(n_dials, MAX + 2);
	for (unsigned i = 2; i < MAX + 2; i++)
		fd_close(fds[i]);
}
END_TEST

START_TEST(its_end_is_that_of_every_connection)
{
	int joined = client(), dialling;

	co_event_clear(&gate);
	dialling = client();
	gateway = gateway_free(gateway);
	run_for(5);
	ck_assert_int_eq(dialled, -ECANCELED);
	ck_assert_uint_eq(n_gone, 1);
	ck_assert_int_eq(heard(joined, ""), 1);
	ck_assert_int_eq(heard(servers[0], ""), 1);
	ck_assert_int_eq(heard(dialling, ""), -ECONNRESET);
	fd_close(joined);
	fd_close(dialling);
}
END_TEST

START_TEST(what_is_dialled_as_it_ends_is_closed)
{
	int fd;

	co_event_clear(&gate);
	fd = client();
	/* The answer is on its way. */
	co_event_set(&gate);
	gateway = gateway_free(gateway);
	run_for(5);
	ck_assert_int_eq(heard(fd, ""), -ECONNRESET);
	if (dialled >= 0)
		ck_assert_int_eq(heard(servers[0], ""), 1);
	fd_close(fd);
}
END_TEST

START_TEST(it_accepts_again_once_there_are_fds)
{
	struct rlimit before, none;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	run_for(5);
	ck_assert_uint_eq(n_dials, 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	run_for(150);
	ck_assert_uint_eq(n_dials, 1);
	fd_close(fd);
}
END_TEST

START_TEST(what_cannot_be_watched_is_closed)
{
	struct gateway *none = NULL;

	ck_assert_int_eq(gateway_new(-EBADF, &spec, &none), -EBADF);
	ck_assert_ptr_null(none);
	ck_assert_uint_eq(n_gone, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop gateway");
	TCase *t = tcase_create("gateway");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_connection_is_joined_with_the_one_that_is_dialled_for_it);
	tcase_add_test(t, one_for_which_none_can_be_dialled_is_reset);
	tcase_add_test(t, dialling_ends_in_time);
	tcase_add_test(t, what_is_too_much_waits);
	tcase_add_test(t, its_end_is_that_of_every_connection);
	tcase_add_test(t, what_is_dialled_as_it_ends_is_closed);
	tcase_add_test(t, it_accepts_again_once_there_are_fds);
	tcase_add_test(t, what_cannot_be_watched_is_closed);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
