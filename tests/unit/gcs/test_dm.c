/* SPDX-License-Identifier: Apache-2.0 */
#include "fakedm.h"
#include "tmpdir.h"

static CO int open_as(const char *owner, const char *name, bool read_only)
{
	const struct dm_target t = { .name = name,
				     .type = read_only ? "verity" : "crypt",
				     .params = "some params",
				     .sectors = 80,
				     .read_only = read_only,
				     .secret = !read_only };
	_cleanup_free_ char *node = NULL;
	int r = dm_open(dm, owner, &t, &node, &err);

	if (r < 0)
		ck_assert_ptr_null(node);
	else
		ck_assert(str_starts(node, "/dev/mapper/") && str_eq(node + 12, name));
	return r;
}

static CO void make_and_remove(void)
{
	ck_assert_int_eq(open_as("/m", "a", true), 0);
	ck_assert_str_eq(called(), "create a;load a;resume a;node a;");
	ck_assert_str_eq(table, "verity some params");
	ck_assert_uint_eq(sectors, 80);
	ck_assert_uint_eq(flags, DM_READONLY_FLAG);
	ck_assert_int_eq(open_as("/m", "b", false), 0);
	ck_assert_str_eq(table, "crypt some params");
	ck_assert_uint_eq(flags, DM_SECURE_DATA_FLAG);
	called();
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_str_eq(called(), "remove a;no node a;remove b;no node b;");
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_str_eq(called(), "");
}

START_TEST(a_device_is_made_in_steps_and_its_owner_s_close_removes_it)
{
	run_with_dm(make_and_remove);
}
END_TEST

static int step;

static CO void fail_a_step(void)
{
	static const char *const texts[] = { "make it", "load its table", "start it",
					     "make its node" };
	static const char *const then[] = { "", "remove a;no node a;", "remove a;no node a;",
					    "remove a;no node a;" };
	const char *last;

	fail_calls((unsigned)step + 1, 1, -EINVAL);
	ck_assert_int_eq(open_as("/m", "a", true), -EINVAL);
	ck_assert_msg(strstr(err.text, texts[step]), "%s", err.text);
	last = called();
	ck_assert_str_eq(last + strlen(last) - strlen(then[step]), then[step]);
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_str_eq(called(), "");
}

START_TEST(a_step_that_fails_takes_the_device_back)
{
	step = _i;
	run_with_dm(fail_a_step);
}
END_TEST

static CO void wait_for_it(void)
{
	static const int passing[] = { -EBUSY, -ENOENT, -ENXIO, -ENODEV };

	fail_calls(2, 1, passing[step]);
	ck_assert_int_eq(open_as("/m", "a", true), 0);
	ck_assert_str_eq(called(), "create a;load a;remove a;no node a;"
				   "create a;load a;resume a;node a;");
}

START_TEST(what_is_not_there_yet_is_waited_for)
{
	step = _i;
	run_with_dm(wait_for_it);
}
END_TEST

static CO void not_for_ever(void)
{
	fail_calls(1, 1000, -EBUSY);
	CO_LIMIT(250000);
	ck_assert_int_eq(open_as("/m", "a", true), -EBUSY);
	ck_assert_str_eq(called(), "create a;create a;create a;");
}

START_TEST(but_not_longer_than_the_caller_can)
{
	run_with_dm(not_for_ever);
}
END_TEST

static CO void share(void)
{
	ck_assert_int_eq(open_as("/m", "a", true), 0);
	called();
	ck_assert_int_eq(open_as("/n", "a", true), 0);
	ck_assert_str_eq(called(), "");
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_str_eq(called(), "");
	ck_assert_int_eq(dm_close(dm, "/n", &err), 0);
	ck_assert_str_eq(called(), "remove a;no node a;");
}

START_TEST(a_read_only_device_is_shared_and_goes_with_its_last_owner)
{
	run_with_dm(share);
}
END_TEST

static CO void no_sharing(void)
{
	ck_assert_int_eq(open_as("/m", "a", false), 0);
	ck_assert_int_eq(open_as("/n", "a", false), -ERR_STATE);
	ck_assert_ptr_nonnull(strstr(err.text, "a is in use"));
	called();
	ck_assert_int_eq(dm_close(dm, "/n", &err), 0);
	ck_assert_str_eq(called(), "");
}

START_TEST(a_writable_one_is_its_owner_s_alone)
{
	run_with_dm(no_sharing);
}
END_TEST

static CO void busy_close(void)
{
	ck_assert_int_eq(open_as("/m", "a", false), 0);
	called();
	fail_calls(1, 2, -EBUSY);
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_str_eq(called(), "remove a;remove a;remove a;no node a;");
}

START_TEST(a_busy_device_is_tried_again)
{
	run_with_dm(busy_close);
}
END_TEST

static CO void failing_close(void)
{
	ck_assert_int_eq(open_as("/m", "a", true), 0);
	ck_assert_int_eq(open_as("/m", "b", true), 0);
	called();
	fail_calls(1, 1, -EIO);
	ck_assert_int_eq(dm_close(dm, "/m", &err), -EIO);
	ck_assert_str_eq(called(), "remove a;remove b;no node b;");
	/* Nobody gets one that should be gone: it is removed first, or the caller fails. */
	fail_calls(1, 1, -EIO);
	ck_assert_int_eq(open_as("/n", "a", true), -EIO);
	ck_assert_str_eq(called(), "remove a;");
	ck_assert_int_eq(open_as("/n", "a", true), 0);
	ck_assert_str_eq(called(), "remove a;no node a;create a;load a;resume a;node a;");
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_str_eq(called(), "");
	ck_assert_int_eq(dm_close(dm, "/n", &err), 0);
}

START_TEST(what_cannot_be_removed_is_kept_for_another_call_and_shared_with_nobody)
{
	run_with_dm(failing_close);
}
END_TEST

static CO void failing_node(void)
{
	ck_assert_int_eq(open_as("/m", "a", true), 0);
	called();
	fail_calls(2, 1, -EIO);
	ck_assert_int_eq(dm_close(dm, "/m", &err), -EIO);
	/* The device itself is gone by now. */
	fail_calls(1, 1, -ENXIO);
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
	ck_assert_str_eq(called(), "remove a;no node a;remove a;no node a;");
}

START_TEST(a_device_that_is_gone_has_been_removed)
{
	run_with_dm(failing_node);
}
END_TEST

static CO void corrupted(void)
{
	ck_assert_int_eq(open_as("/m", "a", true), 0);
	ck_assert(!dm_corrupted(dm, "/m"));
	status_text = "C";
	ck_assert(dm_corrupted(dm, "/m"));
	ck_assert(!dm_corrupted(dm, "/n"));
	fail_calls(1, 1, -ENXIO);
	ck_assert(!dm_corrupted(dm, "/m"));
	ck_assert_int_eq(dm_close(dm, "/m", &err), 0);
}

START_TEST(a_verity_device_tells_that_it_is_corrupted)
{
	run_with_dm(corrupted);
}
END_TEST

static CO void long_name(void)
{
	char name[DM_NAME_LEN + 1];

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(open_as("/m", name, true), -ERR_INVALID);
	ck_assert_str_eq(called(), "");
}

START_TEST(a_name_that_is_too_long_is_not_cut)
{
	run_with_dm(long_name);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gcs dm");
	TCase *t = tcase_create("dm");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, a_device_is_made_in_steps_and_its_owner_s_close_removes_it);
	tcase_add_loop_test(t, a_step_that_fails_takes_the_device_back, 0, 4);
	tcase_add_loop_test(t, what_is_not_there_yet_is_waited_for, 0, 4);
	tcase_add_test(t, but_not_longer_than_the_caller_can);
	tcase_add_test(t, a_read_only_device_is_shared_and_goes_with_its_last_owner);
	tcase_add_test(t, a_writable_one_is_its_owner_s_alone);
	tcase_add_test(t, a_busy_device_is_tried_again);
	tcase_add_test(t, what_cannot_be_removed_is_kept_for_another_call_and_shared_with_nobody);
	tcase_add_test(t, a_device_that_is_gone_has_been_removed);
	tcase_add_test(t, a_verity_device_tells_that_it_is_corrupted);
	tcase_add_test(t, a_name_that_is_too_long_is_not_cut);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed > 0;
}
