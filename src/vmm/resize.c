/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <json-c/json.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "vmm/vmm_priv.h"
#include "wire/json.h"

/*
 * A VM grows by what is plugged when it is first needed: one virtio-mem device, of which the guest
 * takes as much as it is asked to, and vCPUs. A VM that never grows carries nothing of it.
 */

#define POLL_MIN_USEC (2 * USEC_PER_MSEC)
#define POLL_MAX_USEC (100 * USEC_PER_MSEC)
#define STALL_USEC (10 * USEC_PER_SEC)

#define MEM_BACKEND "vmem0"
#define MEM_DEVICE "mem0"
#define MEM_PORT "rp0"
#define MEM_PATH "/machine/peripheral/" MEM_DEVICE

static void put_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static void put_u64(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

/** twice() - a part that is there already: the answer to an earlier attempt was not waited for */
static int twice(int r, const struct err *e, const char *words)
{
	return r == -EREMOTEIO && strstr(e->text, words) ? 0 : r;
}

/* ---- memory ---- */

CO static int backend_add(struct vmm *v, struct err *err)
{
	struct json_object *o = json_object_new_object();
	bool shared = vm_memory_shared(&v->cfg);
	struct err e = { 0 };
	int r;

	put_text(o, "qom-type", shared ? "memory-backend-memfd" : "memory-backend-ram");
	put_text(o, "id", MEM_BACKEND);
	put_u64(o, "size", vm_memory_room_mb(&v->cfg) << 20);
	if (shared)
		json_object_object_add(o, "share", json_object_new_boolean(true));
	r = twice(vmm_call(v, "object-add", o, -EBADF, &e), &e, "duplicate property");
	if (r == -EREMOTEIO && strstr(e.text, "Cannot allocate memory"))
		r = e.code = -ERR_EXHAUSTED;
	return r < 0 ? err_copy(err, &e), r : 0;
}

CO static int device_add(struct vmm *v, uint64_t requested, struct err *err)
{
	struct json_object *o = json_object_new_object();
	struct err e = { 0 };
	int r;

	put_text(o, "driver", "virtio-mem-pci");
	put_text(o, "id", MEM_DEVICE);
	put_text(o, "bus", MEM_PORT);
	put_text(o, "memdev", MEM_BACKEND);
	put_u64(o, "requested-size", requested);
	r = twice(vmm_call(v, "device_add", o, -EBADF, &e), &e, "Duplicate device ID");
	return r < 0 ? err_copy(err, &e), r : 0;
}

CO static int request(struct vmm *v, uint64_t bytes, struct err *err)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "path", MEM_PATH);
	put_text(o, "property", "requested-size");
	put_u64(o, "value", bytes);
	return vmm_call(v, "qom-set", o, -EBADF, err);
}

/** taken() - bytes of the device that the guest uses */
CO static int taken(struct vmm *v, uint64_t *ret, struct err *err)
{
	_cleanup_json_ struct json_object *answer = NULL;
	struct json_object *o = json_object_new_object();
	int r;

	put_text(o, "path", MEM_PATH);
	put_text(o, "property", "size");
	r = vmm_query(v, "qom-get", o, &answer, err);
	if (r < 0)
		return r;
	*ret = json_object_get_uint64(answer);
	v->plugged_mb = *ret >> 20;
	return 0;
}

/**
 * await_guest() - until the guest has taken @bytes. QEMU tells changes once a second at most, and
 * the guest is quicker: so ask
 */
CO static int await_guest(struct vmm *v, uint64_t bytes, struct err *err)
{
	uint64_t pause = POLL_MIN_USEC, has = 0, before = 0, moved = time_mono();

	for (;;) {
		int r = taken(v, &has, err);

		if (r < 0 || has >= bytes)
			return r;
		if (has > before)
			moved = time_mono();
		before = has;
		if (time_mono() - moved >= v->stall_usec)
			return err_set(err, -ERR_EXHAUSTED,
				       "the guest took %llu of %llu MiB that it was given",
				       (unsigned long long)(has >> 20),
				       (unsigned long long)(bytes >> 20));
		r = co_sleep(pause);
		if (r < 0)
			return err_sys(err, r, "wait until the guest has taken it");
		pause = pause < POLL_MAX_USEC / 2 ? pause * 2 : POLL_MAX_USEC;
	}
}

uint64_t vmm_memory_mb(const struct vmm *v)
{
	return v->cfg.memory_mb + v->plugged_mb;
}

CO int vmm_grow_memory(struct vmm *v, uint64_t mb, struct err *err)
{
	uint64_t room = vm_memory_room_mb(&v->cfg), more;
	int r = 0;

	if (mb <= vmm_memory_mb(v))
		return 0;
	more = mb - v->cfg.memory_mb;
	more += (VM_MEMORY_STEP_MB - more % VM_MEMORY_STEP_MB) % VM_MEMORY_STEP_MB;
	if (more > room)
		return err_set(err, -ERR_EXHAUSTED,
			       "the VM cannot have %llu MiB of memory: %llu at most",
			       (unsigned long long)mb,
			       (unsigned long long)(v->cfg.memory_mb + room));
	if (!v->memory_device) {
		r = backend_add(v, err);
		if (r == 0)
			r = device_add(v, 0, err);
		if (r < 0)
			return err_wrap(err, r, "plug memory");
		v->memory_device = true;
	}
	r = request(v, more << 20, err);
	if (r == 0)
		r = await_guest(v, more << 20, err);
	return r < 0 ? err_wrap(err, r, "grow to %llu MiB of memory", (unsigned long long)mb) : 0;
}

/* ---- vCPUs ---- */

CO static int cpu_add(struct vmm *v, struct json_object *slot, unsigned n, struct err *err)
{
	struct json_object *o = json_object_new_object(), *props = json_get(slot, "props", NULL);
	_cleanup_free_ char *id = str_printf("cpu%u", n);
	const char *type = json_get_str(slot, "type");

	put_text(o, "driver", type ? type : "");
	put_text(o, "id", id);
	if (json_object_is_type(props, json_type_object)) {
		json_object_object_foreach(props, key, value)
			json_object_object_add(o, key, json_object_get(value));
	}
	return vmm_call(v, "device_add", o, -EBADF, err);
}

unsigned vmm_cpus(const struct vmm *v)
{
	return v->cfg.cpus + v->plugged_cpus;
}

CO int vmm_grow_cpus(struct vmm *v, unsigned cpus, struct err *err)
{
	_cleanup_json_ struct json_object *slots = NULL;
	size_t n, has = 0;
	int r;

	if (cpus <= vmm_cpus(v))
		return 0;
	r = vmm_query(v, "query-hotpluggable-cpus", NULL, &slots, err);
	if (r < 0)
		return err_wrap(err, r, "grow to %u CPUs", cpus);
	n = json_object_is_type(slots, json_type_array) ? json_object_array_length(slots) : 0;
	for (size_t i = 0; i < n; i++)
		has += json_get(json_object_array_get_idx(slots, i), "qom-path", NULL) != NULL;
	/* QEMU lists the last one first. */
	for (size_t i = n; i > 0 && has < cpus; i--) {
		struct json_object *slot = json_object_array_get_idx(slots, i - 1);

		if (json_get(slot, "qom-path", NULL))
			continue;
		r = cpu_add(v, slot, (unsigned)has, err);
		if (r < 0)
			return err_wrap(err, r, "grow to %u CPUs", cpus);
		v->plugged_cpus = (unsigned)++has - v->cfg.cpus;
	}
	if (has < cpus)
		return err_set(err, -ERR_EXHAUSTED, "the VM cannot have %u CPUs: %zu at most", cpus,
			       has);
	return 0;
}
