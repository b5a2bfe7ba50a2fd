/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_JAIL_H
#define LCOW_VMM_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

/*
 * Where QEMU (and its vsock daemon) runs: mount, pid, ipc, net and uts namespaces of its own, a
 * root directory that holds nothing but what was bound into it, an unprivileged user with the few
 * capabilities that a share needs, and no new privileges. Everything is prepared before the fork,
 * for the child may not allocate.
 */
struct jail;

/** enum jail_bind - how something appears in the jail */
enum jail_bind {
	JAIL_READ_ONLY, /* read-only, no device nodes, no set-uid programs */
	JAIL_WRITABLE, /* the same, writable */
	JAIL_DEVICE, /* a device node */
	JAIL_SHARES, /* read-only itself; mounts appear in it later, with flags of their own */
};

/**
 * jail_new() - an empty jail
 * @root:	existing directory, on which the root is mounted (in the jail's namespace only)
 * @uid, @gid:	whom the program runs as
 * @share_caps:	with the capabilities that serving files of all users needs, else with none
 * @pid_file:	where "<pid> <start time>" is written before the program is executed
 *
 * Return: 0 or a negative code with text
 */
int jail_new(const char *root, uid_t uid, gid_t gid, bool share_caps, const char *pid_file,
	     struct jail **ret, struct err *err);
/** jail_free() - NULL is fine; Return: NULL */
struct jail *jail_free(struct jail *j);
static inline void jail_freep(struct jail **j)
{
	jail_free(*j);
}

/**
 * jail_add() - let @path (absolute; symlinks are followed) appear under the same name; Return: 0 or
 * a negative code with text
 */
int jail_add(struct jail *j, const char *path, enum jail_bind how, struct err *err);

/** jail_add_link() - make a symlink @path (absolute) that points @to */
void jail_add_link(struct jail *j, const char *path, const char *to);

/**
 * jail_add_system() - what a program and its libraries need: /usr, the links or directories beside
 * it, the linker's cache
 */
int jail_add_system(struct jail *j, struct err *err);

/**
 * jail_add_program() - look a program up in PATH and let it appear, if it is not below /usr;
 * @ret_path is absolute, the caller's
 */
int jail_add_program(struct jail *j, const char *program, char **ret_path, struct err *err);

/** jail_clone_flags() - for struct child_spec */
uint64_t jail_clone_flags(void);
/** jail_enter() - the prepare function of struct child_spec, with the jail as its argument */
int jail_enter(void *jail);

#endif
