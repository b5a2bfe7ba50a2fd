/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_LOG_H
#define LCOW_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

/**
 * enum log_level - least severe first; the names are those of containerd
 */
enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* A line is logfmt: time="…" level=info msg="…" sandbox=… container=… exec=… key=value …; values
 * are quoted when needed. */

/**
 * log_init() - where lines go (an fd that stays the caller's; -EBADF drops them) and the least
 * level written
 */
void log_init(int fd, enum log_level level);
void log_set_level(enum log_level level);
/** log_level_parse() - "trace" … "error", "warning" too; Return: 0 or -EINVAL */
int log_level_parse(const char *s, enum log_level *ret);
bool log_enabled(enum log_level level);
/** log_set_sandbox() - the sandbox field of every line that follows (copied); NULL for none */
void log_set_sandbox(const char *id);

/**
 * struct log_fields - what a line is about; NULL fields are left out
 */
struct log_fields {
	const char *container;
	const char *exec;
};

/**
 * log_msg() - write a line. Never blocks: what a full fifo does not take is counted and reported
 * with the next line
 */
void log_msg(enum log_level level, const struct log_fields *f, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_trace(...) log_msg(LOG_TRACE, NULL, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_msg(LOG_INFO, NULL, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_WARN, NULL, __VA_ARGS__)
#define log_error(...) log_msg(LOG_ERROR, NULL, __VA_ARGS__)

/**
 * log_phase() - at info level, msg="phase name='<name>' ms=<time since @since_usec>": a step of the
 * start of a sandbox or container
 */
void log_phase(const char *name, uint64_t since_usec);

/**
 * log_scrub_json() - copy of a JSON text in which the values that may hold secrets are replaced
 * @json:	JSON text
 *
 * Every member named env or Environment becomes ["<scrubbed>"] (or {"<scrubbed>":"<scrubbed>"}
 * where it was an object), and every member named annotations {"<scrubbed>":"<scrubbed>"}, at any
 * depth, also in strings that hold JSON themselves. What is no JSON becomes "<scrubbed>".
 *
 * Return: the text; the caller frees it
 */
char *log_scrub_json(const char *json);

#endif
