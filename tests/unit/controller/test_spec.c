/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/spec.h"

#include <json-c/json.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/fd.h"
#include "controller/fixture.h"
#include "wire/json.h"

/* A section of the guest's spec that the given text becomes, as text. */
static char *guest_spec(const char *text, const char *section)
{
	_cleanup_json_ struct json_object *in = NULL, *out = NULL;
	_cleanup_free_ char *before = NULL, *after = NULL;
	struct err err = { 0 };

	ck_assert_msg(json_parse(text, strlen(text), &in, &err) == 0, "%s", err.text);
	before = json_text(in);
	ck_assert_int_eq(spec_for_guest(in, "/run/rootfs", "p1", &out, &err), 0);
	/* The host's own copy is what it was. */
	after = json_text(in);
	ck_assert_str_eq(before, after);
	return json_text(section ? json_get(out, section, NULL) : out);
}

static const struct {
	const char *section;
	const char *in;
	const char *out;
} rows[] = {
	/* root */
	{ "root", "{\"linux\":{},\"process\":{}}", "{\"path\":\"/run/rootfs\"}" },
	{ "root", "{\"linux\":{},\"process\":{},\"root\":null}", "{\"path\":\"/run/rootfs\"}" },
	{ "root", "{\"linux\":{},\"process\":{},\"root\":\"x\"}", "{\"path\":\"/run/rootfs\"}" },
	{ "root", "{\"linux\":{},\"process\":{},\"root\":{\"path\":\"rootfs\",\"readonly\":true}}",
	  "{\"path\":\"/run/rootfs\",\"readonly\":true}" },
	/* what means something on the host only */
	{ "hooks", "{\"linux\":{},\"process\":{},\"hooks\":{\"prestart\":[{\"path\":\"/x\"}]}}",
	  "null" },
	{ "process",
	  "{\"linux\":{},\"process\":{\"args\":[\"a\"],\"apparmorProfile\":\"x\",\"selinuxLabel\":"
	  "\"y\"}}",
	  "{\"args\":[\"a\"]}" },
	{ "linux",
	  "{\"process\":{},\"linux\":{\"cgroupsPath\":\"/"
	  "x\",\"mountLabel\":\"y\",\"intelRdt\":{},\"sysctl\":{\"a\":\"1\"}}}",
	  "{\"sysctl\":{\"a\":\"1\"}}" },
	{ "linux",
	  "{\"process\":{},\"linux\":{\"namespaces\":[{\"type\":\"network\",\"path\":\"/proc/1/ns/"
	  "net\"},{\"type\":\"mount\"},3]}}",
	  "{\"namespaces\":[{\"type\":\"network\"},{\"type\":\"mount\"},3]}" },
	/* what says that the pod's namespace is shared */
	{ "linux",
	  "{\"process\":{},\"linux\":{\"namespaces\":[{\"type\":\"ipc\",\"path\":\"/proc/1/ns/"
	  "ipc\"},{\"type\":\"uts\",\"path\":\"/x\"},{\"type\":\"pid\",\"path\":\"/proc/9/ns/"
	  "pid\"},{\"type\":\"user\",\"path\":\"/proc/1/ns/user\"}]}}",
	  "{\"namespaces\":[{\"type\":\"ipc\",\"path\":\"/proc/1/ns/ipc\"},{\"type\":\"uts\","
	  "\"path\":\"/x\"},{\"type\":\"pid\",\"path\":\"/proc/9/ns/pid\"},{\"type\":"
	  "\"user\"}]}" },
	{ "linux",
	  "{\"process\":{},\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\"},"
	  "\"linux\":{\"namespaces\":[{\"type\":\"network\",\"path\":\"/proc/7/ns/net\"}]}}",
	  "{\"namespaces\":[{\"type\":\"network\",\"path\":\"/proc/7/ns/net\"}]}" },
	{ "linux",
	  "{\"process\":{},\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\"},"
	  "\"linux\":{\"namespaces\":[{\"type\":\"network\",\"path\":\"/run/netns/a\"}]}}",
	  "{\"namespaces\":[{\"type\":\"network\"}]}" },
	/* CRI's /dev/shm */
	{ "mounts",
	  "{\"process\":{},\"linux\":{},\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":"
	  "\"bind\",\"source\":\"/run/containerd/x/sandboxes/p1/shm\",\"options\":[\"rbind\"]}]}",
	  "[{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\",\"options\":["
	  "\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\",\"size=65536k\"]}]" },
	{ "mounts",
	  "{\"process\":{},\"linux\":{},\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":"
	  "\"bind\",\"source\":\"/dev/shm\"}]}",
	  "[{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\",\"options\":["
	  "\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\",\"size=65536k\"]}]" },
	{ "mounts",
	  "{\"process\":{},\"linux\":{},\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":"
	  "\"bind\",\"source\":\"/volumes/shm\"},{\"destination\":\"/x\",\"type\":\"bind\","
	  "\"source\":\"/sandboxes/p1/shm\"}]}",
	  "[{\"destination\":\"/dev/shm\",\"type\":\"bind\",\"source\":\"/volumes/shm\"},{"
	  "\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/sandboxes/p1/shm\"}]" },
	/* resources */
	{ "linux",
	  "{\"process\":{},\"linux\":{\"resources\":{\"devices\":[],\"blockIO\":{},"
	  "\"network\":{},\"rdma\":{},\"hugepageLimits\":[1],"
	  "\"pids\":{\"limit\":5},\"memory\":{\"limit\":9}}}}",
	  "{\"resources\":{\"hugepageLimits\":[1],\"pids\":{\"limit\":5},\"memory\":{\"limit\":9}}"
	  "}" },
	{ "linux",
	  "{\"process\":{},\"linux\":{\"resources\":{\"cpu\":{\"period\":0,\"quota\":0,\"shares\":"
	  "2}}}}",
	  "{\"resources\":{\"cpu\":{\"period\":100000,\"quota\":-1,\"shares\":2}}}" },
	{ "linux",
	  "{\"process\":{},\"linux\":{\"resources\":{\"cpu\":{\"period\":5,\"quota\":6}}}}",
	  "{\"resources\":{\"cpu\":{\"period\":5,\"quota\":6}}}" },
	{ "linux", "{\"process\":{},\"linux\":{\"resources\":{\"cpu\":{}}}}",
	  "{\"resources\":{\"cpu\":{}}}" },
	{ "linux", "{\"process\":{},\"linux\":{\"resources\":[\"x\"]}}",
	  "{\"resources\":[\"x\"]}" },
	{ "linux", "{\"process\":{},\"linux\":{\"resources\":{\"cpu\":\"x\"}}}",
	  "{\"resources\":{\"cpu\":\"x\"}}" },
	/* seccomp and privilege */
	{ "linux", "{\"process\":{},\"linux\":{\"seccomp\":{\"x\":1}}}",
	  "{\"seccomp\":{\"x\":1}}" },
	{ "linux",
	  "{\"process\":{},\"annotations\":{\"io.microsoft.virtualmachine.lcow.privileged\":"
	  "\"true\"},\"linux\":{\"seccomp\":{}}}",
	  "{}" },
	{ "linux",
	  "{\"process\":{},\"annotations\":{\"io.microsoft.virtualmachine.lcow.privileged\":"
	  "\"false\"},\"linux\":{\"seccomp\":{}}}",
	  "{\"seccomp\":{}}" },
	/* every device may be used: privileged, as ctr and CRI have it */
	{ NULL,
	  "{\"process\":{},\"linux\":{\"seccomp\":{},\"resources\":{\"devices\":[{\"allow\":true,"
	  "\"access\":\"rwm\"}]}}}",
	  "{\"process\":{},\"linux\":{\"resources\":{}},\"annotations\":{\"io.microsoft."
	  "virtualmachine.lcow.privileged\":\"true\"},\"root\":{\"path\":\"/run/rootfs\"}}" },
	{ "annotations",
	  "{\"process\":{},\"annotations\":{\"io.microsoft.virtualmachine.lcow.privileged\":"
	  "\"false\"},\"linux\":{\"resources\":{\"devices\":[{\"type\":\"a\",\"allow\":true}]}}}",
	  "{\"io.microsoft.virtualmachine.lcow.privileged\":\"false\"}" },
	{ "annotations",
	  "{\"process\":{},\"linux\":{\"resources\":{\"devices\":[{\"allow\":false},{\"allow\":"
	  "true,"
	  "\"type\":\"c\"},{\"allow\":true,\"major\":1,\"minor\":3},3]}}}",
	  "null" },
	/* windows */
	{ "windows", "{\"process\":{},\"linux\":{}}", "null" },
	{ "windows", "{\"process\":{},\"linux\":{},\"windows\":{\"layerFolders\":[\"x\"]}}",
	  "null" },
	{ "windows", "{\"process\":{},\"linux\":{},\"windows\":\"x\"}", "null" },
	{ "windows",
	  "{\"process\":{},\"linux\":{},\"windows\":{\"layerFolders\":[],\"devices\":[1],"
	  "\"network\":{\"networkNamespace\":\"n\",\"endpointList\":[]}}}",
	  "{\"network\":{\"networkNamespace\":\"n\"},\"devices\":[1]}" },
	/* annotations */
	{ "annotations", "{\"process\":{},\"linux\":{},\"annotations\":{\"a\":\"b\"}}",
	  "{\"a\":\"b\"}" },
	{ "annotations",
	  "{\"process\":{},\"linux\":{},\"annotations\":{\"a\":\"b\",\"io.kubernetes.cri.sandbox-"
	  "id\":\"old\"}}",
	  "{\"a\":\"b\",\"io.kubernetes.cri.sandbox-id\":\"p1\"}" },
	{ "annotations", "{\"process\":{},\"linux\":{},\"annotations\":\"x\"}", "\"x\"" },
};

START_TEST(the_guest_gets_what_means_something_there)
{
	_cleanup_free_ char *got = guest_spec(rows[_i].in, rows[_i].section);

	ck_assert_str_eq(got, rows[_i].out);
}
END_TEST

/* @size: of the mount, NULL for a directory */
static void expect_shm(const char *dir, const char *size, const char *want)
{
	_cleanup_free_ char *shm = str_printf("%s/sandboxes/p1/shm", dir), *text = NULL,
			    *mounts = NULL;

	ck_assert_int_eq(dir_make(shm, 0755), 0);
	if (size)
		ck_assert_int_eq(mount("shm", shm, "tmpfs", 0, size), 0);
	text = str_printf("{\"process\":{},\"linux\":{},\"mounts\":[{\"destination\":\"/dev/shm\","
			  "\"type\":\"bind\",\"source\":\"%s\"}]}",
			  shm);
	mounts = guest_spec(text, "mounts");
	ck_assert_ptr_nonnull(strstr(mounts, want));
	if (size)
		ck_assert_int_eq(umount(shm), 0);
}

START_TEST(shm_is_as_large_as_on_the_host)
{
	char dir[] = "/tmp/test_spec.XXXXXX";

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	/* On what is no tmpfs, whatever /tmp is. */
	ck_assert_int_eq(mount("none", dir, "ramfs", 0, NULL), 0);
	expect_shm(dir, "size=3m", "\"size=3072k\"");
	/* Without a limit, and a directory of what is none. */
	expect_shm(dir, "size=0", "\"size=65536k\"");
	expect_shm(dir, NULL, "\"size=65536k\"");
	ck_assert_int_eq(umount(dir), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(what_is_not_known_passes)
{
	_cleanup_free_ char *got = guest_spec("{\"ociVersion\":\"1.1.0\",\"linux\":{},\"process\":{"
					      "},\"hostname\":\"h\",\"x\":[1,2.5]}",
					      NULL);

	ck_assert_str_eq(got, "{\"ociVersion\":\"1.1.0\",\"linux\":{},\"process\":{},\"hostname\":"
			      "\"h\",\"x\":[1,2.5],"
			      "\"root\":{\"path\":\"/run/rootfs\"}}");
}
END_TEST

static const struct {
	const char *in;
	const char *why;
} refused[] = {
	{ "{\"process\":{}}", "linux" },
	{ "{\"process\":{},\"linux\":[]}", "linux" },
	{ "{\"linux\":{}}", "process" },
	{ "{\"linux\":{},\"process\":\"sh\"}", "process" },
	{ "[]", "linux" },
};

START_TEST(a_spec_without_its_sections_is_refused)
{
	_cleanup_json_ struct json_object *in = NULL, *out = NULL;
	struct err err = { 0 };

	ck_assert_int_eq(json_parse(refused[_i].in, strlen(refused[_i].in), &in, NULL), 0);
	ck_assert_int_eq(spec_for_guest(in, "/r", "p1", &out, &err), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, refused[_i].why));
	ck_assert_ptr_null(out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller spec");
	TCase *t = tcase_create("spec");

	tcase_add_loop_test(t, the_guest_gets_what_means_something_there, 0, ARRAY_SIZE(rows));
	tcase_add_test(t, shm_is_as_large_as_on_the_host);
	tcase_add_test(t, what_is_not_known_passes);
	tcase_add_loop_test(t, a_spec_without_its_sections_is_refused, 0, ARRAY_SIZE(refused));
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
