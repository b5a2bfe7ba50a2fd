/* SPDX-License-Identifier: Apache-2.0 */
/* Each test has a network namespace of its own, which a child holds. */
#include "vmm/netns.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "vmm/sk_lookup.h"

/* What a tap puts before each packet: struct virtio_net_hdr. */
enum { VNET_HDR = 10, WAIT_MS = 3000 };

static struct err err;
static struct netns_link *links;
static size_t n_links;
static struct netns_loopback loopback = NETNS_NO_LOOPBACK;

static pid_t holder;
static char record[] = "/tmp/lcow-record-XXXXXX";
static char path_text[64];
static const char *path;

/* In that namespace. */
static void sh(const char *command)
{
	_cleanup_free_ char *there = str_printf("nsenter -t %d -n sh -c \"%s\"", holder, command);

	ck_assert_msg(system(there) == 0, "%s", there);
}

static void hold_namespace(void)
{
	char byte;
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	holder = fork();
	if (holder == 0) {
		if (unshare(CLONE_NEWNET) < 0 || write(ends[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
	snprintf(path_text, sizeof(path_text), "/proc/%d/ns/net", holder);
	path = path_text;
}

static void setup(void)
{
	hold_namespace();
	ck_assert_int_eq(loop_init(), 0);
	memset(&err, 0, sizeof(err));
	strcpy(record + strlen(record) - 6, "XXXXXX");
	close(mkstemp(record));
	unlink(record);
	sh("ip link add eth0 address 02:00:00:00:00:01 mtu 1400 type veth peer name far && "
	   "ip link set lo up && ip link set far up && ip link set eth0 up");
}

static void teardown(void)
{
	links = netns_links_free(links, n_links);
	loop_fini();
	worker_fini();
	netns_loopback_close(&loopback);
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	unlink(record);
}

/* ---- in a coroutine ---- */

struct job {
	CO int (*fn)(void);
	int result;
};

static CO void body(void *arg)
{
	struct job *j = arg;

	j->result = j->fn();
	loop_stop(0);
}

static int run(CO int (*fn)(void))
{
	struct job j = { .fn = fn };

	co_spawn("test", body, &j, USEC_NEVER);
	loop_run();
	return j.result;
}

static int tap = -EBADF;

static CO int do_links(void)
{
	return netns_links(path, &links, &n_links, &err);
}

static CO int do_tap(void)
{
	return netns_tap(path, "eth0", "lcow0", record, &tap, &err);
}

static CO int do_tap_absent(void)
{
	return netns_tap(path, "eth7", "lcow0", record, &tap, &err);
}

static CO int do_loopback(void)
{
	return netns_loopback(path, &loopback, &err);
}

static CO int do_untap(void)
{
	return netns_untap(path, "eth0", record, &err);
}

/* ---- reading ---- */

START_TEST(a_card_is_read_with_its_addresses_and_routes)
{
	sh("ip addr add 10.7.0.2/24 dev eth0 && ip -6 addr add fd07::2/64 dev eth0 nodad && "
	   "ip route add default via 10.7.0.1 metric 5 && ip route add 10.9.0.0/16 dev eth0 && "
	   "ip -6 route add default via fd07::1 && ip route add 10.8.0.0/16 via 10.7.0.9 && "
	   "ip neigh add 10.7.0.1 lladdr 02:00:00:00:00:77 dev eth0 nud permanent && "
	   "ip neigh add fd07::1 lladdr 02:00:00:00:00:78 dev eth0 nud permanent && "
	   "ip neigh add 10.7.0.9 lladdr 02:00:00:00:00:79 dev eth0 nud reachable && "
	   "ip neigh add 10.7.0.1 lladdr 02:00:00:00:00:80 dev far nud permanent");
	ck_assert_msg(run(do_links) == 0, "%s", err.text);
	/* far is one, too. */
	ck_assert_uint_eq(n_links, 2);
	ck_assert_str_eq(links[0].name, "eth0");
	ck_assert_mem_eq(links[0].mac, "\2\0\0\0\0\1", 6);
	ck_assert_uint_eq(links[0].mtu, 1400);
	ck_assert_uint_eq(links[0].n_addresses, 2);
	ck_assert_str_eq(links[0].addresses[0].text, "10.7.0.2");
	ck_assert_uint_eq(links[0].addresses[0].prefix_length, 24);
	ck_assert_str_eq(links[0].addresses[1].text, "fd07::2");
	ck_assert_uint_eq(links[0].addresses[1].prefix_length, 64);

	_cleanup_free_ char *text = NULL;

	for (size_t i = 0; i < links[0].n_routes; i++) {
		const struct netns_route *r = &links[0].routes[i];
		char *before = text;

		text = str_printf("%s%s via %s metric %u;", before ? before : "", r->destination,
				  r->next_hop, r->metric);
		free(before);
	}
	ck_assert_ptr_nonnull(text);
	ck_assert_ptr_nonnull(strstr(text, "0.0.0.0/0 via 10.7.0.1 metric 5;"));
	ck_assert_ptr_nonnull(strstr(text, "10.8.0.0/16 via 10.7.0.9 metric 0;"));
	ck_assert_ptr_nonnull(strstr(text, "10.9.0.0/16 via  metric 0;"));
	ck_assert_ptr_nonnull(strstr(text, "::/0 via fd07::1 metric 1024;"));
	ck_assert_ptr_null(strstr(text, "10.7.0.0/24"));
	ck_assert_uint_eq(links[0].n_neighbors, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct netns_neighbor *n = &links[0].neighbors[i];
		bool second = str_eq(n->address, "fd07::1");

		ck_assert(second || str_eq(n->address, "10.7.0.1"));
		ck_assert_mem_eq(n->mac, second ? "\2\0\0\0\0\x78" : "\2\0\0\0\0\x77", 6);
	}
}
END_TEST

START_TEST(eth0_comes_first)
{
	sh("ip link set eth0 down && ip link set eth0 name eth1 && ip link set far down && "
	   "ip link set far name eth0");
	ck_assert_int_eq(run(do_links), 0);
	ck_assert_uint_eq(n_links, 2);
	ck_assert_str_eq(links[0].name, "eth0");
	ck_assert_str_eq(links[1].name, "eth1");
}
END_TEST

START_TEST(the_hosts_own_cards_are_nobodys_to_take)
{
	path = "/proc/self/ns/net";
	ck_assert_int_eq(run(do_links), 0);
	ck_assert_uint_eq(n_links, 0);
	ck_assert_int_eq(run(do_tap), -ERR_INVALID);
}
END_TEST

START_TEST(an_ordinary_file_has_no_cards_and_nothing_is_an_error)
{
	char file[] = "/tmp/lcow-netns-XXXXXX";
	int fd = mkstemp(file);

	path = file;
	ck_assert_int_eq(run(do_links), 0);
	ck_assert_uint_eq(n_links, 0);
	ck_assert_int_eq(run(do_tap), -ERR_INVALID);
	unlink(file);
	close(fd);
	ck_assert_int_eq(run(do_links), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, file));
	ck_assert_int_eq(run(do_untap), 0);
}
END_TEST

/* ---- taps ---- */

/* A socket of that namespace. */
static int socket_there(int domain, int type, int protocol)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int there = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(setns(there, CLONE_NEWNET), 0);

	int fd = socket(domain, type | SOCK_CLOEXEC, protocol);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(setns(home, CLONE_NEWNET), 0);
	close(home);
	close(there);
	return fd;
}

static int index_there(const char *name)
{
	struct ifreq ifr = { 0 };
	int fd = socket_there(AF_INET, SOCK_DGRAM, 0);

	strcpy(ifr.ifr_name, name);
	ck_assert_int_eq(ioctl(fd, SIOCGIFINDEX, &ifr), 0);
	close(fd);
	return ifr.ifr_ifindex;
}

static int packets_of(const char *name)
{
	int fd = socket_there(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = index_there(name),
	};

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

/* A broadcast with a type of nobody's. */
static const unsigned char packet[64] = { 255, 255, 255, 255, 255,  255,  2,
					  0,   0,   0,   0,   0x77, 0x88, 0xb5 };

/* Waits for that packet, behind @skip bytes. */
static bool arrives(int fd, size_t skip)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	unsigned char got[2048];

	while (poll(&p, 1, WAIT_MS) > 0) {
		ssize_t n = read(fd, got, sizeof(got));

		if (n >= (ssize_t)(skip + sizeof(packet)) &&
		    memcmp(got + skip, packet, sizeof(packet)) == 0)
			return true;
	}
	return false;
}

START_TEST(a_tap_gets_what_its_card_receives_and_the_other_way_round)
{
	unsigned char with_header[VNET_HDR + sizeof(packet)] = { 0 };
	int far = packets_of("far");

	ck_assert_msg(run(do_tap) == 0, "%s", err.text);
	ck_assert_int_eq(write(far, packet, sizeof(packet)), sizeof(packet));
	ck_assert(arrives(tap, VNET_HDR));
	memcpy(with_header + VNET_HDR, packet, sizeof(packet));
	close(far);
	far = packets_of("far");
	ck_assert_int_eq(write(tap, with_header, sizeof(with_header)), sizeof(with_header));
	ck_assert(arrives(far, 0));
	sh("ip link show lcow0 | grep -q 'mtu 1400.*state U'");
	close(far);
	close(tap);
}
END_TEST

START_TEST(a_tap_can_be_made_again_once_it_was_taken_away)
{
	for (int i = 0; i < 3; i++) {
		ck_assert_msg(run(do_tap) == 0, "%s", err.text);
		ck_assert_int_eq(access(record, F_OK), 0);
		close(tap);
		ck_assert_msg(run(do_untap) == 0, "%s", err.text);
		ck_assert_int_lt(access(record, F_OK), 0);
		ck_assert_int_eq(run(do_untap), 0);
		sh("! ip link show lcow0 2>/dev/null && ! tc qdisc show dev eth0 | grep ingress");
	}
}
END_TEST

START_TEST(a_tap_that_fails_leaves_nothing)
{
	ck_assert_int_eq(run(do_tap_absent), -ENODEV);
	ck_assert_ptr_nonnull(strstr(err.text, "eth7"));
	sh("tc qdisc add dev eth0 ingress");
	ck_assert_int_eq(run(do_tap), -EEXIST);
	sh("! ip link show lcow0 2>/dev/null && tc qdisc show dev eth0 | grep -q ingress");
	ck_assert_int_lt(access(record, F_OK), 0);
}
END_TEST

START_TEST(a_record_is_enough_to_take_a_tap_away)
{
	ck_assert_msg(run(do_tap) == 0, "%s", err.text);
	close(tap);
	for (int i = 0; i < 2; i++) {
		ck_assert_msg(netns_untap_recorded(record, &err) == 0, "%s", err.text);
		sh("! tc qdisc show dev eth0 | grep ingress");
	}
	/* What else is at that path has been made by others. */
	sh("tc qdisc add dev eth0 ingress");
	ck_assert_int_eq(file_write(record, "1 2 eth0 ", 9, 0600), 0);
	ck_assert_int_eq(netns_untap_recorded(record, &err), 0);
	_cleanup_free_ char *other = str_printf("1 2 eth0 %s\n", path);
	ck_assert_int_eq(file_write(record, other, strlen(other), 0600), 0);
	ck_assert_int_eq(netns_untap_recorded(record, &err), 0);
	unlink(record);
	ck_assert_int_eq(netns_untap_recorded(record, &err), 0);
	sh("tc qdisc show dev eth0 | grep -q ingress");
}
END_TEST

/* ---- the loopback ---- */

/* Return: fd, or why there is no connection to that address of the namespace */
static int dial(const char *address, uint16_t port)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool is_four = inet_pton(AF_INET, address, &four.sin_addr) == 1;
	int fd = socket_there(is_four ? AF_INET : AF_INET6, SOCK_STREAM, 0);
	int r;

	if (!is_four)
		ck_assert_int_eq(inet_pton(AF_INET6, address, &six.sin6_addr), 1);
	r = is_four ? connect(fd, (struct sockaddr *)&four, sizeof(four))
		    : connect(fd, (struct sockaddr *)&six, sizeof(six));
	if (r == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* Whether a connection waits at a listener, to that address. */
static bool arrived(int listener, const char *address, uint16_t port)
{
	struct sockaddr_in6 at;
	struct sockaddr_in *four = (struct sockaddr_in *)&at;
	socklen_t len = sizeof(at);
	char text[INET6_ADDRSTRLEN];
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		return false;
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	close(fd);
	inet_ntop(at.sin6_family,
		  at.sin6_family == AF_INET ? (void *)&four->sin_addr : (void *)&at.sin6_addr, text,
		  sizeof(text));
	return strcmp(text, address) == 0 && ntohs(at.sin6_port) == port;
}

START_TEST(every_port_of_the_loopback_leads_to_one_listener)
{
	static const uint16_t ports[] = { 1, 80, 8080, 65535 };

	ck_assert_int_eq(dial("127.0.0.1", 80), -ECONNREFUSED);
	ck_assert_msg(run(do_loopback) == 0, "%s", err.text);
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		static const char *const addresses[] = { "127.0.0.1", "127.3.2.1", "::1" };

		for (size_t a = 0; a < ARRAY_SIZE(addresses); a++) {
			int fd = dial(addresses[a], ports[i]);

			ck_assert_msg(fd >= 0, "%s: %s", addresses[a], strerror(-fd));
			ck_assert(arrived(a == 2 ? loopback.six : loopback.four, addresses[a],
					  ports[i]));
			ck_assert_int_eq(accept(loopback.six, NULL, NULL), -1);
			close(fd);
		}
	}
	ck_assert(fcntl(loopback.link, F_GETFD) & FD_CLOEXEC);
	netns_loopback_close(&loopback);
	ck_assert_int_eq(dial("127.0.0.1", 80), -ECONNREFUSED);
	ck_assert_int_eq(dial("::1", 80), -ECONNREFUSED);
}
END_TEST

START_TEST(other_addresses_and_datagrams_go_their_own_way)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr = { htonl(INADDR_LOOPBACK) },
				  .sin_port = htons(80) };
	int server = socket_there(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	int client = socket_there(AF_INET, SOCK_DGRAM, 0), r = -ENETUNREACH;
	char byte;

	sh("ip addr add 10.7.0.2/32 dev lo && ip -6 addr add fd07::2/128 dev lo nodad");
	ck_assert_msg(run(do_loopback) == 0, "%s", err.text);
	ck_assert_int_eq(dial("10.7.0.2", 80), -ECONNREFUSED);
	/* The kernel takes its time with the route to an address of IPv6. */
	for (int i = 0; i < WAIT_MS && (r == -ENETUNREACH || r == -EHOSTUNREACH); i++) {
		usleep(1000);
		r = dial("fd07::2", 80);
	}
	ck_assert_int_eq(r, -ECONNREFUSED);
	ck_assert_int_eq(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(sendto(client, "x", 1, 0, (struct sockaddr *)&at, sizeof(at)), 1);
	ck_assert_int_eq(read(server, &byte, 1), 1);
	close(server);
	close(client);
}
END_TEST

START_TEST(what_was_connected_before_stays_so)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr = { htonl(INADDR_LOOPBACK) },
				  .sin_port = htons(80) };
	int server = socket_there(AF_INET, SOCK_STREAM, 0), client, accepted;
	char byte;

	ck_assert_int_eq(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(listen(server, 1), 0);
	client = dial("127.0.0.1", 80);
	accepted = accept(server, NULL, NULL);
	ck_assert_msg(run(do_loopback) == 0, "%s", err.text);
	ck_assert_int_eq(write(client, "x", 1), 1);
	ck_assert_int_eq(read(accepted, &byte, 1), 1);
	close(server);
	close(client);
	close(accepted);
}
END_TEST

START_TEST(a_loopback_that_is_down_may_come_up_later)
{
	int fd;

	sh("ip link set lo down");
	ck_assert_msg(run(do_loopback) == 0, "%s", err.text);
	sh("ip link set lo up");
	for (int i = 0; i < 2; i++) {
		fd = dial(i ? "::1" : "127.0.0.1", 80);
		ck_assert_msg(fd >= 0, "%s", strerror(-fd));
		close(fd);
	}
}
END_TEST

START_TEST(what_is_no_namespace_of_its_own_has_no_loopback_to_take)
{
	path = _i ? "/proc/self/ns/net" : "/etc/passwd";
	ck_assert_int_eq(run(do_loopback), 0);
	ck_assert_int_eq(loopback.four, -EBADF);
	ck_assert_int_eq(loopback.six, -EBADF);
	ck_assert_int_eq(loopback.link, -EBADF);
}
END_TEST

START_TEST(a_loopback_that_cannot_be_taken_is_left_alone)
{
	/* The last step fails: a directory is no namespace. */
	int four = socket_there(AF_INET, SOCK_STREAM, 0), dir = open("/tmp", O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(listen(four, 1), 0);
	ck_assert_int_eq(sk_lookup_attach(dir, four, -EBADF, &err), -ERR_UNIMPLEMENTED);
	ck_assert_ptr_nonnull(strstr(err.text, "attach a socket lookup program: Invalid"));
	/* And the first one. */
	ck_assert_int_eq(sk_lookup_attach(dir, dir, -EBADF, &err), -ENOTSOCK);
	ck_assert_ptr_nonnull(strstr(err.text, "listener"));
	close(four);
	close(dir);
}
END_TEST

START_TEST(who_may_not_is_told_that_it_is_not_there)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct err e = { 0 };
		int four = socket_there(AF_INET, SOCK_STREAM, 0);
		int there = open(path, O_RDONLY | O_CLOEXEC);

		if (listen(four, 1) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		_exit(sk_lookup_attach(there, four, -EBADF, &e) != -ERR_UNIMPLEMENTED);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vmm netns");
	TCase *t = tcase_create("netns");

	if (geteuid() != 0) {
		puts("network namespaces need root");
		return 77;
	}
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, a_card_is_read_with_its_addresses_and_routes);
	tcase_add_test(t, eth0_comes_first);
	tcase_add_test(t, the_hosts_own_cards_are_nobodys_to_take);
	tcase_add_test(t, an_ordinary_file_has_no_cards_and_nothing_is_an_error);
	tcase_add_test(t, a_tap_gets_what_its_card_receives_and_the_other_way_round);
	tcase_add_test(t, a_tap_can_be_made_again_once_it_was_taken_away);
	tcase_add_test(t, a_tap_that_fails_leaves_nothing);
	tcase_add_test(t, a_record_is_enough_to_take_a_tap_away);
	tcase_add_test(t, every_port_of_the_loopback_leads_to_one_listener);
	tcase_add_test(t, other_addresses_and_datagrams_go_their_own_way);
	tcase_add_test(t, what_was_connected_before_stays_so);
	tcase_add_test(t, a_loopback_that_is_down_may_come_up_later);
	tcase_add_loop_test(t, what_is_no_namespace_of_its_own_has_no_loopback_to_take, 0, 2);
	tcase_add_test(t, a_loopback_that_cannot_be_taken_is_left_alone);
	tcase_add_test(t, who_may_not_is_told_that_it_is_not_there);
	suite_add_tcase(suite, t);

	SRunner *r = srunner_create(suite);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
