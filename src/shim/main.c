/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/err.h"
#include "base/str.h"
#include "shim/args.h"
#include "shim/shim.h"

static int act(const struct shim_args *args, struct err *err)
{
	if (args->info)
		return shim_info(err);
	if (str_eq(args->action, "start"))
		return shim_start(args, err);
	if (str_eq(args->action, "serve"))
		return shim_serve(args, err);
	return shim_delete(args, err);
}

int main(int argc, char **argv)
{
	struct shim_args args;
	struct err err = { 0 };
	int r = shim_args_parse(argc, argv, &args, &err);

	if (r == 0 && args.version) {
		printf("containerd-shim-lcow-v2 %s\n", LCOW_VERSION);
		return 0;
	}
	if (r == 0)
		r = act(&args, &err);
	if (r < 0) {
		fprintf(stderr, "containerd-shim-lcow-v2: %s\n", err.text);
		return 1;
	}
	return 0;
}
