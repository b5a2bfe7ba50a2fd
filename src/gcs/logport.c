/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/logport.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/transport.h"
#include "wire/gcs.h"
#include "wire/json.h"

enum { REDIAL_USEC = 100000, LINE_MAX_BYTES = 8192 };

/* The log is one of the two things that are global by design; this is its other end. */
static int log_pipe = -EBADF;

int logport_init(enum log_level level)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	log_pipe = fds[0];
	log_init(fds[1], level);
	return 0;
}

/* One value of logfmt: a word, or a quoted string with backslashes. Returns what follows it. */
static const char *logfmt_value(const char *p, struct buf *out)
{
	if (*p != '"') {
		size_t len = strcspn(p, " ");

		buf_add(out, p, len);
		return p + len;
	}
	for (p++; *p && *p != '"'; p++) {
		if (*p == '\\' && p[1]) {
			p++;
			buf_add(out, *p == 'n' ? "\n" : *p == 't' ? "\t" : p, 1);
		} else {
			buf_add(out, p, 1);
		}
	}
	return *p ? p + 1 : p;
}

char *logport_json(const char *line)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	_cleanup_free_ char *text = NULL;

	while (*line) {
		size_t key = strcspn(line, "= ");
		_cleanup_free_ char *name = mem_strndup(line, key);
		_cleanup_buf_ struct buf value = { 0 };

		line += key;
		if (*line == '=')
			line = logfmt_value(line + 1, &value);
		line += strspn(line, " ");
		if (!key)
			continue;
		buf_add(&value, "", 1);
		json_object_object_add(o, name, json_object_new_string((char *)value.data));
	}
	text = json_text(o);
	return str_printf("%s\n", text);
}

/* Lines of the pipe, as JSON, until the connection fails. */
static int feed(int sock, struct buf *pending)
{
	for (;;) {
		const uint8_t *end =
			pending->len ? memchr(pending->data, '\n', pending->len) : NULL;
		ssize_t n;
		int r;

		if (end || pending->len >= LINE_MAX_BYTES) {
			size_t len = end ? (size_t)(end - pending->data) : pending->len;
			_cleanup_free_ char *line = mem_strndup((char *)pending->data, len);
			_cleanup_free_ char *json = logport_json(line);

			r = co_write_full(sock, json, strlen(json));
			if (r < 0)
				return r;
			buf_eat(pending, end ? len + 1 : len);
			continue;
		}
		n = co_read(log_pipe, buf_reserve(pending, 1024), 1024);
		if (n <= 0)
			return n < 0 ? (int)n : -EPIPE;
		pending->len += (size_t)n;
	}
}

static void logport_main(void *arg)
{
	struct agent *a = arg;
	_cleanup_buf_ struct buf pending = { 0 };

	while (!a->stopping) {
		_cleanup_fd_ int sock = -EBADF;

		if (transport_dial(a->transport, GCS_PORT_LOG, &sock, NULL) == 0)
			feed(sock, &pending);
		if (co_sleep(REDIAL_USEC) < 0)
			break;
	}
}

void logport_start(struct agent *a)
{
	co_spawn("log port", logport_main, a, USEC_NEVER);
}

void logport_last_words(int fd)
{
	char text[1024];
	ssize_t n;

	if (log_pipe < 0)
		return;
	while ((n = read(log_pipe, text, sizeof(text))) > 0)
		fd_write_all(fd, text, (size_t)n);
}
