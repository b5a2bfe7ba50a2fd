/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/cgroup.h"

#include <errno.h>
#include <json-c/json.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "wire/json.h"

enum { FILE_MAX_BYTES = 256 << 10 };

char *cgroup_read(const char *dir, const char *file)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, file);
	char *text = NULL;

	return file_read(path, FILE_MAX_BYTES, &text, NULL) < 0 ? NULL : text;
}

uint64_t cgroup_value(const char *text)
{
	_cleanup_free_ char *word = text ? mem_strndup(text, strcspn(text, " \n")) : NULL;
	uint64_t v = 0;

	if (!word)
		return 0;
	if (str_eq(word, "max"))
		return UINT64_MAX;
	return str_u64(word, &v) < 0 ? 0 : v;
}

uint64_t cgroup_number(const char *dir, const char *file)
{
	_cleanup_free_ char *text = cgroup_read(dir, file);

	return cgroup_value(text);
}

uint64_t cgroup_keyed(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = text; p && *p;) {
		const char *end = strchr(p, '\n');

		if (strncmp(p, key, n) == 0 && p[n] == ' ')
			return cgroup_value(p + n + 1);
		p = end ? end + 1 : NULL;
	}
	return 0;
}

int cgroup_delegate(const char *dir, struct err *err)
{
	_cleanup_free_ char *list = NULL;
	_cleanup_free_ char *available = str_printf("%s/cgroup.controllers", dir);
	_cleanup_free_ char *enabled = str_printf("%s/cgroup.subtree_control", dir);
	_cleanup_strv_ char **names = NULL;
	int r;

	r = file_read(available, 4096, &list, NULL);
	if (r < 0)
		return err_sys(err, r, "read %s", available);
	names = strv_split(list, " \n");
	for (char **n = names; n && *n; n++) {
		_cleanup_free_ char *word = str_printf("+%s", *n);

		r = file_put(enabled, word);
		if (r < 0)
			log_warn("cannot enable the %s controller below %s: %s", *n, dir,
				 strerror(-r));
	}
	return 0;
}

/* ---- limits ---- */

static int put_limit(const char *dir, const char *file, const char *text, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/%s", dir, file);
	int r = file_put(path, text);

	return r < 0 ? err_sys(err, r, "write %s to %s", text, path) : 0;
}

/* @limit in a file whose word for none is "max". */
static int put_max(const char *dir, const char *file, int64_t limit, struct err *err)
{
	_cleanup_free_ char *text = str_printf("%lld", (long long)limit);

	return put_limit(dir, file, limit < 0 ? "max" : text, err);
}

/* A member that is there and not 0, which OCI means to be as good as absent. */
static bool has(struct json_object *o, const char *name, int64_t *ret)
{
	struct json_object *v = json_get(o, name, NULL);

	*ret = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
	return *ret != 0;
}

static int limit_memory(const char *dir, struct json_object *memory, struct err *err)
{
	int64_t limit, low, both;
	int r = 0;

	if (has(memory, "limit", &limit))
		r = put_max(dir, "memory.max", limit, err);
	if (r >= 0 && has(memory, "reservation", &low))
		r = put_max(dir, "memory.low", low, err);
	/* OCI's swap is memory and swap together. */
	if (r >= 0 && has(memory, "swap", &both) && (both < 0 || limit > 0)) {
		if (both >= 0 && both < limit)
			return err_set(err, -ERR_INVALID, "memory.swap is less than memory.limit");
		r = put_max(dir, "memory.swap.max", both < 0 ? both : both - limit, err);
	}
	return r;
}

static int limit_cpu(const char *dir, struct json_object *cpu, struct err *err)
{
	int64_t shares, quota, period;
	int r = 0;

	if (has(cpu, "shares", &shares) && shares > 0) {
		_cleanup_free_ char *weight = NULL;

		shares = shares < 2 ? 2 : shares > 262144 ? 262144 : shares;
		weight = str_printf("%lld", (long long)(1 + (shares - 2) * 9999 / 262142));
		r = put_limit(dir, "cpu.weight", weight, err);
	}
	if (r >= 0 && has(cpu, "quota", &quota)) {
		_cleanup_free_ char *max = NULL;

		if (!has(cpu, "period", &period))
			period = 100000;
		max = quota < 0 ? str_printf("max %lld", (long long)period)
				: str_printf("%lld %lld", (long long)quota, (long long)period);
		r = put_limit(dir, "cpu.max", max, err);
	}
	return r;
}

int cgroup_limit(const char *dir, struct json_object *resources, struct err *err)
{
	int64_t pids;
	int r = limit_memory(dir, json_get(resources, "memory", NULL), err);

	if (r >= 0)
		r = limit_cpu(dir, json_get(resources, "cpu", NULL), err);
	if (r >= 0 && has(json_get(resources, "pids", NULL), "limit", &pids))
		r = put_max(dir, "pids.max", pids, err);
	return r;
}

void cgroup_fit_hugepages(const char *dir, struct json_object *resources)
{
	struct json_object *list = json_get(resources, "hugepageLimits", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = n; i > 0; i--) {
		const char *size = json_get_str(json_object_array_get_idx(list, i - 1), "pageSize");
		_cleanup_free_ char *path = str_printf("%s/hugetlb.%s.max", dir, size ? size : "");

		if (!size || strchr(size, '/') || access(path, F_OK) < 0)
			json_object_array_del_idx(list, i - 1, 1);
	}
}

/* ---- freezing ---- */

/* Until cgroup.events says @frozen; @changes is an inotify fd on that file. */
static int wait_frozen(const char *dir, bool frozen, int changes)
{
	for (;;) {
		_cleanup_free_ char *text = cgroup_read(dir, "cgroup.events");
		char drop[512];
		int r;

		if (!text)
			return -ENOENT;
		if (cgroup_keyed(text, "frozen") == frozen)
			return 0;
		r = co_wait_fd(changes, EPOLLIN);
		if (r < 0)
			return r;
		while (read(changes, drop, sizeof(drop)) > 0)
			;
	}
}

int cgroup_freeze(const char *dir, bool frozen, uint64_t limit_usec, struct err *err)
{
	_cleanup_free_ char *freeze = str_printf("%s/cgroup.freeze", dir);
	_cleanup_free_ char *events = str_printf("%s/cgroup.events", dir);
	_cleanup_fd_ int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int r;

	CO_LIMIT(limit_usec);
	if (changes < 0 || inotify_add_watch(changes, events, IN_MODIFY) < 0)
		return err_sys(err, -errno, "watch %s", events);
	r = file_put(freeze, frozen ? "1" : "0");
	if (r < 0)
		return err_sys(err, r, "write %s", freeze);
	r = wait_frozen(dir, frozen, changes);
	if (r >= 0)
		return 0;
	if (frozen)
		file_put(freeze, "0");
	if (r == -ETIMEDOUT)
		return err_set(err, r, "not every process of the cgroup %s within %llu ms",
			       frozen ? "could be stopped" : "went on",
			       (unsigned long long)(limit_usec / USEC_PER_MSEC));
	return err_sys(err, r, "wait for %s", events);
}
