/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bootstrap.h"

#include "base/err.h"
#include "run.h"
#include "shim/args.h"

static const struct shim_args args = { .namespace = "ns", .id = "c1" };
static const char sandboxes[] = "/run/containerd/io.containerd.sandbox.controller.v1.shim/ns/c1";
static const char tasks[] = "/run/containerd/io.containerd.runtime.v2.task/ns/c1";

/* Any{"runtimeoptions.v1.Options", "x"} */
static const char any[] = "\x0a\x19runtimeoptions.v1.Options\x12\x01x";
/* BootstrapParams{id, namespace, level debug, ttrpc, grpc, extensions
 * {Any{"google.protobuf.Empty"}, Any}, socket dir} */
static const char params[] = "\x0a\x02"
			     "c1"
			     "\x12\x02ns\x18\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01"
			     "\x2a\x08/e.ttrpc\x32\x02/g"
			     "\x42\x19\x0a\x17\x0a\x15google.protobuf.Empty"
			     "\x42\x20\x0a\x1e\x0a\x19runtimeoptions.v1.Options\x12\x01x"
			     "\x4a\x02/s";

static struct bootstrap b;
static struct err err;

static int parse(const char *data, size_t len)
{
	return bootstrap_parse(&args, data, len, &b, &err);
}

static void teardown(void)
{
	bootstrap_free(&b);
}

START_TEST(nothing_is_no_options)
{
	ck_assert_int_eq(parse("", 0), 0);
	ck_assert(!b.params);
	ck_assert_uint_eq(b.options.len, 0);
}
END_TEST

START_TEST(a_bare_Any_is_the_options)
{
	ck_assert_int_eq(parse(any, sizeof(any) - 1), 0);
	ck_assert(!b.params);
	ck_assert_uint_eq(b.options.len, sizeof(any) - 1);
	ck_assert_mem_eq(b.options.data, any, sizeof(any) - 1);
}
END_TEST

START_TEST(BootstrapParams_of_this_task_are_known_by_its_names)
{
	ck_assert_int_eq(parse(params, sizeof(params) - 1), 0);
	ck_assert(b.params);
	ck_assert(b.debug);
	ck_assert_str_eq(b.events, "/e.ttrpc");
	ck_assert_str_eq(b.grpc_address, "/g");
	ck_assert_str_eq(b.socket_dir, "/s");
	ck_assert_uint_eq(b.options.len, sizeof(any) - 1);
	ck_assert_mem_eq(b.options.data, any, sizeof(any) - 1);
}
END_TEST

START_TEST(an_Any_that_looks_like_BootstrapParams_of_another_task_stays_an_Any)
{
	static const char other[] = "\x0a\x02"
				    "c2"
				    "\x12\x02ns";

	ck_assert_int_eq(parse(other, sizeof(other) - 1), 0);
	ck_assert(!b.params);
	ck_assert_uint_eq(b.options.len, sizeof(other) - 1);
}
END_TEST

START_TEST(what_is_neither_is_refused)
{
	ck_assert_int_eq(parse("unix:///run/x", 13), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "standard input"));
}
END_TEST

START_TEST(every_containerd_gets_the_answer_that_it_understands)
{
	parse("", 0);
	ck_assert_int_eq(bootstrap_answer_form(&b, NULL, tasks), ANSWER_PLAIN);
	ck_assert_int_eq(bootstrap_answer_form(&b, "2", tasks), ANSWER_JSON_2);
	ck_assert_int_eq(bootstrap_answer_form(&b, "2", sandboxes), ANSWER_JSON_3);
	parse(params, sizeof(params) - 1);
	ck_assert_int_eq(bootstrap_answer_form(&b, "2", tasks), ANSWER_PROTOBUF);
}
END_TEST

static const struct text {
	enum bootstrap_answer form;
	const char *bytes;
	size_t len;
} texts[] = {
#define TEXT(form, s) \
	{ \
		form, s, sizeof(s) - 1 \
	}
	TEXT(ANSWER_PLAIN, "unix:///s/1"),
	TEXT(ANSWER_JSON_2, "{\"version\":2,\"address\":\"unix:///s/1\",\"protocol\":\"ttrpc\"}"),
	TEXT(ANSWER_JSON_3, "{\"version\":3,\"address\":\"unix:///s/1\",\"protocol\":\"ttrpc\"}"),
	TEXT(ANSWER_PROTOBUF, "\x08\x03\x12\x0bunix:///s/1\x1a\x05ttrpc"),
};

START_TEST(answers_are_these_bytes)
{
	struct buf out = { 0 };

	bootstrap_answer_text(texts[_i].form, "unix:///s/1", &out);
	ck_assert_uint_eq(out.len, texts[_i].len);
	ck_assert_mem_eq(out.data, texts[_i].bytes, out.len);
	buf_free(&out);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("bootstrap");

	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_add_test(t, nothing_is_no_options);
	tcase_add_test(t, a_bare_Any_is_the_options);
	tcase_add_test(t, BootstrapParams_of_this_task_are_known_by_its_names);
	tcase_add_test(t, an_Any_that_looks_like_BootstrapParams_of_another_task_stays_an_Any);
	tcase_add_test(t, what_is_neither_is_refused);
	tcase_add_test(t, every_containerd_gets_the_answer_that_it_understands);
	tcase_add_loop_test(t, answers_are_these_bytes, 0, ARRAY_SIZE(texts));
	return run_case(t, "shim bootstrap");
}
