/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SHIM_BUNDLE_H
#define LCOW_SHIM_BUNDLE_H

#include <stdbool.h>

/**
 * bundle_exists() - whether a directory is a bundle: config.json is in it, or what containerd has
 * put into every one, also into those of sandboxes, which have no config.json from CRI: the fifo
 * "log", or the link "work"
 */
bool bundle_exists(const char *bundle);

/**
 * bundle_group() - the id of the pod that a task bundle belongs to: annotation
 * io.kubernetes.cri.sandbox-id, else @id
 *
 * A config.json that is absent or cannot be read gives @id: whoever creates the task will say what
 * is wrong with it.
 *
 * Return: the id; the caller frees it
 */
char *bundle_group(const char *bundle, const char *id);

/**
 * bundle_is_member() - whether a bundle is a container of a pod rather than the pod itself: by its
 * annotation, or the file "sandbox"
 */
bool bundle_is_member(const char *bundle);

#endif
