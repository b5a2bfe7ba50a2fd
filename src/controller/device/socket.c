/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/map.h"
#include "base/str.h"
#include "controller/vm.h"
#include "wire/gcs.h"
#include "wire/json.h"

/**
 * struct mapped - a socket
 * @forward:	from open to close
 * @in_guest:	the guest listens, or may: its answer was not waited for
 */
struct mapped {
	struct guest_forward *forward;
	struct gcs_unix_socket guest;
	bool in_guest;
};

struct sockets {
	const struct socket_ops *ops;
	void *ctx;
	uint64_t counter;
	struct map by_id; /* decimal, never used again in this VM → struct mapped */
};

struct sockets *sockets_new(const struct socket_ops *ops, void *ctx)
{
	struct sockets *s = NEW0(struct sockets);

	s->ops = ops;
	s->ctx = ctx;
	return s;
}

static void mapped_free(struct sockets *s, struct mapped *m)
{
	if (m->forward)
		s->ops->close(s->ctx, m->forward);
	free(m->guest.path);
	free(m);
}

struct sockets *sockets_free(struct sockets *s)
{
	if (!s)
		return NULL;
	MAP_FOR_EACH(e, &s->by_id)
		mapped_free(s, e->value);
	map_free(&s->by_id);
	free(s);
	return NULL;
}

bool socket_mounted(struct json_object *mount, bool bind)
{
	const char *source = json_get_str(mount, "source");
	struct stat st;

	return str_eq(json_get_str(mount, "type"), "uds") ||
	       (bind && source && source[0] == '/' && stat(source, &st) == 0 &&
		S_ISSOCK(st.st_mode));
}

/* By its inode from here on: whoever may write to its directory could put a link to another socket
 * in its place. */
static int open_source(const char *source, struct stat *ret, struct err *err)
{
	_cleanup_fd_ int fd = -EBADF;

	if (!source || source[0] != '/')
		return err_set(err, -ERR_INVALID, "\"%s\" is no absolute path",
			       source ? source : "");
	fd = open(source, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, ret) < 0)
		return err_set(err, -ERR_INVALID, "%s: %s", source, strerror(errno));
	if (!S_ISSOCK(ret->st_mode))
		return err_set(err, -ERR_INVALID, "%s is no unix socket", source);
	return TAKE_FD(fd);
}

static CO int bring_up(struct sockets *s, struct mapped *m, int source, struct err *err)
{
	int r = s->ops->open(s->ctx, source, &m->forward, &m->guest.port, err);

	if (r >= 0) {
		r = s->ops->add(s->ctx, &m->guest, err);
		m->in_guest = r >= 0 || vm_call_abandoned(r);
	}
	return r;
}

static bool has_option(struct json_object *options, const char *option)
{
	for (size_t i = 0; i < json_object_array_length(options); i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(options, i)), option))
			return true;
	return false;
}

static void make_bind(struct json_object *mount, const char *source)
{
	struct json_object *options = json_get(mount, "options", NULL);

	json_object_object_add(mount, "type", json_object_new_string("bind"));
	json_object_object_add(mount, "source", json_object_new_string(source));
	if (!json_object_is_type(options, json_type_array)) {
		options = json_object_new_array();
		json_object_object_add(mount, "options", options);
	}
	if (!has_option(options, "bind") && !has_option(options, "rbind"))
		json_object_array_add(options, json_object_new_string("bind"));
}

CO int socket_map(struct sockets *s, struct json_object *mount, char ***ids, struct err *err)
{
	const char *source = json_get_str(mount, "source");
	char id[24];
	struct stat st;
	int fd = open_source(source, &st, err);

	if (fd < 0)
		return fd;

	struct mapped *m = NEW0(struct mapped);

	snprintf(id, sizeof(id), "%" PRIu64, s->counter++);
	m->guest = (struct gcs_unix_socket){
		.path = str_printf("/run/mounts/uds/%s/socket", id),
		.mode = st.st_mode & 0777,
		.uid = st.st_uid,
		.gid = st.st_gid,
	};
	map_set(&s->by_id, id, m);
	strv_add(ids, id);

	int r = bring_up(s, m, fd, err);

	if (r < 0)
		return err_wrap(err, r, "unix socket %s", source);
	make_bind(mount, m->guest.path);
	return 0;
}

CO int socket_unmap(struct sockets *s, const char *id, struct err *err)
{
	struct mapped *m = map_get(&s->by_id, id);

	if (!m)
		return 0;
	if (m->in_guest) {
		int r = s->ops->remove(s->ctx, &m->guest, err);

		if (r < 0)
			return err_wrap(err, r, "remove unix socket %s", m->guest.path);
		m->in_guest = false;
	}
	map_remove(&s->by_id, id);
	mapped_free(s, m);
	return 0;
}

unsigned sockets_in_use(const struct sockets *s)
{
	return (unsigned)s->by_id.len;
}
