/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "guest/guest.h"
#include "loop/loop.h"
#include "service/service_priv.h"
#include "shimdiag.pb-c.h"
#include "wire/json.h"
#include "wire/pb.h"

/* hcsshim's ShimDiag: a look into the shim and its VM, for who debugs them. */

enum { STACKS_SEC = 5, KILL_SEC = 5 };

#define REQUEST(type) \
	const Containerd__Runhcs__V1__Diag__##type *req = \
		(const Containerd__Runhcs__V1__Diag__##type *)request
#define REPLY(type) \
	Containerd__Runhcs__V1__Diag__##type *rep = (Containerd__Runhcs__V1__Diag__##type *)reply
#define HANDLER(name) \
	static CO int name(struct ttrpc_call *call, const ProtobufCMessage *request, \
			   ProtobufCMessage *reply, void *ctx, struct err *err)

/* ---- exec in the VM ---- */

static struct json_object *program_of(const Containerd__Runhcs__V1__Diag__ExecProcessRequest *req)
{
	struct json_object *o = json_object_new_object();
	struct json_object *args = json_object_new_array();
	struct json_object *env = json_object_new_array();

	for (size_t i = 0; i < req->n_args; i++)
		json_object_array_add(args, json_object_new_string(req->args[i]));
	json_object_array_add(env, json_object_new_string("PATH=/usr/local/sbin:/usr/local/bin:/"
							  "usr/sbin:/usr/bin:/sbin:/bin"));
	json_object_object_add(o, "args", args);
	json_object_object_add(o, "env", env);
	json_object_object_add(o, "cwd",
			       json_object_new_string(str_empty(req->workdir) ? "/"
									      : req->workdir));
	json_object_object_add(o, "terminal", json_object_new_boolean(req->terminal));
	return o;
}

/* Nobody is left to tell its exit to. */
static CO void end_unwanted(struct process *p)
{
	CO_SHIELD(KILL_SEC * USEC_PER_SEC);

	process_kill(p, SIGKILL, NULL);
}

static CO int run_program(struct process *p, const struct stdio_paths *io,
			  struct json_object *program, uint32_t *ret, struct err *err)
{
	struct process_status status;
	int r = process_create(p, io, program, err);

	if (r >= 0)
		r = process_start(p, NULL, NULL, err);
	if (r < 0)
		return r;
	process_release_exit(p);
	r = process_wait(p);
	if (r < 0) {
		end_unwanted(p);
		return err_sys(err, r, "wait for its end");
	}
	process_get_status(p, &status);
	*ret = status.exit_status;
	return 0;
}

/* An exit status that is not 0 is an answer, not an error. */
HANDLER(diag_exec)
{
	REQUEST(ExecProcessRequest);
	REPLY(ExecProcessResponse);
	struct service *s = ctx;
	const struct stdio_paths io = {
		.in = req->stdin,
		.out = req->stdout,
		.err = req->stderr,
		.terminal = req->terminal,
		.logger = { .namespace = s->env.namespace, .run_dir = s->env.run_dir },
	};
	uint32_t status = 0;
	int r = vm_require_running(s->vm, err);

	if (r < 0)
		return r;
	if (req->n_args == 0 || str_empty(req->args[0]))
		return err_set(err, -ERR_INVALID, "no command was given");

	struct process *p = process_new(s->env.process_ops, s->env.guest, NULL, "diag");

	r = run_program(p, &io, program_of(req), &status, err);
	process_free(p);
	if (r < 0)
		return err_wrap(err, r, "%s in the VM", req->args[0]);
	rep->exit_code = (int32_t)status;
	return 0;
}

/* ---- what there is ---- */

static CO char *guest_stacks_text(struct service *s)
{
	CO_LIMIT(STACKS_SEC * USEC_PER_SEC);
	struct err err = { 0 };
	char *text = NULL;

	if (guest_stacks(s->env.guest, &text, &err) < 0)
		return mem_strdup(err.text);
	return text;
}

HANDLER(diag_stacks)
{
	REPLY(StacksResponse);
	struct service *s = ctx;
	_cleanup_free_ char *own = NULL, *guest = NULL;
	size_t len;
	int r = vm_require_running(s->vm, err);

	if (r < 0)
		return r;

	FILE *out = open_memstream(&own, &len);

	if (!out)
		return err_sys(err, -errno, "dump");
	loop_dump(out);
	fclose(out);
	guest = guest_stacks_text(s);
	pb_str(&rep->stacks, own);
	pb_str(&rep->guest_stacks, guest);
	return 0;
}

static const char *state_word(enum process_state state)
{
	static const char *const words[] = {
		[PROCESS_NOT_CREATED] = "UNKNOWN",
		[PROCESS_CREATED] = "CREATED",
		[PROCESS_RUNNING] = "RUNNING",
		[PROCESS_TERMINATED] = "STOPPED",
	};

	return words[state];
}

static void add_execs(Containerd__Runhcs__V1__Diag__Task *to, const struct container *c)
{
	_cleanup_free_ struct process_status *all = NULL;
	size_t n = container_processes(c, &all);

	for (size_t i = 0; i < n; i++) {
		if (str_empty(all[i].exec_id))
			continue;

		Containerd__Runhcs__V1__Diag__Exec *e =
			pb_new(&containerd__runhcs__v1__diag__exec__descriptor);

		pb_str(&e->id, all[i].exec_id);
		pb_str(&e->state, state_word(all[i].state));
		pb_append(&to->base, "execs", &e->base);
	}
}

HANDLER(diag_tasks)
{
	REQUEST(TasksRequest);
	REPLY(TasksResponse);
	struct service *s = ctx;
	int r = vm_require_running(s->vm, err);

	if (r < 0)
		return r;
	MAP_FOR_EACH(entry, &s->tasks) {
		const struct task *t = entry->value;

		if (!t->created)
			continue;

		Containerd__Runhcs__V1__Diag__Task *to =
			pb_new(&containerd__runhcs__v1__diag__task__descriptor);

		pb_str(&to->id, t->id);
		if (req->execs)
			add_execs(to, t->container);
		pb_append(&rep->base, "tasks", &to->base);
	}
	return 0;
}

HANDLER(diag_pid)
{
	REPLY(PidResponse);

	rep->pid = getpid();
	return 0;
}

HANDLER(diag_share)
{
	return err_set(err, -ERR_UNIMPLEMENTED,
		       "DiagShare is not supported by io.containerd.lcow.v2");
}

#define ROW(name, request, reply, ...) \
	{ \
		name, &containerd__runhcs__v1__diag__##request##__descriptor, \
			&containerd__runhcs__v1__diag__##reply##__descriptor, __VA_ARGS__ \
	}

static const struct ttrpc_method methods[] = {
	ROW("DiagExecInHost", exec_process_request, exec_process_response, diag_exec, true),
	ROW("DiagStacks", stacks_request, stacks_response, diag_stacks),
	ROW("DiagTasks", tasks_request, tasks_response, diag_tasks),
	ROW("DiagShare", share_request, share_response, diag_share),
	ROW("DiagPid", pid_request, pid_response, diag_pid),
};

const struct ttrpc_service diag_service = { "containerd.runhcs.v1.diag.ShimDiag", methods,
					    ARRAY_SIZE(methods) };
