/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/sizing.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/vmm.h"

/* The kernel's book-keeping takes a 64th of all memory. */
enum { OVERHEAD_SHARE = 64 };
/* A guest that hangs while it grows must not hold up every later claim. */
enum { GROW_SEC = 120 };
enum { DEFAULT_PERIOD = 100000, MILLI = 1000, CPUS_LIMIT = 1 << 20 };

/**
 * struct sizing - see sizing.h
 * @limit_due:	memory was plugged, and the guest has not been asked to raise its pods' limit since
 */
struct sizing {
	const struct sizing_ops *ops;
	void *ctx;
	uint64_t max_memory_mb;
	uint64_t overhead_mb;
	unsigned max_cpus;
	struct list claims;
	struct co_mutex lock;
	bool limit_due;
};

static uint64_t max_memory_mb(const struct vm_config *cfg)
{
	return cfg->max_memory_mb ? cfg->max_memory_mb : cfg->memory_mb;
}

static unsigned max_cpus(const struct vm_config *cfg)
{
	return cfg->max_cpus ? cfg->max_cpus : cfg->cpus;
}

struct sizing *sizing_new(const struct sizing_ops *ops, void *ctx, const struct vm_config *cfg)
{
	struct sizing *s = NEW0(struct sizing);

	s->ops = ops;
	s->ctx = ctx;
	s->max_memory_mb = max_memory_mb(cfg);
	s->max_cpus = max_cpus(cfg);
	s->overhead_mb = cfg->overhead_mb;
	list_init(&s->claims);
	co_mutex_init(&s->lock);
	return s;
}

struct sizing *sizing_free(struct sizing *s)
{
	if (!s)
		return NULL;
	LIST_FOR_EACH_SAFE(it, &s->claims)
		list_remove(it);
	free(s);
	return NULL;
}

void claim_init(struct claim *c, const char *id, const char *pod)
{
	*c = (struct claim){ .id = id, .pod = pod };
	list_init(&c->link);
}

void claim_release(struct claim *c)
{
	list_remove(&c->link);
	c->size = (struct claim_size){ 0 };
}

/* ---- sums ---- */

static uint64_t memory_of(const struct claim *c)
{
	return c->size.memory / (1 << 20) + (c->size.memory % (1 << 20) != 0);
}

/* In thousandths of a CPU, rounded up. */
static uint64_t cpus_of(const struct claim *c)
{
	uint64_t period = c->size.period ? c->size.period : DEFAULT_PERIOD;
	uint64_t whole = c->size.quota / period, rest = c->size.quota % period;

	if (whole >= CPUS_LIMIT || rest > UINT64_MAX / MILLI)
		return (uint64_t)CPUS_LIMIT * MILLI;
	return whole * MILLI + (rest * MILLI + period - 1) / period;
}

/* What the pod of @first needs: its sandbox container's own, or that of the others together. */
static uint64_t pod_needs(const struct sizing *s, const struct claim *first,
			  uint64_t (*of)(const struct claim *c))
{
	uint64_t own = 0, others = 0;

	LIST_FOR_EACH(it, &s->claims) {
		const struct claim *c = LIST_ENTRY(it, struct claim, link);

		if (!str_eq(c->pod, first->pod))
			continue;
		if (str_eq(c->id, c->pod))
			own += of(c);
		else
			others += of(c);
	}
	return own > others ? own : others;
}

static bool is_first_of_pod(const struct sizing *s, const struct claim *c)
{
	LIST_FOR_EACH(it, &s->claims) {
		const struct claim *other = LIST_ENTRY(it, struct claim, link);

		if (str_eq(other->pod, c->pod))
			return other == c;
	}
	return false;
}

static uint64_t pods_need(const struct sizing *s, uint64_t (*of)(const struct claim *c))
{
	uint64_t sum = 0;

	LIST_FOR_EACH(it, &s->claims) {
		const struct claim *c = LIST_ENTRY(it, struct claim, link);

		if (is_first_of_pod(s, c))
			sum += pod_needs(s, c, of);
	}
	return sum;
}

static uint64_t with_overhead(uint64_t mb, uint64_t overhead_mb)
{
	return mb == 0 ? 0 : mb + mb / OVERHEAD_SHARE + overhead_mb;
}

static uint64_t memory_needed(const struct sizing *s)
{
	return with_overhead(pods_need(s, memory_of), s->overhead_mb);
}

/* ---- before it boots ---- */

/* An overhead that the pod brings is for the VM: the larger of it and the VM's own counts. */
static uint64_t boot_memory(const struct claim_size *pod, const struct claim_size *overhead,
			    uint64_t overhead_mb)
{
	uint64_t mb = memory_of(&(struct claim){ .size = *pod });
	uint64_t own = with_overhead(mb, overhead_mb);
	uint64_t given = mb == 0 ? 0 : mb + memory_of(&(struct claim){ .size = *overhead });
	uint64_t need = own > given ? own : given;

	return need + need % 2;
}

int sizing_boot(struct vm_config *cfg, const struct claim_size *pod,
		const struct claim_size *overhead, struct err *err)
{
	uint64_t max_mb = max_memory_mb(cfg);
	uint64_t mb = boot_memory(pod, overhead, cfg->overhead_mb);
	uint64_t milli = cpus_of(&(struct claim){ .size = *pod });
	uint64_t cpus;

	if (mb > max_mb)
		return err_set(err, -ERR_EXHAUSTED,
			       "the pod needs a VM with %llu MiB of memory: %llu at most "
			       "(max_memory)",
			       (unsigned long long)mb, (unsigned long long)max_mb);
	if (milli > 0)
		milli += cpus_of(&(struct claim){ .size = *overhead });
	cpus = (milli + MILLI - 1) / MILLI;
	if (cpus > max_cpus(cfg))
		cpus = max_cpus(cfg);
	if (cfg->memory_mb < mb)
		cfg->memory_mb = mb;
	if (cfg->cpus < cpus)
		cfg->cpus = (unsigned)cpus;
	return 0;
}

/* ---- growth ---- */

static int check_maximum(const struct sizing *s, const struct claim *c, uint64_t memory_mb,
			 struct err *err)
{
	uint64_t alone = (cpus_of(c) + MILLI - 1) / MILLI;

	if (memory_mb > s->max_memory_mb)
		return err_set(err, -ERR_EXHAUSTED,
			       "the VM would need %llu MiB of memory: it has %llu, and %llu at "
			       "most (max_memory)",
			       (unsigned long long)memory_mb,
			       (unsigned long long)s->ops->memory_mb(s->ctx),
			       (unsigned long long)s->max_memory_mb);
	if (alone > s->max_cpus && !c->sum)
		return err_set(err, -ERR_EXHAUSTED,
			       "the VM would need %llu CPUs: it has %u, and %u at most (max_cpus)",
			       (unsigned long long)alone, s->ops->cpus(s->ctx), s->max_cpus);
	return 0;
}

static CO int grow_memory(struct sizing *s, uint64_t mb, struct err *err)
{
	if (mb <= s->ops->memory_mb(s->ctx))
		return 0;
	log_info("the VM grows from %llu to %llu MiB of memory",
		 (unsigned long long)s->ops->memory_mb(s->ctx), (unsigned long long)mb);
	/* Even a failure may have given it some. */
	s->limit_due = true;
	return s->ops->grow_memory(s->ctx, mb, err);
}

static CO int grow_cpus(struct sizing *s, struct err *err)
{
	uint64_t cpus = (pods_need(s, cpus_of) + MILLI - 1) / MILLI;

	if (cpus > s->max_cpus)
		cpus = s->max_cpus;
	if (cpus <= s->ops->cpus(s->ctx))
		return 0;
	log_info("the VM grows from %u to %u CPUs", s->ops->cpus(s->ctx), (unsigned)cpus);
	return s->ops->grow_cpus(s->ctx, (unsigned)cpus, err);
}

static CO int raise_pods_limit(struct sizing *s, struct err *err)
{
	int r = s->limit_due ? s->ops->raise_pods_limit(s->ctx, err) : 0;

	/* An agent that has none sets its pods no limit, or follows by itself. */
	if (r < 0 && r != -ERR_UNIMPLEMENTED)
		return err_wrap(err, r, "raise the limit of the guest's pods");
	s->limit_due = false;
	return 0;
}

CO int sizing_claim(struct sizing *s, struct claim *c, const struct claim_size *size,
		    struct err *err)
{
	CO_LOCK(&s->lock);
	CO_LIMIT(GROW_SEC * USEC_PER_SEC);

	const struct claim_size before = c->size;

	if (list_empty(&c->link))
		list_append(&s->claims, &c->link);
	c->size = *size;

	uint64_t memory_mb = memory_needed(s);
	int r = check_maximum(s, c, memory_mb, err);

	if (r >= 0)
		r = grow_memory(s, memory_mb, err);
	if (r >= 0)
		r = grow_cpus(s, err);
	if (r >= 0)
		r = raise_pods_limit(s, err);
	if (r < 0)
		c->size = before;
	return r;
}
