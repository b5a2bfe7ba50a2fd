/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_CONTAINER_H
#define LCOW_CONTROLLER_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "controller/process.h"
#include "loop/co.h"

struct err;
struct gcs_combined_layers;
struct gcs_container_config;
struct json_object;
struct scsi;
struct shares;
struct sizing;
struct sockets;
struct vpci;

/*
 * Linux container controller: host resources, the guest's container, its processes.
 *
 *   NotCreated --create--> Created --start--> Running --init exits--> Stopped
 *   NotCreated --create failed--> Invalid (everything released); Created --start failed--> Invalid
 *   Created --init killed--> Stopped
 *   Running --pause--> Paused --resume--> Running; Paused --init exits--> Stopped
 */

enum container_state {
	CONTAINER_NOT_CREATED,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,
	CONTAINER_STOPPED,
	CONTAINER_INVALID,
	CONTAINER_STATE_END
};

/**
 * struct rootfs_mount - an entry of Create.rootfs (borrowed strings)
 */
struct rootfs_mount {
	const char *type;
	const char *source;
	const char *target;
	char *const *options;
};

/** enum rootfs_upper - where writes to a directory rootfs go */
enum rootfs_upper {
	ROOTFS_UPPER_GUEST, /* an ext4 scratch disk in the guest over a read-only share */
	ROOTFS_UPPER_HOST, /* the host's own overlay, shared writable */
};

/**
 * struct container_ops - what a container needs of the guest
 */
struct container_ops {
	CO int (*combine_layers)(void *ctx, const struct gcs_combined_layers *layers,
				 struct err *err);
	CO int (*remove_layers)(void *ctx, const struct gcs_combined_layers *layers,
				struct err *err);
	CO int (*create)(void *ctx, const char *id, const struct gcs_container_config *config,
			 struct err *err);
	CO int (*start)(void *ctx, const char *id, struct err *err);
	CO int (*delete_state)(void *ctx, const char *id, struct err *err);
	CO int (*properties)(void *ctx, const char *id, const char *type, char **ret,
			     struct err *err);
	CO int (*update)(void *ctx, const char *id, struct json_object *resources, struct err *err);
	CO int (*freeze)(void *ctx, const char *id, bool frozen, struct err *err);
	CO int (*metrics)(void *ctx, const char *id, char **ret, struct err *err);
};
extern const struct container_ops container_guest_ops;

/**
 * struct container_env - what containers of one VM share; outlives them
 * @sizing:	of the VM; NULL for a VM whose size nobody minds
 * @work_dir:	host directory (in the sandbox's run directory) below which rootfs mounts are made:
 *		<work_dir>/<id>/rootfs
 * @scratch_dir: host directory for scratch images (on disk): <scratch_dir>/<id>.img
 * @scratch_bytes: size of a new scratch image, unless the container asks for another
 * @encrypt_scratch: what containers write to their root file systems is encrypted in the guest, or
 *		they are not created
 * @namespace, @run_dir: for logging drivers, see struct logger_env
 */
struct container_env {
	const struct container_ops *ops;
	const struct process_ops *process_ops;
	void *guest;
	struct scsi *scsi;
	struct shares *shares;
	struct sockets *sockets;
	struct vpci *vpci;
	struct sizing *sizing;
	const char *work_dir;
	const char *scratch_dir;
	uint64_t scratch_bytes;
	bool encrypt_scratch;
	enum rootfs_upper upper;
	const char *namespace;
	const char *run_dir;
};

/**
 * struct container_events - publish callbacks; called from coroutines, in order for each process
 */
struct container_events {
	CO void (*exited)(const char *container, const struct process_status *status, void *arg);
	void *arg;
};

/**
 * struct container_request - Task.Create, decoded (borrowed)
 * @spec:	config.json
 */
struct container_request {
	const char *bundle;
	struct json_object *spec;
	const struct rootfs_mount *rootfs;
	size_t n_rootfs;
	struct stdio_paths io;
};

struct container;

/** container_new() - @pod is the guest-facing pod id (the container's own id when it is alone) */
struct container *container_new(const struct container_env *env, const char *id, const char *pod,
				const struct container_events *events);
/**
 * container_create() - rootfs, mounts, guest's container, init process in state Created; failure
 * releases everything
 */
CO int container_create(struct container *c, const struct container_request *request,
			struct err *err);
/**
 * container_start() - start init (@exec_id "") or an exec; @ret_pid; the exit event is held back
 * until container_started()
 */
CO int container_start(struct container *c, const char *exec_id, uint32_t *ret_pid,
		       struct err *err);
/** container_started() - the start event was published */
void container_started(struct container *c, const char *exec_id);
/**
 * container_exec() - add an exec process; @spec as in process_create(); a failed one leaves no
 * entry
 */
CO int container_exec(struct container *c, const char *exec_id, const struct stdio_paths *io,
		      struct json_object *spec, struct err *err);
/** container_kill() - @all: every process of the container; an unknown exec is -ERR_NOT_FOUND */
CO int container_kill(struct container *c, const char *exec_id, uint32_t signal, bool all,
		      struct err *err);
/**
 * container_update() - change limits while it is created or running
 * @resources:	linux.resources; what is not given stays as it is
 *
 * The VM grows first, when the limits of all its containers need it.
 *
 * Return: 0; -ERR_INVALID naming the member of a wrong type; -ERR_STATE after its end;
 * -ERR_EXHAUSTED when the VM cannot grow as far; or what the guest refused. The container's claim
 * on the VM is then what it was
 */
CO int container_update(struct container *c, struct json_object *resources, struct err *err);
/**
 * container_delete() - init: ends its execs and releases every resource (retryable) after it has
 * stopped; running is -ERR_STATE; @ret is the last status
 */
CO int container_delete(struct container *c, const char *exec_id, struct process_status *ret,
			struct err *err);
/**
 * container_wait() - until the process has ended (init: and the container is Stopped or Invalid)
 */
CO int container_wait(struct container *c, const char *exec_id, struct process_status *ret,
		      struct err *err);
/**
 * container_pause(), container_resume() - stop every process, or let them go on
 * Return: 0; -ERR_STATE unless it is Running, or Paused; -ERR_UNIMPLEMENTED when the guest cannot
 */
CO int container_pause(struct container *c, struct err *err);
CO int container_resume(struct container *c, struct err *err);
/**
 * container_metrics() - the guest's counters, as the JSON of GetProperties
 *
 * They are there from Created until the container is deleted. What cannot be asked for any more is
 * answered by the last ones that were.
 *
 * @ret: the member CgroupMetrics, or LCOWMetrics of a guest that has no others; the caller frees it
 */
CO int container_metrics(struct container *c, char **ret, struct err *err);
CO int container_resize(struct container *c, const char *exec_id, uint16_t width, uint16_t height,
			struct err *err);
int container_close_stdin(struct container *c, const char *exec_id, struct err *err);
/** container_status() - of a process; -ERR_NOT_FOUND */
int container_status(struct container *c, const char *exec_id, struct process_status *ret,
		     struct err *err);
/**
 * container_pids() - pids of the container's processes with the exec ids that are known;
 * @ret_exec_ids entries are borrowed, "" for unknown; arrays are the caller's. Init's pid alone
 * once it has ended, or when the guest does not say within 3 s
 */
CO int container_pids(struct container *c, uint32_t **ret_pids, const char ***ret_exec_ids,
		      size_t *ret_n, struct err *err);
/**
 * container_processes() - a snapshot of every process; the array is the caller's, its strings are
 * borrowed
 */
size_t container_processes(const struct container *c, struct process_status **ret);
enum container_state container_get_state(const struct container *c);
const char *container_id(const struct container *c);
const char *container_bundle(const struct container *c);
/**
 * container_free() - after container_delete(), or when the VM is gone (then host resources are
 * released); Return: NULL
 */
struct container *container_free(struct container *c);

#endif
