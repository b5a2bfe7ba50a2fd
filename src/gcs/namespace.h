/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_NAMESPACE_H
#define LCOW_GCS_NAMESPACE_H

#include <sys/types.h>

#include "loop/co.h"

struct err;

/*
 * Namespaces with a path (namespaces(7)): a file that the namespace is bound to, which keeps it for
 * as long as it is there, whoever is in it.
 */

/**
 * namespace_new() - make a namespace that nobody is in
 * @path:	a file made here
 * @kind:	CLONE_NEWNET, CLONE_NEWIPC or CLONE_NEWUTS
 * @setup:	runs in the namespace, on a worker thread: 0 or negative errno; NULL for none
 * @arg:	for @setup
 * @ret_fd:	its fd; NULL is fine
 *
 * Return: 0 or negative errno with text; then there is nothing at @path
 */
CO int namespace_new(const char *path, int kind, int (*setup)(void *arg), void *arg, int *ret_fd,
		     struct err *err);
/**
 * namespace_bind() - give a path to a namespace that a process is in
 * @kind:	as above, or CLONE_NEWPID
 *
 * It does not suspend: a process that was not reaped before is not another one here.
 *
 * Return: 0 or negative errno with text; then there is nothing at @path
 */
int namespace_bind(pid_t pid, int kind, const char *path, struct err *err);
/** namespace_free() - take away the path; the namespace ends with its last process and fd */
CO void namespace_free(const char *path);

#endif
