/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_UNIT_CONTROLLER_FAKENET_H
#define LCOW_TESTS_UNIT_CONTROLLER_FAKENET_H

#include "controller/fixture.h"
#include "controller/network.h"
#include "vmm/netns.h"
#include "wire/gcs.h"
#include "wire/json.h"

/* Fakes of host, VM and guest for networks: namespace "two" has two cards, any other has none. */
static struct fake net;
static bool net_unsupported;
/* A failure to forward is the host's. */
static bool net_no_forward;
/* Of the last Network Add. */
static char net_settings[1024];

static inline bool fake_supported(void *ctx)
{
	return !net_unsupported;
}

static inline CO int fake_links(void *ctx, const char *netns, struct netns_link **ret,
				size_t *ret_n, struct err *err)
{
	int r = fake_call(&net, err, "links %s", netns);

	if (r < 0 || !str_eq(netns, "two"))
		return r;

	struct netns_link *l = mem_new0(2, sizeof(*l));

	l[0] = (struct netns_link){ .name = "eth0",
				    .mac = { 2, 0, 0, 0, 0, 0xa },
				    .mtu = 1450,
				    .addresses = NEW0(struct netns_address),
				    .n_addresses = 1,
				    .routes = mem_new0(2, sizeof(*l->routes)),
				    .n_routes = 2,
				    .neighbors = NEW0(struct netns_neighbor),
				    .n_neighbors = 1 };
	*l[0].neighbors = (struct netns_neighbor){ "10.0.0.1", { 2, 0, 0, 0, 0, 0xb } };
	*l[0].addresses = (struct netns_address){ "10.0.0.2", 24 };
	l[0].routes[0] = (struct netns_route){ "10.0.0.1", "0.0.0.0/0", 70000 };
	l[0].routes[1] = (struct netns_route){ "", "fd00::/8", 1 };
	l[1] = (struct netns_link){ .name = "net1", .mtu = 9000 };
	*ret = l;
	*ret_n = 2;
	return 0;
}

static inline CO int fake_nic_attach(void *ctx, const char *netns, const struct netns_link *link,
				     const char *id, struct err *err)
{
	ck_assert_uint_eq(strlen(id), UUID_LEN);
	return fake_call(&net, err, "attach %s", link->name);
}

static inline CO int fake_nic_detach(void *ctx, const char *netns, const char *link, const char *id,
				     struct err *err)
{
	return fake_call(&net, err, "detach %s", link);
}

static inline CO int fake_guest_add(void *ctx, const struct gcs_network_adapter *adapter,
				    struct err *err)
{
	_cleanup_free_ char *text = json_encode(&gcs_network_adapter_table, adapter);

	snprintf(net_settings, sizeof(net_settings), "%s", text);
	return fake_call(&net, err, "add %s", adapter->namespace_id);
}

static inline CO int fake_guest_remove(void *ctx, const struct gcs_network_adapter *adapter,
				       struct err *err)
{
	ck_assert_ptr_null(adapter->mac);
	return fake_call(&net, err, "remove %s", adapter->namespace_id);
}

/* Of a namespace with cards, and of another one, "lo"; its name is what there is to lead. */
static inline CO int fake_forward(void *ctx, const char *netns, const char *id,
				  struct guest_loopback **ret, struct err *err)
{
	int r = fake_call(&net, err, "forward %s to %s", netns, id);

	if (r < 0 && net_no_forward)
		return err_set(err, -ERR_UNIMPLEMENTED, "an old kernel");
	if (r >= 0 && !str_eq(netns, "none"))
		*ret = (struct guest_loopback *)mem_strdup(id);
	return r;
}

static inline void fake_unforward(void *ctx, struct guest_loopback *l)
{
	fake_call(&net, NULL, "unforward %s", (char *)l);
	free(l);
}

static const struct network_ops fake_network_ops = {
	.supported = fake_supported,
	.links = fake_links,
	.attach = fake_nic_attach,
	.detach = fake_nic_detach,
	.forward = fake_forward,
	.unforward = fake_unforward,
	.guest_add = fake_guest_add,
	.guest_remove = fake_guest_remove,
};

static const struct network_config two_cards = { .netns = "two",
						 .dns_servers = "10.0.0.1",
						 .dns_search = "a.b,c" };

static inline void fake_network_init(void)
{
	ck_assert_int_eq(loop_init(), 0);
	fake_init(&net);
	net_unsupported = net_no_forward = false;
}

static inline void fake_network_free(void)
{
	run_all();
	fake_free(&net);
	loop_fini();
}

static inline void expect_net(const char *calls)
{
	ck_assert_str_eq(fake_calls(&net), calls);
}

#endif
