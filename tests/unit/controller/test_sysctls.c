/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/sysctls.h"

#include <check.h>
#include <json-c/json.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"
#include "wire/json.h"

static struct err err;

static struct json_object *parse(const char *text)
{
	struct json_object *o = NULL;

	ck_assert_msg(json_parse(text, strlen(text), &o, &err) == 0, "%s", err.text);
	return o;
}

static const char *const good[] = {
	"{}",
	"{\"net.core.somaxconn\":\"1\",\"net/ipv4/conf/eth0.1/rp_filter\":\"1\"}",
	"{\"kernel.shmmax\":\"1\",\"kernel/sem\":\"1 2 3 4\",\"kernel.msgmni\":\"1\"}",
	"{\"fs.mqueue.msg_max\":\"1\",\"kernel.domainname\":\"x\"}",
};

START_TEST(parameters_of_namespaces_are_a_pod_s)
{
	_cleanup_json_ struct json_object *o = parse(good[_i]);

	ck_assert_msg(sysctls_check(o, &err) == 0, "%s", err.text);
}
END_TEST

static const char *const bad[] = {
	"kernel.panic", "kernel.hostname", "vm.swappiness",  "net",       "net.",
	"kernel.shm",   "kernel.sem.x",    "fs.mqueuex.max", "/net/core", "",
};

START_TEST(a_parameter_of_the_VM_is_refused_by_name)
{
	_cleanup_json_ struct json_object *o = parse("{\"net.core.somaxconn\":\"1\"}");

	json_object_object_add(o, bad[_i], json_object_new_string("1"));
	ck_assert_int_eq(sysctls_check(o, &err), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, bad[_i]));
}
END_TEST

#define ALL "{\"net.a\":\"1\",\"kernel.sem\":\"2\",\"kernel.domainname\":\"3\"}"
#define NS(ipc, uts) \
	"\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"ipc\"" ipc "},{\"type\":\"uts\"" uts "}" \
	"]"
#define PATH ",\"path\":\"/proc/7/ns/x\""

static const struct {
	const char *spec;
	const char *sysctl;
} rows[] = {
	{ "{\"linux\":{" NS(PATH, PATH) "}}", ALL },
	{ "{\"linux\":{" NS("", PATH) "}}", "{\"net.a\":\"1\",\"kernel.domainname\":\"3\"}" },
	{ "{\"linux\":{" NS(PATH, "") "}}", "{\"net.a\":\"1\",\"kernel.sem\":\"2\"}" },
	{ "{\"linux\":{}}", "{\"net.a\":\"1\"}" },
	{ "{\"linux\":{\"sysctl\":{\"net.a\":\"9\",\"net.b\":\"8\"}}}",
	  "{\"net.a\":\"9\",\"net.b\":\"8\"}" },
	{ "{\"linux\":{\"sysctl\":5}}", "5" },
	{ "{\"linux\":5}", NULL },
	{ "{}", NULL },
};

START_TEST(a_container_sets_those_of_the_namespaces_that_it_shares)
{
	_cleanup_json_ struct json_object *spec = parse(rows[_i].spec), *all = parse(ALL);
	struct json_object *is;

	sysctls_add(spec, all);
	is = json_get(spec, "linux", "sysctl", NULL);
	ck_assert_pstr_eq(is ? json_object_to_json_string_ext(is, JSON_C_TO_STRING_PLAIN) : NULL,
			  rows[_i].sysctl);
}
END_TEST

START_TEST(a_pod_without_them_changes_nothing)
{
	_cleanup_json_ struct json_object *spec = parse("{\"linux\":{}}");

	sysctls_add(spec, NULL);
	ck_assert_ptr_null(json_get(spec, "linux", "sysctl", NULL));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("controller sysctls");
	TCase *t = tcase_create("sysctls");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_loop_test(t, parameters_of_namespaces_are_a_pod_s, 0, ARRAY_SIZE(good));
	tcase_add_loop_test(t, a_parameter_of_the_VM_is_refused_by_name, 0, ARRAY_SIZE(bad));
	tcase_add_loop_test(t, a_container_sets_those_of_the_namespaces_that_it_shares, 0,
			    ARRAY_SIZE(rows));
	tcase_add_test(t, a_pod_without_them_changes_nothing);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
