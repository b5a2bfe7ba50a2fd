/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/spec.h"

#include <json-c/json.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "tmpdir.h"
#include "wire/json.h"

static struct err err;
static struct spec_facts facts;

/* "%s" stands for the directory. */
static struct json_object *parse(const char *text)
{
	const char *place = strstr(text, "%s");
	_cleanup_free_ char *full =
		place ? str_printf("%.*s%s%s", (int)(place - text), text, tmpdir, place + 2)
		      : mem_strdup(text);
	struct json_object *o = NULL;

	ck_assert_int_eq(json_parse(full, strlen(full), &o, NULL), 0);
	return o;
}

#define SPEC(rest) \
	"{\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"},\"root\":{\"path\":\"%s/rootfs\"}" rest "}"

static struct json_object *prepared(const char *text)
{
	struct json_object *o = parse(text);

	ck_assert_msg(spec_classify(o, "c1", tmpdir, &facts, &err) == 0 &&
			      spec_prepare(o, &facts, &err) == 0,
		      "%s", err.text);
	return o;
}

static void refused(const char *text, const char *word)
{
	_cleanup_json_ struct json_object *o = parse(text);
	int r = spec_classify(o, "c1", tmpdir, &facts, &err);

	if (r == 0) {
		r = spec_prepare(o, &facts, &err);
		spec_facts_clear(&facts);
	}
	ck_assert_int_eq(r, -ERR_INVALID);
	ck_assert_msg(strstr(err.text, word) != NULL, "%s", err.text);
}

START_TEST(a_lone_container_is_its_own_pod)
{
	_cleanup_json_ struct json_object *o =
		prepared(SPEC(",\"linux\":{\"cgroupsPath\":\"/x\"},\"windows\":{}"));

	ck_assert_str_eq(json_get_str(json_get(o, "linux", NULL), "cgroupsPath"), "/pods/c1/c1");
	ck_assert_ptr_null(json_get(o, "windows", NULL));
	ck_assert_int_eq(facts.kind, SPEC_STANDALONE);
	ck_assert_str_eq(facts.sandbox, "c1");
	spec_facts_clear(&facts);
}
END_TEST

START_TEST(a_later_1_x_of_the_specification_is_lowered_and_2_0_is_not)
{
	const char *const versions[][2] = { { "1.0.2-dev", "1.0.2" },
					    { "1.2.0", "1.0.2" },
					    { "2.0.0", "2.0.0" } };

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		_cleanup_free_ char *text =
			str_printf(SPEC(",\"ociVersion\":\"%s\""), "%s", versions[i][0]);
		_cleanup_json_ struct json_object *o = prepared(text);

		ck_assert_str_eq(json_get_str(o, "ociVersion"), versions[i][1]);
		spec_facts_clear(&facts);
	}
}
END_TEST

START_TEST(annotations_put_a_container_into_its_pod)
{
	json_put(prepared(SPEC(",\"annotations\":{\"io.kubernetes.cri.container-type\":"
			       "\"container\",\"io.kubernetes.cri.sandbox-id\":\"p\"}")));

	ck_assert_str_eq(facts.cgroup, "/pods/p/c1");
	ck_assert_int_eq(facts.kind, SPEC_WORKLOAD);
	spec_facts_clear(&facts);
	json_put(prepared(SPEC(",\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\","
			       "\"io.kubernetes.cri.sandbox-id\":\"c1\"}")));

	ck_assert_str_eq(facts.cgroup, "/pods/c1/c1");
	ck_assert_int_eq(facts.kind, SPEC_SANDBOX);
	spec_facts_clear(&facts);
}
END_TEST

START_TEST(a_virtual_pod_gathers_its_containers)
{
	json_put(prepared(SPEC(",\"annotations\":{\"io.kubernetes.cri.container-type\":"
			       "\"container\",\"io.microsoft.cri.virtual-pod-id\":\"v\"}")));

	ck_assert_str_eq(facts.cgroup, "/pods/v/c1");
	spec_facts_clear(&facts);
}
END_TEST

START_TEST(a_bundle_names_the_pod_where_no_annotation_does)
{
	const char *const rows[][2] = {
		{ "/run/gcs/pods/p/c1", "p" },    { "/run/gcs/pods/c1/c1", "c1" },
		{ "/run/gcs/pods/p/c2", "c1" },   { "/run/gcs/c/c1", "c1" },
		{ "/run/gcs/pods/p/q/c1", "c1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ struct json_object *o = parse(SPEC(""));

		ck_assert_int_eq(spec_classify(o, "c1", rows[i][0], &facts, &err), 0);
		ck_assert_str_eq(facts.sandbox, rows[i][1]);
		ck_assert_int_eq(facts.kind,
				 str_eq(rows[i][1], "c1") ? SPEC_STANDALONE : SPEC_WORKLOAD);
		spec_facts_clear(&facts);
	}
}
END_TEST

START_TEST(pods_that_cannot_be_are_refused)
{
	refused(SPEC(",\"annotations\":{\"io.kubernetes.cri.container-type\":\"pod\"}"),
		"container-type");
	refused(SPEC(",\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\"}"),
		"sandbox-id");
	refused(SPEC(",\"annotations\":{\"io.microsoft.cri.virtual-pod-id\":\"../x\"}"),
		"sandbox-id");
}
END_TEST

START_TEST(a_spec_without_what_a_container_needs_is_refused)
{
	refused("[]", "missing");
	refused("{\"root\":{\"path\":\"%s\"}}", "process");
	refused("{\"process\":{},\"root\":{\"path\":\"%s\"}}", "process.args");
	refused("{\"process\":{\"args\":[]},\"root\":{\"path\":\"%s\"}}", "process.args");
	refused("{\"process\":{\"args\":[1]},\"root\":{\"path\":\"%s\"}}", "process.args");
	refused("{\"process\":{\"args\":[\"sh\"]}}", "root.path");
	refused("{\"process\":{\"args\":[\"sh\"]},\"root\":{\"path\":\"rootfs\"}}", "root.path");
	ck_assert_int_eq(spec_classify(NULL, "c1", tmpdir, &facts, &err), -ERR_INVALID);
}
END_TEST

START_TEST(network_files_are_written_and_mounted)
{
	_cleanup_json_ struct json_object *o = parse(SPEC(""));
	_cleanup_free_ char *path = str_printf("%s/hosts", tmpdir);
	_cleanup_free_ char *text = NULL;
	struct json_object *mounts;

	ck_assert_int_eq(spec_write_files(tmpdir, "pod.example.test", "", &err), 0);
	spec_mount_files(o, tmpdir);
	mounts = json_get(o, "mounts", NULL);
	ck_assert_uint_eq(json_object_array_length(mounts), 3);
	ck_assert_str_eq(json_get_str(json_object_array_get_idx(mounts, 1), "destination"),
			 "/etc/hosts");
	ck_assert_str_eq(json_get_str(json_object_array_get_idx(mounts, 1), "source"), path);
	ck_assert_int_eq(file_read(path, 4096, &text, NULL), 0);
	ck_assert_ptr_nonnull(strstr(text, "127.0.0.1 pod.example.test pod\n"));
}
END_TEST

START_TEST(a_file_that_the_spec_mounts_itself_is_left_alone)
{
	_cleanup_json_ struct json_object *o =
		parse(SPEC(",\"mounts\":[{\"destination\":\"/etc/hosts\",\"source\":\"/"
			   "x\",\"type\":\"bind\"}]"));
	struct json_object *mounts = json_get(o, "mounts", NULL);

	spec_mount_files(o, tmpdir);
	ck_assert_uint_eq(json_object_array_length(mounts), 3);
	ck_assert_str_eq(json_get_str(json_object_array_get_idx(mounts, 0), "source"), "/x");
}
END_TEST

START_TEST(a_read_only_root_has_them_read_only)
{
	_cleanup_json_ struct json_object *o = parse(
		"{\"process\":{\"args\":[\"sh\"]},\"root\":{\"path\":\"%s\",\"readonly\":true}}");
	_cleanup_free_ char *text = NULL;

	spec_mount_files(o, tmpdir);
	text = json_text(json_get(json_object_array_get_idx(json_get(o, "mounts", NULL), 0),
				  "options", NULL));
	ck_assert_str_eq(text, "[\"bind\",\"ro\"]");
}
END_TEST

START_TEST(a_hostname_that_would_break_files_is_refused)
{
	static const struct {
		const char *name, *got;
		int result;
	} rows[] = { { "a\\nb", NULL, -ERR_INVALID },
		     { "a b", NULL, -ERR_INVALID },
		     { "", NULL, 0 },
		     { "A-1_b.c", "A-1_b.c", 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text = str_printf("{\"hostname\":\"%s\"}", rows[i].name);
		_cleanup_json_ struct json_object *o = parse(text);
		_cleanup_free_ char *name = NULL;

		ck_assert_int_eq(spec_hostname(o, &name, &err), rows[i].result);
		ck_assert_pstr_eq(name, rows[i].got);
	}
}
END_TEST

START_TEST(a_flag_is_what_hcsshim_takes_for_one)
{
	static const struct {
		const char *text;
		bool flag;
	} rows[] = { { "1", true },    { "t", true },     { "True", true },
		     { "TRUE", true }, { "0", false },    { "False", false },
		     { "yes", false }, { "tRUE", false }, { "", false } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text =
			str_printf("{\"annotations\":{\"a\":\"%s\"}}", rows[i].text);
		_cleanup_json_ struct json_object *o = parse(text);

		ck_assert(spec_flag(o, "a") == rows[i].flag);
		ck_assert(!spec_flag(o, "b"));
	}
}
END_TEST

START_TEST(a_namespace_is_set_where_it_is_or_added)
{
	_cleanup_json_ struct json_object *o =
		parse("{\"linux\":{\"namespaces\":[{\"type\":\"ipc\",\"path\":\"/a\"},3]}}");
	_cleanup_free_ char *text = NULL;

	spec_set_namespace(o, "ipc", NULL);
	spec_set_namespace(o, "uts", "/b");
	spec_set_namespace(o, "uts", "/c");
	ck_assert_ptr_null(spec_namespace(o, "pid"));
	text = json_text(json_get(o, "linux", "namespaces", NULL));
	ck_assert_str_eq(text, "[{\"type\":\"ipc\"},3,{\"type\":\"uts\",\"path\":\"/c\"}]");
}
END_TEST

START_TEST(a_user_name_is_resolved_in_the_root_and_execs_inherit_it)
{
	_cleanup_json_ struct json_object *exec = parse("{\"args\":[\"id\"],\"rlimits\":[1]}");
	_cleanup_json_ struct json_object *o = NULL;

	tmpdir_write("rootfs/etc/passwd", "app:x:7:8:::\n");
	o = prepared(
		"{\"process\":{\"args\":[\"sh\"],\"user\":{\"username\":\"app\"},\"rlimits\":[{"
		"\"type\":\"RLIMIT_CORE\"}]},"
		"\"root\":{\"path\":\"%s/rootfs\"}}");
	ck_assert_int_eq(json_object_get_int(json_get(o, "process", "user", "uid", NULL)), 7);
	ck_assert_int_eq(json_object_get_int(json_get(o, "process", "user", "gid", NULL)), 8);
	ck_assert_int_eq(spec_exec(exec, &facts, &err), 0);
	ck_assert_int_eq(json_object_get_int(json_get(exec, "user", "uid", NULL)), 7);
	ck_assert_str_eq(json_get_str(json_object_array_get_idx(json_get(exec, "rlimits", NULL), 0),
				      "type"),
			 "RLIMIT_CORE");
	spec_facts_clear(&facts);
}
END_TEST

START_TEST(a_user_by_name_has_the_groups_that_name_it_and_its_own)
{
	_cleanup_json_ struct json_object *exec =
		parse("{\"args\":[\"id\"],\"user\":{\"username\":\"app\",\"additionalGids\":[5]}}");
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_free_ char *groups = NULL;
	_cleanup_free_ char *given = NULL;

	tmpdir_write("rootfs/etc/passwd", "app:x:7:8:::\n");
	tmpdir_write("rootfs/etc/group", "app:x:8:app\naudio:x:29:app\n");
	o = prepared("{\"process\":{\"args\":[\"sh\"],\"user\":{\"username\":\"app\"}},"
		     "\"root\":{\"path\":\"%s/rootfs\"}}");
	groups = json_text(json_get(o, "process", "user", "additionalGids", NULL));
	ck_assert_str_eq(groups, "[8,29]");
	/* Those that are given stay. */
	ck_assert_int_eq(spec_exec(exec, &facts, &err), 0);
	given = json_text(json_get(exec, "user", "additionalGids", NULL));
	ck_assert_str_eq(given, "[5]");
	spec_facts_clear(&facts);
}
END_TEST

START_TEST(an_exec_keeps_its_user_when_the_container_has_a_numeric_one)
{
	json_put(prepared(SPEC("")));
	_cleanup_json_ struct json_object *exec =
		parse("{\"args\":[\"id\"],\"user\":{\"uid\":5,\"gid\":6},\"rlimits\":[1]}");

	ck_assert_int_eq(spec_exec(exec, &facts, &err), 0);
	ck_assert_int_eq(json_object_get_int(json_get(exec, "user", "uid", NULL)), 5);
	ck_assert_ptr_null(json_get(exec, "rlimits", NULL));
	ck_assert_str_eq(json_get_str(exec, "cwd"), "/");
	spec_facts_clear(&facts);
}
END_TEST

START_TEST(the_pid_namespace_is_its_own_only_without_a_path)
{
	json_put(prepared(SPEC(",\"linux\":{\"namespaces\":[{\"type\":\"pid\"}]}")));

	ck_assert(facts.own_pidns);
	spec_facts_clear(&facts);
	json_put(prepared(SPEC(
		",\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":\"/proc/9/ns/pid\"}]}")));

	ck_assert(!facts.own_pidns);
	spec_facts_clear(&facts);
	json_put(prepared(SPEC("")));

	ck_assert(!facts.own_pidns);
	spec_facts_clear(&facts);
}
END_TEST

START_TEST(a_core_limit_comes_from_the_annotation_in_pods)
{
	_cleanup_json_ struct json_object *o =
		prepared(SPEC(",\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\","
			      "\"io.microsoft.lcow.rlimitcore\":\"1;2\"}"));
	struct json_object *limit =
		json_object_array_get_idx(json_get(o, "process", "rlimits", NULL), 0);

	ck_assert_str_eq(json_get_str(limit, "type"), "RLIMIT_CORE");
	ck_assert_int_eq(json_object_get_int(json_get(limit, "hard", NULL)), 2);
	spec_facts_clear(&facts);
	refused(SPEC(",\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\",\"io."
		     "microsoft.lcow.rlimitcore\":\"1\"}"),
		"rlimitcore");
}
END_TEST

START_TEST(a_missing_working_directory_is_made_within_the_root)
{
	_cleanup_json_ struct json_object *p = parse("{\"cwd\":\"/a/link/c\"}");
	_cleanup_free_ char *rootfs = str_printf("%s/rootfs", tmpdir);
	_cleanup_free_ char *link = str_printf("%s/a/link", rootfs);
	_cleanup_free_ char *made = str_printf("%s/real/c", rootfs);
	struct stat st;

	tmpdir_write("rootfs/a/x", "");
	tmpdir_write("rootfs/real/x", "");
	ck_assert_int_eq(symlink("/real", link), 0);
	spec_make_cwd(p, rootfs);
	ck_assert_int_eq(stat(made, &st), 0);
	ck_assert(S_ISDIR(st.st_mode));
}
END_TEST

TMPDIR_MAIN("gcs spec", a_lone_container_is_its_own_pod,
	    a_later_1_x_of_the_specification_is_lowered_and_2_0_is_not,
	    annotations_put_a_container_into_its_pod, a_virtual_pod_gathers_its_containers,
	    a_bundle_names_the_pod_where_no_annotation_does, pods_that_cannot_be_are_refused,
	    a_spec_without_what_a_container_needs_is_refused, network_files_are_written_and_mounted,
	    a_file_that_the_spec_mounts_itself_is_left_alone, a_read_only_root_has_them_read_only,
	    a_hostname_that_would_break_files_is_refused, a_flag_is_what_hcsshim_takes_for_one,
	    a_namespace_is_set_where_it_is_or_added,
	    a_user_name_is_resolved_in_the_root_and_execs_inherit_it,
	    a_user_by_name_has_the_groups_that_name_it_and_its_own,
	    an_exec_keeps_its_user_when_the_container_has_a_numeric_one,
	    the_pid_namespace_is_its_own_only_without_a_path,
	    a_core_limit_comes_from_the_annotation_in_pods,
	    a_missing_working_directory_is_made_within_the_root)
