/* SPDX-License-Identifier: MIT */
/*
 * Shadow pages: found by (gfn, role), made, kept within the budget, zapped.
 *
 * The hash is over the gfn, so that one chain holds every role of a frame: a write to the
 * frame, and the decision to let it go unsync, concern them all.
 *
 * Invariants
 * 1. At most one sp of the current generation has a given (gfn, role).
 * 2. Every indirect sp forbids large sptes over its frame (large_forbid), and counts in
 *    the frame's track count exactly while it is not unsync.
 * 3. sps on the LRU list number at most the page budget, but for those a fault in
 *    progress adds (SP_ROOM were made available before).
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdlib.h>

#include "mmu/shadow/shadow.h"

/* ---- LRU ---- */

void sp_touch(struct shadow *sh, struct sp *sp) {
    list_del(&sp->lru);
    list_add(&sh->lru, &sp->lru);
}

/* ---- The hash ---- */

int sp_init(struct pn_mmu *mmu) {
    struct shadow *sh = mmu->shadow;
    sh->hash = calloc(1u << HASH_BITS, sizeof(*sh->hash));
    if (!sh->hash)
        return -ENOMEM;
    sh->lru.next = sh->lru.prev = &sh->lru;
    static const struct {
        uint32_t role;
        enum pt_format_id format;
        unsigned features;
    } formats[FORMATS] = {
        {ROLE_4BYTE, PT_FORMAT_pt32, 0}, {ROLE_4BYTE | ROLE_PSE, PT_FORMAT_pt32, PT_PSE},
        {0, PT_FORMAT_pae, 0},           {ROLE_NX, PT_FORMAT_pae, PT_NX},
        {ROLE_LONG, PT_FORMAT_long5, 0}, {ROLE_LONG | ROLE_NX, PT_FORMAT_long5, PT_NX},
    };
    for (unsigned i = 0; i < FORMATS; i++) {
        sh->format_role[i] = formats[i].role;
        pt_bits_init(&sh->format[i], &pt_formats[formats[i].format],
                     formats[i].features | pt_cpu_features(mmu->cfg.lacks),
                     mmu->cfg.maxphyaddr);
    }
    return 0;
}

static const struct pt_bits *format_of(struct shadow *sh, uint32_t role) {
    unsigned i = 0;
    while (sh->format_role[i] != (role & ROLE_FORMAT))
        i++;
    return &sh->format[i];
}

static struct sp **bucket(struct shadow *sh, pn_gfn gfn) {
    return &sh->hash[XXH3_64bits(&gfn, sizeof(gfn)) & ((1u << HASH_BITS) - 1)];
}

static struct sp *skip_to_table(struct sp *sp, pn_gfn gfn) {
    while (sp && (sp->gfn != gfn || sp_direct(sp)))
        sp = sp->hash_next;
    return sp;
}

struct sp *sp_first(struct pn_mmu *mmu, pn_gfn gfn) {
    return skip_to_table(*bucket(mmu->shadow, gfn), gfn);
}

struct sp *sp_next(struct sp *sp) {
    return skip_to_table(sp->hash_next, sp->gfn);
}

static void unhash(struct shadow *sh, struct sp *sp) {
    struct sp **link = bucket(sh, sp->gfn);
    while (*link != sp)
        link = &(*link)->hash_next;
    *link = sp->hash_next;
}

/* ---- Making ---- */

/* The frame becomes an upper table: likely it is no leaf table any more. */
static void zap_unsync(struct pn_mmu_vcpu *vcpu, pn_gfn gfn) {
    for (struct sp *sp = sp_first(vcpu->mmu, gfn), *next; sp; sp = next) {
        next = sp_next(sp);
        if (sp->unsync)
            sp_zap(vcpu, sp, ZAP_REUSED);
    }
}

static struct sp *sp_new(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, uint32_t role) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct shadow *sh = mmu->shadow;
    struct slot *s = NULL;
    if (!(role & ROLE_DIRECT) && !(s = slot_of_gfn(mmu, gfn)))
        return NULL; /* nobody could tell us of writes to it */
    if (s && role_level(role) > 1 && sh->unsync_level == 1)
        zap_unsync(vcpu, gfn);
    struct sp *sp = slab_sp(mmu);
    if (!sp)
        return NULL;
    if (s && !(sp->gptes = slab_gptes(mmu))) {
        slab_sp_free(&mmu->slab, sp);
        return NULL;
    }
    if (vcpu->space && !(sp->frames = slab_gptes(mmu))) {
        slab_sp_free(&mmu->slab, sp);
        return NULL;
    }
    sp->gfn = gfn;
    sp->role = role;
    sp->node = vcpu->node;
    sp->space = vcpu->space;
    sp->asid = vcpu->space ? vcpu->world.asid : 0;
    if (sp->frames)
        pn_count(vcpu->stats, merged_tables);
    sp->gen = sh->gen;
    sp->log_gen = sh->log_gen;
    struct sp **head = bucket(sh, gfn);
    sp->hash_next = *head;
    *head = sp;
    list_add(&sh->lru, &sp->lru);
    sh->pages++;
    if (s) {
        sp->read_only = s->pub.flags & PN_SLOT_READONLY;
        sp->format = format_of(sh, role);
        large_forbid(mmu, s, gfn);
        sp->unsync = sh->open;
        if (sp->unsync)
            mmu_gauges(mmu)->v[PN_STAT_mmu_unsync]++;
        else
            track_inc(mmu, s, gfn);
    }
    pn_count(vcpu->stats, sp_created);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]++;
    return sp;
}

static bool same_space(const struct sp *sp, const struct pn_mmu_vcpu *vcpu) {
    return sp->space == vcpu->space && (!sp->space || sp->asid == vcpu->world.asid);
}

struct sp *sp_find(const struct pn_mmu_vcpu *vcpu, pn_gfn gfn, uint32_t role) {
    struct sp *sp = *bucket(vcpu->mmu->shadow, gfn);
    while (sp && (sp->gfn != gfn || sp->role != role || !same_space(sp, vcpu)))
        sp = sp->hash_next;
    return sp;
}

struct sp *sp_get(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, uint32_t role) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct shadow *sh = mmu->shadow;
    struct sp *sp = sp_find(vcpu, gfn, role);
    if (sp && sp_obsolete(sh, sp)) {
        sp_zap(vcpu, sp, ZAP_OBSOLETE);
        sp = NULL;
    }
    bool created = !sp;
    if (created) {
        sp = sp_new(vcpu, gfn, role);
        if (!sp)
            return NULL;
    } else {
        pn_count(vcpu->stats, sp_reused);
        sp_touch(sh, sp);
        /* It joins another tree: nobody owes that tree a flush for what changed before.
         * A table stays writable, as nobody flushed, and so unsync. */
        if (sp->unsync)
            sync_sptes(vcpu, sp);
        if (sp->unsync_children)
            sync_children(vcpu, sp);
    }
    pn_emit(vcpu->ring, get_page, gfn, role, created);
    return sp;
}

struct sp *sp_new_root(struct pn_mmu_vcpu *vcpu) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = slab_sp(mmu);
    if (!sp)
        return NULL;
    sp->role = ROLE_ROOT | ROLE_DIRECT | 3;
    sp->node = vcpu->node;
    sp->gen = mmu->shadow->gen;
    sp->log_gen = mmu->shadow->log_gen;
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]++;
    return sp;
}

/* ---- Zapping ---- */

static void unpin(struct pn_mmu *mmu, struct sp *sp) {
    tlb_drop_top(mmu, sp);
    sp->pinned = 0;
    for_each_root(mmu, v, r)
        if (r->top == sp) {
            r->top = NULL;
            r->spt = NULL;
        }
}

/* Leaf tables out of sync below sp go with it: without it most have no way left by which
 * they could be synced, and the guest is likely to be done with them. KVM's
 * mmu_zap_unsync_children. Where upper tables are out of sync, too, they remain: who finds
 * one again syncs it (sp_get). */
static void zap_unsync_below(struct pn_mmu_vcpu *vcpu, struct sp *sp,
                             enum zap_reason why) {
    for (unsigned w = 0; w < 8 && sp->unsync_children; w++)
        while (sp->unsync_bits[w]) {
            unsigned i = w * 64 + (unsigned)__builtin_ctzll(sp->unsync_bits[w]);
            struct sp *child = sp_of(spte_child(sp->spt[i]));
            if (child->unsync) {
                sp_zap(vcpu, child, why); /* drops the spte, and so the bit */
            } else {
                zap_unsync_below(vcpu, child, why);
                unsync_clear_bit(sp, i);
            }
        }
}

void sp_zap(struct pn_mmu_vcpu *vcpu, struct sp *sp, enum zap_reason why) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct shadow *sh = mmu->shadow;
    mmu_bar(mmu);
    pn_emit(vcpu->ring, prepare_zap_page, sp->gfn, sp->role, why);
    if (!(sp->role & ROLE_ROOT)) {
        flush_ask(mmu);
        if (sh->unsync_level == 1)
            zap_unsync_below(vcpu, sp, why);
    }
    /* From above, so that the TLBs are right before the sptes go one by one. */
    while (sp->parents)
        spte_drop(mmu, ptrs_first(sp->parents));
    if (sp->pinned)
        unpin(mmu, sp);
    for (unsigned i = 0; sp->used; i++)
        if (sp->spt[i])
            spte_drop(mmu, &sp->spt[i]);
    if (!sp_direct(sp)) {
        struct slot *s = slot_of_gfn(mmu, sp->gfn);
        if (sp->unsync)
            mmu_gauges(mmu)->v[PN_STAT_mmu_unsync]--;
        else
            track_dec(s, sp->gfn);
        large_allow(s, sp->gfn);
    }
    if (!(sp->role & ROLE_ROOT)) {
        unhash(sh, sp);
        list_del(&sp->lru);
        sh->pages--;
        sh->obsolete -= sp_obsolete(sh, sp);
    }
    pn_count(vcpu->stats, sp_zapped);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]--;
    slab_sp_free(&mmu->slab, sp);
}

bool sp_in_use(const struct pn_mmu *mmu, const struct sp *sp) {
    for (unsigned v = 0; sp->pinned && v < mmu->vcpu_count; v++)
        if (mmu->vcpus[v]->roots->cur->top == sp)
            return true;
    return false;
}

static struct sp *oldest_idle(struct pn_mmu *mmu) {
    struct list *end = &mmu->shadow->lru;
    for (struct list *l = end->prev; l != end; l = l->prev)
        if (!sp_in_use(mmu, list_sp(l)))
            return list_sp(l);
    return NULL;
}

/* KVM's rule, unless the option says otherwise: KVM_MEMSLOT_PAGES_TO_MMU_PAGES_RATIO,
 * KVM_MIN_ALLOC_MMU_PAGES. */
uint64_t sp_budget(const struct pn_mmu *mmu) {
    uint64_t least = 16 + 2 * (uint64_t)mmu->vcpu_count, pages = mmu->cfg.opt.page_budget;
    if (!pages)
        pages = mmu->slots.pages / 50 < 64 ? 64 : mmu->slots.pages / 50;
    return pages < least ? least : pages;
}

void sp_make_room(struct pn_mmu_vcpu *vcpu) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct shadow *sh = mmu->shadow;
    for (unsigned i = 0; sh->obsolete && i < OBSOLETE_STEP; i++)
        sp_zap(vcpu, list_sp(sh->lru.prev), ZAP_OBSOLETE);
    uint64_t most = sp_budget(mmu);
    if (sh->pages + SP_ROOM <= most)
        return;
    struct sp *sp;
    while (sh->pages + SP_REFILL > most && (sp = oldest_idle(mmu))) {
        uint32_t before = sh->pages;
        sp_zap(vcpu, sp, ZAP_RECLAIM);
        vcpu->stats->v[PN_STAT_mmu_recycled] += before - sh->pages;
    }
}
