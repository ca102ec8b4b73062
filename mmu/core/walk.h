/* SPDX-License-Identifier: MIT */
/*
 * The guest walk: one gva through the guest's own tables, in any paging mode.
 * Source: SDM volume 3, chapter "Paging"; permissions as KVM's arch/x86/kvm/mmu.h.
 */
#ifndef MMU_CORE_WALK_H
#define MMU_CORE_WALK_H

#include "penumbra/mmu.h"

/* Rights as the guest's tables grant them, KVM's ACC_* sense. */
#define ACC_EXEC  1u
#define ACC_WRITE 2u
#define ACC_USER  4u
#define ACC_ALL   7u

#define WALK_LEVELS 5

/* Everything that a walk depends on; derived once per change of the control registers by
 * walk_mode_init. Only cr3, pdpte, pkru and pkrs may be stored to by others: nothing else
 * is derived from them. nx, pke and pks are false where the paging mode ignores them. */
struct walk_mode {
    uint8_t levels; /* 0 paging off, 2 32-bit, 3 PAE, 4, 5 */
    uint8_t maxphyaddr;
    bool pse, nx, wp, smep, smap, pke, pks, lma;
    uint8_t large_levels;          /* bit n: a gpte of level n with PS maps a page */
    uint8_t deny[3][PN_TLB_MODES]; /* by enum pn_access: bit n: rights n (ACC_*) fault */
    uint8_t pfec[3][PN_TLB_MODES]; /* the error code's W, U and I bits */
    uint64_t addr_mask;            /* bits 12 .. maxphyaddr-1 */
    uint64_t rsvd[2][WALK_LEVELS + 1]; /* by PS and level: bits that must be 0 */
    uint64_t cr3;
    uint64_t pdpte[4]; /* PAE */
    uint32_t pkru, pkrs;
};

struct walk {
    uint8_t top, level; /* of the root table; of the leaf that mapped (1, 2, 3), or of the
                           gpte that faulted. Paging off: 0 and 3 */
    /* By level 1..5 ([0] unused), for every level read; gpte as read, A/D included after
     * a walk with side effects. PAE level 3 is the PDPTE register, rights ACC_ALL. */
    pn_gpa pte_gpa[WALK_LEVELS + 1];
    uint64_t gpte[WALK_LEVELS + 1];
    unsigned pt_access[WALK_LEVELS + 1]; /* rights granted down to and with that level */
    unsigned access;                     /* = pt_access[level]: ACC_* */
    uint8_t pkey;                        /* 4- and 5-level only, else 0 */
    bool dirty; /* the leaf's D is set (after the walk). A table in a read-only slot keeps
                   its A and D as they are, as under KVM */
    bool global;           /* the leaf's G, with CR4.PGE left to the caller */
    pn_gfn gfn;            /* of the 4 KiB page that holds gva */
    struct pn_fault fault; /* when the walk ends in #PF */
};

/* Level of the first gpte that a walk read from memory; 0: none. */
static inline unsigned walk_first(const struct walk *w) {
    return w->top == 3 ? 2 : w->top;
}

#define WALK_PROBE 1u /* no side effects: neither A nor D is set, no event, no count */
#define WALK_2D    2u /* reach each gpte by ops->table_read and table_write */

void walk_mode_init(struct walk_mode *m, const struct pn_paging *p, uint8_t maxphyaddr);

/*
 * Walk. mode and access say what rights to check; A and D are set by compare-and-swap in
 * guest memory (and reported to ops->written) unless WALK_PROBE.
 * Return: 0 and *out; or -1 and out->fault (a guest fault; levels read so far are
 * filled). A table outside every memslot reads as all ones, so that reserved bits fault.
 */
int walk_guest(struct pn_mmu_vcpu *vcpu, const struct walk_mode *m, pn_gva gva,
               enum pn_access access, enum pn_tlb_mode mode, unsigned flags,
               struct walk *out);

/*
 * The rights that a protection key takes away. acc: ACC_* of the translation; pkey: its
 * key. Source: SDM volume 3, "Protection Keys". Return: true when the key denies it.
 */
static inline bool walk_pkey_denies(const struct walk_mode *m, unsigned acc, uint8_t pkey,
                                    enum pn_access access, enum pn_tlb_mode mode) {
    bool user_page = acc & ACC_USER;
    if (access == PN_FETCH || !(user_page ? m->pke : m->pks))
        return false;
    uint32_t rights = (user_page ? m->pkru : m->pkrs) >> (2 * pkey); /* bit 0 AD, 1 WD */
    if (rights & 1)
        return true;
    return rights & 2 && access == PN_WRITE &&
           (m->wp || (user_page && mode == PN_TLB_USER));
}

/* Does a translation with these rights allow the access? The one place for the rules
 * (the table is made in walk_mode_init). Return: 0, or the #PF error code (with
 * PN_PF_PRESENT set). */
static inline uint32_t walk_check(const struct walk_mode *m, unsigned acc, uint8_t pkey,
                                  enum pn_access access, enum pn_tlb_mode mode) {
    bool deny = m->deny[access][mode] >> acc & 1;
    bool pk = (m->pke || m->pks) && walk_pkey_denies(m, acc, pkey, access, mode);
    if (!deny && !pk)
        return 0;
    return PN_PF_PRESENT | m->pfec[access][mode] | (pk ? PN_PF_PK : 0);
}

#endif
