/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_VOLUMES_H
#define LCOW_GCS_VOLUMES_H

#include <stdbool.h>

#include "loop/co.h"

struct err;
struct json_object;

/**
 * struct volumes - where directories that a container mounts are bound to until the runtime has
 * mounted them; free with volumes_clear()
 */
struct volumes {
	char **paths;
};

/**
 * enum volume_kind - what directories of a pod are made of
 * @VOLUME_PLAIN: memory (sandbox://, sandbox-tmp://)
 * @VOLUME_HUGE_2M: huge pages (hugepages://2M/)
 * @VOLUME_HUGE_1G: the same (hugepages://1G/)
 */
enum volume_kind { VOLUME_PLAIN, VOLUME_HUGE_2M, VOLUME_HUGE_1G, VOLUME_KINDS };

/** volumes_asked() - whether a spec mounts directories of the pod of a kind */
bool volumes_asked(struct json_object *spec, enum volume_kind kind);

/**
 * volumes_mount() - mount what directories of a kind are made of
 * @target:	the pod's, made and on failure removed
 * Return: 0; -ERR_INVALID with text for pages that the VM cannot have, -ERR_EXHAUSTED when it has
 * none; or negative errno with text
 */
CO int volumes_mount(enum volume_kind kind, const char *target, struct err *err);

/**
 * volumes_fit() - give mounts whose source is in the VM that source
 * @spec:	changed in place: "uvm://<path>" becomes <path>, which must be there;
 *		"sandbox://<path>", "sandbox-tmp://<path>" and "hugepages://<size>/<path>"
 *		directories of the pod, made where they are missing, which every container may write
 *		to; a mount to "blockdev://<path>", whose source must be a disk that was mapped so,
 *		one of the disk's node to <path>, with a rule that lets the container use it
 * @dirs:	the pod's, where volumes_asked()
 * @v:		what the mounts need while they are made
 *
 * Members may write to what is below @dirs: a path cannot lead out of there, and what was found is
 * bound elsewhere at once, so that nobody can put something else in its place.
 *
 * Return: 0, or -ERR_INVALID with text for what is not there
 */
int volumes_fit(struct json_object *spec, const char *const dirs[VOLUME_KINDS], struct volumes *v,
		struct err *err);

/** volumes_clear() - undo the binds, and zero it */
void volumes_clear(struct volumes *v);

#endif
