/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_GCS_H
#define LCOW_WIRE_GCS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/json.h"

/*
 * The GCS bridge: hcsshim's protocol between host and guest, version 4. A frame is a 16-byte
 * little-endian header (type, size with the header, id) and a JSON body. Source: microsoft/hcsshim
 * internal/gcs/prot, internal/guest/prot.
 */

enum {
	GCS_HEADER = 16,
	GCS_FRAME_MAX = 4 << 20, /* what we read: a request may be larger than 64 KiB */
	GCS_REPLY_MAX = 0x10000, /* with header; Microsoft's host drops the bridge above it */
	GCS_PROTOCOL = 4,
};

/* vsock ports that the guest dials */
enum {
	GCS_PORT_ENTROPY = 1,
	GCS_PORT_LOG = 109,
	GCS_PORT_PLAN9 = 564,
	GCS_PORT_BRIDGE = 0x40000000,
	GCS_PORT_STDIO = 0x40000001, /* and upwards, chosen by the host */
	GCS_ENTROPY_BYTES = 512,
};

enum gcs_type {
	GCS_REQUEST = 0x10000000,
	GCS_RESPONSE = 0x20000000,
	GCS_NOTIFY = 0x30000000,
	GCS_TYPE_MASK = 0xF0000000u,

	GCS_CREATE = 0x10100101,
	GCS_START = 0x10100201,
	GCS_SHUTDOWN_GRACEFUL = 0x10100301,
	GCS_SHUTDOWN_FORCED = 0x10100401,
	GCS_EXECUTE_PROCESS = 0x10100501,
	GCS_WAIT_FOR_PROCESS = 0x10100601,
	GCS_SIGNAL_PROCESS = 0x10100701,
	GCS_RESIZE_CONSOLE = 0x10100801,
	GCS_GET_PROPERTIES = 0x10100901,
	GCS_MODIFY_SETTINGS = 0x10100a01,
	GCS_NEGOTIATE = 0x10100b01,
	GCS_DUMP_STACKS = 0x10100c01,
	GCS_DELETE_STATE = 0x10100d01,
	GCS_CONTAINER_EXITED = 0x30100101,
	GCS_CONTAINER_OOM = 0x3010f101, /* ours: GCS_EXT_OOM */
};

/*
 * What lcow adds to hcsshim's protocol (doc/bridge.md). A host names what it can use in
 * NegotiateProtocol, the guest answers with those of them that it has; nobody else sees any of it.
 */
#define GCS_EXT_OOM "OomEvents" /* the notification GCS_CONTAINER_OOM */
#define GCS_EXT_METRICS "CgroupMetrics" /* a property of containers: cgroup v2's own counters */
#define GCS_EXT_FREEZER "Freezer" /* a resource of containers: freeze and thaw */
#define GCS_EXT_DEVICES "DiskDevices" /* MappedVirtualDisk.Devices */
#define GCS_EXT_CLOCK "Clock" /* a resource of the UVM: the time of day */
#define GCS_EXT_PCI "PCIPath" /* VPCIDevice.PCIPath, in a VM without VMBus */
#define GCS_EXT_VERITY "VerityInfo" /* MappedVirtualDisk.VerityInfo is heeded */
#define GCS_EXT_ENCRYPTED "EncryptedScratch" /* MappedVirtualDisk.Encrypted with any file system */
#define GCS_EXT_SOCKETS "UnixSockets" /* a resource of the UVM: the host's unix sockets */
#define GCS_EXT_FORWARD "PortForward" /* a resource of the UVM: connections into a network */

/** gcs_response() - type of the response to a request type, known or not */
static inline uint32_t gcs_response(uint32_t request)
{
	return GCS_RESPONSE | (request & 0x0FFFFFFFu);
}

/** gcs_type_name() - "Create" …, "unknown" for the rest */
const char *gcs_type_name(uint32_t type);

/**
 * struct gcs_header - decoded frame header
 */
struct gcs_header {
	uint32_t type;
	uint32_t size; /* with the header */
	uint64_t id;
};

/** gcs_header_decode() - Return: 0, or -EBADMSG when the size is below 16 or above @max */
int gcs_header_decode(const uint8_t raw[GCS_HEADER], size_t max, struct gcs_header *ret);
void gcs_header_encode(const struct gcs_header *h, uint8_t raw[GCS_HEADER]);

/* ---- message structs; every pointer is owned and freed by json_free() with the struct's table
 * ---- */

struct gcs_base { /* begins every request */
	char *container_id;
	char *activity_id;
};

struct gcs_error_record {
	int32_t result;
	char *message;
	char *stack_trace;
	char *module;
	char *file;
	uint32_t line;
	char *function;
};

struct gcs_reply { /* begins every response */
	int32_t result; /* HRESULT as a signed number */
	char *activity_id;
	char *error_message;
	struct gcs_error_record *records;
	size_t n_records;
};

struct gcs_simple_request {
	struct gcs_base base;
}; /* Start, Shutdown*, DumpStacks, DeleteContainerState */

struct gcs_negotiate_request {
	struct gcs_base base;
	uint32_t min;
	uint32_t max;
	char **extensions; /* ours: "LcowExtensions", what the host can use (GCS_EXT_…) */
};

struct gcs_schema_version {
	uint32_t major, minor;
};

struct gcs_guest_caps {
	bool namespace_add, signal_process, dump_stacks, delete_container_state;
	char **extensions; /* ours: "LcowExtensions", those that the host named and the guest has */
};

struct gcs_caps {
	bool send_host_create, send_host_start;
	struct gcs_schema_version *schemas;
	size_t n_schemas;
	char *os_type;
	struct gcs_guest_caps guest; /* GuestDefinedCapabilities, always written */
};

struct gcs_negotiate_reply {
	struct gcs_reply reply;
	uint32_t version;
	struct gcs_caps caps;
};

struct gcs_container_config { /* JSON in Create.ContainerConfig */
	struct gcs_schema_version schema;
	char *bundle; /* OciBundlePath */
	struct json_object *spec; /* OciSpecification, kept as it is */
	char *scratch; /* ScratchDirPath */
};

struct gcs_create_request {
	struct gcs_base base;
	struct gcs_container_config *config; /* ContainerConfig: a string of JSON */
};

struct gcs_create_reply {
	struct gcs_reply reply;
	uint32_t selected_protocol; /* SelectedProtocolVersion, always written */
};

struct gcs_process_params { /* JSON in Settings.ProcessParameters */
	char *command_line;
	char **args; /* CommandArgs */
	char *cwd; /* WorkingDirectory */
	char **env; /* Environment, "K=V" */
	bool console; /* EmulateConsole */
	bool in, out, err; /* CreateStd{In,Out,Err}Pipe */
	bool in_uvm; /* CreateInUtilityVM */
	struct json_object *process; /* OciProcess; absent: start the container's init */
};

struct gcs_ports {
	uint32_t in, out, err;
}; /* VsockStdioRelaySettings; 0 is none */

struct gcs_execute_request {
	struct gcs_base base;
	struct {
		struct gcs_process_params *params;
		struct gcs_ports ports;
	} settings;
};

struct gcs_execute_reply {
	struct gcs_reply reply;
	uint32_t pid;
};

struct gcs_wait_request {
	struct gcs_base base;
	uint32_t pid;
	uint32_t timeout_ms;
};
struct gcs_wait_reply {
	struct gcs_reply reply;
	uint32_t exit_code;
};

struct gcs_signal_options {
	int32_t signal;
};
struct gcs_signal_request {
	struct gcs_base base;
	uint32_t pid;
	struct gcs_signal_options *options;
};

struct gcs_resize_request {
	struct gcs_base base;
	uint32_t pid;
	uint16_t height, width;
};

struct gcs_properties_query {
	char **types;
}; /* JSON in Query: PropertyTypes */
struct gcs_properties_request {
	struct gcs_base base;
	struct gcs_properties_query *query;
};
struct gcs_properties_reply {
	struct gcs_reply reply;
	char *properties;
}; /* JSON text */

struct gcs_stacks_reply {
	struct gcs_reply reply;
	char *stacks;
};

struct gcs_modify_request {
	struct gcs_base base;
	struct {
		char *request_type; /* "Add" when absent; "Remove", "Update" */
		char *resource_type;
		struct json_object *settings; /* decoded by the table of its resource type */
	} request;
};

struct gcs_scsi_device {
	uint8_t controller, lun;
}; /* SCSIDevice */

/* VerityInfo of a disk: what is demanded of it, by hcsshim's names; others are not read */
struct gcs_verity {
	uint64_t data_bytes; /* Ext4SizeInBytes: up to the superblock; 0: the file system's */
	bool superblock; /* SuperBlock: there is one */
	char *root_digest; /* RootDigest, in hex; nothing is demanded without one */
};

struct gcs_mapped_disk { /* MappedVirtualDisk */
	char *mount_path;
	uint8_t lun;
	uint8_t controller;
	uint64_t partition;
	bool read_only;
	bool encrypted;
	char **options;
	bool block_dev;
	bool ensure_filesystem;
	char *filesystem;
	struct gcs_verity *verity; /* from our host: GCS_EXT_VERITY */
	struct gcs_scsi_device *devices; /* ours: more disks that the file system spans, in order */
	size_t n_devices;
};

/* VPCIDevice; PCIPath is ours: GCS_EXT_PCI */
struct gcs_vpci_device {
	char *vmbus_guid; /* VMBusGUID: its name in the windows.devices of specs */
	char *pci_path; /* PCIPath: functions from the root bus down, "10.3/00.0" */
};

/* MappedDirectory; Port absent: below the VM's virtio-9p export root (ours) */
struct gcs_mapped_directory {
	char *mount_path;
	int32_t port;
	char *share_name;
	bool read_only;
};

/* UnixSocket: the guest listens on it and relays to a port of the host; Remove has the path only */
struct gcs_unix_socket {
	char *path;
	uint32_t port;
	uint32_t mode; /* permission bits */
	uint32_t uid, gid;
};
enum { GCS_SOCKET_CONNECTIONS = 128 }; /* at a time; more wait */

/* PortForward: the guest dials in a network, and joins that to a port of the host that it dials */
struct gcs_port_forward {
	char *namespace_id;
	char *address; /* 127.0.0.1 stands for ::1, too, if it refuses; and the other way round */
	uint16_t target_port;
	uint32_t port;
};
enum { GCS_FORWARD_CONNECTIONS = 128 }; /* of a network, at a time; more wait */

struct gcs_ip_config {
	char *address; /* IPAddress */
	uint8_t prefix_length;
};
struct gcs_route {
	char *next_hop; /* "0.0.0.0" or "::" for none */
	char *destination; /* DestinationPrefix: "10.0.0.0/8" */
	uint16_t metric;
};
struct gcs_neighbor { /* of lcow */
	char *address; /* IPAddress */
	char *mac; /* MacAddress */
};
struct gcs_network_adapter { /* Network; a Remove has the two ids only */
	char *namespace_id;
	char *id;
	char *mac;
	char *dns_suffix; /* search list, comma separated */
	char *dns_options; /* of lcow: comma separated */
	char *dns_servers; /* DNSServerList, comma separated */
	uint16_t encap_overhead; /* what the MTU is lowered by */
	struct gcs_ip_config *ip_configs;
	size_t n_ip_configs;
	struct gcs_route *routes;
	size_t n_routes;
	struct gcs_neighbor *neighbors; /* of lcow: those that stay and are never asked for */
	size_t n_neighbors;
	bool policy_routing; /* PolicyBasedRouting */
};

struct gcs_layer {
	char *path;
};
struct gcs_combined_layers { /* CombinedLayers */
	char *container_id;
	char *root_path; /* ContainerRootPath */
	struct gcs_layer *layers; /* top-most first */
	size_t n_layers;
	char *scratch_path;
};

struct gcs_constraints { /* ContainerConstraints */
	struct json_object *windows; /* always written, and ignored */
	struct json_object *lin; /* Linux: linux.resources of the OCI specification */
};

struct gcs_freezer {
	bool frozen;
}; /* Freezer, Update */

struct gcs_clock {
	uint64_t unix_ns;
}; /* Clock, Update: UnixNanoseconds */

struct gcs_exit_notification {
	struct gcs_base base;
	char *type; /* "GracefulExit", "ForcedExit", "UnexpectedExit" */
	char *operation; /* "None" */
	int32_t result;
	char *result_info;
};

struct gcs_oom_notification {
	struct gcs_base base;
	uint64_t kills; /* OomKills: processes of the container killed so far */
};

extern const struct json_table gcs_simple_request_table, gcs_reply_table,
	gcs_negotiate_request_table, gcs_negotiate_reply_table, gcs_container_config_table,
	gcs_create_request_table, gcs_create_reply_table, gcs_process_params_table,
	gcs_execute_request_table, gcs_execute_reply_table, gcs_wait_request_table,
	gcs_wait_reply_table, gcs_signal_request_table, gcs_resize_request_table,
	gcs_properties_request_table, gcs_properties_reply_table, gcs_stacks_reply_table,
	gcs_modify_request_table, gcs_mapped_disk_table, gcs_scsi_device_table,
	gcs_mapped_directory_table, gcs_network_adapter_table, gcs_combined_layers_table,
	gcs_constraints_table, gcs_freezer_table, gcs_clock_table, gcs_unix_socket_table,
	gcs_port_forward_table, gcs_vpci_device_table, gcs_exit_notification_table,
	gcs_oom_notification_table;

#endif
