/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "controller/clock.h"
#include "controller/device/scsi.h"
#include "controller/device/share.h"
#include "controller/device/socket.h"
#include "controller/device/vpci.h"
#include "controller/pod.h"
#include "controller/sizing.h"
#include "controller/vm_devices.h"
#include "guest/guest.h"
#include "vmm/vmm.h"

enum { START_SEC = 120, TERMINATE_SEC = 30, LOG_DRAIN_SEC = 2, ERROR_INTERNAL = 1359 };

/* ---- the state table ---- */

static const char *const state_names[] = { "NotCreated", "Created", "Running", "Terminated",
					   "Invalid" };
_Static_assert(ARRAY_SIZE(state_names) == VM_STATE_END, "a name for each state");

#define TO(s) (1u << (s))
static const unsigned moves[] = {
	[VM_NOT_CREATED] = TO(VM_CREATED),
	[VM_CREATED] = TO(VM_RUNNING) | TO(VM_INVALID) | TO(VM_TERMINATED),
	[VM_RUNNING] = TO(VM_TERMINATED),
	[VM_INVALID] = TO(VM_TERMINATED),
	[VM_TERMINATED] = 0,
};
_Static_assert(ARRAY_SIZE(moves) == VM_STATE_END, "a row for each state");

const char *vm_state_name(enum vm_state s)
{
	return state_names[s];
}

/**
 * struct vm - see vm.h
 * @lock:	one of create, start, terminate at a time
 * @clock:	while the guest can be told the time
 * @starter:	the coroutine in vm_start(), so that the VM's early death can end its wait
 * @ended:	the VM has ended, or never will run
 * @exited:	QEMU is gone
 */
struct vm {
	struct vm_events events;
	const struct vm_ops *ops;
	void *ctx;
	struct vm_devices devices;
	struct scsi *scsi;
	struct shares *shares;
	struct sockets *sockets;
	struct vpci *vpci;
	struct pods *pods;
	struct sizing *sizing;
	struct clock *clock;
	enum vm_state state;
	struct co_mutex lock;
	struct co *starter;
	struct co_event ended;
	bool exited;
	bool clean;
	uint64_t started_at;
	uint64_t exited_at;
};

static void set_state(struct vm *vm, enum vm_state to)
{
	if (!(moves[vm->state] & TO(to))) {
		log_error("VM: illegal move from %s to %s refused", state_names[vm->state],
			  state_names[to]);
		return;
	}
	log_debug("VM: %s to %s", state_names[vm->state], state_names[to]);
	vm->state = to;
}

/* ---- the real VM behind the ops ---- */

static CO int real_create(void *ctx, const struct vm_config *cfg, void (*exited)(void *arg),
			  void *arg, struct err *err)
{
	struct vm_devices *d = ctx;
	int r = vmm_new(cfg, exited, arg, &d->vmm, err);

	if (r < 0)
		return r;
	d->guest = guest_new(vmm_channel(d->vmm), vm_devices_guest_lost, d);
	d->virtio_shares = cfg->boot->virtio_shares;
	return 0;
}

static int real_listen(void *ctx, struct err *err)
{
	return guest_listen(((struct vm_devices *)ctx)->guest, err);
}

static CO int real_boot(void *ctx, struct err *err)
{
	return vmm_start(((struct vm_devices *)ctx)->vmm, err);
}

static CO int real_connect(void *ctx, struct err *err)
{
	return guest_connect(((struct vm_devices *)ctx)->guest, err);
}

static void real_disconnect(void *ctx)
{
	guest_close(((struct vm_devices *)ctx)->guest);
}

static CO int real_terminate(void *ctx)
{
	struct vm_devices *d = ctx;

	d->ending = true;
	return vmm_terminate(d->vmm);
}

static CO void real_drain_log(void *ctx, uint64_t usec)
{
	guest_drain_log(((struct vm_devices *)ctx)->guest, usec);
}

static bool real_clean_exit(void *ctx)
{
	return vmm_clean_exit(((struct vm_devices *)ctx)->vmm);
}

static char *real_last_words(void *ctx)
{
	return vmm_last_words(((struct vm_devices *)ctx)->vmm);
}

static pid_t real_pid(void *ctx)
{
	struct vm_devices *d = ctx;

	return d->vmm ? vmm_pid(d->vmm) : 0;
}

static CO int real_set_clock(void *ctx, uint64_t unix_ns, struct err *err)
{
	return vm_devices_set_clock(ctx, unix_ns, err);
}

/* The one request that every guest answers for the VM itself; that it does is all that counts. */
static CO int real_ping(void *ctx, struct err *err)
{
	_cleanup_free_ char *stacks = NULL;
	int r = guest_stacks(((struct vm_devices *)ctx)->guest, &stacks, err);

	return r == -ERR_UNAVAILABLE || vm_call_abandoned(r) ? r : 0;
}

static const struct vm_ops real_ops = {
	.create = real_create,
	.listen = real_listen,
	.boot = real_boot,
	.connect = real_connect,
	.disconnect = real_disconnect,
	.terminate = real_terminate,
	.drain_log = real_drain_log,
	.clean_exit = real_clean_exit,
	.last_words = real_last_words,
	.pid = real_pid,
	.set_clock = real_set_clock,
	.ping = real_ping,
};

/* ---- the controller ---- */

struct vm *vm_new(const struct vm_events *events)
{
	struct vm *vm = NEW0(struct vm);

	vm->events = *events;
	vm->ops = &real_ops;
	vm->ctx = &vm->devices;
	co_mutex_init(&vm->lock);
	co_event_init(&vm->ended);
	return vm;
}

void vm_set_ops(struct vm *vm, const struct vm_ops *ops, void *ctx)
{
	vm->ops = ops;
	vm->ctx = ctx;
}

struct vm *vm_free(struct vm *vm)
{
	if (!vm)
		return NULL;
	clock_free(vm->clock);
	sizing_free(vm->sizing);
	scsi_free(vm->scsi);
	shares_free(vm->shares);
	sockets_free(vm->sockets);
	vpci_free(vm->vpci);
	pods_free(vm->pods);
	guest_free(vm->devices.guest);
	vmm_free(vm->devices.vmm);
	free(vm);
	return NULL;
}

/* From the loop: QEMU is gone. Every pending guest call and every process wait ends with the
 * bridge. */
static void on_vmm_exit(void *arg)
{
	struct vm *vm = arg;

	vm->exited = true;
	vm->exited_at = time_real_ns();
	vm->clean = vm->ops->clean_exit(vm->ctx);
	vm->clock = clock_free(vm->clock);
	vm->ops->disconnect(vm->ctx);
	if (vm->starter)
		co_cancel(vm->starter);
	/* While it is being started, vm_start() says what became of it. */
	if (vm->state == VM_RUNNING || (vm->state == VM_INVALID && !vm->starter))
		set_state(vm, VM_TERMINATED);
	co_event_set(&vm->ended);
	if (vm->events.exited)
		vm->events.exited(vm->events.arg);
}

CO int vm_create(struct vm *vm, const struct vm_config *cfg, bool deny_writable_shares,
		 struct err *err)
{
	CO_LOCK(&vm->lock);

	if (vm->state != VM_NOT_CREATED)
		return err_set(err, -ERR_STATE, "cannot create VM: VM is in incorrect state %s",
			       state_names[vm->state]);

	int r = vm->ops->create(vm->ctx, cfg, on_vmm_exit, vm, err);

	if (r < 0)
		return r;
	vm->scsi = scsi_new(&vm_devices_scsi_ops, &vm->devices);
	vm->shares = shares_new(&vm_devices_share_ops, &vm->devices, deny_writable_shares);
	vm->sockets = sockets_new(&vm_devices_socket_ops, &vm->devices);
	vm->vpci = vpci_new(&vm_devices_vpci_ops, &vm->devices);
	vm->pods = pods_new(&vm_devices_network_ops, &vm->devices);
	vm->sizing = sizing_new(&vm_devices_sizing_ops, &vm->devices, cfg);
	set_state(vm, VM_CREATED);
	return 0;
}

static CO int boot_and_connect(struct vm *vm, struct err *err)
{
	uint64_t t0 = time_mono();
	int r = vm->ops->listen(vm->ctx, err);

	if (r < 0)
		return err_wrap(err, r, "listen for the guest");
	r = vm->ops->boot(vm->ctx, err);
	if (r < 0)
		return err_wrap(err, r, "start QEMU");
	log_phase("QEMU to QMP", t0);
	vm->started_at = time_real_ns();
	t0 = time_mono();
	r = vm->ops->connect(vm->ctx, err);
	if (r < 0)
		return err_wrap(err, r, "wait for the guest agent");
	log_phase("kernel to agent, negotiated", t0);
	return 0;
}

/* The VM's early death shows as cancellation: say what it was, in QEMU's and the kernel's own
 * words. */
static int explain_failure(struct vm *vm, int r, struct err *err)
{
	_cleanup_free_ char *words = vm->ops->last_words(vm->ctx);

	/* What failed by itself, such as memory that the host has not, has said so. */
	if (vm->exited && r == -ECANCELED)
		r = err_set(err, -ERR_UNAVAILABLE, "the VM ended before its agent answered");
	else if (r == -ETIMEDOUT)
		r = err_set(err, r, "the guest agent did not answer in time");
	if (err && !str_empty(words)) {
		size_t len = strlen(err->text);

		snprintf(err->text + len, sizeof(err->text) - len, "; last words: %s", words);
	}
	return r;
}

static CO int tell_guest(void *ctx, uint64_t unix_ns, struct err *err)
{
	struct vm *vm = ctx;

	return vm->ops->set_clock(vm->ctx, unix_ns, err);
}

static const struct clock_ops clock_ops = { .set = tell_guest };

CO int vm_start(struct vm *vm, struct err *err)
{
	CO_LOCK(&vm->lock);

	if (vm->state == VM_RUNNING)
		return 0;
	if (vm->state != VM_CREATED)
		return err_set(err, -ERR_STATE, "cannot start VM: VM is in incorrect state %s",
			       state_names[vm->state]);

	CO_LIMIT(START_SEC * USEC_PER_SEC);
	vm->starter = co_self();

	int r = boot_and_connect(vm, err);

	vm->starter = NULL;
	if (r >= 0 && !vm->exited) {
		set_state(vm, VM_RUNNING);
		if (vm->ops->set_clock)
			vm->clock = clock_new(&clock_ops, vm, CLOCK_PERIOD_SEC * USEC_PER_SEC);
		return 0;
	}
	r = explain_failure(vm, r, err);
	set_state(vm, VM_INVALID);
	vm->ops->disconnect(vm->ctx);
	return r;
}

CO int vm_terminate(struct vm *vm, struct err *err)
{
	/* A client that gives up must not leave a VM half terminated. */
	CO_SHIELD(TERMINATE_SEC * USEC_PER_SEC);

	if (vm->starter)
		co_cancel(vm->starter);
	CO_LOCK(&vm->lock);

	if (vm->state == VM_NOT_CREATED || vm->state == VM_TERMINATED)
		return 0;
	/* Not before QEMU is gone: then the guest would see the bridge break, and say so in a log
	 * that is still read. */
	int r = vm->ops->terminate(vm->ctx);

	vm->ops->disconnect(vm->ctx);
	if (vm->state != VM_TERMINATED)
		set_state(vm, VM_TERMINATED);
	co_event_set(&vm->ended);
	return r < 0 ? err_sys(err, r, "terminate the VM") : 0;
}

CO int vm_wait(struct vm *vm, struct err *err)
{
	if (vm->state == VM_NOT_CREATED)
		return err_set(err, -ERR_STATE, "cannot wait for a VM that was never created");

	int r = co_event_wait(&vm->ended);

	if (r < 0)
		return err_sys(err, r, "wait for the VM's end");
	vm->ops->drain_log(vm->ctx, LOG_DRAIN_SEC * USEC_PER_SEC);
	return 0;
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

uint32_t vm_exit_status(const struct vm *vm)
{
	return !vm->exited || vm->clean ? 0 : ERROR_INTERNAL;
}

uint64_t vm_started_at(const struct vm *vm)
{
	return vm->started_at;
}

uint64_t vm_exited_at(const struct vm *vm)
{
	return vm->exited_at;
}

pid_t vm_pid(const struct vm *vm)
{
	return vm->ops->pid(vm->ctx);
}

uint64_t vm_memory_mb(const struct vm *vm)
{
	return vm->devices.vmm ? vmm_memory_mb(vm->devices.vmm) : 0;
}

unsigned vm_cpus(const struct vm *vm)
{
	return vm->devices.vmm ? vmm_cpus(vm->devices.vmm) : 0;
}

int vm_require_running(const struct vm *vm, struct err *err)
{
	if (vm->state == VM_RUNNING)
		return 0;
	return err_set(err, -ERR_STATE, "vm is not running (state: %s)", state_names[vm->state]);
}

CO int vm_ping(struct vm *vm, struct err *err)
{
	int r = vm_require_running(vm, err);

	return r < 0 ? r : vm->ops->ping(vm->ctx, err);
}

int vm_get_stats(const struct vm *vm, struct vm_stats *ret, struct err *err)
{
	const uint64_t tick = USEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t user, system, pages;
	int r = vm_require_running(vm, err);

	if (r < 0)
		return r;
	r = proc_stat(vm_pid(vm), PROC_USER_TIME, &user);
	if (r >= 0)
		r = proc_stat(vm_pid(vm), PROC_SYSTEM_TIME, &system);
	if (r >= 0)
		r = proc_stat(vm_pid(vm), PROC_RESIDENT, &pages);
	if (r < 0)
		return err_sys(err, r, "read what QEMU uses");
	*ret = (struct vm_stats){
		.cpu_user_usec = user * tick,
		.cpu_system_usec = system * tick,
		.memory = pages * (uint64_t)sysconf(_SC_PAGESIZE),
	};
	return 0;
}

struct guest *vm_guest(struct vm *vm)
{
	return vm->devices.guest;
}

struct scsi *vm_scsi(struct vm *vm)
{
	return vm->scsi;
}

struct shares *vm_shares(struct vm *vm)
{
	return vm->shares;
}

struct sockets *vm_sockets(struct vm *vm)
{
	return vm->sockets;
}

struct vpci *vm_vpci(struct vm *vm)
{
	return vm->vpci;
}

struct pods *vm_pods(struct vm *vm)
{
	return vm->pods;
}

struct sizing *vm_sizing(struct vm *vm)
{
	return vm->sizing;
}

void vm_sync_clock(struct vm *vm)
{
	clock_sync(vm->clock);
}
