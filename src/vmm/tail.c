/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tail.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "loop/loop.h"

void tail_init(struct tail *t, size_t size)
{
	t->fd = -EBADF;
	t->size = size < TAIL_MAX ? size : TAIL_MAX;
	t->len = 0;
	t->watch = NULL;
}

static void tail_add(struct tail *t, const char *chunk, size_t len)
{
	size_t drop;

	if (len > t->size) {
		chunk += len - t->size;
		len = t->size;
	}
	drop = t->len + len > t->size ? t->len + len - t->size : 0;
	memmove(t->text, t->text + drop, t->len - drop);
	memcpy(t->text + t->len - drop, chunk, len);
	t->len += len - drop;
}

/**
 * tail_read() - at most @chunks pieces, for a guest that floods its console must not keep the loop
 * here
 */
static void tail_read(struct tail *t, int chunks)
{
	char chunk[2048];

	while (t->fd >= 0 && chunks-- > 0) {
		ssize_t n = read(t->fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			t->watch = loop_watch_free(t->watch);
			t->fd = fd_close(t->fd);
			return;
		}
		tail_add(t, chunk, (size_t)n);
	}
}

static void on_readable(int fd, uint32_t events, void *arg)
{
	tail_read(arg, 4);
}

int tail_start(struct tail *t, int fd)
{
	int r = loop_watch_new(fd, EPOLLIN, on_readable, t, &t->watch);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	t->fd = fd;
	return 0;
}

void tail_drain(struct tail *t)
{
	tail_read(t, 128);
}

char *tail_text(const struct tail *t, size_t max)
{
	_cleanup_buf_ struct buf b = { 0 };
	size_t from = t->len > max ? t->len - max : 0;
	bool gap = false;

	/* Not from the middle of a UTF-8 sequence. */
	while (from < t->len && ((unsigned char)t->text[from] & 0xc0) == 0x80)
		from++;
	for (size_t i = from; i < t->len; i++) {
		char ch = t->text[i];

		if (ch == '\n' || ch == '\r' || ch == '\0') {
			gap = b.len > 0;
			continue;
		}
		if (gap)
			buf_addf(&b, " | ");
		gap = false;
		buf_add(&b, &ch, 1);
	}
	if (b.len > max)
		buf_eat(&b, b.len - max);
	str_clean((char *)b.data, b.len);
	buf_add(&b, "", 1);
	return (char *)TAKE_PTR(b.data);
}

void tail_fini(struct tail *t)
{
	t->watch = loop_watch_free(t->watch);
	t->fd = fd_close(t->fd);
}
