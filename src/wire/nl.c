/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/nl.h"

#include <errno.h>
#include <netlink/errno.h>

int nl_errno(int r)
{
	switch (-r) {
	case NLE_EXIST:
		return -EEXIST;
	case NLE_OBJ_NOTFOUND:
	case NLE_NODEV:
		return -ENODEV;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_INVAL:
	case NLE_RANGE:
		return -EINVAL;
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	default:
		return r < 0 ? -EIO : 0;
	}
}
