/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_OOM_H
#define LCOW_GCS_OOM_H

#include <stdint.h>

/**
 * struct oom - hears of the kernel's out-of-memory kills
 *
 * The kernel counts a kill, whichever limit it was for, in memory.events of the victim's cgroup and
 * of all above it. So the count of a container's own cgroup is that of the container with whatever
 * cgroups it makes inside, and of nothing else.
 */
struct oom;

/** struct oom_watch - one cgroup */
struct oom_watch;

/** oom_new() - for the life of the agent; without inotify only oom_look() notices */
struct oom *oom_new(void);
/** oom_free() - NULL is fine; every watch must be gone; Return: NULL */
struct oom *oom_free(struct oom *o);

/**
 * oom_watch_new() - call @fn, from the loop or from oom_look(), whenever the count has risen
 * @dir:	directory of the cgroup
 * @fn:		@kills is the new count; it may not free the watch
 */
struct oom_watch *oom_watch_new(struct oom *o, const char *dir,
				void (*fn)(uint64_t kills, void *arg), void *arg);

/**
 * oom_look() - look at once: a kill is counted before its victim dies, but told some milliseconds
 * later. NULL is fine
 */
void oom_look(struct oom_watch *w);

/** oom_watch_free() - NULL is fine; Return: NULL */
struct oom_watch *oom_watch_free(struct oom_watch *w);

#endif
