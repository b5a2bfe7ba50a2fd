/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/layer_verity.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/json.h"

enum { METADATA_MAX = 64 << 10, DIGEST_HEX = 64 };

struct metadata {
	char *root_hash;
	uint64_t hash_offset;
};

static const struct json_field fields[] = {
	{ "roothash", JSON_STRING, offsetof(struct metadata, root_hash), JSON_REQUIRED },
	{ "hashoffset", JSON_U64, offsetof(struct metadata, hash_offset), JSON_REQUIRED },
};
static const struct json_table table = { "dm-verity metadata", sizeof(struct metadata), fields,
					 ARRAY_SIZE(fields) };

static int read_metadata(const char *path, struct metadata *ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(path, METADATA_MAX, &text, &len);

	if (r < 0)
		return err_set(err, -ERR_INVALID, "dm-verity metadata %s: %s", path, strerror(-r));
	r = json_decode(text, len, &table, ret, err);
	if (r < 0)
		return err_wrap(err, r, "dm-verity metadata %s", path);
	if (strlen(ret->root_hash) == DIGEST_HEX &&
	    strspn(ret->root_hash, "0123456789abcdefABCDEF") == DIGEST_HEX && ret->hash_offset > 0)
		return 0;
	json_free(&table, ret);
	return err_set(err, -ERR_INVALID,
		       "dm-verity metadata %s: no SHA-256 in hex, or no offset behind the data",
		       path);
}

int layer_verity_read(const char *value, const char *image, char **ret_digest, uint64_t *ret_offset,
		      struct err *err)
{
	bool may_lack = str_eq(value, "auto");
	_cleanup_free_ char *path = NULL;
	struct metadata m = { 0 };
	int r;

	if (str_eq(value, "off"))
		return 0;
	if (value[0] == '/')
		path = mem_strdup(value);
	else if (may_lack || str_eq(value, "on"))
		path = str_printf("%s.dmverity", image);
	else
		return err_set(err, -ERR_INVALID, "X-containerd.dmverity=%s is no absolute path",
			       value);
	if (may_lack && access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	r = read_metadata(path, &m, err);
	if (r < 0)
		return r;
	free(*ret_digest);
	*ret_digest = m.root_hash;
	*ret_offset = m.hash_offset;
	return 0;
}
