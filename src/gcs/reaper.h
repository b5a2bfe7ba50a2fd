/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_REAPER_H
#define LCOW_GCS_REAPER_H

#include <stdbool.h>
#include <sys/types.h>

struct agent;

/**
 * struct reaper - buries the processes that PID 1 inherits and that nobody waits for
 *
 * Programs that the agent started itself, and container processes, are reaped through their own
 * pidfds. A zombie that is still there after a while belongs to nobody.
 */
struct reaper;

/**
 * reaper_new() - begin to watch SIGCHLD; Return: the reaper, or NULL when the signal cannot be
 * watched
 */
struct reaper *reaper_new(struct agent *a);
/** reaper_free() - NULL is fine */
struct reaper *reaper_free(struct reaper *r);

/**
 * reaper_hold() - bury nobody for now
 * @r:	reaper, may be NULL
 *
 * From before crun starts a process until its pid is known here: it may have ended by then, and its
 * exit status must still be there. Nests; each is paired with reaper_release().
 */
void reaper_hold(struct reaper *r);
void reaper_release(struct reaper *r);

#endif
