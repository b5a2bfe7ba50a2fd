/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/share.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "controller/fixture.h"

static struct fake f;
static struct shares *shares;
static char dir[] = "/tmp/test_share.XXXXXX";
static char *one, *two;

static CO int on_add(void *ctx, const char *name, const char *path, const char *only,
		     bool read_only, struct err *err)
{
	return fake_call(ctx, err, "add %s %s%s", name, only ? only : "-", read_only ? " ro" : "");
}

static CO int on_remove(void *ctx, const char *name, struct err *err)
{
	return fake_call(ctx, err, "remove %s", name);
}

/* The guest's answer to a mount was not waited for. */
static bool abandoned;

static CO int on_mount(void *ctx, const char *name, const char *guest_path, bool read_only,
		       struct err *err)
{
	int r = fake_call(ctx, err, "mount %s", guest_path);

	return r >= 0 && abandoned ? err_set(err, -ETIMEDOUT, "no answer") : r;
}

static CO int on_unmount(void *ctx, const char *name, const char *guest_path, bool read_only,
			 struct err *err)
{
	return fake_call(ctx, err, "unmount %s", guest_path);
}

static const struct share_ops ops = { on_add, on_remove, on_mount, on_unmount };

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	fake_init(&f);
	abandoned = false;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	one = str_printf("%s/one", dir);
	two = str_printf("%s/two", dir);
	close(open(one, O_CREAT | O_WRONLY, 0600));
	close(open(two, O_CREAT | O_WRONLY, 0600));
	shares = shares_new(&ops, &f, false);
}

static void teardown(void)
{
	shares = shares_free(shares);
	dir_remove(dir);
	free(one);
	free(two);
	fake_free(&f);
	loop_fini();
}

struct use {
	char id[UUID_LEN + 1];
	const char *guest_path;
	int mapped;
	int unmapped;
	struct err err;
};

static CO void map(void *arg)
{
	struct use *u = arg;

	u->mapped = share_map(shares, u->id, &u->guest_path, &u->err);
}

static CO void unmap(void *arg)
{
	struct use *u = arg;

	u->unmapped = share_unmap(shares, u->id, &u->err);
}

static int reserve(struct use *u, const char *path, bool read_only)
{
	return share_reserve(shares, path, read_only, u->id, &u->err);
}

START_TEST(a_directory_is_added_and_mounted_and_goes_in_reverse)
{
	struct use u = { 0 };

	ck_assert_int_eq(reserve(&u, dir, true), 0);
	in_coroutine(map, &u);
	ck_assert_str_eq(u.guest_path, "/run/mounts/plan9/0");
	ck_assert_str_eq(fake_calls(&f), "add 0 - ro;mount /run/mounts/plan9/0;");
	in_coroutine(unmap, &u);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/plan9/0;remove 0;");
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(a_single_file_is_found_below_its_share)
{
	struct use u = { 0 };

	ck_assert_int_eq(reserve(&u, one, true), 0);
	in_coroutine(map, &u);
	ck_assert_str_eq(u.guest_path, "/run/mounts/plan9/0/one");
	ck_assert_str_eq(fake_calls(&f), "add 0 one ro;mount /run/mounts/plan9/0;");
	in_coroutine(unmap, &u);
}
END_TEST

START_TEST(two_files_of_a_directory_and_the_directory_both_ways_are_four_shares)
{
	static struct use u[4];

	ck_assert_int_eq(reserve(&u[0], one, true), 0);
	ck_assert_int_eq(reserve(&u[1], two, true), 0);
	ck_assert_int_eq(reserve(&u[2], dir, true), 0);
	ck_assert_int_eq(reserve(&u[3], dir, false), 0);
	ck_assert_uint_eq(shares_in_use(shares), 4);
	for (int i = 0; i < 4; i++)
		in_coroutine(unmap, &u[i]);
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(a_name_is_never_used_again)
{
	struct use u = { 0 };

	reserve(&u, dir, true);
	in_coroutine(unmap, &u);
	reserve(&u, dir, true);
	in_coroutine(map, &u);
	ck_assert_str_eq(u.guest_path, "/run/mounts/plan9/1");
	in_coroutine(unmap, &u);
}
END_TEST

START_TEST(releasing_one_of_two_reservations_before_mapping_keeps_the_other)
{
	struct use a = { 0 }, b = { 0 };

	reserve(&a, dir, true);
	reserve(&b, dir, true);
	in_coroutine(unmap, &a);
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, 0);
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

/* _i is the call that fails: add, mount. */
START_TEST(a_failed_share_refuses_others_and_drains)
{
	static const char *const drained[] = { "", "remove 0;" };
	struct use a = { 0 }, b = { 0 }, c = { 0 };

	reserve(&a, dir, true);
	reserve(&b, dir, true);
	f.fail_at = 1 + (unsigned)_i;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -EIO);
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, -ERR_STATE);
	ck_assert_int_eq(reserve(&c, dir, true), -ERR_STATE);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	ck_assert_str_eq(fake_calls(&f), "");
	in_coroutine(unmap, &b);
	ck_assert_str_eq(fake_calls(&f), drained[_i]);
	ck_assert_uint_eq(shares_in_use(shares), 0);
	ck_assert_int_eq(reserve(&c, dir, true), 0);
	in_coroutine(map, &c);
	ck_assert_int_eq(c.mapped, 0);
	in_coroutine(unmap, &c);
}
END_TEST

/* _i is the call of the teardown that fails: unmount, remove. */
START_TEST(a_failed_teardown_goes_on_where_it_failed)
{
	static const char *const rest[] = { "unmount /run/mounts/plan9/0;remove 0;", "remove 0;" };
	struct use a = { 0 };

	reserve(&a, dir, true);
	in_coroutine(map, &a);
	f.fail_at = f.n_calls + 1 + (unsigned)_i;
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, -EIO);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), rest[_i]);
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(what_failed_is_torn_down_at_the_second_attempt_when_the_first_fails)
{
	struct use a = { 0 };

	reserve(&a, dir, true);
	f.fail_at = 2;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -EIO);
	fake_calls(&f);
	f.fail_at = 3;
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, -EIO);
	ck_assert_uint_eq(shares_in_use(shares), 1);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), "remove 0;remove 0;");
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(a_mount_whose_answer_was_not_waited_for_is_unmounted)
{
	struct use a = { 0 };

	reserve(&a, dir, true);
	abandoned = true;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -ETIMEDOUT);
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -ERR_STATE);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/plan9/0;remove 0;");
}
END_TEST

START_TEST(one_share_serves_all_its_reservations_and_goes_with_the_last)
{
	struct use a = { 0 }, b = { 0 };

	reserve(&a, dir, true);
	reserve(&b, dir, true);
	in_coroutine(map, &a);
	in_coroutine(map, &b);
	in_coroutine(map, &b);
	ck_assert_str_eq(a.guest_path, b.guest_path);
	ck_assert_str_eq(fake_calls(&f), "add 0 - ro;mount /run/mounts/plan9/0;");
	in_coroutine(unmap, &a);
	ck_assert_str_eq(fake_calls(&f), "");
	ck_assert_uint_eq(shares_in_use(shares), 1);
	in_coroutine(unmap, &b);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/plan9/0;remove 0;");
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(what_was_never_mapped_asks_nothing_of_anybody)
{
	struct use a = { 0 };

	reserve(&a, dir, false);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), "");
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(an_unknown_reservation_cannot_be_mapped_and_is_released_already)
{
	struct use a = { 0 };

	reserve(&a, dir, false);
	in_coroutine(map, &a);
	in_coroutine(unmap, &a);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -ERR_NOT_FOUND);
	ck_assert_str_eq(fake_calls(&f), "");
}
END_TEST

START_TEST(a_symlink_is_the_share_of_what_it_names)
{
	_cleanup_free_ char *link = str_printf("%s/link", dir);
	struct use a = { 0 }, b = { 0 };

	ck_assert_int_eq(symlink("one", link), 0);
	ck_assert_int_eq(reserve(&a, link, true), 0);
	ck_assert_int_eq(reserve(&b, one, true), 0);
	ck_assert_uint_eq(shares_in_use(shares), 1);
	in_coroutine(map, &a);
	ck_assert_str_eq(a.guest_path, "/run/mounts/plan9/0/one");
	in_coroutine(unmap, &a);
	in_coroutine(unmap, &b);
}
END_TEST

START_TEST(who_reserves_during_the_last_release_mounts_again)
{
	struct use a = { 0 }, b = { 0 };

	reserve(&a, dir, true);
	in_coroutine(map, &a);
	fake_calls(&f);
	f.hold_at = "unmount";
	co_spawn("a", unmap, &a, USEC_NEVER);
	run_for(20);
	ck_assert_int_eq(reserve(&b, dir, true), 0);
	co_event_set(&f.gate);
	run_all();
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, 0);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/plan9/0;mount /run/mounts/plan9/0;");
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(who_reserves_during_the_removal_is_shared_again)
{
	struct use a = { 0 }, b = { 0 };

	reserve(&a, dir, true);
	in_coroutine(map, &a);
	f.hold_at = "remove";
	co_spawn("a", unmap, &a, USEC_NEVER);
	run_for(20);
	ck_assert_int_eq(reserve(&b, dir, true), 0);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(20);
	fake_calls(&f);
	co_event_set(&f.gate);
	run_all();
	ck_assert(a.unmapped == 0 && b.mapped == 0);
	ck_assert_str_eq(fake_calls(&f), "add 0 - ro;mount /run/mounts/plan9/0;");
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(two_that_map_at_once_share_it_once)
{
	struct use a = { 0 }, b = { 0 };

	reserve(&a, dir, true);
	reserve(&b, dir, true);
	f.hold_at = "add";
	co_spawn("a", map, &a, USEC_NEVER);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(20);
	ck_assert_str_eq(fake_calls(&f), "add 0 - ro;");
	co_event_set(&f.gate);
	run_all();
	ck_assert(a.mapped == 0 && b.mapped == 0);
	ck_assert_str_eq(fake_calls(&f), "mount /run/mounts/plan9/0;");
}
END_TEST

START_TEST(different_shares_are_mapped_at_the_same_time)
{
	struct use a = { 0 }, b = { 0 };

	reserve(&a, one, true);
	reserve(&b, two, true);
	f.hold_at = "add";
	co_spawn("a", map, &a, USEC_NEVER);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(20);
	ck_assert_str_eq(fake_calls(&f), "add 0 one ro;add 1 two ro;");
	co_event_set(&f.gate);
	run_all();
	ck_assert(a.mapped == 0 && b.mapped == 0);
}
END_TEST

START_TEST(a_cancelled_wait_for_a_busy_share_changes_nothing)
{
	struct use a = { 0 }, b = { 0 };

	reserve(&a, dir, true);
	reserve(&b, dir, true);
	f.hold_at = "add";
	co_spawn("a", map, &a, USEC_NEVER);

	struct co *waiting = co_spawn("b", map, &b, USEC_NEVER);

	run_for(20);
	co_cancel(waiting);
	run_for(20);
	ck_assert_int_eq(b.mapped, -ECANCELED);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.mapped, 0);
	in_coroutine(unmap, &a);
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

static CO void map_and_unmap(void *arg)
{
	map(arg);
	for (int i = 0; i < 2; i++)
		unmap(arg);
}

START_TEST(whatever_call_fails_nothing_stays_reserved)
{
	struct use a = { 0 }, b = { 0 };

	f.fail_at = (unsigned)_i;
	reserve(&a, dir, true);
	reserve(&b, dir, true);
	co_spawn("a", map_and_unmap, &a, USEC_NEVER);
	co_spawn("b", map_and_unmap, &b, USEC_NEVER);
	run_all();
	ck_assert(a.unmapped == 0 && b.unmapped == 0);
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

START_TEST(writable_shares_can_be_forbidden)
{
	struct shares *strict = shares_new(&ops, &f, true);
	char id[UUID_LEN + 1];

	ck_assert_int_eq(share_reserve(strict, dir, false, id, NULL), -ERR_DENIED);
	ck_assert_int_eq(share_reserve(strict, dir, true, id, NULL), 0);
	shares_free(strict);
}
END_TEST

START_TEST(what_does_not_exist_is_refused_by_name)
{
	struct use u = { 0 };

	ck_assert_int_eq(reserve(&u, "/nonexistent/share", true), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(u.err.text, "/nonexistent/share"));
	ck_assert_uint_eq(shares_in_use(shares), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller share");
	TCase *t = tcase_create("share");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_directory_is_added_and_mounted_and_goes_in_reverse);
	tcase_add_test(t, a_single_file_is_found_below_its_share);
	tcase_add_test(t, two_files_of_a_directory_and_the_directory_both_ways_are_four_shares);
	tcase_add_test(t, a_name_is_never_used_again);
	tcase_add_test(t, releasing_one_of_two_reservations_before_mapping_keeps_the_other);
	tcase_add_loop_test(t, a_failed_share_refuses_others_and_drains, 0, 2);
	tcase_add_loop_test(t, a_failed_teardown_goes_on_where_it_failed, 0, 2);
	tcase_add_test(t, what_failed_is_torn_down_at_the_second_attempt_when_the_first_fails);
	tcase_add_test(t, a_mount_whose_answer_was_not_waited_for_is_unmounted);
	tcase_add_test(t, one_share_serves_all_its_reservations_and_goes_with_the_last);
	tcase_add_test(t, what_was_never_mapped_asks_nothing_of_anybody);
	tcase_add_test(t, an_unknown_reservation_cannot_be_mapped_and_is_released_already);
	tcase_add_test(t, a_symlink_is_the_share_of_what_it_names);
	tcase_add_test(t, who_reserves_during_the_last_release_mounts_again);
	tcase_add_test(t, who_reserves_during_the_removal_is_shared_again);
	tcase_add_test(t, two_that_map_at_once_share_it_once);
	tcase_add_test(t, different_shares_are_mapped_at_the_same_time);
	tcase_add_test(t, a_cancelled_wait_for_a_busy_share_changes_nothing);
	tcase_add_loop_test(t, whatever_call_fails_nothing_stays_reserved, 0, 5);
	tcase_add_test(t, writable_shares_can_be_forbidden);
	tcase_add_test(t, what_does_not_exist_is_refused_by_name);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
