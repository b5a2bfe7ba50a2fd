/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

enum { CONF_MAX = 64 << 10, HEAD_MAX = 0x206 };

#define REMEDY "; make the directory with uvm/build, or set boot_files to one that is complete"

/**
 * struct reader - state while boot.conf is read
 * @last:	name of the key before, for indented lines that continue it
 */
struct reader {
	const char *path;
	struct boot_files *b;
	struct err *err;
	int code;
	char *last;
};

static int set_transports(struct reader *rd, const char *value)
{
	_cleanup_strv_ char **words = strv_split(value, " \t,");

	rd->b->serial = rd->b->vsock = false;
	for (size_t i = 0; words && words[i]; i++) {
		if (str_eq(words[i], "serial"))
			rd->b->serial = true;
		else if (str_eq(words[i], "vsock"))
			rd->b->vsock = true;
		else
			return err_set(rd->err, -ERR_INVALID,
				       "%s: transports: \"%s\" is neither serial nor vsock",
				       rd->path, words[i]);
	}
	if (!rd->b->serial && !rd->b->vsock)
		return err_set(rd->err, -ERR_INVALID, "%s: transports is empty", rd->path);
	return 0;
}

static int set_shares(struct reader *rd, const char *value)
{
	if (!str_eq(value, "virtio") && !str_eq(value, "port"))
		return err_set(rd->err, -ERR_INVALID,
			       "%s: shares: \"%s\" is neither virtio nor port", rd->path, value);
	rd->b->virtio_shares = str_eq(value, "virtio");
	return 0;
}

/** set_text() - set a text, or add a continuation line to it */
static void set_text(char **text, const char *value, bool more)
{
	char *old = *text;

	if (str_empty(value) && !(more && old)) {
		*text = NULL;
		free(old);
		return;
	}
	*text = more && old ? str_printf("%s %s", old, value) : mem_strdup(value);
	free(old);
}

static int on_row(void *arg, const char *section, const char *name, const char *value)
{
	struct reader *rd = arg;
	bool more = str_eq(rd->last, name);
	int r = 0;

	if (rd->code < 0 || !str_eq(section, "boot"))
		return 1;
	str_set(&rd->last, name);
	if (str_eq(name, "kernel"))
		str_set(&rd->b->kernel, str_empty(value) ? NULL : value);
	else if (str_eq(name, "initrd"))
		str_set(&rd->b->initrd, str_empty(value) ? NULL : value);
	else if (str_eq(name, "cmdline"))
		set_text(&rd->b->cmdline, value, more);
	else if (str_eq(name, "agent"))
		set_text(&rd->b->agent, value, more);
	else if (str_eq(name, "transports"))
		r = set_transports(rd, value);
	else if (str_eq(name, "shares"))
		r = set_shares(rd, value);
	rd->code = r;
	return 1;
}

static int conf_read(const char *dir, struct boot_files *b, struct err *err)
{
	_cleanup_free_ char *path = str_printf("%s/boot.conf", dir), *text = NULL;
	struct reader rd = { .path = path, .b = b, .err = err };
	size_t len;
	int r = file_read(path, CONF_MAX, &text, &len);

	if (r == -ENOENT || r == -ENOTDIR)
		return err_set(err, -ERR_NOT_FOUND, "boot files: %s does not exist" REMEDY, path);
	if (r < 0)
		return err_sys(err, r, "boot files: read %s", path);
	if (strlen(text) != len)
		return err_set(err, -ERR_INVALID, "boot files: %s is no text", path);
	/* What is assumed of absent keys suits a guest that is not ours. */
	b->vsock = true;
	r = ini_parse_string(text, on_row, &rd);
	free(rd.last);
	if (rd.code < 0)
		return err_wrap(err, rd.code, "boot files");
	if (r > 0)
		return err_set(err, -ERR_INVALID,
			       "boot files: %s: line %d is neither a section, a key nor a comment",
			       path, r);
	if (r < 0)
		return err_set(err, -ENOMEM, "boot files: read %s: out of memory", path);
	if (!b->kernel)
		return err_set(err, -ERR_INVALID,
			       "boot files: %s names no kernel in its section [boot]", path);
	return 0;
}

/**
 * file_resolve() - make *@path absolute; it must be a regular file below @dir; its first bytes go
 * to @head
 */
static int file_resolve(const char *dir, int dirfd, const char *what, char **path, uint8_t *head,
			size_t *ret_len, struct err *err)
{
	_cleanup_free_ char *full = str_printf("%s/%s", dir, *path);
	_cleanup_fd_ int fd = fd_open_in(dirfd, *path, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;
	ssize_t n;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return err_set(err, -ERR_NOT_FOUND, "boot files: the %s %s does not exist" REMEDY,
			       what, full);
	if (fd < 0)
		return err_sys(err, fd, "boot files: open the %s %s", what, full);
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "boot files: stat %s", full);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -ERR_INVALID, "boot files: the %s %s is no regular file", what,
			       full);
	n = pread(fd, head, HEAD_MAX, 0);
	if (n < 0)
		return err_sys(err, -errno, "boot files: read the %s %s", what, full);
	if (n == 0)
		return err_set(err, -ERR_INVALID, "boot files: the %s %s is empty" REMEDY, what,
			       full);
	*ret_len = (size_t)n;
	free(*path);
	*path = TAKE_PTR(full);
	return 0;
}

/**
 * kernel_known() - an x86-64 ELF image, or a bzImage (Linux Documentation/arch/x86/boot.rst: "HdrS"
 * at 0x202)
 */
static bool kernel_known(const uint8_t *head, size_t len)
{
	if (len >= 20 && memcmp(head, "\177ELF\2\1", 6) == 0)
		return head[18] == 62 && head[19] == 0;
	return len >= 0x206 && memcmp(head + 0x202, "HdrS", 4) == 0;
}

/**
 * initrd_known() - what the kernel unpacks
 * (Documentation/driver-api/early-userspace/buffer-format.rst)
 */
static bool initrd_known(const uint8_t *head, size_t len)
{
	static const struct {
		const char *magic;
		size_t len;
	} known[] = {
		{ "070701", 6 },
		{ "070702", 6 },
		{ "\x1f\x8b", 2 },
		{ "\x28\xb5\x2f\xfd", 4 },
		{ "\x02\x21\x4c\x18", 4 },
		{ "\xfd"
		  "7zXZ\0",
		  6 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (len >= known[i].len && memcmp(head, known[i].magic, known[i].len) == 0)
			return true;
	return false;
}

static int files_check(const char *dir, int dirfd, struct boot_files *b, struct err *err)
{
	uint8_t head[HEAD_MAX];
	size_t len;
	int r = file_resolve(dir, dirfd, "kernel", &b->kernel, head, &len, err);

	if (r < 0)
		return r;
	if (!kernel_known(head, len))
		return err_set(err, -ERR_INVALID,
			       "boot files: the kernel %s is neither an x86-64 ELF image nor a "
			       "bzImage" REMEDY,
			       b->kernel);
	if (!b->initrd)
		return 0;
	r = file_resolve(dir, dirfd, "initrd", &b->initrd, head, &len, err);
	if (r < 0)
		return r;
	if (!initrd_known(head, len))
		return err_set(err, -ERR_INVALID,
			       "boot files: the initrd %s is no cpio archive (new ASCII format; "
			       "gzip, zstd, lz4 or "
			       "xz)" REMEDY,
			       b->initrd);
	return 0;
}

int boot_files_load(const char *dir, struct boot_files *ret, struct err *err)
{
	_cleanup_(boot_files_free) struct boot_files b = { 0 };
	_cleanup_free_ char *full = realpath(dir, NULL);
	_cleanup_fd_ int dirfd = -EBADF;
	int r;

	if (!full && (errno == ENOENT || errno == ENOTDIR))
		return err_set(err, -ERR_NOT_FOUND,
			       "boot files: the directory %s does not exist" REMEDY, dir);
	if (!full)
		return err_sys(err, -errno, "boot files: %s", dir);
	dirfd = open(full, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 && errno == ENOTDIR)
		return err_set(err, -ERR_NOT_FOUND, "boot files: %s is no directory" REMEDY, dir);
	if (dirfd < 0)
		return err_sys(err, -errno, "boot files: open %s", dir);
	r = conf_read(full, &b, err);
	if (r < 0)
		return r;
	r = files_check(full, dirfd, &b, err);
	if (r < 0)
		return r;
	*ret = b;
	b = (struct boot_files){ 0 };
	return 0;
}

void boot_files_free(struct boot_files *b)
{
	free(b->kernel);
	free(b->initrd);
	free(b->cmdline);
	free(b->agent);
	*b = (struct boot_files){ 0 };
}
