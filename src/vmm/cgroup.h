/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_CGROUP_H
#define LCOW_VMM_CGROUP_H

#include <stdint.h>

#include "base/mem.h"

struct err;

/*
 * The cgroup of a VM's processes on the host: in every mounted hierarchy of version 1 and in the
 * unified one, as runtimes of processes have it (cgroups(7), and the kernel's
 * Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst). Limits are those of the cgroups above it.
 *
 * What is made is recorded first, in the file "cgroup" of the sandbox's run directory, a line for
 * each hierarchy: "<n> <directory>". The first n bytes of the name were there before. Directories
 * that were made carry the extended attribute trusted.lcow.made, so that those above, which several
 * sandboxes may use, go with the last of these.
 */

/**
 * cgroup_path() - where a cgroup is in each hierarchy
 * @name:	as in the OCI field linux.cgroupsPath: a path, or "slice:prefix:name" for systemd,
 *		which becomes the path of its slice ("a-b.slice" is a.slice/a-b.slice, "" is
 *		system.slice) and "prefix-name.scope"
 * @ret:	relative to the hierarchy's root; NULL for the root itself
 *
 * Return: 0, or -ERR_INVALID
 */
int cgroup_path(const char *name, char **ret, struct err *err);

/**
 * struct cgroups - a cgroup in each hierarchy, as struct child_spec takes it
 * @clone_flags: CLONE_INTO_CGROUP, or 0 when there is none in the unified hierarchy
 * @dir:	the one there: who is born into it need not be moved, for which the kernel waits
 *		(16 ms, once for all hierarchies)
 * @procs:	cgroup.procs of those in other hierarchies, open for writing
 * @n_procs:	number of @procs
 */
struct cgroups {
	uint64_t clone_flags;
	int dir;
	int *procs;
	unsigned n_procs;
};

/**
 * cgroup_make() - make a cgroup, with what is missing above it, and open it
 * @mountinfo:	/proc/self/mountinfo, or what a test has for it
 * @run_dir:	where it is recorded
 * @path:	of cgroup_path()
 * @ret:	for cgroups_close()
 *
 * A hierarchy that may not be written to is left out, with a warning in the log. Where cpusets of
 * version 1 are empty they become those above them; controllers are passed on to what is made in a
 * cgroup other than the root.
 *
 * Return: 0 or a negative code with text; then cgroup_remove() removes what was made
 */
int cgroup_make(const char *mountinfo, const char *run_dir, const char *path, struct cgroups *ret,
		struct err *err);
/** cgroups_close() - close what it holds */
void cgroups_close(struct cgroups *c);
#define _cleanup_cgroups_ _cleanup_(cgroups_close)

/**
 * cgroup_remove() - remove what is recorded in a run directory, and the record; absent is success
 *
 * A cgroup that is still busy is tried for a second. What is left to others stays: whoever was
 * recorded in @run_dir has ended.
 *
 * Return: 0 or a negative code with text; then the record is still there
 */
int cgroup_remove(const char *run_dir, struct err *err);

#endif
