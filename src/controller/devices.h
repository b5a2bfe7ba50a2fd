/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_DEVICES_H
#define LCOW_CONTROLLER_DEVICES_H

#include "loop/co.h"

struct err;
struct json_object;
struct vpci;

/**
 * devices_map() - bring the host's devices of a spec into the guest
 * @v:		vPCI controller of the VM
 * @spec:	the guest's copy of the spec, changed in place: ids in windows.devices become VMBus
 *		GUIDs, and VFIO nodes in linux.devices become entries there
 * @ids:	strv that takes the reservations, also when this fails
 *
 * windows.devices: idType vpci, vpci-instance-id or gpu; id is a PCI address of the host, with
 * "/<n>" behind it for its n-th virtual function. linux.devices, where containerd puts what it
 * finds by CDI: /dev/vfio/<n> is all devices of that IOMMU group; /dev/vfio/vfio is dropped.
 * Annotations cdi.k8s.io/<anything>, which nobody has resolved: comma lists of
 * lcow.dev/pci=<address>.
 *
 * Return: 0; -ERR_INVALID for another idType, or another kind in such an annotation; or what failed
 */
CO int devices_map(struct vpci *v, struct json_object *spec, char ***ids, struct err *err);

#endif
