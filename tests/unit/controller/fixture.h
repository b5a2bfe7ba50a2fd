/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_UNIT_CONTROLLER_FIXTURE_H
#define LCOW_TESTS_UNIT_CONTROLLER_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "turns.h"

/*
 * Fakes note each call in @calls ("attach 0:1;"), fail the call whose number is @fail_at (1 is the
 * first), and hold calls named @hold_at until @gate is set.
 */
struct fake {
	struct buf calls;
	unsigned n_calls;
	unsigned fail_at;
	const char *hold_at;
	struct co_event gate;
};

static inline void fake_init(struct fake *f)
{
	memset(f, 0, sizeof(*f));
	co_event_init(&f->gate);
}

static inline void fake_free(struct fake *f)
{
	buf_free(&f->calls);
}

/* What the fakes were asked since the last time. */
static inline const char *fake_calls(struct fake *f)
{
	static char text[4096];

	snprintf(text, sizeof(text), "%.*s", (int)f->calls.len,
		 f->calls.data ? (char *)f->calls.data : "");
	buf_eat(&f->calls, f->calls.len);
	return text;
}

__attribute__((format(printf, 3, 4))) static inline CO int fake_call(struct fake *f,
								     struct err *err,
								     const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_addf(&f->calls, "%s;", text);
	f->n_calls++;
	if (f->hold_at && str_starts(text, f->hold_at)) {
		int r = co_event_wait(&f->gate);

		if (r < 0)
			return err_sys(err, r, "%s", text);
	}
	if (f->n_calls == f->fail_at)
		return err_set(err, -EIO, "%s was made to fail", text);
	return 0;
}

static inline void run_all(void)
{
	for (int i = 0; co_count() > 0 && i < 10000; i++)
		run_for(1);
	ck_assert_uint_eq(co_count(), 0);
}

/* Runs @body in a coroutine to its end. */
static inline void in_coroutine(CO void (*body)(void *arg), void *arg)
{
	co_spawn("test", body, arg, USEC_NEVER);
	run_all();
}

#endif
