/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_SYSCTLS_H
#define LCOW_CONTROLLER_SYSCTLS_H

struct err;
struct json_object;

/*
 * Kernel parameters of a pod without a sandbox container, which would bring them in its spec: each
 * belongs to a namespace that the pod's containers share.
 */

/**
 * sysctls_check() - whether each belongs to a namespace, as crun sees it
 * @sysctls:	names, with dots or slashes, and values
 *
 * Return: 0, or -ERR_INVALID naming one that does not
 */
int sysctls_check(struct json_object *sysctls, struct err *err);
/**
 * sysctls_add() - let a container set those of the namespaces that it shares with its pod, but for
 * what its spec sets itself
 *
 * Every one does, for ipc and uts of a pod that has no container for a while are made anew.
 *
 * @spec:	config.json, changed in place
 * @sysctls:	those of the pod; NULL for none
 */
void sysctls_add(struct json_object *spec, struct json_object *sysctls);

#endif
