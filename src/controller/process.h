/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_PROCESS_H
#define LCOW_CONTROLLER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/io.h"
#include "loop/co.h"

struct err;
struct gcs_process_params;
struct guest_process;
struct json_object;

/*
 * Process controller: an init process or an exec.
 *
 *   NotCreated --create--> Created --start--> Running --exit--> Terminated
 *   Created --start failed or kill--> Terminated (code 1; killed: 128+signal)
 *   Created --delete--> Terminated (code 0)
 */

enum process_state {
	PROCESS_NOT_CREATED,
	PROCESS_CREATED,
	PROCESS_RUNNING,
	PROCESS_TERMINATED,
	PROCESS_STATE_END
};

struct process;

/**
 * struct process_ops - what a process needs of the guest; unit tests give fakes. Signatures as in
 * guest/guest.h
 */
struct process_ops {
	CO int (*execute)(void *ctx, const char *container, const struct gcs_process_params *params,
			  struct guest_process **ret, struct err *err);
	uint32_t (*pid)(const struct guest_process *p);
	int (*fd)(const struct guest_process *p, int stream);
	void (*close)(struct guest_process *p, int stream);
	void (*on_exit)(struct guest_process *p, void (*fn)(uint32_t code, bool lost, void *arg),
			void *arg);
	CO int (*signal)(struct guest_process *p, int signal, struct err *err);
	CO int (*resize)(struct guest_process *p, uint16_t width, uint16_t height, struct err *err);
	struct guest_process *(*free)(struct guest_process *p);
};
/** process_guest_ops - the real ones; their ctx is a struct guest */
extern const struct process_ops process_guest_ops;

/**
 * struct process_status - a snapshot
 * @pid:	in the UVM; 0 before start
 * @exit_status: 255 until it has exited
 * @exited_at:	CLOCK_REALTIME ns, 0 until it has exited
 * Strings are borrowed from the process.
 */
struct process_status {
	enum process_state state;
	uint32_t pid;
	uint32_t exit_status;
	uint64_t exited_at;
	const char *exec_id;
	const char *in, *out, *err;
	bool terminal;
};

/**
 * process_new() - @container is the guest-facing container id, NULL for the VM itself; @exec_id ""
 * for init
 */
struct process *process_new(const struct process_ops *ops, void *ctx, const char *container,
			    const char *exec_id);
/**
 * process_create() - open upstream I/O
 * @io:		its logger.id is set here; a terminal with a stderr path of its own is -ERR_STATE
 * @spec:	OCI process of an exec, or of a program of the VM itself (args, cwd, env, terminal);
 *		one reference is taken over; NULL for init
 */
CO int process_create(struct process *p, const struct stdio_paths *io, struct json_object *spec,
		      struct err *err);
/**
 * process_start() - execute it in the guest
 * @exited:	called once, from a coroutine, after output was drained (or its reader took nothing
 *		for 10 s), status recorded and upstream I/O closed; may be NULL. Held back until
 *		process_release_exit()
 */
CO int process_start(struct process *p, CO void (*exited)(struct process *p, void *arg), void *arg,
		     struct err *err);
/** process_release_exit() - the start was published: the exit may be now */
void process_release_exit(struct process *p);
/** process_wait() - until Terminated; Return: 0, -ETIMEDOUT, -ECANCELED */
CO int process_wait(struct process *p);
/**
 * process_fail() - what had to come before its start has failed: Created becomes Terminated with
 * code 1
 */
void process_fail(struct process *p);
/**
 * process_kill() - Created: Terminated with 128+signal; Running: deliver; Terminated:
 * -ERR_NOT_FOUND "process already finished", as when the VM is gone
 */
CO int process_kill(struct process *p, int signal, struct err *err);
/**
 * process_resize() - set the size of its terminal, at its start when that is still to come; a
 * process without a terminal has none to set, which is fine; Terminated is -ERR_STATE
 */
CO int process_resize(struct process *p, uint16_t width, uint16_t height, struct err *err);
/** process_close_stdin() - success in every state */
void process_close_stdin(struct process *p);
/**
 * process_delete() - Running is -ERR_STATE; Created becomes Terminated with code 0; returns once
 * clients have read its output (io_await_readers()) and its logging driver has ended
 */
CO int process_delete(struct process *p, struct err *err);
void process_get_status(const struct process *p, struct process_status *ret);
/** process_set_pid() - the pid that the guest gave the container's init before it was started */
void process_set_pid(struct process *p, uint32_t pid);
/**
 * process_free() - drop it; one that still runs is forgotten: its exit is never told; NULL is fine;
 * Return: NULL
 */
struct process *process_free(struct process *p);

#endif
