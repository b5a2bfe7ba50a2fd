/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_UNIT_CONTROLLER_FAKEVM_H
#define LCOW_TESTS_UNIT_CONTROLLER_FAKEVM_H

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "controller/container.h"
#include "controller/device/scsi.h"
#include "controller/device/share.h"
#include "controller/device/socket.h"
#include "controller/device/vpci.h"
#include "controller/fixture.h"
#include "wire/gcs.h"
#include "wire/json.h"

/*
 * A VM and a guest made of fakes, for what containers and their root file systems are built from.
 * One struct fake notes all calls, so that their order across disks, shares and guest can be seen.
 */

enum { FAKE_PROCESSES = 8, FAKE_FIRST_PID = 100 };

/**
 * struct guest_process - the fake's
 * @name:	"init", "exec", or "program" of the VM itself
 * @stubborn:	SIGKILL does not end it
 */
struct guest_process {
	const char *name;
	uint32_t pid;
	bool stubborn;
	void (*exited)(uint32_t code, bool lost, void *arg);
	void *arg;
};

/**
 * struct fake_vm - see above
 * @gone:	guest calls of containers answer -ERR_UNAVAILABLE
 * @brief:	processes end as soon as they are started
 * @properties: answer to GetProperties
 * @processes:	those that were executed, in order
 * @dir:	holds work/, scratch/, bundle/rootfs/, volume/, file
 */
struct fake_vm {
	struct fake f;
	bool gone;
	bool brief;
	const char *properties;
	struct guest_process *processes[FAKE_PROCESSES];
	unsigned n_processes;
	unsigned live_processes;
	unsigned open_sockets;
	char dir[64];
	char *work, *scratch, *bundle;
	struct container_env env;
};

static struct fake_vm vm;

/* ---- disks ---- */

static CO int fake_attach(void *ctx, unsigned controller, unsigned lun, const char *path,
			  bool read_only, struct err *err)
{
	return fake_call(&vm.f, err, "attach %u:%u %s %s", controller, lun, strrchr(path, '/') + 1,
			 read_only ? "ro" : "rw");
}

static CO int fake_detach(void *ctx, unsigned controller, unsigned lun, struct err *err)
{
	return fake_call(&vm.f, err, "detach %u:%u", controller, lun);
}

static CO int fake_mount_disk(void *ctx, const struct gcs_mapped_disk *d, struct err *err)
{
	_cleanup_buf_ struct buf over = { 0 };

	for (size_t i = 0; i < d->n_devices; i++)
		buf_addf(&over, " over %u:%u", d->devices[i].controller, d->devices[i].lun);
	if (d->encrypted)
		buf_addf(&over, " encrypted %s", d->filesystem);
	if (d->verity)
		buf_addf(&over, " digest %.8s at %u", d->verity->root_digest,
			 (unsigned)d->verity->data_bytes);
	return fake_call(&vm.f, err, "%s %u:%u%s%s%s%.*s", d->mount_path ? "mount" : "await",
			 d->controller, d->lun, d->read_only ? " ro" : "",
			 d->block_dev ? " blockdev" : "", d->ensure_filesystem ? " ensure" : "",
			 (int)over.len, over.data);
}

static CO int fake_unmount_disk(void *ctx, const struct gcs_mapped_disk *d, struct err *err)
{
	return fake_call(&vm.f, err, "unmount %u:%u", d->controller, d->lun);
}

static CO int fake_eject(void *ctx, unsigned controller, unsigned lun, struct err *err)
{
	return fake_call(&vm.f, err, "eject %u:%u", controller, lun);
}

static const struct scsi_ops fake_scsi_ops = {
	fake_attach, fake_detach, fake_mount_disk, fake_unmount_disk, fake_eject,
};

/* ---- shares ---- */

static CO int fake_share_add(void *ctx, const char *name, const char *path, const char *only,
			     bool read_only, struct err *err)
{
	const char *base = strrchr(path, '/') + 1;

	return fake_call(&vm.f, err, "share %s %s%s%s %s", name, only ? only : base,
			 only ? " of " : "", only ? base : "", read_only ? "ro" : "rw");
}

static CO int fake_share_remove(void *ctx, const char *name, struct err *err)
{
	return fake_call(&vm.f, err, "unshare %s", name);
}

static CO int fake_share_mount(void *ctx, const char *name, const char *guest_path, bool read_only,
			       struct err *err)
{
	return fake_call(&vm.f, err, "mount %s", name);
}

static CO int fake_share_unmount(void *ctx, const char *name, const char *guest_path,
				 bool read_only, struct err *err)
{
	return fake_call(&vm.f, err, "unmount %s", name);
}

static const struct share_ops fake_share_ops = {
	fake_share_add,
	fake_share_remove,
	fake_share_mount,
	fake_share_unmount,
};

/* ---- unix sockets ---- */

static int fake_socket_open(void *ctx, int socket, struct guest_forward **ret, uint32_t *ret_port,
			    struct err *err)
{
	int r = fake_call(&vm.f, err, "open");

	fd_close(socket);
	if (r < 0)
		return r;
	*ret = (struct guest_forward *)&vm;
	*ret_port = 1000 + vm.open_sockets++;
	return 0;
}

static void fake_socket_close(void *ctx, struct guest_forward *f)
{
	vm.open_sockets--;
}

static CO int fake_socket_add(void *ctx, const struct gcs_unix_socket *s, struct err *err)
{
	return fake_call(&vm.f, err, "listen %s %u %o", s->path, s->port, s->mode);
}

static CO int fake_socket_remove(void *ctx, const struct gcs_unix_socket *s, struct err *err)
{
	return fake_call(&vm.f, err, "unlisten %s", s->path);
}

static const struct socket_ops fake_socket_ops = {
	fake_socket_open,
	fake_socket_close,
	fake_socket_add,
	fake_socket_remove,
};

static inline void fake_unix_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(chmod(path, 0640), 0);
}

/* ---- PCI devices ---- */

static CO int fake_pci_add(void *ctx, const char *guid, const struct vpci_device *device,
			   char ret_path[VPCI_PATH_MAX], struct err *err)
{
	strcpy(ret_path, "10.1/00.0");
	return fake_call(&vm.f, err, "add %s %d", device->id, device->vf);
}

static CO int fake_pci_await(void *ctx, const char *guid, const char *path, struct err *err)
{
	return fake_call(&vm.f, err, "await");
}

static CO int fake_pci_remove(void *ctx, const char *guid, struct err *err)
{
	return fake_call(&vm.f, err, "remove");
}

/* There is group 17. */
static int fake_pci_group(void *ctx, unsigned group, char ***ret, struct err *err)
{
	if (group != 17)
		return err_set(err, -ERR_INVALID, "no group %u", group);
	strv_add(ret, "0000:3b:00.0");
	strv_add(ret, "0000:3b:00.1");
	return 0;
}

static const struct vpci_ops fake_vpci_ops = {
	fake_pci_add,
	fake_pci_await,
	fake_pci_remove,
	fake_pci_group,
};

/* ---- the guest ---- */

static CO int guest_call_of(struct err *err, const char *what)
{
	int r = fake_call(&vm.f, err, "%s", what);

	if (r >= 0 && vm.gone)
		return err_set(err, -ERR_UNAVAILABLE, "the bridge has ended");
	return r;
}

static CO int fake_combine(void *ctx, const struct gcs_combined_layers *l, struct err *err)
{
	_cleanup_strv_ char **paths = NULL;

	for (size_t i = 0; i < l->n_layers; i++)
		strv_add(&paths, l->layers[i].path);

	_cleanup_free_ char *layers = strv_join(paths, ":");
	_cleanup_free_ char *what =
		str_printf("combine %s at %s on %s", layers, l->root_path, l->scratch_path);

	return guest_call_of(err, what);
}

static CO int fake_remove_layers(void *ctx, const struct gcs_combined_layers *l, struct err *err)
{
	_cleanup_free_ char *what = str_printf("take apart %s", l->root_path);

	return guest_call_of(err, what);
}

static CO int fake_create(void *ctx, const char *id, const struct gcs_container_config *config,
			  struct err *err)
{
	_cleanup_free_ char *what = str_printf("create %s", id);

	return guest_call_of(err, what);
}

static CO int fake_start(void *ctx, const char *id, struct err *err)
{
	_cleanup_free_ char *what = str_printf("start %s", id);

	return guest_call_of(err, what);
}

static CO int fake_delete_state(void *ctx, const char *id, struct err *err)
{
	_cleanup_free_ char *what = str_printf("delete %s", id);

	return guest_call_of(err, what);
}

static CO int fake_properties(void *ctx, const char *id, const char *type, char **ret,
			      struct err *err)
{
	_cleanup_free_ char *what = str_printf("properties %s", type);
	int r = guest_call_of(err, what);

	if (r >= 0)
		*ret = mem_strdup(vm.properties);
	return r;
}

static CO int fake_update(void *ctx, const char *id, struct json_object *resources, struct err *err)
{
	_cleanup_free_ char *text = json_text(resources);
	_cleanup_free_ char *what = str_printf("update %s %s", id, text);

	return guest_call_of(err, what);
}

static CO int fake_freeze(void *ctx, const char *id, bool frozen, struct err *err)
{
	_cleanup_free_ char *what = str_printf("%s %s", frozen ? "freeze" : "thaw", id);

	return guest_call_of(err, what);
}

static CO int fake_metrics(void *ctx, const char *id, char **ret, struct err *err)
{
	int r = guest_call_of(err, "metrics");

	if (r >= 0)
		*ret = mem_strdup(vm.properties);
	return r;
}

static const struct container_ops fake_container_ops = {
	fake_combine,    fake_remove_layers, fake_create, fake_start,   fake_delete_state,
	fake_properties, fake_update,        fake_freeze, fake_metrics,
};

/* ---- processes ---- */

static CO int fake_execute(void *ctx, const char *container,
			   const struct gcs_process_params *params, struct guest_process **ret,
			   struct err *err)
{
	const char *name = !container ? "program" : params->process ? "exec" : "init";
	_cleanup_free_ char *what = str_printf("execute %s", name);
	int r = guest_call_of(err, what);

	if (r < 0)
		return r;
	ck_assert_uint_lt(vm.n_processes, FAKE_PROCESSES);
	*ret = NEW0(struct guest_process);
	(*ret)->name = name;
	(*ret)->pid = FAKE_FIRST_PID + vm.n_processes;
	vm.processes[vm.n_processes++] = *ret;
	vm.live_processes++;
	return 0;
}

static uint32_t fake_pid(const struct guest_process *p)
{
	return p->pid;
}

static int fake_fd(const struct guest_process *p, int stream)
{
	return -EBADF;
}

static void fake_close(struct guest_process *p, int stream) {}

static void fake_on_exit(struct guest_process *p, void (*fn)(uint32_t code, bool lost, void *arg),
			 void *arg)
{
	if (vm.brief) {
		fn(0, false, arg);
		return;
	}
	p->exited = fn;
	p->arg = arg;
}

/* The guest reports the end of a process, once. */
static inline void fake_exit(unsigned n, uint32_t code)
{
	struct guest_process *p = vm.processes[n];
	void (*fn)(uint32_t code, bool lost, void *arg) = p->exited;

	ck_assert_ptr_nonnull(fn);
	p->exited = NULL;
	fn(code, false, p->arg);
}

static CO int fake_signal(struct guest_process *p, int signal, struct err *err)
{
	_cleanup_free_ char *what = str_printf("signal %s %d", p->name, signal);
	uint32_t pid = p->pid;
	int r = guest_call_of(err, what);

	/* It may have gone meanwhile. */
	if (r >= 0 && signal == 9 && vm.processes[pid - FAKE_FIRST_PID]->exited && !p->stubborn)
		fake_exit(pid - FAKE_FIRST_PID, 137);
	return r;
}

static CO int fake_resize(struct guest_process *p, uint16_t width, uint16_t height, struct err *err)
{
	return guest_call_of(err, "resize");
}

/* The record stays until the end of the test. */
static struct guest_process *fake_process_free(struct guest_process *p)
{
	if (!p)
		return NULL;
	p->exited = NULL;
	vm.live_processes--;
	return NULL;
}

static const struct process_ops fake_process_ops = {
	fake_execute, fake_pid,    fake_fd,     fake_close,
	fake_on_exit, fake_signal, fake_resize, fake_process_free,
};

/* ---- life ---- */

static inline char *fake_dir(const char *name)
{
	char *path = str_printf("%s/%s", vm.dir, name);

	ck_assert_int_eq(dir_make(path, 0755), 0);
	return path;
}

static inline void fake_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/%s", vm.dir, name);

	ck_assert_int_eq(file_write(path, text, strlen(text), 0644), 0);
}

static inline bool fake_exists(const char *name)
{
	_cleanup_free_ char *path = str_printf("%s/%s", vm.dir, name);

	return access(path, F_OK) == 0;
}

static inline void fake_vm_init(void)
{
	ck_assert_int_eq(loop_init(), 0);
	memset(&vm, 0, sizeof(vm));
	fake_init(&vm.f);
	strcpy(vm.dir, "/tmp/test_controller.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(vm.dir));
	vm.work = fake_dir("work");
	vm.scratch = fake_dir("scratch");
	free(fake_dir("bundle/rootfs"));
	free(fake_dir("volume"));
	fake_file("file", "x");
	vm.bundle = fake_dir("bundle");
	vm.properties = "{\"ProcessList\":[{\"ProcessId\":42}]}";
	vm.env = (struct container_env){
		.ops = &fake_container_ops,
		.process_ops = &fake_process_ops,
		.scsi = scsi_new(&fake_scsi_ops, NULL),
		.shares = shares_new(&fake_share_ops, NULL, false),
		.sockets = sockets_new(&fake_socket_ops, NULL),
		.vpci = vpci_new(&fake_vpci_ops, NULL),
		.work_dir = vm.work,
		.scratch_dir = vm.scratch,
		.scratch_bytes = 16 << 20,
	};
	/* Formatting takes its time and is none of these tests' business: without the program the
	 * guest does it. */
	setenv("PATH", "/nonexistent", 1);
}

static inline void fake_vm_free(void)
{
	run_all();
	ck_assert_uint_eq(vm.live_processes, 0);
	scsi_free(vm.env.scsi);
	shares_free(vm.env.shares);
	sockets_free(vm.env.sockets);
	ck_assert_uint_eq(vm.open_sockets, 0);
	vpci_free(vm.env.vpci);
	for (unsigned i = 0; i < vm.n_processes; i++)
		free(vm.processes[i]);
	fake_free(&vm.f);
	free(vm.work);
	free(vm.scratch);
	free(vm.bundle);
	ck_assert_int_eq(dir_remove(vm.dir), 0);
	loop_fini();
}

static inline void fake_nothing_reserved(void)
{
	ck_assert_uint_eq(scsi_in_use(vm.env.scsi), 0);
	ck_assert_uint_eq(shares_in_use(vm.env.shares), 0);
	ck_assert_uint_eq(sockets_in_use(vm.env.sockets), 0);
	ck_assert_uint_eq(vpci_in_use(vm.env.vpci), 0);
	ck_assert(!fake_exists("scratch/c1.img"));
	ck_assert(!fake_exists("work/c1"));
}

#endif
