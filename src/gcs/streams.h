/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_STREAMS_H
#define LCOW_GCS_STREAMS_H

#include <stdbool.h>

#include "loop/co.h"

struct err;
struct gcs_ports;
struct gcs_process_params;
struct loop_timer;
struct loop_watch;
struct relay;
struct stdio;
struct transport;

/**
 * struct stream - one of a process' streams
 * @stdio:	what it belongs to
 * @sock:	connection to the host, -EBADF when the host does not want it or it is done
 * @end:	our end of the pipe, or a duplicate of the pty master
 * @relay:	copies between the two
 * @closed:	waits for the host to close after our half-close
 * @close_limit: not for ever
 * @asked:	of a vsock: the next wait for the host to close (usec), 0 before it was asked to
 * @output:	from the process to the host
 * @active:	an output that must still reach the host before the exit may be reported
 */
struct stream {
	struct stdio *stdio;
	int sock;
	int end;
	struct relay *relay;
	struct loop_watch *closed;
	struct loop_timer *close_limit;
	unsigned asked;
	bool output;
	bool active;
};

enum { STDIO_IN, STDIO_OUT, STDIO_ERR, STDIO_COUNT };

/**
 * struct stdio - the streams of a process: connections to the host, pipes or pty, and what copies
 * between them
 * @stream:	indexed by STDIO_IN, STDIO_OUT, STDIO_ERR
 * @child:	what becomes fd 0, 1, 2 of the process; closed by stdio_close_child()
 * @pty:	master of the terminal, -EBADF when there is none
 * @null:	/dev/null, takes what nobody wants
 * @tee:	file that output is appended to as well, -EBADF for none
 * @after_exit:	runs once the process has exited, every second
 * @ticks:	how often it has
 * @progress:	bytes that had been passed on at the last tick
 * @idle_ticks:	ticks without any
 * @drained:	called once, from the loop, when the process has exited and all its output is with
 *		the host (or was stuck for STUCK_TICKS)
 * @arg:	for @drained
 */
struct stdio {
	struct stream stream[STDIO_COUNT];
	int child[STDIO_COUNT];
	int pty;
	int null;
	int tee;
	struct loop_timer *after_exit;
	unsigned ticks;
	unsigned long long progress;
	unsigned idle_ticks;
	void (*drained)(void *arg);
	void *arg;
};

/** stdio_init() - no streams yet */
void stdio_init(struct stdio *s);

/**
 * stdio_dial() - connect to the ports that the host asked for, in the order in, out, err
 *
 * Return: 0 or negative errno with text; then nothing stays connected
 */
CO int stdio_dial(struct stdio *s, struct transport *t, const struct gcs_process_params *params,
		  const struct gcs_ports *ports, struct err *err);

/**
 * stdio_pipes() - make pipes; their far ends are in @child
 * @all:	for all three streams (the host's wishes are not known yet); else only for those
 *		dialled, the others /dev/null
 *
 * Return: 0 or negative errno with text
 */
int stdio_pipes(struct stdio *s, bool all, struct err *err);

/** stdio_close_child() - close @child, after the process has got them */
void stdio_close_child(struct stdio *s);

/**
 * stdio_start() - begin to copy
 *
 * Output that the host does not want goes to /dev/null: a process shall not die of SIGPIPE because
 * nobody looks.
 *
 * Return: 0 or negative errno with text
 */
int stdio_start(struct stdio *s, struct err *err);

/**
 * stdio_exited() - the process is gone: end its stdin; call @drained once its output is with the
 * host
 */
void stdio_exited(struct stdio *s, void (*drained)(void *arg), void *arg);

/**
 * stdio_when_idle() - call @fn once no output is under way any more, perhaps at once; after
 * stdio_exited() and @drained
 */
void stdio_when_idle(struct stdio *s, void (*fn)(void *arg), void *arg);

/** stdio_free() - stop all and close all; twice is harmless */
void stdio_free(struct stdio *s);

#endif
