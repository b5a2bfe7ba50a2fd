/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "loop/child.h"
#include "vmm/program.h"

enum { FILES_MAX = 65536 };

/**
 * struct step - one thing to make in the new root
 * @path:	target, absolute, as seen in the jail
 * @target:	the same below the root's mount point
 * @link:	what a symlink points to, NULL otherwise
 * @dir:	a directory, else a file
 * @bind:	something is mounted there, else it is only made
 */
struct step {
	char *path;
	char *target;
	char *link;
	bool dir;
	bool bind;
	enum jail_bind how;
};

/**
 * struct jail - see jail.h
 * @caps:	bit mask of what the program keeps
 * @last_cap:	highest capability that the kernel knows
 */
struct jail {
	char *root;
	char *proc;
	uid_t uid;
	gid_t gid;
	uint64_t caps;
	int last_cap;
	int pid_fd;
	struct step *steps;
	unsigned n_steps;
};

#define CAP_BIT(cap) (1ull << (cap))
/*
 * A 9p server creates, reads and changes files of every user. CAP_MKNOD is not among them: a guest
 * could make nodes of the host's devices.
 */
static const uint64_t share_capabilities = CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) |
					   CAP_BIT(CAP_DAC_READ_SEARCH) | CAP_BIT(CAP_FOWNER) |
					   CAP_BIT(CAP_FSETID);

static int last_capability(void)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	uint64_t n;

	if (file_read("/proc/sys/kernel/cap_last_cap", 32, &text, &len) < 0)
		return CAP_LAST_CAP;
	text[strcspn(text, "\n")] = '\0';
	return str_u64(text, &n) == 0 && n < 64 ? (int)n : CAP_LAST_CAP;
}

int jail_new(const char *root, uid_t uid, gid_t gid, bool share_caps, const char *pid_file,
	     struct jail **ret, struct err *err)
{
	struct jail *j = NEW0(struct jail);

	j->root = mem_strdup(root);
	j->proc = str_printf("%s/proc", root);
	j->uid = uid;
	j->gid = gid;
	j->caps = share_caps ? share_capabilities : 0;
	j->last_cap = last_capability();
	j->pid_fd = open(pid_file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (j->pid_fd < 0) {
		int r = err_sys(err, -errno, "record %s", pid_file);

		jail_free(j);
		return r;
	}
	*ret = j;
	return 0;
}

struct jail *jail_free(struct jail *j)
{
	if (!j)
		return NULL;
	for (unsigned i = 0; i < j->n_steps; i++) {
		free(j->steps[i].path);
		free(j->steps[i].target);
		free(j->steps[i].link);
	}
	free(j->steps);
	free(j->root);
	free(j->proc);
	fd_close(j->pid_fd);
	free(j);
	return NULL;
}

static struct step *step_find(struct jail *j, const char *path)
{
	for (unsigned i = 0; i < j->n_steps; i++)
		if (str_eq(j->steps[i].path, path))
			return &j->steps[i];
	return NULL;
}

static struct step *step_add(struct jail *j, const char *path, bool dir)
{
	struct step *s;

	j->steps = mem_resize(j->steps, j->n_steps + 1, sizeof(*j->steps));
	s = &j->steps[j->n_steps++];
	*s = (struct step){ .path = mem_strdup(path),
			    .target = str_printf("%s%s", j->root, path),
			    .dir = dir };
	return s;
}

/**
 * parents_add() - make the directories above @path; false when one of them was bound, and @path is
 * thus in the jail already
 */
static bool parents_add(struct jail *j, const char *path)
{
	_cleanup_free_ char *part = mem_strdup(path);

	for (char *p = strchr(part + 1, '/'); p; p = strchr(p + 1, '/')) {
		struct step *s;

		*p = '\0';
		s = step_find(j, part);
		if (s && (s->bind || s->link))
			return false;
		if (!s)
			step_add(j, part, true);
		*p = '/';
	}
	return true;
}

int jail_add(struct jail *j, const char *path, enum jail_bind how, struct err *err)
{
	struct step *s;
	struct stat st;

	if (path[0] != '/')
		return err_set(err, -ERR_INVALID, "jail: %s is no absolute path", path);
	if (stat(path, &st) < 0)
		return err_sys(err, -errno, "jail: %s", path);
	if (!parents_add(j, path))
		return 0;
	s = step_find(j, path);
	if (s && (s->bind || s->link))
		return 0;
	if (!s)
		s = step_add(j, path, S_ISDIR(st.st_mode));
	s->bind = true;
	s->how = how;
	return 0;
}

void jail_add_link(struct jail *j, const char *path, const char *to)
{
	if (parents_add(j, path) && !step_find(j, path))
		step_add(j, path, false)->link = mem_strdup(to);
}

int jail_add_system(struct jail *j, struct err *err)
{
	static const char *const beside[] = { "/bin", "/lib", "/lib32", "/lib64", "/libx32" };
	int r = jail_add(j, "/usr", JAIL_READ_ONLY, err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(beside); i++) {
		char to[256];
		ssize_t n = readlink(beside[i], to, sizeof(to) - 1);

		if (n > 0) {
			to[n] = '\0';
			jail_add_link(j, beside[i], to);
		} else if (access(beside[i], F_OK) == 0) {
			r = jail_add(j, beside[i], JAIL_READ_ONLY, err);
		}
	}
	if (r == 0 && access("/etc/ld.so.cache", F_OK) == 0)
		r = jail_add(j, "/etc/ld.so.cache", JAIL_READ_ONLY, err);
	if (r == 0)
		r = jail_add(j, "/dev/null", JAIL_DEVICE, err);
	if (r == 0)
		r = jail_add(j, "/dev/urandom", JAIL_DEVICE, err);
	return r;
}

int jail_add_program(struct jail *j, const char *program, char **ret_path, struct err *err)
{
	_cleanup_free_ char *path = program_find(program), *prefix = NULL;
	char *slash;
	int r;

	if (!path)
		return program_missing(program, err);
	/* What was installed under a prefix of its own finds its files beside its bin/. */
	prefix = mem_strdup(path);
	slash = strrchr(prefix, '/');
	*slash = '\0';
	slash = strrchr(prefix, '/');
	if (slash && slash > prefix && (str_eq(slash, "/bin") || str_eq(slash, "/sbin"))) {
		*slash = '\0';
		r = jail_add(j, prefix, JAIL_READ_ONLY, err);
	} else {
		r = jail_add(j, path, JAIL_READ_ONLY, err);
	}
	if (r < 0)
		return r;
	*ret_path = TAKE_PTR(path);
	return 0;
}

uint64_t jail_clone_flags(void)
{
	return CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS;
}

/* --- in the child: async-signal-safe calls only --- */

static int mount_flags(const struct step *s)
{
	switch (s->how) {
	case JAIL_READ_ONLY:
	case JAIL_SHARES:
		return MS_RDONLY | MS_NOSUID | MS_NODEV;
	case JAIL_WRITABLE:
		return MS_NOSUID | MS_NODEV | MS_NOEXEC;
	case JAIL_DEVICE:
		return MS_NOSUID | MS_NOEXEC;
	}
	return MS_RDONLY;
}

static int step_make(const struct step *s)
{
	int fd;

	if (s->link)
		return symlink(s->link, s->target) < 0 ? -errno : 0;
	if (s->dir && mkdir(s->target, 0755) < 0)
		return -errno;
	if (!s->dir) {
		fd = open(s->target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	if (!s->bind)
		return 0;
	/* Those bring along what is mounted there already; nothing else has a reason to. */
	if (mount(s->path, s->target, NULL, MS_BIND | (s->how == JAIL_SHARES ? MS_REC : 0), NULL) <
	    0)
		return -errno;
	if (mount(NULL, s->target, NULL, (unsigned long)(MS_REMOUNT | MS_BIND | mount_flags(s)),
		  NULL) < 0)
		return -errno;
	return 0;
}

static int root_make(const struct jail *j)
{
	/* A slave still receives what is mounted below the shares later; nothing goes back. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -errno;
	if (mount("none", j->root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k") < 0)
		return -errno;
	for (unsigned i = 0; i < j->n_steps; i++) {
		int r = step_make(&j->steps[i]);

		if (r < 0)
			return r;
	}
	/* QEMU's 9p server changes modes by /proc/self/fd. */
	if (mkdir(j->proc, 0555) < 0 ||
	    mount("proc", j->proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "subset=pid,hidepid=invisible") < 0)
		return -errno;
	if (chdir(j->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	/* The old root lies over the new one now. */
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) <
	    0)
		return -errno;
	return 0;
}

static int limits_set(void)
{
	static const struct rlimit none = { 0, 0 };
	struct rlimit files;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* The shim is all but immune to the OOM killer; the guest's memory is not to be. */
	if (fd >= 0) {
		(void)!write(fd, "0", 1);
		close(fd);
	}
	if (setrlimit(RLIMIT_CORE, &none) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
	files.rlim_max = files.rlim_cur;
	return setrlimit(RLIMIT_NOFILE, &files) < 0 ? -errno : 0;
}

static int privileges_drop(const struct jail *j)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (int cap = 0; cap <= j->last_cap; cap++)
		if (!(j->caps & CAP_BIT(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	/* Uid 0 alone is worth nothing, and neither it nor a change of uid shall ever bring
	 * capabilities back. */
	if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS) < 0)
		return -errno;
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
	    syscall(SYS_setresgid, j->gid, j->gid, j->gid) < 0 ||
	    syscall(SYS_setresuid, j->uid, j->uid, j->uid) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		data[i].permitted = (uint32_t)(j->caps >> (32 * i));
		data[i].effective = data[i].inheritable = data[i].permitted;
	}
	if (syscall(SYS_capset, &head, data) < 0)
		return -errno;
	for (int cap = 0; cap <= j->last_cap; cap++)
		if ((j->caps & CAP_BIT(cap)) &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -errno;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int jail_enter(void *jail)
{
	const struct jail *j = jail;
	/* As the host counts: its /proc is still there. */
	int r = child_record(j->pid_fd);

	umask(022);
	if (r == 0)
		r = limits_set();
	if (r == 0)
		r = root_make(j);
	if (r == 0)
		r = privileges_drop(j);
	return r;
}
