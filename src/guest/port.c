/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/port.h"

#include <errno.h>

#include "base/err.h"
#include "base/fd.h"
#include "vmm/channel.h"

enum { END_USEC = 60 * 1000000 };

/**
 * struct port - shared by its owner and its coroutine
 * @co:		while it runs
 * @serving:	a stream is in @spec.serve
 * @fd:		kept for port_take(), or why there is none
 */
struct port {
	unsigned refs;
	struct port_spec spec;
	struct channel_listener *listener;
	struct co *co;
	struct co_event ended;
	bool serving;
	bool closing;
	int fd;
};

static void unref(struct port *p)
{
	if (--p->refs > 0)
		return;
	channel_listener_free(p->listener);
	if (p->fd >= 0)
		fd_close(p->fd);
	free(p);
}

int port_listen(struct channel *c, uint32_t number, const struct port_spec *spec, struct port **ret,
		struct err *err)
{
	struct channel_listener *l = NULL;
	struct port *p;
	int r;

	r = channel_listen(c, number, &l, err);
	if (r < 0)
		return r;
	p = NEW0(struct port);
	p->refs = 1;
	p->spec = *spec;
	p->listener = l;
	p->fd = -ENOTCONN;
	co_event_init(&p->ended);
	*ret = p;
	return 0;
}

/** accept_one() - Return: whether to go on */
static bool accept_one(struct port *p)
{
	_cleanup_fd_ int fd = -EBADF;
	int r = channel_accept(p->listener, &fd);

	if (r < 0) {
		p->fd = r;
		return false;
	}
	if (p->closing)
		return false;
	if (!p->spec.serve) {
		p->fd = TAKE_FD(fd);
		return false;
	}
	p->serving = true;
	p->spec.serve(fd, p->spec.arg);
	p->serving = false;
	return p->spec.again;
}

static void port_main(void *arg)
{
	struct port *p = arg;

	while (!p->closing && accept_one(p))
		;
	p->listener = channel_listener_free(p->listener);
	p->co = NULL;
	co_event_set(&p->ended);
	if (p->spec.changed)
		co_event_set(p->spec.changed);
	unref(p);
}

void port_accept(struct port *p)
{
	p->refs++;
	p->co = co_spawn(p->spec.name, port_main, p, USEC_NEVER);
}

bool port_ended(const struct port *p)
{
	return p->ended.set;
}

int port_take(struct port *p)
{
	int fd = p->fd;

	if (fd >= 0)
		p->fd = -EBADF;
	return fd;
}

void port_close(struct port *p)
{
	if (p->closing)
		return;
	p->closing = true;
	if (!p->co) {
		p->listener = channel_listener_free(p->listener);
		co_event_set(&p->ended);
	} else if (p->serving) {
		p->listener = channel_listener_free(p->listener);
	} else {
		/* The listener is in use by channel_accept(). */
		co_cancel(p->co);
	}
}

void port_join(struct port *p, uint64_t usec)
{
	port_close(p);
	if (p->co && usec > 0) {
		CO_SHIELD(usec);
		co_event_wait(&p->ended);
	}
	if (p->co) {
		CO_SHIELD(END_USEC);
		co_cancel(p->co);
		co_event_wait(&p->ended);
	}
}

struct port *port_free(struct port *p)
{
	if (!p)
		return NULL;
	port_close(p);
	p->spec.changed = NULL;
	if (p->co)
		co_cancel(p->co);
	unref(p);
	return NULL;
}
