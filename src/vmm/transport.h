/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_TRANSPORT_H
#define LCOW_VMM_TRANSPORT_H

#include "vmm/vmm.h"

struct cgroups;
struct child;
struct err;

/**
 * transport_resolve() - choose a transport that both host and guest have; Return: 0 or a negative
 * code with text
 */
int transport_resolve(const struct vm_config *cfg, enum vm_transport *ret, struct err *err);

/**
 * transport_open() - the host's end of the guest channel
 * @cfg:	transport resolved
 * @ret_fd:	what QEMU inherits as the channel; -EBADF for a vhost-user socket, which
 *		transport_daemon() gives
 *
 * Return: 0 or a negative code with text
 */
int transport_open(const struct vm_config *cfg, struct channel **ret, int *ret_fd, struct err *err);

/**
 * transport_daemon() - start vhost-device-vsock in a jail of its own and connect to it
 * @cgroups:	where it is accounted for
 * @ret_fd:	vhost-user socket for QEMU
 *
 * Return: 0 or a negative code with text
 */
CO int transport_daemon(const struct vm_config *cfg, const struct cgroups *cgroups,
			struct child **ret, int *ret_fd, struct err *err);

/** transport_daemon_args() - its argv; the caller frees it with strv_free() */
char **transport_daemon_args(const struct vm_config *cfg, const char *program);

/** transport_clean() - remove what the transport left in the run directory */
void transport_clean(const struct vm_config *cfg);

#endif
