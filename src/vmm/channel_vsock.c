/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "vmm/channel_backend.h"

struct channel_vsock {
	struct channel channel;
	uint32_t cid;
};

/** on_connection() - any guest of the host can dial the port: only ours is let in */
static void on_connection(int listener, uint32_t events, void *arg)
{
	struct channel_listener *l = arg;
	struct channel_vsock *v = CONTAINER_OF(l->channel, struct channel_vsock, channel);
	struct sockaddr_vm peer = { 0 };
	socklen_t len = sizeof(peer);
	int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_warn("guest channel: port %u: accept: %m", l->port);
		return;
	}
	if (peer.svm_cid != v->cid) {
		log_warn("guest channel: port %u: refused a stream of CID %u", l->port,
			 peer.svm_cid);
		fd_close(fd);
		return;
	}
	channel_deliver(l, fd);
}

static int vsock_listen(struct channel *c, struct channel_listener *l, struct err *err)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_cid = VMADDR_CID_ANY,
				    .svm_port = l->port };
	_cleanup_fd_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return err_sys(err, -errno, "AF_VSOCK socket");
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno == EADDRINUSE)
			return err_set(err, -EADDRINUSE,
				       "AF_VSOCK port in use on this host, perhaps by another VM");
		return err_sys(err, -errno, "bind AF_VSOCK");
	}
	if (listen(fd, CHANNEL_BACKLOG) < 0)
		return err_sys(err, -errno, "listen AF_VSOCK");
	r = loop_watch_new(fd, EPOLLIN, on_connection, l, &l->watch);
	if (r < 0)
		return err_sys(err, r, "watch AF_VSOCK");
	l->fd = TAKE_FD(fd);
	return 0;
}

static void vsock_unlisten(struct channel *c, struct channel_listener *l)
{
	channel_socket_unwatch(l);
}

/* The kernel resets the streams of a guest that has gone. */
static void vsock_close(struct channel *c) {}

static void vsock_free(struct channel *c)
{
	free(CONTAINER_OF(c, struct channel_vsock, channel));
}

static const struct channel_ops vsock_ops = {
	.listen = vsock_listen,
	.unlisten = vsock_unlisten,
	.close = vsock_close,
	.free = vsock_free,
};

int channel_vsock_new(uint32_t cid, struct channel **ret, struct err *err)
{
	struct channel_vsock *v;

	if (cid <= VMADDR_CID_HOST || cid == VMADDR_CID_ANY)
		return err_set(err, -ERR_INVALID, "guest channel: %u is no CID of a guest", cid);
	v = NEW0(struct channel_vsock);
	channel_init(&v->channel, &vsock_ops);
	v->cid = cid;
	*ret = &v->channel;
	return 0;
}
