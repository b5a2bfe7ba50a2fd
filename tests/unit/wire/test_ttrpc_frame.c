/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/ttrpc_frame.h"

#include <check.h>
#include <stdlib.h>

#include "base/mem.h"
#include "wire/ttrpc.h"

/* Put bytes into a parser, in pieces that it has room for. */
static void feed(struct ttrpc_parser *p, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	while (len > 0) {
		uint8_t *space;
		size_t n;
		ck_assert_int_eq(ttrpc_parser_space(p, &space, &n), 0);
		ck_assert_uint_gt(n, 0);
		if (n > len)
			n = len;
		memcpy(space, bytes, n);
		ttrpc_parser_filled(p, n);
		bytes += n;
		len -= n;
	}
}

START_TEST(an_empty_parser_has_no_frame)
{
	struct ttrpc_parser p = { 0 };
	struct ttrpc_frame f;

	ck_assert(!ttrpc_parser_next(&p, &f));
	ttrpc_parser_free(&p);
}
END_TEST

START_TEST(memory_grows_with_what_came_not_with_what_a_header_says)
{
	static const uint8_t header[] = { 0, 0x40, 0, 0, 0, 0, 0, 1, 1, 0 };
	struct ttrpc_parser p = { 0 };
	struct ttrpc_frame f;
	uint8_t *space;
	size_t len;

	feed(&p, header, sizeof(header));
	ck_assert(!ttrpc_parser_next(&p, &f));
	ck_assert_int_eq(ttrpc_parser_space(&p, &space, &len), 0);
	ck_assert_uint_lt(p.cap, 65536);
	ttrpc_parser_free(&p);
}
END_TEST

START_TEST(memory_of_a_large_frame_is_given_back)
{
	_cleanup_free_ uint8_t *big = mem_new0(1, TTRPC_HEADER_LEN + (1 << 20));
	struct ttrpc_parser p = { 0 };
	struct ttrpc_frame f;
	uint8_t *space;
	size_t len;

	big[1] = 0x10;
	feed(&p, big, TTRPC_HEADER_LEN + (1 << 20));
	ck_assert(ttrpc_parser_next(&p, &f));
	ck_assert_uint_eq(f.len, 1 << 20);
	ck_assert_int_eq(ttrpc_parser_space(&p, &space, &len), 0);
	ck_assert_uint_lt(p.cap, 65536);
	ttrpc_parser_free(&p);
}
END_TEST

START_TEST(an_oversize_frame_appears_when_its_last_byte_was_dropped)
{
	static const uint8_t header[] = { 0, 0x40, 0, 1, 0, 0, 0, 9, 1, 2 };
	static const uint8_t next[] = { 0, 0, 0, 1, 0, 0, 0, 11, 2, 0, 'x' };
	_cleanup_free_ uint8_t *body = mem_new0(1, TTRPC_MESSAGE_MAX);
	struct ttrpc_parser p = { 0 };
	struct ttrpc_frame f;

	feed(&p, header, sizeof(header));
	ck_assert(!ttrpc_parser_next(&p, &f));
	for (size_t done = 0; done < TTRPC_MESSAGE_MAX; done += 4096) {
		feed(&p, body + done, 4096);
		ck_assert(!ttrpc_parser_next(&p, &f));
		ck_assert_uint_lt(p.cap, 65536);
	}
	feed(&p, "!", 1);
	ck_assert(ttrpc_parser_next(&p, &f));
	ck_assert(f.oversize);
	ck_assert_uint_eq(f.stream, 9);
	ck_assert_uint_eq(f.flags, 2);
	ck_assert_uint_eq(f.len, 0);

	feed(&p, next, sizeof(next));
	ck_assert(ttrpc_parser_next(&p, &f));
	ck_assert(!f.oversize);
	ck_assert_uint_eq(f.stream, 11);
	ck_assert_mem_eq(f.payload, "x", 1);
	ttrpc_parser_free(&p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire ttrpc frame");
	TCase *tc = tcase_create("parser");

	tcase_add_test(tc, an_empty_parser_has_no_frame);
	tcase_add_test(tc, memory_grows_with_what_came_not_with_what_a_header_says);
	tcase_add_test(tc, memory_of_a_large_frame_is_given_back);
	tcase_add_test(tc, an_oversize_frame_appears_when_its_last_byte_was_dropped);
	suite_add_tcase(suite, tc);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
