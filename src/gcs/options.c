/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/options.h"

#include <errno.h>
#include <limits.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

static int parse_fd(const char *s, int *ret)
{
	uint64_t v;

	if (!s || str_u64(s, &v) < 0 || v > INT_MAX)
		return -EINVAL;
	*ret = (int)v;
	return fd_nonblock(*ret, true);
}

static const char *value_of(const char *arg, const char *name)
{
	size_t n = strlen(name);

	return str_starts(arg, name) && arg[n] == '=' ? arg + n + 1 : NULL;
}

int options_parse(int argc, char **argv, struct options *ret, struct err *err)
{
	int r = 0;

	*ret = (struct options){
		.transport = TRANSPORT_AUTO,
		.level = LOG_INFO,
		.hostname = "lcow",
		.test_channel = -EBADF,
	};
	for (int i = 1; i < argc && r >= 0; i++) {
		const char *v;

		if ((v = value_of(argv[i], "transport")))
			r = transport_parse(v, &ret->transport);
		else if ((v = value_of(argv[i], "loglevel")))
			r = log_level_parse(v, &ret->level);
		else if ((v = value_of(argv[i], "wall")))
			r = str_u64(v, &ret->wall_ns);
		else if ((v = value_of(argv[i], "hostname")))
			ret->hostname = v;
		else if (str_eq(argv[i], "--test-channel"))
			r = parse_fd(argv[++i], &ret->test_channel);
		if (r < 0)
			return err_set(err, -ERR_INVALID, "bad argument %s",
				       argv[i] ? argv[i] : "--test-channel");
	}
	return 0;
}
