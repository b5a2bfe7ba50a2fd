/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/metrics.h"

#include <dirent.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"
#include "gcs/cgroup.h"

static void put(struct json_object *o, const char *name, uint64_t v)
{
	if (v)
		json_object_object_add(o, name, json_object_new_uint64(v));
}

/* Adds @part unless it is empty. Takes it. */
static void put_part(struct json_object *o, const char *name, struct json_object *part)
{
	bool list = json_object_is_type(part, json_type_array);

	if (list ? json_object_array_length(part) : (size_t)json_object_object_length(part))
		json_object_object_add(o, name, part);
	else
		json_object_put(part);
}

/* Counters of a flat-keyed file whose keys are the names of the fields. */
static void put_keys(struct json_object *o, const char *text, const char *const *keys)
{
	for (; *keys; keys++)
		put(o, *keys, cgroup_keyed(text, *keys));
}

/* "avg10=0.12 avg60=0.00 avg300=0.00 total=4711": the fields' names again. */
static struct json_object *pressure_line(const char *line)
{
	static const char *const averages[] = { "avg10", "avg60", "avg300" };
	struct json_object *o = json_object_new_object();
	_cleanup_free_ char *copy = mem_strndup(line, strcspn(line, "\n"));
	_cleanup_strv_ char **words = strv_split(copy, " ");

	for (char **w = words; w && *w; w++) {
		char *value = strchr(*w, '=');
		char *end;
		double average;

		if (!value)
			continue;
		*value++ = '\0';
		if (str_eq(*w, "total"))
			put(o, "total", cgroup_value(value));
		average = strtod(value, &end);
		for (size_t i = 0; i < ARRAY_SIZE(averages) && !*end && average > 0; i++)
			if (str_eq(*w, averages[i]))
				/* In the kernel's words: 0.1 is not 0.10000000000000001. */
				json_object_object_add(o, averages[i],
						       json_object_new_double_s(average, value));
	}
	return o;
}

/* Pressure stall information; not every kernel has it, or has it switched on. */
static void pressure(struct json_object *o, const char *dir, const char *file)
{
	static const char *const kinds[] = { "some", "full" };
	_cleanup_free_ char *text = cgroup_read(dir, file);
	struct json_object *psi = json_object_new_object();

	for (size_t i = 0; text && i < ARRAY_SIZE(kinds); i++) {
		_cleanup_free_ char *start = str_printf("%s avg10=", kinds[i]);
		const char *line = strstr(text, start);

		if (line)
			put_part(psi, kinds[i], pressure_line(line));
	}
	put_part(o, "PSI", psi);
}

static struct json_object *pids(const char *dir)
{
	struct json_object *o = json_object_new_object();

	put(o, "current", cgroup_number(dir, "pids.current"));
	put(o, "limit", cgroup_number(dir, "pids.max"));
	return o;
}

static struct json_object *cpu(const char *dir)
{
	static const char *const keys[] = {
		"usage_usec",     "user_usec", "system_usec", "nr_periods", "nr_throttled",
		"throttled_usec", "nr_bursts", "burst_usec",  NULL,
	};
	_cleanup_free_ char *text = cgroup_read(dir, "cpu.stat");
	struct json_object *o = json_object_new_object();

	put_keys(o, text, keys);
	pressure(o, dir, "cpu.pressure");
	return o;
}

/* A counter that newer kernels have split by the kind of page. */
static void put_split(struct json_object *o, const char *text, const char *name)
{
	_cleanup_free_ char *anon = str_printf("%s_anon", name);
	_cleanup_free_ char *file = str_printf("%s_file", name);
	uint64_t whole = cgroup_keyed(text, name);

	put(o, name, whole ? whole : cgroup_keyed(text, anon) + cgroup_keyed(text, file));
}

static struct json_object *memory(const char *dir)
{
	static const char *const keys[] = {
		"anon",
		"file",
		"kernel_stack",
		"slab",
		"sock",
		"shmem",
		"file_mapped",
		"file_dirty",
		"file_writeback",
		"anon_thp",
		"inactive_anon",
		"active_anon",
		"inactive_file",
		"active_file",
		"unevictable",
		"slab_reclaimable",
		"slab_unreclaimable",
		"pgfault",
		"pgmajfault",
		"workingset_nodereclaim",
		"pgrefill",
		"pgscan",
		"pgsteal",
		"pgactivate",
		"pgdeactivate",
		"pglazyfree",
		"pglazyfreed",
		"thp_fault_alloc",
		"thp_collapse_alloc",
		NULL,
	};
	static const struct {
		const char *name, *file;
	} files[] = {
		{ "usage", "memory.current" },       { "usage_limit", "memory.max" },
		{ "max_usage", "memory.peak" },      { "swap_usage", "memory.swap.current" },
		{ "swap_limit", "memory.swap.max" }, { "swap_max_usage", "memory.swap.peak" },
	};
	_cleanup_free_ char *text = cgroup_read(dir, "memory.stat");
	struct json_object *o = json_object_new_object();

	put_keys(o, text, keys);
	put_split(o, text, "workingset_refault");
	put_split(o, text, "workingset_activate");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		put(o, files[i].name, cgroup_number(dir, files[i].file));
	pressure(o, dir, "memory.pressure");
	return o;
}

/* Value of "key=value" among the words of a line. */
static uint64_t word(char *const *words, const char *key)
{
	size_t n = strlen(key);

	for (; words && *words; words++)
		if (strncmp(*words, key, n) == 0 && (*words)[n] == '=')
			return cgroup_value(*words + n + 1);
	return 0;
}

/* "mlx4_0 hca_handle=2 hca_object=max"; the counters are of 32 bits. */
static struct json_object *rdma_rows(const char *dir, const char *file)
{
	_cleanup_free_ char *text = cgroup_read(dir, file);
	_cleanup_strv_ char **lines = text ? strv_split(text, "\n") : NULL;
	struct json_object *list = json_object_new_array();

	for (char **line = lines; line && *line; line++) {
		_cleanup_strv_ char **words = strv_split(*line, " ");
		uint64_t handles = word(words, "hca_handle"), objects = word(words, "hca_object");
		struct json_object *row;

		if (strv_len(words) < 2)
			continue;
		row = json_object_new_object();
		json_object_object_add(row, "device", json_object_new_string(words[0]));
		put(row, "hca_handles", handles < UINT32_MAX ? handles : UINT32_MAX);
		put(row, "hca_objects", objects < UINT32_MAX ? objects : UINT32_MAX);
		json_object_array_add(list, row);
	}
	return list;
}

static struct json_object *rdma(const char *dir)
{
	struct json_object *o = json_object_new_object();

	put_part(o, "current", rdma_rows(dir, "rdma.current"));
	put_part(o, "limit", rdma_rows(dir, "rdma.max"));
	return o;
}

/* "8:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0" */
static struct json_object *io(const char *dir)
{
	static const char *const keys[] = { "rbytes", "wbytes", "rios", "wios" };
	_cleanup_free_ char *text = cgroup_read(dir, "io.stat");
	_cleanup_strv_ char **lines = text ? strv_split(text, "\n") : NULL;
	struct json_object *list = json_object_new_array();
	struct json_object *o = json_object_new_object();

	for (char **line = lines; line && *line; line++) {
		_cleanup_strv_ char **words = strv_split(*line, " ");
		struct json_object *row;
		unsigned major, minor;

		if (sscanf(*line, "%u:%u ", &major, &minor) != 2)
			continue;
		row = json_object_new_object();
		put(row, "major", major);
		put(row, "minor", minor);
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			put(row, keys[i], word(words, keys[i]));
		json_object_array_add(list, row);
	}
	put_part(o, "usage", list);
	pressure(o, dir, "io.pressure");
	return o;
}

static struct json_object *hugetlb_row(const char *dir, const char *size)
{
	_cleanup_free_ char *current = str_printf("hugetlb.%s.current", size);
	_cleanup_free_ char *max = str_printf("hugetlb.%s.max", size);
	_cleanup_free_ char *events = str_printf("hugetlb.%s.events", size);
	_cleanup_free_ char *text = cgroup_read(dir, events);
	struct json_object *row = json_object_new_object();

	put(row, "current", cgroup_number(dir, current));
	put(row, "max", cgroup_number(dir, max));
	json_object_object_add(row, "pagesize", json_object_new_string(size));
	put(row, "failcnt", cgroup_keyed(text, "max"));
	return row;
}

/* One row for each page size: hugetlb.<size>.max is there whatever is used. */
static struct json_object *hugetlb(const char *dir)
{
	struct json_object *list = json_object_new_array();
	DIR *d = opendir(dir);

	if (!d)
		return list;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		_cleanup_strv_ char **part = NULL;

		if (!str_starts(e->d_name, "hugetlb."))
			continue;
		part = strv_split(e->d_name, ".");
		if (strv_len(part) == 3 && str_eq(part[2], "max"))
			json_object_array_add(list, hugetlb_row(dir, part[1]));
	}
	closedir(d);
	return list;
}

static struct json_object *memory_events(const char *dir)
{
	static const char *const keys[] = { "low",      "high",           "max", "oom",
					    "oom_kill", "oom_group_kill", NULL };
	_cleanup_free_ char *text = cgroup_read(dir, "memory.events");
	struct json_object *o = json_object_new_object();

	put_keys(o, text, keys);
	return o;
}

struct json_object *metrics_read(const char *dir)
{
	struct json_object *o = json_object_new_object();

	put_part(o, "pids", pids(dir));
	put_part(o, "cpu", cpu(dir));
	put_part(o, "memory", memory(dir));
	put_part(o, "rdma", rdma(dir));
	put_part(o, "io", io(dir));
	put_part(o, "hugetlb", hugetlb(dir));
	put_part(o, "memory_events", memory_events(dir));
	return o;
}
