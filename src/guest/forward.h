/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_FORWARD_H
#define LCOW_GUEST_FORWARD_H

#include <stdint.h>

struct err;
struct guest;

/**
 * struct guest_forward - a unix socket of the host, for who dials a port in the guest
 *
 * Each connection to the port becomes one to the socket, until either end is closed. At most
 * GCS_SOCKET_CONNECTIONS stand at a time. The port leads nowhere else, whatever the guest does.
 */
struct guest_forward;

/**
 * guest_forward_new() - listen on a free port
 * @socket:	O_PATH fd of the socket; owned from now on, whatever is returned. It names the
 *		socket itself: what has its path later is not connected to
 * @ret_port:	what the guest has to dial
 *
 * Return: 0 or negative errno with text
 */
int guest_forward_new(struct guest *g, int socket, struct guest_forward **ret, uint32_t *ret_port,
		      struct err *err);
/**
 * guest_forward_free() - listen no more and close every connection; also after the guest; NULL is
 * fine; Return: NULL
 */
struct guest_forward *guest_forward_free(struct guest_forward *f);

#endif
