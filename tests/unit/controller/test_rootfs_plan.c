/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rootfs_plan.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "controller/fixture.h"
#include "wire/json.h"

enum { MOUNTS = 6, OPTIONS = 6 };

/* A mount as a test writes it; an entry without a type ends the list. */
struct m {
	const char *type, *source, *options[OPTIONS];
};

static struct rootfs_mount mounts[PLAN_MOUNTS_MAX + 1];
static char **options_of[MOUNTS];
static struct container_request request;
static struct rootfs_plan plan;
static struct err err;
static struct buf text;

static void setup(void)
{
	memset(mounts, 0, sizeof(mounts));
	memset(&plan, 0, sizeof(plan));
	memset(&err, 0, sizeof(err));
	request = (struct container_request){ .bundle = "/bundle", .rootfs = mounts };
}

static void teardown(void)
{
	for (size_t i = 0; i < MOUNTS; i++)
		options_of[i] = strv_free(options_of[i]);
	json_put(request.spec);
	plan_free(&plan);
	buf_free(&text);
}

static int read_plan(const struct m *list, enum rootfs_upper upper)
{
	for (size_t i = 0; i < MOUNTS && list[i].type; i++) {
		for (size_t k = 0; k < OPTIONS && list[i].options[k]; k++)
			strv_add(&options_of[i], list[i].options[k]);
		mounts[i] =
			(struct rootfs_mount){ list[i].type, list[i].source, NULL, options_of[i] };
		request.n_rootfs++;
	}
	return plan_read(&request, upper, &plan, &err);
}

static void add_list(const char *name, char *const *list)
{
	_cleanup_free_ char *joined = strv_join(list, ":");

	if (list)
		buf_addf(&text, " %s %s", name, joined);
}

/* The plan as one line. */
static const char *plan_text(void)
{
	static const char *const names[] = { "bundle", "host", "disks" };

	buf_addf(&text, "%s", names[plan.form]);
	for (size_t i = 0; plan.form == PLAN_DISKS && i < plan.n_disks; i++) {
		const struct plan_disk *d = &plan.disks[i];

		buf_addf(&text, " %s %s %s", d->source, d->filesystem ? d->filesystem : "any",
			 d->read_only ? "ro" : "rw");
		if (d->partition)
			buf_addf(&text, " p%u", (unsigned)d->partition);
		if (d->ensure_filesystem)
			buf_addf(&text, " ensure");
		add_list("over", d->devices);
		if (d->mkfs.filesystem)
			buf_addf(&text, " mkfs %s %u %s", d->mkfs.filesystem,
				 (unsigned)d->mkfs.bytes, d->mkfs.uuid ? d->mkfs.uuid : "");
		buf_addf(&text, ";");
	}
	if (plan.form == PLAN_DISKS) {
		add_list("lower", plan.lower);
		if (plan.writable)
			buf_addf(&text, " writable %s%s", plan.writable,
				 plan.per_container ? " each" : "");
		if (plan.root)
			buf_addf(&text, " root %s", plan.root);
	}
	buf_addf(&text, "%s", plan.read_only ? " ro" : "");
	buf_add(&text, "", 1);
	return (char *)text.data;
}

#define RW "/s/rwlayer.img"
#define UP "{{ mount 0 }}/upper"
#define WORK "{{ mount 0 }}/work"
#define MKUP "X-containerd.mkdir.path=" UP ":0755"
#define MKWORK "X-containerd.mkdir.path=" WORK ":0755"

static const struct {
	struct m list[MOUNTS];
	const char *plan;
} forms[] = {
	{ { { NULL, NULL, { NULL } } }, "bundle" },
	/* one mount */
	{ { { "overlay", "overlay", { "lowerdir=/a:/b" } } }, "host" },
	{ { { "bind", "/a", { "rbind", "ro" } } }, "host ro" },
	{ { { "ext4", "/a", { "loop", "rw" } } }, "disks /a ext4 rw; root @0" },
	{ { { "ext3", "/a", { NULL } } }, "disks /a ext4 rw; root @0" },
	{ { { "xfs", "/dev/mapper/x", { "nouuid" } } }, "disks /dev/mapper/x xfs rw; root @0" },
	{ { { "ext4", "/a", { "ro" } } }, "disks /a ext4 ro; lower @0 ro" },
	{ { { "erofs", "/a", { "ro", "loop" } } }, "disks /a erofs ro; lower @0 ro" },
	{ { { "erofs", "/a", { "device=/b", "ro", "device=/c" } } },
	  "disks /a erofs ro over /b:/c; lower @0 ro" },
	{ { { "erofs", "/a", { "X-containerd.dmverity=auto" } } },
	  "disks /a erofs ro; lower @0 ro" },
	{ { { "erofs", "/a", { "X-containerd.dmverity=off" } } },
	  "disks /a erofs ro; lower @0 ro" },
	{ { { "mkfs/ext4", RW, { "X-containerd.mkfs.size=64MiB" } } },
	  "disks " RW " ext4 rw mkfs ext4 67108864 ; root @0" },
	/* the erofs snapshotter, block mode */
	{ { { "ext4", RW, { "rw", "loop" } },
	    { "erofs", "/2", { "ro", "loop" } },
	    { "erofs", "/1", { "ro", "loop" } },
	    { "format/mkdir/overlay",
	      "overlay",
	      { MKUP, MKWORK, "workdir=" WORK, "upperdir=" UP, "lowerdir={{ overlay 1 2 }}" } } },
	  "disks " RW " ext4 rw; /2 erofs ro; /1 erofs ro; lower @1:@2 writable @0" },
	{ { { "mkfs/ext4",
	      RW,
	      { "X-containerd.mkfs.fs=xfs", "X-containerd.mkfs.size=1024",
		"X-containerd.mkfs.uuid=u", "rw" } },
	    { "erofs", "/1", { "ro", "loop" } },
	    { "mkdir/format/overlay",
	      "overlay",
	      { "workdir=" WORK, "upperdir=" UP, "lowerdir={{ mount 1 }}", "index=off" } } },
	  "disks " RW " ext4 rw mkfs xfs 1024 u; /1 erofs ro; lower @1 writable @0" },
	/* layers written out, upside down, and below a directory of the disk */
	{ { { "erofs", "/1", { NULL } },
	    { "erofs", "/2", { NULL } },
	    { "ext4", RW, { NULL } },
	    { "format/overlay",
	      "overlay",
	      { "lowerdir={{ overlay 1 0 }}", "upperdir={{ mount 2 }}/c/upper",
		"workdir={{ mount 2 }}/c/work" } } },
	  "disks /1 erofs ro; /2 erofs ro; " RW " ext4 rw; lower @1:@0 writable @2/c" },
	/* views */
	{ { { "erofs", "/1", { NULL } },
	    { "erofs", "/2", { NULL } },
	    { "format/overlay", "overlay", { "lowerdir={{ mount 0 }}:{{ mount 1 }}" } } },
	  "disks /1 erofs ro; /2 erofs ro; lower @0:@1 ro" },
	{ { { "erofs", "/1", { NULL } }, { "format/bind", "{{ mount 0 }}", { "ro", "rbind" } } },
	  "disks /1 erofs ro; lower @0 ro" },
	/* no layers */
	{ { { "ext4", RW, { "rw" } },
	    { "format/mkdir/bind", UP, { MKUP, MKWORK, "rw", "rbind" } } },
	  "disks " RW " ext4 rw; writable @0" },
	{ { { "ext4", RW, { "rw" } }, { "format/mkdir/bind", UP, { MKUP, "ro", "rbind" } } },
	  "disks " RW " ext4 rw; writable @0 ro" },
	{ { { "ext4", RW, { "rw" } }, { "format/bind", "{{ mount 0 }}/d", { "rw" } } },
	  "disks " RW " ext4 rw; root @0/d" },
	/* the upper directory on the host: nothing in it, something, or it is not there */
	{ { { "erofs", "/1", { NULL } },
	    { "format/overlay",
	      "overlay",
	      { "lowerdir={{ mount 0 }}", "upperdir=/proc/1/map_files/none", "workdir=/w" } } },
	  "host" },
	{ { { "erofs", "/1", { NULL } },
	    { "format/overlay",
	      "overlay",
	      { "lowerdir={{ mount 0 }}", "upperdir=/", "workdir=/w", "ro" } } },
	  "host ro" },
	{ { { "erofs", "/1", { NULL } },
	    { "format/overlay", "overlay", { "lowerdir={{ mount 0 }}:/b" } } },
	  "host" },
	/* hcsshim's */
	{ { { "lcow-layer", "/s/9", { "parentLayerPaths=[\"/s/2\",\"/s/1\"]" } } },
	  "disks /s/2/layer.vhd any ro; /s/1/layer.vhd any ro; /s/9/sandbox.vhdx ext4 rw ensure; "
	  "lower @0:@1 writable @2 each" },
	{ { { "lcow-partitioned-layer",
	      "/s/9",
	      { "scratch=/s/9/x.vhdx",
		"parent-partitioned-layers=[{\"Path\":\"/d\",\"Partition\":2},"
		"{\"Path\":\"/d\",\"Partition\":1},{\"Path\":\"/e\"}]" } } },
	  "disks /d any ro p2; /d any ro p1; /e any ro; /s/9/x.vhdx ext4 rw ensure; "
	  "lower @0:@1:@2 writable @3 each" },
};

START_TEST(the_forms_come_to_disks_or_to_the_host)
{
	ck_assert_msg(read_plan(forms[_i].list, ROOTFS_UPPER_GUEST) == 0, "%s", err.text);
	ck_assert_str_eq(plan_text(), forms[_i].plan);
}
END_TEST

static const struct {
	struct m list[MOUNTS];
	int code;
	const char *text;
} refused[] = {
	{ { { "windows-layer", "/a", { NULL } } }, -ERR_INVALID, "windows-layer" },
	{ { { "x/ext4", "/a", { NULL } } }, -ERR_INVALID, "x/ext4" },
	{ { { "ext4", "", { NULL } } }, -ERR_INVALID, "no source" },
	{ { { "ext4", "a", { NULL } } }, -ERR_INVALID, "no absolute path" },
	{ { { "ext4", "/a", { "device=/b" } } }, -ERR_INVALID, "device=/b" },
	{ { { "erofs", "/a", { "device=b" } } }, -ERR_INVALID, "device=b" },
	{ { { "erofs", "/a", { "X-containerd.dmverity=/none" } } },
	  -ERR_INVALID,
	  "metadata /none" },
	{ { { "erofs", "/a", { "X-containerd.dmverity=on" } } }, -ERR_INVALID, "/a.dmverity" },
	{ { { "erofs", "/a", { "X-containerd.dmverity=x" } } },
	  -ERR_INVALID,
	  "X-containerd.dmverity=x" },
	{ { { "ext4", "/a", { "X-containerd.dmverity.roothash=1" } } },
	  -ERR_INVALID,
	  "X-containerd.dmverity.roothash=1 is not supported" },
	{ { { "ext4", "/a", { "X-containerd.mkfs.size=1" } } }, -ERR_INVALID, "mkfs.size" },
	{ { { "mkfs/ext4", "/a", { NULL } } }, -ERR_INVALID, "size" },
	{ { { "mkfs/ext4", "/a", { "X-containerd.mkfs.size=x" } } }, -ERR_INVALID, "size" },
	{ { { "mkfs/ext4", "/a", { "X-containerd.mkfs.size=1", "X-containerd.mkfs.fs=ntfs" } } },
	  -ERR_INVALID,
	  "ntfs" },
	{ { { "format/ext4", "{{ mount 0 }}", { NULL } } }, -ERR_INVALID, "mount 0" },
	{ { { "erofs", "/1", { NULL } }, { "erofs", "/2", { NULL } } },
	  -ERR_INVALID,
	  "last of several" },
	{ { { "overlay", "o", { NULL } }, { "format/bind", "{{ mount 0 }}", { NULL } } },
	  -ERR_INVALID,
	  "rootfs mount 0: unrecognized rootfs mount type: overlay" },
	{ { { "erofs", "/1", { NULL } },
	    { "format/overlay", "o", { "upperdir={{ mount 0 }}/upper" } } },
	  -ERR_INVALID,
	  "no lowerdir" },
	{ { { "erofs", "/1", { NULL } }, { "format/overlay", "o", { "lowerdir={{ mount 1 }}" } } },
	  -ERR_INVALID,
	  "mount 1" },
	{ { { "erofs", "/1", { NULL } },
	    { "format/overlay", "o", { "lowerdir={{ mount 0 }}", "uidmap=0:1:1" } } },
	  -ERR_INVALID,
	  "uidmap=0:1:1" },
	{ { { "ext4", RW, { NULL } },
	    { "erofs", "/1", { NULL } },
	    { "format/overlay",
	      "o",
	      { "lowerdir={{ mount 1 }}", "upperdir={{ mount 0 }}/up", "workdir=" WORK } } },
	  -ERR_INVALID,
	  "upperdir @0/up" },
	{ { { "ext4", RW, { NULL } },
	    { "erofs", "/1", { NULL } },
	    { "format/overlay", "o", { "lowerdir={{ mount 1 }}", "upperdir=" UP } } },
	  -ERR_INVALID,
	  "workdir" },
	{ { { "ext4", RW, { NULL } },
	    { "erofs", "/1", { NULL } },
	    { "format/overlay",
	      "o",
	      { "lowerdir={{ mount 1 }}", "upperdir=" UP, "workdir={{ mount 1 }}/work" } } },
	  -ERR_INVALID,
	  "one disk" },
	{ { { "ext4", RW, { NULL } },
	    { "erofs", "/1", { NULL } },
	    { "format/overlay",
	      "o",
	      { "lowerdir={{ mount 1 }}", "upperdir=" UP, "workdir=" WORK, MKUP } } },
	  -ERR_INVALID,
	  "X-containerd.mkdir.path" },
	{ { { "ext4", RW, { NULL } },
	    { "format/mkdir/bind", UP, { "X-containerd.mkdir.path=" UP ":0755:1:1" } } },
	  -ERR_INVALID,
	  "of root" },
	{ { { "ext4", RW, { NULL } },
	    { "format/mkdir/bind", UP, { "X-containerd.mkdir.path=/etc/x:0755" } } },
	  -ERR_INVALID,
	  "/etc/x" },
	{ { { "ext4", RW, { NULL } },
	    { "format/mkdir/bind",
	      "{{ mount 0 }}/d",
	      { "X-containerd.mkdir.path={{ mount 0 }}/d:0755" } } },
	  -ERR_INVALID,
	  "upper directory" },
	/* hcsshim's */
	{ { { "lcow-layer", "/s", { "parentLayerPaths=[\"/a\"]", "other=1" } } },
	  -ERR_STATE,
	  "unrecognized lcow-layer mount option: other=1" },
	{ { { "lcow-layer", "/s", { NULL } } }, -ERR_STATE, "no parentLayerPaths" },
	{ { { "lcow-layer", "/s", { "parentLayerPaths=[]" } } }, -ERR_INVALID, "parentLayerPaths" },
	{ { { "lcow-layer", "/s", { "parentLayerPaths=[1]" } } }, -ERR_INVALID, "1" },
	{ { { "lcow-layer", "/s", { "parentLayerPaths=x" } } }, -ERR_INVALID, "parentLayerPaths" },
	{ { { "lcow-layer", "", { "parentLayerPaths=[\"/a\"]" } } }, -ERR_STATE, "no source" },
	{ { { "lcow-layer", "/s", { "parentLayerPaths=[\"/a\"]" } }, { "ext4", "/x", { NULL } } },
	  -ERR_STATE,
	  "2 rootfs mounts" },
	{ { { "lcow-partitioned-layer", "/s", { "scratch=/x" } } },
	  -ERR_STATE,
	  "no parent-partitioned-layers" },
	{ { { "lcow-partitioned-layer",
	      "/s",
	      { "parent-partitioned-layers=[{\"Path\":\"/d\"}]" } } },
	  -ERR_STATE,
	  "no scratch" },
	{ { { "lcow-partitioned-layer", "/s", { "rw" } } },
	  -ERR_STATE,
	  "unrecognized lcow-partitioned-layer mount option: rw" },
	{ { { "lcow-partitioned-layer",
	      "/s",
	      { "scratch=/x",
		"parent-partitioned-layers=[{\"Path\":\"/d\",\"Partition\":256}]" } } },
	  -ERR_INVALID,
	  "/d" },
	{ { { "lcow-partitioned-layer",
	      "/s",
	      { "scratch=/x", "parent-partitioned-layers=[\"/d\"]" } } },
	  -ERR_INVALID,
	  "Path" },
};

START_TEST(what_is_not_understood_is_refused_by_name)
{
	ck_assert_int_eq(read_plan(refused[_i].list, ROOTFS_UPPER_GUEST), refused[_i].code);
	ck_assert_msg(strstr(err.text, refused[_i].text), "%s", err.text);
	ck_assert_uint_eq(plan.n_disks, 0);
}
END_TEST

/* An empty upper directory of the host is a new snapshot: writes may go elsewhere. */
START_TEST(an_empty_upper_directory_leaves_the_layers_to_the_guest_unless_it_shall_be_written)
{
	char dir[] = "/tmp/test_rootfs_plan.XXXXXX", option[64];
	const struct m list[MOUNTS] = {
		{ "erofs", "/1", { NULL } },
		{ "format/mkdir/overlay",
		  "overlay",
		  { "workdir=/w", option, "lowerdir={{ mount 0 }}" } },
	};

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(option, sizeof(option), "upperdir=%s", dir);
	ck_assert_int_eq(read_plan(list, _i ? ROOTFS_UPPER_HOST : ROOTFS_UPPER_GUEST), 0);
	ck_assert_str_eq(plan_text(), _i ? "host" : "disks /1 erofs ro; lower @0");
	rmdir(dir);
}
END_TEST

START_TEST(a_target_is_refused)
{
	mounts[0] = (struct rootfs_mount){ "bind", "/a", "/etc", NULL };
	request.n_rootfs = 1;
	ck_assert_int_eq(plan_read(&request, ROOTFS_UPPER_GUEST, &plan, &err), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "/etc"));
	mounts[0].type = "lcow-layer";
	ck_assert_int_eq(plan_read(&request, ROOTFS_UPPER_GUEST, &plan, &err), -ERR_STATE);
}
END_TEST

START_TEST(the_number_of_mounts_is_limited)
{
	request.n_rootfs = PLAN_MOUNTS_MAX + 1;
	ck_assert_int_eq(plan_read(&request, ROOTFS_UPPER_GUEST, &plan, &err), -ERR_INVALID);
}
END_TEST

static const struct {
	const char *spec;
	size_t n_mounts;
	int code;
	const char *text;
} folders[] = {
	{ "{\"windows\":{\"layerFolders\":[\"/s/2\",\"/s/1\",\"/s/9\"]}}", 0, 0,
	  "disks /s/2/layer.vhd any ro; /s/1/layer.vhd any ro; /s/9/sandbox.vhdx ext4 rw ensure; "
	  "lower @0:@1 writable @2 each" },
	{ "{\"windows\":{\"layerFolders\":[\"/s/2\",\"/s/9\"]}}", 1, -ERR_STATE, "both" },
	{ "{\"windows\":{\"layerFolders\":[\"/s/9\"]}}", 0, -ERR_STATE, "a layer at least" },
	{ "{\"windows\":{\"layerFolders\":7}}", 0, -ERR_STATE, "a layer at least" },
	{ "{\"windows\":{\"layerFolders\":[\"/s/2\",1]}}", 0, -ERR_INVALID, "no path" },
	{ "{\"windows\":{\"layerFolders\":[\"x\",\"/s/9\"]}}", 0, -ERR_INVALID,
	  "no absolute path" },
	{ "{\"windows\":{}}", 0, 0, "bundle" },
};

START_TEST(layer_folders_of_the_spec_are_a_form_of_their_own)
{
	mounts[0] = (struct rootfs_mount){ "ext4", "/a", NULL, NULL };
	request.n_rootfs = folders[_i].n_mounts;
	ck_assert_int_eq(json_parse(folders[_i].spec, strlen(folders[_i].spec), &request.spec,
				    &err),
			 0);
	ck_assert_int_eq(plan_read(&request, ROOTFS_UPPER_GUEST, &plan, &err), folders[_i].code);
	if (folders[_i].code == 0)
		ck_assert_str_eq(plan_text(), folders[_i].text);
	else
		ck_assert_msg(strstr(err.text, folders[_i].text), "%s", err.text);
}
END_TEST

START_TEST(a_place_is_on_one_of_the_disks)
{
	static char a[] = "/m/a", b[] = "/m/b";
	static char *const points[] = { a, b };
	static const char *const bad[] = { "@2", "@", "@x", "@1/../x", "/m/a", "", "@-1" };
	_cleanup_free_ char *one = NULL, *below = NULL;
	char *none = NULL;

	ck_assert_int_eq(plan_place("@1", points, 2, &one, &err), 0);
	ck_assert_str_eq(one, "/m/b");
	ck_assert_int_eq(plan_place("@0/x/y", points, 2, &below, &err), 0);
	ck_assert_str_eq(below, "/m/a/x/y");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(plan_place(bad[i], points, 2, &none, &err), -ERR_INVALID);
	ck_assert_ptr_null(none);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller rootfs_plan");
	TCase *t = tcase_create("rootfs_plan");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, the_forms_come_to_disks_or_to_the_host, 0, ARRAY_SIZE(forms));
	tcase_add_loop_test(t, what_is_not_understood_is_refused_by_name, 0, ARRAY_SIZE(refused));
	tcase_add_loop_test(
		t,
		an_empty_upper_directory_leaves_the_layers_to_the_guest_unless_it_shall_be_written,
		0, 2);
	tcase_add_test(t, a_target_is_refused);
	tcase_add_test(t, the_number_of_mounts_is_limited);
	tcase_add_loop_test(t, layer_folders_of_the_spec_are_a_form_of_their_own, 0,
			    ARRAY_SIZE(folders));
	tcase_add_test(t, a_place_is_on_one_of_the_disks);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
