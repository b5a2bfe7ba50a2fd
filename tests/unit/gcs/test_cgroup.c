/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/cgroup.h"

#include <errno.h>

#include "base/err.h"
#include "loop/loop.h"
#include "tmpdir.h"
#include "wire/json.h"

enum { LIMIT_USEC = 300000, SOON_USEC = 20000 };

static struct err err;
static int result;
static bool wanted;

/* Writes in place, as the kernel changes its files: file_write() would put a new one there. */
static void set_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/%s", tmpdir, name);

	ck_assert_int_eq(file_put(path, text), 0);
}

static void check_file(const char *name, const char *text)
{
	_cleanup_free_ char *is = cgroup_read(tmpdir, name);

	ck_assert_ptr_nonnull(is);
	is[strcspn(is, "\n")] = '\0';
	ck_assert_str_eq(is, text);
}

static void freezing(void *arg)
{
	result = cgroup_freeze(tmpdir, wanted, LIMIT_USEC, &err);
	loop_stop(0);
}

static void cancelled(void *arg)
{
	struct co *co = co_spawn("freezing", freezing, NULL, USEC_NEVER);

	co_sleep(SOON_USEC);
	co_cancel(co);
}

static void run(void (*fn)(void *arg), bool frozen)
{
	wanted = frozen;
	ck_assert_int_eq(loop_init(), 0);
	co_spawn("test", fn, NULL, USEC_NEVER);
	loop_run();
	loop_fini();
}

static void kernel(void *arg)
{
	const char *state = arg;

	/* Others see a change that is none of theirs. */
	set_file("cgroup.events", "populated 1\n");
	set_file("cgroup.events", state);
}

static void later(void *arg)
{
	co_spawn("freezing", freezing, NULL, USEC_NEVER);
	co_sleep(SOON_USEC);
	check_file("cgroup.freeze", wanted ? "1" : "0");
	ck_assert_int_eq(result, 1);
	kernel(wanted ? "populated 1\nfrozen 1\n" : "populated 1\nfrozen 0\n");
}

START_TEST(freezing_waits_for_the_kernel_to_say_so)
{
	tmpdir_write("cgroup.freeze", "0\n");
	tmpdir_write("cgroup.events", "populated 1\nfrozen 0\n");
	result = 1;
	run(later, true);
	ck_assert_int_eq(result, 0);
}
END_TEST

START_TEST(thawing_waits_too)
{
	tmpdir_write("cgroup.freeze", "1\n");
	tmpdir_write("cgroup.events", "populated 1\nfrozen 1\n");
	result = 1;
	run(later, false);
	ck_assert_int_eq(result, 0);
}
END_TEST

START_TEST(what_is_so_already_is_answered_at_once)
{
	tmpdir_write("cgroup.freeze", "1\n");
	tmpdir_write("cgroup.events", "populated 1\nfrozen 1\n");
	run(freezing, true);
	ck_assert_int_eq(result, 0);
}
END_TEST

START_TEST(processes_that_do_not_stop_in_time_are_let_go)
{
	tmpdir_write("cgroup.freeze", "0\n");
	tmpdir_write("cgroup.events", "populated 1\nfrozen 0\n");
	run(freezing, true);
	ck_assert_int_eq(result, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(err.text, "could be stopped within 300 ms"));
	check_file("cgroup.freeze", "0");
}
END_TEST

START_TEST(a_freeze_that_is_given_up_is_undone)
{
	tmpdir_write("cgroup.freeze", "0\n");
	tmpdir_write("cgroup.events", "populated 1\nfrozen 0\n");
	run(cancelled, true);
	ck_assert_int_eq(result, -ECANCELED);
	check_file("cgroup.freeze", "0");
}
END_TEST

START_TEST(a_cgroup_that_is_gone_cannot_be_frozen)
{
	run(freezing, true);
	ck_assert_int_eq(result, -ENOENT);
	tmpdir_write("cgroup.events", "frozen 0\n");
	run(freezing, true);
	ck_assert_int_eq(result, -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "cgroup.freeze"));
}
END_TEST

START_TEST(limits_on_huge_pages_that_are_not_there_are_left_out)
{
	static const char text[] = "{\"hugepageLimits\":[{\"pageSize\":\"1GB\",\"limit\":0},{"
				   "\"pageSize\":\"2MB\",\"limit\":4194304},{\"limit\":1},"
				   "{\"pageSize\":\"x/../2MB\"},5]}";
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_free_ char *left = NULL;

	tmpdir_write("hugetlb.2MB.max", "max\n");
	ck_assert_int_eq(json_parse(text, strlen(text), &o, &err), 0);
	cgroup_fit_hugepages(tmpdir, o);
	left = json_text(o);
	ck_assert_str_eq(left, "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}]}");
	cgroup_fit_hugepages(tmpdir, NULL);
}
END_TEST

START_TEST(values_are_numbers_max_or_nothing)
{
	ck_assert(cgroup_value("12\n") == 12);
	ck_assert(cgroup_value("max\n") == UINT64_MAX);
	ck_assert(cgroup_value("maximum") == 0);
	ck_assert(cgroup_value("-1") == 0);
	ck_assert(cgroup_value(NULL) == 0);
	ck_assert(cgroup_keyed("oom 1\noom_kill 2", "oom_kill") == 2);
	ck_assert(cgroup_keyed("oom_kill 2\n", "oom") == 0);
	ck_assert(cgroup_keyed(NULL, "oom") == 0);
}
END_TEST

TMPDIR_MAIN("gcs cgroup", freezing_waits_for_the_kernel_to_say_so, thawing_waits_too,
	    what_is_so_already_is_answered_at_once, processes_that_do_not_stop_in_time_are_let_go,
	    a_freeze_that_is_given_up_is_undone, a_cgroup_that_is_gone_cannot_be_frozen,
	    limits_on_huge_pages_that_are_not_there_are_left_out, values_are_numbers_max_or_nothing)
