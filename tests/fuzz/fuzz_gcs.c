/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of the GCS bridge, either direction: the input is one frame after the other. What a table
 * takes it can write and read again, and it stays the same.
 */
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"
#include "wire/gcs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct {
	uint32_t type;
	const struct json_table *table;
} tables[] = {
	{ GCS_NEGOTIATE, &gcs_negotiate_request_table },
	{ GCS_CREATE, &gcs_create_request_table },
	{ GCS_EXECUTE_PROCESS, &gcs_execute_request_table },
	{ GCS_WAIT_FOR_PROCESS, &gcs_wait_request_table },
	{ GCS_SIGNAL_PROCESS, &gcs_signal_request_table },
	{ GCS_RESIZE_CONSOLE, &gcs_resize_request_table },
	{ GCS_GET_PROPERTIES, &gcs_properties_request_table },
	{ GCS_MODIFY_SETTINGS, &gcs_modify_request_table },
	{ 0x20100b01, &gcs_negotiate_reply_table },
	{ 0x20100101, &gcs_create_reply_table },
	{ 0x20100501, &gcs_execute_reply_table },
	{ 0x20100601, &gcs_wait_reply_table },
	{ 0x20100901, &gcs_properties_reply_table },
	{ 0x20100c01, &gcs_stacks_reply_table },
	{ GCS_CONTAINER_EXITED, &gcs_exit_notification_table },
	{ GCS_CONTAINER_OOM, &gcs_oom_notification_table },
};

static const struct {
	const char *resource;
	const struct json_table *table;
} settings[] = {
	{ "MappedVirtualDisk", &gcs_mapped_disk_table },
	{ "SCSIDevice", &gcs_scsi_device_table },
	{ "MappedDirectory", &gcs_mapped_directory_table },
	{ "Network", &gcs_network_adapter_table },
	{ "CombinedLayers", &gcs_combined_layers_table },
	{ "Freezer", &gcs_freezer_table },
	{ "Clock", &gcs_clock_table },
	{ "VPCIDevice", &gcs_vpci_device_table },
	{ "UnixSocket", &gcs_unix_socket_table },
	{ "PortForward", &gcs_port_forward_table },
};

static void check_settings(const struct gcs_modify_request *q)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct json_table *t = settings[i].table;
		_cleanup_free_ void *v = NULL;

		if (!str_eq(q->request.resource_type, settings[i].resource))
			continue;
		v = mem_new0(1, t->size);
		if (json_decode_object(q->request.settings, t, v, NULL) >= 0)
			json_free(t, v);
	}
}

static void check_body(const struct json_table *t, const char *body, size_t len)
{
	_cleanup_free_ void *v = mem_new0(1, t->size), *again = mem_new0(1, t->size);
	_cleanup_free_ char *written = NULL, *second = NULL;
	struct err err = { 0 };
	int r = json_decode(body, len, t, v, &err);

	if (r < 0) {
		if (r != -ERR_INVALID || err.hresult != HR_INVALID_JSON || !*err.text)
			abort();
		return;
	}
	if (t == &gcs_modify_request_table)
		check_settings(v);
	written = json_encode(t, v);
	/* an omitted NULL that is required, or growth beyond the limit, cannot be read again */
	if (json_decode(written, strlen(written), t, again, &err) >= 0) {
		second = json_encode(t, again);
		if (!str_eq(written, second))
			abort();
	} else if (strlen(written) <= JSON_TEXT_MAX && !strstr(err.text, "too ")) {
		abort();
	}
	json_free(t, v);
	json_free(t, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct gcs_header h;

	while (len >= GCS_HEADER && gcs_header_decode(data, GCS_FRAME_MAX, &h) >= 0 &&
	       h.size <= len) {
		const struct json_table *t = (h.type & GCS_TYPE_MASK) == GCS_RESPONSE
						     ? &gcs_reply_table
						     : &gcs_simple_request_table;
		uint8_t raw[GCS_HEADER];

		gcs_header_encode(&h, raw);
		if (memcmp(raw, data, GCS_HEADER) != 0)
			abort();
		gcs_type_name(h.type);
		for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
			if (tables[i].type == h.type)
				t = tables[i].table;
		check_body(t, (const char *)data + GCS_HEADER, h.size - GCS_HEADER);
		data += h.size;
		len -= h.size;
	}
	return 0;
}
