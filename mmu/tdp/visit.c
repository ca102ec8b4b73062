/* SPDX-License-Identifier: MIT */
/* The visitor of second-level tables. */
#include "mmu/tdp/tdp.h"

static enum visit_kind kind_of(uint64_t v, unsigned level) {
    if (ept_leaf(v, level))
        return VISIT_LEAF;
    return ept_table(v, level) ? VISIT_TABLE : VISIT_MARK;
}

void tdp_visit(struct visit *v, struct sp *sp) {
    unsigned level = sp_level(sp);
    pn_gfn pages = level_pages(level);
    unsigned i = v->first > sp->gfn ? (unsigned)((v->first - sp->gfn) / pages) : 0;
    for (; i < 512 && sp->gfn + i * pages < v->end; i++) {
        uint64_t *ptep = &sp->spt[i];
        enum visit_kind kind = kind_of(*ptep, level);
        if (*ptep && v->kinds & kind)
            v->at(v, ptep, ept_gfn(sp, i), level, kind);
        if (!ept_table(*ptep, level))
            continue;
        tdp_visit(v, sp_of(ept_child(*ptep)));
        if (v->kinds & VISIT_AFTER)
            v->at(v, ptep, ept_gfn(sp, i), level, VISIT_AFTER);
    }
}
