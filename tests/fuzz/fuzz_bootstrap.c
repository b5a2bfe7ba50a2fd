/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What containerd writes to the standard input of start, in whichever version, never harms it; and
 * options that it carries are read as a configuration, unless they name a file.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "bootstrap.pb-c.h"
#include "cri.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "runhcs.pb-c.h"
#include "runtimeoptions.pb-c.h"
#include "shim/args.h"
#include "shim/bootstrap.h"
#include "shim/config.h"
#include "wire/pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What was decoded is encoded and decoded again to the same bytes. */
static void round_trip(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len)
{
	_cleanup_pb_ void *msg = NULL, *again = NULL;
	size_t first_len, second_len;

	if (pb_unpack(type, data, len, &msg, NULL) < 0)
		return;
	_cleanup_free_ uint8_t *first = pb_pack(msg, &first_len);
	/*
	 * protobuf-c lets an unknown field of the impossible number 0 through in its long form
	 * only.
	 */
	if (pb_unpack(type, first, first_len, &again, NULL) < 0)
		return;
	_cleanup_free_ uint8_t *second = pb_pack(again, &second_len);
	if (first_len != second_len || memcmp(first, second, first_len) != 0)
		abort();
}

static void read_options(const struct buf *any_bytes)
{
	_cleanup_pb_ Google__Protobuf__Any *any = NULL;
	_cleanup_pb_ Runtimeoptions__V1__Options *options = NULL;
	struct shim_config config;

	if (pb_unpack(&google__protobuf__any__descriptor, any_bytes->data, any_bytes->len, &any,
		      NULL) < 0)
		return;
	if (pb_any_unpack(any, &runtimeoptions__v1__options__descriptor, &options, NULL) == 0 &&
	    options->config_path[0])
		return;
	shim_config_init(&config);
	shim_config_options(&config, any_bytes->data, any_bytes->len, NULL);
	shim_config_free(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct shim_args args = { .namespace = "ns", .id = "id" };
	struct bootstrap b;
	struct err err;

	log_init(-EBADF, LOG_ERROR);
	round_trip(&containerd__runtime__bootstrap__v1__bootstrap_params__descriptor, data, len);
	round_trip(&containerd__runtime__bootstrap__v1__bootstrap_result__descriptor, data, len);
	round_trip(&containerd__runhcs__v1__options__descriptor, data, len);
	round_trip(&runtime__v1__pod_sandbox_config__descriptor, data, len);
	if (bootstrap_parse(&args, data, len, &b, &err) < 0)
		return 0;
	if (b.options.len > 0)
		read_options(&b.options);
	bootstrap_free(&b);
	return 0;
}
