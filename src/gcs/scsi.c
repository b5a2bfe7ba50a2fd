/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/scsi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/module.h"
#include "loop/worker.h"

#define HOSTS_DIR "/sys/class/scsi_host"

enum {
	POLL_USEC = 5000,
	SCAN_TURNS = 100, /* the disk is asked for again after so many polls */
	/* hot-added disks take 50 ms here; an emulated CPU under load takes long */
	DISCOVERY_USEC = 20000000,
	HOSTS_MAX = 64,
};

static const char *const drivers[] = { "virtio_pci", "virtio_scsi", "sd_mod", NULL };

struct host {
	char *pci; /* address of its PCI device, sorts by text */
	int number;
};

/* PCI address of a virtio-scsi host, NULL for other hosts:
 * …/0000:00:05.0/virtio2/host3/scsi_host/host3 */
static char *pci_of(const char *dir, const char *name)
{
	_cleanup_free_ char *link = str_printf("%s/%s", dir, name);
	char target[512];
	ssize_t n = readlink(link, target, sizeof(target) - 1);
	char *virtio, *slash;

	if (n < 0)
		return NULL;
	target[n] = '\0';
	virtio = strstr(target, "/virtio");
	if (!virtio)
		return NULL;
	*virtio = '\0';
	slash = strrchr(target, '/');
	return mem_strdup(slash ? slash + 1 : target);
}

static int by_pci(const void *a, const void *b)
{
	const struct host *x = a, *y = b;

	return strcmp(x->pci, y->pci);
}

int scsi_host_of(const char *dir, unsigned controller)
{
	struct host hosts[HOSTS_MAX];
	size_t n = 0;
	int number = -ERR_NOT_FOUND;
	DIR *d = opendir(dir);

	if (!d)
		return -ERR_NOT_FOUND;
	for (struct dirent *e = readdir(d); e && n < HOSTS_MAX; e = readdir(d)) {
		if (sscanf(e->d_name, "host%d", &hosts[n].number) != 1)
			continue;
		hosts[n].pci = pci_of(dir, e->d_name);
		n += hosts[n].pci != NULL;
	}
	closedir(d);
	qsort(hosts, n, sizeof(hosts[0]), by_pci);
	if (controller < n)
		number = hosts[controller].number;
	for (size_t i = 0; i < n; i++)
		free(hosts[i].pci);
	return number;
}

/* The one entry of a directory, NULL while there is none. */
static char *only_entry(const char *dir)
{
	DIR *d = opendir(dir);
	char *name = NULL;

	if (!d)
		return NULL;
	for (struct dirent *e = readdir(d); e && !name; e = readdir(d))
		if (e->d_name[0] != '.')
			name = mem_strdup(e->d_name);
	closedir(d);
	return name;
}

/* Device node of a disk as far as it is there now. Return: 0 or -ERR_NOT_FOUND. */
static int find(const struct scsi_address *at, char **ret)
{
	int host = scsi_host_of(HOSTS_DIR, at->controller);
	_cleanup_free_ char *dir = NULL;
	_cleanup_free_ char *disk = NULL;
	_cleanup_free_ char *node = NULL;
	_cleanup_fd_ int fd = -EBADF;

	if (host < 0)
		return host;
	dir = str_printf("/sys/bus/scsi/devices/%d:0:0:%u/block", host, at->lun);
	disk = only_entry(dir);
	if (!disk)
		return -ERR_NOT_FOUND;
	node = at->partition ? str_printf("/dev/%s%" PRIu64, disk, at->partition)
			     : str_printf("/dev/%s", disk);
	fd = open(node, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENXIO))
		return -ERR_NOT_FOUND;
	*ret = TAKE_PTR(node);
	return 0;
}

static int scan_fn(void *arg)
{
	const struct scsi_address *at = arg;
	int host = scsi_host_of(HOSTS_DIR, at->controller);
	_cleanup_free_ char *path = str_printf(HOSTS_DIR "/host%d/scan", host);
	_cleanup_free_ char *where = str_printf("0 0 %u\n", at->lun);

	return host < 0 ? host : file_put(path, where);
}

/*
 * The drivers do not scan by themselves, and a disk that was plugged before they were there has
 * sent its event to nobody. Should this fail, the event of a disk that is plugged later still makes
 * it appear.
 */
static CO void scan(const struct scsi_address *at)
{
	struct scsi_address copy = *at;
	int r = worker_call(scan_fn, &copy);

	if (r < 0)
		log_debug("scan for SCSI %u:%u: %s", at->controller, at->lun, strerror(-r));
}

static int check(const struct scsi_address *at, struct err *err)
{
	if (at->controller < SCSI_CONTROLLERS_MAX && at->partition < 256)
		return 0;
	return err_set(err, -ERR_INVALID,
		       "SCSI controller %u, LUN %u, partition %" PRIu64 " cannot be: there are %d "
		       "controllers with at most 255 partitions a disk",
		       at->controller, at->lun, at->partition, SCSI_CONTROLLERS_MAX);
}

int scsi_device(struct modules *m, const struct scsi_address *at, bool wait, char **ret,
		struct err *err)
{
	int r = check(at, err);

	if (r >= 0)
		r = modules_need(m, drivers, err);
	if (r < 0)
		return r;
	CO_LIMIT(DISCOVERY_USEC);
	for (unsigned turn = 0;; turn++) {
		r = find(at, ret);
		if (r != -ERR_NOT_FOUND || !wait)
			break;
		if (turn % SCAN_TURNS == 0)
			scan(at);
		r = co_sleep(POLL_USEC);
		if (r < 0)
			break;
	}
	if (r < 0)
		err_set(err, r, "no disk at SCSI controller %u, LUN %u, partition %" PRIu64 "%s",
			at->controller, at->lun, at->partition,
			r == -ETIMEDOUT ? " after 20 seconds" : "");
	return r;
}

static int eject_fn(void *arg)
{
	return file_put(arg, "1\n");
}

int scsi_eject(struct modules *m, const struct scsi_address *at, struct err *err)
{
	_cleanup_free_ char *path = NULL;
	int host, r = check(at, err);

	if (r < 0)
		return r;
	host = scsi_host_of(HOSTS_DIR, at->controller);
	if (host < 0)
		return 0;
	path = str_printf("/sys/bus/scsi/devices/%d:0:0:%u/delete", host, at->lun);
	/* The kernel flushes the disk in this write. */
	r = worker_call(eject_fn, path);
	return r < 0 && r != -ENOENT && r != -ENODEV ? err_sys(err, r, "write %s", path) : 0;
}
