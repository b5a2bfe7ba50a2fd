/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_PCI_H
#define LCOW_GCS_PCI_H

#include "loop/co.h"

struct agent;
struct err;
struct gcs_vpci_device;
struct json_object;

/**
 * pci_add() - wait until a device that the host plugs is there, load its driver if this image has
 * one, and wait until that has it; remember it by its GUID
 *
 * There is no request for its removal: the kernel gives it up when the hardware is asked back.
 *
 * Return: 0, -ETIMEDOUT, -ERR_INVALID for a path that cannot be, -ERR_UNIMPLEMENTED without one
 */
CO int pci_add(struct agent *a, const struct gcs_vpci_device *d, struct err *err);

/**
 * pci_add_nodes() - give a container the nodes that the drivers of its devices have made
 * @spec:	its OCI spec: windows.devices names devices by their GUIDs; linux.devices and
 *		linux.resources.devices are added to
 *
 * A device without a driver, or a network card, has none; for others they are waited for.
 *
 * Return: 0, -ERR_INVALID for a device that was not added, -ETIMEDOUT
 */
CO int pci_add_nodes(struct agent *a, struct json_object *spec, struct err *err);

/**
 * pci_find() - where a device is below /sys
 * @root:	"/sys/devices/pci0000:00", another one in tests
 * @path:	functions from the root bus down, "10.3/00.0": bus numbers below it are the
 *		kernel's choice
 * @ret:	the caller frees it
 *
 * Return: 0; -ERR_NOT_FOUND while it is not there; -ERR_INVALID for what is no path
 */
int pci_find(const char *root, const char *path, char **ret);

/**
 * pci_nodes() - names below /dev of a device's nodes
 * @sys:	"/sys", another one in tests
 * @device:	as from pci_find()
 * @kind:	"char" or "block"
 * @names:	strv that takes them
 */
void pci_nodes(const char *sys, const char *device, const char *kind, char ***names);

#endif
