/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/channel_backend.h"

struct channel_unix {
	struct channel channel;
	char *path;
	uid_t uid;
	gid_t gid;
};

static int unix_listen(struct channel *c, struct channel_listener *l, struct err *err)
{
	struct channel_unix *u = CONTAINER_OF(c, struct channel_unix, channel);
	_cleanup_free_ char *path = str_printf("%s_%u", u->path, l->port);
	int fd, r;

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(err, -ENAMETOOLONG, "the path %s is too long for a unix socket",
			       path);
	fd = sock_unix_listen(path, 0600);
	if (fd < 0)
		return err_sys(err, fd, "%s", path);
	if (chown(path, u->uid, u->gid) < 0) {
		r = err_sys(err, -errno, "chown %s", path);
		fd_close(fd);
		unlink(path);
		return r;
	}
	r = channel_socket_watch(l, fd);
	if (r < 0) {
		unlink(path);
		return err_sys(err, r, "watch %s", path);
	}
	l->path = TAKE_PTR(path);
	return 0;
}

static void unix_unlisten(struct channel *c, struct channel_listener *l)
{
	channel_socket_unwatch(l);
}

/* The streams' other ends are the daemon's, which ends with the VM. */
static void unix_close(struct channel *c) {}

static void unix_free(struct channel *c)
{
	struct channel_unix *u = CONTAINER_OF(c, struct channel_unix, channel);

	free(u->path);
	free(u);
}

static const struct channel_ops unix_ops = {
	.listen = unix_listen,
	.unlisten = unix_unlisten,
	.close = unix_close,
	.free = unix_free,
};

int channel_unix_new(const char *path, uid_t uid, gid_t gid, struct channel **ret, struct err *err)
{
	struct channel_unix *u = NEW0(struct channel_unix);

	channel_init(&u->channel, &unix_ops);
	u->path = mem_strdup(path);
	u->uid = uid;
	u->gid = gid;
	*ret = &u->channel;
	return 0;
}
