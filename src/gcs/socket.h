/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_SOCKET_H
#define LCOW_GCS_SOCKET_H

#include "loop/co.h"

struct agent;
struct err;
struct gcs_unix_socket;

/*
 * Unix sockets of the host: the agent listens on one of its own, and relays each connection to a
 * port that the host listens on. GCS_SOCKET_CONNECTIONS at a time are taken, more wait.
 */

/**
 * socket_add() - UnixSocket Add: make the directory of the path, and listen
 * Return: 0; -ERR_EXISTS; -ERR_INVALID; or negative errno with text
 */
int socket_add(struct agent *a, const struct gcs_unix_socket *s, struct err *err);
/**
 * socket_remove() - UnixSocket Remove: listen no more, close every connection, and remove the
 * socket and its directory; an unknown path is success
 */
int socket_remove(struct agent *a, const struct gcs_unix_socket *s, struct err *err);

#endif
