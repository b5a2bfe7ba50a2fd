/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/socket.h"

#include <errno.h>
#include <sys/epoll.h>
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
#include "loop/duplex.h"
#include "loop/loop.h"
#include "wire/gcs.h"

enum { BACKLOG = 128, DIAL_USEC = 30000000, AGAIN_USEC = 100000 };

/**
 * struct unix_socket - one that the agent listens on
 * @watch:	of the listener; NULL while there is no room for another connection
 * @again:	tries again after accept() has failed
 */
struct unix_socket {
	struct agent *agent;
	char *path;
	char *dir;
	uint32_t port;
	int listener;
	struct loop_watch *watch;
	struct loop_timer *again;
	struct list connections;
	unsigned n_connections;
};

/**
 * struct connection - from a container
 * @socket:	what it came to; NULL once that is gone
 * @fd:		while the host is dialled
 * @duplex:	after that
 */
struct connection {
	struct list link;
	struct unix_socket *socket;
	int fd;
	struct duplex *duplex;
};

static void on_arrival(int fd, uint32_t events, void *arg);

static void listen_again(void *arg)
{
	struct unix_socket *s = arg;

	if (!s->watch && s->n_connections < GCS_SOCKET_CONNECTIONS &&
	    loop_watch_new(s->listener, EPOLLIN, on_arrival, s, &s->watch) < 0)
		loop_timer_set(s->again, AGAIN_USEC);
}

/* Its socket is told of the room, if it is still there. */
static void connection_free(struct connection *c)
{
	struct unix_socket *s = c->socket;

	if (s) {
		list_remove(&c->link);
		s->n_connections--;
		listen_again(s);
	}
	duplex_free(c->duplex);
	fd_close(c->fd);
	free(c);
}

static void on_over(struct duplex *d, void *arg)
{
	connection_free(arg);
}

static CO void dial_host(void *arg)
{
	struct connection *c = arg;
	struct err err = { 0 };
	int fd = -EBADF;
	int r = c->socket ? transport_dial(c->socket->agent->transport, c->socket->port, &fd, &err)
			  : -ECANCELED;

	/* The socket may have been removed meanwhile. */
	if (r >= 0 && c->socket)
		r = duplex_new(TAKE_FD(c->fd), TAKE_FD(fd), on_over, c, &c->duplex);
	else if (r < 0 && c->socket)
		log_warn("relay a connection to %s: %s", c->socket->path, err.text);
	fd_close(fd);
	if (!c->duplex)
		connection_free(c);
}

static void take(struct unix_socket *s, int fd)
{
	struct connection *c = NEW0(struct connection);

	c->socket = s;
	c->fd = fd;
	list_append(&s->connections, &c->link);
	s->n_connections++;
	co_spawn("unix socket", dial_host, c, time_mono() + DIAL_USEC);
}

static void on_arrival(int listener, uint32_t events, void *arg)
{
	struct unix_socket *s = arg;
	int fd = -EBADF;

	while (s->n_connections < GCS_SOCKET_CONNECTIONS) {
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			break;
		take(s, fd);
	}
	if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
		return;
	/* There is no room, or there are no more fds. */
	if (fd < 0)
		loop_timer_set(s->again, AGAIN_USEC);
	s->watch = loop_watch_free(s->watch);
}

static void socket_free(struct unix_socket *s)
{
	LIST_FOR_EACH_SAFE(it, &s->connections) {
		struct connection *c = LIST_ENTRY(it, struct connection, link);

		list_remove(&c->link);
		c->socket = NULL;
		/* One that is dialling ends by itself. */
		if (c->duplex)
			connection_free(c);
		else
			c->fd = fd_close(c->fd);
	}
	loop_watch_free(s->watch);
	loop_timer_free(s->again);
	fd_close(s->listener);
	free(s->path);
	free(s->dir);
	free(s);
}

static int open_listener(struct unix_socket *s, const struct gcs_unix_socket *settings,
			 struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int r = dir_make(s->dir, 0755);

	if (r < 0)
		return err_sys(err, r, "mkdir %s", s->dir);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listener < 0)
		return err_sys(err, -errno, "make a unix socket");
	memcpy(address.sun_path, s->path, strlen(s->path) + 1);
	if (bind(s->listener, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_sys(err, -errno, "bind %s", s->path);
	if (chmod(s->path, settings->mode & 0777) < 0 ||
	    lchown(s->path, settings->uid, settings->gid) < 0)
		return err_sys(err, -errno, "set the owner and mode of %s", s->path);
	if (listen(s->listener, BACKLOG) < 0)
		return err_sys(err, -errno, "listen on %s", s->path);
	r = loop_watch_new(s->listener, EPOLLIN, on_arrival, s, &s->watch);
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
	s->listener = -EBADF;
	list_init(&s->connections);
	s->again = loop_timer_new(USEC_NEVER, listen_again, s);
	r = open_listener(s, settings, err);
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
	socket_free(s);
	return 0;
}
