/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SHIM_BOOTSTRAP_H
#define LCOW_SHIM_BOOTSTRAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct err;
struct shim_args;

/** enum bootstrap_answer - how `start` tells containerd where the shim serves */
enum bootstrap_answer {
	ANSWER_PLAIN, /* the address: containerd 1.6 */
	ANSWER_JSON_2, /* JSON, version 2: 1.7, and 2.x for tasks */
	ANSWER_JSON_3, /* JSON, version 3: sandboxes of 2.0 to 2.2 */
	ANSWER_PROTOBUF, /* BootstrapResult, version 3: 2.3 on */
};

/**
 * struct bootstrap - what came on the standard input of `start`
 * @params:	it was BootstrapParams
 * @debug:	its log level is debug or trace
 * @socket_dir:	directory for sockets, NULL when not said
 * @events:	address of containerd's event service, NULL when not said
 * @options:	runtime options, a packed google.protobuf.Any; empty when there are none
 */
struct bootstrap {
	bool params;
	bool debug;
	char *socket_dir;
	char *events;
	char *grpc_address;
	struct buf options;
};

/**
 * bootstrap_parse() - tell BootstrapParams from a bare Any of the options, from nothing
 *
 * They share field numbers: it is BootstrapParams when its instance id and namespace are those of
 * the command line.
 *
 * Return: 0, or -ERR_INVALID for bytes that are neither
 */
int bootstrap_parse(const struct shim_args *args, const void *data, size_t len,
		    struct bootstrap *ret, struct err *err);
void bootstrap_free(struct bootstrap *b);

/** bootstrap_answer_form() - which form the caller understands; @cwd is the bundle directory */
enum bootstrap_answer bootstrap_answer_form(const struct bootstrap *b, const char *max_shim_version,
					    const char *cwd);
/** bootstrap_answer_text() - the bytes to print */
void bootstrap_answer_text(enum bootstrap_answer form, const char *address, struct buf *ret);

#endif
