/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/program.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"

char *program_find(const char *name)
{
	const char *path = getenv("PATH");
	_cleanup_strv_ char **dirs = NULL;

	if (strchr(name, '/'))
		return realpath(name, NULL);
	dirs = strv_split(path ? path
			       : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			  ":");
	for (size_t i = 0; dirs && dirs[i]; i++) {
		_cleanup_free_ char *full = str_printf("%s/%s", dirs[i], name);
		struct stat st;

		if (stat(full, &st) == 0 && S_ISREG(st.st_mode) && access(full, X_OK) == 0)
			return realpath(full, NULL);
	}
	return NULL;
}

int program_missing(const char *name, struct err *err)
{
	return err_set(err, -ERR_UNAVAILABLE,
		       "%s: no such program; install it, or set its path in the configuration",
		       name);
}
