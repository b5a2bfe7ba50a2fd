/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/pci.h"

#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/device.h"
#include "gcs/module.h"
#include "wire/gcs.h"
#include "wire/json.h"

#define ROOT_BUS "/sys/devices/pci0000:00"
#define PROC_DIR "/proc/bus/pci"

enum {
	POLL_USEC = 10000,
	APPEAR_USEC = 20000000,
	DRIVER_USEC = 10000000,
	NODES_USEC = 60000000,
	NODES_POLL_USEC = 100000,
	ATTRIBUTE_MAX = 4096,
};

/* ---- finding ---- */

/** function_of() - "10.3" at the beginning of @path; Return: its length, 0 when it is none */
static size_t function_of(const char *path)
{
	unsigned slot, function;
	int n = 0;

	if (strspn(path, "0123456789abcdef") != 2 || path[2] != '.')
		return 0;
	if (sscanf(path, "%2x.%1u%n", &slot, &function, &n) != 2 || n != 4 || slot > 0x1f ||
	    function > 7)
		return 0;
	return path[4] == '/' || !path[4] ? 4 : 0;
}

/** child_of() - the entry "<domain>:<bus>:<function>" of a directory, NULL when it has none */
static char *child_of(const char *dir, const char *function)
{
	DIR *d = opendir(dir);
	char *found = NULL;

	if (!d)
		return NULL;
	for (struct dirent *e = readdir(d); e && !found; e = readdir(d)) {
		unsigned domain, bus;
		int n = 0;

		if (sscanf(e->d_name, "%4x:%2x:%n", &domain, &bus, &n) == 2 && n == 8 &&
		    strlen(e->d_name) == 12 && strncmp(e->d_name + n, function, 4) == 0)
			found = str_printf("%s/%s", dir, e->d_name);
	}
	closedir(d);
	return found;
}

int pci_find(const char *root, const char *path, char **ret)
{
	_cleanup_free_ char *dir = mem_strdup(root);

	for (const char *p = path;;) {
		size_t len = function_of(p);

		if (!len)
			return -ERR_INVALID;
		if (dir) {
			char *below = child_of(dir, p);

			free(dir);
			dir = below;
		}
		if (!p[len])
			break;
		p += len + 1;
	}
	if (!dir)
		return -ERR_NOT_FOUND;
	*ret = TAKE_PTR(dir);
	return 0;
}

/** attribute() - a file of a device without its newline, "" when there is none; the caller frees */
static char *attribute(const char *device, const char *name)
{
	_cleanup_free_ char *path = str_printf("%s/%s", device, name);
	char *text = NULL;

	if (file_read(path, ATTRIBUTE_MAX, &text, NULL) < 0)
		return mem_strdup("");
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static bool has_driver(const char *device)
{
	_cleanup_free_ char *path = str_printf("%s/driver", device);

	return access(path, F_OK) == 0;
}

static bool is_network(const char *device)
{
	_cleanup_free_ char *class = attribute(device, "class");

	return str_starts(class, "0x02");
}

/* ---- adding ---- */

/**
 * is_added() - the kernel shows a device before it has told all about it, and before it has given
 * it addresses; the file in /proc is the last thing that it makes
 */
static bool is_added(const char *device)
{
	_cleanup_free_ char *modalias = attribute(device, "modalias");
	const char *bus = strrchr(device, '/') + strlen("/0000:");
	_cleanup_free_ char *proc = str_printf(PROC_DIR "/%.2s/%s", bus, bus + strlen("00:"));

	return !str_empty(modalias) && (access(PROC_DIR, F_OK) < 0 || access(proc, F_OK) == 0);
}

static CO int await_device(const char *path, char **ret, struct err *err)
{
	CO_LIMIT(APPEAR_USEC);

	for (;;) {
		_cleanup_free_ char *device = NULL;
		int r = pci_find(ROOT_BUS, path, &device);

		if (r == -ERR_INVALID)
			return err_set(err, r, "\"%s\" is no path of PCI functions", path);
		if (r == 0 && is_added(device)) {
			*ret = TAKE_PTR(device);
			return 0;
		}
		r = co_sleep(POLL_USEC);
		if (r < 0)
			return err_set(err, r, "no PCI device at %s%s", path,
				       r == -ETIMEDOUT ? " after 20 seconds" : "");
	}
}

/* A device without a driver is of use to whoever brings one in a container, or drives it by itself:
 * no failure. */
static CO int await_driver(struct agent *a, const char *device, struct err *err)
{
	_cleanup_free_ char *modalias = attribute(device, "modalias");
	_cleanup_free_ char *module = modules_by_alias(a->modules, modalias);
	const char *const names[] = { module, NULL };
	int r;

	if (!module) {
		log_info("this image has no driver for PCI device %s, %s", device, modalias);
		return 0;
	}
	r = modules_need(a->modules, names, err);
	if (r < 0)
		return r;
	CO_LIMIT(DRIVER_USEC);
	while (!has_driver(device)) {
		r = co_sleep(POLL_USEC);
		if (r == -ETIMEDOUT) {
			log_warn("driver %s does not take PCI device %s", module, device);
			return 0;
		}
		if (r < 0)
			return err_sys(err, r, "wait for driver %s", module);
	}
	return 0;
}

/* What was at the same place before is gone. */
static void remember(struct agent *a, const char *guid, const char *device)
{
	for (size_t i = 0; i < a->pci_devices.len;) {
		struct map_entry *e = &a->pci_devices.entries[i];

		if (str_eq(e->value, device))
			free(map_remove(&a->pci_devices, e->key));
		else
			i++;
	}
	free(map_set(&a->pci_devices, guid, mem_strdup(device)));
}

CO int pci_add(struct agent *a, const struct gcs_vpci_device *d, struct err *err)
{
	_cleanup_free_ char *device = NULL;
	int r;

	if (str_empty(d->vmbus_guid))
		return err_set(err, -ERR_INVALID, "VPCIDevice: VMBusGUID is missing");
	if (str_empty(d->pci_path))
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "VPCIDevice: PCIPath is missing, and this VM has no VMBus");
	r = await_device(d->pci_path, &device, err);
	if (r == 0)
		r = await_driver(a, device, err);
	if (r < 0)
		return r;
	remember(a, d->vmbus_guid, device);
	return 0;
}

/* ---- nodes ---- */

void pci_nodes(const char *sys, const char *device, const char *kind, char ***names)
{
	_cleanup_free_ char *dir = str_printf("%s/dev/%s", sys, kind);
	/* Links there: ../../devices/pci0000:00/… */
	_cleanup_free_ char *below = str_printf("../..%s/", device + strlen(sys));
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		_cleanup_free_ char *path = str_printf("%s/%s", dir, e->d_name);
		_cleanup_free_ char *uevent = NULL;
		char target[1024], *name;
		ssize_t n = readlink(path, target, sizeof(target) - 1);

		if (n < 0)
			continue;
		target[n] = '\0';
		if (!str_starts(target, below))
			continue;
		free(path);
		path = str_printf("%s/%s/uevent", dir, e->d_name);
		if (file_read(path, ATTRIBUTE_MAX, &uevent, NULL) < 0)
			continue;
		name = strstr(uevent, "DEVNAME=");
		if (name && (name == uevent || name[-1] == '\n')) {
			name += strlen("DEVNAME=");
			name[strcspn(name, "\n")] = '\0';
			strv_add(names, name);
		}
	}
	closedir(d);
}

/** await_nodes() - a driver makes several one after another, so look until no more come */
static CO int await_nodes(const char *device, char ***ret, struct err *err)
{
	CO_LIMIT(NODES_USEC);
	size_t before = 0;

	for (;;) {
		_cleanup_strv_ char **names = NULL;
		int r;

		pci_nodes("/sys", device, "char", &names);
		pci_nodes("/sys", device, "block", &names);
		if (strv_len(names) > 0 && strv_len(names) == before) {
			*ret = TAKE_PTR(names);
			return 0;
		}
		before = strv_len(names);
		r = co_sleep(NODES_POLL_USEC);
		if (r < 0)
			return err_set(err, r, "no device node of %s%s", device,
				       r == -ETIMEDOUT ? " after 60 seconds" : "");
	}
}

static CO int add_nodes_of(struct agent *a, struct json_object *spec, const char *guid,
			   struct err *err)
{
	const char *device = map_get(&a->pci_devices, guid ? guid : "");
	_cleanup_strv_ char **names = NULL;
	int r;

	if (!device)
		return err_set(err, -ERR_INVALID, "PCI device %s was not added to the VM",
			       guid ? guid : "\"\"");
	if (!has_driver(device) || is_network(device))
		return 0;
	r = await_nodes(device, &names, err);
	for (char **name = names; r == 0 && name && *name; name++) {
		_cleanup_free_ char *path = str_printf("/dev/%s", *name);

		device_add(spec, path);
	}
	return r;
}

CO int pci_add_nodes(struct agent *a, struct json_object *spec, struct err *err)
{
	struct json_object *list = json_get(spec, "windows", "devices", NULL);
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *device = json_object_array_get_idx(list, i);
		int r = add_nodes_of(a, spec, json_get_str(device, "id"), err);

		if (r < 0)
			return err_wrap(err, r, "windows.devices");
	}
	return 0;
}
