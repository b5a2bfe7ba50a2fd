/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/vpci.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"

/*
 * RESERVED --add, await--> READY --remove--> gone
 * RESERVED --add failed--> REMOVED
 * RESERVED --await failed--> ASSIGNED_INVALID: still in the VM
 * READY --remove failed--> ASSIGNED_INVALID --remove--> gone
 * REMOVED and ASSIGNED_INVALID refuse everything and drain.
 */
enum vpci_state { VPCI_RESERVED, VPCI_READY, VPCI_ASSIGNED_INVALID, VPCI_REMOVED };

/**
 * struct device - a device that somebody has reserved
 * @key:	what makes it this device
 * @guid:	its name in the VM
 * @users:	calls that hold or wait for @lock
 */
struct device {
	char *key;
	char *id;
	int vf;
	char guid[UUID_LEN + 1];
	enum vpci_state state;
	unsigned refs;
	unsigned users;
	struct co_mutex lock;
};

struct vpci {
	const struct vpci_ops *ops;
	void *ctx;
	struct map by_key; /* key → struct device */
	struct map reservations; /* id → struct device */
};

struct vpci *vpci_new(const struct vpci_ops *ops, void *ctx)
{
	struct vpci *v = NEW0(struct vpci);

	v->ops = ops;
	v->ctx = ctx;
	return v;
}

static void device_free(struct device *d)
{
	free(d->key);
	free(d->id);
	free(d);
}

struct vpci *vpci_free(struct vpci *v)
{
	if (!v)
		return NULL;
	MAP_FOR_EACH(e, &v->by_key)
		device_free(e->value);
	map_free(&v->by_key);
	map_free(&v->reservations);
	free(v);
	return NULL;
}

static struct device *new_device(struct vpci *v, const char *key, const struct vpci_device *want)
{
	struct device *d = NEW0(struct device);

	d->key = mem_strdup(key);
	d->id = mem_strdup(want->id);
	d->vf = want->vf;
	uuid_new(d->guid);
	co_mutex_init(&d->lock);
	map_set(&v->by_key, key, d);
	return d;
}

int vpci_reserve(struct vpci *v, const struct vpci_device *device, char ret_id[UUID_LEN + 1],
		 struct err *err)
{
	_cleanup_free_ char *key = str_printf("%d %s", device->vf, device->id);
	struct device *d = map_get(&v->by_key, key);

	if (d && d->state != VPCI_RESERVED && d->state != VPCI_READY)
		return err_set(err, -ERR_STATE, "PCI device %s is being torn down after a failure",
			       device->id);
	if (!d)
		d = new_device(v, key, device);
	d->refs++;
	uuid_new(ret_id);
	map_set(&v->reservations, ret_id, d);
	return 0;
}

static CO int bring_up(struct vpci *v, struct device *d, struct err *err)
{
	const struct vpci_device device = { .id = d->id, .vf = d->vf };
	char path[VPCI_PATH_MAX];
	int r;

	if (d->state == VPCI_READY)
		return 0;
	if (d->state != VPCI_RESERVED)
		return err_set(err, -ERR_STATE, "PCI device %s has failed before: release it first",
			       d->id);
	r = v->ops->add(v->ctx, d->guid, &device, path, err);
	if (r < 0) {
		d->state = VPCI_REMOVED;
		return err_wrap(err, r, "assign PCI device %s", d->id);
	}
	r = v->ops->await(v->ctx, d->guid, path, err);
	d->state = r < 0 ? VPCI_ASSIGNED_INVALID : VPCI_READY;
	return r < 0 ? err_wrap(err, r, "wait for PCI device %s in the guest", d->id) : 0;
}

/* A failure leaves it in the VM, for another try. */
static CO int take_down(struct vpci *v, struct device *d, struct err *err)
{
	bool usable = d->state == VPCI_READY;
	int r;

	if (!usable && d->state != VPCI_ASSIGNED_INVALID)
		return 0;
	r = v->ops->remove(v->ctx, d->guid, err);
	if (r < 0) {
		d->state = VPCI_ASSIGNED_INVALID;
		return err_wrap(err, r, "take PCI device %s out of the VM", d->id);
	}
	/* Whoever reserved a good one meanwhile will add it again. */
	d->state = usable ? VPCI_RESERVED : VPCI_REMOVED;
	return 0;
}

CO int vpci_map(struct vpci *v, const char *id, const char **ret_guid, struct err *err)
{
	struct device *d = map_get(&v->reservations, id);

	if (!d)
		return err_set(err, -ERR_NOT_FOUND,
			       "no reservation found for PCI device %s; reserve it first", id);
	d->users++;

	int r = co_mutex_lock(&d->lock);

	if (r < 0) {
		err_sys(err, r, "wait for PCI device %s", d->id);
	} else {
		r = bring_up(v, d, err);
		co_mutex_unlock(&d->lock);
	}
	d->users--;
	if (r >= 0)
		*ret_guid = d->guid;
	return r;
}

static CO int release(struct vpci *v, const char *id, struct device *d, struct err *err)
{
	/* Another call may have released it while this one waited for the device. */
	if (map_get(&v->reservations, id) != d)
		return 0;
	if (d->refs == 1) {
		int r = take_down(v, d, err);

		if (r < 0)
			return r;
	}
	map_remove(&v->reservations, id);
	d->refs--;
	return 0;
}

CO int vpci_unmap(struct vpci *v, const char *id, struct err *err)
{
	struct device *d = map_get(&v->reservations, id);

	if (!d)
		return 0;
	d->users++;

	int r = co_mutex_lock(&d->lock);

	if (r < 0) {
		err_sys(err, r, "wait for PCI device %s", d->id);
	} else {
		r = release(v, id, d, err);
		co_mutex_unlock(&d->lock);
	}
	d->users--;
	if (d->refs == 0 && d->users == 0) {
		map_remove(&v->by_key, d->key);
		device_free(d);
	}
	return r;
}

int vpci_group(struct vpci *v, unsigned group, char ***ret, struct err *err)
{
	return v->ops->group(v->ctx, group, ret, err);
}

unsigned vpci_in_use(const struct vpci *v)
{
	return (unsigned)v->by_key.len;
}
