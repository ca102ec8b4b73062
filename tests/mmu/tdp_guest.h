/* SPDX-License-Identifier: MIT */
/* A guest over the two-dimensional MMU, for its tests: memory of a wanted alignment, a
 * builder of guest tables of any depth, the CPU's accesses. One per test program. */
#ifndef TESTS_MMU_TDP_GUEST_H
#define TESTS_MMU_TDP_GUEST_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fixture.h"
#include "mmu/tdp/tdp.h"

#define P  0x001ull
#define W  0x002ull
#define U  0x004ull
#define A  0x020ull
#define D  0x040ull
#define PS 0x080ull
#define G  0x100ull

#define MIB    (1ull << 20)
#define GIB    (1ull << 30)
#define TABLES (1 * MIB) /* guest tables are taken from here on */
#define GVA    0x7f1234000000ull

static struct fixture f;
static struct pn_mmu_options opt;
static const struct pn_tlb_model *tlb; /* for begin(); NULL: none */
static enum pn_dirty_tracker tracker;  /* for begin() */
static pn_gpa next_table;
static struct pn_xlate x;
static void *room;
static size_t room_size;

static inline uint64_t stat(enum pn_stat id) {
    return f.stats.v[id];
}

/* An MMU of `kind` with opt, and slot 0 of size bytes at gpa 0, its host address aligned
 * to `align` and to no more. */
static inline void begin(enum pn_mmu_kind kind, uint64_t size, uint64_t align,
                         uint32_t flags) {
    fixture_create_tlb(&f, kind, &opt, 46, tlb, tracker);
    room_size = size + 4 * align;
    room = mmap(NULL, room_size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(room, MAP_FAILED);
    uintptr_t at = ((uintptr_t)room + align - 1) & ~(uintptr_t)(align - 1);
    if (!(at & align))
        at += align;
    f.mem = (uint8_t *)at;
    struct pn_memslot slot = {.flags = flags, .size = size, .hva = f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &slot), 0);
    next_table = TABLES;
}

static inline void clean(void) {
    ck_assert_int_eq(pn_mmu_audit(f.mmu, stderr), 0);
}

static inline void end(void) {
    clean();
    f.mem = NULL;
    fixture_free(&f);
    munmap(room, room_size);
}

static inline pn_gpa new_table(void) {
    next_table += PN_PAGE_SIZE;
    return next_table - PN_PAGE_SIZE;
}

/* The gpte of gva at `level` in tables of `levels` under root; upper levels are made. */
static inline pn_gpa gpte_at(unsigned levels, pn_gpa root, pn_gva gva, unsigned level) {
    for (unsigned l = levels;; l--) {
        pn_gpa at = root + 8 * (gva >> (12 + 9 * (l - 1)) & 511);
        if (l == level)
            return at;
        if (!(*fixture_q(&f, at) & P))
            *fixture_q(&f, at) = new_table() | P | W | U | A;
        root = *fixture_q(&f, at) & 0xffffffffff000ull;
    }
}

/* Map gva to gpa by a page of `level`, under tables of `levels`. Return: the root. */
static inline pn_gpa map_page(unsigned levels, unsigned level, pn_gpa root, pn_gva gva,
                              pn_gpa gpa, uint64_t flags) {
    if (!root)
        root = new_table();
    *fixture_q(&f, gpte_at(levels, root, gva, level)) =
        gpa | flags | (level > 1 ? PS : 0);
    return root;
}

static inline void paging(unsigned levels, uint64_t cr3) {
    struct pn_paging p = fixture_paging(levels, cr3);
    pn_mmu_set_paging(f.vcpu, &p);
}

static inline bool hit(pn_gva gva, enum pn_access access) {
    const struct pn_tlb_entry *e =
        &f.view.tlb[PN_TLB_SUPER][gva >> 12 & (PN_TLB_ENTRIES - 1)];
    return (e->tag[access] ^ gva) <= 4096 - 1;
}

static inline enum pn_outcome go(pn_gva gva, enum pn_access access) {
    return pn_mmu_translate(f.vcpu, gva, access, PN_TLB_SUPER, &x);
}

/* A store as the CPU does it. Return: what the miss came to, or PN_OUT_MAPPED. */
static inline enum pn_outcome store(pn_gva gva, uint64_t value) {
    if (hit(gva, PN_WRITE)) {
        const struct pn_tlb_entry *e =
            &f.view.tlb[PN_TLB_SUPER][gva >> 12 & (PN_TLB_ENTRIES - 1)];
        memcpy((char *)e->hva + (gva & 0xfff), &value, 8);
        return PN_OUT_MAPPED;
    }
    enum pn_outcome o = go(gva, PN_WRITE);
    if (o == PN_OUT_MAPPED)
        memcpy(x.hva, &value, 8);
    else if (o == PN_OUT_TRACKED)
        ck_assert_uint_eq(pn_mmu_write_phys(f.mmu, x.gpa, &value, 8), 8);
    return o;
}

/* The second-level entry that translates gpa. */
static inline struct ewalk leaf(pn_gpa gpa) {
    struct ewalk w;
    ept_peek(f.mmu->tdp, gpa, &w);
    return w;
}

#endif
