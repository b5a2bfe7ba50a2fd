/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_CHANNEL_BACKEND_H
#define LCOW_VMM_CHANNEL_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "vmm/channel.h"

struct err;
struct loop_watch;

/* Streams that wait for channel_accept(); further ones are reset: a guest cannot fill our fd table
 * */
enum { CHANNEL_BACKLOG = 128 };

/**
 * struct channel_ops - a transport
 * @listen:	begin to deliver streams to a listener by channel_deliver(); 0 or a negative code
 *		with text
 * @unlisten:	stop it
 * @close:	reset every stream, where the transport can
 * @free:	free what the transport owns
 */
struct channel_ops {
	int (*listen)(struct channel *c, struct channel_listener *l, struct err *err);
	void (*unlisten)(struct channel *c, struct channel_listener *l);
	void (*close)(struct channel *c);
	void (*free)(struct channel *c);
};

/**
 * struct channel - embedded at the beginning of a transport's own struct
 * @listeners:	struct channel_listener.link
 */
struct channel {
	const struct channel_ops *ops;
	struct list listeners;
	bool closed;
};

/**
 * struct channel_listener - a port
 * @channel:	NULL once the channel was freed
 * @fds, @n_fds: streams that nobody has accepted yet, oldest first
 * @changed:	set while there is something to accept, or the end to be told
 * @fd, @watch:	of transports that listen on sockets; -EBADF and NULL otherwise
 * @path:	of a unix socket, NULL otherwise
 */
struct channel_listener {
	struct list link;
	struct channel *channel;
	uint32_t port;
	int fds[CHANNEL_BACKLOG];
	unsigned n_fds;
	struct co_event changed;
	int fd;
	struct loop_watch *watch;
	char *path;
};

/** channel_init() - for transports: fill the embedded struct */
void channel_init(struct channel *c, const struct channel_ops *ops);
/** channel_deliver() - hand a new non-blocking stream to its listener, which takes it over */
void channel_deliver(struct channel_listener *l, int fd);
/**
 * channel_socket_watch() - deliver what @fd (taken over in every case) accepts; Return: 0 or
 * negative errno
 */
int channel_socket_watch(struct channel_listener *l, int fd);
/** channel_socket_unwatch() - undo it */
void channel_socket_unwatch(struct channel_listener *l);
/**
 * channel_free() - close and free; listeners stay valid, but get nothing any more; NULL is fine;
 * Return: NULL
 */
struct channel *channel_free(struct channel *c);

/**
 * channel_serial_new() - streams of the port multiplexer
 * @fd:		non-blocking byte channel to the guest's virtio-serial port, taken over in every
 *		case
 */
int channel_serial_new(int fd, struct channel **ret, struct err *err);

/**
 * channel_vsock_new() - AF_VSOCK on the host (vsock(7)); ports are the whole host's, so one VM at a
 * time can use a port
 * @cid:	streams of other guests are refused
 */
int channel_vsock_new(uint32_t cid, struct channel **ret, struct err *err);

/**
 * channel_unix_new() - unix sockets <path>_<port>, as Firecracker and rust-vmm's vhost-device-vsock
 * dial them
 * @uid, @gid:	owner of the sockets: whom the daemon runs as
 */
int channel_unix_new(const char *path, uid_t uid, gid_t gid, struct channel **ret, struct err *err);

#endif
