/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SHIM_SHIM_H
#define LCOW_SHIM_SHIM_H

struct err;
struct shim_args;

/*
 * The actions of containerd-shim-lcow-v2. The serving process gets its listening socket and the
 * pipe that takes its verdict ("ok", or an error's text) as inherited fds, and its run directory in
 * LCOW_RUN_DIR.
 */
enum { SHIM_SOCKET_FD = 3, SHIM_STATUS_FD = 4 };

/**
 * shim_start() - start the shim of a group, or find the live one, and print its address; Return: 0
 * or a negative code
 */
int shim_start(const struct shim_args *args, struct err *err);
/** shim_serve() - serve until the sandbox is done; Return: 0 or a negative code */
int shim_serve(const struct shim_args *args, struct err *err);
/**
 * shim_delete() - clean up after a shim and print a DeleteResponse; members of a pod never touch
 * the pod's VM; Return: 0 or a negative code
 */
int shim_delete(const struct shim_args *args, struct err *err);
/**
 * shim_sweep() - remove scratch images that sandboxes of before a crash or a reboot have left, see
 * shim/scratch.h; Return: 0 or a negative code
 */
int shim_sweep(struct err *err);
/** shim_info() - print a RuntimeInfo; Return: 0 or a negative code */
int shim_info(struct err *err);

#endif
