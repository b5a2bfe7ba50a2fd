/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_CONTROLLER_RESOURCES_H
#define LCOW_CONTROLLER_RESOURCES_H

#include <stdbool.h>

struct claim_size;
struct err;
struct json_object;

/*
 * A container's linux.resources, as the OCI runtime specification has them.
 */

/**
 * resources_size() - check the types of what is known, and read what it asks of the VM
 * @resources:	JSON object; NULL asks for nothing
 * @size:	only what is given changes; a limit below 0 is no limit
 *
 * Return: 0, or -ERR_INVALID naming the member by its path; @size is then untouched
 */
int resources_size(struct json_object *resources, struct claim_size *size, struct err *err);

/**
 * resources_of_pod() - what CRI says that the containers of a pod will ask for together
 * @annotations: of its sandbox container
 * @size:	only what is given, and is a number above 0, changes
 *
 * Return: whether anything was given
 */
bool resources_of_pod(struct json_object *annotations, struct claim_size *size);

/**
 * resources_for_guest() - a copy without what names devices of the host
 * Return: one reference
 */
struct json_object *resources_for_guest(struct json_object *resources);

#endif
