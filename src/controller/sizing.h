/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_SIZING_H
#define LCOW_CONTROLLER_SIZING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "loop/co.h"

struct err;
struct vm_config;

/*
 * Sizing: how large one VM must be for its containers. Each claims what its limits ask for; the VM
 * grows when the sum needs it, and never shrinks.
 *
 * A pod needs the larger of what its sandbox container claims and what its other containers claim
 * together; the VM, what its pods need together and something for itself. Memory that is promised
 * must be there. CPU time is shared, so the sum of CPUs may lie above the maximum, and the VM then
 * has the maximum; what one container alone claims may not.
 */

/**
 * struct claim_size - what limits ask for; 0 is nothing
 * @memory:	bytes
 * @quota, @period: CPU time, microseconds of each @period (0: 100 ms)
 */
struct claim_size {
	uint64_t memory;
	uint64_t quota;
	uint64_t period;
};

/**
 * struct claim - a container's, embedded in it
 * @id, @pod:	borrowed; the same for a sandbox container, and for one that is alone
 * @sum:	of several containers: its CPUs may lie above the maximum
 */
struct claim {
	struct list link;
	const char *id;
	const char *pod;
	bool sum;
	struct claim_size size;
};

/**
 * struct sizing_ops - what sizing needs of the VM and of its guest
 * @raise_pods_limit: let the guest give its pods what memory it has now
 */
struct sizing_ops {
	uint64_t (*memory_mb)(void *ctx);
	unsigned (*cpus)(void *ctx);
	CO int (*grow_memory)(void *ctx, uint64_t mb, struct err *err);
	CO int (*grow_cpus)(void *ctx, unsigned cpus, struct err *err);
	CO int (*raise_pods_limit)(void *ctx, struct err *err);
};

struct sizing;

/**
 * sizing_boot() - let a VM boot as large as a pod is known to become, so that it need not grow
 * @cfg:	its size is raised, never lowered
 * @pod:	what the pod's containers may use together
 * @overhead:	what the pod may use beside them; without a limit of @pod it means nothing
 *
 * The VM needs something for itself in any case, see sizing_claim(). CPUs beyond the maximum are
 * not an error.
 *
 * Return: 0, or -ERR_EXHAUSTED when the maximum of @cfg is less memory than that
 */
int sizing_boot(struct vm_config *cfg, const struct claim_size *pod,
		const struct claim_size *overhead, struct err *err);

/** sizing_new() - for one VM, which can grow to what @cfg says */
struct sizing *sizing_new(const struct sizing_ops *ops, void *ctx, const struct vm_config *cfg);
/** sizing_free() - claims need not have been released; NULL is fine; Return: NULL */
struct sizing *sizing_free(struct sizing *s);

/** claim_init() - a claim of nothing */
void claim_init(struct claim *c, const char *id, const char *pod);
/**
 * sizing_claim() - change what a container claims, and let the VM grow as needed
 *
 * One call at a time, in the order in which they came. After a failure the claim is what it was;
 * what the VM has grown by stays.
 *
 * Return: 0; -ERR_EXHAUSTED with what is needed, what there is and the maximum; -ETIMEDOUT when the
 * guest has not followed in 2 min; or what failed
 */
CO int sizing_claim(struct sizing *s, struct claim *c, const struct claim_size *size,
		    struct err *err);
/** claim_release() - claim nothing any more; idempotent */
void claim_release(struct claim *c);

#endif
