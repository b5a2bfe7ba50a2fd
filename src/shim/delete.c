/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/shim.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "shim/args.h"
#include "shim/bundle.h"
#include "shim/config.h"
#include "shim/rundir.h"
#include "shim/scratch.h"
#include "task.pb-c.h"
#include "wire/pb.h"

/* containerd gives delete 5 s in all. After an ordinary end the server is on its way out: it gets
 * time to finish. */
enum { GRACE_MS = 2000, SWEEP_MS = 1000, STATUS_KILLED = 137 };

static int clean(const struct shim_args *args, const char *bundle, struct err *err)
{
	_cleanup_(shim_config_free) struct shim_config config;
	_cleanup_(rundir_free) struct rundir dir = { 0 };
	_cleanup_free_ char *group = bundle_group(bundle, args->id);

	shim_config_init(&config);

	/* A configuration that broke after start must not keep anything alive: the default
	 * directories are tried then. */
	shim_config_host(&config, NULL);

	/* The run directory's name does not depend on the socket's directory, which delete is not
	 * told. */
	int r = rundir_init(&dir, &config, "", args->address ? args->address : "", args->namespace,
			    group, err);

	return r < 0 ? r : rundir_clean(dir.path, GRACE_MS, err);
}

/* After the answer, for it is not part of what was asked for. */
static void sweep(void)
{
	_cleanup_(shim_config_free) struct shim_config config;
	struct scratch_swept swept;

	shim_config_init(&config);
	if (shim_config_host(&config, NULL) < 0)
		return;
	scratch_sweep_host(config.scratch_dir, time_mono() + SWEEP_MS * USEC_PER_MSEC, &swept);
	log_init(STDERR_FILENO, LOG_INFO);
	scratch_log(config.scratch_dir, &swept);
}

static int answer(struct err *err)
{
	Containerd__Task__V2__DeleteResponse *rep =
		pb_new(&containerd__task__v2__delete_response__descriptor);
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t len;

	rep->exit_status = STATUS_KILLED;
	rep->exited_at = pb_time(time_real_ns());
	bytes = pb_pack(rep, &len);
	pb_free(rep);

	int r = fd_write_all(STDOUT_FILENO, bytes, len);

	return r < 0 ? err_sys(err, r, "answer containerd") : 0;
}

int shim_delete(const struct shim_args *args, struct err *err)
{
	_cleanup_free_ char *cwd = getcwd(NULL, 0);
	const char *bundle = args->bundle ? args->bundle : cwd;

	/* Everything that a member has on the host lives in the shim's own namespaces and ends with
	 * it, or was deleted. */
	if (!bundle || !bundle_is_member(bundle)) {
		int r = clean(args, bundle ? bundle : "/", err);

		if (r < 0)
			return err_wrap(err, r, "delete %s", args->id);
	}

	int r = answer(err);

	if (r == 0)
		sweep();
	return r;
}
