/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_BOOT_H
#define LCOW_GCS_BOOT_H

struct err;

/** where the cgroup2 tree is, and the cgroup in it that holds every pod */
#define BOOT_CGROUP_ROOT "/sys/fs/cgroup"
#define BOOT_CGROUP_PODS "/sys/fs/cgroup/pods"
/** where the agent is, with what it runs beside the containers */
#define BOOT_CGROUP_SELF "/sys/fs/cgroup/gcs"

/**
 * boot_mounts() - /proc, /sys, /dev, /run, /tmp and the cgroup2 tree, as the first thing PID 1 does
 *
 * What is mounted already stays. Every controller is enabled for the children of the root and of
 * /pods. The agent moves to /gcs, whose first megabytes the kernel leaves alone whatever the pods
 * need.
 *
 * Return: 0 or negative errno with text
 */
int boot_mounts(struct err *err);

/**
 * boot_settings() - loopback up, hostname, limits, no ctrl-alt-del
 * @hostname:	the VM's own name
 *
 * Return: 0 or negative errno with text
 */
int boot_settings(const char *hostname, struct err *err);

#endif
