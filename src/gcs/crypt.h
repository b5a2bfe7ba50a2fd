/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_CRYPT_H
#define LCOW_GCS_CRYPT_H

#include "loop/co.h"

struct agent;
struct err;

/**
 * crypt_open() - a device that encrypts what is written to a disk, by a key that nobody knows
 * @owner:	who gives it back by dm_close(); then nothing that was written can be read again
 * @name:	of the device
 * @device:	the disk; what is behind its last multiple of 4096 bytes is not used
 * @ret_node:	its node; the caller frees it
 *
 * AES-XTS with 512 bits of the kernel's random numbers, in sectors of 4096 bytes. What is changed
 * in the ciphertext reads as noise: there is no integrity. What was never written does as well.
 *
 * Return: 0 or a negative code with text
 */
CO int crypt_open(struct agent *a, const char *owner, const char *name, const char *device,
		  char **ret_node, struct err *err);

#endif
