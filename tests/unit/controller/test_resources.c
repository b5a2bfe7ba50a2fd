/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/resources.h"

#include "controller/fixture.h"
#include "controller/sizing.h"
#include "wire/json.h"

static struct err err;
static struct claim_size size;

static int read_size(const char *text)
{
	_cleanup_json_ struct json_object *o = NULL;

	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(json_parse(text, strlen(text), &o, &err), 0);
	return resources_size(o, &size, &err);
}

static void setup(void)
{
	size = (struct claim_size){ 1, 2, 3 };
}

static const struct row {
	const char *text;
	struct claim_size size;
} rows[] = {
	{ "{}", { 1, 2, 3 } },
	{ "{\"memory\":{\"limit\":96},\"cpu\":{\"quota\":50,\"period\":100}}", { 96, 50, 100 } },
	{ "{\"memory\":{\"limit\":-1},\"cpu\":{\"quota\":-1}}", { 0, 0, 3 } },
	/* 0 is "as it is", as runc has it. */
	{ "{\"memory\":{\"limit\":0},\"cpu\":{\"quota\":0,\"period\":0}}", { 1, 2, 3 } },
	{ "{\"memory\":{\"reservation\":5,\"swap\":7},\"pids\":{\"limit\":9}}", { 1, 2, 3 } },
	{ "{\"later\":{\"unknown\":[1]},\"memory\":{\"new\":\"x\"},\"memory2\":3}", { 1, 2, 3 } },
	{ "{\"memory\":null,\"cpu\":null,\"unified\":{\"memory.high\":\"max\"}}", { 1, 2, 3 } },
};

START_TEST(only_what_is_given_changes_what_is_claimed)
{
	ck_assert_msg(read_size(rows[_i].text) == 0, "%s", err.text);
	ck_assert_uint_eq(size.memory, rows[_i].size.memory);
	ck_assert_uint_eq(size.quota, rows[_i].size.quota);
	ck_assert_uint_eq(size.period, rows[_i].size.period);
}
END_TEST

static const struct row of_pods[] = {
	{ "{}", { 1, 2, 3 } },
	{ "{\"io.kubernetes.cri.sandbox-memory\":\"96\",\"io.kubernetes.cri.sandbox-cpu-quota\":"
	  "\"50\",\"io.kubernetes.cri.sandbox-cpu-period\":\"100\"}",
	  { 96, 50, 100 } },
	{ "{\"io.kubernetes.cri.sandbox-memory\":\"0\",\"io.kubernetes.cri.sandbox-cpu-quota\":"
	  "\"-1\",\"io.kubernetes.cri.sandbox-cpu-period\":100}",
	  { 1, 2, 3 } },
};

START_TEST(annotations_of_a_pod_say_what_its_containers_will_ask_for)
{
	_cleanup_json_ struct json_object *o = NULL;

	ck_assert_int_eq(json_parse(of_pods[_i].text, strlen(of_pods[_i].text), &o, &err), 0);
	ck_assert_int_eq(resources_of_pod(o, &size), _i == 1);
	ck_assert_uint_eq(size.memory, of_pods[_i].size.memory);
	ck_assert_uint_eq(size.quota, of_pods[_i].size.quota);
	ck_assert_uint_eq(size.period, of_pods[_i].size.period);
}
END_TEST

static const struct bad {
	const char *text;
	const char *says;
} bad[] = {
	{ "[]", "" },
	{ "{\"memory\":5}", "memory" },
	{ "{\"memory\":{\"limit\":\"64M\"}}", "memory.limit" },
	{ "{\"memory\":{\"limit\":1.5}}", "memory.limit" },
	{ "{\"cpu\":{\"shares\":-1}}", "cpu.shares" },
	{ "{\"cpu\":{\"cpus\":0}}", "cpu.cpus" },
	{ "{\"pids\":{\"limit\":\"all\"}}", "pids.limit" },
	{ "{\"hugepageLimits\":[{\"pageSize\":2,\"limit\":1}]}", "hugepageLimits" },
	{ "{\"blockIO\":{\"weight\":70000}}", "blockIO.weight" },
	{ "{\"unified\":{\"memory.high\":5}}", "unified" },
};

START_TEST(a_wrong_type_is_named_by_its_path)
{
	ck_assert_int_eq(read_size(bad[_i].text), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, bad[_i].says) != NULL, "%s: %s", bad[_i].text, err.text);
	ck_assert_uint_eq(size.memory, 1);
}
END_TEST

START_TEST(the_guest_gets_all_but_the_host_s_devices)
{
	const char *in = "{\"memory\":{\"limit\":1},\"devices\":[{\"allow\":true}],\"new\":2,"
			 "\"blockIO\":{\"weight\":10,\"throttleReadBpsDevice\":[{\"major\":8}]},"
			 "\"network\":{},\"rdma\":{}}";
	_cleanup_json_ struct json_object *o = NULL, *out = NULL;
	_cleanup_free_ char *text = NULL;

	ck_assert_int_eq(json_parse(in, strlen(in), &o, &err), 0);
	out = resources_for_guest(o);
	text = json_text(out);
	ck_assert_str_eq(text, "{\"memory\":{\"limit\":1},\"new\":2,\"blockIO\":{\"weight\":10}}");
	ck_assert_ptr_nonnull(json_get(o, "devices", NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller resources");
	TCase *tc = tcase_create("resources");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_loop_test(tc, only_what_is_given_changes_what_is_claimed, 0, ARRAY_SIZE(rows));
	tcase_add_loop_test(tc, annotations_of_a_pod_say_what_its_containers_will_ask_for, 0,
			    ARRAY_SIZE(of_pods));
	tcase_add_loop_test(tc, a_wrong_type_is_named_by_its_path, 0, ARRAY_SIZE(bad));
	tcase_add_test(tc, the_guest_gets_all_but_the_host_s_devices);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
