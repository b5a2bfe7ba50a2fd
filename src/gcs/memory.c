/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/memory.h"

#include <errno.h>
#include <stdio.h>
#include <sys/sysinfo.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/boot.h"
#include "gcs/cgroup.h"

#define MIB (1ull << 20)

enum {
	PAGE = 4096,
	RESERVE_MIB = 16,
	RESERVE_SHARE = 32,
	RESERVE_MAX_MIB = 75,
	OFTEN_USEC = 250000,
	OFTEN = 20, /* looks after the last piece of news */
	SELDOM_USEC = 60000000,
};

uint64_t memory_reserve(uint64_t total)
{
	uint64_t reserve = RESERVE_MIB * MIB + total / RESERVE_SHARE;

	if (reserve > RESERVE_MAX_MIB * MIB)
		reserve = RESERVE_MAX_MIB * MIB;
	return reserve < total / 2 ? reserve : total / 2;
}

int memory_limit(const char *dir, uint64_t total, struct err *err)
{
	uint64_t limit = (total - memory_reserve(total)) / PAGE * PAGE;
	_cleanup_free_ char *path = str_printf("%s/memory.max", dir);
	_cleanup_free_ char *text = str_printf("%llu", (unsigned long long)limit);
	int r;

	if (cgroup_number(dir, "memory.max") == limit)
		return 0;
	r = file_put(path, text);
	if (r < 0)
		return err_sys(err, r, "write %s to %s", text, path);
	log_info("pods may use %llu of %llu MiB", (unsigned long long)(limit / MIB),
		 (unsigned long long)(total / MIB));
	return 0;
}

int memory_refresh(struct err *err)
{
	struct sysinfo info;

	if (sysinfo(&info) < 0)
		return err_sys(err, -errno, "ask for the VM's memory");
	return memory_limit(BOOT_CGROUP_PODS, (uint64_t)info.totalram * info.mem_unit, err);
}

static void memory_main(void *arg)
{
	struct agent *a = arg;
	_cleanup_free_ struct err *err = NEW0(struct err);
	unsigned often = 0;
	int r;

	do {
		if (memory_refresh(err) < 0)
			log_error("the limit of all pods: %s", err->text);
		CO_LIMIT(often ? OFTEN_USEC : SELDOM_USEC);
		r = co_event_wait(&a->plugged);
		if (r == 0)
			often = OFTEN;
		else if (often)
			often--;
		co_event_clear(&a->plugged);
	} while (r == 0 || r == -ETIMEDOUT);
}

void memory_start(struct agent *a)
{
	co_spawn("memory", memory_main, a, USEC_NEVER);
}

void memory_plugged(struct agent *a)
{
	co_event_set(&a->plugged);
}
