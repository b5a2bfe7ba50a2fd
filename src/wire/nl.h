/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_NL_H
#define LCOW_WIRE_NL_H

/** nl_errno() - negative errno of what a function of libnl returned; 0 for what is no error */
int nl_errno(int r);

#endif
