/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/module.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/worker.h"

enum { INDEX_MAX = 4 << 20 };

struct modules {
	char *dir;
	char *dep; /* text of modules.dep, read at the first need */
	char *builtin; /* text of modules.builtin */
	char **loaded; /* names that need no more thought */
	struct co_mutex lock;
};

struct modules *modules_open(const char *dir)
{
	struct modules *m = NEW0(struct modules);
	struct utsname u;

	if (dir) {
		m->dir = mem_strdup(dir);
	} else {
		uname(&u);
		m->dir = str_printf("/lib/modules/%s", u.release);
	}
	co_mutex_init(&m->lock);
	return m;
}

struct modules *modules_free(struct modules *m)
{
	if (!m)
		return NULL;
	free(m->dir);
	free(m->dep);
	free(m->builtin);
	strv_free(m->loaded);
	free(m);
	return NULL;
}

/* Whether the file "kernel/fs/foo-bar.ko" is the module "foo_bar". */
static bool path_is(const char *path, size_t len, const char *name)
{
	const char *base = memrchr(path, '/', len);
	size_t i;

	if (base) {
		len -= (size_t)(base + 1 - path);
		path = base + 1;
	}
	for (i = 0; i < len && name[i]; i++) {
		char a = path[i] == '-' ? '_' : path[i];
		char b = name[i] == '-' ? '_' : name[i];

		if (a != b)
			return false;
	}
	return !name[i] && len - i == 3 && memcmp(path + i, ".ko", 3) == 0;
}

static int read_index(struct modules *m, struct err *err)
{
	_cleanup_free_ char *dep_path = str_printf("%s/modules.dep", m->dir);
	_cleanup_free_ char *builtin_path = str_printf("%s/modules.builtin", m->dir);
	int r;

	if (m->dep)
		return 0;
	r = file_read(dep_path, INDEX_MAX, &m->dep, NULL);
	if (r < 0)
		return err_sys(err, r, "read %s", dep_path);
	/* An image may come without the list of what is built in. */
	r = file_read(builtin_path, INDEX_MAX, &m->builtin, NULL);
	if (r < 0)
		m->builtin = mem_strdup("");
	return 0;
}

static bool is_builtin(const struct modules *m, const char *name)
{
	for (const char *p = m->builtin; *p;) {
		size_t len = strcspn(p, "\n");

		if (path_is(p, len, name))
			return true;
		p += len + (p[len] == '\n');
	}
	return false;
}

/*
 * modules.dep names all dependencies of a module, the indirect ones too, in an order where each one
 * comes before those that it depends on itself: loaded from the last to the first.
 */
int modules_order(struct modules *m, const char *name, char ***ret, struct err *err)
{
	int r = read_index(m, err);

	if (r < 0)
		return r;
	for (const char *p = m->dep; *p;) {
		size_t line = strcspn(p, "\n");
		size_t path = strcspn(p, ":\n");

		if (path < line && path_is(p, path, name)) {
			_cleanup_free_ char *deps = mem_strndup(p + path + 1, line - path - 1);
			_cleanup_strv_ char **list = strv_split(deps, " \t");
			_cleanup_free_ char *own = mem_strndup(p, path);
			char **order = NULL;

			for (size_t i = strv_len(list); i > 0; i--)
				strv_add(&order, list[i - 1]);
			strv_add(&order, own);
			*ret = order;
			return 0;
		}
		p += line + (p[line] == '\n');
	}
	if (is_builtin(m, name)) {
		*ret = NULL;
		return 0;
	}
	return err_set(err, -ERR_NOT_FOUND, "kernel module %s is not in %s", name, m->dir);
}

char *modules_by_alias(struct modules *m, const char *modalias)
{
	_cleanup_free_ char *path = str_printf("%s/modules.alias", m->dir);
	_cleanup_free_ char *text = NULL;
	char *rest;

	if (str_empty(modalias) || file_read(path, INDEX_MAX, &text, NULL) < 0)
		return NULL;
	rest = text;
	for (char *line; (line = strsep(&rest, "\n"));) {
		char *pattern = str_starts(line, "alias ") ? line + strlen("alias ") : NULL;
		char *name = pattern ? strchr(pattern, ' ') : NULL;

		if (!name)
			continue;
		*name++ = '\0';
		if (fnmatch(pattern, modalias, 0) == 0)
			return mem_strdup(name);
	}
	return NULL;
}

/*
 * Scanning asks each of 256 targets of each SCSI controller: 0.3 s on an emulated CPU. Nothing lies
 * there before the host says so, and then scsi.c asks for that one disk.
 */
static const char *parameters_of(const char *path)
{
	return path_is(path, strlen(path), "scsi_mod") ? "scan=manual" : "";
}

static int insert(const struct modules *m, const char *path, struct err *err)
{
	_cleanup_free_ char *full =
		path[0] == '/' ? mem_strdup(path) : str_printf("%s/%s", m->dir, path);
	_cleanup_fd_ int fd = open(full, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, -errno, "open %s", full);
	if (syscall(SYS_finit_module, fd, parameters_of(path), 0) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "load %s", full);
	return 0;
}

int modules_load(struct modules *m, const char *name, struct err *err)
{
	_cleanup_free_ char *seen = str_printf("/sys/module/%s", name);
	_cleanup_strv_ char **order = NULL;
	int r;

	if (strv_has(m->loaded, name))
		return 0;
	for (char *c = seen; *c; c++)
		if (*c == '-')
			*c = '_';
	/* A module built in shows itself only if it has parameters, hence the look into
	 * modules.builtin after this. */
	if (access(seen, F_OK) < 0) {
		r = modules_order(m, name, &order, err);
		if (r < 0)
			return r;
		for (char **p = order; p && *p; p++) {
			if (strv_has(m->loaded, *p))
				continue;
			r = insert(m, *p, err);
			if (r < 0)
				return r;
			strv_add(&m->loaded, *p);
		}
	}
	strv_add(&m->loaded, name);
	return 0;
}

struct need {
	struct modules *modules;
	const char *const *names;
	struct err *err;
};

static int need_fn(void *arg)
{
	struct need *n = arg;

	for (const char *const *name = n->names; *name; name++) {
		int r = modules_load(n->modules, *name, n->err);

		if (r < 0)
			return r;
	}
	return 0;
}

int modules_need(struct modules *m, const char *const *names, struct err *err)
{
	struct need need = { .modules = m, .names = names, .err = err };
	bool all = true;

	CO_LOCK(&m->lock);
	for (const char *const *name = names; *name; name++)
		all = all && strv_has(m->loaded, *name);
	if (all)
		return 0;
	return worker_call(need_fn, &need);
}
