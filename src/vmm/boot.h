/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_BOOT_H
#define LCOW_VMM_BOOT_H

#include <stdbool.h>

struct err;

/**
 * struct boot_files - a boot files directory, as its boot.conf describes it (doc/boot-files.md)
 * @kernel:	absolute path of the kernel image
 * @initrd:	absolute path, NULL when there is none
 * @cmdline:	kernel arguments that belong to the image
 * @agent:	what follows "--" on the kernel command line, NULL for nothing; vm_command_line()
 *		replaces %transport% (serial or vsock), %loglevel% (info …), %wall% (nanoseconds
 *		since 1970) and %id% (sandbox id) in it
 * @serial:	the agent can dial over the port multiplexer
 * @vsock:	the agent can dial AF_VSOCK
 * @virtio_shares: the agent takes MappedDirectory without a port from the VM's virtio-9p export
 *		root
 */
struct boot_files {
	char *kernel;
	char *initrd;
	char *cmdline;
	char *agent;
	bool serial;
	bool vsock;
	bool virtio_shares;
};

/**
 * boot_files_load() - read <dir>/boot.conf and check that what it names exists and looks like what
 * it is
 * Return: 0, or a negative code with a text that says which file is missing or wrong and what to do
 */
int boot_files_load(const char *dir, struct boot_files *ret, struct err *err);
void boot_files_free(struct boot_files *b);

#endif
