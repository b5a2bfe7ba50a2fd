/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/shim.h"

#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/time.h"
#include "shim/config.h"
#include "shim/scratch.h"

int shim_sweep(struct err *err)
{
	_cleanup_(shim_config_free) struct shim_config config;
	struct scratch_swept swept;

	shim_config_init(&config);

	int r = shim_config_host(&config, err);

	if (r < 0)
		return r;
	log_init(STDERR_FILENO, LOG_INFO);
	scratch_sweep_host(config.scratch_dir, USEC_NEVER, &swept);
	scratch_log(config.scratch_dir, &swept);
	return swept.failed < 0
		       ? err_sys(err, swept.failed, "sweep scratch_dir %s", config.scratch_dir)
		       : 0;
}
