/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/resources.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/sizing.h"
#include "wire/json.h"

/**
 * struct resources - what is known of linux.resources. Most of it is here for the sake of its type:
 * the guest's runtime reads the text as it came
 */
struct resources {
	struct {
		int64_t limit, reservation, swap, kernel, kernel_tcp;
		uint64_t swappiness;
		bool no_oom_killer, hierarchy, check_before;
	} memory;
	struct {
		uint64_t shares, burst, period, rt_period;
		int64_t quota, rt_runtime, idle;
		char *cpus, *mems;
	} cpu;
	struct {
		int64_t limit;
	} pids;
	struct hugepages {
		char *size;
		uint64_t limit;
	} * hugepages;
	size_t n_hugepages;
	struct {
		uint16_t weight, leaf_weight;
	} block_io;
	char **unified;
};

#define MEMBER(name, type, member) \
	{ \
		name, type, offsetof(struct resources, member) \
	}
/* Of a section, that is an embedded struct. */
#define INNER(section, name, type, member) \
	{ \
		name, type, \
			offsetof(struct resources, member) - offsetof(struct resources, section) \
	}
#define TABLE(of, what) \
	static const struct json_table of##_table = { #of, what, of##_fields, \
						      ARRAY_SIZE(of##_fields) }
#define SIZE_OF(member) sizeof(((struct resources *)0)->member)

static const struct json_field memory_fields[] = {
	INNER(memory, "limit", JSON_I64, memory.limit),
	INNER(memory, "reservation", JSON_I64, memory.reservation),
	INNER(memory, "swap", JSON_I64, memory.swap),
	INNER(memory, "kernel", JSON_I64, memory.kernel),
	INNER(memory, "kernelTCP", JSON_I64, memory.kernel_tcp),
	INNER(memory, "swappiness", JSON_U64, memory.swappiness),
	INNER(memory, "disableOOMKiller", JSON_BOOL, memory.no_oom_killer),
	INNER(memory, "useHierarchy", JSON_BOOL, memory.hierarchy),
	INNER(memory, "checkBeforeUpdate", JSON_BOOL, memory.check_before),
};
TABLE(memory, SIZE_OF(memory));

static const struct json_field cpu_fields[] = {
	INNER(cpu, "shares", JSON_U64, cpu.shares),
	INNER(cpu, "quota", JSON_I64, cpu.quota),
	INNER(cpu, "burst", JSON_U64, cpu.burst),
	INNER(cpu, "period", JSON_U64, cpu.period),
	INNER(cpu, "realtimeRuntime", JSON_I64, cpu.rt_runtime),
	INNER(cpu, "realtimePeriod", JSON_U64, cpu.rt_period),
	INNER(cpu, "idle", JSON_I64, cpu.idle),
	INNER(cpu, "cpus", JSON_STRING, cpu.cpus),
	INNER(cpu, "mems", JSON_STRING, cpu.mems),
};
TABLE(cpu, SIZE_OF(cpu));

static const struct json_field pids_fields[] = {
	INNER(pids, "limit", JSON_I64, pids.limit),
};
TABLE(pids, SIZE_OF(pids));

static const struct json_field hugepages_fields[] = {
	{ "pageSize", JSON_STRING, offsetof(struct hugepages, size) },
	{ "limit", JSON_U64, offsetof(struct hugepages, limit) },
};
TABLE(hugepages, sizeof(struct hugepages));

static const struct json_field block_io_fields[] = {
	INNER(block_io, "weight", JSON_U16, block_io.weight),
	INNER(block_io, "leafWeight", JSON_U16, block_io.leaf_weight),
};
TABLE(block_io, SIZE_OF(block_io));

#define SECTION(name, member) \
	{ \
		name, JSON_OBJECT, offsetof(struct resources, member), 0, &member##_table \
	}
static const struct json_field resources_fields[] = {
	SECTION("memory", memory),
	SECTION("cpu", cpu),
	SECTION("pids", pids),
	SECTION("blockIO", block_io),
	{ "hugepageLimits", JSON_ARRAY, offsetof(struct resources, hugepages), 0, &hugepages_table,
	  offsetof(struct resources, n_hugepages) },
	MEMBER("unified", JSON_MAP, unified),
};
TABLE(resources, sizeof(struct resources));

int resources_size(struct json_object *resources, struct claim_size *size, struct err *err)
{
	struct resources r = { 0 };

	if (!resources)
		return 0;

	int code = json_decode_object(resources, &resources_table, &r, err);

	if (code < 0)
		return code;
	if (r.memory.limit != 0)
		size->memory = r.memory.limit > 0 ? (uint64_t)r.memory.limit : 0;
	if (r.cpu.quota != 0)
		size->quota = r.cpu.quota > 0 ? (uint64_t)r.cpu.quota : 0;
	if (r.cpu.period != 0)
		size->period = r.cpu.period;
	json_free(&resources_table, &r);
	return 0;
}

bool resources_of_pod(struct json_object *annotations, struct claim_size *size)
{
	const struct {
		const char *name;
		uint64_t *to;
	} rows[] = {
		{ "io.kubernetes.cri.sandbox-memory", &size->memory },
		{ "io.kubernetes.cri.sandbox-cpu-quota", &size->quota },
		{ "io.kubernetes.cri.sandbox-cpu-period", &size->period },
	};
	bool given = false;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *text = json_get_str(annotations, rows[i].name);
		uint64_t n;

		if (!text || str_u64(text, &n) < 0 || n == 0)
			continue;
		*rows[i].to = n;
		given = true;
	}
	return given;
}

struct json_object *resources_for_guest(struct json_object *resources)
{
	static const char *const host_only[] = { "devices", "network", "rdma" };
	static const char *const of_disks[] = { "weightDevice", "throttleReadBpsDevice",
						"throttleWriteBpsDevice", "throttleReadIOPSDevice",
						"throttleWriteIOPSDevice" };
	struct json_object *copy = NULL, *block_io;

	if (json_object_deep_copy(resources, &copy, NULL) < 0)
		return json_object_new_object();
	for (size_t i = 0; i < ARRAY_SIZE(host_only); i++)
		json_object_object_del(copy, host_only[i]);
	block_io = json_get(copy, "blockIO", NULL);
	for (size_t i = 0; block_io && i < ARRAY_SIZE(of_disks); i++)
		json_object_object_del(block_io, of_disks[i]);
	return copy;
}
