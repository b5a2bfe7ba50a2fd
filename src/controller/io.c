/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/uri.h"
#include "loop/relay.h"

enum { STEP_MSEC = 100, QUIET_MSEC = 200, LOGGER_SEC = 20, LOOK_MSEC = 10, UNREAD_SEC = 2 };

static const char *const names[] = { "stdin", "stdout", "stderr" };

/**
 * struct stream - one of stdin, stdout, stderr
 * @fd:		upstream end that is read or written
 * @keep:	other end of the same FIFO, held so that the client's coming and going ends nothing
 * @fifo:	path of a FIFO for output, or NULL
 * @open:	the guest's end has not been given back by @close_fd
 */
struct stream {
	struct io *io;
	int number;
	int fd;
	int keep;
	char *fifo;
	struct relay *relay;
	bool open;
};

/**
 * struct io - see io.h
 * @shared:	stdout and stderr are one open file, which stream 1 owns
 * @logger:	whose pipes stdout and stderr are, or NULL
 * @finish_stdin: io_close_stdin() came before io_start()
 * @output_done: set once no output is being relayed
 * @first:	for the first output; NULL once it has come
 */
struct io {
	struct stream streams[3];
	bool shared;
	struct logger *logger;
	bool finish_stdin;
	struct co_event output_done;
	void (*close_fd)(int stream, void *arg);
	void *arg;
	void (*first)(void *arg);
	void *first_arg;
};

/* ---- opening ---- */

static int open_fifo_in(struct stream *s, const char *path)
{
	s->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	s->keep = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	return s->keep < 0 ? -errno : 0;
}

static int open_fifo_out(struct stream *s, const char *path)
{
	/* The reading end first: a FIFO without a reader cannot be opened for writing without
	 * waiting. */
	s->keep = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (s->keep < 0)
		return -errno;
	s->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	s->fifo = mem_strdup(path);
	return 0;
}

static int open_file(struct stream *s, const char *path, bool make_parents)
{
	if (make_parents) {
		_cleanup_free_ char *parent = mem_strdup(path);
		char *slash = strrchr(parent, '/');

		if (slash && slash != parent) {
			*slash = '\0';

			int r = dir_make(parent, 0755);

			if (r < 0)
				return r;
		}
	}
	s->fd = s->number == 0 ? open(path, O_RDONLY | O_CLOEXEC)
			       : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	return s->fd < 0 ? -errno : 0;
}

static int open_path(struct stream *s, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISFIFO(st.st_mode))
		return open_file(s, path, false);
	return s->number == 0 ? open_fifo_in(s, path) : open_fifo_out(s, path);
}

static bool names_logger(const struct uri *uri)
{
	return str_eq(uri->scheme, "binary") || str_eq(uri->scheme, "binary-v2");
}

static int open_uri(struct stream *s, const char *where, struct err *err)
{
	_cleanup_uri_ struct uri uri = { 0 };
	int r = uri_parse(where, &uri, err);

	if (r < 0)
		return err_wrap(err, r, "%s", names[s->number]);
	if (str_eq(uri.scheme, "fifo"))
		r = open_path(s, uri.path);
	else if (str_eq(uri.scheme, "file"))
		r = open_file(s, uri.path, true);
	else if (names_logger(&uri))
		return err_set(err, -ERR_INVALID, "%s %s: a logging driver is named as stdout",
			       names[s->number], where);
	else
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "%s %s: only paths, fifo://, file://, binary:// and binary-v2:// "
			       "are supported",
			       names[s->number], where);
	return r < 0 ? err_sys(err, r, "%s %s", names[s->number], where) : 0;
}

static int open_stream(struct stream *s, const char *where, struct err *err)
{
	int r;

	if (str_empty(where))
		return 0;
	if (uri_is(where))
		return open_uri(s, where, err);
	r = open_path(s, where);
	return r < 0 ? err_sys(err, r, "%s %s", names[s->number], where) : 0;
}

static CO int open_logger(struct io *io, const struct uri *uri, const struct stdio_paths *paths,
			  struct err *err)
{
	int fds[2];
	int r = logger_start(uri, &paths->logger, &io->logger, fds, err);

	if (r < 0)
		return err_wrap(err, r, "stdout %s", paths->out);
	io->streams[1].fd = fds[0];
	/* A terminal has no stderr: the driver sees its end. */
	io->streams[2].fd = paths->terminal ? fd_close(fds[1]) : fds[1];
	return 0;
}

static int open_outputs(struct io *io, const struct stdio_paths *paths, struct err *err)
{
	int r = open_stream(&io->streams[1], paths->out, err);

	if (r < 0 || paths->terminal)
		return r;
	if (str_empty(paths->err) || !str_eq(paths->out, paths->err))
		return open_stream(&io->streams[2], paths->err, err);
	/* Two openings would each write at their own pace; one keeps the order. */
	io->shared = true;
	io->streams[2].fd = io->streams[1].fd;
	return 0;
}

CO int io_open(const struct stdio_paths *paths, struct io **ret, struct err *err)
{
	_cleanup_uri_ struct uri uri = { 0 };
	bool logged = !str_empty(paths->out) && uri_parse(paths->out, &uri, NULL) == 0 &&
		      names_logger(&uri);
	struct io *io = NEW0(struct io);
	int r = 0;

	co_event_init(&io->output_done);
	co_event_set(&io->output_done);
	for (int i = 0; i < 3; i++)
		io->streams[i] =
			(struct stream){ .io = io, .number = i, .fd = -EBADF, .keep = -EBADF };
	if (!logged || paths->terminal)
		r = open_stream(&io->streams[0], paths->in, err);
	if (r >= 0)
		r = logged ? open_logger(io, &uri, paths, err) : open_outputs(io, paths, err);
	if (r < 0) {
		io_free(io);
		return r;
	}
	*ret = io;
	return 0;
}

bool io_wants(const struct io *io, int stream)
{
	return io->streams[stream].fd >= 0;
}

/* ---- relaying ---- */

static bool output_open(const struct io *io)
{
	return io->streams[1].open || io->streams[2].open;
}

static void give_back(struct stream *s)
{
	struct io *io = s->io;

	s->relay = relay_free(s->relay);
	if (!s->open)
		return;
	s->open = false;
	io->close_fd(s->number, io->arg);
	if (!output_open(io))
		co_event_set(&io->output_done);
}

static void on_relayed(struct relay *relay, enum relay_end end, void *arg)
{
	struct stream *s = arg;

	if (end == RELAY_FAILED || (end == RELAY_BROKEN && s->number > 0))
		log_warn("stream %d broke after %llu bytes", s->number,
			 (unsigned long long)relay_bytes(relay));
	give_back(s);
}

void io_on_first_output(struct io *io, void (*fn)(void *arg), void *arg)
{
	io->first = fn;
	io->first_arg = arg;
}

/* Either stream may be the first. */
static void on_first(void *arg)
{
	struct io *io = arg;
	void (*first)(void *arg) = io->first;

	io->first = NULL;
	if (first)
		first(io->first_arg);
}

int io_start(struct io *io, const int fds[3], void (*close_fd)(int stream, void *arg), void *arg,
	     struct err *err)
{
	io->close_fd = close_fd;
	io->arg = arg;
	for (int i = 0; i < 3; i++)
		io->streams[i].open = fds[i] >= 0;
	if (output_open(io))
		co_event_clear(&io->output_done);
	for (int i = 0; i < 3; i++) {
		struct stream *s = &io->streams[i];

		if (!s->open)
			continue;

		int r = relay_new(i == 0 ? s->fd : fds[i], i == 0 ? fds[i] : s->fd, on_relayed, s,
				  &s->relay);

		if (r < 0) {
			for (int k = 0; k < 3; k++)
				give_back(&io->streams[k]);
			return err_sys(err, r, "relay stream %d", i);
		}
		if (i > 0)
			relay_on_first(s->relay, on_first, io);
	}
	if (io->finish_stdin)
		io_close_stdin(io);
	return 0;
}

void io_close_stdin(struct io *io)
{
	struct stream *s = &io->streams[0];

	io->finish_stdin = true;
	s->keep = fd_close(s->keep);
	if (s->relay)
		relay_finish(s->relay, QUIET_MSEC * USEC_PER_MSEC);
}

static uint64_t output_bytes(const struct io *io)
{
	uint64_t n = 0;

	for (int i = 1; i < 3; i++)
		n += io->streams[i].relay ? relay_bytes(io->streams[i].relay) : 0;
	return n;
}

void io_abandon(struct io *io)
{
	for (int i = 0; i < 3; i++) {
		struct stream *s = &io->streams[i];

		give_back(s);
		if (!(i == 2 && io->shared))
			fd_close(s->fd);
		s->fd = -EBADF;
		s->keep = fd_close(s->keep);
	}
	if (io->logger)
		logger_close(io->logger);
}

CO void io_await_logger(struct io *io)
{
	/* Whoever waits may be gone before it has ended; then nobody else would see to its end. */
	CO_SHIELD(LOGGER_SEC * USEC_PER_SEC);

	if (io->logger)
		logger_wait(io->logger);
}

/* How many bytes of a FIFO its readers have left in it; 0 when there is no reader any more */
static int unread(int fd)
{
	struct pollfd p = { .fd = fd };
	int n = 0;

	if (poll(&p, 1, 0) < 0 || (p.revents & POLLERR) || ioctl(fd, FIONREAD, &n) < 0)
		return 0;
	return n;
}

static CO void await_reader(const struct stream *s)
{
	/* Fails where nobody reads. */
	_cleanup_fd_ int fd = s->fifo ? open(s->fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC) : -EBADF;
	uint64_t since = time_mono();
	int last = 0;

	for (int n = fd < 0 ? 0 : unread(fd); n > 0; n = unread(fd)) {
		if (n != last)
			since = time_mono();
		last = n;
		if (time_mono() - since >= UNREAD_SEC * USEC_PER_SEC ||
		    co_sleep(LOOK_MSEC * USEC_PER_MSEC) < 0)
			return;
	}
}

CO void io_await_readers(struct io *io)
{
	for (int i = 1; i < 3; i++)
		await_reader(&io->streams[i]);
}

CO void io_drain(struct io *io, uint64_t usec)
{
	uint64_t moved = output_bytes(io);
	uint64_t since = time_mono();

	while (!io->output_done.set) {
		CO_LIMIT(STEP_MSEC * USEC_PER_MSEC);
		int r = co_event_wait(&io->output_done);
		uint64_t now = output_bytes(io);

		if (r == 0 || r == -ECANCELED)
			break;
		if (now != moved)
			since = time_mono();
		moved = now;
		if (time_mono() - since >= usec) {
			log_warn("output that nobody reads is given up after %llu bytes",
				 (unsigned long long)now);
			break;
		}
	}
	io_abandon(io);
}

struct io *io_free(struct io *io)
{
	if (!io)
		return NULL;
	io_abandon(io);
	logger_free(io->logger);
	for (int i = 0; i < 3; i++)
		free(io->streams[i].fifo);
	free(io);
	return NULL;
}
