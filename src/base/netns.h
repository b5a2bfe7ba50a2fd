/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_BASE_NETNS_H
#define LCOW_BASE_NETNS_H

/**
 * netns_visit() - call a function in another network namespace
 * @netns:	fd of the namespace
 *
 * The calling thread goes there and comes back, so it must be one that nobody else's work runs on
 * meanwhile: a worker. Sockets stay in the namespace that they were made in.
 *
 * Return: what @fn returned, or negative errno when the thread could not go
 */
int netns_visit(int netns, int (*fn)(void *arg), void *arg);

#endif
