/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_PROGRAM_H
#define LCOW_VMM_PROGRAM_H

struct err;

/**
 * program_find() - absolute path of a program, symlinks resolved, looked up in PATH unless it has a
 * slash; NULL when there is none; the caller frees it
 */
char *program_find(const char *name);
/** program_missing() - Return: -ERR_UNAVAILABLE, with a text that says what to do */
int program_missing(const char *name, struct err *err);

#endif
