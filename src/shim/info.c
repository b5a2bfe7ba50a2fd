/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/shim.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "types.pb-c.h"
#include "wire/pb.h"

/* What the guest's kernel and crun can do;
 * https://github.com/opencontainers/runtime-spec/blob/main/features.md */
static const char features[] =
	"{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.0.2\","
	"\"mountOptions\":[\"async\",\"atime\",\"bind\",\"defaults\",\"dev\",\"diratime\","
	"\"dirsync\",\"exec\",\"noatime\","
	"\"nodev\",\"nodiratime\",\"noexec\",\"norelatime\",\"nosuid\",\"private\",\"rbind\","
	"\"relatime\",\"remount\","
	"\"ro\",\"rprivate\",\"rro\",\"rshared\",\"rslave\",\"rw\",\"shared\",\"slave\","
	"\"strictatime\","
	"\"suid\",\"sync\"],"
	"\"linux\":{\"namespaces\":[\"cgroup\",\"ipc\",\"mount\",\"network\",\"pid\",\"uts\"],"
	"\"cgroup\":{\"v1\":false,\"v2\":true,\"systemd\":false,\"systemdUser\":false},"
	"\"seccomp\":{\"enabled\":true},\"apparmor\":{\"enabled\":false},\"selinux\":{\"enabled\":"
	"false}}}";

/*
 * Mounts of a root file system that containerd leaves to us
 * (https://github.com/containerd/containerd/blob/main/docs/mounts.md): erofs images and what is
 * to be expanded. ext4 needs no mention, since containerd mounts no file system that it has no
 * handler for. mkfs is left to containerd, which makes the image and hands it over as ext4.
 */
#define ALLOW_MOUNTS "containerd.io/runtime-allow-mounts"
#define OUR_MOUNTS "erofs,format/*,mkdir/*"

int shim_info(struct err *err)
{
	Containerd__Types__RuntimeInfo *info = pb_new(&containerd__types__runtime_info__descriptor);
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t len;

	pb_str(&info->name, "io.containerd.lcow.v2");
	info->version = pb_new(&containerd__types__runtime_version__descriptor);
	pb_str(&info->version->version, LCOW_VERSION);
	pb_map_set(info, "annotations", ALLOW_MOUNTS, OUR_MOUNTS);
	info->features =
		pb_any_raw("types.containerd.io/opencontainers/runtime-spec/1/features/Features",
			   features, sizeof(features) - 1);
	bytes = pb_pack(info, &len);
	pb_free(info);

	int r = fd_write_all(STDOUT_FILENO, bytes, len);

	return r < 0 ? err_sys(err, r, "write to standard output") : 0;
}
