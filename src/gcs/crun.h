/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_CRUN_H
#define LCOW_GCS_CRUN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop/co.h"

struct err;
struct json_object;
struct stdio;

/*
 * The container runtime: crun(1), one short process per call. It keeps its state below /run/crun;
 * everything else that a call needs is in a directory of its own, which is gone when the call
 * returns.
 */

/**
 * crun_create() - create a container, whose init then waits for crun_start()
 * @id:		container id
 * @bundle:	directory with config.json
 * @io:		its pipes become stdin, stdout and stderr; with @terminal its pty is filled
 * @terminal:	the spec's process.terminal
 * @ret_pid:	of init, in this pid namespace
 *
 * Return: 0 or negative errno with crun's own text
 */
CO int crun_create(const char *id, const char *bundle, struct stdio *io, bool terminal,
		   pid_t *ret_pid, struct err *err);

/** crun_start() - let a created container's init run; Return: as crun_create() */
CO int crun_start(const char *id, struct err *err);

/**
 * crun_exec() - start a further process in a running container
 * @process:	OCI process object
 * @io, @terminal, @ret_pid: as in crun_create()
 */
CO int crun_exec(const char *id, struct json_object *process, struct stdio *io, bool terminal,
		 pid_t *ret_pid, struct err *err);

/** crun_delete() - forget a container, killing what is left of it; absent is success */
CO int crun_delete(const char *id, struct err *err);

/** crun_update() - change resource limits; @resources is an OCI linux.resources object */
CO int crun_update(const char *id, struct json_object *resources, struct err *err);

/**
 * crun_error() - make an error of crun's log
 * @log:	text of the log file: JSON lines with "msg" and "level"
 * @status:	exit status of crun, for when the log says nothing
 *
 * The last line of level error counts. Known texts get their HRESULT.
 *
 * Return: code of @err
 */
int crun_error(const char *log, int status, struct err *err);

#endif
