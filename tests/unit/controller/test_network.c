/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/fakenet.h"

static struct network *n;
static struct err err;
static int result;

static void setup(void)
{
	fake_network_init();
	memset(&err, 0, sizeof(err));
	n = network_new(&fake_network_ops, NULL, &two_cards, "p1");
}

static void teardown(void)
{
	network_free(n);
	fake_network_free();
}

static CO void do_setup(void *arg)
{
	result = network_setup(n, &err);
}

static CO void do_teardown(void *arg)
{
	result = network_teardown(n, &err);
}

static int bring_up(void)
{
	in_coroutine(do_setup, NULL);
	return result;
}

static int take_down(void)
{
	in_coroutine(do_teardown, NULL);
	return result;
}

#define ALL "links two;attach eth0;add p1;attach net1;add p1;forward two to p1;"
#define NONE "unforward p1;remove p1;detach eth0;remove p1;detach net1;"

START_TEST(every_card_of_the_namespace_is_one_of_the_guest)
{
	ck_assert_int_eq(bring_up(), 0);
	expect_net(ALL);
	ck_assert_int_eq(network_state(n), NETWORK_CONFIGURED);
	ck_assert_uint_eq(network_cards(n), 2);
	ck_assert_int_eq(take_down(), 0);
	expect_net(NONE);
	ck_assert_int_eq(network_state(n), NETWORK_TORN_DOWN);
	ck_assert_uint_eq(network_cards(n), 0);
}
END_TEST

START_TEST(the_guest_is_told_addresses_routes_neighbours_names_and_how_large_packets_are)
{
	/* The second card's is not looked at. */
	net.hold_at = "attach net1";
	co_spawn("setup", do_setup, NULL, USEC_NEVER);
	run_for(5);
	for (const char *const *part =
		     (const char *const[]){
			     "\"NamespaceID\":\"p1\",\"ID\":\"",
			     "\"MacAddress\":\"02:00:00:00:00:0a\",\"DNSSuffix\":\"a.b,c\","
			     "\"DNSServerList\":\"10.0.0.1\",\"EncapOverhead\":50,\"IPConfigs\":[{"
			     "\"IPAddress\":\"10.0.0.2\",\"PrefixLength\":24}],\"Routes\":[{"
			     "\"NextHop\":"
			     "\"10.0.0.1\",\"DestinationPrefix\":\"0.0.0.0/0\",\"Metric\":65535},{"
			     "\"NextHop\":\"::\",\"DestinationPrefix\":\"fd00::/"
			     "8\",\"Metric\":1}],\"Neighbors\":[{\"IPAddress\":\"10.0.0.1\","
			     "\"MacAddress\":\"02:00:00:00:00:0b\"}]}",
			     NULL };
	     *part; part++)
		ck_assert_msg(strstr(net_settings, *part), "%s", net_settings);
	co_event_set(&net.gate);
	run_all();
	ck_assert_ptr_null(strstr(net_settings, "EncapOverhead"));
	ck_assert_ptr_null(strstr(net_settings, "PolicyBasedRouting"));
}
END_TEST

START_TEST(the_guest_is_told_to_route_by_policy)
{
	struct network_config config = two_cards;

	config.policy_routing = true;
	network_free(n);
	n = network_new(&fake_network_ops, NULL, &config, "p1");
	ck_assert_int_eq(bring_up(), 0);
	ck_assert_ptr_nonnull(strstr(net_settings, "\"PolicyBasedRouting\":true"));
}
END_TEST

/* Without a namespace, with what is none, and with one that has no cards. */
static const struct {
	const char *netns, *up, *down;
} cardless[] = {
	{ "", "", "" },
	{ "none", "links none;forward none to p1;", "" },
	{ "lo", "links lo;forward lo to p1;", "unforward p1;" },
};

START_TEST(a_pod_without_a_namespace_or_without_cards_has_no_network)
{
	network_free(n);
	n = network_new(&fake_network_ops, NULL,
			&(struct network_config){ .netns = cardless[_i].netns }, "p1");
	ck_assert_int_eq(bring_up(), 0);
	expect_net(cardless[_i].up);
	ck_assert_int_eq(network_state(n), NETWORK_CONFIGURED);
	ck_assert_uint_eq(network_cards(n), 0);
	ck_assert_int_eq(take_down(), 0);
	expect_net(cardless[_i].down);
}
END_TEST

START_TEST(a_host_that_cannot_forward_is_no_failure)
{
	net_no_forward = true;
	net.fail_at = 6;
	ck_assert_int_eq(bring_up(), 0);
	expect_net(ALL);
	ck_assert_int_eq(network_state(n), NETWORK_CONFIGURED);
	ck_assert_int_eq(take_down(), 0);
	expect_net("remove p1;detach eth0;remove p1;detach net1;");
}
END_TEST

START_TEST(what_leads_to_a_network_that_was_not_taken_down_goes_with_it)
{
	ck_assert_int_eq(bring_up(), 0);
	expect_net(ALL);
	n = network_free(n);
	expect_net("unforward p1;");
}
END_TEST

START_TEST(a_guest_that_takes_no_cards_gets_none)
{
	net_unsupported = true;
	ck_assert_int_eq(bring_up(), 0);
	expect_net("links two;forward two to p1;");
	ck_assert_uint_eq(network_cards(n), 0);
}
END_TEST

/* What is taken back after a setup that failed at its first, second, … call. */
static const char *const undone[] = {
	"",
	"detach eth0;",
	"remove p1;detach eth0;",
	"remove p1;detach eth0;detach net1;",
	"remove p1;detach eth0;remove p1;detach net1;",
	"remove p1;detach eth0;remove p1;detach net1;",
};

START_TEST(a_setup_that_fails_at_any_call_is_invalid_and_taken_back_by_teardown)
{
	net.fail_at = (unsigned)_i + 1;
	ck_assert_int_eq(bring_up(), -EIO);
	ck_assert_int_eq(network_state(n), NETWORK_INVALID);
	fake_calls(&net);
	ck_assert_int_eq(bring_up(), -ERR_STATE);
	ck_assert_int_eq(take_down(), 0);
	expect_net(undone[_i]);
	ck_assert_int_eq(network_state(n), NETWORK_TORN_DOWN);
}
END_TEST

/* What the second try has left to do when a call of the teardown failed: the second, third, …, for
 * the first one cannot. */
static const char *const left[] = {
	"remove p1;detach eth0;",
	"detach eth0;",
	"remove p1;detach net1;",
	"detach net1;",
};

START_TEST(a_teardown_that_fails_at_any_call_goes_on_and_can_be_repeated)
{
	ck_assert_int_eq(bring_up(), 0);
	net.fail_at = net.n_calls + (unsigned)_i + 2;
	ck_assert_int_eq(take_down(), -EIO);
	ck_assert_int_eq(network_state(n), NETWORK_INVALID);
	ck_assert_uint_eq(network_cards(n), 1);
	fake_calls(&net);
	ck_assert_int_eq(take_down(), 0);
	expect_net(left[_i]);
	ck_assert_int_eq(network_state(n), NETWORK_TORN_DOWN);
}
END_TEST

START_TEST(every_other_move_is_refused_or_nothing)
{
	ck_assert_int_eq(take_down(), 0);
	ck_assert_int_eq(network_state(n), NETWORK_NOT_CONFIGURED);
	ck_assert_int_eq(bring_up(), 0);
	ck_assert_int_eq(bring_up(), -ERR_STATE);
	ck_assert_ptr_nonnull(strstr(err.text, "in state Configured"));
	ck_assert_int_eq(take_down(), 0);
	fake_calls(&net);
	ck_assert_int_eq(take_down(), 0);
	ck_assert_int_eq(bring_up(), -ERR_STATE);
	expect_net("");
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, every_card_of_the_namespace_is_one_of_the_guest);
	tcase_add_test(
		t, the_guest_is_told_addresses_routes_neighbours_names_and_how_large_packets_are);
	tcase_add_test(t, the_guest_is_told_to_route_by_policy);
	tcase_add_loop_test(t, a_pod_without_a_namespace_or_without_cards_has_no_network, 0,
			    ARRAY_SIZE(cardless));
	tcase_add_test(t, a_host_that_cannot_forward_is_no_failure);
	tcase_add_test(t, what_leads_to_a_network_that_was_not_taken_down_goes_with_it);
	tcase_add_test(t, a_guest_that_takes_no_cards_gets_none);
	tcase_add_loop_test(t, a_setup_that_fails_at_any_call_is_invalid_and_taken_back_by_teardown,
			    0, ARRAY_SIZE(undone));
	tcase_add_loop_test(t, a_teardown_that_fails_at_any_call_goes_on_and_can_be_repeated, 0,
			    ARRAY_SIZE(left));
	tcase_add_test(t, every_other_move_is_refused_or_nothing);
}

int main(void)
{
	Suite *suite = suite_create("controller network");
	TCase *t = tcase_create("network");

	tcase_add_checked_fixture(t, setup, teardown);
	add_tests(t);
	suite_add_tcase(suite, t);

	SRunner *r = srunner_create(suite);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
