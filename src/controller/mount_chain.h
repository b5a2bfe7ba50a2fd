/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_MOUNT_CHAIN_H
#define LCOW_CONTROLLER_MOUNT_CHAIN_H

#include <stdint.h>

struct err;
struct rootfs_mount;

/*
 * The mount templates of containerd's mount manager
 * (https://github.com/containerd/containerd/blob/main/docs/mounts.md): type prefixes, {{ … }} in
 * source, target and options, and X-containerd.* options.
 */

/** enum chain_prefix - what a type's prefixes ask for, as bits */
enum chain_prefix { CHAIN_FORMAT = 1, CHAIN_MKDIR = 2, CHAIN_MKFS = 4 };

/**
 * chain_type() - peel the prefixes off a mount type, from left to right
 * @ret_type:	the real type, within @type
 * Return: enum chain_prefix bits, or -ERR_INVALID for an unknown prefix or nothing behind them
 */
int chain_type(const char *type, const char **ret_type, struct err *err);

/**
 * chain_expand() - expand the templates of a text
 * @mounts:	entries of the chain
 * @points:	their mount points
 * @n:		entries before the one that the text is of: only these may be named
 * @ret:	the text with every template replaced; the caller frees it
 *
 * {{ mount I }}, {{ source I }}, {{ target I }}; {{ overlay A B }} is the mount points from A to B,
 * up or down, joined by ':'.
 *
 * Return: 0, or -ERR_INVALID
 */
int chain_expand(const char *text, const struct rootfs_mount *mounts, char *const *points,
		 unsigned n, char **ret, struct err *err);

/**
 * struct chain_dir - a directory that a chain wants: X-containerd.mkdir.path=PATH[:MODE[:UID:GID]]
 */
struct chain_dir {
	char *path;
	uint32_t mode; /* 0700 when not given */
	uint32_t uid, gid;
};

/**
 * chain_dir_parse() - read the value of that option
 * @ret:	its path is the caller's to free
 * Return: 0, or -ERR_INVALID
 */
int chain_dir_parse(const char *value, struct chain_dir *ret, struct err *err);

#endif
