/* SPDX-License-Identifier: MIT */
/*
 * The guest walk: one gva through the guest's own tables, in any paging mode.
 * Source: SDM volume 3, chapter "Paging"; permissions as KVM's arch/x86/kvm/mmu.h.
 */
#ifndef MMU_WALK_H
#define MMU_WALK_H

#include "penumbra/mmu.h"

/* Rights as the guest's tables grant them, KVM's ACC_* sense. */
#define ACC_EXEC  1u
#define ACC_WRITE 2u
#define ACC_USER  4u
#define ACC_ALL   7u

#define WALK_LEVELS 5

/* Everything that a walk depends on; derived once per change of the control registers. */
struct walk_mode {
    uint8_t levels; /* 0 paging off, 2 32-bit, 3 PAE, 4, 5 */
    uint8_t maxphyaddr;
    bool pse, nx, wp, smep, smap, pke, pks, lma;
    uint64_t cr3;
    uint64_t pdpte[4]; /* PAE */
    uint32_t pkru, pkrs;
};

struct walk {
    uint8_t top, level; /* of the root table; of the leaf that mapped (1, 2, 3) */
    /* By level 1..5 ([0] unused), for every level read; gpte as read, A/D included after
     * a walk with side effects. */
    pn_gpa pte_gpa[WALK_LEVELS + 1];
    uint64_t gpte[WALK_LEVELS + 1];
    unsigned pt_access[WALK_LEVELS + 1]; /* rights granted down to and with that level */
    unsigned access;                     /* = pt_access[level]: ACC_* */
    uint8_t pkey;                        /* 4- and 5-level only, else 0 */
    bool dirty;                          /* the leaf's D is set (after the walk) */
    bool global;           /* the leaf's G, with CR4.PGE left to the caller */
    pn_gfn gfn;            /* of the 4 KiB page that holds gva */
    struct pn_fault fault; /* when the walk ends in #PF */
};

#define WALK_PROBE 1u /* no side effects: neither A nor D is set, no event */

void walk_mode_init(struct walk_mode *m, const struct pn_paging *p, uint8_t maxphyaddr);

/*
 * Walk. mode and access say what rights to check; A and D are set by compare-and-swap in
 * guest memory (and reported to walk_ad_written below) unless WALK_PROBE.
 * Return: 0 and *out; or -1 and out->fault (a guest fault; levels read so far are
 * filled). A table outside every memslot reads as all ones, so that reserved bits fault.
 */
int walk_guest(struct pn_mmu *mmu, struct pn_mmu_vcpu *vcpu, const struct walk_mode *m,
               pn_gva gva, enum pn_access access, enum pn_tlb_mode mode, unsigned flags,
               struct walk *out);

/* Does a translation with these rights allow the access? The one place for the rules.
 * Return: 0, or the #PF error code (with PN_PF_PRESENT set). */
uint32_t walk_check(const struct walk_mode *m, unsigned acc, uint8_t pkey,
                    enum pn_access access, enum pn_tlb_mode mode);

#endif
