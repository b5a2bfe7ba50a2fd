/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/layer_verity.h"

#include "base/fd.h"
#include "controller/fixture.h"

#define DIGEST "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"
#define NO_HEX "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdex"

static char dir[] = "/tmp/test_layer_verity.XXXXXX";
static char *image, *metadata, *digest;
static uint64_t offset;
static struct err err;

static void setup(void)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	image = str_printf("%s/layer.erofs", dir);
	metadata = str_printf("%s.dmverity", image);
	offset = 0;
	memset(&err, 0, sizeof(err));
}

static void teardown(void)
{
	free(image);
	free(metadata);
	free(TAKE_PTR(digest));
	ck_assert_int_eq(dir_remove(dir), 0);
}

static int read_it(const char *value, const char *text)
{
	if (text)
		ck_assert_int_eq(file_write(metadata, text, strlen(text), 0600), 0);
	return layer_verity_read(value, image, &digest, &offset, &err);
}

START_TEST(the_file_that_is_named_says_what_is_demanded)
{
	/* As containerd writes it; others put more in it. */
	ck_assert_int_eq(read_it(metadata, "{\n  \"roothash\": \"" DIGEST "\",\n  \"hashoffset\": "
					   "4489216,\n \"salt\": \"00\"\n}"),
			 0);
	ck_assert_str_eq(digest, DIGEST);
	ck_assert_uint_eq(offset, 4489216);
}
END_TEST

static const struct {
	const char *value;
	bool there;
	int code;
} words[] = {
	{ "on", true, 1 },
	{ "on", false, -ERR_INVALID },
	{ "auto", true, 1 },
	{ "auto", false, 0 },
	{ "off", true, 0 },
	{ "off", false, 0 },
	{ "yes", true, -ERR_INVALID },
	{ "", true, -ERR_INVALID },
	{ "layer.erofs.dmverity", true, -ERR_INVALID },
};

START_TEST(a_word_means_the_file_beside_the_layer)
{
	static const char text[] = "{\"roothash\":\"" DIGEST "\",\"hashoffset\":4096}";
	int r = read_it(words[_i].value, words[_i].there ? text : NULL);

	ck_assert_int_eq(r, words[_i].code < 0 ? words[_i].code : 0);
	ck_assert(!digest == (words[_i].code <= 0));
	ck_assert_uint_eq(offset, words[_i].code > 0 ? 4096 : 0);
}
END_TEST

static const char *const unusable[] = {
	"",
	"{}",
	"[]",
	"{\"roothash\":\"" DIGEST "\"}",
	"{\"roothash\":\"" DIGEST "\",\"hashoffset\":0}",
	"{\"roothash\":\"" DIGEST "\",\"hashoffset\":-1}",
	"{\"roothash\":\"" DIGEST "\",\"hashoffset\":\"1\"}",
	"{\"roothash\":\"" DIGEST "0\",\"hashoffset\":1}",
	"{\"roothash\":\"\",\"hashoffset\":1}",
	"{\"roothash\":\"" NO_HEX "\",\"hashoffset\":1}",
};

START_TEST(a_file_that_cannot_be_used_is_refused_and_not_passed_over)
{
	static const char *const values[] = { "auto", "on", NULL };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		ck_assert_int_eq(read_it(values[i] ? values[i] : metadata, unusable[_i]),
				 -ERR_INVALID);
		ck_assert_ptr_nonnull(strstr(err.text, metadata));
		ck_assert_ptr_null(digest);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller layer_verity");
	TCase *t = tcase_create("layer_verity");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_file_that_is_named_says_what_is_demanded);
	tcase_add_loop_test(t, a_word_means_the_file_beside_the_layer, 0, ARRAY_SIZE(words));
	tcase_add_loop_test(t, a_file_that_cannot_be_used_is_refused_and_not_passed_over, 0,
			    ARRAY_SIZE(unusable));
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
