/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_PROPERTIES_H
#define LCOW_GCS_PROPERTIES_H

struct err;
struct json_object;

/**
 * properties_processes() - pids in a cgroup and below it
 * @dir:	directory of the cgroup
 *
 * Return: array of {"ProcessId":n}; empty when the cgroup is gone. The caller drops it
 */
struct json_object *properties_processes(const char *dir);

/**
 * properties_statistics() - what a cgroup v2 says of itself, in the shape of containerd's cgroup v1
 * metrics
 * @dir:	directory of the cgroup; files that are absent are left out
 *
 * Zeroes are left out, sub-objects stay. "max" is 2^64-1. Times are in nanoseconds.
 *
 * Return: the object "LCOWMetrics". The caller drops it
 */
struct json_object *properties_statistics(const char *dir);

#endif
