/* SPDX-License-Identifier: MIT */
/* A guest with 4-level tables for the tests of the shadow half: a builder of tables, the
 * CPU's accesses, and checks of what they came to. One per test program. */
#ifndef TESTS_MMU_SHADOW_GUEST_H
#define TESTS_MMU_SHADOW_GUEST_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fixture.h"
#include "mmu/shadow/shadow.h"

#define P  0x001ull
#define W  0x002ull
#define U  0x004ull
#define A  0x020ull
#define D  0x040ull
#define PS 0x080ull
#define NX (1ull << 63)

#define MEM    (16ull << 20)
#define ROOT   0x100000ull /* tables are taken from here on */
#define DATA   0x800000ull
#define DIRECT 0xffff888000000000ull /* all memory, supervisor, by 4 KiB pages */

/* Guest memory as a boot loader leaves it: a small builder of 4-level tables. */
static struct fixture f;
static pn_gpa next_table;

static inline uint64_t stat(enum pn_stat id) {
    return f.stats.v[id];
}

static inline pn_gpa new_table(void) {
    pn_gpa gpa = next_table;
    next_table += PN_PAGE_SIZE;
    ck_assert_uint_lt(gpa, DATA);
    return gpa;
}

/* The gpte of gva at `level` under root; upper levels are made. */
static inline pn_gpa gpte_at(pn_gpa root, pn_gva gva, unsigned level) {
    for (unsigned l = 4;; l--) {
        pn_gpa at = root + 8 * (gva >> (12 + 9 * (l - 1)) & 511);
        if (l == level)
            return at;
        if (!(*fixture_q(&f, at) & P))
            *fixture_q(&f, at) = new_table() | P | W | U | A;
        root = *fixture_q(&f, at) & 0xffffffffff000ull;
    }
}

static inline void map(pn_gpa root, pn_gva gva, pn_gpa gpa, uint64_t flags) {
    *fixture_q(&f, gpte_at(root, gva, 1)) = gpa | flags;
}

static inline void map_direct(pn_gpa root) {
    for (pn_gpa gpa = 0; gpa < MEM; gpa += PN_PAGE_SIZE)
        map(root, DIRECT + gpa, gpa, P | W | A | D | NX);
}

static inline void start(void) {
    fixture_init(&f, 46, MEM, 0);
    next_table = ROOT;
    f.mmu->cfg.opt.prefetch = 0;
}

static inline void on_4level(pn_gpa root) {
    struct pn_paging p = fixture_paging(4, root);
    pn_mmu_set_paging(f.vcpu, &p);
}

static inline void clean(void) {
    ck_assert_int_eq(pn_mmu_audit(f.mmu, stderr), 0);
}

static inline void finish(void) {
    clean();
    fixture_free(&f);
}

static inline bool hit_in(const struct pn_tlb_view *view, pn_gva gva,
                          enum pn_access access, enum pn_tlb_mode mode) {
    const struct pn_tlb_entry *e = &view->tlb[mode][gva >> 12 & (PN_TLB_ENTRIES - 1)];
    return (e->tag[access] ^ gva) <= 4096 - 1;
}

static inline bool hit(pn_gva gva, enum pn_access access, enum pn_tlb_mode mode) {
    return hit_in(&f.view, gva, access, mode);
}

static struct pn_xlate x;

static inline enum pn_outcome go(pn_gva gva, enum pn_access access,
                                 enum pn_tlb_mode mode) {
    return pn_mmu_translate(f.vcpu, gva, access, mode, &x);
}

/* A supervisor's store through the direct map, as the CPU does it. */
static inline enum pn_outcome poke(pn_gpa gpa, uint64_t value) {
    pn_gva gva = DIRECT + gpa;
    const struct pn_tlb_entry *e =
        &f.view.tlb[PN_TLB_SUPER][gva >> 12 & (PN_TLB_ENTRIES - 1)];
    if (hit(gva, PN_WRITE, PN_TLB_SUPER)) {
        memcpy((char *)e->hva + (gva & 0xfff), &value, 8);
        return PN_OUT_MAPPED;
    }
    enum pn_outcome o = go(gva, PN_WRITE, PN_TLB_SUPER);
    if (o == PN_OUT_MAPPED)
        memcpy(x.hva, &value, 8);
    else if (o == PN_OUT_TRACKED)
        ck_assert_uint_eq(pn_mmu_write_phys(f.mmu, x.gpa, &value, 8), 8);
    return o;
}

#define ck_map(gva, access, mode, want)                                                  \
    do {                                                                                 \
        ck_assert_int_eq(go(gva, access, mode), PN_OUT_MAPPED);                          \
        ck_assert_uint_eq(x.gpa, want);                                                  \
        ck_assert_ptr_eq(x.hva, f.mem + (want));                                         \
    } while (0)
#define ck_pf(gva, access, mode, code)                                                   \
    do {                                                                                 \
        ck_assert_int_eq(go(gva, access, mode), PN_OUT_GUEST_PF);                        \
        ck_assert_uint_eq(x.fault.error, code);                                          \
        ck_assert(!hit(gva, access, mode));                                              \
    } while (0)

static inline void write_back(pn_gpa gpa) {
    uint64_t same = *fixture_q(&f, gpa);
    pn_mmu_write_phys(f.mmu, gpa, &same, 8);
}

#endif
