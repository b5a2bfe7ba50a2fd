/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_PCI_HOST_H
#define LCOW_VMM_PCI_HOST_H

struct err;

/*
 * PCI devices of the host and whether they can be assigned, as Linux
 * Documentation/driver-api/vfio.rst has it. Binding them to vfio-pci is the operator's.
 */

enum { PCI_ADDRESS_MAX = 24 };

/**
 * struct pci_host - a function that can be assigned
 * @address:	"0000:3b:00.0"
 * @group:	its IOMMU group
 */
struct pci_host {
	char address[PCI_ADDRESS_MAX];
	unsigned group;
};

/**
 * pci_address_parse() - a PCI address in its one spelling: lower case, with its domain
 * @text:	"0000:3b:00.0" or "3B:00.0"
 * Return: 0, or -ERR_INVALID without text
 */
int pci_address_parse(const char *text, char ret[PCI_ADDRESS_MAX]);

/**
 * pci_host_find() - a function of the host, if it can be assigned
 * @root:	"", or what stands before /sys and /dev in tests
 * @address:	as from pci_address_parse()
 * @vf:		its virtual function, negative for itself
 *
 * It must be in an IOMMU group and bound to vfio-pci or a variant of it, and nothing else in the
 * group may be bound to another driver, bridges and pci-stub aside.
 *
 * Return: 0; -ERR_INVALID when there is no such device; -ERR_STATE with a text that says what is
 * missing and what to do
 */
int pci_host_find(const char *root, const char *address, int vf, struct pci_host *ret,
		  struct err *err);

/**
 * pci_host_group() - functions of an IOMMU group, bridges aside
 * @ret:	strv of addresses, sorted
 * Return: 0, or -ERR_INVALID
 */
int pci_host_group(const char *root, unsigned group, char ***ret, struct err *err);

#endif
