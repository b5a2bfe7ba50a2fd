/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/device/scsi.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controller/fixture.h"
#include "wire/gcs.h"

enum { DISKS = 257 };

static struct fake f;
static struct scsi *scsi;
static char dir[] = "/tmp/test_scsi.XXXXXX";
static char disks[DISKS][64];

static CO int on_attach(void *ctx, unsigned controller, unsigned lun, const char *path,
			bool read_only, struct err *err)
{
	return fake_call(ctx, err, "attach %u:%u%s", controller, lun, read_only ? " ro" : "");
}

static CO int on_detach(void *ctx, unsigned controller, unsigned lun, struct err *err)
{
	return fake_call(ctx, err, "detach %u:%u", controller, lun);
}

static CO int on_mount(void *ctx, const struct gcs_mapped_disk *d, struct err *err)
{
	_cleanup_buf_ struct buf over = { 0 };

	for (size_t i = 0; i < d->n_devices; i++)
		buf_addf(&over, " over %u:%u", d->devices[i].controller, d->devices[i].lun);
	if (d->encrypted)
		buf_addf(&over, " encrypted %s", d->filesystem);
	if (d->verity)
		buf_addf(&over, " digest %s at %llu", d->verity->root_digest,
			 (unsigned long long)d->verity->data_bytes);
	return fake_call(ctx, err, "mount %s%.*s", d->mount_path ? d->mount_path : "nowhere",
			 (int)over.len, over.data);
}

static CO int on_unmount(void *ctx, const struct gcs_mapped_disk *d, struct err *err)
{
	return fake_call(ctx, err, "unmount %s%s", d->mount_path ? d->mount_path : "nowhere",
			 d->encrypted ? " encrypted" : "");
}

static CO int on_eject(void *ctx, unsigned controller, unsigned lun, struct err *err)
{
	return fake_call(ctx, err, "eject %u:%u", controller, lun);
}

static const struct scsi_ops ops = { on_attach, on_detach, on_mount, on_unmount, on_eject };

static void setup(void)
{
	ck_assert_int_eq(loop_init(), 0);
	fake_init(&f);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (int i = 0; i < DISKS; i++) {
		snprintf(disks[i], sizeof(disks[i]), "%s/%d", dir, i);
		close(open(disks[i], O_CREAT | O_WRONLY, 0600));
	}
	scsi = scsi_new(&ops, &f);
}

static void teardown(void)
{
	scsi = scsi_free(scsi);
	for (int i = 0; i < DISKS; i++)
		unlink(disks[i]);
	rmdir(dir);
	fake_free(&f);
	loop_fini();
}

/* One reservation and what became of the calls made with it. */
struct use {
	const char *path;
	bool read_only;
	uint64_t partition;
	bool attach_only;
	char *const *devices;
	char id[UUID_LEN + 1];
	const char *guest_path;
	int reserved;
	int mapped;
	int unmapped;
	struct err err;
};

static void reserve(struct use *u)
{
	struct scsi_disk disk = { .path = u->path, .read_only = u->read_only };
	struct scsi_mount mount = { .partition = u->partition,
				    .read_only = u->read_only,
				    .attach_only = u->attach_only,
				    .devices = u->devices };

	u->reserved = scsi_reserve(scsi, &disk, &mount, u->id, &u->err);
}

static CO void map(void *arg)
{
	struct use *u = arg;

	u->mapped = scsi_map(scsi, u->id, &u->guest_path, &u->err);
}

static CO void unmap(void *arg)
{
	struct use *u = arg;

	u->unmapped = scsi_unmap(scsi, u->id, &u->err);
}

START_TEST(a_disk_is_attached_and_mounted_and_goes_in_reverse)
{
	struct use u = { .path = disks[0] };

	reserve(&u);
	ck_assert_int_eq(u.reserved, 0);
	ck_assert_str_eq(fake_calls(&f), "");
	in_coroutine(map, &u);
	ck_assert_int_eq(u.mapped, 0);
	ck_assert_str_eq(u.guest_path, "/run/mounts/scsi/0_0_0");
	ck_assert_str_eq(fake_calls(&f), "attach 0:0;mount /run/mounts/scsi/0_0_0;");
	in_coroutine(map, &u);
	ck_assert_str_eq(fake_calls(&f), "");
	in_coroutine(unmap, &u);
	ck_assert_int_eq(u.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0;eject 0:0;detach 0:0;");
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
	in_coroutine(unmap, &u);
	ck_assert_int_eq(u.unmapped, 0);
}
END_TEST

START_TEST(the_same_partition_is_shared_and_goes_with_its_last_user)
{
	struct use a = { .path = disks[0], .read_only = true }, b = a;
	char link[96];

	snprintf(link, sizeof(link), "%s/link", dir);
	ck_assert_int_eq(symlink(disks[0], link), 0);
	b.path = link;
	reserve(&a);
	reserve(&b);
	in_coroutine(map, &a);
	in_coroutine(map, &b);
	ck_assert_str_eq(fake_calls(&f), "attach 0:0 ro;mount /run/mounts/scsi/0_0_0;");
	in_coroutine(unmap, &a);
	ck_assert_str_eq(fake_calls(&f), "");
	in_coroutine(unmap, &b);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0;eject 0:0;detach 0:0;");
	unlink(link);
}
END_TEST

START_TEST(partitions_of_a_disk_share_the_disk_only)
{
	struct use a = { .path = disks[0], .read_only = true, .partition = 1 }, b = a;

	b.partition = 2;
	reserve(&a);
	reserve(&b);
	in_coroutine(map, &a);
	in_coroutine(map, &b);
	ck_assert_str_eq(fake_calls(&f), "attach 0:0 ro;mount /run/mounts/scsi/0_0_1;mount "
					 "/run/mounts/scsi/0_0_2;");
	in_coroutine(unmap, &a);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_1;");
	in_coroutine(unmap, &b);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_2;eject 0:0;detach 0:0;");
}
END_TEST

START_TEST(read_only_and_writable_are_two_disks)
{
	struct use a = { .path = disks[0], .read_only = true }, b = { .path = disks[0] };

	reserve(&a);
	reserve(&b);
	ck_assert_uint_eq(scsi_in_use(scsi), 2);
}
END_TEST

static char one_option[] = "ro", other_option[] = "noatime";
static char *const options[] = { one_option, other_option, NULL };
static char *const reordered[] = { other_option, one_option, NULL };
static char *const fewer[] = { one_option, NULL };

/* The settings of a mount that is there, and of those that are not the same. */
static const struct scsi_mount set = { .filesystem = "ext4", .options = options };
static const struct scsi_mount others[] = {
	{ .filesystem = "xfs", .options = options },
	{ .options = options },
	{ .filesystem = "ext4" },
	{ .filesystem = "ext4", .options = fewer },
	{ .filesystem = "ext4", .options = options, .read_only = true },
	{ .filesystem = "ext4", .options = options, .encrypted = true },
	{ .filesystem = "ext4", .options = options, .ensure_filesystem = true },
	{ .filesystem = "ext4", .options = options, .block_dev = true },
	{ .filesystem = "ext4", .options = options, .root_digest = "abc" },
	{ .filesystem = "ext4", .options = options, .hash_offset = 4096 },
};

START_TEST(other_settings_for_the_same_partition_are_refused)
{
	const struct scsi_disk disk = { .path = disks[0] };
	const struct scsi_mount same = { .filesystem = "ext4", .options = reordered };
	struct use a = { 0 }, b = { 0 };

	ck_assert_int_eq(scsi_reserve(scsi, &disk, &set, a.id, NULL), 0);
	ck_assert_int_eq(scsi_reserve(scsi, &disk, &others[_i], b.id, &b.err), -ERR_STATE);
	ck_assert_ptr_nonnull(strstr(b.err.text, "other settings"));
	ck_assert_int_eq(scsi_reserve(scsi, &disk, &same, b.id, NULL), 0);
	in_coroutine(unmap, &a);
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(what_is_encrypted_or_checked_reaches_the_guest)
{
	struct use a = { .path = disks[0] }, b = { .path = disks[1], .read_only = true };
	struct scsi_disk scratch = { .path = disks[0] };
	struct scsi_disk layer = { .path = disks[1], .read_only = true };
	struct scsi_mount encrypted = { .encrypted = true,
					.ensure_filesystem = true,
					.filesystem = "ext4" };
	struct scsi_mount checked = { .read_only = true,
				      .root_digest = "abc",
				      .hash_offset = 8192 };

	ck_assert_int_eq(scsi_reserve(scsi, &scratch, &encrypted, a.id, NULL), 0);
	ck_assert_int_eq(scsi_reserve(scsi, &layer, &checked, b.id, NULL), 0);
	in_coroutine(map, &a);
	in_coroutine(map, &b);
	ck_assert_str_eq(fake_calls(&f),
			 "attach 0:0;mount /run/mounts/scsi/0_0_0 encrypted ext4;"
			 "attach 0:1 ro;mount /run/mounts/scsi/0_1_0 digest abc at 8192;");
	/* The guest could not close what it was made through: the disk stays for another try. */
	f.fail_at = f.n_calls + 1;
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, -EIO);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0 encrypted;");
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0 encrypted;"
					 "eject 0:0;detach 0:0;");
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(what_is_no_disk_is_refused)
{
	struct use a = { .path = dir }, b = { .path = "/nonexistent/disk" };

	reserve(&a);
	ck_assert_int_eq(a.reserved, -ERR_INVALID);
	reserve(&b);
	ck_assert_int_eq(b.reserved, -ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(b.err.text, "/nonexistent/disk"));
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(a_reservation_that_was_never_mapped_frees_its_slot)
{
	struct use a = { .path = disks[0] };

	reserve(&a);
	in_coroutine(unmap, &a);
	ck_assert_str_eq(fake_calls(&f), "");
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(a_failed_attach_refuses_others_and_drains)
{
	struct use a = { .path = disks[0] }, b = a, c = a;

	reserve(&a);
	reserve(&b);
	f.fail_at = 1;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -EIO);
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, -ERR_STATE);
	reserve(&c);
	ck_assert_int_eq(c.reserved, -ERR_STATE);
	in_coroutine(unmap, &a);
	ck_assert_uint_eq(scsi_in_use(scsi), 1);
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
	ck_assert_str_eq(fake_calls(&f), "attach 0:0;");
	reserve(&c);
	ck_assert_int_eq(c.reserved, 0);
	in_coroutine(map, &c);
	ck_assert_int_eq(c.mapped, 0);
}
END_TEST

START_TEST(a_failed_mount_drains_and_detaches_the_disk)
{
	struct use a = { .path = disks[0] };

	reserve(&a);
	f.fail_at = 2;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -EIO);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), "eject 0:0;detach 0:0;");
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

/* _i is the call of the teardown that fails: unmount, eject, detach. */
START_TEST(a_failed_teardown_goes_on_where_it_failed)
{
	static const char *const rest[] = { "unmount /run/mounts/scsi/0_0_0;eject 0:0;detach 0:0;",
					    "eject 0:0;detach 0:0;", "detach 0:0;" };
	struct use a = { .path = disks[0] };

	reserve(&a);
	in_coroutine(map, &a);
	f.fail_at = f.n_calls + 1 + (unsigned)_i;
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, -EIO);
	ck_assert_uint_eq(scsi_in_use(scsi), 1);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), rest[_i]);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(different_disks_are_mapped_at_the_same_time)
{
	struct use a = { .path = disks[0] }, b = { .path = disks[1] };

	reserve(&a);
	reserve(&b);
	f.hold_at = "attach";
	co_spawn("a", map, &a, USEC_NEVER);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(20);
	ck_assert_str_eq(fake_calls(&f), "attach 0:0;attach 0:1;");
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.mapped, 0);
	ck_assert_int_eq(b.mapped, 0);
}
END_TEST

START_TEST(the_same_disk_is_attached_once_for_two_at_the_same_time)
{
	struct use a = { .path = disks[0] }, b = a;

	reserve(&a);
	reserve(&b);
	f.hold_at = "attach";
	co_spawn("a", map, &a, USEC_NEVER);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(20);
	ck_assert_str_eq(fake_calls(&f), "attach 0:0;");
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(b.mapped, 0);
	ck_assert_str_eq(fake_calls(&f), "mount /run/mounts/scsi/0_0_0;");
}
END_TEST

START_TEST(who_reserves_during_the_last_release_mounts_again)
{
	struct use a = { .path = disks[0] }, b = a;

	reserve(&a);
	in_coroutine(map, &a);
	fake_calls(&f);
	f.hold_at = "unmount";
	co_spawn("a", unmap, &a, USEC_NEVER);
	run_for(20);
	reserve(&b);
	ck_assert_int_eq(b.reserved, 0);
	co_event_set(&f.gate);
	run_all();
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0;");
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, 0);
	ck_assert_str_eq(fake_calls(&f), "mount /run/mounts/scsi/0_0_0;");
	in_coroutine(unmap, &b);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

/* _i: in which call another reservation comes, eject or detach; of this or another partition. */
START_TEST(who_reserves_while_the_disk_goes_has_it_attached_again)
{
	struct use a = { .path = disks[0] }, b = { .path = disks[0], .partition = _i / 2 };
	const char *again = _i / 2 ? "attach 0:0;mount /run/mounts/scsi/0_0_1;"
				   : "attach 0:0;mount /run/mounts/scsi/0_0_0;";

	reserve(&a);
	in_coroutine(map, &a);
	f.hold_at = _i % 2 ? "detach" : "eject";
	co_spawn("a", unmap, &a, USEC_NEVER);
	run_for(20);
	reserve(&b);
	ck_assert_int_eq(b.reserved, 0);
	co_spawn("b", map, &b, USEC_NEVER);
	run_for(20);
	fake_calls(&f);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_int_eq(b.mapped, 0);
	ck_assert_msg(strstr(fake_calls(&f), again), "%s is missing", again);
	in_coroutine(unmap, &b);
	ck_assert_int_eq(b.unmapped, 0);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

/* _i: as above; the call then fails. */
START_TEST(who_reserves_while_a_disk_cannot_go_uses_it_or_drains)
{
	struct use a = { .path = disks[0] }, b = { .path = disks[0], .partition = _i / 2 };
	bool ejected = _i % 2;

	reserve(&a);
	in_coroutine(map, &a);
	f.hold_at = ejected ? "detach" : "eject";
	f.fail_at = ejected ? 5 : 4;
	co_spawn("a", unmap, &a, USEC_NEVER);
	run_for(20);
	reserve(&b);
	ck_assert_int_eq(b.reserved, 0);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.unmapped, -EIO);
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, ejected ? -ERR_STATE : 0);
	in_coroutine(unmap, &a);
	in_coroutine(unmap, &b);
	ck_assert(a.unmapped == 0 && b.unmapped == 0);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(a_partition_of_an_attached_disk_attaches_nothing)
{
	struct use a = { .path = disks[0] }, b = { .path = disks[0], .partition = 1 };

	reserve(&a);
	in_coroutine(map, &a);
	fake_calls(&f);
	reserve(&b);
	in_coroutine(map, &b);
	ck_assert_str_eq(fake_calls(&f), "mount /run/mounts/scsi/0_0_1;");
	in_coroutine(unmap, &a);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0;");
	in_coroutine(unmap, &b);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_1;eject 0:0;detach 0:0;");
}
END_TEST

START_TEST(an_unknown_reservation_cannot_be_mapped)
{
	struct use u = { .id = "x" };

	in_coroutine(map, &u);
	ck_assert_int_eq(u.mapped, -ERR_NOT_FOUND);
	in_coroutine(unmap, &u);
	ck_assert_int_eq(u.unmapped, 0);
	ck_assert_str_eq(fake_calls(&f), "");
}
END_TEST

/* _i is the call of the teardown that has failed: eject, detach. */
START_TEST(a_disk_that_could_not_go_refuses_others_until_it_has)
{
	struct use a = { .path = disks[0] }, b = a, c = { .path = disks[0], .partition = 1 };

	reserve(&a);
	in_coroutine(map, &a);
	f.fail_at = 4 + (unsigned)_i;
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, -EIO);
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -ERR_STATE);
	reserve(&b);
	ck_assert_int_eq(b.reserved, -ERR_STATE);
	/* What is still attached has other partitions. */
	reserve(&c);
	ck_assert_int_eq(c.reserved, _i ? -ERR_STATE : 0);
	in_coroutine(unmap, &a);
	ck_assert_int_eq(a.unmapped, 0);
	if (!_i)
		in_coroutine(unmap, &c);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
	reserve(&b);
	ck_assert_int_eq(b.reserved, 0);
}
END_TEST

/* hcsshim's BUG-12. */
START_TEST(a_partition_whose_mount_failed_drains_and_leaves_the_others)
{
	struct use a = { .path = disks[0] }, b = a, other = { .path = disks[0], .partition = 1 };

	reserve(&a);
	reserve(&b);
	reserve(&other);
	f.fail_at = 2;
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, -EIO);
	in_coroutine(map, &b);
	ck_assert_int_eq(b.mapped, -ERR_STATE);
	in_coroutine(map, &other);
	ck_assert_int_eq(other.mapped, 0);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	in_coroutine(unmap, &b);
	ck_assert_str_eq(fake_calls(&f), "");
	reserve(&a);
	in_coroutine(map, &a);
	ck_assert_int_eq(a.mapped, 0);
	in_coroutine(unmap, &a);
	in_coroutine(unmap, &other);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

static CO void map_briefly(void *arg)
{
	CO_LIMIT(500 * USEC_PER_MSEC);

	map(arg);
}

START_TEST(a_mount_whose_answer_was_not_waited_for_is_unmounted)
{
	struct use a = { .path = disks[0] };

	reserve(&a);
	f.hold_at = "mount";
	in_coroutine(map_briefly, &a);
	ck_assert_int_eq(a.mapped, -ETIMEDOUT);
	fake_calls(&f);
	in_coroutine(unmap, &a);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0;eject 0:0;detach 0:0;");
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

static CO void map_and_unmap(void *arg)
{
	struct use *u = arg;

	map(u);
	for (int i = 0; i < 2; i++)
		unmap(u);
}

START_TEST(whatever_call_fails_nothing_stays_reserved)
{
	struct use a = { .path = disks[0] }, b = a;

	f.fail_at = (unsigned)_i;
	reserve(&a);
	reserve(&b);
	co_spawn("a", map_and_unmap, &a, USEC_NEVER);
	co_spawn("b", map_and_unmap, &b, USEC_NEVER);
	run_all();
	ck_assert_int_eq(a.unmapped, 0);
	ck_assert_int_eq(b.unmapped, 0);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(all_slots_can_be_used_and_one_more_is_refused)
{
	struct use *u = mem_new0(DISKS, sizeof(*u));

	for (int i = 0; i < DISKS - 1; i++) {
		u[i].path = disks[i];
		reserve(&u[i]);
		ck_assert_int_eq(u[i].reserved, 0);
		co_spawn("map", map, &u[i], USEC_NEVER);
	}
	run_all();
	ck_assert_str_eq(u[255].guest_path, "/run/mounts/scsi/3_63_0");
	u[256].path = disks[256];
	reserve(&u[256]);
	ck_assert_int_eq(u[256].reserved, -ERR_EXHAUSTED);
	in_coroutine(unmap, &u[7]);
	reserve(&u[256]);
	in_coroutine(map, &u[256]);
	ck_assert_str_eq(u[256].guest_path, "/run/mounts/scsi/0_7_0");
	for (int i = 0; i < DISKS; i++)
		co_spawn("unmap", unmap, &u[i], USEC_NEVER);
	run_all();
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
	free(u);
}
END_TEST

enum { SOME = 3 };

static char **some_ids;
static int all_unmapped;

static CO void unmap_all(void *arg)
{
	all_unmapped = scsi_unmap_all(scsi, &some_ids, arg);
}

static void map_some(void)
{
	static struct use u[SOME];

	some_ids = NULL;
	for (int i = 0; i < SOME; i++) {
		u[i] = (struct use){ .path = disks[i] };
		reserve(&u[i]);
		in_coroutine(map, &u[i]);
		strv_add(&some_ids, u[i].id);
	}
	fake_calls(&f);
}

START_TEST(disks_are_given_up_at_the_same_time)
{
	map_some();
	f.hold_at = "detach";
	co_spawn("all", unmap_all, NULL, USEC_NEVER);
	run_for(20);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0;eject 0:0;detach 0:0;"
					 "unmount /run/mounts/scsi/0_1_0;eject 0:1;detach 0:1;"
					 "unmount /run/mounts/scsi/0_2_0;eject 0:2;detach 0:2;");
	ck_assert_uint_eq(scsi_in_use(scsi), SOME);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(all_unmapped, 0);
	ck_assert_ptr_null(some_ids);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
	/* None is none. */
	in_coroutine(unmap_all, NULL);
	ck_assert_int_eq(all_unmapped, 0);
}
END_TEST

/* _i is the call that fails. */
START_TEST(one_that_cannot_be_given_up_keeps_none_of_the_others)
{
	struct err err = { 0 };

	map_some();
	f.fail_at = f.n_calls + 1 + (unsigned)_i;
	in_coroutine(unmap_all, &err);
	ck_assert_int_eq(all_unmapped, -EIO);
	ck_assert_ptr_nonnull(strstr(err.text, disks[_i / 3]));
	ck_assert_uint_eq(strv_len(some_ids), 1);
	ck_assert_uint_eq(scsi_in_use(scsi), 1);
	in_coroutine(unmap_all, NULL);
	ck_assert_int_eq(all_unmapped, 0);
	ck_assert_ptr_null(some_ids);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(a_cancelled_wait_for_a_busy_disk_changes_nothing)
{
	struct use a = { .path = disks[0] }, b = a;

	reserve(&a);
	reserve(&b);
	f.hold_at = "attach";
	co_spawn("a", map, &a, USEC_NEVER);

	struct co *waiting = co_spawn("b", map, &b, USEC_NEVER);

	run_for(20);
	co_cancel(waiting);
	run_for(20);
	ck_assert_int_eq(b.mapped, -ECANCELED);
	co_event_set(&f.gate);
	run_all();
	ck_assert_int_eq(a.mapped, 0);
	in_coroutine(unmap, &b);
	in_coroutine(unmap, &a);
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(a_disk_can_be_attached_only_beside_its_mount)
{
	static struct use layer, part;

	layer = (struct use){ .path = disks[0], .read_only = true };
	part = (struct use){ .path = disks[0], .read_only = true, .attach_only = true };

	reserve(&layer);
	reserve(&part);
	in_coroutine(map, &part);
	in_coroutine(map, &layer);
	ck_assert_ptr_null(part.guest_path);
	ck_assert_str_eq(layer.guest_path, "/run/mounts/scsi/0_0_0");
	ck_assert_uint_eq(scsi_in_use(scsi), 1);
	ck_assert_str_eq(fake_calls(&f),
			 "attach 0:0 ro;mount nowhere;mount /run/mounts/scsi/0_0_0;");
	in_coroutine(unmap, &layer);
	ck_assert_str_eq(fake_calls(&f), "unmount /run/mounts/scsi/0_0_0;");
	in_coroutine(unmap, &part);
	ck_assert_str_eq(fake_calls(&f), "unmount nowhere;eject 0:0;detach 0:0;");
	ck_assert_uint_eq(scsi_in_use(scsi), 0);
}
END_TEST

START_TEST(a_file_system_that_spans_disks_is_shared_if_they_are_the_same)
{
	static struct use parts[2], a, b, c, d;
	static char *ids[] = { parts[0].id, parts[1].id, NULL };
	static char *turned[] = { parts[1].id, parts[0].id, NULL };
	static char bad_id[] = "nobody's";
	static char *bad[] = { bad_id, NULL };

	for (int i = 0; i < 2; i++)
		parts[i] = (struct use){ .path = disks[i], .read_only = true, .attach_only = true };
	a = (struct use){ .path = disks[2], .read_only = true, .devices = ids };
	b = c = d = a;
	c.devices = turned;
	d.devices = bad;
	reserve(&parts[0]);
	reserve(&parts[1]);
	reserve(&a);
	reserve(&b);
	reserve(&c);
	reserve(&d);
	ck_assert(a.reserved == 0 && b.reserved == 0);
	ck_assert_int_eq(c.reserved, -ERR_STATE);
	ck_assert_int_eq(d.reserved, -ERR_NOT_FOUND);
	in_coroutine(map, &a);
	ck_assert_str_eq(fake_calls(&f),
			 "attach 0:2 ro;mount /run/mounts/scsi/0_2_0 over 0:0 over 0:1;");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("controller scsi");
	TCase *t = tcase_create("scsi");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_disk_can_be_attached_only_beside_its_mount);
	tcase_add_test(t, a_file_system_that_spans_disks_is_shared_if_they_are_the_same);
	tcase_add_test(t, a_disk_is_attached_and_mounted_and_goes_in_reverse);
	tcase_add_test(t, the_same_partition_is_shared_and_goes_with_its_last_user);
	tcase_add_test(t, partitions_of_a_disk_share_the_disk_only);
	tcase_add_test(t, read_only_and_writable_are_two_disks);
	tcase_add_loop_test(t, other_settings_for_the_same_partition_are_refused, 0,
			    ARRAY_SIZE(others));
	tcase_add_test(t, what_is_encrypted_or_checked_reaches_the_guest);
	tcase_add_loop_test(t, who_reserves_while_the_disk_goes_has_it_attached_again, 0, 4);
	tcase_add_loop_test(t, who_reserves_while_a_disk_cannot_go_uses_it_or_drains, 0, 4);
	tcase_add_test(t, a_partition_of_an_attached_disk_attaches_nothing);
	tcase_add_test(t, an_unknown_reservation_cannot_be_mapped);
	tcase_add_loop_test(t, a_disk_that_could_not_go_refuses_others_until_it_has, 0, 2);
	tcase_add_test(t, a_partition_whose_mount_failed_drains_and_leaves_the_others);
	tcase_add_test(t, a_mount_whose_answer_was_not_waited_for_is_unmounted);
	tcase_add_loop_test(t, whatever_call_fails_nothing_stays_reserved, 0, 6);
	tcase_add_test(t, what_is_no_disk_is_refused);
	tcase_add_test(t, a_reservation_that_was_never_mapped_frees_its_slot);
	tcase_add_test(t, a_failed_attach_refuses_others_and_drains);
	tcase_add_test(t, a_failed_mount_drains_and_detaches_the_disk);
	tcase_add_loop_test(t, a_failed_teardown_goes_on_where_it_failed, 0, 3);
	tcase_add_test(t, different_disks_are_mapped_at_the_same_time);
	tcase_add_test(t, the_same_disk_is_attached_once_for_two_at_the_same_time);
	tcase_add_test(t, who_reserves_during_the_last_release_mounts_again);
	tcase_add_test(t, all_slots_can_be_used_and_one_more_is_refused);
	tcase_add_test(t, disks_are_given_up_at_the_same_time);
	tcase_add_loop_test(t, one_that_cannot_be_given_up_keeps_none_of_the_others, 0, 3 * SOME);
	tcase_add_test(t, a_cancelled_wait_for_a_busy_disk_changes_nothing);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed > 0;
}
