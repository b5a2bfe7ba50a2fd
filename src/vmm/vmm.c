/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "vmm/cgroup.h"
#include "vmm/channel_backend.h"
#include "vmm/program.h"
#include "vmm/transport.h"
#include "vmm/vmm_priv.h"
#include "wire/qmp.h"

enum {
	CPUS_MAX = 255,
	MEMORY_MIN_MB = 64,
	MESSAGES_SIZE = 2048,
	WORDS_MESSAGES = 500,
	WORDS_CONSOLE = 1000,
	WORDS_BEFORE = 500
};

static int config_check(const struct vm_config *cfg, struct err *err)
{
	if (!str_id_valid(cfg->id))
		return err_set(err, -ERR_INVALID, "VM: the sandbox id is no id");
	if (!cfg->boot || str_empty(cfg->boot->kernel))
		return err_set(err, -ERR_INVALID, "VM %s: no boot files", cfg->id);
	if (str_empty(cfg->qemu) || !cfg->run_dir || cfg->run_dir[0] != '/')
		return err_set(err, -ERR_INVALID, "VM %s: no QEMU, or no run directory", cfg->id);
	if (cfg->cpus < 1 || cfg->cpus > CPUS_MAX || cfg->max_cpus > CPUS_MAX)
		return err_set(err, -ERR_INVALID,
			       "VM %s: %u CPUs of at most %u: 1 to %d are possible", cfg->id,
			       cfg->cpus, cfg->max_cpus, CPUS_MAX);
	if (cfg->max_cpus && cfg->max_cpus < cfg->cpus)
		return err_set(err, -ERR_INVALID, "VM %s: more CPUs than its maximum", cfg->id);
	if (cfg->memory_mb < MEMORY_MIN_MB)
		return err_set(err, -ERR_INVALID,
			       "VM %s: %llu MiB of memory: at least %d are needed", cfg->id,
			       (unsigned long long)cfg->memory_mb, MEMORY_MIN_MB);
	if (cfg->max_memory_mb && cfg->max_memory_mb < cfg->memory_mb)
		return err_set(err, -ERR_INVALID, "VM %s: more memory than its maximum", cfg->id);
	return 0;
}

/** config_copy() - keep the strings, for the caller may free its own */
static void config_copy(struct vmm *v, const struct vm_config *cfg)
{
	const struct boot_files *b = cfg->boot;

	v->boot = (struct boot_files){
		.kernel = mem_strdup(b->kernel),
		.initrd = mem_strdup(b->initrd),
		.cmdline = mem_strdup(b->cmdline),
		.agent = mem_strdup(b->agent),
		.serial = b->serial,
		.vsock = b->vsock,
		.virtio_shares = b->virtio_shares,
	};
	v->cfg = *cfg;
	v->cfg.boot = &v->boot;
	v->cfg.cgroup = NULL;
	v->cfg.id = mem_strdup(cfg->id);
	v->cfg.qemu = mem_strdup(cfg->qemu);
	v->cfg.vhost_device_vsock = mem_strdup(cfg->vhost_device_vsock);
	v->cfg.run_dir = mem_strdup(cfg->run_dir);
	v->cfg.kernel_args = mem_strdup(cfg->kernel_args);
	v->cfg.log_level = mem_strdup(cfg->log_level);
	v->cfg.probe_cache = mem_strdup(cfg->probe_cache);
	v->shares = str_printf("%s/shares", cfg->run_dir);
	v->vfio = str_printf("%s/vfio", cfg->run_dir);
}

static void config_drop(struct vmm *v)
{
	boot_files_free(&v->boot);
	free((char *)(uintptr_t)v->cfg.id);
	free((char *)(uintptr_t)v->cfg.qemu);
	free((char *)(uintptr_t)v->cfg.vhost_device_vsock);
	free((char *)(uintptr_t)v->cfg.run_dir);
	free((char *)(uintptr_t)v->cfg.kernel_args);
	free((char *)(uintptr_t)v->cfg.log_level);
	free((char *)(uintptr_t)v->cfg.probe_cache);
	free(v->shares);
	free(v->vfio);
	free(v->cgroup);
}

static struct vmm *vmm_alloc(const struct vm_config *cfg, void (*on_exit)(void *arg), void *arg)
{
	struct vmm *v = NEW0(struct vmm);

	config_copy(v, cfg);
	v->on_exit = on_exit;
	v->arg = arg;
	v->channel_fd = -EBADF;
	tail_init(&v->console, TAIL_MAX);
	tail_init(&v->messages, MESSAGES_SIZE);
	v->stall_usec = VMM_STALL_SEC * USEC_PER_SEC;
	co_event_init(&v->ended);
	for (unsigned i = 0; i < VM_SCSI_CONTROLLERS; i++)
		for (unsigned j = 0; j < VM_SCSI_LUNS; j++)
			co_event_init(&v->slots[i][j].gone);
	pci_init(v);
	return v;
}

static void vmm_freep(struct vmm **v)
{
	vmm_free(*v);
}

CO int vmm_new(const struct vm_config *cfg, void (*on_exit)(void *arg), void *arg, struct vmm **ret,
	       struct err *err)
{
	_cleanup_(vmm_freep) struct vmm *v = NULL;
	_cleanup_free_ char *qemu = NULL, *cgroup = NULL;
	int r = config_check(cfg, err);

	if (r == 0 && !str_empty(cfg->cgroup))
		r = cgroup_path(cfg->cgroup, &cgroup, err);
	if (r < 0)
		return r;
	qemu = program_find(cfg->qemu);
	if (!qemu)
		return err_wrap(err, program_missing(cfg->qemu, err), "qemu");
	v = vmm_alloc(cfg, on_exit, arg);
	v->cgroup = TAKE_PTR(cgroup);
	r = accel_resolve(&v->cfg, &v->cfg.accel, err);
	if (r == 0)
		r = transport_resolve(&v->cfg, &v->cfg.transport, err);
	if (r == 0)
		r = transport_open(&v->cfg, &v->channel, &v->channel_fd, err);
	if (r == 0)
		r = shares_init(v->shares, err);
	if (r == 0)
		r = shares_init(v->vfio, err);
	if (r < 0)
		return err_wrap(err, r, "VM %s", cfg->id);
	*ret = TAKE_PTR(v);
	return 0;
}

const char *vmm_run_dir(const struct vmm *v)
{
	return v->cfg.run_dir;
}

struct channel *vmm_channel(struct vmm *v)
{
	return v->channel;
}

pid_t vmm_pid(const struct vmm *v)
{
	return v->child ? child_pid(v->child) : 0;
}

bool vmm_running(const struct vmm *v)
{
	return v->started && !v->dead;
}

/**
 * console_words() - the end of the guest's console; of a panic rather its beginning, for what
 * follows it is a trace; the caller frees it
 */
static char *console_words(const struct vmm *v)
{
	_cleanup_free_ char *all = tail_text(&v->console, TAIL_MAX);
	char *panic = strstr(all, "Kernel panic"), *from, *trace;

	if (!panic)
		return tail_text(&v->console, WORDS_CONSOLE);
	trace = strstr(panic, "Call Trace");
	while (trace && trace > panic && *trace != '|')
		trace--;
	if (trace)
		trace[trace > panic ? -1 : 0] = '\0';
	/* What the guest said just before it is often the reason. */
	from = panic - all > WORDS_BEFORE ? panic - WORDS_BEFORE : all;
	from += from > all ? strcspn(from, "|") : 0;
	from += strspn(from, "| ");
	return mem_strndup(from, WORDS_CONSOLE);
}

char *vmm_last_words(const struct vmm *v)
{
	_cleanup_free_ char *messages = tail_text(&v->messages, WORDS_MESSAGES);
	_cleanup_free_ char *console = console_words(v);

	/* What QEMU says is only how it noticed. */
	if (v->daemon_lost)
		return str_printf("vhost-device-vsock has ended, exit status %d", v->daemon_code);
	return str_printf("%s%s%s%s%s", *messages ? "QEMU: " : "", messages,
			  *messages && *console ? "; " : "", *console ? "console: " : "", console);
}

struct vmm *vmm_free(struct vmm *v)
{
	static const char *const left[] = { "jail", "qemu.pid", "vsock.pid" };
	struct err err;

	if (!v)
		return NULL;
	v->child = child_free(v->child);
	v->daemon = child_free(v->daemon);
	v->settle = loop_timer_free(v->settle);
	v->qmp = qmp_free(v->qmp);
	v->channel = channel_free(v->channel);
	v->channel_fd = fd_close(v->channel_fd);
	tail_fini(&v->console);
	tail_fini(&v->messages);
	shares_fini(v->shares);
	shares_fini(v->vfio);
	transport_clean(&v->cfg);
	if (cgroup_remove(v->cfg.run_dir, &err) < 0)
		log_warn("%s", err.text);
	/* The records last: whatever they name is gone now. */
	for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
		_cleanup_free_ char *path = str_printf("%s/%s", v->cfg.run_dir, left[i]);

		dir_remove(path);
	}
	config_drop(v);
	free(v);
	return NULL;
}
