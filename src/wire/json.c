/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/json.h"

#include <json-c/json.h>

#include "base/err.h"
#include "base/str.h"

/**
 * struct path - where we are in the document, for errors; a chain of the frames of the recursion
 * @name:	of the field, NULL for an array's item
 * @index:	of the item
 */
struct path {
	const struct path *up;
	const char *name;
	size_t index;
};

static int decode_object(struct json_object *o, const struct json_table *t, char *out,
			 const struct path *up, struct err *err);

static void path_text(const struct path *p, struct buf *b)
{
	if (!p)
		return;
	path_text(p->up, b);
	if (p->name)
		buf_addf(b, "%s%s", b->len ? "." : "", p->name);
	else
		buf_addf(b, "[%zu]", p->index);
}

__attribute__((format(printf, 3, 4))) static int bad(struct err *err, const struct path *p,
						     const char *fmt, ...)
{
	_cleanup_buf_ struct buf where = { 0 };
	_cleanup_free_ char *why = NULL;
	va_list ap;

	va_start(ap, fmt);
	why = str_vprintf(fmt, ap);
	va_end(ap);
	path_text(p, &where);
	if (where.len)
		err_set(err, -ERR_INVALID, "%.*s: %s", (int)where.len, (const char *)where.data,
			why);
	else
		err_set(err, -ERR_INVALID, "%s", why);
	if (err)
		err->hresult = HR_INVALID_JSON;
	return -ERR_INVALID;
}

static int wrong_type(struct err *err, const struct path *p, struct json_object *v,
		      const char *wanted)
{
	return bad(err, p, "%s instead of %s", json_type_to_name(json_object_get_type(v)), wanted);
}

static int decode_unsigned(struct json_object *v, uint64_t max, uint64_t *ret, const struct path *p,
			   struct err *err)
{
	uint64_t n;

	if (!json_object_is_type(v, json_type_int))
		return wrong_type(err, p, v, "an integer");
	n = json_object_get_uint64(v);
	/* json-c turns a negative number into 0 */
	if (n > max || json_object_get_int64(v) < 0)
		return bad(err, p, "%s is out of range (0 to %ju)", json_object_get_string(v),
			   (uintmax_t)max);
	*ret = n;
	return 0;
}

static int decode_signed(struct json_object *v, int64_t min, int64_t max, int64_t *ret,
			 const struct path *p, struct err *err)
{
	int64_t n;

	if (!json_object_is_type(v, json_type_int))
		return wrong_type(err, p, v, "an integer");
	n = json_object_get_int64(v);
	/* json-c saturates: what does not fit is seen only as unsigned */
	if (n < min || n > max || (n > 0 && json_object_get_uint64(v) != (uint64_t)n))
		return bad(err, p, "%s is out of range (%jd to %jd)", json_object_get_string(v),
			   (intmax_t)min, (intmax_t)max);
	*ret = n;
	return 0;
}

static int decode_number(struct json_object *v, enum json_form type, void *out,
			 const struct path *p, struct err *err)
{
	uint64_t u = 0;
	int64_t i = 0;
	int r;

	switch (type) {
	case JSON_U8:
		r = decode_unsigned(v, UINT8_MAX, &u, p, err);
		*(uint8_t *)out = (uint8_t)u;
		return r;
	case JSON_U16:
		r = decode_unsigned(v, UINT16_MAX, &u, p, err);
		*(uint16_t *)out = (uint16_t)u;
		return r;
	case JSON_U32:
		r = decode_unsigned(v, UINT32_MAX, &u, p, err);
		*(uint32_t *)out = (uint32_t)u;
		return r;
	case JSON_U64:
		r = decode_unsigned(v, UINT64_MAX, &u, p, err);
		*(uint64_t *)out = u;
		return r;
	case JSON_I32:
		r = decode_signed(v, INT32_MIN, INT32_MAX, &i, p, err);
		*(int32_t *)out = (int32_t)i;
		return r;
	default:
		r = decode_signed(v, INT64_MIN, INT64_MAX, &i, p, err);
		*(int64_t *)out = i;
		return r;
	}
}

/* null is an empty string among others, as in Go */
static int decode_string(struct json_object *v, char **ret, const struct path *p, struct err *err)
{
	const char *s = "";

	if (v) {
		if (!json_object_is_type(v, json_type_string))
			return wrong_type(err, p, v, "a string");
		s = json_object_get_string(v);
		if (strlen(s) != (size_t)json_object_get_string_len(v))
			return bad(err, p, "a string holds a NUL");
	}
	*ret = mem_strdup(s);
	return 0;
}

/* Length of an array that a peer sized; also holds for values that did not come through
 * json_parse() */
static int array_len(struct json_object *v, size_t *ret, const struct path *p, struct err *err)
{
	if (!json_object_is_type(v, json_type_array))
		return wrong_type(err, p, v, "an array");
	if (json_object_array_length(v) > JSON_ITEMS_MAX)
		return bad(err, p, "more than %d items", JSON_ITEMS_MAX);
	*ret = json_object_array_length(v);
	return 0;
}

static int decode_strings(struct json_object *v, char ***out, const struct path *p, struct err *err)
{
	size_t n;
	int r;

	r = array_len(v, &n, p, err);
	if (r < 0 || !n)
		return r;
	*out = mem_new0(n + 1, sizeof(char *));
	for (size_t i = 0; i < n && r >= 0; i++) {
		const struct path item = { .up = p, .index = i };

		r = decode_string(json_object_array_get_idx(v, i), &(*out)[i], &item, err);
	}
	return r;
}

static int decode_map(struct json_object *v, char ***out, const struct path *p, struct err *err)
{
	size_t i = 0;

	if (!json_object_is_type(v, json_type_object))
		return wrong_type(err, p, v, "an object");
	if (!json_object_object_length(v))
		return 0;
	if (json_object_object_length(v) > JSON_ITEMS_MAX)
		return bad(err, p, "more than %d members", JSON_ITEMS_MAX);
	*out = mem_new0((size_t)json_object_object_length(v) + 1, sizeof(char *));
	json_object_object_foreach(v, key, value)
	{
		_cleanup_free_ char *s = NULL;
		int r;

		if (strchr(key, '='))
			return bad(err, p, "a member's name holds '='");
		r = decode_string(value, &s, p, err);
		if (r < 0)
			return r;
		(*out)[i++] = str_printf("%s=%s", key, s);
	}
	return 0;
}

static int decode_array(struct json_object *v, const struct json_field *f, char *base,
			const struct path *p, struct err *err)
{
	size_t size = f->type == JSON_U32S ? sizeof(uint32_t) : f->sub->size;
	size_t n, *count = (size_t *)(void *)(base + f->count);
	char *items;
	int r;

	r = array_len(v, &n, p, err);
	if (r < 0 || !n)
		return r;
	items = mem_new0(n, size);
	*(char **)(void *)(base + f->offset) = items;
	/* zeroed items are as good as decoded ones for json_free() */
	*count = n;
	for (size_t i = 0; i < n && r >= 0; i++) {
		const struct path item = { .up = p, .index = i };
		struct json_object *o = json_object_array_get_idx(v, i);

		if (f->type == JSON_U32S)
			r = decode_number(o, JSON_U32, items + i * size, &item, err);
		else
			r = decode_object(o, f->sub, items + i * size, &item, err);
	}
	return r;
}

static int decode_pointer(struct json_object *v, const struct json_table *sub, void **out,
			  const struct path *p, struct err *err)
{
	*out = mem_new0(1, sub->size);
	return decode_object(v, sub, *out, p, err);
}

/* A document within a string. Return: 0, also for "" and "null", which leave NULL */
static int decode_text(struct json_object *v, const struct json_table *sub, void **out,
		       const struct path *p, struct err *err)
{
	_cleanup_json_ struct json_object *inner = NULL;
	struct err why = { 0 };

	if (!json_object_is_type(v, json_type_string))
		return wrong_type(err, p, v, "a string of JSON");
	if (!json_object_get_string_len(v))
		return 0;
	if (json_parse(json_object_get_string(v), (size_t)json_object_get_string_len(v), &inner,
		       &why) < 0)
		return bad(err, p, "%s", why.text);
	return inner ? decode_pointer(inner, sub, out, p, err) : 0;
}

static int decode_field(struct json_object *v, const struct json_field *f, char *base,
			const struct path *p, struct err *err)
{
	void *out = base + f->offset;

	switch (f->type) {
	case JSON_BOOL:
		if (!json_object_is_type(v, json_type_boolean))
			return wrong_type(err, p, v, "true or false");
		*(bool *)out = json_object_get_boolean(v);
		return 0;
	case JSON_STRING:
		return decode_string(v, out, p, err);
	case JSON_STRINGS:
		return decode_strings(v, out, p, err);
	case JSON_MAP:
		return decode_map(v, out, p, err);
	case JSON_OBJECT:
		return decode_object(v, f->sub, out, p, err);
	case JSON_POINTER:
		return decode_pointer(v, f->sub, out, p, err);
	case JSON_ARRAY:
	case JSON_U32S:
		return decode_array(v, f, base, p, err);
	case JSON_RAW:
		*(struct json_object **)out = json_object_get(v);
		return 0;
	case JSON_TEXT:
		return decode_text(v, f->sub, out, p, err);
	default:
		return decode_number(v, f->type, out, p, err);
	}
}

static int decode_object(struct json_object *o, const struct json_table *t, char *out,
			 const struct path *up, struct err *err)
{
	if (!json_object_is_type(o, json_type_object))
		return wrong_type(err, up, o, "an object");
	for (size_t i = 0; i < t->n_fields; i++) {
		const struct json_field *f = &t->fields[i];
		const struct path p = { .up = up, .name = f->name };
		struct json_object *v = NULL;
		int r = 0;

		json_object_object_get_ex(o, f->name, &v);
		if (v)
			r = decode_field(v, f, out, &p, err);
		if (r < 0)
			return r;
		if (!(f->flags & JSON_REQUIRED))
			continue;
		if (!v || (f->type == JSON_TEXT && !*(void **)(void *)(out + f->offset)))
			return bad(err, &p, "is missing");
	}
	return 0;
}

int json_decode_object(struct json_object *o, const struct json_table *table, void *out,
		       struct err *err)
{
	int r = decode_object(o, table, out, NULL, err);

	if (r < 0)
		json_free(table, out);
	return r;
}

int json_decode(const char *text, size_t len, const struct json_table *table, void *out,
		struct err *err)
{
	_cleanup_json_ struct json_object *o = NULL;
	int r;

	r = json_parse(text, len, &o, err);
	if (r < 0)
		return r;
	return json_decode_object(o, table, out, err);
}

static void free_field(const struct json_field *f, char *base)
{
	void **p = (void **)(void *)(base + f->offset);

	switch (f->type) {
	case JSON_STRING:
	case JSON_U32S:
		free(*p);
		break;
	case JSON_STRINGS:
	case JSON_MAP:
		strv_free((char **)*p);
		break;
	case JSON_OBJECT:
		json_free(f->sub, p);
		break;
	case JSON_POINTER:
	case JSON_TEXT:
		json_free(f->sub, *p);
		free(*p);
		break;
	case JSON_ARRAY:
		for (size_t i = 0; *p && i < *(size_t *)(void *)(base + f->count); i++)
			json_free(f->sub, (char *)*p + i * f->sub->size);
		free(*p);
		break;
	case JSON_RAW:
		json_put(*p);
		break;
	default:
		break;
	}
}

void json_free(const struct json_table *table, void *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < table->n_fields; i++)
		free_field(&table->fields[i], p);
	memset(p, 0, table->size);
}
