/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_FORWARD_H
#define LCOW_GCS_FORWARD_H

#include "loop/co.h"

struct agent;
struct err;
struct gcs_port_forward;

/**
 * forward_add() - PortForward Add: connect to an address in a network, then to a port of the host,
 * and join the two
 *
 * Whoever dials "localhost" means 127.0.0.1 or ::1: where the one refuses, the other is tried. The
 * two stay joined until both have ended, or the network has.
 *
 * Return: 0; -ECONNREFUSED when nobody listens there; -ETIMEDOUT after 10 s without an answer;
 * -ERR_NOT_FOUND for a network that there isn't; -ERR_INVALID; or negative errno with text
 */
CO int forward_add(struct agent *a, const struct gcs_port_forward *settings, struct err *err);

#endif
