/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/modify.h"

#include <errno.h>
#include <json-c/json.h>

#include "base/err.h"
#include "base/str.h"
#include "base/uuid.h"
#include "gcs/agent.h"
#include "gcs/bridge.h"
#include "gcs/clock.h"
#include "gcs/container.h"
#include "gcs/disk.h"
#include "gcs/forward.h"
#include "gcs/layers.h"
#include "gcs/memory.h"
#include "gcs/network.h"
#include "gcs/pci.h"
#include "gcs/scsi.h"
#include "gcs/share.h"
#include "gcs/socket.h"
#include "wire/gcs.h"

static int eject(struct agent *a, const struct gcs_scsi_device *d, struct err *err)
{
	const struct scsi_address at = { .controller = d->controller, .lun = d->lun };

	return scsi_eject(a->modules, &at, err);
}

static int set_clock(struct agent *a, const struct gcs_clock *c, struct err *err)
{
	return clock_set(c->unix_ns, err);
}

/* It has no settings. */
static int set_pods_limit(struct agent *a, const char *none, struct err *err)
{
	memory_plugged(a);
	return memory_refresh(err);
}

typedef int (*modify_fn)(struct agent *a, const void *settings, struct err *err);

/* The settings are what the row's table decodes. */
#define MODIFY(name, fn) \
	static int name(struct agent *a, const void *settings, struct err *err) \
	{ \
		return fn(a, settings, err); \
	}

MODIFY(add_disk, disk_add)
MODIFY(remove_disk, disk_remove)
MODIFY(remove_device, eject)
MODIFY(add_share, share_add)
MODIFY(remove_share, share_remove)
MODIFY(add_layers, layers_add)
MODIFY(add_pci, pci_add)
MODIFY(remove_layers, layers_remove)
MODIFY(add_adapter, network_add)
MODIFY(remove_adapter, network_remove)
MODIFY(add_socket, socket_add)
MODIFY(remove_socket, socket_remove)
MODIFY(add_forward, forward_add)
MODIFY(update_clock, set_clock)
MODIFY(update_pods_limit, set_pods_limit)

static const struct json_table no_settings = { .name = "PodCgroupMemoryLimit", .size = 1 };

/* Those of the UVM. */
static const struct resource {
	const char *name;
	const struct json_table *table; /* NULL: known, but not supported */
	modify_fn add, remove, update;
	const char *extension; /* one of lcow's: only for a host that has agreed to it */
} resources[] = {
	{ "MappedVirtualDisk", &gcs_mapped_disk_table, add_disk, remove_disk },
	{ "SCSIDevice", &gcs_scsi_device_table, NULL, remove_device },
	{ "MappedDirectory", &gcs_mapped_directory_table, add_share, remove_share },
	{ "CombinedLayers", &gcs_combined_layers_table, add_layers, remove_layers },
	{ "VPCIDevice", &gcs_vpci_device_table, add_pci },
	{ "Clock", &gcs_clock_table, .update = update_clock, .extension = GCS_EXT_CLOCK },
	{ "UnixSocket", &gcs_unix_socket_table, add_socket, remove_socket,
	  .extension = GCS_EXT_SOCKETS },
	{ "PortForward", &gcs_port_forward_table, add_forward, .extension = GCS_EXT_FORWARD },
	{ "PodCgroupMemoryLimit", &no_settings, .update = update_pods_limit },
	{ "VPMemDevice" },
	{ "Network", &gcs_network_adapter_table, add_adapter, remove_adapter },
	{ "SecurityPolicy" },
	{ "SecurityPolicyFragment" },
};

static const struct resource *find_resource(const struct agent *a, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(resources); i++)
		if (str_eq(resources[i].name, name) &&
		    (!resources[i].extension || bridge_agreed(a->bridge, resources[i].extension)))
			return &resources[i];
	return NULL;
}

static int bad_settings(struct err *err, const char *resource)
{
	err->hresult = HR_INVALID_JSON;
	return err_wrap(err, err->code, "settings of %s", resource);
}

static int constrain(struct container *c, struct json_object *settings, struct err *err)
{
	struct json_object *lin = settings ? json_get(settings, "Linux", NULL) : NULL;

	if (!json_object_is_type(lin, json_type_object)) {
		err_set(err, -ERR_INVALID, "Linux is missing");
		return bad_settings(err, "ContainerConstraints");
	}
	return container_update(c, lin, err);
}

static int freeze(struct container *c, struct json_object *settings, struct err *err)
{
	struct gcs_freezer f = { 0 };

	if (json_decode_object(settings, &gcs_freezer_table, &f, err) < 0)
		return bad_settings(err, "Freezer");
	return container_freeze(c, f.frozen, err);
}

static int modify_container(struct agent *a, const struct gcs_modify_request *m, const char *type,
			    const char *name, struct err *err)
{
	bool freezer = str_eq(name, "Freezer");
	struct container *c = NULL;
	int r;

	if (freezer && !str_eq(type, "Update"))
		return err_set(err, -EOPNOTSUPP, "the RequestType \"%s\" is not supported for %s",
			       type, name);
	r = container_find(a, m->base.container_id, &c, err);
	if (r < 0)
		return r;
	return freezer ? freeze(c, m->request.settings, err)
		       : constrain(c, m->request.settings, err);
}

static int run(struct agent *a, const struct resource *res, modify_fn fn,
	       struct json_object *settings, struct err *err)
{
	_cleanup_json_ struct json_object *empty = json_object_new_object();
	void *decoded = mem_new0(1, res->table->size);
	int r = json_decode_object(settings ? settings : empty, res->table, decoded, err);

	if (r < 0) {
		err->hresult = HR_INVALID_JSON;
		err_wrap(err, r, "settings of %s", res->name);
	} else {
		r = fn(a, decoded, err);
		json_free(res->table, decoded);
	}
	free(decoded);
	return r;
}

int modify_settings(struct agent *a, const struct gcs_modify_request *m, struct err *err)
{
	const char *type = str_empty(m->request.request_type) ? "Add" : m->request.request_type;
	const char *name = m->request.resource_type ? m->request.resource_type : "";
	const struct resource *res = find_resource(a, name);
	bool of_container = str_eq(name, "ContainerConstraints") ||
			    (str_eq(name, "Freezer") && bridge_agreed(a->bridge, GCS_EXT_FREEZER));
	modify_fn fn = NULL;

	if (!res && !of_container)
		return err_set(err, -EOPNOTSUPP, "invalid ResourceType '%s'", name);
	if (a->test)
		return err_set(err, -ERR_DENIED, "nothing may be changed from a test channel");
	if (of_container)
		return modify_container(a, m, type, name, err);
	if (!str_eq(m->base.container_id, UUID_NULL))
		return err_set(err, -EOPNOTSUPP,
			       "the ResourceType \"%s\" is not supported for containers", name);
	if (!res->table)
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "the ResourceType \"%s\" is not supported by this guest", name);
	if (str_eq(type, "Add"))
		fn = res->add;
	else if (str_eq(type, "Remove"))
		fn = res->remove;
	else if (str_eq(type, "Update"))
		fn = res->update;
	if (!fn)
		return err_set(err, -EOPNOTSUPP, "the RequestType \"%s\" is not supported for %s",
			       type, name);
	return run(a, res, fn, m->request.settings, err);
}
