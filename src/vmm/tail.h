/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_TAIL_H
#define LCOW_VMM_TAIL_H

#include <stddef.h>

struct loop_watch;

enum { TAIL_MAX = 4096 };

/**
 * struct tail - the last bytes that came out of an fd, which is read by callbacks so that its
 * writer never waits
 * @fd:		owned; -EBADF once it has ended
 * @size:	how many bytes are kept, at most TAIL_MAX
 */
struct tail {
	int fd;
	size_t size;
	size_t len;
	char text[TAIL_MAX];
	struct loop_watch *watch;
};

/** tail_init() - keep the last @size bytes of nothing yet */
void tail_init(struct tail *t, size_t size);
/**
 * tail_start() - read @fd (non-blocking; taken over in every case) from now on; Return: 0 or
 * negative errno
 */
int tail_start(struct tail *t, int fd);
/** tail_drain() - read what is there now */
void tail_drain(struct tail *t);
/**
 * tail_text() - the last @max bytes of it as one clean line, lines separated by " | "; the caller
 * frees it
 */
char *tail_text(const struct tail *t, size_t max);
/** tail_fini() - stop reading and close */
void tail_fini(struct tail *t);

#endif
