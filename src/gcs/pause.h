/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_PAUSE_H
#define LCOW_GCS_PAUSE_H

/**
 * pause_main() - be the first process of a pid namespace of a pod without sandbox container: bury
 * orphans, and do nothing else
 *
 * Runs in mount and pid namespaces of its own. Does not return but on failure; then the exit code.
 */
int pause_main(void);

#endif
