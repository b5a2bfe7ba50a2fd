/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/options.h"

#include <unistd.h>

#include "base/err.h"
#include "tmpdir.h"

static struct err err;
static struct options o;

/* What is parsed points into these. */
static char first[64], second[64];

static int parse(const char *a, const char *b)
{
	char *argv[] = { first, a ? first : NULL, b ? second : NULL, NULL };

	if (a)
		strcpy(first, a);
	if (b)
		strcpy(second, b);
	return options_parse(b ? 3 : a ? 2 : 1, argv, &o, &err);
}

START_TEST(without_arguments_the_transport_is_looked_for)
{
	ck_assert_int_eq(parse(NULL, NULL), 0);
	ck_assert_int_eq(o.transport, TRANSPORT_AUTO);
	ck_assert_int_eq(o.level, LOG_INFO);
	ck_assert_int_eq(o.test_channel, -EBADF);
	ck_assert_str_eq(o.hostname, "lcow");
}
END_TEST

START_TEST(values_are_read)
{
	ck_assert_int_eq(parse("transport=vsock", "loglevel=debug"), 0);
	ck_assert_int_eq(o.transport, TRANSPORT_VSOCK);
	ck_assert_int_eq(o.level, LOG_DEBUG);
	ck_assert_int_eq(parse("wall=1764000000000000000", "hostname=pod"), 0);
	ck_assert(o.wall_ns == 1764000000000000000ull);
	ck_assert_str_eq(o.hostname, "pod");
}
END_TEST

START_TEST(words_of_the_kernel_are_ignored)
{
	ck_assert_int_eq(parse("nokaslr", "transports=none"), 0);
}
END_TEST

START_TEST(a_bad_value_is_named)
{
	ck_assert_int_eq(parse("transport=pigeon", NULL), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "pigeon"));
	ck_assert_int_eq(parse("wall=soon", NULL), -ERR_INVALID);
	ck_assert_int_eq(parse("--test-channel", NULL), -ERR_INVALID);
	ck_assert_int_eq(parse("--test-channel", "x"), -ERR_INVALID);
}
END_TEST

TMPDIR_MAIN("gcs options", without_arguments_the_transport_is_looked_for, values_are_read,
	    words_of_the_kernel_are_ignored, a_bad_value_is_named)
