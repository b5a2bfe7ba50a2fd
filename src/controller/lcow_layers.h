/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_LCOW_LAYERS_H
#define LCOW_CONTROLLER_LCOW_LAYERS_H

#include <stdbool.h>

struct container_request;
struct err;
struct rootfs_plan;

/*
 * The forms of hcsshim's own snapshotters (containerd's plugins/snapshots/lcow, hcsshim
 * internal/layers): a mount of type lcow-layer or lcow-partitioned-layer, or windows.layerFolders
 * in config.json. Layers are read-only images, top-most first; the scratch is one more image, which
 * the containers of a sandbox may share.
 */

/** lcow_layers_given() - whether the request has any of these forms */
bool lcow_layers_given(const struct container_request *request);

/**
 * lcow_layers_read() - add their disks to a plan
 * Return: 0; -ERR_STATE for what hcsshim refuses by that: both forms, several mounts, a target, too
 * few layers, an unrecognized option; -ERR_INVALID for an option that cannot be read
 */
int lcow_layers_read(const struct container_request *request, struct rootfs_plan *p,
		     struct err *err);

#endif
