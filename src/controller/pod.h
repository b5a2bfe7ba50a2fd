/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_POD_H
#define LCOW_CONTROLLER_POD_H

#include <stdbool.h>

#include "loop/co.h"

struct err;
struct network_config;
struct network_ops;

/*
 * Pods of one VM. A pod is there as long as somebody holds it: its containers, and the sandbox that
 * is a pod itself. The first one brings its network up, the last one takes it down.
 */

struct pods;
struct pod;

struct pods *pods_new(const struct network_ops *ops, void *ctx);
/** pods_free() - the VM has ended: what is left is forgotten; NULL is fine; Return: NULL */
struct pods *pods_free(struct pods *p);

/**
 * pod_get() - a hold on a pod, with its network
 * @id:		what the guest calls it
 * @network:	where its network comes from, for the first who comes
 *
 * Return: 0, or what failed; then the pod is as before
 */
CO int pod_get(struct pods *p, const char *id, const struct network_config *network,
	       struct pod **ret, struct err *err);
/** pods_have() - whether somebody holds a pod of this id; NULL: nobody */
bool pods_have(const struct pods *p, const char *id);
/**
 * pod_put() - give up a hold; NULL is fine. A network that could not be taken down is logged, and
 * ends with the VM. Return: NULL
 */
CO struct pod *pod_put(struct pod *pod);
/**
 * pods_release() - the VM has ended: give back what its networks hold on the host, whoever still
 * holds the pods; NULL is fine
 */
CO void pods_release(struct pods *p);
/** pod_has_network() - whether the guest has a network namespace of its id */
bool pod_has_network(const struct pod *pod);

#endif
