/* SPDX-License-Identifier: MIT */
/* A guest for the tests of either kind of MMU: memory of a wanted alignment, a builder of
 * guest tables of any depth, the CPU's accesses, and checks of what they came to. One per
 * test program. */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fixture.h"
#include "gpte.h"
#include "mmu/shadow/shadow.h"
#include "mmu/tdp/tdp.h"

#define MIB    (1ull << 20)
#define GIB    (1ull << 30)
#define MEM    (16 * MIB)
#define ROOT   (1 * MIB) /* tables are taken from here on */
#define DATA   (8 * MIB)
#define GVA    0x7f1234000000ull
#define DIRECT 0xffff888000000000ull /* all memory, supervisor, by 4 KiB pages */

static struct fixture f;
static struct pn_mmu_options opt;
static const struct pn_tlb_model *tlb; /* for begin(); NULL: none */
static enum pn_dirty_tracker tracker;  /* for begin() */
static pn_gpa next_table;
static struct pn_xlate x; /* what go() was answered */
static void *room;
static size_t room_size;

static inline uint64_t stat(enum pn_stat id) {
    return f.stats.v[id];
}

/* ---- Life ---- */

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
    next_table = ROOT;
}

/* A shadow MMU that prefetches nothing, MEM bytes of memory. */
static inline void begin_shadow(void) {
    pn_mmu_options_default(&opt);
    opt.prefetch = 0;
    begin(PN_MMU_SHADOW, MEM, 2 * MIB, 0);
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

/* ---- The guest's tables ---- */

static inline pn_gpa new_table(void) {
    next_table += PN_PAGE_SIZE;
    ck_assert_uint_le(next_table, room_size);
    return next_table - PN_PAGE_SIZE;
}

/* The gpte of gva at `level` in tables of `levels` under root; upper levels are made. */
static inline pn_gpa gpte_in(unsigned levels, pn_gpa root, pn_gva gva, unsigned level) {
    for (unsigned l = levels;; l--) {
        pn_gpa at = root + 8 * (gva >> (12 + 9 * (l - 1)) & 511);
        if (l == level)
            return at;
        if (!(*fixture_q(&f, at) & P))
            *fixture_q(&f, at) = new_table() | P | W | U | A;
        root = *fixture_q(&f, at) & 0xffffffffff000ull;
    }
}

/* The same in tables of four levels. */
static inline pn_gpa gpte_at(pn_gpa root, pn_gva gva, unsigned level) {
    return gpte_in(4, root, gva, level);
}

/* Map gva to gpa by a page of `level`, under tables of `levels`. Return: the root. */
static inline pn_gpa map_page(unsigned levels, unsigned level, pn_gpa root, pn_gva gva,
                              pn_gpa gpa, uint64_t flags) {
    if (!root)
        root = new_table();
    *fixture_q(&f, gpte_in(levels, root, gva, level)) =
        gpa | flags | (level > 1 ? PS : 0);
    return root;
}

static inline void map(pn_gpa root, pn_gva gva, pn_gpa gpa, uint64_t flags) {
    map_page(4, 1, root, gva, gpa, flags);
}

static inline void map_direct(pn_gpa root) {
    for (pn_gpa gpa = 0; gpa < MEM; gpa += PN_PAGE_SIZE)
        map(root, DIRECT + gpa, gpa, P | W | A | D | NX);
}

static inline void paging(unsigned levels, uint64_t cr3) {
    struct pn_paging p = fixture_paging(levels, cr3);
    pn_mmu_set_paging(f.vcpu, &p);
}

/* ---- Accesses ---- */

static inline const struct pn_tlb_entry *entry(const struct pn_tlb_view *view, pn_gva gva,
                                               enum pn_tlb_mode mode) {
    return &view->tlb[mode][gva >> 12 & (PN_TLB_ENTRIES - 1)];
}

static inline bool hit_in(const struct pn_tlb_view *view, pn_gva gva,
                          enum pn_access access, enum pn_tlb_mode mode) {
    return (entry(view, gva, mode)->tag[access] ^ gva) <= 4096 - 1;
}

static inline bool hit(pn_gva gva, enum pn_access access, enum pn_tlb_mode mode) {
    return hit_in(&f.view, gva, access, mode);
}

static inline enum pn_answer go(pn_gva gva, enum pn_access access,
                                enum pn_tlb_mode mode) {
    return pn_answer(pn_mmu_translate(f.vcpu, gva, access, mode, &x));
}

/* A supervisor's store as the CPU does it. Return: what the miss came to, or
 * PN_MAPPED. */
static inline enum pn_answer store(pn_gva gva, uint64_t value) {
    if (hit(gva, PN_WRITE, PN_TLB_SUPER)) {
        uintptr_t hva = entry(&f.view, gva, PN_TLB_SUPER)->hva;
        memcpy((char *)hva + (gva & 0xfff), &value, 8);
        return PN_MAPPED;
    }
    enum pn_answer o = go(gva, PN_WRITE, PN_TLB_SUPER);
    if (o == PN_MAPPED)
        memcpy(x.hva, &value, 8);
    else if (o == PN_TRACKED)
        ck_assert_uint_eq(pn_mmu_vcpu_write(f.vcpu, x.gpa, &value, 8), 8);
    return o;
}

/* The same through the direct map. */
static inline enum pn_answer poke(pn_gpa gpa, uint64_t value) {
    return store(DIRECT + gpa, value);
}

static inline void write_back(pn_gpa gpa) {
    uint64_t same = *fixture_q(&f, gpa);
    pn_mmu_write_phys(f.mmu, gpa, &same, 8);
}

/* The second-level entry that translates gpa. */
static inline struct ewalk leaf(pn_gpa gpa) {
    struct ewalk w;
    ept_peek(f.mmu->tdp, gpa, &w);
    return w;
}

#define ck_map(gva, access, mode, want)                                                  \
    do {                                                                                 \
        ck_assert_int_eq(go(gva, access, mode), PN_MAPPED);                              \
        ck_assert_uint_eq(x.gpa, want);                                                  \
        ck_assert_ptr_eq(x.hva, f.mem + (want));                                         \
    } while (0)
#define ck_pf(gva, access, mode, code)                                                   \
    do {                                                                                 \
        ck_assert_int_eq(go(gva, access, mode), PN_GUEST_PF);                            \
        ck_assert_uint_eq(x.fault.error, code);                                          \
        ck_assert(!hit(gva, access, mode));                                              \
    } while (0)
