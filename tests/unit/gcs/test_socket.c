/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "gcs/agent.h"
#include "gcs/transport.h"
#include "loop/loop.h"
#include "tmpdir.h"
#include "wire/gcs.h"
#include "wire/mux.h"

/* The agent's end is real; the host is a multiplexer whose streams are kept in @accepted. */
enum { PORT = 0x40000007, MAX = GCS_SOCKET_CONNECTIONS };

static struct agent a;
static struct mux *host;
static int channel[2], accepted[2 * MAX];
static unsigned n_accepted;
static char *path;
static struct gcs_unix_socket settings;
static struct err err;

static void on_accept(int fd, void *arg)
{
	accepted[n_accepted++] = fd;
}

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;

	int r = -errno;

	fd_close(fd);
	return r;
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

static void (*body)(void);

static CO void run_body(void *arg)
{
	body();
	co_sleep(20000);
	loop_stop(0);
}

static CO void await_accepted(unsigned n)
{
	for (int i = 0; n_accepted < n && i < 2000; i++)
		co_sleep(1000);
	ck_assert_uint_eq(n_accepted, n);
}

static void run(CO void (*fn)(void))
{
	memset(&a, 0, sizeof(a));
	memset(&err, 0, sizeof(err));
	n_accepted = 0;
	path = str_printf("%s/0/socket", tmpdir);
	settings = (struct gcs_unix_socket){ .path = path, .port = PORT, .mode = 0620 };
	ck_assert_int_eq(loop_init(), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
				    channel),
			 0);
	ck_assert_int_eq(mux_new(channel[0], NULL, NULL, &host), 0);
	ck_assert_int_eq(mux_listen(host, PORT, on_accept, NULL), 0);
	ck_assert_int_eq(transport_open(TRANSPORT_CHANNEL, channel[1], NULL, &a.transport, &err),
			 0);
	body = fn;
	co_spawn("test", run_body, NULL, time_mono() + 20 * USEC_PER_SEC);
	loop_run();
	ck_assert_uint_eq(a.sockets.len, 0);
	map_free(&a.sockets);
	transport_free(a.transport);
	mux_free(host);
	fd_close(channel[0]);
	for (unsigned i = 0; i < n_accepted; i++)
		fd_close(accepted[i]);
	free(path);
	loop_fini();
}

static void relays(void)
{
	struct stat st;
	int fd;

	ck_assert_int_eq(socket_add(&a, &settings, &err), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode, S_IFSOCK | 0620);
	fd = dial();
	await_accepted(1);
	say(fd, "question");
	shutdown(fd, SHUT_WR);
	expect(accepted[0], "question");
	expect(accepted[0], "");
	say(accepted[0], "answer");
	expect(fd, "answer");
	accepted[0] = fd_close(accepted[0]);
	expect(fd, "");
	fd_close(fd);
	ck_assert_int_eq(socket_remove(&a, &settings, &err), 0);
}

START_TEST(a_connection_goes_to_the_host_s_port)
{
	run(relays);
}
END_TEST

static void removes(void)
{
	int fd;

	ck_assert_int_eq(socket_add(&a, &settings, &err), 0);
	fd = dial();
	await_accepted(1);
	ck_assert_int_eq(socket_remove(&a, &settings, &err), 0);
	expect(fd, "");
	expect(accepted[0], "");
	fd_close(fd);
	*strrchr(path, '/') = '\0';
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_int_eq(socket_remove(&a, &settings, &err), 0);
}

START_TEST(removal_ends_connections_and_leaves_no_file)
{
	run(removes);
}
END_TEST

static void removes_early(void)
{
	int fd;

	/* Nobody answers: it is still dialling. */
	mux_free(host);
	host = NULL;
	ck_assert_int_eq(socket_add(&a, &settings, &err), 0);
	fd = dial();
	ck_assert_int_ge(fd, 0);
	co_sleep(20000);
	ck_assert_int_eq(socket_remove(&a, &settings, &err), 0);
	expect(fd, "");
	fd_close(fd);
	/* The channel's end ends the dial. */
	shutdown(channel[0], SHUT_RDWR);
	co_sleep(20000);
}

START_TEST(it_can_be_removed_while_the_host_is_dialled)
{
	run(removes_early);
}
END_TEST

static void refused(void)
{
	int fd;

	mux_unlisten(host, PORT);
	ck_assert_int_eq(socket_add(&a, &settings, &err), 0);
	fd = dial();
	expect(fd, "");
	fd_close(fd);
	ck_assert_int_eq(socket_remove(&a, &settings, &err), 0);
}

START_TEST(a_connection_that_the_host_refuses_is_closed)
{
	run(refused);
}
END_TEST

static void many(void)
{
	static int fds[MAX + 1];

	ck_assert_int_eq(socket_add(&a, &settings, &err), 0);
	for (int i = 0; i < MAX + 1; i++) {
		fds[i] = dial();
		ck_assert_int_ge(fds[i], 0);
		co_sleep(0);
	}
	await_accepted(MAX);
	co_sleep(20000);
	ck_assert_uint_eq(n_accepted, MAX);
	say(fds[MAX], "late");
	fd_close(fds[0]);
	await_accepted(MAX + 1);
	expect(accepted[MAX], "late");
	ck_assert_int_eq(socket_remove(&a, &settings, &err), 0);
	for (int i = 1; i < MAX + 1; i++)
		fd_close(fds[i]);
}

START_TEST(there_is_a_limit_beyond_which_connections_wait)
{
	run(many);
}
END_TEST

static void invalid(void)
{
	char longer[200];
	const struct gcs_unix_socket bad[] = {
		{ .port = PORT },
		{ .path = (char[]){ "relative" }, .port = PORT },
		{ .path = (char[]){ "/run/../x" }, .port = PORT },
		{ .path = longer, .port = PORT },
		{ .path = path },
	};

	memset(longer, '/', sizeof(longer));
	strcpy(longer + sizeof(longer) - 3, "/x");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(socket_add(&a, &bad[i], &err), -ERR_INVALID);
	ck_assert_int_eq(socket_add(&a, &settings, &err), 0);
	ck_assert_int_eq(socket_add(&a, &settings, &err), -ERR_EXISTS);
	ck_assert_int_eq(socket_remove(&a, &settings, &err), 0);
	/* What is there already is left alone. */
	tmpdir_write("0/socket", "file");
	ck_assert_int_eq(socket_add(&a, &settings, &err), -EADDRINUSE);
	ck_assert_int_eq(access(path, F_OK), 0);
}

START_TEST(what_cannot_be_listened_on_is_refused)
{
	run(invalid);
}
END_TEST

TMPDIR_MAIN("gcs socket", a_connection_goes_to_the_host_s_port,
	    removal_ends_connections_and_leaves_no_file,
	    it_can_be_removed_while_the_host_is_dialled,
	    a_connection_that_the_host_refuses_is_closed,
	    there_is_a_limit_beyond_which_connections_wait, what_cannot_be_listened_on_is_refused)
