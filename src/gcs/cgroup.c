/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/cgroup.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

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
