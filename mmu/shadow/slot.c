/* SPDX-License-Identifier: MIT */
/* What a change of memslots, and zap-all-fast, mean to shadow tables. */
#include <string.h>

#include "mmu/shadow/shadow.h"

static void zap_tables_in(struct pn_mmu_vcpu *vcpu, const struct slot *s) {
    struct shadow *sh = vcpu->mmu->shadow;
    struct list *l = sh->lru.next;
    while (l != &sh->lru) {
        struct sp *sp = list_sp(l);
        bool others = sp->unsync_children; /* they go too: begin again */
        l = l->next;
        if (sp_direct(sp) || sp->gfn - s->gfn >= s->npages)
            continue;
        sp_zap(vcpu, sp, ZAP_SLOT);
        if (others)
            l = sh->lru.next;
    }
}

static void zap_mappings_of(struct pn_mmu *mmu, struct slot *s) {
    for (uint64_t i = 0; mmu->shadow->leaves && i < s->npages; i++)
        if (s->rmap[i])
            spte_zap_page(mmu, s, s->gfn + i);
}

/* What was made through second levels in guest memory, of one vCPU or (of: NULL) of each, with
 * that asid or any. */
static void zap_spaces(struct pn_mmu_vcpu *vcpu, const struct pn_mmu_vcpu *of,
                       uint32_t asid, bool all) {
    struct shadow *sh = vcpu->mmu->shadow;
    struct list *l = sh->lru.next;
    while (l != &sh->lru) {
        struct sp *sp = list_sp(l);
        bool theirs = of && (sp->space & (PN_PAGE_SIZE - 1)) != of->number + 1;
        bool others = sp->unsync_children; /* they go too: begin again */
        l = l->next;
        if (!sp->space || theirs || (!all && sp->asid != asid))
            continue;
        sp_zap(vcpu, sp, ZAP_OBSOLETE);
        if (others)
            l = sh->lru.next;
    }
}

void shadow_slot_gone(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    struct pn_mmu *mmu = vcpu->mmu;
    flush_ask(mmu);
    zap_spaces(vcpu, NULL, 0, true); /* nested tables may have stood there */
    zap_tables_in(vcpu, s);
    zap_mappings_of(mmu, s);
    roots_slots_changed(mmu);
    track_slot_gone(mmu, s);
}

void shadow_slot_changed(struct pn_mmu_vcpu *vcpu, struct slot *s, bool placed) {
    if (!placed)
        flush_ask(vcpu->mmu);
    else /* nested tables may stand there, which read as ones before */
        zap_spaces(vcpu, NULL, 0, true);
    zap_mappings_of(vcpu->mmu, s);
    if (!placed && s->dirty) /* a log begins: what was written before it is not in it */
        memset(s->dirty, 0, (s->npages + 63) / 64 * sizeof(*s->dirty));
    roots_slots_changed(vcpu->mmu);
    track_slot_added(vcpu->mmu, s);
}

void shadow_asid_gone(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all) {
    zap_spaces(vcpu, vcpu, asid, all);
}

void shadow_zap_all(struct pn_mmu_vcpu *vcpu) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct shadow *sh = mmu->shadow;
    mmu_bar(mmu);
    sh->gen++;
    sh->obsolete = sh->pages;
    for_each_root(mmu, v, r)
        shadow_root_drop(vcpu, r);
    roots_drop_everything(mmu);
    pn_emit(vcpu->ring, zap_all_fast, sh->gen);
}
