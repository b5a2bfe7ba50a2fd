/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/agent.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "gcs/logport.h"
#include "loop/co.h"

enum { LAST_WORDS_USEC = 300000 };

static void console(const char *reason)
{
	_cleanup_fd_ int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return;
	logport_last_words(fd);
	if (reason)
		dprintf(fd, "lcow-gcs: %s\n", reason);
}

void agent_power_off(struct agent *a, const char *reason)
{
	a->stopping = true;
	if (reason)
		log_error("powering off: %s", reason);
	else
		log_info("powering off");
	if (co_self() && reason) {
		/* The log port's own coroutine gets this time to send the line. */
		CO_SHIELD(2ull * LAST_WORDS_USEC);
		co_sleep(LAST_WORDS_USEC);
	}
	if (a->test)
		_exit(reason ? 1 : 0);
	console(reason);
	sync();
	reboot(RB_POWER_OFF);
	/* Not reached on a machine that can be powered off; the death of PID 1 ends the VM in any
	 * case. */
	_exit(1);
}
