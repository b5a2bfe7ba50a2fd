/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tail.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "loop/loop.h"

static struct tail tail;
static int ends[2];

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	ck_assert_int_eq(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	tail_init(&tail, 16);
	ck_assert_int_eq(tail_start(&tail, ends[0]), 0);
}

static void teardown(void)
{
	tail_fini(&tail);
	fd_close(ends[1]);
	loop_fini();
}

static void say(const char *text)
{
	ck_assert_int_eq(fd_write_all(ends[1], text, strlen(text)), 0);
	tail_drain(&tail);
}

static void expect(size_t max, const char *text)
{
	_cleanup_free_ char *got = tail_text(&tail, max);

	ck_assert_str_eq(got, text);
}

START_TEST(the_last_bytes_are_kept)
{
	expect(100, "");
	say("0123456789");
	expect(100, "0123456789");
	expect(4, "6789");
	say("abcdefghij");
	expect(100, "456789abcdefghij");
	say("a line that is much longer than the tail");
	expect(100, "er than the tail");
}
END_TEST

START_TEST(lines_become_one_clean_line)
{
	say("\na\r\n\nb\x1b[0m\n");
	expect(100, "a | b?[0m");
}
END_TEST

START_TEST(a_character_is_not_cut_in_the_middle)
{
	say("x\xc3\xa4\xc3\xa4");
	expect(3, "\xc3\xa4");
}
END_TEST

START_TEST(after_the_end_the_text_stays)
{
	say("bye");
	ends[1] = fd_close(ends[1]);
	tail_drain(&tail);
	ck_assert_int_eq(tail.fd, -EBADF);
	expect(100, "bye");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm tail");
	TCase *tc = tcase_create("tail");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_last_bytes_are_kept);
	tcase_add_test(tc, lines_become_one_clean_line);
	tcase_add_test(tc, a_character_is_not_cut_in_the_middle);
	tcase_add_test(tc, after_the_end_the_text_stays);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
