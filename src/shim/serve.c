/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "service/service.h"
#include "shim/args.h"
#include "shim/config.h"
#include "shim/rundir.h"
#include "shim/scratch.h"
#include "wire/ttrpc.h"

/*
 * A server that nobody knows ends by itself: when no task was created within a minute of the last
 * connection's end, or when its bundle is gone and nobody is connected. That containerd is away is
 * no reason.
 */
enum {
	IDLE_CHECK_SEC = 5,
	IDLE_MAX_SEC = 60,
	FLUSH_SEC = 2,
	DRAIN_MS = 3000,
	LINGER_MS = 200,
	SWEEP_SEC = 1,
	OPTIONS_MAX = 4 << 20
};

/**
 * struct serving - the process
 * @scratch_lock: as long as it is held, the scratch images are somebody's
 * @idle_sec:	how long nobody has been connected
 */
struct serving {
	const struct shim_args *args;
	struct shim_config config;
	struct service_options options;
	struct service *service;
	struct ttrpc_server *server;
	struct loop_timer *idle;
	const char *run_dir;
	char *work_dir;
	char *scratch_dir;
	char *probe_cache;
	char *bundle;
	int scratch_lock;
	unsigned idle_sec;
};

/* ---- set-up ---- */

static void open_log(const struct serving *s)
{
	/* containerd holds the fifo open for reading and writing; a client that made none gets no
	 * log. */
	int fd = open("log", O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0) {
		dup2(fd, STDERR_FILENO);
		close(fd);
	}
	log_init(fd >= 0 ? STDERR_FILENO : -EBADF,
		 s->args->debug ? LOG_DEBUG : s->config.log_level);
	log_set_sandbox(s->args->id);
}

static int read_config(struct serving *s, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/options", s->run_dir);
	_cleanup_free_ char *options = NULL;
	size_t len;

	shim_config_init(&s->config);

	int r = shim_config_host(&s->config, err);

	if (r < 0)
		return r;
	if (file_read(path, OPTIONS_MAX, &options, &len) < 0)
		return 0;
	return shim_config_options(&s->config, options, len, err);
}

/* The scratch directory's name was recorded by start. */
static int make_directories(struct serving *s, struct err *err)
{
	_cleanup_free_ char *record = str_printf("%s/scratch", s->run_dir);
	size_t len;
	int r = file_read(record, 4096, &s->scratch_dir, &len);

	s->work_dir = str_printf("%s/work", s->run_dir);
	s->probe_cache = str_printf("%s/accel", s->config.run_dir);
	s->bundle = getcwd(NULL, 0);
	if (r >= 0)
		r = dir_make(s->work_dir, 0700);
	if (r < 0)
		return err_sys(err, r, "make the directories of %s", s->run_dir);
	return scratch_open(s->scratch_dir, &s->scratch_lock, err);
}

static const char *const level_names[] = { "trace", "debug", "info", "warn", "error" };

static void fill_options(struct serving *s)
{
	const struct shim_config *c = &s->config;

	s->options = (struct service_options){
		.namespace = s->args->namespace,
		.sandbox = s->args->id,
		.events = getenv("TTRPC_ADDRESS"),
		.boot_files = c->boot_files,
		.deny_writable_shares = c->deny_writable_shares,
		.work_dir = s->work_dir,
		.scratch_dir = s->scratch_dir,
		.scratch_bytes = c->scratch_bytes,
		.upper = c->upper,
		.vm = {
			.id = s->args->id,
			.qemu = c->qemu,
			.vhost_device_vsock = c->vhost_device_vsock,
			.run_dir = s->run_dir,
			.accel = c->accel,
			.transport = c->transport,
			.cpus = c->cpus,
			.max_cpus = shim_config_max_cpus(c),
			.memory_mb = c->memory_mb,
			.max_memory_mb = shim_config_max_memory_mb(c),
			.overhead_mb = c->overhead_mb,
			.storage_iops = c->storage_iops,
			.storage_bandwidth = c->storage_bandwidth,
			/* CIDs are of this host's namespace of vhost; pids are unique in it and 0
			 * to 2 are taken. */
			.cid = (uint32_t)getpid() + 3,
			.kernel_args = c->kernel_args,
			.log_level = level_names[s->args->debug ? LOG_DEBUG : c->log_level],
			.uid = c->qemu_uid,
			.gid = c->qemu_gid,
			.probe_cache = s->probe_cache,
			.emulated_devices = c->emulated_devices,
		},
	};
}

/* ---- the end ---- */

/*
 * A Go client that finds the connection closed when it comes to read its answer says that it was
 * closed: let clients go first.
 */
static CO void await_clients(const struct serving *s)
{
	for (int i = 0; ttrpc_server_connections(s->server) > 0 && i < LINGER_MS / 10; i++)
		co_sleep(10 * USEC_PER_MSEC);
}

/* Until no more than @n coroutines live. */
static CO void await_coroutines(unsigned n)
{
	for (int i = 0; co_count() > n && i < DRAIN_MS / 10; i++)
		co_sleep(10 * USEC_PER_MSEC);
}

static CO void wind_up(void *arg)
{
	struct serving *s = arg;

	s->idle = loop_timer_free(s->idle);
	{
		/* The answer to Shutdown itself may still be on its way. */
		CO_LIMIT(FLUSH_SEC * USEC_PER_SEC);
		ttrpc_server_flush(s->server);
		await_clients(s);
	}
	/* Handlers that are still under way were cancelled; they need the service until they have
	 * returned. What is left then, beside this one, is the publisher's coroutine. */
	s->server = ttrpc_server_free(s->server);
	await_coroutines(2);
	s->service = service_free(s->service);
	await_coroutines(1);
	loop_stop(0);
}

static void on_done(void *arg)
{
	co_spawn("wind up", wind_up, arg, USEC_NEVER);
}

static void on_idle_check(void *arg)
{
	struct serving *s = arg;
	bool bundle_gone = access(s->bundle, F_OK) < 0 && errno == ENOENT;

	s->idle_sec = ttrpc_server_connections(s->server) > 0 ? 0 : s->idle_sec + IDLE_CHECK_SEC;
	if (s->idle_sec > 0 && bundle_gone) {
		log_warn("the bundle is gone and nobody is connected: ending");
		service_shutdown(s->service);
	} else if (s->idle_sec >= IDLE_MAX_SEC && service_untouched(s->service)) {
		log_warn("nobody has asked for anything in %d s: ending", IDLE_MAX_SEC);
		service_shutdown(s->service);
	}
	loop_timer_set(s->idle, IDLE_CHECK_SEC * USEC_PER_SEC);
}

static void on_signal(int signo, void *arg)
{
	struct serving *s = arg;
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (signo != SIGUSR1) {
		log_info("signal %d: ending", signo);
		service_shutdown(s->service);
		return;
	}
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return;

	struct mallinfo2 heap = mallinfo2();

	fprintf(out, "heap: %zu bytes in use, %zu free\n", heap.uordblks + heap.hblkhd,
		heap.fordblks);
	loop_dump(out);
	fclose(out);

	char *rest = text;

	for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
		if (*line)
			log_info("%s", line);
	}
}

/* ---- what others have left ---- */

/**
 * struct sweeping - a sweep on a worker
 */
struct sweeping {
	const char *scratch_dir;
	struct scratch_swept swept;
};

static int sweep(void *arg)
{
	struct sweeping *w = arg;

	scratch_sweep_host(w->scratch_dir, time_mono() + SWEEP_SEC * USEC_PER_SEC, &w->swept);
	return 0;
}

static CO void sweep_scratch(void *arg)
{
	const struct serving *s = arg;
	struct sweeping w = { .scratch_dir = s->config.scratch_dir };

	if (worker_call(sweep, &w) == 0)
		scratch_log(w.scratch_dir, &w.swept);
}

/* ---- serving ---- */

static void say_ready(void)
{
	const char *t0 = getenv("LCOW_START_USEC");
	uint64_t since;

	if (write(SHIM_STATUS_FD, "ok", 2) == 2)
		close(SHIM_STATUS_FD);
	if (t0 && str_u64(t0, &since) == 0)
		log_phase("shim start", since);
}

static int serve(struct serving *s, struct err *err)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1 };
	int r = loop_init();

	if (r < 0)
		return err_sys(err, r, "make the loop");
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		loop_signal(signals[i], on_signal, s);
	s->options.done = on_done;
	s->options.arg = s;
	s->service = service_new(&s->options);
	fd_nonblock(SHIM_SOCKET_FD, true);
	r = ttrpc_server_new(SHIM_SOCKET_FD, service_table, s->service, true, &s->server);
	if (r < 0)
		return err_sys(err, r, "serve %s", s->args->socket);
	s->idle = loop_timer_new(IDLE_CHECK_SEC * USEC_PER_SEC, on_idle_check, s);
	say_ready();
	co_spawn("sweep scratch_dir", sweep_scratch, s, USEC_NEVER);
	loop_run();
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		loop_signal(signals[i], NULL, NULL);
	worker_fini();
	loop_fini();
	return 0;
}

static void serving_free(struct serving *s)
{
	shim_config_free(&s->config);
	free(s->work_dir);
	free(s->scratch_dir);
	free(s->probe_cache);
	free(s->bundle);
	fd_close(s->scratch_lock);
}

static int prepare(struct serving *s, struct err *err)
{
	s->run_dir = getenv("LCOW_RUN_DIR");
	if (!s->run_dir || !s->args->socket)
		return err_set(err, -ERR_INVALID, "serve is started by the action start");

	int r = vmm_namespace_setup(err);

	if (r >= 0)
		r = read_config(s, err);
	if (r >= 0)
		r = make_directories(s, err);
	return r;
}

int shim_serve(const struct shim_args *args, struct err *err)
{
	_cleanup_(serving_free) struct serving s = { .args = args, .scratch_lock = -EBADF };

	fcntl(SHIM_SOCKET_FD, F_SETFD, FD_CLOEXEC);
	fcntl(SHIM_STATUS_FD, F_SETFD, FD_CLOEXEC);

	int r = prepare(&s, err);

	if (r >= 0) {
		open_log(&s);
		fill_options(&s);
		r = serve(&s, err);
	}
	if (r < 0) {
		fd_write_all(SHIM_STATUS_FD, err->text, strlen(err->text));
		return r;
	}
	/* A clean end leaves nothing for delete. */
	s.scratch_lock = fd_close(s.scratch_lock);
	r = rundir_clean(s.run_dir, 0, err);
	if (r < 0)
		log_error("%s", err->text);
	return 0;
}
