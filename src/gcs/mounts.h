/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_MOUNTS_H
#define LCOW_GCS_MOUNTS_H

#include <stdbool.h>

#include "loop/co.h"

struct err;

/* Mounting blocks, and may need the loop to go on (9P over the multiplexer): it is done by a worker
 * thread. */

/**
 * mount_path_valid() - whether a path of the host's may be used: absolute, no "..", shorter than
 * PATH_MAX, not "/"
 */
bool mount_path_valid(const char *path);

/**
 * mount_at() - mount(2) on a directory that is made first (mode 0700) and removed again on failure
 * @source, @target, @type, @flags, @options: as in mount(2)
 *
 * Return: 0 or negative errno with text
 */
CO int mount_at(const char *source, const char *target, const char *type, unsigned long flags,
		const char *options, struct err *err);

/**
 * mount_bind() - bind @source to @target; @read_only remounts it so
 * Return: 0 or negative errno with text; then nothing is mounted
 */
CO int mount_bind(const char *source, const char *target, bool read_only, struct err *err);

/**
 * mount_propagation() - apply the words among @options that set how mounts propagate; the rest is
 * ignored
 * Return: 0 or negative errno with text
 */
int mount_propagation(const char *target, char *const *options, struct err *err);

/**
 * mount_undo() - unmount everything that is stacked at a path
 * @remove:	and remove the directory
 *
 * A path that does not exist, or that nothing is mounted on, is success.
 *
 * Return: 0 or negative errno with text
 */
CO int mount_undo(const char *target, bool remove, struct err *err);

#endif
