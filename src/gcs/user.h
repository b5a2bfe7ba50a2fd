/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_USER_H
#define LCOW_GCS_USER_H

#include <stddef.h>
#include <stdint.h>

struct err;

/**
 * user_resolve() - uid and gid of a "user[:group]" string
 * @rootfs:	root of the container; /etc/passwd and /etc/group are those inside, symlinks too
 * @user:	names or numbers. A number needs no entry; its group is then that of the entry with
 *		this uid, else 0
 * @ret_uid:	uid
 * @ret_gid:	gid
 *
 * Return: 0; -ERR_NOT_FOUND when a name has no entry, -ERR_INVALID when it has several or the
 * string is malformed
 */
int user_resolve(const char *rootfs, const char *user, uint32_t *ret_uid, uint32_t *ret_gid,
		 struct err *err);

/**
 * user_groups() - groups of /etc/group that name a user as their member
 * @rootfs:	root of the container
 * @user:	as in user_resolve(). With a group in it, it has no others, as runc has it
 * @ret:	their gids; the caller frees them
 * @ret_n:	number of @ret
 *
 * Return: 0 or negative errno with text
 */
int user_groups(const char *rootfs, const char *user, uint32_t **ret, size_t *ret_n,
		struct err *err);

#endif
