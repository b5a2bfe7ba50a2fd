/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json on its way to the guest: what was read becomes a spec without the host's own
 * parts, its mounts are mapped or refused, and every share and socket that was reserved is given
 * back.
 */
#include <errno.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "controller/container.h"
#include "controller/device/scsi.h"
#include "controller/device/share.h"
#include "controller/device/socket.h"
#include "controller/mounts.h"
#include "controller/spec.h"
#include "loop/co.h"
#include "loop/loop.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static CO int on_add(void *ctx, const char *name, const char *path, const char *only,
		     bool read_only, struct err *err)
{
	return 0;
}

static CO int on_remove(void *ctx, const char *name, struct err *err)
{
	return 0;
}

static CO int on_mount(void *ctx, const char *name, const char *guest_path, bool read_only,
		       struct err *err)
{
	return 0;
}

static const struct share_ops share_ops = { on_add, on_remove, on_mount, on_mount };

static int on_open(void *ctx, int socket, struct guest_forward **ret, uint32_t *ret_port,
		   struct err *err)
{
	fd_close(socket);
	return 0;
}

static void on_close(void *ctx, struct guest_forward *f) {}

static CO int on_socket(void *ctx, const struct gcs_unix_socket *s, struct err *err)
{
	return 0;
}

static const struct socket_ops socket_ops = { on_open, on_close, on_socket, on_socket };

static CO int on_attach(void *ctx, unsigned controller, unsigned lun, const char *path,
			bool read_only, struct err *err)
{
	return 0;
}

static CO int on_slot(void *ctx, unsigned controller, unsigned lun, struct err *err)
{
	return 0;
}

static CO int on_disk(void *ctx, const struct gcs_mapped_disk *disk, struct err *err)
{
	return 0;
}

static const struct scsi_ops scsi_ops = { on_attach, on_slot, on_disk, on_disk, on_slot };

static void check(struct json_object *spec)
{
	struct json_object *section = json_get(spec, "linux", NULL);

	if (!str_eq(json_get_str(json_get(spec, "root", NULL), "path"), "/run/rootfs"))
		abort();
	if (json_get(spec, "hooks", NULL) || json_get(section, "cgroupsPath", NULL) ||
	    json_get(section, "resources", "devices", NULL) ||
	    json_get(spec, "windows", "layerFolders", NULL))
		abort();
	/* The guest must be able to read it. */
	_cleanup_free_ char *text = json_text(spec);
	_cleanup_json_ struct json_object *again = NULL;
	if (strlen(text) <= JSON_TEXT_MAX && json_parse(text, strlen(text), &again, NULL) < 0)
		abort();
}

static CO void map(void *arg)
{
	const struct container_env env = { .shares = shares_new(&share_ops, NULL, false),
					   .sockets = sockets_new(&socket_ops, NULL),
					   .scsi = scsi_new(&scsi_ops, NULL) };
	struct err err = { 0 };
	char **share_ids = NULL, **socket_ids = NULL, **disk_ids = NULL;

	if (mounts_map(&env, arg, &share_ids, &socket_ids, &disk_ids, &err) < 0 && !err.text[0])
		abort();
	for (char **id = share_ids; id && *id; id++)
		share_unmap(env.shares, *id, NULL);
	for (char **id = socket_ids; id && *id; id++)
		socket_unmap(env.sockets, *id, NULL);
	for (char **id = disk_ids; id && *id; id++)
		scsi_unmap(env.scsi, *id, NULL);
	if (shares_in_use(env.shares) + sockets_in_use(env.sockets) + scsi_in_use(env.scsi) > 0)
		abort();
	strv_free(share_ids);
	strv_free(socket_ids);
	strv_free(disk_ids);
	shares_free(env.shares);
	sockets_free(env.sockets);
	scsi_free(env.scsi);
	loop_stop(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static bool up;
	_cleanup_json_ struct json_object *spec = NULL, *guest = NULL;
	struct err err = { 0 };

	if (!up) {
		log_init(-EBADF, LOG_ERROR);
		if (loop_init() < 0)
			abort();
		up = true;
	}
	if (json_parse((const char *)data, len, &spec, NULL) < 0)
		return 0;
	if (spec_for_guest(spec, "/run/rootfs", "p1", &guest, &err) < 0) {
		if (guest || !err.text[0])
			abort();
		return 0;
	}
	check(guest);
	co_spawn("map", map, guest, USEC_NEVER);
	loop_run();
	return 0;
}
