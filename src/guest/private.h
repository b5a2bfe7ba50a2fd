/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_PRIVATE_H
#define LCOW_GUEST_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "guest/bridge.h"
#include "guest/guest.h"
#include "guest/port.h"

/**
 * struct guest - one VM's guest; shared by the files of this room and their tests
 * @changed:	what guest_connect() waits for
 * @lost:	delivers @on_lost from the loop; NULL unless the bridge has broken
 * @processes:	struct guest_process that know this guest, with those that are being started
 * @next_port:	of stdio, of forwards and of forwarded ports
 * @dial_usec:	how long the guest may take to dial the stdio ports after it has said that the
 *		process runs
 */
struct guest {
	struct channel *channel;
	void (*on_lost)(void *arg);
	void *arg;
	void (*on_oom)(const char *container, uint64_t kills, void *arg);
	void *oom_arg;
	struct port *entropy;
	struct port *log;
	struct port *door;
	struct co_event changed;
	struct bridge *bridge;
	struct loop_timer *lost;
	struct gcs_negotiate_reply negotiated;
	struct list processes;
	uint32_t next_port;
	uint64_t dial_usec;
	bool connecting;
	bool connected;
	bool closed;
};

enum { GUEST_DIAL_SEC = 10 };

/**
 * guest_call() - bridge_call() for requests about one container
 * @base:	begins @request, filled in here and emptied again
 * @id:		container id, NULL for the UVM
 */
CO int guest_call(struct guest *g, uint32_t type, const char *id, struct gcs_base *base,
		  const struct json_table *table, const void *request,
		  const struct json_table *reply_table, void *reply, struct err *err);
/** guest_begin() - bridge_begin(), likewise */
int guest_begin(struct guest *g, struct bridge_pending *p, uint32_t type, const char *id,
		struct gcs_base *base, const struct json_table *table, const void *request,
		struct err *err);

/** guest_listen_any() - port_listen() on the next port that is free */
int guest_listen_any(struct guest *g, const struct port_spec *spec, struct port **ret,
		     uint32_t *ret_number, struct err *err);

/** guest_processes_ended() - the bridge is down: wake who waits for stdio connections */
void guest_processes_ended(struct guest *g);
/** guest_processes_forget() - the guest goes: let go of its processes, which live on */
void guest_processes_forget(struct guest *g);

#endif
