/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/args.h"

#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "run.h"

static struct shim_args args;
static struct err err;

/* Parses a line as a shell would split it. */
static int parse(const char *line)
{
	static char **argv;

	strv_free(argv);
	argv = strv_split(line, " ");
	memset(&args, 0, sizeof(args));
	memset(&err, 0, sizeof(err));
	return shim_args_parse((int)strv_len(argv), argv, &args, &err);
}

START_TEST(what_containerd_says_is_understood)
{
	ck_assert_int_eq(parse("shim -namespace ns -address /a.sock -publish-binary /bin/c -id c1 "
			       "-debug start"),
			 0);
	ck_assert_str_eq(args.namespace, "ns");
	ck_assert_str_eq(args.address, "/a.sock");
	ck_assert_str_eq(args.publish_binary, "/bin/c");
	ck_assert_str_eq(args.id, "c1");
	ck_assert(args.debug);
	ck_assert_str_eq(args.action, "start");
}
END_TEST

START_TEST(two_dashes_and_equal_signs_are_the_same)
{
	ck_assert_int_eq(parse("shim --namespace=ns --id=c1 --bundle=/b=c --debug=false delete"),
			 0);
	ck_assert_str_eq(args.bundle, "/b=c");
	ck_assert(!args.debug);
	ck_assert_str_eq(args.action, "delete");
}
END_TEST

START_TEST(info_and_version_need_nothing_else)
{
	ck_assert_int_eq(parse("shim -info"), 0);
	ck_assert(args.info);
	ck_assert_int_eq(parse("shim -v"), 0);
	ck_assert(args.version);
	ck_assert_int_eq(parse("shim -version"), 0);
	ck_assert(args.version);
	ck_assert_int_eq(parse("shim sweep"), 0);
	ck_assert_str_eq(args.action, "sweep");
}
END_TEST

static const char *const helps[] = { "shim -h", "shim --help", "shim -help", "shim help",
				     "shim help start" };

START_TEST(help_is_given_to_whoever_asks_for_it)
{
	ck_assert_int_eq(parse(helps[_i]), 0);
	ck_assert(args.help);
	ck_assert_ptr_nonnull(strstr(shim_usage, "start"));
	ck_assert_ptr_nonnull(strstr(shim_usage, "lcow.conf(5)"));
}
END_TEST

static const struct bad {
	const char *line;
	const char *says;
} bad[] = {
	{ "shim", "start or delete" },
	{ "shim -namespace ns -id c1 restart", "unknown action restart" },
	{ "shim -id c1 start", "namespace cannot be empty" },
	{ "shim -namespace ../etc -id c1 start", "../etc" },
	{ "shim -namespace ns start", "id \"\"" },
	{ "shim -namespace ns -id .. start", "id \"..\"" },
	{ "shim -namespace ns -id a/b start", "a/b" },
	{ "shim -namespace ns -id", "needs a value" },
	{ "shim -colour red start", "unknown flag -colour; containerd-shim-lcow-v2 --help" },
	{ "shim", "containerd-shim-lcow-v2 --help" },
	{ "shim -namespace ns -id c1 restart", "containerd-shim-lcow-v2 --help" },
	{ "shim -namespace ns -id c1 start -debug", "-debug behind the action start" },
	{ "shim -debug=perhaps start", "true or false" },
};

START_TEST(what_is_wrong_is_said)
{
	ck_assert_int_eq(parse(bad[_i].line), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, bad[_i].says) != NULL, "%s: %s", bad[_i].line, err.text);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("args");

	tcase_add_test(t, what_containerd_says_is_understood);
	tcase_add_test(t, two_dashes_and_equal_signs_are_the_same);
	tcase_add_test(t, info_and_version_need_nothing_else);
	tcase_add_loop_test(t, help_is_given_to_whoever_asks_for_it, 0, ARRAY_SIZE(helps));
	tcase_add_loop_test(t, what_is_wrong_is_said, 0, ARRAY_SIZE(bad));
	return run_case(t, "shim args");
}
