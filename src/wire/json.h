/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_JSON_H
#define LCOW_WIRE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct err;
struct json_object;

/*
 * JSON by tables, on json-c. One table per struct is its decoder, encoder, validator and
 * destructor. Names match exactly; what a table does not name is skipped. Depth is at most 32, a
 * text at most JSON_TEXT_MAX bytes and JSON_ITEMS_MAX values.
 */

enum { JSON_TEXT_MAX = 4 << 20, JSON_ITEMS_MAX = 65536 };

/**
 * enum json_form - C type of a field, and its JSON form
 */
enum json_form {
	JSON_BOOL, /* bool */
	JSON_U8, /* uint8_t: number in range */
	JSON_U16, /* uint16_t */
	JSON_U32, /* uint32_t */
	JSON_U64, /* uint64_t, exact up to 2^64-1 */
	JSON_I32, /* int32_t */
	JSON_I64, /* int64_t */
	JSON_STRING, /* char * (owned, NULL when absent) */
	JSON_STRINGS, /* char ** (strv, owned) */
	JSON_OBJECT, /* an embedded struct of @sub */
	JSON_POINTER, /* struct of @sub *, owned; NULL when absent or null */
	JSON_ARRAY, /* struct of @sub *, owned; the count is a size_t at @count */
	JSON_U32S, /* uint32_t *, owned; count at @count */
	JSON_MAP, /* char ** of "key=value" (strv, owned): an object of strings, in order */
	JSON_RAW, /* struct json_object *, owned (one reference): any value */
	JSON_TEXT, /* struct of @sub *, owned: a string that holds the JSON of an object */
};

enum {
	JSON_REQUIRED = 1, /* absent or null is an error */
	/* not written when false, 0, NULL or empty; an embedded struct always is (as in Go) */
	JSON_OMITEMPTY = 2,
	JSON_GUID = 4, /* an absent string is written as the null GUID */
};

/*
 * What is written for nothing, without JSON_OMITEMPTY: "" for JSON_STRING and JSON_TEXT, [] and {}
 * for the vectors and arrays, null for JSON_POINTER and JSON_RAW. null is read as absent, "" of a
 * JSON_TEXT too. Numbers must be integral and in range. Of duplicate members the last one counts.
 * Text that is not UTF-8, or that holds a NUL, is refused; what is written has U+FFFD where a C
 * string was not UTF-8.
 */

/**
 * struct json_field - a row: one field
 */
struct json_field {
	const char *name;
	enum json_form type;
	size_t offset;
	unsigned flags;
	const struct json_table *sub;
	size_t count;
};

/**
 * struct json_table - a struct as JSON
 */
struct json_table {
	const char *name;
	size_t size;
	const struct json_field *fields;
	size_t n_fields;
};

/**
 * json_decode() - fill a struct from a JSON object
 * @text:	UTF-8, not necessarily NUL-terminated
 * @table:	shape of @out
 * @out:	zeroed struct; on failure it is zeroed again and nothing is owned
 * @err:	names the field by its path: "Settings.Lun: 300 is out of range (0 to 255)"; hresult
 *		HR_INVALID_JSON
 *
 * Return: 0, or -ERR_INVALID
 */
int json_decode(const char *text, size_t len, const struct json_table *table, void *out,
		struct err *err);
/** json_decode_object() - the same from a parsed value */
int json_decode_object(struct json_object *o, const struct json_table *table, void *out,
		       struct err *err);
/** json_encode() - JSON text of a struct, in the table's order, no blanks; the caller frees it */
char *json_encode(const struct json_table *table, const void *in);
/** json_free() - free what a struct owns and zero it */
void json_free(const struct json_table *table, void *p);

/**
 * json_parse() - parse any JSON text within the limits
 * Return: 0 with one reference, or -ERR_INVALID with the offset and the reason
 */
int json_parse(const char *text, size_t len, struct json_object **ret, struct err *err);
/** json_put() - drop a reference, NULL is fine */
void json_put(struct json_object *o);
static inline void json_putp(struct json_object **o)
{
	json_put(*o);
}
#define _cleanup_json_ _cleanup_(json_putp)

/**
 * json_get() - member by path: json_get(spec, "linux", "resources", NULL)
 * Return: borrowed value or NULL
 */
struct json_object *json_get(struct json_object *o, ...) __attribute__((sentinel));
/** json_get_str() - string member of an object, NULL when absent or of another type; borrowed */
const char *json_get_str(struct json_object *o, const char *name);
/** json_get_bool() - boolean member, @fallback when absent or of another type */
bool json_get_bool(struct json_object *o, const char *name, bool fallback);
/** json_text() - compact text of a value; the caller frees it */
char *json_text(struct json_object *o);

#endif
