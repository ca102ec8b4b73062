/* SPDX-License-Identifier: MIT */
/* What the audit's files share: audit.c, shadow_audit.c, tdp_audit.c. */
#ifndef MMU_AUDIT_H
#define MMU_AUDIT_H

#include "mmu/shadow.h"

struct audit {
    struct pn_mmu *mmu;
    FILE *out; /* may be NULL */
    int bad;
};

/* One violation. */
void wrong(struct audit *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void shadow_audit(struct audit *a);
void shadow_audit_large(struct audit *a, const struct slot *s, unsigned level,
                        uint32_t *want);
void shadow_audit_entry(struct audit *a, const struct root *r, const struct walk_mode *m,
                        enum pn_tlb_mode mode, unsigned i, pn_gva gva);
void tdp_audit(struct audit *a);
void tdp_audit_entry(struct audit *a, const struct root *r, const struct walk_mode *m,
                     enum pn_tlb_mode mode, unsigned i, pn_gva gva);

#endif
