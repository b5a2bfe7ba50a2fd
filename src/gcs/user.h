/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_USER_H
#define LCOW_GCS_USER_H

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

#endif
