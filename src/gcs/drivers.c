/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/drivers.h"

#include <dirent.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/memory.h"
#include "gcs/module.h"
#include "loop/co.h"
#include "loop/worker.h"

#define DEVICES_DIR "/sys/bus/virtio/devices"
#define CPUS_DIR "/sys/devices/system/cpu"

enum { EVENT_MAX = 8192, KERNEL_GROUP = 1, SETTLE_USEC = 3000000 };

const char *drivers_module(const char *modalias)
{
	/* Virtio 1.2, section 5: device types. */
	static const struct {
		unsigned type;
		const char *module;
	} rows[] = {
		{ 1, "virtio_net" },
		{ 4, "virtio_rng" },
		{ 5, "virtio_balloon" },
		{ 24, "virtio_mem" },
	};
	unsigned type;

	if (sscanf(modalias, "virtio:d%8xv", &type) != 1)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].type == type)
			return rows[i].module;
	return NULL;
}

static void load(struct agent *a, const char *modalias)
{
	const char *const modules[] = { drivers_module(modalias), NULL };
	_cleanup_free_ struct err *err = NEW0(struct err);

	if (modules[0] && modules_need(a->modules, modules, err) < 0)
		log_warn("no driver for %s: %s", modalias, err->text);
}

static void load_present(struct agent *a)
{
	DIR *d = opendir(DEVICES_DIR);
	_cleanup_strv_ char **aliases = NULL;

	if (!d)
		return;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		_cleanup_free_ char *path = str_printf(DEVICES_DIR "/%s/modalias", e->d_name);
		_cleanup_free_ char *alias = NULL;

		if (e->d_name[0] == '.' || file_read(path, 256, &alias, NULL) < 0)
			continue;
		alias[strcspn(alias, "\n")] = '\0';
		strv_add(&aliases, alias);
	}
	closedir(d);
	for (char **alias = aliases; alias && *alias; alias++)
		load(a, *alias);
}

void drivers_parse(const char *text, size_t len, struct uevent *ret)
{
	const struct {
		const char *key;
		const char **value;
	} rows[] = {
		{ "ACTION=", &ret->action },
		{ "DEVPATH=", &ret->path },
		{ "SUBSYSTEM=", &ret->subsystem },
		{ "MODALIAS=", &ret->modalias },
	};

	*ret = (struct uevent){ 0 };
	for (const char *p = text; p < text + len; p += strlen(p) + 1)
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
			if (str_starts(p, rows[i].key))
				*rows[i].value = p + strlen(rows[i].key);
}

static int put_online(void *arg)
{
	return file_put(arg, "1");
}

/* @dir is "/sys/devices/system/cpu/cpu3". CPU 0 often has no such file: it is always there. */
static void cpu_online(const char *dir)
{
	_cleanup_free_ char *path = str_printf("%s/online", dir);
	_cleanup_free_ char *now = NULL;
	int r;

	if (file_read(path, 16, &now, NULL) < 0 || now[0] != '0')
		return;
	r = worker_call(put_online, path);
	if (r < 0)
		log_error("cannot bring up %s: %s", dir, strerror(-r));
	else
		log_info("%s is up", dir);
}

static void cpus_present(void)
{
	_cleanup_strv_ char **dirs = NULL;
	DIR *d = opendir(CPUS_DIR);

	if (!d)
		return;
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		if (str_starts(e->d_name, "cpu"))
			strv_addf(&dirs, CPUS_DIR "/%s", e->d_name);
	closedir(d);
	for (char **dir = dirs; dir && *dir; dir++)
		cpu_online(*dir);
}

static void handle_event(struct agent *a, const char *text, size_t len)
{
	struct uevent e;
	bool add;

	drivers_parse(text, len, &e);
	add = str_eq(e.action, "add");
	if (add && e.modalias && str_eq(e.subsystem, "virtio"))
		load(a, e.modalias);
	if (str_eq(e.subsystem, "memory"))
		memory_plugged(a);
	if (add && e.path && str_eq(e.subsystem, "cpu")) {
		_cleanup_free_ char *dir = str_printf("/sys%s", e.path);

		cpu_online(dir);
	}
}

static int events_open(void)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP };
	int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int r = -errno;

		fd_close(fd);
		return r;
	}
	return fd;
}

/* What was there at boot can wait; the first container, which wants the only CPU, can not. */
static void present_main(void *arg)
{
	if (co_sleep(SETTLE_USEC) < 0)
		return;
	load_present(arg);
	cpus_present();
}

static void drivers_main(void *arg)
{
	struct agent *a = arg;
	_cleanup_free_ char *text = mem_new0(1, EVENT_MAX + 1);
	_cleanup_fd_ int fd = -EBADF;

	if (co_event_wait(&a->ready) < 0)
		return;
	/* Listening comes before looking, so that nothing is missed between the two. */
	fd = events_open();
	co_spawn("drivers at boot", present_main, a, USEC_NEVER);
	if (fd < 0)
		log_error("cannot follow device events: %s", strerror(-fd));
	while (fd >= 0 && co_wait_fd(fd, EPOLLIN) >= 0) {
		struct sockaddr_nl from = { 0 };
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, text, EVENT_MAX, 0, (struct sockaddr *)&from, &from_len);

		/* Events were lost when there were too many at once: look for oneself. */
		if (n < 0 && errno == ENOBUFS) {
			load_present(a);
			cpus_present();
			memory_plugged(a);
		}
		if (n <= 0 || from.nl_pid != 0)
			continue;
		text[n] = '\0';
		handle_event(a, text, (size_t)n);
	}
}

void drivers_start(struct agent *a)
{
	co_spawn("drivers", drivers_main, a, USEC_NEVER);
}
