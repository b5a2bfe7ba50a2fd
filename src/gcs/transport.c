/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/transport.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/module.h"
#include "wire/mux.h"

#define PORT_NAME "lcow.mux"
#define PORTS_DIR "/sys/class/virtio-ports"

enum {
	PROBE_TRIES = 200, /* of 10 ms: the ports show up a moment after their driver */
	VSOCK_TRIES = 10, /* of 100 ms, after ETIMEDOUT */
};

struct transport {
	enum transport_kind kind;
	char *device; /* of the virtio-serial port */
	int fd; /* channel under the multiplexer */
	struct mux *mux; /* NULL while the channel is down */
};

int transport_parse(const char *s, enum transport_kind *ret)
{
	if (str_eq(s, "auto"))
		*ret = TRANSPORT_AUTO;
	else if (str_eq(s, "serial"))
		*ret = TRANSPORT_SERIAL;
	else if (str_eq(s, "vsock"))
		*ret = TRANSPORT_VSOCK;
	else
		return -EINVAL;
	return 0;
}

/* The device of the port named PORT_NAME, NULL while there is none. */
static char *find_port(void)
{
	DIR *d = opendir(PORTS_DIR);
	char *found = NULL;

	if (!d)
		return NULL;
	for (struct dirent *e = readdir(d); e && !found; e = readdir(d)) {
		_cleanup_free_ char *path = str_printf(PORTS_DIR "/%s/name", e->d_name);
		_cleanup_free_ char *name = NULL;

		if (e->d_name[0] == '.' || file_read(path, 256, &name, NULL) < 0)
			continue;
		if (str_eq(name, PORT_NAME) || str_eq(name, PORT_NAME "\n"))
			found = str_printf("/dev/%s", e->d_name);
	}
	closedir(d);
	return found;
}

static int open_serial(struct transport *t, struct modules *m, unsigned tries, struct err *err)
{
	static const char *const drivers[] = { "virtio_pci", "virtio_console" };
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		r = modules_load(m, drivers[i], err);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < tries; i++) {
		t->device = find_port();
		if (t->device) {
			t->kind = TRANSPORT_SERIAL;
			return 0;
		}
		usleep(10000);
	}
	return err_set(err, -ENODEV, "this VM has no virtio-serial port named " PORT_NAME);
}

static int open_vsock(struct transport *t, struct modules *m, struct err *err)
{
	static const char *const drivers[] = { "virtio_pci", "vsock",
					       "vmw_vsock_virtio_transport" };

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		int r = modules_load(m, drivers[i], err);

		if (r < 0)
			return r;
	}
	t->kind = TRANSPORT_VSOCK;
	return 0;
}

int transport_open(enum transport_kind kind, int fd, struct modules *m, struct transport **ret,
		   struct err *err)
{
	struct transport *t = NEW0(struct transport);
	int r = 0;

	t->kind = kind;
	t->fd = fd;
	switch (kind) {
	case TRANSPORT_CHANNEL:
		break;
	case TRANSPORT_SERIAL:
		r = open_serial(t, m, PROBE_TRIES, err);
		break;
	case TRANSPORT_VSOCK:
		r = open_vsock(t, m, err);
		break;
	case TRANSPORT_AUTO:
		r = open_serial(t, m, PROBE_TRIES / 10, err);
		if (r < 0)
			r = open_vsock(t, m, err);
		break;
	}
	if (r < 0) {
		transport_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct transport *transport_free(struct transport *t)
{
	if (!t)
		return NULL;
	mux_free(t->mux);
	fd_close(t->fd);
	free(t->device);
	free(t);
	return NULL;
}

static void channel_broken(int why, void *arg)
{
	struct transport *t = arg;

	log_warn("the channel to the host ended: %s", why < 0 ? strerror(-why) : "closed");
	t->mux = mux_free(t->mux);
	t->fd = fd_close(t->fd);
}

/* A port without anybody at the host's end reads as closed, so the multiplexer starts only once
 * there is somebody. */
static int channel_up(struct transport *t, struct err *err)
{
	struct pollfd p = { .events = POLLIN | POLLOUT };
	int r;

	if (t->fd < 0) {
		if (t->kind == TRANSPORT_CHANNEL)
			return err_set(err, -ENOTCONN, "the test channel is closed");
		t->fd = open(t->device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (t->fd < 0) {
			r = -errno;
			t->fd = -EBADF;
			return err_sys(err, r, "open %s", t->device);
		}
	}
	p.fd = t->fd;
	if (poll(&p, 1, 0) < 0)
		return err_sys(err, -errno, "poll the channel");
	if (t->kind == TRANSPORT_SERIAL && (p.revents & POLLHUP))
		return err_set(err, -ENOTCONN, "no host at the other end of %s", t->device);
	r = mux_new(t->fd, channel_broken, t, &t->mux);
	return r < 0 ? err_sys(err, r, "start the port multiplexer") : 0;
}

static int vsock_connect(uint32_t port, int *ret_fd)
{
	_cleanup_fd_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_cid = VMADDR_CID_HOST,
				    .svm_port = port };
	int r = fd < 0 ? -errno : co_connect(fd, (struct sockaddr *)&addr, sizeof(addr));

	if (r >= 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

int transport_dial(struct transport *t, uint32_t port, int *ret_fd, struct err *err)
{
	int r = 0;

	if (t->kind == TRANSPORT_VSOCK) {
		for (unsigned i = 0; i < VSOCK_TRIES; i++) {
			r = vsock_connect(port, ret_fd);
			/* The coroutine's own deadline looks the same; then the sleep fails at
			 * once. */
			if (r != -ETIMEDOUT || co_sleep(100 * USEC_PER_MSEC) < 0)
				break;
		}
	} else {
		if (!t->mux)
			r = channel_up(t, err);
		if (r < 0)
			return err_wrap(err, r, "dial port %u", port);
		r = mux_dial(t->mux, port, ret_fd);
	}
	return r < 0 ? err_sys(err, r, "dial port %u of the host", port) : 0;
}
