/* SPDX-License-Identifier: MIT */
/*
 * The guest walk beyond permissions (test_perm_sweep.c): addresses in every mode, each
 * reserved bit, faults at each level, what a walk reports, A and D.
 */
#include "fixture.h"
#include "gpte.h"
#include "tests/suite.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RWU (P | W | U)

/* The tables of every test: level n at page n. */
#define TABLE(level) ((pn_gpa)(level) << 12)
#define MEM          (64u << 12)

struct guest {
    struct fixture f;
    struct stage m;
    struct walk w;
    unsigned levels;
};

static void guest_init(struct guest *g, unsigned levels, uint8_t maxphyaddr) {
    fixture_init(&g->f, maxphyaddr, MEM, PN_SLOT_LOG_DIRTY);
    g->levels = levels;
    struct pn_paging p = fixture_paging(levels, TABLE(levels == 3 ? 3 : levels));
    p.pdpte[0] = p.pdpte[1] = p.pdpte[2] = p.pdpte[3] = TABLE(2) | P;
    stage_init(&g->m, &p, maxphyaddr, 0);
    pn_mmu_set_paging(g->f.vcpu, &p);
}

static unsigned bits_of(const struct guest *g) {
    return g->levels == 2 ? 10 : 9;
}

static unsigned index_of(const struct guest *g, pn_gva gva, unsigned level) {
    unsigned bits = bits_of(g);
    return gva >> (12 + bits * (level - 1)) & ((1u << bits) - 1);
}

static void put(struct guest *g, pn_gva gva, unsigned level, uint64_t gpte) {
    unsigned i = index_of(g, gva, level);
    if (g->levels == 2)
        fixture_d(&g->f, TABLE(level))[i] = (uint32_t)gpte;
    else
        fixture_q(&g->f, TABLE(level))[i] = gpte;
}

static uint64_t get(struct guest *g, pn_gva gva, unsigned level) {
    unsigned i = index_of(g, gva, level);
    return g->levels == 2 ? fixture_d(&g->f, TABLE(level))[i]
                          : fixture_q(&g->f, TABLE(level))[i];
}

/* Highest level whose gpte is in memory. */
static unsigned top_in_memory(const struct guest *g) {
    return g->levels == 3 ? 2 : g->levels;
}

/* Tables down to `leaf`, all rights; the leaf maps `gpa`. */
static void map(struct guest *g, pn_gva gva, unsigned leaf, uint64_t gpte) {
    for (unsigned l = top_in_memory(g); l > leaf; l--)
        put(g, gva, l, TABLE(l - 1) | RWU);
    put(g, gva, leaf, gpte | (leaf > 1 ? PS : 0));
}

static int walk(struct guest *g, pn_gva gva, enum pn_access access, unsigned flags) {
    memset(&g->w, 0x5a, sizeof(g->w));
    return stage_walk(g->f.vcpu, &g->m, gva, access, PN_TLB_SUPER, flags, &g->w);
}

static const unsigned modes[] = {2, 3, 4, 5};
static const unsigned leaves[] = {2, 2, 3, 3}; /* highest leaf level, by mode */

/* ---- Addresses ---- */

START_TEST(every_address_translates_as_mapped) {
    unsigned levels = modes[_i];
    struct guest g;
    guest_init(&g, levels, 46);
    uint64_t seed = 11 + levels;
    const uint64_t gva_bits = levels <= 3 ? 32 : levels == 4 ? 48 : 57;
    for (unsigned i = 0; i < 20000; i++) {
        memset(g.f.mem, 0, TABLE(6));
        unsigned leaf = 1 + rnd(&seed) % leaves[_i];
        pn_gva gva = rnd(&seed) & ((1ull << gva_bits) - 1);
        if (gva >> (gva_bits - 1) && levels >= 4)
            gva |= ~0ull << gva_bits; /* canonical */
        unsigned shift = 12 + bits_of(&g) * (leaf - 1);
        unsigned width = levels != 2 ? 46 : leaf == 2 ? 40 : 32;
        uint64_t low = (1ull << shift) - 1;
        pn_gpa gpa = rnd(&seed) & ((1ull << width) - 1) & ~low;
        uint64_t gpte = gpa | RWU;
        if (levels == 2 && leaf == 2)
            gpte = (gpa & 0xffc00000) | (gpa >> 32 << 13) | RWU;
        map(&g, gva, leaf, gpte);
        ck_assert_int_eq(walk(&g, gva, PN_READ, i % 2 ? WALK_PROBE : 0), 0);
        ck_assert_uint_eq(g.w.gfn, (gpa | (gva & low)) >> 12);
        ck_assert_uint_eq(g.w.level, leaf);
        ck_assert_uint_eq(g.w.top, levels);
        ck_assert_uint_eq(g.w.access, ACC_ALL);
        for (unsigned l = top_in_memory(&g); l >= leaf; l--) {
            uint64_t size = levels == 2 ? 4 : 8;
            ck_assert_uint_eq(g.w.pte_gpa[l], TABLE(l) + index_of(&g, gva, l) * size);
            ck_assert_uint_eq(g.w.gpte[l], get(&g, gva, l));
            ck_assert_uint_eq(g.w.pt_access[l], ACC_ALL);
        }
    }
    fixture_free(&g.f);
}
END_TEST

START_TEST(without_paging_everything_is_allowed) {
    struct guest g;
    guest_init(&g, 0, 40);
    for (int access = PN_READ; access <= PN_FETCH; access++) {
        ck_assert_int_eq(walk(&g, 0x12345678, access, 0), 0);
        ck_assert_uint_eq(g.w.gfn, 0x12345);
        ck_assert_uint_eq(g.w.access, ACC_ALL);
        ck_assert_uint_eq(g.w.top, 0);
        for (int mode = 0; mode < PN_TLB_MODES; mode++)
            ck_assert_uint_eq(rights_check(&g.m.rights, 0, 0, access, mode), 0);
    }
    fixture_free(&g.f);
}
END_TEST

/* CR3's PCID and cache bits, and PSE off, do not disturb the walk. */
START_TEST(the_low_bits_of_cr3_are_no_address) {
    struct guest g;
    guest_init(&g, 4, 40);
    map(&g, 0x1000, 1, 0x7000 | RWU);
    g.m.root |= 0xfff;
    ck_assert_int_eq(walk(&g, 0x1000, PN_READ, 0), 0);
    ck_assert_uint_eq(g.w.gfn, 7);
    fixture_free(&g.f);

    guest_init(&g, 2, 40);
    struct pn_paging p = fixture_paging(2, TABLE(2));
    p.cr4 = 0;
    stage_init(&g.m, &p, 40, 0);
    put(&g, 0x1000, 2, TABLE(1) | RWU | PS);
    put(&g, 0x1000, 1, 0x7000 | RWU | PS);
    ck_assert_int_eq(walk(&g, 0x1000, PN_READ, 0), 0);
    ck_assert_uint_eq(g.w.level, 1);
    ck_assert_uint_eq(g.w.gfn, 7);
    fixture_free(&g.f);
}
END_TEST

START_TEST(pae_reads_registers_at_its_top) {
    struct guest g;
    guest_init(&g, 3, 40);
    for (unsigned i = 0; i < 4; i++)
        g.m.pdpte[i] = 0;
    g.m.pdpte[2] = TABLE(9) | P;
    /* Memory under CR3 says otherwise, and is not asked. */
    for (unsigned i = 0; i < 4; i++)
        fixture_q(&g.f, TABLE(3))[i] = TABLE(2) | P;
    fixture_q(&g.f, TABLE(9))[1] = (2u << 21) | RWU | PS;
    pn_gva gva = 2ull << 30 | 1u << 21 | 0x5123;
    ck_assert_int_eq(walk(&g, gva, PN_WRITE, 0), 0);
    ck_assert_uint_eq(g.w.gfn, (2u << 9) + 5);
    ck_assert_uint_eq(g.w.gpte[3], TABLE(9) | P);
    ck_assert_uint_eq(fixture_q(&g.f, TABLE(9))[1], (2u << 21) | RWU | PS | A | D);
    ck_assert_int_eq(walk(&g, 1ull << 30, PN_WRITE, 0), -1);
    ck_assert_uint_eq(g.w.fault.error, PN_PF_WRITE);
    ck_assert_uint_eq(g.w.level, 3);
    fixture_free(&g.f);
}
END_TEST

/* ---- Reserved bits ---- */

/* What the figures of SDM "Paging" call reserved, bit by bit. */
static bool bit_reserved(unsigned levels, unsigned level, bool ps, unsigned bit,
                         unsigned maxphyaddr, bool nxe, unsigned lacks) {
    bool no_pat = lacks & PN_MMU_NO_PAT;
    if (level == 1 && bit == 7)
        return no_pat;
    if (level > 1 && ps && bit == 12)
        return no_pat;
    if (levels == 2) {
        if (level != 2 || !ps)
            return false;
        if (bit == 21)
            return true;
        return bit >= 13 && bit <= 20 &&
               (lacks & PN_MMU_NO_PSE36 || bit - 13 + 32 >= maxphyaddr);
    }
    if (bit == 63)
        return !nxe;
    if (bit >= 52)
        return levels == 3;
    if (bit >= maxphyaddr)
        return true;
    if (bit == 7)
        return level >= 4 || (level == 3 && lacks & PN_MMU_NO_1G);
    if (!ps)
        return false;
    if (level == 2)
        return bit >= 13 && bit <= 20;
    if (level == 3)
        return bit >= 13 && bit <= 29;
    return false;
}

static bool is_reserved(unsigned levels, unsigned level, uint64_t gpte, unsigned width,
                        bool nxe, unsigned lacks) {
    for (unsigned bit = 0; bit < 64; bit++)
        if (gpte >> bit & 1 &&
            bit_reserved(levels, level, gpte & PS, bit, width, nxe, lacks))
            return true;
    return false;
}

START_TEST(reserved_bits_are_those_of_the_manual) {
    unsigned levels = modes[_i / 2 % 4];
    bool nxe = _i % 2;
    uint8_t lacks = (uint8_t)(_i / 8);
    for (unsigned width = 36; width <= 52; width++) {
        struct guest g;
        guest_init(&g, levels, (uint8_t)width);
        struct pn_paging p = fixture_paging(levels, TABLE(levels));
        if (!nxe)
            p.efer &= ~(1ull << 11);
        for (unsigned i = 0; i < 4; i++)
            p.pdpte[i] = TABLE(2) | P;
        stage_init(&g.m, &p, (uint8_t)width, lacks);
        const pn_gva gva = 0;
        for (unsigned level = top_in_memory(&g); level >= 1; level--)
            for (unsigned ps = 0; ps <= (level == 2 || (level == 3 && levels >= 4)); ps++)
                for (unsigned bit = 1; bit < (levels == 2 ? 32 : 64); bit++) {
                    memset(g.f.mem, 0, TABLE(6));
                    map(&g, gva, ps ? level : 1, RWU);
                    put(&g, gva, level, get(&g, gva, level) ^ 1ull << bit);
                    bool bad = is_reserved(levels, level, get(&g, gva, level), width, nxe,
                                           lacks);
                    int rc = walk(&g, gva, PN_READ, WALK_PROBE);
                    bool rsvd = rc < 0 && g.w.fault.error & PN_PF_RSVD;
                    /* A moved address, or a large page made a table, may end in any
                     * other way; but never in RSVD at this level. */
                    if (bad) {
                        ck_assert_msg(rsvd && g.w.level == level,
                                      "%u/%u ps %u bit %u M %u", levels, level, ps, bit,
                                      width);
                        ck_assert_uint_eq(g.w.fault.error, PN_PF_RSVD | PN_PF_PRESENT);
                    } else {
                        ck_assert_msg(!rsvd || g.w.level != level,
                                      "%u/%u ps %u bit %u M %u", levels, level, ps, bit,
                                      width);
                    }
                }
        fixture_free(&g.f);
    }
}
END_TEST

/* ---- Faults and rights at each level ---- */

START_TEST(a_right_missing_at_any_level_faults) {
    unsigned levels = modes[_i];
    struct guest g;
    guest_init(&g, levels, 40);
    const pn_gva gva = 0x3000;
    for (unsigned level = top_in_memory(&g); level >= 1; level--) {
        static const uint64_t drop[] = {P, W, U, NX};
        for (unsigned i = 0; i < 4; i++) {
            if (levels == 2 && drop[i] == NX)
                continue;
            memset(g.f.mem, 0, TABLE(6));
            map(&g, gva, 1, 0x8000 | RWU);
            put(&g, gva, level, get(&g, gva, level) ^ drop[i]);
            uint64_t before = get(&g, gva, top_in_memory(&g));
            enum pn_access access = drop[i] == NX  ? PN_FETCH
                                    : drop[i] == W ? PN_WRITE
                                                   : PN_READ;
            memset(&g.w, 0, sizeof(g.w));
            int rc =
                stage_walk(g.f.vcpu, &g.m, gva + 0x123, access, PN_TLB_USER, 0, &g.w);
            ck_assert_int_eq(rc, -1);
            ck_assert_uint_eq(g.w.fault.vector, 14);
            ck_assert(g.w.fault.has_error);
            ck_assert_uint_eq(g.w.fault.address, gva + 0x123);
            ck_assert_uint_eq(g.w.fault.error,
                              (drop[i] == P ? 0 : PN_PF_PRESENT) |
                                  (access == PN_WRITE ? PN_PF_WRITE : 0) |
                                  (access == PN_FETCH ? PN_PF_FETCH : 0) | PN_PF_USER);
            ck_assert_uint_eq(g.w.level, drop[i] == P ? level : 1);
            /* No A bit anywhere. */
            ck_assert_uint_eq(get(&g, gva, top_in_memory(&g)), before);
            if (drop[i] == P)
                continue;
            unsigned lost = drop[i] == W ? ACC_WRITE : drop[i] == U ? ACC_USER : ACC_EXEC;
            for (unsigned l = top_in_memory(&g); l >= 1; l--)
                ck_assert_uint_eq(g.w.pt_access[l],
                                  l <= level ? ACC_ALL & ~lost : ACC_ALL);
            ck_assert_uint_eq(g.w.access, ACC_ALL & ~lost);
        }
    }
    fixture_free(&g.f);
}
END_TEST

/* ---- Tables where there is no memory, or only ROM ---- */

START_TEST(a_table_outside_memory_reads_as_ones) {
    unsigned levels = modes[_i];
    struct guest g;
    guest_init(&g, levels, 40);
    const pn_gva gva = 0x3000;
    for (unsigned level = top_in_memory(&g); level >= 1; level--) {
        memset(g.f.mem, 0, TABLE(6));
        map(&g, gva, 1, 0x8000 | RWU);
        struct stage m = g.m;
        if (level == top_in_memory(&g)) {
            g.m.root = 0x80000000;
            g.m.pdpte[0] = 0x80000000 | P;
        } else {
            put(&g, gva, level + 1, 0x80000000 | RWU);
        }
        int rc = walk(&g, gva, PN_READ, 0);
        g.m = m;
        if (levels == 2 && level == 1) { /* ones, and nothing reserved */
            ck_assert_int_eq(rc, 0);
            ck_assert_uint_eq(g.w.gfn, 0xfffff);
            continue;
        }
        ck_assert_int_eq(rc, -1);
        ck_assert_uint_eq(g.w.fault.error, PN_PF_PRESENT | PN_PF_RSVD);
        ck_assert_uint_eq(g.w.level, level);
    }
    fixture_free(&g.f);
}
END_TEST

START_TEST(a_read_only_table_keeps_a_and_d) {
    unsigned levels = modes[_i];
    struct guest g;
    guest_init(&g, levels, 40);
    struct pn_memslot s = {.size = 0};
    ck_assert_int_eq(pn_mmu_slot_set(g.f.mmu, &s), 0);
    s = (struct pn_memslot){0, PN_SLOT_READONLY, 0, MEM, g.f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(g.f.mmu, &s), 0);
    map(&g, 0x3000, 1, 0x8000 | RWU);
    ck_assert_int_eq(walk(&g, 0x3000, PN_WRITE, 0), 0);
    ck_assert_uint_eq(get(&g, 0x3000, 1), 0x8000 | RWU);
    ck_assert(!g.w.dirty);
    ck_assert_uint_eq(g.f.stats.v[PN_STAT_gpte_ad_set], 0);
    fixture_free(&g.f);
}
END_TEST

/* ---- Accessed and dirty ---- */

START_TEST(a_walk_sets_a_everywhere_and_d_in_the_leaf) {
    unsigned levels = modes[_i];
    for (unsigned leaf = 1; leaf <= leaves[_i]; leaf++) {
        struct guest g;
        guest_init(&g, levels, 40);
        const pn_gva gva = 0;
        map(&g, gva, leaf, RWU | G);
        uint64_t map_bits[1], n = top_in_memory(&g) - leaf + 1;
        ck_assert_int_eq(walk(&g, gva, PN_WRITE, WALK_PROBE), 0);
        ck_assert(!g.w.dirty && g.w.global);
        ck_assert_uint_eq(g.f.stats.v[PN_STAT_gpte_reads], 0);
        ck_assert_int_eq(pn_mmu_dirty_harvest(g.f.mmu, 0, map_bits, 1), 0);
        ck_assert_int_eq(pn_mmu_track_add(g.f.mmu, leaf), 0);

        ck_assert_int_eq(walk(&g, gva, PN_READ, 0), 0);
        for (unsigned l = top_in_memory(&g); l >= leaf; l--)
            ck_assert_uint_eq(get(&g, gva, l) & (A | D), A);
        ck_assert(!g.w.dirty);
        ck_assert_uint_eq(g.w.gpte[leaf], get(&g, gva, leaf));
        ck_assert_uint_eq(g.f.stats.v[PN_STAT_gpte_reads], n);
        ck_assert_uint_eq(g.f.stats.v[PN_STAT_gpte_ad_set], n);
        ck_assert_uint_eq(g.f.track.calls, 1);
        ck_assert_uint_eq(g.f.track.gpa, g.w.pte_gpa[leaf]);
        ck_assert_uint_eq(g.f.track.size, levels == 2 ? 4 : 8);
        ck_assert_int_eq(pn_mmu_dirty_harvest(g.f.mmu, 0, map_bits, 1), (long)n);
        ck_assert_uint_eq(map_bits[0], (1u << (top_in_memory(&g) + 1)) - (1u << leaf));

        ck_assert_int_eq(walk(&g, gva, PN_WRITE, 0), 0);
        ck_assert(g.w.dirty);
        ck_assert_uint_eq(get(&g, gva, leaf) & (A | D), A | D);
        ck_assert_uint_eq(g.f.track.calls, 2);
        ck_assert_int_eq(pn_mmu_dirty_harvest(g.f.mmu, 0, map_bits, 1), 1);
        ck_assert_uint_eq(map_bits[0], 1u << leaf);

        /* All set: no more writes. */
        ck_assert_int_eq(walk(&g, gva, PN_WRITE, 0), 0);
        ck_assert_int_eq(walk(&g, gva, PN_READ, 0), 0);
        ck_assert(g.w.dirty);
        ck_assert_uint_eq(g.f.stats.v[PN_STAT_gpte_ad_set], n + 1);
        ck_assert_int_eq(pn_mmu_dirty_harvest(g.f.mmu, 0, map_bits, 1), 0);
        ck_assert_uint_eq(g.f.track.calls, 2);
        pn_mmu_track_remove(g.f.mmu, leaf);
        fixture_free(&g.f);
    }
}
END_TEST

/* A table that maps itself: one gpte is used at every level. */
START_TEST(a_table_may_map_itself) {
    unsigned levels = modes[_i];
    struct guest g;
    guest_init(&g, levels, 40);
    unsigned top = top_in_memory(&g);
    if (levels == 3)
        g.m.pdpte[0] = TABLE(2) | P;
    put(&g, 0, top, TABLE(top) | RWU);
    ck_assert_int_eq(walk(&g, 0, PN_WRITE, 0), 0);
    ck_assert_uint_eq(g.w.level, 1);
    ck_assert_uint_eq(g.w.gfn, top);
    ck_assert_uint_eq(get(&g, 0, top), TABLE(top) | RWU | A | D);
    fixture_free(&g.f);
}
END_TEST

struct racer {
    uint64_t *gpte;
    uint64_t added;
    bool stop;
};

/* Counts in the ignored bits 52..58 and takes A and D away. */
static void *race(void *arg) {
    struct racer *r = arg;
    while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
        uint64_t old = __atomic_load_n(r->gpte, __ATOMIC_RELAXED);
        uint64_t new = ((old & ~(A | D)) + (1ull << 52)) & ~(1ull << 59);
        if (__atomic_compare_exchange_n(r->gpte, &old, new, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED))
            r->added++;
    }
    return NULL;
}

/* A and D are set without losing another processor's store. */
START_TEST(setting_a_and_d_loses_no_other_store) {
    struct guest g;
    guest_init(&g, 4, 40);
    map(&g, 0, 1, 0x8000 | RWU);
    struct racer r = {.gpte = fixture_q(&g.f, TABLE(1))};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, race, &r), 0);
    for (unsigned i = 0; i < 300000; i++)
        ck_assert_int_eq(walk(&g, 0, PN_WRITE, 0), 0);
    __atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(*r.gpte & ~(A | D), 0x8000 | RWU | (r.added & 127) << 52);
    fixture_free(&g.f);
}
END_TEST

/* ---- Events, probe ---- */

START_TEST(a_walk_emits_what_it_read_and_set) {
    struct guest g;
    guest_init(&g, 4, 40);
    map(&g, 0, 1, 0x8000 | RWU);
    g.f.ring.mask = ~0ull;
    ck_assert_int_eq(walk(&g, 0, PN_WRITE, WALK_PROBE), 0);
    ck_assert_uint_eq(g.f.ring.count, 0);
    ck_assert_int_eq(walk(&g, 0, PN_WRITE, 0), 0);
    unsigned count[PN_EV_COUNT] = {0};
    for (unsigned i = 0; i < g.f.ring.count; i++)
        count[g.f.rec[i].id]++;
    ck_assert_uint_eq(g.f.rec[0].id, PN_EV_pagetable_walk);
    ck_assert_uint_eq(count[PN_EV_paging_element], 4);
    ck_assert_uint_eq(count[PN_EV_set_accessed_bit], 4);
    ck_assert_uint_eq(count[PN_EV_set_dirty_bit], 1);
    ck_assert_uint_eq(count[PN_EV_walker_error], 0);
    g.f.ring.count = 0;
    put(&g, 0, 1, 0);
    ck_assert_int_eq(walk(&g, 0x10, PN_WRITE, 0), -1);
    const struct pn_event_rec *last = &g.f.rec[g.f.ring.count - 1];
    ck_assert_uint_eq(last->id, PN_EV_walker_error);
    ck_assert_uint_eq(last->arg[0], 0x10);
    ck_assert_uint_eq(last->arg[1], PN_PF_WRITE);
    fixture_free(&g.f);
}
END_TEST

START_TEST(a_probe_writes_nothing) {
    struct guest g;
    struct pn_xlate x;
    guest_init(&g, 4, 40);
    uint8_t *rom = g.f.mem + (32u << 12);
    struct pn_memslot s = {1, PN_SLOT_READONLY, 1u << 30, 4096, rom};
    ck_assert_int_eq(pn_mmu_slot_set(g.f.mmu, &s), 0);
    map(&g, 0x1000, 1, 0x8000 | RWU);
    map(&g, 0x2000, 1, 1u << 30 | RWU);
    map(&g, 0x3000, 1, 2u << 30 | RWU);
    struct pn_mmu_vcpu *v = g.f.vcpu;
    ck_assert_int_eq(pn_mmu_probe(v, 0x1abc, PN_WRITE, PN_TLB_USER, &x), PN_MAPPED);
    ck_assert_uint_eq(x.gpa, 0x8abc);
    ck_assert_ptr_eq(x.hva, g.f.mem + 0x8abc);
    ck_assert_int_eq(pn_mmu_probe(v, 0x2abc, PN_READ, PN_TLB_USER, &x), PN_MAPPED);
    ck_assert_ptr_eq(x.hva, rom + 0xabc);
    ck_assert_int_eq(pn_mmu_probe(v, 0x2abc, PN_WRITE, PN_TLB_USER, &x), PN_MMIO);
    ck_assert_uint_eq(x.gpa, (1u << 30) + 0xabc);
    ck_assert_ptr_null(x.hva);
    ck_assert_int_eq(pn_mmu_probe(v, 0x3abc, PN_READ, PN_TLB_USER, &x), PN_MMIO);
    ck_assert_uint_eq(x.gpa, (2ull << 30) + 0xabc);
    ck_assert_int_eq(pn_mmu_probe(v, 0x4abc, PN_READ, PN_TLB_USER, &x), PN_GUEST_PF);
    ck_assert_uint_eq(x.fault.error, PN_PF_USER);
    ck_assert_uint_eq(x.fault.address, 0x4abc);
    ck_assert_uint_eq(get(&g, 0x1000, 1), 0x8000 | RWU);
    fixture_free(&g.f);
}
END_TEST

SUITE("walk", .timeout = 300,
      .tests = {without_paging_everything_is_allowed, the_low_bits_of_cr3_are_no_address,
                pae_reads_registers_at_its_top, setting_a_and_d_loses_no_other_store,
                a_walk_emits_what_it_read_and_set, a_probe_writes_nothing},
      .loops = {{every_address_translates_as_mapped, 4},
                {reserved_bits_are_those_of_the_manual, 8 * 8},
                {a_right_missing_at_any_level_faults, 4},
                {a_table_outside_memory_reads_as_ones, 4},
                {a_read_only_table_keeps_a_and_d, 4},
                {a_walk_sets_a_everywhere_and_d_in_the_leaf, 4},
                {a_table_may_map_itself, 4}})
