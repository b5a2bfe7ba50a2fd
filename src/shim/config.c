/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "google/protobuf/any.pb-c.h"
#include "runtimeoptions.pb-c.h"

enum { CONFIG_MAX = 64 << 10 };

/*
 * What a VM may grow to when nobody says. The guest pays 284 KiB for each CPU that may come and,
 * from some dozens on, time to boot. Room for memory costs nothing, but has to fit with the VM's
 * devices into the 1 TiB that QEMU's default CPU addresses.
 */
enum { DEFAULT_CPUS_MAX = 32, DEFAULT_MEMORY_MAX_MB = 512 << 10 };

static const char host_path[] = LCOW_CONFIG_FILE;

void shim_config_init(struct shim_config *c)
{
	*c = (struct shim_config){
		.run_dir = mem_strdup("/run/lcow"),
		.scratch_dir = mem_strdup("/var/lib/lcow"),
		.boot_files = mem_strdup(LCOW_BOOT_FILES),
		.qemu = mem_strdup("qemu-system-x86_64"),
		.vhost_device_vsock = mem_strdup("vhost-device-vsock"),
		.log_level = LOG_INFO,
		.memory_mb = 512,
		.overhead_mb = 128,
		.scratch_bytes = 10ull << 30,
		.cpus = 1,
		.qemu_uid = 65534,
		.qemu_gid = 65534,
	};
}

void shim_config_free(struct shim_config *c)
{
	free(c->run_dir);
	free(c->scratch_dir);
	free(c->boot_files);
	free(c->qemu);
	free(c->vhost_device_vsock);
	free(c->kernel_args);
	*c = (struct shim_config){ 0 };
}

uint64_t shim_config_max_memory_mb(const struct shim_config *c)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t mb = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size >> 20 : 0;

	if (c->max_memory_mb)
		return c->max_memory_mb;
	mb = mb < DEFAULT_MEMORY_MAX_MB ? mb : DEFAULT_MEMORY_MAX_MB;
	return mb > c->memory_mb ? mb : c->memory_mb;
}

unsigned shim_config_max_cpus(const struct shim_config *c)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = online < DEFAULT_CPUS_MAX ? (unsigned)online : DEFAULT_CPUS_MAX;

	if (c->max_cpus)
		return c->max_cpus;
	return online > 0 && n > c->cpus ? n : c->cpus;
}

/* ---- one setter per kind of value; each says what it would have taken ---- */

static const char *set_path(void *to, const char *value)
{
	size_t len = strlen(value);

	if (value[0] != '/' || strstr(value, "/../") || (len > 2 && str_eq(value + len - 3, "/..")))
		return "an absolute path without ..";
	str_set(to, value);
	return NULL;
}

static const char *set_program(void *to, const char *value)
{
	if (!*value)
		return "a program";
	str_set(to, value);
	return NULL;
}

static const char *set_text(void *to, const char *value)
{
	str_set(to, value);
	return NULL;
}

static const char *set_accel(void *to, const char *value)
{
	static const char *const names[] = { "auto", "kvm", "tcg" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (str_eq(value, names[i])) {
			*(enum vm_accel *)to = (enum vm_accel)i;
			return NULL;
		}
	}
	return "auto, kvm or tcg";
}

static const char *set_transport(void *to, const char *value)
{
	static const char *const names[] = { "auto", "serial", "vhost-vsock", "vhost-user-vsock" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (str_eq(value, names[i])) {
			*(enum vm_transport *)to = (enum vm_transport)i;
			return NULL;
		}
	}
	return "auto, serial, vhost-vsock or vhost-user-vsock";
}

static const char *set_upper(void *to, const char *value)
{
	enum rootfs_upper *upper = to;

	if (!str_eq(value, "guest") && !str_eq(value, "host"))
		return "guest or host";
	*upper = str_eq(value, "host") ? ROOTFS_UPPER_HOST : ROOTFS_UPPER_GUEST;
	return NULL;
}

static const char *set_level(void *to, const char *value)
{
	return log_level_parse(value, to) < 0 ? "trace, debug, info, warn or error" : NULL;
}

static const char *set_memory(void *to, const char *value)
{
	uint64_t bytes;

	if (str_size(value, &bytes) < 0 || bytes < 64ull << 20 || bytes > 64ull << 40)
		return "a size from 64M on without a blank, such as 512M";
	*(uint64_t *)to = bytes >> 20;
	return NULL;
}

static const char *set_overhead(void *to, const char *value)
{
	uint64_t bytes;

	if (str_size(value, &bytes) < 0 || bytes < 32ull << 20 || bytes > 64ull << 30)
		return "a size from 32M to 64G without a blank, such as 128M";
	*(uint64_t *)to = bytes >> 20;
	return NULL;
}

static const char *set_scratch(void *to, const char *value)
{
	uint64_t bytes;

	if (str_size(value, &bytes) < 0 || bytes < 16ull << 20 || bytes > 16ull << 40)
		return "a size from 16M on without a blank, such as 10G";
	*(uint64_t *)to = bytes & ~4095ull;
	return NULL;
}

static const char *set_iops(void *to, const char *value)
{
	uint64_t n;

	if (str_u64(value, &n) < 0 || n > INT32_MAX)
		return "a number of requests per second up to 2147483647, or 0 for no limit";
	*(uint64_t *)to = n;
	return NULL;
}

static const char *set_bandwidth(void *to, const char *value)
{
	uint64_t bytes;

	if (str_size(value, &bytes) < 0 || bytes > 1ull << 40)
		return "a size per second up to 1T without a blank, such as 100M, or 0 for no "
		       "limit";
	*(uint64_t *)to = bytes;
	return NULL;
}

static const char *set_cpus(void *to, const char *value)
{
	uint64_t n;

	if (str_u64(value, &n) < 0 || n < 1 || n > 255)
		return "a number from 1 to 255";
	*(unsigned *)to = (unsigned)n;
	return NULL;
}

static const char *set_bool(void *to, const char *value)
{
	return str_bool(value, to) < 0 ? "true or false" : NULL;
}

static const char *set_user(void *to, const char *value)
{
	struct shim_config *c = CONTAINER_OF(to, struct shim_config, qemu_uid);
	uint64_t id;

	if (str_u64(value, &id) == 0 && id < UINT32_MAX) {
		c->qemu_uid = (uid_t)id;
		c->qemu_gid = (gid_t)id;
		return NULL;
	}
	const struct passwd *pw = getpwnam(value);

	if (!pw)
		return "a user name that exists, or a number";
	c->qemu_uid = pw->pw_uid;
	c->qemu_gid = pw->pw_gid;
	return NULL;
}

/**
 * struct key - a row of the configuration
 * @host_only:	start and delete must agree on it, or it is the operator's to allow: only the host's
 *		file may set it
 */
struct key {
	const char *name;
	const char *(*set)(void *to, const char *value);
	size_t offset;
	bool host_only;
};

#define ROW(name, set, member, ...) \
	{ \
		name, set, offsetof(struct shim_config, member), __VA_ARGS__ \
	}

static const struct key keys[] = {
	ROW("run_dir", set_path, run_dir, true),
	ROW("scratch_dir", set_path, scratch_dir, true),
	ROW("boot_files", set_path, boot_files, false),
	ROW("qemu", set_program, qemu, false),
	ROW("vhost_device_vsock", set_program, vhost_device_vsock, false),
	ROW("kernel_args", set_text, kernel_args, false),
	ROW("accel", set_accel, accel, false),
	ROW("transport", set_transport, transport, false),
	ROW("upper", set_upper, upper, false),
	ROW("log_level", set_level, log_level, false),
	ROW("memory", set_memory, memory_mb, false),
	ROW("max_memory", set_memory, max_memory_mb, false),
	ROW("overhead", set_overhead, overhead_mb, false),
	ROW("scratch", set_scratch, scratch_bytes, false),
	ROW("storage_iops", set_iops, storage_iops, false),
	ROW("storage_bandwidth", set_bandwidth, storage_bandwidth, false),
	ROW("cpus", set_cpus, cpus, false),
	ROW("max_cpus", set_cpus, max_cpus, false),
	ROW("qemu_user", set_user, qemu_uid, false),
	ROW("deny_writable_shares", set_bool, deny_writable_shares, false),
	ROW("emulated_devices", set_bool, emulated_devices, true),
};

/**
 * enum source - where a text came from
 * @HOST_FILE:	the host's own file: may set everything
 * @OPTIONS_FILE: a file that runtime options name
 * @OPTIONS_TABLE: the table of runtime options itself, TOML: no section, quoted strings,
 *		containerd's own two keys
 */
enum source { HOST_FILE, OPTIONS_FILE, OPTIONS_TABLE };

/**
 * struct reading - a text being read
 * @section:	of the line, borrowed from the text; "" before the first
 * @line:	its number, from 1
 * @set_in:	the line that set each of keys[], 0 for none
 * @why:	what was wrong
 */
struct reading {
	struct shim_config *config;
	enum source source;
	const char *section;
	unsigned line;
	unsigned set_in[ARRAY_SIZE(keys)];
	char why[512];
};

static bool refuse(struct reading *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct reading *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	return false;
}

static bool set_pair(struct reading *r, const char *name, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!str_eq(name, keys[i].name))
			continue;
		if (keys[i].host_only && r->source != HOST_FILE)
			return refuse(r, "%s can only be set in the host's configuration", name);
		if (r->set_in[i] > 0)
			return refuse(r, "%s is set in line %u already", name, r->set_in[i]);

		const char *want = keys[i].set((char *)r->config + keys[i].offset, value);

		if (want)
			return refuse(r, "%s = %.200s: %s is wanted", name, value, want);
		r->set_in[i] = r->line;
		return true;
	}
	return refuse(r, "unknown key %.200s; lcow.conf(5) has them all", name);
}

static bool is_set(const struct reading *r, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (str_eq(name, keys[i].name))
			return r->set_in[i] > 0;
	}
	return false;
}

/* Values that are right, but not together. The default of overhead may be more than a small VM has,
 * in which containers without limits run all the same. */
static bool check_together(struct reading *r)
{
	const struct shim_config *c = r->config;

	if (c->max_memory_mb && c->memory_mb > c->max_memory_mb)
		return refuse(r, "memory = %" PRIu64 "M is above max_memory = %" PRIu64 "M",
			      c->memory_mb, c->max_memory_mb);
	if (c->max_cpus && c->cpus > c->max_cpus)
		return refuse(r, "cpus = %u is above max_cpus = %u", c->cpus, c->max_cpus);
	if (is_set(r, "overhead") && c->max_memory_mb && c->overhead_mb >= c->max_memory_mb)
		return refuse(r,
			      "overhead = %" PRIu64 "M leaves nothing of max_memory = %" PRIu64
			      "M to containers",
			      c->overhead_mb, c->max_memory_mb);
	return true;
}

/* ---- the text ---- */

static char *trim(char *s)
{
	s += strspn(s, " \t\r");
	for (char *end = s + strlen(s); end > s && strchr(" \t\r", end[-1]); end--)
		end[-1] = '\0';
	return s;
}

/*
 * Ends @value where a comment begins: at one of @marks behind a blank, as in "cpus = 2 ; two", but
 * not within double quotes, which the kernel has for its arguments, too.
 */
static void cut_comment(char *value, const char *marks)
{
	bool quoted = false;

	for (char *p = value; *p; p++) {
		quoted ^= *p == '"';
		if (!quoted && strchr(marks, *p) && (p == value || p[-1] == ' ' || p[-1] == '\t')) {
			*p = '\0';
			trim(value);
			return;
		}
	}
}

/*
 * A value in quotes: 'as it is', or "with \" and \\". In place; behind it may be a comment only.
 * What no quotes begin is a bare one.
 */
static bool unquote(char *value, const char *marks)
{
	char quote = *value, *to = value, *from = value + 1;

	if (quote != '"' && quote != '\'') {
		cut_comment(value, marks);
		return true;
	}
	for (; *from && *from != quote; from++) {
		if (quote == '"' && *from == '\\' && *++from != '"' && *from != '\\')
			return false;
		*to++ = *from;
	}
	if (*from != quote)
		return false;
	*to = '\0';
	from = trim(from + 1);
	return *from == '\0' || strchr(marks, *from);
}

static bool take_pair(struct reading *r, const char *name, char *value)
{
	bool table = r->source == OPTIONS_TABLE;

	if (!unquote(value, table ? "#" : "#;"))
		return refuse(r,
			      "%s: a value that begins with a quote ends with it; only a comment "
			      "may "
			      "follow, and within double quotes \\ stands before \" and \\ only",
			      name);
	if (table && (str_eq(name, "TypeUrl") || str_eq(name, "ConfigPath")))
		return true;
	return set_pair(r, name, value);
}

static bool take_line(struct reading *r, char *line)
{
	bool table = r->source == OPTIONS_TABLE;
	char *value = strchr(line, '=');
	size_t len = strlen(line);

	if (len == 0 || *line == '#' || (*line == ';' && !table))
		return true;
	if (*line == '[' && line[len - 1] == ']' && !table) {
		line[len - 1] = '\0';
		r->section = trim(line + 1);
		return str_eq(r->section, "lcow") || refuse(r, "unknown section; [lcow] is meant");
	}
	if (!value || value == line)
		return refuse(r, "%s",
			      table ? "name = value is wanted"
				    : "neither [section] nor name = value");
	if (!table && !*r->section)
		return refuse(r, "section [lcow] is missing before it");
	*value = '\0';
	return take_pair(r, trim(line), trim(value + 1));
}

static int read_text(struct shim_config *c, const char *name, const char *text, enum source source,
		     struct err *err)
{
	static const char bom[] = "\xEF\xBB\xBF";
	_cleanup_free_ char *copy = mem_strdup(str_starts(text, bom) ? text + strlen(bom) : text);
	struct reading r = { .config = c, .source = source, .section = "" };
	char *rest = copy;

	while (rest) {
		char *line = strsep(&rest, "\n");

		r.line++;
		if (!take_line(&r, trim(line)))
			return err_set(err, -ERR_INVALID, "%s, line %u: %s", name, r.line, r.why);
	}
	if (!check_together(&r))
		return err_set(err, -ERR_INVALID, "%s: %s", name, r.why);
	return 0;
}

int shim_config_text(struct shim_config *c, const char *name, const char *text, bool host,
		     struct err *err)
{
	return read_text(c, name, text, host ? HOST_FILE : OPTIONS_FILE, err);
}

static int read_file(struct shim_config *c, const char *path, enum source source, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(path, CONFIG_MAX, &text, &len);

	if (r == -ENOENT)
		return err_sys(err, r, "configuration %s", path);
	if (r < 0)
		return err_set(err, -ERR_INVALID, "configuration %s: %s", path, strerror(-r));
	if (strlen(text) != len)
		return err_set(err, -ERR_INVALID, "configuration %s is no text", path);
	return read_text(c, path, text, source, err);
}

int shim_config_host(struct shim_config *c, struct err *err)
{
	const char *path = getenv("LCOW_CONFIG");

	int r = read_file(c, path ? path : host_path, HOST_FILE, err);

	/* Only the file that nobody named may be missing. */
	if (r == -ENOENT)
		return path ? -ERR_INVALID : 0;
	return r;
}

int shim_config_options(struct shim_config *c, const void *packed, size_t len, struct err *err)
{
	Google__Protobuf__Any *any = google__protobuf__any__unpack(NULL, len, packed);
	int r = 0;

	if (!any)
		return err_set(err, -ERR_INVALID, "runtime options are no google.protobuf.Any");
	if (str_eq(any->type_url, "runtimeoptions.v1.Options") ||
	    str_eq(any->type_url, "types.containerd.io/runtimeoptions.v1.Options")) {
		Runtimeoptions__V1__Options *o =
			runtimeoptions__v1__options__unpack(NULL, any->value.len, any->value.data);

		if (!o) {
			r = err_set(err, -ERR_INVALID,
				    "runtime options of type %s cannot be decoded", any->type_url);
		} else if (!str_empty(o->config_path)) {
			r = read_file(c, o->config_path, OPTIONS_FILE, err);
			r = r == -ENOENT ? -ERR_INVALID : r;
		} else if (o->config_body.len > CONFIG_MAX) {
			r = err_set(err, -ERR_INVALID, "runtime options are over %d bytes",
				    CONFIG_MAX);
		} else if (o->config_body.len > 0) {
			_cleanup_free_ char *text =
				mem_strndup((const char *)o->config_body.data, o->config_body.len);

			r = read_text(c, "runtime options", text, OPTIONS_TABLE, err);
		}
		if (o)
			runtimeoptions__v1__options__free_unpacked(o, NULL);
	}
	google__protobuf__any__free_unpacked(any, NULL);
	return r;
}
