/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"
#include "shim/args.h"
#include "shim/shim.h"

static int print(const char *text, struct err *err)
{
	int r = fd_write_all(STDOUT_FILENO, text, strlen(text));

	return r < 0 ? err_sys(err, r, "write to standard output") : 0;
}

static int act(const struct shim_args *args, struct err *err)
{
	if (args->help)
		return print(shim_usage, err);
	if (args->version)
		return print("containerd-shim-lcow-v2 " LCOW_VERSION "\n", err);
	if (args->info)
		return shim_info(err);
	if (str_eq(args->action, "start"))
		return shim_start(args, err);
	if (str_eq(args->action, "serve"))
		return shim_serve(args, err);
	if (str_eq(args->action, "sweep"))
		return shim_sweep(err);
	return shim_delete(args, err);
}

int main(int argc, char **argv)
{
	struct shim_args args;
	struct err err = { 0 };
	int r = shim_args_parse(argc, argv, &args, &err);

	if (r == 0)
		r = act(&args, &err);
	if (r < 0) {
		fprintf(stderr, "containerd-shim-lcow-v2: %s\n", err.text);
		return 1;
	}
	return 0;
}
