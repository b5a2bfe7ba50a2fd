/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/gcs.h"

#include <check.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/uuid.h"

/* The golden files are what Microsoft's Go host and guest said to each other: a line is a frame's
 * header and body. */

static const struct {
	uint32_t type;
	const struct json_table *table;
} tables[] = {
	{ GCS_NEGOTIATE, &gcs_negotiate_request_table },
	{ GCS_CREATE, &gcs_create_request_table },
	{ GCS_START, &gcs_simple_request_table },
	{ GCS_SHUTDOWN_GRACEFUL, &gcs_simple_request_table },
	{ GCS_SHUTDOWN_FORCED, &gcs_simple_request_table },
	{ GCS_EXECUTE_PROCESS, &gcs_execute_request_table },
	{ GCS_WAIT_FOR_PROCESS, &gcs_wait_request_table },
	{ GCS_SIGNAL_PROCESS, &gcs_signal_request_table },
	{ GCS_RESIZE_CONSOLE, &gcs_resize_request_table },
	{ GCS_GET_PROPERTIES, &gcs_properties_request_table },
	{ GCS_MODIFY_SETTINGS, &gcs_modify_request_table },
	{ GCS_DUMP_STACKS, &gcs_simple_request_table },
	{ GCS_DELETE_STATE, &gcs_simple_request_table },
	{ 0x10100e01, &gcs_simple_request_table },
	{ 0x10200101, &gcs_simple_request_table },
	{ 0x20100b01, &gcs_negotiate_reply_table },
	{ 0x20100101, &gcs_create_reply_table },
	{ 0x20100201, &gcs_reply_table },
	{ 0x20100301, &gcs_reply_table },
	{ 0x20100401, &gcs_reply_table },
	{ 0x20100501, &gcs_execute_reply_table },
	{ 0x20100601, &gcs_wait_reply_table },
	{ 0x20100701, &gcs_reply_table },
	{ 0x20100801, &gcs_reply_table },
	{ 0x20100901, &gcs_properties_reply_table },
	{ 0x20100a01, &gcs_reply_table },
	{ 0x20100c01, &gcs_stacks_reply_table },
	{ 0x20100d01, &gcs_reply_table },
	{ 0x20100e01, &gcs_reply_table },
	{ 0x20200101, &gcs_reply_table },
	{ GCS_CONTAINER_EXITED, &gcs_exit_notification_table },
	{ GCS_CONTAINER_OOM, &gcs_oom_notification_table },
};

/* what Microsoft's types have and ours leave out on purpose */
static const char *const unknown[] = { "ocsc", "otsc", NULL };

static void assert_same(struct json_object *a, struct json_object *b, const char *where);

static void assert_same_objects(struct json_object *a, struct json_object *b, const char *where)
{
	json_object_object_foreach(a, key, value)
	{
		char *path = str_printf("%s.%s", where, key);
		bool ignored = false;

		for (size_t i = 0; unknown[i]; i++)
			ignored |= str_eq(key, unknown[i]);
		ck_assert_msg(ignored || json_object_object_get_ex(b, key, NULL), "%s was lost",
			      path);
		if (!ignored)
			assert_same(value, json_get(b, key, NULL), path);
		free(path);
	}
	json_object_object_foreach(b, extra, unused)
	{
		ck_assert_msg(json_object_object_get_ex(a, extra, NULL), "%s.%s was made up: %s",
			      where, extra, json_object_get_string(unused));
	}
}

/* Equal as JSON; a string that holds an object is compared as that object */
static void assert_same(struct json_object *a, struct json_object *b, const char *where)
{
	ck_assert_msg(json_object_get_type(a) == json_object_get_type(b), "%s: type", where);
	if (json_object_is_type(a, json_type_object)) {
		assert_same_objects(a, b, where);
	} else if (json_object_is_type(a, json_type_array)) {
		ck_assert_msg(json_object_array_length(a) == json_object_array_length(b),
			      "%s: length", where);
		for (size_t i = 0; i < json_object_array_length(a); i++)
			assert_same(json_object_array_get_idx(a, i),
				    json_object_array_get_idx(b, i), where);
	} else if (json_object_is_type(a, json_type_string) &&
		   json_object_get_string(a)[0] == '{') {
		_cleanup_json_ struct json_object *ia = NULL, *ib = NULL;
		const char *sa = json_object_get_string(a), *sb = json_object_get_string(b);

		if (json_parse(sa, strlen(sa), &ia, NULL) < 0) {
			ck_assert_str_eq(sa, sb);
			return;
		}
		ck_assert_msg(json_parse(sb, strlen(sb), &ib, NULL) == 0, "%s: %s", where, sb);
		assert_same(ia, ib, where);
	} else {
		ck_assert_msg(json_object_equal(a, b), "%s: %s became %s", where,
			      json_object_get_string(a), json_object_get_string(b));
	}
}

static const struct json_table *table_of(uint32_t type, struct json_object *body)
{
	/* a failure is the bare response */
	if ((type & GCS_TYPE_MASK) == GCS_RESPONSE &&
	    json_object_get_int(json_get(body, "Result", NULL)) != 0)
		return &gcs_reply_table;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		if (tables[i].type == type)
			return tables[i].table;
	ck_abort_msg("type %08x", type);
}

static void assert_body_survives(const char *body, uint32_t type)
{
	_cleanup_json_ struct json_object *a = NULL, *b = NULL;
	_cleanup_free_ char *again = NULL;
	const struct json_table *t;
	struct err err = { 0 };
	void *v;

	ck_assert_msg(json_parse(body, strlen(body), &a, &err) == 0, "%s", err.text);
	t = table_of(type, a);
	v = mem_new0(1, t->size);
	ck_assert_msg(json_decode(body, strlen(body), t, v, &err) == 0, "%s in %s", err.text, body);
	again = json_encode(t, v);
	ck_assert_int_eq(json_parse(again, strlen(again), &b, NULL), 0);
	assert_same(a, b, t->name);
	json_free(t, v);
	free(v);
}

static void assert_header_survives(const char *hex, uint32_t type, size_t size, uint64_t id)
{
	uint8_t raw[GCS_HEADER], again[GCS_HEADER];
	struct gcs_header h;

	ck_assert_uint_eq(strlen(hex), 2 * GCS_HEADER);
	for (size_t i = 0; i < GCS_HEADER; i++) {
		unsigned byte;

		ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		raw[i] = (uint8_t)byte;
	}
	ck_assert_int_eq(gcs_header_decode(raw, GCS_REPLY_MAX, &h), 0);
	ck_assert_uint_eq(h.type, type);
	ck_assert_uint_eq(h.size, size);
	ck_assert_uint_eq(h.id, id);
	gcs_header_encode(&h, again);
	ck_assert_mem_eq(raw, again, GCS_HEADER);
}

static void check_golden(const char *path)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **lines = NULL;
	size_t len, n = 0;

	ck_assert_int_eq(file_read(path, 1 << 20, &text, &len), 0);
	lines = strv_split(text, "\n");
	for (; lines && lines[n]; n++) {
		_cleanup_json_ struct json_object *o = NULL;
		const char *body;
		uint32_t type;

		ck_assert_int_eq(json_parse(lines[n], strlen(lines[n]), &o, NULL), 0);
		type = (uint32_t)strtoul(json_get_str(o, "type"), NULL, 16);
		body = json_get_str(o, "body");
		assert_header_survives(json_get_str(o, "hdr"), type, GCS_HEADER + strlen(body),
				       json_object_get_uint64(json_get(o, "id", NULL)));
		assert_body_survives(body, type);
	}
	ck_assert_uint_gt(n, 20);
}

START_TEST(what_microsofts_host_sends_survives_decoding_and_encoding)
{
	check_golden(TEST_DATA "/golden/h2g.jsonl");
}
END_TEST

START_TEST(what_microsofts_guest_sends_survives_decoding_and_encoding)
{
	check_golden(TEST_DATA "/golden/g2h.jsonl");
}
END_TEST

static void assert_encodes(const struct json_table *t, const void *v, const char *expected)
{
	_cleanup_free_ char *text = json_encode(t, v);

	ck_assert_str_eq(text, expected);
}

#define BASE "{\"ContainerId\":\"W\",\"ActivityId\":\"" UUID_NULL "\""

static char w[] = "W", os[] = "Linux";

START_TEST(requests_are_written_as_microsofts_host_writes_them)
{
	struct gcs_base base = { .container_id = w };
	char *types[] = { (char[]){ "ProcessList" }, NULL };
	struct gcs_signal_options options = { .signal = 15 };
	struct gcs_properties_query query = { .types = types };

	assert_encodes(&gcs_simple_request_table, &base, BASE "}");
	assert_encodes(&gcs_negotiate_request_table,
		       &(struct gcs_negotiate_request){ .min = 4, .max = 4 },
		       "{\"ContainerId\":\"\",\"ActivityId\":\"" UUID_NULL
		       "\",\"MinimumVersion\":4,\"MaximumVersion\":4}");
	assert_encodes(&gcs_wait_request_table,
		       &(struct gcs_wait_request){
			       .base = base, .pid = 42, .timeout_ms = UINT32_MAX },
		       BASE ",\"ProcessId\":42,\"TimeoutInMs\":4294967295}");
	assert_encodes(&gcs_signal_request_table,
		       &(struct gcs_signal_request){ .base = base, .pid = 42, .options = &options },
		       BASE ",\"ProcessId\":42,\"Options\":{\"Signal\":15}}");
	assert_encodes(&gcs_signal_request_table,
		       &(struct gcs_signal_request){ .base = base, .pid = 42 },
		       BASE ",\"ProcessId\":42}");
	assert_encodes(&gcs_resize_request_table,
		       &(struct gcs_resize_request){
			       .base = base, .pid = 42, .height = 24, .width = 80 },
		       BASE ",\"ProcessId\":42,\"Height\":24,\"Width\":80}");
	assert_encodes(&gcs_properties_request_table,
		       &(struct gcs_properties_request){ .base = base, .query = &query },
		       BASE ",\"Query\":\"{\\\"PropertyTypes\\\":[\\\"ProcessList\\\"]}\"}");
	assert_encodes(&gcs_properties_request_table,
		       &(struct gcs_properties_request){ .base = base }, BASE ",\"Query\":\"\"}");
}
END_TEST

START_TEST(the_stdio_ports_are_always_written)
{
	struct gcs_process_params params = { .out = true, .err = true };
	struct gcs_execute_request q = { .base.container_id = w, .settings.params = &params };

	assert_encodes(&gcs_execute_request_table, &q,
		       BASE ",\"Settings\":{\"ProcessParameters\":\"{\\\"CreateStdOutPipe\\\":true,"
			    "\\\"CreateStdErrPipe\\\":true}\",\"VsockStdioRelaySettings\":{}}}");
	q.settings.ports = (struct gcs_ports){ .out = 1073741825, .err = 1073741826 };
	assert_encodes(&gcs_execute_request_table, &q,
		       BASE ",\"Settings\":{\"ProcessParameters\":\"{\\\"CreateStdOutPipe\\\":true,"
			    "\\\"CreateStdErrPipe\\\":true}\",\"VsockStdioRelaySettings\":{"
			    "\"StdOut\":1073741825,"
			    "\"StdErr\":1073741826}}}");
}
END_TEST

START_TEST(settings_leave_out_zeroes)
{
	char *ro[] = { (char[]){ "ro" }, NULL };
	char path[] = "/run/mounts/scsi/1_0_2", share[] = "0";
	struct gcs_layer layers[] = { { .path = path }, { .path = share } };

	assert_encodes(&gcs_mapped_disk_table,
		       &(struct gcs_mapped_disk){ .mount_path = path,
						  .controller = 1,
						  .partition = 2,
						  .read_only = true,
						  .options = ro },
		       "{\"MountPath\":\"/run/mounts/scsi/"
		       "1_0_2\",\"Controller\":1,\"Partition\":2,\"ReadOnly\":true,"
		       "\"Options\":[\"ro\"]}");
	assert_encodes(&gcs_mapped_disk_table,
		       &(struct gcs_mapped_disk){
			       .devices = (struct gcs_scsi_device[]){ { 0, 1 }, { 2, 0 } },
			       .n_devices = 2 },
		       "{\"Devices\":[{\"Lun\":1},{\"Controller\":2}]}");
	assert_encodes(&gcs_mapped_disk_table,
		       &(struct gcs_mapped_disk){
			       .lun = 1, .verity = &(struct gcs_verity){ 4096, true, share } },
		       "{\"Lun\":1,\"VerityInfo\":{\"Ext4SizeInBytes\":4096,\"SuperBlock\":true,"
		       "\"RootDigest\":\"0\"}}");
	assert_encodes(&gcs_mapped_disk_table, &(struct gcs_mapped_disk){ .partition = UINT64_MAX },
		       "{\"Partition\":18446744073709551615}");
	assert_encodes(&gcs_scsi_device_table, &(struct gcs_scsi_device){ .lun = 3 },
		       "{\"Lun\":3}");
	assert_encodes(&gcs_scsi_device_table, &(struct gcs_scsi_device){ 0 }, "{}");
	assert_encodes(&gcs_mapped_directory_table,
		       &(struct gcs_mapped_directory){ .mount_path = path,
						       .port = 564,
						       .share_name = share,
						       .read_only = true },
		       "{\"MountPath\":\"/run/mounts/scsi/"
		       "1_0_2\",\"Port\":564,\"ShareName\":\"0\",\"ReadOnly\":true}");
	assert_encodes(&gcs_network_adapter_table,
		       &(struct gcs_network_adapter){ .namespace_id = w,
						      .id = share,
						      .encap_overhead = 50,
						      .ip_configs =
							      &(struct gcs_ip_config){ share, 24 },
						      .n_ip_configs = 1,
						      .routes = &(struct gcs_route){ share, w, 7 },
						      .n_routes = 1 },
		       "{\"NamespaceID\":\"W\",\"ID\":\"0\",\"EncapOverhead\":50,\"IPConfigs\":"
		       "[{\"IPAddress\":\"0\",\"PrefixLength\":24}],\"Routes\":[{\"NextHop\":"
		       "\"0\",\"DestinationPrefix\":\"W\",\"Metric\":7}]}");
	assert_encodes(&gcs_combined_layers_table,
		       &(struct gcs_combined_layers){ .container_id = w,
						      .root_path = path,
						      .layers = layers,
						      .n_layers = 2,
						      .scratch_path = share },
		       "{\"ContainerID\":\"W\",\"ContainerRootPath\":\"/run/mounts/scsi/"
		       "1_0_2\",\"Layers\":[{\"Path\":"
		       "\"/run/mounts/scsi/1_0_2\"},{\"Path\":\"0\"}],\"ScratchPath\":\"0\"}");
}
END_TEST

START_TEST(a_memory_limit_request_has_no_settings)
{
	char update[] = "Update", limit[] = "PodCgroupMemoryLimit";
	struct gcs_modify_request q = { .base.container_id = w,
					.request = { .request_type = update,
						     .resource_type = limit } };

	assert_encodes(&gcs_modify_request_table, &q,
		       BASE ",\"Request\":{\"RequestType\":\"Update\",\"ResourceType\":"
			    "\"PodCgroupMemoryLimit\"}}");
}
END_TEST

START_TEST(an_empty_activity_id_is_never_written)
{
	char empty[] = "";

	assert_encodes(&gcs_reply_table, &(struct gcs_reply){ 0 }, "{\"Result\":0}");
	assert_encodes(&gcs_reply_table, &(struct gcs_reply){ .activity_id = empty },
		       "{\"Result\":0}");
	assert_encodes(&gcs_exit_notification_table,
		       &(struct gcs_exit_notification){ .base = { w, empty } },
		       BASE ",\"Type\":\"\",\"Operation\":\"\",\"Result\":0}");
}
END_TEST

START_TEST(the_guest_capabilities_are_written_even_when_there_are_none)
{
	assert_encodes(&gcs_negotiate_reply_table,
		       &(struct gcs_negotiate_reply){ .version = 4, .caps.os_type = os },
		       "{\"Result\":0,\"Version\":4,\"Capabilities\":{\"RuntimeOsType\":\"Linux\","
		       "\"GuestDefinedCapabilities\":{}}}");
}
END_TEST

START_TEST(extensions_are_written_only_when_there_are_some)
{
	char oom[] = GCS_EXT_OOM, clock[] = GCS_EXT_CLOCK;
	char *names[] = { oom, clock, NULL };

	assert_encodes(&gcs_negotiate_request_table,
		       &(struct gcs_negotiate_request){ .base = { w, NULL }, .min = 4, .max = 4 },
		       BASE ",\"MinimumVersion\":4,\"MaximumVersion\":4}");
	assert_encodes(&gcs_negotiate_request_table,
		       &(struct gcs_negotiate_request){
			       .base = { w, NULL }, .min = 4, .max = 4, .extensions = names },
		       BASE ",\"MinimumVersion\":4,\"MaximumVersion\":4,"
			    "\"LcowExtensions\":[\"OomEvents\",\"Clock\"]}");
	assert_encodes(&gcs_negotiate_reply_table,
		       &(struct gcs_negotiate_reply){
			       .version = 4,
			       .caps = { .os_type = os, .guest.extensions = names },
		       },
		       "{\"Result\":0,\"Version\":4,\"Capabilities\":{\"RuntimeOsType\":\"Linux\","
		       "\"GuestDefinedCapabilities\":{\"LcowExtensions\":[\"OomEvents\",\"Clock\"]}"
		       "}}");
}
END_TEST

START_TEST(the_settings_and_the_notification_of_extensions_have_their_shape)
{
	assert_encodes(&gcs_freezer_table, &(struct gcs_freezer){ 0 }, "{\"Frozen\":false}");
	assert_encodes(&gcs_clock_table, &(struct gcs_clock){ .unix_ns = 1700000000000000001 },
		       "{\"UnixNanoseconds\":1700000000000000001}");
	assert_encodes(&gcs_vpci_device_table,
		       &(struct gcs_vpci_device){ .vmbus_guid = w, .pci_path = os },
		       "{\"VMBusGUID\":\"W\",\"PCIPath\":\"Linux\"}");
	assert_encodes(&gcs_unix_socket_table,
		       &(struct gcs_unix_socket){ .path = w, .port = 7, .mode = 0660, .gid = 5 },
		       "{\"Path\":\"W\",\"Port\":7,\"Mode\":432,\"GID\":5}");
	assert_encodes(&gcs_unix_socket_table, &(struct gcs_unix_socket){ .path = w },
		       "{\"Path\":\"W\"}");
	assert_encodes(&gcs_port_forward_table,
		       &(struct gcs_port_forward){
			       .namespace_id = w, .address = os, .target_port = 65535, .port = 7 },
		       "{\"NamespaceID\":\"W\",\"Address\":\"Linux\",\"TargetPort\":65535,\"Port\":"
		       "7}");
	assert_encodes(&gcs_oom_notification_table,
		       &(struct gcs_oom_notification){ .base = { w, NULL }, .kills = 2 },
		       BASE ",\"OomKills\":2}");
}
END_TEST

START_TEST(a_failure_is_written_with_its_record)
{
	char message[] = "no <way>", module[] = "gcs";
	struct gcs_error_record record = {
		.result = INT32_MIN, .message = message, .module = module, .line = UINT32_MAX
	};
	struct gcs_reply reply = { .result = (int32_t)HR_FAIL,
				   .error_message = message,
				   .records = &record,
				   .n_records = 1 };

	assert_encodes(&gcs_reply_table, &reply,
		       "{\"Result\":-2147467259,\"ErrorMessage\":\"no "
		       "<way>\",\"ErrorRecords\":[{\"Result\":-2147483648,"
		       "\"Message\":\"no "
		       "<way>\",\"ModuleName\":\"gcs\",\"FileName\":\"\",\"Line\":4294967295}]}");
}
END_TEST

static void assert_refused(const struct json_table *t, const char *text, const char *why)
{
	void *v = mem_new0(1, t->size);
	struct err err = { 0 };

	ck_assert_int_eq(json_decode(text, strlen(text), t, v, &err), -ERR_INVALID);
	ck_assert_str_eq(err.text, why);
	ck_assert_uint_eq(err_hresult(&err), HR_INVALID_JSON);
	free(v);
}

START_TEST(a_malformed_request_is_refused_with_the_field)
{
	assert_refused(&gcs_create_request_table, "{\"ContainerId\":\"W\"}",
		       "ContainerConfig: is missing");
	assert_refused(&gcs_create_request_table, "{\"ContainerConfig\":\"null\"}",
		       "ContainerConfig: is missing");
	assert_refused(&gcs_create_request_table, "{\"ContainerConfig\":\"{}\"}",
		       "ContainerConfig.OciSpecification: is missing");
	assert_refused(&gcs_create_request_table,
		       "{\"ContainerConfig\":\"{\\\"SchemaVersion\\\":{\\\"Major\\\":-2}}\"}",
		       "ContainerConfig.SchemaVersion.Major: -2 is out of range (0 to 4294967295)");
	assert_refused(&gcs_execute_request_table, "{}", "Settings: is missing");
	assert_refused(&gcs_execute_request_table, "{\"Settings\":{}}",
		       "Settings.ProcessParameters: is missing");
	assert_refused(&gcs_execute_request_table,
		       "{\"Settings\":{\"ProcessParameters\":\"{}\",\"VsockStdioRelaySettings\":{"
		       "\"StdIn\":4294967296}}}",
		       "Settings.VsockStdioRelaySettings.StdIn: 4294967296 is out of range (0 to "
		       "4294967295)");
	assert_refused(&gcs_modify_request_table, "{\"Request\":7}",
		       "Request: int instead of an object");
	assert_refused(&gcs_mapped_disk_table, "{\"Lun\":300}",
		       "Lun: 300 is out of range (0 to 255)");
	assert_refused(&gcs_combined_layers_table, "{\"Layers\":[{\"Path\":\"/a\"},{\"Path\":1}]}",
		       "Layers[1].Path: int instead of a string");
}
END_TEST

START_TEST(a_header_is_bounded_both_ways)
{
	struct gcs_header h = { .type = GCS_CREATE, .size = GCS_HEADER - 1, .id = UINT64_MAX },
			  out = { 0 };
	uint8_t raw[GCS_HEADER];

	gcs_header_encode(&h, raw);
	ck_assert_int_eq(gcs_header_decode(raw, GCS_FRAME_MAX, &out), -EBADMSG);
	ck_assert_uint_eq(out.type, 0);
	h.size = GCS_REPLY_MAX + 1;
	gcs_header_encode(&h, raw);
	ck_assert_int_eq(gcs_header_decode(raw, GCS_REPLY_MAX, &out), -EBADMSG);
	ck_assert_int_eq(gcs_header_decode(raw, GCS_FRAME_MAX, &out), 0);
	ck_assert_uint_eq(out.id, UINT64_MAX);
	h.size = GCS_HEADER;
	gcs_header_encode(&h, raw);
	ck_assert_int_eq(gcs_header_decode(raw, GCS_REPLY_MAX, &out), 0);
}
END_TEST

START_TEST(every_message_has_a_name_both_ways)
{
	ck_assert_str_eq(gcs_type_name(GCS_EXECUTE_PROCESS), "ExecuteProcess");
	ck_assert_str_eq(gcs_type_name(gcs_response(GCS_NEGOTIATE)), "NegotiateProtocol");
	ck_assert_str_eq(gcs_type_name(GCS_CONTAINER_EXITED), "ContainerExited");
	ck_assert_str_eq(gcs_type_name(0x10100e01), "unknown");
	ck_assert_uint_eq(gcs_response(0x10200101), 0x20200101);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gcs");
	TCase *tc = tcase_create("gcs");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, what_microsofts_host_sends_survives_decoding_and_encoding);
	tcase_add_test(tc, what_microsofts_guest_sends_survives_decoding_and_encoding);
	tcase_add_test(tc, requests_are_written_as_microsofts_host_writes_them);
	tcase_add_test(tc, the_stdio_ports_are_always_written);
	tcase_add_test(tc, settings_leave_out_zeroes);
	tcase_add_test(tc, a_memory_limit_request_has_no_settings);
	tcase_add_test(tc, an_empty_activity_id_is_never_written);
	tcase_add_test(tc, the_guest_capabilities_are_written_even_when_there_are_none);
	tcase_add_test(tc, extensions_are_written_only_when_there_are_some);
	tcase_add_test(tc, the_settings_and_the_notification_of_extensions_have_their_shape);
	tcase_add_test(tc, a_failure_is_written_with_its_record);
	tcase_add_test(tc, a_malformed_request_is_refused_with_the_field);
	tcase_add_test(tc, a_header_is_bounded_both_ways);
	tcase_add_test(tc, every_message_has_a_name_both_ways);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
