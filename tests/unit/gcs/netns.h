/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_UNIT_GCS_NETNS_H
#define LCOW_TESTS_UNIT_GCS_NETNS_H

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "wire/gcs.h"

/* A network of the test's own, with a card "new0" in it as the VM has one that was just plugged. */

static struct err err;

/* Settings are not const. */
#define TEXT(text) \
	({ \
		static char text_[] = text; \
		text_; \
	})

static void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void sh(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	ck_assert_msg(system(command) == 0, "%s", command);
}

static void network_setup_test(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("sysfs", "/sys", "sysfs", 0, NULL), 0);
	ck_assert_int_eq(mount("tmpfs", "/run", "tmpfs", 0, NULL), 0);
	ck_assert_int_eq(loop_init(), 0);
	memset(&err, 0, sizeof(err));
	sh("ip link add new0 address 02:00:00:00:00:01 type veth peer name far");
}

static void network_teardown_test(void)
{
	loop_fini();
	worker_fini();
}

static CO void (*body_fn)(void);

static CO void in_loop(void *arg)
{
	body_fn();
	loop_stop(0);
}

static void run(CO void (*fn)(void))
{
	body_fn = fn;
	co_spawn("test", in_loop, NULL, USEC_NEVER);
	loop_run();
}

#define SUITE(name) \
	int main(void) \
	{ \
		Suite *suite = suite_create("gcs " name); \
		TCase *t = tcase_create(name); \
		SRunner *r; \
		int failed; \
\
		if (geteuid() != 0) { \
			puts("network namespaces need root"); \
			return 77; \
		} \
		tcase_add_checked_fixture(t, setup, teardown); \
		tcase_set_timeout(t, 30); \
		add_tests(t); \
		suite_add_tcase(suite, t); \
		r = srunner_create(suite); \
		srunner_run_all(r, CK_NORMAL); \
		failed = srunner_ntests_failed(r); \
		srunner_free(r); \
		return failed > 0; \
	}

#endif
