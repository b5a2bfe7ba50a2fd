/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_CHANNEL_H
#define LCOW_VMM_CHANNEL_H

#include <stdint.h>

#include "loop/co.h"

struct err;

/**
 * struct channel - the guest channel: the host listens on vsock ports, the guest dials. Which
 * transport is behind it is nobody's business above: the multiplexer over virtio-serial,
 * vhost-vsock, or a vhost-user-vsock daemon's unix sockets
 */
struct channel;
struct channel_listener;

/**
 * channel_listen() - listen on a port; possible before the VM runs
 * Return: 0, or negative errno (-EADDRINUSE)
 */
int channel_listen(struct channel *c, uint32_t port, struct channel_listener **ret,
		   struct err *err);

/**
 * channel_accept() - the next stream that the guest opened to the port
 * @ret_fd:	non-blocking stream socket with half-close; the caller's
 * Return: 0, -ECONNRESET when the channel has ended, -ETIMEDOUT, -ECANCELED
 */
CO int channel_accept(struct channel_listener *l, int *ret_fd);

/**
 * channel_listener_free() - stop listening; streams nobody accepted are closed; NULL is fine;
 * Return: NULL
 */
struct channel_listener *channel_listener_free(struct channel_listener *l);
static inline void channel_listener_freep(struct channel_listener **l)
{
	channel_listener_free(*l);
}

/**
 * channel_close() - end the channel: every pending and later accept returns -ECONNRESET; streams
 * are reset where the transport can
 */
void channel_close(struct channel *c);

#endif
