/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "fake.h"
#include "guest/guest.h"
#include "wire/json.h"

#define NULL_ID "00000000-0000-0000-0000-000000000000"
#define BASE(id) "{\"ContainerId\":\"" id "\",\"ActivityId\":\"" NULL_ID "\""
#define MODIFY(id, request) BASE(id) ",\"Request\":" request "}"

static struct guest *g;
static unsigned lost;
static bool go;

static void on_lost(void *arg)
{
	lost++;
}

static void begin(void)
{
	struct err err = { 0 };

	g = guest_new(fake_channel(), on_lost, NULL);
	ck_assert_int_eq(guest_listen(g, NULL), 0);
	ck_assert_msg(guest_connect(g, &err) == 0, "%s", err.text);
}

static void finish(void)
{
	guest_close(g);
	co_sleep(0);
	g = guest_free(g);
}

/* --- the calls, each with its golden text --- */

static int modify(const char *request, const char *resource, const struct json_table *table,
		  const void *settings, struct err *err)
{
	return guest_modify(g, NULL, request, resource, table, settings, err);
}

static int call_layer(struct err *err)
{
	char *options[] = { (char[]){ "ro" }, NULL };
	struct gcs_mapped_disk d = {
		.mount_path = (char[]){ "/run/mounts/scsi/0_1_0" },
		.lun = 1,
		.read_only = true,
		.options = options,
	};

	return modify("Add", "MappedVirtualDisk", &gcs_mapped_disk_table, &d, err);
}

static int call_scratch(struct err *err)
{
	struct gcs_mapped_disk d = {
		.mount_path = (char[]){ "/run/mounts/scsi/0_3_0" },
		.lun = 3,
		.ensure_filesystem = true,
		.filesystem = (char[]){ "ext4" },
	};

	return modify("Add", "MappedVirtualDisk", &gcs_mapped_disk_table, &d, err);
}

static int call_partition(struct err *err)
{
	char *options[] = { (char[]){ "ro" }, NULL };
	struct gcs_mapped_disk d = {
		.mount_path = (char[]){ "/run/mounts/scsi/1_0_2" },
		.controller = 1,
		.partition = 2,
		.read_only = true,
		.options = options,
	};

	return modify("Add", "MappedVirtualDisk", &gcs_mapped_disk_table, &d, err);
}

static int call_block(struct err *err)
{
	char *options[] = { (char[]){ "rbind" }, (char[]){ "rw" }, NULL };
	struct gcs_mapped_disk d = {
		.mount_path = (char[]){ "/run/mounts/scsi/0_5_0" },
		.lun = 5,
		.options = options,
		.block_dev = true,
	};

	return modify("Add", "MappedVirtualDisk", &gcs_mapped_disk_table, &d, err);
}

static int call_eject(struct err *err)
{
	return modify("Remove", "SCSIDevice", &gcs_scsi_device_table,
		      &(struct gcs_scsi_device){ .lun = 3 }, err);
}

static int call_eject_zero(struct err *err)
{
	return modify("Remove", "SCSIDevice", &gcs_scsi_device_table,
		      &(struct gcs_scsi_device){ 0 }, err);
}

static int call_share(struct err *err)
{
	struct gcs_mapped_directory d = {
		.mount_path = (char[]){ "/run/mounts/plan9/0" },
		.port = GCS_PORT_PLAN9,
		.share_name = (char[]){ "0" },
		.read_only = true,
	};

	return modify("Add", "MappedDirectory", &gcs_mapped_directory_table, &d, err);
}

static int call_layers(struct err *err)
{
	struct gcs_layer layers[] = { { (char[]){ "/run/mounts/scsi/0_1_0" } },
				      { (char[]){ "/run/mounts/scsi/0_2_0" } } };
	struct gcs_combined_layers l = { .container_id = (char[]){ "W" },
					 .root_path = (char[]){ "/run/gcs/pods/P/W/rootfs" },
					 .layers = layers,
					 .n_layers = 2,
					 .scratch_path =
						 (char[]){ "/run/mounts/scsi/0_3_0/scratch/P/W" } };

	return modify("Add", "CombinedLayers", &gcs_combined_layers_table, &l, err);
}

static int call_memory_limit(struct err *err)
{
	return modify("Update", "PodCgroupMemoryLimit", NULL, NULL, err);
}

/**
 * struct constraints - as a controller would declare it: any JSON can be sent with a table of its
 * own
 */
struct constraints {
	struct json_object *windows;
	struct json_object *linux_resources;
};
static const struct json_field constraints_fields[] = {
	{ "Windows", JSON_RAW, offsetof(struct constraints, windows), 0, NULL, 0 },
	{ "Linux", JSON_RAW, offsetof(struct constraints, linux_resources), 0, NULL, 0 },
};
static const struct json_table constraints_table = { "ContainerConstraints",
						     sizeof(struct constraints), constraints_fields,
						     2 };

static int call_update(struct err *err)
{
	static const char text[] = "{\"Windows\":{},\"Linux\":{\"memory\":{\"limit\":268435456}}}";
	struct constraints c = { 0 };
	int r;

	ck_assert_int_eq(json_decode(text, strlen(text), &constraints_table, &c, NULL), 0);
	r = guest_modify(g, "W", "Update", "ContainerConstraints", &constraints_table, &c, err);
	json_free(&constraints_table, &c);
	return r;
}

static int call_create(struct err *err)
{
	static const char spec[] =
		"{\"ociVersion\":\"1.0\",\"x\":\"a>b\",\"n\":18446744073709551615}";
	struct gcs_container_config c = {
		.schema = { 2, 1 },
		.bundle = (char[]){ "/run/gcs/pods/P/W" },
		.scratch = (char[]){ "/run/mounts/scsi/0_3_0/scratch/P/W" },
	};
	int r;

	ck_assert_int_eq(json_parse(spec, strlen(spec), &c.spec, NULL), 0);
	r = guest_create(g, "W", &c, err);
	json_put(c.spec);
	return r;
}

static int call_start(struct err *err)
{
	return guest_start(g, "W", err);
}

static int call_delete_state(struct err *err)
{
	return guest_delete_state(g, "W", err);
}

static int call_properties(struct err *err)
{
	_cleanup_free_ char *text = NULL;
	int r = guest_properties(g, "W", "ProcessList", &text, err);

	if (r < 0)
		ck_assert_ptr_null(text);
	else
		ck_assert_str_eq(text, "{\"ProcessList\":[{\"ProcessId\":387}]}");
	return r;
}

static int call_no_properties(struct err *err)
{
	_cleanup_free_ char *text = NULL;
	int r = guest_properties(g, "W", "Statistics", &text, err);

	if (r >= 0)
		ck_assert_str_eq(text, "{}");
	return r;
}

static int call_stacks(struct err *err)
{
	_cleanup_free_ char *text = NULL;
	int r = guest_stacks(g, &text, err);

	if (r < 0)
		ck_assert_ptr_null(text);
	else
		ck_assert_str_eq(text, "co 1\nco 2");
	return r;
}

static const struct call {
	int (*fn)(struct err *err);
	uint32_t type;
	const char *body;
	const char *success;
} calls[] = {
	{ call_layer, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID,
		 "{\"RequestType\":\"Add\",\"ResourceType\":\"MappedVirtualDisk\",\"Settings\":{"
		 "\"MountPath\":\"/run/mounts/scsi/0_1_0\",\"Lun\":1,\"ReadOnly\":true,"
		 "\"Options\":[\"ro\"]}}"),
	  "" },
	{ call_scratch, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID,
		 "{\"RequestType\":\"Add\",\"ResourceType\":\"MappedVirtualDisk\",\"Settings\":{"
		 "\"MountPath\":\"/run/mounts/scsi/0_3_0\",\"Lun\":3,\"EnsureFilesystem\":true,"
		 "\"Filesystem\":\"ext4\"}}"),
	  "" },
	{ call_partition, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID,
		 "{\"RequestType\":\"Add\",\"ResourceType\":\"MappedVirtualDisk\",\"Settings\":{"
		 "\"MountPath\":\"/run/mounts/scsi/"
		 "1_0_2\",\"Controller\":1,\"Partition\":2,\"ReadOnly\":true,"
		 "\"Options\":[\"ro\"]}}"),
	  "" },
	{ call_block, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID,
		 "{\"RequestType\":\"Add\",\"ResourceType\":\"MappedVirtualDisk\",\"Settings\":{"
		 "\"MountPath\":\"/run/mounts/scsi/"
		 "0_5_0\",\"Lun\":5,\"Options\":[\"rbind\",\"rw\"],"
		 "\"BlockDev\":true}}"),
	  "" },
	{ call_eject, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID, "{\"RequestType\":\"Remove\",\"ResourceType\":\"SCSIDevice\","
			  "\"Settings\":{\"Lun\":3}}"),
	  "" },
	{ call_eject_zero, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID,
		 "{\"RequestType\":\"Remove\",\"ResourceType\":\"SCSIDevice\",\"Settings\":{}}"),
	  "" },
	{ call_share, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID,
		 "{\"RequestType\":\"Add\",\"ResourceType\":\"MappedDirectory\",\"Settings\":{"
		 "\"MountPath\":\"/run/mounts/plan9/"
		 "0\",\"Port\":564,\"ShareName\":\"0\",\"ReadOnly\":true}}"),
	  "" },
	{ call_layers, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID,
		 "{\"RequestType\":\"Add\",\"ResourceType\":\"CombinedLayers\",\"Settings\":{"
		 "\"ContainerID\":\"W\",\"ContainerRootPath\":\"/run/gcs/pods/P/W/rootfs\","
		 "\"Layers\":[{\"Path\":\"/run/mounts/scsi/0_1_0\"},{\"Path\":\"/run/mounts/scsi/"
		 "0_2_0\"}],"
		 "\"ScratchPath\":\"/run/mounts/scsi/0_3_0/scratch/P/W\"}}"),
	  "" },
	{ call_memory_limit, GCS_MODIFY_SETTINGS,
	  MODIFY(NULL_ID, "{\"RequestType\":\"Update\",\"ResourceType\":\"PodCgroupMemoryLimit\"}"),
	  "" },
	{ call_update, GCS_MODIFY_SETTINGS,
	  MODIFY("W", "{\"RequestType\":\"Update\",\"ResourceType\":\"ContainerConstraints\","
		      "\"Settings\":{"
		      "\"Windows\":{},\"Linux\":{\"memory\":{\"limit\":268435456}}}}"),
	  "" },
	{ call_create, GCS_CREATE,
	  BASE("W") ",\"ContainerConfig\":\"{\\\"SchemaVersion\\\":{\\\"Major\\\":2,\\\"Minor\\\":"
		    "1},"
		    "\\\"OciBundlePath\\\":\\\"/run/gcs/pods/P/"
		    "W\\\",\\\"OciSpecification\\\":{\\\"ociVersion\\\":"
		    "\\\"1.0\\\",\\\"x\\\":\\\"a>b\\\",\\\"n\\\":18446744073709551615},"
		    "\\\"ScratchDirPath\\\":"
		    "\\\"/run/mounts/scsi/0_3_0/scratch/P/W\\\"}\"}",
	  ",\"SelectedProtocolVersion\":0" },
	{ call_start, GCS_START, BASE("W") "}", "" },
	{ call_delete_state, GCS_DELETE_STATE, BASE("W") "}", "" },
	{ call_properties, GCS_GET_PROPERTIES,
	  BASE("W") ",\"Query\":\"{\\\"PropertyTypes\\\":[\\\"ProcessList\\\"]}\"}",
	  ",\"Properties\":\"{\\\"ProcessList\\\":[{\\\"ProcessId\\\":387}]}\"" },
	{ call_no_properties, GCS_GET_PROPERTIES,
	  BASE("W") ",\"Query\":\"{\\\"PropertyTypes\\\":[\\\"Statistics\\\"]}\"}", "" },
	{ call_stacks, GCS_DUMP_STACKS, BASE(NULL_ID) "}", ",\"GuestStacks\":\"co 1\\nco 2\"" },
};
static const struct call *call;

/* --- success --- */

static void host_succeeds(void)
{
	struct err err = { 0 };
	int r;

	begin();
	r = call->fn(&err);
	ck_assert_msg(r == 0, "%s", err.text);
	finish();
}

static void guest_succeeds(void)
{
	int fd = fake_boot();

	fake_answer(fd, call->type, fake_expect(fd, call->type, call->body), call->success);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(each_call_sends_the_golden_text_and_takes_the_success)
{
	call = &calls[_i];
	fake_run(host_succeeds, guest_succeeds);
}
END_TEST

/* --- refusal --- */

static void host_is_refused(void)
{
	struct err err = { 0 };

	begin();
	ck_assert_int_eq(call->fn(&err), -ERR_NOT_FOUND);
	ck_assert_msg(strstr(err.text, "guest: no such ?thing"), "%s", err.text);
	ck_assert_uint_eq(err.hresult, HR_SYSTEM_NOT_FOUND);
	ck_assert_int_eq(call->fn(NULL), -ERR_NOT_FOUND);
	ck_assert(guest_connected(g));
	finish();
}

static void guest_refuses(void)
{
	int fd = fake_boot();

	for (int i = 0; i < 2; i++)
		fake_refusal(fd, call->type, fake_expect(fd, call->type, NULL), HR_SYSTEM_NOT_FOUND,
			     "no such \\u0007thing");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(each_call_says_what_the_guest_refused_it_with)
{
	call = &calls[_i];
	fake_run(host_is_refused, guest_refuses);
}
END_TEST

/* --- the bridge ends --- */

static void host_is_left(void)
{
	struct err err = { 0 };

	begin();
	ck_assert_int_eq(call->fn(&err), -ERR_UNAVAILABLE);
	ck_assert_msg(strstr(err.text, "guest: the bridge has ended: "), "%s", err.text);
	co_sleep(5000);
	ck_assert_uint_eq(lost, 1);
	ck_assert(!guest_connected(g));
	ck_assert_int_eq(call->fn(&err), -ERR_UNAVAILABLE);
	finish();
	go = true;
}

static void guest_leaves(void)
{
	int fd = fake_boot();

	fake_expect(fd, call->type, NULL);
	fd_close(fd);
}

START_TEST(each_call_ends_with_the_bridge)
{
	call = &calls[_i];
	fake_run(host_is_left, guest_leaves);
}
END_TEST

static void guest_babbles(void)
{
	int fd = fake_boot();

	fake_answer(fd, call->type, fake_expect(fd, call->type, NULL), ",\"Result\":\"fine\"");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(each_call_ends_the_bridge_when_its_answer_is_malformed)
{
	call = &calls[_i];
	fake_run(host_is_left, guest_babbles);
}
END_TEST

static void guest_mistakes(void)
{
	int fd = fake_boot();
	uint64_t id = fake_expect(fd, call->type, NULL);

	fake_answer(fd, call->type == GCS_START ? GCS_CREATE : GCS_START, id, "");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(each_call_ends_the_bridge_when_its_answer_is_of_another_type)
{
	call = &calls[_i];
	fake_run(host_is_left, guest_mistakes);
}
END_TEST

/* --- deadline --- */

static void host_gives_up(void)
{
	struct err err = { 0 };

	begin();
	{
		CO_LIMIT(10000);
		ck_assert_int_eq(call->fn(&err), -ETIMEDOUT);
	}
	ck_assert(guest_connected(g));
	ck_assert_msg(call->fn(&err) == 0, "%s", err.text);
	ck_assert_uint_eq(lost, 0);
	finish();
}

static void guest_is_late(void)
{
	int fd = fake_boot();
	uint64_t late = fake_expect(fd, call->type, NULL), id = fake_expect(fd, call->type, NULL);

	fake_answer(fd, call->type, late, call->success);
	fake_answer(fd, call->type, id, call->success);
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(each_call_ends_with_its_callers_deadline_and_the_next_one_works)
{
	call = &calls[_i];
	fake_run(host_gives_up, guest_is_late);
}
END_TEST

/* --- before and after --- */

static void host_is_alone(void)
{
	struct err err = { 0 };

	g = guest_new(fake_channel(), on_lost, NULL);
	ck_assert_int_eq(call->fn(&err), -ERR_UNAVAILABLE);
	ck_assert_msg(strstr(err.text, "guest: not connected"), "%s", err.text);
	guest_close(g);
	ck_assert_int_eq(call->fn(&err), -ERR_UNAVAILABLE);
	g = guest_free(g);
}

START_TEST(no_call_is_possible_without_a_connection)
{
	call = &calls[_i];
	fake_run(host_is_alone, NULL);
}
END_TEST

static void host_calls_too_early(void)
{
	g = guest_new(fake_channel(), on_lost, NULL);
	ck_assert_int_eq(guest_listen(g, NULL), 0);
	ck_assert_int_eq(guest_connect(g, NULL), 0);
	go = true;
	finish();
}

static void guest_takes_its_time(void)
{
	int fd = fake_dial_wait(GCS_PORT_BRIDGE);
	uint64_t id = fake_expect(fd, GCS_NEGOTIATE, NULL);
	struct err err = { 0 };

	/* from another coroutine of the host: an unnegotiated guest refuses everything */
	ck_assert_int_eq(guest_start(g, "W", &err), -ERR_UNAVAILABLE);
	ck_assert_str_eq(err.text, "guest: not connected");
	fake_answer(fd, GCS_NEGOTIATE, id,
		    ",\"Version\":4,\"Capabilities\":{\"RuntimeOsType\":\"linux\"}");
	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(no_call_is_made_before_the_negotiation_is_over)
{
	fake_run(host_calls_too_early, guest_takes_its_time);
}
END_TEST

/* --- capabilities --- */

static void host_asks_a_simple_guest(void)
{
	_cleanup_free_ char *text = NULL;

	begin();
	ck_assert_int_eq(guest_stacks(g, &text, NULL), 0);
	ck_assert_str_eq(text, "");
	ck_assert_int_eq(guest_delete_state(g, "W", NULL), 0);
	ck_assert_uint_eq(fake_sends(), 1);
	finish();
}

static void guest_is_simple(void)
{
	int fd = fake_boot_with("\"SignalProcessSupported\":true");

	fake_expect_end(fd);
	fd_close(fd);
}

START_TEST(what_a_guest_does_not_support_is_not_asked_for)
{
	fake_run(host_asks_a_simple_guest, guest_is_simple);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("guest requests");
	TCase *c = tcase_create("guest");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, each_call_sends_the_golden_text_and_takes_the_success, 0,
			    (int)ARRAY_SIZE(calls));
	tcase_add_loop_test(c, each_call_says_what_the_guest_refused_it_with, 0,
			    (int)ARRAY_SIZE(calls));
	tcase_add_loop_test(c, each_call_ends_with_the_bridge, 0, (int)ARRAY_SIZE(calls));
	tcase_add_loop_test(c, each_call_ends_the_bridge_when_its_answer_is_malformed, 0,
			    (int)ARRAY_SIZE(calls));
	tcase_add_loop_test(c, each_call_ends_the_bridge_when_its_answer_is_of_another_type, 0,
			    (int)ARRAY_SIZE(calls));
	tcase_add_loop_test(c, each_call_ends_with_its_callers_deadline_and_the_next_one_works, 0,
			    (int)ARRAY_SIZE(calls));
	tcase_add_loop_test(c, no_call_is_possible_without_a_connection, 0, (int)ARRAY_SIZE(calls));
	tcase_add_test(c, no_call_is_made_before_the_negotiation_is_over);
	tcase_add_test(c, what_a_guest_does_not_support_is_not_asked_for);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
