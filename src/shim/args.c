/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/args.h"

#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

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
		return err_set(err, -ERR_INVALID, "unknown flag %s", argv[*i]);
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
	if (a->info || a->version)
		return 0;
	if (!a->action)
		return err_set(err, -ERR_INVALID,
			       "an action is needed: start or delete (containerd gives it)");
	if (!str_eq(a->action, "start") && !str_eq(a->action, "delete") &&
	    !str_eq(a->action, "serve"))
		return err_set(err, -ERR_INVALID, "unknown action %s", a->action);
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
		a.action = argv[i];

	int r = check(&a, err);

	if (r == 0)
		*ret = a;
	return r;
}
