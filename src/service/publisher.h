/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SERVICE_PUBLISHER_H
#define LCOW_SERVICE_PUBLISHER_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "loop/co.h"

/*
 * Event publisher: containerd's service containerd.services.events.ttrpc.v1.Events, method Forward.
 * Events wait in a queue and are sent in order, each with 5 s; while containerd is away they stay
 * and the connection is tried again every 1, 2, … 5 s. When PUBLISHER_QUEUE_MAX wait, the oldest is
 * dropped and logged.
 */

enum { PUBLISHER_QUEUE_MAX = 2048 };

struct publisher;

/**
 * publisher_new() - @address: unix socket path, with or without unix://; NULL or "" publishes
 * nothing. @namespace is copied
 */
struct publisher *publisher_new(const char *address, const char *namespace);
/** publisher_send() - queue an event; never blocks. The type url is the message's full name */
void publisher_send(struct publisher *p, const char *topic, const ProtobufCMessage *event);
/** publisher_drain() - wait until the queue is empty, at most @usec */
CO void publisher_drain(struct publisher *p, uint64_t usec);
/** publisher_free() - drop what waits; NULL is fine; Return: NULL */
struct publisher *publisher_free(struct publisher *p);

#endif
