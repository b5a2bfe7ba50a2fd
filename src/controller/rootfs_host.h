/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_ROOTFS_HOST_H
#define LCOW_CONTROLLER_ROOTFS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

struct err;
struct plan_mkfs;
struct rootfs_mount;

/*
 * What a root file system needs done on the host: mounts, in the shim's own mount namespace, and
 * images.
 */

/**
 * host_mount() - mount one entry of Create.rootfs, an overlay or a bind
 * @target:	directory that is there
 *
 * Of an overlay whose options are over the page that mount(2) takes, and of which it would silently
 * drop the rest, the lower directories are opened and named by their fds.
 *
 * Return: 0; -ERR_INVALID for an option that is not understood, a source that is not there, or
 * more layers than fit even so; or negative errno
 */
int host_mount(const struct rootfs_mount *m, const char *target, struct err *err);

/**
 * host_make_image() - make a sparse image with a file system, where there is none or an empty file
 *
 * It gets its name when it is complete.
 *
 * Return: 0, or negative errno with text: -ENOSPC when there is no room for it
 */
CO int host_make_image(const char *path, const struct plan_mkfs *mkfs, struct err *err);

/**
 * host_check_raw() - that an image which is going to be formatted is no VHDX image, whose header
 * that would overwrite
 *
 * Return: 0, or -ERR_INVALID
 */
int host_check_raw(const char *path, struct err *err);

/**
 * host_make_scratch() - make a new sparse image for a scratch disk
 * @blank:	leave it so for the guest, which formats what it finds unformatted; otherwise that
 *		is done here where the host can, and much quicker
 *
 * Return: 0; -EEXIST when there is one of that name; -ENOSPC when there is no room for a file
 * system; negative errno; then there is none
 */
CO int host_make_scratch(const char *path, uint64_t bytes, bool blank, struct err *err);

#endif
