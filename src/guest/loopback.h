/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GUEST_LOOPBACK_H
#define LCOW_GUEST_LOOPBACK_H

struct err;
struct guest;
struct netns_loopback;

/**
 * struct guest_loopback - the loopback of a pod's namespace on the host, which leads to that of its
 * network in the guest
 *
 * For each connection the guest is asked to make one to the same address and port, and to dial a
 * port of ours for it, which is there for this one only. Where it can't, the connection is reset.
 * Of each family GCS_FORWARD_CONNECTIONS / 2 stand at a time, more of them wait.
 */
struct guest_loopback;

/**
 * guest_loopback_new() - accept from now on
 * @network:	its NamespaceID; borrowed for the call
 * @l:		as netns_loopback() made it, with sockets; owned from now on, whatever is returned
 *
 * Return: 0 or negative errno with text
 */
int guest_loopback_new(struct guest *g, const char *network, const struct netns_loopback *l,
		       struct guest_loopback **ret, struct err *err);
/**
 * guest_loopback_free() - accept no more and close every connection; NULL is fine; Return: NULL
 */
struct guest_loopback *guest_loopback_free(struct guest_loopback *l);

#endif
