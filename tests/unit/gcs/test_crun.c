/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/crun.h"

#include "base/err.h"
#include "tmpdir.h"

static struct err err;

START_TEST(the_last_line_of_level_error_counts)
{
	ck_assert_int_eq(crun_error("{\"msg\":\"first\",\"level\":\"error\"}\n{\"msg\":\"second\","
				    "\"level\":\"error\"}\n"
				    "{\"msg\":\"later\",\"level\":\"warning\"}\n",
				    1, &err),
			 -EREMOTEIO);
	ck_assert_str_eq(err.text, "second");
}
END_TEST

START_TEST(a_command_that_does_not_exist_is_named)
{
	crun_error("{\"msg\":\"executable file `/nope` not found: No such file or "
		   "directory\",\"level\":\"error\"}\n",
		   1, &err);
	ck_assert_ptr_nonnull(strstr(err.text, "/nope"));
	ck_assert_uint_eq(err_hresult(&err), HR_FAIL);
}
END_TEST

START_TEST(an_unknown_container_has_its_own_hresult)
{
	ck_assert_int_eq(crun_error("{\"msg\":\"error opening file `/run/crun/xx/status`: No such "
				    "file or directory\","
				    "\"level\":\"error\"}",
				    1, &err),
			 -ERR_NOT_FOUND);
	ck_assert_uint_eq(err.hresult, HR_SYSTEM_NOT_FOUND);
}
END_TEST

START_TEST(a_missing_file_elsewhere_is_no_unknown_container)
{
	ck_assert_int_eq(crun_error("{\"msg\":\"error opening file `/etc/x`: No such file or "
				    "directory\",\"level\":\"error\"}",
				    1, &err),
			 -EREMOTEIO);
}
END_TEST

START_TEST(an_id_in_use_and_a_stopped_container_have_theirs)
{
	ck_assert_int_eq(crun_error("{\"msg\":\"container `a` already "
				    "exists\",\"level\":\"error\"}",
				    1, &err),
			 -ERR_EXISTS);
	ck_assert_uint_eq(err.hresult, HR_SYSTEM_EXISTS);
	ck_assert_int_eq(crun_error("{\"msg\":\"the container `a` is not "
				    "running\",\"level\":\"error\"}",
				    1, &err),
			 -ERR_STATE);
	ck_assert_uint_eq(err.hresult, HR_ALREADY_STOPPED);
}
END_TEST

START_TEST(silence_gives_the_status)
{
	ck_assert_int_eq(crun_error(NULL, 137, &err), -EREMOTEIO);
	ck_assert_ptr_nonnull(strstr(err.text, "137"));
	ck_assert_int_eq(crun_error("no json\n{\"level\":\"error\"}\n[]\n", 3, &err), -EREMOTEIO);
	ck_assert_ptr_nonnull(strstr(err.text, "3"));
}
END_TEST

TMPDIR_MAIN("gcs crun", the_last_line_of_level_error_counts, a_command_that_does_not_exist_is_named,
	    an_unknown_container_has_its_own_hresult,
	    a_missing_file_elsewhere_is_no_unknown_container,
	    an_id_in_use_and_a_stopped_container_have_theirs, silence_gives_the_status)
