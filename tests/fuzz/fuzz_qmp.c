/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes a QEMU sends, the client takes them or ends, and everyone who waits is told. The
 * input's first byte says where the rest is cut.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "loop/loop.h"
#include "wire/json.h"
#include "wire/qmp_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct {
	struct qmp *q;
	bool free_in_event;
	const uint8_t *data;
	size_t len;
	size_t step;
	unsigned waiting;
} f;

static void on_event(const char *event, struct json_object *data, void *arg)
{
	free(json_text(data));
	if (f.free_in_event)
		f.q = qmp_free(f.q);
}

static CO void call(void *arg)
{
	_cleanup_json_ struct json_object *value = NULL;
	struct err err = { 0 };
	int r = qmp_call(f.q, "query-status", NULL, -EBADF, &value, &err);

	if (r < 0 && (err.code != r || !*err.text || value))
		abort();
	f.waiting--;
}

static CO void wait_event(void *arg)
{
	qmp_wait_event(f.q, "DEVICE_DELETED", "device", "d0");
	f.waiting--;
}

static CO void delete_device(void *arg)
{
	qmp_call_event(f.q, "device_del", NULL, "DEVICE_DELETED", "device", "d0", NULL);
	f.waiting--;
}

static CO void drive(void *arg)
{
	co_sleep(0);
	for (size_t at = 0; f.q && at < f.len; at += f.step) {
		size_t n = f.len - at < f.step ? f.len - at : f.step;

		qmp_receive(f.q, (const char *)f.data + at, n);
	}
	f.q = qmp_free(f.q);
	while (f.waiting)
		co_sleep(0);
	loop_stop(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static bool started;
	int pair[2];

	if (len < 1)
		return 0;
	if (!started) {
		log_init(-EBADF, LOG_ERROR);
		if (loop_init() < 0)
			abort();
		started = true;
	}
	f.free_in_event = data[0] & 0x80;
	f.step = (data[0] & 0x7f) + 1u;
	f.step = f.step == 0x80 ? len : f.step;
	f.data = data + 1;
	f.len = len - 1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
	    qmp_open(pair[0], on_event, NULL, &f.q) < 0)
		abort();
	f.waiting = 3;
	co_spawn("call", call, NULL, USEC_NEVER);
	co_spawn("wait", wait_event, NULL, USEC_NEVER);
	co_spawn("delete", delete_device, NULL, USEC_NEVER);
	co_spawn("drive", drive, NULL, USEC_NEVER);
	if (loop_run() != 0)
		abort();
	fd_close(pair[1]);
	return 0;
}
