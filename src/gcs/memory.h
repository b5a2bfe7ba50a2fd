/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_MEMORY_H
#define LCOW_GCS_MEMORY_H

#include <stdint.h>

struct agent;
struct err;

/**
 * memory_reserve() - memory of the VM that pods do not get: agent, runtime, and the kernel's
 * own needs live on it
 * @total:	the VM's, in bytes
 *
 * 16 MiB and a 32nd of the whole, at most the 75 MiB that hcsshim's guest reserves in every VM, and
 * at most half of a tiny one.
 */
uint64_t memory_reserve(uint64_t total);

/**
 * memory_limit() - set memory.max of the cgroup of all pods, when it is not so already
 * @dir:	directory of the cgroup
 * @total:	memory of the VM
 *
 * A limit below what is in use makes the kernel reclaim, and kill if it must.
 *
 * Return: 0 or negative errno with text
 */
int memory_limit(const char *dir, uint64_t total, struct err *err);

/** memory_refresh() - memory_limit() of /pods by what the VM has now (PodCgroupMemoryLimit) */
int memory_refresh(struct err *err);

/**
 * memory_start() - set the limit now, and keep it right while memory comes and goes
 *
 * A coroutine for the life of the agent. After memory_plugged() it looks often for a while: memory
 * comes in small parts, most of which nothing tells of. In between, once a minute.
 */
void memory_start(struct agent *a);

/** memory_plugged() - memory has come or gone, more may follow; from anywhere */
void memory_plugged(struct agent *a);

#endif
