/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "vmm/vmm_priv.h"

/*
 * PCI slots of the root bus. They are fixed so that the guest finds the SCSI controllers in our
 * order, and so that a saved VM meets the same machine again.
 */
enum {
	SLOT_SERIAL = 0x02,
	SLOT_VSOCK = 0x03,
	SLOT_RNG = 0x04,
	SLOT_BALLOON = 0x05,
	SLOT_SHARES = 0x06,
	SLOT_SCSI = 0x08, /* to 0x0b */
	SLOT_PORTS = VM_PCI_PORTS_SLOT, /* eight functions */
};

enum { ROOT_PORTS = VM_PCI_FIRST + VM_PCI_PORTS };

/**
 * opt_value() - a value within a QEMU option list, where a comma is written twice; the caller frees
 * it
 */
static char *opt_value(const char *s)
{
	_cleanup_buf_ struct buf b = { 0 };

	for (; *s; s++)
		buf_add(&b, *s == ',' ? ",," : s, *s == ',' ? 2 : 1);
	buf_add(&b, "", 1);
	return (char *)TAKE_PTR(b.data);
}

static void add2(char ***v, const char *name, const char *value)
{
	strv_add(v, name);
	strv_add(v, value);
}

static void add_device(char ***v, unsigned slot, const char *device)
{
	strv_add(v, "-device");
	strv_addf(v, "%s,bus=pcie.0,addr=0x%x", device, slot);
}

/**
 * word_value() - value of a %placeholder% of the agent's arguments, NULL when there is none of that
 * name
 */
static const char *word_value(const struct vm_config *cfg, const char *name, size_t len,
			      char number[24])
{
	snprintf(number, 24, "%llu", (unsigned long long)cfg->wall_ns);

	const struct {
		const char *name;
		const char *value;
	} words[] = {
		{ "transport", cfg->transport == VM_TRANSPORT_SERIAL ? "serial" : "vsock" },
		{ "loglevel", cfg->log_level ? cfg->log_level : "info" },
		{ "wall", number },
		{ "id", cfg->id },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].name) == len && memcmp(words[i].name, name, len) == 0)
			return words[i].value;
	return NULL;
}

static void add_agent(struct buf *b, const struct vm_config *cfg)
{
	const char *p = cfg->boot->agent;

	buf_addf(b, " -- ");
	while (*p) {
		const char *end = *p == '%' ? strchr(p + 1, '%') : NULL;
		char number[24];
		const char *value =
			end ? word_value(cfg, p + 1, (size_t)(end - p - 1), number) : NULL;

		buf_addf(b, "%.*s", value ? (int)strlen(value) : 1, value ? value : p);
		p = value ? end + 1 : p + 1;
	}
}

/**
 * kernel_line() - the image's arguments, ours, the sandbox's: later ones win; the caller frees it
 */
static char *kernel_line(const struct vm_config *cfg)
{
	_cleanup_buf_ struct buf b = { 0 };
	unsigned cpus = cfg->max_cpus > cfg->cpus ? cfg->max_cpus : cfg->cpus;

	if (!str_empty(cfg->boot->cmdline))
		buf_addf(&b, "%s ", cfg->boot->cmdline);
	/*
	 * A kernel that panics shall end the VM, for -no-reboot takes the reset as an end. And it
	 * panics when it finds the timer broken, which is only a busy host under emulation; under
	 * KVM it doesn't look.
	 */
	buf_addf(&b, "console=ttyS0 panic=-1 no_timer_check nr_cpus=%u", cpus);
	/*
	 * What a port's window has no room for when a device is plugged is not assigned: the
	 * kernel's own 2 MiB are too small for most. The windows of all ports fit into what QEMU
	 * sets aside, 32 GiB.
	 */
	buf_addf(&b, " pci=hpmmiosize=32M,hpmmioprefsize=2G");
	/*
	 * RAM that may lie above 4 GiB makes the kernel set 64 MiB aside for devices that cannot
	 * reach it: none here.
	 */
	if (vm_memory_room_mb(cfg) > 0)
		buf_addf(&b, " swiotlb=512");
	if (!str_empty(cfg->kernel_args))
		buf_addf(&b, " %s", cfg->kernel_args);
	if (!str_empty(cfg->boot->agent))
		add_agent(&b, cfg);
	buf_add(&b, "", 1);
	return (char *)TAKE_PTR(b.data);
}

static void add_machine(char ***v, const struct vm_config *cfg)
{
	_cleanup_free_ char *id = opt_value(cfg->id);
	bool kvm = cfg->accel == VM_ACCEL_KVM;

	strv_add(v, "-name");
	strv_addf(v, "guest=%s", id);
	add2(v, "-sandbox",
	     "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	for (const char *const *f = (const char *const[]){ "-nodefaults", "-no-user-config",
							   "-no-reboot", "-S", NULL };
	     *f; f++)
		strv_add(v, *f);
	add2(v, "-display", "none");
	add2(v, "-M", "q35,memory-backend=m0,vmport=off,usb=off");
	add2(v, "-accel", kvm ? "kvm" : "tcg,tb-size=32");
	/*
	 * TCG: what x86-64-v2 programs ask for, which costs nothing, unlike "max" (0.3 s); and
	 * rdrand, so that the kernel's random numbers are ready from the start.
	 */
	add2(v, "-cpu", kvm ? "host" : "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand");
	/* SeaBIOS would start drivers for disks that nobody boots from: 0.3 s. */
	add2(v, "-bios", "qboot.rom");
	strv_add(v, "-smp");
	if (cfg->max_cpus > cfg->cpus)
		strv_addf(v, "cpus=%u,maxcpus=%u", cfg->cpus, cfg->max_cpus);
	else
		strv_addf(v, "cpus=%u", cfg->cpus);
}

static void add_memory(char ***v, const struct vm_config *cfg)
{
	bool shared = vm_memory_shared(cfg);

	strv_add(v, "-m");
	if (vm_memory_room_mb(cfg) > 0)
		strv_addf(v, "size=%lluM,maxmem=%lluM", (unsigned long long)cfg->memory_mb,
			  (unsigned long long)cfg->max_memory_mb);
	else
		strv_addf(v, "size=%lluM", (unsigned long long)cfg->memory_mb);
	strv_add(v, "-object");
	strv_addf(v, "memory-backend-%s,id=m0,size=%lluM%s", shared ? "memfd" : "ram",
		  (unsigned long long)cfg->memory_mb, shared ? ",share=on" : "");
}

static void add_boot(char ***v, const struct vm_config *cfg)
{
	_cleanup_free_ char *line = kernel_line(cfg);

	add2(v, "-kernel", cfg->boot->kernel);
	if (cfg->boot->initrd)
		add2(v, "-initrd", cfg->boot->initrd);
	add2(v, "-append", line);
}

static void add_channel(char ***v, const struct vm_config *cfg, const struct vm_fds *fds)
{
	_cleanup_free_ char *device = NULL;

	switch (cfg->transport) {
	case VM_TRANSPORT_AUTO:
	case VM_TRANSPORT_SERIAL:
		strv_add(v, "-chardev");
		strv_addf(v, "socket,id=mux,fd=%d", fds->channel);
		add_device(v, SLOT_SERIAL, "virtio-serial-pci,id=serial0,max_ports=2");
		add2(v, "-device", "virtserialport,bus=serial0.0,nr=1,chardev=mux,name=lcow.mux");
		break;
	case VM_TRANSPORT_VHOST_VSOCK:
		device = str_printf("vhost-vsock-pci,id=vsock0,guest-cid=%u,vhostfd=%d", cfg->cid,
				    fds->channel);
		add_device(v, SLOT_VSOCK, device);
		break;
	case VM_TRANSPORT_VHOST_USER_VSOCK:
		strv_add(v, "-chardev");
		strv_addf(v, "socket,id=vsock,fd=%d", fds->channel);
		add_device(v, SLOT_VSOCK, "vhost-user-vsock-pci,id=vsock0,chardev=vsock");
		break;
	}
}

/* As JSON, for QEMU's own option syntax has no nested values. */
static void add_storage_limits(char ***v, const struct vm_config *cfg)
{
	if (!vm_storage_limited(cfg))
		return;
	strv_add(v, "-object");
	strv_addf(v,
		  "{\"qom-type\":\"throttle-group\",\"id\":\"" VM_THROTTLE_GROUP "\","
		  "\"limits\":{\"iops-total\":%llu,\"bps-total\":%llu}}",
		  (unsigned long long)cfg->storage_iops,
		  (unsigned long long)cfg->storage_bandwidth);
}

static void add_devices(char ***v, const struct vm_config *cfg)
{
	_cleanup_free_ char *run_dir = opt_value(cfg->run_dir);

	add_device(v, SLOT_RNG, "virtio-rng-pci,id=rng0");
	add_device(v, SLOT_BALLOON,
		   "virtio-balloon-pci,id=balloon0,free-page-reporting=on,deflate-on-oom=on");
	if (cfg->boot->virtio_shares) {
		strv_add(v, "-fsdev");
		strv_addf(v,
			  "local,id=shares,path=%s/"
			  "shares,security_model=passthrough,multidevs=remap",
			  run_dir);
		add_device(v, SLOT_SHARES,
			   "virtio-9p-pci,id=shares0,fsdev=shares,mount_tag=lcow-shares");
	}
	add_storage_limits(v, cfg);
	for (unsigned i = 0; i < VM_SCSI_CONTROLLERS; i++) {
		_cleanup_free_ char *device = str_printf("virtio-scsi-pci,id=scsi%u", i);

		add_device(v, SLOT_SCSI + i, device);
	}
	for (unsigned i = 0; i < ROOT_PORTS; i++) {
		strv_add(v, "-device");
		strv_addf(v, "pcie-root-port,id=rp%u,chassis=%u,slot=%u,bus=pcie.0,addr=0x%x.%u%s",
			  i, i + 1, i + 1, SLOT_PORTS, i, i ? "" : ",multifunction=on");
	}
}

char **vm_command_line(const struct vm_config *cfg, const struct vm_fds *fds)
{
	char **v = NULL;

	strv_add(&v, cfg->qemu);
	add_machine(&v, cfg);
	add_memory(&v, cfg);
	add_boot(&v, cfg);
	strv_add(&v, "-chardev");
	strv_addf(&v, "socket,id=qmp,fd=%d", fds->qmp);
	add2(&v, "-mon", "chardev=qmp,mode=control");
	strv_add(&v, "-chardev");
	strv_addf(&v, "socket,id=console,fd=%d", fds->console);
	add2(&v, "-serial", "chardev:console");
	add_channel(&v, cfg, fds);
	add_devices(&v, cfg);
	return v;
}
