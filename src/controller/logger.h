/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_LOGGER_H
#define LCOW_CONTROLLER_LOGGER_H

#include "loop/co.h"

struct err;
struct uri;

/*
 * A logging driver: the program of binary:///path?key=value, which is given a process's output, as
 * containerd's runc shim starts it.
 *
 *   argv	path key value key value …, in the URI's order
 *   env	CONTAINER_ID, CONTAINER_NAMESPACE, and NAME for each key "env.NAME"; nothing else
 *   fd 3, 4	read ends of stdout and stderr
 *   fd 5	a pipe to say on that it is ready: it writes a byte, or (binary, but not binary-v2)
 *		closes it
 *
 * It is an ordinary process of the host that ends when its streams do: neither the end of the call
 * that started it nor that of this shim ends it. The shim's `delete` finds it by its record.
 */
struct logger;

/**
 * struct logger_env - for whom it logs (borrowed)
 * @id:		the container's id, or the exec's
 * @run_dir:	where it is recorded as logger-<n>.pid while it runs; NULL for nowhere
 */
struct logger_env {
	const char *id;
	const char *namespace;
	const char *run_dir;
};

/**
 * logger_start() - start a driver and wait until it is ready, at most 10 s
 * @uri:	scheme binary or binary-v2
 * @ret_fds:	non-blocking write ends of stdout and stderr, which the caller closes
 *
 * Return: 0; -ETIMEDOUT when it was not ready in time, -EIO when it ended before (with its exit
 * status) or, binary-v2, closed fd 5 without a byte; or what kept it from starting. It is gone then
 */
CO int logger_start(const struct uri *uri, const struct logger_env *env, struct logger **ret,
		    int ret_fds[2], struct err *err);
/**
 * logger_close() - the write ends are closed: give it 2 s to finish, then SIGTERM, then after 12 s
 * SIGKILL; returns at once; idempotent
 */
void logger_close(struct logger *l);
/** logger_wait() - until it has ended; Return: 0, -ETIMEDOUT, -ECANCELED */
CO int logger_wait(struct logger *l);
/** logger_free() - forget it; one that still runs is left to itself; NULL is fine; Return: NULL */
struct logger *logger_free(struct logger *l);

#endif
