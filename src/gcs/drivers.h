/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_DRIVERS_H
#define LCOW_GCS_DRIVERS_H

#include <stddef.h>

struct agent;

/**
 * drivers_start() - load the driver of virtio devices that nothing asks for by a request: memory,
 * balloon, network … ; bring up CPUs that are plugged in
 *
 * A coroutine for the life of the agent: once the host has negotiated, it looks at the devices that
 * are there, and then follows the kernel's uevents (Linux Documentation/ABI/testing/sysfs-uevent)
 * for those plugged later. What requests need (disks, shares) is loaded with them, so it is left
 * alone here.
 */
void drivers_start(struct agent *a);

/**
 * struct uevent - what the kernel says of a device; all of it may be NULL
 * @action:	"add", "remove", "online" …
 * @path:	below /sys: "/devices/system/cpu/cpu1"
 * @subsystem:	"cpu", "memory", "virtio" …
 * @modalias:	what its driver is found by
 */
struct uevent {
	const char *action, *path, *subsystem, *modalias;
};

/**
 * drivers_parse() - read an event: strings with their NULs, "add@/devices/…", "ACTION=add" …
 * @text:	@len bytes and a NUL; what @ret gets points into it
 */
void drivers_parse(const char *text, size_t len, struct uevent *ret);

/**
 * drivers_module() - module for a device by its modalias
 * @modalias:	"virtio:d00000005v00001AF4"
 *
 * Return: static text, NULL for devices that are none of ours
 */
const char *drivers_module(const char *modalias);

#endif
