/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes a client sends, the ttrpc server answers or closes, ends every handler, and finds
 * the same frames however the bytes were cut. The input's first byte says where they are cut; the
 * rest goes through a real socket.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "google/protobuf/empty.pb-c.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "sandbox.pb-c.h"
#include "task.pb-c.h"
#include "ttrpc.pb-c.h"
#include "wire/pb.h"
#include "wire/ttrpc.h"
#include "wire/ttrpc_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { INPUT_MAX = 60 << 10, PARKED_MAX = 8192 };

static struct {
	struct sockaddr_un addr;
	socklen_t addr_len;
	struct ttrpc_server *server;
	struct ttrpc_call *parked[PARKED_MAX];
	unsigned n_parked;
	const uint8_t *data;
	size_t len;
} f;

static CO int handle(struct ttrpc_call *call, const ProtobufCMessage *request,
		     ProtobufCMessage *reply, void *ctx, struct err *err)
{
	/* What was decoded can be encoded. */
	size_t len;
	free(pb_pack(request, &len));
	return 0;
}

static CO int handle_wait(struct ttrpc_call *call, const ProtobufCMessage *request,
			  ProtobufCMessage *reply, void *ctx, struct err *err)
{
	ttrpc_park(call);
	f.parked[f.n_parked++] = call;
	return TTRPC_PARKED;
}

#define METHOD(n, in, h) \
	{ \
		n, &containerd__task__v2__##in##__descriptor, \
			&google__protobuf__empty__descriptor, h \
	}
static const struct ttrpc_method methods[] = {
	METHOD("Create", create_task_request, handle), METHOD("Exec", exec_process_request, handle),
	METHOD("Update", update_task_request, handle), METHOD("Wait", wait_request, handle_wait),
	METHOD("Kill", kill_request, handle),
};
static const struct ttrpc_method sandbox_methods[] = {
	{ "CreateSandbox", &containerd__runtime__sandbox__v1__create_sandbox_request__descriptor,
	  &google__protobuf__empty__descriptor, handle },
};
static const struct ttrpc_service task = { "containerd.task.v3.Task", methods,
					   ARRAY_SIZE(methods) };
static const struct ttrpc_service sandbox = { "containerd.runtime.sandbox.v1.Sandbox",
					      sandbox_methods, 1 };
static const struct ttrpc_service *const services[] = { &task, &sandbox, NULL };

static CO void drive(void *arg)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&f.addr, f.addr_len) < 0 ||
	    fd_nonblock(fd, true) < 0 || co_write_full(fd, f.data, f.len) < 0)
		abort();
	shutdown(fd, SHUT_WR);

	char drop[4096];
	while (co_read(fd, drop, sizeof(drop)) > 0)
		;
	fd_close(fd);
	/* Handlers may still be about to run: they are, or are not, in this turn. */
	while (co_count() > 1 || ttrpc_server_connections(f.server) > 0)
		co_sleep(1);
	while (f.n_parked > 0)
		ttrpc_reply(f.parked[--f.n_parked], 0, NULL);
	loop_stop(0);
}

static void start(void)
{
	log_init(-EBADF, LOG_ERROR);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	f.addr.sun_family = AF_UNIX;
	f.addr_len = sizeof(sa_family_t);
	/* An address of the kernel's choice, without a file */
	if (fd < 0 || bind(fd, (const struct sockaddr *)&f.addr, f.addr_len) < 0 ||
	    listen(fd, 1) < 0)
		abort();
	f.addr_len = sizeof(f.addr);
	if (getsockname(fd, (struct sockaddr *)&f.addr, &f.addr_len) < 0 || loop_init() < 0 ||
	    ttrpc_server_new(fd, services, NULL, true, &f.server) < 0)
		abort();
}

/* Feed a parser in pieces of @step; Return: a sum over what came out */
static uint64_t parse(const uint8_t *data, size_t len, size_t step)
{
	struct ttrpc_parser p = { 0 };
	struct ttrpc_frame frame;
	uint64_t sum = 0;

	while (len > 0) {
		uint8_t *space;
		size_t n;
		if (ttrpc_parser_space(&p, &space, &n) < 0 || n == 0)
			abort();
		if (n > step)
			n = step;
		if (n > len)
			n = len;
		memcpy(space, data, n);
		ttrpc_parser_filled(&p, n);
		data += n;
		len -= n;
		while (ttrpc_parser_next(&p, &frame)) {
			sum = sum * 31 + frame.stream + frame.type + frame.flags + frame.oversize;
			for (size_t i = 0; i < frame.len; i++)
				sum = sum * 31 + frame.payload[i];
		}
	}
	ttrpc_parser_free(&p);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1 || len > INPUT_MAX)
		return 0;
	if (!f.server)
		start();
	f.data = data + 1;
	f.len = len - 1;
	if (parse(f.data, f.len, data[0] + 1u) != parse(f.data, f.len, SIZE_MAX))
		abort();

	/* The other direction has no more than this to decode. */
	_cleanup_pb_ void *response = NULL;
	pb_unpack(&ttrpc__response__descriptor, f.data, f.len, &response, NULL);

	co_spawn("drive", drive, NULL, USEC_NEVER);
	if (loop_run() != 0)
		abort();
	return 0;
}
