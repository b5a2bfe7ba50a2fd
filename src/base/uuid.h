/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_UUID_H
#define LCOW_BASE_UUID_H

enum { UUID_LEN = 36 };
#define UUID_NULL "00000000-0000-0000-0000-000000000000"

/** uuid_new() - random version-4 UUID, lower case, with its NUL */
void uuid_new(char ret[UUID_LEN + 1]);

/** sha256_hex() - lower-case hex of the SHA-256 of @len bytes (FIPS 180-4), with its NUL */
void sha256_hex(const void *data, unsigned long len, char ret[65]);

#endif
