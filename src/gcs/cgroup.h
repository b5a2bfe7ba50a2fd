/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_CGROUP_H
#define LCOW_GCS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"

struct err;
struct json_object;

/*
 * The files of a cgroup v2 (the kernel's Documentation/admin-guide/cgroup-v2.rst). What cannot be
 * read counts as empty: which files there are depends on controllers and kernel.
 */

/** cgroup_read() - text of a file of the cgroup @dir; the caller frees it; NULL when absent */
char *cgroup_read(const char *dir, const char *file);

/** cgroup_value() - the number that @text begins with: "max" is 2^64-1; 0 for NULL and nonsense */
uint64_t cgroup_value(const char *text);

/** cgroup_number() - value of a file that holds a single number */
uint64_t cgroup_number(const char *dir, const char *file);

/**
 * cgroup_keyed() - value of a line "key value" of @text, which may be NULL; 0 when there is none
 */
uint64_t cgroup_keyed(const char *text, const char *key);

/**
 * cgroup_delegate() - enable every controller for the children of the cgroup @dir
 *
 * Each by itself: one that cannot be enabled is logged, and does not take the others along.
 *
 * Return: 0 or negative errno with text
 */
int cgroup_delegate(const char *dir, struct err *err);

/**
 * cgroup_limit() - set limits of memory, CPU and pids
 * @resources:	OCI linux.resources object, NULL for none; what it does not name stays
 *
 * Return: 0; -ERR_INVALID or negative errno with text, then some may have been set
 */
int cgroup_limit(const char *dir, struct json_object *resources, struct err *err);

/**
 * cgroup_fit_hugepages() - leave out limits on huge pages of sizes that the VM does not have
 * @dir:	of a cgroup other than the root
 * @resources:	OCI linux.resources object, changed in place; NULL is fine
 *
 * A host tells of all sizes that it has itself, and crun fails for one that is not there.
 */
void cgroup_fit_hugepages(const char *dir, struct json_object *resources);

/**
 * cgroup_freeze() - stop every process in a cgroup and below it, or let them go on
 * @dir:	directory of the cgroup
 * @frozen:	which of the two
 * @limit_usec: how long it may take
 *
 * Returns once the kernel says so in cgroup.events. A process that cannot be stopped in time (it
 * waits in the kernel for a device, say) is the failure of all: they are let go again.
 *
 * Return: 0, also when it was so already; -ETIMEDOUT or negative errno with text
 */
CO int cgroup_freeze(const char *dir, bool frozen, uint64_t limit_usec, struct err *err);

#endif
