/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/properties.h"

#include <dirent.h>
#include <json-c/json.h>

#include "base/str.h"
#include "gcs/cgroup.h"
#include "wire/json.h"

enum { DEPTH_MAX = 8, USEC_TO_NSEC = 1000 };

static void collect_pids(const char *dir, unsigned depth, struct json_object *list)
{
	_cleanup_free_ char *text = cgroup_read(dir, "cgroup.procs");
	_cleanup_strv_ char **pids = text ? strv_split(text, "\n") : NULL;
	DIR *d;

	for (char **p = pids; p && *p; p++) {
		struct json_object *entry;
		uint64_t pid;

		if (str_u64(*p, &pid) < 0 || pid == 0)
			continue;
		entry = json_object_new_object();
		json_object_object_add(entry, "ProcessId", json_object_new_uint64(pid));
		json_object_array_add(list, entry);
	}
	d = depth < DEPTH_MAX ? opendir(dir) : NULL;
	if (!d)
		return;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		_cleanup_free_ char *sub = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = str_printf("%s/%s", dir, e->d_name);
		collect_pids(sub, depth + 1, list);
	}
	closedir(d);
}

struct json_object *properties_processes(const char *dir)
{
	struct json_object *list = json_object_new_array();

	collect_pids(dir, 0, list);
	return list;
}

static void put(struct json_object *o, const char *name, uint64_t v)
{
	if (v)
		json_object_object_add(o, name, json_object_new_uint64(v));
}

static struct json_object *sub(struct json_object *o, const char *name)
{
	struct json_object *s = json_object_new_object();

	json_object_object_add(o, name, s);
	return s;
}

static void cpu(struct json_object *o, const char *dir)
{
	_cleanup_free_ char *text = cgroup_read(dir, "cpu.stat");
	struct json_object *usage = sub(o, "usage");
	struct json_object *throttling = sub(o, "throttling");

	put(usage, "total", cgroup_keyed(text, "usage_usec") * USEC_TO_NSEC);
	put(usage, "kernel", cgroup_keyed(text, "system_usec") * USEC_TO_NSEC);
	put(usage, "user", cgroup_keyed(text, "user_usec") * USEC_TO_NSEC);
	put(throttling, "periods", cgroup_keyed(text, "nr_periods"));
	put(throttling, "throttled_periods", cgroup_keyed(text, "nr_throttled"));
	put(throttling, "throttled_time", cgroup_keyed(text, "throttled_usec") * USEC_TO_NSEC);
}

static void memory(struct json_object *o, const char *dir)
{
	static const struct {
		const char *name, *key;
	} rows[] = {
		{ "cache", "file" },
		{ "rss", "anon" },
		{ "mapped_file", "file_mapped" },
		{ "dirty", "file_dirty" },
		{ "writeback", "file_writeback" },
		{ "pg_fault", "pgfault" },
		{ "pg_maj_fault", "pgmajfault" },
		{ "inactive_anon", "inactive_anon" },
		{ "active_anon", "active_anon" },
		{ "inactive_file", "inactive_file" },
		{ "active_file", "active_file" },
		{ "unevictable", "unevictable" },
	};
	_cleanup_free_ char *text = cgroup_read(dir, "memory.stat");
	struct json_object *usage, *swap;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		put(o, rows[i].name, cgroup_keyed(text, rows[i].key));
	put(o, "hierarchical_memory_limit", cgroup_number(dir, "memory.max"));
	put(o, "hierarchical_swap_limit", cgroup_number(dir, "memory.swap.max"));
	usage = sub(o, "usage");
	put(usage, "limit", cgroup_number(dir, "memory.max"));
	put(usage, "usage", cgroup_number(dir, "memory.current"));
	put(usage, "max", cgroup_number(dir, "memory.peak"));
	swap = sub(o, "swap");
	put(swap, "limit", cgroup_number(dir, "memory.swap.max"));
	put(swap, "usage", cgroup_number(dir, "memory.swap.current"));
	put(sub(o, "kernel"), "usage", cgroup_keyed(text, "kernel_stack"));
	put(sub(o, "kernel_tcp"), "usage", cgroup_keyed(text, "sock"));
}

/* One row for each page size: hugetlb.<size>.max is there whatever is used. */
static void hugetlb(struct json_object *list, const char *dir)
{
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		_cleanup_strv_ char **part = NULL;
		_cleanup_free_ char *current = NULL;
		struct json_object *row;

		if (!str_starts(e->d_name, "hugetlb."))
			continue;
		part = strv_split(e->d_name, ".");
		if (strv_len(part) != 3 || !str_eq(part[2], "max"))
			continue;
		current = str_printf("hugetlb.%s.current", part[1]);
		row = json_object_new_object();
		put(row, "usage", cgroup_number(dir, current));
		put(row, "max", cgroup_number(dir, e->d_name));
		json_object_object_add(row, "pagesize", json_object_new_string(part[1]));
		json_object_array_add(list, row);
	}
	closedir(d);
}

struct json_object *properties_statistics(const char *dir)
{
	_cleanup_free_ char *events = cgroup_read(dir, "memory.events");
	struct json_object *o = json_object_new_object();
	struct json_object *huge = json_object_new_array();
	struct json_object *pids;

	hugetlb(huge, dir);
	if (json_object_array_length(huge))
		json_object_object_add(o, "hugetlb", huge);
	else
		json_put(huge);
	pids = sub(o, "pids");
	put(pids, "current", cgroup_number(dir, "pids.current"));
	put(pids, "limit", cgroup_number(dir, "pids.max"));
	cpu(sub(o, "cpu"), dir);
	memory(sub(o, "memory"), dir);
	sub(o, "rdma");
	put(sub(o, "memory_oom_control"), "oom_kill", cgroup_keyed(events, "oom_kill"));
	return o;
}
