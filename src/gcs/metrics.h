/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_METRICS_H
#define LCOW_GCS_METRICS_H

struct json_object;

/**
 * metrics_read() - every counter of a cgroup v2, named as in containerd's
 * io.containerd.cgroups.v2.Metrics
 * @dir:	directory of the cgroup; what its kernel does not count is left out
 *
 * Zeros are left out, "max" is 2^64-1. The network is no part of a cgroup, and not of this.
 *
 * Return: the object "CgroupMetrics". The caller drops it
 */
struct json_object *metrics_read(const char *dir);

#endif
