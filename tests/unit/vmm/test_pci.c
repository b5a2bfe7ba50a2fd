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
static char seen[512], last[512];
static const char *refused, *why;
static char path[VM_PCI_PATH_MAX];
static bool silent;
static void (*body)(void);
static const struct vmm_pci edu = { .id = "a", .device = "emulated:edu", .vf = -1 };

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
			"{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"pci1\"}}\n";

		ck_assert_int_eq(co_write_full(server, event, strlen(event)), 0);
	}
	ck_assert_int_eq(co_write_full(server, text, strlen(text)), 0);
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
			if (str_eq(json_object_get_string(c), "device_add"))
				snprintf(last, sizeof(last), "%s", (char *)in.data);
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
		pci_event(vm, json_object_get_string(o));
}

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	seen[0] = '\0';
	refused = why = NULL;
	silent = false;
	ck_assert_int_eq(loop_init(), 0);
	vm = NEW0(struct vmm);
	vm->started = true;
	vm->cfg.emulated_devices = true;
	pci_init(vm);
}

static void teardown(void)
{
	worker_fini();
	loop_fini();
	fd_close(server);
	free(vm);
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

static int add(const struct vmm_pci *want)
{
	path[0] = '\0';
	return vmm_pci_add(vm, want, path, &err);
}

static int add_nic(const char *id)
{
	const struct vmm_nic nic = {
		.id = id, .tap = 0, .mac = { 2, 0, 0, 0, 0, 0xab }, .mtu = 9000
	};

	return vmm_nic_add(vm, &nic, &err);
}

static void card(void)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_msg(add_nic("n") == 0, "%s", err.text);
		ck_assert_msg(strstr(last, "{\"driver\":\"virtio-net-pci\",\"id\":\"pci1\",\"bus\":"
					   "\"rp1\","
					   "\"netdev\":\"net1\",\"mac\":\"02:00:00:00:00:ab\","
					   "\"romfile\":\"\",\"host_mtu\":9000}"),
			      "%s", last);
		expect("getfd netdev_add device_add ");
		ck_assert_int_eq(add_nic("n"), -ERR_EXISTS);
		ck_assert_int_eq(vmm_nic_remove(vm, "n", &err), 0);
		expect("device_del netdev_del ");
	}
	ck_assert_int_eq(vmm_nic_remove(vm, "n", &err), 0);
	expect("");
}

START_TEST(a_network_card_takes_a_port_with_its_tap_behind_it)
{
	run(card);
}
END_TEST

static void card_rollback(void)
{
	static const struct {
		const char *fails, *seen;
	} rows[] = {
		{ "getfd", "getfd netdev_del " },
		{ "netdev_add", "getfd netdev_add netdev_del " },
		{ "device_add", "getfd netdev_add device_add device_del netdev_del " },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		refuse(rows[i].fails, "no");
		ck_assert_int_eq(add_nic("n"), -EREMOTEIO);
		expect(rows[i].seen);
		ck_assert_int_eq(vm->ports[0].step, PORT_EMPTY);
	}
	refuse(NULL, NULL);
	ck_assert_int_eq(add_nic("n"), 0);
	refuse("netdev_del", "Device 'net1' not found");
	ck_assert_int_eq(vmm_nic_remove(vm, "n", &err), 0);
}

START_TEST(a_network_card_that_fails_at_any_step_gives_its_port_back)
{
	run(card_rollback);
}
END_TEST

static void order(void)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_msg(add(&edu) == 0, "%s", err.text);
		ck_assert_str_eq(path, "10.1/00.0");
		ck_assert_msg(strstr(last, "{\"driver\":\"edu\",\"id\":\"pci1\",\"bus\":\"rp1\"}"),
			      "%s", last);
		expect("device_add ");
		ck_assert_int_eq(vmm_pci_remove(vm, "a", &err), 0);
		expect("device_del ");
	}
	ck_assert_int_eq(vmm_pci_remove(vm, "a", &err), 0);
	expect("");
}

START_TEST(a_device_takes_a_port_and_gives_it_back)
{
	run(order);
}
END_TEST

static void exhaust(void)
{
	char id[] = "a";
	struct vmm_pci want = edu;

	want.id = id;
	for (int i = 0; i < VM_PCI_PORTS; i++, id[0]++) {
		char wanted[24];

		snprintf(wanted, sizeof(wanted), "10.%d/00.0", i + 1);
		ck_assert_int_eq(add(&want), 0);
		ck_assert_str_eq(path, wanted);
	}
	ck_assert_int_eq(add(&want), -ERR_EXHAUSTED);
	ck_assert_int_eq(vmm_pci_remove(vm, "a", &err), 0);
	ck_assert_int_eq(add(&want), 0);
	ck_assert_str_eq(path, "10.1/00.0");
	ck_assert_int_eq(add(&want), -ERR_EXISTS);
}

START_TEST(a_device_beyond_the_last_port_is_refused_and_breaks_nothing)
{
	run(exhaust);
}
END_TEST

static void failed_add(void)
{
	refuse("device_add", "no");
	silent = true;
	ck_assert_int_eq(add(&edu), -EREMOTEIO);
	ck_assert_str_eq(path, "");
	ck_assert_msg(strstr(err.text, "emulated:edu"), "%s", err.text);
}

static void rollback(void)
{
	refuse("device_add", "no");
	ck_assert_int_eq(add(&edu), -EREMOTEIO);
	expect("device_add device_del ");
	ck_assert_int_eq(vmm_pci_remove(vm, "a", &err), 0);
	expect("");
	refuse(NULL, NULL);
	ck_assert_int_eq(add(&edu), 0);
	ck_assert_str_eq(path, "10.1/00.0");
}

START_TEST(an_add_that_fails_gives_its_port_back)
{
	run(rollback);
}
END_TEST

/* Neither does it confirm the removal: the next one who wants a port tries again. */
static void left_over(void)
{
	struct pci_port *p = &vm->ports[0];

	failed_add();
	ck_assert(p->left);
	ck_assert_uint_eq(p->step, PORT_DEVICE);
	refuse(NULL, NULL);
	silent = false;
	seen[0] = '\0';
	ck_assert_int_eq(add(&edu), -ERR_EXISTS);
	ck_assert_int_eq(add(&(struct vmm_pci){ .id = "b", .device = "emulated:nvme" }), 0);
	expect("device_del device_add ");
	ck_assert_ptr_nonnull(strstr(last, "\"serial\""));
	ck_assert_str_eq(path, "10.1/00.0");
	ck_assert(!p->left);
}

START_TEST(a_port_that_could_not_be_given_back_is_tried_again)
{
	run(left_over);
}
END_TEST

static void unconfirmed(void)
{
	ck_assert_int_eq(add(&edu), 0);
	silent = true;
	{
		CO_LIMIT(500 * USEC_PER_MSEC);
		ck_assert_int_eq(vmm_pci_remove(vm, "a", &err), -ETIMEDOUT);
	}
	silent = false;
	refuse("device_del", "Device pci1 is already in the process of unplug");
	ck_assert_int_eq(vmm_pci_remove(vm, "a", &err), 0);
	ck_assert_int_eq(vm->ports[0].step, PORT_EMPTY);
}

START_TEST(an_unplug_that_the_guest_does_not_confirm_times_out_and_can_be_retried)
{
	run(unconfirmed);
}
END_TEST

static void what_is_none(void)
{
	static const struct {
		const char *device;
		const char *text;
	} rows[] = {
		{ "emulated:virtio-blk-pci", "edu, nvme or pci-testdev" },
		{ "emulated:", "edu, nvme or pci-testdev" },
		{ "x", "no PCI address such as" },
		{ "ffff:ff:1f.7", "the host has no PCI device" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ck_assert_int_eq(add(&(struct vmm_pci){
					 .id = "a", .device = rows[i].device, .vf = -1 }),
				 -ERR_INVALID);
		ck_assert_msg(strstr(err.text, rows[i].text), "%s", err.text);
	}
	vm->cfg.emulated_devices = false;
	ck_assert_int_eq(add(&edu), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, "emulated_devices"), "%s", err.text);
	expect("");
}

START_TEST(what_is_no_device_takes_no_port)
{
	run(what_is_none);
}
END_TEST

static void ended(void)
{
	ck_assert_int_eq(add(&edu), 0);
	vm->dead = true;
	seen[0] = '\0';
	ck_assert_int_eq(vmm_pci_remove(vm, "a", &err), 0);
	ck_assert_int_eq(add(&edu), -ERR_UNAVAILABLE);
	expect("");
}

START_TEST(a_VM_that_has_ended_has_let_go_of_everything)
{
	run(ended);
}
END_TEST

static void foreign(void)
{
	static const char *const names[] = { "pci0", "pci8", "pci01", "pci1x", "d1-1", "mem0" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		pci_event(vm, names[i]);
	for (unsigned i = 0; i < VM_PCI_PORTS; i++)
		ck_assert(!vm->ports[i].gone.set);
}

START_TEST(events_of_other_devices_wake_nobody)
{
	run(foreign);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm pci");
	TCase *tc = tcase_create("pci");
	SRunner *sr;
	int failed;

	/* A device that is not confirmed to be gone is waited for. */
	tcase_set_timeout(tc, 40);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_device_takes_a_port_and_gives_it_back);
	tcase_add_test(tc, a_network_card_takes_a_port_with_its_tap_behind_it);
	tcase_add_test(tc, a_network_card_that_fails_at_any_step_gives_its_port_back);
	tcase_add_test(tc, a_device_beyond_the_last_port_is_refused_and_breaks_nothing);
	tcase_add_test(tc, an_add_that_fails_gives_its_port_back);
	tcase_add_test(tc, a_port_that_could_not_be_given_back_is_tried_again);
	tcase_add_test(tc, an_unplug_that_the_guest_does_not_confirm_times_out_and_can_be_retried);
	tcase_add_test(tc, what_is_no_device_takes_no_port);
	tcase_add_test(tc, a_VM_that_has_ended_has_let_go_of_everything);
	tcase_add_test(tc, events_of_other_devices_wake_nobody);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
