/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "run.h"
#include "runtimeoptions.pb-c.h"
#include "wire/pb.h"

static struct shim_config c;
static struct err err;

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	shim_config_init(&c);
}

static void teardown(void)
{
	shim_config_free(&c);
}

static int read_text(const char *text)
{
	return shim_config_text(&c, "test.conf", text, true, &err);
}

START_TEST(every_key_is_read)
{
	ck_assert_int_eq(
		read_text("# a comment\n[lcow]\nrun_dir = /r\nscratch_dir=/s\nboot_files = /b\n"
			  "qemu = /q\nvhost_device_vsock = /v\nkernel_args = a=1 b\naccel = tcg\n"
			  "transport = serial\nupper = host\nlog_level = debug\nmemory = 1G\n"
			  "scratch = 64M\ncpus = 3\nqemu_user = 7\ndeny_writable_shares = yes\n"
			  "max_memory = 4G\nmax_cpus = 5\noverhead = 200M\n"
			  "storage_iops = 900\nstorage_bandwidth = 3M\n"),
		0);
	ck_assert_str_eq(c.run_dir, "/r");
	ck_assert_str_eq(c.scratch_dir, "/s");
	ck_assert_str_eq(c.boot_files, "/b");
	ck_assert_str_eq(c.qemu, "/q");
	ck_assert_str_eq(c.vhost_device_vsock, "/v");
	ck_assert_str_eq(c.kernel_args, "a=1 b");
	ck_assert_int_eq(c.accel, VM_ACCEL_TCG);
	ck_assert_int_eq(c.transport, VM_TRANSPORT_SERIAL);
	ck_assert_int_eq(c.upper, ROOTFS_UPPER_HOST);
	ck_assert_int_eq(c.log_level, LOG_DEBUG);
	ck_assert_uint_eq(c.memory_mb, 1024);
	ck_assert_uint_eq(c.overhead_mb, 200);
	ck_assert_uint_eq(c.scratch_bytes, 64 << 20);
	ck_assert_uint_eq(c.storage_iops, 900);
	ck_assert_uint_eq(c.storage_bandwidth, 3 << 20);
	ck_assert_uint_eq(c.cpus, 3);
	ck_assert_uint_eq(shim_config_max_memory_mb(&c), 4096);
	ck_assert_uint_eq(shim_config_max_cpus(&c), 5);
	ck_assert_uint_eq(c.qemu_uid, 7);
	ck_assert(c.deny_writable_shares);
}
END_TEST

static const struct bad {
	const char *text;
	const char *says;
} bad[] = {
	{ "[lcow]\nrun_dir = here\n", "line 2: run_dir = here: an absolute path" },
	{ "[lcow]\n\nboot_files = /a/../b\n", "line 3: boot_files" },
	{ "[lcow]\nqemu =\n", "a program" },
	{ "[lcow]\naccel = hvf\n", "auto, kvm or tcg" },
	{ "[lcow]\ntransport = smoke\n", "vhost-vsock" },
	{ "[lcow]\nupper = both\n", "guest or host" },
	{ "[lcow]\nlog_level = loud\n", "trace" },
	{ "[lcow]\nmemory = 1M\n", "64M" },
	{ "[lcow]\nmemory = much\n", "64M" },
	{ "[lcow]\nscratch = 10 G\n",
	  "line 2: scratch = 10 G: a size from 16M on without a blank" },
	{ "[lcow]\nmemory = 1 GiB\n", "without a blank, such as 512M" },
	{ "[lcow]\noverhead = 128 M\n", "without a blank, such as 128M" },
	{ "[lcow]\nstorage_bandwidth = 1 G\n", "without a blank, such as 100M" },
	{ "[lcow]\ncpus = 2\n\ncpus = 2\n", "line 4: cpus is set in line 2 already" },
	{ "[lcow]\nkernel_args = a\n[lcow]\nkernel_args =\n", "kernel_args is set in line 2" },
	{ "[lcow]\nmemory = 2G\nmax_memory = 1G\n",
	  "test.conf: memory = 2048M is above max_memory = 1024M" },
	{ "[lcow]\nmax_memory = 256M\n", "memory = 512M is above max_memory = 256M" },
	{ "[lcow]\nmax_cpus = 2\ncpus = 3\n", "cpus = 3 is above max_cpus = 2" },
	{ "[lcow]\nmax_memory = 1G\noverhead = 1G\n", "overhead = 1024M leaves nothing" },
	{ "[lcow]\nqemu = \"/q\n", "line 2: qemu: a value that begins with a quote" },
	{ "[lcow]\nqemu = '/q' -x\n", "only a comment may follow" },
	{ "[lcow]\nqemu = \"\"\n", "a program" },
	{ "[lcow]\nmemory = ; none\n", "64M" },
	{ "[lcow]\noverhead = 1M\n", "32M" },
	{ "[lcow]\nscratch = 4K\n", "16M" },
	{ "[lcow]\nstorage_iops = 2147483648\n", "requests per second" },
	{ "[lcow]\nstorage_iops = 10K\n", "requests per second" },
	{ "[lcow]\nstorage_bandwidth = -1\n", "such as 100M" },
	{ "[lcow]\nstorage_bandwidth = 2T\n", "such as 100M" },
	{ "[lcow]\nmax_memory = 1M\n", "64M" },
	{ "[lcow]\ncpus = 0\n", "1 to 255" },
	{ "[lcow]\nmax_cpus = 256\n", "1 to 255" },
	{ "[lcow]\nqemu_user = no such user\n", "user name" },
	{ "[lcow]\ndeny_writable_shares = 2\n", "true or false" },
	{ "[lcow]\ncolour = red\n", "unknown key colour" },
	{ "[kata]\n", "test.conf, line 1" },
	{ "[lcow]\nnonsense\n", "line 2" },
	{ "cpus = 1\n", "line 1" },
};

START_TEST(what_is_wrong_is_said_with_its_line)
{
	ck_assert_int_eq(read_text(bad[_i].text), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, bad[_i].says) != NULL, "%s: %s", bad[_i].text, err.text);
}
END_TEST

START_TEST(a_VM_may_grow_to_the_size_of_the_host_and_never_starts_above_it)
{
	uint64_t host_mb =
		(uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	ck_assert_uint_eq(shim_config_max_memory_mb(&c), host_mb < 512 << 10 ? host_mb : 512 << 10);
	ck_assert_uint_eq(shim_config_max_cpus(&c), cpus < 32 ? (unsigned)cpus : 32);
	c.memory_mb = 1 << 30;
	c.cpus = 200;
	ck_assert_uint_eq(shim_config_max_memory_mb(&c), 1 << 30);
	ck_assert_uint_eq(shim_config_max_cpus(&c), 200);
}
END_TEST

START_TEST(a_value_over_200_bytes_is_whole)
{
	char text[512] = "[lcow]\nkernel_args = ";
	size_t head = strlen(text);

	memset(text + head, 'x', 400);
	ck_assert_int_eq(read_text(text), 0);
	ck_assert_uint_eq(strlen(c.kernel_args), 400);
}
END_TEST

START_TEST(what_delete_must_know_and_what_is_for_tests_are_the_hosts_to_set)
{
	ck_assert_int_eq(shim_config_text(&c, "x", "[lcow]\nrun_dir = /r\n", false, &err),
			 -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "host's configuration"));
	ck_assert_int_eq(shim_config_text(&c, "x", "[lcow]\nemulated_devices = true\n", false,
					  &err),
			 -ERR_INVALID);
	ck_assert_int_eq(shim_config_text(&c, "x", "[lcow]\nemulated_devices = true\n", true, &err),
			 0);
	ck_assert(c.emulated_devices);
	ck_assert_int_eq(shim_config_text(&c, "x", "[lcow]\ncpus = 2\n", false, &err), 0);
}
END_TEST

/* Options as containerd packs them. */
static int read_options(const char *type, const char *path, const char *body)
{
	Runtimeoptions__V1__Options *o = pb_new(&runtimeoptions__v1__options__descriptor);
	size_t len, any_len;
	uint8_t *bytes, *packed;
	Google__Protobuf__Any *any;
	int r;

	pb_str(&o->config_path, path);
	pb_bytes(&o->config_body, body, strlen(body));
	bytes = pb_pack(o, &len);
	any = pb_any_raw(type, bytes, len);
	packed = pb_pack(any, &any_len);
	r = shim_config_options(&c, packed, any_len, &err);
	free(bytes);
	free(packed);
	pb_free(any);
	pb_free(o);
	return r;
}

START_TEST(the_table_of_runtime_options_is_TOML_without_a_section)
{
	ck_assert_int_eq(read_options("runtimeoptions.v1.Options", "",
				      "TypeUrl = \"io.containerd.lcow.v2.Options\"\ncpus = "
				      "2\nmemory = \"1G\"\n"),
			 0);
	ck_assert_uint_eq(c.cpus, 2);
	ck_assert_uint_eq(c.memory_mb, 1024);
}
END_TEST

START_TEST(a_mistake_in_runtime_options_is_named)
{
	ck_assert_int_eq(read_options("runtimeoptions.v1.Options", "",
				      "cpus = 2\nmemory = \"1M\"\n"),
			 -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "line 2"));
	ck_assert_int_lt(read_options("runtimeoptions.v1.Options", "/nonexistent.conf", ""), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent.conf"));
}
END_TEST

START_TEST(options_of_another_type_are_none_of_ours)
{
	ck_assert_int_eq(read_options("containerd.runc.v1.Options", "", "cpus = 99999"), 0);
	ck_assert_uint_eq(c.cpus, 1);
}
END_TEST

START_TEST(an_indented_line_is_a_line_of_its_own)
{
	ck_assert_int_eq(read_text("\xEF\xBB\xBF[lcow]\r\n\tkernel_args = a\r\n\t\tcpus = 2\r\n"),
			 0);
	ck_assert_str_eq(c.kernel_args, "a");
	ck_assert_uint_eq(c.cpus, 2);
}
END_TEST

START_TEST(a_comment_begins_behind_a_blank)
{
	ck_assert_int_eq(read_text(
				 "[lcow]\n; one\nkernel_args = a;b#c ; two\ncpus = 2\t; "
				 "three\nboot_files = /b;\nmemory = 1G # four\nqemu = #q # five\n"),
			 -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "line 7: qemu = : a program"));
	ck_assert_str_eq(c.kernel_args, "a;b#c");
	ck_assert_uint_eq(c.cpus, 2);
	ck_assert_str_eq(c.boot_files, "/b;");
	ck_assert_uint_eq(c.memory_mb, 1024);
}
END_TEST

static const struct {
	const char *line;
	const char *value;
} quoted[] = {
	{ "kernel_args = \"a b\"", "a b" },
	{ "kernel_args = 'a b'", "a b" },
	{ "kernel_args = \"a # b ; c\" # d", "a # b ; c" },
	{ "kernel_args = ' a ' ; d", " a " },
	{ "kernel_args = \"a \\\"b\\\" \\\\n\"", "a \"b\" \\n" },
	{ "kernel_args = dyndbg=\"file a # +p\" b", "dyndbg=\"file a # +p\" b" },
	{ "kernel_args = it's", "it's" },
	{ "kernel_args =", "" },
};

START_TEST(quotes_hold_blanks_and_marks_of_comments)
{
	_cleanup_free_ char *text = str_printf("[lcow]\n%s\n", quoted[_i].line);

	ck_assert_msg(read_text(text) == 0, "%s: %s", text, err.text);
	ck_assert_str_eq(c.kernel_args, quoted[_i].value);
}
END_TEST

START_TEST(every_key_takes_its_value_in_quotes)
{
	ck_assert_int_eq(read_text("[lcow]\nmemory = \"1G\"\ncpus = '2'\naccel = \"tcg\"\n"
				   "run_dir = \"/r\"\ndeny_writable_shares = 'true'\n"),
			 0);
	ck_assert_uint_eq(c.memory_mb, 1024);
	ck_assert_uint_eq(c.cpus, 2);
	ck_assert_int_eq(c.accel, VM_ACCEL_TCG);
	ck_assert_str_eq(c.run_dir, "/r");
	ck_assert(c.deny_writable_shares);
}
END_TEST

START_TEST(what_a_long_value_should_have_been_is_said_in_spite_of_it)
{
	char text[1024] = "[lcow]\nrun_dir = ";
	size_t head = strlen(text);

	memset(text + head, 'x', 900);
	ck_assert_int_eq(read_text(text), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "an absolute path without .. is wanted"));
}
END_TEST

START_TEST(options_go_over_the_hosts_file_but_not_above_its_maximum)
{
	ck_assert_int_eq(read_text("[lcow]\nmemory = 1G\nmax_memory = 1G\nmax_cpus = 2\n"), 0);
	ck_assert_int_eq(shim_config_text(&c, "o", "[lcow]\nmemory = 256M\n", false, &err), 0);
	ck_assert_uint_eq(c.memory_mb, 256);
	ck_assert_int_eq(shim_config_text(&c, "o", "[lcow]\nmemory = 2G\n", false, &err),
			 -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "o: memory = 2048M is above max_memory = 1024M"));
}
END_TEST

START_TEST(a_small_VM_need_not_have_room_for_the_default_of_the_overhead)
{
	ck_assert_int_eq(read_text("[lcow]\nmemory = 64M\nmax_memory = 96M\n"), 0);
}
END_TEST

START_TEST(the_first_mistake_is_told_and_nothing_behind_it_is_read)
{
	ck_assert_int_eq(read_text("[lcow]\nmax_cpus = 2\ncpus = x\nmemory = 1G\ncolour = red\n"),
			 -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "line 3: cpus = x"));
	ck_assert_uint_eq(c.memory_mb, 512);
}
END_TEST

static const struct {
	const char *line;
	const char *value; /* NULL: refused */
} toml[] = {
	{ "kernel_args = \"a b\"", "a b" },
	{ "kernel_args = 'a \"b\" \\n'", "a \"b\" \\n" },
	{ "kernel_args = \"a \\\"b\\\" \\\\n\"", "a \"b\" \\n" },
	{ "kernel_args = \"a # b\" # c", "a # b" },
	{ "kernel_args = 5 # c", "5" },
	{ "kernel_args = \"\"", "" },
	{ "  kernel_args = \"a\"", "a" },
	{ "kernel_args = \"a", NULL },
	{ "kernel_args = \"a\" b", NULL },
	{ "kernel_args = \"a\" ; b", NULL },
	{ "kernel_args = 1\nkernel_args = 2", NULL },
	{ "kernel_args = \"a\\nb\"", NULL },
	{ "kernel_args = \"a\\", NULL },
	{ "[lcow]", NULL },
	{ "; a", NULL },
};

START_TEST(values_of_the_table_are_TOML)
{
	_cleanup_free_ char *text =
		str_printf("ConfigPath = \"\"\n# a comment\n\n%s\n", toml[_i].line);

	ck_assert_int_eq(read_options("types.containerd.io/runtimeoptions.v1.Options", "", text),
			 toml[_i].value ? 0 : -ERR_INVALID);
	if (toml[_i].value)
		ck_assert_str_eq(c.kernel_args, toml[_i].value);
	else
		ck_assert_msg(str_starts(err.text, "runtime options, line "), "%s", err.text);
}
END_TEST

START_TEST(a_table_that_is_too_long_is_refused)
{
	_cleanup_free_ char *text = mem_new0(1, 65538);

	memset(text, '#', 65537);
	ck_assert_int_eq(read_options("runtimeoptions.v1.Options", "", text), -ERR_INVALID);
}
END_TEST

START_TEST(a_file_that_options_name_is_read_and_must_exist)
{
	char path[] = "/tmp/test_config.XXXXXX";
	int fd = mkstemp(path);
	static const char text[] = "[lcow]\ncpus = 4\n", no_text[] = "[lcow]\n\0cpus = 5\n";

	ck_assert_int_eq(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	ck_assert_int_eq(read_options("runtimeoptions.v1.Options", path, "cpus = 3\n"), 0);
	ck_assert_uint_eq(c.cpus, 4);
	ck_assert_int_eq(pwrite(fd, no_text, sizeof(no_text) - 1, 0), sizeof(no_text) - 1);
	close(fd);
	ck_assert_int_eq(read_options("runtimeoptions.v1.Options", path, ""), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "no text"));
	unlink(path);
	ck_assert_int_eq(read_options("runtimeoptions.v1.Options", path, ""), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, path));
}
END_TEST

START_TEST(a_host_file_that_the_environment_names_must_exist)
{
	setenv("LCOW_CONFIG", "/nonexistent/lcow.conf", 1);
	ck_assert_int_eq(shim_config_host(&c, &err), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/lcow.conf"));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("config");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, every_key_is_read);
	tcase_add_loop_test(t, what_is_wrong_is_said_with_its_line, 0, ARRAY_SIZE(bad));
	tcase_add_test(t, a_VM_may_grow_to_the_size_of_the_host_and_never_starts_above_it);
	tcase_add_test(t, a_value_over_200_bytes_is_whole);
	tcase_add_test(t, what_delete_must_know_and_what_is_for_tests_are_the_hosts_to_set);
	tcase_add_test(t, the_table_of_runtime_options_is_TOML_without_a_section);
	tcase_add_test(t, a_mistake_in_runtime_options_is_named);
	tcase_add_test(t, options_of_another_type_are_none_of_ours);
	tcase_add_test(t, an_indented_line_is_a_line_of_its_own);
	tcase_add_test(t, a_comment_begins_behind_a_blank);
	tcase_add_loop_test(t, quotes_hold_blanks_and_marks_of_comments, 0, ARRAY_SIZE(quoted));
	tcase_add_test(t, every_key_takes_its_value_in_quotes);
	tcase_add_test(t, what_a_long_value_should_have_been_is_said_in_spite_of_it);
	tcase_add_test(t, options_go_over_the_hosts_file_but_not_above_its_maximum);
	tcase_add_test(t, a_small_VM_need_not_have_room_for_the_default_of_the_overhead);
	tcase_add_test(t, the_first_mistake_is_told_and_nothing_behind_it_is_read);
	tcase_add_loop_test(t, values_of_the_table_are_TOML, 0, ARRAY_SIZE(toml));
	tcase_add_test(t, a_table_that_is_too_long_is_refused);
	tcase_add_test(t, a_file_that_options_name_is_read_and_must_exist);
	tcase_add_test(t, a_host_file_that_the_environment_names_must_exist);
	return run_case(t, "shim config");
}
