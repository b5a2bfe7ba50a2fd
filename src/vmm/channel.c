/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/channel.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "vmm/channel_backend.h"

void channel_init(struct channel *c, const struct channel_ops *ops)
{
	c->ops = ops;
	c->closed = false;
	list_init(&c->listeners);
}

int channel_listen(struct channel *c, uint32_t port, struct channel_listener **ret, struct err *err)
{
	struct channel_listener *l;
	int r;

	if (c->closed)
		return err_set(err, -ERR_UNAVAILABLE,
			       "listen on port %u: the guest channel has ended", port);
	LIST_FOR_EACH(it, &c->listeners)
		if (LIST_ENTRY(it, struct channel_listener, link)->port == port)
			return err_set(err, -EADDRINUSE,
				       "listen on port %u: somebody does so already", port);
	l = NEW0(struct channel_listener);
	l->channel = c;
	l->port = port;
	l->fd = -EBADF;
	co_event_init(&l->changed);
	r = c->ops->listen(c, l, err);
	if (r < 0) {
		free(l);
		return err_wrap(err, r, "listen on port %u", port);
	}
	list_append(&c->listeners, &l->link);
	*ret = l;
	return 0;
}

int channel_accept(struct channel_listener *l, int *ret_fd)
{
	for (;;) {
		int r;

		if (!l->channel || l->channel->closed)
			return -ECONNRESET;
		if (l->n_fds > 0) {
			*ret_fd = l->fds[0];
			l->n_fds--;
			memmove(l->fds, l->fds + 1, l->n_fds * sizeof(l->fds[0]));
			return 0;
		}
		co_event_clear(&l->changed);
		r = co_event_wait(&l->changed);
		if (r < 0)
			return r;
	}
}

void channel_deliver(struct channel_listener *l, int fd)
{
	if (l->n_fds == CHANNEL_BACKLOG) {
		log_warn("guest channel: port %u: %d streams wait, one more is refused", l->port,
			 CHANNEL_BACKLOG);
		fd_close(fd);
		return;
	}
	l->fds[l->n_fds++] = fd;
	co_event_set(&l->changed);
}

static void drop_streams(struct channel_listener *l)
{
	while (l->n_fds > 0)
		fd_close(l->fds[--l->n_fds]);
}

struct channel_listener *channel_listener_free(struct channel_listener *l)
{
	if (!l)
		return NULL;
	if (l->channel) {
		if (!l->channel->closed)
			l->channel->ops->unlisten(l->channel, l);
		list_remove(&l->link);
	}
	drop_streams(l);
	free(l->path);
	free(l);
	return NULL;
}

void channel_close(struct channel *c)
{
	if (c->closed)
		return;
	LIST_FOR_EACH(it, &c->listeners) {
		struct channel_listener *l = LIST_ENTRY(it, struct channel_listener, link);

		c->ops->unlisten(c, l);
		drop_streams(l);
		co_event_set(&l->changed);
	}
	c->closed = true;
	c->ops->close(c);
}

struct channel *channel_free(struct channel *c)
{
	if (!c)
		return NULL;
	channel_close(c);
	LIST_FOR_EACH_SAFE(it, &c->listeners) {
		LIST_ENTRY(it, struct channel_listener, link)->channel = NULL;
		list_remove(it);
	}
	c->ops->free(c);
	return NULL;
}

static void on_connection(int listener, uint32_t events, void *arg)
{
	struct channel_listener *l = arg;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		channel_deliver(l, fd);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		log_warn("guest channel: port %u: accept: %m", l->port);
}

int channel_socket_watch(struct channel_listener *l, int fd)
{
	int r = loop_watch_new(fd, EPOLLIN, on_connection, l, &l->watch);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	l->fd = fd;
	return 0;
}

void channel_socket_unwatch(struct channel_listener *l)
{
	l->watch = loop_watch_free(l->watch);
	l->fd = fd_close(l->fd);
	if (l->path)
		unlink(l->path);
}
