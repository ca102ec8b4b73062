/* SPDX-License-Identifier: MIT */
/* Between plan.c, plan_linux.c and plan_debian.c. */
#pragma once

#include <stdint.h>

#include "bench/harness/plan.h"

/* Append u under the next index. Return: 0; -EINVAL the point is there already; -ENOSPC;
 * with one line in e. */
int plan_append_unit(struct plan *p, const struct plan_unit *u, struct err *e);

int plan_add_linux(struct plan *p, const char *text, bool quick, struct err *e);
void plan_linux_append(const struct plan_unit *u, char *buf, size_t size);

int plan_add_debian(struct plan *p, const char *text, bool quick, struct err *e);
void plan_debian_append(const struct plan_unit *u, char *buf, size_t size);
/* "name=NUMBER", a number above 0, of a workload whose parameters are n and, where bytes is not NULL, bytes. Changes
 * item. Return: 0 or -EINVAL with a line in e. */
int plan_give(const char *workload, char *item, uint64_t *n, uint64_t *bytes,
              struct err *e);
/* What a unit's parameters have for the kernel's command line, "" without it. */
const char *plan_unit_append(const struct plan_unit *u);
/* Add it there, and the words of `list`, as a label. */
void plan_name_unit(const struct plan *p, const char *list, struct plan_unit *u);
