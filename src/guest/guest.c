/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/uuid.h"
#include "guest/private.h"
#include "wire/json.h"

enum { PORT_TRIES = 64 };

/**
 * reachable() - whether a request can be made; before the end of the negotiation nothing else is
 * said
 */
static int reachable(const struct guest *g, uint32_t type, struct err *err)
{
	if (!g->bridge || (!g->connected && bridge_alive(g->bridge) && type != GCS_NEGOTIATE))
		return err_set(err, -ERR_UNAVAILABLE, "guest: not connected");
	return 0;
}

int guest_call(struct guest *g, uint32_t type, const char *id, struct gcs_base *base,
	       const struct json_table *table, const void *request,
	       const struct json_table *reply_table, void *reply, struct err *err)
{
	int r = reachable(g, type, err);

	if (r < 0)
		return r;
	base->container_id = mem_strdup(id ? id : UUID_NULL);
	r = bridge_call(g->bridge, type, table, request, reply_table, reply, err);
	free(TAKE_PTR(base->container_id));
	return r;
}

int guest_begin(struct guest *g, struct bridge_pending *p, uint32_t type, const char *id,
		struct gcs_base *base, const struct json_table *table, const void *request,
		struct err *err)
{
	int r = reachable(g, type, err);

	if (r < 0)
		return r;
	base->container_id = mem_strdup(id ? id : UUID_NULL);
	r = bridge_begin(g->bridge, p, type, table, request, err);
	free(TAKE_PTR(base->container_id));
	return r;
}

int guest_listen_any(struct guest *g, const struct port_spec *spec, struct port **ret,
		     uint32_t *ret_number, struct err *err)
{
	int r = -EADDRINUSE;

	/* On some transports the ports are shared with other programs of the host. */
	for (int i = 0; i < PORT_TRIES && r == -EADDRINUSE; i++) {
		uint32_t number = g->next_port++;

		if (g->next_port == UINT32_MAX)
			g->next_port = GCS_PORT_STDIO;
		r = port_listen(g->channel, number, spec, ret, err);
		if (r >= 0)
			*ret_number = number;
	}
	return r;
}

/** call_bare() - guest_call() for an answer that says no more than success */
static int call_bare(struct guest *g, uint32_t type, const char *id, struct gcs_base *base,
		     const struct json_table *table, const void *request, struct err *err)
{
	struct gcs_reply reply = { 0 };
	int r = guest_call(g, type, id, base, table, request, &gcs_reply_table, &reply, err);

	json_free(&gcs_reply_table, &reply);
	return r;
}

/** call_simple() - for a request that names a container and no more */
static int call_simple(struct guest *g, uint32_t type, const char *id, struct err *err)
{
	struct gcs_simple_request request = { 0 };

	return call_bare(g, type, id, &request.base, &gcs_simple_request_table, &request, err);
}

int guest_modify(struct guest *g, const char *container, const char *request, const char *resource,
		 const struct json_table *table, const void *settings, struct err *err)
{
	_cleanup_free_ char *request_type = mem_strdup(request),
			    *resource_type = mem_strdup(resource);
	_cleanup_json_ struct json_object *object = NULL;
	struct gcs_modify_request m = { .request = { request_type, resource_type, NULL } };
	int r;

	if (settings) {
		_cleanup_free_ char *text = json_encode(table, settings);

		r = json_parse(text, strlen(text), &object, err);
		if (r < 0)
			return err_wrap(err, r, "%s", resource);
		m.request.settings = object;
	}
	r = call_bare(g, GCS_MODIFY_SETTINGS, container, &m.base, &gcs_modify_request_table, &m,
		      err);
	return r < 0 ? err_wrap(err, r, "%s %s", request, resource) : 0;
}

int guest_create(struct guest *g, const char *id, const struct gcs_container_config *config,
		 struct err *err)
{
	struct gcs_container_config borrowed = *config;
	struct gcs_create_request request = { .config = &borrowed };
	struct gcs_create_reply reply = { 0 };
	int r;

	r = guest_call(g, GCS_CREATE, id, &request.base, &gcs_create_request_table, &request,
		       &gcs_create_reply_table, &reply, err);
	json_free(&gcs_create_reply_table, &reply);
	return r;
}

int guest_start(struct guest *g, const char *id, struct err *err)
{
	return call_simple(g, GCS_START, id, err);
}

int guest_delete_state(struct guest *g, const char *id, struct err *err)
{
	if (g->connected && !g->negotiated.caps.guest.delete_container_state)
		return 0;
	return call_simple(g, GCS_DELETE_STATE, id, err);
}

int guest_properties(struct guest *g, const char *id, const char *type, char **ret, struct err *err)
{
	_cleanup_strv_ char **types = NULL;
	struct gcs_properties_query query = { 0 };
	struct gcs_properties_request request = { .query = &query };
	struct gcs_properties_reply reply = { 0 };
	int r;

	strv_add(&types, type);
	query.types = types;
	r = guest_call(g, GCS_GET_PROPERTIES, id, &request.base, &gcs_properties_request_table,
		       &request, &gcs_properties_reply_table, &reply, err);
	if (r < 0)
		return r;
	*ret = reply.properties ? TAKE_PTR(reply.properties) : mem_strdup("{}");
	json_free(&gcs_properties_reply_table, &reply);
	return 0;
}

int guest_stacks(struct guest *g, char **ret, struct err *err)
{
	struct gcs_simple_request request = { 0 };
	struct gcs_stacks_reply reply = { 0 };
	int r;

	if (g->connected && !g->negotiated.caps.guest.dump_stacks) {
		*ret = mem_strdup("");
		return 0;
	}
	r = guest_call(g, GCS_DUMP_STACKS, NULL, &request.base, &gcs_simple_request_table, &request,
		       &gcs_stacks_reply_table, &reply, err);
	if (r < 0)
		return r;
	*ret = reply.stacks ? TAKE_PTR(reply.stacks) : mem_strdup("");
	json_free(&gcs_stacks_reply_table, &reply);
	return 0;
}
