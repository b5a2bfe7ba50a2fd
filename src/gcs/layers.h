/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_LAYERS_H
#define LCOW_GCS_LAYERS_H

#include <stdbool.h>

#include "loop/co.h"

struct agent;
struct err;
struct gcs_combined_layers;

/**
 * layers_add() - CombinedLayers Add: mount an overlay of the layers, writable when there is a
 * scratch path
 *
 * A scratch path without layers (lcow's hosts send that, see doc/bridge.md) makes the directory
 * upper in it the root. A scratch path that is in use by another overlay is refused.
 *
 * When the scratch lies outside of the bundle (the directory of the root path), the bundle is put
 * on the scratch disk by a bind mount first, so that nothing of the container lives in the VM's
 * memory.
 */
CO int layers_add(struct agent *a, const struct gcs_combined_layers *l, struct err *err);
/**
 * layers_remove() - CombinedLayers Remove: unmount the overlay; not mounted is success
 *
 * The bundle's bind mount goes with it when no container uses the bundle (its creation failed, or
 * was never tried), else with the container.
 */
CO int layers_remove(struct agent *a, const struct gcs_combined_layers *l, struct err *err);

/**
 * layers_release_bundle() - empty a bundle and undo its bind mount, if layers_add() made one
 */
CO int layers_release_bundle(const char *bundle, struct err *err);

/**
 * layers_empty_bundle() - remove what is in a bundle, but not what is mounted in it, nor the mark
 * that layers_add() left, so that its release can be repeated
 * Return: 0 or negative errno
 */
int layers_empty_bundle(const char *bundle);

/**
 * layers_remove_pod_dir() - remove the directory above a V2 bundle
 * (/run/gcs/pods/<pod>/<container>) if that was its last
 */
void layers_remove_pod_dir(const char *bundle);

/**
 * layers_options() - mount options of an overlay
 * @ret:	"lowerdir=…[,upperdir=…,workdir=…]", the caller frees it; without layers it means
 *		nothing
 *
 * Return: 0; -ERR_INVALID for paths that the option syntax cannot carry; -ERR_EXHAUSTED when it is
 * over a page, which is what the kernel takes
 */
int layers_options(const struct gcs_combined_layers *l, char **ret, struct err *err);

/** layers_upper_taken() - whether an overlay in /proc/self/mountinfo's text writes to @upper */
bool layers_upper_taken(const char *mountinfo, const char *upper);

#endif
