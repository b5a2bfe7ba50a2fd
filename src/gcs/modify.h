/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_GCS_MODIFY_H
#define LCOW_GCS_MODIFY_H

#include "loop/co.h"

struct agent;
struct err;
struct gcs_modify_request;

/**
 * modify_settings() - ModifySettings: find what the resource type and the request type ask for, and
 * do it
 *
 * Return: 0 or negative errno with text and HRESULT
 */
CO int modify_settings(struct agent *a, const struct gcs_modify_request *m, struct err *err);

#endif
