/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "loop/child.h"
#include "vmm/cgroup.h"
#include "vmm/channel_backend.h"
#include "vmm/jail.h"

#define VHOST_VSOCK "/dev/vhost-vsock"
#define DAEMON_USEC (5 * USEC_PER_SEC)
#define DAEMON_POLL_USEC (5 * USEC_PER_MSEC)

static int vhost_vsock_open(void)
{
	int fd = open(VHOST_VSOCK, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/**
 * auto_resolve() - the multiplexer wherever the guest knows it: it needs nothing of the host, and
 * two VMs can use the same port. AF_VSOCK ports are the whole host's, so a second VM that wants
 * port 109 would have to wait for the first. The daemon is not used unless it is asked for: it has
 * all of the guest's memory mapped
 */
static int auto_resolve(const struct vm_config *cfg, enum vm_transport *ret, struct err *err)
{
	_cleanup_fd_ int fd = -EBADF;

	if (cfg->boot->serial) {
		*ret = VM_TRANSPORT_SERIAL;
		return 0;
	}
	fd = vhost_vsock_open();
	if (fd < 0)
		return err_set(err, -ERR_UNAVAILABLE,
			       "the guest speaks AF_VSOCK only, and open " VHOST_VSOCK
			       ": %s; transport = vhost-user-vsock needs no such device",
			       strerror(-fd));
	*ret = VM_TRANSPORT_VHOST_VSOCK;
	return 0;
}

int transport_resolve(const struct vm_config *cfg, enum vm_transport *ret, struct err *err)
{
	switch (cfg->transport) {
	case VM_TRANSPORT_AUTO:
		return auto_resolve(cfg, ret, err);
	case VM_TRANSPORT_SERIAL:
		if (!cfg->boot->serial)
			return err_set(err, -ERR_STATE,
				       "transport = serial, but boot.conf does not list it among "
				       "its transports");
		break;
	case VM_TRANSPORT_VHOST_VSOCK:
	case VM_TRANSPORT_VHOST_USER_VSOCK:
		if (!cfg->boot->vsock)
			return err_set(err, -ERR_STATE,
				       "the transport is AF_VSOCK, but boot.conf does not list "
				       "vsock among its transports");
		break;
	}
	*ret = cfg->transport;
	return 0;
}

static char *daemon_dir(const struct vm_config *cfg)
{
	return str_printf("%s/vsock", cfg->run_dir);
}

static int serial_open(struct channel **ret, int *ret_fd, struct err *err)
{
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
		return err_sys(err, -errno, "guest channel: socket pair");
	r = channel_serial_new(ends[0], ret, err);
	if (r < 0) {
		fd_close(ends[1]);
		return r;
	}
	*ret_fd = ends[1];
	return 0;
}

static int vhost_open(const struct vm_config *cfg, struct channel **ret, int *ret_fd,
		      struct err *err)
{
	_cleanup_fd_ int fd = vhost_vsock_open();
	int r;

	if (fd < 0)
		return err_set(err, -ERR_UNAVAILABLE, "guest channel: open " VHOST_VSOCK ": %s",
			       strerror(-fd));
	r = channel_vsock_new(cfg->cid, ret, err);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* The sockets lie in a directory of their own, which is all of the run directory that the daemon
 * sees. */
static int vhost_user_open(const struct vm_config *cfg, struct channel **ret, int *ret_fd,
			   struct err *err)
{
	_cleanup_free_ char *dir = daemon_dir(cfg), *path = str_printf("%s/vm", dir);
	int r = dir_make(dir, 0700);

	if (r == 0 && chown(dir, cfg->uid, cfg->gid) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(err, r, "guest channel: make %s", dir);
	r = channel_unix_new(path, cfg->uid, cfg->gid, ret, err);
	if (r < 0)
		return r;
	*ret_fd = -EBADF;
	return 0;
}

int transport_open(const struct vm_config *cfg, struct channel **ret, int *ret_fd, struct err *err)
{
	switch (cfg->transport) {
	case VM_TRANSPORT_VHOST_VSOCK:
		return vhost_open(cfg, ret, ret_fd, err);
	case VM_TRANSPORT_VHOST_USER_VSOCK:
		return vhost_user_open(cfg, ret, ret_fd, err);
	default:
		return serial_open(ret, ret_fd, err);
	}
}

char **transport_daemon_args(const struct vm_config *cfg, const char *program)
{
	_cleanup_free_ char *dir = daemon_dir(cfg);
	char **v = NULL;

	strv_add(&v, program);
	strv_add(&v, "--vm");
	strv_addf(&v, "guest-cid=%u,socket=%s/vhost,uds-path=%s/vm", cfg->cid, dir, dir);
	return v;
}

/** daemon_connect() - once it listens; its end while we wait is an end */
CO static int daemon_connect(const char *path, struct child *c, int *ret_fd, struct err *err)
{
	CO_LIMIT(DAEMON_USEC);
	for (;;) {
		int fd = sock_unix_connect(path), r, status;

		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		if (fd != -ENOENT && fd != -ECONNREFUSED)
			return err_sys(err, fd, "connect to %s", path);
		if (child_exited(c, &status))
			return err_set(err, -ERR_UNAVAILABLE,
				       "vhost-device-vsock ended at once, exit status %d",
				       child_status_code(status));
		r = co_sleep(DAEMON_POLL_USEC);
		if (r < 0)
			return err_sys(err, r, "wait for vhost-device-vsock");
	}
}

static int daemon_jail(const struct vm_config *cfg, const char *dir, struct jail **ret,
		       char **ret_program, struct err *err)
{
	_cleanup_free_ char *root = str_printf("%s/jail-vsock", cfg->run_dir),
			    *pid = str_printf("%s/vsock.pid", cfg->run_dir);
	_cleanup_(jail_freep) struct jail *j = NULL;
	int r = dir_make(root, 0700);

	if (r < 0)
		return err_sys(err, r, "make %s", root);
	r = jail_new(root, cfg->uid, cfg->gid, false, pid, &j, err);
	if (r == 0)
		r = jail_add_system(j, err);
	if (r == 0)
		r = jail_add_program(j,
				     cfg->vhost_device_vsock ? cfg->vhost_device_vsock
							     : "vhost-device-vsock",
				     ret_program, err);
	if (r == 0)
		r = jail_add(j, dir, JAIL_WRITABLE, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(j);
	return 0;
}

CO int transport_daemon(const struct vm_config *cfg, const struct cgroups *cgroups,
			struct child **ret, int *ret_fd, struct err *err)
{
	_cleanup_free_ char *dir = daemon_dir(cfg), *socket = str_printf("%s/vhost", dir),
			    *program = NULL;
	_cleanup_(jail_freep) struct jail *j = NULL;
	_cleanup_(child_freep) struct child *c = NULL;
	_cleanup_strv_ char **argv = NULL;
	int r = daemon_jail(cfg, dir, &j, &program, err);

	if (r < 0)
		return err_wrap(err, r, "vhost_device_vsock");
	argv = transport_daemon_args(cfg, program);
	r = child_spawn(&(struct child_spec){ .argv = (const char *const *)argv,
					      .clone_flags =
						      jail_clone_flags() | cgroups->clone_flags,
					      .cgroup = cgroups->dir,
					      .cgroup_procs = cgroups->procs,
					      .n_cgroup_procs = cgroups->n_procs,
					      .pdeathsig = SIGKILL,
					      .setsid = true,
					      .prepare = jail_enter,
					      .prepare_arg = j },
			&c, err);
	if (r == 0)
		r = daemon_connect(socket, c, ret_fd, err);
	if (r < 0)
		return err_wrap(err, r, "vhost_device_vsock");
	*ret = TAKE_PTR(c);
	return 0;
}

void transport_clean(const struct vm_config *cfg)
{
	static const char *const parts[] = { "vsock", "jail-vsock" };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		_cleanup_free_ char *path = str_printf("%s/%s", cfg->run_dir, parts[i]);

		dir_remove(path);
	}
}
