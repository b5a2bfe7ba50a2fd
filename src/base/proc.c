/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

enum { STAT_MAX = 4096 };

int proc_stat(pid_t pid, enum proc_field field, uint64_t *ret)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/stat", pid);
	_cleanup_free_ char *text = NULL;
	const char *p;
	size_t len;
	int r = file_read(path, STAT_MAX, &text, &len);

	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	/* Field 2 is in parentheses and may hold anything: count from behind it. */
	p = strrchr(text, ')');
	for (unsigned i = 2; p && i < field; i++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, " %" SCNu64, ret) == 1 ? 0 : -EIO;
}
