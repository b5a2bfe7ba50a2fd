/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/json_parse.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "wire/json.h"

/*
 * A text is checked against RFC 8259 and our limits before json-c sees it: json-c takes NaN,
 * comments and single quotes, cuts keys at a NUL, and says little about where it failed. It is not
 * asked to be strict as well: what that means differs between its versions, and that of 0.18
 * refuses every string with a byte from 0x80 on.
 */

/**
 * struct scan - a text under the check
 * @why:	reason of the failure, NULL while there is none
 */
struct scan {
	const unsigned char *text;
	size_t len;
	size_t at;
	size_t values;
	const char *why;
};

size_t json_utf8_len(const unsigned char *s, size_t len)
{
	unsigned c = len ? s[0] : 0;
	size_t n = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;

	if (!len || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	/* overlong forms, surrogates, beyond U+10FFFF */
	if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) ||
	    (c == 0xF0 && s[1] < 0x90) || (c == 0xF4 && s[1] > 0x8F))
		return 0;
	return n;
}

static bool fail(struct scan *s, const char *why)
{
	s->why = why;
	return false;
}

/* the next byte, or -1 at the end */
static int peek(const struct scan *s)
{
	return s->at < s->len ? s->text[s->at] : -1;
}

static void skip_blanks(struct scan *s)
{
	for (int c = peek(s); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(s))
		s->at++;
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool skip_digits(struct scan *s)
{
	if (!is_digit(peek(s)))
		return fail(s, "a digit is missing");
	while (is_digit(peek(s)))
		s->at++;
	return true;
}

/* Whether the digits from @at to here fit into 64 bits: json-c would saturate */
static bool integer_fits(const struct scan *s, size_t at, bool negative)
{
	uint64_t max = negative ? (uint64_t)INT64_MAX + 1 : UINT64_MAX;
	uint64_t n = 0;

	for (; at < s->at; at++) {
		uint64_t digit = (uint64_t)(s->text[at] - '0');

		if (n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	return true;
}

static bool scan_number(struct scan *s)
{
	bool negative = peek(s) == '-';
	bool fraction;
	size_t digits;

	if (negative)
		s->at++;
	digits = s->at;
	if (peek(s) == '0') {
		s->at++;
		if (is_digit(peek(s)))
			return fail(s, "a number begins with 0");
	} else if (!skip_digits(s)) {
		return false;
	}
	fraction = peek(s) == '.';
	if (fraction) {
		s->at++;
		if (!skip_digits(s))
			return false;
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		s->at++;
		if (peek(s) == '+' || peek(s) == '-')
			s->at++;
		return skip_digits(s);
	}
	if (!fraction && !integer_fits(s, digits, negative))
		return fail(s, "an integer needs more than 64 bits");
	return true;
}

static bool scan_escape(struct scan *s)
{
	int c = peek(s);
	unsigned value = 0;

	if (c < 0 || !strchr("\"\\/bfnrtu", c) || !c)
		return fail(s, "unknown escape");
	s->at++;
	if (c != 'u')
		return true;
	for (int i = 0; i < 4; i++, s->at++) {
		c = peek(s);
		if (is_digit(c))
			value = value << 4 | (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f' && c > 0)
			value = value << 4 | (unsigned)((c | 0x20) - 'a' + 10);
		else
			return fail(s, "\\u wants four hexadecimal digits");
	}
	/* a C string would silently end there */
	return value ? true : fail(s, "a string holds a NUL");
}

static bool scan_string(struct scan *s)
{
	for (s->at++; s->at < s->len;) {
		unsigned c = s->text[s->at];
		size_t n = 1;

		if (c == '"') {
			s->at++;
			return true;
		}
		if (c < 0x20)
			return fail(s, "a control character in a string");
		if (c == '\\') {
			s->at++;
			if (!scan_escape(s))
				return false;
			continue;
		}
		if (c >= 0x80)
			n = json_utf8_len(s->text + s->at, s->len - s->at);
		if (!n)
			return fail(s, "a string is not UTF-8");
		s->at += n;
	}
	return fail(s, "the text ends in a string");
}

static bool scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if (s->len - s->at < n || memcmp(s->text + s->at, word, n) != 0)
		return fail(s, "unexpected character");
	s->at += n;
	return true;
}

static bool scan_scalar(struct scan *s)
{
	switch (peek(s)) {
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	case '-':
	case '0' ... '9':
		return scan_number(s);
	case -1:
		return fail(s, "the text ends too early");
	default:
		return fail(s, "unexpected character");
	}
}

static bool scan_key(struct scan *s)
{
	skip_blanks(s);
	if (peek(s) != '"')
		return fail(s, "a member's name is missing");
	if (!scan_string(s))
		return false;
	skip_blanks(s);
	if (peek(s) != ':')
		return fail(s, "':' is missing");
	s->at++;
	return true;
}

/* Opens a container, if there is one: @close is what ends it. Return: whether it has members */
static bool open_container(struct scan *s, char *close)
{
	*close = (char)(peek(s) == '{' ? '}' : ']');
	s->at++;
	skip_blanks(s);
	if (peek(s) != *close)
		return true;
	s->at++;
	return false;
}

/* One value with all that it holds. Not recursive: what was opened is on a small stack */
static bool scan_value(struct scan *s)
{
	char open[JSON_DEPTH_MAX];
	size_t depth = 0;

	for (;;) {
		skip_blanks(s);
		if (++s->values > JSON_ITEMS_MAX)
			return fail(s, "too many values");
		if (peek(s) == '{' || peek(s) == '[') {
			if (depth == JSON_DEPTH_MAX)
				return fail(s, "nested too deep");
			if (open_container(s, &open[depth])) {
				if (open[depth++] == '}' && !scan_key(s))
					return false;
				continue;
			}
		} else if (!scan_scalar(s)) {
			return false;
		}
		/* after a value: close what ends here, then go on behind a comma */
		for (;;) {
			if (!depth)
				return true;
			skip_blanks(s);
			if (peek(s) != open[depth - 1])
				break;
			s->at++;
			depth--;
		}
		if (peek(s) != ',')
			return fail(s, peek(s) < 0 ? "the text ends too early"
						   : "',' or a closing bracket is missing");
		s->at++;
		if (open[depth - 1] == '}' && !scan_key(s))
			return false;
	}
}

static int invalid(struct err *err, size_t at, const char *why)
{
	int r = err_set(err, -ERR_INVALID, "JSON, byte %zu: %s", at, why);

	if (err)
		err->hresult = HR_INVALID_JSON;
	return r;
}

int json_parse(const char *text, size_t len, struct json_object **ret, struct err *err)
{
	struct scan s = { .text = (const unsigned char *)text, .len = len };
	struct json_object *o;
	struct json_tokener *tok;
	enum json_tokener_error e;
	size_t start;

	if (len > JSON_TEXT_MAX)
		return invalid(err, JSON_TEXT_MAX, "the text is too long");
	skip_blanks(&s);
	start = s.at;
	if (!scan_value(&s))
		return invalid(err, s.at, s.why);
	len = s.at;
	skip_blanks(&s);
	if (s.at != s.len)
		return invalid(err, s.at, "more after the value");

	/* one level more than ours: json-c counts the scalars too */
	tok = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
	if (!tok)
		return err_sys(err, -ENOMEM, "parse JSON");
	o = json_tokener_parse_ex(tok, text + start, (int)(len - start));
	e = json_tokener_get_error(tok);
	if (e == json_tokener_continue) { /* a bare number has no end of its own */
		o = json_tokener_parse_ex(tok, "", 1);
		e = json_tokener_get_error(tok);
	}
	if (e != json_tokener_success) {
		invalid(err, start + json_tokener_get_parse_end(tok), json_tokener_error_desc(e));
		json_tokener_free(tok);
		return -ERR_INVALID;
	}
	json_tokener_free(tok);
	*ret = o;
	return 0;
}

void json_put(struct json_object *o)
{
	json_object_put(o);
}

struct json_object *json_get(struct json_object *o, ...)
{
	const char *name;
	va_list ap;

	va_start(ap, o);
	while (o && (name = va_arg(ap, const char *))) {
		struct json_object *member = NULL;

		if (json_object_is_type(o, json_type_object))
			json_object_object_get_ex(o, name, &member);
		o = member;
	}
	va_end(ap);
	return o;
}

const char *json_get_str(struct json_object *o, const char *name)
{
	struct json_object *v = json_get(o, name, NULL);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

bool json_get_bool(struct json_object *o, const char *name, bool fallback)
{
	struct json_object *v = json_get(o, name, NULL);

	return json_object_is_type(v, json_type_boolean) ? json_object_get_boolean(v) : fallback;
}
