/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include <check.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_uuid_is_version_4_in_lower_case)
{
	char u[UUID_LEN + 1];

	for (int n = 0; n < 100; n++) {
		uuid_new(u);
		ck_assert_uint_eq(strlen(u), UUID_LEN);
		for (int i = 0; i < UUID_LEN; i++)
			if (i == 8 || i == 13 || i == 18 || i == 23)
				ck_assert_int_eq(u[i], '-');
			else
				ck_assert(isdigit((unsigned char)u[i]) ||
					  (u[i] >= 'a' && u[i] <= 'f'));
		ck_assert_int_eq(u[14], '4');
		ck_assert_ptr_nonnull(strchr("89ab", u[19]));
	}
}
END_TEST

START_TEST(two_uuids_differ)
{
	char a[UUID_LEN + 1], b[UUID_LEN + 1];

	uuid_new(a);
	uuid_new(b);
	ck_assert_str_ne(a, b);
}
END_TEST

START_TEST(sha256_matches_the_published_vectors)
{
	static const char *const two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	char h[65], *million = malloc(1000000);

	sha256_hex("", 0, h);
	ck_assert_str_eq(h, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_hex("abc", 3, h);
	ck_assert_str_eq(h, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_hex(two, strlen(two), h);
	ck_assert_str_eq(h, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	memset(million, 'a', 1000000);
	sha256_hex(million, 1000000, h);
	ck_assert_str_eq(h, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}
END_TEST

START_TEST(sha256_pads_at_every_length_near_a_block)
{
	/* SHA-256 of 55, 56, 63, 64 and 65 letters a */
	static const struct {
		unsigned len;
		const char *hex;
	} rows[] = {
		{ 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318" },
		{ 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a" },
		{ 63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34" },
		{ 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb" },
		{ 65, "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0" },
	};
	char text[65], h[65];

	memset(text, 'a', sizeof(text));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sha256_hex(text, rows[i].len, h);
		ck_assert_str_eq(h, rows[i].hex);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base uuid");
	TCase *t = tcase_create("uuid");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_uuid_is_version_4_in_lower_case);
	tcase_add_test(t, two_uuids_differ);
	tcase_add_test(t, sha256_matches_the_published_vectors);
	tcase_add_test(t, sha256_pads_at_every_length_near_a_block);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
