/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { GRPC_OK = 0, GRPC_UNKNOWN = 2 };

/* One row a kind: its gRPC status, the HRESULT that the guest gives it, and its words. */
static const struct {
	int grpc;
	uint32_t hresult;
	const char *text;
} kinds[] = {
	[ERR_NOT_FOUND - ERR_NOT_FOUND] = { 5, HR_SYSTEM_NOT_FOUND, "not found" },
	[ERR_EXISTS - ERR_NOT_FOUND] = { 6, HR_SYSTEM_EXISTS, "already exists" },
	[ERR_INVALID - ERR_NOT_FOUND] = { 3, HR_INVALID_ARG, "invalid argument" },
	[ERR_STATE - ERR_NOT_FOUND] = { 9, HR_INVALID_STATE, "not possible in this state" },
	[ERR_UNIMPLEMENTED - ERR_NOT_FOUND] = { 12, HR_NOT_IMPL, "not implemented" },
	[ERR_UNAVAILABLE - ERR_NOT_FOUND] = { 14, HR_FAIL, "unavailable" },
	[ERR_EXHAUSTED - ERR_NOT_FOUND] = { 8, HR_FAIL, "resource exhausted" },
	[ERR_DENIED - ERR_NOT_FOUND] = { 7, HR_FAIL, "permission denied" },
};
static_assert(ARRAY_SIZE(kinds) == ERR_KIND_END - ERR_NOT_FOUND, "a row for each enum err_kind");

/* The errnos that mean the same everywhere; the first row of a status is what err_from_grpc()
 * gives. */
static const struct {
	int code;
	int grpc;
} errnos[] = {
	{ ECANCELED, 1 },
	{ ETIMEDOUT, 4 },
	{ ENOMEM, 8 },
	{ ENOSPC, 8 },
};

/* HRESULTs beyond those of the kinds' own rows */
static const struct {
	uint32_t hresult;
	int code;
} hresults[] = {
	{ HR_NOT_FOUND, -ERR_NOT_FOUND },
	{ HR_TIMEOUT, -ETIMEDOUT },
	{ HR_UNSUPPORTED_PROTOCOL, -ERR_UNIMPLEMENTED },
	{ HR_INVALID_JSON, -ERR_INVALID },
	{ HR_ALREADY_STOPPED, -ERR_STATE },
};

static bool is_kind(int code)
{
	return code <= -ERR_NOT_FOUND && code > -ERR_KIND_END;
}

static const char *code_text(int code)
{
	const char *text = NULL;

	if (is_kind(code))
		return kinds[-code - ERR_NOT_FOUND].text;
	if (code <= 0)
		text = strerrordesc_np(-code);
	return text ? text : "unknown error";
}

/** text_put() - replace the text by @s, cut between characters, without newlines at its end */
static void text_put(struct err *err, const char *s)
{
	size_t len = strlen(s);

	if (len >= ERR_TEXT_MAX) {
		len = ERR_TEXT_MAX - 1;
		/* A status message must be valid UTF-8: do not leave half a character. */
		while (len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80)
			len--;
	}
	while (len > 0 && (s[len - 1] == '\n' || s[len - 1] == '\r'))
		len--;
	memmove(err->text, s, len);
	err->text[len] = '\0';
}

/**
 * text_build() - "<formatted>" or "<formatted>: <tail>"
 *
 * By way of a buffer of its own, since an argument may point into err->text. It is twice the
 * maximum, so that only text_put() cuts.
 */
static __attribute__((format(printf, 2, 0))) void text_build(struct err *err, const char *fmt,
							     va_list ap, const char *tail)
{
	char buf[2 * ERR_TEXT_MAX];
	int n = vsnprintf(buf, sizeof(buf), fmt, ap);
	size_t len = n < 0 ? 0 : (size_t)n;

	if (n < 0)
		buf[0] = '\0';
	if (tail && len < sizeof(buf))
		snprintf(buf + len, sizeof(buf) - len, "%s%s", len ? ": " : "", tail);
	text_put(err, buf);
}

int(err_set)(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	text_build(err, fmt, ap, NULL);
	va_end(ap);
	err->code = code;
	err->hresult = 0;
	return code;
}

int(err_sys)(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	text_build(err, fmt, ap, code_text(code));
	va_end(ap);
	err->code = code;
	err->hresult = 0;
	return code;
}

int(err_wrap)(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	text_build(err, fmt, ap, err->text[0] ? err->text : code_text(code));
	va_end(ap);
	err->code = code;
	return code;
}

int err_copy(struct err *dst, const struct err *src)
{
	if (dst && dst != src)
		*dst = *src;
	return src->code;
}

int err_grpc(int code)
{
	if (code >= 0)
		return GRPC_OK;
	if (is_kind(code))
		return kinds[-code - ERR_NOT_FOUND].grpc;
	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++)
		if (errnos[i].code == -code)
			return errnos[i].grpc;
	return GRPC_UNKNOWN;
}

int err_from_grpc(int status)
{
	if (status == GRPC_OK)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].grpc == status)
			return -(ERR_NOT_FOUND + (int)i);
	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++)
		if (errnos[i].grpc == status)
			return -errnos[i].code;
	return -EREMOTEIO;
}

uint32_t err_hresult(const struct err *err)
{
	if (err->code >= 0)
		return 0;
	if (err->hresult)
		return err->hresult;
	if (is_kind(err->code))
		return kinds[-err->code - ERR_NOT_FOUND].hresult;
	return err->code == -ETIMEDOUT ? (uint32_t)HR_TIMEOUT : (uint32_t)HR_FAIL;
}

int err_from_hresult(uint32_t hresult)
{
	if (!hresult)
		return 0;
	if (hresult == HR_FAIL)
		return -EREMOTEIO;
	for (size_t i = 0; i < ARRAY_SIZE(hresults); i++)
		if (hresults[i].hresult == hresult)
			return hresults[i].code;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].hresult == hresult)
			return -(ERR_NOT_FOUND + (int)i);
	return -EREMOTEIO;
}
