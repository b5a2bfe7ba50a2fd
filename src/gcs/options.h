/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_OPTIONS_H
#define LCOW_GCS_OPTIONS_H

#include <stdint.h>

#include "base/log.h"
#include "gcs/transport.h"

struct err;

/**
 * struct options - arguments of the agent: what follows "--" on the kernel command line
 * @transport:	transport=auto|serial|vsock
 * @level:	loglevel=trace|debug|info|warn|error
 * @wall_ns:	wall=<nanoseconds since 1970>, 0 when it is not given
 * @hostname:	hostname=<name of the VM>; points into argv
 * @test_channel: --test-channel FD, -EBADF when it is not given
 */
struct options {
	enum transport_kind transport;
	enum log_level level;
	uint64_t wall_ns;
	const char *hostname;
	int test_channel;
};

/**
 * options_parse() - read the arguments
 * @ret:	filled in any case, with defaults where an argument is bad
 *
 * The kernel hands on what it does not know itself, so foreign words are ignored; a bad value is an
 * error.
 *
 * Return: 0 or -ERR_INVALID with text
 */
int options_parse(int argc, char **argv, struct options *ret, struct err *err);

#endif
