/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/lcow_layers.h"

#include <json-c/json.h>

#include "base/err.h"
#include "base/str.h"
#include "controller/rootfs_plan.h"
#include "wire/json.h"

#define LAYER "lcow-layer"
#define PARTITIONED_LAYER "lcow-partitioned-layer"
#define LAYER_IMAGE "layer.vhd"
#define SCRATCH_IMAGE "sandbox.vhdx"

enum { PARTITION_MAX = 255 };

/* ---- disks ---- */

/* Its file system is looked up by the guest. */
static void add_layer(struct rootfs_plan *p, char *source, uint64_t partition)
{
	struct plan_disk d = { .source = source, .partition = partition, .read_only = true };

	strv_addf(&p->lower, "@%u", plan_add_disk(p, &d));
}

static void add_scratch(struct rootfs_plan *p, char *source)
{
	struct plan_disk d = { .source = source, .filesystem = "ext4", .ensure_filesystem = true };

	p->writable = str_printf("@%u", plan_add_disk(p, &d));
	p->per_container = true;
}

/* ---- lcow-layer ---- */

static int add_folder(struct rootfs_plan *p, struct json_object *folder, struct err *err)
{
	const char *dir = json_object_get_string(folder);

	if (!json_object_is_type(folder, json_type_string) || dir[0] != '/')
		return err_set(err, -ERR_INVALID, "layer folder %s is no absolute path",
			       dir ? dir : "null");
	add_layer(p, str_printf("%s/" LAYER_IMAGE, dir), 0);
	return 0;
}

/* The first @n folders of an array. */
static int add_folders(struct rootfs_plan *p, struct json_object *folders, size_t n,
		       struct err *err)
{
	int r = 0;

	if (n > PLAN_MOUNTS_MAX)
		return err_set(err, -ERR_INVALID, "%zu layers: at most %d are taken", n,
			       PLAN_MOUNTS_MAX);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = add_folder(p, json_object_array_get_idx(folders, i), err);
	return r;
}

static int parse_array(const char *option, const char *text, struct json_object **ret,
		       struct err *err)
{
	_cleanup_json_ struct json_object *o = NULL;
	int r = json_parse(text, strlen(text), &o, err);

	if (r < 0)
		return err_wrap(err, r, "%s", option);
	if (!json_object_is_type(o, json_type_array) || json_object_array_length(o) == 0)
		return err_set(err, -ERR_INVALID, "%s: no array of layers", option);
	*ret = TAKE_PTR(o);
	return 0;
}

/* The value of "name=value". */
static const char *value_of(const char *option, const char *name)
{
	size_t n = strlen(name);

	return str_starts(option, name) && option[n] == '=' ? option + n + 1 : NULL;
}

static int refuse_option(const char *type, const char *option, struct err *err)
{
	return err_set(err, -ERR_STATE, "unrecognized %s mount option: %s", type, option);
}

static int read_layer(const struct rootfs_mount *m, struct rootfs_plan *p, struct err *err)
{
	static const char name[] = "parentLayerPaths";
	_cleanup_json_ struct json_object *folders = NULL;

	if (str_empty(m->source))
		return err_set(err, -ERR_STATE, "the " LAYER " mount has no source");
	for (char *const *o = m->options; o && *o; o++) {
		const char *text = value_of(*o, name);
		int r = text && !folders ? parse_array(name, text, &folders, err)
					 : refuse_option(LAYER, *o, err);

		if (r < 0)
			return r;
	}
	if (!folders)
		return err_set(err, -ERR_STATE, "the " LAYER " mount has no %s", name);

	int r = add_folders(p, folders, json_object_array_length(folders), err);

	if (r >= 0)
		add_scratch(p, str_printf("%s/" SCRATCH_IMAGE, m->source));
	return r;
}

/* ---- lcow-partitioned-layer ---- */

static int add_partition(struct rootfs_plan *p, struct json_object *layer, struct err *err)
{
	const char *path = json_get_str(layer, "Path");
	struct json_object *number = json_get(layer, "Partition", NULL);
	int64_t partition = json_object_get_int64(number);

	if (str_empty(path) || path[0] != '/')
		return err_set(err, -ERR_INVALID, "the Path of a partitioned layer is %s",
			       path ? path : "missing");
	if ((number && !json_object_is_type(number, json_type_int)) || partition < 0 ||
	    partition > PARTITION_MAX)
		return err_set(err, -ERR_INVALID, "partitioned layer %s: no number of a partition",
			       path);
	add_layer(p, mem_strdup(path), (uint64_t)partition);
	return 0;
}

static int read_partitioned(const struct rootfs_mount *m, struct rootfs_plan *p, struct err *err)
{
	static const char name[] = "parent-partitioned-layers";
	_cleanup_json_ struct json_object *layers = NULL;
	const char *scratch = NULL;
	int r = 0;

	for (char *const *o = m->options; o && *o && r >= 0; o++) {
		const char *text = value_of(*o, name), *path = value_of(*o, "scratch");

		if (path)
			scratch = path;
		else
			r = text && !layers ? parse_array(name, text, &layers, err)
					    : refuse_option(PARTITIONED_LAYER, *o, err);
	}
	if (r < 0)
		return r;
	if (!layers || str_empty(scratch))
		return err_set(err, -ERR_STATE, "the " PARTITIONED_LAYER " mount has no %s",
			       layers ? "scratch" : name);
	if (json_object_array_length(layers) > PLAN_MOUNTS_MAX)
		return err_set(err, -ERR_INVALID, "%s: at most %d are taken", name,
			       PLAN_MOUNTS_MAX);
	for (size_t i = 0; i < json_object_array_length(layers) && r >= 0; i++)
		r = add_partition(p, json_object_array_get_idx(layers, i), err);
	if (r >= 0)
		add_scratch(p, mem_strdup(scratch));
	return r;
}

/* ---- windows.layerFolders ---- */

static struct json_object *layer_folders(const struct container_request *request)
{
	return json_get(request->spec, "windows", "layerFolders", NULL);
}

/* The last one is the scratch's. */
static int read_folders(struct json_object *folders, struct rootfs_plan *p, struct err *err)
{
	size_t n = json_object_is_type(folders, json_type_array) ? json_object_array_length(folders)
								 : 0;

	if (n < 2)
		return err_set(err, -ERR_STATE,
			       "windows.layerFolders must be a layer at least and the scratch");

	struct json_object *scratch = json_object_array_get_idx(folders, n - 1);
	int r = add_folders(p, folders, n - 1, err);

	if (r < 0)
		return r;
	if (!json_object_is_type(scratch, json_type_string))
		return err_set(err, -ERR_INVALID, "windows.layerFolders: the scratch is no path");
	add_scratch(p, str_printf("%s/" SCRATCH_IMAGE, json_object_get_string(scratch)));
	return 0;
}

/* ---- all of them ---- */

static const char *layer_type(const struct rootfs_mount *m)
{
	return str_eq(m->type, LAYER) || str_eq(m->type, PARTITIONED_LAYER) ? m->type : NULL;
}

bool lcow_layers_given(const struct container_request *request)
{
	for (size_t i = 0; i < request->n_rootfs; i++) {
		if (layer_type(&request->rootfs[i]))
			return true;
	}
	return layer_folders(request);
}

int lcow_layers_read(const struct container_request *request, struct rootfs_plan *p,
		     struct err *err)
{
	struct json_object *folders = layer_folders(request);
	const struct rootfs_mount *m = request->rootfs;

	p->form = PLAN_DISKS;
	if (folders && request->n_rootfs > 0)
		return err_set(err, -ERR_STATE,
			       "both rootfs mounts and windows.layerFolders are given");
	if (folders)
		return read_folders(folders, p, err);
	if (request->n_rootfs > 1)
		return err_set(err, -ERR_STATE, "%zu rootfs mounts: of %s there is one",
			       request->n_rootfs, LAYER);
	if (!str_empty(m->target))
		return err_set(err, -ERR_STATE, "the rootfs mount has a target, %s", m->target);
	return str_eq(m->type, LAYER) ? read_layer(m, p, err) : read_partitioned(m, p, err);
}
