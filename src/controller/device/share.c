/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/share.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/vm.h"

/*
 *        RESERVED --add--> ADDED --mount--> MOUNTED --unmount--> ADDED --remove--> gone
 *        RESERVED --add failed--> INVALID
 *        ADDED --mount failed--> INVALID (still on the host: @added)
 * INVALID refuses everything and drains.
 */
enum share_state { SHARE_RESERVED, SHARE_ADDED, SHARE_MOUNTED, SHARE_INVALID };

/**
 * struct share - a directory, or one file of a directory
 * @key:	what makes it this share
 * @path:	directory on the host
 * @only:	the single file, NULL for the whole directory
 * @name:	decimal, never used again in this VM
 * @guest_path:	where it is mounted; @result what map returns
 * @added:	it is below the export root
 * @in_doubt:	the guest may mount it yet, or has: the answer was not waited for
 * @users:	calls that hold or wait for @lock
 */
struct share {
	char *key;
	char *path;
	char *only;
	bool read_only;
	char name[24];
	char *guest_path;
	char *result;
	enum share_state state;
	bool added;
	bool in_doubt;
	unsigned refs;
	unsigned users;
	struct co_mutex lock;
};

struct shares {
	const struct share_ops *ops;
	void *ctx;
	bool deny_writable;
	uint64_t counter;
	struct map by_key; /* key → struct share */
	struct map reservations; /* id → struct share */
};

struct shares *shares_new(const struct share_ops *ops, void *ctx, bool deny_writable)
{
	struct shares *s = NEW0(struct shares);

	s->ops = ops;
	s->ctx = ctx;
	s->deny_writable = deny_writable;
	return s;
}

static void share_free(struct share *sh)
{
	free(sh->key);
	free(sh->path);
	free(sh->only);
	free(sh->guest_path);
	free(sh->result);
	free(sh);
}

struct shares *shares_free(struct shares *s)
{
	if (!s)
		return NULL;
	MAP_FOR_EACH(e, &s->by_key)
		share_free(e->value);
	map_free(&s->by_key);
	map_free(&s->reservations);
	free(s);
	return NULL;
}

/* @path is a real path: absolute, without symlinks. */
static struct share *new_share(struct shares *s, const char *key, const char *path, bool file,
			       bool read_only)
{
	struct share *sh = NEW0(struct share);
	const char *base = strrchr(path, '/') + 1;

	sh->key = mem_strdup(key);
	sh->read_only = read_only;
	sh->only = file ? mem_strdup(base) : NULL;
	sh->path = !file             ? mem_strdup(path)
		   : base - path > 1 ? mem_strndup(path, (size_t)(base - path - 1))
				     : mem_strdup("/");
	snprintf(sh->name, sizeof(sh->name), "%" PRIu64, s->counter++);
	sh->guest_path = str_printf("/run/mounts/plan9/%s", sh->name);
	sh->result = file ? str_printf("%s/%s", sh->guest_path, base) : mem_strdup(sh->guest_path);
	co_mutex_init(&sh->lock);
	map_set(&s->by_key, key, sh);
	return sh;
}

int share_reserve(struct shares *s, const char *path, bool read_only, char ret_id[UUID_LEN + 1],
		  struct err *err)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	struct stat st;

	if (!read_only && s->deny_writable)
		return err_set(err, -ERR_DENIED, "share %s: adding writable shares is denied",
			       path);
	if (!real || stat(real, &st) < 0)
		return err_set(err, -ERR_INVALID, "share %s: %s", path, strerror(errno));

	/* Whatever is no directory is a single file: sockets, FIFOs and device nodes keep their
	 * nature below 9p. */
	bool file = !S_ISDIR(st.st_mode);
	_cleanup_free_ char *key =
		str_printf("%s %s %s", read_only ? "ro" : "rw", file ? "file" : "dir", real);
	struct share *sh = map_get(&s->by_key, key);

	if (sh && sh->state == SHARE_INVALID)
		return err_set(err, -ERR_STATE, "share %s is being torn down after a failure",
			       path);
	if (!sh)
		sh = new_share(s, key, real, file, read_only);
	sh->refs++;
	uuid_new(ret_id);
	map_set(&s->reservations, ret_id, sh);
	return 0;
}

static CO int bring_up(struct shares *s, struct share *sh, struct err *err)
{
	int r = 0;

	if (sh->state == SHARE_INVALID)
		return err_set(err, -ERR_STATE, "share %s has failed before: release it first",
			       sh->path);
	if (sh->state == SHARE_RESERVED) {
		r = s->ops->add(s->ctx, sh->name, sh->path, sh->only, sh->read_only, err);
		sh->added = r >= 0;
		sh->state = r < 0 ? SHARE_INVALID : SHARE_ADDED;
		if (r < 0)
			return err_wrap(err, r, "share %s", sh->path);
	}
	if (sh->state == SHARE_ADDED) {
		r = s->ops->mount(s->ctx, sh->name, sh->guest_path, sh->read_only, err);
		sh->state = r < 0 ? SHARE_INVALID : SHARE_MOUNTED;
		sh->in_doubt = vm_call_abandoned(r);
		if (r < 0)
			return err_wrap(err, r, "mount share of %s in the guest", sh->path);
	}
	return 0;
}

/* A failed step leaves the state that was reached, for another try. */
static CO int take_down(struct shares *s, struct share *sh, struct err *err)
{
	int r;

	if (sh->state == SHARE_MOUNTED || sh->in_doubt) {
		r = s->ops->unmount(s->ctx, sh->name, sh->guest_path, sh->read_only, err);
		if (r < 0)
			return err_wrap(err, r, "unmount share of %s in the guest", sh->path);
		sh->in_doubt = false;
		if (sh->state == SHARE_MOUNTED)
			sh->state = SHARE_ADDED;
	}
	/* Whoever reserved it meanwhile will mount it again. */
	if (sh->added && sh->refs == 1) {
		r = s->ops->remove(s->ctx, sh->name, err);
		if (r < 0)
			return err_wrap(err, r, "remove share %s", sh->path);
		sh->added = false;
		if (sh->state == SHARE_ADDED)
			sh->state = SHARE_RESERVED;
	}
	return 0;
}

CO int share_map(struct shares *s, const char *id, const char **ret_path, struct err *err)
{
	struct share *sh = map_get(&s->reservations, id);

	if (!sh)
		return err_set(err, -ERR_NOT_FOUND, "share reservation %s not found", id);
	sh->users++;

	int r = co_mutex_lock(&sh->lock);

	if (r < 0) {
		err_sys(err, r, "wait for share %s", sh->path);
	} else {
		r = bring_up(s, sh, err);
		co_mutex_unlock(&sh->lock);
	}
	sh->users--;
	if (r >= 0)
		*ret_path = sh->result;
	return r;
}

static CO int release(struct shares *s, const char *id, struct share *sh, struct err *err)
{
	/* Another call may have released it while this one waited for the share. */
	if (map_get(&s->reservations, id) != sh)
		return 0;
	if (sh->refs == 1) {
		int r = take_down(s, sh, err);

		if (r < 0)
			return r;
	}
	map_remove(&s->reservations, id);
	sh->refs--;
	return 0;
}

CO int share_unmap(struct shares *s, const char *id, struct err *err)
{
	struct share *sh = map_get(&s->reservations, id);

	if (!sh)
		return 0;
	sh->users++;

	int r = co_mutex_lock(&sh->lock);

	if (r < 0) {
		err_sys(err, r, "wait for share %s", sh->path);
	} else {
		r = release(s, id, sh, err);
		co_mutex_unlock(&sh->lock);
	}
	sh->users--;
	if (sh->refs == 0 && sh->users == 0) {
		map_remove(&s->by_key, sh->key);
		share_free(sh);
	}
	return r;
}

unsigned shares_in_use(const struct shares *s)
{
	return (unsigned)s->by_key.len;
}
