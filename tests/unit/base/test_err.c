/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(text_gains_context_on_the_way_up)
{
	struct err err = { 0 };

	ck_assert_int_eq(err_sys(&err, -ENODEV, "mount layer %d", 3), -ENODEV);
	ck_assert_int_eq(err_wrap(&err, -ENODEV, "create %s", "c1"), -ENODEV);
	ck_assert_str_eq(err.text, "create c1: mount layer 3: No such device");
	ck_assert_int_eq(err.code, -ENODEV);
}
END_TEST

START_TEST(wrapping_an_empty_text_says_what_the_code_means)
{
	struct err err = { 0 };

	err_wrap(&err, -ETIMEDOUT, "wait");
	ck_assert_str_eq(err.text, "wait: Connection timed out");
	err = (struct err){ 0 };
	err_wrap(&err, -ERR_NOT_FOUND, "container c1");
	ck_assert_str_eq(err.text, "container c1: not found");
}
END_TEST

START_TEST(a_caller_without_interest_passes_null)
{
	ck_assert_int_eq(err_set(NULL, -EINVAL, "x"), -EINVAL);
	ck_assert_int_eq(err_sys(NULL, -EINVAL, "x"), -EINVAL);
	ck_assert_int_eq(err_wrap(NULL, -EINVAL, "x"), -EINVAL);
	ck_assert_int_eq(err_copy(NULL, &(struct err){ .code = -EPERM }), -EPERM);
}
END_TEST

START_TEST(an_argument_may_point_into_the_text)
{
	struct err err = { 0 };

	err_set(&err, -EIO, "inner");
	err_set(&err, -EIO, "outer (%s)", err.text);
	ck_assert_str_eq(err.text, "outer (inner)");
}
END_TEST

START_TEST(a_long_text_is_cut_between_characters)
{
	struct err err = { 0 };
	char s[ERR_TEXT_MAX + 10];

	/* "é" is two bytes; with one byte before them, a character straddles the limit. */
	for (size_t i = 0; i + 1 < sizeof(s); i += 2)
		memcpy(s + i, "\xc3\xa9", 2);
	s[sizeof(s) - 2] = '\0';
	err_set(&err, -EIO, "%s", s);
	ck_assert_uint_eq(strlen(err.text), ERR_TEXT_MAX - 2);
	ck_assert_int_eq((unsigned char)err.text[ERR_TEXT_MAX - 3], 0xa9);
	err_wrap(&err, -EIO, "context");
	ck_assert_uint_lt(strlen(err.text), ERR_TEXT_MAX);
	ck_assert_int_eq(strncmp(err.text, "context: ", 9), 0);
}
END_TEST

START_TEST(a_text_has_no_newline_at_its_end)
{
	struct err err = { 0 };

	err_set(&err, -EIO, "tool said: no\r\n\n");
	ck_assert_str_eq(err.text, "tool said: no");
}
END_TEST

START_TEST(a_new_error_forgets_the_hresult_but_context_keeps_it)
{
	struct err err = { .hresult = HR_TIMEOUT };

	err_wrap(&err, -EIO, "x");
	ck_assert_uint_eq(err.hresult, HR_TIMEOUT);
	err_set(&err, -EIO, "x");
	ck_assert_uint_eq(err.hresult, 0);
}
END_TEST

START_TEST(every_kind_goes_to_grpc_and_back)
{
	static const int want[] = { 5, 6, 3, 9, 12, 14, 8, 7 };

	for (int k = ERR_NOT_FOUND; k < ERR_KIND_END; k++) {
		ck_assert_int_eq(err_grpc(-k), want[k - ERR_NOT_FOUND]);
		ck_assert_int_eq(err_from_grpc(err_grpc(-k)), -k);
	}
}
END_TEST

START_TEST(an_errno_is_unknown_but_for_the_few_that_mean_the_same_everywhere)
{
	ck_assert_int_eq(err_grpc(0), 0);
	ck_assert_int_eq(err_from_grpc(0), 0);
	ck_assert_int_eq(err_grpc(-ETIMEDOUT), 4);
	ck_assert_int_eq(err_from_grpc(4), -ETIMEDOUT);
	ck_assert_int_eq(err_grpc(-ECANCELED), 1);
	ck_assert_int_eq(err_from_grpc(1), -ECANCELED);
	ck_assert_int_eq(err_grpc(-ENOMEM), 8);
	ck_assert_int_eq(err_grpc(-ENOSPC), 8);
	ck_assert_int_eq(err_grpc(-ENOENT), 2);
	ck_assert_int_eq(err_grpc(-ERR_KIND_END), 2);
	for (int status = 1; status < 20; status++)
		ck_assert_int_lt(err_from_grpc(status), 0);
	ck_assert_int_eq(err_from_grpc(13), -EREMOTEIO);
}
END_TEST

START_TEST(every_kind_has_an_hresult_that_comes_back_where_it_is_not_plain_failure)
{
	for (int k = ERR_NOT_FOUND; k < ERR_KIND_END; k++) {
		struct err err = { .code = -k };
		uint32_t hr = err_hresult(&err);

		ck_assert_uint_ne(hr, 0);
		ck_assert_int_eq(err_from_hresult(hr), hr == HR_FAIL ? -EREMOTEIO : -k);
	}
}
END_TEST

START_TEST(hresults_of_the_guest_are_told_apart)
{
	ck_assert_int_eq(err_from_hresult(0), 0);
	ck_assert_int_eq(err_from_hresult(HR_NOT_FOUND), -ERR_NOT_FOUND);
	ck_assert_int_eq(err_from_hresult(HR_SYSTEM_NOT_FOUND), -ERR_NOT_FOUND);
	ck_assert_int_eq(err_from_hresult(HR_TIMEOUT), -ETIMEDOUT);
	ck_assert_int_eq(err_from_hresult(HR_ALREADY_STOPPED), -ERR_STATE);
	ck_assert_int_eq(err_from_hresult(HR_INVALID_JSON), -ERR_INVALID);
	ck_assert_int_eq(err_from_hresult(0x80070005u), -EREMOTEIO);
}
END_TEST

START_TEST(an_hresult_of_its_own_wins_and_success_has_none)
{
	struct err err = { .code = -ERR_NOT_FOUND, .hresult = HR_NOT_FOUND };

	ck_assert_uint_eq(err_hresult(&err), HR_NOT_FOUND);
	err.hresult = 0;
	err.code = -ENOENT;
	ck_assert_uint_eq(err_hresult(&err), HR_FAIL);
	err.code = -ETIMEDOUT;
	ck_assert_uint_eq(err_hresult(&err), HR_TIMEOUT);
	err.code = 0;
	err.hresult = HR_FAIL;
	ck_assert_uint_eq(err_hresult(&err), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base err");
	TCase *t = tcase_create("err");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(t, text_gains_context_on_the_way_up);
	tcase_add_test(t, wrapping_an_empty_text_says_what_the_code_means);
	tcase_add_test(t, a_caller_without_interest_passes_null);
	tcase_add_test(t, an_argument_may_point_into_the_text);
	tcase_add_test(t, a_long_text_is_cut_between_characters);
	tcase_add_test(t, a_text_has_no_newline_at_its_end);
	tcase_add_test(t, a_new_error_forgets_the_hresult_but_context_keeps_it);
	tcase_add_test(t, every_kind_goes_to_grpc_and_back);
	tcase_add_test(t, an_errno_is_unknown_but_for_the_few_that_mean_the_same_everywhere);
	tcase_add_test(t, every_kind_has_an_hresult_that_comes_back_where_it_is_not_plain_failure);
	tcase_add_test(t, hresults_of_the_guest_are_told_apart);
	tcase_add_test(t, an_hresult_of_its_own_wins_and_success_has_none);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
