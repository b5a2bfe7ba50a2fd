/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "vmm/cgroup.h"
#include "vmm/jail.h"
#include "vmm/transport.h"
#include "vmm/vmm_priv.h"
#include "wire/qmp.h"

#define QUIT_USEC (2 * USEC_PER_SEC)
#define START_END_USEC (2 * USEC_PER_SEC)
#define KILL_USEC (10 * USEC_PER_SEC)

#define HUGE_PAGE_SIZE "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

/* What QEMU and the guest said last may still lie in sockets: let the loop turn a few times before
 * the end is told. */
enum { SETTLE_TURNS = 3 };
#define SETTLE_USEC USEC_PER_MSEC

/**
 * struct ends - our and QEMU's ends of what it inherits
 */
struct ends {
	int qmp;
	int qmp_child;
	int console;
	int console_child;
	int messages;
	int messages_child;
};

static void ends_close(struct ends *e)
{
	fd_close(e->qmp);
	fd_close(e->qmp_child);
	fd_close(e->console);
	fd_close(e->console_child);
	fd_close(e->messages);
	fd_close(e->messages_child);
}

static int pair(int *ours, int *child)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	*ours = ends[0];
	*child = ends[1];
	return fd_nonblock(ends[0], true);
}

static int ends_make(struct ends *e)
{
	int pipe_ends[2], r;

	r = pair(&e->qmp, &e->qmp_child);
	if (r == 0)
		r = pair(&e->console, &e->console_child);
	if (r < 0)
		return r;
	if (pipe2(pipe_ends, O_CLOEXEC) < 0)
		return -errno;
	e->messages = pipe_ends[0];
	e->messages_child = pipe_ends[1];
	return fd_nonblock(e->messages, true);
}

/* --- the end --- */

static void on_settled(void *arg)
{
	struct vmm *v = arg;

	if (--v->turns > 0) {
		loop_timer_set(v->settle, SETTLE_USEC);
		return;
	}
	v->settle = loop_timer_free(v->settle);
	tail_drain(&v->messages);
	tail_drain(&v->console);
	v->daemon = child_free(v->daemon);
	channel_close(v->channel);
	co_event_set(&v->ended);
	if (v->on_exit)
		v->on_exit(v->arg); /* may free v */
}

static void on_ended(struct child *c, int status, void *arg)
{
	struct vmm *v = arg;

	log_debug("QEMU %d has ended, status %d", (int)child_pid(c), child_status_code(status));
	v->dead = true;
	disk_end(v);
	pci_end(v);
	v->turns = SETTLE_TURNS;
	v->settle = loop_timer_new(SETTLE_USEC, on_settled, v);
}

/* QEMU would go on, with a guest that nobody can reach any more. */
static void on_daemon_ended(struct child *c, int status, void *arg)
{
	struct vmm *v = arg;

	if (v->dead)
		return;
	v->daemon_lost = true;
	v->daemon_code = child_status_code(status);
	log_error("vhost-device-vsock has ended, status %d: ending the VM", v->daemon_code);
	if (v->child)
		child_kill(v->child, SIGKILL);
}

static void on_event(const char *event, struct json_object *data, void *arg)
{
	struct vmm *v = arg;
	struct json_object *o;

	if (str_eq(event, "DEVICE_DELETED")) {
		if (json_object_object_get_ex(data, "device", &o)) {
			disk_event(v, json_object_get_string(o));
			pci_event(v, json_object_get_string(o));
		}
	} else if (str_eq(event, "SHUTDOWN")) {
		if (json_object_object_get_ex(data, "reason", &o))
			snprintf(v->reason, sizeof(v->reason), "%s", json_object_get_string(o));
	}
}

/* --- the beginning --- */

static int qemu_jail(struct vmm *v, struct jail **ret, char **ret_program, struct err *err)
{
	_cleanup_free_ char *root = str_printf("%s/jail", v->cfg.run_dir),
			    *pid = str_printf("%s/qemu.pid", v->cfg.run_dir);
	_cleanup_(jail_freep) struct jail *j = NULL;
	int r = dir_make(root, 0700);

	if (r < 0)
		return err_sys(err, r, "make %s", root);
	r = jail_new(root, v->cfg.uid, v->cfg.gid, v->boot.virtio_shares, pid, &j, err);
	if (r == 0)
		r = jail_add_system(j, err);
	if (r == 0)
		r = jail_add_program(j, v->cfg.qemu, ret_program, err);
	if (r == 0)
		r = jail_add(j, v->boot.kernel, JAIL_READ_ONLY, err);
	if (r == 0 && v->boot.initrd)
		r = jail_add(j, v->boot.initrd, JAIL_READ_ONLY, err);
	if (r == 0 && v->boot.virtio_shares)
		r = jail_add(j, v->shares, JAIL_SHARES, err);
	if (r == 0)
		r = jail_add(j, v->vfio, JAIL_SHARES, err);
	if (r == 0)
		jail_add_link(j, "/dev/vfio", v->vfio);
	/* virtio-mem asks for it, and warns when it gets no answer. */
	if (r == 0 && access(HUGE_PAGE_SIZE, F_OK) == 0)
		r = jail_add(j, HUGE_PAGE_SIZE, JAIL_READ_ONLY, err);
	if (r == 0 && v->cfg.accel == VM_ACCEL_KVM)
		r = jail_add(j, "/dev/kvm", JAIL_DEVICE, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(j);
	return 0;
}

static int qemu_spawn(struct vmm *v, const struct cgroups *cgroups, const struct ends *e,
		      struct err *err)
{
	const int fds[] = { -EBADF,       e->messages_child, e->messages_child,
			    e->qmp_child, e->console_child,  v->channel_fd };
	_cleanup_(jail_freep) struct jail *j = NULL;
	_cleanup_free_ char *program = NULL;
	_cleanup_strv_ char **argv = NULL;
	struct vm_config cfg;
	int r = qemu_jail(v, &j, &program, err);

	if (r < 0)
		return r;
	cfg = v->cfg;
	cfg.qemu = program;
	if (!cfg.wall_ns)
		cfg.wall_ns = time_real_ns();
	argv = vm_command_line(&cfg, &(struct vm_fds){ .qmp = 3, .console = 4, .channel = 5 });
	r = child_spawn(&(struct child_spec){ .argv = (const char *const *)argv,
					      .fds = fds,
					      .n_fds = ARRAY_SIZE(fds),
					      .clone_flags =
						      jail_clone_flags() | cgroups->clone_flags,
					      .cgroup = cgroups->dir,
					      .cgroup_procs = cgroups->procs,
					      .n_cgroup_procs = cgroups->n_procs,
					      .pdeathsig = SIGKILL,
					      .setsid = true,
					      .prepare = jail_enter,
					      .prepare_arg = j },
			&v->child, err);
	if (r < 0)
		return err_wrap(err, r, "qemu");
	v->started = true;
	child_on_exit(v->child, on_ended, v);
	return 0;
}

/** call() - qmp_call() of a VM that may have ended */
CO static int call(struct vmm *v, const char *command, struct json_object *args, int fd,
		   struct json_object **ret, struct err *err)
{
	int r;

	if (v->dead || !v->qmp) {
		json_object_put(args);
		return err_set(err, -ERR_UNAVAILABLE, "%s: the VM is not running", command);
	}
	r = qmp_call(v->qmp, command, args, fd, ret, err);
	if (r == -ECONNRESET)
		return err_set(err, -ERR_UNAVAILABLE, "%s: the VM has ended", command);
	return r;
}

CO int vmm_call(struct vmm *v, const char *command, struct json_object *args, int fd,
		struct err *err)
{
	return call(v, command, args, fd, NULL, err);
}

CO int vmm_query(struct vmm *v, const char *command, struct json_object *args,
		 struct json_object **ret, struct err *err)
{
	return call(v, command, args, -EBADF, ret, err);
}

/** start_failed() - end QEMU, if it has not ended by itself, and say why in its own words */
CO static int start_failed(struct vmm *v, int code, struct err *err)
{
	_cleanup_free_ char *words = NULL;
	int r;

	CO_SHIELD(START_END_USEC + KILL_USEC);
	if (code == -ECONNRESET || code == -ERR_UNAVAILABLE) {
		CO_LIMIT(START_END_USEC);
		co_event_wait(&v->ended);
	}
	r = child_kill(v->child, SIGKILL);
	co_event_wait(&v->ended);
	if (r == 0) /* it was alive: the first error stands */
		return err_wrap(err, code, "start QEMU");
	words = tail_text(&v->messages, 1024);
	if (strstr(words, "cannot set up guest memory") || strstr(words, "Cannot allocate memory"))
		return err_set(err, -ERR_EXHAUSTED, "no memory for the VM: QEMU says: %s", words);
	if (str_empty(words)) {
		int status = 0;

		child_exited(v->child, &status);
		return err_set(err, -ERR_UNAVAILABLE,
			       "qemu: %s ended at once without a word, exit status %d", v->cfg.qemu,
			       child_status_code(status));
	}
	return err_set(err, -ERR_UNAVAILABLE, "qemu: %s ended at once: %s", v->cfg.qemu, words);
}

CO int vmm_start(struct vmm *v, struct err *err)
{
	_cleanup_(ends_close) struct ends e = { -EBADF, -EBADF, -EBADF, -EBADF, -EBADF, -EBADF };
	_cleanup_cgroups_ struct cgroups cgroups = { 0 };
	int r;

	if (v->started)
		return err_set(err, -ERR_STATE, "the VM has been started before");
	r = ends_make(&e);
	if (r < 0)
		return err_sys(err, r, "make sockets for QEMU");
	r = tail_start(&v->messages, TAKE_FD(e.messages));
	if (r == 0)
		r = tail_start(&v->console, TAKE_FD(e.console));
	if (r < 0)
		return err_sys(err, r, "watch QEMU's console");
	if (v->cgroup)
		r = cgroup_make("/proc/self/mountinfo", v->cfg.run_dir, v->cgroup, &cgroups, err);
	if (r < 0)
		return r;
	if (v->cfg.transport == VM_TRANSPORT_VHOST_USER_VSOCK) {
		r = transport_daemon(&v->cfg, &cgroups, &v->daemon, &v->channel_fd, err);
		if (r < 0)
			return r;
		child_on_exit(v->daemon, on_daemon_ended, v);
	}
	r = qemu_spawn(v, &cgroups, &e, err);
	v->channel_fd = fd_close(v->channel_fd);
	e.qmp_child = fd_close(e.qmp_child);
	e.console_child = fd_close(e.console_child);
	e.messages_child = fd_close(e.messages_child);
	if (r < 0)
		return r;
	r = qmp_new(TAKE_FD(e.qmp), on_event, v, &v->qmp, err);
	if (r == 0)
		r = vmm_call(v, "cont", NULL, -EBADF, err);
	return r < 0 ? start_failed(v, r, err) : 0;
}

CO int vmm_wait(struct vmm *v)
{
	return v->started ? co_event_wait(&v->ended) : 0;
}

CO int vmm_terminate(struct vmm *v)
{
	if (!v->started)
		return 0;

	CO_SHIELD(QUIT_USEC + KILL_USEC);
	if (!v->dead && v->qmp) {
		CO_LIMIT(QUIT_USEC);
		if (vmm_call(v, "quit", NULL, -EBADF, NULL) == 0)
			co_event_wait(&v->ended);
	}
	/* -ESRCH: it has ended by itself */
	child_kill(v->child, SIGKILL);
	return co_event_wait(&v->ended);
}

bool vmm_clean_exit(const struct vmm *v)
{
	int status = 0;

	if (!v->dead || !child_exited(v->child, &status) || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 0)
		return false;
	return str_eq(v->reason, "guest-shutdown") || str_eq(v->reason, "host-qmp-quit");
}
