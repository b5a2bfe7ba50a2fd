/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_DRIVERS_H
#define LCOW_GCS_DRIVERS_H

struct agent;

/**
 * drivers_start() - load the driver of virtio devices that nothing asks for by a request: memory,
 * balloon, network …
 *
 * A coroutine for the life of the agent: once the host has negotiated, it looks at the devices that
 * are there, and then follows the kernel's uevents (Linux Documentation/ABI/testing/sysfs-uevent)
 * for those plugged later. What requests need (disks, shares) is loaded with them, so it is left
 * alone here.
 */
void drivers_start(struct agent *a);

/**
 * drivers_module() - module for a device by its modalias
 * @modalias:	"virtio:d00000005v00001AF4"
 *
 * Return: static text, NULL for devices that are none of ours
 */
const char *drivers_module(const char *modalias);

#endif
