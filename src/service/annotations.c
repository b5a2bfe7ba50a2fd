/* SPDX-License-Identifier: Apache-2.0 */
#include <json-c/json.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "controller/resources.h"
#include "controller/sizing.h"
#include "service/service_priv.h"
#include "wire/json.h"

/*
 * What the annotations of a sandbox say of its VM: hcsshim's, and those in which CRI tells a
 * sandbox container what the containers of its pod may use together.
 */

#define A_MEMORY "io.microsoft.virtualmachine.computetopology.memory.sizeinmb"
#define A_CPUS "io.microsoft.virtualmachine.computetopology.processor.count"
#define A_IOPS "io.microsoft.virtualmachine.storageqos.iopsmaximum"
#define A_BANDWIDTH "io.microsoft.virtualmachine.storageqos.bandwidthmaximum"
#define A_POLICY_ROUTING "io.microsoft.virtualmachine.lcow.network.policybasedrouting"
#define A_DENY_WRITABLE "io.microsoft.virtualmachine.fileshares.disablewritable"
#define A_ENCRYPTED "io.microsoft.virtualmachine.storage.scratch.encrypted"

static int number(struct json_object *annotations, const char *name, uint64_t *ret, struct err *err)
{
	const char *text = json_get_str(annotations, name);

	if (text && (str_u64(text, ret) < 0 || *ret == 0 || *ret > UINT32_MAX))
		return err_set(err, -ERR_INVALID, "annotation %s: \"%s\" is no number above 0",
			       name, text);
	return 0;
}

/* hcsshim's are of 32 bits with a sign. */
static void storage_limit(struct json_object *annotations, const char *name, uint64_t *ret)
{
	const char *text = json_get_str(annotations, name);
	uint64_t n;

	if (!text)
		return;
	if (str_u64(text, &n) < 0 || n > INT32_MAX)
		log_warn("annotation %s: \"%s\" is no number from 0 to %d: ignored", name, text,
			 INT32_MAX);
	else
		*ret = n;
}

static bool flag(struct json_object *annotations, const char *name)
{
	const char *text = json_get_str(annotations, name);
	bool value = false;

	if (text && str_bool(text, &value) < 0)
		log_warn("annotation %s: \"%s\" is neither true nor false: ignored", name, text);
	return value;
}

/* Who asks for it in words that cannot be read does not get plain text. */
static int encrypt_scratch(struct service *s, const char *text, struct err *err)
{
	s->env.encrypt_scratch = false;
	if (text && str_bool(text, &s->env.encrypt_scratch) < 0)
		return err_set(err, -ERR_INVALID,
			       "annotation " A_ENCRYPTED ": \"%s\" is neither true nor false",
			       text);
	return 0;
}

int service_read_annotations(struct service *s, struct json_object *annotations,
			     struct vm_config *cfg, struct err *err)
{
	struct claim_size pod = { 0 };
	uint64_t cpus = cfg->cpus;
	int r;

	s->deny_writable_shares =
		s->options->deny_writable_shares || flag(annotations, A_DENY_WRITABLE);
	s->policy_routing = flag(annotations, A_POLICY_ROUTING);
	storage_limit(annotations, A_IOPS, &cfg->storage_iops);
	storage_limit(annotations, A_BANDWIDTH, &cfg->storage_bandwidth);
	r = encrypt_scratch(s, json_get_str(annotations, A_ENCRYPTED), err);
	if (r >= 0)
		r = number(annotations, A_MEMORY, &cfg->memory_mb, err);
	if (r >= 0)
		r = number(annotations, A_CPUS, &cpus, err);
	if (r < 0)
		return r;
	cfg->cpus = (unsigned)cpus;
	if (cfg->max_memory_mb && cfg->max_memory_mb < cfg->memory_mb)
		cfg->max_memory_mb = cfg->memory_mb;
	if (cfg->max_cpus && cfg->max_cpus < cfg->cpus)
		cfg->max_cpus = cfg->cpus;
	resources_of_pod(annotations, &pod);
	return sizing_boot(cfg, &pod, &(struct claim_size){ 0 }, err);
}
