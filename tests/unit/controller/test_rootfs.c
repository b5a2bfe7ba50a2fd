/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rootfs.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include <json-c/json.h>

#include "controller/fakevm.h"
#include "wire/json.h"

/*
 * Overlays and binds are really mounted, in a mount namespace of the test's own; without the right
 * to make one, the tests are skipped.
 */

enum { SKIPPED = 77 };

static struct rootfs rootfs;
static struct container_request request;
static struct rootfs_mount mount_entry;
static char *options[8];
static struct err err;
static char *names[3];
static struct rootfs_mount chain_mounts[4];

static void setup(void)
{
	fake_vm_init();
	memset(&err, 0, sizeof(err));
	memset(&rootfs, 0, sizeof(rootfs));
	memset(options, 0, sizeof(options));
	mount_entry = (struct rootfs_mount){ .options = options };
	request = (struct container_request){ .bundle = vm.bundle,
					      .rootfs = &mount_entry,
					      .n_rootfs = 1 };
}

static void free_chain(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		free(TAKE_PTR(names[i]));
	strv_free((char **)(uintptr_t)chain_mounts[3].options);
	chain_mounts[3].options = NULL;
}

static void teardown(void)
{
	rootfs_drop_host(&rootfs);
	json_put(request.spec);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		free(options[i]);
	free_chain();
	fake_vm_free();
}

static CO void prepare(void *arg)
{
	*(int *)arg = rootfs_prepare(&rootfs, &vm.env, "c1", "p1", &request, &err);
}

static CO void uncombine_and_release(void *arg)
{
	int *r = arg;

	*r = rootfs_uncombine(&rootfs, &vm.env, "c1", &err);
	if (*r >= 0)
		*r = rootfs_release(&rootfs, &vm.env, &err);
}

static int run(CO void (*what)(void *arg))
{
	int result = 1;

	in_coroutine(what, &result);
	return result;
}

static void set_mount(const char *type, const char *source)
{
	mount_entry.type = type;
	mount_entry.source = source;
}

static void add_option(const char *option)
{
	size_t i = 0;

	while (options[i])
		i++;
	ck_assert_uint_lt(i + 1, ARRAY_SIZE(options));
	options[i] = mem_strdup(option);
}

static void set_root(const char *path)
{
	request.n_rootfs = 0;
	request.spec = json_object_new_object();
	if (!path)
		return;

	struct json_object *root = json_object_new_object();

	json_object_object_add(root, "path", json_object_new_string(path));
	json_object_object_add(request.spec, "root", root);
}

static char *make_image(const char *name)
{
	fake_file(name, "an image");
	return str_printf("%s/%s", vm.dir, name);
}

/* Releases it and sees that nothing is left. */
static void release_all(void)
{
	ck_assert_int_eq(run(uncombine_and_release), 0);
	fake_nothing_reserved();
	ck_assert_ptr_null(rootfs.host_mount);
}

static bool is_mount(const char *name)
{
	struct stat a, b;
	_cleanup_free_ char *path = str_printf("%s/%s", vm.dir, name),
			    *up = str_printf("%s/..", path);

	ck_assert_int_eq(stat(path, &a), 0);
	ck_assert_int_eq(stat(up, &b), 0);
	if (a.st_dev != b.st_dev)
		return true;

	/* A bind mount within one file system shows in the table only. */
	_cleanup_free_ char *table = NULL, *needle = str_printf(" %s ", path);
	size_t len;

	ck_assert_int_eq(file_read("/proc/self/mountinfo", 1 << 20, &table, &len), 0);
	return strstr(table, needle);
}

/* ---- no mount: the bundle's own root ---- */

START_TEST(a_directory_is_shared_read_only_below_a_scratch_disk)
{
	set_root("rootfs");
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f),
			 "share 0 rootfs ro;mount 0;attach 0:0 c1.img rw;mount 0:0 ensure;"
			 "combine /run/mounts/plan9/0 at /run/gcs/pods/p1/c1/rootfs on "
			 "/run/mounts/scsi/0_0_0/scratch/p1/c1;");
	ck_assert_str_eq(rootfs.guest_path, "/run/gcs/pods/p1/c1/rootfs");
	ck_assert_str_eq(rootfs.scratch_dir, "/run/mounts/scsi/0_0_0/scratch/p1/c1");
	ck_assert(!rootfs.read_only);
	release_all();
}
END_TEST

START_TEST(with_the_upper_on_the_host_a_directory_is_shared_writable_by_itself)
{
	vm.env.upper = ROOTFS_UPPER_HOST;
	set_root("rootfs");
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "share 0 rootfs rw;mount 0;");
	ck_assert_str_eq(rootfs.guest_path, "/run/mounts/plan9/0");
	ck_assert_ptr_null(rootfs.scratch_image);
	release_all();
}
END_TEST

START_TEST(an_absolute_root_need_not_be_in_the_bundle)
{
	_cleanup_free_ char *path = str_printf("%s/volume", vm.dir);

	set_root(path);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert(str_starts(fake_calls(&vm.f), "share 0 volume ro;"));
	release_all();
}
END_TEST

static const char *const bad_roots[] = { NULL, "", "missing", "../file" };

START_TEST(a_root_that_is_no_directory_is_refused)
{
	set_root(bad_roots[_i]);
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	ck_assert_str_eq(fake_calls(&vm.f), "");
	release_all();
}
END_TEST

/* ---- images ---- */

static const struct {
	const char *type;
	const char *option;
	const char *calls;
	bool read_only;
} images[] = {
	{ "ext4", "rw", "attach 0:0 image rw;mount 0:0;", false },
	{ "xfs", NULL, "attach 0:0 image rw;mount 0:0;", false },
	{ "ext4", "ro",
	  "attach 0:0 image ro;mount 0:0 ro;attach 0:1 c1.img rw;mount 0:1 ensure;"
	  "combine /run/mounts/scsi/0_0_0 at /run/gcs/pods/p1/c1/rootfs on "
	  "/run/mounts/scsi/0_1_0/scratch/p1/c1;",
	  true },
	{ "erofs", NULL,
	  "attach 0:0 image ro;mount 0:0 ro;attach 0:1 c1.img rw;mount 0:1 ensure;"
	  "combine /run/mounts/scsi/0_0_0 at /run/gcs/pods/p1/c1/rootfs on "
	  "/run/mounts/scsi/0_1_0/scratch/p1/c1;",
	  true },
};

START_TEST(an_image_is_a_disk_and_a_read_only_one_gets_a_scratch_disk)
{
	_cleanup_free_ char *image = make_image("image");

	set_mount(images[_i].type, image);
	if (images[_i].option)
		add_option(images[_i].option);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f), images[_i].calls);
	ck_assert_str_eq(rootfs.guest_path, images[_i].read_only ? "/run/gcs/pods/p1/c1/rootfs"
								 : "/run/mounts/scsi/0_0_0");
	ck_assert(rootfs.read_only == images[_i].read_only);
	release_all();
	ck_assert(fake_exists("image"));
}
END_TEST

START_TEST(two_containers_of_a_vm_share_a_writable_image)
{
	_cleanup_free_ char *image = make_image("image");
	static struct rootfs first;

	set_mount("ext4", image);
	ck_assert_int_eq(run(prepare), 0);
	first = rootfs;
	rootfs = (struct rootfs){ 0 };
	fake_calls(&vm.f);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "");
	ck_assert_str_eq(rootfs.guest_path, first.guest_path);
	ck_assert_int_eq(run(uncombine_and_release), 0);
	ck_assert_str_eq(fake_calls(&vm.f), "");
	rootfs = first;
	release_all();
}
END_TEST

/* ---- encrypted scratch ---- */

START_TEST(scratch_that_is_to_be_encrypted_is_left_blank_for_the_guest)
{
	struct stat st;

	vm.env.encrypt_scratch = true;
	set_root("rootfs");
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_ptr_nonnull(strstr(fake_calls(&vm.f), "attach 0:0 c1.img rw;"
							"mount 0:0 ensure encrypted ext4;"));
	ck_assert_int_eq(stat(rootfs.scratch_image, &st), 0);
	ck_assert_int_eq(st.st_blocks, 0);
	release_all();
}
END_TEST

/* _i: all that would be written to what is not scratch, then what would not. */
static const struct {
	const char *type, *option;
	bool upper_host;
	const char *refused;
} encryptable[] = {
	{ "ext4", "rw", false, "an image that is not scratch" },
	{ "xfs", NULL, false, "an image that is not scratch" },
	{ "bind", "rw", true, "a directory of the host" },
	{ "overlay", "index=off", true, "a directory of the host" },
	{ NULL, NULL, true, "a directory of the host" },
	{ "ext4", "ro", false, NULL },
	{ "ext4", "ro", true, NULL },
	{ NULL, NULL, false, NULL },
};

START_TEST(what_cannot_be_encrypted_is_refused_before_anything_is_done)
{
	_cleanup_free_ char *image = make_image("image");

	vm.env.encrypt_scratch = true;
	vm.env.upper = encryptable[_i].upper_host ? ROOTFS_UPPER_HOST : ROOTFS_UPPER_GUEST;
	if (encryptable[_i].type) {
		set_mount(encryptable[_i].type, image);
		if (encryptable[_i].option)
			add_option(encryptable[_i].option);
	} else {
		set_root("rootfs");
	}
	if (encryptable[_i].refused) {
		ck_assert_int_eq(run(prepare), -ERR_STATE);
		ck_assert_msg(strstr(err.text, encryptable[_i].refused), "%s", err.text);
		ck_assert_str_eq(fake_calls(&vm.f), "");
	} else {
		ck_assert_msg(run(prepare) == 0, "%s", err.text);
	}
	release_all();
}
END_TEST

/* ---- what is refused ---- */

static const struct {
	const char *type, *source, *target, *option;
	const char *text;
} refused[] = {
	{ "windows-layer", "/x", NULL, NULL, "unrecognized rootfs mount type: windows-layer" },
	{ NULL, "/x", NULL, NULL, "unrecognized rootfs mount type" },
	{ "bind", "", NULL, NULL, "no source" },
	{ "bind", NULL, NULL, NULL, "no source" },
	{ "bind", "/x", "/etc", NULL, "target" },
	{ "ext4", "/nonexistent", NULL, NULL, "/nonexistent" },
	{ "ext4", "/dev/null", NULL, NULL, "/dev/null" },
	{ "overlay", "overlay", NULL, "X-containerd.mkfs.fs=ext4", "X-containerd.mkfs.fs" },
};

START_TEST(other_forms_are_refused_by_name)
{
	set_mount(refused[_i].type, refused[_i].source);
	mount_entry.target = refused[_i].target;
	if (refused[_i].option)
		add_option(refused[_i].option);
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, refused[_i].text));
	release_all();
}
END_TEST

/* ---- disks ---- */

static char **options_with(const char *const *list)
{
	char **v = NULL;

	for (; *list; list++)
		strv_add(&v, *list);
	return v;
}

/* What the erofs snapshotter gives in block mode: a writable image, two layers, an overlay. */
static void set_chain(bool writable)
{
	static const char *const files[] = { "rw.img", "2.erofs", "1.erofs" };
	const char *const above[] = { "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
				      "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
				      "lowerdir={{ overlay 1 2 }}",
				      writable ? "upperdir={{ mount 0 }}/upper" : "index=off",
				      "workdir={{ mount 0 }}/work",
				      NULL };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		free(names[i]);
		names[i] = make_image(files[i]);
		chain_mounts[i] =
			(struct rootfs_mount){ .type = i ? "erofs" : "ext4", .source = names[i] };
	}
	chain_mounts[3] =
		(struct rootfs_mount){ .type = "format/mkdir/overlay",
				       .source = "overlay",
				       .options = options_with(writable ? above : above + 2) };
	request.rootfs = chain_mounts;
	request.n_rootfs = ARRAY_SIZE(chain_mounts);
}

START_TEST(a_chain_is_disks_that_the_guest_stacks)
{
	set_chain(true);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f),
			 "attach 0:0 rw.img rw;mount 0:0;attach 0:1 2.erofs ro;mount 0:1 ro;"
			 "attach 0:2 1.erofs ro;mount 0:2 ro;"
			 "combine /run/mounts/scsi/0_1_0:/run/mounts/scsi/0_2_0 at "
			 "/run/gcs/pods/p1/c1/rootfs on /run/mounts/scsi/0_0_0;");
	ck_assert_str_eq(rootfs.guest_path, "/run/gcs/pods/p1/c1/rootfs");
	ck_assert(!rootfs.read_only);
	ck_assert_ptr_null(rootfs.scratch_image);
	ck_assert(!rootfs.scratch_is_own);
	ck_assert_int_eq(run(uncombine_and_release), 0);
	ck_assert_str_eq(fake_calls(&vm.f),
			 "take apart /run/gcs/pods/p1/c1/rootfs;unmount 0:0;eject 0:0;detach 0:0;"
			 "unmount 0:1;eject 0:1;detach 0:1;unmount 0:2;eject 0:2;detach 0:2;");
	fake_nothing_reserved();
}
END_TEST

START_TEST(a_writable_layer_of_the_client_s_cannot_be_encrypted)
{
	vm.env.encrypt_scratch = true;
	set_chain(true);
	ck_assert_int_eq(run(prepare), -ERR_STATE);
	ck_assert_ptr_nonnull(strstr(err.text, "an image that is not scratch"));
	free_chain();
	set_chain(false);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_ptr_nonnull(strstr(fake_calls(&vm.f), "mount 0:3 ensure encrypted ext4;"));
	release_all();
}
END_TEST

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* _i: with the layers in the guest, and with them on the host, which checks nothing. */
START_TEST(a_layer_s_root_digest_is_demanded_of_the_guest)
{
	_cleanup_free_ char *option = NULL;

	set_chain(false);
	fake_file("meta", "{\"roothash\":\"" DIGEST "\",\"hashoffset\":8192}");
	option = str_printf("X-containerd.dmverity=%s/meta", vm.dir);
	add_option(option);
	chain_mounts[1].options = options;
	if (_i) {
		strv_free((char **)(uintptr_t)chain_mounts[3].options);
		chain_mounts[3].options =
			options_with((const char *const[]){ "lowerdir={{ mount 1 }}:/bin", NULL });
		ck_assert_int_eq(run(prepare), -ERR_INVALID);
		ck_assert_ptr_nonnull(strstr(err.text, "hash tree is checked in the VM only"));
	} else {
		ck_assert_int_eq(run(prepare), 0);
		ck_assert_ptr_nonnull(strstr(fake_calls(&vm.f),
					     "mount 0:1 ro digest 01234567 at 8192;"
					     "attach 0:2 1.erofs ro;mount 0:2 ro;"));
	}
	release_all();
}
END_TEST

START_TEST(a_chain_without_a_writable_layer_gets_a_scratch_disk)
{
	set_chain(false);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_ptr_nonnull(strstr(fake_calls(&vm.f),
				     "attach 0:3 c1.img rw;mount 0:3 ensure;"
				     "combine /run/mounts/scsi/0_1_0:/run/mounts/scsi/0_2_0 at "
				     "/run/gcs/pods/p1/c1/rootfs on "
				     "/run/mounts/scsi/0_3_0/scratch/p1/c1;"));
	ck_assert(rootfs.read_only && rootfs.scratch_is_own);
	release_all();
}
END_TEST

START_TEST(a_layer_that_another_container_has_is_attached_once)
{
	static struct rootfs first;

	set_chain(false);
	ck_assert_int_eq(run(prepare), 0);
	first = rootfs;
	rootfs = (struct rootfs){ 0 };
	fake_calls(&vm.f);
	/* Another container's scratch has another name. */
	ck_assert_int_eq(unlink(first.scratch_image), 0);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert(str_starts(fake_calls(&vm.f), "attach 0:4 c1.img rw;"));
	ck_assert_uint_eq(scsi_in_use(vm.env.scsi), 5);
	ck_assert_int_eq(run(uncombine_and_release), 0);
	ck_assert_uint_eq(scsi_in_use(vm.env.scsi), 4);
	rootfs = first;
	release_all();
}
END_TEST

/* _i is the call that fails: of 7 with a writable layer of its own, or of 9 without. */
START_TEST(a_chain_that_fails_anywhere_leaves_nothing_reserved)
{
	set_chain(_i < 7);
	vm.f.fail_at = (unsigned)(_i < 7 ? _i : _i - 7) + 1;
	ck_assert_int_eq(run(prepare), -EIO);
	release_all();
}
END_TEST

/* _i is the call of the release that fails. */
START_TEST(a_chain_that_cannot_be_released_at_once_can_be_later)
{
	set_chain(true);
	ck_assert_int_eq(run(prepare), 0);
	vm.f.fail_at = vm.f.n_calls + (unsigned)_i + 1;
	ck_assert_int_eq(run(uncombine_and_release), -EIO);
	ck_assert_uint_eq(scsi_in_use(vm.env.scsi), _i == 0 ? 3 : 1);
	release_all();
}
END_TEST

START_TEST(a_layer_that_is_not_there_is_refused_before_anything_is_attached)
{
	set_chain(true);
	ck_assert_int_eq(unlink(names[2]), 0);
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "1.erofs"));
	ck_assert_str_eq(fake_calls(&vm.f), "");
	release_all();
}
END_TEST

START_TEST(what_is_no_place_on_a_disk_is_refused)
{
	set_chain(false);
	strv_free((char **)(uintptr_t)chain_mounts[3].options);
	chain_mounts[3].options = options_with((const char *const[]){ "lowerdir=@1:@7", NULL });
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "@7"));
	release_all();
}
END_TEST

START_TEST(without_layers_the_writable_disk_holds_the_root)
{
	set_chain(true);
	strv_free((char **)(uintptr_t)chain_mounts[3].options);
	chain_mounts[1] = (struct rootfs_mount){ .type = "format/mkdir/bind",
						 .source = "{{ mount 0 }}/upper" };
	chain_mounts[3].options = options_with((const char *const[]){
		"X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "rw", NULL });
	chain_mounts[1].options = chain_mounts[3].options;
	request.n_rootfs = 2;
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f),
			 "attach 0:0 rw.img rw;mount 0:0;combine  at "
			 "/run/gcs/pods/p1/c1/rootfs on /run/mounts/scsi/0_0_0;");
	release_all();
}
END_TEST

static CO void uncombine(void *arg)
{
	*(int *)arg = rootfs_uncombine(&rootfs, &vm.env, "c1", &err);
}

static CO void release(void *arg)
{
	*(int *)arg = rootfs_release(&rootfs, &vm.env, &err);
}

START_TEST(layers_come_one_after_the_other_and_go_at_the_same_time)
{
	int result = 1;

	set_chain(true);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f),
			 "attach 0:0 rw.img rw;mount 0:0;attach 0:1 2.erofs ro;mount 0:1 ro;"
			 "attach 0:2 1.erofs ro;mount 0:2 ro;"
			 "combine /run/mounts/scsi/0_1_0:/run/mounts/scsi/0_2_0 at "
			 "/run/gcs/pods/p1/c1/rootfs on /run/mounts/scsi/0_0_0;");
	ck_assert_int_eq(run(uncombine), 0);
	fake_calls(&vm.f);
	vm.f.hold_at = "detach";
	co_spawn("release", release, &result, USEC_NEVER);
	run_for(20);
	ck_assert_str_eq(fake_calls(&vm.f), "unmount 0:0;eject 0:0;detach 0:0;"
					    "unmount 0:1;eject 0:1;detach 0:1;"
					    "unmount 0:2;eject 0:2;detach 0:2;");
	co_event_set(&vm.f.gate);
	run_all();
	ck_assert_int_eq(result, 0);
	fake_nothing_reserved();
}
END_TEST

static void set_spanned(void)
{
	set_chain(false);
	mount_entry = (struct rootfs_mount){ .type = "erofs", .source = names[0] };
	options[0] = str_printf("device=%s", names[1]);
	options[1] = str_printf("device=%s", names[2]);
	mount_entry.options = options;
	request.rootfs = &mount_entry;
	request.n_rootfs = 1;
}

/* _i is the call that fails, of those that give up the file system's own disk. */
START_TEST(disks_stay_as_long_as_a_file_system_that_spans_them)
{
	static const char *const rest[] = { "unmount 0:2;eject 0:2;detach 0:2;",
					    "eject 0:2;detach 0:2;", "detach 0:2;" };
	_cleanup_free_ char *all = str_printf("%sunmount 0:0;eject 0:0;detach 0:0;"
					      "unmount 0:1;eject 0:1;detach 0:1;",
					      rest[_i]);

	set_spanned();
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_int_eq(run(uncombine), 0);
	fake_calls(&vm.f);
	/* The scratch disk goes first, by three calls. */
	vm.f.fail_at = vm.f.n_calls + 4 + (unsigned)_i;
	ck_assert_int_eq(run(release), -EIO);
	ck_assert_ptr_null(strstr(fake_calls(&vm.f), "unmount 0:0"));
	ck_assert_int_eq(run(release), 0);
	ck_assert_str_eq(fake_calls(&vm.f), all);
	fake_nothing_reserved();
}
END_TEST

/* _i is the call that fails, 0 for none. */
START_TEST(a_file_system_over_several_disks_is_mounted_after_them_and_goes_before_them)
{
	set_spanned();
	vm.f.fail_at = (unsigned)_i;
	ck_assert_int_eq(run(prepare), _i ? -EIO : 0);
	if (_i == 0) {
		ck_assert(str_starts(fake_calls(&vm.f),
				     "attach 0:0 2.erofs ro;await 0:0 ro;"
				     "attach 0:1 1.erofs ro;await 0:1 ro;"
				     "attach 0:2 rw.img ro;mount 0:2 ro over 0:0 over 0:1;"
				     "attach 0:3 c1.img rw;"));
		ck_assert_int_eq(run(uncombine_and_release), 0);
		ck_assert_ptr_nonnull(strstr(fake_calls(&vm.f),
					     "unmount 0:2;eject 0:2;detach 0:2;"
					     "unmount 0:0;eject 0:0;detach 0:0;"
					     "unmount 0:1;eject 0:1;detach 0:1;"));
	}
	release_all();
}
END_TEST

/* _i: and with scratch encrypted. */
START_TEST(hcsshims_layers_share_their_scratch_between_containers)
{
	_cleanup_free_ char *expected =
		str_printf("attach 0:0 image ro;mount 0:0 ro;mount 0:0 ro;"
			   "attach 0:1 scratch.vhdx rw;mount 0:1 ensure%s;"
			   "combine /run/mounts/scsi/0_0_2:/run/mounts/scsi/0_0_1 at "
			   "/run/gcs/pods/p1/c1/rootfs on /run/mounts/scsi/0_1_0/scratch/p1/c1;",
			   _i ? " encrypted ext4" : "");
	_cleanup_free_ char *layer = make_image("image"), *scratch = make_image("scratch.vhdx");
	_cleanup_free_ char *link = str_printf("%s/link.vhdx", vm.dir);

	ck_assert_int_eq(symlink(scratch, link), 0);
	set_mount("lcow-partitioned-layer", "layers");
	options[0] = str_printf("scratch=%s", link);
	options[1] = str_printf("parent-partitioned-layers=[{\"Path\":\"%s\",\"Partition\":2},"
				"{\"Path\":\"%s\",\"Partition\":1}]",
				layer, layer);
	vm.env.encrypt_scratch = _i;
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_str_eq(fake_calls(&vm.f), expected);
	ck_assert(rootfs.scratch_is_own);
	release_all();
	ck_assert(fake_exists("scratch.vhdx"));
}
END_TEST

START_TEST(a_vhdx_scratch_is_not_formatted)
{
	_cleanup_free_ char *source = str_printf("%s/9", vm.dir);

	free(fake_dir("9"));
	free(fake_dir("1"));
	fake_file("1/layer.vhd", "a layer");
	fake_file("9/sandbox.vhdx", "vhdxfile and more");
	set_mount("lcow-layer", source);
	options[0] = str_printf("parentLayerPaths=[\"%s/1\"]", vm.dir);
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "VHDX"));
	ck_assert_str_eq(fake_calls(&vm.f), "");
	release_all();
}
END_TEST

START_TEST(an_image_to_be_made_is_made_once)
{
	_cleanup_free_ char *image = str_printf("%s/new.img", vm.dir);
	struct stat st;

	setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
	if (access("/usr/sbin/mkfs.ext4", X_OK) < 0 && access("/sbin/mkfs.ext4", X_OK) < 0)
		return;
	set_mount("mkfs/ext4", image);
	add_option("X-containerd.mkfs.size=8MiB");
	add_option("X-containerd.mkfs.uuid=3f4c2e0a-8a51-4f6e-9d6a-0c4b7f0d2a11");
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_int_eq(stat(image, &st), 0);
	ck_assert_int_eq(st.st_size, 8 << 20);
	ck_assert_int_eq(st.st_mode & 07777, 0640);

	ino_t ino = st.st_ino;

	release_all();
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_int_eq(stat(image, &st), 0);
	ck_assert_uint_eq(st.st_ino, ino);
	release_all();
}
END_TEST

START_TEST(an_image_that_cannot_be_made_leaves_no_file)
{
	_cleanup_free_ char *image = str_printf("%s/new.img", vm.dir);

	/* There is no mkfs in the PATH. */
	set_mount("mkfs/ext4", image);
	add_option("X-containerd.mkfs.size=8MiB");
	ck_assert_int_lt(run(prepare), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "mkfs.ext4"));
	release_all();
	ck_assert(!fake_exists("new.img") && !fake_exists("new.img.lcow-new"));
}
END_TEST

/* ---- mounts on the host ---- */

static void set_overlay(void)
{
	char *low = fake_dir("low"), *up = fake_dir("up"), *wd = fake_dir("wd");

	fake_file("low/below", "1");
	fake_file("up/above", "2");
	set_mount("overlay", "overlay");
	options[0] = str_printf("workdir=%s", wd);
	options[1] = str_printf("upperdir=%s", up);
	options[2] = str_printf("lowerdir=%s", low);
	free(low);
	free(up);
	free(wd);
}

START_TEST(an_overlay_is_mounted_on_the_host_and_goes_with_the_release)
{
	set_overlay();
	ck_assert_int_eq(run(prepare), 0);
	ck_assert(is_mount("work/c1/rootfs"));
	ck_assert(fake_exists("work/c1/rootfs/below") && fake_exists("work/c1/rootfs/above"));
	ck_assert(str_starts(fake_calls(&vm.f), "share 0 rootfs ro;mount 0;attach 0:0 c1.img rw;"));
	ck_assert(!rootfs.read_only);
	release_all();
	ck_assert(fake_exists("low/below") && fake_exists("up/above"));
}
END_TEST

static void set_layers(unsigned n, const char *name)
{
	_cleanup_buf_ struct buf b = { 0 };

	buf_addf(&b, "lowerdir=");
	for (unsigned i = 0; i < n; i++) {
		_cleanup_free_ char *dir = str_printf("layers/%s%u", name, i);
		_cleanup_free_ char *file = str_printf("%s/only%u", dir, i);
		_cleanup_free_ char *path = fake_dir(dir);

		fake_file(file, "1");
		buf_addf(&b, "%s%s", i ? ":" : "", path);
	}
	set_mount("overlay", "overlay");
	options[0] = mem_strndup((char *)b.data, b.len);
}

START_TEST(a_hundred_layers_are_all_there_though_their_paths_are_over_a_page)
{
	set_layers(100, "a-path-as-long-as-those-of-snapshotters-with-numbers-and-all-");
	ck_assert_uint_gt(strlen(options[0]), 4096);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert(fake_exists("work/c1/rootfs/only0") && fake_exists("work/c1/rootfs/only99"));
	release_all();
}
END_TEST

START_TEST(options_over_a_page_are_refused_rather_than_cut)
{
	set_layers(300, "a-path-as-long-as-those-of-snapshotters-");
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "over a page"));
	release_all();
}
END_TEST

START_TEST(a_layer_that_is_missing_among_many_is_named)
{
	set_layers(100, "a-path-as-long-as-those-of-snapshotters-with-numbers-and-all-");
	memcpy(strstr(options[0], "all-99"), "all-xx", 6);
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "all-xx"));
	release_all();
}
END_TEST

/* An upper directory with something in it below layers that are images. */
static bool set_chain_of_host(void)
{
	static char image[80], up[80], wd[80];
	_cleanup_free_ char *command = NULL;

	setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
	free(fake_dir("up"));
	free(fake_dir("wd"));
	fake_file("up/above", "2");
	fake_file("volume/below", "1");
	snprintf(image, sizeof(image), "%s/image", vm.dir);
	snprintf(up, sizeof(up), "upperdir=%s/up", vm.dir);
	snprintf(wd, sizeof(wd), "workdir=%s/wd", vm.dir);
	command = str_printf("truncate -s 8M %s && mkfs.ext4 -q -d %s/volume %s 2>/dev/null", image,
			     vm.dir, image);
	chain_mounts[0] = (struct rootfs_mount){ .type = "ext4",
						 .source = image,
						 .options = options_with((const char *const[]){
							 "ro", "loop", NULL }) };
	chain_mounts[1] =
		(struct rootfs_mount){ .type = "format/mkdir/overlay", .source = "overlay" };
	chain_mounts[1].options =
		options_with((const char *const[]){ wd, up, "lowerdir={{ mount 0 }}", NULL });
	request.rootfs = chain_mounts;
	request.n_rootfs = 2;
	return access("/dev/loop-control", R_OK) == 0 && system(command) == 0;
}

static bool loop_device_has(const char *name)
{
	for (int i = 0; i < 32; i++) {
		_cleanup_free_ char *path = str_printf("/sys/block/loop%d/loop/backing_file", i);
		_cleanup_free_ char *file = NULL;
		size_t len;

		if (file_read(path, 4096, &file, &len) >= 0 && strstr(file, name))
			return true;
	}
	return false;
}

START_TEST(images_below_a_directory_of_the_host_are_stacked_there)
{
	if (set_chain_of_host()) {
		ck_assert_msg(run(prepare) == 0, "%s", err.text);
		ck_assert(is_mount("work/c1/rootfs"));
		ck_assert(fake_exists("work/c1/rootfs/below") &&
			  fake_exists("work/c1/rootfs/above"));
		ck_assert(!fake_exists("work/c1/m0"));
		ck_assert(loop_device_has(vm.dir));
		ck_assert(str_starts(fake_calls(&vm.f), "share 0 rootfs ro;mount 0;attach 0:0 "
							"c1.img rw;"));
		release_all();
		ck_assert(!loop_device_has(vm.dir));
		ck_assert(fake_exists("up/above"));
	}
	strv_free((char **)(uintptr_t)chain_mounts[0].options);
	strv_free((char **)(uintptr_t)chain_mounts[1].options);
}
END_TEST

START_TEST(images_that_cannot_be_stacked_on_the_host_leave_no_mount_and_no_device)
{
	if (set_chain_of_host()) {
		ck_assert_int_eq(rmdir(strchr(chain_mounts[1].options[0], '=') + 1), 0);
		ck_assert_int_lt(run(prepare), 0);
		ck_assert(!fake_exists("work/c1/m0"));
		release_all();
		ck_assert(!loop_device_has(vm.dir));
	}
	strv_free((char **)(uintptr_t)chain_mounts[0].options);
	strv_free((char **)(uintptr_t)chain_mounts[1].options);
}
END_TEST

START_TEST(a_bind_shows_its_source)
{
	_cleanup_free_ char *source = str_printf("%s/volume", vm.dir);

	fake_file("volume/inside", "1");
	set_mount("bind", source);
	add_option("rbind");
	add_option("rw");
	ck_assert_int_eq(run(prepare), 0);
	ck_assert(is_mount("work/c1/rootfs") && fake_exists("work/c1/rootfs/inside"));
	release_all();
	ck_assert(fake_exists("volume/inside"));
}
END_TEST

START_TEST(a_read_only_mount_is_never_shared_writable)
{
	_cleanup_free_ char *source = str_printf("%s/volume", vm.dir);

	vm.env.upper = ROOTFS_UPPER_HOST;
	set_mount("bind", source);
	add_option("ro");
	ck_assert_int_eq(run(prepare), 0);
	ck_assert(rootfs.read_only);
	ck_assert(str_starts(fake_calls(&vm.f), "share 0 rootfs ro;mount 0;attach 0:0 c1.img rw;"));
	release_all();
}
END_TEST

START_TEST(a_mount_that_fails_leaves_no_mount_point)
{
	set_mount("bind", "/nonexistent/source");
	ck_assert_int_eq(run(prepare), -ERR_INVALID);
	release_all();
}
END_TEST

/* _i is the call that fails after the overlay is up. */
START_TEST(a_failure_after_the_mount_takes_the_mount_back)
{
	set_overlay();
	vm.f.fail_at = (unsigned)_i + 1;
	ck_assert_int_eq(run(prepare), -EIO);
	release_all();
	ck_assert(fake_exists("low/below") && fake_exists("up/above"));
}
END_TEST

START_TEST(a_vm_that_is_gone_leaves_nothing_on_the_host)
{
	set_overlay();
	ck_assert_int_eq(run(prepare), 0);
	rootfs_drop_host(&rootfs);
	ck_assert(!fake_exists("work/c1") && !fake_exists("scratch/c1.img"));
	rootfs_drop_host(&rootfs);
}
END_TEST

/* ---- the scratch image ---- */

START_TEST(the_scratch_image_is_formatted_where_the_host_can)
{
	_cleanup_free_ char *image = str_printf("%s/scratch/c1.img", vm.dir);
	uint8_t magic[2] = { 0 };

	setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
	set_root("rootfs");
	ck_assert_int_eq(run(prepare), 0);

	int fd = open(image, O_RDONLY | O_CLOEXEC);
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 16 << 20);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(pread(fd, magic, 2, 1024 + 56), 2);
	close(fd);
	if (access("/usr/sbin/mkfs.ext4", X_OK) == 0 || access("/sbin/mkfs.ext4", X_OK) == 0)
		ck_assert(magic[0] == 0x53 && magic[1] == 0xef);
	release_all();
}
END_TEST

START_TEST(a_host_without_room_for_a_file_system_is_told_at_once_and_nothing_stays)
{
	_cleanup_free_ char *scratch = str_printf("%s/scratch", vm.dir),
			    *image = str_printf("%s/new.img", scratch);

	setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
	if (access("/usr/sbin/mkfs.ext4", X_OK) < 0 && access("/sbin/mkfs.ext4", X_OK) < 0)
		return;
	if (_i == 0) {
		set_root("rootfs");
	} else {
		set_mount("mkfs/ext4", image);
		add_option("X-containerd.mkfs.size=8MiB");
	}
	ck_assert_int_eq(mount("tmpfs", scratch, "tmpfs", 0, "size=64k"), 0);
	ck_assert_int_eq(run(prepare), -ENOSPC);
	ck_assert_msg(strstr(err.text, "No space left on device"), "%s", err.text);
	ck_assert(_i == 1 || strstr(err.text, "scratch_dir: "));
	ck_assert(!fake_exists("scratch/c1.img") && !fake_exists("scratch/new.img.lcow-new"));
	ck_assert_int_eq(umount(scratch), 0);
	release_all();
}
END_TEST

START_TEST(a_mkfs_that_fails_for_another_reason_leaves_a_blank_image_to_the_guest)
{
	_cleanup_free_ char *image = str_printf("%s/scratch/c1.img", vm.dir),
			    *mkfs = str_printf("%s/mkfs.ext4", vm.dir);
	static const char script[] =
		"#!/bin/sh\nfor image; do :; done\nprintf begun >$image\nexit 1\n";
	char head[5] = "begun";
	struct stat st;

	ck_assert_int_eq(file_write(mkfs, script, strlen(script), 0755), 0);
	setenv("PATH", vm.dir, 1);
	set_root("rootfs");
	ck_assert_int_eq(run(prepare), 0);

	int fd = open(image, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 16 << 20);
	ck_assert_int_eq(pread(fd, head, sizeof(head), 0), sizeof(head));
	ck_assert_mem_eq(head, "\0\0\0\0\0", sizeof(head));
	close(fd);
	release_all();
}
END_TEST

static const struct {
	const char *size;
	uint64_t bytes;
} sizes[] = {
	{ "2", 2ull << 30 },   { "16384", 16ull << 40 }, { "0", 16 << 20 },
	{ "16385", 16 << 20 }, { "x", 16 << 20 },        { "", 16 << 20 },
};

START_TEST(a_container_may_ask_for_a_scratch_of_another_size)
{
	_cleanup_free_ char *image = str_printf("%s/scratch/c1.img", vm.dir);
	struct json_object *annotations = json_object_new_object();
	struct stat st;

	set_root("rootfs");
	json_object_object_add(annotations, "io.microsoft.container.storage.rootfs.size-gb",
			       json_object_new_string(sizes[_i].size));
	json_object_object_add(request.spec, "annotations", annotations);
	ck_assert_int_eq(run(prepare), 0);
	ck_assert_int_eq(stat(image, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, sizes[_i].bytes);
	release_all();
}
END_TEST

START_TEST(a_scratch_image_of_the_same_name_is_never_overwritten)
{
	fake_file("scratch/c1.img", "somebody else's");
	set_root("rootfs");
	ck_assert_int_eq(run(prepare), -EEXIST);
	ck_assert_int_eq(run(uncombine_and_release), 0);
	ck_assert(fake_exists("scratch/c1.img"));
}
END_TEST

START_TEST(a_release_that_fails_goes_on_with_the_rest_and_can_be_repeated)
{
	set_root("rootfs");
	ck_assert_int_eq(run(prepare), 0);
	/* Taking apart, then the scratch disk's unmount. */
	vm.f.fail_at = vm.f.n_calls + 2;
	ck_assert_int_eq(run(uncombine_and_release), -EIO);
	ck_assert_uint_eq(shares_in_use(vm.env.shares), 0);
	ck_assert_uint_eq(scsi_in_use(vm.env.scsi), 1);
	ck_assert(fake_exists("scratch/c1.img"));
	release_all();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller rootfs");
	TCase *t = tcase_create("rootfs");

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("skipped: no mount namespace can be made here\n");
		return SKIPPED;
	}
	/* Not every file system can be an upper layer. */
	if (mount("tmpfs", "/tmp", "tmpfs", 0, NULL) < 0)
		return SKIPPED;
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_directory_is_shared_read_only_below_a_scratch_disk);
	tcase_add_test(t, with_the_upper_on_the_host_a_directory_is_shared_writable_by_itself);
	tcase_add_test(t, an_absolute_root_need_not_be_in_the_bundle);
	tcase_add_loop_test(t, a_root_that_is_no_directory_is_refused, 0, ARRAY_SIZE(bad_roots));
	tcase_add_loop_test(t, an_image_is_a_disk_and_a_read_only_one_gets_a_scratch_disk, 0,
			    ARRAY_SIZE(images));
	tcase_add_test(t, two_containers_of_a_vm_share_a_writable_image);
	tcase_add_loop_test(t, other_forms_are_refused_by_name, 0, ARRAY_SIZE(refused));
	tcase_add_test(t, scratch_that_is_to_be_encrypted_is_left_blank_for_the_guest);
	tcase_add_loop_test(t, what_cannot_be_encrypted_is_refused_before_anything_is_done, 0,
			    ARRAY_SIZE(encryptable));
	tcase_add_test(t, a_writable_layer_of_the_client_s_cannot_be_encrypted);
	tcase_add_loop_test(t, a_layer_s_root_digest_is_demanded_of_the_guest, 0, 2);
	tcase_add_test(t, a_chain_is_disks_that_the_guest_stacks);
	tcase_add_test(t, layers_come_one_after_the_other_and_go_at_the_same_time);
	tcase_add_loop_test(t, disks_stay_as_long_as_a_file_system_that_spans_them, 0, 3);
	tcase_add_test(t, a_chain_without_a_writable_layer_gets_a_scratch_disk);
	tcase_add_test(t, a_layer_that_another_container_has_is_attached_once);
	tcase_add_loop_test(t, a_chain_that_fails_anywhere_leaves_nothing_reserved, 0, 16);
	tcase_add_loop_test(t, a_chain_that_cannot_be_released_at_once_can_be_later, 0, 10);
	tcase_add_test(t, a_layer_that_is_not_there_is_refused_before_anything_is_attached);
	tcase_add_test(t, what_is_no_place_on_a_disk_is_refused);
	tcase_add_test(t, without_layers_the_writable_disk_holds_the_root);
	tcase_add_loop_test(
		t, a_file_system_over_several_disks_is_mounted_after_them_and_goes_before_them, 0,
		10);
	tcase_add_loop_test(t, hcsshims_layers_share_their_scratch_between_containers, 0, 2);
	tcase_add_test(t, a_vhdx_scratch_is_not_formatted);
	tcase_add_test(t, an_image_to_be_made_is_made_once);
	tcase_add_test(t, an_image_that_cannot_be_made_leaves_no_file);
	tcase_add_test(t, a_hundred_layers_are_all_there_though_their_paths_are_over_a_page);
	tcase_add_test(t, options_over_a_page_are_refused_rather_than_cut);
	tcase_add_test(t, a_layer_that_is_missing_among_many_is_named);
	tcase_add_test(t, images_below_a_directory_of_the_host_are_stacked_there);
	tcase_add_test(t, images_that_cannot_be_stacked_on_the_host_leave_no_mount_and_no_device);
	tcase_add_test(t, an_overlay_is_mounted_on_the_host_and_goes_with_the_release);
	tcase_add_test(t, a_bind_shows_its_source);
	tcase_add_test(t, a_read_only_mount_is_never_shared_writable);
	tcase_add_test(t, a_mount_that_fails_leaves_no_mount_point);
	tcase_add_loop_test(t, a_failure_after_the_mount_takes_the_mount_back, 0, 5);
	tcase_add_test(t, a_vm_that_is_gone_leaves_nothing_on_the_host);
	tcase_add_test(t, the_scratch_image_is_formatted_where_the_host_can);
	tcase_add_loop_test(t,
			    a_host_without_room_for_a_file_system_is_told_at_once_and_nothing_stays,
			    0, 2);
	tcase_add_test(t, a_mkfs_that_fails_for_another_reason_leaves_a_blank_image_to_the_guest);
	tcase_add_loop_test(t, a_container_may_ask_for_a_scratch_of_another_size, 0,
			    ARRAY_SIZE(sizes));
	tcase_add_test(t, a_scratch_image_of_the_same_name_is_never_overwritten);
	tcase_add_test(t, a_release_that_fails_goes_on_with_the_rest_and_can_be_repeated);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
