/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/each.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "loop/loop.h"
#include "turns.h"

enum { MANY = 3 * EACH_AT_ONCE };

/**
 * struct work - what each call does, and what became of all
 * @fail_at:	the call that fails, as do those after it of the first so many; MANY for none
 * @blocked:	they wait for @gate
 * @most:	so many were under way at a time
 */
static struct work {
	size_t n, fail_at;
	bool go_on, blocked;
	struct co_event gate;
	unsigned begun[MANY], ended[MANY], running, most;
	size_t order[MANY], n_begun;
	uint64_t limit;
	int result;
	struct co *caller;
	bool returned;
	struct err err;
} w;

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	memset(&w, 0, sizeof(w));
	w.n = w.fail_at = MANY;
	w.limit = USEC_NEVER;
	co_event_init(&w.gate);
}

static void teardown(void)
{
	ck_assert_uint_eq(co_count(), 0);
	ck_assert_uint_eq(w.running, 0);
	loop_fini();
}

static CO int one(size_t i, void *arg, struct err *err)
{
	int r = 0;

	ck_assert_ptr_eq(arg, &w);
	w.begun[i]++;
	w.order[w.n_begun++] = i;
	if (++w.running > w.most)
		w.most = w.running;
	if (w.blocked)
		r = co_event_wait(&w.gate);
	w.running--;
	w.ended[i]++;
	if (r < 0)
		return err_sys(err, r, "call %zu", i);
	return i >= w.fail_at && i < EACH_AT_ONCE ? err_set(err, -EIO, "call %zu has failed", i)
						  : 0;
}

static CO void caller(void *arg)
{
	CO_LIMIT(w.limit);

	w.result = each_call("one of them", w.n, one, &w, w.go_on, &w.err);
	w.returned = true;
	ck_assert_uint_eq(w.running, 0);
}

static void begin(void)
{
	w.caller = co_spawn("caller", caller, NULL, USEC_NEVER);
	run_for(10);
}

static void open_gate(void)
{
	co_event_set(&w.gate);
	run_for(10);
	ck_assert(w.returned);
}

static size_t count(const unsigned *calls)
{
	size_t n = 0;

	for (size_t i = 0; i < MANY; i++) {
		ck_assert_uint_le(calls[i], 1);
		n += calls[i];
	}
	return n;
}

START_TEST(each_is_called_once_in_order_and_so_many_at_a_time)
{
	w.n = (size_t)_i;
	w.blocked = true;
	begin();
	ck_assert_int_eq(w.returned, _i == 0);
	ck_assert_uint_eq(count(w.begun), _i < EACH_AT_ONCE ? _i : EACH_AT_ONCE);
	open_gate();
	ck_assert_int_eq(w.result, 0);
	ck_assert_uint_eq(count(w.ended), _i);
	ck_assert_uint_le(w.most, EACH_AT_ONCE);
	for (size_t i = 0; i < w.n; i++)
		ck_assert_uint_eq(w.order[i], i);
}
END_TEST

START_TEST(after_a_failure_no_more_are_begun_and_those_under_way_are_waited_for)
{
	w.blocked = true;
	w.fail_at = 0;
	begin();
	open_gate();
	ck_assert_int_eq(w.result, -EIO);
	ck_assert_str_eq(w.err.text, "call 0 has failed");
	ck_assert_uint_eq(count(w.begun), EACH_AT_ONCE);
	ck_assert_uint_eq(count(w.ended), EACH_AT_ONCE);
}
END_TEST

START_TEST(who_goes_on_calls_all_and_is_told_of_the_first_failure)
{
	w.go_on = true;
	w.fail_at = 5;
	begin();
	ck_assert(w.returned);
	ck_assert_int_eq(w.result, -EIO);
	ck_assert_str_eq(w.err.text, "call 5 has failed");
	ck_assert_uint_eq(count(w.ended), MANY);
}
END_TEST

START_TEST(cancellation_of_the_caller_is_that_of_all_calls)
{
	w.blocked = true;
	w.go_on = _i;
	begin();
	co_cancel(w.caller);
	run_for(10);
	ck_assert(w.returned);
	ck_assert_int_eq(w.result, -ECANCELED);
	ck_assert_uint_eq(count(w.begun), EACH_AT_ONCE);
	ck_assert_uint_eq(count(w.ended), EACH_AT_ONCE);
}
END_TEST

START_TEST(so_is_its_deadline)
{
	w.blocked = true;
	w.go_on = true;
	w.limit = USEC_PER_SEC;
	begin();
	ck_assert(!w.returned);
	while (!w.returned)
		run_for(10);
	ck_assert_int_eq(w.result, -ETIMEDOUT);
	ck_assert_uint_eq(count(w.begun), count(w.ended));
}
END_TEST

static CO void late(void *arg)
{
	co_cancel(co_self());
	caller(arg);
}

START_TEST(who_is_cancelled_already_begins_none)
{
	co_spawn("caller", late, NULL, USEC_NEVER);
	run_for(10);
	ck_assert(w.returned);
	ck_assert_int_eq(w.result, -ECANCELED);
	ck_assert_str_eq(w.err.text, "one of them: Operation canceled");
	ck_assert_uint_eq(count(w.begun), 0);
}
END_TEST

static CO void shielded(void *arg)
{
	CO_SHIELD(USEC_PER_SEC);

	co_cancel(co_self());
	caller(arg);
}

START_TEST(a_shielded_caller_is_not_cancelled)
{
	w.blocked = true;
	co_spawn("caller", shielded, NULL, USEC_NEVER);
	run_for(10);
	ck_assert(!w.returned);
	open_gate();
	ck_assert_int_eq(w.result, 0);
	ck_assert_uint_eq(count(w.ended), MANY);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop each");
	TCase *t = tcase_create("each");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, each_is_called_once_in_order_and_so_many_at_a_time, 0, MANY + 1);
	tcase_add_test(t, after_a_failure_no_more_are_begun_and_those_under_way_are_waited_for);
	tcase_add_test(t, who_goes_on_calls_all_and_is_told_of_the_first_failure);
	tcase_add_loop_test(t, cancellation_of_the_caller_is_that_of_all_calls, 0, 2);
	tcase_add_test(t, so_is_its_deadline);
	tcase_add_test(t, who_is_cancelled_already_begins_none);
	tcase_add_test(t, a_shielded_caller_is_not_cancelled);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
