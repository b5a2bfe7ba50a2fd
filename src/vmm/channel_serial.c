/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "vmm/channel_backend.h"
#include "wire/mux.h"

struct channel_serial {
	struct channel channel;
	int fd;
	struct mux *mux;
};

static struct channel_serial *serial_of(struct channel *c)
{
	return CONTAINER_OF(c, struct channel_serial, channel);
}

static void on_stream(int fd, void *arg)
{
	channel_deliver(arg, fd);
}

static int serial_listen(struct channel *c, struct channel_listener *l, struct err *err)
{
	int r = mux_listen(serial_of(c)->mux, l->port, on_stream, l);

	return r < 0 ? err_sys(err, r, "multiplexer") : 0;
}

static void serial_unlisten(struct channel *c, struct channel_listener *l)
{
	if (serial_of(c)->mux)
		mux_unlisten(serial_of(c)->mux, l->port);
}

/*
 * The multiplexer itself stays until the end: this may run within one of its callbacks. With the
 * channel shut, it resets
 * every stream by itself.
 */
static void serial_close(struct channel *c)
{
	shutdown(serial_of(c)->fd, SHUT_RDWR);
}

static void serial_free(struct channel *c)
{
	struct channel_serial *s = serial_of(c);

	mux_free(s->mux);
	fd_close(s->fd);
	free(s);
}

static const struct channel_ops serial_ops = {
	.listen = serial_listen,
	.unlisten = serial_unlisten,
	.close = serial_close,
	.free = serial_free,
};

static void on_broken(int why, void *arg)
{
	struct channel_serial *s = arg;

	/* QEMU's death with something unread is a reset, and none of the channel's faults. */
	if (why < 0 && why != -ECONNRESET && !s->channel.closed)
		log_warn("guest channel: %s",
			 why == -EBADMSG ? "the guest broke the protocol" : strerror(-why));
	channel_close(&s->channel);
}

int channel_serial_new(int fd, struct channel **ret, struct err *err)
{
	struct channel_serial *s = NEW0(struct channel_serial);
	int r;

	channel_init(&s->channel, &serial_ops);
	s->fd = fd;
	r = mux_new(fd, on_broken, s, &s->mux);
	if (r < 0) {
		serial_free(&s->channel);
		return err_sys(err, r, "guest channel: multiplexer");
	}
	*ret = &s->channel;
	return 0;
}
