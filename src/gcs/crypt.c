/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/crypt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "gcs/agent.h"
#include "gcs/dm.h"
#include "gcs/module.h"
#include "loop/worker.h"

enum { KEY = 64, SECTOR = 4096, PARAMS_MAX = 512 };

/* Of the cipher only AES itself is built in. What the kernel would ask for, nobody would load. */
static CO int load_cipher(struct agent *a, struct err *err)
{
	static const char *const dm[] = { "dm_crypt", NULL };
	static const char *const fast[] = { "aesni_intel", NULL };
	static const char *const plain[] = { "ecb", "xts", NULL };
	int r = modules_need(a->modules, dm, err);

	if (r >= 0 && (!__builtin_cpu_supports("aes") || modules_need(a->modules, fast, NULL) < 0))
		r = modules_need(a->modules, plain, err);
	return r;
}

/**
 * struct draft - a target in the making
 * @params:	with the key in it; not on the heap, where it would be copied while it grows
 */
struct draft {
	const char *device;
	uint64_t sectors;
	char params[PARAMS_MAX];
};

/* Blocks until the kernel has random numbers that nobody can guess. */
static int draft_fn(void *arg)
{
	struct draft *d = arg;
	_cleanup_fd_ int fd = open(d->device, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	uint8_t key[KEY];
	char hex[2 * KEY + 1];
	int n;

	if (size < 0 || getrandom(key, sizeof(key), 0) != sizeof(key))
		return -errno;
	for (size_t i = 0; i < sizeof(key); i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	d->sectors = (uint64_t)size / SECTOR * (SECTOR / 512);
	n = snprintf(d->params, sizeof(d->params), "aes-xts-plain64 %s 0 %s 0 1 sector_size:%d",
		     hex, d->device, SECTOR);
	explicit_bzero(key, sizeof(key));
	explicit_bzero(hex, sizeof(hex));
	return n < (int)sizeof(d->params) ? 0 : -ENAMETOOLONG;
}

CO int crypt_open(struct agent *a, const char *owner, const char *name, const char *device,
		  char **ret_node, struct err *err)
{
	struct draft d = { .device = device };
	struct dm_target target = { .name = name, .type = "crypt", .secret = true };
	int r = load_cipher(a, err);

	if (r < 0)
		return r;
	r = worker_call(draft_fn, &d);
	target.params = d.params;
	target.sectors = d.sectors;
	r = r < 0 ? err_sys(err, r, "make a key for %s", device)
		  : dm_open(a->dm, owner, &target, ret_node, err);
	explicit_bzero(d.params, sizeof(d.params));
	return r;
}
