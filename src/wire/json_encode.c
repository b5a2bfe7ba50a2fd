/* SPDX-License-Identifier: Apache-2.0 */
#include <json-c/json.h>

#include "base/str.h"
#include "base/uuid.h"
#include "wire/json.h"
#include "wire/json_parse.h"

static void encode_object(struct buf *b, const struct json_table *t, const char *in);

/* Appends text in which only bytes that are not UTF-8 are replaced: such a byte would make the
 * whole document invalid */
static void add_utf8(struct buf *b, const char *s, size_t len)
{
	size_t done = 0;

	for (size_t i = 0; i < len;) {
		size_t n = json_utf8_len((const unsigned char *)s + i, len - i);

		if (!n) {
			buf_add(b, s + done, i - done);
			buf_add(b, "\xEF\xBF\xBD", 3);
			done = i + 1;
		}
		i += n ? n : 1;
	}
	buf_add(b, s + done, len - done);
}

static void encode_string(struct buf *b, const char *s)
{
	static const char names[] = "\bb\ff\nn\rr\tt\"\"\\\\";
	size_t run = 0;

	buf_add(b, "\"", 1);
	for (; s[run];) {
		unsigned char c = (unsigned char)s[run];

		if (c >= 0x20 && c != '"' && c != '\\') {
			run++;
			continue;
		}
		add_utf8(b, s, run);
		for (const char *n = names; *n; n += 2)
			if (*n == (char)c)
				buf_addf(b, "\\%c", n[1]);
		if (!strchr("\b\f\n\r\t\"\\", c))
			buf_addf(b, "\\u%04x", c);
		s += run + 1;
		run = 0;
	}
	add_utf8(b, s, run);
	buf_add(b, "\"", 1);
}

static void encode_raw(struct buf *b, struct json_object *o)
{
	size_t len;
	const char *s = json_object_to_json_string_length(o,
							  JSON_C_TO_STRING_PLAIN |
								  JSON_C_TO_STRING_NOSLASHESCAPE,
							  &len);

	add_utf8(b, s, len);
}

static void encode_strings(struct buf *b, char *const *v)
{
	buf_add(b, "[", 1);
	for (size_t i = 0; v && v[i]; i++) {
		if (i)
			buf_add(b, ",", 1);
		encode_string(b, v[i]);
	}
	buf_add(b, "]", 1);
}

static void encode_map(struct buf *b, char *const *v)
{
	buf_add(b, "{", 1);
	for (size_t i = 0; v && v[i]; i++) {
		const char *value = strchrnul(v[i], '=');
		_cleanup_free_ char *key = mem_strndup(v[i], (size_t)(value - v[i]));

		if (i)
			buf_add(b, ",", 1);
		encode_string(b, key);
		buf_add(b, ":", 1);
		encode_string(b, *value ? value + 1 : "");
	}
	buf_add(b, "}", 1);
}

static void encode_array(struct buf *b, const struct json_field *f, const char *base)
{
	const char *items = *(char *const *)(const void *)(base + f->offset);
	size_t n = items ? *(const size_t *)(const void *)(base + f->count) : 0;

	buf_add(b, "[", 1);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add(b, ",", 1);
		if (f->type == JSON_U32S)
			buf_addf(b, "%u", ((const uint32_t *)(const void *)items)[i]);
		else
			encode_object(b, f->sub, items + i * f->sub->size);
	}
	buf_add(b, "]", 1);
}

static void encode_text(struct buf *b, const struct json_table *sub, const void *in)
{
	_cleanup_free_ char *text = in ? json_encode(sub, in) : NULL;

	encode_string(b, text ? text : "");
}

/* Whether @f holds the value that JSON_OMITEMPTY leaves out */
static bool is_empty(const struct json_field *f, const char *base)
{
	const void *in = base + f->offset;

	switch (f->type) {
	case JSON_BOOL:
		return !*(const bool *)in;
	case JSON_U8:
		return !*(const uint8_t *)in;
	case JSON_U16:
		return !*(const uint16_t *)in;
	case JSON_U32:
	case JSON_I32:
		return !*(const uint32_t *)in;
	case JSON_U64:
	case JSON_I64:
		return !*(const uint64_t *)in;
	case JSON_OBJECT:
		return false;
	case JSON_STRING:
		return str_empty(*(char *const *)in);
	case JSON_STRINGS:
	case JSON_MAP:
		return !strv_len(*(char *const *const *)in);
	case JSON_ARRAY:
	case JSON_U32S:
		return !*(const size_t *)(const void *)(base + f->count);
	default:
		return !*(void *const *)in;
	}
}

static void encode_field(struct buf *b, const struct json_field *f, const char *base)
{
	const void *in = base + f->offset;
	const void *pointer =
		f->type >= JSON_STRING && f->type != JSON_OBJECT ? *(void *const *)in : NULL;

	switch (f->type) {
	case JSON_BOOL:
		buf_addf(b, "%s", *(const bool *)in ? "true" : "false");
		break;
	case JSON_U8:
		buf_addf(b, "%u", *(const uint8_t *)in);
		break;
	case JSON_U16:
		buf_addf(b, "%u", *(const uint16_t *)in);
		break;
	case JSON_U32:
		buf_addf(b, "%u", *(const uint32_t *)in);
		break;
	case JSON_U64:
		buf_addf(b, "%ju", (uintmax_t) * (const uint64_t *)in);
		break;
	case JSON_I32:
		buf_addf(b, "%d", *(const int32_t *)in);
		break;
	case JSON_I64:
		buf_addf(b, "%jd", (intmax_t) * (const int64_t *)in);
		break;
	case JSON_STRING:
		if (f->flags & JSON_GUID && str_empty(pointer))
			pointer = UUID_NULL;
		encode_string(b, pointer ? pointer : "");
		break;
	case JSON_STRINGS:
		encode_strings(b, *(char *const *const *)in);
		break;
	case JSON_MAP:
		encode_map(b, *(char *const *const *)in);
		break;
	case JSON_OBJECT:
		encode_object(b, f->sub, in);
		break;
	case JSON_POINTER:
		if (pointer)
			encode_object(b, f->sub, pointer);
		else
			buf_add(b, "null", 4);
		break;
	case JSON_ARRAY:
	case JSON_U32S:
		encode_array(b, f, base);
		break;
	case JSON_RAW:
		encode_raw(b, *(struct json_object *const *)in);
		break;
	case JSON_TEXT:
		encode_text(b, f->sub, pointer);
		break;
	}
}

static void encode_object(struct buf *b, const struct json_table *t, const char *in)
{
	bool first = true;

	buf_add(b, "{", 1);
	for (size_t i = 0; i < t->n_fields; i++) {
		const struct json_field *f = &t->fields[i];

		if (f->flags & JSON_OMITEMPTY && is_empty(f, in))
			continue;
		if (!first)
			buf_add(b, ",", 1);
		first = false;
		encode_string(b, f->name);
		buf_add(b, ":", 1);
		encode_field(b, f, in);
	}
	buf_add(b, "}", 1);
}

char *json_encode(const struct json_table *table, const void *in)
{
	struct buf b = { 0 };

	encode_object(&b, table, in);
	buf_add(&b, "", 1);
	return (char *)b.data;
}

char *json_text(struct json_object *o)
{
	struct buf b = { 0 };

	encode_raw(&b, o);
	buf_add(&b, "", 1);
	return (char *)b.data;
}
