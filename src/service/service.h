/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SERVICE_SERVICE_H
#define LCOW_SERVICE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/container.h"
#include "loop/co.h"
#include "vmm/vmm.h"
#include "wire/ttrpc.h"

struct err;

/*
 * The services of one shim: one sandbox, one VM. Task calls come in under containerd.task.v2.Task
 * and v3.Task alike.
 */

struct service;

/**
 * struct service_options - what a shim is made with; borrowed, and outlives the service
 * @namespace:	containerd namespace
 * @sandbox:	id of the sandbox, or of the lone container
 * @events:	address of containerd's event service, NULL for none
 * @vm:		the VM to create; boot files are loaded when it is created
 * @boot_files:	boot files directory
 * @deny_writable_shares: refuse writable shares
 * @work_dir, @scratch_dir, @scratch_bytes, @upper: as in struct container_env
 * @done:	called from the loop once the service has nothing left to do and the process may end
 */
struct service_options {
	const char *namespace;
	const char *sandbox;
	const char *events;
	struct vm_config vm;
	const char *boot_files;
	bool deny_writable_shares;
	const char *work_dir;
	const char *scratch_dir;
	uint64_t scratch_bytes;
	enum rootfs_upper upper;
	void (*done)(void *arg);
	void *arg;
};

/** service_table - what to hand to ttrpc_server_new(), with the service as its ctx */
extern const struct ttrpc_service *const service_table[];

/** service_new() - a service without a VM: the first Create makes it */
struct service *service_new(const struct service_options *options);
/** service_untouched() - whether no task was ever created */
bool service_untouched(const struct service *s);
/**
 * service_shutdown() - end the sandbox in order: VM, its containers' exits, events; then call
 * done(). Idempotent, from anywhere
 */
void service_shutdown(struct service *s);
/** service_free() - after done(); NULL is fine; Return: NULL */
struct service *service_free(struct service *s);

#endif
