/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_SHIM_ARGS_H
#define LCOW_SHIM_ARGS_H

#include <stdbool.h>

struct err;

/**
 * struct shim_args - what containerd (or a person) asks of the shim; strings are argv's own
 * @action:	"start", "delete", "serve", "sweep"; NULL for none
 */
struct shim_args {
	const char *namespace;
	const char *id;
	const char *address;
	const char *publish_binary;
	const char *bundle;
	const char *socket;
	const char *action;
	bool debug;
	bool info;
	bool version;
	bool help;
};

/**
 * shim_args_parse() - flags with one or two dashes, "-flag value" or "-flag=value", then the action
 * Return: 0, or -ERR_INVALID; ids are checked, and that an action has what it needs
 */
int shim_args_parse(int argc, char **argv, struct shim_args *ret, struct err *err);

/** what -help prints */
extern const char shim_usage[];

#endif
