/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SHIM_RUNDIR_H
#define LCOW_SHIM_RUNDIR_H

#include <stdint.h>
#include <sys/types.h>

struct err;
struct shim_config;

/*
 * The run directory of a sandbox: everything that the sandbox owns on the host is recorded in it
 * before it exists, so that rundir_clean() finds and removes it after the shim was killed at any
 * instruction.
 *
 *   <run_dir>/<key>/		0700; key = the first 32 hex digits of the socket's name
 *     id, namespace		of the sandbox, as containerd calls it: a line of text each
 *     socket			path of the ttrpc socket
 *     scratch			path of the sandbox's directory of scratch images
 *     shim.pid, qemu.pid, vsock.pid, logger-<n>.pid
 *				"<pid> <start time>": field 22 of /proc/<pid>/stat makes a pid
 *				unmistakable
 *     tap-<id>			card of a network namespace whose packets go to the VM, see
 *				vmm/netns.h
 *     cgroup			cgroups of QEMU and its daemon on the host: see vmm/cgroup.h
 *     options			what start was given on stdin
 *     shares/, work/		mount points; the mounts are in the shim's own mount namespace and
 *				end with it
 */

/**
 * struct rundir - names of what a sandbox owns
 * @key:	see above
 * @id:		of the sandbox, or of the lone container
 * @namespace:	containerd's
 * @path:	the run directory
 * @socket:	ttrpc socket
 * @scratch:	directory of scratch images
 */
struct rundir {
	char *key;
	char *id;
	char *namespace;
	char *path;
	char *socket;
	char *scratch;
};

/**
 * rundir_init() - the names that follow from what containerd calls a sandbox; no I/O
 * @socket_dir:	directory of sockets
 * @address:	containerd's GRPC address
 * @group:	id of the sandbox, or of the lone container
 *
 * Return: 0, or -ERR_INVALID when the socket's path would be too long
 */
int rundir_init(struct rundir *r, const struct shim_config *config, const char *socket_dir,
		const char *address, const char *namespace, const char *group, struct err *err);
void rundir_free(struct rundir *r);

/**
 * rundir_create() - make it and write its records; an existing one of a dead sandbox is cleaned
 * first; Return: 0 or a negative code
 */
int rundir_create(const struct rundir *r, struct err *err);
/** rundir_record_pid() - write <name>.pid for a process; Return: 0 or negative errno */
int rundir_record_pid(const char *path, const char *name, pid_t pid);
/**
 * rundir_clean() - end every recorded process and remove every recorded thing; idempotent, absent
 * is success. Logging drivers are given 1 s to finish and 1 s after SIGTERM
 * @path:	the run directory
 * @grace_ms:	how long the shim may take to end by itself after SIGTERM; 0 kills at once
 *
 * Return: 0, or the first failure after everything was tried
 */
int rundir_clean(const char *path, unsigned grace_ms, struct err *err);

/** process_start_time() - field 22 of /proc/<pid>/stat; 0 when there is no such process */
uint64_t process_start_time(pid_t pid);

#endif
