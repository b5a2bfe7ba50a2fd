/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/sizing.h"

#include "controller/fixture.h"
#include "vmm/vmm.h"

enum { BOOT_MB = 512, MAX_MB = 4096, OVERHEAD_MB = 128, BOOT_CPUS = 1, MAX_CPUS = 4 };
#define MIB (1ull << 20)

static struct fake f;
static struct sizing *s;
static uint64_t mb;
static unsigned n_cpus;
static int limit_code;
static struct claim a, b, pause_box, c;

static uint64_t on_memory(void *ctx)
{
	return mb;
}

static unsigned on_cpus(void *ctx)
{
	return n_cpus;
}

static CO int on_grow_memory(void *ctx, uint64_t want, struct err *err)
{
	int r = fake_call(ctx, err, "memory %llu", (unsigned long long)want);

	if (r >= 0)
		mb = want;
	return r;
}

static CO int on_grow_cpus(void *ctx, unsigned want, struct err *err)
{
	int r = fake_call(ctx, err, "cpus %u", want);

	if (r >= 0)
		n_cpus = want;
	return r;
}

static CO int on_limit(void *ctx, struct err *err)
{
	int r = fake_call(ctx, err, "limit");

	return r < 0 ? r : limit_code;
}

static const struct sizing_ops ops = {
	on_memory, on_cpus, on_grow_memory, on_grow_cpus, on_limit,
};

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	fake_init(&f);
	mb = BOOT_MB;
	n_cpus = BOOT_CPUS;
	limit_code = 0;
	s = sizing_new(&ops, &f,
		       &(struct vm_config){ .max_memory_mb = MAX_MB,
					    .overhead_mb = OVERHEAD_MB,
					    .max_cpus = MAX_CPUS });
	/* a and b are alone; c belongs to pod p, whose sandbox container is p. */
	claim_init(&a, "a", "a");
	claim_init(&b, "b", "b");
	claim_init(&pause_box, "p", "p");
	claim_init(&c, "c", "p");
}

static void teardown(void)
{
	s = sizing_free(s);
	fake_free(&f);
	loop_fini();
}

struct call {
	struct claim *claim;
	struct claim_size size;
	int result;
	struct err err;
};

static CO void claim_main(void *arg)
{
	struct call *call = arg;

	call->result = sizing_claim(s, call->claim, &call->size, &call->err);
}

static struct call last;

static int claim(struct claim *what, uint64_t memory, uint64_t quota, uint64_t period)
{
	memset(&last, 0, sizeof(last));
	last.claim = what;
	last.size = (struct claim_size){ memory, quota, period };
	in_coroutine(claim_main, &last);
	return last.result;
}

static void expect(const char *calls)
{
	ck_assert_str_eq(fake_calls(&f), calls);
}

START_TEST(what_fits_asks_nothing_of_the_VM)
{
	ck_assert_int_eq(claim(&a, 0, 0, 0), 0);
	ck_assert_int_eq(claim(&a, 256 * MIB, 100000, 100000), 0);
	expect("");
}
END_TEST

START_TEST(memory_comes_before_CPUs_and_the_pods_limit_last)
{
	ck_assert_int_eq(claim(&a, 1024 * MIB, 250000, 100000), 0);
	expect("memory 1168;cpus 3;limit;");
	ck_assert_int_eq(claim(&a, 1024 * MIB, 250000, 100000), 0);
	expect("");
}
END_TEST

START_TEST(the_claims_of_all_containers_add_up_and_end_with_their_release)
{
	ck_assert_int_eq(claim(&a, 640 * MIB, 50000, 0), 0);
	expect("memory 778;limit;");
	ck_assert_int_eq(claim(&b, 640 * MIB + 1, 50001, 0), 0);
	expect("memory 1429;cpus 2;limit;");
	claim_release(&a);
	claim_release(&a);
	ck_assert_int_eq(claim(&a, 512 * MIB, 50000, 0), 0);
	expect("");
}
END_TEST

START_TEST(a_pod_needs_the_larger_of_its_sandbox_and_its_containers)
{
	ck_assert_int_eq(claim(&pause_box, 1024 * MIB, 200000, 100000), 0);
	expect("memory 1168;cpus 2;limit;");
	ck_assert_int_eq(claim(&c, 1024 * MIB, 200000, 100000), 0);
	expect("");
	ck_assert_int_eq(claim(&c, 1088 * MIB, 300000, 100000), 0);
	expect("memory 1233;cpus 3;limit;");
	/* Other pods come on top. */
	ck_assert_int_eq(claim(&a, 64 * MIB, 100000, 100000), 0);
	expect("memory 1298;cpus 4;limit;");
}
END_TEST

START_TEST(what_does_not_fit_is_refused_with_three_numbers_and_changes_nothing)
{
	ck_assert_int_eq(claim(&a, 300 * MIB, 0, 0), 0);
	ck_assert_int_eq(claim(&b, 3700 * MIB, 0, 0), -ERR_EXHAUSTED);
	ck_assert_msg(strstr(last.err.text, "need 4190 MiB of memory: it has 512, and 4096"), "%s",
		      last.err.text);
	ck_assert_int_eq(claim(&b, 0, 400001, 100000), -ERR_EXHAUSTED);
	ck_assert_msg(strstr(last.err.text, "need 5 CPUs: it has 1, and 4"), "%s", last.err.text);
	ck_assert_int_eq(claim(&b, UINT64_MAX / 2, UINT64_MAX / 2, 1), -ERR_EXHAUSTED);
	expect("");
	ck_assert_uint_eq(b.size.memory, 0);
	ck_assert_uint_eq(a.size.memory, 300 * MIB);
	/* And what was there before is what still counts. */
	ck_assert_int_eq(claim(&b, 3600 * MIB, 0, 0), 0);
	expect("memory 4088;limit;");
}
END_TEST

START_TEST(CPU_time_is_shared_beyond_the_maximum)
{
	ck_assert_int_eq(claim(&a, 0, 300000, 100000), 0);
	ck_assert_int_eq(claim(&b, 0, 300000, 100000), 0);
	expect("cpus 3;cpus 4;");
	ck_assert_int_eq(claim(&c, 0, 300000, 100000), 0);
	expect("");
}
END_TEST

static const char *const steps[] = { "memory 1168;", "memory 1168;cpus 2;",
				     "memory 1168;cpus 2;limit;" };

/* _i is the step that fails: memory, CPUs, limit. */
START_TEST(a_step_that_fails_leaves_the_claim_as_it_was_and_what_grew)
{
	ck_assert_int_eq(claim(&a, 64 * MIB, 1000, 0), 0);
	f.fail_at = f.n_calls + 1 + (unsigned)_i;
	ck_assert_int_eq(claim(&a, 1024 * MIB, 200000, 100000), -EIO);
	expect(steps[_i]);
	ck_assert_uint_eq(a.size.memory, 64 * MIB);
	ck_assert_uint_eq(a.size.quota, 1000);
	ck_assert_uint_eq(mb, _i > 0 ? 1168 : BOOT_MB);
	ck_assert_uint_eq(n_cpus, _i > 1 ? 2 : BOOT_CPUS);
	/* The next one that goes through has the limit raised for what grew, whatever it asks. */
	ck_assert_int_eq(claim(&b, 0, 0, 0), 0);
	expect("limit;");
	ck_assert_int_eq(claim(&b, 0, 0, 0), 0);
	expect("");
}
END_TEST

START_TEST(an_agent_without_a_pods_limit_needs_none_raised)
{
	limit_code = -ERR_UNIMPLEMENTED;
	ck_assert_int_eq(claim(&a, 1024 * MIB, 0, 0), 0);
	expect("memory 1168;limit;");
	ck_assert_int_eq(claim(&a, 1024 * MIB, 0, 0), 0);
	expect("");
}
END_TEST

START_TEST(claims_that_come_together_add_up_in_their_order)
{
	static struct call one, two;

	one = (struct call){ .claim = &a, .size = { .memory = 1024 * MIB } };
	two = (struct call){ .claim = &b, .size = { .memory = 1024 * MIB } };
	f.hold_at = "memory 1168";
	co_spawn("one", claim_main, &one, USEC_NEVER);
	co_spawn("two", claim_main, &two, USEC_NEVER);
	run_for(20);
	expect("memory 1168;");
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(one.result, 0);
	ck_assert_int_eq(two.result, 0);
	expect("limit;memory 2208;limit;");
}
END_TEST

/* limits of the pod (MiB, milli CPUs) and its overhead, and what the VM boots with; of the VM's own
 * overhead there are 128 MiB unless the row says so */
static const struct {
	uint64_t memory, milli, overhead, overhead_milli;
	uint64_t mb;
	unsigned cpus;
	uint64_t own_mb;
} boots[] = {
	{ 0, 0, 0, 0, BOOT_MB, BOOT_CPUS },
	{ 64, 500, 0, 0, BOOT_MB, BOOT_CPUS },
	{ 1024, 1500, 0, 0, 1168, 2 },
	{ 1024, 1500, 100, 600, 1168, 3 }, /* less than the VM's own */
	{ 1024, 0, 512, 600, 1536, BOOT_CPUS },
	{ 0, 0, 2048, 3000, BOOT_MB, BOOT_CPUS }, /* without limits of containers */
	{ 0, 9000, 0, 0, BOOT_MB, MAX_CPUS },
	{ 1025, 0, 0, 0, 1170, BOOT_CPUS }, /* an even number */
	{ 1024, 0, 0, 0, 1240, BOOT_CPUS, 200 },
};

START_TEST(a_VM_boots_as_large_as_its_pod_is_known_to_become)
{
	struct vm_config cfg = { .memory_mb = BOOT_MB,
				 .max_memory_mb = MAX_MB,
				 .overhead_mb = boots[_i].own_mb ? boots[_i].own_mb : OVERHEAD_MB,
				 .cpus = BOOT_CPUS,
				 .max_cpus = MAX_CPUS };
	const struct claim_size pod = { .memory = boots[_i].memory * MIB,
					.quota = boots[_i].milli * 100 };
	const struct claim_size overhead = { .memory = boots[_i].overhead * MIB,
					     .quota = boots[_i].overhead_milli * 100 };

	ck_assert_int_eq(sizing_boot(&cfg, &pod, &overhead, NULL), 0);
	ck_assert_uint_eq(cfg.memory_mb, boots[_i].mb);
	ck_assert_uint_eq(cfg.cpus, boots[_i].cpus);
}
END_TEST

START_TEST(a_pod_that_needs_more_than_the_maximum_is_refused_before_it_boots)
{
	struct vm_config cfg = { .memory_mb = BOOT_MB,
				 .max_memory_mb = MAX_MB,
				 .overhead_mb = OVERHEAD_MB,
				 .cpus = BOOT_CPUS };
	const struct claim_size pod = { .memory = MAX_MB * MIB, .quota = 400000 };
	struct err err = { 0 };

	ck_assert_int_eq(sizing_boot(&cfg, &pod, &(struct claim_size){ 0 }, &err), -ERR_EXHAUSTED);
	ck_assert_ptr_nonnull(strstr(err.text, "4288"));
	ck_assert_ptr_nonnull(strstr(err.text, "4096"));
	ck_assert_uint_eq(cfg.memory_mb, BOOT_MB);
	ck_assert_uint_eq(cfg.cpus, BOOT_CPUS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("controller sizing");
	TCase *tc = tcase_create("sizing");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_fits_asks_nothing_of_the_VM);
	tcase_add_test(tc, memory_comes_before_CPUs_and_the_pods_limit_last);
	tcase_add_test(tc, the_claims_of_all_containers_add_up_and_end_with_their_release);
	tcase_add_test(tc, a_pod_needs_the_larger_of_its_sandbox_and_its_containers);
	tcase_add_test(tc, what_does_not_fit_is_refused_with_three_numbers_and_changes_nothing);
	tcase_add_test(tc, CPU_time_is_shared_beyond_the_maximum);
	tcase_add_loop_test(tc, a_step_that_fails_leaves_the_claim_as_it_was_and_what_grew, 0, 3);
	tcase_add_test(tc, an_agent_without_a_pods_limit_needs_none_raised);
	tcase_add_test(tc, claims_that_come_together_add_up_in_their_order);
	tcase_add_loop_test(tc, a_VM_boots_as_large_as_its_pod_is_known_to_become, 0,
			    ARRAY_SIZE(boots));
	tcase_add_test(tc, a_pod_that_needs_more_than_the_maximum_is_refused_before_it_boots);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
