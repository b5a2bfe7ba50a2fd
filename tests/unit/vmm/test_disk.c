/* SPDX-License-Identifier: Apache-2.0 */
/* Against a QMP server of our own, which refuses, forgets and overtakes as a real QEMU seldom does.
 * */
#include <check.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "vmm/vmm_priv.h"
#include "wire/qmp.h"

static struct vmm *vm;
static struct err err;
static int server;
static char seen[512], node[512], device[512], image[] = "/tmp/lcow-disk-XXXXXX";
static const char *refused, *why;
static bool silent;
static void (*body)(void);
static const struct vmm_disk disk = { .path = image, .read_only = true };
static const struct vmm_disk scratch = { .path = image };

static void answer(const char *command, int64_t id)
{
	_cleanup_free_ char *text = NULL;

	if (str_eq(command, refused))
		text = str_printf("{\"error\":{\"class\":\"GenericError\",\"desc\":\"%s\"},\"id\":%"
				  "lld}\n",
				  why, (long long)id);
	else
		text = str_printf("{\"return\":{},\"id\":%lld}\n", (long long)id);
	/* The event overtakes the answer. */
	if (str_eq(command, "device_del") && !silent) {
		const char *event =
			"{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"d1-7\"}}\n";

		ck_assert_int_eq(co_write_full(server, event, strlen(event)), 0);
	}
	ck_assert_int_eq(co_write_full(server, text, strlen(text)), 0);
}

static void keep_arguments(struct json_object *command, char to[512])
{
	struct json_object *args;

	ck_assert(json_object_object_get_ex(command, "arguments", &args));
	snprintf(to, 512, "%s",
		 json_object_to_json_string_ext(args, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void serve(void *arg)
{
	const char *greeting = "{\"QMP\":{}}\n";
	_cleanup_buf_ struct buf in = { 0 };
	char *end;
	ssize_t n;

	ck_assert_int_eq(co_write_full(server, greeting, strlen(greeting)), 0);
	while ((n = co_read(server, buf_reserve(&in, 4096), 4096)) > 0) {
		in.len += (size_t)n;
		while ((end = memchr(in.data, '\n', in.len))) {
			struct json_object *o, *c, *id;

			*end = '\0';
			o = json_tokener_parse((char *)in.data);
			json_object_object_get_ex(o, "execute", &c);
			json_object_object_get_ex(o, "id", &id);
			snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s ",
				 json_object_get_string(c));
			if (str_eq(json_object_get_string(c), "blockdev-add"))
				keep_arguments(o, node);
			if (str_eq(json_object_get_string(c), "device_add"))
				keep_arguments(o, device);
			answer(json_object_get_string(c), json_object_get_int64(id));
			json_object_put(o);
			buf_eat(&in, (size_t)(end + 1 - (char *)in.data));
		}
	}
}

static void on_event(const char *event, struct json_object *data, void *arg)
{
	struct json_object *o;

	if (json_object_object_get_ex(data, "device", &o))
		disk_event(vm, json_object_get_string(o));
}

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	seen[0] = '\0';
	refused = why = NULL;
	silent = false;
	ck_assert_int_eq(loop_init(), 0);
	fd_close(mkstemp(image));
	vm = NEW0(struct vmm);
	vm->started = true;
	for (unsigned i = 0; i < VM_SCSI_CONTROLLERS; i++)
		for (unsigned j = 0; j < VM_SCSI_LUNS; j++)
			co_event_init(&vm->slots[i][j].gone);
}

static void teardown(void)
{
	worker_fini();
	loop_fini();
	fd_close(server);
	free(vm);
	unlink(image);
}

static void limit_storage(int yes)
{
	vm->cfg.storage_bandwidth = yes ? 1 << 20 : 0;
}

static void in_coroutine(void *arg)
{
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends),
			 0);
	server = ends[1];
	co_spawn("server", serve, NULL, USEC_NEVER);
	ck_assert_int_eq(qmp_new(ends[0], on_event, NULL, &vm->qmp, &err), 0);
	seen[0] = '\0';
	body();
	vm->qmp = qmp_free(vm->qmp);
	ck_assert_int_eq(co_sleep(2000), 0);
	loop_stop(0);
}

static void run(void (*fn)(void))
{
	body = fn;
	co_spawn("test", in_coroutine, NULL, USEC_NEVER);
	loop_run();
}

static void expect(const char *commands)
{
	ck_assert_str_eq(seen, commands);
	seen[0] = '\0';
}

static void refuse(const char *command, const char *desc)
{
	refused = command;
	why = desc;
}

static void order(void)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_msg(vmm_disk_add(vm, 1, 7, &disk, &err) == 0, "%s", err.text);
		expect("add-fd blockdev-add device_add ");
		ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), 0);
		expect("device_del blockdev-del remove-fd ");
	}
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), 0);
	expect("");
}

START_TEST(a_disk_is_added_in_three_steps_and_removed_in_three)
{
	limit_storage(_i);
	run(order);
}
END_TEST

#define FILE_NODE \
	"\"driver\":\"file\",\"filename\":\"/dev/fdset/72\",\"discard\":\"unmap\"," \
	"\"read-only\":"

static void nodes(void)
{
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
	ck_assert_str_eq(node, "{\"driver\":\"raw\",\"read-only\":true,\"discard\":\"unmap\","
			       "\"file\":{" FILE_NODE "true,\"locking\":\"off\"},"
			       "\"node-name\":\"n1-7\"}");
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), 0);
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &scratch, &err), 0);
	ck_assert_str_eq(node, "{\"driver\":\"raw\",\"read-only\":false,\"discard\":\"unmap\","
			       "\"file\":{" FILE_NODE "false},\"node-name\":\"n1-7\"}");
}

START_TEST(a_disk_is_a_raw_node_and_a_layer_is_read_only_and_not_locked)
{
	run(nodes);
}
END_TEST

static void full(void)
{
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &scratch, &err), 0);
	ck_assert_msg(strstr(device, "\"werror\":\"report\""), "%s", device);
}

START_TEST(a_write_that_the_host_has_no_room_for_fails_in_the_guest_and_stops_no_VM)
{
	run(full);
}
END_TEST

static void filters(void)
{
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
	ck_assert_str_eq(node, "{\"driver\":\"throttle\",\"throttle-group\":\"storage\","
			       "\"read-only\":true,\"discard\":\"unmap\",\"file\":{"
			       "\"driver\":\"raw\",\"read-only\":true,\"discard\":\"unmap\","
			       "\"file\":{" FILE_NODE "true,\"locking\":\"off\"}},"
			       "\"node-name\":\"n1-7\"}");
}

START_TEST(a_limit_of_either_kind_puts_a_filter_above_the_disk)
{
	if (_i)
		vm->cfg.storage_iops = 1;
	else
		vm->cfg.storage_bandwidth = 1;
	run(filters);
}
END_TEST

static const struct {
	const char *command;
	const char *desc;
	const char *commands;
} failures[] = {
	{ "add-fd", "no", "add-fd remove-fd " },
	{ "blockdev-add", "no", "add-fd blockdev-add blockdev-del remove-fd " },
	{ "device_add", "no", "add-fd blockdev-add device_add device_del blockdev-del remove-fd " },
};
static int failure;

static void rollback(void)
{
	refuse(failures[failure].command, failures[failure].desc);
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), -EREMOTEIO);
	expect(failures[failure].commands);
	ck_assert_uint_eq(vm->slots[1][7].step, SLOT_EMPTY);
	refuse(NULL, NULL);
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
}

START_TEST(a_step_that_fails_undoes_those_before_it)
{
	failure = _i % (int)ARRAY_SIZE(failures);
	limit_storage(_i / (int)ARRAY_SIZE(failures));
	run(rollback);
}
END_TEST

static const struct {
	const char *command;
	const char *rest;
} stops[] = {
	{ "device_del", "device_del blockdev-del remove-fd " },
	{ "blockdev-del", "blockdev-del remove-fd " },
	{ "remove-fd", "remove-fd " },
};

static void retried(void)
{
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
	refuse(stops[failure].command, "it is in use");
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), -EREMOTEIO);
	ck_assert_msg(strstr(err.text, "in use"), "%s", err.text);
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), -ERR_EXISTS);
	refuse(NULL, NULL);
	seen[0] = '\0';
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), 0);
	expect(stops[failure].rest);
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
}

START_TEST(a_removal_that_failed_goes_on_where_it_stopped)
{
	failure = _i % (int)ARRAY_SIZE(stops);
	limit_storage(_i / (int)ARRAY_SIZE(stops));
	run(retried);
}
END_TEST

static void stale(void)
{
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), 0);
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
	silent = true;
	seen[0] = '\0';
	{
		CO_LIMIT(500 * USEC_PER_MSEC);
		/* The event of the former disk is not this one's. */
		ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), -ETIMEDOUT);
	}
	expect("device_del ");
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), -ERR_EXISTS);
	/* It is still under way: the second attempt waits for the same event. */
	silent = false;
	refuse("device_del", "Device d1-7 is already in the process of unplug");
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), 0);
	expect("device_del blockdev-del remove-fd ");
}

START_TEST(an_unplug_that_QEMU_does_not_confirm_times_out_and_can_be_retried)
{
	run(stale);
}
END_TEST

static void absent(void)
{
	ck_assert_int_eq(vmm_disk_add(vm, 1, 7, &disk, &err), 0);
	silent = true;
	refuse("device_del", "Device 'd1-7' not found");
	ck_assert_int_eq(vmm_disk_remove(vm, 1, 7, &err), 0);
}

START_TEST(a_device_that_QEMU_does_not_know_is_removed)
{
	run(absent);
}
END_TEST

static void foreign(void)
{
	static const char *const names[] = { "d1-64",          "d4-0",   "d1-07", "x",
					     "d99999999999-1", "d-1--1", "d1-7x" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		disk_event(vm, names[i]);
	for (unsigned i = 0; i < VM_SCSI_CONTROLLERS; i++)
		for (unsigned j = 0; j < VM_SCSI_LUNS; j++)
			ck_assert(!vm->slots[i][j].gone.set);
}

START_TEST(events_of_other_devices_wake_nobody)
{
	run(foreign);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm disk");
	TCase *tc = tcase_create("disk");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, a_disk_is_added_in_three_steps_and_removed_in_three, 0, 2);
	tcase_add_test(tc, a_disk_is_a_raw_node_and_a_layer_is_read_only_and_not_locked);
	tcase_add_test(tc,
		       a_write_that_the_host_has_no_room_for_fails_in_the_guest_and_stops_no_VM);
	tcase_add_loop_test(tc, a_limit_of_either_kind_puts_a_filter_above_the_disk, 0, 2);
	/* With and without limits. */
	tcase_add_loop_test(tc, a_step_that_fails_undoes_those_before_it, 0,
			    2 * ARRAY_SIZE(failures));
	tcase_add_loop_test(tc, a_removal_that_failed_goes_on_where_it_stopped, 0,
			    2 * ARRAY_SIZE(stops));
	tcase_add_test(tc, an_unplug_that_QEMU_does_not_confirm_times_out_and_can_be_retried);
	tcase_add_test(tc, a_device_that_QEMU_does_not_know_is_removed);
	tcase_add_test(tc, events_of_other_devices_wake_nobody);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
