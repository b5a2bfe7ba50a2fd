/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/layers.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "tmpdir.h"
#include "wire/gcs.h"

static struct err err;

static char *options(const char *const *paths, size_t n, const char *scratch, int expected)
{
	_cleanup_free_ struct gcs_layer *layers = mem_new0(n + 1, sizeof(*layers));
	_cleanup_free_ char *s = mem_strdup(scratch);
	struct gcs_combined_layers l = { .layers = layers, .n_layers = n, .scratch_path = s };
	char *text = NULL;

	for (size_t i = 0; i < n; i++)
		layers[i].path = mem_strdup(paths[i]);
	ck_assert_int_eq(layers_options(&l, &text, &err), expected);
	for (size_t i = 0; i < n; i++)
		free(layers[i].path);
	return text;
}

START_TEST(the_first_layer_is_the_topmost)
{
	_cleanup_free_ char *text = options((const char *[]){ "/top", "/base" }, 2, NULL, 0);

	ck_assert_str_eq(text, "lowerdir=/top:/base");
}
END_TEST

START_TEST(a_scratch_makes_it_writable)
{
	_cleanup_free_ char *text = options((const char *[]){ "/a" }, 1, "/s/c", 0);

	ck_assert_str_eq(text, "lowerdir=/a,upperdir=/s/c/upper,workdir=/s/c/work");
}
END_TEST

START_TEST(no_layers_and_paths_that_mean_something_to_the_parser_are_refused)
{
	options(NULL, 0, NULL, -ERR_INVALID);
	options((const char *[]){ "/a:b" }, 1, NULL, -ERR_INVALID);
	options((const char *[]){ "/a,upperdir=/etc" }, 1, NULL, -ERR_INVALID);
	options((const char *[]){ "relative" }, 1, NULL, -ERR_INVALID);
	options((const char *[]){ "/a" }, 1, "/s/../t", -ERR_INVALID);
}
END_TEST

START_TEST(what_does_not_fit_a_page_is_refused_with_the_number_of_layers)
{
	const char *paths[200];

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		paths[i] = "/run/mounts/scsi/0_12_0";
	options(paths, ARRAY_SIZE(paths), NULL, -ERR_EXHAUSTED);
	ck_assert_ptr_nonnull(strstr(err.text, "200 layers"));
	free(options(paths, 128, "/run/mounts/scsi/0_3_0/scratch/pod/container", 0));
}
END_TEST

START_TEST(a_scratch_alone_needs_no_layers)
{
	free(options(NULL, 0, "/s/c", 0));
	options(NULL, 0, "/s/../t", -ERR_INVALID);
}
END_TEST

START_TEST(an_upper_directory_belongs_to_one_overlay)
{
	static const char mountinfo[] = "30 1 0:9 / / rw - rootfs rootfs rw\n"
					"31 30 0:25 / /a rw - overlay overlay "
					"rw,lowerdir=/l,upperdir=/s/c/upper,workdir=/s/c/work\n"
					"32 30 0:26 / /b rw - overlay overlay "
					"rw,lowerdir=/l,workdir=/t/work,upperdir=/t/upper\n";

	ck_assert(layers_upper_taken(mountinfo, "/s/c/upper"));
	ck_assert(layers_upper_taken(mountinfo, "/t/upper"));
	ck_assert(!layers_upper_taken(mountinfo, "/s/c/up"));
	ck_assert(!layers_upper_taken(mountinfo, "/l"));
	ck_assert(!layers_upper_taken("", "/t/upper"));
}
END_TEST

START_TEST(a_bundle_is_emptied_but_for_the_mark)
{
	_cleanup_free_ char *config = str_printf("%s/config.json", tmpdir);
	_cleanup_free_ char *below = str_printf("%s/d", tmpdir);
	_cleanup_free_ char *mark = str_printf("%s/.lcow-bundle-on-scratch", tmpdir);

	tmpdir_write("config.json", "{}");
	tmpdir_write("d/e/f", "1");
	tmpdir_write(".lcow-bundle-on-scratch", "");
	ck_assert_int_eq(layers_empty_bundle(tmpdir), 0);
	ck_assert_int_lt(access(config, F_OK), 0);
	ck_assert_int_lt(access(below, F_OK), 0);
	ck_assert_int_eq(access(mark, F_OK), 0);
	ck_assert_int_eq(layers_empty_bundle("/nonexistent"), -ENOENT);
}
END_TEST

TMPDIR_MAIN("gcs layers", the_first_layer_is_the_topmost, a_scratch_makes_it_writable,
	    no_layers_and_paths_that_mean_something_to_the_parser_are_refused,
	    what_does_not_fit_a_page_is_refused_with_the_number_of_layers,
	    a_scratch_alone_needs_no_layers, an_upper_directory_belongs_to_one_overlay,
	    a_bundle_is_emptied_but_for_the_mark)
