/* SPDX-License-Identifier: MIT */
/*
 * The body of the guest walk, compiled by walk.c once per paging mode. Parameters:
 *
 *   PT_NAME   the function's name
 *   PT_TOP    level of the root: 2 (32-bit), 3 (PAE), 4, 5
 *   PT_ENTRY  uint32_t or uint64_t, a gpte
 *   PT_BITS   address bits per level: 10 or 9
 *
 * PAE's level 3 is a register, not memory: its walk begins at level 2.
 */

static int PT_NAME(struct pn_mmu_vcpu *vcpu, const struct walk_mode *m, pn_gva gva,
                   enum pn_access access, enum pn_tlb_mode mode, unsigned flags,
                   struct walk *out) {
    struct pn_ring *ring = flags & WALK_PROBE ? NULL : vcpu->ring;
    pn_gpa table = m->cr3 & m->addr_mask;
    unsigned first = PT_TOP;
    out->top = PT_TOP;

#if PT_TOP == 2
    table = (uint32_t)table;
#elif PT_TOP == 3
    unsigned slot_of_pdpt = gva >> 30 & 3;
    uint64_t pdpte = m->pdpte[slot_of_pdpt];
    out->level = 3;
    out->pte_gpa[3] = (m->cr3 & 0xffffffe0u) + 8 * slot_of_pdpt;
    out->gpte[3] = pdpte;
    out->pt_access[3] = ACC_ALL;
    if (!(pdpte & GPTE_P))
        return walk_fault(m, gva, access, mode, 0, ring, out);
    table = pdpte & m->addr_mask;
    first = 2;
#endif

    const pn_gpa root = table;
    unsigned level, acc;
    uint64_t gpte, seen; /* seen: A where every gpte on the way has it */

retry:
    table = root;
    acc = ACC_ALL;
    seen = GPTE_A;
    for (level = first;; level--) {
        unsigned shift = PN_PAGE_SHIFT + PT_BITS * (level - 1);
        pn_gpa gpa = table + (gva >> shift & ((1u << PT_BITS) - 1)) * sizeof(PT_ENTRY);
        bool again = false;
        const PT_ENTRY *at = flags & WALK_2D
                                 ? vcpu->mmu->ops->table_read(vcpu, gva, gpa, &again)
                                 : gpte_host(vcpu->mmu, gpa);
        if (again)
            goto retry;
        gpte = at ? __atomic_load_n(at, __ATOMIC_RELAXED) : (PT_ENTRY)-1;
        count_read(vcpu, level, flags);
        out->level = (uint8_t)level;
        out->pte_gpa[level] = gpa;
        out->gpte[level] = gpte;
        acc &= gpte_rights(gpte);
        out->pt_access[level] = acc;
        pn_emit(ring, paging_element, gpte, level, gpa);
        if (!(gpte & GPTE_P))
            return walk_fault(m, gva, access, mode, 0, ring, out);
        bool ps = gpte & GPTE_PS;
        if (gpte & m->rsvd[ps][level])
            return walk_fault(m, gva, access, mode, PN_PF_PRESENT | PN_PF_RSVD, ring,
                              out);
        seen &= gpte;
        if (level == 1 || (ps && m->large_levels >> level & 1))
            break;
        table = gpte & m->addr_mask;
    }

    out->access = acc;
    out->pkey = PT_TOP >= 4 ? gpte >> GPTE_PKEY_SHIFT & 15 : 0;
    uint32_t error = walk_check(m, acc, out->pkey, access, mode);
    if (error)
        return walk_fault(m, gva, access, mode, error, ring, out);

    bool set_d = access == PN_WRITE && !(gpte & GPTE_D);
    if ((!seen || set_d) && !(flags & WALK_PROBE)) {
        for (unsigned l = first; l >= level; l--) {
            uint64_t want = l == level && set_d ? GPTE_A | GPTE_D : GPTE_A;
            if (~out->gpte[l] & want &&
                !gpte_set_ad(vcpu, gva, out, l, want, sizeof(PT_ENTRY), flags))
                goto retry; /* someone changed the gpte: what we read is history */
        }
        gpte = out->gpte[level];
    }

    out->dirty = gpte & GPTE_D;
    out->global = gpte & GPTE_G;
    out->gfn = (gpte & m->addr_mask) >> PN_PAGE_SHIFT;
    if (level > 1) {
        pn_gfn low = (1u << PT_BITS * (level - 1)) - 1;
        out->gfn = (out->gfn & ~low) | (gva >> PN_PAGE_SHIFT & low);
#if PT_TOP == 2
        out->gfn |= gpte_pse36_gfn(gpte);
#endif
    }
    return 0;
}

#undef PT_NAME
#undef PT_TOP
#undef PT_ENTRY
#undef PT_BITS
