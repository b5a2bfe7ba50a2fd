/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_QMP_H
#define LCOW_WIRE_QMP_H

#include "loop/co.h"

struct err;
struct json_object;

/**
 * struct qmp - client of a QEMU Machine Protocol socket
 * (https://www.qemu.org/docs/master/interop/qmp-spec.html)
 */
struct qmp;

/** an event from QEMU; @data is borrowed and may be NULL */
typedef void (*qmp_event_fn)(const char *event, struct json_object *data, void *arg);

/**
 * qmp_new() - negotiate on a connected socket
 * @fd:		non-blocking socket, taken over in every case
 * @on_event:	called from the loop for each event; may be NULL; may free the client
 *
 * Return: 0 once the greeting was read and capabilities were agreed on, or negative errno
 */
CO int qmp_new(int fd, qmp_event_fn on_event, void *arg, struct qmp **ret, struct err *err);
/** qmp_free() - close; pending calls return -ECONNRESET; NULL is fine; Return: NULL */
struct qmp *qmp_free(struct qmp *q);

/**
 * qmp_call() - execute a command
 * @command:	name
 * @args:	arguments, one reference taken over in every case; NULL for none
 * @fd:		file descriptor sent along (getfd, add-fd), -EBADF for none; stays the caller's
 * @ret:	what "return" held, one reference; may be NULL
 * @err:	QEMU's "desc" when it refuses
 *
 * Calls may be pending at the same time.
 *
 * Return: 0, -EREMOTEIO when QEMU answered with an error, -ECONNRESET when it is gone, -ETIMEDOUT,
 * -ECANCELED
 */
CO int qmp_call(struct qmp *q, const char *command, struct json_object *args, int fd,
		struct json_object **ret, struct err *err);

/**
 * qmp_call_event() - execute a command and wait for the event that ends what it began
 * @event:	such as DEVICE_DELETED; counts from before the command on, so that it may come
 *		before the answer
 * @key:	member of the event's data that is @value; NULL for any
 *
 * Return: as qmp_call(); 0 once the command has succeeded and the event has come
 */
CO int qmp_call_event(struct qmp *q, const char *command, struct json_object *args,
		      const char *event, const char *key, const char *value, struct err *err);

/**
 * qmp_wait_event() - wait for an event whose data has @key = @value, from now on; a NULL @key is
 * for any
 *
 * For an event that a command brings about this is too late, see qmp_call_event().
 *
 * Return: 0, -ECONNRESET, -ETIMEDOUT, -ECANCELED
 */
CO int qmp_wait_event(struct qmp *q, const char *event, const char *key, const char *value);

#endif
