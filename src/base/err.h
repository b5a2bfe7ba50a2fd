/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_ERR_H
#define LCOW_BASE_ERR_H

#include <stdarg.h>
#include <stdint.h>

/*
 * Errors are a negative int, and a text that the caller owns. The int is either a negative errno,
 * or one of the kinds below, negated, where a client must be able to tell what went wrong: they map
 * one to one to gRPC status codes. A bare errno maps to Unknown except for the few that mean the
 * same everywhere (see err_grpc()).
 */

/**
 * enum err_kind - what a client can tell apart (beyond the range of errno)
 */
enum err_kind {
	ERR_NOT_FOUND = 1001, /* the named object does not exist: NotFound */
	ERR_EXISTS, /* it exists already: AlreadyExists */
	ERR_INVALID, /* the request is malformed: InvalidArgument */
	ERR_STATE, /* not in this state: FailedPrecondition */
	ERR_UNIMPLEMENTED, /* known, but not supported: Unimplemented */
	ERR_UNAVAILABLE, /* the VM or its agent is gone: Unavailable */
	ERR_EXHAUSTED, /* no slot, no memory, too large: ResourceExhausted */
	ERR_DENIED, /* forbidden by configuration: PermissionDenied */
	ERR_KIND_END,
};

enum { ERR_TEXT_MAX = 2048 };

/**
 * struct err - a failure, for a person and for a client
 * @code:	the same negative number that the failing function returned, 0 while nothing failed
 * @hresult:	the HRESULT that a guest gave or shall be given, 0 when there is none of its own
 * @text:	what failed and why, outermost context first, no newline at its end; cut at
 *		ERR_TEXT_MAX
 */
struct err {
	int code;
	uint32_t hresult;
	char text[ERR_TEXT_MAX];
};

/**
 * err_set() - start an error text
 * @err:	error to fill; may be NULL when the caller does not care for the text
 * @code:	negative errno or negated enum err_kind
 * @fmt:	printf format of the text
 *
 * Return: @code, so that a function can "return err_set(err, -EINVAL, …)"
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * err_sys() - start an error text that ends in ": <strerror(-code)>"
 * @err:	error to fill, may be NULL
 * @code:	negative errno
 * @fmt:	printf format of what was tried
 *
 * Return: @code
 */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * err_wrap() - put context before an error's text: "<context>: <text>"
 * @err:	error that was filled below, may be NULL
 * @code:	what the callee returned; returned unchanged
 * @fmt:	printf format of the context
 *
 * An empty text (a callee that filled nothing) becomes "<context>: <strerror>".
 *
 * Return: @code
 */
int err_wrap(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* What an analyzer of one file cannot see: the result is @code, and negative. */
#define err_known(call, err, code, ...) \
	__extension__({ \
		const int code_ = (code); \
		if (code_ >= 0) \
			__builtin_unreachable(); \
		call(err, code_, __VA_ARGS__); \
		code_; \
	})
#define err_set(err, code, ...) err_known((err_set), err, code, __VA_ARGS__)
#define err_sys(err, code, ...) err_known((err_sys), err, code, __VA_ARGS__)
#define err_wrap(err, code, ...) err_known((err_wrap), err, code, __VA_ARGS__)
#endif

/**
 * err_copy() - copy an error
 * @dst:	target, may be NULL
 * @src:	source
 *
 * Return: the code of @src
 */
int err_copy(struct err *dst, const struct err *src);

/**
 * err_grpc() - gRPC status code of a failure
 * @code:	negative errno or negated enum err_kind; 0 is OK
 *
 * ETIMEDOUT is DeadlineExceeded, ECANCELED Canceled, ENOMEM and ENOSPC ResourceExhausted; any other
 * errno is Unknown.
 *
 * Return: 0 to 16, https://grpc.github.io/grpc/core/md_doc_statuscodes.html
 */
int err_grpc(int code);

/**
 * err_from_grpc() - the failure that a gRPC status stands for; inverse of err_grpc()
 * @status:	gRPC status code
 *
 * Return: negative errno or negated kind, 0 for OK
 */
int err_from_grpc(int status);

/* HRESULTs of the GCS protocol that carry a meaning (hcsshim internal/guest/gcserr) */
enum {
	HR_NOT_IMPL = 0x80004001u,
	HR_FAIL = 0x80004005u,
	HR_NOT_FOUND = 0x80070490u,
	HR_INVALID_ARG = 0x80070057u,
	HR_INVALID_STATE = 0x80370105u,
	HR_TIMEOUT = 0xC0370109u,
	HR_UNSUPPORTED_PROTOCOL = 0xC037010Cu,
	HR_INVALID_JSON = 0xC037010Du,
	HR_SYSTEM_NOT_FOUND = 0xC037010Eu,
	HR_SYSTEM_EXISTS = 0xC037010Fu,
	HR_ALREADY_STOPPED = 0xC0370110u,
};

/**
 * err_hresult() - the HRESULT that the guest answers a failure with
 * @err:	the failure; its own hresult wins over the one of its code
 *
 * Return: HRESULT; HR_FAIL where nothing more exact is known; 0 for no failure
 */
uint32_t err_hresult(const struct err *err);

/**
 * err_from_hresult() - the failure that an HRESULT of the guest stands for
 * @hresult:	HRESULT, 0 is success
 *
 * Return: negated kind (ERR_NOT_FOUND, ERR_EXISTS, ERR_STATE, ERR_UNIMPLEMENTED, …), -ETIMEDOUT, or
 * -EREMOTEIO for the rest
 */
int err_from_hresult(uint32_t hresult);

#endif
