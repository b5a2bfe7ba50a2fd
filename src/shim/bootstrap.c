/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bootstrap.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "bootstrap.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "shim/args.h"
#include "wire/pb.h"

typedef Containerd__Runtime__Bootstrap__V1__BootstrapParams Params;
typedef Containerd__Runtime__Bootstrap__V1__BootstrapResult Result;

/* The extension whose type the configuration knows; others are skipped. */
static void take_options(const Params *p, struct bootstrap *b)
{
	for (size_t i = 0; i < p->n_extensions; i++) {
		Google__Protobuf__Any *any = p->extensions[i]->value;

		if (!pb_any_is(any, "runtimeoptions.v1.Options"))
			continue;
		google__protobuf__any__pack(any, buf_reserve(&b->options,
							     google__protobuf__any__get_packed_size(
								     any)));
		b->options.len = google__protobuf__any__get_packed_size(any);
		return;
	}
}

int bootstrap_parse(const struct shim_args *args, const void *data, size_t len,
		    struct bootstrap *ret, struct err *err)
{
	*ret = (struct bootstrap){ 0 };
	if (len == 0)
		return 0;

	Params *p = containerd__runtime__bootstrap__v1__bootstrap_params__unpack(NULL, len, data);

	if (p && str_eq(p->instance_id, args->id) && str_eq(p->namespace_, args->namespace)) {
		ret->params = true;
		ret->debug = (int32_t)p->log_level < 0;
		ret->socket_dir = str_empty(p->socket_dir) ? NULL : mem_strdup(p->socket_dir);
		ret->events = str_empty(p->containerd_ttrpc_address)
				      ? NULL
				      : mem_strdup(p->containerd_ttrpc_address);
		ret->grpc_address = str_empty(p->containerd_grpc_address)
					    ? NULL
					    : mem_strdup(p->containerd_grpc_address);
		take_options(p, ret);
		containerd__runtime__bootstrap__v1__bootstrap_params__free_unpacked(p, NULL);
		return 0;
	}
	if (p)
		containerd__runtime__bootstrap__v1__bootstrap_params__free_unpacked(p, NULL);

	Google__Protobuf__Any *any = google__protobuf__any__unpack(NULL, len, data);

	if (!any)
		return err_set(err, -ERR_INVALID,
			       "standard input is neither BootstrapParams nor google.protobuf.Any");
	google__protobuf__any__free_unpacked(any, NULL);
	buf_add(&ret->options, data, len);
	return 0;
}

void bootstrap_free(struct bootstrap *b)
{
	free(b->socket_dir);
	free(b->events);
	free(b->grpc_address);
	buf_free(&b->options);
	*b = (struct bootstrap){ 0 };
}

enum bootstrap_answer bootstrap_answer_form(const struct bootstrap *b, const char *max_shim_version,
					    const char *cwd)
{
	if (b->params)
		return ANSWER_PROTOBUF;
	if (!max_shim_version)
		return ANSWER_PLAIN;
	/* Nothing but the place of the bundle separates 1.7 from 2.x, and only 2.x lays sandboxes
	 * there. */
	if (strstr(cwd, "/io.containerd.sandbox.controller.v1.shim/"))
		return ANSWER_JSON_3;
	return ANSWER_JSON_2;
}

void bootstrap_answer_text(enum bootstrap_answer form, const char *address, struct buf *ret)
{
	if (form == ANSWER_PLAIN) {
		buf_addf(ret, "%s", address);
		return;
	}
	if (form != ANSWER_PROTOBUF) {
		buf_addf(ret, "{\"version\":%d,\"address\":\"%s\",\"protocol\":\"ttrpc\"}",
			 form == ANSWER_JSON_3 ? 3 : 2, address);
		return;
	}
	_cleanup_free_ char *owned = mem_strdup(address);
	char protocol[] = "ttrpc";
	Result r = CONTAINERD__RUNTIME__BOOTSTRAP__V1__BOOTSTRAP_RESULT__INIT;

	r.version = 3;
	r.address = owned;
	r.protocol = protocol;

	size_t len = containerd__runtime__bootstrap__v1__bootstrap_result__get_packed_size(&r);

	containerd__runtime__bootstrap__v1__bootstrap_result__pack(&r, buf_reserve(ret, len));
	ret->len += len;
}
