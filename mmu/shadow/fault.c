/* SPDX-License-Identifier: MIT */
/*
 * Translation: TLB miss -> walk of the shadow tables -> fault -> guest walk -> #PF, MMIO,
 * tracked write, dirty log, or map and retry.
 *
 * Invariants
 * 1. (ARCHITECTURE.md, invariant 3) A page written since the last harvest is in the
 *    dirty log, or in a buffer, before it is in a TLB: by D bits a leaf gets LOG_D then, without
 *    them MMU_W only while the page's dirty bit is set.
 * 2. Every fault begins with an event page_fault and ends in fault_done.
 * 3. Room for sps and lists is made before a path is built; nothing on the path is zapped
 *    until the leaf stands.
 */
#include "mmu/shadow/shadow.h"

#define LIST_ROOM 24 /* ptr_lists that a path takes; prefetch adds one per spte */

/* One access on its way. */
struct fault {
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu;
    struct root *r;
    pn_gva gva;
    enum pn_access access;
    enum pn_tlb_mode mode;
    struct slot *slot; /* of the frame; NULL: MMIO */
    struct walk walk;
    struct swalk sw;
    bool split;      /* a large mapping was in the way */
    struct sp *nest; /* agile: the way led from a table of the guest's to this one */
};

/* ---- May it be written unseen? ---- */

/* A store to gfn is about to happen. Return: what it comes to, or PN_OUT_NO_FAULT: nobody
 * has to see it. */
static enum pn_outcome write_gate(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    if (track_tables(s, gfn) && !unsync_try(vcpu, s, gfn))
        return PN_OUT_tracked_table;
    if (s->dirty && vcpu->mmu->tracker->stored(vcpu, s, gfn))
        return PN_OUT_dirty_log;
    return PN_OUT_NO_FAULT;
}

/* ---- Begin and end ---- */

/* how: more bits of the error code. */
static void begin(const struct fault *f, uint32_t how) {
    uint32_t error = f->vcpu->walk.rights.pfec[f->access][f->mode];
    exit_begins(f->mmu);
    observe(f->mmu, fault_taken, f->vcpu);
    pn_emit(f->vcpu->ring, page_fault, f->gva, error | how);
}

static enum pn_outcome done(const struct fault *f, enum pn_outcome outcome) {
    if (f->mmu->shadow->unsynced_count)
        unsync_limit(f->vcpu);
    if (f->nest)
        agile_nest(f->vcpu, f->nest);
    return fault_done(f->vcpu, outcome, f->gva, f->sw.level, spte_public(f->sw.spte));
}

/* ---- The path from the root to the leaf ---- */

/* What a table spte at some level has to lead to. */
struct step {
    pn_gfn gfn;
    uint32_t role;
    uint64_t grant;
};

/* sp's own gpte for the access, as the walk left it. */
static uint64_t own_value(const struct fault *f, const struct sp *sp) {
    uint64_t v = f->walk.gpte[sp_level(sp)];
    return sp->read_only ? v | sp->format->accessed | sp->format->dirty : v;
}

static struct gpte own_gpte(const struct fault *f, const struct sp *sp) {
    return gpte_decode(sp->format, sp_level(sp), own_value(f, sp));
}

static struct step step_from_root(const struct fault *f) {
    const struct stage *m = &f->vcpu->walk;
    unsigned i = level_index(f->gva, 3);
    struct step st = {.grant = SPTE_GRANT, .role = mode_role(m) | 2};
    if (m->levels == 0) {
        st.gfn = i * level_pages(3);
        st.role = ROLE_DIRECT | 2;
    } else if (m->levels == 2) {
        st.gfn = (uint32_t)(m->root & m->bits.address) >> PN_PAGE_SHIFT;
        st.role |= i << ROLE_QUAD_SHIFT;
    } else {
        st.gfn = (m->pdpte[i] & m->bits.address) >> PN_PAGE_SHIFT;
    }
    if (f->walk.second_level && m->levels)
        st.gfn = f->walk.slot_gpa[2] >> PN_PAGE_SHIFT;
    return st;
}

static bool step_down(const struct fault *f, const struct sp *sp, struct step *st) {
    unsigned level = sp_level(sp);
    if (sp->role & ROLE_ROOT) {
        *st = step_from_root(f);
        return true;
    }
    pn_gfn gfn = walk_own_gfn(f->vcpu, &f->walk);
    st->gfn = gfn & ~(level_pages(level) - 1);
    st->role = ROLE_DIRECT | (level - 1);
    st->grant = SPTE_GRANT;
    if (sp_direct(sp))
        return true;
    struct gpte g = own_gpte(f, sp);
    st->grant = g.grant;
    if (!g.leaf) {
        st->gfn =
            f->walk.second_level ? f->walk.slot_gpa[level - 1] >> PN_PAGE_SHIFT : g.table;
        st->role = (sp->role & ROLE_FORMAT) | (level - 1);
        if (sp->role & ROLE_4BYTE)
            st->role |= (f->gva >> 21 & 1) << ROLE_QUAD_SHIFT;
    }
    return g.usable && g.leaf == (level == f->walk.level);
}

/* The table that the spte leads to, if the step goes there. */
static struct sp *child_at(uint64_t spte, const struct step *st) {
    struct sp *child = spte_table(spte) ? sp_of(spte_child(spte)) : NULL;
    return child && child->gfn == st->gfn && child->role == st->role ? child : NULL;
}

/* What was there goes, or grants other rights: KVM has the rights of direct sps in their role,
 * so that others are another sp there (validate_direct_spte). */
static bool step_flushes(uint64_t spte, const struct sp *child, const struct step *st) {
    if (!child)
        return spte_present(spte);
    return sp_direct(child) && (spte ^ st->grant) & SPTE_GRANT;
}

/* May the leaf stand at this level? */
static bool level_allowed(const struct fault *f, const struct sp *sp) {
    unsigned level = sp_level(sp);
    if (level == 1)
        return true;
    if (!f->slot || level > f->walk.level || level > 3 || sp->role & ROLE_ROOT)
        return false;
    if (f->walk.second_level && level > f->walk.second_level)
        return false;
    if (apic_within(f->vcpu, f->walk.gfn, level))
        return false;
    if (!f->mmu->cfg.opt.large_pages || f->slot->pub.flags & PN_SLOT_LOG_DIRTY)
        return false;
    return *slot_large(f->slot, f->walk.gfn, level) == 0;
}

/* In a world with a second level a table spte stays while its gpte leads where it led. */
static void note_gpte(const struct fault *f, uint64_t *sptep) {
    struct sp *sp = sp_of(sptep);
    if (sp->frames && sp->gptes)
        sp->gptes[sp_index(sptep)] = own_value(f, sp);
}

/* Build what is missing. Return: where the leaf goes, or NULL: it cannot be cached (a
 * table outside the memslots, or the host is out of memory). */
static uint64_t *build_path(struct fault *f) {
    struct sp *sp = root_top(f->vcpu, f->r);
    while (sp) {
        uint64_t *sptep = &sp->spt[level_index(f->gva, sp_level(sp))];
        struct step st;
        sp->flood = 0;
        if (level_allowed(f, sp))
            return sptep;
        if (!step_down(f, sp, &st))
            return NULL;
        struct sp *child = child_at(*sptep, &st);
        if (step_flushes(*sptep, child, &st))
            flush_ask(f->mmu);
        if (child) {
            spte_regrant(f->mmu, sptep, st.grant);
            sp = child;
            continue;
        }
        if (spte_leaf(*sptep)) {
            pn_count(f->vcpu->stats, large_split);
            f->split = true;
        }
        if (*sptep)
            spte_drop(f->mmu, sptep);
        sp = sp_get(f->vcpu, st.gfn, st.role);
        if (!sp)
            break;
        spte_link(f->mmu, sptep, sp, st.grant);
        note_gpte(f, sptep);
        if (sp_of(sptep)->unsync && f->mmu->shadow->policy.nests && !f->nest)
            f->nest = sp;
    }
    return NULL;
}

static uint64_t *reserve_path(struct fault *f) {
    if (f->r->narrow && f->gva >> 32)
        return NULL; /* no such linear address: the CPU wraps; nothing to cache */
    if (!walk_cacheable(&f->walk))
        return NULL;
    if (slab_reserve_lists(f->mmu, LIST_ROOM + f->mmu->cfg.opt.prefetch) < 0)
        return NULL;
    sp_make_room(f->vcpu);
    return build_path(f);
}

/* Which level's entry is no longer what the walk read? Return: 0: none is. */
static unsigned changed_level(const struct fault *f) {
    const struct walk *w = &f->walk;
    const struct pt_format *format = f->vcpu->walk.bits.format; /* NULL: paging is off */
    bool small = format && format->entry == 4;
    for (unsigned level = walk_first(w); level && level >= w->level; level--) {
        const void *at = slot_ref(f->mmu, w->slot_gpa[level]).host;
        uint64_t now = !at     ? ~0ull
                       : small ? __atomic_load_n((const uint32_t *)at, __ATOMIC_RELAXED)
                               : __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED);
        if (now != w->gpte[level])
            return level;
    }
    return 0;
}

/* Where vCPUs are threads another one may store to a table between the walk and the moment
 * from which its stores are seen (sp_get). What was made of the entry that is gone goes; the
 * access itself came before that store. KVM compares, too (FNAME(gpte_changed)), and then has
 * the guest try again. Return: that is so. */
static bool raced(struct fault *f) {
    unsigned level = f->mmu->cfg.stand_still ? changed_level(f) : 0;
    struct sp *sp = level ? f->r->top : NULL;
    while (sp) {
        uint64_t *sptep = &sp->spt[level_index(f->gva, sp_level(sp))];
        bool here = sp_level(sp) == level && !sp_direct(sp);
        sp = !here && spte_table(*sptep) ? sp_of(spte_child(*sptep)) : NULL;
        if (here && *sptep) {
            flush_ask(f->mmu);
            spte_drop(f->mmu, sptep);
        }
    }
    return level;
}

/* The gpte behind the leaf of the access. Return: what the leaf grants by itself. */
static uint64_t leaf_grant(const struct fault *f, const uint64_t *sptep, uint64_t *v) {
    const struct sp *sp = sp_of(sptep);
    *v = 0;
    if (sp_direct(sp))
        return frame_grant(walk_passes(&f->walk), SPTE_GRANT);
    *v = own_value(f, sp);
    return frame_grant(walk_passes(&f->walk), own_gpte(f, sp).grant);
}

/* The aligned group of sptes around the one just made. */
static void prefetch(struct fault *f, uint64_t *sptep) {
    struct sp *sp = sp_of(sptep);
    unsigned n = f->mmu->cfg.opt.prefetch;
    if (!n || sp_level(sp) != 1 || sp->frames)
        return;
    const uint8_t *table = NULL;
    if (!sp_direct(sp)) {
        struct slot *s = slot_of_gfn(f->mmu, sp->gfn);
        table = slot_hva(s, sp->gfn);
    }
    unsigned first = sp_index(sptep) / n * n;
    for (unsigned i = first; i < first + n && i < 512; i++)
        if (!sp->spt[i] && (!table || !gpte_unused(sp, sp_gpte(sp, i, table))))
            prefetch_spte(f->vcpu, sp, i, table);
}

/* ---- The fault ---- */

/* The policy syncs all before this fault, and no shortcut is right. */
static bool syncs_first(const struct fault *f) {
    return f->mmu->shadow->policy.syncs_at_fault && sync_needed(f->r, f->gva);
}

static __attribute__((noinline)) void sync_first(const struct fault *f) {
    for_each_root(f->mmu, v, r)
        shadow_root_sync(f->vcpu, r);
}

/* The access, to a page of gfn, goes through the leaf that sw ends in. */
static __attribute__((noinline)) void use(const struct fault *f, pn_gfn gfn) {
    const struct swalk *sw = &f->sw;
    unsigned denied = rights_denied(&f->vcpu->walk.rights, spte_acc(sw->grant),
                                    spte_pkey(sw->grant), f->mode);
    uint64_t log_d = f->mmu->shadow->log_d;
    if (!pn_on_shadow_stack(f->access)) {
        tlb_fill(f->vcpu, f->r, f->gva, gfn, f->access, f->mode, sw, denied, log_d);
        return;
    }
    if (pn_stores(f->access) && log_d & ~sw->spte) {
        sp_grants(sw->sptep);
        dirty_set_d(f->vcpu, gfn, sw->level);
    }
    spte_put(sw->sptep,
             sw->spte | SPTE_HW_A | (pn_stores(f->access) ? SPTE_HW_D | log_d : 0));
}

/* The hypervisor makes the leaf for a store, which the log knows of: no processor has to tell. */
static void has_d(struct fault *f) {
    if (pn_stores(f->access) && f->mmu->shadow->log_d) {
        sp_grants(f->sw.sptep);
        f->sw.spte |= f->mmu->shadow->log_d;
    }
}

static void refill(struct fault *f) {
    shadow_walk(f->r, f->gva, &f->sw);
    if (!spte_leaf(f->sw.spte))
        return;
    has_d(f);
    use(f, f->walk.gfn);
}

static void note_passes(const struct fault *f, uint64_t *sptep) {
    struct sp *sp = sp_of(sptep);
    if (sp->frames)
        sp->frames[sp_index(sptep)] |= walk_passes(&f->walk);
}

static enum pn_outcome fault_mmio(struct fault *f) {
    f->sw.level = 1;
    f->sw.spte = 0;
    if (!f->slot) {
        uint64_t *sptep = reserve_path(f);
        if (sptep && !raced(f)) {
            uint64_t v, grant = leaf_grant(f, sptep, &v);
            spte_set_mmio(f->vcpu, sptep, f->walk.gfn, v, grant);
            note_passes(f, sptep);
            f->sw.spte = *sptep;
        }
    }
    return done(f, PN_OUT_mmio);
}

static enum pn_outcome fault_map(struct fault *f) {
    struct slot *s = f->slot;
    pn_gfn gfn = f->walk.gfn;
    uint64_t *sptep = reserve_path(f);
    if (raced(f))
        sptep = NULL;
    enum pn_outcome outcome =
        pn_stores(f->access) ? write_gate(f->vcpu, s, gfn) : PN_OUT_NO_FAULT;
    f->sw.level = 0;
    f->sw.spte = 0;
    if (!sptep) {
        f->r->loose |= f->access == PN_FETCH;
        if (pn_stores(f->access))
            dirty_mark(s, gfn); /* no leaf has its D */
        return done(f, outcome ? outcome : PN_OUT_uncached);
    }
    f->sw.level = sp_level(sp_of(sptep));
    if (sp_closed(f->mmu, sp_of(sptep)))
        shadow_open(f->mmu, sp_of(sptep));
    uint64_t v, bits = leaf_grant(f, sptep, &v) | SPTE_HW_A;
    if (!(s->pub.flags & PN_SLOT_READONLY))
        bits |= SPTE_HOST_W;
    if (may_store_unseen(f->mmu, s, gfn, f->sw.level))
        bits |= SPTE_MMU_W;
    spte_set_leaf(f->vcpu, s, sptep, gfn & ~(level_pages(f->sw.level) - 1), v, bits);
    note_passes(f, sptep);
    if (pn_answer(outcome) != PN_TRACKED)
        refill(f);
    prefetch(f, sptep);
    if (!outcome)
        outcome = f->split ? PN_OUT_mapped_split : PN_OUT_mapped;
    return done(f, outcome);
}

static PN_IN_FAULT __attribute__((noinline)) enum pn_outcome
fault(struct fault *f, bool present, struct pn_xlate *out) {
    begin(f, present ? PN_PF_PRESENT : 0);
    if (syncs_first(f))
        sync_first(f);
    if (stage_walk(f->vcpu, &f->vcpu->walk, f->gva, f->access, f->mode, 0, &f->walk) <
        0) {
        out->fault = f->walk.fault;
        out->hva = NULL;
        /* A stale mapping may not fault for ever. KVM's kvm_inject_emulated_page_fault. */
        if ((out->fault.error & (PN_PF_PRESENT | PN_PF_RSVD)) == PN_PF_PRESENT &&
            f->walk.end != WALK_BELOW)
            sync_gva(f->vcpu, f->r, f->gva);
        return fault_done(f->vcpu, walk_outcome(&f->walk), f->gva, f->walk.level, 0);
    }
    uint64_t offset = f->gva & (PN_PAGE_SIZE - 1);
    out->gpa = f->walk.gfn << PN_PAGE_SHIFT | offset;
    out->hva = NULL;
    f->slot = slot_of_gfn(f->mmu, f->walk.gfn);
    if (!f->slot || (pn_stores(f->access) && f->slot->pub.flags & PN_SLOT_READONLY))
        return fault_mmio(f);
    out->hva = slot_hva(f->slot, f->walk.gfn) + offset;
    return fault_map(f);
}

/* The guest uses the tables that map what it writes: they are none that it is about to
 * fill with something else. KVM's shadow_page_table_clear_flood. */
static void clear_flood(const struct fault *f) {
    uint64_t *sptep;
    struct sp *sp = f->r->top;
    do {
        sp->flood = 0;
        sptep = &sp->spt[level_index(f->gva, sp_level(sp))];
    } while (spte_table(*sptep) && (sp = sp_of(spte_child(*sptep))));
}

/* The tables grant the write, but somebody wanted to see it: no guest walk is needed. */
static PN_IN_FAULT __attribute__((noinline)) enum pn_outcome
fault_protected(struct fault *f, pn_gfn gfn) {
    begin(f, PN_PF_PRESENT);
    enum pn_outcome outcome = write_gate(f->vcpu, slot_of_gfn(f->mmu, gfn), gfn);
    if (outcome == PN_OUT_tracked_table) {
        clear_flood(f);
    } else {
        f->sw.spte |= SPTE_MMU_W;
        sp_grants(f->sw.sptep);
        has_d(f);
        use(f, gfn);
    }
    return done(f, outcome ? outcome : PN_OUT_mapped);
}

/* What `filled` does not answer. sw: the walk of the shadow tables; NULL: there are none. */
static PN_IN_MISS __attribute__((noinline)) enum pn_outcome
not_filled(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
           enum pn_tlb_mode mode, const struct swalk *sw, struct pn_xlate *out) {
    struct fault f;
    f.mmu = vcpu->mmu;
    f.vcpu = vcpu;
    f.r = vcpu->roots->cur;
    f.gva = gva;
    f.access = access;
    f.mode = mode;
    f.split = false;
    f.nest = NULL;
    if (!sw || !sw->spte)
        return fault(&f, false, out);
    unsigned acc = spte_acc(sw->grant);
    if (pn_on_shadow_stack(access))
        acc |= shadow_stack_right(f.r->top, gva, sw->spte);
    bool allowed =
        !rights_check(&vcpu->walk.rights, acc, spte_pkey(sw->grant), access, mode);
    bool marked = access != PN_WRITE || sw->grant & SPTE_D;
    f.sw = *sw;
    if (allowed && marked && spte_leaf(sw->spte)) {
        swalk_place(sw, gva, out);
        if (!pn_stores(access) || (sw->spte & SPTE_STORE) == SPTE_STORE) {
            use(&f, out->gpa >> PN_PAGE_SHIFT);
            return PN_OUT_NO_FAULT;
        }
        if (sw->spte & SPTE_HOST_W && sw->level == 1 && !syncs_first(&f))
            return fault_protected(&f, out->gpa >> PN_PAGE_SHIFT);
    } else if (allowed && marked && spte_mmio(sw->spte) &&
               (sw->spte >> PN_PAGE_SHIFT & SPTE_GEN) ==
                   (f.mmu->slots.generation & SPTE_GEN) &&
               !syncs_first(&f)) {
        out->gpa = swalk_gfn(sw, gva) << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
        out->hva = NULL;
        begin(&f, FAULT_MMIO_CACHED);
        return done(&f, PN_OUT_mmio_cached);
    }
    return fault(&f, spte_present(sw->spte), out);
}

/* The whole of a TLB miss that needs no fault: a leaf that grants the access fills the TLB.
 * Return: false: there is none, or it is an access on a shadow stack. */
static inline __attribute__((always_inline)) bool
filled(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva, enum pn_access access,
       enum pn_tlb_mode mode, const struct swalk *sw, struct pn_xlate *out) {
    unsigned denied = rights_denied(&vcpu->walk.rights, spte_acc(sw->grant),
                                    spte_pkey(sw->grant), mode);
    if (!spte_leaf(sw->spte) || denied >> access & 1 || access > PN_FETCH)
        return false;
    if (access == PN_WRITE &&
        (!(sw->grant & SPTE_D) || (sw->spte & SPTE_STORE) != SPTE_STORE))
        return false;
    swalk_place(sw, gva, out);
    tlb_fill(vcpu, r, gva, out->gpa >> PN_PAGE_SHIFT, access, mode, sw, denied, 0);
    return true;
}

static inline __attribute__((always_inline)) enum pn_outcome
translate(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
          enum pn_tlb_mode mode, bool short_way, bool closes, struct pn_xlate *out) {
    struct root *r = vcpu->roots->cur;
    struct swalk sw;
    pn_count(vcpu->stats, tlb_miss);
    if ((!r->top && !root_adopt(vcpu, r)) || (r->narrow && gva >> 32))
        return not_filled(vcpu, gva, access, mode, NULL, out);
    shadow_walk_counted(r, gva, &sw, vcpu->stats);
    if (closes && __builtin_expect(sp_closed(vcpu->mmu, sp_of(sw.sptep)), 0)) {
        shadow_open(vcpu->mmu, sp_of(sw.sptep));
        sw.spte = *sw.sptep;
    }
    if (short_way && filled(vcpu, r, gva, access, mode, &sw, out))
        return PN_OUT_NO_FAULT;
    struct swalk walked = sw; /* so that sw need not be in memory */
    return not_filled(vcpu, gva, access, mode, &walked, out);
}

PN_IN_MISS enum pn_outcome shadow_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                            enum pn_access access, enum pn_tlb_mode mode,
                                            struct pn_xlate *out) {
    return translate(vcpu, gva, access, mode, true, false, out);
}

PN_IN_MISS enum pn_outcome shadow_translate_closed(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                                   enum pn_access access,
                                                   enum pn_tlb_mode mode,
                                                   struct pn_xlate *out) {
    return translate(vcpu, gva, access, mode, true, true, out);
}

PN_IN_MISS enum pn_outcome shadow_translate_slow(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                                 enum pn_access access,
                                                 enum pn_tlb_mode mode,
                                                 struct pn_xlate *out) {
    return translate(vcpu, gva, access, mode, false, true, out);
}

/* The tables as they stand: what the guest's tables say is another matter. */
bool shadow_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                      bool found, struct pn_walk_cost *c) {
    const struct root *r = vcpu->roots->cur;
    struct swalk sw;
    if (!r->top || (r->narrow && gva >> 32))
        return false;
    unsigned refs = shadow_walk(r, gva, &sw);
    for (unsigned i = 0; i < refs; i++)
        c->table[sw.level + i]++;
    return found && spte_leaf(sw.spte);
}
