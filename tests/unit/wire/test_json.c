/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/json.h"

#include <check.h>
#include <json-c/json.h>
#include <stdio.h>

#include "base/err.h"
#include "base/str.h"

struct inner {
	uint32_t number;
	char *name;
};

struct all {
	bool flag;
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	int32_t i32;
	int64_t i64;
	char *string;
	char **strings;
	struct inner object;
	struct inner *pointer;
	struct inner *array;
	size_t n_array;
	uint32_t *numbers;
	size_t n_numbers;
	char **map;
	struct json_object *raw;
	struct inner *text;
};

static const struct json_field inner_fields[] = {
	{ .name = "Number",
	  .type = JSON_U32,
	  .offset = offsetof(struct inner, number),
	  .flags = JSON_REQUIRED },
	{ .name = "Name",
	  .type = JSON_STRING,
	  .offset = offsetof(struct inner, name),
	  .flags = JSON_OMITEMPTY },
};
static const struct json_table inner_table = { "inner", sizeof(struct inner), inner_fields,
					       ARRAY_SIZE(inner_fields) };

#define ROW(key, form, member, ...) \
	{ \
		.name = key, .type = form, .offset = offsetof(struct all, member), __VA_ARGS__ \
	}
#define ROWS(f) \
	ROW("Flag", JSON_BOOL, flag, .flags = f), ROW("U8", JSON_U8, u8, .flags = f), \
		ROW("U16", JSON_U16, u16, .flags = f), ROW("U32", JSON_U32, u32, .flags = f), \
		ROW("U64", JSON_U64, u64, .flags = f), ROW("I32", JSON_I32, i32, .flags = f), \
		ROW("I64", JSON_I64, i64, .flags = f), \
		ROW("String", JSON_STRING, string, .flags = f), \
		ROW("Strings", JSON_STRINGS, strings, .flags = f), \
		ROW("Pointer", JSON_POINTER, pointer, .flags = f, .sub = &inner_table), \
		ROW("Array", JSON_ARRAY, array, .flags = f, .sub = &inner_table, \
		    .count = offsetof(struct all, n_array)), \
		ROW("Numbers", JSON_U32S, numbers, .flags = f, \
		    .count = offsetof(struct all, n_numbers)), \
		ROW("Map", JSON_MAP, map, .flags = f), ROW("Raw", JSON_RAW, raw, .flags = f), \
		ROW("Text", JSON_TEXT, text, .flags = f, .sub = &inner_table)

static const struct json_field all_fields[] = { ROWS(JSON_OMITEMPTY) };
static const struct json_table all_table = { "all", sizeof(struct all), all_fields,
					     ARRAY_SIZE(all_fields) };
static const struct json_field full_fields[] = { ROWS(0) };
static const struct json_table full_table = { "full", sizeof(struct all), full_fields,
					      ARRAY_SIZE(full_fields) };
static const struct json_field required_fields[] = {
	ROW("Flag", JSON_BOOL, flag, .flags = JSON_REQUIRED),
	ROW("Object", JSON_OBJECT, object, .flags = JSON_OMITEMPTY, .sub = &inner_table),
	ROW("Text", JSON_TEXT, text, .flags = JSON_REQUIRED, .sub = &inner_table),
};
static const struct json_table required_table = { "required", sizeof(struct all), required_fields,
						  ARRAY_SIZE(required_fields) };

static int decode(const char *text, struct all *out, struct err *err)
{
	memset(out, 0, sizeof(*out));
	return json_decode(text, strlen(text), &all_table, out, err);
}

static void assert_refused(const struct json_table *t, const char *text, const char *why)
{
	struct all out = { 0 }, zero = { 0 };
	struct err err = { 0 };
	int r = json_decode(text, strlen(text), t, &out, &err);

	ck_assert_msg(r == -ERR_INVALID, "%s: %d", text, r);
	ck_assert_str_eq(err.text, why);
	ck_assert_uint_eq(err.hresult, HR_INVALID_JSON);
	ck_assert_int_eq(err.code, -ERR_INVALID);
	ck_assert_mem_eq(&out, &zero, sizeof(out));
}

static void assert_syntax(const char *text, size_t len, const char *why)
{
	struct json_object *o = NULL;
	struct err err = { 0 };

	ck_assert_msg(json_parse(text, len, &o, &err) == -ERR_INVALID, "%.40s", text);
	ck_assert_ptr_null(o);
	ck_assert_msg(strstr(err.text, why), "'%s' instead of '%s'", err.text, why);
}

static const char *const everything =
	"{\"Flag\":true,\"U8\":255,\"U16\":65535,\"U32\":4294967295,\"U64\":18446744073709551615,"
	"\"I32\":-2147483648,"
	"\"I64\":-9223372036854775808,\"String\":\"a\\\"\\\\\\n\\u0001/"
	"é\",\"Strings\":[\"x\",\"\"],"
	"\"Pointer\":{\"Number\":7,\"Name\":\"p\"},\"Array\":[{\"Number\":1},{\"Number\":2,"
	"\"Name\":\"two\"}],"
	"\"Numbers\":[0,4294967295],\"Map\":{\"A\":\"1\",\"B\":\"x=y\"},\"Raw\":[1,2.50,null,{"
	"\"a\":\"/\"}],"
	"\"Text\":\"{\\\"Number\\\":3,\\\"Name\\\":\\\"in \\\\\\\"it\\\"}\"}";

START_TEST(every_form_survives_a_round_trip)
{
	struct all v;
	char *text;

	ck_assert_int_eq(decode(everything, &v, NULL), 0);
	ck_assert_uint_eq(v.u64, UINT64_MAX);
	ck_assert_int_eq(v.i64, INT64_MIN);
	ck_assert_str_eq(v.string, "a\"\\\n\001/é");
	ck_assert_uint_eq(v.n_array, 2);
	ck_assert_str_eq(v.array[1].name, "two");
	ck_assert_str_eq(v.map[1], "B=x=y");
	ck_assert_str_eq(v.text->name, "in \"it");
	text = json_encode(&all_table, &v);
	ck_assert_str_eq(text, everything);
	free(text);
	json_free(&all_table, &v);
	ck_assert_ptr_null(v.string);
}
END_TEST

START_TEST(omitempty_leaves_out_what_is_empty_and_the_rest_is_written)
{
	struct all v = { 0 };
	char *text = json_encode(&all_table, &v);

	ck_assert_str_eq(text, "{}");
	free(text);
	text = json_encode(&full_table, &v);
	ck_assert_str_eq(text, "{\"Flag\":false,\"U8\":0,\"U16\":0,\"U32\":0,\"U64\":0,\"I32\":0,"
			       "\"I64\":0,\"String\":\"\","
			       "\"Strings\":[],\"Pointer\":null,\"Array\":[],\"Numbers\":[],"
			       "\"Map\":{},\"Raw\":null,"
			       "\"Text\":\"\"}");
	free(text);
	text = json_encode(&required_table, &v);
	ck_assert_str_eq(text, "{\"Flag\":false,\"Object\":{\"Number\":0},\"Text\":\"\"}");
	free(text);
}
END_TEST

START_TEST(null_and_unknown_members_are_as_good_as_absent)
{
	struct all v;

	ck_assert_int_eq(decode("{\"U8\":null,\"String\":null,\"Array\":null,\"Text\":null,\"Raw\":"
				"null,\"What\":[{}]}",
				&v, NULL),
			 0);
	ck_assert_ptr_null(v.string);
	ck_assert_ptr_null(v.raw);
	ck_assert_int_eq(decode("{\"Text\":\"\",\"Pointer\":null}", &v, NULL), 0);
	ck_assert_ptr_null(v.text);
	ck_assert_int_eq(decode("{\"Text\":\"null\"}", &v, NULL), 0);
	ck_assert_ptr_null(v.text);
}
END_TEST

START_TEST(of_duplicate_members_the_last_one_counts)
{
	struct all v;

	ck_assert_int_eq(decode("{\"U8\":1,\"String\":\"a\",\"U8\":2,\"String\":\"b\"}", &v, NULL),
			 0);
	ck_assert_uint_eq(v.u8, 2);
	ck_assert_str_eq(v.string, "b");
	json_free(&all_table, &v);
}
END_TEST

START_TEST(an_error_names_the_field_by_its_path)
{
	assert_refused(&all_table, "{\"U8\":300}", "U8: 300 is out of range (0 to 255)");
	assert_refused(&all_table, "{\"U8\":-1}", "U8: -1 is out of range (0 to 255)");
	assert_refused(&all_table, "{\"U16\":65536}", "U16: 65536 is out of range (0 to 65535)");
	assert_refused(&all_table, "{\"U32\":4294967296}",
		       "U32: 4294967296 is out of range (0 to 4294967295)");
	assert_refused(&all_table, "{\"U64\":-1}",
		       "U64: -1 is out of range (0 to 18446744073709551615)");
	assert_refused(&all_table, "{\"I32\":2147483648}",
		       "I32: 2147483648 is out of range (-2147483648 to 2147483647)");
	assert_refused(&all_table, "{\"I64\":9223372036854775808}",
		       "I64: 9223372036854775808 is out of range (-9223372036854775808 to "
		       "9223372036854775807)");
	assert_refused(&all_table, "{\"U8\":1.0}", "U8: double instead of an integer");
	assert_refused(&all_table, "{\"U8\":\"1\"}", "U8: string instead of an integer");
	assert_refused(&all_table, "{\"Flag\":1}", "Flag: int instead of true or false");
	assert_refused(&all_table, "{\"String\":{}}", "String: object instead of a string");
	assert_refused(&all_table, "{\"Strings\":[\"a\",1]}",
		       "Strings[1]: int instead of a string");
	assert_refused(&all_table, "{\"Strings\":\"a\"}", "Strings: string instead of an array");
	assert_refused(&all_table, "{\"Array\":[{\"Number\":1},{\"Number\":true}]}",
		       "Array[1].Number: boolean instead of an integer");
	assert_refused(&all_table, "{\"Array\":[{\"Number\":1,\"Name\":\"a\"},7]}",
		       "Array[1]: int instead of an object");
	assert_refused(&all_table, "{\"Array\":[null]}", "Array[0]: null instead of an object");
	assert_refused(&all_table, "{\"Numbers\":[1,-1]}",
		       "Numbers[1]: -1 is out of range (0 to 4294967295)");
	assert_refused(&all_table, "{\"Pointer\":{}}", "Pointer.Number: is missing");
	assert_refused(&all_table, "{\"Map\":{\"A\":1}}", "Map: int instead of a string");
	assert_refused(&all_table, "{\"Map\":{\"A=B\":\"1\"}}", "Map: a member's name holds '='");
	assert_refused(&all_table, "{\"Text\":\"{\\\"Number\\\":\\\"x\\\"}\"}",
		       "Text.Number: string instead of an integer");
	assert_refused(&all_table, "{\"Text\":\"{\"}",
		       "Text: JSON, byte 1: a member's name is missing");
	assert_refused(&all_table, "{\"Text\":{\"Number\":1}}",
		       "Text: object instead of a string of JSON");
	assert_refused(&all_table, "[]", "array instead of an object");
	assert_refused(&all_table, "null", "null instead of an object");
	assert_refused(&required_table, "{}", "Flag: is missing");
	assert_refused(&required_table, "{\"Flag\":false,\"Text\":\"\"}", "Text: is missing");
	assert_refused(&required_table, "{\"Flag\":false,\"Text\":\"null\"}", "Text: is missing");
	assert_refused(&required_table, "{\"Flag\":null}", "Flag: is missing");
}
END_TEST

START_TEST(an_error_needs_no_place_for_its_text)
{
	struct all v;

	ck_assert_int_eq(decode("{\"U8\":300}", &v, NULL), -ERR_INVALID);
	ck_assert_int_eq(decode("{", &v, NULL), -ERR_INVALID);
}
END_TEST

START_TEST(what_is_not_json_is_refused_with_its_place)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", "byte 0: the text ends too early" },
		{ " \n", "byte 2: the text ends too early" },
		{ "{\"a\":1", "byte 6: the text ends too early" },
		{ "{\"a\" 1}", "byte 5: ':' is missing" },
		{ "{\"a\":1,}", "byte 7: a member's name is missing" },
		{ "{a:1}", "byte 1: a member's name is missing" },
		{ "[1,]", "byte 3: unexpected character" },
		{ "[1 2]", "byte 3: ',' or a closing bracket is missing" },
		{ "[1}", "byte 2: ',' or a closing bracket is missing" },
		{ "{} x", "byte 3: more after the value" },
		{ "{}{}", "byte 2: more after the value" },
		{ "'a'", "byte 0: unexpected character" },
		{ "NaN", "byte 0: unexpected character" },
		{ "Infinity", "byte 0: unexpected character" },
		{ "-Infinity", "a digit is missing" },
		{ "nul", "unexpected character" },
		{ "True", "unexpected character" },
		{ "01", "a number begins with 0" },
		{ "1.", "a digit is missing" },
		{ "1e", "a digit is missing" },
		{ ".5", "unexpected character" },
		{ "+1", "unexpected character" },
		{ "18446744073709551616", "an integer needs more than 64 bits" },
		{ "-9223372036854775809", "an integer needs more than 64 bits" },
		{ "/* */ 1", "unexpected character" },
		{ "\"a", "the text ends in a string" },
		{ "\"\\x\"", "unknown escape" },
		{ "\"\\u12g4\"", "\\u wants four hexadecimal digits" },
		{ "\"\\u12", "\\u wants four hexadecimal digits" },
		{ "\"\t\"", "a control character in a string" },
		{ "\"\\u0000\"", "a string holds a NUL" },
		{ "{\"a\\u0000b\":1}", "a string holds a NUL" },
		{ "\"\xff\"", "a string is not UTF-8" },
		{ "\"\xc0\xaf\"", "a string is not UTF-8" },
		{ "\"\xed\xa0\x80\"", "a string is not UTF-8" },
		{ "\"\xf4\x90\x80\x80\"", "a string is not UTF-8" },
		{ "\"\xe2\x82", "a string is not UTF-8" },
		{ "{\"\x80\":1}", "a string is not UTF-8" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_syntax(bad[i].text, strlen(bad[i].text), bad[i].why);
	assert_syntax("\"a\0b\"", 5, "a control character in a string");
	assert_syntax("1\0", 2, "more after the value");
}
END_TEST

START_TEST(every_json_value_is_read)
{
	static const char *const good[] = { "0",
					    "-0",
					    "-1",
					    "1.5e+3",
					    "1E-7",
					    "true",
					    "false",
					    "null",
					    "\"\"",
					    "[]",
					    "{}",
					    "[[],{}]",
					    "\"\\ud83d\\ude00\"",
					    "18446744073709551615",
					    "-9223372036854775808",
					    "{\"a\":{\"b\":[1,\"x\"]}}" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct json_object *o = NULL;
		struct err err = { 0 };
		char *padded = str_printf(" \t\r\n%s\n", good[i]);

		ck_assert_msg(json_parse(good[i], strlen(good[i]), &o, &err) == 0, "%s: %s",
			      good[i], err.text);
		json_put(o);
		ck_assert_msg(json_parse(padded, strlen(padded), &o, &err) == 0, "%s: %s", padded,
			      err.text);
		json_put(o);
		free(padded);
	}
}
END_TEST

/* What json-c 0.16 and 0.18 see differently, or did: the same is read with both. */

/* Appends a code point as UTF-8 */
static void add_code_point(struct buf *b, uint32_t c)
{
	if (c < 0x80)
		buf_addf(b, "%c", c);
	else if (c < 0x800)
		buf_addf(b, "%c%c", 0xC0 | c >> 6, 0x80 | (c & 0x3F));
	else if (c < 0x10000)
		buf_addf(b, "%c%c%c", 0xE0 | c >> 12, 0x80 | (c >> 6 & 0x3F), 0x80 | (c & 0x3F));
	else
		buf_addf(b, "%c%c%c%c", 0xF0 | c >> 18, 0x80 | (c >> 12 & 0x3F),
			 0x80 | (c >> 6 & 0x3F), 0x80 | (c & 0x3F));
}

START_TEST(all_of_utf8_is_read_in_names_and_values_and_written_as_it_was)
{
	enum { EACH = 0x400 };

	for (uint32_t first = 0; first < 0x110000; first += EACH) {
		_cleanup_json_ struct json_object *o = NULL;
		_cleanup_buf_ struct buf string = { 0 };
		_cleanup_free_ char *text = NULL, *again = NULL;
		struct err err = { 0 };

		if (first >= 0xD800 && first < 0xE000) /* surrogates are no characters */
			continue;
		/* without those that are written as escapes */
		for (uint32_t c = first ? first : ' '; c < first + EACH; c++)
			if (c != '"' && c != '\\')
				add_code_point(&string, c);
		buf_add(&string, "", 1);
		text = str_printf("{\"%s\":\"%s\"}", (char *)string.data, (char *)string.data);
		ck_assert_msg(json_parse(text, strlen(text), &o, &err) == 0, "U+%04X: %s", first,
			      err.text);
		ck_assert_str_eq(json_get_str(o, (char *)string.data), (char *)string.data);
		again = json_text(o);
		ck_assert_str_eq(again, text);
	}
}
END_TEST

START_TEST(no_other_sequence_of_two_or_three_bytes_is_a_character)
{
	for (unsigned n = 0x8000; n < 0x10000; n++) {
		unsigned char text[] = { '"', n >> 8, n & 0xFF, '"' };
		struct json_object *o = NULL;
		bool good = text[1] >= 0xC2 && text[1] <= 0xDF && (text[2] & 0xC0) == 0x80;

		ck_assert_msg((json_parse((char *)text, 4, &o, NULL) == 0) == good, "%04x", n);
		json_put(o);
	}
	for (unsigned n = 0xE08080; n < 0x1000000; n += 0x3F) {
		unsigned char text[] = { '"', n >> 16, n >> 8 & 0xFF, n & 0xFF, '"' };
		struct json_object *o = NULL;
		unsigned c = (n >> 4 & 0xF000) | (n >> 2 & 0xFC0) | (n & 0x3F);
		bool good = (n & 0xF0C0C0) == 0xE08080 && c >= 0x800 && (c < 0xD800 || c > 0xDFFF);

		ck_assert_msg((json_parse((char *)text, 5, &o, NULL) == 0) == good, "%06x", n);
		json_put(o);
	}
}
END_TEST

START_TEST(a_control_character_is_read_as_an_escape_only)
{
	for (unsigned c = 1; c < 0x20; c++) {
		char raw[] = { '"', (char)c, '"', 0 }, value[] = { (char)c, 0 };
		_cleanup_json_ struct json_object *o = NULL;
		_cleanup_free_ char *text = str_printf("{\"a\":\"\\u%04x\"}", c);

		assert_syntax(raw, 3, "a control character in a string");
		ck_assert_int_eq(json_parse(text, strlen(text), &o, NULL), 0);
		ck_assert_str_eq(json_get_str(o, "a"), value);
	}
}
END_TEST

/* What is read, written again; the caller frees it */
static char *rewritten(const char *text)
{
	_cleanup_json_ struct json_object *o = NULL;
	struct err err = { 0 };

	ck_assert_msg(json_parse(text, strlen(text), &o, &err) == 0, "%s: %s", text, err.text);
	return json_text(o);
}

START_TEST(what_is_read_has_one_value)
{
	static const struct {
		const char *text, *value;
	} same[] = {
		{ "[9223372036854775807,9223372036854775808,18446744073709551615]", NULL },
		{ "[-9223372036854775808,-1,0]", NULL },
		{ "[1.0,2.50,1e400,-1E-400,18446744073709551616.0]", NULL },
		{ "{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}" },
		{ "{\"a\":{\"x\":1},\"a\":{\"y\":2}}", "{\"a\":{\"y\":2}}" },
		{ "{\"\xC3\xA9\":1,\"\\u00e9\":2}", "{\"\xC3\xA9\":2}" },
		{ "{\"\":1}", NULL },
		{ "\"\\u00E9\\u20ac\\uD83D\\ude00\"", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"" },
		/* half a pair is no character */
		{ "\"\\ud83d\"", "\"\xEF\xBF\xBD\"" },
		{ "\"\\ude00a\"", "\"\xEF\xBF\xBD"
				  "a\"" },
		{ "\"\\ud83d\\u0041\"", "\"\xEF\xBF\xBD"
					"A\"" },
		{ "\"\x7F\\/\\b\\f\\n\\r\\t\\\"\\\\\"", "\"\x7F/\\b\\f\\n\\r\\t\\\"\\\\\"" },
		{ " [ { } , [ ] , null , true , false ] ", "[{},[],null,true,false]" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		char *text = rewritten(same[i].text);

		ck_assert_str_eq(text, same[i].value ? same[i].value : same[i].text);
		free(text);
	}
}
END_TEST

/* @n brackets, one within the other */
static char *nested(size_t n)
{
	char *s = mem_new0(2 * n + 1, 1);

	memset(s, '[', n);
	memset(s + n, ']', n);
	return s;
}

START_TEST(a_text_may_be_32_levels_deep_and_no_more)
{
	struct json_object *o = NULL;
	char *s = nested(32);

	ck_assert_int_eq(json_parse(s, 64, &o, NULL), 0);
	json_put(o);
	free(s);
	s = nested(33);
	assert_syntax(s, 66, "byte 32: nested too deep");
	free(s);
	s = nested(1 << 20);
	assert_syntax(s, 2 << 20, "nested too deep");
	free(s);
	/* the depth counts for json-c too when the innermost holds a scalar */
	s = nested(32);
	o = NULL;
	char *with = str_printf("%.32s{}%s", s, s + 32);
	assert_syntax(with, strlen(with), "nested too deep");
	free(with);
	with = str_printf("%.32s1%s", s, s + 32);
	ck_assert_int_eq(json_parse(with, strlen(with), &o, NULL), 0);
	json_put(o);
	free(with);
	free(s);
}
END_TEST

START_TEST(a_text_has_a_greatest_length_and_number_of_values)
{
	struct json_object *o = NULL;
	char *s = mem_new0(JSON_TEXT_MAX + 2, 1);
	size_t n = 0;

	memset(s, ' ', JSON_TEXT_MAX + 1);
	s[0] = '1';
	ck_assert_int_eq(json_parse(s, JSON_TEXT_MAX, &o, NULL), 0);
	json_put(o);
	assert_syntax(s, JSON_TEXT_MAX + 1, "the text is too long");

	/* an array of JSON_ITEMS_MAX - 1 numbers is JSON_ITEMS_MAX values */
	s[n++] = '[';
	for (size_t i = 0; i < JSON_ITEMS_MAX - 1; i++) {
		s[n++] = '1';
		s[n++] = ',';
	}
	s[n - 1] = ']';
	ck_assert_int_eq(json_parse(s, n, &o, NULL), 0);
	json_put(o);
	s[n - 1] = ',';
	s[n++] = '1';
	s[n++] = ']';
	assert_syntax(s, n, "too many values");
	free(s);
}
END_TEST

START_TEST(bytes_that_are_not_utf8_are_replaced_when_written)
{
	struct all v = { .string = mem_strdup("a\xff\xc3\xa9\xe2\x82z\xed\xa0\x80") };
	char *text = json_encode(&all_table, &v);

	ck_assert_str_eq(text, "{\"String\":"
			       "\"a\xEF\xBF\xBD\xc3\xa9\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD\xEF"
			       "\xBF\xBD\xEF\xBF\xBD\"}");
	free(text);
	json_free(&all_table, &v);

	v.raw = json_object_new_string("\xff/");
	text = json_encode(&all_table, &v);
	ck_assert_str_eq(text, "{\"Raw\":\"\xEF\xBF\xBD/\"}");
	free(text);
	json_free(&all_table, &v);
}
END_TEST

START_TEST(a_string_with_a_nul_built_by_json_c_is_refused_too)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	struct all v = { 0 };
	struct err err = { 0 };

	json_object_object_add(o, "String", json_object_new_string_len("a\0b", 3));
	ck_assert_int_eq(json_decode_object(o, &all_table, &v, &err), -ERR_INVALID);
	ck_assert_str_eq(err.text, "String: a string holds a NUL");
}
END_TEST

START_TEST(members_are_found_by_path_and_type)
{
	static const char text[] = "{\"a\":{\"b\":{\"s\":\"x\",\"t\":true,\"n\":1}}}";
	_cleanup_json_ struct json_object *o = NULL;
	struct json_object *b;
	char *s;

	ck_assert_int_eq(json_parse(text, strlen(text), &o, NULL), 0);
	b = json_get(o, "a", "b", NULL);
	ck_assert_str_eq(json_get_str(b, "s"), "x");
	ck_assert_ptr_null(json_get_str(b, "n"));
	ck_assert_ptr_null(json_get_str(b, "none"));
	ck_assert(json_get_bool(b, "t", false));
	ck_assert(json_get_bool(b, "n", true));
	ck_assert(!json_get_bool(NULL, "n", false));
	ck_assert_ptr_null(json_get(o, "a", "b", "s", "deeper", NULL));
	ck_assert_ptr_null(json_get(NULL, "a", NULL));
	s = json_text(o);
	ck_assert_str_eq(s, text);
	free(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("json");
	TCase *tc = tcase_create("json");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, every_form_survives_a_round_trip);
	tcase_add_test(tc, omitempty_leaves_out_what_is_empty_and_the_rest_is_written);
	tcase_add_test(tc, null_and_unknown_members_are_as_good_as_absent);
	tcase_add_test(tc, of_duplicate_members_the_last_one_counts);
	tcase_add_test(tc, an_error_names_the_field_by_its_path);
	tcase_add_test(tc, an_error_needs_no_place_for_its_text);
	tcase_add_test(tc, what_is_not_json_is_refused_with_its_place);
	tcase_add_test(tc, every_json_value_is_read);
	tcase_add_test(tc, all_of_utf8_is_read_in_names_and_values_and_written_as_it_was);
	tcase_add_test(tc, no_other_sequence_of_two_or_three_bytes_is_a_character);
	tcase_add_test(tc, a_control_character_is_read_as_an_escape_only);
	tcase_add_test(tc, what_is_read_has_one_value);
	tcase_add_test(tc, a_text_may_be_32_levels_deep_and_no_more);
	tcase_add_test(tc, a_text_has_a_greatest_length_and_number_of_values);
	tcase_add_test(tc, bytes_that_are_not_utf8_are_replaced_when_written);
	tcase_add_test(tc, a_string_with_a_nul_built_by_json_c_is_refused_too);
	tcase_add_test(tc, members_are_found_by_path_and_type);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
