/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_IO_H
#define LCOW_CONTROLLER_IO_H

#include <stdbool.h>

#include "controller/logger.h"
#include "loop/co.h"

struct err;

/**
 * struct stdio_paths - the streams that a client named; NULL or "" is none (borrowed)
 * @terminal:	stdin and stdout only
 * @logger:	what a logging driver is told
 */
struct stdio_paths {
	const char *in;
	const char *out;
	const char *err;
	bool terminal;
	struct logger_env logger;
};

/*
 * Upstream I/O: between this shim and its client, and the relay to the guest's streams. Output
 * FIFOs are opened for writing with a read end kept, so that readers may come and go; a stdin FIFO
 * is opened with a write end kept, so that only io_close_stdin() is its end.
 */
struct io;

/**
 * io_open() - open what the paths name
 *
 * Plain path or fifo://: a FIFO (or a file to append to). file://: append, parents created, one
 * open file when stdout and stderr are the same. binary:// and binary-v2:// as stdout: a logging
 * driver (logger.h), which gets stderr too whatever that names, and without a terminal no stdin, as
 * with containerd's runc shim. It waits for a logging driver only.
 *
 * Return: 0 or a negative code that names the path (-ERR_INVALID for a broken URI,
 * -ERR_UNIMPLEMENTED for another scheme); nothing stays open or running then
 */
CO int io_open(const struct stdio_paths *paths, struct io **ret, struct err *err);
bool io_wants(const struct io *io, int stream);

/**
 * io_start() - relay to the guest's streams
 * @fds:	guest's ends of stdin, stdout, stderr, -EBADF for none; borrowed
 * @close_fd:	called once per stream when the relay is done with it: the guest's end must be
 *		closed then (half-closed for stdin)
 */
int io_start(struct io *io, const int fds[3], void (*close_fd)(int stream, void *arg), void *arg,
	     struct err *err);
/** io_on_first_output() - before io_start(): call @fn once the first output has been passed on */
void io_on_first_output(struct io *io, void (*fn)(void *arg), void *arg);
/**
 * io_close_stdin() - deliver what is in the FIFO and what clients still write, then the end: once
 * they have closed it or have written nothing for 200 ms; idempotent; before io_start() it is
 * remembered
 */
void io_close_stdin(struct io *io);
/**
 * io_drain() - wait until stdout and stderr were relayed to their end, then close every upstream
 * end that this shim holds, so that readers see the end
 * @usec:	how long a reader may take nothing at all before the rest is given up (and logged)
 */
CO void io_drain(struct io *io, uint64_t usec);
/**
 * io_abandon() - close both ends of every stream at once; what was not relayed is lost, and
 * io_drain() returns; idempotent
 */
void io_abandon(struct io *io);
/**
 * io_await_readers() - after io_drain(): until clients have read what is in the FIFOs of stdout and
 * stderr
 *
 * containerd's client closes its end when Delete has been answered, whatever is left in there. Who
 * reads nothing for two seconds, and who is not there at all, is not waited for.
 */
CO void io_await_readers(struct io *io);
/**
 * io_await_logger() - after io_abandon(): until the logging driver, if there is one, has ended by
 * itself or was ended (see logger_close())
 */
CO void io_await_logger(struct io *io);
struct io *io_free(struct io *io);

#endif
