/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/share.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/module.h"
#include "gcs/mounts.h"
#include "gcs/transport.h"
#include "wire/gcs.h"

#define ROOT_TAG "lcow-shares"
#define ROOT_DIR "/run/lcow/shares"

/*
 * Nothing is cached between opens, because the host changes the files too (and cache=loose writes
 * at a tenth of the speed); but mmap, not none: with none a writable shared mapping is refused,
 * which databases cannot do without.
 */
#define ROOT_OPTIONS "trans=virtio,version=9p2000.L,msize=524288,cache=mmap"

enum { FD_MSIZE = 65536 };

struct shares {
	struct co_mutex lock;
	bool mounted;
};

struct shares *shares_new(void)
{
	struct shares *s = NEW0(struct shares);

	co_mutex_init(&s->lock);
	return s;
}

struct shares *shares_free(struct shares *s)
{
	free(s);
	return NULL;
}

static int mount_root(struct agent *a, struct err *err)
{
	static const char *const modules[] = { "virtio_pci", "9pnet_virtio", "9p", NULL };
	struct shares *s = a->shares;
	int r;

	CO_LOCK(&s->lock);
	if (s->mounted)
		return 0;
	r = modules_need(a->modules, modules, err);
	if (r >= 0)
		r = mount_at(ROOT_TAG, ROOT_DIR, "9p", MS_NODEV | MS_NOSUID, ROOT_OPTIONS, err);
	s->mounted = r >= 0;
	return r;
}

static int add_from_root(struct agent *a, const struct gcs_mapped_directory *d, struct err *err)
{
	_cleanup_free_ char *source = str_printf(ROOT_DIR "/%s", d->share_name);
	int r = mount_root(a, err);

	return r < 0 ? r : mount_bind(source, d->mount_path, d->read_only, err);
}

static int add_from_port(struct agent *a, const struct gcs_mapped_directory *d, struct err *err)
{
	static const char *const modules[] = { "9pnet_fd", "9p", NULL };
	_cleanup_free_ char *options = NULL;
	_cleanup_fd_ int sock = -EBADF;
	int size = FD_MSIZE;
	int r = modules_need(a->modules, modules, err);

	if (r < 0)
		return r;
	r = transport_dial(a->transport, (uint32_t)d->port, &sock, err);
	if (r < 0)
		return err_wrap(err, r, "could not connect to plan9 server for %s", d->mount_path);
	setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	options = str_printf("trans=fd,rfdno=%d,wfdno=%d,msize=%d%s%s", sock, sock, FD_MSIZE,
			     str_empty(d->share_name) ? "" : ",aname=",
			     d->share_name ? d->share_name : "");
	/* The kernel keeps its own reference to the connection. */
	return mount_at(d->mount_path, d->mount_path, "9p", d->read_only ? MS_RDONLY : 0, options,
			err);
}

static int check(const struct gcs_mapped_directory *d, struct err *err)
{
	if (!mount_path_valid(d->mount_path))
		return err_set(err, -ERR_INVALID, "MountPath '%s' is not a clean absolute path",
			       d->mount_path ? d->mount_path : "");
	return 0;
}

int share_add(struct agent *a, const struct gcs_mapped_directory *d, struct err *err)
{
	int r = check(d, err);

	if (r < 0)
		return r;
	if (d->port < 0)
		return err_set(err, -ERR_INVALID, "port %d of a share", d->port);
	if ((!d->port || !str_empty(d->share_name)) && !str_id_valid(d->share_name))
		return err_set(err, -ERR_INVALID, "'%s' is not the name of a share",
			       d->share_name ? d->share_name : "");
	r = d->port ? add_from_port(a, d, err) : add_from_root(a, d, err);
	return r < 0 ? err_wrap(err, r, "add share '%s' at %s", d->share_name ? d->share_name : "",
				d->mount_path)
		     : 0;
}

int share_remove(struct agent *a, const struct gcs_mapped_directory *d, struct err *err)
{
	int r = check(d, err);

	return r < 0 ? r : mount_undo(d->mount_path, true, err);
}
