/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_DEVICE_SOCKET_H
#define LCOW_CONTROLLER_DEVICE_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"

struct err;
struct gcs_unix_socket;
struct guest_forward;
struct json_object;

/*
 * Unix sockets of the host in containers: mounts of type "uds", and bind mounts whose source is a
 * socket. Each mount has a socket of its own in the guest, which is bound to its destination, and a
 * port of its own, which leads to the socket that its source was when it was mapped.
 */

struct sockets;

/**
 * struct socket_ops - what the controller needs of the VM and of the guest
 * @open:	listen on a port and relay what connects there to @socket, an O_PATH fd that is
 *		owned from then on, whatever is returned
 * @close:	undo @open
 * @add, @remove: have the guest listen, or no more; to remove what is gone is success
 */
struct socket_ops {
	int (*open)(void *ctx, int socket, struct guest_forward **ret, uint32_t *ret_port,
		    struct err *err);
	void (*close)(void *ctx, struct guest_forward *f);
	CO int (*add)(void *ctx, const struct gcs_unix_socket *s, struct err *err);
	CO int (*remove)(void *ctx, const struct gcs_unix_socket *s, struct err *err);
};

struct sockets *sockets_new(const struct socket_ops *ops, void *ctx);
/** sockets_free() - closes what is left; NULL is fine; Return: NULL */
struct sockets *sockets_free(struct sockets *s);

/**
 * socket_mounted() - whether a mount asks for a unix socket
 * @bind:	it is a bind mount, so that its source says
 */
bool socket_mounted(struct json_object *mount, bool bind);
/**
 * socket_map() - bring the socket that a mount names into the guest
 * @mount:	of a spec; becomes a bind mount of the guest's socket
 * @ids:	strv that takes what socket_unmap() takes, also when this fails
 *
 * Return: 0; -ERR_INVALID when the source is no unix socket; -ERR_UNIMPLEMENTED when the guest
 * cannot; or what failed
 */
CO int socket_map(struct sockets *s, struct json_object *mount, char ***ids, struct err *err);
/** socket_unmap() - end every connection and remove it; an unknown id is success; retryable */
CO int socket_unmap(struct sockets *s, const char *id, struct err *err);
/** sockets_in_use() - how many there are */
unsigned sockets_in_use(const struct sockets *s);

#endif
