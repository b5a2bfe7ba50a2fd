/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that the guest looks at: the size of its file system, and a dm-verity superblock. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "gcs/disk.h"
#include "gcs/verity.h"

enum { NUMBERS = 2 * sizeof(uint64_t) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void parse(const unsigned char *sb, uint64_t at, uint64_t size)
{
	static const unsigned char top[VERITY_BLOCK_MAX];
	_cleanup_free_ char *table = NULL;
	struct verity v = { 0 };
	struct err err = { 0 };
	int r = verity_parse(sb, at, size, &v, &err);

	check(r == 0 || r == 1 || (r == -ERR_INVALID && *err.text));
	if (r <= 0)
		return;
	/* Data before the superblock, tree behind it, all on the disk. */
	check(v.data_blocks * v.data_block_size == at);
	check((v.hash_start - 1) * v.hash_block_size == at);
	check(v.hash_start < size / v.hash_block_size);
	check(v.salt_len <= sizeof(v.salt));
	verity_set_root(&v, top);
	check(strlen(v.root_digest) == 64);
	table = verity_table(&v, "/dev/sda");
	check(strlen(table) < 2048);
}

/* Where the superblock is and how large the disk; a superblock; the head of the disk. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned char sb[VERITY_SUPERBLOCK] = { 0 }, head[DISK_HEAD] = { 0 };
	uint64_t numbers[2] = { 0 };
	size_t n = len < NUMBERS ? len : NUMBERS;

	memcpy(numbers, data, n);
	data += n;
	len -= n;
	n = len < sizeof(sb) ? len : sizeof(sb);
	memcpy(sb, data, n);
	parse(sb, numbers[0], numbers[1]);
	data += n;
	len -= n;
	n = len < sizeof(head) ? len : sizeof(head);
	memcpy(head, data, n);
	if (disk_filesystem_size(head, sizeof(head)) > 0)
		check(disk_filesystem(head, sizeof(head)) != NULL);
	check(disk_filesystem_size(head, n) == 0 || n == sizeof(head));
	return 0;
}
