/* SPDX-License-Identifier: MIT */
/*
 * Agile paging (Gandhi, Hill and Swift, ISCA 2016), modelled: a walk begins in shadow
 * tables, and goes on in two dimensions from the first table on that the hypervisor has
 * left to the guest. Such a table is never protected, and a processor would read it itself.
 *
 * There is no such processor, and no second level here: a table that is left to the guest is
 * one out of sync, synced when the guest flushes, as what a processor reads is no older. When
 * an interval ends, all tables are shadowed again; the paper's is of time, which an MMU does
 * not know, so here it is of TLB misses. So answers are those of a real one. What a walk would read, and which faults
 * would be none, is counted here, beside what this MMU did: the counters agile_*.
 */
#include "mmu/shadow/shadow.h"

#define SECOND_LEVELS 4 /* entries that translate one guest-physical address */

void agile_nest(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct slot *s = sp_direct(sp) ? NULL : slot_of_gfn(vcpu->mmu, sp->gfn);
    if (s && !sp->unsync)
        unsync_page(vcpu, s, sp);
    for (unsigned i = 0, left = sp_level(sp) > 1 ? sp->used : 0; left; i++) {
        if (!sp->spt[i])
            continue;
        left--;
        if (spte_table(sp->spt[i]))
            agile_nest(vcpu, sp_of(spte_child(sp->spt[i])));
    }
}

void agile_written(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    const struct shadow *sh = vcpu->mmu->shadow;
    if (sh->unsync_level && sh->policy.nests && ++sp->stores >= sh->policy.nests)
        agile_nest(vcpu, sp);
}

/* The tables as they stand now lead to the page: what a walk would have read. */
static void count_walk(struct pn_mmu_vcpu *vcpu, const struct root *r, pn_gva gva,
                       bool fault) {
    unsigned native = 0, shadow = 0, nested = 0;
    bool in_guest = false;
    for (const struct sp *sp = r->top; sp;) {
        uint64_t v = sp->spt[level_index(gva, sp_level(sp))];
        bool root = sp->role & ROLE_ROOT, direct = sp_direct(sp);
        in_guest |= sp->unsync;
        native += !root && !direct;
        nested += in_guest && !direct;
        shadow += !in_guest && !root;
        sp = spte_table(v) ? sp_of(spte_child(v)) : NULL;
    }
    pn_count(vcpu->stats, agile_walks);
    vcpu->stats->v[PN_STAT_agile_native] += native;
    /* CR3 has a guest-physical address, too. */
    vcpu->stats->v[PN_STAT_agile_refs] +=
        shadow + nested + SECOND_LEVELS * (nested + r->top->unsync);
    if (fault && in_guest)
        pn_count(vcpu->stats, agile_spared);
}

static void shadow_again(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct pn_mmu *mmu = vcpu->mmu;
    sp->stores = 0;
    if (!sp->unsync)
        return;
    sp->unsync = false;
    mmu_gauges(mmu)->v[PN_STAT_mmu_unsync]--;
    track_inc(mmu, slot_of_gfn(mmu, sp->gfn), sp->gfn);
    sync_sptes(vcpu, sp);
    pn_count(vcpu->stats, mmu_sync);
}

static void end_interval(struct pn_mmu_vcpu *vcpu) {
    struct list *lru = &vcpu->mmu->shadow->lru;
    for (struct list *l = lru->next; l != lru; l = l->next)
        shadow_again(vcpu, list_sp(l));
    vcpu->mmu->shadow->misses = 0;
}

enum pn_outcome agile_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                enum pn_access access, enum pn_tlb_mode mode,
                                struct pn_xlate *out) {
    if (agile_ends(vcpu->mmu))
        end_interval(vcpu);
    else
        vcpu->mmu->shadow->misses++;
    enum pn_outcome outcome = shadow_translate_slow(vcpu, gva, access, mode, out);
    const struct root *r = vcpu->roots->cur;
    bool mapped = outcome == PN_OUT_mapped || outcome == PN_OUT_mapped_split;
    if (r->top && !r->narrow && (mapped || outcome == PN_OUT_NO_FAULT))
        count_walk(vcpu, r, gva, mapped);
    else if (outcome == PN_OUT_guest_pf && sync_needed(r, gva))
        pn_count(vcpu->stats, agile_spared);
    return outcome;
}
