/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"

#define SCRUBBED "<scrubbed>"

/* JSON in a string in JSON in a string …: hcsshim sends two levels; each costs recursion here */
enum { NESTING_MAX = 4 };

/** text_parse() - the one JSON value that the text consists of; NULL when it is none */
static struct json_object *text_parse(const char *text)
{
	size_t len = strlen(text), end;
	struct json_tokener *tok;
	struct json_object *o;

	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	if (!len || len > INT32_MAX - 1)
		return NULL;
	tok = json_tokener_new();
	if (!tok)
		abort();
	/* The byte beyond the end (a space or the NUL) ends a number. */
	o = json_tokener_parse_ex(tok, text, (int)len + 1);
	end = json_tokener_get_parse_end(tok);
	if (json_tokener_get_error(tok) != json_tokener_success || end < len) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(tok);
	return o;
}

static struct json_object *scrubbed_array(void)
{
	struct json_object *a = json_object_new_array();

	json_object_array_add(a, json_object_new_string(SCRUBBED));
	return a;
}

static struct json_object *scrubbed_object(void)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, SCRUBBED, json_object_new_string(SCRUBBED));
	return o;
}

static struct json_object *scrub(const struct json_object *o, int nesting);

static struct json_object *scrub_string(const struct json_object *o, int nesting)
{
	const char *s = json_object_get_string((struct json_object *)(uintptr_t)o);
	size_t skip = strspn(s, " \t\r\n");
	struct json_object *inner, *clean, *ret;

	if (s[skip] != '{' && s[skip] != '[')
		return json_object_new_string(s);
	if (nesting >= NESTING_MAX)
		return json_object_new_string(SCRUBBED);
	inner = text_parse(s);
	if (!inner)
		return json_object_new_string(s);
	clean = scrub(inner, nesting + 1);
	ret = json_object_new_string(
		json_object_to_json_string_ext(clean, JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(clean);
	json_object_put(inner);
	return ret;
}

static struct json_object *scrub_member(const char *key, const struct json_object *value,
					int nesting)
{
	if (strcasecmp(key, "env") == 0 || strcasecmp(key, "Environment") == 0)
		return json_object_is_type(value, json_type_object) ? scrubbed_object()
								    : scrubbed_array();
	if (strcasecmp(key, "annotations") == 0)
		return scrubbed_object();
	return scrub(value, nesting);
}

/** scrub() - a copy without secrets */
static struct json_object *scrub(const struct json_object *o, int nesting)
{
	struct json_object *copy;

	switch (json_object_get_type(o)) {
	case json_type_object:
		copy = json_object_new_object();
		json_object_object_foreach(o, key, value)
			json_object_object_add(copy, key, scrub_member(key, value, nesting));
		return copy;
	case json_type_array:
		copy = json_object_new_array();
		for (size_t i = 0; i < json_object_array_length(o); i++)
			json_object_array_add(copy,
					      scrub(json_object_array_get_idx(o, i), nesting));
		return copy;
	case json_type_string:
		return scrub_string(o, nesting);
	default:
		return json_object_get((struct json_object *)(uintptr_t)o);
	}
}

char *log_scrub_json(const char *json)
{
	struct json_object *o = json ? text_parse(json) : NULL;
	struct json_object *clean;
	char *ret;

	if (!o)
		return mem_strdup(SCRUBBED);
	clean = scrub(o, 0);
	ret = mem_strdup(json_object_to_json_string_ext(clean, JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(clean);
	json_object_put(o);
	return ret;
}
