/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_ROOTFS_H
#define LCOW_CONTROLLER_ROOTFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/uuid.h"
#include "loop/co.h"

struct container_env;
struct container_request;
struct err;

/**
 * struct rootfs - what a container's root file system takes, on the host and in the guest; {0} is
 * nothing
 *
 * Forms: no mount at all: the bundle's own root directory. One overlay or bind mount: mounted on
 * the host. A directory is shared read-only as the lower layer under an ext4 scratch disk, or
 * writable by itself (upper = host). Anything else is disks (see controller/rootfs_plan.h): one
 * image, a chain of images with an overlay or a bind over them, hcsshim's layers. What has no
 * writable layer gets a scratch disk. A root that is read-only has one as well: the guest's runtime
 * makes its mount points in it.
 *
 * A writable image as the whole root is shared by those containers of a VM that name it, as in
 * hcsshim; a writable layer is one container's, and the guest refuses it to a second. To another VM
 * QEMU's lock refuses both.
 *
 * @host_mount:	mount point on the host, NULL for none
 * @scratch_image: image file on the host, NULL for none
 * @share:	reservation of the shared directory, "" for none
 * @disks:	reservations of the images' disks
 * @parts:	likewise, of disks that file systems on @disks span
 * @scratch:	reservation of the scratch disk
 * @layers:	guest paths of the lower layers, top-most first
 * @scratch_bytes: size of a scratch disk, if it needs one: what its annotation
 *		io.microsoft.container.storage.rootfs.size-gb says, or the configuration
 * @scratch_dir: guest path of the directory with upper and work; NULL when there is none
 * @scratch_is_own: it was made for this container and goes with it, where other writable layers are
 *		the client's
 * @combined:	CombinedLayers was done
 * @guest_path:	what root.path becomes
 * @read_only:	what root.readonly becomes, where it is true
 */
struct rootfs {
	char *host_mount;
	char *scratch_image;
	char share[UUID_LEN + 1];
	char **disks;
	char **parts;
	char scratch[UUID_LEN + 1];
	char **layers;
	uint64_t scratch_bytes;
	char *scratch_dir;
	bool scratch_is_own;
	bool combined;
	bool read_only;
	char *guest_path;
};

/**
 * rootfs_prepare() - build it; after a failure rootfs_release() takes back what was done
 * @id, @pod:	guest-facing ids, for names
 */
CO int rootfs_prepare(struct rootfs *r, const struct container_env *env, const char *id,
		      const char *pod, const struct container_request *request, struct err *err);
/** rootfs_uncombine() - take the layers apart, before the guest's state is deleted; repeatable */
CO int rootfs_uncombine(struct rootfs *r, const struct container_env *env, const char *id,
			struct err *err);
/**
 * rootfs_release() - give back disks, share, host mount and scratch image; goes on after a failure,
 * repeatable; Return: 0 or the first failure
 */
CO int rootfs_release(struct rootfs *r, const struct container_env *env, struct err *err);
/**
 * rootfs_drop_host() - when the VM is gone: only what is on the host; frees the strings; not
 * suspending
 */
void rootfs_drop_host(struct rootfs *r);

#endif
