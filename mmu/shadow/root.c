/* SPDX-License-Identifier: MIT */
/* Roots of shadow tables: the sp that a root stands on. */
#include "mmu/shadow/shadow.h"

uint32_t mode_role(const struct stage *m) {
    if (m->levels == 2)
        return ROLE_4BYTE | (m->mode & STAGE_PSE ? ROLE_PSE : 0);
    return (m->levels >= 4 ? ROLE_LONG : 0) | (m->mode & STAGE_NX ? ROLE_NX : 0);
}

void shadow_root_drop(struct pn_mmu_vcpu *vcpu, struct root *r) {
    struct sp *top = r->top;
    if (!top)
        return;
    top->pinned--;
    r->top = NULL;
    r->spt = NULL;
    if (top->role & ROLE_ROOT)
        sp_zap(vcpu, top, ZAP_ROOT);
}

bool root_frame(struct pn_mmu_vcpu *vcpu, const struct root *r, pn_gfn *gfn) {
    struct walk w = {.fixes = 0};
    *gfn = r->key.cr3 >> PN_PAGE_SHIFT;
    if (!vcpu->world.second)
        return true;
    if (stage_walk(vcpu, &vcpu->second, r->key.cr3, vcpu->second.table, PN_TLB_USER,
                   WALK_PROBE, &w) < 0)
        return false;
    *gfn = w.gfn;
    return true;
}

struct sp *root_top(struct pn_mmu_vcpu *vcpu, struct root *r) {
    const struct stage *m = &vcpu->walk;
    pn_gfn gfn;
    if (r->top)
        return r->top;
    if (m->levels >= 4 && !root_frame(vcpu, r, &gfn))
        return NULL;
    struct sp *top =
        m->levels < 4 ? sp_new_root(vcpu) : sp_get(vcpu, gfn, mode_role(m) | m->levels);
    if (!top)
        return NULL;
    top->pinned++;
    r->top = top;
    r->spt = top->spt;
    return top;
}

bool root_adopt(struct pn_mmu_vcpu *vcpu, struct root *r) {
    const struct stage *m = &vcpu->walk;
    const struct sp *sp;
    pn_gfn gfn;
    if (m->levels < 4 || !root_frame(vcpu, r, &gfn))
        return false;
    sp = sp_find(vcpu, gfn, mode_role(m) | m->levels);
    return sp && !sp_obsolete(vcpu->mmu->shadow, sp) && root_top(vcpu, r);
}
