/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SHIM_SCRATCH_H
#define LCOW_SHIM_SCRATCH_H

#include <stdint.h>
#include <time.h>

struct err;

/*
 * Scratch images: <scratch_dir>/lcow-<key>/<container>.img, key as in shim/rundir.h.
 *
 * The record of a sandbox is in its run directory, which a reboot empties, while its images are on
 * disk and stay. So the shim holds a lock (flock(2)) on its directory as long as it lives, and a
 * directory of this name that nobody has locked belongs to nobody, whatever the run directory that
 * it was recorded in.
 */

/** prefix of a sandbox's directory below scratch_dir */
#define SCRATCH_PREFIX "lcow-"

/**
 * scratch_open() - make a sandbox's directory of scratch images and lock it
 * @path:	the directory; what is missing above it is made, too
 * @ret_lock:	holds the lock until it is closed, which no program that is started inherits; -EBADF
 *		on a file system without locks, which scratch_sweep() leaves alone
 *
 * A sweep that comes between the making and the locking may remove it: it is made again then.
 *
 * Return: 0, or a negative code with a text that names the key of lcow.conf
 */
int scratch_open(const char *path, int *ret_lock, struct err *err);

/**
 * scratch_remove() - lock a sandbox's directory and remove it with all that is in it
 *
 * What cannot be there (above it is a file, or the file system is read-only) is gone.
 *
 * Return: 0, -EBUSY when it stays locked for 2 s, or another negative errno
 */
int scratch_remove(const char *path);

/**
 * struct scratch_swept - what a sweep did
 * @directories: removed
 * @bytes:	of disk that their images had
 * @failed:	first failure, a negative errno; 0 for none
 */
struct scratch_swept {
	unsigned directories;
	uint64_t bytes;
	int failed;
};

/**
 * scratch_sweep() - remove images of sandboxes that have ended without being cleaned up
 * @scratch_dir: where to look; absent is fine
 * @booted:	when the host did. Shims of versions before the lock made "<key>": such a directory
 *		is removed when it was last changed before that
 * @until:	begin with no further directory after that, time_mono(); USEC_NEVER for all
 *
 * Only directories of our own are looked at, which nobody has locked, and whose images no QEMU has
 * locked either; only images in them are removed, and the directory when it is empty then.
 */
void scratch_sweep(const char *scratch_dir, time_t booted, uint64_t until,
		   struct scratch_swept *ret);

/** scratch_sweep_host() - scratch_sweep() with the host's time of boot */
void scratch_sweep_host(const char *scratch_dir, uint64_t until, struct scratch_swept *ret);

/** scratch_log() - log what a sweep did, if anything; apart from it, for workers must not log */
void scratch_log(const char *scratch_dir, const struct scratch_swept *swept);

#endif
