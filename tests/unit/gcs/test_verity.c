/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/verity.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/uuid.h"
#include "tmpdir.h"

enum {
	BLOCK = 4096,
	DATA = 3, /* blocks */
	AT = DATA * BLOCK,
	SIZE = AT + 2 * BLOCK, /* superblock and a tree of one block */
};

static unsigned char sb[VERITY_SUPERBLOCK];
static struct verity v;
static struct err err;

static void put(size_t at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		sb[at + i] = (unsigned char)(value >> 8 * i);
}

/* As veritysetup writes it; a salt of 0xab. */
static void make_superblock(void)
{
	memset(sb, 0, sizeof(sb));
	memset(&v, 0, sizeof(v));
	memset(&err, 0, sizeof(err));
	memcpy(sb, "verity\0\0", 8);
	put(8, 1, 4);
	put(12, 1, 4);
	strcpy((char *)sb + 32, "sha256");
	put(64, BLOCK, 4);
	put(68, BLOCK, 4);
	put(72, DATA, 8);
	put(80, 1, 2);
	sb[88] = 0xab;
}

START_TEST(a_superblock_says_where_data_and_tree_are)
{
	make_superblock();
	ck_assert_int_eq(verity_parse(sb, AT, SIZE, &v, &err), 1);
	ck_assert_uint_eq(v.data_blocks, DATA);
	ck_assert_uint_eq(v.hash_start, DATA + 1);
	ck_assert_uint_eq(v.salt_len, 1);
	strcpy(v.root_digest, "d");

	_cleanup_free_ char *table = verity_table(&v, "/dev/sda");

	ck_assert_str_eq(table, "1 /dev/sda /dev/sda 4096 4096 3 4 sha256 d ab");
	put(80, 0, 2);
	ck_assert_int_eq(verity_parse(sb, AT, SIZE, &v, &err), 1);

	_cleanup_free_ char *unsalted = verity_table(&v, "/dev/sda");

	ck_assert_str_eq(unsalted, "1 /dev/sda /dev/sda 4096 4096 3 4 sha256  -");
}
END_TEST

START_TEST(what_has_another_signature_is_none)
{
	make_superblock();
	sb[7] = 1;
	ck_assert_int_eq(verity_parse(sb, AT, SIZE, &v, &err), 0);
	memset(sb, 0, sizeof(sb));
	ck_assert_int_eq(verity_parse(sb, AT, SIZE, &v, &err), 0);
	make_superblock();
	ck_assert_int_eq(verity_parse(sb, SIZE + 1, SIZE, &v, &err), 0);
}
END_TEST

static const struct {
	size_t at;
	uint64_t value;
	size_t bytes;
	const char *text;
} nonsense[] = {
	{ 8, 2, 4, "version 2" },
	{ 12, 0, 4, "hash type 0" },
	{ 35, 'X', 1, "algorithm shaX56" },
	{ 32, 0, 1, "algorithm  is" },
	{ 64, 0, 4, "blocks of 0 and 4096" },
	{ 64, 256, 4, "blocks of 256" },
	{ 64, 8192, 4, "blocks of 8192" },
	{ 68, 3000, 4, "and 3000 bytes" },
	{ 68, UINT32_MAX, 4, "bytes are not supported" },
	{ 80, 257, 2, "a salt of 257 bytes" },
	{ 72, 0, 8, "do not end at the superblock" },
	{ 72, DATA - 1, 8, "do not end at the superblock" },
	{ 72, DATA + 1, 8, "do not end at the superblock" },
	{ 72, 1ull << 60, 8, "do not end at the superblock" },
	{ 72, UINT64_MAX, 8, "do not end at the superblock" },
	{ 64, 2048, 4, "do not end at the superblock" },
};

START_TEST(what_makes_no_sense_is_named)
{
	make_superblock();
	put(nonsense[_i].at, nonsense[_i].value, nonsense[_i].bytes);
	ck_assert_int_eq(verity_parse(sb, AT, SIZE, &v, &err), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, nonsense[_i].text), "%s", err.text);
	ck_assert(str_starts(err.text, "dm-verity superblock: "));
}
END_TEST

START_TEST(the_tree_must_fit_on_the_disk)
{
	make_superblock();
	ck_assert_int_eq(verity_parse(sb, AT, SIZE - 1, &v, &err), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "does not fit"));
	/* 129 blocks have two levels: two blocks of digests and the top. */
	put(72, 129, 8);
	ck_assert_int_eq(verity_parse(sb, 129 * BLOCK, 133 * BLOCK, &v, &err), 1);
	ck_assert_int_eq(verity_parse(sb, 129 * BLOCK, 133 * BLOCK - 1, &v, &err), -ERR_INVALID);
	/* One block alone has no tree to take a root from. */
	put(72, 1, 8);
	ck_assert_int_eq(verity_parse(sb, BLOCK, 100 * BLOCK, &v, &err), -ERR_INVALID);
}
END_TEST

START_TEST(small_blocks_are_as_good_if_all_lies_at_their_bounds)
{
	make_superblock();
	put(64, 512, 4);
	put(68, 512, 4);
	put(72, 7, 8);
	ck_assert_int_eq(verity_parse(sb, 7 * 512, 9 * 512, &v, &err), 1);
	ck_assert_uint_eq(v.hash_start, 8);
	put(68, 1024, 4);
	ck_assert_int_eq(verity_parse(sb, 7 * 512, 100 * 512, &v, &err), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "between two hash blocks"));
}
END_TEST

static int disk(void)
{
	_cleanup_free_ char *path = str_printf("%s/disk", tmpdir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	ck_assert_int_eq(pwrite(fd, sb, sizeof(sb), AT), sizeof(sb));
	return fd;
}

START_TEST(the_root_digest_is_that_of_salt_and_top_block)
{
	unsigned char top[1 + BLOCK] = { 0xab, 't', 'o', 'p' };
	char digest[65];

	make_superblock();

	_cleanup_fd_ int fd = disk();

	ck_assert_int_eq(pwrite(fd, top + 1, BLOCK, AT + BLOCK), BLOCK);
	sha256_hex(top, sizeof(top), digest);
	ck_assert_int_eq(verity_read(fd, AT, SIZE, &v, &err), 1);
	ck_assert_str_eq(v.root_digest, digest);
	/* A file system that ends within the last block. */
	ck_assert_int_eq(verity_read(fd, AT - 100, SIZE, &v, &err), 1);
	ck_assert_int_eq(verity_read(fd, AT - BLOCK, SIZE, &v, &err), 0);
	ck_assert_int_eq(verity_read(fd, SIZE, SIZE, &v, &err), 0);
	ck_assert_int_eq(verity_read(fd, UINT64_MAX, SIZE, &v, &err), 0);
}
END_TEST

START_TEST(a_disk_that_cannot_be_read_is_an_error)
{
	make_superblock();

	_cleanup_fd_ int fd = disk();

	/* Shorter than it was said to be. */
	ck_assert_int_eq(ftruncate(fd, AT + 600), 0);
	ck_assert_int_eq(verity_read(fd, AT, SIZE, &v, &err), -EIO);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gcs verity");
	TCase *t = tcase_create("verity");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, tmpdir_setup, tmpdir_teardown);
	tcase_add_test(t, a_superblock_says_where_data_and_tree_are);
	tcase_add_test(t, what_has_another_signature_is_none);
	tcase_add_loop_test(t, what_makes_no_sense_is_named, 0, ARRAY_SIZE(nonsense));
	tcase_add_test(t, the_tree_must_fit_on_the_disk);
	tcase_add_test(t, small_blocks_are_as_good_if_all_lies_at_their_bounds);
	tcase_add_test(t, the_root_digest_is_that_of_salt_and_top_block);
	tcase_add_test(t, a_disk_that_cannot_be_read_is_an_error);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed > 0;
}
