/* SPDX-License-Identifier: MIT */
/* What the parts of the audit share: core/audit.c, and one in each of shadow/, tdp/,
 * model/. */
#pragma once

#include "mmu/core/root.h"

struct audit {
    struct pn_mmu *mmu;
    FILE *out; /* may be NULL */
    int bad;
};

/* Check all; the process stops at the first broken invariant (pn_mmu.step). */
void audit_or_stop(struct pn_mmu *mmu);
/* One violation. */
void wrong(struct audit *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
