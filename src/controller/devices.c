/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/devices.h"

#include <stdio.h>

#include <json-c/json.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/uuid.h"
#include "controller/device/vpci.h"
#include "vmm/pci_host.h"
#include "wire/json.h"

#define VFIO "/dev/vfio/"
#define CDI "cdi.k8s.io/"
#define CDI_KIND "lcow.dev/pci"

static size_t length(struct json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

static CO int map_device(struct vpci *v, const char *name, int vf, char ***ids,
			 const char **ret_guid, struct err *err)
{
	char address[PCI_ADDRESS_MAX], id[UUID_LEN + 1];
	/* One spelling for one device; what is no address is the VM's to judge. */
	const struct vpci_device device = {
		.id = pci_address_parse(name, address) < 0 ? name : address,
		.vf = vf,
	};
	int r = vpci_reserve(v, &device, id, err);

	if (r < 0)
		return r;
	strv_add(ids, id);
	return vpci_map(v, id, ret_guid, err);
}

/* ---- windows.devices ---- */

/* A decimal number behind the last slash is that of a virtual function. Ends @name before it. */
static int split_function(char *name)
{
	char *slash = strrchr(name, '/');
	uint64_t n;

	if (!slash || str_u64(slash + 1, &n) < 0 || n > UINT16_MAX)
		return VPCI_WHOLE;
	*slash = '\0';
	return (int)n;
}

static bool known_type(const char *type)
{
	return str_eq(type, "vpci") || str_eq(type, "vpci-instance-id") || str_eq(type, "gpu");
}

static CO int map_named(struct vpci *v, struct json_object *device, char ***ids, struct err *err)
{
	const char *id = json_get_str(device, "id"), *type = json_get_str(device, "idType");
	_cleanup_free_ char *name = mem_strdup(id ? id : "");
	const char *guid;
	int vf, r;

	if (!known_type(type))
		return err_set(err, -ERR_INVALID, "reserve device %s: unsupported type %s", name,
			       type ? type : "\"\"");
	vf = split_function(name);
	r = map_device(v, name, vf, ids, &guid, err);
	if (r < 0)
		return r;
	json_object_object_add(device, "id", json_object_new_string(guid));
	return 0;
}

/* ---- linux.devices and annotations ---- */

static bool named(struct json_object *list, const char *guid)
{
	for (size_t i = 0; i < length(list); i++) {
		if (str_eq(json_get_str(json_object_array_get_idx(list, i), "id"), guid))
			return true;
	}
	return false;
}

static void name_in_guest(struct json_object *spec, const char *guid)
{
	struct json_object *windows = json_get(spec, "windows", NULL);
	struct json_object *list = json_get(windows, "devices", NULL);
	struct json_object *device;

	if (!json_object_is_type(windows, json_type_object)) {
		windows = json_object_new_object();
		json_object_object_add(spec, "windows", windows);
	}
	if (!json_object_is_type(list, json_type_array)) {
		list = json_object_new_array();
		json_object_object_add(windows, "devices", list);
	}
	if (named(list, guid))
		return;
	device = json_object_new_object();
	json_object_object_add(device, "id", json_object_new_string(guid));
	json_object_object_add(device, "idType", json_object_new_string("vpci-instance-id"));
	json_object_array_add(list, device);
}

static CO int map_group(struct vpci *v, struct json_object *spec, const char *path, char ***ids,
			struct err *err)
{
	_cleanup_strv_ char **members = NULL;
	uint64_t group;
	int r;

	if (str_eq(path, VFIO "vfio"))
		return 0;
	if (str_u64(path + strlen(VFIO), &group) < 0 || group > INT32_MAX)
		return err_set(err, -ERR_INVALID,
			       "device %s: the node of an IOMMU group is wanted, " VFIO "<number>",
			       path);
	r = vpci_group(v, (unsigned)group, &members, err);
	for (char **m = members; r == 0 && *m; m++) {
		const char *guid;

		r = map_device(v, *m, VPCI_WHOLE, ids, &guid, err);
		if (r == 0)
			name_in_guest(spec, guid);
	}
	return r < 0 ? err_wrap(err, r, "device %s", path) : 0;
}

static CO int map_names(struct vpci *v, struct json_object *spec, const char *value, char ***ids,
			struct err *err)
{
	_cleanup_strv_ char **names = strv_split(value ? value : "", ",");
	int r = names ? 0 : err_set(err, -ERR_INVALID, "no device is named");

	for (char **n = names; r >= 0 && n && *n; n++) {
		const char *guid;

		if (!str_starts(*n, CDI_KIND "="))
			return err_set(err, -ERR_INVALID,
				       "%s: devices of kind " CDI_KIND " are known only", *n);
		r = map_device(v, *n + strlen(CDI_KIND "="), VPCI_WHOLE, ids, &guid, err);
		if (r >= 0)
			name_in_guest(spec, guid);
		else
			err_wrap(err, r, "%s", *n);
	}
	return r;
}

static CO int map_annotations(struct vpci *v, struct json_object *spec, char ***ids,
			      struct err *err)
{
	struct json_object *annotations = json_get(spec, "annotations", NULL);

	if (!json_object_is_type(annotations, json_type_object))
		return 0;
	json_object_object_foreach(annotations, key, value)
	{
		int r = 0;

		if (str_starts(key, CDI))
			r = map_names(v, spec, json_get_str(annotations, key), ids, err);
		if (r < 0)
			return err_wrap(err, r, "annotation %s", key);
	}
	return 0;
}

CO int devices_map(struct vpci *v, struct json_object *spec, char ***ids, struct err *err)
{
	struct json_object *named = json_get(spec, "windows", "devices", NULL);
	struct json_object *nodes = json_get(spec, "linux", "devices", NULL);
	int r = 0;

	for (size_t i = 0, n = length(named); r >= 0 && i < n; i++)
		r = map_named(v, json_object_array_get_idx(named, i), ids, err);
	for (size_t i = 0; r >= 0 && i < length(nodes);) {
		const char *path = json_get_str(json_object_array_get_idx(nodes, i), "path");

		if (!path || !str_starts(path, VFIO)) {
			i++;
			continue;
		}
		r = map_group(v, spec, path, ids, err);
		json_object_array_del_idx(nodes, i, 1);
	}
	return r < 0 ? r : map_annotations(v, spec, ids, err);
}
