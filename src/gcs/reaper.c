/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/reaper.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "gcs/agent.h"
#include "loop/loop.h"

/* Long against a turn of the loop, in which the owner of a zombie learns of it and reaps it. */
enum { LOOK_AGAIN_USEC = 20000 };

struct reaper {
	struct loop_timer *timer;
	unsigned held;
	bool waiting; /* the timer runs */
	pid_t seen; /* zombie that was there at the last look */
};

static void look(struct reaper *r)
{
	bool again = false;

	while (!r->held) {
		siginfo_t info = { 0 };

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
			r->seen = 0;
			break;
		}
		if (info.si_pid != r->seen || r->waiting) {
			/* Somebody may be about to reap it: give that a chance. */
			if (!r->waiting)
				r->seen = info.si_pid;
			again = true;
			break;
		}
		waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
		log_debug("buried process %d", (int)info.si_pid);
		r->seen = 0;
	}
	if (again && !r->waiting) {
		r->waiting = true;
		loop_timer_set(r->timer, LOOK_AGAIN_USEC);
	}
}

static void on_timer(void *arg)
{
	struct reaper *r = arg;

	r->waiting = false;
	look(r);
}

static void on_sigchld(int signo, void *arg)
{
	look(arg);
}

struct reaper *reaper_new(struct agent *a)
{
	struct reaper *r = NEW0(struct reaper);

	r->timer = loop_timer_new(USEC_NEVER, on_timer, r);
	if (loop_signal(SIGCHLD, on_sigchld, r) < 0)
		return reaper_free(r);
	return r;
}

struct reaper *reaper_free(struct reaper *r)
{
	if (!r)
		return NULL;
	loop_signal(SIGCHLD, NULL, NULL);
	loop_timer_free(r->timer);
	free(r);
	return NULL;
}

void reaper_hold(struct reaper *r)
{
	if (r)
		r->held++;
}

void reaper_release(struct reaper *r)
{
	if (r && --r->held == 0)
		look(r);
}
