/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/pause.h"

#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

/*
 * Who may look at /proc/1/root in the pod shall find nothing of the VM there. It keeps its
 * capabilities, which it has no use for: processes with fewer cannot trace it.
 */
static int empty_root(void)
{
	const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/proc", "tmpfs", flags, "size=4k,nr_inodes=2") < 0)
		return -1;
	/* The root of an initramfs cannot be pivoted away from. */
	if (chdir("/proc") < 0 || mount("/proc", "/", NULL, MS_MOVE, NULL) < 0)
		return -1;
	return chroot(".");
}

int pause_main(void)
{
	if (getpid() != 1 || empty_root() < 0)
		return 1;
	prctl(PR_SET_NAME, "pause");
	/* Children that are ignored leave no zombie. */
	signal(SIGCHLD, SIG_IGN);
	for (;;)
		pause();
}
