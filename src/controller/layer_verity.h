/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_LAYER_VERITY_H
#define LCOW_CONTROLLER_LAYER_VERITY_H

#include <stdint.h>

struct err;

/**
 * layer_verity_read() - what the option X-containerd.dmverity of a layer demands
 * @value:	path of the layer's metadata file; or containerd 2.3's "on", "auto" or "off", which
 *		mean <image>.dmverity: it must be there, it need not, or it is not looked at
 * @image:	the layer
 * @ret_digest:	root digest in hex, NULL when none is demanded; the caller frees it
 * @ret_offset:	where the superblock lies in the image, in bytes
 *
 * The file is of containerd's erofs differ (internal/dmverity): {"roothash":"<hex>",
 * "hashoffset":4096}; members that are not known are not looked at.
 *
 * Return: 0; or -ERR_INVALID for a file that cannot be read, or with a digest that is not
 * SHA-256's or without an offset
 */
int layer_verity_read(const char *value, const char *image, char **ret_digest, uint64_t *ret_offset,
		      struct err *err);

#endif
