/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The URI of a standard stream: whatever the text, it is refused with a reason, or taken apart into
 * parts that are no longer than it, with an absolute path and pairs of a key that comes once.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"
#include "controller/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct uri *u, size_t len)
{
	size_t total = strlen(u->scheme) + strlen(u->path);

	if (u->path[0] != '/' || strv_len(u->query) % 2 != 0)
		abort();
	for (char **pair = u->query; pair && *pair; pair += 2) {
		total += strlen(pair[0]) + strlen(pair[1]);
		for (char **other = pair + 2; *other; other += 2) {
			if (str_eq(*other, *pair))
				abort();
		}
	}
	if (total > len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	_cleanup_free_ char *text = mem_strndup((const char *)data, len);
	_cleanup_uri_ struct uri u = { 0 };
	struct err err = { 0 };
	int r = uri_parse(text, &u, &err);

	if (r < 0) {
		if (r != -ERR_INVALID || !err.text[0] || u.path)
			abort();
		return 0;
	}
	if (!uri_is(text))
		abort();
	check(&u, strlen(text));
	return 0;
}
