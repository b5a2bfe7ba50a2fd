/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/pb.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

void *pb_new(const ProtobufCMessageDescriptor *type)
{
	void *msg = mem_new0(1, type->sizeof_message);

	type->message_init(msg);
	return msg;
}

void *pb_free(void *msg)
{
	if (msg)
		protobuf_c_message_free_unpacked(msg, NULL);
	return NULL;
}

/*
 * An allocator that gives up at a limit. It counts what was asked for and never what was given
 * back, which is right for a decoder: nearly all that it allocates stays in the message.
 */
struct budget {
	size_t left;
	bool spent;
};

static void *budget_alloc(void *data, size_t size)
{
	struct budget *b = data;

	if (size > b->left) {
		b->spent = true;
		return NULL;
	}
	b->left -= size;
	void *p = malloc(size ? size : 1);
	if (!p)
		b->spent = true;
	return p;
}

static void budget_free(void *data, void *p)
{
	free(p);
}

int pb_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len, void *ret,
	      struct err *err)
{
	struct budget budget = { .left = PB_MEMORY_MAX };
	ProtobufCAllocator alloc = { .alloc = budget_alloc,
				     .free = budget_free,
				     .allocator_data = &budget };

	void *msg = protobuf_c_message_unpack(type, &alloc, len, len ? data : (const void *)"");
	if (!msg && budget.spent)
		return err_set(err, -ERR_EXHAUSTED, "%s of %zu bytes is too large to decode",
			       type->name, len);
	if (!msg)
		return err_set(err, -ERR_INVALID, "malformed %s", type->name);
	*(void **)ret = msg;
	return 0;
}

uint8_t *pb_pack(const void *msg, size_t *ret_len)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	uint8_t *data = mem_new0(len ? len : 1, 1);

	protobuf_c_message_pack(msg, data);
	*ret_len = len;
	return data;
}

void pb_str(char **field, const char *s)
{
	char *old = *field;

	/* The empty string that protobuf-c compares addresses with is its own and is never freed.
	 */
	*field = str_empty(s) ? (char *)(uintptr_t)protobuf_c_empty_string : mem_strdup(s);
	if (old != protobuf_c_empty_string)
		free(old);
}

void pb_bytes(ProtobufCBinaryData *field, const void *data, size_t len)
{
	uint8_t *copy = NULL;

	if (len > 0) {
		copy = mem_new0(len, 1);
		memcpy(copy, data, len);
	}
	free(field->data);
	*field = (ProtobufCBinaryData){ .len = len, .data = copy };
}

static const ProtobufCFieldDescriptor *repeated_field(const ProtobufCMessage *msg, const char *name,
						      ProtobufCType type)
{
	const ProtobufCFieldDescriptor *f =
		protobuf_c_message_descriptor_get_field_by_name(msg->descriptor, name);

	if (!f || f->label != PROTOBUF_C_LABEL_REPEATED || f->type != type)
		abort();
	return f;
}

static void append(ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f, void *item)
{
	size_t *n = (size_t *)(void *)((char *)msg + f->quantifier_offset);
	void ***items = (void ***)(void *)((char *)msg + f->offset);

	*items = mem_resize(*items, *n + 1, sizeof(void *));
	(*items)[(*n)++] = item;
}

void pb_append(void *msg, const char *field, void *sub)
{
	append(msg, repeated_field(msg, field, PROTOBUF_C_TYPE_MESSAGE), sub);
}

void pb_append_str(void *msg, const char *field, const char *s)
{
	append(msg, repeated_field(msg, field, PROTOBUF_C_TYPE_STRING), mem_strdup(s ? s : ""));
}

/*
 * protoc makes an entry type of its own for every map; all those of strings to strings look like
 * this.
 */
struct map_pair {
	ProtobufCMessage base;
	char *key;
	char *value;
};

static const ProtobufCFieldDescriptor *map_field(const ProtobufCMessage *msg, const char *name)
{
	const ProtobufCFieldDescriptor *f = repeated_field(msg, name, PROTOBUF_C_TYPE_MESSAGE);
	const ProtobufCMessageDescriptor *entry = f->descriptor;

	if (entry->sizeof_message != sizeof(struct map_pair) || entry->n_fields != 2 ||
	    entry->fields[0].offset != offsetof(struct map_pair, key) ||
	    entry->fields[0].type != PROTOBUF_C_TYPE_STRING ||
	    entry->fields[1].offset != offsetof(struct map_pair, value) ||
	    entry->fields[1].type != PROTOBUF_C_TYPE_STRING)
		abort();
	return f;
}

static struct map_pair *map_find(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f,
				 const char *key)
{
	const char *base = (const char *)msg;
	size_t n = *(const size_t *)(const void *)(base + f->quantifier_offset);
	struct map_pair *const *pairs =
		*(struct map_pair *const *const *)(const void *)(base + f->offset);

	while (n-- > 0)
		if (strcmp(pairs[n]->key, key) == 0)
			return pairs[n];
	return NULL;
}

const char *pb_map_get(const void *msg, const char *field, const char *key)
{
	const struct map_pair *pair = map_find(msg, map_field(msg, field), key);

	return pair ? pair->value : NULL;
}

void pb_map_set(void *msg, const char *field, const char *key, const char *value)
{
	const ProtobufCFieldDescriptor *f = map_field(msg, field);
	struct map_pair *pair = map_find(msg, f, key);

	if (!pair) {
		pair = pb_new(f->descriptor);
		pb_str(&pair->key, key);
		append(msg, f, pair);
	}
	pb_str(&pair->value, value);
}

Google__Protobuf__Any *pb_any_raw(const char *type_url, const void *data, size_t len)
{
	Google__Protobuf__Any *any = pb_new(&google__protobuf__any__descriptor);

	pb_str(&any->type_url, type_url);
	pb_bytes(&any->value, data, len);
	return any;
}

Google__Protobuf__Any *pb_any(const void *msg)
{
	Google__Protobuf__Any *any = pb_new(&google__protobuf__any__descriptor);

	pb_str(&any->type_url, ((const ProtobufCMessage *)msg)->descriptor->name);
	any->value.data = pb_pack(msg, &any->value.len);
	return any;
}

bool pb_any_is(const Google__Protobuf__Any *any, const char *name)
{
	if (!any)
		return false;

	const char *slash = strrchr(any->type_url, '/');
	return str_eq(any->type_url, name) || (slash && str_eq(slash + 1, name));
}

int pb_any_unpack(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type,
		  void *ret, struct err *err)
{
	if (!pb_any_is(any, type->name))
		return err_set(err, -ERR_INVALID, "expected %s, got %s", type->name,
			       any && any->type_url[0] ? any->type_url : "nothing");
	return pb_unpack(type, any->value.data, any->value.len, ret, err);
}

Google__Protobuf__Timestamp *pb_time(uint64_t ns)
{
	if (ns == 0)
		return NULL;

	Google__Protobuf__Timestamp *t = pb_new(&google__protobuf__timestamp__descriptor);
	t->seconds = (int64_t)(ns / NSEC_PER_SEC);
	t->nanos = (int32_t)(ns % NSEC_PER_SEC);
	return t;
}

uint64_t pb_time_ns(const Google__Protobuf__Timestamp *t)
{
	if (!t || t->seconds < 0 || t->nanos < 0 || t->nanos >= (int32_t)NSEC_PER_SEC ||
	    (uint64_t)t->seconds >= UINT64_MAX / NSEC_PER_SEC)
		return 0;
	return (uint64_t)t->seconds * NSEC_PER_SEC + (uint64_t)t->nanos;
}
