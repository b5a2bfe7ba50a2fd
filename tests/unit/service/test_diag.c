/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "shimdiag.pb-c.h"

#define TYPE(name) &containerd__runhcs__v1__diag__##name##__descriptor

static void ask(struct rpc *r, const char *method, void *request,
		const ProtobufCMessageDescriptor *reply_type)
{
	begin(r, method, request, reply_type);
	r->service = "containerd.runhcs.v1.diag.ShimDiag";
}

static void expect_call(const char *call)
{
	const char *calls = fake_calls(&vm.f);

	ck_assert_msg(strstr(calls, call), "%s is not among %s", call, calls);
}

static void begin_exec(struct rpc *r, const char *arg)
{
	Containerd__Runhcs__V1__Diag__ExecProcessRequest *q = pb_new(TYPE(exec_process_request));

	if (arg) {
		q->n_args = 1;
		q->args = NEW0(char *);
		q->args[0] = mem_strdup(arg);
	}
	ask(r, "DiagExecInHost", q, TYPE(exec_process_response));
	run_for(20);
}

START_TEST(a_program_in_the_vm_is_answered_with_its_exit_status)
{
	static struct rpc r;

	begin_exec(&r, "id");
	ck_assert(!r.done);
	expect_call("execute program;");
	exit_of(0, 7);
	ck_assert_int_eq(finish(&r), 0);
	ck_assert_int_eq(((Containerd__Runhcs__V1__Diag__ExecProcessResponse *)r.reply)->exit_code,
			 7);
	r.reply = pb_free(r.reply);
	ck_assert_uint_eq(vm.live_processes, 0);
}
END_TEST

START_TEST(a_program_that_cannot_be_started_names_itself)
{
	static struct rpc r;

	vm.f.fail_at = vm.f.n_calls + 1;
	begin_exec(&r, "nonesuch");
	ck_assert_int_lt(code_of(&r), 0);
	ck_assert_ptr_nonnull(strstr(r.err.text, "nonesuch"));
	begin_exec(&r, NULL);
	ck_assert_int_eq(code_of(&r), -ERR_INVALID);
	begin_exec(&r, "");
	ck_assert_int_eq(code_of(&r), -ERR_INVALID);
	ck_assert_uint_eq(vm.live_processes, 0);
}
END_TEST

START_TEST(a_program_ends_with_its_caller)
{
	static struct rpc r;

	begin_exec(&r, "sleep");
	ck_assert_uint_eq(vm.live_processes, 1);
	client = ttrpc_client_free(client);
	run_for(50);
	expect_call("signal program 9;");
	ck_assert_uint_eq(vm.live_processes, 0);
	pb_free(r.request);
}
END_TEST

START_TEST(tasks_and_their_execs_are_listed)
{
	Containerd__Runhcs__V1__Diag__TasksRequest *q = pb_new(TYPE(tasks_request));
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	q->execs = true;
	ask(&r, "DiagTasks", q, TYPE(tasks_response));
	ck_assert_int_eq(finish(&r), 0);

	const Containerd__Runhcs__V1__Diag__TasksResponse *reply = (const void *)r.reply;

	ck_assert_uint_eq(reply->n_tasks, 1);
	ck_assert_str_eq(reply->tasks[0]->id, "c1");
	ck_assert_uint_eq(reply->tasks[0]->n_execs, 1);
	ck_assert_str_eq(reply->tasks[0]->execs[0]->id, "e1");
	ck_assert_str_eq(reply->tasks[0]->execs[0]->state, "CREATED");
	r.reply = pb_free(r.reply);
}
END_TEST

START_TEST(execs_are_listed_on_request_only)
{
	static struct rpc r;

	ck_assert_int_eq(create("c1"), 0);
	ck_assert_int_eq(start(""), 0);
	ck_assert_int_eq(add_exec("e1"), 0);
	ask(&r, "DiagTasks", pb_new(TYPE(tasks_request)), TYPE(tasks_response));
	ck_assert_int_eq(finish(&r), 0);
	ck_assert_uint_eq(((Containerd__Runhcs__V1__Diag__TasksResponse *)r.reply)
				  ->tasks[0]
				  ->n_execs,
			  0);
	r.reply = pb_free(r.reply);
}
END_TEST

START_TEST(the_pid_is_the_shim_s)
{
	static struct rpc r;

	ask(&r, "DiagPid", pb_new(TYPE(pid_request)), TYPE(pid_response));
	ck_assert_int_eq(finish(&r), 0);
	ck_assert_int_eq(((Containerd__Runhcs__V1__Diag__PidResponse *)r.reply)->pid, getpid());
	r.reply = pb_free(r.reply);
}
END_TEST

START_TEST(a_share_for_the_vm_is_unimplemented)
{
	static struct rpc r;

	ask(&r, "DiagShare", pb_new(TYPE(share_request)), TYPE(share_response));
	ck_assert_int_eq(code_of(&r), -ERR_UNIMPLEMENTED);
}
END_TEST

START_TEST(without_a_running_vm_there_is_nothing_to_look_into)
{
	static struct rpc r;

	co_spawn("end", end_vm, NULL, USEC_NEVER);
	run_for(20);
	begin_exec(&r, "id");
	ck_assert_int_eq(code_of(&r), -ERR_STATE);
	ask(&r, "DiagTasks", pb_new(TYPE(tasks_request)), TYPE(tasks_response));
	ck_assert_int_eq(code_of(&r), -ERR_STATE);
	ask(&r, "DiagStacks", pb_new(TYPE(stacks_request)), TYPE(stacks_response));
	ck_assert_int_eq(code_of(&r), -ERR_STATE);
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_program_in_the_vm_is_answered_with_its_exit_status);
	tcase_add_test(t, a_program_that_cannot_be_started_names_itself);
	tcase_add_test(t, a_program_ends_with_its_caller);
	tcase_add_test(t, tasks_and_their_execs_are_listed);
	tcase_add_test(t, execs_are_listed_on_request_only);
	tcase_add_test(t, the_pid_is_the_shim_s);
	tcase_add_test(t, a_share_for_the_vm_is_unimplemented);
	tcase_add_test(t, without_a_running_vm_there_is_nothing_to_look_into);
}

int main(void)
{
	Suite *suite = suite_create("service diag");
	TCase *t = tcase_create("diag");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	add_tests(t);
	suite_add_tcase(suite, t);

	SRunner *r = srunner_create(suite);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
