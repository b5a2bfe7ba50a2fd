/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcow.conf, and the table of runtime options: whatever the text, it is read or refused with its
 * line, and a refused text leaves a configuration that can be freed. The first byte says which
 * of the two it is.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "runtimeoptions.pb-c.h"
#include "shim/config.h"
#include "wire/pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int read_table(struct shim_config *c, const uint8_t *data, size_t len, struct err *err)
{
	_cleanup_pb_ Runtimeoptions__V1__Options *o =
		pb_new(&runtimeoptions__v1__options__descriptor);
	_cleanup_pb_ Google__Protobuf__Any *any = NULL;
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t any_len;

	pb_bytes(&o->config_body, data, len);
	any = pb_any(o);
	bytes = pb_pack(any, &any_len);
	return shim_config_options(c, bytes, any_len, err);
}

/* What the rest of the shim relies on. */
static void check(const struct shim_config *c)
{
	if (c->run_dir[0] != '/' || c->scratch_dir[0] != '/' || c->boot_files[0] != '/' ||
	    !*c->qemu || c->cpus < 1 || c->memory_mb < 64 || c->scratch_bytes < 16 << 20)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	_cleanup_free_ char *text = NULL;
	struct shim_config c;
	struct err err = { 0 };
	int r;

	if (len < 1)
		return 0;
	log_init(-EBADF, LOG_ERROR);
	shim_config_init(&c);
	text = mem_strndup((const char *)data + 1, len - 1);
	if (data[0] == 't')
		r = read_table(&c, data + 1, len - 1, &err);
	else
		r = shim_config_text(&c, "lcow.conf", text, data[0] == 'h', &err);
	if (r < 0 && !err.text[0])
		abort();
	check(&c);
	/* What contradicts itself was refused. */
	if (r >= 0 &&
	    (c.memory_mb > shim_config_max_memory_mb(&c) || c.cpus > shim_config_max_cpus(&c)))
		abort();
	if (data[0] != 'h' &&
	    (!str_eq(c.run_dir, "/run/lcow") || !str_eq(c.scratch_dir, "/var/lib/lcow")))
		abort();
	shim_config_free(&c);
	return 0;
}
