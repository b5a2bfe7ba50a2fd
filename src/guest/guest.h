/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_GUEST_H
#define LCOW_GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"
#include "wire/gcs.h"

struct channel;
struct err;

/*
 * The host's client of the guest compute service. Guest requests of one VM may be pending at the
 * same time. A protocol violation, the end of the bridge, or guest_close() ends every pending call
 * with -ERR_UNAVAILABLE.
 */

struct guest;

/**
 * guest_new() - for one VM
 * @channel:	outlives the guest; what accepts on it ends at the first turn of the loop after
 *		guest_close()
 * @on_lost:	called once from the loop when a bridge that stood has ended, unless guest_close()
 *		came before; may be NULL
 */
struct guest *guest_new(struct channel *channel, void (*on_lost)(void *arg), void *arg);
/**
 * guest_listen() - listen on the entropy, log and bridge ports; before the VM starts; Return: 0 or
 * a negative code
 */
int guest_listen(struct guest *g, struct err *err);
/**
 * guest_connect() - give entropy, take the log stream, accept the bridge and negotiate protocol 4
 *
 * Ends by the caller's deadline or cancellation. The log stream is relayed to the shim's log from
 * here on. The guest need not ask for entropy, nor log; it may do both before or after it has
 * dialled the bridge.
 *
 * Return: 0 or a negative code with text
 */
CO int guest_connect(struct guest *g, struct err *err);
/** guest_caps() - what the guest said in NegotiateProtocol */
const struct gcs_caps *guest_caps(const struct guest *g);
/** guest_has() - whether one of lcow's extensions (GCS_EXT_…) was agreed; not with a NULL @g */
bool guest_has(const struct guest *g, const char *extension);
/**
 * guest_on_oom() - before guest_connect(): be told of out-of-memory kills
 * @fn:		called from the loop with a valid id, of a container or not, and the guest's count
 */
void guest_on_oom(struct guest *g, void (*fn)(const char *container, uint64_t kills, void *arg),
		  void *arg);
/** guest_connected() - whether the bridge stands */
bool guest_connected(const struct guest *g);
/**
 * guest_close() - end the bridge; idempotent. A log stream that has been accepted goes on: see
 * guest_drain_log()
 */
void guest_close(struct guest *g);
/**
 * guest_drain_log() - wait until the guest's log stream has ended, at most @usec; no other is
 * accepted
 */
CO void guest_drain_log(struct guest *g, uint64_t usec);
/** guest_free() - after guest_close(); NULL is fine; Return: NULL */
struct guest *guest_free(struct guest *g);

/**
 * guest_modify() - ModifySettings
 * @container:	container id, NULL for the UVM
 * @request:	"Add", "Remove" or "Update"
 * @resource:	"MappedVirtualDisk" …
 * @table, @settings: the Settings object; NULL for none
 */
CO int guest_modify(struct guest *g, const char *container, const char *request,
		    const char *resource, const struct json_table *table, const void *settings,
		    struct err *err);

/** guest_create() - Create a container; @config is borrowed */
CO int guest_create(struct guest *g, const char *id, const struct gcs_container_config *config,
		    struct err *err);
/**
 * guest_start() - Start (bookkeeping in the guest; the init process starts with guest_execute())
 */
CO int guest_start(struct guest *g, const char *id, struct err *err);
/** guest_delete_state() - DeleteContainerState; success when the guest does not support it */
CO int guest_delete_state(struct guest *g, const char *id, struct err *err);
/** guest_properties() - GetProperties; @ret is the JSON text, the caller frees it */
CO int guest_properties(struct guest *g, const char *id, const char *type, char **ret,
			struct err *err);
/** guest_stacks() - DumpStacks; "" when unsupported; the caller frees it */
CO int guest_stacks(struct guest *g, char **ret, struct err *err);

/**
 * struct guest_process - a process in the guest that was started by guest_execute()
 */
struct guest_process;

/**
 * guest_execute() - ExecuteProcess with its stdio connections, then an asynchronous WaitForProcess
 * @id:		container id, NULL for the UVM
 * @params:	in, out and err say which streams are wanted
 *
 * Return: 0 or a negative code with text; nothing is left listening then
 */
CO int guest_execute(struct guest *g, const char *id, const struct gcs_process_params *params,
		     struct guest_process **ret, struct err *err);
/** guest_process_pid() - pid in the UVM's first pid namespace */
uint32_t guest_process_pid(const struct guest_process *p);
/**
 * guest_process_fd() - stream 0, 1 or 2; -EBADF when not wanted or closed. Close it with
 * guest_process_close()
 */
int guest_process_fd(const struct guest_process *p, int stream);
/**
 * guest_process_close() - close a stream (for stdin: half-close, the guest's process sees the end);
 * idempotent
 */
void guest_process_close(struct guest_process *p, int stream);
/**
 * guest_process_on_exit() - be told of the exit
 * @fn:		called once from the loop when the guest has reported the exit, or the bridge has
 *		ended (@code 255 and
 *		@lost)
 */
void guest_process_on_exit(struct guest_process *p, void (*fn)(uint32_t code, bool lost, void *arg),
			   void *arg);
/** guest_process_signal() - SignalProcess; 0 signal is SIGKILL; -ERR_NOT_FOUND when it has ended */
CO int guest_process_signal(struct guest_process *p, int signal, struct err *err);
/** guest_process_resize() - ResizeConsole */
CO int guest_process_resize(struct guest_process *p, uint16_t width, uint16_t height,
			    struct err *err);
/**
 * guest_process_free() - close the streams and forget; no callback after it; NULL is fine; Return:
 * NULL
 */
struct guest_process *guest_process_free(struct guest_process *p);

#endif
