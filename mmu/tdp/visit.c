/* SPDX-License-Identifier: MIT */
/* The visitor of second-level tables. */
#include "mmu/tdp/tdp.h"

static enum visit_kind kind_of(uint64_t v, unsigned level) {
    if (ept_leaf(v, level))
        return VISIT_LEAF;
    if (ept_table(v, level))
        return VISIT_TABLE;
    return v ? VISIT_MARK : VISIT_ABSENT;
}

void tdp_visit(struct visit *v, struct sp *sp) {
    unsigned level = sp_level(sp);
    pn_gfn pages = level_pages(level);
    unsigned i = v->first > sp->gfn ? (unsigned)((v->first - sp->gfn) / pages) : 0;
    for (; i < 512 && sp->gfn + i * pages < v->end; i++) {
        uint64_t *ptep = &sp->spt[i];
        enum visit_kind kind = kind_of(*ptep, level);
        if (v->kinds & kind)
            v->at(v, ptep, ept_gfn(sp, i), level, kind);
        if (!ept_table(*ptep, level) || level <= v->lowest)
            continue;
        tdp_visit(v, sp_of(ept_child(*ptep)));
        if (v->kinds & VISIT_AFTER)
            v->at(v, ptep, ept_gfn(sp, i), level, VISIT_AFTER);
    }
}
