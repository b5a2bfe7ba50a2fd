/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes are called JSON: what is taken can be written and read again and stays the same,
 * as a value and as a struct by its table; the table here has every form, in the shape of an OCI
 * config.json.
 */
#include <json-c/json.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct mount {
	char *destination;
	char *type;
	char **options;
};

struct user {
	uint32_t uid, gid;
	uint32_t *groups;
	size_t n_groups;
};

struct process {
	bool terminal;
	struct user user;
	char **args;
	char **env;
	char *cwd;
	int32_t oom_score;
	uint16_t height;
	uint8_t width;
};

struct spec {
	char *version;
	struct process *process;
	struct mount *mounts;
	size_t n_mounts;
	char **annotations;
	struct json_object *os;
	int64_t quota;
	uint64_t period;
	struct process *text;
};

#define FIELD(key, form, member, ...) \
	{ \
		.name = key, .type = form, .offset = offsetof(STRUCT, member), __VA_ARGS__ \
	}
#define TABLE(rows) \
	{ \
#rows, sizeof(STRUCT), rows, ARRAY_SIZE(rows) \
	}

#define STRUCT struct mount
static const struct json_field mount_fields[] = {
	FIELD("destination", JSON_STRING, destination, .flags = JSON_REQUIRED),
	FIELD("type", JSON_STRING, type, .flags = JSON_OMITEMPTY),
	FIELD("options", JSON_STRINGS, options, .flags = JSON_OMITEMPTY),
};
static const struct json_table mount_table = TABLE(mount_fields);
#undef STRUCT

#define STRUCT struct user
static const struct json_field user_fields[] = {
	FIELD("uid", JSON_U32, uid),
	FIELD("gid", JSON_U32, gid),
	FIELD("additionalGids", JSON_U32S, groups, .count = offsetof(struct user, n_groups)),
};
static const struct json_table user_table = TABLE(user_fields);
#undef STRUCT

#define STRUCT struct process
static const struct json_field process_fields[] = {
	FIELD("terminal", JSON_BOOL, terminal, .flags = JSON_OMITEMPTY),
	FIELD("user", JSON_OBJECT, user, .sub = &user_table),
	FIELD("args", JSON_STRINGS, args),
	FIELD("env", JSON_STRINGS, env, .flags = JSON_OMITEMPTY),
	FIELD("cwd", JSON_STRING, cwd),
	FIELD("oomScoreAdj", JSON_I32, oom_score),
	FIELD("height", JSON_U16, height),
	FIELD("width", JSON_U8, width),
};
static const struct json_table process_table = TABLE(process_fields);
#undef STRUCT

#define STRUCT struct spec
static const struct json_field spec_fields[] = {
	FIELD("ociVersion", JSON_STRING, version),
	FIELD("process", JSON_POINTER, process, .sub = &process_table),
	FIELD("mounts", JSON_ARRAY, mounts, .sub = &mount_table,
	      .count = offsetof(struct spec, n_mounts)),
	FIELD("annotations", JSON_MAP, annotations),
	FIELD("linux", JSON_RAW, os),
	FIELD("quota", JSON_I64, quota),
	FIELD("period", JSON_U64, period),
	FIELD("text", JSON_TEXT, text, .sub = &process_table),
};
static const struct json_table spec_table = TABLE(spec_fields);
#undef STRUCT

static void check_value(const char *text, size_t len)
{
	_cleanup_json_ struct json_object *o = NULL, *again = NULL;
	_cleanup_free_ char *written = NULL, *second = NULL;
	struct err err = { 0 };
	int r = json_parse(text, len, &o, &err);

	if (r < 0) {
		if (r != -ERR_INVALID || err.code != r || !*err.text || o)
			abort();
		return;
	}
	written = json_text(o);
	/* a text may grow beyond the limit: a control character is six bytes when written */
	if (strlen(written) > JSON_TEXT_MAX)
		return;
	if (json_parse(written, strlen(written), &again, NULL) < 0)
		abort();
	second = json_text(again);
	if (!str_eq(written, second))
		abort();
	json_get_str(o, "a");
	json_get_bool(json_get(o, "linux", "a", NULL), "b", true);
}

static void check_struct(const char *text, size_t len)
{
	static const struct spec zero;
	_cleanup_free_ char *written = NULL, *second = NULL;
	struct spec spec = { 0 }, again = { 0 };
	struct err err = { 0 };
	int r = json_decode(text, len, &spec_table, &spec, &err);

	if (r < 0) {
		if (r != -ERR_INVALID || err.hresult != HR_INVALID_JSON ||
		    memcmp(&spec, &zero, sizeof(spec)) != 0)
			abort();
		return;
	}
	written = json_encode(&spec_table, &spec);
	if (strlen(written) <= JSON_TEXT_MAX) {
		if (json_decode(written, strlen(written), &spec_table, &again, NULL) < 0)
			abort();
		second = json_encode(&spec_table, &again);
		if (!str_eq(written, second))
			abort();
	}
	json_free(&spec_table, &spec);
	json_free(&spec_table, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	check_value((const char *)data, len);
	check_struct((const char *)data, len);
	return 0;
}
