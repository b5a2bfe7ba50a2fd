/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_LOGPORT_H
#define LCOW_GCS_LOGPORT_H

#include "base/log.h"

struct agent;

/**
 * logport_init() - let every log line go into a pipe, from where the host's log port gets them as
 * JSON
 * @level:	least level
 *
 * Until the host listens, and whenever it reads too slowly, the pipe fills up; log_msg() then drops
 * and counts.
 *
 * Return: 0 or negative errno
 */
int logport_init(enum log_level level);

/**
 * logport_start() - keep the log port dialled and fed, by a coroutine, as long as the agent lives
 */
void logport_start(struct agent *a);

/**
 * logport_json() - a log line as the host reads it: {"time":…,"level":…,"msg":…, other fields}
 * @line:	logfmt line without its newline
 *
 * Return: JSON text with a newline at its end; the caller frees it
 */
char *logport_json(const char *line);

/** logport_last_words() - write what is still in the pipe to @fd, blocking, as it is */
void logport_last_words(int fd);

#endif
