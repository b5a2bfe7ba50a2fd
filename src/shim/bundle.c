/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bundle.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "wire/json.h"

static struct json_object *annotations_of(const char *bundle, struct json_object **ret_spec)
{
	_cleanup_free_ char *path = str_printf("%s/config.json", bundle);
	_cleanup_free_ char *text = NULL;
	size_t len;

	*ret_spec = NULL;
	if (file_read(path, JSON_TEXT_MAX, &text, &len) < 0 ||
	    json_parse(text, len, ret_spec, NULL) < 0)
		return NULL;
	return json_get(*ret_spec, "annotations", NULL);
}

static bool holds(const char *bundle, const char *name, mode_t type)
{
	_cleanup_free_ char *path = str_printf("%s/%s", bundle, name);
	struct stat st;

	return lstat(path, &st) == 0 && (type == 0 || (st.st_mode & S_IFMT) == type);
}

bool bundle_exists(const char *bundle)
{
	return holds(bundle, "config.json", 0) || holds(bundle, "log", S_IFIFO) ||
	       holds(bundle, "work", S_IFLNK);
}

char *bundle_group(const char *bundle, const char *id)
{
	_cleanup_json_ struct json_object *spec = NULL;
	struct json_object *annotations = annotations_of(bundle, &spec);
	const char *group =
		annotations ? json_get_str(annotations, "io.kubernetes.cri.sandbox-id") : NULL;

	return mem_strdup(group && str_id_valid(group) ? group : id);
}

bool bundle_is_member(const char *bundle)
{
	_cleanup_free_ char *sandbox = str_printf("%s/sandbox", bundle);

	if (access(sandbox, F_OK) == 0)
		return true;

	_cleanup_json_ struct json_object *spec = NULL;
	struct json_object *annotations = annotations_of(bundle, &spec);

	return annotations &&
	       str_eq(json_get_str(annotations, "io.kubernetes.cri.container-type"), "container");
}
