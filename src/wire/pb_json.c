/* SPDX-License-Identifier: Apache-2.0 */
#include <json-c/json.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "wire/json.h"
#include "wire/pb.h"

static int wrong(const ProtobufCFieldDescriptor *f, struct err *err)
{
	return err_set(err, -ERR_INVALID, "%s: a value of the wrong type", f->name);
}

static int number_from_json(const ProtobufCFieldDescriptor *f, struct json_object *v, void *ret,
			    struct err *err)
{
	uint64_t n;

	if (f->type == PROTOBUF_C_TYPE_DOUBLE) {
		if (!json_object_is_type(v, json_type_double) &&
		    !json_object_is_type(v, json_type_int))
			return wrong(f, err);
		*(double *)ret = json_object_get_double(v);
		return 0;
	}
	if (!json_object_is_type(v, json_type_int) || json_object_get_int64(v) < 0)
		return wrong(f, err);
	n = json_object_get_uint64(v);
	if (f->type == PROTOBUF_C_TYPE_UINT64)
		*(uint64_t *)ret = n;
	else if (f->type == PROTOBUF_C_TYPE_UINT32 && n <= UINT32_MAX)
		*(uint32_t *)ret = (uint32_t)n;
	else
		return wrong(f, err);
	return 0;
}

static int list_from_json(void *msg, const ProtobufCFieldDescriptor *f, struct json_object *v,
			  struct err *err)
{
	if (!json_object_is_type(v, json_type_array) || f->type != PROTOBUF_C_TYPE_MESSAGE)
		return wrong(f, err);
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		void *sub = NULL;
		int r = pb_from_json(f->descriptor, json_object_array_get_idx(v, i), &sub, err);

		if (r < 0)
			return err_wrap(err, r, "%s", f->name);
		pb_append(msg, f->name, sub);
	}
	return 0;
}

static int field_from_json(void *msg, const ProtobufCFieldDescriptor *f, struct json_object *v,
			   struct err *err)
{
	void *member = (char *)msg + f->offset;

	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return list_from_json(msg, f, v, err);
	if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
		void *sub = NULL;
		int r = pb_from_json(f->descriptor, v, &sub, err);

		if (r < 0)
			return err_wrap(err, r, "%s", f->name);
		pb_free(*(void **)member);
		*(void **)member = sub;
		return 0;
	}
	if (f->type != PROTOBUF_C_TYPE_STRING)
		return number_from_json(f, v, member, err);
	if (!json_object_is_type(v, json_type_string))
		return wrong(f, err);
	pb_str(member, json_object_get_string(v));
	return 0;
}

int pb_from_json(const ProtobufCMessageDescriptor *type, struct json_object *o, void *ret,
		 struct err *err)
{
	void *msg;

	if (!json_object_is_type(o, json_type_object))
		return err_set(err, -ERR_INVALID, "%s: no object", type->short_name);
	msg = pb_new(type);
	json_object_object_foreach(o, name, value)
	{
		const ProtobufCFieldDescriptor *f =
			protobuf_c_message_descriptor_get_field_by_name(type, name);
		int r = f ? field_from_json(msg, f, value, err) : 0;

		if (r < 0) {
			pb_free(msg);
			return r;
		}
	}
	*(void **)ret = msg;
	return 0;
}
