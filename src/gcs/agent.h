/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_AGENT_H
#define LCOW_GCS_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "loop/co.h"

struct bridge;
struct dm;
struct modules;
struct oom;
struct reaper;
struct shares;
struct transport;

/**
 * struct agent - the whole guest agent; one per process, passed down to everything
 * @program:	path of this program
 * @test:	runs on a test channel and not in a VM: nothing of the machine may be changed
 * @stopping:	the VM is being powered off: the bridge does not dial again
 * @ready:	set once the host has negotiated for the first time: what need not delay that starts
 *		now
 * @plugged:	memory has come or gone since it was last looked at
 * @modules:	kernel modules that can be loaded
 * @transport:	how the host's ports are dialled
 * @bridge:	requests from the host
 * @reaper:	buries what nobody else waits for
 * @oom:	out-of-memory kills
 * @shares:	the VM's virtio-9p export root
 * @dm:		devices that check or encrypt disks
 * @containers:	id to struct container, those being created too
 * @pods:	id to struct pod
 * @networks:	NamespaceID in lower case to struct network
 * @pci_devices: VMBus GUID to directory below /sys, for those that the host has added
 * @sockets:	path to struct unix_socket
 * @externals:	struct process outside of containers
 */
struct agent {
	const char *program;
	bool test;
	bool stopping;
	struct co_event ready;
	struct co_event plugged;
	struct modules *modules;
	struct transport *transport;
	struct bridge *bridge;
	struct reaper *reaper;
	struct oom *oom;
	struct shares *shares;
	struct dm *dm;
	struct map containers;
	struct map pods;
	struct map networks;
	struct map pci_devices;
	struct map sockets;
	struct list externals;
};

/**
 * agent_power_off() - end the VM (a test run: the process)
 * @a:		agent
 * @reason:	why, when this is a failure: it goes to the log port and to the console; NULL for an
 *		orderly end
 *
 * Does not return.
 */
void agent_power_off(struct agent *a, const char *reason) __attribute__((noreturn));

#endif
