/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_ROOTFS_LOOP_H
#define LCOW_CONTROLLER_ROOTFS_LOOP_H

struct container_request;
struct err;
struct rootfs_plan;

/**
 * loop_mount_chain() - mount a chain of images with directories of the host in it, on the host
 * @plan:	of the request, form PLAN_HOST: its disks are the entries but the last
 * @request:	for the last entry
 * @base:	directory that is there; the images are mounted at <base>/m<N> while it works
 * @target:	directory that is there, for the last entry
 *
 * The images are mounted by loop devices, which go with their last mount. Their own mounts are
 * taken away again once the last entry holds them, and after a failure.
 *
 * Return: 0 or negative code with text
 */
int loop_mount_chain(const struct rootfs_plan *plan, const struct container_request *request,
		     const char *base, const char *target, struct err *err);

#endif
