/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/device.h"

#include <json-c/json.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "tmpdir.h"
#include "wire/json.h"

static struct err err;

/* A /dev of the VM, where nodes have other numbers than on the host. */
static bool make_nodes(void)
{
	static const struct {
		const char *name;
		mode_t kind;
		unsigned number;
	} nodes[] = { { "disk", S_IFBLK, 77 },
		      { "net/tun", S_IFCHR, 78 },
		      { "console", S_IFCHR, 79 },
		      { "pts/0", S_IFCHR, 80 },
		      { "shm/x", S_IFCHR, 81 } };

	tmpdir_write("net/plain", "");
	tmpdir_write("pts/plain", "");
	tmpdir_write("shm/plain", "");
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		_cleanup_free_ char *path = str_printf("%s/%s", tmpdir, nodes[i].name);

		if (mknod(path, nodes[i].kind | 0600, makedev(7, nodes[i].number)) < 0)
			return false; /* not root */
	}
	return true;
}

static struct json_object *spec_of(const char *text)
{
	struct json_object *o = NULL;

	ck_assert_msg(json_parse(text, strlen(text), &o, &err) == 0, "%s", text);
	return o;
}

static void expect(struct json_object *spec, const char *part, const char *text)
{
	_cleanup_free_ char *got = json_text(
		str_eq(part, "rules") ? json_get(spec, "linux", "resources", "devices", NULL)
				      : json_get(spec, "linux", "devices", NULL));

	ck_assert_str_eq(got, text);
}

START_TEST(a_node_has_the_numbers_of_the_VM_s_and_may_be_used)
{
	_cleanup_json_ struct json_object *o = spec_of(
		"{\"linux\":{\"devices\":[{\"path\":\"/dev/net/tun\",\"type\":\"b\",\"major\":1,"
		"\"minor\":2,\"fileMode\":438,\"uid\":5}],\"resources\":{\"devices\":[{\"allow\":"
		"true,\"access\":\"rwm\"}]}}}");

	if (!make_nodes())
		return;
	ck_assert_msg(device_fit(o, tmpdir, &err) == 0, "%s", err.text);
	expect(o, "nodes",
	       "[{\"path\":\"/dev/net/"
	       "tun\",\"type\":\"c\",\"major\":7,\"minor\":78,\"fileMode\":438,"
	       "\"uid\":5}]");
	expect(o, "rules",
	       "[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"access\":\"rwm\",\"type\":"
	       "\"c\",\"major\":7,\"minor\":78}]");
}
END_TEST

START_TEST(without_devices_nothing_may_be_used)
{
	_cleanup_json_ struct json_object *o = spec_of("{}");

	ck_assert_int_eq(device_fit(o, tmpdir, &err), 0);
	expect(o, "nodes", "[]");
	expect(o, "rules", "[{\"allow\":false,\"access\":\"rwm\"}]");
}
END_TEST

START_TEST(what_the_VM_does_not_have_is_refused_by_name)
{
	static const char *const paths[] = { "/dev/none", "/dev/net", "/dev/net/plain",
					     "/etc/passwd" };

	make_nodes();
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_free_ char *text =
			str_printf("{\"linux\":{\"devices\":[{\"path\":\"%s\"}]}}", paths[i]);
		_cleanup_json_ struct json_object *o = spec_of(text);

		ck_assert_int_eq(device_fit(o, tmpdir, &err), -ERR_INVALID);
		ck_assert_msg(strstr(err.text, paths[i]) != NULL, "%s", err.text);
	}
}
END_TEST

START_TEST(a_privileged_container_has_all_of_the_VM_s)
{
	_cleanup_json_ struct json_object *o =
		spec_of("{\"annotations\":{\"io.microsoft.virtualmachine.lcow.privileged\":"
			"\"true\"},\"linux\":{"
			"\"devices\":[{\"path\":\"/dev/none\"}]}}");
	_cleanup_free_ char *nodes = NULL;

	if (!make_nodes())
		return;
	ck_assert_int_eq(device_fit(o, tmpdir, &err), 0);
	expect(o, "rules", "[{\"allow\":true,\"access\":\"rwm\"}]");
	nodes = json_text(json_get(o, "linux", "devices", NULL));
	ck_assert_uint_eq(json_object_array_length(json_get(o, "linux", "devices", NULL)), 2);
	ck_assert_ptr_nonnull(strstr(nodes, "\"path\":\"/dev/disk\",\"type\":\"b\",\"major\":7,"));
	ck_assert_ptr_nonnull(strstr(nodes, "\"path\":\"/dev/net/tun\",\"type\":\"c\""));
}
END_TEST

TMPDIR_MAIN("gcs device", a_node_has_the_numbers_of_the_VM_s_and_may_be_used,
	    without_devices_nothing_may_be_used, what_the_VM_does_not_have_is_refused_by_name,
	    a_privileged_container_has_all_of_the_VM_s)
