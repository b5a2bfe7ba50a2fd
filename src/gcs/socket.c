/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/mounts.h"
#include "gcs/transport.h"
#include "loop/gateway.h"
#include "wire/gcs.h"

enum { BACKLOG = 128, DIAL_USEC = 30000000 };

/** struct unix_socket - one that the agent listens on; its gateway's */
struct unix_socket {
	struct agent *agent;
	char *path;
	char *dir;
	uint32_t port;
	struct gateway *gateway;
};

static CO int dial_host(int from, void *arg, int *ret_fd)
{
	struct unix_socket *s = arg;
	struct err err = { 0 };
	int r = transport_dial(s->agent->transport, s->port, ret_fd, &err);

	/* It may have been removed meanwhile. */
	if (r < 0 && r != -ECANCELED)
		log_warn("relay a connection to %s: %s", s->path, err.text);
	return r;
}

static void socket_free(void *arg)
{
	struct unix_socket *s = arg;

	free(s->path);
	free(s->dir);
	free(s);
}

static int open_gateway(struct unix_socket *s, const struct gcs_unix_socket *settings,
			struct err *err)
{
	const struct gateway_spec spec = {
		.name = "unix socket",
		.max = GCS_SOCKET_CONNECTIONS,
		.dial_usec = DIAL_USEC,
		.dial = dial_host,
		.gone = socket_free,
		.arg = s,
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_fd_ int listener = -EBADF;
	int r = dir_make(s->dir, 0755);

	if (r < 0)
		return err_sys(err, r, "mkdir %s", s->dir);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0)
		return err_sys(err, -errno, "make a unix socket");
	memcpy(address.sun_path, s->path, strlen(s->path) + 1);
	if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_sys(err, -errno, "bind %s", s->path);
	if (chmod(s->path, settings->mode & 0777) < 0 ||
	    lchown(s->path, settings->uid, settings->gid) < 0)
		return err_sys(err, -errno, "set the owner and mode of %s", s->path);
	if (listen(listener, BACKLOG) < 0)
		return err_sys(err, -errno, "listen on %s", s->path);
	r = gateway_new(TAKE_FD(listener), &spec, &s->gateway);
	return r < 0 ? err_sys(err, r, "watch %s", s->path) : 0;
}

int socket_add(struct agent *a, const struct gcs_unix_socket *settings, struct err *err)
{
	struct unix_socket *s;
	int r;

	if (!mount_path_valid(settings->path) ||
	    strlen(settings->path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return err_set(err, -ERR_INVALID, "Path '%s' is not the path of a unix socket",
			       settings->path ? settings->path : "");
	if (!settings->port)
		return err_set(err, -ERR_INVALID, "socket %s: Port is missing", settings->path);
	if (map_get(&a->sockets, settings->path))
		return err_set(err, -ERR_EXISTS, "socket %s exists already", settings->path);
	s = NEW0(struct unix_socket);
	s->agent = a;
	s->path = mem_strdup(settings->path);
	s->dir = mem_strndup(s->path, (size_t)(strrchr(s->path, '/') - s->path));
	s->port = settings->port;
	r = open_gateway(s, settings, err);
	if (r < 0) {
		if (r != -EADDRINUSE)
			unlink(s->path);
		rmdir(s->dir);
		socket_free(s);
		return err_wrap(err, r, "add socket");
	}
	map_set(&a->sockets, s->path, s);
	return 0;
}

int socket_remove(struct agent *a, const struct gcs_unix_socket *settings, struct err *err)
{
	struct unix_socket *s = map_get(&a->sockets, settings->path ? settings->path : "");

	if (!s)
		return 0;
	if (unlink(s->path) < 0 && errno != ENOENT)
		return err_sys(err, -errno, "remove socket %s", s->path);
	rmdir(s->dir);
	map_remove(&a->sockets, s->path);
	gateway_free(s->gateway);
	return 0;
}
