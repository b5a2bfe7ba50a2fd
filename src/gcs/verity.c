/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/verity.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "base/uuid.h"
#include "gcs/agent.h"
#include "gcs/dm.h"
#include "gcs/module.h"

enum { VERSION = 1, HASH_TYPE = 1, DIGEST = 32, BLOCK_MIN = 512, ALIGNMENT = 4096 };

/* On disk; numbers are little endian. */
struct superblock {
	char signature[8];
	uint32_t version;
	uint32_t hash_type;
	uint8_t uuid[16];
	char algorithm[32];
	uint32_t data_block_size;
	uint32_t hash_block_size;
	uint64_t data_blocks;
	uint16_t salt_size;
	uint8_t pad1[6];
	uint8_t salt[VERITY_SALT_MAX];
	uint8_t pad2[168];
};
_Static_assert(sizeof(struct superblock) == VERITY_SUPERBLOCK, "verity superblock");

static bool block_size_valid(uint32_t n)
{
	return n >= BLOCK_MIN && n <= VERITY_BLOCK_MAX && (n & (n - 1)) == 0;
}

/* Blocks of the tree, all levels. */
static uint64_t tree_blocks(const struct verity *v)
{
	uint64_t per_block = v->hash_block_size / DIGEST, total = 0;

	for (uint64_t n = v->data_blocks; n > 1;) {
		n = (n + per_block - 1) / per_block;
		total += n;
	}
	return total;
}

static int check_head(const struct superblock *sb, struct err *err)
{
	uint32_t version = le32toh(sb->version), type = le32toh(sb->hash_type);
	_cleanup_free_ char *algorithm = mem_strndup(sb->algorithm, sizeof(sb->algorithm));

	str_clean(algorithm, strlen(algorithm));
	if (version != VERSION || type != HASH_TYPE)
		return err_set(err, -ERR_INVALID,
			       "version %" PRIu32 " and hash type %" PRIu32
			       " are not supported: only 1 and 1",
			       version, type);
	if (!str_eq(algorithm, "sha256"))
		return err_set(err, -ERR_INVALID,
			       "the hash algorithm %s is not supported: only sha256", algorithm);
	if (!block_size_valid(le32toh(sb->data_block_size)) ||
	    !block_size_valid(le32toh(sb->hash_block_size)))
		return err_set(err, -ERR_INVALID,
			       "blocks of %" PRIu32 " and %" PRIu32 " bytes are not supported",
			       le32toh(sb->data_block_size), le32toh(sb->hash_block_size));
	if (le16toh(sb->salt_size) > VERITY_SALT_MAX)
		return err_set(err, -ERR_INVALID, "a salt of %u bytes", le16toh(sb->salt_size));
	return 0;
}

static int check_places(const struct verity *v, uint64_t at, uint64_t size, struct err *err)
{
	uint64_t left = size - at;

	/* A single block would have no tree. */
	if (v->data_blocks < 2 || v->data_blocks != at / v->data_block_size ||
	    at % v->data_block_size)
		return err_set(err, -ERR_INVALID,
			       "%" PRIu64 " data blocks of %" PRIu32
			       " bytes do not end at the superblock, at %" PRIu64,
			       v->data_blocks, v->data_block_size, at);
	if (at % v->hash_block_size)
		return err_set(err, -ERR_INVALID, "it lies at %" PRIu64 ", between two hash blocks",
			       at);
	if (tree_blocks(v) + 1 > left / v->hash_block_size)
		return err_set(err, -ERR_INVALID,
			       "a hash tree of %" PRIu64 " blocks does not fit on the disk",
			       tree_blocks(v));
	return 0;
}

int verity_parse(const unsigned char *bytes, uint64_t at, uint64_t size, struct verity *ret,
		 struct err *err)
{
	struct superblock sb;
	struct verity v = { 0 };
	int r;

	memcpy(&sb, bytes, sizeof(sb));
	if (at > size || memcmp(sb.signature, "verity\0\0", sizeof(sb.signature)) != 0)
		return 0;
	r = check_head(&sb, err);
	if (r < 0)
		return err_wrap(err, r, "dm-verity superblock");
	v.data_blocks = le64toh(sb.data_blocks);
	v.data_block_size = le32toh(sb.data_block_size);
	v.hash_block_size = le32toh(sb.hash_block_size);
	v.hash_start = at / v.hash_block_size + 1;
	v.salt_len = le16toh(sb.salt_size);
	memcpy(v.salt, sb.salt, v.salt_len);
	r = check_places(&v, at, size, err);
	if (r < 0)
		return err_wrap(err, r, "dm-verity superblock");
	*ret = v;
	return 1;
}

void verity_set_root(struct verity *v, const unsigned char *top)
{
	_cleanup_free_ unsigned char *salted = mem_new0(1, v->salt_len + v->hash_block_size);

	memcpy(salted, v->salt, v->salt_len);
	memcpy(salted + v->salt_len, top, v->hash_block_size);
	sha256_hex(salted, v->salt_len + v->hash_block_size, v->root_digest);
}

static int read_at(int fd, void *to, size_t len, uint64_t at, struct err *err)
{
	ssize_t n = pread(fd, to, len, (off_t)at);

	if (n == (ssize_t)len)
		return 0;
	return err_sys(err, n < 0 ? -errno : -EIO, "read %zu bytes at %" PRIu64, len, at);
}

static int read_superblock(int fd, uint64_t at, uint64_t size, struct verity *ret, struct err *err)
{
	unsigned char sb[VERITY_SUPERBLOCK];
	int r;

	if (at > size || size - at < sizeof(sb))
		return 0;
	r = read_at(fd, sb, sizeof(sb), at, err);
	return r < 0 ? r : verity_parse(sb, at, size, ret, err);
}

int verity_read(int fd, uint64_t at, uint64_t size, struct verity *ret, struct err *err)
{
	uint64_t aligned = at + (ALIGNMENT - at % ALIGNMENT) % ALIGNMENT;
	unsigned char top[VERITY_BLOCK_MAX];
	int r = read_superblock(fd, at, size, ret, err);

	if (r == 0 && aligned > at)
		r = read_superblock(fd, aligned, size, ret, err);
	if (r <= 0)
		return r;
	r = read_at(fd, top, ret->hash_block_size, ret->hash_start * ret->hash_block_size, err);
	if (r < 0)
		return r;
	verity_set_root(ret, top);
	return 1;
}

char *verity_table(const struct verity *v, const char *device)
{
	char salt[2 * VERITY_SALT_MAX + 1] = "-";

	for (size_t i = 0; i < v->salt_len; i++)
		snprintf(salt + 2 * i, 3, "%02x", v->salt[i]);
	return str_printf("%d %s %s %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " sha256 %s %s",
			  HASH_TYPE, device, device, v->data_block_size, v->hash_block_size,
			  v->data_blocks, v->hash_start, v->root_digest, salt);
}

/* The kernel has a portable one built in; with vectors it is much faster. */
static CO void load_sha256(struct agent *a)
{
	static const char *const fast[] = { "sha256_ssse3", NULL };

	if (__builtin_cpu_supports("avx"))
		modules_need(a->modules, fast, NULL);
}

CO int verity_open(struct agent *a, const char *owner, const char *name, const char *device,
		   const struct verity *v, char **ret_node, struct err *err)
{
	static const char *const modules[] = { "dm_verity", NULL };
	_cleanup_free_ char *full = str_printf("%s-%s", name, v->root_digest);
	_cleanup_free_ char *table = verity_table(v, device);
	const struct dm_target target = {
		.name = full,
		.type = "verity",
		.params = table,
		.sectors = v->data_blocks * (v->data_block_size / 512),
		.read_only = true,
	};
	int r = modules_need(a->modules, modules, err);

	if (r < 0)
		return r;
	load_sha256(a);
	return dm_open(a->dm, owner, &target, ret_node, err);
}
