/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/vpci.h"

#include "controller/fixture.h"

static struct fake f;
static struct vpci *vpci;
static char added[UUID_LEN + 1];

static CO int on_add(void *ctx, const char *guid, const struct vpci_device *device,
		     char ret_path[VPCI_PATH_MAX], struct err *err)
{
	int r = fake_call(ctx, err, "add %s %d", device->id, device->vf);

	strcpy(added, guid);
	if (r >= 0)
		strcpy(ret_path, "10.1/00.0");
	return r;
}

static CO int on_await(void *ctx, const char *guid, const char *path, struct err *err)
{
	ck_assert_str_eq(guid, added);
	return fake_call(ctx, err, "await %s", path);
}

static CO int on_remove(void *ctx, const char *guid, struct err *err)
{
	ck_assert_str_eq(guid, added);
	return fake_call(ctx, err, "remove");
}

static int on_group(void *ctx, unsigned group, char ***ret, struct err *err)
{
	return err_set(err, -ERR_INVALID, "none");
}

static const struct vpci_ops ops = { on_add, on_await, on_remove, on_group };

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	fake_init(&f);
	vpci = vpci_new(&ops, &f);
}

static void teardown(void)
{
	vpci = vpci_free(vpci);
	fake_free(&f);
	loop_fini();
}

/* One reservation and what became of the calls made with it. */
struct use {
	struct vpci_device device;
	char id[UUID_LEN + 1];
	const char *guid;
	int reserved;
	int mapped;
	int unmapped;
	struct err err;
};

#define WHOLE(address) \
	{ \
		.device = {.id = address, .vf = VPCI_WHOLE } \
	}

static void reserve(struct use *u)
{
	u->reserved = vpci_reserve(vpci, &u->device, u->id, &u->err);
}

static CO void map(void *arg)
{
	struct use *u = arg;

	u->mapped = vpci_map(vpci, u->id, &u->guid, &u->err);
}

static CO void unmap(void *arg)
{
	struct use *u = arg;

	u->unmapped = vpci_unmap(vpci, u->id, &u->err);
}

static void expect(const char *calls)
{
	ck_assert_str_eq(fake_calls(&f), calls);
}

START_TEST(a_device_is_added_and_awaited_and_removed)
{
	struct use u = WHOLE("0000:3b:00.0");

	reserve(&u);
	ck_assert_int_eq(u.reserved, 0);
	expect("");
	in_coroutine(map, &u);
	ck_assert_int_eq(u.mapped, 0);
	ck_assert_str_eq(u.guid, added);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;");
	in_coroutine(unmap, &u);
	ck_assert_int_eq(u.unmapped, 0);
	expect("remove;");
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
	in_coroutine(unmap, &u);
	ck_assert_int_eq(u.unmapped, 0);
	expect("");
}
END_TEST

START_TEST(what_was_not_reserved_cannot_be_mapped)
{
	struct use u = { .id = "x" };

	in_coroutine(map, &u);
	ck_assert_int_eq(u.mapped, -ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(u.err.text, "reserve it first"));
	in_coroutine(unmap, &u);
	ck_assert_int_eq(u.unmapped, 0);
	expect("");
}
END_TEST

START_TEST(reservations_of_one_device_share_its_GUID_and_the_last_one_removes_it)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a;

	reserve(&a);
	reserve(&b);
	ck_assert_str_ne(a.id, b.id);
	in_coroutine(map, &a);
	in_coroutine(map, &b);
	ck_assert_str_eq(a.guid, b.guid);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;");
	in_coroutine(unmap, &a);
	in_coroutine(unmap, &a);
	expect("");
	in_coroutine(unmap, &b);
	expect("remove;");
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
}
END_TEST

START_TEST(virtual_functions_are_devices_of_their_own)
{
	struct use whole = WHOLE("0000:3b:00.0"), first = whole, second = whole;

	first.device.vf = 0;
	second.device.vf = 1;
	reserve(&whole);
	reserve(&first);
	reserve(&second);
	ck_assert_uint_eq(vpci_in_use(vpci), 3);
	in_coroutine(map, &second);
	expect("add 0000:3b:00.0 1;await 10.1/00.0;");
}
END_TEST

/* hcsshim's BUG-23: the second container fails before it maps, and takes the first one's device. */
START_TEST(a_reservation_that_is_given_up_unmapped_leaves_the_device_to_the_others)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a;

	reserve(&a);
	reserve(&b);
	in_coroutine(unmap, &b);
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, 0);
	reserve(&b);
	in_coroutine(unmap, &b);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;");
	ck_assert_uint_eq(vpci_in_use(vpci), 1);
}
END_TEST

START_TEST(a_reservation_that_was_never_mapped_asks_nobody)
{
	struct use u = WHOLE("0000:3b:00.0");

	reserve(&u);
	in_coroutine(unmap, &u);
	expect("");
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
}
END_TEST

START_TEST(a_device_that_the_VM_refuses_drains_and_is_not_removed)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a, c = a;

	reserve(&a);
	reserve(&b);
	f.fail_at = 1;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -EIO);
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -ERR_STATE);
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, -ERR_STATE);
	ck_assert_ptr_nonnull(strstr(b.err.text, "release it first"));
	reserve(&c);
	ck_assert_int_eq(c.reserved, -ERR_STATE);
	in_coroutine(unmap, &a);
	ck_assert_uint_eq(vpci_in_use(vpci), 1);
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
	expect("add 0000:3b:00.0 -1;");
}
END_TEST

START_TEST(a_device_that_the_guest_does_not_take_drains_and_is_removed)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a, c = a;

	reserve(&a);
	reserve(&b);
	f.fail_at = 2;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -EIO);
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, -ERR_STATE);
	reserve(&c);
	ck_assert_int_eq(c.reserved, -ERR_STATE);
	in_coroutine(unmap, &a);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;");
	in_coroutine(unmap, &b);
	expect("remove;");
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
}
END_TEST

START_TEST(a_removal_that_fails_can_be_repeated)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a;

	reserve(&a);
	in_coroutine(map, &a);
	f.fail_at = 3;
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, -EIO);
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -ERR_STATE);
	reserve(&b);
	ck_assert_int_eq(b.reserved, -ERR_STATE);
	f.fail_at = 4;
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, -EIO);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;remove;remove;remove;");
}
END_TEST

START_TEST(a_device_that_is_reserved_again_after_its_removal_has_another_GUID)
{
	struct use u = WHOLE("0000:3b:00.0");
	char first[UUID_LEN + 1];

	reserve(&u);
	in_coroutine(map, &u);
	strcpy(first, u.guid);
	in_coroutine(unmap, &u);
	reserve(&u);
	in_coroutine(map, &u);
	ck_assert_str_ne(first, u.guid);
}
END_TEST

START_TEST(a_reservation_that_comes_during_the_removal_adds_it_again)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a;

	reserve(&a);
	in_coroutine(map, &a);
	f.hold_at = "remove";
	co_spawn("a", unmap, &a, USEC_NEVER);
	run_for(5);
	reserve(&b);
	ck_assert_int_eq(b.reserved, 0);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(5);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;remove;");
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_int_eq(b.mapped, 0);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;");
	f.hold_at = NULL;
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
}
END_TEST

START_TEST(two_that_map_at_once_add_it_once)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a;

	reserve(&a);
	reserve(&b);
	f.hold_at = "await";
	co_spawn("a", map, &a, USEC_NEVER);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(5);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.mapped, 0);
	ck_assert_int_eq(b.mapped, 0);
	expect("add 0000:3b:00.0 -1;await 10.1/00.0;");
}
END_TEST

static CO void map_and_unmap(void *arg)
{
	struct use *u = arg;

	map(u);
	for (int i = 0; i < 2; i++)
		unmap(u);
}

START_TEST(whatever_call_fails_nothing_stays_reserved)
{
	struct use u = WHOLE("0000:3b:00.0");

	f.fail_at = (unsigned)_i;
	reserve(&u);
	in_coroutine(map_and_unmap, &u);
	ck_assert_int_eq(u.unmapped, 0);
	ck_assert_uint_eq(vpci_in_use(vpci), 0);
}
END_TEST

START_TEST(a_call_that_is_cancelled_while_it_waits_changes_nothing)
{
	struct use a = WHOLE("0000:3b:00.0"), b = a;

	reserve(&a);
	reserve(&b);
	f.hold_at = "await";
	co_spawn("a", map, &a, USEC_NEVER);
	run_for(5);
	co_cancel(co_spawn("b", map, &b, USEC_NEVER));
	run_for(5);
	ck_assert_int_eq(b.mapped, -ECANCELED);
	co_event_set(&f.gate);
	run_all();
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vpci");
	TCase *tc = tcase_create("vpci");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_device_is_added_and_awaited_and_removed);
	tcase_add_test(tc, what_was_not_reserved_cannot_be_mapped);
	tcase_add_test(tc, reservations_of_one_device_share_its_GUID_and_the_last_one_removes_it);
	tcase_add_test(tc, virtual_functions_are_devices_of_their_own);
	tcase_add_test(tc, a_reservation_that_is_given_up_unmapped_leaves_the_device_to_the_others);
	tcase_add_test(tc, a_reservation_that_was_never_mapped_asks_nobody);
	tcase_add_test(tc, a_device_that_the_VM_refuses_drains_and_is_not_removed);
	tcase_add_test(tc, a_device_that_the_guest_does_not_take_drains_and_is_removed);
	tcase_add_test(tc, a_removal_that_fails_can_be_repeated);
	tcase_add_test(tc, a_device_that_is_reserved_again_after_its_removal_has_another_GUID);
	tcase_add_test(tc, a_reservation_that_comes_during_the_removal_adds_it_again);
	tcase_add_test(tc, two_that_map_at_once_add_it_once);
	tcase_add_loop_test(tc, whatever_call_fails_nothing_stays_reserved, 0, 4);
	tcase_add_test(tc, a_call_that_is_cancelled_while_it_waits_changes_nothing);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
