/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_ENTROPY_H
#define LCOW_GCS_ENTROPY_H

struct agent;

/**
 * entropy_start() - fetch random bytes from the host's entropy port, once, and credit them to the
 * kernel
 *
 * A host that does not listen there is no failure.
 */
void entropy_start(struct agent *a);

#endif
