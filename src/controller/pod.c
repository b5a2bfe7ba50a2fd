/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/pod.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "controller/network.h"

enum { TEARDOWN_SEC = 30 };

struct pods {
	const struct network_ops *ops;
	void *ctx;
	struct map pods;
};

/**
 * struct pod - see pod.h
 * @refs:	holds, and those who are about to have one
 * @lock:	held while its network comes up, so that the second waits for the first
 */
struct pod {
	struct pods *of;
	char *id;
	unsigned refs;
	struct network *network;
	struct co_mutex lock;
};

struct pods *pods_new(const struct network_ops *ops, void *ctx)
{
	struct pods *p = NEW0(struct pods);

	p->ops = ops;
	p->ctx = ctx;
	return p;
}

static void pod_free(struct pod *pod)
{
	network_free(pod->network);
	free(pod->id);
	free(pod);
}

struct pods *pods_free(struct pods *p)
{
	if (!p)
		return NULL;
	MAP_FOR_EACH(e, &p->pods)
		pod_free(e->value);
	map_free(&p->pods);
	free(p);
	return NULL;
}

static CO int bring_up(struct pod *pod, struct err *err)
{
	CO_LOCK(&pod->lock);

	if (network_state(pod->network) == NETWORK_CONFIGURED)
		return 0;
	return network_setup(pod->network, err);
}

CO int pod_get(struct pods *p, const char *id, const struct network_config *network,
	       struct pod **ret, struct err *err)
{
	struct pod *pod = map_get(&p->pods, id);

	if (!pod) {
		pod = NEW0(struct pod);
		pod->of = p;
		pod->id = mem_strdup(id);
		pod->network = network_new(p->ops, p->ctx, network, id);
		co_mutex_init(&pod->lock);
		map_set(&p->pods, id, pod);
	}
	pod->refs++;

	int r = bring_up(pod, err);

	if (r < 0)
		pod_put(pod);
	else
		*ret = pod;
	return r;
}

bool pods_have(const struct pods *p, const char *id)
{
	return p && map_get(&p->pods, id);
}

static CO void take_down(struct pod *pod)
{
	struct err err = { 0 };
	CO_SHIELD(TEARDOWN_SEC * USEC_PER_SEC);

	if (network_teardown(pod->network, &err) < 0)
		log_warn("%s", err.text);
}

CO struct pod *pod_put(struct pod *pod)
{
	if (!pod || --pod->refs > 0)
		return NULL;
	/* Who comes from now on makes a pod anew. */
	map_remove(&pod->of->pods, pod->id);
	take_down(pod);
	pod_free(pod);
	return NULL;
}

CO void pods_release(struct pods *p)
{
	for (size_t i = 0; p && i < p->pods.len;) {
		struct pod *pod = p->pods.entries[i].value;

		pod->refs++;
		take_down(pod);
		/* Others may have gone meanwhile, and the rest moved up. */
		i = i < p->pods.len && p->pods.entries[i].value == pod ? i + 1 : 0;
		pod_put(pod);
	}
}

bool pod_has_network(const struct pod *pod)
{
	return network_cards(pod->network) > 0;
}
