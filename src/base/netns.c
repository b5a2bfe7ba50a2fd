/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/log.h"

int netns_visit(int netns, int (*fn)(void *arg), void *arg)
{
	_cleanup_fd_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (home < 0 || setns(netns, CLONE_NEWNET) < 0)
		return -errno;
	r = fn(arg);
	if (setns(home, CLONE_NEWNET) < 0) {
		/* A thread that cannot go home would do others' work abroad. */
		log_error("return from a network namespace: %m");
		abort();
	}
	return r;
}
