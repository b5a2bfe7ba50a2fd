/* SPDX-License-Identifier: Apache-2.0 */
/* Against a QMP server of our own, with a guest that takes what and when the test says. */
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
#include "vmm/vmm_priv.h"
#include "wire/json.h"
#include "wire/qmp.h"

enum { BOOT_MB = 256, MAX_MB = 1024, SLOTS = 4 };

static struct vmm *vm;
static struct err err;
static int server;
static char seen[1024];
static const char *refused, *why;
static uint64_t requested, taken, per_look, willing;
static bool plugged[SLOTS];
static void (*body)(void);

/* The CPUs as QEMU lists them: the last one first, those that are plugged with their path. */
static char *cpu_list(void)
{
	_cleanup_buf_ struct buf b = { 0 };

	buf_addf(&b, "[");
	for (int i = SLOTS - 1; i >= 0; i--)
		buf_addf(&b,
			 "{\"props\":{\"core-id\":%d,\"thread-id\":0},\"vcpus-count\":1,%s"
			 "\"type\":\"t-cpu\"}%s",
			 i, plugged[i] ? "\"qom-path\":\"/x\"," : "", i ? "," : "");
	buf_addf(&b, "]");
	return mem_strndup((char *)b.data, b.len);
}

static char *result_of(const char *command, struct json_object *args)
{
	if (str_eq(command, "qom-set")) {
		requested = json_object_get_uint64(json_get(args, "value", NULL));
	} else if (str_eq(command, "qom-get")) {
		uint64_t want = requested < willing ? requested : willing;

		taken = taken + per_look < want ? taken + per_look : want;
		return str_printf("%llu", (unsigned long long)taken);
	} else if (str_eq(command, "query-hotpluggable-cpus")) {
		return cpu_list();
	} else if (json_get(args, "core-id", NULL)) {
		plugged[json_object_get_int(json_get(args, "core-id", NULL))] = true;
	}
	return mem_strdup("{}");
}

static void answer(struct json_object *o)
{
	const char *command = json_get_str(o, "execute");
	struct json_object *args = json_get(o, "arguments", NULL);
	long long id = json_object_get_int64(json_get(o, "id", NULL));
	_cleanup_free_ char *text = NULL, *result = NULL;
	const char *name = json_get_str(args, "id");

	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s%s%s ", command,
		 name ? ":" : "", name ? name : "");
	if (str_eq(command, refused)) {
		text = str_printf("{\"error\":{\"class\":\"GenericError\",\"desc\":\"%s\"},\"id\":%"
				  "lld}\n",
				  why, id);
	} else {
		result = result_of(command, args);
		text = str_printf("{\"return\":%s,\"id\":%lld}\n", result, id);
	}
	/* A caller whose time is over may have gone. */
	int r = co_write_full(server, text, strlen(text));

	ck_assert_msg(r == 0 || r == -EPIPE, "answer: %d", r);
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
			struct json_object *o;

			*end = '\0';
			o = json_tokener_parse((char *)in.data);
			answer(o);
			json_object_put(o);
			buf_eat(&in, (size_t)(end + 1 - (char *)in.data));
		}
	}
}

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	refused = why = NULL;
	requested = taken = 0;
	per_look = willing = UINT64_MAX / 4;
	memset(plugged, 0, sizeof(plugged));
	plugged[0] = true;
	ck_assert_int_eq(loop_init(), 0);
	vm = NEW0(struct vmm);
	vm->started = true;
	vm->stall_usec = 100 * USEC_PER_MSEC;
	vm->cfg.memory_mb = BOOT_MB;
	vm->cfg.max_memory_mb = MAX_MB;
	vm->cfg.cpus = 1;
}

static void teardown(void)
{
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
	ck_assert_int_eq(qmp_new(ends[0], NULL, NULL, &vm->qmp, &err), 0);
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

#define PLUG "object-add:vmem0 device_add:mem0 "

static void first(void)
{
	ck_assert_int_eq(vmm_grow_memory(vm, BOOT_MB, &err), 0);
	expect("");
	ck_assert_int_eq(vmm_grow_memory(vm, 400, &err), 0);
	expect(PLUG "qom-set qom-get ");
	ck_assert_uint_eq(requested, 144ull << 20);
	ck_assert_uint_eq(vmm_memory_mb(vm), 400);
	/* By whole steps, and what is there is not asked for again. */
	ck_assert_int_eq(vmm_grow_memory(vm, 401, &err), 0);
	expect("qom-set qom-get ");
	ck_assert_uint_eq(requested, (144ull + VM_MEMORY_STEP_MB) << 20);
	ck_assert_int_eq(vmm_grow_memory(vm, 402, &err), 0);
	expect("");
}

START_TEST(memory_is_plugged_when_it_is_first_needed_and_grows_from_there)
{
	run(first);
}
END_TEST

static void slowly(void)
{
	per_look = 30ull << 20;
	ck_assert_int_eq(vmm_grow_memory(vm, MAX_MB, &err), 0);
	ck_assert_uint_eq(vmm_memory_mb(vm), MAX_MB);
}

START_TEST(a_guest_that_takes_memory_slowly_is_waited_for)
{
	run(slowly);
}
END_TEST

static void stingy(void)
{
	willing = 40ull << 20;
	ck_assert_int_eq(vmm_grow_memory(vm, 512, &err), -ERR_EXHAUSTED);
	ck_assert_msg(strstr(err.text, "took 40 of 256 MiB"), "%s", err.text);
	ck_assert_uint_eq(vmm_memory_mb(vm), BOOT_MB + 40);
	/* What it has taken stays, and counts. */
	seen[0] = '\0';
	ck_assert_int_eq(vmm_grow_memory(vm, BOOT_MB + 40, &err), 0);
	expect("");
	willing = UINT64_MAX;
	ck_assert_int_eq(vmm_grow_memory(vm, 512, &err), 0);
	ck_assert_uint_eq(vmm_memory_mb(vm), 512);
}

START_TEST(a_guest_that_takes_less_is_told_with_both_numbers)
{
	run(stingy);
}
END_TEST

static void impatient(void)
{
	willing = 0;
	CO_LIMIT(20 * USEC_PER_MSEC);
	ck_assert_int_eq(vmm_grow_memory(vm, 512, &err), -ETIMEDOUT);
}

START_TEST(the_caller_s_deadline_ends_the_wait_for_the_guest)
{
	run(impatient);
}
END_TEST

static void beyond(void)
{
	ck_assert_int_eq(vmm_grow_memory(vm, MAX_MB + 1, &err), -ERR_EXHAUSTED);
	ck_assert_msg(strstr(err.text, "1024 at most"), "%s", err.text);
	expect("");
	ck_assert_int_eq(vmm_grow_cpus(vm, SLOTS + 1, &err), -ERR_EXHAUSTED);
	ck_assert_msg(strstr(err.text, "4 at most"), "%s", err.text);
}

START_TEST(no_VM_grows_beyond_its_maximum)
{
	run(beyond);
}
END_TEST

static const struct {
	const char *command;
	const char *desc;
	int code;
	const char *commands;
} failures[] = {
	{ "object-add", "no", -EREMOTEIO, "object-add:vmem0 " },
	{ "object-add", "cannot set up guest memory 'vmem0': Cannot allocate memory",
	  -ERR_EXHAUSTED, "object-add:vmem0 " },
	{ "device_add", "no", -EREMOTEIO, PLUG },
	{ "qom-set", "no", -EREMOTEIO, PLUG "qom-set " },
	{ "qom-get", "no", -EREMOTEIO, PLUG "qom-set qom-get " },
};
static int failure;

static void retried(void)
{
	refuse(failures[failure].command, failures[failure].desc);
	ck_assert_int_eq(vmm_grow_memory(vm, 512, &err), failures[failure].code);
	ck_assert_int_eq(err.code, failures[failure].code);
	expect(failures[failure].commands);
	ck_assert_uint_eq(vmm_memory_mb(vm), BOOT_MB);
	refuse(NULL, NULL);
	ck_assert_int_eq(vmm_grow_memory(vm, 512, &err), 0);
	ck_assert_uint_eq(vmm_memory_mb(vm), 512);
}

START_TEST(a_growth_that_failed_at_any_step_can_be_repeated)
{
	failure = _i;
	run(retried);
}
END_TEST

static void known(void)
{
	refuse("object-add", "attempt to add duplicate property 'vmem0' to object");
	ck_assert_int_eq(vmm_grow_memory(vm, 300, &err), 0);
}

static void known_device(void)
{
	refuse("device_add", "Duplicate device ID 'mem0'");
	ck_assert_int_eq(vmm_grow_memory(vm, 300, &err), 0);
}

START_TEST(what_an_unanswered_attempt_has_plugged_is_used)
{
	run(_i ? known_device : known);
}
END_TEST

static void cpus(void)
{
	ck_assert_int_eq(vmm_grow_cpus(vm, 1, &err), 0);
	expect("");
	ck_assert_int_eq(vmm_grow_cpus(vm, 3, &err), 0);
	expect("query-hotpluggable-cpus device_add:cpu1 device_add:cpu2 ");
	ck_assert(plugged[1] && plugged[2] && !plugged[3]);
	ck_assert_uint_eq(vmm_cpus(vm), 3);
}

START_TEST(cpus_are_plugged_from_the_first_free_one_on)
{
	run(cpus);
}
END_TEST

static void cpu_refused(void)
{
	refuse("device_add", "no");
	ck_assert_int_eq(vmm_grow_cpus(vm, 2, &err), -EREMOTEIO);
	ck_assert_uint_eq(vmm_cpus(vm), 1);
	refuse("query-hotpluggable-cpus", "no");
	ck_assert_int_eq(vmm_grow_cpus(vm, 2, &err), -EREMOTEIO);
	refuse(NULL, NULL);
	/* An earlier attempt, whose answer was not waited for, has plugged one. */
	plugged[1] = true;
	seen[0] = '\0';
	ck_assert_int_eq(vmm_grow_cpus(vm, 3, &err), 0);
	expect("query-hotpluggable-cpus device_add:cpu2 ");
	ck_assert_uint_eq(vmm_cpus(vm), 3);
}

START_TEST(a_growth_of_cpus_that_failed_can_be_repeated)
{
	run(cpu_refused);
}
END_TEST

static void ended(void)
{
	vm->dead = true;
	ck_assert_int_eq(vmm_grow_memory(vm, 512, &err), -ERR_UNAVAILABLE);
	ck_assert_int_eq(vmm_grow_cpus(vm, 2, &err), -ERR_UNAVAILABLE);
	expect("");
}

START_TEST(a_VM_that_has_ended_does_not_grow)
{
	run(ended);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm resize");
	TCase *tc = tcase_create("resize");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, memory_is_plugged_when_it_is_first_needed_and_grows_from_there);
	tcase_add_test(tc, a_guest_that_takes_memory_slowly_is_waited_for);
	tcase_add_test(tc, a_guest_that_takes_less_is_told_with_both_numbers);
	tcase_add_test(tc, the_caller_s_deadline_ends_the_wait_for_the_guest);
	tcase_add_test(tc, no_VM_grows_beyond_its_maximum);
	tcase_add_loop_test(tc, a_growth_that_failed_at_any_step_can_be_repeated, 0,
			    ARRAY_SIZE(failures));
	tcase_add_loop_test(tc, what_an_unanswered_attempt_has_plugged_is_used, 0, 2);
	tcase_add_test(tc, cpus_are_plugged_from_the_first_free_one_on);
	tcase_add_test(tc, a_growth_of_cpus_that_failed_can_be_repeated);
	tcase_add_test(tc, a_VM_that_has_ended_does_not_grow);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
