/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/fakenet.h"
#include "controller/pod.h"

static struct pods *pods;

static void setup(void)
{
	fake_network_init();
	pods = pods_new(&fake_network_ops, NULL);
}

static void teardown(void)
{
	pods_free(pods);
	fake_network_free();
}

/**
 * struct hold - one who wants a pod
 */
struct hold {
	const char *id;
	struct pod *pod;
	int result;
	bool done;
	struct err err;
};

static CO void do_get(void *arg)
{
	struct hold *h = arg;

	h->result = pod_get(pods, h->id, &two_cards, &h->pod, &h->err);
	h->done = true;
}

static CO void do_put(void *arg)
{
	struct hold *h = arg;

	h->pod = pod_put(h->pod);
}

static int get(struct hold *h, const char *id)
{
	h->id = id;
	in_coroutine(do_get, h);
	return h->result;
}

static void put(struct hold *h)
{
	in_coroutine(do_put, h);
}

#define CARDS_UP "links two;attach eth0;add p1;attach net1;add p1;"
#define CARDS_DOWN "remove p1;detach eth0;remove p1;detach net1;"
#define UP CARDS_UP "forward two to p1;"
#define DOWN "unforward p1;" CARDS_DOWN

START_TEST(the_first_brings_the_network_up_and_the_last_takes_it_down)
{
	static struct hold a, b;

	ck_assert_int_eq(get(&a, "p1"), 0);
	expect_net(UP);
	ck_assert(pod_has_network(a.pod));
	ck_assert_int_eq(get(&b, "p1"), 0);
	ck_assert_ptr_eq(a.pod, b.pod);
	expect_net("");
	put(&a);
	expect_net("");
	put(&b);
	expect_net(DOWN);
	ck_assert_int_eq(get(&a, "p1"), 0);
	expect_net(UP);
	put(&a);
}
END_TEST

START_TEST(pods_have_networks_of_their_own)
{
	static struct hold a, b;

	ck_assert_int_eq(get(&a, "p1"), 0);
	ck_assert_int_eq(get(&b, "p2"), 0);
	ck_assert_ptr_ne(a.pod, b.pod);
	fake_calls(&net);
	put(&a);
	expect_net(DOWN);
	put(&b);
}
END_TEST

START_TEST(the_second_waits_until_the_first_is_done)
{
	static struct hold a, b;

	net.hold_at = "attach net1";
	a.id = b.id = "p1";
	co_spawn("a", do_get, &a, USEC_NEVER);
	co_spawn("b", do_get, &b, USEC_NEVER);
	run_for(5);
	ck_assert(!a.done && !b.done);
	co_event_set(&net.gate);
	run_all();
	ck_assert_int_eq(a.result, 0);
	ck_assert_int_eq(b.result, 0);
	expect_net(UP);
	put(&a);
	put(&b);
}
END_TEST

START_TEST(who_gives_up_waiting_leaves_the_pod_to_the_others)
{
	static struct hold a, b;
	struct co *second;

	net.hold_at = "attach net1";
	a.id = b.id = "p1";
	co_spawn("a", do_get, &a, USEC_NEVER);
	second = co_spawn("b", do_get, &b, USEC_NEVER);
	run_for(5);
	ck_assert(pods_have(pods, "p1"));
	co_cancel(second);
	run_for(5);
	ck_assert_int_eq(b.result, -ECANCELED);
	ck_assert_ptr_null(b.pod);
	co_event_set(&net.gate);
	run_all();
	ck_assert_int_eq(a.result, 0);
	expect_net(UP);
	put(&a);
	expect_net(DOWN);
	ck_assert(!pods_have(pods, "p1"));
}
END_TEST

START_TEST(a_setup_that_is_given_up_is_taken_back)
{
	static struct hold a;
	struct co *co;

	net.hold_at = "attach net1";
	a.id = "p1";
	co = co_spawn("a", do_get, &a, USEC_NEVER);
	run_for(5);
	co_cancel(co);
	run_all();
	ck_assert_int_eq(a.result, -ECANCELED);
	expect_net("links two;attach eth0;add p1;attach net1;remove p1;detach eth0;detach net1;");
	ck_assert(!pods_have(pods, "p1"));
}
END_TEST

START_TEST(a_network_that_fails_leaves_nothing_and_can_be_tried_again)
{
	static struct hold a;

	net.fail_at = 5;
	ck_assert_int_eq(get(&a, "p1"), -EIO);
	ck_assert_ptr_null(a.pod);
	expect_net(CARDS_UP CARDS_DOWN);
	ck_assert_int_eq(get(&a, "p1"), 0);
	put(&a);
}
END_TEST

START_TEST(a_network_that_cannot_be_taken_down_ends_with_the_vm)
{
	static struct hold a;

	ck_assert_int_eq(get(&a, "p1"), 0);
	net.fail_at = net.n_calls + 2;
	put(&a);
	ck_assert_int_eq(get(&a, "p1"), 0);
}
END_TEST

static CO void do_release(void *arg)
{
	pods_release(arg);
}

START_TEST(the_end_of_the_vm_frees_every_network_whoever_holds_the_pods)
{
	static struct hold a, b;

	in_coroutine(do_release, NULL);
	ck_assert_int_eq(get(&a, "p1"), 0);
	ck_assert_int_eq(get(&b, "p2"), 0);
	fake_calls(&net);
	in_coroutine(do_release, pods);
	expect_net(DOWN "unforward p2;remove p2;detach eth0;remove p2;detach net1;");
	put(&a);
	put(&b);
	expect_net("");
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, the_first_brings_the_network_up_and_the_last_takes_it_down);
	tcase_add_test(t, pods_have_networks_of_their_own);
	tcase_add_test(t, the_second_waits_until_the_first_is_done);
	tcase_add_test(t, who_gives_up_waiting_leaves_the_pod_to_the_others);
	tcase_add_test(t, a_setup_that_is_given_up_is_taken_back);
	tcase_add_test(t, a_network_that_fails_leaves_nothing_and_can_be_tried_again);
	tcase_add_test(t, the_end_of_the_vm_frees_every_network_whoever_holds_the_pods);
	tcase_add_test(t, a_network_that_cannot_be_taken_down_ends_with_the_vm);
}

int main(void)
{
	Suite *suite = suite_create("controller pod");
	TCase *t = tcase_create("pod");

	tcase_add_checked_fixture(t, setup, teardown);
	add_tests(t);
	suite_add_tcase(suite, t);

	SRunner *r = srunner_create(suite);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
