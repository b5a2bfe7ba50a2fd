/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_VOLUMES_H
#define LCOW_GCS_VOLUMES_H

#include <stdbool.h>

struct err;
struct json_object;

/**
 * struct volumes - where directories that a container mounts are bound to until the runtime has
 * mounted them; free with volumes_clear()
 */
struct volumes {
	char **paths;
};

/** volumes_asked() - whether a spec mounts directories of the pod (sandbox://, sandbox-tmp://) */
bool volumes_asked(struct json_object *spec);

/**
 * volumes_fit() - give mounts whose source is in the VM that source
 * @spec:	changed in place: "uvm://<path>" becomes <path>, which must be there;
 *		"sandbox://<path>" and "sandbox-tmp://<path>" directories of the pod, made where
 *		they are missing, which every container may write to
 * @dir:	the pod's, for the latter two; NULL when volumes_asked() says no
 * @v:		what the mounts need while they are made
 *
 * Members may write to what is below @dir: a path cannot lead out of there, and what was found is
 * bound elsewhere at once, so that nobody can put something else in its place.
 *
 * Return: 0; -ERR_INVALID with text for what is not there; -ERR_UNIMPLEMENTED for hugepages://
 */
int volumes_fit(struct json_object *spec, const char *dir, struct volumes *v, struct err *err);

/** volumes_clear() - undo the binds, and zero it */
void volumes_clear(struct volumes *v);

#endif
