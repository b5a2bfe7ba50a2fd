/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_LOOP_CHILD_H
#define LCOW_LOOP_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/mem.h"
#include "loop/co.h"

struct err;

/**
 * struct child_spec - a program to start
 * @argv:	NULL-terminated; argv[0] is looked up in PATH unless it has a slash
 * @envp:	NULL-terminated, NULL inherits
 * @cwd:	NULL inherits
 * @fds:	what becomes fd 0, 1, 2, …; -EBADF gives /dev/null; everything else is closed
 * @n_fds:	number of @fds; 0, 1, 2 beyond it are /dev/null
 * @clone_flags: CLONE_NEW… for clone3(2), 0 for none; with CLONE_INTO_CGROUP it is born in @cgroup
 * @cgroup:	directory of a cgroup of version 2
 * @cgroup_procs: cgroup.procs files, open for writing, that it writes itself into before all else
 * @n_cgroup_procs: number of @cgroup_procs
 * @pdeathsig:	signal that it gets when this process dies, 0 for none
 * @setsid:	start a session of its own
 * @prepare:	runs in the child just before execve(), on failure its negative errno is reported by
 *		child_spawn(); no allocation, no locks, nothing that waits: the parent does for it;
 *		may be NULL. The parent's fds are still open in it, but those from @n_fds on by
 *		their old numbers only where these are beyond fd 2 and @n_fds
 * @prepare_arg: for @prepare
 */
struct child_spec {
	const char *const *argv;
	const char *const *envp;
	const char *cwd;
	const int *fds;
	unsigned n_fds;
	uint64_t clone_flags;
	int cgroup;
	const int *cgroup_procs;
	unsigned n_cgroup_procs;
	int pdeathsig;
	bool setsid;
	int (*prepare)(void *arg);
	void *prepare_arg;
};

/**
 * struct child - a started process, watched by pidfd
 */
struct child;

/**
 * child_spawn() - start it; execve() errors are reported here, not as an exit status
 * @ret:	the child; free with child_free()
 * Return: 0 or negative errno with text
 */
int child_spawn(const struct child_spec *spec, struct child **ret, struct err *err);
pid_t child_pid(const struct child *c);
/**
 * child_exited() - whether it has been reaped; @ret_status gets the wait status of waitpid(2); may
 * be NULL
 */
bool child_exited(const struct child *c, int *ret_status);
/** child_on_exit() - call @fn once when it has exited (at the next turn if it has already) */
void child_on_exit(struct child *c, void (*fn)(struct child *c, int status, void *arg), void *arg);
/** child_kill() - send a signal through the pidfd; -ESRCH when gone */
int child_kill(struct child *c, int signo);
/** child_wait() - Return: 0 with the wait status, -ETIMEDOUT or -ECANCELED */
CO int child_wait(struct child *c, int *ret_status);
/** child_free() - SIGKILL if it still runs, reap, free; NULL is fine; Return: NULL */
struct child *child_free(struct child *c);
static inline void child_freep(struct child **c)
{
	child_free(*c);
}
/**
 * child_forget() - free it and let it run on: whoever adopts orphans reaps it; NULL is fine;
 * Return: NULL
 */
struct child *child_forget(struct child *c);
/**
 * child_ending() - whether it has exited or is about to: its fds are closed before its exit shows
 */
bool child_ending(const struct child *c);
/**
 * child_record() - for @prepare: write the calling process's "<pid> <start time>" to @fd; the start
 * time is field 22 of /proc/self/stat, proc(5); Return: 0 or negative errno
 */
int child_record(int fd);

/**
 * child_run() - run a program to its end
 * @argv:	as in struct child_spec
 * @input:	text for its stdin, NULL for /dev/null
 * @ret_output:	stdout and stderr together, at most 64 KiB, NUL-terminated; may be NULL
 * @err:	names the program and quotes the last line of output when it fails
 *
 * Return: exit status (128 + signal when killed; @err is filled when it is not 0, with the code
 * -EIO), or negative errno. Cancelled or timed out: the child is killed and reaped
 */
CO int child_run(const char *const *argv, const char *input, char **ret_output, struct err *err);

/**
 * child_status_code() - exit code that a shell would give a wait status: 128 + signal for a death
 * by signal
 */
int child_status_code(int status);

#endif
