/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a guest says that its counters are: a message that can go out, or the field that is
 * wrong. */
#include <json-c/json.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "cgroups2.pb-c.h"
#include "wire/json.h"
#include "wire/pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const ProtobufCMessageDescriptor *const type =
		&io__containerd__cgroups__v2__metrics__descriptor;
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_pb_ void *metrics = NULL;
	struct err err = { 0 };

	if (json_parse((const char *)data, len, &o, NULL) < 0)
		return 0;
	if (pb_from_json(type, o, &metrics, &err) < 0) {
		if (err.code != -ERR_INVALID || !*err.text || metrics)
			abort();
		return 0;
	}

	Google__Protobuf__Any *any = pb_any(metrics);
	_cleanup_pb_ void *again = NULL;

	if (pb_any_unpack(any, type, &again, NULL) < 0)
		abort();
	pb_free(any);
	return 0;
}
