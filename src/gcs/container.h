/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_CONTAINER_H
#define LCOW_GCS_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "gcs/spec.h"
#include "loop/co.h"

struct agent;
struct err;
struct gcs_container_config;
struct gcs_execute_request;
struct json_object;
struct oom_watch;
struct pod;
struct process;

/**
 * enum container_state - where a container is in its life
 *
 * CREATING → CREATED → RUNNING → TERMINATED; CREATED → TERMINATED when it is killed before it was
 * started. A container whose creation fails is forgotten. DELETING is reached from CREATED and
 * TERMINATED, and left again for TERMINATED when a step failed.
 */
enum container_state {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_TERMINATED,
	CONTAINER_DELETING,
};

/**
 * struct container - a container that the host has created
 * @agent:	agent
 * @id:		id
 * @activity:	ActivityId of the Create request, for the exit notification
 * @bundle:	OciBundlePath
 * @scratch:	ScratchDirPath, may be NULL
 * @facts:	what is kept of its spec
 * @pod:	which it has joined
 * @state:	see there
 * @exit_type:	of the notification
 * @noted:	the notification has been sent
 * @starting:	execs under way: they hold on to this object
 * @freezing:	requests to freeze or thaw under way: they, too
 * @frozen:	its processes are stopped, or about to be
 * @oom:	watches its cgroup, NULL before that is there
 * @oom_kills:	processes killed for lack of memory so far
 * @init:	its first process
 * @execs:	further processes
 * @lock:	start, freezing and thawing
 */
struct container {
	struct agent *agent;
	char *id;
	char *activity;
	char *bundle;
	char *scratch;
	struct spec_facts facts;
	struct pod *pod;
	enum container_state state;
	const char *exit_type;
	bool noted;
	unsigned starting;
	unsigned freezing;
	bool frozen;
	struct oom_watch *oom;
	uint64_t oom_kills;
	struct process *init;
	struct list execs;
	struct co_mutex lock;
};

/**
 * container_create() - Create; @config's spec is changed; Return: 0 or negative errno with text,
 * then nothing is left
 */
CO int container_create(struct agent *a, const char *id, const char *activity,
			const struct gcs_container_config *config, struct err *err);

/**
 * container_find() - look a container up for a request
 * Return: 0; -ERR_NOT_FOUND, -ERR_STATE while it is being created, with their HRESULTs
 */
int container_find(struct agent *a, const char *id, struct container **ret, struct err *err);

/** container_process() - init or exec by pid; Return: 0 or -ERR_NOT_FOUND with its HRESULT */
int container_process(struct container *c, pid_t pid, struct process **ret, struct err *err);

/** container_start() - ExecuteProcess without a process: let init run; Return: 0 with @ret */
CO int container_start(struct container *c, const struct gcs_execute_request *m,
		       struct process **ret, struct err *err);
/** container_exec() - ExecuteProcess with a process; Return: 0 with @ret */
CO int container_exec(struct container *c, const struct gcs_execute_request *m,
		      struct process **ret, struct err *err);
/**
 * container_shutdown() - send init SIGTERM or SIGKILL; Return: 0, or -ERR_STATE with
 * HR_ALREADY_STOPPED
 */
int container_shutdown(struct container *c, bool forced, struct err *err);
/** container_signal() - send a signal to one process */
int container_signal(struct container *c, pid_t pid, int signo, struct err *err);
/** container_update() - change its limits, which for a sandbox container are its pod's, too */
CO int container_update(struct container *c, struct json_object *resources, struct err *err);

/**
 * container_freeze() - stop all its processes, or let them go on; as it was already is success
 *
 * Further execs are refused from the moment it begins; it waits for those under way.
 *
 * Return: 0 once the kernel says so; -ERR_STATE when it does not run; or negative errno with text,
 * then its processes run
 */
CO int container_freeze(struct container *c, bool frozen, struct err *err);

/**
 * container_delete() - DeleteContainerState: remove what is left of a container that does not run
 *
 * Every step may be repeated: after a failure the container is still known and can be deleted
 * again.
 *
 * Return: 0; -ERR_STATE with HR_INVALID_STATE while it runs; or negative errno with text
 */
CO int container_delete(struct container *c, struct err *err);

/** container_uses_bundle() - whether a known container has this bundle */
bool container_uses_bundle(struct agent *a, const char *bundle);

/** container_init_gone() - init has been reaped (from process.c) */
void container_init_gone(struct container *c);
/**
 * container_exit_seen() - before the exit of one of its processes is told: tell first what it may
 * have died of (from process.c)
 */
void container_exit_seen(struct container *c);
/** container_tell_oom() - notify the host of the kills so far, if any and if it wants to know */
void container_tell_oom(struct container *c);
/**
 * container_note_exit() - the host was told init's exit code: send the one notification (from
 * process.c)
 */
void container_note_exit(struct container *c);

#endif
