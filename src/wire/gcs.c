/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/gcs.h"

#include <endian.h>
#include <errno.h>

/* The order of the rows is the order on the wire: that of Microsoft's Go structs. */

const char *gcs_type_name(uint32_t type)
{
	static const struct {
		uint32_t type;
		const char *name;
	} names[] = {
		{ GCS_CREATE, "Create" },
		{ GCS_START, "Start" },
		{ GCS_SHUTDOWN_GRACEFUL, "ShutdownGraceful" },
		{ GCS_SHUTDOWN_FORCED, "ShutdownForced" },
		{ GCS_EXECUTE_PROCESS, "ExecuteProcess" },
		{ GCS_WAIT_FOR_PROCESS, "WaitForProcess" },
		{ GCS_SIGNAL_PROCESS, "SignalProcess" },
		{ GCS_RESIZE_CONSOLE, "ResizeConsole" },
		{ GCS_GET_PROPERTIES, "GetProperties" },
		{ GCS_MODIFY_SETTINGS, "ModifySettings" },
		{ GCS_NEGOTIATE, "NegotiateProtocol" },
		{ GCS_DUMP_STACKS, "DumpStacks" },
		{ GCS_DELETE_STATE, "DeleteContainerState" },
	};

	if (type == GCS_CONTAINER_EXITED)
		return "ContainerExited";
	if (type == GCS_CONTAINER_OOM)
		return "ContainerOom";
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (type == names[i].type || type == gcs_response(names[i].type))
			return names[i].name;
	return "unknown";
}

int gcs_header_decode(const uint8_t raw[GCS_HEADER], size_t max, struct gcs_header *ret)
{
	struct gcs_header h;

	memcpy(&h.type, raw, 4);
	memcpy(&h.size, raw + 4, 4);
	memcpy(&h.id, raw + 8, 8);
	h = (struct gcs_header){ .type = le32toh(h.type),
				 .size = le32toh(h.size),
				 .id = le64toh(h.id) };
	if (h.size < GCS_HEADER || h.size > max)
		return -EBADMSG;
	*ret = h;
	return 0;
}

void gcs_header_encode(const struct gcs_header *h, uint8_t raw[GCS_HEADER])
{
	uint32_t type = htole32(h->type), size = htole32(h->size);
	uint64_t id = htole64(h->id);

	memcpy(raw, &type, 4);
	memcpy(raw + 4, &size, 4);
	memcpy(raw + 8, &id, 8);
}

#define FIELD(key, form, member, ...) \
	{ \
		.name = key, .type = form, .offset = offsetof(STRUCT, member), __VA_ARGS__ \
	}
#define OMIT .flags = JSON_OMITEMPTY
#define ITEMS(member) .count = offsetof(STRUCT, member)
#define TABLE(title, rows) \
	{ \
		.name = title, .size = sizeof(STRUCT), .fields = rows, \
		.n_fields = ARRAY_SIZE(rows) \
	}

/* Microsoft's host kills the bridge over an ActivityId that is no GUID: an absent one is written as
 * the null GUID */
#define BASE_FIELDS \
	FIELD("ContainerId", JSON_STRING, base.container_id), \
		FIELD("ActivityId", JSON_STRING, base.activity_id, .flags = JSON_GUID)
#define REPLY_FIELDS \
	FIELD("Result", JSON_I32, reply.result), \
		FIELD("ActivityId", JSON_STRING, reply.activity_id, OMIT), \
		FIELD("ErrorMessage", JSON_STRING, reply.error_message, OMIT), \
		FIELD("ErrorRecords", JSON_ARRAY, reply.records, OMIT, .sub = &error_record_table, \
		      ITEMS(reply.n_records))

/* ---- bases ---- */

#define STRUCT struct gcs_error_record
static const struct json_field error_record_fields[] = {
	FIELD("Result", JSON_I32, result),
	FIELD("Message", JSON_STRING, message),
	FIELD("StackTrace", JSON_STRING, stack_trace, OMIT),
	FIELD("ModuleName", JSON_STRING, module),
	FIELD("FileName", JSON_STRING, file),
	FIELD("Line", JSON_U32, line),
	FIELD("FunctionName", JSON_STRING, function, OMIT),
};
static const struct json_table error_record_table = TABLE("ErrorRecord", error_record_fields);
#undef STRUCT

#define STRUCT struct gcs_simple_request
static const struct json_field simple_request_fields[] = { BASE_FIELDS };
const struct json_table gcs_simple_request_table = TABLE("Request", simple_request_fields);
#undef STRUCT

/* struct gcs_reply is the whole of the plain response: a wrapper gives its rows the member name of
 * the others */
struct plain_reply {
	struct gcs_reply reply;
};

#define STRUCT struct plain_reply
static const struct json_field reply_fields[] = { REPLY_FIELDS };
const struct json_table gcs_reply_table = TABLE("Response", reply_fields);
_Static_assert(sizeof(struct plain_reply) == sizeof(struct gcs_reply), "the wrapper adds nothing");
#undef STRUCT

/* ---- NegotiateProtocol ---- */

#define STRUCT struct gcs_negotiate_request
static const struct json_field negotiate_request_fields[] = {
	BASE_FIELDS,
	FIELD("MinimumVersion", JSON_U32, min),
	FIELD("MaximumVersion", JSON_U32, max),
	FIELD("LcowExtensions", JSON_STRINGS, extensions, OMIT),
};
const struct json_table gcs_negotiate_request_table =
	TABLE("NegotiateProtocol", negotiate_request_fields);
#undef STRUCT

#define STRUCT struct gcs_schema_version
static const struct json_field schema_version_fields[] = {
	FIELD("Major", JSON_U32, major, OMIT),
	FIELD("Minor", JSON_U32, minor, OMIT),
};
static const struct json_table schema_version_table = TABLE("SchemaVersion", schema_version_fields);
#undef STRUCT

#define STRUCT struct gcs_guest_caps
static const struct json_field guest_caps_fields[] = {
	FIELD("NamespaceAddRequestSupported", JSON_BOOL, namespace_add, OMIT),
	FIELD("SignalProcessSupported", JSON_BOOL, signal_process, OMIT),
	FIELD("DumpStacksSupported", JSON_BOOL, dump_stacks, OMIT),
	FIELD("DeleteContainerStateSupported", JSON_BOOL, delete_container_state, OMIT),
	FIELD("LcowExtensions", JSON_STRINGS, extensions, OMIT),
};
static const struct json_table guest_caps_table =
	TABLE("GuestDefinedCapabilities", guest_caps_fields);
#undef STRUCT

#define STRUCT struct gcs_caps
static const struct json_field caps_fields[] = {
	FIELD("SendHostCreateMessage", JSON_BOOL, send_host_create, OMIT),
	FIELD("SendHostStartMessage", JSON_BOOL, send_host_start, OMIT),
	FIELD("SupportedSchemaVersions", JSON_ARRAY, schemas, OMIT, .sub = &schema_version_table,
	      ITEMS(n_schemas)),
	FIELD("RuntimeOsType", JSON_STRING, os_type),
	FIELD("GuestDefinedCapabilities", JSON_OBJECT, guest, .sub = &guest_caps_table),
};
static const struct json_table caps_table = TABLE("Capabilities", caps_fields);
#undef STRUCT

#define STRUCT struct gcs_negotiate_reply
static const struct json_field negotiate_reply_fields[] = {
	REPLY_FIELDS,
	FIELD("Version", JSON_U32, version),
	FIELD("Capabilities", JSON_OBJECT, caps, .sub = &caps_table),
};
const struct json_table gcs_negotiate_reply_table =
	TABLE("NegotiateProtocol", negotiate_reply_fields);
#undef STRUCT

/* ---- Create ---- */

#define STRUCT struct gcs_container_config
static const struct json_field container_config_fields[] = {
	FIELD("SchemaVersion", JSON_OBJECT, schema, .sub = &schema_version_table),
	FIELD("OciBundlePath", JSON_STRING, bundle, OMIT),
	FIELD("OciSpecification", JSON_RAW, spec, .flags = JSON_REQUIRED),
	FIELD("ScratchDirPath", JSON_STRING, scratch, OMIT),
};
const struct json_table gcs_container_config_table =
	TABLE("ContainerConfig", container_config_fields);
#undef STRUCT

#define STRUCT struct gcs_create_request
static const struct json_field create_request_fields[] = {
	BASE_FIELDS,
	FIELD("ContainerConfig", JSON_TEXT, config, .flags = JSON_REQUIRED,
	      .sub = &gcs_container_config_table),
};
const struct json_table gcs_create_request_table = TABLE("Create", create_request_fields);
#undef STRUCT

#define STRUCT struct gcs_create_reply
static const struct json_field create_reply_fields[] = {
	REPLY_FIELDS,
	FIELD("SelectedProtocolVersion", JSON_U32, selected_protocol),
};
const struct json_table gcs_create_reply_table = TABLE("Create", create_reply_fields);
#undef STRUCT

/* ---- processes ---- */

#define STRUCT struct gcs_process_params
static const struct json_field process_params_fields[] = {
	FIELD("CommandLine", JSON_STRING, command_line, OMIT),
	FIELD("CommandArgs", JSON_STRINGS, args, OMIT),
	FIELD("WorkingDirectory", JSON_STRING, cwd, OMIT),
	FIELD("Environment", JSON_MAP, env, OMIT),
	FIELD("EmulateConsole", JSON_BOOL, console, OMIT),
	FIELD("CreateStdInPipe", JSON_BOOL, in, OMIT),
	FIELD("CreateStdOutPipe", JSON_BOOL, out, OMIT),
	FIELD("CreateStdErrPipe", JSON_BOOL, err, OMIT),
	FIELD("CreateInUtilityVM", JSON_BOOL, in_uvm, OMIT),
	FIELD("OciProcess", JSON_RAW, process, OMIT),
};
const struct json_table gcs_process_params_table =
	TABLE("ProcessParameters", process_params_fields);
#undef STRUCT

#define STRUCT struct gcs_ports
static const struct json_field ports_fields[] = {
	FIELD("StdIn", JSON_U32, in, OMIT),
	FIELD("StdOut", JSON_U32, out, OMIT),
	FIELD("StdErr", JSON_U32, err, OMIT),
};
static const struct json_table ports_table = TABLE("VsockStdioRelaySettings", ports_fields);
#undef STRUCT

/* The settings are an anonymous struct within the request: offsets count from its first member */
struct execute_settings {
	struct gcs_process_params *params;
	struct gcs_ports ports;
};

#define STRUCT struct execute_settings
static const struct json_field execute_settings_fields[] = {
	FIELD("ProcessParameters", JSON_TEXT, params, .flags = JSON_REQUIRED,
	      .sub = &gcs_process_params_table),
	FIELD("VsockStdioRelaySettings", JSON_OBJECT, ports, .sub = &ports_table),
};
static const struct json_table execute_settings_table = TABLE("Settings", execute_settings_fields);
_Static_assert(sizeof(struct execute_settings) ==
		       sizeof(((struct gcs_execute_request *)0)->settings),
	       "same layout");
#undef STRUCT

#define STRUCT struct gcs_execute_request
static const struct json_field execute_request_fields[] = {
	BASE_FIELDS,
	FIELD("Settings", JSON_OBJECT, settings, .flags = JSON_REQUIRED,
	      .sub = &execute_settings_table),
};
const struct json_table gcs_execute_request_table = TABLE("ExecuteProcess", execute_request_fields);
#undef STRUCT

#define STRUCT struct gcs_execute_reply
static const struct json_field execute_reply_fields[] = {
	REPLY_FIELDS,
	FIELD("ProcessId", JSON_U32, pid),
};
const struct json_table gcs_execute_reply_table = TABLE("ExecuteProcess", execute_reply_fields);
#undef STRUCT

#define STRUCT struct gcs_wait_request
static const struct json_field wait_request_fields[] = {
	BASE_FIELDS,
	FIELD("ProcessId", JSON_U32, pid),
	FIELD("TimeoutInMs", JSON_U32, timeout_ms),
};
const struct json_table gcs_wait_request_table = TABLE("WaitForProcess", wait_request_fields);
#undef STRUCT

#define STRUCT struct gcs_wait_reply
static const struct json_field wait_reply_fields[] = {
	REPLY_FIELDS,
	FIELD("ExitCode", JSON_U32, exit_code),
};
const struct json_table gcs_wait_reply_table = TABLE("WaitForProcess", wait_reply_fields);
#undef STRUCT

#define STRUCT struct gcs_signal_options
static const struct json_field signal_options_fields[] = { FIELD("Signal", JSON_I32, signal) };
static const struct json_table signal_options_table = TABLE("Options", signal_options_fields);
#undef STRUCT

#define STRUCT struct gcs_signal_request
static const struct json_field signal_request_fields[] = {
	BASE_FIELDS,
	FIELD("ProcessId", JSON_U32, pid),
	FIELD("Options", JSON_POINTER, options, OMIT, .sub = &signal_options_table),
};
const struct json_table gcs_signal_request_table = TABLE("SignalProcess", signal_request_fields);
#undef STRUCT

#define STRUCT struct gcs_resize_request
static const struct json_field resize_request_fields[] = {
	BASE_FIELDS,
	FIELD("ProcessId", JSON_U32, pid),
	FIELD("Height", JSON_U16, height),
	FIELD("Width", JSON_U16, width),
};
const struct json_table gcs_resize_request_table = TABLE("ResizeConsole", resize_request_fields);
#undef STRUCT

/* ---- GetProperties, DumpStacks ---- */

#define STRUCT struct gcs_properties_query
static const struct json_field properties_query_fields[] = { FIELD("PropertyTypes", JSON_STRINGS,
								   types, OMIT) };
static const struct json_table properties_query_table = TABLE("Query", properties_query_fields);
#undef STRUCT

#define STRUCT struct gcs_properties_request
static const struct json_field properties_request_fields[] = {
	BASE_FIELDS,
	FIELD("Query", JSON_TEXT, query, .sub = &properties_query_table),
};
const struct json_table gcs_properties_request_table =
	TABLE("GetProperties", properties_request_fields);
#undef STRUCT

#define STRUCT struct gcs_properties_reply
static const struct json_field properties_reply_fields[] = {
	REPLY_FIELDS,
	FIELD("Properties", JSON_STRING, properties, OMIT),
};
const struct json_table gcs_properties_reply_table =
	TABLE("GetProperties", properties_reply_fields);
#undef STRUCT

#define STRUCT struct gcs_stacks_reply
static const struct json_field stacks_reply_fields[] = {
	REPLY_FIELDS,
	FIELD("GuestStacks", JSON_STRING, stacks),
};
const struct json_table gcs_stacks_reply_table = TABLE("DumpStacks", stacks_reply_fields);
#undef STRUCT

/* ---- ModifySettings ---- */

struct modify_body {
	char *request_type;
	char *resource_type;
	struct json_object *settings;
};

#define STRUCT struct modify_body
static const struct json_field modify_body_fields[] = {
	FIELD("RequestType", JSON_STRING, request_type, OMIT),
	FIELD("ResourceType", JSON_STRING, resource_type, OMIT),
	FIELD("Settings", JSON_RAW, settings, OMIT),
};
static const struct json_table modify_body_table = TABLE("Request", modify_body_fields);
_Static_assert(sizeof(struct modify_body) == sizeof(((struct gcs_modify_request *)0)->request),
	       "same layout");
#undef STRUCT

#define STRUCT struct gcs_modify_request
static const struct json_field modify_request_fields[] = {
	BASE_FIELDS,
	FIELD("Request", JSON_OBJECT, request, .flags = JSON_REQUIRED, .sub = &modify_body_table),
};
const struct json_table gcs_modify_request_table = TABLE("ModifySettings", modify_request_fields);
#undef STRUCT

#define STRUCT struct gcs_scsi_device
static const struct json_field scsi_device_fields[] = {
	FIELD("Controller", JSON_U8, controller, OMIT),
	FIELD("Lun", JSON_U8, lun, OMIT),
};
const struct json_table gcs_scsi_device_table = TABLE("SCSIDevice", scsi_device_fields);
#undef STRUCT

#define STRUCT struct gcs_verity
static const struct json_field verity_fields[] = {
	FIELD("Ext4SizeInBytes", JSON_U64, data_bytes, OMIT),
	FIELD("SuperBlock", JSON_BOOL, superblock, OMIT),
	FIELD("RootDigest", JSON_STRING, root_digest, OMIT),
};
static const struct json_table verity_table = TABLE("VerityInfo", verity_fields);
#undef STRUCT

#define STRUCT struct gcs_mapped_disk
static const struct json_field mapped_disk_fields[] = {
	FIELD("MountPath", JSON_STRING, mount_path, OMIT),
	FIELD("Lun", JSON_U8, lun, OMIT),
	FIELD("Controller", JSON_U8, controller, OMIT),
	FIELD("Partition", JSON_U64, partition, OMIT),
	FIELD("ReadOnly", JSON_BOOL, read_only, OMIT),
	FIELD("Encrypted", JSON_BOOL, encrypted, OMIT),
	FIELD("Options", JSON_STRINGS, options, OMIT),
	FIELD("BlockDev", JSON_BOOL, block_dev, OMIT),
	FIELD("EnsureFilesystem", JSON_BOOL, ensure_filesystem, OMIT),
	FIELD("Filesystem", JSON_STRING, filesystem, OMIT),
	FIELD("VerityInfo", JSON_POINTER, verity, OMIT, .sub = &verity_table),
	FIELD("Devices", JSON_ARRAY, devices, OMIT, .sub = &gcs_scsi_device_table,
	      ITEMS(n_devices)),
};
const struct json_table gcs_mapped_disk_table = TABLE("MappedVirtualDisk", mapped_disk_fields);
#undef STRUCT

#define STRUCT struct gcs_vpci_device
static const struct json_field vpci_device_fields[] = {
	FIELD("VMBusGUID", JSON_STRING, vmbus_guid, OMIT),
	FIELD("PCIPath", JSON_STRING, pci_path, OMIT),
};
const struct json_table gcs_vpci_device_table = TABLE("VPCIDevice", vpci_device_fields);
#undef STRUCT

#define STRUCT struct gcs_mapped_directory
static const struct json_field mapped_directory_fields[] = {
	FIELD("MountPath", JSON_STRING, mount_path, OMIT),
	FIELD("Port", JSON_I32, port, OMIT),
	FIELD("ShareName", JSON_STRING, share_name, OMIT),
	FIELD("ReadOnly", JSON_BOOL, read_only, OMIT),
};
const struct json_table gcs_mapped_directory_table =
	TABLE("MappedDirectory", mapped_directory_fields);
#undef STRUCT

#define STRUCT struct gcs_ip_config
static const struct json_field ip_config_fields[] = {
	FIELD("IPAddress", JSON_STRING, address, OMIT),
	FIELD("PrefixLength", JSON_U8, prefix_length, OMIT),
};
static const struct json_table ip_config_table = TABLE("IPConfig", ip_config_fields);
#undef STRUCT

#define STRUCT struct gcs_route
static const struct json_field route_fields[] = {
	FIELD("NextHop", JSON_STRING, next_hop, OMIT),
	FIELD("DestinationPrefix", JSON_STRING, destination, OMIT),
	FIELD("Metric", JSON_U16, metric, OMIT),
};
static const struct json_table route_table = TABLE("Route", route_fields);
#undef STRUCT

#define STRUCT struct gcs_neighbor
static const struct json_field neighbor_fields[] = {
	FIELD("IPAddress", JSON_STRING, address, OMIT),
	FIELD("MacAddress", JSON_STRING, mac, OMIT),
};
static const struct json_table neighbor_table = TABLE("Neighbor", neighbor_fields);
#undef STRUCT

#define STRUCT struct gcs_network_adapter
static const struct json_field network_adapter_fields[] = {
	FIELD("NamespaceID", JSON_STRING, namespace_id, OMIT),
	FIELD("ID", JSON_STRING, id, OMIT),
	FIELD("MacAddress", JSON_STRING, mac, OMIT),
	FIELD("DNSSuffix", JSON_STRING, dns_suffix, OMIT),
	FIELD("DNSOptions", JSON_STRING, dns_options, OMIT),
	FIELD("DNSServerList", JSON_STRING, dns_servers, OMIT),
	FIELD("EncapOverhead", JSON_U16, encap_overhead, OMIT),
	FIELD("IPConfigs", JSON_ARRAY, ip_configs, OMIT, .sub = &ip_config_table,
	      ITEMS(n_ip_configs)),
	FIELD("Routes", JSON_ARRAY, routes, OMIT, .sub = &route_table, ITEMS(n_routes)),
	FIELD("Neighbors", JSON_ARRAY, neighbors, OMIT, .sub = &neighbor_table, ITEMS(n_neighbors)),
	FIELD("PolicyBasedRouting", JSON_BOOL, policy_routing, OMIT),
};
const struct json_table gcs_network_adapter_table = TABLE("Network", network_adapter_fields);
#undef STRUCT

#define STRUCT struct gcs_layer
static const struct json_field layer_fields[] = { FIELD("Path", JSON_STRING, path, OMIT) };
static const struct json_table layer_table = TABLE("Layer", layer_fields);
#undef STRUCT

#define STRUCT struct gcs_combined_layers
static const struct json_field combined_layers_fields[] = {
	FIELD("ContainerID", JSON_STRING, container_id, OMIT),
	FIELD("ContainerRootPath", JSON_STRING, root_path, OMIT),
	FIELD("Layers", JSON_ARRAY, layers, OMIT, .sub = &layer_table, ITEMS(n_layers)),
	FIELD("ScratchPath", JSON_STRING, scratch_path, OMIT),
};
const struct json_table gcs_combined_layers_table = TABLE("CombinedLayers", combined_layers_fields);
#undef STRUCT

#define STRUCT struct gcs_constraints
static const struct json_field constraints_fields[] = {
	FIELD("Windows", JSON_RAW, windows),
	FIELD("Linux", JSON_RAW, lin),
};
const struct json_table gcs_constraints_table = TABLE("ContainerConstraints", constraints_fields);
#undef STRUCT

#define STRUCT struct gcs_freezer
static const struct json_field freezer_fields[] = { FIELD("Frozen", JSON_BOOL, frozen) };
const struct json_table gcs_freezer_table = TABLE("Freezer", freezer_fields);
#undef STRUCT

#define STRUCT struct gcs_clock
static const struct json_field clock_fields[] = {
	FIELD("UnixNanoseconds", JSON_U64, unix_ns, .flags = JSON_REQUIRED),
};
const struct json_table gcs_clock_table = TABLE("Clock", clock_fields);
#undef STRUCT

#define STRUCT struct gcs_unix_socket
static const struct json_field unix_socket_fields[] = {
	FIELD("Path", JSON_STRING, path),    FIELD("Port", JSON_U32, port, OMIT),
	FIELD("Mode", JSON_U32, mode, OMIT), FIELD("UID", JSON_U32, uid, OMIT),
	FIELD("GID", JSON_U32, gid, OMIT),
};
const struct json_table gcs_unix_socket_table = TABLE("UnixSocket", unix_socket_fields);
#undef STRUCT

#define STRUCT struct gcs_port_forward
static const struct json_field port_forward_fields[] = {
	FIELD("NamespaceID", JSON_STRING, namespace_id),
	FIELD("Address", JSON_STRING, address),
	FIELD("TargetPort", JSON_U16, target_port),
	FIELD("Port", JSON_U32, port),
};
const struct json_table gcs_port_forward_table = TABLE("PortForward", port_forward_fields);
#undef STRUCT

/* ---- notifications ---- */

#define STRUCT struct gcs_exit_notification
static const struct json_field exit_notification_fields[] = {
	BASE_FIELDS,
	FIELD("Type", JSON_STRING, type),
	FIELD("Operation", JSON_STRING, operation),
	FIELD("Result", JSON_I32, result),
	FIELD("ResultInfo", JSON_STRING, result_info, OMIT),
};
const struct json_table gcs_exit_notification_table =
	TABLE("ContainerExited", exit_notification_fields);
#undef STRUCT

#define STRUCT struct gcs_oom_notification
static const struct json_field oom_notification_fields[] = {
	BASE_FIELDS,
	FIELD("OomKills", JSON_U64, kills),
};
const struct json_table gcs_oom_notification_table = TABLE("ContainerOom", oom_notification_fields);
#undef STRUCT
