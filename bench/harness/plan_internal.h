/* SPDX-License-Identifier: MIT */
/* Between plan.c and plan_linux.c. */
#pragma once

#include "bench/harness/plan.h"

/* Append u under the next index. Return: 0; -EINVAL the point is there already; -ENOSPC;
 * with one line in e. */
int plan_append_unit(struct plan *p, const struct plan_unit *u, struct err *e);

int plan_add_linux(struct plan *p, const char *text, bool quick, struct err *e);
void plan_linux_append(const struct plan_unit *u, char *buf, size_t size);
