/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SERVICE_SERVICE_PRIV_H
#define LCOW_SERVICE_SERVICE_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "controller/container.h"
#include "controller/pod.h"
#include "controller/sizing.h"
#include "controller/vm.h"
#include "service/publisher.h"
#include "service/service.h"

/**
 * struct sandbox - the pod or pods of the Sandbox API
 * @id:		NULL before CreateSandbox
 * @netns:	path of its network namespace, NULL for none
 * @dns_servers, @dns_search, @dns_options: of its PodSandboxConfig, comma separated; NULL for none
 * @hostname:	likewise, for containers that bring none
 * @cgroup:	likewise, of its VM on the host; NULL for none
 * @sysctls:	likewise, of the namespaces that its containers share; NULL for none
 * @size, @claim: likewise, what its containers will ask for together
 * @overhead:	likewise, what it may use beside them
 * @pod:	held from StartSandbox on
 * @created_at:	CLOCK_REALTIME ns
 * @waiters:	parked WaitSandbox calls (struct sandbox_waiter)
 */
struct sandbox {
	char *id;
	char *netns;
	char *dns_servers;
	char *dns_search;
	char *dns_options;
	char *hostname;
	char *cgroup;
	struct json_object *sysctls;
	struct claim_size size;
	struct claim_size overhead;
	struct claim claim;
	struct pod *pod;
	uint64_t created_at;
	struct list waiters;
};

/**
 * struct service - see service.h
 * @tasks:	id → struct task
 * @vm_lock:	held while the VM is made and started: Creates that come together wait for the first
 * @sandbox:	what CreateSandbox made; without an id, the first Task.Create makes the VM
 * @deny_writable_shares: the configuration says so, or an annotation of who makes the VM
 * @policy_routing: an annotation of who makes the VM: see struct network_config
 * @touched:	a Create has been asked for
 * @closing:	service_shutdown() was called
 */
struct service {
	const struct service_options *options;
	struct sandbox sandbox;
	struct publisher *publisher;
	struct vm *vm;
	struct boot_files boot;
	struct container_env env;
	struct map tasks;
	struct co_mutex vm_lock;
	bool deny_writable_shares;
	bool policy_routing;
	bool touched;
	bool closing;
};

/**
 * struct task - a container as containerd knows it
 * @refs:	the table's, and one for each call under way: the last one frees
 * @pod:	what it belongs to, from Create until its Delete
 * @created:	Create has succeeded; until then nobody but Create sees it
 * @oom_kills:	how many out-of-memory kills were published
 * @waiters:	parked Waits (struct waiter)
 */
struct task {
	struct service *service;
	char *id;
	struct container *container;
	struct pod *pod;
	unsigned refs;
	bool created;
	uint64_t oom_kills;
	struct list waiters;
};

/** task_not_found() - -ERR_NOT_FOUND, in the words that clients match in runc's answers */
int task_not_found(const char *id, struct err *err);
/** task_find() - a reference to a created task, NULL when there is none */
struct task *task_find(struct service *s, const char *id);
void task_put(struct task *t);
static inline void task_putp(struct task **t)
{
	if (*t)
		task_put(*t);
}
#define _cleanup_task_ __attribute__((cleanup(task_putp)))

/**
 * task_new() - enter an id into the table (with the table's reference and one for the caller); NULL
 * when it is taken
 */
struct task *task_new(struct service *s, const char *id, const char *pod);
/**
 * task_remove() - take it out of the table; Waits that are left are answered with @status (NULL:
 * NotFound)
 */
void task_remove(struct task *t, const struct process_status *status);

/** task_park_wait() - answer this Wait once the process has ended */
void task_park_wait(struct task *t, const char *exec_id, struct ttrpc_call *call);
/** task_answer_waits() - answer the parked Waits for a process */
void task_answer_waits(struct task *t, const struct process_status *status);

/**
 * service_read_config() - config.json of a bundle, untouched when there is none
 * Return: 0 with one reference, or -ERR_INVALID naming the file
 */
int service_read_config(const char *bundle, struct json_object **ret, struct err *err);
/**
 * service_read_annotations() - what they say of the VM, and of its shares and scratch disks;
 * before service_create_vm()
 * @annotations: of a sandbox, or of the container that makes the VM; NULL for none
 *
 * Return: 0; -ERR_INVALID naming an annotation of hcsshim's that cannot be read; -ERR_EXHAUSTED
 * when the pod's limits need a larger VM than there may be
 */
int service_read_annotations(struct service *s, struct json_object *annotations,
			     struct vm_config *cfg, struct err *err);
/**
 * service_create_vm() - create the VM, for who holds @vm_lock
 * @cfg:	borrowed, but for its strings
 */
CO int service_create_vm(struct service *s, const struct vm_config *cfg, struct err *err);
/**
 * service_start_vm() - start a VM that was created, for who holds @vm_lock; Return: 0, -ERR_STATE
 * when it was not or has ended, or what failed
 */
CO int service_start_vm(struct service *s, struct err *err);
/**
 * service_ensure_vm() - create and start the VM unless it runs; that of a sandbox only
 * StartSandbox starts
 * @spec:	config.json of the task that needs it: see service_read_annotations(), and its
 *		cgroupsPath is the VM's
 *
 * Return: 0, -ERR_STATE when it has ended, or what failed
 */
CO int service_ensure_vm(struct service *s, struct json_object *spec, struct err *err);
/**
 * service_stop() - end every task, and then the VM
 * @usec:	how long the tasks have after SIGTERM; 0: no time, and no signal
 */
CO void service_stop(struct service *s, uint64_t usec);

/** sandbox_answer_waits() - the VM has ended, or the service does: answer every WaitSandbox */
void sandbox_answer_waits(struct service *s);
/** sandbox_free() - what it holds; waits that are left are answered */
void sandbox_free(struct service *s);

/** task_pause(), task_resume(), task_stats() - handlers of Task.Pause, Resume and Stats */
CO int task_pause(struct ttrpc_call *call, const ProtobufCMessage *request, ProtobufCMessage *reply,
		  void *ctx, struct err *err);
CO int task_resume(struct ttrpc_call *call, const ProtobufCMessage *request,
		   ProtobufCMessage *reply, void *ctx, struct err *err);
CO int task_stats(struct ttrpc_call *call, const ProtobufCMessage *request, ProtobufCMessage *reply,
		  void *ctx, struct err *err);
/** task_oom() - publish /tasks/oom; for guest_on_oom() with the service as its argument */
void task_oom(const char *container, uint64_t kills, void *arg);

/** task_update() - handler of Task.Update */
CO int task_update(struct ttrpc_call *call, const ProtobufCMessage *request,
		   ProtobufCMessage *reply, void *ctx, struct err *err);

extern const struct ttrpc_service task_service_v2;
extern const struct ttrpc_service task_service_v3;
extern const struct ttrpc_service sandbox_service;
extern const struct ttrpc_service diag_service;

#endif
