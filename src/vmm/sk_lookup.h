/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_VMM_SK_LOOKUP_H
#define LCOW_VMM_SK_LOOKUP_H

struct err;

/*
 * Every port of a network namespace's loopback at once: a BPF program of the kernel's that looks up
 * the socket which a new connection belongs to (Documentation/bpf/prog_sk_lookup.rst of Linux). It
 * takes Linux 5.9 or later.
 */

/**
 * sk_lookup_attach() - let two sockets have all TCP connections to the loopback
 * @netns:	fd of the namespace
 * @four:	listening socket for those to 127.0.0.0/8
 * @six:	for those to ::1; -EBADF for none, and they go their own way
 *
 * It comes before the sockets that listen on these ports: those have nothing more of the loopback.
 * What is connected already stays so, and getsockname() of a new connection is what was dialled.
 *
 * Return: an fd that ends it when it is closed; -ERR_UNIMPLEMENTED with text when the kernel can't,
 * or doesn't let us; or negative errno with text
 */
int sk_lookup_attach(int netns, int four, int six, struct err *err);

#endif
