/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/oom.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/cgroup.h"
#include "loop/loop.h"

struct oom {
	int fd; /* inotify */
	struct loop_watch *changes;
	struct list watches;
};

struct oom_watch {
	struct list link;
	struct oom *oom;
	int wd;
	char *dir;
	uint64_t kills;
	void (*fn)(uint64_t kills, void *arg);
	void *arg;
};

void oom_look(struct oom_watch *w)
{
	_cleanup_free_ char *text = w ? cgroup_read(w->dir, "memory.events") : NULL;
	uint64_t kills = cgroup_keyed(text, "oom_kill");

	if (!w || kills <= w->kills)
		return;
	w->kills = kills;
	w->fn(kills, w->arg);
}

/* Which file it was does not matter: few containers, rare events. */
static void on_change(int fd, uint32_t events, void *arg)
{
	struct oom *o = arg;
	char drop[1024];

	while (read(fd, drop, sizeof(drop)) > 0)
		;
	LIST_FOR_EACH(it, &o->watches)
		oom_look(LIST_ENTRY(it, struct oom_watch, link));
}

struct oom *oom_new(void)
{
	struct oom *o = NEW0(struct oom);

	list_init(&o->watches);
	o->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (o->fd < 0 || loop_watch_new(o->fd, EPOLLIN, on_change, o, &o->changes) < 0)
		log_error("cannot follow out-of-memory kills: %s", strerror(errno));
	return o;
}

struct oom *oom_free(struct oom *o)
{
	if (!o)
		return NULL;
	loop_watch_free(o->changes);
	fd_close(o->fd);
	free(o);
	return NULL;
}

struct oom_watch *oom_watch_new(struct oom *o, const char *dir,
				void (*fn)(uint64_t kills, void *arg), void *arg)
{
	_cleanup_free_ char *events = str_printf("%s/memory.events", dir);
	struct oom_watch *w = NEW0(struct oom_watch);

	*w = (struct oom_watch){ .oom = o, .dir = mem_strdup(dir), .fn = fn, .arg = arg };
	w->wd = inotify_add_watch(o->fd, events, IN_MODIFY);
	if (w->wd < 0)
		log_warn("cannot follow %s: %s", events, strerror(errno));
	list_init(&w->link);
	list_append(&o->watches, &w->link);
	return w;
}

struct oom_watch *oom_watch_free(struct oom_watch *w)
{
	if (!w)
		return NULL;
	list_remove(&w->link);
	if (w->wd >= 0)
		inotify_rm_watch(w->oom->fd, w->wd);
	free(w->dir);
	free(w);
	return NULL;
}
