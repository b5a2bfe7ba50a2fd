/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

/* What a pipe takes whole or not at all: no line is torn, and one that fits after poll(2) cannot
 * block. */
enum { LINE_MAX_LEN = PIPE_BUF };

/* The names that logrus, and so containerd, writes */
static const char *const names[] = {
	[LOG_TRACE] = "trace",  [LOG_DEBUG] = "debug", [LOG_INFO] = "info",
	[LOG_WARN] = "warning", [LOG_ERROR] = "error",
};

static struct {
	int fd;
	enum log_level level;
	char *sandbox;
	uint64_t lost;
	char line[LINE_MAX_LEN];
	size_t len;
	char msg[LINE_MAX_LEN];
} state = { .fd = -EBADF, .level = LOG_INFO };

void log_init(int fd, enum log_level level)
{
	state.fd = fd;
	state.level = level;
	state.lost = 0;
}

void log_set_level(enum log_level level)
{
	state.level = level;
}

int log_level_parse(const char *s, enum log_level *ret)
{
	if (!s)
		return -EINVAL;
	if (strcasecmp(s, "warn") == 0) {
		*ret = LOG_WARN;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(s, names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

bool log_enabled(enum log_level level)
{
	return state.fd >= 0 && level >= state.level;
}

void log_set_sandbox(const char *id)
{
	str_set(&state.sandbox, id);
}

/** put() - append to the line; false, and nothing appended, when it would not leave @keep bytes */
static bool put(const char *s, size_t len, size_t keep)
{
	if (len + keep > sizeof(state.line) - state.len)
		return false;
	memcpy(state.line + state.len, s, len);
	state.len += len;
	return true;
}

/** put_quoted() - append a value in quotes, cut when the line is full but for @keep bytes */
static void put_quoted(const char *s, size_t keep)
{
	if (!put("\"", 1, keep + 1))
		return;
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		char esc[5];
		bool ok;

		if (c == '"' || c == '\\')
			ok = put((char[]){ '\\', (char)c }, 2, keep + 1);
		else if (c == '\n')
			ok = put("\\n", 2, keep + 1);
		else if (c == '\t')
			ok = put("\\t", 2, keep + 1);
		else if (c < 0x20 || c == 0x7f)
			ok = put(esc, (size_t)snprintf(esc, sizeof(esc), "\\x%02x", c), keep + 1);
		else
			ok = put(s, 1, keep + 1);
		if (!ok)
			break;
	}
	put("\"", 1, keep);
}

/** put_field() - append " key=value"; ids are short, a wild one is cut */
static void put_field(const char *key, const char *value)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/@^+:#";

	if (!value)
		return;
	put(" ", 1, 1);
	put(key, strlen(key), 1);
	put("=", 1, 1);
	if (*value && value[strspn(value, plain)] == '\0')
		put(value, strnlen(value, 512), 1);
	else
		put_quoted(value, 1);
}

static void put_time(void)
{
	uint64_t now = time_real_ns();
	time_t sec = (time_t)(now / NSEC_PER_SEC);
	char text[48], stamp[80];
	struct tm tm;

	gmtime_r(&sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(stamp, sizeof(stamp), "time=\"%s.%09uZ\"", text, (unsigned)(now % NSEC_PER_SEC));
	put(stamp, strlen(stamp), 1);
}

static bool line_write(enum log_level level, const struct log_fields *f, const char *msg)
{
	struct pollfd p = { .fd = state.fd, .events = POLLOUT };
	size_t tail = 8; /* the newline, and some room */
	ssize_t n;

	if (f)
		tail += (f->container ? strlen(f->container) + 16 : 0) +
			(f->exec ? strlen(f->exec) + 16 : 0);
	if (state.sandbox)
		tail += strlen(state.sandbox) + 16;
	if (tail > sizeof(state.line) / 2)
		tail = sizeof(state.line) / 2;
	state.len = 0;
	put_time();
	put(" level=", 7, 1);
	put(names[level], strlen(names[level]), 1);
	put(" msg=", 5, 1);
	put_quoted(msg, tail);
	put_field("sandbox", state.sandbox);
	put_field("container", f ? f->container : NULL);
	put_field("exec", f ? f->exec : NULL);
	put("\n", 1, 0);
	do
		n = poll(&p, 1, 0);
	while (n < 0 && errno == EINTR);
	if (n != 1 || !(p.revents & POLLOUT))
		return false;
	do
		n = write(state.fd, state.line, state.len);
	while (n < 0 && errno == EINTR);
	return n >= 0;
}

void log_msg(enum log_level level, const struct log_fields *f, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (!log_enabled(level))
		return;
	if (state.lost) {
		snprintf(state.msg, sizeof(state.msg), "%llu log lines were lost",
			 (unsigned long long)state.lost);
		if (line_write(LOG_WARN, NULL, state.msg))
			state.lost = 0;
	}
	/* A message that asks for %m gets what errno was here. */
	errno = saved;
	va_start(ap, fmt);
	if (vsnprintf(state.msg, sizeof(state.msg), fmt, ap) < 0)
		state.msg[0] = '\0';
	va_end(ap);
	if (state.lost || !line_write(level, f, state.msg))
		state.lost++;
	errno = saved;
}

void log_phase(const char *name, uint64_t since_usec)
{
	log_info("phase name='%s' ms=%.1f", name,
		 (double)(time_mono() - since_usec) / (double)USEC_PER_MSEC);
}
