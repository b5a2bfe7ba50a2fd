/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/card.h"
#include "gcs/namespace.h"

#include "netns.h"

#define POD "/run/pod"

static int pod;
static int result;
static struct gcs_network_adapter settings;
static struct card_place place;

static CO void make_pod(void)
{
	ck_assert_msg(card_namespace_new(POD, &pod, &err) == 0, "%s", err.text);
}

static void setup(void)
{
	network_setup_test();
	run(make_pod);
	place = (struct card_place){ .netns = pod, .link = "new0", .name = "eth0" };
	settings = (struct gcs_network_adapter){ .id = TEXT("a") };
}

static CO void drop_pod(void)
{
	namespace_free(POD);
}

static void teardown(void)
{
	run(drop_pod);
	close(pod);
	network_teardown_test();
}

static CO void do_put(void)
{
	result = card_put(&place, &settings, &err);
}

static int put(void)
{
	run(do_put);
	return result;
}

/* ---- namespaces ---- */

START_TEST(a_namespace_has_lo_up_and_goes_with_its_path)
{
	sh("nsenter --net=" POD " ip -o link | grep -q 'lo:.*UP'");
	sh("! nsenter --net=" POD " ip link show new0 2>/dev/null");
	run(drop_pod);
	ck_assert_int_lt(access(POD, F_OK), 0);
}
END_TEST

static CO void make_beside_nothing(void)
{
	int fd = 7;

	ck_assert_int_lt(card_namespace_new("/run/none/x", &fd, &err), 0);
	ck_assert_int_eq(fd, 7);
	ck_assert_ptr_nonnull(strstr(err.text, "/run/none/x"));
}

START_TEST(a_namespace_that_cannot_be_made_leaves_nothing)
{
	run(make_beside_nothing);
}
END_TEST

/* ---- finding ---- */

static const struct {
	const char *text;
	int code;
} macs[] = {
	{ "02:00:5e:10:00:fF", 0 },
	{ "02-00-5E-10-00-ff", 0 },
	{ "02:00:5e:10:00", -ERR_INVALID },
	{ "02:00:5e:10:00:ff:00", -ERR_INVALID },
	{ "02:00:5e:10:00:f", -ERR_INVALID },
	{ "02.00.5e.10.00.ff", -ERR_INVALID },
	{ "02:00:5e:10:00:fg", -ERR_INVALID },
	{ " 2:00:5e:10:00:ff", -ERR_INVALID },
	{ "", -ERR_INVALID },
	{ NULL, -ERR_INVALID },
};

START_TEST(a_MAC_is_six_bytes_in_hex)
{
	uint8_t mac[6] = { 0 };

	ck_assert_msg(card_mac_parse(macs[_i].text, mac) == macs[_i].code, "%s", macs[_i].text);
	if (macs[_i].code == 0)
		ck_assert_mem_eq(mac, "\x02\x00\x5e\x10\x00\xff", 6);
}
END_TEST

START_TEST(a_card_is_found_by_its_MAC)
{
	const uint8_t mac[] = { 2, 0, 0, 0, 0, 1 }, other[] = { 2, 0, 0, 0, 0, 2 };
	char name[IFNAMSIZ] = "";

	ck_assert_int_eq(card_find("/sys/class/net", mac, name), 0);
	ck_assert_str_eq(name, "new0");
	ck_assert_int_eq(card_find("/sys/class/net", other, name), -ERR_NOT_FOUND);
	ck_assert_int_eq(card_find("/none", mac, name), -ERR_NOT_FOUND);
}
END_TEST

/* ---- setting up ---- */

static struct gcs_ip_config ips[] = {
	{ (char[]){ "10.7.0.2" }, 24 },
	{ (char[]){ "fd07::2" }, 64 },
};

static struct gcs_route routes[] = {
	{ (char[]){ "10.7.0.1" }, (char[]){ "0.0.0.0/0" }, 0 },
	{ (char[]){ "fd07::1" }, (char[]){ "::/0" }, 9 },
	{ (char[]){ "0.0.0.0" }, (char[]){ "10.8.0.0/16" }, 0 },
	/* "no gateway" */
	{ (char[]){ "::" }, (char[]){ "::/0" }, 0 },
	/* Outside of the card's networks. */
	{ (char[]){ "192.168.9.1" }, (char[]){ "10.9.0.0/16" }, 3 },
	{ (char[]){ "fe80::1" }, (char[]){ "2001:db8::/32" }, 0 },
};

static struct gcs_neighbor neighbors[] = {
	{ (char[]){ "10.7.0.1" }, (char[]){ "02-00-00-00-00-77" } },
	{ (char[]){ "fd07::1" }, (char[]){ "02:00:00:00:00:78" } },
};

static void use_everything(void)
{
	settings.neighbors = neighbors;
	settings.n_neighbors = ARRAY_SIZE(neighbors);
	settings.ip_configs = ips;
	settings.n_ip_configs = ARRAY_SIZE(ips);
	settings.routes = routes;
	settings.n_routes = ARRAY_SIZE(routes);
	settings.encap_overhead = 50;
}

START_TEST(a_card_is_moved_and_set_up_as_its_settings_say)
{
	use_everything();
	sh("ip link set far up");
	ck_assert_msg(put() == 0, "%s", err.text);
	sh("! ip link show new0 2>/dev/null");
	sh("nsenter --net=" POD
	   " ip -o link show eth0 | grep -q 'UP.*mtu 1450.*02:00:00:00:00:01'");
	sh("nsenter --net=" POD " ip -o addr show eth0 | grep -q 'inet 10.7.0.2/24'");
	sh("nsenter --net=" POD
	   " ip -o addr show eth0 | grep 'inet6 fd07::2/64' | grep -vq tentative");
	sh("nsenter --net=" POD " ip route | grep -q 'default via 10.7.0.1 dev eth0'");
	sh("nsenter --net=" POD " ip route | grep -q '10.8.0.0/16 dev eth0.*link'");
	sh("nsenter --net=" POD
	   " ip route | grep -q '10.9.0.0/16 via 192.168.9.1.*metric 3 onlink'");
	sh("nsenter --net=" POD " ip -6 route | grep -q 'default via fd07::1.*metric 9'");
	sh("nsenter --net=" POD " ip -6 route | grep -q '2001:db8::/32 via fe80::1 dev eth0'");
	sh("test $(nsenter --net=" POD " ip -6 route | grep -c default) = 1");
	sh("nsenter --net=" POD
	   " ip neigh | grep -q '10.7.0.1 dev eth0 lladdr 02:00:00:00:00:77.*PERMANENT'");
	sh("nsenter --net=" POD
	   " ip neigh | grep -q 'fd07::1 dev eth0 lladdr 02:00:00:00:00:78.*PERMANENT'");
}
END_TEST

START_TEST(a_card_without_addresses_is_up)
{
	ck_assert_msg(put() == 0, "%s", err.text);
	sh("nsenter --net=" POD " ip -o link show eth0 | grep -q '[<,]UP.*mtu 1500'");
}
END_TEST

START_TEST(with_a_table_of_its_own_a_card_answers_for_its_addresses_only)
{
	use_everything();
	place.table = 101;
	ck_assert_msg(put() == 0, "%s", err.text);
	sh("nsenter --net=" POD " ip rule | grep -q '^5:.from 10.7.0.2 lookup 101'");
	sh("nsenter --net=" POD " ip -6 rule | grep -q '^5:.from fd07::2 lookup 101'");
	sh("nsenter --net=" POD " ip route show table 101 | grep -q 'default.*metric 500'");
	sh("! nsenter --net=" POD " ip route | grep -q default");
}
END_TEST

static const struct {
	struct gcs_ip_config ip;
	struct gcs_route route;
	struct gcs_neighbor neighbor;
	uint16_t overhead;
	const char *says;
} bad[] = {
	{ .ip = { (char[]){ "10.7.0" }, 24 }, .says = "10.7.0/24" },
	{ .ip = { (char[]){ "10.7.0.2" }, 33 }, .says = "10.7.0.2/33" },
	{ .ip = { (char[]){ "10.7.0.2/8" }, 24 }, .says = "no IP address" },
	{ .ip = { NULL, 24 }, .says = "no IP address" },
	{ .route = { (char[]){ "x" }, (char[]){ "10.0.0.0/8" } }, .says = "by \"x\"" },
	{ .route = { (char[]){ "10.7.0.1" }, (char[]){ "10.0.0.0/99" } }, .says = "10.0.0.0/99" },
	{ .route = { (char[]){ "fd00::1" }, (char[]){ "10.0.0.0/8" } }, .says = "no route" },
	{ .route = { (char[]){ "10.7.0.1" }, NULL }, .says = "no route" },
	{ .neighbor = { (char[]){ "10.7.0.1" }, (char[]){ "02:00" } }, .says = "at \"02:00\"" },
	{ .neighbor = { (char[]){ "10.7.0.1/8" }, (char[]){ "02:00:00:00:00:01" } },
	  .says = "no neighbour" },
	{ .neighbor = { NULL, (char[]){ "02:00:00:00:00:01" } }, .says = "no neighbour" },
	{ .overhead = 1500, .says = "EncapOverhead 1500" },
};

START_TEST(settings_that_are_none_are_named_and_leave_the_card_where_it_was)
{
	struct gcs_ip_config ip = bad[_i].ip;
	struct gcs_route route = bad[_i].route;
	struct gcs_neighbor neighbor = bad[_i].neighbor;

	settings.ip_configs = &ip;
	settings.n_ip_configs = ip.prefix_length ? 1 : 0;
	settings.routes = &route;
	settings.n_routes = route.next_hop ? 1 : 0;
	settings.neighbors = &neighbor;
	settings.n_neighbors = neighbor.mac ? 1 : 0;
	settings.encap_overhead = bad[_i].overhead;
	ck_assert_int_eq(put(), -ERR_INVALID);
	ck_assert_msg(strstr(err.text, bad[_i].says), "%s", err.text);
	sh("ip link show new0 >/dev/null");
	sh("! nsenter --net=" POD " ip link show eth0 2>/dev/null");
	settings.n_ip_configs = settings.n_routes = settings.n_neighbors = 0;
	settings.encap_overhead = 0;
	ck_assert_int_eq(put(), 0);
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, a_namespace_has_lo_up_and_goes_with_its_path);
	tcase_add_test(t, a_namespace_that_cannot_be_made_leaves_nothing);
	tcase_add_loop_test(t, a_MAC_is_six_bytes_in_hex, 0, ARRAY_SIZE(macs));
	tcase_add_test(t, a_card_is_found_by_its_MAC);
	tcase_add_test(t, a_card_is_moved_and_set_up_as_its_settings_say);
	tcase_add_test(t, a_card_without_addresses_is_up);
	tcase_add_test(t, with_a_table_of_its_own_a_card_answers_for_its_addresses_only);
	tcase_add_loop_test(t, settings_that_are_none_are_named_and_leave_the_card_where_it_was, 0,
			    ARRAY_SIZE(bad));
}

SUITE("card")
