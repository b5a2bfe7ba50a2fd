/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name of a cgroup: whatever the text, it is refused with a reason, or becomes a path that
 * stays below where it begins.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"
#include "vmm/cgroup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	_cleanup_free_ char *text = mem_strndup((const char *)data, len), *path = NULL;
	struct err err = { 0 };
	int r = cgroup_path(text, &path, &err);

	if (r < 0) {
		if (r != -ERR_INVALID || !err.text[0] || path)
			abort();
		return 0;
	}
	if (!path)
		return 0;

	_cleanup_strv_ char **parts = strv_split(path, "/");
	_cleanup_free_ char *joined = parts ? strv_join(parts, "/") : NULL;

	/* No part was empty. */
	if (!str_eq(joined, path) || strchr(path, '\n') || strv_has(parts, ".."))
		abort();
	return 0;
}
