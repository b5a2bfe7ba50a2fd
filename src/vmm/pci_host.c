/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci_host.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#define DEVICES "/sys/bus/pci/devices"
#define GROUPS "/sys/kernel/iommu_groups"

enum { ATTRIBUTE_MAX = 256, GROUP_MAX = 256 };

int pci_address_parse(const char *text, char ret[PCI_ADDRESS_MAX])
{
	unsigned domain = 0, bus, slot, function;
	int end = 0, end_short = 0;

	/* Some host bridges have domains above 16 bits. */
	if (strspn(text, "0123456789abcdefABCDEF:.") != strlen(text))
		return -ERR_INVALID;
	if (sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) != 4 ||
	    text[end]) {
		domain = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &function, &end_short) != 3 ||
		    text[end_short])
			return -ERR_INVALID;
	}
	if (slot > 0x1f || function > 7)
		return -ERR_INVALID;
	snprintf(ret, PCI_ADDRESS_MAX, "%04x:%02x:%02x.%x", domain, bus, slot, function);
	return 0;
}

/** link_name() - last part of what a link points to, NULL when it is none; the caller frees it */
static char *link_name(const char *root, const char *device, const char *link)
{
	_cleanup_free_ char *path = str_printf("%s" DEVICES "/%s/%s", root, device, link);
	char target[ATTRIBUTE_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	const char *slash;

	if (n <= 0)
		return NULL;
	target[n] = '\0';
	slash = strrchr(target, '/');
	return mem_strdup(slash ? slash + 1 : target);
}

static bool is_bridge(const char *root, const char *device)
{
	_cleanup_free_ char *path = str_printf("%s" DEVICES "/%s/class", root, device);
	_cleanup_free_ char *text = NULL;
	size_t len;

	return file_read(path, ATTRIBUTE_MAX, &text, &len) == 0 && str_starts(text, "0x0604");
}

/** is_vfio() - vfio-pci, or a variant for one vendor's devices, such as mlx5-vfio-pci */
static bool is_vfio(const char *driver)
{
	static const char name[] = "vfio-pci";
	size_t len = driver ? strlen(driver) : 0;

	return len >= strlen(name) && str_eq(driver + len - strlen(name), name);
}

static int find_function(const char *root, const char *address, int vf, char ret[PCI_ADDRESS_MAX],
			 struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s" DEVICES "/%s", root, address);
	_cleanup_free_ char *link = str_printf("virtfn%d", vf);
	_cleanup_free_ char *name = NULL;

	if (access(path, F_OK) < 0)
		return err_set(err, -ERR_INVALID, "the host has no PCI device %s", address);
	if (vf < 0)
		return pci_address_parse(address, ret);
	name = link_name(root, address, link);
	if (!name || pci_address_parse(name, ret) < 0)
		return err_set(err, -ERR_INVALID,
			       "PCI device %s has no virtual function %d: write their number "
			       "to " DEVICES "/%s/sriov_numvfs",
			       address, vf, address);
	return 0;
}

static int find_group(const char *root, const char *address, unsigned *ret, struct err *err)
{
	_cleanup_free_ char *name = link_name(root, address, "iommu_group");
	_cleanup_free_ char *any = str_printf("%s" GROUPS "/0", root);
	uint64_t group;

	if (name && str_u64(name, &group) == 0 && group <= INT32_MAX) {
		*ret = (unsigned)group;
		return 0;
	}
	if (access(any, F_OK) < 0)
		return err_set(err, -ERR_STATE,
			       "no IOMMU: PCI device %s cannot be assigned. Switch VT-d or AMD-Vi "
			       "on in the firmware and boot the host with intel_iommu=on or "
			       "amd_iommu=on",
			       address);
	return err_set(err, -ERR_STATE,
		       "PCI device %s is in no IOMMU group: the IOMMU does not cover it", address);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int pci_host_group(const char *root, unsigned group, char ***ret, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s" GROUPS "/%u/devices", root, group);
	_cleanup_strv_ char **list = NULL;
	char address[PCI_ADDRESS_MAX];
	DIR *d = opendir(path);

	if (!d)
		return err_set(err, -ERR_INVALID, "the host has no IOMMU group %u", group);
	for (struct dirent *e = readdir(d); e && strv_len(list) < GROUP_MAX; e = readdir(d))
		if (pci_address_parse(e->d_name, address) == 0 && !is_bridge(root, e->d_name))
			strv_add(&list, e->d_name);
	closedir(d);
	if (!list)
		return err_set(err, -ERR_INVALID, "IOMMU group %u has no PCI devices", group);
	qsort(list, strv_len(list), sizeof(*list), by_text);
	*ret = TAKE_PTR(list);
	return 0;
}

static int check_drivers(const char *root, const struct pci_host *h, struct err *err)
{
	_cleanup_strv_ char **members = NULL;
	_cleanup_free_ char *own = link_name(root, h->address, "driver");
	int r = pci_host_group(root, h->group, &members, err);

	if (r < 0)
		return r;
	if (!is_vfio(own))
		return err_set(err, -ERR_STATE,
			       "PCI device %s is bound to %s%s: bind it to vfio-pci, for example "
			       "with: driverctl set-override %s vfio-pci",
			       h->address, own ? "driver " : "no driver", own ? own : "",
			       h->address);
	for (char **m = members; *m; m++) {
		_cleanup_free_ char *driver = link_name(root, *m, "driver");

		if (driver && !is_vfio(driver) && !str_eq(driver, "pci-stub"))
			return err_set(err, -ERR_STATE,
				       "PCI device %s is in IOMMU group %u with %s, which is bound "
				       "to driver %s: bind that to vfio-pci as well, or to none",
				       h->address, h->group, *m, driver);
	}
	return 0;
}

static int check_node(const char *root, const char *name, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/dev/vfio/%s", root, name);
	struct stat st;

	if (stat(path, &st) == 0 && S_ISCHR(st.st_mode))
		return 0;
	return err_set(err, -ERR_STATE,
		       "/dev/vfio/%s is missing: load the modules vfio-pci and vfio_iommu_type1",
		       name);
}

int pci_host_find(const char *root, const char *address, int vf, struct pci_host *ret,
		  struct err *err)
{
	struct pci_host h = { 0 };
	char group[16];
	int r = find_function(root, address, vf, h.address, err);

	if (r == 0)
		r = find_group(root, h.address, &h.group, err);
	if (r == 0)
		r = check_drivers(root, &h, err);
	if (r < 0)
		return r;
	snprintf(group, sizeof(group), "%u", h.group);
	r = check_node(root, "vfio", err);
	if (r == 0)
		r = check_node(root, group, err);
	if (r == 0)
		*ret = h;
	return r;
}
