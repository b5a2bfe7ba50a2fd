/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <json-c/json.h>

#include "cgroups2.pb-c.h"
#include "cri.pb-c.h"
#include "sandbox.pb-c.h"

#define TYPE(name) &containerd__runtime__sandbox__v1__##name##__descriptor
#define MESSAGE(name) Containerd__Runtime__Sandbox__V1__##name

static void ask(struct rpc *r, const char *method, void *request,
		const ProtobufCMessageDescriptor *reply_type)
{
	begin(r, method, request, reply_type);
	r->service = "containerd.runtime.sandbox.v1.Sandbox";
}

/* A boot files directory; that the VM is a fake's nobody sees. */
static void put_boot_files(void)
{
	static const char elf[64] = { 0x7f, 'E', 'L', 'F', 2, 1, 1, [18] = 62 };
	_cleanup_free_ char *kernel = str_printf("%s/vmlinux", vm.dir);

	ck_assert_int_eq(file_write(kernel, elf, sizeof(elf), 0644), 0);
	fake_file("boot.conf", "[boot]\nkernel = vmlinux\n");
	options.boot_files = vm.dir;
}

static const char *netns_name;
static char *netns;

/* An annotation of the next request's own. */
static const char *own_key, *own_value;

static struct rpc made;

static int make_with(const char *id, const char *bundle, Google__Protobuf__Any *opaque)
{
	MESSAGE(CreateSandboxRequest) *q = pb_new(TYPE(create_sandbox_request));

	put_boot_files();
	if (own_key)
		pb_map_set(q, "annotations", own_key, own_value);
	pb_str(&q->sandbox_id, id);
	pb_str(&q->bundle_path, bundle);
	/* As clients name that want no network. */
	fake_file("netns", "");
	str_set(&netns, NULL);
	netns = str_printf("%s/%s", vm.dir, netns_name);
	pb_str(&q->netns_path, netns);
	q->options = opaque;
	ask(&made, "CreateSandbox", q, TYPE(create_sandbox_response));
	return code_of(&made);
}

static int make(const char *id)
{
	return make_with(id, "/nowhere", NULL);
}

static struct rpc started;

static int boot(const char *id)
{
	MESSAGE(StartSandboxRequest) *q = pb_new(TYPE(start_sandbox_request));

	pb_str(&q->sandbox_id, id);
	ask(&started, "StartSandbox", q, TYPE(start_sandbox_response));

	int r = finish(&started);

	/* Containers are given the fakes' devices. */
	s->env = vm.env;
	return r;
}

static void run_sandbox(void)
{
	ck_assert_int_eq(make("c1"), 0);
	ck_assert_int_eq(boot("c1"), 0);
	started.reply = pb_free(started.reply);
}

static int stop(const char *id, unsigned seconds)
{
	MESSAGE(StopSandboxRequest) *q = pb_new(TYPE(stop_sandbox_request));
	static struct rpc r;

	pb_str(&q->sandbox_id, id);
	q->timeout_secs = seconds;
	ask(&r, "StopSandbox", q, TYPE(stop_sandbox_response));
	return code_of(&r);
}

static int end(const char *id)
{
	MESSAGE(ShutdownSandboxRequest) *q = pb_new(TYPE(shutdown_sandbox_request));
	static struct rpc r;

	pb_str(&q->sandbox_id, id);
	ask(&r, "ShutdownSandbox", q, TYPE(shutdown_sandbox_response));
	return code_of(&r);
}

static int ping(const char *id)
{
	MESSAGE(PingRequest) *q = pb_new(TYPE(ping_request));
	static struct rpc r;

	pb_str(&q->sandbox_id, id);
	ask(&r, "PingSandbox", q, TYPE(ping_response));
	return code_of(&r);
}

static void begin_sandbox_wait(struct rpc *r, const char *id)
{
	MESSAGE(WaitSandboxRequest) *q = pb_new(TYPE(wait_sandbox_request));

	pb_str(&q->sandbox_id, id);
	ask(r, "WaitSandbox", q, TYPE(wait_sandbox_response));
	run_for(20);
}

static void expect_waited(struct rpc *r, unsigned status)
{
	ck_assert_int_eq(finish(r), 0);

	const MESSAGE(WaitSandboxResponse) *reply = (const void *)r->reply;

	ck_assert_uint_eq(reply->exit_status, status);
	ck_assert_uint_ne(pb_time_ns(reply->exited_at), 0);
	r->reply = pb_free(r->reply);
}

/* The caller frees the reply. */
static MESSAGE(SandboxStatusResponse) * status_of_sandbox(bool verbose)
{
	MESSAGE(SandboxStatusRequest) *q = pb_new(TYPE(sandbox_status_request));
	static struct rpc r;

	pb_str(&q->sandbox_id, "c1");
	q->verbose = verbose;
	ask(&r, "SandboxStatus", q, TYPE(sandbox_status_response));
	ck_assert_int_eq(finish(&r), 0);
	return (void *)r.reply;
}

static void setup_named(void)
{
	netns_name = "netns";
	own_key = NULL;
	setup_without_vm();
}

static void teardown_named(void)
{
	teardown();
	str_set(&netns, NULL);
}

/* ---- Create ---- */

START_TEST(a_sandbox_is_created_once_whatever_its_name)
{
	ck_assert_int_eq(make(""), -ERR_INVALID);
	ck_assert_int_eq(make("c1"), 0);
	ck_assert_int_eq(make("c1"), -ERR_EXISTS);
	ck_assert_int_eq(make("c2"), -ERR_EXISTS);
}
END_TEST

START_TEST(a_create_that_fails_can_be_repeated)
{
	fake_file("bundle/config.json", "{\"annotations\":{"
					"\"io.microsoft.virtualmachine.computetopology.memory."
					"sizeinmb\":\"much\"}}");
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), -ERR_INVALID);
	fake_file("bundle/config.json", "not JSON");
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), -ERR_INVALID);
	fake_file("bundle/config.json", "{\"annotations\":{"
					"\"io.microsoft.virtualmachine.computetopology.memory."
					"sizeinmb\":\"768\"}}");
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), 0);
}
END_TEST

#define DENY "io.microsoft.virtualmachine.fileshares.disablewritable"

/* value of the annotation (NULL: none), configuration, whether writable shares are denied */
static const struct {
	const char *value;
	bool configured, denied;
} denials[] = {
	{ "true", false, true }, { "T", false, true },      { "false", false, false },
	{ "0", true, true },     { "never", false, false }, { NULL, false, false },
	{ NULL, true, true },
};

START_TEST(an_annotation_may_deny_writable_shares)
{
	char text[256], id[UUID_LEN + 1];

	snprintf(text, sizeof(text), "{\"annotations\":{\"%s\":\"%s\"}}",
		 denials[_i].value ? DENY : "other", denials[_i].value ? denials[_i].value : "");
	fake_file("bundle/config.json", text);
	options.deny_writable_shares = denials[_i].configured;
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), 0);
	options.deny_writable_shares = false;
	ck_assert_int_eq(share_reserve(vm_shares(s->vm), vm.dir, true, id, NULL), 0);
	ck_assert_int_eq(share_reserve(vm_shares(s->vm), vm.dir, false, id, NULL),
			 denials[_i].denied ? -ERR_DENIED : 0);
}
END_TEST

#define ENCRYPTED "io.microsoft.virtualmachine.storage.scratch.encrypted"

static const struct {
	const char *value;
	int code;
	bool encrypted;
} encryptions[] = {
	{ "true", 0, true },       { "1", 0, true },     { "false", 0, false },
	{ "maybe", -ERR_INVALID }, { "", -ERR_INVALID }, { NULL, 0, false },
};

START_TEST(an_annotation_may_ask_for_encrypted_scratch_in_words_that_can_be_read)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"annotations\":{\"%s\":\"%s\"}}",
		 encryptions[_i].value ? ENCRYPTED : "other",
		 encryptions[_i].value ? encryptions[_i].value : "");
	fake_file("bundle/config.json", text);
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), encryptions[_i].code);
	ck_assert(s->env.encrypt_scratch == encryptions[_i].encrypted);
}
END_TEST

#define POLICY "io.microsoft.virtualmachine.lcow.network.policybasedrouting"

START_TEST(an_annotation_asks_for_routing_by_policy)
{
	static const char *const texts[] = { "{\"" POLICY "\":\"true\"}",
					     "{\"" POLICY "\":\"maybe\"}", "{}" };
	struct vm_config cfg = { .memory_mb = 512, .cpus = 1 };
	_cleanup_json_ struct json_object *a = NULL;

	ck_assert_int_eq(json_parse(texts[_i], strlen(texts[_i]), &a, NULL), 0);
	ck_assert_int_eq(service_read_annotations(s, a, &cfg, NULL), 0);
	ck_assert(s->policy_routing == (_i == 0));
}
END_TEST

START_TEST(options_are_a_pod_s_configuration_or_anybody_s)
{
	static const char name[] = "runtime.v1.PodSandboxConfig";

	ck_assert_int_eq(make_with("c1", "/nowhere", pb_any_raw(name, "\xff\xff", 2)),
			 -ERR_INVALID);
	ck_assert_int_eq(make_with("c1", "/nowhere", pb_any_raw("what.ever", "\xff", 1)), 0);
}
END_TEST

START_TEST(a_pod_s_configuration_is_taken)
{
	Runtime__V1__PodSandboxConfig pod = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxPodSandboxConfig section = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxContainerResources resources =
		RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	Runtime__V1__DNSConfig dns = RUNTIME__V1__DNSCONFIG__INIT;
	static char name[] = "pod", one[] = "ndots:5", two[] = "rotate";
	char *options_of_dns[] = { one, two };

	dns.options = options_of_dns;
	dns.n_options = ARRAY_SIZE(options_of_dns);
	resources.memory_limit_in_bytes = 96 << 20;
	resources.cpu_quota = -1;
	resources.cpu_period = 50000;
	section.resources = &resources;
	pod.hostname = name;
	pod.dns_config = &dns;
	pod.linux_config = &section;
	ck_assert_int_eq(make_with("c1", "/nowhere", pb_any(&pod.base)), 0);
	ck_assert_str_eq(s->sandbox.hostname, "pod");
	ck_assert_str_eq(s->sandbox.dns_options, "ndots:5,rotate");
	ck_assert_uint_eq(s->sandbox.size.memory, 96 << 20);
	ck_assert_uint_eq(s->sandbox.size.quota, 0);
	ck_assert_uint_eq(s->sandbox.size.period, 50000);
}
END_TEST

START_TEST(annotations_of_a_pod_s_configuration_are_those_of_the_VM)
{
	Runtime__V1__PodSandboxConfig pod = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxConfig__AnnotationsEntry entry =
		RUNTIME__V1__POD_SANDBOX_CONFIG__ANNOTATIONS_ENTRY__INIT;
	Runtime__V1__PodSandboxConfig__AnnotationsEntry *entries[] = { &entry };
	static char key[] = "io.microsoft.virtualmachine.computetopology.memory.sizeinmb";
	static char bad[] = "lots", good[] = "300";

	entry.key = key;
	entry.value = bad;
	pod.annotations = entries;
	pod.n_annotations = 1;
	ck_assert_int_eq(make_with("c1", "/nowhere", pb_any(&pod.base)), -ERR_INVALID);
	entry.value = good;
	ck_assert_int_eq(make_with("c1", "/nowhere", pb_any(&pod.base)), 0);
}
END_TEST

#define MEMORY_MB "io.microsoft.virtualmachine.computetopology.memory.sizeinmb"

START_TEST(annotations_of_the_request_go_before_its_bundle_s)
{
	fake_file("bundle/config.json", "{\"annotations\":{\"" MEMORY_MB "\":\"640\"}}");
	own_key = MEMORY_MB;
	own_value = "none";
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), -ERR_INVALID);
	own_value = "768";
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), 0);
	ck_assert_uint_eq(created.memory_mb, 768);
}
END_TEST

static const struct {
	const char *id, *config, *type, *options;
	size_t len;
	const char *says;
} bad_creates[] = {
	{ .id = "", .says = "id \"\"" },
	{ .id = "../up", .says = "id \"../up\"" },
	{ .id = "a/b", .says = "a/b" },
	{ .id = "a b", .says = "a b" },
	{ .id = "-\n", .says = "not valid" },
	{ .config = "[]", .says = "config.json" },
	{ .config = "{\"annotations\":", .says = "config.json" },
	{ .config = "\xff\xfe", .says = "config.json" },
	{ .config = "{\"annotations\":{\"" MEMORY_MB "\":\"-1\"}}", .says = MEMORY_MB },
	{ .config = "{\"annotations\":{\"" MEMORY_MB "\":\"99999999999999999999\"}}",
	  .says = MEMORY_MB },
	{ .type = "runtime.v1.PodSandboxConfig",
	  .options = "\xff\xff",
	  .len = 2,
	  .says = "PodSandboxConfig" },
	/* A section that is longer than the message. */
	{ .type = "runtime.v1.PodSandboxConfig",
	  .options = "\x42\x7f\x08",
	  .len = 3,
	  .says = "PodSandboxConfig" },
	{ .type = "types.example.com/runtime.v1.PodSandboxConfig",
	  .options = "\x0a\x05",
	  .len = 2,
	  .says = "PodSandboxConfig" },
};

START_TEST(a_create_that_makes_no_sense_says_why_and_leaves_nothing)
{
	const char *type = bad_creates[_i].type;
	Google__Protobuf__Any *any =
		type ? pb_any_raw(type, bad_creates[_i].options, bad_creates[_i].len) : NULL;

	if (bad_creates[_i].config)
		fake_file("bundle/config.json", bad_creates[_i].config);
	else
		fake_file("bundle/config.json", "{}");
	ck_assert_int_eq(make_with(bad_creates[_i].id ? bad_creates[_i].id : "c1", vm.bundle, any),
			 -ERR_INVALID);
	ck_assert_msg(strstr(made.err.text, bad_creates[_i].says), "%s", made.err.text);
	ck_assert_int_eq(vm_state(s->vm), VM_NOT_CREATED);
	ck_assert_ptr_null(s->sandbox.id);
	ck_assert_int_eq(make("c1"), 0);
}
END_TEST

static int make_pod(Runtime__V1__PodSandboxConfig *pod, const char *bundle)
{
	Google__Protobuf__Any *any = pb_any(&pod->base);

	pb_free(pod);
	return make_with("c1", bundle, any);
}

static Runtime__V1__PodSandboxConfig *pod_of_size(int64_t memory, int64_t quota, int64_t overhead)
{
	Runtime__V1__PodSandboxConfig *pod = pb_new(&runtime__v1__pod_sandbox_config__descriptor);
	const ProtobufCMessageDescriptor *type =
		&runtime__v1__linux_container_resources__descriptor;

	pod->linux_config = pb_new(&runtime__v1__linux_pod_sandbox_config__descriptor);
	pod->linux_config->resources = pb_new(type);
	pod->linux_config->overhead = pb_new(type);
	pod->linux_config->resources->memory_limit_in_bytes = memory;
	pod->linux_config->resources->cpu_quota = quota;
	pod->linux_config->resources->cpu_period = 50000;
	pod->linux_config->overhead->memory_limit_in_bytes = overhead;
	return pod;
}

START_TEST(a_pod_s_resources_and_overhead_make_the_VM_s_size)
{
	ck_assert_int_eq(make_pod(pod_of_size(1 << 30, 100000, 512 << 20), "/nowhere"), 0);
	ck_assert_uint_eq(created.memory_mb, 1536);
	ck_assert_uint_eq(created.cpus, 2);
	ck_assert_uint_eq(created.max_memory_mb, 4096);
}
END_TEST

START_TEST(a_pod_too_large_for_any_VM_is_refused)
{
	ck_assert_int_eq(make_pod(pod_of_size(1ll << 40, -1, 0), "/nowhere"), -ERR_EXHAUSTED);
	ck_assert_int_eq(make_pod(pod_of_size(INT64_MAX, INT64_MAX, INT64_MAX), "/nowhere"),
			 -ERR_EXHAUSTED);
	ck_assert_int_eq(make_pod(pod_of_size(-1, -1, -1), "/nowhere"), 0);
	ck_assert_uint_eq(created.memory_mb, 512);
	ck_assert_uint_eq(created.cpus, 1);
}
END_TEST

START_TEST(CRI_s_annotations_of_a_sandbox_container_make_the_VM_s_size)
{
	struct vm_config cfg = { .memory_mb = 512,
				 .max_memory_mb = 4096,
				 .overhead_mb = 128,
				 .cpus = 1,
				 .max_cpus = 4 };
	_cleanup_json_ struct json_object *a = NULL;
	static const char text[] = "{\"io.kubernetes.cri.sandbox-memory\":\"1073741824\","
				   "\"io.kubernetes.cri.sandbox-cpu-quota\":\"150000\","
				   "\"io.kubernetes.cri.sandbox-cpu-period\":\"100000\"}";

	ck_assert_int_eq(json_parse(text, strlen(text), &a, NULL), 0);
	ck_assert_int_eq(service_read_annotations(s, a, &cfg, NULL), 0);
	ck_assert_uint_eq(cfg.memory_mb, 1168);
	ck_assert_uint_eq(cfg.cpus, 2);
}
END_TEST

START_TEST(limits_that_CRI_s_annotations_do_not_set_ask_for_nothing)
{
	struct vm_config cfg = { .memory_mb = 512,
				 .max_memory_mb = 4096,
				 .overhead_mb = 128,
				 .cpus = 1,
				 .max_cpus = 4 };
	_cleanup_json_ struct json_object *a = NULL;
	static const char text[] = "{\"io.kubernetes.cri.sandbox-memory\":\"many\","
				   "\"io.kubernetes.cri.sandbox-cpu-quota\":\"-1\","
				   "\"io.kubernetes.cri.sandbox-cpu-period\":\"0\"}";

	ck_assert_int_eq(json_parse(text, strlen(text), &a, NULL), 0);
	ck_assert_int_eq(service_read_annotations(s, a, &cfg, NULL), 0);
	ck_assert_int_eq(service_read_annotations(s, NULL, &cfg, NULL), 0);
	ck_assert_uint_eq(cfg.memory_mb, 512);
	ck_assert_uint_eq(cfg.cpus, 1);
}
END_TEST

#define QOS "io.microsoft.virtualmachine.storageqos."

/* annotations, and what becomes of a configuration with 7 and 8 */
static const struct {
	const char *iops, *bandwidth;
	uint64_t iops_max, bandwidth_max;
} limits[] = {
	{ NULL, NULL, 7, 8 },
	{ "\"500\"", NULL, 500, 8 },
	{ NULL, "\"2147483647\"", 7, INT32_MAX },
	{ "\"0\"", "\"0\"", 0, 0 },
	{ "\"-1\"", "\"4M\"", 7, 8 },
	{ "\"2147483648\"", "\"\"", 7, 8 },
	{ "500", NULL, 7, 8 },
};

START_TEST(annotations_limit_the_disks_of_a_VM_and_bad_ones_are_ignored)
{
	_cleanup_free_ char *text =
		str_printf("{\"annotations\":{\"%s\":%s,\"%s\":%s}}",
			   limits[_i].iops ? QOS "iopsmaximum" : "one",
			   limits[_i].iops ? limits[_i].iops : "1",
			   limits[_i].bandwidth ? QOS "bandwidthmaximum" : "two",
			   limits[_i].bandwidth ? limits[_i].bandwidth : "2");

	fake_file("bundle/config.json", text);
	options.vm.storage_iops = 7;
	options.vm.storage_bandwidth = 8;
	ck_assert_int_eq(make_with("c1", vm.bundle, NULL), 0);
	ck_assert_uint_eq(created.storage_iops, limits[_i].iops_max);
	ck_assert_uint_eq(created.storage_bandwidth, limits[_i].bandwidth_max);
}
END_TEST

static const struct {
	const char *parent;
	const char *cgroup;
} parents[] = {
	{ "", "" },
	{ "/kubepods/burstable/pod1", "/kubepods/burstable/pod1/c1" },
	{ "pods/", "pods/c1" },
	{ "/", "/c1" },
	{ "/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice:cri-containerd:c1" },
	{ "a.slice", "a.slice:cri-containerd:c1" },
};

START_TEST(the_VM_is_in_a_cgroup_below_its_pod_s)
{
	Runtime__V1__PodSandboxConfig *pod = pod_of_size(0, 0, 0);

	pb_str(&pod->linux_config->cgroup_parent, parents[_i].parent);
	ck_assert_int_eq(make_pod(pod, "/nowhere"), 0);
	ck_assert_str_eq(created_cgroup, parents[_i].cgroup);
}
END_TEST

START_TEST(sysctls_of_a_pod_are_kept_for_its_containers_and_bad_ones_refused)
{
	Runtime__V1__PodSandboxConfig *pod = pod_of_size(0, 0, 0);

	pb_map_set(pod->linux_config, "sysctls", "net.core.somaxconn", "99");
	pb_map_set(pod->linux_config, "sysctls", "kernel.panic", "1");
	ck_assert_int_eq(make_pod(pod, "/nowhere"), -ERR_INVALID);
	ck_assert_ptr_null(s->sandbox.sysctls);
	pod = pod_of_size(0, 0, 0);
	pb_map_set(pod->linux_config, "sysctls", "net.core.somaxconn", "99");
	ck_assert_int_eq(make_pod(pod, "/nowhere"), 0);
	ck_assert_str_eq(json_get_str(s->sandbox.sysctls, "net.core.somaxconn"), "99");
}
END_TEST

static CO void ensure_vm(void *arg)
{
	static const char text[] = "{\"linux\":{\"cgroupsPath\":\"/ns/c1\"}}";
	_cleanup_json_ struct json_object *spec = NULL;

	ck_assert_int_eq(json_parse(text, strlen(text), &spec, NULL), 0);
	ck_assert_int_eq(service_ensure_vm(s, spec, NULL), 0);
}

START_TEST(the_VM_is_in_the_cgroup_of_the_task_that_makes_it)
{
	put_boot_files();
	co_spawn("ensure", ensure_vm, NULL, USEC_NEVER);
	run_for(20);
	ck_assert_str_eq(created_cgroup, "/ns/c1");
}
END_TEST

/* ---- Start, Status, Platform, Ping, Metrics ---- */

START_TEST(what_was_not_created_is_not_started_and_not_found)
{
	static struct rpc r;

	ck_assert_int_eq(boot("c1"), -ERR_STATE);
	ck_assert_int_eq(stop("c1", 0), -ERR_NOT_FOUND);
	ck_assert_int_eq(ping("c1"), -ERR_NOT_FOUND);
	begin_sandbox_wait(&r, "c1");
	ck_assert_int_eq(code_of(&r), -ERR_NOT_FOUND);
	ck_assert_int_eq(make("c1"), 0);
	ck_assert_int_eq(boot("c2"), -ERR_NOT_FOUND);
	ck_assert_int_eq(ping("c1"), -ERR_STATE);
}
END_TEST

/* Each method of the service, with a request that has nothing but an id. */
static const struct {
	const char *method;
	const ProtobufCMessageDescriptor *request, *reply;
} methods[] = {
#define METHOD(name, word) \
	{ \
		name, TYPE(word##_request), TYPE(word##_response) \
	}
	METHOD("StartSandbox", start_sandbox),     METHOD("Platform", platform),
	METHOD("StopSandbox", stop_sandbox),       METHOD("WaitSandbox", wait_sandbox),
	METHOD("SandboxStatus", sandbox_status),   METHOD("PingSandbox", ping),
	METHOD("SandboxMetrics", sandbox_metrics), METHOD("ShutdownSandbox", shutdown_sandbox),
};

START_TEST(another_id_is_not_found_by_any_method)
{
	static const char *const ids[] = { "c2", "", "../c1", "c1 " };
	static struct rpc r;

	run_sandbox();
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		/* The id is the first field of each. */
		MESSAGE(PingRequest) *q = pb_new(methods[_i].request);

		pb_str(&q->sandbox_id, ids[i]);
		ask(&r, methods[_i].method, q, methods[_i].reply);
		ck_assert_int_eq(code_of(&r), -ERR_NOT_FOUND);
	}
	run_for(50);
	ck_assert_uint_eq(dones, 0);
	ck_assert_int_eq(ping("c1"), 0);
}
END_TEST

START_TEST(a_start_names_a_live_process_and_may_be_repeated)
{
	ck_assert_int_eq(make("c1"), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(boot("c1"), 0);

		const MESSAGE(StartSandboxResponse) *reply = (const void *)started.reply;

		ck_assert_uint_eq(reply->pid, (unsigned)getpid());
		ck_assert_uint_ne(pb_time_ns(reply->created_at), 0);
		started.reply = pb_free(started.reply);
	}
}
END_TEST

START_TEST(a_network_namespace_that_is_not_there_is_named)
{
	netns_name = "none";
	ck_assert_int_eq(make("c1"), 0);
	ck_assert_int_eq(boot("c1"), -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(started.err.text, netns));
	/* The VM is there, the pod is not. */
	ck_assert_int_eq(vm_state(s->vm), VM_RUNNING);
	ck_assert_int_eq(create("m1"), -ERR_STATE);
	ck_assert_int_eq(stop("c1", 0), 0);
}
END_TEST

START_TEST(a_status_tells_the_state_in_every_one)
{
	MESSAGE(SandboxStatusResponse) * status;

	ck_assert_int_eq(make("c1"), 0);
	status = status_of_sandbox(false);
	ck_assert_str_eq(status->state, "SANDBOX_NOTREADY");
	ck_assert_uint_ne(pb_time_ns(status->created_at), 0);
	ck_assert_uint_eq(status->n_info, 0);
	pb_free(status);
	ck_assert_int_eq(boot("c1"), 0);
	started.reply = pb_free(started.reply);
	status = status_of_sandbox(true);
	ck_assert_str_eq(status->sandbox_id, "c1");
	ck_assert_str_eq(status->state, "SANDBOX_READY");
	ck_assert_uint_eq(status->pid, (unsigned)getpid());
	ck_assert_ptr_null(status->exited_at);
	ck_assert_str_eq(pb_map_get(status, "info", "state"), "SANDBOX_READY");
	ck_assert_str_ne(pb_map_get(status, "info", "pid"), "0");
	ck_assert_str_eq(pb_map_get(status, "info", "networkSandboxPath"), netns);
	pb_free(status);
	ck_assert_int_eq(stop("c1", 0), 0);
	status = status_of_sandbox(true);
	ck_assert_str_eq(status->state, "SANDBOX_NOTREADY");
	ck_assert_uint_ne(pb_time_ns(status->exited_at), 0);
	pb_free(status);
}
END_TEST

START_TEST(a_start_that_fails_is_not_ready_until_the_end)
{
	MESSAGE(SandboxStatusResponse) * status;
	static struct rpc r;

	ck_assert_int_eq(make("c1"), 0);
	boot_code = -ETIMEDOUT;
	ck_assert_int_eq(boot("c1"), -ETIMEDOUT);
	boot_code = 0;
	ck_assert_int_eq(vm_state(s->vm), VM_INVALID);
	status = status_of_sandbox(true);
	ck_assert_str_eq(status->state, "SANDBOX_NOTREADY");
	ck_assert_str_eq(pb_map_get(status, "info", "vm"), "Invalid");
	pb_free(status);
	ck_assert_int_eq(boot("c1"), -ERR_STATE);
	ck_assert_int_eq(create("m1"), -ERR_STATE);
	begin_sandbox_wait(&r, "c1");
	ck_assert_int_eq(stop("c1", 0), 0);
	expect_waited(&r, 0);
}
END_TEST

START_TEST(the_platform_is_the_guest_s)
{
	MESSAGE(PlatformRequest) *q = pb_new(TYPE(platform_request));
	static struct rpc r;

	ck_assert_int_eq(make("c1"), 0);
	pb_str(&q->sandbox_id, "c1");
	ask(&r, "Platform", q, TYPE(platform_response));
	ck_assert_int_eq(finish(&r), 0);

	const MESSAGE(PlatformResponse) *reply = (const void *)r.reply;

	ck_assert_str_eq(reply->platform->os, "linux");
	ck_assert_str_eq(reply->platform->architecture, "amd64");
	r.reply = pb_free(r.reply);
}
END_TEST

START_TEST(a_ping_asks_the_guest)
{
	run_sandbox();
	ck_assert_int_eq(ping("c1"), 0);
	vm.gone = true;
	ck_assert_int_eq(ping("c1"), -ERR_UNAVAILABLE);
}
END_TEST

START_TEST(metrics_are_what_the_vm_costs_the_host)
{
	MESSAGE(SandboxMetricsRequest) *q = pb_new(TYPE(sandbox_metrics_request));
	Io__Containerd__Cgroups__V2__Metrics *m = NULL;
	static struct rpc r;

	run_sandbox();
	pb_str(&q->sandbox_id, "c1");
	ask(&r, "SandboxMetrics", q, TYPE(sandbox_metrics_response));
	ck_assert_int_eq(finish(&r), 0);

	const MESSAGE(SandboxMetricsResponse) *reply = (const void *)r.reply;

	ck_assert_str_eq(reply->metrics->id, "c1");
	ck_assert_uint_ne(pb_time_ns(reply->metrics->timestamp), 0);
	ck_assert_int_eq(pb_any_unpack(reply->metrics->data,
				       &io__containerd__cgroups__v2__metrics__descriptor, &m, NULL),
			 0);
	ck_assert_uint_gt(m->memory->usage, 4096);
	pb_free(m);
	r.reply = pb_free(r.reply);
}
END_TEST

/* ---- members ---- */

START_TEST(a_task_is_created_once_the_sandbox_runs)
{
	ck_assert_int_eq(make("c1"), 0);
	ck_assert_int_eq(create("m1"), -ERR_STATE);
	ck_assert_int_eq(boot("c1"), 0);
	started.reply = pb_free(started.reply);
	ck_assert_int_eq(create("m1"), 0);
}
END_TEST

START_TEST(a_member_whose_config_is_no_object_is_refused)
{
	run_sandbox();
	s->sandbox.hostname = mem_strdup("pod");
	write_spec("[]");
	ck_assert_int_eq(create("m1"), -ERR_INVALID);
	write_spec("null");
	ck_assert_int_eq(create("m1"), -ERR_INVALID);
	ck_assert_int_eq(ping("c1"), 0);
}
END_TEST

START_TEST(who_belongs_to_a_pod_that_is_not_there_boots_no_vm)
{
	write_spec("{\"process\":{},\"root\":{\"path\":\"rootfs\"},\"linux\":{},\"annotations\":{"
		   "\"io.kubernetes.cri.container-type\":\"container\","
		   "\"io.kubernetes.cri.sandbox-id\":\"p1\"}}");
	ck_assert_int_eq(create("m1"), -ERR_NOT_FOUND);
	ck_assert_int_eq(vm_state(s->vm), VM_NOT_CREATED);
	run_sandbox();
	ck_assert_int_eq(create("m1"), -ERR_NOT_FOUND);
}
END_TEST

/* ---- the end ---- */

START_TEST(a_stop_ends_tasks_and_waits_and_may_be_repeated)
{
	static struct rpc a, b;

	run_sandbox();
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	begin_sandbox_wait(&a, "c1");
	ck_assert(!a.done);
	ck_assert_int_eq(stop("c1", 0), 0);
	expect_waited(&a, 0);
	ck_assert_ptr_null(strstr(fake_calls(&vm.f), "signal"));
	ck_assert_int_eq(stop("c1", 0), 0);
	begin_sandbox_wait(&b, "c1");
	expect_waited(&b, 0);
	ck_assert_int_eq(boot("c1"), -ERR_STATE);
	ck_assert_uint_eq(dones, 0);
}
END_TEST

START_TEST(a_stop_with_time_lets_the_tasks_end_first)
{
	run_sandbox();
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(stop("c1", 1), 0);
	ck_assert_ptr_nonnull(strstr(fake_calls(&vm.f), "signal init 15;"));
}
END_TEST

START_TEST(a_guest_that_hangs_does_not_hold_up_a_stop_beyond_its_time)
{
	run_sandbox();
	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	vm.f.hold_at = "signal init";
	ck_assert_int_eq(stop("c1", 1), 0);
	ck_assert_int_eq(vm_state(s->vm), VM_TERMINATED);
}
END_TEST

START_TEST(the_death_of_the_vm_answers_the_waits)
{
	static struct rpc r;

	run_sandbox();
	begin_sandbox_wait(&r, "c1");
	vm_exited(vm_exited_arg);
	expect_waited(&r, 0);
}
END_TEST

START_TEST(a_sandbox_outlives_its_tasks_shutdown)
{
	run_sandbox();
	ck_assert_int_eq(shut_down(), 0);
	run_for(50);
	ck_assert_uint_eq(dones, 0);
	ck_assert_int_eq(ping("c1"), 0);
	ck_assert_int_eq(end("c2"), -ERR_NOT_FOUND);
	ck_assert_int_eq(end("c1"), 0);
	run_for(100);
	ck_assert_uint_eq(dones, 1);
}
END_TEST

START_TEST(a_shutdown_after_a_create_that_failed_ends_the_shim)
{
	ck_assert_int_eq(end("c1"), 0);
	run_for(100);
	ck_assert_uint_eq(dones, 1);
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_sandbox_is_created_once_whatever_its_name);
	tcase_add_test(t, a_create_that_fails_can_be_repeated);
	tcase_add_loop_test(t,
			    an_annotation_may_ask_for_encrypted_scratch_in_words_that_can_be_read,
			    0, ARRAY_SIZE(encryptions));
	tcase_add_loop_test(t, an_annotation_may_deny_writable_shares, 0, ARRAY_SIZE(denials));
	tcase_add_loop_test(t, an_annotation_asks_for_routing_by_policy, 0, 3);
	tcase_add_test(t, options_are_a_pod_s_configuration_or_anybody_s);
	tcase_add_test(t, a_pod_s_configuration_is_taken);
	tcase_add_test(t, annotations_of_a_pod_s_configuration_are_those_of_the_VM);
	tcase_add_test(t, annotations_of_the_request_go_before_its_bundle_s);
	tcase_add_loop_test(t, a_create_that_makes_no_sense_says_why_and_leaves_nothing, 0,
			    ARRAY_SIZE(bad_creates));
	tcase_add_test(t, a_pod_s_resources_and_overhead_make_the_VM_s_size);
	tcase_add_test(t, a_pod_too_large_for_any_VM_is_refused);
	tcase_add_test(t, CRI_s_annotations_of_a_sandbox_container_make_the_VM_s_size);
	tcase_add_loop_test(t, annotations_limit_the_disks_of_a_VM_and_bad_ones_are_ignored, 0,
			    ARRAY_SIZE(limits));
	tcase_add_test(t, limits_that_CRI_s_annotations_do_not_set_ask_for_nothing);
	tcase_add_loop_test(t, the_VM_is_in_a_cgroup_below_its_pod_s, 0, ARRAY_SIZE(parents));
	tcase_add_test(t, sysctls_of_a_pod_are_kept_for_its_containers_and_bad_ones_refused);
	tcase_add_test(t, the_VM_is_in_the_cgroup_of_the_task_that_makes_it);
	tcase_add_test(t, what_was_not_created_is_not_started_and_not_found);
	tcase_add_loop_test(t, another_id_is_not_found_by_any_method, 0, ARRAY_SIZE(methods));
	tcase_add_test(t, a_start_names_a_live_process_and_may_be_repeated);
	tcase_add_test(t, a_network_namespace_that_is_not_there_is_named);
	tcase_add_test(t, a_status_tells_the_state_in_every_one);
	tcase_add_test(t, a_start_that_fails_is_not_ready_until_the_end);
	tcase_add_test(t, the_platform_is_the_guest_s);
	tcase_add_test(t, a_ping_asks_the_guest);
	tcase_add_test(t, metrics_are_what_the_vm_costs_the_host);
	tcase_add_test(t, a_task_is_created_once_the_sandbox_runs);
	tcase_add_test(t, a_member_whose_config_is_no_object_is_refused);
	tcase_add_test(t, who_belongs_to_a_pod_that_is_not_there_boots_no_vm);
	tcase_add_test(t, a_stop_ends_tasks_and_waits_and_may_be_repeated);
	tcase_add_test(t, a_stop_with_time_lets_the_tasks_end_first);
	tcase_add_test(t, a_guest_that_hangs_does_not_hold_up_a_stop_beyond_its_time);
	tcase_add_test(t, the_death_of_the_vm_answers_the_waits);
	tcase_add_test(t, a_sandbox_outlives_its_tasks_shutdown);
	tcase_add_test(t, a_shutdown_after_a_create_that_failed_ends_the_shim);
}

int main(void)
{
	Suite *suite = suite_create("service sandbox");
	TCase *t = tcase_create("sandbox");

	tcase_add_checked_fixture(t, setup_named, teardown_named);
	tcase_set_timeout(t, 60);
	add_tests(t);
	suite_add_tcase(suite, t);

	SRunner *r = srunner_create(suite);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
