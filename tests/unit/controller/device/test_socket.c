/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/socket.h"

#include <json-c/json.h>

#include "controller/fakevm.h"

/* The ops are the fake VM's: "open", "listen PATH PORT MODE", "unlisten PATH"; what is open is
 * counted. */

static char *path;
static char **ids;
static struct json_object *mount;
static struct err err;
static int result;

static void setup(void)
{
	fake_vm_init();
	path = str_printf("%s/sock", vm.dir);
	fake_unix_socket(path);
	ids = NULL;
	mount = NULL;
	memset(&err, 0, sizeof(err));
}

static CO void unmap_all(void *arg)
{
	result = 0;
	for (char **id = ids; id && *id; id++) {
		int r = socket_unmap(vm.env.sockets, *id, &err);

		result = r < 0 ? r : result;
	}
}

static void teardown(void)
{
	in_coroutine(unmap_all, NULL);
	fake_nothing_reserved();
	json_put(mount);
	strv_free(ids);
	free(path);
	fake_vm_free();
}

static CO void map(void *arg)
{
	result = socket_map(vm.env.sockets, mount, &ids, &err);
}

/* A mount of @source with the rest of its members. */
static int map_mount(const char *source, const char *rest)
{
	_cleanup_free_ char *text =
		str_printf("{\"destination\":\"/s\",\"source\":\"%s\"%s}", source, rest);

	json_put(mount);
	ck_assert_int_eq(json_parse(text, strlen(text), &mount, NULL), 0);
	in_coroutine(map, NULL);
	return result;
}

/* what the mount says, and what its options become */
static const struct {
	const char *rest, *options;
} mounts[] = {
	{ ",\"type\":\"uds\"", "[\"bind\"]" },
	{ ",\"type\":\"uds\",\"options\":[]", "[\"bind\"]" },
	{ ",\"type\":\"bind\",\"options\":[\"rbind\",\"ro\"]", "[\"rbind\",\"ro\"]" },
	{ ",\"options\":[\"bind\"]", "[\"bind\"]" },
};

START_TEST(a_mount_becomes_a_bind_of_the_guest_s_socket)
{
	_cleanup_free_ char *options = NULL;

	ck_assert_int_eq(map_mount(path, mounts[_i].rest), 0);
	ck_assert_str_eq(json_get_str(mount, "type"), "bind");
	ck_assert_str_eq(json_get_str(mount, "source"), "/run/mounts/uds/0/socket");
	options = json_text(json_get(mount, "options", NULL));
	ck_assert_str_eq(options, mounts[_i].options);
	ck_assert_str_eq(fake_calls(&vm.f), "open;listen /run/mounts/uds/0/socket 1000 640;");
	in_coroutine(unmap_all, NULL);
	ck_assert_str_eq(fake_calls(&vm.f), "unlisten /run/mounts/uds/0/socket;");
	ck_assert_uint_eq(sockets_in_use(vm.env.sockets), 0);
}
END_TEST

START_TEST(each_mount_has_a_socket_of_its_own_whose_name_is_not_used_again)
{
	ck_assert_int_eq(map_mount(path, ""), 0);
	ck_assert_int_eq(map_mount(path, ""), 0);
	ck_assert_str_eq(json_get_str(mount, "source"), "/run/mounts/uds/1/socket");
	in_coroutine(unmap_all, NULL);
	ck_assert_int_eq(map_mount(path, ""), 0);
	ck_assert_str_eq(json_get_str(mount, "source"), "/run/mounts/uds/2/socket");
}
END_TEST

START_TEST(what_is_no_socket_is_refused)
{
	static const char *const sources[] = { "/etc/passwd", "/nonexistent", "sock", "" };

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		ck_assert_int_eq(map_mount(sources[i], ""), -ERR_INVALID);
		ck_assert_ptr_nonnull(strstr(err.text, sources[i]));
	}
	ck_assert_ptr_null(ids);
	ck_assert_str_eq(fake_calls(&vm.f), "");
}
END_TEST

START_TEST(a_socket_is_told_by_its_type_or_by_what_a_bind_names)
{
	_cleanup_free_ char *link = str_printf("%s/link", vm.dir);

	ck_assert_int_eq(symlink("sock", link), 0);
	map_mount("/etc/passwd", ",\"type\":\"uds\"");
	ck_assert(socket_mounted(mount, false));
	map_mount("/etc/passwd", "");
	ck_assert(!socket_mounted(mount, true));
	json_put(TAKE_PTR(mount));
	ck_assert(!socket_mounted(NULL, true));
	map_mount(link, "");
	json_object_object_add(mount, "source", json_object_new_string(link));
	json_object_object_del(mount, "type");
	ck_assert(socket_mounted(mount, true));
	ck_assert(!socket_mounted(mount, false));
}
END_TEST

/* _i is the call that fails: open, listen. */
START_TEST(a_step_that_fails_leaves_what_can_be_released)
{
	vm.f.fail_at = 1 + (unsigned)_i;
	ck_assert_int_eq(map_mount(path, ""), -EIO);
	ck_assert_ptr_nonnull(strstr(err.text, path));
	ck_assert_str_eq(json_get_str(mount, "source"), path);
	ck_assert_uint_eq(vm.open_sockets, (unsigned)_i);
	fake_calls(&vm.f);
	in_coroutine(unmap_all, NULL);
	ck_assert_int_eq(result, 0);
	ck_assert_str_eq(fake_calls(&vm.f), "");
	ck_assert_uint_eq(vm.open_sockets, 0);
	ck_assert_uint_eq(sockets_in_use(vm.env.sockets), 0);
}
END_TEST

START_TEST(a_removal_that_fails_can_be_repeated_and_then_has_been_done)
{
	ck_assert_int_eq(map_mount(path, ""), 0);
	vm.f.fail_at = 3;
	in_coroutine(unmap_all, NULL);
	ck_assert_int_eq(result, -EIO);
	ck_assert_uint_eq(sockets_in_use(vm.env.sockets), 1);
	fake_calls(&vm.f);
	in_coroutine(unmap_all, NULL);
	ck_assert_int_eq(result, 0);
	ck_assert_str_eq(fake_calls(&vm.f), "unlisten /run/mounts/uds/0/socket;");
	in_coroutine(unmap_all, NULL);
	ck_assert_int_eq(result, 0);
	ck_assert_str_eq(fake_calls(&vm.f), "");
}
END_TEST

static CO void map_briefly(void *arg)
{
	CO_LIMIT(500 * USEC_PER_MSEC);

	result = socket_map(vm.env.sockets, mount, &ids, &err);
}

START_TEST(an_answer_that_was_not_waited_for_is_taken_for_a_success)
{
	ck_assert_int_eq(map_mount(path, ""), 0);
	vm.f.hold_at = "listen";
	json_object_object_add(mount, "source", json_object_new_string(path));
	in_coroutine(map_briefly, NULL);
	ck_assert_int_eq(result, -ETIMEDOUT);
	fake_calls(&vm.f);
	in_coroutine(unmap_all, NULL);
	ck_assert_str_eq(fake_calls(&vm.f), "unlisten /run/mounts/uds/0/socket;"
					    "unlisten /run/mounts/uds/1/socket;");
}
END_TEST

START_TEST(what_is_left_is_closed_with_the_controller)
{
	ck_assert_int_eq(map_mount(path, ""), 0);
	sockets_free(vm.env.sockets);
	ck_assert_uint_eq(vm.open_sockets, 0);
	vm.env.sockets = sockets_new(&fake_socket_ops, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller socket");
	TCase *t = tcase_create("socket");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, a_mount_becomes_a_bind_of_the_guest_s_socket, 0, ARRAY_SIZE(mounts));
	tcase_add_test(t, each_mount_has_a_socket_of_its_own_whose_name_is_not_used_again);
	tcase_add_test(t, what_is_no_socket_is_refused);
	tcase_add_test(t, a_socket_is_told_by_its_type_or_by_what_a_bind_names);
	tcase_add_loop_test(t, a_step_that_fails_leaves_what_can_be_released, 0, 2);
	tcase_add_test(t, a_removal_that_fails_can_be_repeated_and_then_has_been_done);
	tcase_add_test(t, an_answer_that_was_not_waited_for_is_taken_for_a_success);
	tcase_add_test(t, what_is_left_is_closed_with_the_controller);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
