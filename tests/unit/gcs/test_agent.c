/* SPDX-License-Identifier: Apache-2.0 */
/* The whole agent, as a program on a test channel, with this test as its host. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/uuid.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "wire/gcs.h"
#include "wire/json.h"
#include "wire/mux.h"

enum { LIMIT_USEC = 20000000, STDOUT_PORT = GCS_PORT_STDIO };

static struct mux *mux;
static pid_t agent;
static int channel, bridge_fd, out_fd;
static struct co_event bridge_up, out_up;
static uint64_t next_id;

static void on_bridge(int fd, void *arg)
{
	fd_close(bridge_fd);
	bridge_fd = fd;
	co_event_set(&bridge_up);
}

static void on_out(int fd, void *arg)
{
	out_fd = fd;
	co_event_set(&out_up);
}

static void setup(void)
{
	const char *program = getenv("LCOW_GCS");
	int pair[2];

	ck_assert_ptr_nonnull(program);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	agent = fork();
	ck_assert_int_ge(agent, 0);
	if (agent == 0) {
		_cleanup_free_ char *fd = str_printf("%d", pair[1]);

		close(pair[0]);
		execl(program, program, "--test-channel", fd, "loglevel=error", (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	channel = pair[0];
	fd_nonblock(channel, true);
	bridge_fd = out_fd = -EBADF;
	next_id = 0;
	ck_assert_int_eq(loop_init(), 0);
	co_event_init(&bridge_up);
	co_event_init(&out_up);
	ck_assert_int_eq(mux_new(channel, NULL, NULL, &mux), 0);
	ck_assert_int_eq(mux_listen(mux, GCS_PORT_BRIDGE, on_bridge, NULL), 0);
	ck_assert_int_eq(mux_listen(mux, STDOUT_PORT, on_out, NULL), 0);
}

static void teardown(void)
{
	int status;

	bridge_fd = fd_close(bridge_fd);
	out_fd = fd_close(out_fd);
	mux = mux_free(mux);
	fd_close(channel);
	loop_fini();
	kill(agent, SIGKILL);
	waitpid(agent, &status, 0);
	/* It must have lived until now. */
	ck_assert(WIFSIGNALED(status));
}

static void stop(void *arg)
{
	loop_stop(0);
}

static void (*body)(void);

static void run_body(void *arg)
{
	ck_assert_int_eq(co_event_wait(&bridge_up), 0);
	body();
	loop_defer(stop, NULL);
}

static void run(void (*fn)(void))
{
	body = fn;
	co_spawn("test", run_body, NULL, time_mono() + LIMIT_USEC);
	loop_run();
}

static void post_raw(uint32_t type, uint32_t size, const char *json)
{
	struct gcs_header h = { .type = type, .size = size, .id = next_id++ };
	uint8_t raw[GCS_HEADER];

	gcs_header_encode(&h, raw);
	ck_assert_int_eq(co_write_full(bridge_fd, raw, sizeof(raw)), 0);
	ck_assert_int_eq(co_write_full(bridge_fd, json, strlen(json)), 0);
}

static void post(uint32_t type, const char *json)
{
	post_raw(type, (uint32_t)(GCS_HEADER + strlen(json)), json);
}

/* The next frame; the caller drops the object. */
static struct json_object *receive(struct gcs_header *h)
{
	uint8_t raw[GCS_HEADER];
	_cleanup_free_ char *text = NULL;
	struct json_object *o = NULL;

	ck_assert_int_eq(co_read_full(bridge_fd, raw, sizeof(raw)), 0);
	ck_assert_int_eq(gcs_header_decode(raw, GCS_REPLY_MAX, h), 0);
	text = mem_new0(1, h->size);
	ck_assert_int_eq(co_read_full(bridge_fd, text, h->size - GCS_HEADER), 0);
	ck_assert_int_eq(json_parse(text, h->size - GCS_HEADER, &o, NULL), 0);
	return o;
}

static struct json_object *call(uint32_t type, const char *json)
{
	struct gcs_header h;
	struct json_object *o;

	post(type, json);
	o = receive(&h);
	ck_assert_uint_eq(h.type, gcs_response(type));
	ck_assert_uint_eq(h.id, next_id - 1);
	return o;
}

static uint32_t result(struct json_object *o)
{
	return (uint32_t)json_object_get_int64(json_get(o, "Result", NULL));
}

static uint32_t call_result(uint32_t type, const char *json)
{
	_cleanup_json_ struct json_object *o = call(type, json);

	return result(o);
}

#define BASE "\"ContainerId\":\"" UUID_NULL "\",\"ActivityId\":\"" UUID_NULL "\""
#define NEGOTIATE(min, max) \
	"{\"ContainerId\":\"\",\"ActivityId\":\"" UUID_NULL "\",\"MinimumVersion\":" min \
	",\"MaximumVersion\":" max "}"
#define EXECUTE(params, ports) \
	"{" BASE ",\"Settings\":{\"ProcessParameters\":\"{" params \
	"}\",\"VsockStdioRelaySettings\":{" ports "}}}"

static void negotiate(void)
{
	ck_assert_uint_eq(call_result(GCS_NEGOTIATE, NEGOTIATE("4", "4")), 0);
}

static void before_negotiation(void)
{
	_cleanup_json_ struct json_object *o =
		call(GCS_EXECUTE_PROCESS, EXECUTE("\\\"CommandArgs\\\":[\\\"/bin/true\\\"]", ""));

	ck_assert_uint_eq(result(o), HR_NOT_IMPL);
	ck_assert_str_eq(json_get_str(json_object_array_get_idx(json_get(o, "ErrorRecords", NULL),
								0),
				      "ModuleName"),
			 "gcs");
	ck_assert_uint_eq(call_result(GCS_NEGOTIATE, NEGOTIATE("1", "3")), HR_UNSUPPORTED_PROTOCOL);
	negotiate();
	ck_assert_uint_eq(call_result(GCS_NEGOTIATE, NEGOTIATE("4", "4")), HR_NOT_IMPL);
}

START_TEST(nothing_but_one_negotiation_is_done_on_a_new_connection)
{
	run(before_negotiation);
}
END_TEST

#define NEGOTIATE_WITH(extensions) \
	"{" BASE ",\"MinimumVersion\":4,\"MaximumVersion\":4,\"LcowExtensions\":[" extensions "]}"
#define SET_CLOCK \
	"{" BASE ",\"Request\":{\"ResourceType\":\"Clock\",\"RequestType\":\"Update\"," \
	"\"Settings\":{\"UnixNanoseconds\":1700000000000000000}}}"

static void check_message(const char *modify, const char *part)
{
	_cleanup_json_ struct json_object *o = call(GCS_MODIFY_SETTINGS, modify);
	const char *text = json_get_str(o, "ErrorMessage");

	ck_assert_uint_eq(result(o), HR_FAIL);
	ck_assert_msg(strstr(text, part) != NULL, "'%s' in '%s'", part, text);
}

static void extensions(void)
{
	_cleanup_json_ struct json_object *o =
		call(GCS_NEGOTIATE, NEGOTIATE_WITH("\"Clock\",\"FromTheFuture\",\"OomEvents\""));
	struct json_object *list =
		json_get(o, "Capabilities", "GuestDefinedCapabilities", "LcowExtensions", NULL);
	_cleanup_free_ char *text = json_text(list);
	_cleanup_json_ struct json_object *plain = NULL;
	char byte;

	ck_assert_str_eq(text, "[\"OomEvents\",\"Clock\"]");
	/* Known, and refused for being on a test channel. */
	check_message(SET_CLOCK, "test channel");
	/* What a connection has agreed to ends with it. */
	co_event_clear(&bridge_up);
	post_raw(GCS_START, 5, "");
	ck_assert_int_eq(co_read(bridge_fd, &byte, 1), 0);
	ck_assert_int_eq(co_event_wait(&bridge_up), 0);
	plain = call(GCS_NEGOTIATE, NEGOTIATE("4", "4"));
	ck_assert_uint_eq(result(plain), 0);
	ck_assert_ptr_nonnull(json_get(plain, "Capabilities", "GuestDefinedCapabilities", NULL));
	ck_assert_ptr_null(json_get(plain, "Capabilities", "GuestDefinedCapabilities",
				    "LcowExtensions", NULL));
	check_message(SET_CLOCK, "invalid ResourceType 'Clock'");
}

START_TEST(a_connection_has_those_extensions_that_its_host_asked_for)
{
	run(extensions);
}
END_TEST

static void bad_messages(void)
{
	negotiate();
	ck_assert_uint_eq(call_result(0x10100e01, "{}"), HR_NOT_IMPL);
	ck_assert_uint_eq(call_result(GCS_START, "{\"ContainerId\":"), HR_INVALID_JSON);
	ck_assert_uint_eq(call_result(GCS_CREATE, "{" BASE "}"), HR_INVALID_JSON);
	ck_assert_uint_eq(call_result(GCS_EXECUTE_PROCESS, EXECUTE("", "")), HR_INVALID_ARG);
	ck_assert_uint_eq(call_result(GCS_WAIT_FOR_PROCESS, "{" BASE ",\"ProcessId\":-1}"),
			  HR_INVALID_JSON);
	ck_assert_uint_eq(call_result(GCS_WAIT_FOR_PROCESS, "{" BASE ",\"ProcessId\":4000000000}"),
			  HR_NOT_FOUND);
	ck_assert_uint_eq(call_result(GCS_DELETE_STATE, "{\"ContainerId\":\"x\"}"),
			  HR_SYSTEM_NOT_FOUND);
	ck_assert_uint_eq(call_result(GCS_GET_PROPERTIES, "{" BASE ",\"Query\":\"\"}"), HR_FAIL);
}

START_TEST(bad_messages_are_answered_and_harm_nothing)
{
	run(bad_messages);
}
END_TEST

static void forbidden(void)
{
	negotiate();
	ck_assert_uint_ne(call_result(GCS_MODIFY_SETTINGS,
				      "{" BASE ",\"Request\":{\"ResourceType\":\"SCSIDevice\","
				      "\"RequestType\":\"Remove\",\"Settings\":{}}}"),
			  0);
}

START_TEST(a_test_channel_changes_nothing_of_the_machine)
{
	run(forbidden);
}
END_TEST

static void external(void)
{
	_cleanup_json_ struct json_object *started = NULL;
	_cleanup_json_ struct json_object *waited = NULL;
	_cleanup_free_ char *wait = NULL;
	char text[64] = "";
	struct gcs_header h;
	long long pid;

	negotiate();
	started = call(GCS_EXECUTE_PROCESS,
		       EXECUTE("\\\"CommandArgs\\\":[\\\"/bin/sh\\\",\\\"-c\\\",\\\"echo $A; read "
			       "x; exit 3\\\"],"
			       "\\\"Environment\\\":{\\\"A\\\":\\\"b "
			       "c\\\"},\\\"CreateStdOutPipe\\\":true",
			       "\"StdOut\":1073741825"));
	ck_assert_uint_eq(result(started), 0);
	pid = json_object_get_int64(json_get(started, "ProcessId", NULL));
	ck_assert_int_gt(pid, 0);
	wait = str_printf("{" BASE ",\"ProcessId\":%lld,\"TimeoutInMs\":4294967295}", pid);
	post(GCS_WAIT_FOR_PROCESS, wait);
	ck_assert_int_eq(co_event_wait(&out_up), 0);
	ck_assert_int_eq(co_read_full(out_fd, text, 4), 0);
	ck_assert_str_eq(text, "b c\n");
	waited = receive(&h);
	ck_assert_uint_eq(h.type, gcs_response(GCS_WAIT_FOR_PROCESS));
	ck_assert_int_eq(json_object_get_int(json_get(waited, "ExitCode", NULL)), 3);
	/* Told once, it is forgotten. */
	ck_assert_uint_eq(call_result(GCS_WAIT_FOR_PROCESS, wait), HR_NOT_FOUND);
}

START_TEST(a_process_beside_the_containers_has_its_streams_and_its_exit_code)
{
	run(external);
}
END_TEST

static void terminal(void)
{
	_cleanup_json_ struct json_object *started = NULL;
	_cleanup_json_ struct json_object *waited = NULL;
	_cleanup_free_ char *wait = NULL;
	_cleanup_free_ char *resize = NULL;
	char text[64] = "";
	struct gcs_header h;
	int pid;

	negotiate();
	/* Without a slash it is looked up in the agent's PATH: the process' own is empty. */
	started =
		call(GCS_EXECUTE_PROCESS,
		     EXECUTE("\\\"CommandArgs\\\":[\\\"sh\\\",\\\"-c\\\",\\\"PATH=/usr/bin:/bin; "
			     "trap 'stty size; exit 7' WINCH; echo up; while sleep 0.05; do :; done"
			     "\\\"],\\\"EmulateConsole\\\":true,\\\"CreateStdOutPipe\\\":true",
			     "\"StdOut\":1073741825"));
	ck_assert_uint_eq(result(started), 0);
	pid = json_object_get_int(json_get(started, "ProcessId", NULL));
	wait = str_printf("{" BASE ",\"ProcessId\":%d,\"TimeoutInMs\":4294967295}", pid);
	resize = str_printf("{" BASE ",\"ProcessId\":%d,\"Height\":37,\"Width\":91}", pid);
	ck_assert_int_eq(co_event_wait(&out_up), 0);
	ck_assert_int_eq(co_read_full(out_fd, text, 4), 0);
	ck_assert_str_eq(text, "up\r\n");
	ck_assert_uint_eq(call_result(GCS_RESIZE_CONSOLE, resize), 0);
	ck_assert_int_eq(co_read_full(out_fd, text, 7), 0);
	text[7] = '\0';
	ck_assert_str_eq(text, "37 91\r\n");
	post(GCS_WAIT_FOR_PROCESS, wait);
	waited = receive(&h);
	ck_assert_int_eq(json_object_get_int(json_get(waited, "ExitCode", NULL)), 7);
}

START_TEST(a_terminal_beside_the_containers_can_be_resized)
{
	run(terminal);
}
END_TEST

static void check_start(const char *command, const char *part)
{
	_cleanup_free_ char *params = str_printf("\\\"CommandArgs\\\":[\\\"%s\\\"]", command);
	_cleanup_free_ char *json =
		str_printf("{" BASE ",\"Settings\":{\"ProcessParameters\":\"{%s}\"}}", params);
	_cleanup_json_ struct json_object *o = call(GCS_EXECUTE_PROCESS, json);
	const char *text = json_get_str(o, "ErrorMessage");

	ck_assert_uint_eq(result(o), HR_FAIL);
	ck_assert_msg(strstr(text, part) != NULL, "'%s' in '%s'", part, text);
}

static void no_commands(void)
{
	_cleanup_json_ struct json_object *started = NULL;
	_cleanup_free_ char *resize = NULL;

	negotiate();
	check_start("/no/such/bin", "/no/such/bin");
	check_start("no-such-command", "no-such-command");
	check_start("/dev/null", "/dev/null");
	/* And no terminal, no size. */
	started = call(GCS_EXECUTE_PROCESS,
		       EXECUTE("\\\"CommandLine\\\":\\\"/bin/sleep 100\\\"", ""));
	resize = str_printf("{" BASE ",\"ProcessId\":%d,\"Height\":37,\"Width\":91}",
			    json_object_get_int(json_get(started, "ProcessId", NULL)));
	ck_assert_uint_eq(call_result(GCS_RESIZE_CONSOLE, resize), HR_FAIL);
}

START_TEST(a_command_that_cannot_run_fails_by_its_name)
{
	run(no_commands);
}
END_TEST

static void waits(void)
{
	_cleanup_json_ struct json_object *started = NULL;
	_cleanup_json_ struct json_object *waited = NULL;
	_cleanup_free_ char *wait = NULL;
	_cleanup_free_ char *signal_it = NULL;
	struct gcs_header h;
	long long pid;

	negotiate();
	started = call(GCS_EXECUTE_PROCESS,
		       EXECUTE("\\\"CommandLine\\\":\\\"/bin/sleep 100\\\"", ""));
	pid = json_object_get_int64(json_get(started, "ProcessId", NULL));
	wait = str_printf("{" BASE ",\"ProcessId\":%lld,\"TimeoutInMs\":50}", pid);
	ck_assert_uint_eq(call_result(GCS_WAIT_FOR_PROCESS, wait), HR_TIMEOUT);
	free(TAKE_PTR(wait));
	wait = str_printf("{" BASE ",\"ProcessId\":%lld,\"TimeoutInMs\":4294967295}", pid);
	post(GCS_WAIT_FOR_PROCESS, wait);
	signal_it = str_printf("{" BASE ",\"ProcessId\":%lld,\"Options\":{\"Signal\":15}}", pid);
	ck_assert_uint_eq(call_result(GCS_SIGNAL_PROCESS, signal_it), 0);
	waited = receive(&h);
	ck_assert_int_eq(json_object_get_int(json_get(waited, "ExitCode", NULL)), 143);
}

START_TEST(a_wait_ends_with_its_time_or_with_the_process)
{
	run(waits);
}
END_TEST

static void reconnects(void)
{
	_cleanup_json_ struct json_object *started = NULL;
	_cleanup_json_ struct json_object *waited = NULL;
	_cleanup_free_ char *wait = NULL;
	char byte;

	negotiate();
	started = call(GCS_EXECUTE_PROCESS,
		       EXECUTE("\\\"CommandLine\\\":\\\"/bin/sh -c 'sleep 0.3; exit 5'\\\"", ""));
	wait = str_printf("{" BASE ",\"ProcessId\":%d,\"TimeoutInMs\":4294967295}",
			  json_object_get_int(json_get(started, "ProcessId", NULL)));
	post(GCS_WAIT_FOR_PROCESS, wait);
	/* A header that cannot be: the agent hangs up, and dials again. */
	co_event_clear(&bridge_up);
	post_raw(GCS_START, 5, "");
	ck_assert_int_eq(co_read(bridge_fd, &byte, 1), 0);
	ck_assert_int_eq(co_event_wait(&bridge_up), 0);
	ck_assert_uint_eq(call_result(GCS_START, "{" BASE "}"), HR_NOT_IMPL);
	negotiate();
	waited = call(GCS_WAIT_FOR_PROCESS, wait);
	ck_assert_int_eq(json_object_get_int(json_get(waited, "ExitCode", NULL)), 5);
}

START_TEST(a_lost_bridge_is_dialled_again_and_processes_outlive_it)
{
	run(reconnects);
}
END_TEST

static void stacks(void)
{
	_cleanup_json_ struct json_object *o = NULL;

	negotiate();
	o = call(GCS_DUMP_STACKS, "{" BASE "}");
	ck_assert_ptr_nonnull(strstr(json_get_str(o, "GuestStacks"), "bridge writer"));
}

START_TEST(a_dump_names_what_the_agent_waits_for)
{
	run(stacks);
}
END_TEST

START_TEST(it_refuses_to_run_as_an_ordinary_program)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fd_close(STDERR_FILENO);
		execl(getenv("LCOW_GCS"), "lcow-gcs", (char *)NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gcs agent");
	TCase *tc = tcase_create("gcs agent");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 40);
	tcase_add_test(tc, nothing_but_one_negotiation_is_done_on_a_new_connection);
	tcase_add_test(tc, a_connection_has_those_extensions_that_its_host_asked_for);
	tcase_add_test(tc, bad_messages_are_answered_and_harm_nothing);
	tcase_add_test(tc, a_test_channel_changes_nothing_of_the_machine);
	tcase_add_test(tc, a_process_beside_the_containers_has_its_streams_and_its_exit_code);
	tcase_add_test(tc, a_terminal_beside_the_containers_can_be_resized);
	tcase_add_test(tc, a_command_that_cannot_run_fails_by_its_name);
	tcase_add_test(tc, a_wait_ends_with_its_time_or_with_the_process);
	tcase_add_test(tc, a_lost_bridge_is_dialled_again_and_processes_outlive_it);
	tcase_add_test(tc, a_dump_names_what_the_agent_waits_for);
	tcase_add_test(tc, it_refuses_to_run_as_an_ordinary_program);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
