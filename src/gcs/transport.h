/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_TRANSPORT_H
#define LCOW_GCS_TRANSPORT_H

#include <stdint.h>

#include "base/mem.h"
#include "loop/co.h"

struct err;
struct modules;

/**
 * enum transport_kind - what carries the host's ports
 */
enum transport_kind {
	TRANSPORT_AUTO, /* serial where the port is there, else vsock */
	TRANSPORT_SERIAL, /* wire/mux.h over the virtio-serial port named "lcow.mux" */
	TRANSPORT_VSOCK, /* AF_VSOCK to the host's CID */
	TRANSPORT_CHANNEL, /* wire/mux.h over an fd that is open already: for tests */
};

/**
 * struct transport - dials ports of the host
 */
struct transport;

/** transport_parse() - "auto", "serial", "vsock"; Return: 0 or -EINVAL */
int transport_parse(const char *s, enum transport_kind *ret);

/**
 * transport_open() - load the drivers and find the channel. Blocks: for the time before the loop
 * @fd:	the channel of TRANSPORT_CHANNEL, non-blocking, owned from now on; -EBADF otherwise
 *
 * Return: 0 or negative errno with text
 */
int transport_open(enum transport_kind kind, int fd, struct modules *m, struct transport **ret,
		   struct err *err);
/** transport_free() - drop every stream; NULL is fine */
struct transport *transport_free(struct transport *t);

/**
 * transport_dial() - connect to a port that the host listens on
 * @ret_fd:	non-blocking stream socket, the caller's
 *
 * Return: 0 or negative errno with text; -ENOTCONN while no host is at the other end of the channel
 */
CO int transport_dial(struct transport *t, uint32_t port, int *ret_fd, struct err *err);

#endif
