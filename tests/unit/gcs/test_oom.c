/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/oom.h"

#include "loop/co.h"
#include "loop/loop.h"
#include "tmpdir.h"

enum { LIMIT_USEC = 2000000 };

static struct oom *oom;
static struct oom_watch *watch, *other;
static uint64_t told[2];
static unsigned calls;

static void on_kill(uint64_t kills, void *arg)
{
	*(uint64_t *)arg = kills;
	calls++;
	loop_stop(0);
}

static void timed_out(void *arg)
{
	loop_stop(1);
}

static void set_kills(const char *dir, unsigned n)
{
	_cleanup_free_ char *path = str_printf("%s/%s/memory.events", tmpdir, dir);
	_cleanup_free_ char *text = str_printf("oom 9\noom_kill %u\n", n);

	ck_assert_int_eq(file_put(path, text), 0);
}

static struct oom_watch *watch_dir(const char *name, uint64_t *count)
{
	_cleanup_free_ char *dir = str_printf("%s/%s", tmpdir, name);

	return oom_watch_new(oom, dir, on_kill, count);
}

static void begin(void)
{
	tmpdir_write("a/memory.events", "oom 0\noom_kill 0\n");
	tmpdir_write("b/memory.events", "oom 0\noom_kill 0\n");
	told[0] = told[1] = calls = 0;
	ck_assert_int_eq(loop_init(), 0);
	oom = oom_new();
	watch = watch_dir("a", &told[0]);
	other = watch_dir("b", &told[1]);
}

static void end(void)
{
	watch = oom_watch_free(watch);
	other = oom_watch_free(other);
	oom = oom_free(oom);
	loop_fini();
}

START_TEST(a_kill_is_told_once_and_to_its_own_cgroup)
{
	struct loop_timer *limit;

	begin();
	limit = loop_timer_new(LIMIT_USEC, timed_out, NULL);
	set_kills("a", 1);
	ck_assert_int_eq(loop_run(), 0);
	ck_assert(told[0] == 1);
	ck_assert(told[1] == 0);
	oom_look(watch);
	oom_look(other);
	ck_assert_uint_eq(calls, 1);
	set_kills("b", 3);
	ck_assert_int_eq(loop_run(), 0);
	ck_assert(told[1] == 3);
	loop_timer_free(limit);
	end();
}
END_TEST

START_TEST(a_look_finds_a_kill_before_the_event)
{
	begin();
	set_kills("a", 2);
	oom_look(watch);
	ck_assert(told[0] == 2);
	end();
}
END_TEST

START_TEST(other_events_are_no_kills)
{
	struct loop_timer *limit;

	begin();
	limit = loop_timer_new(50000, timed_out, NULL);
	set_kills("a", 0);
	ck_assert_int_eq(loop_run(), 1);
	ck_assert_uint_eq(calls, 0);
	loop_timer_free(limit);
	end();
}
END_TEST

START_TEST(a_cgroup_that_is_not_there_or_goes_does_no_harm)
{
	struct oom_watch *absent;
	_cleanup_free_ char *dir = str_printf("%s/a", tmpdir);

	begin();
	absent = watch_dir("absent", &told[1]);
	oom_look(absent);
	oom_watch_free(absent);
	ck_assert_int_eq(dir_remove(dir), 0);
	oom_look(watch);
	oom_look(NULL);
	ck_assert_uint_eq(calls, 0);
	end();
}
END_TEST

TMPDIR_MAIN("gcs oom", a_kill_is_told_once_and_to_its_own_cgroup,
	    a_look_finds_a_kill_before_the_event, other_events_are_no_kills,
	    a_cgroup_that_is_not_there_or_goes_does_no_harm)
