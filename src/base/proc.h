/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_PROC_H
#define LCOW_BASE_PROC_H

#include <stdint.h>
#include <sys/types.h>

/** enum proc_field - fields of /proc/<pid>/stat that are numbers, as proc(5) counts them */
enum proc_field {
	PROC_FLAGS = 9, /* PF_… of linux/sched.h */
	PROC_USER_TIME = 14, /* ticks of sysconf(_SC_CLK_TCK) */
	PROC_SYSTEM_TIME = 15,
	PROC_START_TIME = 22, /* likewise, since boot */
	PROC_RESIDENT = 24, /* pages */
};

/** proc_stat() - Return: 0, -ESRCH without such a process, -EIO */
int proc_stat(pid_t pid, enum proc_field field, uint64_t *ret);

#endif
