/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/boot.h"
#include "gcs/bridge.h"
#include "gcs/clock.h"
#include "gcs/dm.h"
#include "gcs/drivers.h"
#include "gcs/entropy.h"
#include "gcs/logport.h"
#include "gcs/memory.h"
#include "gcs/module.h"
#include "gcs/oom.h"
#include "gcs/options.h"
#include "gcs/pause.h"
#include "gcs/reaper.h"
#include "gcs/share.h"
#include "gcs/transport.h"
#include "loop/loop.h"

#define PATH_IN_VM "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What only PID 1 does, before there is a loop. */
static int boot(struct agent *a, const struct options *o, struct err *err)
{
	int r = boot_mounts(err);

	if (r < 0)
		return r;
	r = logport_init(o->level);
	if (r < 0)
		return err_sys(err, r, "set up the log");
	if (o->wall_ns) {
		r = clock_step(o->wall_ns, err);
		if (r < 0)
			return r;
	}
	setenv("PATH", PATH_IN_VM, 1);
	return boot_settings(o->hostname, err);
}

static int start(struct agent *a, const struct options *o, struct err *err)
{
	enum transport_kind kind = a->test ? TRANSPORT_CHANNEL : o->transport;
	int r;

	a->modules = modules_open(NULL);
	r = transport_open(kind, o->test_channel, a->modules, &a->transport, err);
	if (r < 0)
		return err_wrap(err, r, "open the way to the host");
	r = loop_init();
	if (r < 0)
		return err_sys(err, r, "start the loop");
	if (!a->test) {
		a->reaper = reaper_new(a);
		if (!a->reaper)
			return err_set(err, -EIO, "cannot watch SIGCHLD");
	}
	a->shares = shares_new();
	a->oom = oom_new();
	a->dm = dm_new(NULL);
	if (!a->test) {
		entropy_start(a);
		logport_start(a);
		drivers_start(a);
		memory_start(a);
	}
	a->bridge = bridge_start(a);
	log_info("lcow-gcs " LCOW_VERSION " started");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && str_eq(argv[1], "pause"))
		return pause_main();

	struct agent *a = NEW0(struct agent);
	struct options o;
	struct err *err = NEW0(struct err);
	int r;

	/*
	 * json-c seeds its default hash from getrandom(2), which blocks until the kernel has
	 * entropy: a second of a boot. What is hashed here are the keys of messages from the host,
	 * who has no need to attack its own VM.
	 */
	json_global_set_string_hash(JSON_C_STR_HASH_PERLLIKE);
	a->program = "/proc/self/exe";
	list_init(&a->externals);
	co_event_init(&a->ready);
	co_event_init(&a->plugged);
	r = options_parse(argc, argv, &o, err);
	if (r >= 0 && o.test_channel < 0 && getpid() != 1)
		r = err_set(err, -EPERM,
			    "this is the guest agent of a VM: it runs as PID 1, or with "
			    "--test-channel FD");
	if (r < 0 && getpid() != 1) {
		fprintf(stderr, "lcow-gcs: %s\n", err->text);
		free(err);
		free(a);
		return 2;
	}
	a->test = o.test_channel >= 0;
	if (a->test)
		log_init(STDERR_FILENO, o.level);
	else if (r >= 0)
		r = boot(a, &o, err);
	if (r >= 0)
		r = start(a, &o, err);
	if (r < 0)
		agent_power_off(a, err->text);
	loop_run();
	agent_power_off(a, "the loop ended");
}
