/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_VERITY_H
#define LCOW_GCS_VERITY_H

#include <stddef.h>
#include <stdint.h>

#include "loop/co.h"

struct agent;
struct err;

/*
 * dm-verity on one disk: data, a superblock in a hash block of its own, the hash tree with its top
 * block first (https://docs.kernel.org/admin-guide/device-mapper/verity.html; the superblock is
 * veritysetup's, with hcsshim's images and containerd's erofs layers as examples).
 */

enum { VERITY_SUPERBLOCK = 512, VERITY_SALT_MAX = 256, VERITY_BLOCK_MAX = 4096 };

/**
 * struct verity - what a superblock says; SHA-256 is the only algorithm
 * @data_blocks, @data_block_size: the data, from the disk's beginning
 * @hash_start:	first block of the tree, in units of @hash_block_size
 * @root_digest: of the top block, in hex; what the whole disk is checked against
 */
struct verity {
	uint64_t data_blocks;
	uint32_t data_block_size;
	uint32_t hash_block_size;
	uint64_t hash_start;
	size_t salt_len;
	uint8_t salt[VERITY_SALT_MAX];
	char root_digest[65];
};

/**
 * verity_parse() - read a superblock
 * @sb:		VERITY_SUPERBLOCK bytes of the disk
 * @at:		where they are from; the data must end there
 * @size:	of the disk: data and tree must fit in it
 * @ret:	all but the root digest
 *
 * Return: 1; 0 when there is no such superblock; -ERR_INVALID naming what makes no sense
 */
int verity_parse(const unsigned char *sb, uint64_t at, uint64_t size, struct verity *ret,
		 struct err *err);

/** verity_set_root() - set the root digest from the tree's top block (@v->hash_block_size bytes) */
void verity_set_root(struct verity *v, const unsigned char *top);

/**
 * verity_read() - look for a superblock on a disk; blocks
 * @fd:		the disk
 * @at:		end of the data; the next multiple of 4096 is as good
 * @size:	of the disk
 *
 * Return: 1, 0 or negative code as verity_parse(); or negative errno with text
 */
int verity_read(int fd, uint64_t at, uint64_t size, struct verity *ret, struct err *err);

/** verity_table() - parameters of a verity target over a device; the caller frees them */
char *verity_table(const struct verity *v, const char *device);

/**
 * verity_open() - a device that reads no block which does not match the hash tree
 * @owner:	who gives it back by dm_close()
 * @name:	of the device, before its root digest
 * @device:	the disk
 * @ret_node:	its node; the caller frees it
 *
 * Return: 0 or a negative code with text
 */
CO int verity_open(struct agent *a, const char *owner, const char *name, const char *device,
		   const struct verity *v, char **ret_node, struct err *err);

#endif
