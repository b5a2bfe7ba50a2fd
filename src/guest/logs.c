/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/logs.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/time.h"
#include "wire/json.h"

enum {
	CHUNK = 16 << 10,
	MEMBERS_MAX = 48,
	KEY_MAX = 64,
	VALUE_MAX = 1024,
	TEXT_MAX = 3000, /* a line of the log is one page at most */
};

void logs_init(struct logs *l)
{
	*l = (struct logs){ .rate = { .per_sec = LOGS_PER_SEC, .burst = LOGS_BURST } };
}

/** allowed() - whether one more line may be written; says how many were not */
static bool allowed(struct logs *l)
{
	uint64_t dropped = l->rate.dropped;

	if (!rate_take(&l->rate, time_mono()))
		return false;
	if (dropped > 0)
		log_warn("guest: %llu lines of its log were dropped, there were too many",
			 (unsigned long long)dropped);
	l->rate.dropped = 0;
	return true;
}

/** add_clean() - append at most @max bytes of hostile text */
static void add_clean(struct buf *b, const char *s, size_t len, size_t max)
{
	size_t at = b->len;

	buf_add(b, s, len < max ? len : max);
	str_clean((char *)b->data + at, b->len - at);
	if (len > max)
		buf_add(b, "...", 3);
}

/** add_value() - append a value as logrus' text form has it */
static void add_value(struct buf *b, struct json_object *v)
{
	double d = json_object_is_type(v, json_type_double) ? json_object_get_double(v) : 0.5;
	_cleanup_free_ char *text = NULL;

	/* Go decodes every number of a log line as a float. */
	if (d > -9e15 && d < 9e15 && d == (double)(int64_t)d) {
		buf_addf(b, "%lld", (long long)d);
		return;
	}
	if (json_object_is_type(v, json_type_string)) {
		const char *s = json_object_get_string(v);
		size_t len = (size_t)json_object_get_string_len(v);

		if (len > 0 && strcspn(s, " =\"\n\t") == len) {
			add_clean(b, s, len, VALUE_MAX);
			return;
		}
	}
	text = json_text(v);
	add_clean(b, text, strlen(text), VALUE_MAX);
}

static const char *id_of(struct json_object *o, const char *ours, const char *theirs)
{
	const char *id = json_get_str(o, ours);

	if (!id)
		id = json_get_str(o, theirs);
	return id && str_id_valid(id) ? id : NULL;
}

static enum log_level level_of(struct json_object *o)
{
	const char *name = json_get_str(o, "level");
	enum log_level level = LOG_INFO;

	if (!name || log_level_parse(name, &level) == 0)
		return level;
	/* Nothing that the guest says ends this process. */
	return strcasecmp(name, "fatal") == 0 || strcasecmp(name, "panic") == 0 ? LOG_ERROR
										: LOG_INFO;
}

/** message_of() - name of the member that holds the message */
static const char *message_of(struct json_object *o)
{
	static const char *const etw[] = { "message", "Message" };

	if (!json_get_str(o, "msg") && str_eq(json_get_str(o, "Source"), "ETW"))
		for (size_t i = 0; i < ARRAY_SIZE(etw); i++)
			if (json_get_str(o, etw[i]))
				return etw[i];
	return "msg";
}

static void relay_entry(struct logs *l, struct json_object *o)
{
	struct log_fields fields = { id_of(o, "container", "cid"), id_of(o, "exec", "eid") };
	struct json_object_iterator it = json_object_iter_begin(o), end = json_object_iter_end(o);
	const char *message = message_of(o), *text = json_get_str(o, message);
	enum log_level level = level_of(o);
	_cleanup_buf_ struct buf b = { 0 };
	unsigned members = 0;

	if (!log_enabled(level) || !allowed(l))
		return;
	if (text)
		add_clean(&b, text, strlen(text), TEXT_MAX);
	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		const char *key = json_object_iter_peek_name(&it);

		if (str_eq(key, "level") || str_eq(key, message) || str_eq(key, "sandbox") ||
		    (fields.container && (str_eq(key, "container") || str_eq(key, "cid"))) ||
		    (fields.exec && (str_eq(key, "exec") || str_eq(key, "eid"))))
			continue;
		if (b.len > TEXT_MAX || ++members > MEMBERS_MAX) {
			buf_addf(&b, " ...");
			break;
		}
		buf_addf(&b, " ");
		if (str_eq(key, "time"))
			buf_addf(&b, "vm.");
		add_clean(&b, key, strlen(key), KEY_MAX);
		buf_addf(&b, "=");
		add_value(&b, json_object_iter_peek_value(&it));
	}
	log_msg(level, &fields, "guest: %.*s", (int)b.len, b.data ? (char *)b.data : "");
}

/** relay_stray() - the lines that were no JSON, in as many entries as they need */
static void relay_stray(struct logs *l, const char *title)
{
	for (size_t at = 0; at < l->stray.len && allowed(l); at += TEXT_MAX) {
		size_t len = l->stray.len - at < TEXT_MAX ? l->stray.len - at : TEXT_MAX;

		log_error("guest: %s stderr=\"%.*s\"", title, (int)len, (char *)l->stray.data + at);
	}
	buf_free(&l->stray);
}

static void stray_line(struct logs *l, const char *line, size_t len)
{
	size_t room = LOGS_STRAY_MAX - l->stray.len;

	if (room < 2)
		return;
	add_clean(&l->stray, line, len < room - 1 ? len : room - 1, SIZE_MAX);
	buf_add(&l->stray, "\n", 1);
}

static void on_line(struct logs *l)
{
	_cleanup_json_ struct json_object *o = NULL;
	const char *line = (char *)l->line.data;
	size_t len = l->line.len;

	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	if (len == 0)
		return;
	if (l->cut && *line == '{') {
		_cleanup_free_ char *text = mem_strndup(line, TEXT_MAX);

		str_clean(text, strlen(text));
		if (allowed(l))
			log_info("guest: a line of its log was cut: %s", text);
		return;
	}
	if (*line != '{' || json_parse(line, len, &o, NULL) < 0) {
		stray_line(l, line, len);
		return;
	}
	relay_stray(l, "text in its log");
	relay_entry(l, o);
}

void logs_feed(struct logs *l, const char *data, size_t len)
{
	while (len > 0) {
		const char *nl = memchr(data, '\n', len);
		size_t part = nl ? (size_t)(nl - data) : len;
		size_t room = LOGS_LINE_MAX - l->line.len;

		buf_add(&l->line, data, part < room ? part : room);
		l->cut |= part > room;
		if (nl) {
			on_line(l);
			l->line.len = 0;
			l->cut = false;
			part++;
		}
		data += part;
		len -= part;
	}
}

void logs_end(struct logs *l)
{
	if (l->line.len > 0)
		on_line(l);
	relay_stray(l, "gcs terminated");
	if (l->rate.dropped > 0)
		log_warn("guest: %llu lines of its log were dropped, there were too many",
			 (unsigned long long)l->rate.dropped);
	buf_free(&l->line);
	*l = (struct logs){ 0 };
}

void logs_serve(int fd, void *arg)
{
	_cleanup_free_ char *chunk = mem_new0(1, CHUNK);
	struct logs l;
	ssize_t n;

	logs_init(&l);
	while ((n = co_read(fd, chunk, CHUNK)) > 0) {
		logs_feed(&l, chunk, (size_t)n);
		/* A guest that writes without end gets one chunk a turn. */
		if (co_sleep(0) < 0)
			break;
	}
	logs_end(&l);
}
