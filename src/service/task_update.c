/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "service/service_priv.h"
#include "task.pb-c.h"
#include "wire/json.h"

/*
 * Task.Update. The limits of a pod's sandbox task are those of its own container, and what the VM
 * is ready for at least (controller/sizing.h).
 */

static const char linux_resources[] =
	"types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

CO int task_update(struct ttrpc_call *call, const ProtobufCMessage *request,
		   ProtobufCMessage *reply, void *ctx, struct err *err)
{
	const Containerd__Task__V2__UpdateTaskRequest *req =
		(const Containerd__Task__V2__UpdateTaskRequest *)request;
	_cleanup_task_ struct task *t = task_find(ctx, req->id);
	_cleanup_json_ struct json_object *resources = NULL;

	if (!t)
		return task_not_found(req->id, err);
	if (!req->resources)
		return err_set(err, -ERR_INVALID, "update %s: resources are missing", req->id);
	if (!str_eq(req->resources->type_url, linux_resources))
		return err_set(err, -ERR_INVALID,
			       "update %s: resources of type %s are not supported", req->id,
			       req->resources->type_url);

	int r = json_parse((const char *)req->resources->value.data, req->resources->value.len,
			   &resources, err);

	if (r >= 0 && !resources)
		r = err_set(err, -ERR_INVALID, "resources are null");
	if (r >= 0)
		r = container_update(t->container, resources, err);
	return r < 0 ? err_wrap(err, r, "update %s", req->id) : 0;
}
