/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/dm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/str.h"
#include "loop/worker.h"

#define CONTROL DM_NODES "/control"

enum {
	OPEN_USEC = 5000000,
	OPEN_AGAIN_USEC = 100000,
	/* An unmounted file system may live on for a moment in the mount namespace of a container
	 * that is just being torn down. */
	CLOSE_USEC = 5000000,
	CLOSE_AGAIN_USEC = 10000,
	STATUS_MAX = 4096,
};

/**
 * struct mapping - an owner's share of a device
 * @stale:	the device should be gone, but could not be removed
 */
struct mapping {
	struct list link;
	char *owner;
	char *name;
	bool stale;
};

struct dm {
	const struct dm_ops *ops;
	struct list mappings;
	struct co_mutex lock;
};

/* ---- the kernel ---- */

static int kernel_call(unsigned long request, struct dm_ioctl *message)
{
	_cleanup_fd_ int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

	return fd < 0 || ioctl(fd, request, message) < 0 ? -errno : 0;
}

static char *node_of(const char *name)
{
	return str_printf(DM_NODES "/%s", name);
}

static int kernel_drop_node(const char *name)
{
	_cleanup_free_ char *path = node_of(name);

	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int kernel_add_node(const char *name, uint64_t dev)
{
	_cleanup_free_ char *path = node_of(name);
	int r = kernel_drop_node(name);

	return r < 0 || mknod(path, S_IFBLK | 0600, (dev_t)dev) == 0 ? r : -errno;
}

static const struct dm_ops kernel_ops = {
	.call = kernel_call,
	.add_node = kernel_add_node,
	.drop_node = kernel_drop_node,
};

/* ---- messages ---- */

/* A message with room for @more bytes behind its head. */
static struct dm_ioctl *message_new(const char *name, size_t more)
{
	struct dm_ioctl *m = mem_new0(1, sizeof(*m) + more);

	m->version[0] = DM_VERSION_MAJOR;
	m->data_size = (uint32_t)(sizeof(*m) + more);
	m->data_start = sizeof(*m);
	strncpy(m->name, name, sizeof(m->name) - 1);
	return m;
}

/* One that only names the device. */
static int plain_call(const struct dm_ops *ops, unsigned long request, const char *name,
		      uint64_t *ret_dev)
{
	_cleanup_free_ struct dm_ioctl *m = message_new(name, 0);
	int r = ops->call(request, m);

	if (r >= 0 && ret_dev)
		*ret_dev = m->dev;
	return r;
}

static int load_table(const struct dm_ops *ops, const struct dm_target *t)
{
	size_t params = strlen(t->params) + 1;
	size_t more = (sizeof(struct dm_target_spec) + params + 7) & ~(size_t)7;
	struct dm_ioctl *m = message_new(t->name, more);
	struct dm_target_spec *spec = (struct dm_target_spec *)(void *)(m + 1);
	int r;

	m->target_count = 1;
	m->flags = (t->read_only ? DM_READONLY_FLAG : 0u) | (t->secret ? DM_SECURE_DATA_FLAG : 0u);
	spec->length = t->sectors;
	spec->next = (uint32_t)more;
	strncpy(spec->target_type, t->type, sizeof(spec->target_type) - 1);
	memcpy(spec + 1, t->params, params);
	r = ops->call(DM_TABLE_LOAD, m);
	explicit_bzero(m, sizeof(*m) + more);
	free(m);
	return r;
}

/* ---- making and removing, on a worker ---- */

struct job {
	const struct dm_ops *ops;
	const struct dm_target *target;
	const char *name;
	const char *failed; /* the step that did */
};

static int remove_fn(void *arg)
{
	struct job *j = arg;
	int r = plain_call(j->ops, DM_DEV_REMOVE, j->name, NULL);

	if (r < 0 && r != -ENXIO)
		return r;
	return j->ops->drop_node(j->name);
}

static int create_fn(void *arg)
{
	struct job *j = arg;
	uint64_t dev = 0;
	int r = plain_call(j->ops, DM_DEV_CREATE, j->name, &dev);

	j->failed = "make it";
	if (r < 0)
		return r;
	r = load_table(j->ops, j->target);
	j->failed = "load its table";
	if (r >= 0) {
		/* Without the flag that suspends it resumes: the table goes live. */
		r = plain_call(j->ops, DM_DEV_SUSPEND, j->name, NULL);
		j->failed = "start it";
	}
	if (r >= 0) {
		r = j->ops->add_node(j->name, dev);
		j->failed = "make its node";
	}
	if (r < 0)
		remove_fn(j);
	return r;
}

/* What is below may be on its way: a disk that is just being found, or somebody looks at it. */
static bool passes(int r)
{
	return r == -EBUSY || r == -ENOENT || r == -ENXIO || r == -ENODEV;
}

static CO int create(struct dm *dm, const struct dm_target *t, struct err *err)
{
	struct job j = { .ops = dm->ops, .target = t, .name = t->name };
	int r;

	CO_LIMIT(OPEN_USEC);
	do
		r = worker_call(create_fn, &j);
	while (passes(r) && co_sleep(OPEN_AGAIN_USEC) >= 0);
	return r < 0 ? err_sys(err, r, "device mapper: %s: %s", t->name, j.failed) : 0;
}

static CO int remove_device(struct dm *dm, const char *name, struct err *err)
{
	struct job j = { .ops = dm->ops, .name = name };
	int r;

	CO_LIMIT(CLOSE_USEC);
	do
		r = worker_call(remove_fn, &j);
	while (r == -EBUSY && co_sleep(CLOSE_AGAIN_USEC) >= 0);
	return r < 0 ? err_sys(err, r, "device mapper: %s: remove it", name) : 0;
}

/* ---- owners ---- */

struct dm *dm_new(const struct dm_ops *ops)
{
	struct dm *dm = NEW0(struct dm);

	dm->ops = ops ? ops : &kernel_ops;
	list_init(&dm->mappings);
	co_mutex_init(&dm->lock);
	return dm;
}

static void forget(struct mapping *m)
{
	list_remove(&m->link);
	free(m->owner);
	free(m->name);
	free(m);
}

struct dm *dm_free(struct dm *dm)
{
	if (!dm)
		return NULL;
	LIST_FOR_EACH_SAFE(link, &dm->mappings)
		forget(LIST_ENTRY(link, struct mapping, link));
	free(dm);
	return NULL;
}

/* Somebody's share of a device, but not @other. */
static struct mapping *find(struct dm *dm, const char *name, const struct mapping *other)
{
	LIST_FOR_EACH(link, &dm->mappings) {
		struct mapping *m = LIST_ENTRY(link, struct mapping, link);

		if (m != other && str_eq(m->name, name))
			return m;
	}
	return NULL;
}

/* The last share goes with its device. */
static CO int drop(struct dm *dm, struct mapping *m, struct err *err)
{
	int r = find(dm, m->name, m) ? 0 : remove_device(dm, m->name, err);

	if (r < 0)
		m->stale = true;
	else
		forget(m);
	return r;
}

static CO int share_or_create(struct dm *dm, const struct dm_target *t, struct err *err)
{
	struct mapping *m = find(dm, t->name, NULL);
	int r = 0;

	if (m && m->stale) {
		r = drop(dm, m, err);
		m = NULL;
	}
	if (m && !t->read_only)
		r = err_set(err, -ERR_STATE, "device mapper: %s is in use", t->name);
	return r < 0 || m ? r : create(dm, t, err);
}

CO int dm_open(struct dm *dm, const char *owner, const struct dm_target *t, char **ret_node,
	       struct err *err)
{
	struct mapping *m;
	int r;

	if (strlen(t->name) >= DM_NAME_LEN)
		return err_set(err, -ERR_INVALID, "device mapper: the name %s is too long",
			       t->name);
	CO_LOCK(&dm->lock);
	r = share_or_create(dm, t, err);
	if (r < 0)
		return r;
	m = NEW0(struct mapping);
	m->owner = mem_strdup(owner);
	m->name = mem_strdup(t->name);
	list_append(&dm->mappings, &m->link);
	*ret_node = node_of(t->name);
	return 0;
}

CO int dm_close(struct dm *dm, const char *owner, struct err *err)
{
	struct err other = { 0 };
	int first = 0;

	CO_LOCK(&dm->lock);
	LIST_FOR_EACH_SAFE(link, &dm->mappings) {
		struct mapping *m = LIST_ENTRY(link, struct mapping, link);
		int r = str_eq(m->owner, owner) ? drop(dm, m, first < 0 ? &other : err) : 0;

		first = first < 0 ? first : r;
	}
	return first;
}

/* ---- status ---- */

/* Return: 1 if its status is "C", as only verity's can be; 0, or negative errno. */
static int corrupted_fn(void *arg)
{
	struct job *j = arg;
	_cleanup_free_ struct dm_ioctl *m = message_new(j->name, STATUS_MAX);
	const struct dm_target_spec *spec = (const struct dm_target_spec *)(const void *)(m + 1);
	int r = j->ops->call(DM_TABLE_STATUS, m);

	return r < 0 ? r : m->target_count == 1 && str_eq((const char *)(spec + 1), "C");
}

CO bool dm_corrupted(struct dm *dm, const char *owner)
{
	if (co_mutex_lock(&dm->lock) < 0)
		return false;

	bool found = false;

	LIST_FOR_EACH(link, &dm->mappings) {
		struct mapping *m = LIST_ENTRY(link, struct mapping, link);
		struct job j = { .ops = dm->ops, .name = m->name };

		if (!found && str_eq(m->owner, owner))
			found = worker_call(corrupted_fn, &j) > 0;
	}
	co_mutex_unlock(&dm->lock);
	return found;
}
