/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_VM_H
#define LCOW_CONTROLLER_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop/co.h"

struct err;
struct guest;
struct pods;
struct scsi;
struct shares;
struct sizing;
struct sockets;
struct vm_config;
struct vpci;

/*
 * VM controller: owns one VM, its guest connection and its device controllers; one per shim.
 *
 *   NotCreated --create--> Created --start--> Running --exit or terminate--> Terminated
 *   Created --start failed--> Invalid --terminate--> Terminated
 *   NotCreated and Terminated --terminate--> unchanged
 */

enum vm_state { VM_NOT_CREATED, VM_CREATED, VM_RUNNING, VM_TERMINATED, VM_INVALID, VM_STATE_END };

/** vm_state_name() - "NotCreated" … as hcsshim spells them */
const char *vm_state_name(enum vm_state s);

struct vm;

/**
 * struct vm_events - how the owner learns of the VM's end; from the loop, once
 */
struct vm_events {
	void (*exited)(void *arg);
	void *arg;
};

/** vm_new() - a controller in state NotCreated */
struct vm *vm_new(const struct vm_events *events);
/** vm_free() - the VM must be Terminated or NotCreated; NULL is fine; Return: NULL */
struct vm *vm_free(struct vm *vm);

/**
 * vm_create() - prepare the VM; @cfg is borrowed for the call and its strings must outlive the VM;
 * Return: 0, -ERR_STATE, or what failed (stays NotCreated)
 */
CO int vm_create(struct vm *vm, const struct vm_config *cfg, bool deny_writable_shares,
		 struct err *err);
/**
 * vm_start() - listeners, boot, connect, negotiate, within 120 s or the caller's deadline; no-op
 * when Running
 *
 * Concurrent calls wait for the first. Failure leaves Invalid, and its text ends in QEMU's and the
 * kernel's last words.
 *
 * Return: 0, -ERR_STATE (FailedPrecondition) in other states, or what failed
 */
CO int vm_start(struct vm *vm, struct err *err);
/**
 * vm_terminate() - end the VM; idempotent; runs to its end whatever the caller's deadline; Return:
 * 0
 */
CO int vm_terminate(struct vm *vm, struct err *err);
/**
 * vm_wait() - until it has ended and its log is drained; Return: 0, -ERR_STATE when never created,
 * -ETIMEDOUT, -ECANCELED
 */
CO int vm_wait(struct vm *vm, struct err *err);

/** vm_state() - readable at any time, without a lock */
enum vm_state vm_state(const struct vm *vm);
/** vm_require_running() - Return: 0, or -ERR_STATE with the state that it is in */
int vm_require_running(const struct vm *vm, struct err *err);
/**
 * vm_exit_status() - 0 after a clean end, 1359 (ERROR_INTERNAL_ERROR) otherwise; meaningful in
 * Terminated
 */
uint32_t vm_exit_status(const struct vm *vm);
/** vm_started_at(), vm_exited_at() - CLOCK_REALTIME nanoseconds, 0 when it has not */
uint64_t vm_started_at(const struct vm *vm);
uint64_t vm_exited_at(const struct vm *vm);
/** vm_pid() - QEMU's pid, 0 when there is none */
pid_t vm_pid(const struct vm *vm);

/** vm_memory_mb(), vm_cpus() - what it has by now; 0 before vm_create() */
uint64_t vm_memory_mb(const struct vm *vm);
unsigned vm_cpus(const struct vm *vm);

/**
 * vm_ping() - whether the guest answers, within the caller's deadline
 * Return: 0; -ERR_STATE unless Running; -ETIMEDOUT or -ERR_UNAVAILABLE when it does not
 */
CO int vm_ping(struct vm *vm, struct err *err);
/**
 * struct vm_stats - what the VM costs the host: QEMU with all that runs in it
 * @memory:	resident bytes
 */
struct vm_stats {
	uint64_t cpu_user_usec;
	uint64_t cpu_system_usec;
	uint64_t memory;
};
/** vm_get_stats() - Return: 0; -ERR_STATE unless Running */
int vm_get_stats(const struct vm *vm, struct vm_stats *ret, struct err *err);

/**
 * vm_guest(), vm_scsi(), vm_shares(), vm_sockets(), vm_vpci(), vm_pods() - NULL before vm_create();
 * they live until vm_free()
 */
struct guest *vm_guest(struct vm *vm);
struct scsi *vm_scsi(struct vm *vm);
struct shares *vm_shares(struct vm *vm);
struct sockets *vm_sockets(struct vm *vm);
struct vpci *vm_vpci(struct vm *vm);
struct pods *vm_pods(struct vm *vm);
/** vm_sizing() - likewise; how large the VM is for its containers */
struct sizing *vm_sizing(struct vm *vm);
/** vm_sync_clock() - tell the guest the time of day again, soon */
void vm_sync_clock(struct vm *vm);

/**
 * vm_device_gone() - whether a failed teardown step of a device, mount or container means that it
 * is gone anyway
 * Return: true for -ERR_UNAVAILABLE, -ERR_NOT_FOUND, -ECONNRESET, -ESRCH
 */
bool vm_device_gone(int code);
/**
 * vm_call_abandoned() - whether a failed guest call may be carried out all the same, because its
 * answer was not waited for
 * Return: true for -ETIMEDOUT, -ECANCELED; what it would have made must be taken back as if it had
 * succeeded
 */
bool vm_call_abandoned(int code);

/**
 * struct vm_ops - what the controller needs of the VMM and of the guest room; NULL slots do not
 * exist. Unit tests give fakes
 */
struct vm_ops {
	CO int (*create)(void *ctx, const struct vm_config *cfg, void (*on_exit)(void *arg),
			 void *arg, struct err *err);
	int (*listen)(void *ctx, struct err *err);
	CO int (*boot)(void *ctx, struct err *err);
	CO int (*connect)(void *ctx, struct err *err);
	void (*disconnect)(void *ctx);
	CO int (*terminate)(void *ctx);
	CO void (*drain_log)(void *ctx, uint64_t usec);
	bool (*clean_exit)(void *ctx);
	char *(*last_words)(void *ctx);
	pid_t (*pid)(void *ctx);
	CO int (*set_clock)(void *ctx, uint64_t unix_ns, struct err *err);
	CO int (*ping)(void *ctx, struct err *err);
};
/** vm_set_ops() - for unit tests, right after vm_new() */
void vm_set_ops(struct vm *vm, const struct vm_ops *ops, void *ctx);

#endif
