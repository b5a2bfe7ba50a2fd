/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_GCS_FAKEDM_H
#define LCOW_TESTS_GCS_FAKEDM_H

#include "gcs/dm.h"

#include <check.h>
#include <errno.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"
#include "loop/worker.h"

/*
 * The kernel is a fake that notes each call ("create a;"), and lets the call whose number is in
 * [@fail_at, @fail_to) fail with @code.
 */
static struct buf calls;
static unsigned n_calls, fail_at, fail_to;
static int code;
static char table[512];
static uint32_t flags;
static uint64_t sectors;
static const char *status_text;
static struct dm *dm;
static struct err err;

static inline int note(const char *what, const char *name)
{
	buf_addf(&calls, "%s %s;", what, name);
	n_calls++;
	return n_calls >= fail_at && n_calls < fail_to ? code : 0;
}

static inline int on_call(unsigned long request, struct dm_ioctl *m)
{
	const struct dm_target_spec *in = (const struct dm_target_spec *)(const void *)(m + 1);
	struct dm_target_spec *out = (struct dm_target_spec *)(void *)(m + 1);

	ck_assert_uint_eq(m->version[0], 4);
	ck_assert_uint_ge(m->data_size, sizeof(*m));
	switch (request) {
	case DM_DEV_CREATE:
		m->dev = 0xfd02;
		return note("create", m->name);
	case DM_TABLE_LOAD:
		ck_assert_uint_eq(m->target_count, 1);
		ck_assert_uint_le(m->data_start + in->next, m->data_size);
		flags = m->flags;
		sectors = in->length;
		snprintf(table, sizeof(table), "%s %s", in->target_type, (const char *)(in + 1));
		return note("load", m->name);
	case DM_DEV_SUSPEND:
		ck_assert_uint_eq(m->flags & DM_SUSPEND_FLAG, 0);
		return note("resume", m->name);
	case DM_DEV_REMOVE:
		return note("remove", m->name);
	case DM_TABLE_STATUS:
		m->target_count = 1;
		strcpy((char *)(out + 1), status_text);
		return note("status", m->name);
	}
	ck_abort_msg("ioctl %lx", request);
}

static inline int on_add(const char *name, uint64_t dev)
{
	ck_assert_uint_eq(dev, 0xfd02);
	return note("node", name);
}

static inline int on_drop(const char *name)
{
	return note("no node", name);
}

static const struct dm_ops ops = { on_call, on_add, on_drop };

static inline const char *called(void)
{
	static char text[4096];

	snprintf(text, sizeof(text), "%.*s", (int)calls.len, calls.data ? (char *)calls.data : "");
	buf_eat(&calls, calls.len);
	return text;
}

static inline void fail_calls(unsigned at, unsigned times, int with)
{
	n_calls = 0;
	fail_at = at;
	fail_to = at + times;
	code = with;
}

static void (*with_dm)(void);

static inline CO void run_body(void *arg)
{
	with_dm();
	loop_stop(0);
}

static inline void run_with_dm(CO void (*fn)(void))
{
	memset(&err, 0, sizeof(err));
	fail_calls(0, 0, 0);
	status_text = "V";
	ck_assert_int_eq(loop_init(), 0);
	dm = dm_new(&ops);
	with_dm = fn;
	co_spawn("test", run_body, NULL, USEC_NEVER);
	loop_run();
	dm = dm_free(dm);
	buf_free(&calls);
	worker_fini();
	loop_fini();
}

#endif
