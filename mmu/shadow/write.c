/* SPDX-License-Identifier: MIT */
/*
 * Writes to guest tables that are shadowed: the sptes of the written gptes are brought to
 * agree, or the sp is zapped when the frame does not look like a table any more.
 */
#include <string.h>

#include "mmu/shadow/shadow.h"

/* Does this not look like a store of gptes? KVM's detect_write_misaligned. */
static bool misaligned(const struct sp *sp, unsigned offset, size_t size) {
    unsigned gpte = sp->role & ROLE_4BYTE ? 4 : 8;
    if (size == 1 && !(offset & (gpte - 1)))
        return false; /* a status bit by a byte operation */
    if (size < 4 || size > 64)
        return true;
    return size < gpte && (offset ^ (offset + size - 1)) & ~(gpte - 1u);
}

static bool flooded(struct pn_mmu *mmu, struct sp *sp) {
    uint32_t threshold = mmu->cfg.opt.flood_threshold;
    /* It goes unsync at the next untracked store; leave it alone till then. */
    if (sp_level(sp) <= mmu->shadow->unsync_level)
        return false;
    return threshold && mmu->shadow->policy.floods && ++sp->flood >= threshold;
}

/* Sync the sptes of every gpte in [offset, offset+size). KVM drops those that a store is
 * for, which asks for a flush, whatever the store says. */
static void sync_range(struct pn_mmu *mmu, struct sp *sp, unsigned offset, size_t size,
                       bool ad, const uint8_t *table) {
    unsigned gpte = sp->role & ROLE_4BYTE ? 4 : 8;
    unsigned first = offset / gpte, last = (unsigned)(offset + size - 1) / gpte;
    if (sp->role & ROLE_4BYTE) {
        bool twice = sp_level(sp) == 2; /* a 4 MiB gpte has two sptes */
        unsigned per = twice ? 256 : 512, base = role_quadrant(sp->role) * per;
        if (last < base || first >= base + per)
            return;
        first = first < base ? 0 : first - base;
        last = last >= base + per ? per - 1 : last - base;
        if (twice) {
            first *= 2;
            last = last * 2 + 1;
        }
    }
    for (unsigned i = first; i <= last; i++) {
        if (!ad && spte_present(sp->spt[i]))
            flush_ask(mmu);
        spte_sync(mmu, sp, i, table);
    }
}

static void table_written(struct pn_mmu_vcpu *vcpu, struct sp *sp, unsigned offset,
                          size_t size, bool ad, const uint8_t *table) {
    if (sp_obsolete(vcpu->mmu->shadow, sp)) {
        sp_zap(vcpu, sp, ZAP_OBSOLETE);
    } else if (!ad && (misaligned(sp, offset, size) || flooded(vcpu->mmu, sp))) {
        pn_emit(vcpu->ring, flood, sp->gfn, sp->role);
        pn_count(vcpu->stats, mmu_flooded);
        sp_zap(vcpu, sp, ZAP_FLOOD);
    } else {
        sync_range(vcpu->mmu, sp, offset, size, ad, table);
        if (!ad && !sp->unsync)
            agile_written(vcpu, sp);
    }
}

bool shadow_shadowed(struct pn_mmu *mmu, pn_gfn gfn) {
    return sp_first(mmu, gfn);
}

bool shadow_unprotect(struct pn_mmu_vcpu *vcpu, pn_gfn gfn) {
    struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
    if (!s || !track_tables(s, gfn))
        return false;
    for (struct sp *sp; (sp = sp_first(vcpu->mmu, gfn));)
        sp_zap(vcpu, sp, ZAP_UNPROTECT);
    return true;
}

void shadow_written(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size, bool ad) {
    struct pn_mmu *mmu = vcpu->mmu;
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s)
        return;
    unsigned offset = gpa & (PN_PAGE_SIZE - 1);
    if (track_tables(s, gfn)) {
        const uint8_t *table = slot_hva(s, gfn);
        if (!ad) {
            uint64_t value = 0;
            memcpy(&value, table + offset, size < 8 ? size : 8);
            pn_count(vcpu->stats, mmu_pte_write);
            pn_emit(vcpu->ring, pte_write, gpa, value, size);
        }
        for (struct sp *sp = sp_first(mmu, gfn), *next; sp; sp = next) {
            next = sp_next(sp);
            table_written(vcpu, sp, offset, size, ad, table);
        }
    }
    if (track_code(s, gfn) && mmu->cfg.on_track)
        mmu->cfg.on_track(mmu->cfg.opaque, gpa, size);
}
