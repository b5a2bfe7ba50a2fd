/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_LOGS_H
#define LCOW_GUEST_LOGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "guest/rate.h"
#include "loop/co.h"

/*
 * The guest's log: a stream of JSON objects, one a line, as logrus writes them ({"time", "level",
 * "msg", …}). It is relayed to the log of this process. What is no JSON is the agent's stderr,
 * where its last words are found.
 */

enum {
	LOGS_LINE_MAX = 8 << 10, /* longer lines are cut */
	LOGS_STRAY_MAX = 16 << 10, /* text that is no JSON; the rest of it is dropped */
	LOGS_PER_SEC = 1000,
	LOGS_BURST = 2000,
};

/**
 * struct logs - a log stream that is being read
 * @line:	the beginning of a line
 * @cut:	@line is full: the rest of its line is skipped
 * @stray:	lines that are no JSON
 */
struct logs {
	struct buf line;
	bool cut;
	struct buf stray;
	struct rate rate;
};

void logs_init(struct logs *l);
/** logs_feed() - bytes of the stream */
void logs_feed(struct logs *l, const char *data, size_t len);
/** logs_end() - the stream has ended: relay what is left, and free it */
void logs_end(struct logs *l);

/** logs_serve() - read a stream to its end, or until cancelled; @arg is unused */
CO void logs_serve(int fd, void *arg);

#endif
