/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_UNIT_SERVICE_FIXTURE_H
#define LCOW_TESTS_UNIT_SERVICE_FIXTURE_H

#include "controller/fakevm.h"
#include "events.h"
#include "service/service.h"
#include "service/service_priv.h"
#include "task.pb-c.h"

/* The services over a real ttrpc connection, with a VM and a guest made of fakes, and a daemon that
 * takes the events. */

enum { WAIT_MS = 3000 };

static struct events_daemon d;
static struct service_options options;
static struct service *s;
static struct ttrpc_server *server;
static struct ttrpc_client *client;
static unsigned dones;
static size_t seen_when_done;
static unsigned clocks_set;

/* ---- the VM ---- */

static struct vm_config created; /* sizes of the VM that was made last */
static char created_cgroup[256]; /* and its cgroup, "" for none */
static void (*vm_exited)(void *arg);
static void *vm_exited_arg;

static CO int on_create(void *ctx, const struct vm_config *cfg, void (*fn)(void *arg), void *arg,
			struct err *err)
{
	vm_exited = fn;
	vm_exited_arg = arg;
	created = *cfg;
	snprintf(created_cgroup, sizeof(created_cgroup), "%s", cfg->cgroup ? cfg->cgroup : "");
	return 0;
}

static int on_listen(void *ctx, struct err *err)
{
	return 0;
}

static int boot_code; /* what the VM's start fails with */

static CO int on_boot(void *ctx, struct err *err)
{
	return boot_code;
}

/* With the bridge, every process is lost. */
static void on_disconnect(void *ctx)
{
	vm.gone = true;
	for (unsigned i = 0; i < vm.n_processes; i++) {
		if (vm.processes[i]->exited)
			vm.processes[i]->exited(255, true, vm.processes[i]->arg);
		vm.processes[i]->exited = NULL;
	}
}

static CO int on_terminate(void *ctx)
{
	vm_exited(vm_exited_arg);
	return 0;
}

static CO void on_drain_log(void *ctx, uint64_t usec) {}

static bool on_clean_exit(void *ctx)
{
	return true;
}

static char *on_last_words(void *ctx)
{
	return mem_strdup("");
}

static pid_t on_pid(void *ctx)
{
	return getpid();
}

static CO int on_ping(void *ctx, struct err *err)
{
	return guest_call_of(err, "ping");
}

static CO int on_set_clock(void *ctx, uint64_t unix_ns, struct err *err)
{
	clocks_set++;
	return 0;
}

static const struct vm_ops vm_ops = {
	.create = on_create,
	.listen = on_listen,
	.boot = on_boot,
	.connect = on_boot,
	.disconnect = on_disconnect,
	.terminate = on_terminate,
	.drain_log = on_drain_log,
	.clean_exit = on_clean_exit,
	.last_words = on_last_words,
	.pid = on_pid,
	.set_clock = on_set_clock,
	.ping = on_ping,
};

static inline CO void start_vm(void *arg)
{
	struct vm_config cfg = { .id = "c1" };

	ck_assert_int_eq(vm_create(s->vm, &cfg, false, NULL), 0);
	ck_assert_int_eq(vm_start(s->vm, NULL), 0);
}

static CO void end_vm(void *arg)
{
	ck_assert_int_eq(vm_terminate(s->vm, NULL), 0);
}

/* ---- the fixture ---- */

static void on_done(void *arg)
{
	dones++;
	seen_when_done = d.seen.len;
}

static void write_spec(const char *text)
{
	fake_file("bundle/config.json", text);
}

static void setup_without_vm(void)
{
	_cleanup_free_ char *path = NULL;
	int fd;

	fake_vm_init();
	memset(&d, 0, sizeof(d));
	d.path = str_printf("%s/events", vm.dir);
	events_up(&d);
	write_spec("{\"process\":{},\"root\":{\"path\":\"rootfs\"},\"linux\":{}}");
	options = (struct service_options){
		.namespace = "ns",
		.sandbox = "c1",
		.events = d.path,
		.done = on_done,
		.vm = { .memory_mb = 512,
			.max_memory_mb = 4096,
			.overhead_mb = 128,
			.cpus = 1,
			.max_cpus = 4 },
	};
	dones = 0;
	clocks_set = 0;
	s = service_new(&options);
	vm_set_ops(s->vm, &vm_ops, NULL);
	path = str_printf("%s/task", vm.dir);
	ck_assert_int_eq(ttrpc_server_new(sock_unix_listen(path, 0600), service_table, s, true,
					  &server),
			 0);
	fd = sock_unix_connect(path);
	ck_assert_int_eq(fd_nonblock(fd, true), 0);
	ck_assert_int_eq(ttrpc_client_new(fd, &client), 0);
}

static inline void setup(void)
{
	setup_without_vm();
	co_spawn("start", start_vm, NULL, USEC_NEVER);
	run_for(20);
	s->env = vm.env;
}

static void teardown(void)
{
	client = ttrpc_client_free(client);
	server = ttrpc_server_free(server);
	co_spawn("end", end_vm, NULL, USEC_NEVER);
	run_for(20);
	service_free(s);
	events_free(&d);
	fake_vm_free();
}

/**
 * struct rpc - a call and what became of it
 */
struct rpc {
	const char *service;
	const char *method;
	ProtobufCMessage *request;
	const ProtobufCMessageDescriptor *reply_type;
	ProtobufCMessage *reply;
	int code;
	bool done;
	struct err err;
};

static CO void call(void *arg)
{
	struct rpc *r = arg;

	r->code = ttrpc_client_call(client, r->service, r->method, "ns", r->request, r->reply_type,
				    &r->reply, &r->err);
	r->done = true;
}

static void begin(struct rpc *r, const char *method, void *request,
		  const ProtobufCMessageDescriptor *reply_type)
{
	memset(r, 0, sizeof(*r));
	r->service = "containerd.task.v3.Task";
	r->method = method;
	r->request = request;
	r->reply_type = reply_type;
	co_spawn("rpc", call, r, USEC_NEVER);
}

static int finish(struct rpc *r)
{
	for (int i = 0; i < WAIT_MS && !r->done; i++)
		run_for(1);
	ck_assert_msg(r->done, "%s is not answered", r->method);
	r->request = pb_free(r->request);
	return r->code;
}

static int code_of(struct rpc *r)
{
	int code = finish(r);

	r->reply = pb_free(r->reply);
	return code;
}

static const ProtobufCMessageDescriptor *const empty = &google__protobuf__empty__descriptor;

static void begin_create(struct rpc *r, const char *id, const char *out)
{
	Containerd__Task__V2__CreateTaskRequest *q =
		pb_new(&containerd__task__v2__create_task_request__descriptor);

	pb_str(&q->id, id);
	pb_str(&q->bundle, vm.bundle);
	pb_str(&q->stdout, out);
	begin(r, "Create", q, &containerd__task__v2__create_task_response__descriptor);
}

static int create(const char *id)
{
	static struct rpc r;

	begin_create(&r, id, "");
	return code_of(&r);
}

static void begin_start(struct rpc *r, const char *exec_id)
{
	Containerd__Task__V2__StartRequest *q =
		pb_new(&containerd__task__v2__start_request__descriptor);

	pb_str(&q->id, "c1");
	pb_str(&q->exec_id, exec_id);
	begin(r, "Start", q, &containerd__task__v2__start_response__descriptor);
}

static int start(const char *exec_id)
{
	static struct rpc r;

	begin_start(&r, exec_id);
	return code_of(&r);
}

static inline int add_exec(const char *exec_id)
{
	Containerd__Task__V2__ExecProcessRequest *q =
		pb_new(&containerd__task__v2__exec_process_request__descriptor);
	static struct rpc r;

	pb_str(&q->id, "c1");
	pb_str(&q->exec_id, exec_id);
	q->spec = pb_any_raw("types.containerd.io/opencontainers/runtime-spec/1/Process", "{}", 2);
	begin(&r, "Exec", q, empty);
	return code_of(&r);
}

static inline int shut_down(void)
{
	Containerd__Task__V2__ShutdownRequest *q =
		pb_new(&containerd__task__v2__shutdown_request__descriptor);
	static struct rpc r;

	pb_str(&q->id, "c1");
	begin(&r, "Shutdown", q, empty);
	return code_of(&r);
}

static inline void exit_of(unsigned n, uint32_t code)
{
	fake_exit(n, code);
	run_for(20);
}

#endif
