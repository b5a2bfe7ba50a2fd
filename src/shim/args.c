/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/args.h"

#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#define SEE_HELP "; containerd-shim-lcow-v2 --help tells what there is"

const char shim_usage[] =
	"containerd-shim-lcow-v2 runs each sandbox of containerd in a virtual machine. containerd "
	"starts it:\n"
	"\n"
	"  containerd-shim-lcow-v2 -namespace NS -id ID -address SOCKET [-debug] start\n"
	"        start the shim of the bundle in the current directory, print its address\n"
	"  containerd-shim-lcow-v2 -namespace NS -id ID -address SOCKET -bundle DIR delete\n"
	"        end what still runs of it, remove all that it has on the host\n"
	"\n"
	"For people:\n"
	"\n"
	"  containerd-shim-lcow-v2 sweep\n"
	"        remove scratch images that a crash or a power cut has left\n"
	"  containerd-shim-lcow-v2 -info\n"
	"        print what the runtime can do, as a protobuf RuntimeInfo\n"
	"  containerd-shim-lcow-v2 -v, -version\n"
	"  containerd-shim-lcow-v2 -h, -help, help\n"
	"\n"
	"To run a container: ctr run --runtime io.containerd.lcow.v2 IMAGE ID COMMAND\n"
	"More in containerd-shim-lcow-v2(8) and lcow.conf(5).\n";

static const struct flag {
	const char *name;
	size_t offset;
	bool has_value;
} flags[] = {
	{ "namespace", offsetof(struct shim_args, namespace), true },
	{ "id", offsetof(struct shim_args, id), true },
	{ "address", offsetof(struct shim_args, address), true },
	{ "publish-binary", offsetof(struct shim_args, publish_binary), true },
	{ "bundle", offsetof(struct shim_args, bundle), true },
	{ "socket", offsetof(struct shim_args, socket), true },
	{ "debug", offsetof(struct shim_args, debug), false },
	{ "info", offsetof(struct shim_args, info), false },
	{ "v", offsetof(struct shim_args, version), false },
	{ "version", offsetof(struct shim_args, version), false },
	{ "h", offsetof(struct shim_args, help), false },
	{ "help", offsetof(struct shim_args, help), false },
};

static const struct flag *find_flag(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0)
			return &flags[i];
	}
	return NULL;
}

/* Takes argv[*i] and, where its value stands apart, the next one. */
static int take_flag(int argc, char **argv, int *i, struct shim_args *a, struct err *err)
{
	const char *name = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
	const char *value = strchr(name, '=');
	const struct flag *f = find_flag(name, value ? (size_t)(value - name) : strlen(name));

	if (!f)
		return err_set(err, -ERR_INVALID, "unknown flag %s" SEE_HELP, argv[*i]);
	if (!f->has_value) {
		bool on = true;

		if (value && str_bool(value + 1, &on) < 0)
			return err_set(err, -ERR_INVALID, "flag %s takes true or false", argv[*i]);
		*(bool *)((char *)a + f->offset) = on;
		return 0;
	}
	if (!value && *i + 1 >= argc)
		return err_set(err, -ERR_INVALID, "flag %s needs a value", argv[*i]);
	*(const char **)(void *)((char *)a + f->offset) = value ? value + 1 : argv[++*i];
	return 0;
}

static int check(const struct shim_args *a, struct err *err)
{
	if (a->info || a->version || a->help)
		return 0;
	if (!a->action)
		return err_set(err, -ERR_INVALID,
			       "an action is needed: start or delete (containerd gives "
			       "it)" SEE_HELP);
	if (str_eq(a->action, "sweep"))
		return 0;
	if (!str_eq(a->action, "start") && !str_eq(a->action, "delete") &&
	    !str_eq(a->action, "serve"))
		return err_set(err, -ERR_INVALID, "unknown action %s" SEE_HELP, a->action);
	if (str_empty(a->namespace))
		return err_set(err, -ERR_INVALID, "shim namespace cannot be empty");
	if (!str_id_valid(a->namespace))
		return err_set(err, -ERR_INVALID, "namespace \"%s\" is not valid", a->namespace);
	if (!str_id_valid(a->id))
		return err_set(err, -ERR_INVALID,
			       "id \"%s\" is not valid: 1 to 128 of A-Z a-z 0-9 _ . # : @ -",
			       a->id ? a->id : "");
	return 0;
}

int shim_args_parse(int argc, char **argv, struct shim_args *ret, struct err *err)
{
	struct shim_args a = { 0 };
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		int r = take_flag(argc, argv, &i, &a, err);

		if (r < 0)
			return r;
	}
	if (i < argc)
		a.action = argv[i++];
	if (str_eq(a.action, "help"))
		a.help = true;
	if (i < argc && !a.help)
		return err_set(err, -ERR_INVALID,
			       "%s behind the action %s is one too many: flags stand before "
			       "it" SEE_HELP,
			       argv[i], a.action);

	int r = check(&a, err);

	if (r == 0)
		*ret = a;
	return r;
}
