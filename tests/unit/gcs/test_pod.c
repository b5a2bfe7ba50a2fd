/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/pod.h"

#include <json-c/json.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

#include "gcs/agent.h"
#include "gcs/container.h"
#include "gcs/process.h"
#include "gcs/spec.h"
#include "gcs/volumes.h"
#include "netns.h"
#include "wire/json.h"

/* A directory of plain files stands for the cgroup tree. */
#define CGROUPS "/sys/fs/cgroup"

static struct agent agent;
static struct container owner;
static struct process init;
static int result;

enum { JOINS_MAX = 8 };

static struct pod *joins[JOINS_MAX];
static unsigned n_joins;

static void make_cgroup(const char *pod)
{
	static const char *const files[] = {
		"cgroup.controllers", "memory.max", "memory.low", "memory.swap.max", "cpu.max",
		"cpu.weight",         "pids.max"
	};

	sh("mkdir -p " CGROUPS "/pods/%s", pod);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		sh(": > " CGROUPS "/pods/%s/%s", pod, files[i]);
}

static void setup(void)
{
	network_setup_test();
	ck_assert_int_eq(mount("tmpfs", CGROUPS, "tmpfs", 0, NULL), 0);
	make_cgroup("p1");
	make_cgroup("p2");
	sh("mkdir -p /run/bundle");
	agent = (struct agent){ .program = getenv("LCOW_GCS") };
	owner = (struct container){ .agent = &agent, .state = CONTAINER_RUNNING, .init = &init };
	init = (struct process){ .pid = getpid() };
	n_joins = 0;
}

static CO void leave_all(void)
{
	while (n_joins > 0)
		pod_leave(joins[--n_joins]);
}

static void nothing_is_left(void)
{
	ck_assert_uint_eq(agent.pods.len, 0);
	ck_assert_uint_eq(agent.networks.len, 0);
	sh("test -z \"$(ls -A /run/gcs/sandboxes)\" && ! grep -q ' /run/[gn]' "
	   "/proc/self/mountinfo");
}

static void teardown(void)
{
	run(leave_all);
	nothing_is_left();
	map_free(&agent.pods);
	map_free(&agent.networks);
	map_free(&agent.containers);
	network_teardown_test();
}

/* ---- a container that joins ---- */

static struct {
	const char *id;
	struct json_object *spec;
} joining;

static CO void do_join(void)
{
	struct spec_facts facts = { 0 };

	result = spec_classify(joining.spec, joining.id, "/run/bundle", &facts, &err);
	if (result == 0)
		result = pod_join(&agent, &facts, joining.spec, &joins[n_joins], &err);
	if (result == 0)
		result = pod_fit(joins[n_joins++], joining.id, &facts, joining.spec, "/run/bundle",
				 &err);
	spec_facts_clear(&facts);
}

/* Members of pod p1, but for p1 and p2, which are the sandbox containers; @rest begins with ',' */
static struct json_object *join(const char *id, const char *rest)
{
	bool sandbox = id[0] == 'p';
	_cleanup_free_ char *text =
		str_printf("{\"process\":{\"args\":[\"sh\"]},\"root\":{\"path\":\"/r\"},"
			   "\"annotations\":{\"io.kubernetes.cri.container-type\":\"%s\","
			   "\"io.kubernetes.cri.sandbox-id\":\"%s\"}%s}",
			   sandbox ? "sandbox" : "container", sandbox ? id : "p1", rest);
	struct json_object *o = NULL;

	ck_assert_msg(json_parse(text, strlen(text), &o, &err) == 0, "%s", text);
	joining.id = id;
	joining.spec = o;
	run(do_join);
	return o;
}

#define NAMESPACES(list) ",\"linux\":{\"namespaces\":[" list "]}"
#define SHARED(type) "{\"type\":\"" type "\",\"path\":\"/proc/1/ns/" type "\"}"
#define OWN(type) "{\"type\":\"" type "\"}"

static char *place(struct json_object *spec, const char *type)
{
	struct json_object *ns = spec_namespace(spec, type);
	const char *path = json_get_str(ns, "path");

	return mem_strdup(!ns ? "none" : path ? path : "own");
}

static void expect(struct json_object *spec, const char *type, const char *suffix)
{
	_cleanup_free_ char *got = place(spec, type);
	size_t n = strlen(got), m = strlen(suffix);

	ck_assert_msg(n >= m && str_eq(got + n - m, suffix), "%s: %s", type, got);
}

static ino_t inode(const char *path)
{
	struct stat st;

	ck_assert_msg(stat(path, &st) == 0, "%s", path);
	return st.st_ino;
}

static ino_t inode_of(struct json_object *spec, const char *type)
{
	_cleanup_free_ char *path = place(spec, type);

	return inode(path);
}

/* ---- coming and going ---- */

START_TEST(a_pod_is_there_from_its_first_container_to_its_last)
{
	json_put(join("c1", ""));
	ck_assert_msg(result == 0, "%s", err.text);
	json_put(join("c2", ""));
	ck_assert_uint_eq(agent.pods.len, 1);
	ck_assert_ptr_eq(joins[0], joins[1]);
	json_put(join("p2", ""));
	ck_assert_uint_eq(agent.pods.len, 2);
	ck_assert_uint_eq(agent.networks.len, 2);
	run(leave_all);
	nothing_is_left();
}
END_TEST

static const struct {
	const char *spoil, *word;
} spoiled[] = {
	{ "umount " CGROUPS, "/pods/p1" },
	{ "rm " CGROUPS "/pods/p1/cgroup.controllers", "cgroup.controllers" },
	{ ": > /run/netns", "/run/netns" },
	{ ": > /run/gcs", "/run/gcs" },
};

START_TEST(a_pod_that_cannot_be_made_leaves_nothing)
{
	sh("%s", spoiled[_i].spoil);
	json_put(join("c1", ""));
	ck_assert_int_lt(result, 0);
	ck_assert_msg(strstr(err.text, spoiled[_i].word) != NULL, "%s", err.text);
	ck_assert_uint_eq(n_joins, 0);
	ck_assert_uint_eq(agent.pods.len, 0);
	ck_assert_uint_eq(agent.networks.len, 0);
	sh("rm -rf /run/gcs /run/netns && mkdir -p /run/gcs/sandboxes");
}
END_TEST

START_TEST(a_sandbox_container_s_limits_are_the_pod_s)
{
	static const char *const limits[][2] = {
		{ "memory.max", "4096" },  { "memory.swap.max", "2048" }, { "memory.low", "1024" },
		{ "cpu.weight", "10000" }, { "cpu.max", "5 10" },         { "pids.max", "7" }
	};

	json_put(join("p1", ",\"linux\":{\"resources\":{\"memory\":{\"limit\":4096,\"swap\":6144,"
			    "\"reservation\":1024},\"cpu\":{\"shares\":262144,\"quota\":5,"
			    "\"period\":10},\"pids\":{\"limit\":7}}}"));
	ck_assert_msg(result == 0, "%s", err.text);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		sh("test \"$(cat " CGROUPS "/pods/p1/%s)\" = '%s'", limits[i][0], limits[i][1]);
	json_put(join("c1", ",\"linux\":{\"resources\":{\"memory\":{\"limit\":1}}}"));
	sh("test $(cat " CGROUPS "/pods/p1/memory.max) = 4096");
	json_put(join("p2", ",\"linux\":{\"resources\":{\"memory\":{\"limit\":8,\"swap\":7}}}"));
	ck_assert_int_eq(result, -ERR_INVALID);
}
END_TEST

/* ---- namespaces ---- */

START_TEST(members_share_what_has_a_path)
{
	struct json_object *one = join("c1", NAMESPACES(SHARED("ipc") "," SHARED("uts")));
	struct json_object *two =
		join("c2", NAMESPACES(SHARED("uts") "," OWN("ipc") "," OWN("pid")));

	ck_assert_msg(result == 0, "%s", err.text);
	expect(one, "ipc", "/ipc");
	expect(one, "uts", "/uts");
	expect(one, "pid", "none");
	expect(one, "mount", "own");
	expect(two, "ipc", "own");
	expect(two, "pid", "own");
	ck_assert_uint_eq(inode_of(one, "uts"), inode_of(two, "uts"));
	ck_assert_uint_ne(inode_of(one, "ipc"), inode("/proc/self/ns/ipc"));
	json_put(one);
	json_put(two);
}
END_TEST

START_TEST(who_names_none_has_an_ipc_and_a_name_of_its_own_and_the_pod_s_network)
{
	struct json_object *one = join("c1", ""), *two = join("c2", NAMESPACES(OWN("network")));

	expect(one, "ipc", "own");
	expect(one, "uts", "own");
	expect(one, "mount", "own");
	expect(one, "pid", "none");
	ck_assert_uint_eq(inode_of(one, "network"), inode_of(two, "network"));
	ck_assert_uint_ne(inode_of(one, "network"), inode("/proc/self/ns/net"));
	json_put(one);
	json_put(two);
}
END_TEST

START_TEST(the_sandbox_container_s_namespaces_are_the_pod_s_and_outlive_it)
{
	struct json_object *pause = join("p1", NAMESPACES(OWN("ipc") "," OWN("pid")));
	struct json_object *one, *two;

	expect(pause, "ipc", "own");
	map_set(&agent.containers, "p1", &owner);
	one = join("c1", NAMESPACES(SHARED("ipc") "," SHARED("pid")));
	ck_assert_msg(result == 0, "%s", err.text);
	ck_assert_uint_eq(inode_of(one, "ipc"), inode("/proc/self/ns/ipc"));
	ck_assert_uint_eq(inode_of(one, "pid"), inode("/proc/self/ns/pid"));
	init.exited = true;
	two = join("c2", NAMESPACES(SHARED("ipc") "," SHARED("uts")));
	ck_assert_uint_eq(inode_of(two, "ipc"), inode("/proc/self/ns/ipc"));
	ck_assert_uint_ne(inode_of(two, "uts"), inode("/proc/self/ns/uts"));
	json_put(two);
	json_put(join("c3", NAMESPACES(SHARED("pid"))));
	ck_assert_int_eq(result, -ERR_STATE);
	ck_assert_ptr_nonnull(strstr(err.text, "pid namespace has ended"));
	json_put(one);
	json_put(pause);
}
END_TEST

START_TEST(the_pids_of_one_member_are_shared_by_its_first_process)
{
	_cleanup_free_ char *entry =
		str_printf(NAMESPACES("{\"type\":\"pid\",\"path\":\"/proc/%d/ns/pid\"}"), getpid());
	_cleanup_free_ char *path = str_printf("/proc/%d/ns/pid", getpid());
	struct json_object *o;

	json_put(join("c1", ""));
	owner.id = (char[]){ "c1" };
	owner.pod = joins[0];
	map_set(&agent.containers, "c1", &owner);
	o = join("c2", entry);
	ck_assert_msg(result == 0, "%s", err.text);
	expect(o, "pid", path);
	json_put(o);
	/* Of another pod's, or when it is gone, it means the pod's own. */
	owner.pod = NULL;
	o = join("c3", entry);
	expect(o, "pid", "/1/pid");
	json_put(o);
	owner.pod = joins[0];
	init.exited = true;
	o = join("c4", entry);
	expect(o, "pid", "/1/pid");
	json_put(o);
}
END_TEST

START_TEST(a_container_that_is_its_own_pod_shares_with_nobody)
{
	struct json_object *o = join("p1", NAMESPACES(SHARED("ipc") "," SHARED("pid")));

	expect(o, "ipc", "own");
	expect(o, "pid", "own");
	json_put(o);
}
END_TEST

START_TEST(without_a_sandbox_container_the_agent_keeps_the_pid_namespace)
{
	struct json_object *o = join("c1", NAMESPACES(SHARED("pid")));
	_cleanup_free_ char *path = NULL;

	ck_assert_msg(result == 0, "%s", err.text);
	path = place(o, "pid");
	sh("nsenter --pid=%s sh -c 'test $$ -gt 1 && kill -9 1'", path);
	sh("nsenter --pid=%s true", path);
	json_put(join("c2", NAMESPACES(SHARED("pid"))));
	ck_assert_int_eq(result, 0);
	json_put(o);
}
END_TEST

START_TEST(a_pid_namespace_that_cannot_be_made_can_be_asked_for_again)
{
	agent.program = "/no/such/program";
	json_put(join("c1", NAMESPACES(SHARED("pid"))));
	ck_assert_int_lt(result, 0);
	ck_assert_ptr_nonnull(strstr(err.text, "/no/such/program"));
	agent.program = getenv("LCOW_GCS");
	json_put(join("c1", NAMESPACES(SHARED("pid"))));
	ck_assert_msg(result == 0, "%s", err.text);
}
END_TEST

START_TEST(host_network_is_the_VM_s_where_the_pod_has_no_cards)
{
	static const char annotated[] =
		"{\"process\":{\"args\":[\"sh\"]},\"root\":{\"path\":\"/r\"},\"annotations\":{"
		"\"io.microsoft.virtualmachine.lcow.hostnetwork\":\"true\"},"
		"\"linux\":{\"namespaces\":[{\"type\":\"network\"}]}}";
	struct json_object *o = NULL;

	ck_assert_int_eq(json_parse(annotated, strlen(annotated), &o, &err), 0);
	joining.id = "p1";
	joining.spec = o;
	run(do_join);
	expect(o, "network", "none");
	json_put(o);
	o = join("c1", NAMESPACES(OWN("network")));
	expect(o, "network", "none");
	json_put(o);
}
END_TEST

/* ---- names ---- */

#define UTS(shared, more) NAMESPACES(shared) more

static void expect_name(struct json_object *spec, const char *name, bool of_pod)
{
	struct json_object *mounts = json_get(spec, "mounts", NULL);
	const char *source = json_get_str(json_object_array_get_idx(mounts, 0), "source");

	ck_assert_msg(result == 0, "%s", err.text);
	ck_assert_msg(str_starts(source, "/run/gcs/sandboxes/") == of_pod, "%s", source);
	sh("grep -qx '%s' %s", name, source);
	ck_assert(json_get_str(spec, "hostname") || of_pod);
	json_put(spec);
}

START_TEST(the_sandbox_container_names_the_pod)
{
	expect_name(join("p1", ",\"hostname\":\"web\""), "web", true);
	expect_name(join("c1", ""), "web", true);
	expect_name(join("c2", UTS(SHARED("uts"), "")), "web", true);
	expect_name(join("c3", ",\"hostname\":\"mine\""), "mine", false);
	json_put(join("c4", UTS(SHARED("uts"), ",\"hostname\":\"other\"")));
	ck_assert_int_eq(result, -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "must not change hostname: other"));
}
END_TEST

START_TEST(without_one_it_is_the_first_who_shares_its_name)
{
	char vm[HOST_NAME_MAX + 1] = "";
	struct json_object *o;

	gethostname(vm, HOST_NAME_MAX);
	expect_name(join("c1", ""), vm, false);
	o = join("c2", UTS(SHARED("uts"), ",\"hostname\":\"web\""));
	sh("nsenter --uts=\"$(echo /run/gcs/sandboxes/*/uts)\" hostname | grep -qx web");
	ck_assert_ptr_null(json_get(o, "hostname", NULL));
	expect_name(o, "web", true);
	expect_name(join("c3", ""), "web", true);
}
END_TEST

/* ---- /dev/shm ---- */

#define MOUNT_SHM(size) \
	",\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\"," \
	"\"options\":[\"nosuid\"" size "]}]"

static void expect_shm(struct json_object *spec, const char *source)
{
	struct json_object *m = json_object_array_get_idx(spec_mounts(spec), 0);
	const char *got = json_get_str(m, "source");

	ck_assert_msg(result == 0, "%s", err.text);
	ck_assert_str_eq(json_get_str(m, "destination"), "/dev/shm");
	ck_assert_msg(strstr(got, source) != NULL, "%s", got);
	ck_assert_str_eq(json_get_str(m, "type"), str_eq(source, "shm") ? "tmpfs" : "bind");
	json_put(spec);
}

START_TEST(shm_goes_with_ipc)
{
	expect_shm(join("c1", NAMESPACES(OWN("ipc")) MOUNT_SHM("")), "shm");
	expect_shm(join("c2", NAMESPACES(SHARED("ipc")) MOUNT_SHM(",\"size=128k\"")), "/shm");
	sh("df -k /run/gcs/sandboxes/*/shm | grep -q ' 128 '");
	expect_shm(join("c3", NAMESPACES(SHARED("ipc")) MOUNT_SHM("")), "/run/gcs/sandboxes/");
	expect_shm(join("p2", NAMESPACES(OWN("ipc")) MOUNT_SHM("")), "/run/gcs/sandboxes/");
}
END_TEST

START_TEST(a_volume_there_stays)
{
	struct json_object *o =
		join("c1", NAMESPACES(SHARED("ipc")) ",\"mounts\":[{\"destination\":\"/dev/shm\","
						     "\"type\":\"bind\",\"source\":\"/volume\"}]");

	ck_assert_str_eq(json_get_str(json_object_array_get_idx(spec_mounts(o), 0), "source"),
			 "/volume");
	json_put(o);
}
END_TEST

START_TEST(a_size_that_is_none_is_an_error_and_can_be_tried_again)
{
	json_put(join("c1", NAMESPACES(SHARED("ipc")) MOUNT_SHM(",\"size=many\"")));
	ck_assert_int_lt(result, 0);
	expect_shm(join("c1", NAMESPACES(SHARED("ipc")) MOUNT_SHM("")), "/run/gcs/sandboxes/");
}
END_TEST

/* ---- logs ---- */

static const char *log_path;
static int log_fd;

static CO void do_log(void)
{
	result = pod_log(joins[0], log_path, &log_fd, &err);
}

static int open_log(const char *path)
{
	log_path = path;
	run(do_log);
	return result;
}

START_TEST(logs_are_files_of_the_pod_and_nothing_else)
{
	struct json_object *o;

	json_put(join("c1", ""));
	ck_assert_msg(open_log("a/b/c.log") == 0, "%s", err.text);
	ck_assert_int_eq(write(log_fd, "line\n", 5), 5);
	close(log_fd);
	ck_assert_int_eq(open_log("../../../up"), 0);
	close(log_fd);
	sh("cd /run/gcs/sandboxes/*/logs && grep -qx line a/b/c.log && test -f up && mkfifo fifo "
	   "&& "
	   "ln -s /run/bundle/x link && mkdir dir");
	ck_assert_int_lt(open_log("fifo"), 0);
	ck_assert_int_lt(open_log("dir"), 0);
	ck_assert_int_lt(open_log("link"), 0);
	sh("test ! -e /run/bundle/x");
	o = join("c2", "");
	ck_assert_ptr_null(strstr(json_object_to_json_string(o), "/logs"));
	json_put(o);
}
END_TEST

/* ---- volumes ---- */

static struct volumes volumes;

static CO void do_volumes(void)
{
	result = pod_volumes(joins[0], joining.spec, &volumes, &err);
}

/* The source that a mount from @source gets; NULL when it is refused with @word. */
static char *volume(const char *source, const char *word)
{
	_cleanup_free_ char *rest =
		str_printf(",\"mounts\":[{\"destination\":\"/x\",\"source\":\"%s\"}]", source);
	struct json_object *o = join("c1", rest);
	char *got = NULL;

	run(do_volumes);
	if (word) {
		ck_assert_int_lt(result, 0);
		ck_assert_msg(strstr(err.text, word) != NULL, "%s", err.text);
	} else {
		ck_assert_msg(result == 0, "%s", err.text);
		got = mem_strdup(
			json_get_str(json_object_array_get_idx(spec_mounts(o), 0), "source"));
	}
	json_put(o);
	return got;
}

START_TEST(volumes_of_the_pod_are_made_within_it)
{
	_cleanup_free_ char *a = volume("sandbox://a/b", NULL);
	_cleanup_free_ char *tmp = volume("sandbox-tmp://c", NULL);
	_cleanup_free_ char *plain = volume("/run/mounts/x", NULL);
	struct stat made, found;

	ck_assert_ptr_nonnull(tmp);
	ck_assert_uint_eq(strv_len(volumes.paths), 2);
	ck_assert_int_eq(stat(a, &found), 0);
	sh("cd /run/gcs/sandboxes/*/volumes-0 && test -d sandbox/a/b && test -d tmp/c && "
	   "ln -s /run/bundle sandbox/link && touch /run/bundle/secret");
	ck_assert_uint_eq(found.st_mode & 0777, 0777);
	ck_assert_str_eq(plain, "/run/mounts/x");
	/* Through a symlink it stays inside, too. */
	ck_assert_ptr_null(volume("sandbox://link", "there is no directory link"));
	ck_assert_ptr_null(volume("sandbox-tmp://../../up", "there is no directory ../../up"));
	volumes_clear(&volumes);
	ck_assert_int_lt(stat(a, &made), 0);
}
END_TEST

START_TEST(what_is_in_the_VM_is_mounted_when_it_is_there)
{
	_cleanup_free_ char *there = volume("uvm:///run/bundle", NULL);

	ck_assert_str_eq(there, "/run/bundle");
	ck_assert_ptr_null(volume("uvm:///run/none", "could not open uVM mount target"));
	ck_assert_ptr_null(volume("uvm://run/../bundle", "could not open uVM mount target"));
	ck_assert_ptr_null(volume("hugepages://3M/x", "huge pages have 2M or 1G"));
	sh("test ! -e /run/gcs/sandboxes/*/volumes-0");
}
END_TEST

/* A spec with a mount of a disk's node; NULL when it is refused with @word. */
static struct json_object *block_device(const char *source, const char *destination,
					const char *options, const char *word)
{
	_cleanup_free_ char *rest = str_printf(",\"mounts\":[{\"destination\":\"blockdev://%s\","
					       "\"source\":\"%s\",\"options\":[%s]}]",
					       destination, source, options);
	struct json_object *o = join("c1", rest);

	run(do_volumes);
	if (word) {
		ck_assert_int_eq(result, -ERR_INVALID);
		ck_assert_msg(strstr(err.text, word) != NULL, "%s", err.text);
		json_put(TAKE_PTR(o));
	}
	return o;
}

START_TEST(a_disk_s_node_is_bound_and_may_be_used)
{
	static const char *const expected[] = {
		"[{\"allow\":true,\"access\":\"rwm\",\"type\":\"b\",\"major\":8,\"minor\":16}]",
		"[{\"allow\":true,\"access\":\"r\",\"type\":\"b\",\"major\":8,\"minor\":16}]",
	};
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_free_ char *rules = NULL;
	struct json_object *mount;

	sh("mknod /run/bundle/sdb b 8 16 && ln -s /run/bundle/sdb /run/bundle/disk");
	o = block_device("/run/bundle/disk", "/dev/xvda", _i ? "\"bind\",\"RO\"" : "", NULL);
	ck_assert_msg(result == 0, "%s", err.text);
	mount = json_object_array_get_idx(spec_mounts(o), 0);
	ck_assert_str_eq(json_get_str(mount, "source"), "/run/bundle/sdb");
	ck_assert_str_eq(json_get_str(mount, "destination"), "/dev/xvda");
	rules = json_text(json_get(o, "linux", "resources", "devices", NULL));
	ck_assert_str_eq(rules, expected[_i]);
}
END_TEST

START_TEST(what_is_no_disk_is_refused)
{
	sh("ln -s /dev/null /run/bundle/null && ln -s /run/bundle/none /run/bundle/dangling && "
	   "touch /run/bundle/file");
	block_device("/run/bundle/null", "/d", "", "/dev/null is no block device");
	block_device("/run/bundle/dangling", "/d", "", "/run/bundle/none is no block device");
	block_device("/run/bundle/file", "/d", "", "/run/bundle/file is no disk of the VM");
	block_device("/run/bundle/absent", "/d", "", "/run/bundle/absent is no disk of the VM");
	block_device("/run/bundle/null", "/../d", "", "is not a clean absolute path");
	block_device("/run/bundle/null", "", "", "is not a clean absolute path");
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_pod_is_there_from_its_first_container_to_its_last);
	tcase_add_loop_test(t, a_pod_that_cannot_be_made_leaves_nothing, 0, ARRAY_SIZE(spoiled));
	tcase_add_test(t, a_sandbox_container_s_limits_are_the_pod_s);
	tcase_add_test(t, members_share_what_has_a_path);
	tcase_add_test(t, who_names_none_has_an_ipc_and_a_name_of_its_own_and_the_pod_s_network);
	tcase_add_test(t, the_sandbox_container_s_namespaces_are_the_pod_s_and_outlive_it);
	tcase_add_test(t, the_pids_of_one_member_are_shared_by_its_first_process);
	tcase_add_test(t, a_container_that_is_its_own_pod_shares_with_nobody);
	tcase_add_test(t, without_a_sandbox_container_the_agent_keeps_the_pid_namespace);
	tcase_add_test(t, a_pid_namespace_that_cannot_be_made_can_be_asked_for_again);
	tcase_add_test(t, host_network_is_the_VM_s_where_the_pod_has_no_cards);
	tcase_add_test(t, the_sandbox_container_names_the_pod);
	tcase_add_test(t, without_one_it_is_the_first_who_shares_its_name);
	tcase_add_test(t, shm_goes_with_ipc);
	tcase_add_test(t, a_volume_there_stays);
	tcase_add_test(t, volumes_of_the_pod_are_made_within_it);
	tcase_add_test(t, what_is_in_the_VM_is_mounted_when_it_is_there);
	tcase_add_loop_test(t, a_disk_s_node_is_bound_and_may_be_used, 0, 2);
	tcase_add_test(t, what_is_no_disk_is_refused);
	tcase_add_test(t, logs_are_files_of_the_pod_and_nothing_else);
	tcase_add_test(t, a_size_that_is_none_is_an_error_and_can_be_tried_again);
}

SUITE("pod")
