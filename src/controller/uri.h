/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_URI_H
#define LCOW_CONTROLLER_URI_H

#include <stdbool.h>

#include "base/mem.h"

struct err;

/**
 * struct uri - "scheme:///path?key=value&key=value" as it names a standard stream (RFC 3986)
 * @path:	absolute, percent-decoded
 * @query:	key, value, key, value …, NULL; decoded, in their order, a key's first value only;
 *		NULL when there is none
 */
struct uri {
	char *scheme;
	char *path;
	char **query;
};

/** uri_is() - whether @text is a URI ("scheme://…") and no path */
bool uri_is(const char *text);
/**
 * uri_parse() - take a URI apart, without its fragment
 *
 * Return: 0, or -ERR_INVALID with text: no URI, a host, no absolute path, a broken escape, a NUL,
 * or more than 64 KiB; @ret is untouched then
 */
int uri_parse(const char *text, struct uri *ret, struct err *err);
/** uri_free() - free its parts */
void uri_free(struct uri *u);
#define _cleanup_uri_ _cleanup_(uri_free)

#endif
