/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "guest/private.h"
#include "loop/duplex.h"

enum { DIAL_USEC = 10000000, RETRY_USEC = 5000 };

/**
 * struct guest_forward - shared by its owner and by what serves a new connection
 * @port:	NULL once it was freed
 * @told:	that the socket refuses, since it last did not
 */
struct guest_forward {
	unsigned refs;
	struct port *port;
	int socket;
	struct duplexes joined;
	bool told;
};

static void unref(struct guest_forward *f)
{
	if (--f->refs > 0)
		return;
	fd_close(f->socket);
	free(f);
}

/* Connecting to a unix socket is done at once, unless its queue is full. */
static CO int dial(const struct guest_forward *f, int *ret)
{
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CO_LIMIT(DIAL_USEC);

	if (sock < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", f->socket);
	while (connect(sock, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = errno == EAGAIN || errno == EINTR ? co_sleep(RETRY_USEC) : -errno;

		if (r < 0)
			return r;
	}
	*ret = TAKE_FD(sock);
	return 0;
}

/* In a place that was taken. @stream is closed by the caller: it is duplicated. */
static CO int relay(struct guest_forward *f, int stream)
{
	_cleanup_fd_ int sock = -EBADF, copy = -EBADF;
	int r = dial(f, &sock);

	if (r >= 0) {
		copy = fcntl(stream, F_DUPFD_CLOEXEC, 3);
		r = copy < 0 ? -errno : 0;
	}
	if (r >= 0 && f->port)
		return duplexes_join(&f->joined, TAKE_FD(copy), TAKE_FD(sock));
	duplexes_give(&f->joined);
	return r;
}

static CO void serve(int stream, void *arg)
{
	struct guest_forward *f = arg;
	int r;

	f->refs++;
	r = duplexes_await(&f->joined);
	if (r >= 0)
		r = relay(f, stream);
	if (r < 0 && f->port && !f->told)
		log_warn("a unix socket that a container connects to: %s", strerrordesc_np(-r));
	f->told = r < 0;
	unref(f);
}

int guest_forward_new(struct guest *g, int socket, struct guest_forward **ret, uint32_t *ret_port,
		      struct err *err)
{
	struct guest_forward *f = NEW0(struct guest_forward);
	const struct port_spec spec = {
		.name = "forward", .serve = serve, .arg = f, .again = true
	};
	int r;

	f->refs = 1;
	f->socket = socket;
	duplexes_init(&f->joined, GCS_SOCKET_CONNECTIONS, NULL, NULL);
	r = guest_listen_any(g, &spec, &f->port, ret_port, err);
	if (r < 0) {
		unref(f);
		return err_wrap(err, r, "guest: listen for a unix socket");
	}
	port_accept(f->port);
	*ret = f;
	return 0;
}

struct guest_forward *guest_forward_free(struct guest_forward *f)
{
	if (!f)
		return NULL;
	f->port = port_free(f->port);
	duplexes_close(&f->joined);
	unref(f);
	return NULL;
}
