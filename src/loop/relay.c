/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "loop/loop.h"

enum { BUF_SIZE = 64 * 1024, ROUNDS_MAX = 8 };

/** enum need - what the copying waits for */
enum need { NEED_IN, NEED_OUT, NEED_TURN, NEED_NOTHING };

/**
 * struct relay - one direction of a stream
 * @watch:	of the end that is waited for, the only one there is: an idle end that hung up would
 *		be told all the time
 * @watched:	which end that is
 * @turn:	timer that continues at the next turn of the loop
 * @splice:	the kernel copies; while false, @buf does
 * @buf:	bytes that were read and not yet written, @len of them from @head on
 * @tee:	gets what is read, too; -EBADF for none
 * @finishing:	the end is where nothing is readable for @quiet microseconds
 * @quiet_since: since when nothing was, 0 while something is
 * @eof:	nothing more will be read
 */
struct relay {
	int in;
	int out;
	void (*done)(struct relay *r, enum relay_end end, void *arg);
	void *arg;
	struct loop_watch *watch;
	enum need watched;
	struct loop_timer *turn;
	bool in_pipe;
	bool in_tty;
	bool splice;
	bool out_sock;
	uint8_t *buf;
	size_t head;
	size_t len;
	int tee;
	bool finishing;
	uint64_t quiet;
	uint64_t quiet_since;
	bool eof;
	bool ended;
	uint64_t bytes;
	void (*first)(void *arg);
	void *first_arg;
};

static void on_ready(int fd, uint32_t events, void *arg);

static void end(struct relay *r, enum relay_end how)
{
	r->watch = loop_watch_free(r->watch);
	r->turn = loop_timer_free(r->turn);
	free(r->buf);
	r->buf = NULL;
	r->ended = true;
	r->done(r, how, r->arg); /* may free r */
}

static bool ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) > 0;
}

/** want() - arrange to be called when @need is met */
static void want(struct relay *r, enum need need)
{
	int result;

	if (need == NEED_TURN) {
		r->watch = loop_watch_free(r->watch);
		loop_timer_set(r->turn, 0);
		return;
	}
	if (r->watch && r->watched == need)
		return;
	r->watch = loop_watch_free(r->watch);
	r->watched = need;
	result = loop_watch_new(need == NEED_IN ? r->in : r->out,
				need == NEED_IN ? EPOLLIN : EPOLLOUT, on_ready, r, &r->watch);
	if (result < 0) {
		log_error("relay of fd %d to %d: watch: %s", r->in, r->out,
			  strerrordesc_np(-result));
		end(r, need == NEED_IN ? RELAY_FAILED : RELAY_BROKEN);
	}
}

/**
 * source_empty() - there is nothing to read; Return: what to wait for, NEED_NOTHING when that is
 * the end
 */
static int source_empty(struct relay *r)
{
	uint64_t now = time_mono();

	if (!r->finishing)
		return NEED_IN;
	if (r->quiet_since == 0)
		r->quiet_since = now;
	if (now - r->quiet_since < r->quiet) {
		loop_timer_set(r->turn, r->quiet_since + r->quiet - now);
		return NEED_IN;
	}
	r->eof = true;
	return NEED_NOTHING;
}

static void count(struct relay *r, size_t n)
{
	bool first = r->bytes == 0 && n > 0;

	r->bytes += n;
	r->quiet_since = 0;
	if (first && r->first)
		r->first(r->first_arg);
}

/**
 * step_splice() - let the kernel move some bytes
 * Return: enum need (NEED_NOTHING: more may be had at once), or -1 - enum relay_end
 */
static int step_splice(struct relay *r)
{
	ssize_t n = splice(r->in, NULL, r->out, NULL, BUF_SIZE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (n > 0) {
		count(r, (size_t)n);
		return NEED_NOTHING;
	}
	if (n == 0) {
		r->eof = true;
		return NEED_NOTHING;
	}
	switch (errno) {
	case EINTR:
		return NEED_NOTHING;
	case EAGAIN:
		/* It does not say which end it was. */
		if (!ready(r->in, POLLIN))
			return source_empty(r);
		if (!ready(r->out, POLLOUT))
			return NEED_OUT;
		r->splice = false;
		return NEED_NOTHING;
	case EINVAL:
	case ENOSYS:
		r->splice = false;
		return NEED_NOTHING;
	case EPIPE:
		return -1 - RELAY_BROKEN;
	default:
		if (errno == EIO && r->in_tty) {
			r->eof = true; /* as in step_buffer() */
			return NEED_NOTHING;
		}
		/* Reading a pipe does not fail; so does writing one, but for EPIPE. */
		return -1 - (r->in_pipe ? RELAY_BROKEN : RELAY_FAILED);
	}
}

static ssize_t target_write(struct relay *r)
{
	const uint8_t *p = r->buf + r->head;
	ssize_t n;

	if (r->out_sock) {
		n = send(r->out, p, r->len, MSG_NOSIGNAL);
		if (n >= 0 || errno != ENOTSOCK)
			return n;
		r->out_sock = false;
	}
	return write(r->out, p, r->len);
}

static void write_tee(struct relay *r)
{
	int result = r->tee < 0 ? 0 : fd_write_all(r->tee, r->buf, r->len);

	if (result < 0) {
		log_warn("the copy of a stream ends: %s", strerrordesc_np(-result));
		r->tee = -EBADF;
	}
}

/**
 * step_buffer() - read when the buffer is empty, and write what it holds; Return: as step_splice()
 */
static int step_buffer(struct relay *r)
{
	ssize_t n;

	if (r->len == 0) {
		if (!r->buf)
			r->buf = mem_new0(1, BUF_SIZE);
		n = read(r->in, r->buf, BUF_SIZE);
		if (n < 0) {
			if (errno == EINTR)
				return NEED_NOTHING;
			if (errno == EAGAIN)
				return source_empty(r);
			if (errno != EIO || !r->in_tty)
				return -1 - RELAY_FAILED;
			n = 0; /* EIO: the last process has closed this pty master's terminal */
		}
		if (n == 0) {
			r->eof = true;
			return NEED_NOTHING;
		}
		r->head = 0;
		r->len = (size_t)n;
		write_tee(r);
	}
	n = target_write(r);
	if (n < 0)
		return errno == EINTR    ? NEED_NOTHING
		       : errno == EAGAIN ? NEED_OUT
					 : -1 - RELAY_BROKEN;
	r->head += (size_t)n;
	r->len -= (size_t)n;
	count(r, (size_t)n);
	return NEED_NOTHING;
}

static void pump(struct relay *r)
{
	/* Others want their turn too. */
	for (int round = 0; round < ROUNDS_MAX; round++) {
		int s;

		if (r->eof && r->len == 0) {
			end(r, RELAY_EOF);
			return;
		}
		s = r->splice ? step_splice(r) : step_buffer(r);
		if (s < 0) {
			end(r, (enum relay_end)(-1 - s));
			return;
		}
		if (s != NEED_NOTHING) {
			want(r, (enum need)s);
			return;
		}
	}
	want(r, NEED_TURN);
}

static void on_ready(int fd, uint32_t events, void *arg)
{
	pump(arg);
}

static void on_turn(void *arg)
{
	pump(arg);
}

int relay_new(int in, int out, void (*done)(struct relay *r, enum relay_end how, void *arg),
	      void *arg, struct relay **ret)
{
	struct stat in_st, out_st;
	struct relay *r;
	int result;

	if (fstat(in, &in_st) < 0 || fstat(out, &out_st) < 0)
		return -errno;
	r = NEW0(struct relay);
	r->in = in;
	r->out = out;
	r->tee = -EBADF;
	r->done = done;
	r->arg = arg;
	r->in_pipe = S_ISFIFO(in_st.st_mode);
	r->in_tty = S_ISCHR(in_st.st_mode);
	r->out_sock = S_ISSOCK(out_st.st_mode);
	r->splice = r->in_pipe || S_ISFIFO(out_st.st_mode);
	r->watched = NEED_IN;
	result = loop_watch_new(in, EPOLLIN, on_ready, r, &r->watch);
	if (result < 0) {
		free(r);
		return result;
	}
	r->turn = loop_timer_new(USEC_NEVER, on_turn, r);
	*ret = r;
	return 0;
}

void relay_finish(struct relay *r, uint64_t quiet)
{
	if (r->ended || r->finishing)
		return;
	r->finishing = true;
	r->quiet = quiet;
	/* The source may have nothing to say, and so would never be called for. While the target is
	 * full, this waits too. */
	if (r->watched == NEED_IN || !r->watch)
		loop_timer_set(r->turn, 0);
}

void relay_on_first(struct relay *r, void (*fn)(void *arg), void *arg)
{
	r->first = fn;
	r->first_arg = arg;
}

void relay_tee(struct relay *r, int fd)
{
	r->tee = fd;
	r->splice = false;
}

uint64_t relay_bytes(const struct relay *r)
{
	return r->bytes;
}

struct relay *relay_free(struct relay *r)
{
	if (!r)
		return NULL;
	loop_watch_free(r->watch);
	loop_timer_free(r->turn);
	free(r->buf);
	free(r);
	return NULL;
}
