/* SPDX-License-Identifier: Apache-2.0 */
/* On a tree of files that looks like /sys and /dev of a host. */
#include "vmm/pci_host.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/str.h"

#define NIC "0000:3b:00.0"
#define NIC_VF "0000:3b:02.1"
#define GPU "0000:65:00.0"
#define AUDIO "0000:65:00.1"
#define BRIDGE "0000:64:00.0"

static char root[] = "/tmp/test_pci_host.XXXXXX";
static struct err err;
static struct pci_host found;

__attribute__((format(printf, 1, 2))) static char *below(const char *fmt, ...)
{
	char name[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	return str_printf("%s/%s", root, name);
}

static void make_link(const char *device, const char *name, const char *to)
{
	_cleanup_free_ char *path = below("sys/bus/pci/devices/%s/%s", device, name);

	unlink(path);
	ck_assert_int_eq(symlink(to, path), 0);
}

static void make_device(const char *address, const char *class, const char *driver, int group)
{
	_cleanup_free_ char *dir = below("sys/bus/pci/devices/%s", address);
	_cleanup_free_ char *file = str_printf("%s/class", dir);
	_cleanup_free_ char *member =
		below("sys/kernel/iommu_groups/%d/devices/%s", group, address);
	_cleanup_free_ char *to_driver = str_printf("../../../../bus/pci/drivers/%s", driver);
	_cleanup_free_ char *to_group = str_printf("../../../../kernel/iommu_groups/%d", group);

	ck_assert_int_eq(dir_make(dir, 0755), 0);
	ck_assert_int_eq(file_write(file, class, strlen(class), 0644), 0);
	if (driver)
		make_link(address, "driver", to_driver);
	if (group < 0)
		return;
	ck_assert_int_eq(dir_make(member, 0755), 0);
	make_link(address, "iommu_group", to_group);
}

static void make_node(const char *name)
{
	_cleanup_free_ char *path = below("dev/vfio/%s", name);

	ck_assert_int_eq(mknod(path, S_IFCHR | 0600, makedev(1, 3)), 0);
}

static void setup(void)
{
	strcpy(root + strlen(root) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	memset(&err, 0, sizeof(err));
	memset(&found, 0, sizeof(found));

	_cleanup_free_ char *dev = below("dev/vfio"), *zero = below("sys/kernel/iommu_groups/0");

	ck_assert_int_eq(dir_make(dev, 0755), 0);
	ck_assert_int_eq(dir_make(zero, 0755), 0);
	make_device(NIC, "0x020000\n", "mlx5_core", 16);
	make_device(NIC_VF, "0x020000\n", "mlx5-vfio-pci", 17);
	make_link(NIC, "virtfn1", "../" NIC_VF);
	make_device(BRIDGE, "0x060400\n", "pcieport", 18);
	make_device(GPU, "0x030000\n", "vfio-pci", 18);
	make_device(AUDIO, "0x040300\n", "vfio-pci", 18);
	make_node("vfio");
	make_node("17");
	make_node("18");
}

static void teardown(void)
{
	ck_assert_int_eq(dir_remove(root), 0);
}

static void refused(int code, const char *address, int vf, const char *text)
{
	ck_assert_int_eq(pci_host_find(root, address, vf, &found, &err), code);
	ck_assert_msg(strstr(err.text, text), "%s", err.text);
	ck_assert_str_eq(found.address, "");
}

START_TEST(an_address_has_one_spelling)
{
	static const struct {
		const char *text, *address;
	} rows[] = {
		{ "0000:3b:00.0", "0000:3b:00.0" },
		{ "3B:1f.7", "0000:3b:1f.7" },
		{ "10000:e1:00.0", "10000:e1:00.0" },
		{ "", NULL },
		{ "3b:00", NULL },
		{ "0000:3b:00.8", NULL },
		{ "0000:3b:20.0", NULL },
		{ "0000:3b:00.0x", NULL },
		{ "0000:3b:00.0 ", NULL },
		{ "-1:3b:00.0", NULL },
		{ "../3b:00.0", NULL },
		{ "emulated:edu", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char address[PCI_ADDRESS_MAX] = "";
		int r = pci_address_parse(rows[i].text, address);

		ck_assert_msg(r == (rows[i].address ? 0 : -ERR_INVALID), "%s", rows[i].text);
		ck_assert_str_eq(address, rows[i].address ? rows[i].address : "");
	}
}
END_TEST

START_TEST(a_device_whose_group_is_all_bound_to_vfio_is_found)
{
	ck_assert_int_eq(pci_host_find(root, GPU, -1, &found, &err), 0);
	ck_assert_str_eq(found.address, GPU);
	ck_assert_uint_eq(found.group, 18);
}
END_TEST

START_TEST(a_virtual_function_is_a_device_with_a_group_of_its_own)
{
	ck_assert_int_eq(pci_host_find(root, NIC, 1, &found, &err), 0);
	ck_assert_str_eq(found.address, NIC_VF);
	ck_assert_uint_eq(found.group, 17);
}
END_TEST

START_TEST(what_does_not_exist_is_refused)
{
	refused(-ERR_INVALID, "0000:99:00.0", -1, "the host has no PCI device 0000:99:00.0");
	refused(-ERR_INVALID, NIC, 2, "has no virtual function 2");
	refused(-ERR_INVALID, GPU, 0, "sriov_numvfs");
}
END_TEST

START_TEST(a_host_without_IOMMU_is_told_how_to_get_one)
{
	_cleanup_free_ char *groups = below("sys/kernel/iommu_groups");
	_cleanup_free_ char *link = below("sys/bus/pci/devices/" GPU "/iommu_group");

	unlink(link);
	refused(-ERR_STATE, GPU, -1, "is in no IOMMU group");
	ck_assert_int_eq(dir_remove(groups), 0);
	refused(-ERR_STATE, GPU, -1, "no IOMMU: ");
	ck_assert_ptr_nonnull(strstr(err.text, "intel_iommu=on"));
}
END_TEST

START_TEST(a_device_with_its_own_driver_is_refused_by_that_name)
{
	_cleanup_free_ char *link = below("sys/bus/pci/devices/" GPU "/driver");

	refused(-ERR_STATE, NIC, -1, "is bound to driver mlx5_core: bind it to vfio-pci");
	unlink(link);
	refused(-ERR_STATE, GPU, -1, "is bound to no driver");
}
END_TEST

START_TEST(a_neighbour_in_the_group_with_a_driver_is_refused_by_name)
{
	_cleanup_free_ char *link = below("sys/bus/pci/devices/" AUDIO "/driver");

	make_link(AUDIO, "driver", "../../../../bus/pci/drivers/snd_hda_intel");
	refused(-ERR_STATE, GPU, -1, "with " AUDIO ", which is bound to driver snd_hda_intel");
	make_link(AUDIO, "driver", "../../../../bus/pci/drivers/pci-stub");
	ck_assert_int_eq(pci_host_find(root, GPU, -1, &found, &err), 0);
	unlink(link);
	ck_assert_int_eq(pci_host_find(root, GPU, -1, &found, &err), 0);
}
END_TEST

START_TEST(a_missing_VFIO_node_is_named)
{
	_cleanup_free_ char *group = below("dev/vfio/18"), *vfio = below("dev/vfio/vfio");

	unlink(group);
	refused(-ERR_STATE, GPU, -1, "/dev/vfio/18 is missing");
	make_node("18");
	unlink(vfio);
	refused(-ERR_STATE, GPU, -1, "/dev/vfio/vfio is missing: load the modules");
}
END_TEST

START_TEST(a_group_has_its_devices_but_no_bridges)
{
	_cleanup_strv_ char **members = NULL;
	char **none = NULL;

	ck_assert_int_eq(pci_host_group(root, 18, &members, &err), 0);
	ck_assert_uint_eq(strv_len(members), 2);
	ck_assert_str_eq(members[0], GPU);
	ck_assert_str_eq(members[1], AUDIO);
	ck_assert_int_eq(pci_host_group(root, 99, &none, &err), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, "no IOMMU group 99"), "%s", err.text);
	ck_assert_ptr_null(none);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm pci_host");
	TCase *tc = tcase_create("pci_host");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_address_has_one_spelling);
	tcase_add_test(tc, a_device_whose_group_is_all_bound_to_vfio_is_found);
	tcase_add_test(tc, a_virtual_function_is_a_device_with_a_group_of_its_own);
	tcase_add_test(tc, what_does_not_exist_is_refused);
	tcase_add_test(tc, a_host_without_IOMMU_is_told_how_to_get_one);
	tcase_add_test(tc, a_device_with_its_own_driver_is_refused_by_that_name);
	tcase_add_test(tc, a_neighbour_in_the_group_with_a_driver_is_refused_by_name);
	tcase_add_test(tc, a_missing_VFIO_node_is_named);
	tcase_add_test(tc, a_group_has_its_devices_but_no_bridges);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
