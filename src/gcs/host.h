/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_HOST_H
#define LCOW_GCS_HOST_H

struct agent;

/* host.c holds the handlers of every request type: struct handler handlers[] of bridge.h. */

/** host_negotiated() - a host is there: tell it what one must know that was not there before */
void host_negotiated(struct agent *a);

/** host_bridge_lost() - the connection is gone: forget what waits for responses to go over it */
void host_bridge_lost(struct agent *a);

#endif
