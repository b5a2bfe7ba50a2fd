/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_PB_H
#define LCOW_WIRE_PB_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

struct err;
struct json_object;

/*
 * Protobuf glue. Messages live on the heap as protobuf-c makes them; pb_free() frees one with
 * everything in it. What is put into a message with the functions below is copied, or becomes the
 * message's own where it says so.
 *
 * Fields are named as in the .proto file; a name that the message has not, or of another type, is a
 * bug and aborts.
 */

enum {
	/** most memory that one decoded message may take: a few bytes on the wire can stand for a
	   large struct */
	PB_MEMORY_MAX = 64 << 20,
};

/** pb_new() - an empty message, or abort */
void *pb_new(const ProtobufCMessageDescriptor *type) __attribute__((returns_nonnull));
/** pb_free() - free a message and all in it; NULL is fine; Return: NULL */
void *pb_free(void *msg);
static inline void pb_freep(void *p)
{
	pb_free(*(void **)p);
}
#define _cleanup_pb_ _cleanup_(pb_freep)

/**
 * pb_unpack() - decode a message from outside
 * @type:	what it should be
 * @data:	its bytes; NULL when @len is 0
 * @ret:	the message, for pb_free()
 *
 * Unknown fields are skipped. Strings with a NUL in them are cut there.
 *
 * Return: 0, -ERR_INVALID when it is malformed, -ERR_EXHAUSTED when it would take more than
 * PB_MEMORY_MAX
 */
int pb_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len, void *ret,
	      struct err *err);

/**
 * pb_pack() - encode a message; the caller frees the bytes (never NULL, also when @ret_len is 0),
 * or abort
 */
uint8_t *pb_pack(const void *msg, size_t *ret_len) __attribute__((returns_nonnull));

/** pb_str() - replace the string that a message owns by a copy of @s; NULL stands for "" */
void pb_str(char **field, const char *s);
/** pb_bytes() - replace the bytes that a message owns by a copy */
void pb_bytes(ProtobufCBinaryData *field, const void *data, size_t len);
/** pb_append() - add @sub to a repeated field of messages; it belongs to @msg then */
void pb_append(void *msg, const char *field, void *sub);
/** pb_append_str() - add a copy of @s to a repeated field of strings */
void pb_append_str(void *msg, const char *field, const char *s);
/**
 * pb_map_get() - value of @key in a map<string, string>, the last one if there are several, or
 * NULL
 */
const char *pb_map_get(const void *msg, const char *field, const char *key);
/** pb_map_set() - add or replace a value in a map<string, string> */
void pb_map_set(void *msg, const char *field, const char *key, const char *value);

/**
 * pb_any() - an Any around an encoded message, its type url the plain name, such as
 * "containerd.events.TaskExit" Return: the Any, for pb_free()
 */
Google__Protobuf__Any *pb_any(const void *msg);
/** pb_any_raw() - an Any with a type url and bytes as they are, such as JSON */
Google__Protobuf__Any *pb_any_raw(const char *type_url, const void *data, size_t len);
/**
 * pb_any_is() - whether an Any is of type @name
 * @any:	may be NULL: it is of no type
 * @name:	full name; a type url "host/…/name" matches as well
 */
bool pb_any_is(const Google__Protobuf__Any *any, const char *name);
/**
 * pb_any_unpack() - decode what is in an Any
 * Return: as pb_unpack(); -ERR_INVALID also when it is of another type than @type
 */
int pb_any_unpack(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type,
		  void *ret, struct err *err);

/**
 * pb_from_json() - a message of a JSON object whose members have the names of its fields
 * @type:	of numbers, strings, messages and lists of messages
 * @ret:	the message, for pb_free()
 *
 * Members that @type has not are skipped.
 *
 * Return: 0, or -ERR_INVALID with the name of the field whose value does not fit
 */
int pb_from_json(const ProtobufCMessageDescriptor *type, struct json_object *o, void *ret,
		 struct err *err);

/**
 * pb_time() - a Timestamp of nanoseconds since 1970; 0 gives NULL, "not yet"; Return: for
 * pb_free()
 */
Google__Protobuf__Timestamp *pb_time(uint64_t ns);
/**
 * pb_time_ns() - nanoseconds since 1970; 0 for NULL, for times before 1970 and for those beyond
 * 2554
 */
uint64_t pb_time_ns(const Google__Protobuf__Timestamp *t);

#endif
