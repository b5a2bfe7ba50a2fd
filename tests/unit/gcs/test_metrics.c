/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/metrics.h"

#include <json-c/json.h>

#include "tmpdir.h"
#include "wire/json.h"

static struct json_object *part(struct json_object *o, const char *a, const char *b)
{
	struct json_object *v = json_get(o, a, b, NULL);

	ck_assert_msg(v != NULL, "%s.%s is absent", a, b);
	return v;
}

static uint64_t at(struct json_object *o, const char *a, const char *b)
{
	return json_object_get_uint64(part(o, a, b));
}

static struct json_object *row(struct json_object *list, size_t i)
{
	return json_object_array_get_idx(list, i);
}

START_TEST(counters_have_the_names_of_containerd)
{
	_cleanup_json_ struct json_object *o = NULL;

	tmpdir_write("pids.current", "3\n");
	tmpdir_write("pids.max", "max\n");
	tmpdir_write("cpu.stat", "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 1\n"
				 "nr_throttled 2\nthrottled_usec 3\nnr_bursts 5\nburst_usec 7\n");
	tmpdir_write("memory.stat", "anon 11\nfile 12\nkernel_stack 13\nslab 14\nfile_mapped 15\n"
				    "pgscan 16\nthp_collapse_alloc 17\n");
	tmpdir_write("memory.current", "21\n");
	tmpdir_write("memory.max", "22\n");
	tmpdir_write("memory.peak", "23\n");
	tmpdir_write("memory.swap.current", "24\n");
	tmpdir_write("memory.swap.max", "max\n");
	tmpdir_write("memory.events",
		     "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n");
	o = metrics_read(tmpdir);
	ck_assert(at(o, "pids", "current") == 3);
	ck_assert(at(o, "pids", "limit") == UINT64_MAX);
	ck_assert(at(o, "cpu", "usage_usec") == 10);
	ck_assert(at(o, "cpu", "burst_usec") == 7);
	ck_assert(at(o, "memory", "anon") == 11);
	ck_assert(at(o, "memory", "thp_collapse_alloc") == 17);
	ck_assert(at(o, "memory", "usage") == 21);
	ck_assert(at(o, "memory", "usage_limit") == 22);
	ck_assert(at(o, "memory", "max_usage") == 23);
	ck_assert(at(o, "memory", "swap_usage") == 24);
	ck_assert(at(o, "memory", "swap_limit") == UINT64_MAX);
	ck_assert(at(o, "memory_events", "oom_kill") == 5);
	ck_assert(at(o, "memory_events", "oom_group_kill") == 6);
}
END_TEST

START_TEST(counters_that_the_kernel_splits_are_summed)
{
	_cleanup_json_ struct json_object *o = NULL;

	tmpdir_write("memory.stat", "workingset_refault_anon 2\nworkingset_refault_file 3\n"
				    "workingset_activate 4\n");
	o = metrics_read(tmpdir);
	ck_assert(at(o, "memory", "workingset_refault") == 5);
	ck_assert(at(o, "memory", "workingset_activate") == 4);
}
END_TEST

START_TEST(pressure_is_kept_in_the_words_of_the_kernel)
{
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_free_ char *text = NULL;

	tmpdir_write("cpu.pressure", "some avg10=0.10 avg60=0.00 avg300=2.50 total=4711\n"
				     "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	o = metrics_read(tmpdir);
	ck_assert(at(part(o, "cpu", "PSI"), "some", "total") == 4711);
	ck_assert(json_object_get_double(part(part(o, "cpu", "PSI"), "some", "avg300")) == 2.5);
	text = json_text(o);
	ck_assert_str_eq(text, "{\"cpu\":{\"PSI\":{\"some\":{\"avg10\":0.10,\"avg300\":2.50,"
			       "\"total\":4711}}}}");
}
END_TEST

START_TEST(each_device_and_each_page_size_has_a_row)
{
	_cleanup_json_ struct json_object *o = NULL;
	struct json_object *usage, *huge;

	tmpdir_write("io.stat",
		     "8:0 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=4 dios=5\n"
		     "253:1 rbytes=7 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\nnonsense\n");
	tmpdir_write("hugetlb.2MB.max", "max\n");
	tmpdir_write("hugetlb.2MB.current", "2097152\n");
	tmpdir_write("hugetlb.2MB.events", "max 9\n");
	tmpdir_write("hugetlb.2MB.rsvd.max", "max\n");
	o = metrics_read(tmpdir);
	usage = part(o, "io", "usage");
	ck_assert_uint_eq(json_object_array_length(usage), 2);
	ck_assert(json_object_get_uint64(json_get(row(usage, 0), "major", NULL)) == 8);
	ck_assert(json_object_get_uint64(json_get(row(usage, 0), "wios", NULL)) == 3);
	ck_assert(json_object_get_uint64(json_get(row(usage, 1), "minor", NULL)) == 1);
	ck_assert(json_object_get_uint64(json_get(row(usage, 1), "rbytes", NULL)) == 7);
	huge = json_get(o, "hugetlb", NULL);
	ck_assert_uint_eq(json_object_array_length(huge), 1);
	ck_assert_str_eq(json_get_str(row(huge, 0), "pagesize"), "2MB");
	ck_assert(json_object_get_uint64(json_get(row(huge, 0), "failcnt", NULL)) == 9);
}
END_TEST

START_TEST(rdma_counters_fit_their_fields)
{
	_cleanup_json_ struct json_object *o = NULL;
	struct json_object *limit;

	tmpdir_write("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n");
	tmpdir_write("rdma.max", "mlx4_0 hca_handle=max hca_object=4000\n");
	o = metrics_read(tmpdir);
	limit = row(part(o, "rdma", "limit"), 0);
	ck_assert_str_eq(json_get_str(limit, "device"), "mlx4_0");
	ck_assert(json_object_get_uint64(json_get(limit, "hca_handles", NULL)) == UINT32_MAX);
	ck_assert(json_object_get_uint64(json_get(row(part(o, "rdma", "current"), 0), "hca_objects",
						  NULL)) == 2000);
}
END_TEST

START_TEST(a_cgroup_without_files_has_no_counters)
{
	_cleanup_json_ struct json_object *o = metrics_read(tmpdir);
	_cleanup_json_ struct json_object *gone = metrics_read("/nonexistent/cgroup");

	ck_assert_int_eq(json_object_object_length(o), 0);
	ck_assert_int_eq(json_object_object_length(gone), 0);
}
END_TEST

TMPDIR_MAIN("gcs metrics", counters_have_the_names_of_containerd,
	    counters_that_the_kernel_splits_are_summed, pressure_is_kept_in_the_words_of_the_kernel,
	    each_device_and_each_page_size_has_a_row, rdma_counters_fit_their_fields,
	    a_cgroup_without_files_has_no_counters)
