/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_MODULE_H
#define LCOW_GCS_MODULE_H

#include "base/mem.h"
#include "loop/co.h"

struct err;

/**
 * struct modules - the kernel modules of this image, loaded on first need
 *
 * There is no modprobe: what is needed is read from modules.dep (see modules.dep(5)), and each
 * module goes to finit_module(2) after those that it depends on. Modules are not compressed.
 */
struct modules;

/**
 * modules_open() - remember where the modules are; nothing is read yet
 * @dir:	directory of modules.dep; NULL for /lib/modules/<release of the running kernel>
 */
struct modules *modules_open(const char *dir);
/** modules_free() - NULL is fine */
struct modules *modules_free(struct modules *m);

/**
 * modules_order() - what must be loaded for a module, dependencies first, itself last
 * @name:	module name; '-' and '_' are the same
 * @ret:	paths below the directory of modules.dep, a strv; NULL when the module is built into
 *		the kernel
 *
 * Return: 0, -ERR_NOT_FOUND when this image does not have it, or negative errno
 */
int modules_order(struct modules *m, const char *name, char ***ret, struct err *err);

/**
 * modules_load() - load a module and what it depends on, now; loaded ones cost nothing. Blocks: for
 * the time before the loop
 * Return: 0 or negative errno with text
 */
int modules_load(struct modules *m, const char *name, struct err *err);

/**
 * modules_by_alias() - the module that drives a device, by modules.alias (see modules.alias(5))
 * @modalias:	"pci:v00001B36d00000010sv…"
 * Return: its name, NULL when this image has none; the caller frees it
 */
char *modules_by_alias(struct modules *m, const char *modalias);

/**
 * modules_need() - the same from a coroutine, for several modules in turn; the loop goes on
 * meanwhile
 * @names:	NULL-terminated
 * Return: 0 or negative errno with text
 */
CO int modules_need(struct modules *m, const char *const *names, struct err *err);

#endif
