/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/forward.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "gcs/agent.h"
#include "gcs/network.h"
#include "gcs/transport.h"
#include "loop/duplex.h"
#include "netns.h"
#include "wire/mux.h"

/* The agent's end and the network are real; the host is a multiplexer whose streams are kept in
 * @accepted. */
enum { PORT = 0x40000007, TARGET = 8080, MAX = GCS_FORWARD_CONNECTIONS };

static struct agent agent;
static struct network *network;
static struct mux *host;
static int channel[2], accepted[MAX + 1];
static unsigned n_accepted;
static struct gcs_port_forward settings;

static void on_accept(int fd, void *arg)
{
	accepted[n_accepted++] = fd;
}

static void setup(void)
{
	network_setup_test();
	sh("ip link set lo up");
	n_accepted = 0;
	agent = (struct agent){ 0 };
	settings = (struct gcs_port_forward){ .namespace_id = TEXT("nET-1"),
					      .address = TEXT("127.0.0.1"),
					      .target_port = TARGET,
					      .port = PORT };
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
				    channel),
			 0);
	ck_assert_int_eq(mux_new(channel[0], NULL, NULL, &host), 0);
	ck_assert_int_eq(mux_listen(host, PORT, on_accept, NULL), 0);
	ck_assert_int_eq(transport_open(TRANSPORT_CHANNEL, channel[1], NULL, &agent.transport,
					&err),
			 0);
}

static void teardown(void)
{
	ck_assert_uint_eq(agent.networks.len, 0);
	map_free(&agent.networks);
	transport_free(agent.transport);
	mux_free(host);
	fd_close(channel[0]);
	for (unsigned i = 0; i < n_accepted; i++)
		fd_close(accepted[i]);
	network_teardown_test();
}

/* In a network that is there as long as the test runs. */
static CO void (*in_network)(void);

static CO void around(void)
{
	ck_assert_int_eq(network_join(&agent, "Net-1", &network, &err), 0);
	in_network();
	network_leave(network);
	co_sleep(20000);
}

static void run_in_network(CO void (*fn)(void))
{
	in_network = fn;
	run(around);
}

/* A listener of the network, or of the agent's own. */
static int serve(const char *address, bool there, int backlog)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(TARGET) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(TARGET) };
	bool is_four = inet_pton(AF_INET, address, &four.sin_addr) == 1;
	_cleanup_fd_ int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd;

	if (!is_four)
		ck_assert_int_eq(inet_pton(AF_INET6, address, &six.sin6_addr), 1);
	ck_assert(!there || setns(network_netns(network), CLONE_NEWNET) == 0);
	fd = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(setns(home, CLONE_NEWNET), 0);
	ck_assert_int_eq(is_four ? bind(fd, (struct sockaddr *)&four, sizeof(four))
				 : bind(fd, (struct sockaddr *)&six, sizeof(six)),
			 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
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

static CO void relays(void)
{
	_cleanup_fd_ int listener = serve("127.0.0.1", true, 8);
	_cleanup_fd_ int server = -EBADF;

	ck_assert_msg(forward_add(&agent, &settings, &err) == 0, "%s", err.text);
	server = co_accept(listener);
	/* The host was dialled before it is answered. */
	ck_assert_uint_eq(n_accepted, 1);
	say(accepted[0], "question");
	expect(server, "question");
	shutdown(accepted[0], SHUT_WR);
	expect(server, "");
	say(server, "answer");
	expect(accepted[0], "answer");
	server = fd_close(server);
	expect(accepted[0], "");
	ck_assert_int_eq(co_sleep(20000), 0);
	ck_assert_uint_eq(n_accepted, 1);
}

START_TEST(a_port_of_the_host_is_joined_with_one_in_the_network)
{
	run_in_network(relays);
}
END_TEST

/* Who listens, and what is dialled. */
static const struct {
	const char *server;
	const char *dialled;
	int result;
} families[] = {
	{ "::1", "127.0.0.1", 0 },
	{ "127.0.0.1", "::1", 0 },
	{ "::1", "::1", 0 },
	{ "0.0.0.0", "127.9.9.9", 0 },
	{ "::1", "127.0.0.2", -ECONNREFUSED },
	{ "127.0.0.2", "127.0.0.1", -ECONNREFUSED },
};
static int row;

static CO void tries_both(void)
{
	int listener = serve(families[row].server, true, 8);
	_cleanup_free_ char *address = mem_strdup(families[row].dialled);

	settings.address = address;
	ck_assert_int_eq(forward_add(&agent, &settings, &err), families[row].result);
	ck_assert_uint_eq(n_accepted, families[row].result == 0);
	settings.address = NULL;
	fd_close(listener);
}

START_TEST(either_address_of_localhost_stands_for_the_other)
{
	row = _i;
	run_in_network(tries_both);
}
END_TEST

static CO void refused(void)
{
	/* That it is there outside of the network is no help. */
	int outside = serve("127.0.0.1", false, 8);

	ck_assert_int_eq(forward_add(&agent, &settings, &err), -ECONNREFUSED);
	ck_assert_str_eq(err.text, "forward port 8080 of 127.0.0.1: connect: Connection refused");
	ck_assert_uint_eq(n_accepted, 0);
	ck_assert_uint_eq(network_forwards(network)->n, 0);
	fd_close(outside);
}

START_TEST(where_nobody_listens_the_request_fails_and_the_host_is_not_dialled)
{
	run_in_network(refused);
}
END_TEST

static CO void host_refuses(void)
{
	_cleanup_fd_ int listener = serve("127.0.0.1", true, 8);
	_cleanup_fd_ int server = -EBADF;

	mux_unlisten(host, PORT);
	ck_assert_int_eq(forward_add(&agent, &settings, &err), -ECONNREFUSED);
	ck_assert_ptr_nonnull(strstr(err.text, "of the host"));
	server = co_accept(listener);
	expect(server, "");
	ck_assert_uint_eq(network_forwards(network)->n, 0);
}

START_TEST(a_connection_that_the_host_does_not_take_is_closed)
{
	run_in_network(host_refuses);
}
END_TEST

static CO void silent(void)
{
	/* The queue is full. */
	int listener = serve("127.0.0.1", true, 0);
	CO_LIMIT(200 * USEC_PER_MSEC);

	ck_assert_int_eq(forward_add(&agent, &settings, &err), 0);
	ck_assert_int_eq(forward_add(&agent, &settings, &err), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(err.text, "connect: "));
	ck_assert_uint_eq(network_forwards(network)->n, 1);
	fd_close(listener);
}

START_TEST(who_does_not_answer_is_not_waited_for_forever)
{
	run_in_network(silent);
}
END_TEST

static CO void many(void)
{
	_cleanup_fd_ int listener = serve("127.0.0.1", true, MAX + 1);

	for (int i = 0; i < MAX; i++)
		ck_assert_int_eq(forward_add(&agent, &settings, &err), 0);
	{
		CO_LIMIT(500 * USEC_PER_MSEC);
		ck_assert_int_eq(forward_add(&agent, &settings, &err), -ETIMEDOUT);
		ck_assert_ptr_nonnull(strstr(err.text, "wait for others"));
	}
	accepted[0] = fd_close(accepted[0]);
	fd_close(co_accept(listener));
	ck_assert_int_eq(forward_add(&agent, &settings, &err), 0);
	ck_assert_uint_eq(n_accepted, MAX + 1);
}

START_TEST(there_is_a_limit_beyond_which_connections_wait)
{
	run_in_network(many);
}
END_TEST

static CO void ends(void)
{
	_cleanup_fd_ int listener = serve("127.0.0.1", true, 8);
	_cleanup_fd_ int server = -EBADF;

	ck_assert_int_eq(forward_add(&agent, &settings, &err), 0);
	server = co_accept(listener);
	network_leave(network);
	expect(server, "");
	expect(accepted[0], "");
	ck_assert_int_eq(network_join(&agent, "Net-1", &network, &err), 0);
}

START_TEST(the_end_of_the_network_is_that_of_every_connection)
{
	run_in_network(ends);
}
END_TEST

static CO void invalid(void)
{
	const struct gcs_port_forward bad[] = {
		{ .namespace_id = settings.namespace_id, .target_port = 1, .port = PORT },
		{ settings.namespace_id, TEXT("localhost"), 1, PORT },
		{ settings.namespace_id, TEXT("127.0.0.1:1"), 1, PORT },
		{ settings.namespace_id, TEXT("fe80::1%lo"), 1, PORT },
		{ settings.namespace_id, settings.address, 0, PORT },
		{ settings.namespace_id, settings.address, 1, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(forward_add(&agent, &bad[i], &err), -ERR_INVALID);
	settings.namespace_id = TEXT("Net-2");
	ck_assert_int_eq(forward_add(&agent, &settings, &err), -ERR_NOT_FOUND);
	settings.namespace_id = NULL;
	ck_assert_int_eq(forward_add(&agent, &settings, &err), -ERR_NOT_FOUND);
	ck_assert_uint_eq(n_accepted, 0);
}

START_TEST(what_cannot_be_dialled_is_refused)
{
	run_in_network(invalid);
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_port_of_the_host_is_joined_with_one_in_the_network);
	tcase_add_loop_test(t, either_address_of_localhost_stands_for_the_other, 0,
			    ARRAY_SIZE(families));
	tcase_add_test(t, where_nobody_listens_the_request_fails_and_the_host_is_not_dialled);
	tcase_add_test(t, a_connection_that_the_host_does_not_take_is_closed);
	tcase_add_test(t, who_does_not_answer_is_not_waited_for_forever);
	tcase_add_test(t, there_is_a_limit_beyond_which_connections_wait);
	tcase_add_test(t, the_end_of_the_network_is_that_of_every_connection);
	tcase_add_test(t, what_cannot_be_dialled_is_refused);
}

SUITE("forward")
