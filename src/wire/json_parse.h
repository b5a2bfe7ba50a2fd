/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_JSON_PARSE_H
#define LCOW_WIRE_JSON_PARSE_H

#include <stddef.h>

/* What the two halves of the JSON code share; everyone else includes wire/json.h. */

enum { JSON_DEPTH_MAX = 32 };

/**
 * json_utf8_len() - length of the UTF-8 sequence at the beginning of @s
 * Return: 1 to 4, or 0 when there is none
 */
size_t json_utf8_len(const unsigned char *s, size_t len);

#endif
