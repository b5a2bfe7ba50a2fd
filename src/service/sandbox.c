/* SPDX-License-Identifier: Apache-2.0 */
#include <json-c/json.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "cgroups2.pb-c.h"
#include "controller/network.h"
#include "controller/sysctls.h"
#include "cri.pb-c.h"
#include "sandbox.pb-c.h"
#include "service/service_priv.h"
#include "wire/json.h"
#include "wire/pb.h"

/*
 * The Sandbox service: for containerd's sandboxer "shim", and for clients that make a VM first and
 * put their pods into it. One sandbox is one VM.
 */

enum { PING_SEC = 5 };

#define REQUEST(type) \
	const Containerd__Runtime__Sandbox__V1__##type *req = \
		(const Containerd__Runtime__Sandbox__V1__##type *)request
#define REPLY(type) \
	Containerd__Runtime__Sandbox__V1__##type *rep = \
		(Containerd__Runtime__Sandbox__V1__##type *)reply
#define HANDLER(name) \
	static CO int name(struct ttrpc_call *call, const ProtobufCMessage *request, \
			   ProtobufCMessage *reply, void *ctx, struct err *err)

static int require(const struct service *s, const char *id, struct err *err)
{
	if (s->sandbox.id && str_eq(s->sandbox.id, id))
		return 0;
	return err_set(err, -ERR_NOT_FOUND, "sandbox %s: not found", id ? id : "");
}

/* ---- Create ---- */

static char *joined(char *const *items, size_t n)
{
	_cleanup_strv_ char **list = NULL;

	for (size_t i = 0; i < n; i++)
		strv_add(&list, items[i]);
	return list ? strv_join(list, ",") : NULL;
}

static void take_dns(struct sandbox *sandbox, const Runtime__V1__DNSConfig *dns)
{
	if (!dns)
		return;
	sandbox->dns_servers = joined(dns->servers, dns->n_servers);
	sandbox->dns_search = joined(dns->searches, dns->n_searches);
	sandbox->dns_options = joined(dns->options, dns->n_options);
}

static struct claim_size size_of(const Runtime__V1__LinuxContainerResources *res)
{
	struct claim_size size = { 0 };

	if (res && res->memory_limit_in_bytes > 0)
		size.memory = (uint64_t)res->memory_limit_in_bytes;
	if (res && res->cpu_quota > 0)
		size.quota = (uint64_t)res->cpu_quota;
	if (res && res->cpu_period > 0)
		size.period = (uint64_t)res->cpu_period;
	return size;
}

/* A container of this name would get it from containerd's CRI. */
static char *cgroup_of(const char *parent, const char *id)
{
	const char *slash = strrchr(parent, '/'), *base = slash ? slash + 1 : parent;
	size_t len = strlen(parent);

	if (len > 6 && str_eq(parent + len - 6, ".slice"))
		return str_printf("%s:cri-containerd:%s", base, id);
	while (len > 0 && parent[len - 1] == '/')
		len--;
	return str_printf("%.*s/%s", (int)len, parent, id);
}

static void take_linux(struct sandbox *sandbox, const char *id,
		       const Runtime__V1__LinuxPodSandboxConfig *section)
{
	if (!section)
		return;
	sandbox->size = size_of(section->resources);
	sandbox->overhead = size_of(section->overhead);
	if (!str_empty(section->cgroup_parent))
		sandbox->cgroup = cgroup_of(section->cgroup_parent, id);
	if (section->n_sysctls > 0)
		sandbox->sysctls = json_object_new_object();
	for (size_t i = 0; i < section->n_sysctls; i++)
		json_object_object_add(sandbox->sysctls, section->sysctls[i]->key,
				       json_object_new_string(section->sysctls[i]->value));
}

static void put_annotation(struct json_object *annotations, const char *key, const char *value)
{
	json_object_object_add(annotations, key, json_object_new_string(value));
}

/* What is of another type is for somebody else. The pod's annotations go before its bundle's, and
 * the request's own before both. */
static int read_options(struct sandbox *sandbox, const char *id,
			const Google__Protobuf__Any *options, struct json_object *annotations,
			struct err *err)
{
	static const ProtobufCMessageDescriptor *const type =
		&runtime__v1__pod_sandbox_config__descriptor;
	_cleanup_pb_ Runtime__V1__PodSandboxConfig *pod = NULL;
	int r = pb_any_is(options, type->name) ? pb_any_unpack(options, type, &pod, err) : 0;

	if (!pod)
		return r;
	take_dns(sandbox, pod->dns_config);
	take_linux(sandbox, id, pod->linux_config);
	sandbox->hostname = str_empty(pod->hostname) ? NULL : mem_strdup(pod->hostname);
	for (size_t i = 0; i < pod->n_annotations; i++)
		put_annotation(annotations, pod->annotations[i]->key, pod->annotations[i]->value);
	return sandbox->sysctls ? sysctls_check(sandbox->sysctls, err) : 0;
}

static int read_request(struct service *s,
			const Containerd__Runtime__Sandbox__V1__CreateSandboxRequest *req,
			struct vm_config *cfg, struct err *err)
{
	_cleanup_json_ struct json_object *spec = NULL;
	struct json_object *annotations;
	int r = service_read_config(req->bundle_path, &spec, err);

	if (r < 0)
		return r;
	/* hcsshim's form of one has annotations, and no process; containerd makes none. */
	if (!spec)
		spec = json_object_new_object();
	annotations = json_get(spec, "annotations", NULL);
	if (!json_object_is_type(annotations, json_type_object)) {
		annotations = json_object_new_object();
		json_object_object_add(spec, "annotations", annotations);
	}
	r = read_options(&s->sandbox, req->sandbox_id, req->options, annotations, err);
	for (size_t i = 0; r >= 0 && i < req->n_annotations; i++)
		put_annotation(annotations, req->annotations[i]->key, req->annotations[i]->value);
	if (r >= 0)
		r = service_read_annotations(s, annotations, cfg, err);
	cfg->cgroup = s->sandbox.cgroup;
	return r < 0 ? r : sizing_boot(cfg, &s->sandbox.size, &s->sandbox.overhead, err);
}

static void sandbox_clear(struct sandbox *sandbox)
{
	free(sandbox->id);
	free(sandbox->netns);
	free(sandbox->dns_servers);
	free(sandbox->dns_search);
	free(sandbox->dns_options);
	free(sandbox->hostname);
	free(sandbox->cgroup);
	json_put(sandbox->sysctls);
	sandbox->id = sandbox->netns = sandbox->dns_servers = sandbox->dns_search = NULL;
	sandbox->dns_options = sandbox->hostname = sandbox->cgroup = NULL;
	sandbox->sysctls = NULL;
	sandbox->size = sandbox->overhead = (struct claim_size){ 0 };
}

static CO int create_sandbox(struct service *s,
			     const Containerd__Runtime__Sandbox__V1__CreateSandboxRequest *req,
			     struct err *err)
{
	struct vm_config cfg = s->options->vm;
	CO_LOCK(&s->vm_lock);

	if (s->closing)
		return err_set(err, -ERR_STATE, "the shim is being shut down");
	if (s->sandbox.id)
		return err_set(err, -ERR_EXISTS, "sandbox already exists with ID %s",
			       s->sandbox.id);
	if (vm_state(s->vm) != VM_NOT_CREATED)
		return err_set(err, -ERR_STATE, "this shim runs a task without a sandbox");

	int r = read_request(s, req, &cfg, err);

	if (r >= 0)
		r = service_create_vm(s, &cfg, err);
	if (r < 0) {
		sandbox_clear(&s->sandbox);
		return r;
	}
	s->sandbox.id = mem_strdup(req->sandbox_id);
	s->sandbox.netns = str_empty(req->netns_path) ? NULL : mem_strdup(req->netns_path);
	s->sandbox.created_at = time_real_ns();
	return 0;
}

HANDLER(sandbox_create)
{
	REQUEST(CreateSandboxRequest);
	struct service *s = ctx;

	s->touched = true;
	if (!str_id_valid(req->sandbox_id))
		return err_set(err, -ERR_INVALID, "sandbox id \"%s\" is not valid",
			       req->sandbox_id);

	int r = create_sandbox(s, req, err);

	return r < 0 ? err_wrap(err, r, "create sandbox %s", req->sandbox_id) : 0;
}

/* ---- Start, Stop, Shutdown ---- */

static CO int start_sandbox(struct service *s, struct err *err)
{
	const struct network_config network = { .netns = s->sandbox.netns,
						.dns_servers = s->sandbox.dns_servers,
						.dns_search = s->sandbox.dns_search,
						.dns_options = s->sandbox.dns_options,
						.policy_routing = s->policy_routing };
	CO_LOCK(&s->vm_lock);

	int r = service_start_vm(s, err);

	if (r < 0 || s->sandbox.pod)
		return r;
	claim_init(&s->sandbox.claim, s->sandbox.id, s->sandbox.id);
	s->sandbox.claim.sum = true;
	if (s->sandbox.size.memory || s->sandbox.size.quota)
		r = sizing_claim(vm_sizing(s->vm), &s->sandbox.claim, &s->sandbox.size, err);
	if (r >= 0)
		r = pod_get(vm_pods(s->vm), s->sandbox.id, &network, &s->sandbox.pod, err);
	if (r < 0)
		claim_release(&s->sandbox.claim);
	return r;
}

/* Clients name the namespaces of the process that they are told; the guest has its own instead. */
HANDLER(sandbox_start)
{
	REQUEST(StartSandboxRequest);
	REPLY(StartSandboxResponse);
	struct service *s = ctx;

	if (!s->sandbox.id)
		return err_set(err, -ERR_STATE, "start sandbox %s: it was not created",
			       req->sandbox_id);

	int r = require(s, req->sandbox_id, err);

	if (r >= 0)
		r = start_sandbox(s, err);
	if (r < 0)
		return err_wrap(err, r, "start sandbox %s", req->sandbox_id);
	rep->pid = (uint32_t)vm_pid(s->vm);
	rep->created_at = pb_time(vm_started_at(s->vm));
	return 0;
}

HANDLER(sandbox_stop)
{
	REQUEST(StopSandboxRequest);
	struct service *s = ctx;
	int r = require(s, req->sandbox_id, err);

	if (r < 0)
		return r;
	service_stop(s, req->timeout_secs * USEC_PER_SEC);
	return 0;
}

/* Clients send it after a Create that failed, too. */
HANDLER(sandbox_shutdown)
{
	REQUEST(ShutdownSandboxRequest);
	struct service *s = ctx;

	if (s->sandbox.id && !str_eq(s->sandbox.id, req->sandbox_id))
		return require(s, req->sandbox_id, err);
	service_shutdown(s);
	return 0;
}

/* ---- Wait ---- */

struct sandbox_waiter {
	struct list link;
	struct ttrpc_call *call;
};

static void fill_wait(const struct service *s, ProtobufCMessage *reply)
{
	REPLY(WaitSandboxResponse);
	uint64_t when = vm_exited_at(s->vm);

	rep->exit_status = vm_exit_status(s->vm);
	/* A VM that never ran has not ended, but is no more. */
	rep->exited_at = pb_time(when ? when : time_real_ns());
}

HANDLER(sandbox_wait)
{
	REQUEST(WaitSandboxRequest);
	struct service *s = ctx;
	int r = require(s, req->sandbox_id, err);

	if (r < 0)
		return r;
	if (vm_state(s->vm) == VM_TERMINATED) {
		fill_wait(s, reply);
		return 0;
	}

	struct sandbox_waiter *w = NEW0(struct sandbox_waiter);

	ttrpc_park(call);
	w->call = call;
	list_append(&s->sandbox.waiters, &w->link);
	return TTRPC_PARKED;
}

void sandbox_answer_waits(struct service *s)
{
	LIST_FOR_EACH_SAFE(link, &s->sandbox.waiters) {
		struct sandbox_waiter *w = LIST_ENTRY(link, struct sandbox_waiter, link);

		fill_wait(s, ttrpc_parked_reply(w->call));
		list_remove(&w->link);
		ttrpc_reply(w->call, 0, NULL);
		free(w);
	}
}

void sandbox_free(struct service *s)
{
	sandbox_answer_waits(s);
	sandbox_clear(&s->sandbox);
}

/* ---- what there is ---- */

HANDLER(sandbox_platform)
{
	REQUEST(PlatformRequest);
	REPLY(PlatformResponse);
	int r = require(ctx, req->sandbox_id, err);

	if (r < 0)
		return r;
	rep->platform = pb_new(&containerd__types__platform__descriptor);
	pb_str(&rep->platform->os, "linux");
	pb_str(&rep->platform->architecture, "amd64");
	return 0;
}

static const char *state_word(const struct service *s)
{
	return vm_state(s->vm) == VM_RUNNING ? "SANDBOX_READY" : "SANDBOX_NOTREADY";
}

static void fill_info(const struct service *s, ProtobufCMessage *reply)
{
	REPLY(SandboxStatusResponse);
	_cleanup_free_ char *pid = str_printf("%u", rep->pid);
	_cleanup_free_ char *memory =
		str_printf("%llu", (unsigned long long)vm_memory_mb(s->vm) << 20);
	_cleanup_free_ char *cpus = str_printf("%u", vm_cpus(s->vm));

	pb_map_set(reply, "info", "pid", pid);
	pb_map_set(reply, "info", "state", rep->state);
	pb_map_set(reply, "info", "vm", vm_state_name(vm_state(s->vm)));
	pb_map_set(reply, "info", "memory", memory);
	pb_map_set(reply, "info", "cpus", cpus);
	if (s->sandbox.netns)
		pb_map_set(reply, "info", "networkSandboxPath", s->sandbox.netns);
}

/* Asked by name again after a restart of the daemon, and after the end of the VM. */
HANDLER(sandbox_status)
{
	REQUEST(SandboxStatusRequest);
	REPLY(SandboxStatusResponse);
	const struct service *s = ctx;
	int r = require(s, req->sandbox_id, err);

	if (r < 0)
		return r;

	uint64_t started = vm_started_at(s->vm);

	pb_str(&rep->sandbox_id, s->sandbox.id);
	rep->pid = vm_state(s->vm) == VM_RUNNING ? (uint32_t)vm_pid(s->vm) : 0;
	pb_str(&rep->state, state_word(s));
	rep->created_at = pb_time(started ? started : s->sandbox.created_at);
	rep->exited_at = pb_time(vm_exited_at(s->vm));
	if (req->verbose)
		fill_info(s, reply);
	return 0;
}

HANDLER(sandbox_ping)
{
	REQUEST(PingRequest);
	struct service *s = ctx;
	int r = require(s, req->sandbox_id, err);

	if (r < 0)
		return r;
	CO_LIMIT(PING_SEC * USEC_PER_SEC);
	r = vm_ping(s->vm, err);
	return r < 0 ? err_wrap(err, r, "ping sandbox %s", req->sandbox_id) : 0;
}

/* Of the VM as the host sees it; asked every second, so that nobody is woken for it. */
HANDLER(sandbox_metrics)
{
	REQUEST(SandboxMetricsRequest);
	REPLY(SandboxMetricsResponse);
	const struct service *s = ctx;
	Io__Containerd__Cgroups__V2__Metrics metrics = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
	Io__Containerd__Cgroups__V2__CPUStat cpu = IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
	Io__Containerd__Cgroups__V2__MemoryStat memory =
		IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
	struct vm_stats stats;
	int r = require(s, req->sandbox_id, err);

	if (r >= 0)
		r = vm_get_stats(s->vm, &stats, err);
	if (r < 0)
		return r;
	cpu.usage_usec = stats.cpu_user_usec + stats.cpu_system_usec;
	cpu.user_usec = stats.cpu_user_usec;
	cpu.system_usec = stats.cpu_system_usec;
	memory.usage = stats.memory;
	metrics.cpu = &cpu;
	metrics.memory = &memory;
	rep->metrics = pb_new(&containerd__types__metric__descriptor);
	rep->metrics->timestamp = pb_time(time_real_ns());
	pb_str(&rep->metrics->id, s->sandbox.id);
	rep->metrics->data = pb_any(&metrics.base);
	return 0;
}

#define ROW(name, request, reply, handler) \
	{ \
		name, &containerd__runtime__sandbox__v1__##request##__descriptor, \
			&containerd__runtime__sandbox__v1__##reply##__descriptor, handler \
	}

static const struct ttrpc_method methods[] = {
	ROW("CreateSandbox", create_sandbox_request, create_sandbox_response, sandbox_create),
	ROW("StartSandbox", start_sandbox_request, start_sandbox_response, sandbox_start),
	ROW("Platform", platform_request, platform_response, sandbox_platform),
	ROW("StopSandbox", stop_sandbox_request, stop_sandbox_response, sandbox_stop),
	ROW("WaitSandbox", wait_sandbox_request, wait_sandbox_response, sandbox_wait),
	ROW("SandboxStatus", sandbox_status_request, sandbox_status_response, sandbox_status),
	ROW("PingSandbox", ping_request, ping_response, sandbox_ping),
	ROW("ShutdownSandbox", shutdown_sandbox_request, shutdown_sandbox_response,
	    sandbox_shutdown),
	ROW("SandboxMetrics", sandbox_metrics_request, sandbox_metrics_response, sandbox_metrics),
};

const struct ttrpc_service sandbox_service = { "containerd.runtime.sandbox.v1.Sandbox", methods,
					       ARRAY_SIZE(methods) };
