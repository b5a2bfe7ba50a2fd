/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_DEVICE_H
#define LCOW_GCS_DEVICE_H

struct err;
struct json_object;
struct stat;

/* Device nodes of containers: those of the VM, whatever the host has by their names. */

/**
 * device_fit() - make linux.devices and the cgroup's device rules fit the VM
 * @spec:	OCI spec as the host sent it, changed in place
 * @dev:	"/dev", another directory in tests
 *
 * Each node of linux.devices gets the numbers of what the VM has there, and may be used; nothing
 * else may but what every container has (null, tty, …). A container with the annotation
 * io.microsoft.virtualmachine.lcow.privileged has all nodes of the VM, and may use whatever there
 * is; what it asks for beyond that is left out.
 *
 * Return: 0, or -ERR_INVALID with text for a device that the VM doesn't have
 */
int device_fit(struct json_object *spec, const char *dev, struct err *err);

/**
 * device_allow() - let a container use a device
 * @access:	of "rwm": read, write, make nodes
 */
void device_allow(struct json_object *spec, const struct stat *st, const char *access);

/** device_add() - add a node of the VM, with a rule; nothing when there is no device at @path */
void device_add(struct json_object *spec, const char *path);

#endif
