/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_PROCESS_H
#define LCOW_GCS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "gcs/bridge.h"
#include "gcs/streams.h"

struct agent;
struct child;
struct container;
struct gcs_execute_request;
struct json_object;
struct loop_watch;

/**
 * struct process - a process that the host knows by its pid: a container's init or exec, or one
 * beside the containers
 * @link:	in the container's execs or in the agent's externals
 * @agent:	agent
 * @container:	NULL for one beside the containers
 * @init:	it is the container's first
 * @pid:	in the VM's pid namespace
 * @pidfd:	of a container process; -EBADF for an external one
 * @exit_watch:	on @pidfd
 * @child:	an external process
 * @exited:	it is gone and reaped; @exit_code is valid
 * @published:	its output is with the host too: WaitForProcess is answered
 * @waited:	somebody was told the exit code
 * @gone:	set with @exited, for those who wait in the agent
 * @io:		its streams
 * @waiters:	parked WaitForProcess requests
 */
struct process {
	struct list link;
	struct agent *agent;
	struct container *container;
	bool init;
	pid_t pid;
	int pidfd;
	struct loop_watch *exit_watch;
	struct child *child;
	bool exited;
	bool published;
	bool waited;
	bool dying;
	uint32_t exit_code;
	struct co_event gone;
	struct stdio io;
	struct list waiters;
};

/**
 * process_new() - a process that does not run yet; @container NULL for one beside the containers
 */
struct process *process_new(struct agent *a, struct container *c, bool init);
/**
 * process_free() - forget it, once the loop has turned: its callbacks may be running. NULL is fine
 */
void process_free(struct process *p);

/**
 * process_watch() - take note of a process that crun has started
 * @pid:	a child of this process, possibly ended by now
 *
 * Return: 0 or negative errno with text
 */
int process_watch(struct process *p, pid_t pid, struct err *err);

/**
 * process_signal() - Return: 0, -ERR_NOT_FOUND (with HR_NOT_FOUND) when it is gone, or negative
 * errno with text
 */
int process_signal(struct process *p, int signo, struct err *err);

/** process_resize() - set the size of its terminal; Return: 0, or an error when it has none */
int process_resize(struct process *p, uint16_t rows, uint16_t cols, struct err *err);

/**
 * process_wait() - answer WaitForProcess now or later
 * @timeout_ms:	UINT32_MAX for never
 *
 * Return: 0 when it was answered or parked, -ETIMEDOUT with HR_TIMEOUT
 */
int process_wait(struct process *p, struct request *rq, uint32_t timeout_ms, struct err *err);

/** process_drop_waiters() - forget parked requests, whose connection is gone */
void process_drop_waiters(struct process *p);

/**
 * external_start() - start a process beside the containers (ExecuteProcess with the null id) and
 * answer
 */
CO int external_start(struct agent *a, const struct gcs_execute_request *m, struct process **ret,
		      struct err *err);

#endif
