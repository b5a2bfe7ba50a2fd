/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/uuid.h"
#include "guest/logs.h"
#include "guest/private.h"
#include "loop/loop.h"
#include "wire/json.h"

struct guest *guest_new(struct channel *channel, void (*on_lost)(void *arg), void *arg)
{
	struct guest *g = NEW0(struct guest);

	g->channel = channel;
	g->on_lost = on_lost;
	g->arg = arg;
	g->next_port = GCS_PORT_STDIO;
	g->dial_usec = GUEST_DIAL_SEC * USEC_PER_SEC;
	co_event_init(&g->changed);
	list_init(&g->processes);
	return g;
}

/**
 * give_entropy() - seed a guest that may have no random number generator; one that goes away has
 * had enough
 */
static void give_entropy(int fd, void *arg)
{
	uint8_t bytes[GCS_ENTROPY_BYTES];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return;
	co_write_full(fd, bytes, sizeof(bytes));
	explicit_bzero(bytes, sizeof(bytes));
}

static void ports_free(struct guest *g)
{
	g->entropy = port_free(g->entropy);
	g->log = port_free(g->log);
	g->door = port_free(g->door);
}

int guest_listen(struct guest *g, struct err *err)
{
	const struct port_spec entropy = { .name = "entropy", .serve = give_entropy };
	/* Microsoft's guest, told to, and ours dial the log port again when they have lost the
	 * stream. */
	const struct port_spec log = { .name = "guest log", .serve = logs_serve, .again = true };
	const struct port_spec door = { .name = "bridge", .changed = &g->changed };
	int r;

	if (g->closed || g->door)
		return err_set(err, -ERR_STATE, "guest: it listens already, or was closed");
	r = port_listen(g->channel, GCS_PORT_ENTROPY, &entropy, &g->entropy, err);
	if (r >= 0)
		r = port_listen(g->channel, GCS_PORT_LOG, &log, &g->log, err);
	if (r >= 0)
		r = port_listen(g->channel, GCS_PORT_BRIDGE, &door, &g->door, err);
	if (r < 0) {
		ports_free(g);
		return err_wrap(err, r, "guest: listen");
	}
	return 0;
}

static void deliver_lost(void *arg)
{
	struct guest *g = arg;

	g->lost = loop_timer_free(g->lost);
	if (g->on_lost)
		g->on_lost(g->arg);
}

static void on_bridge_ended(void *arg)
{
	struct guest *g = arg;

	guest_processes_ended(g);
	/* guest_connect() tells its caller itself. */
	if (g->connected)
		g->lost = loop_timer_new(0, deliver_lost, g);
	g->connected = false;
}

/** accept_bridge() - Return: 0 with a stream, or a negative code with text */
static int accept_bridge(struct guest *g, int *ret_fd, struct err *err)
{
	int fd;

	while (!port_ended(g->door)) {
		int r;

		co_event_clear(&g->changed);
		r = co_event_wait(&g->changed);
		if (r < 0)
			return err_sys(err, r, "guest: wait for it to dial the bridge");
	}
	if (g->closed)
		return err_set(err, -ERR_UNAVAILABLE, "guest: closed before it dialled the bridge");
	fd = port_take(g->door);
	if (fd < 0)
		return err_set(err, -ERR_UNAVAILABLE,
			       "guest: the channel ended before it dialled the bridge: %s",
			       strerrordesc_np(-fd));
	*ret_fd = fd;
	return 0;
}

static int check_negotiated(const struct gcs_negotiate_reply *n, struct err *err)
{
	if (n->version != GCS_PROTOCOL)
		return err_set(err, -EPROTO, "guest: it wants protocol version %u, not %u",
			       n->version, GCS_PROTOCOL);
	if (!n->caps.os_type || strcasecmp(n->caps.os_type, "linux") != 0)
		return err_set(err, -EPROTO, "guest: it does not run Linux");
	if (n->caps.send_host_create || n->caps.send_host_start)
		return err_set(err, -ERR_UNIMPLEMENTED,
			       "guest: it wants a Create of the VM, as no Linux guest does");
	return 0;
}

static int negotiate(struct guest *g, struct err *err)
{
	_cleanup_strv_ char **extensions = NULL;
	struct gcs_negotiate_request request = { .min = GCS_PROTOCOL, .max = GCS_PROTOCOL };
	int r;

	strv_add(&extensions, GCS_EXT_OOM);
	strv_add(&extensions, GCS_EXT_METRICS);
	strv_add(&extensions, GCS_EXT_FREEZER);
	strv_add(&extensions, GCS_EXT_DEVICES);
	strv_add(&extensions, GCS_EXT_CLOCK);
	strv_add(&extensions, GCS_EXT_PCI);
	strv_add(&extensions, GCS_EXT_SOCKETS);
	strv_add(&extensions, GCS_EXT_VERITY);
	strv_add(&extensions, GCS_EXT_ENCRYPTED);
	strv_add(&extensions, GCS_EXT_FORWARD);
	request.extensions = extensions;
	r = guest_call(g, GCS_NEGOTIATE, NULL, &request.base, &gcs_negotiate_request_table,
		       &request, &gcs_negotiate_reply_table, &g->negotiated, err);
	if (r >= 0)
		r = check_negotiated(&g->negotiated, err);
	/* The end may have come right behind the answer. */
	if (r >= 0 && !bridge_alive(g->bridge))
		r = err_set(err, -ERR_UNAVAILABLE, "guest: it hung up once it had negotiated");
	if (r < 0)
		json_free(&gcs_negotiate_reply_table, &g->negotiated);
	return r;
}

int guest_connect(struct guest *g, struct err *err)
{
	int r, fd = -EBADF;

	if (g->closed || !g->door || g->connecting)
		return err_set(err, -ERR_STATE,
			       "guest: it does not listen, was connected before, or was closed");
	g->connecting = true;
	port_accept(g->entropy);
	port_accept(g->log);
	port_accept(g->door);
	r = accept_bridge(g, &fd, err);
	/* Failed or not, nobody dials the bridge a second time. The log goes on: it may say why. */
	port_join(g->door, 0);
	if (r < 0)
		return r;
	r = bridge_new(fd, on_bridge_ended, g, &g->bridge);
	if (r < 0)
		return err_sys(err, r, "guest: bridge");
	bridge_on_oom(g->bridge, g->on_oom, g->oom_arg);

	uint64_t t0 = time_mono();

	r = negotiate(g, err);
	if (r < 0) {
		bridge_close(g->bridge);
		return r;
	}
	g->connected = true;
	log_phase("negotiate", t0);
	return 0;
}

const struct gcs_caps *guest_caps(const struct guest *g)
{
	return &g->negotiated.caps;
}

bool guest_has(const struct guest *g, const char *extension)
{
	return g && strv_has(g->negotiated.caps.guest.extensions, extension);
}

void guest_on_oom(struct guest *g, void (*fn)(const char *container, uint64_t kills, void *arg),
		  void *arg)
{
	g->on_oom = fn;
	g->oom_arg = arg;
}

bool guest_connected(const struct guest *g)
{
	return g->connected;
}

void guest_close(struct guest *g)
{
	if (g->closed)
		return;
	g->closed = true;
	g->connected = false;
	g->lost = loop_timer_free(g->lost);
	if (g->bridge)
		bridge_close(g->bridge);
	guest_processes_ended(g);
	if (g->entropy)
		port_close(g->entropy);
	if (g->log)
		port_close(g->log);
	if (g->door)
		port_close(g->door);
}

void guest_drain_log(struct guest *g, uint64_t usec)
{
	if (g->log)
		port_join(g->log, usec);
}

struct guest *guest_free(struct guest *g)
{
	if (!g)
		return NULL;
	guest_close(g);
	guest_processes_forget(g);
	bridge_free(g->bridge);
	ports_free(g);
	json_free(&gcs_negotiate_reply_table, &g->negotiated);
	free(g);
	return NULL;
}
