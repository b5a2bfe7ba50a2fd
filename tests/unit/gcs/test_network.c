/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/network.h"

#include "gcs/agent.h"
#include "gcs/module.h"
#include "netns.h"

static struct agent agent;
static struct gcs_network_adapter settings;
static int result;

static void setup(void)
{
	network_setup_test();
	ck_assert_int_eq(mkdir("/run/modules", 0755), 0);
	ck_assert_int_eq(file_write("/run/modules/modules.builtin", "kernel/virtio_net.ko\n", 21,
				    0644),
			 0);
	ck_assert_int_eq(file_write("/run/modules/modules.dep", "", 0, 0644), 0);
	agent = (struct agent){ .modules = modules_open("/run/modules") };
	settings = (struct gcs_network_adapter){ .namespace_id = TEXT("Net-1"),
						 .id = TEXT("A"),
						 .mac = TEXT("02-00-00-00-00-01") };
}

enum { JOINS_MAX = 4 };

static struct network *joins[JOINS_MAX];
static unsigned n_joins;

/* Whatever a test has left. */
static CO void take_all_away(void)
{
	while (n_joins > 0)
		network_leave(joins[--n_joins]);
	for (const char *id = "ABC"; *id; id++) {
		settings.id = (char[]){ *id, '\0' };
		ck_assert_int_eq(network_remove(&agent, &settings, &err), 0);
	}
}

static void teardown(void)
{
	run(take_all_away);
	ck_assert_uint_eq(agent.networks.len, 0);
	map_free(&agent.networks);
	modules_free(agent.modules);
	network_teardown_test();
}

static CO void do_add(void)
{
	result = network_add(&agent, &settings, &err);
}

static CO void do_remove(void)
{
	result = network_remove(&agent, &settings, &err);
}

static int add(void)
{
	run(do_add);
	return result;
}

static int take_away(void)
{
	run(do_remove);
	return result;
}

START_TEST(a_network_is_there_from_its_first_card_to_its_last)
{
	ck_assert_msg(add() == 0, "%s", err.text);
	ck_assert_uint_eq(agent.networks.len, 1);
	sh("nsenter --net=/run/netns/n1 ip link show eth0 >/dev/null");
	settings.namespace_id = TEXT("nET-1");
	settings.id = TEXT("a");
	ck_assert_int_eq(take_away(), 0);
	ck_assert_uint_eq(agent.networks.len, 0);
	sh("! ls /run/netns/n1 2>/dev/null");
	ck_assert_int_eq(take_away(), 0);
}
END_TEST

START_TEST(cards_are_named_as_they_come_whatever_went)
{
	sh("ip link add new1 address 02:00:00:00:00:02 type veth peer name far1 && "
	   "ip link add new2 address 02:00:00:00:00:03 type veth peer name far2");
	ck_assert_int_eq(add(), 0);
	settings.id = TEXT("B");
	settings.mac = TEXT("02:00:00:00:00:02");
	ck_assert_int_eq(add(), 0);
	settings.id = TEXT("A");
	ck_assert_int_eq(take_away(), 0);
	settings.id = TEXT("C");
	settings.mac = TEXT("02:00:00:00:00:03");
	ck_assert_int_eq(add(), 0);
	sh("nsenter --net=/run/netns/n1 ip -o link | grep -c eth | grep -qx 3");
	sh("nsenter --net=/run/netns/n1 ip -o link show eth2 | grep -q 02:00:00:00:00:03");
}
END_TEST

static struct gcs_ip_config of_card[] = { { (char[]){ "10.7.0.2" }, 24 } };
static struct gcs_route everywhere[] = { { (char[]){ "10.7.0.1" }, (char[]){ "0.0.0.0/0" } } };

START_TEST(by_policy_each_card_but_the_first_has_a_table_of_its_own)
{
	sh("ip link add new1 address 02:00:00:00:00:02 type veth peer name far1 && "
	   "ip link add new2 address 02:00:00:00:00:03 type veth peer name far2");
	settings.policy_routing = true;
	settings.ip_configs = of_card;
	settings.routes = everywhere;
	settings.n_ip_configs = settings.n_routes = 1;
	for (int i = 0; i < 3; i++) {
		settings.id = (char[]){ (char)('A' + i), '\0' };
		settings.mac[16] = (char)('1' + i);
		of_card[0].address[3] = everywhere[0].next_hop[3] = (char)('1' + i);
		ck_assert_msg(add() == 0, "%s", err.text);
	}
	sh("nsenter --net=/run/netns/n1 ip route | grep -q 'default via 10.1.0.1 dev eth0'");
	for (int i = 1; i < 3; i++) {
		sh("nsenter --net=/run/netns/n1 ip route show table %d | "
		   "grep -q 'default via 10.%d.0.1 dev eth%d'",
		   100 + i, i + 1, i);
		sh("nsenter --net=/run/netns/n1 ip rule | grep -q 'from 10.%d.0.2 lookup %d'",
		   i + 1, 100 + i);
	}
}
END_TEST

START_TEST(an_adapter_that_is_in_the_network_is_refused)
{
	ck_assert_int_eq(add(), 0);
	settings.id = TEXT("a");
	ck_assert_int_eq(add(), -ERR_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.text, "already present in namespace"));
}
END_TEST

static char *const no_macs[] = { NULL, (char[]){ "02:00" }, (char[]){ "02:00:00:00:00:99" } };

START_TEST(a_card_that_is_none_or_does_not_come_leaves_no_network)
{
	settings.mac = no_macs[_i];
	ck_assert_int_eq(add(), _i == 2 ? -ERR_NOT_FOUND : -ERR_INVALID);
	ck_assert_uint_eq(agent.networks.len, 0);
	settings.id = NULL;
	ck_assert_int_eq(add(), -ERR_INVALID);
	ck_assert_int_eq(take_away(), 0);
}
END_TEST

/* ---- pods ---- */

static const char *join_id;

static CO void do_join(void)
{
	result = network_join(&agent, join_id, &joins[n_joins], &err);
	n_joins += result == 0;
}

static CO void do_leave(void)
{
	network_leave(joins[--n_joins]);
}

static struct network *join(const char *id)
{
	join_id = id;
	run(do_join);
	ck_assert_msg(result == 0, "%s", err.text);
	return joins[n_joins - 1];
}

START_TEST(a_pod_joins_the_network_of_its_id_and_keeps_it)
{
	struct network *n;

	ck_assert_int_eq(add(), 0);
	n = join("NET-1");
	ck_assert_str_eq(network_path(n), "/run/netns/n1");
	ck_assert(network_has_cards(n));
	ck_assert_ptr_eq(join("net-1"), n);
	ck_assert_int_eq(take_away(), 0);
	ck_assert(!network_has_cards(n));
	run(do_leave);
	ck_assert_uint_eq(agent.networks.len, 1);
	run(do_leave);
	ck_assert_uint_eq(agent.networks.len, 0);
}
END_TEST

START_TEST(a_pod_without_cards_has_lo_and_cards_can_come)
{
	struct network *n = join("Net-1");

	ck_assert(!network_has_cards(n));
	sh("nsenter --net=%s ip -o link | grep -c . | grep -qx 1", network_path(n));
	sh("nsenter --net=%s ip -o link show lo | grep -q UP", network_path(n));
	ck_assert_int_eq(add(), 0);
	sh("nsenter --net=%s ip link show eth0 >/dev/null", network_path(n));
	run(do_leave);
	ck_assert_uint_eq(agent.networks.len, 1);
}
END_TEST

START_TEST(names_come_from_all_cards_once_each)
{
	_cleanup_free_ char *none = NULL, *text = NULL;

	sh("ip link add new1 address 02:00:00:00:00:02 type veth peer name far1");
	none = network_resolv(join("Net-1"));
	settings.dns_servers = TEXT("10.0.0.1, FD00::1");
	settings.dns_suffix = TEXT("A.b,c");
	settings.dns_options = TEXT("ndots:5,rotate");
	ck_assert_int_eq(add(), 0);
	settings.id = TEXT("B");
	settings.mac = TEXT("02:00:00:00:00:02");
	settings.dns_servers = TEXT("10.0.0.1,10.0.0.2\nevil");
	settings.dns_suffix = TEXT("c");
	ck_assert_int_eq(add(), 0);
	text = network_resolv(joins[0]);
	ck_assert_str_eq(none, "");
	ck_assert_str_eq(text, "search a.b c\nnameserver 10.0.0.1\nnameserver fd00::1\n"
			       "nameserver 10.0.0.2\nnameserver evil\noptions ndots:5 rotate\n");
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_network_is_there_from_its_first_card_to_its_last);
	tcase_add_test(t, cards_are_named_as_they_come_whatever_went);
	tcase_add_test(t, by_policy_each_card_but_the_first_has_a_table_of_its_own);
	tcase_add_test(t, an_adapter_that_is_in_the_network_is_refused);
	tcase_add_loop_test(t, a_card_that_is_none_or_does_not_come_leaves_no_network, 0,
			    ARRAY_SIZE(no_macs));
	tcase_add_test(t, a_pod_joins_the_network_of_its_id_and_keeps_it);
	tcase_add_test(t, a_pod_without_cards_has_lo_and_cards_can_come);
	tcase_add_test(t, names_come_from_all_cards_once_each);
}

SUITE("network")
