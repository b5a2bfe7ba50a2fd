/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/properties.h"

#include <json-c/json.h>

#include "tmpdir.h"
#include "wire/json.h"

static uint64_t at(struct json_object *o, const char *a, const char *b, const char *c)
{
	struct json_object *v = json_get(o, a, b, c, NULL);

	ck_assert_msg(v != NULL, "%s.%s.%s is absent", a, b, c ? c : "");
	return json_object_get_uint64(v);
}

START_TEST(statistics_have_the_shape_of_cgroup_v1)
{
	_cleanup_json_ struct json_object *o = NULL;

	tmpdir_write("cpu.stat", "usage_usec 1779402\nuser_usec 315700\nsystem_usec "
				 "1463702\nnr_throttled 2\nthrottled_usec 3\n");
	tmpdir_write("memory.stat",
		     "anon 49152\nfile 4096\nkernel_stack 16384\npgfault 1270\nactive_anon 4096\n");
	tmpdir_write("memory.max", "67108864\n");
	tmpdir_write("memory.current", "212992\n");
	tmpdir_write("memory.swap.max", "max\n");
	tmpdir_write("memory.events", "low 0\noom 1\noom_kill 2\noom_group_kill 9\n");
	tmpdir_write("pids.current", "1\n");
	tmpdir_write("pids.max", "max\n");
	tmpdir_write("hugetlb.2MB.max", "max\n");
	o = properties_statistics(tmpdir);
	ck_assert(at(o, "cpu", "usage", "total") == 1779402000);
	ck_assert(at(o, "cpu", "usage", "kernel") == 1463702000);
	ck_assert(at(o, "cpu", "throttling", "throttled_time") == 3000);
	ck_assert(at(o, "memory", "usage", "limit") == 67108864);
	ck_assert(at(o, "memory", "usage", "usage") == 212992);
	ck_assert(at(o, "memory", "swap", "limit") == UINT64_MAX);
	ck_assert(at(o, "memory", "rss", NULL) == 49152);
	ck_assert(at(o, "memory", "cache", NULL) == 4096);
	ck_assert(at(o, "memory", "kernel", "usage") == 16384);
	ck_assert(at(o, "memory", "hierarchical_memory_limit", NULL) == 67108864);
	ck_assert(at(o, "pids", "limit", NULL) == UINT64_MAX);
	ck_assert(at(o, "memory_oom_control", "oom_kill", NULL) == 2);
	ck_assert_uint_eq(json_object_array_length(json_get(o, "hugetlb", NULL)), 1);
}
END_TEST

START_TEST(zeroes_are_left_out_and_sub_objects_stay)
{
	_cleanup_json_ struct json_object *o = properties_statistics(tmpdir);

	ck_assert_ptr_nonnull(json_get(o, "memory", "kernel_tcp", NULL));
	ck_assert_ptr_nonnull(json_get(o, "cpu", "throttling", NULL));
	ck_assert_ptr_null(json_get(o, "memory", "rss", NULL));
	ck_assert_ptr_null(json_get(o, "hugetlb", NULL));
}
END_TEST

START_TEST(the_largest_number_stays_exact_in_the_text)
{
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_free_ char *text = NULL;

	tmpdir_write("pids.max", "max\n");
	o = properties_statistics(tmpdir);
	text = json_text(o);
	ck_assert_ptr_nonnull(strstr(text, "18446744073709551615"));
}
END_TEST

START_TEST(processes_of_sub_cgroups_count)
{
	_cleanup_json_ struct json_object *o = NULL;

	tmpdir_write("cgroup.procs", "387\n0\n");
	tmpdir_write("inner/cgroup.procs", "400\n401\n");
	o = properties_processes(tmpdir);
	ck_assert_uint_eq(json_object_array_length(o), 3);
	ck_assert(json_object_get_uint64(
			  json_get(json_object_array_get_idx(o, 0), "ProcessId", NULL)) == 387);
}
END_TEST

START_TEST(a_cgroup_that_is_gone_has_none)
{
	_cleanup_json_ struct json_object *o = properties_processes("/nonexistent/cgroup");

	ck_assert_uint_eq(json_object_array_length(o), 0);
}
END_TEST

TMPDIR_MAIN("gcs properties", statistics_have_the_shape_of_cgroup_v1,
	    zeroes_are_left_out_and_sub_objects_stay, the_largest_number_stays_exact_in_the_text,
	    processes_of_sub_cgroups_count, a_cgroup_that_is_gone_has_none)
