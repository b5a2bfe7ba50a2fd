/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_QMP_INTERNAL_H
#define LCOW_WIRE_QMP_INTERNAL_H

#include <stddef.h>

#include "wire/qmp.h"

/* For tests, which feed a client without a QEMU. */

enum { QMP_LINE_MAX = 1 << 20 };

/** qmp_open() - a client that has not negotiated; takes over @fd */
int qmp_open(int fd, qmp_event_fn on_event, void *arg, struct qmp **ret);
/** qmp_receive() - handle bytes as if the socket had brought them; Return: 0 or -EBADMSG */
int qmp_receive(struct qmp *q, const char *data, size_t len);

#endif
