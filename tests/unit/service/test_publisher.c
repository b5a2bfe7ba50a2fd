/* SPDX-License-Identifier: Apache-2.0 */
#include "service/publisher.h"

#include "base/log.h"
#include "events.h"
#include "events.pb-c.h"

enum { TOPIC_LEN = 5 };

static char dir[] = "/tmp/test_publisher.XXXXXX";
static struct events_daemon d;
static struct publisher *p;
static unsigned sent;

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	memset(&d, 0, sizeof(d));
	d.path = str_printf("%s/events", dir);
	sent = 0;
}

static void teardown(void)
{
	publisher_free(p);
	events_free(&d);
	run_all();
	dir_remove(dir);
	loop_fini();
}

/* Topics are "/000", "/001", … */
static void publish(void)
{
	Containerd__Events__TaskExit e = CONTAINERD__EVENTS__TASK_EXIT__INIT;
	char topic[8], id[] = "c1";

	snprintf(topic, sizeof(topic), "/%03u", sent++ % 1000);
	e.container_id = id;
	e.exit_status = 7;
	publisher_send(p, topic, &e.base);
}

static CO void drain(void *arg)
{
	publisher_drain(p, *(uint64_t *)arg);
	*(uint64_t *)arg = 0;
}

static void await(unsigned n)
{
	events_await(&d, n * TOPIC_LEN, 8000);
}

START_TEST(an_event_arrives_whole)
{
	Containerd__Events__TaskExit *e = NULL;
	uint64_t before = time_real_ns();

	events_up(&d);
	p = publisher_new(d.path, "ns");
	publish();
	await(1);
	ck_assert_str_eq(d.namespace, "ns");
	ck_assert_ptr_nonnull(d.last);
	ck_assert_str_eq(d.last->namespace_, "ns");
	ck_assert_str_eq(d.last->topic, "/000");
	ck_assert_uint_ge(pb_time_ns(d.last->timestamp), before);
	ck_assert_uint_le(pb_time_ns(d.last->timestamp), time_real_ns());
	ck_assert_str_eq(d.last->event->type_url, "containerd.events.TaskExit");
	ck_assert_int_eq(pb_any_unpack(d.last->event, &containerd__events__task_exit__descriptor,
				       &e, NULL),
			 0);
	ck_assert_str_eq(e->container_id, "c1");
	ck_assert_uint_eq(e->exit_status, 7);
	pb_free(e);
}
END_TEST

START_TEST(events_keep_their_order)
{
	events_up(&d);
	_cleanup_free_ char *url = str_printf("unix://%s", d.path);

	p = publisher_new(url, "ns");
	for (int i = 0; i < 4; i++)
		publish();
	await(4);
	ck_assert_str_eq(events_topics(&d), "/000;/001;/002;/003;");
}
END_TEST

START_TEST(events_wait_for_a_daemon_that_is_away)
{
	p = publisher_new(d.path, "ns");
	publish();
	publish();
	run_for(300);
	events_up(&d);
	await(2);
	ck_assert_str_eq(events_topics(&d), "/000;/001;");
}
END_TEST

START_TEST(a_daemon_that_restarts_is_found_again)
{
	events_up(&d);
	p = publisher_new(d.path, "ns");
	publish();
	await(1);
	events_down(&d);
	run_for(20);
	publish();
	publish();
	run_for(100);
	events_up(&d);
	await(3);
	ck_assert_str_eq(events_topics(&d), "/000;/001;/002;");
}
END_TEST

START_TEST(an_event_that_is_refused_for_good_does_not_hold_up_the_others)
{
	static const int codes[] = { -ERR_INVALID, -ERR_UNIMPLEMENTED, -ERR_NOT_FOUND,
				     -ERR_EXISTS };

	events_up(&d);
	d.refuse = codes[_i];
	p = publisher_new(d.path, "ns");
	publish();
	for (int i = 0; i < 100 && d.refusals == 0; i++)
		run_for(10);
	d.refuse = 0;
	publish();
	await(1);
	ck_assert_uint_eq(d.refusals, 1);
	ck_assert_str_eq(events_topics(&d), "/001;");
}
END_TEST

START_TEST(an_event_that_is_refused_for_now_is_sent_again)
{
	events_up(&d);
	d.refuse = -ERR_UNAVAILABLE;
	p = publisher_new(d.path, "ns");
	publish();
	publish();
	for (int i = 0; i < 100 && d.refusals == 0; i++)
		run_for(10);
	d.refuse = 0;
	await(2);
	ck_assert_str_eq(events_topics(&d), "/000;/001;");
}
END_TEST

START_TEST(the_queue_is_bounded_and_drops_the_oldest)
{
	p = publisher_new(d.path, "ns");
	log_init(-EBADF, LOG_ERROR);
	for (int i = 0; i < PUBLISHER_QUEUE_MAX + 3; i++)
		publish();
	events_up(&d);
	await(PUBLISHER_QUEUE_MAX);
	run_for(50);
	ck_assert_uint_eq(d.seen.len, PUBLISHER_QUEUE_MAX * TOPIC_LEN);
	ck_assert_mem_eq(d.seen.data, "/003;/004;", 10);
}
END_TEST

START_TEST(a_full_queue_keeps_the_event_that_is_under_way)
{
	events_up(&d);
	d.hold = true;
	log_init(-EBADF, LOG_ERROR);
	p = publisher_new(d.path, "ns");
	publish();
	run_for(50);
	for (int i = 0; i < PUBLISHER_QUEUE_MAX; i++)
		publish();
	/* The daemon goes and comes back: what was under way is the first again. */
	events_down(&d);
	d.hold = false;
	run_for(20);
	events_up(&d);
	await(PUBLISHER_QUEUE_MAX);
	run_for(50);
	ck_assert_uint_eq(d.seen.len, PUBLISHER_QUEUE_MAX * TOPIC_LEN);
	ck_assert_mem_eq(d.seen.data, "/000;/002;", 10);
}
END_TEST

START_TEST(draining_waits_until_everything_was_taken)
{
	uint64_t limit = 5 * USEC_PER_SEC;

	events_up(&d);
	p = publisher_new(d.path, "ns");
	publish();
	publish();
	co_spawn("drain", drain, &limit, USEC_NEVER);
	for (int i = 0; i < 1000 && limit; i++)
		run_for(5);
	ck_assert_uint_eq(limit, 0);
	ck_assert_str_eq(events_topics(&d), "/000;/001;");
}
END_TEST

START_TEST(draining_gives_up_in_time_when_nobody_listens)
{
	uint64_t limit = 100 * USEC_PER_MSEC;

	log_init(-EBADF, LOG_ERROR);
	p = publisher_new(d.path, "ns");
	publish();
	co_spawn("drain", drain, &limit, USEC_NEVER);
	run_for(1000);
	ck_assert_uint_eq(limit, 0);
}
END_TEST

START_TEST(without_an_address_nothing_is_kept)
{
	uint64_t limit = USEC_PER_SEC;

	p = publisher_new(_i ? "" : NULL, "ns");
	publish();
	co_spawn("drain", drain, &limit, USEC_NEVER);
	run_all();
	ck_assert_uint_eq(limit, 0);
}
END_TEST

/* _i: nobody listens, or nobody answers. */
START_TEST(it_can_be_freed_with_an_event_under_way)
{
	if (_i) {
		events_up(&d);
		d.hold = true;
	}
	log_init(-EBADF, LOG_ERROR);
	p = publisher_new(d.path, "ns");
	publish();
	publish();
	run_for(50);
	p = publisher_free(p);
	events_down(&d);
	run_all();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("service publisher");
	TCase *t = tcase_create("publisher");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, an_event_arrives_whole);
	tcase_add_test(t, events_keep_their_order);
	tcase_add_test(t, events_wait_for_a_daemon_that_is_away);
	tcase_add_test(t, a_daemon_that_restarts_is_found_again);
	tcase_add_loop_test(t, an_event_that_is_refused_for_good_does_not_hold_up_the_others, 0, 4);
	tcase_add_test(t, an_event_that_is_refused_for_now_is_sent_again);
	tcase_add_test(t, the_queue_is_bounded_and_drops_the_oldest);
	tcase_add_test(t, a_full_queue_keeps_the_event_that_is_under_way);
	tcase_add_test(t, draining_waits_until_everything_was_taken);
	tcase_add_test(t, draining_gives_up_in_time_when_nobody_listens);
	tcase_add_loop_test(t, without_an_address_nothing_is_kept, 0, 2);
	tcase_add_loop_test(t, it_can_be_freed_with_an_event_under_way, 0, 2);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
