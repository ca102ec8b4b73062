/* SPDX-License-Identifier: MIT */
/*
 * pn_mmu_look beside everybody who changes the MMU: one thread is a vCPU that is out of the lock,
 * as the CPU's are (base/parallel.h), and fills its TLB by itself where it can; another one holds the lock
 * and maps, unmaps, protects, zaps, harvests. Under ThreadSanitizer it also shows that the one
 * happens before the other.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/locks.h"
#include "base/parallel.h"
#include "fixture.h"
#include "gpte.h"
#include "tests/suite.h"

#ifdef PN_TEST_SLOW_BUILD
#define CHANGES 1500u
#else
#define CHANGES 15000u
#endif
#define HITS   1000u /* looks that are answered, at least */
#define MEM    (4ull << 20)
#define PML4   0x1000u
#define TABLE  0x4000u /* of level 1; those above are in between */
#define DATA   0x100000u
#define PAGES  64u /* from DATA on, and as many addresses */
#define GVA    0x7f1234400000ull
#define SLICE  64u /* accesses before it comes in */
#define NOBODY UINT32_MAX

struct vm {
    pthread_mutex_t lock;
    struct parallel par;
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu[2];
    struct pn_tlb_view view[2];
    struct pn_stats stats[2];
    uint8_t *mem;
    /* What address i leads to, once a change is over; NOBODY: to nothing. */
    _Atomic uint32_t leads[PAGES];
    _Atomic uint64_t
        maps;           /* changes of an entry begun, and ended: odd while there is one */
    bool guest_flushes; /* the MMU does not see the guest's tables change */
    uint64_t seen[PAGES]; /* a word of each page at the last harvest */
    atomic_bool ends;
    uint64_t rng, wrong, own_rng;
    _Atomic uint64_t hits, faults;
};

static uint64_t *word(struct vm *m, uint32_t page) {
    return (uint64_t *)(void *)(m->mem + DATA + page * PN_PAGE_SIZE);
}

static void stand_still(void *opaque, unsigned vcpu) {
    parallel_still(&((struct vm *)opaque)->par, vcpu);
}

static void bar(void *opaque) {
    parallel_bar(&((struct vm *)opaque)->par);
}

/* ---- The vCPU that is out ---- */

/* Where the entry of its TLB leads for that access; NULL: it has none. */
static uint8_t *tlb_hit(struct vm *m, pn_gva gva, enum pn_access access) {
    const struct pn_tlb_entry *e =
        &m->view[1].tlb[PN_TLB_USER][gva >> PN_PAGE_SHIFT & (PN_TLB_ENTRIES - 1)];
    return (e->tag[access] ^ gva) < PN_PAGE_SIZE
               ? (uint8_t *)e->hva + (gva & (PN_PAGE_SIZE - 1))
               : NULL;
}

static void in_turn(struct vm *m, pn_gva gva, enum pn_access access) {
    struct pn_xlate x;
    parallel_enter(&m->par, 1);
    enum pn_outcome out = pn_mmu_translate(m->vcpu[1], gva, access, PN_TLB_USER, &x);
    if (access == PN_WRITE && pn_answer(out) == PN_MAPPED)
        ++*(uint64_t *)(void *)x.hva;
    parallel_leave(&m->par, 1);
}

static void access_once(struct vm *m) {
    uint64_t r = rnd(&m->own_rng);
    uint32_t i = r % PAGES;
    enum pn_access access = r >> 32 & 1 ? PN_WRITE : PN_READ;
    pn_gva gva = GVA + i * PN_PAGE_SIZE;
    struct pn_xlate x;
    uint64_t begun = m->maps;
    uint32_t before = m->leads[i];
    uint8_t *p = tlb_hit(m, gva, access);
    if (!p && parallel_look(&m->par, 1)) {
        if (pn_mmu_look(m->vcpu[1], gva, access, PN_TLB_USER, &x))
            p = tlb_hit(m, gva, access);
        m->wrong += p && p != x.hva;
        if (!p && pn_mmu_look_fault(m->vcpu[1], gva, access, PN_TLB_USER, &x)) {
            m->faults++;
            m->wrong += before != NOBODY && !(begun & 1) && begun == m->maps;
        }
        parallel_looked(&m->par, 1);
    }
    if (!p) {
        in_turn(m, gva, access);
        return;
    }
    uint32_t page = (uint32_t)((uint64_t)(p - m->mem) - DATA) / PN_PAGE_SIZE;
    m->wrong += !m->guest_flushes && page != before && page != m->leads[i];
    if (access == PN_WRITE)
        ++*(uint64_t *)(void *)p;
    m->hits++;
}

static void *run(void *opaque) {
    struct vm *m = opaque;
    while (!m->ends) {
        parallel_enter(&m->par, 1);
        parallel_leave(&m->par, 1);
        for (unsigned i = 0; i < SLICE; i++)
            access_once(m);
    }
    parallel_enter(&m->par, 1);
    lock_given(LOCK_MACHINE);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- Who changes ---- */

static void map(struct vm *m, uint32_t i, uint32_t page, uint64_t flags) {
    uint64_t v = page == NOBODY ? 0 : (DATA + page * PN_PAGE_SIZE) | P | U | A | flags;
    pn_gpa at = TABLE + 8 * (GVA >> PN_PAGE_SHIFT & 511) + 8 * i;
    m->maps++;
    if (m->guest_flushes)
        __atomic_store_n((uint64_t *)(void *)(m->mem + at), v, __ATOMIC_RELAXED);
    else
        ck_assert_uint_eq(pn_mmu_write_phys(m->mmu, at, &v, 8), 8);
    m->leads[i] = page;
    m->maps++;
}

/* Each page that is others than at the last harvest is in the log. */
static void harvest(struct vm *m) {
    uint64_t bitmap[MEM / PN_PAGE_SIZE / 64];
    parallel_still(&m->par, 1);
    ck_assert_int_ge(pn_mmu_dirty_harvest(m->mmu, 0, bitmap, sizeof(bitmap) / 8), 0);
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t n = DATA / PN_PAGE_SIZE + page, now = *word(m, page);
        if (now != m->seen[page])
            ck_assert_msg(bitmap[n / 64] >> n % 64 & 1, "page %u is not in the log",
                          page);
        m->seen[page] = now;
    }
}

static void change(struct vm *m) {
    uint64_t r = rnd(&m->rng);
    uint32_t i = r % PAGES, page = r >> 8 & (PAGES - 1);
    switch (r >> 32 & 31) {
    case 0:
        pn_mmu_zap_all(m->mmu);
        break;
    case 1:
    case 2:
        harvest(m);
        break;
    case 3:
        ck_assert_int_eq(pn_mmu_track_add(m->mmu, DATA / PN_PAGE_SIZE + page), 0);
        break;
    case 4:
        pn_mmu_track_remove(m->mmu, DATA / PN_PAGE_SIZE + page);
        break;
    case 5:
        parallel_still(&m->par, 1);
        ck_assert_int_eq(pn_mmu_audit(m->mmu, stderr), 0);
        break;
    case 6:
        map(m, i, NOBODY, 0);
        break;
    default:
        map(m, i, page, W | (r >> 40 & 1 ? D : 0));
    }
}

/* ---- Both ---- */

static void begin(struct vm *m, enum pn_mmu_kind kind, enum pn_dirty_tracker tracker) {
    static struct pn_memslot slot = {.size = MEM, .flags = PN_SLOT_LOG_DIRTY};
    struct pn_mmu_config cfg = {.kind = kind,
                                .tracker = tracker,
                                .maxphyaddr = 46,
                                .stand_still = stand_still,
                                .bar = bar,
                                .opaque = m};
    *m = (struct vm){.rng = 1 + kind, .own_rng = 77, .par = {.count = 2}};
    pthread_mutex_init(&m->lock, NULL);
    m->par.lock = &m->lock;
    m->guest_flushes = kind == PN_MMU_TDP;
    pn_mmu_options_default(&cfg.opt);
    cfg.opt.unsync = 0; /* what was stored to a table holds at once */
    ck_assert_int_eq(pn_mmu_create(&cfg, &m->mmu), 0);
    m->mem = aligned_alloc(2 << 20, MEM);
    memset(m->mem, 0, MEM);
    slot.hva = m->mem;
    ck_assert_int_eq(pn_mmu_slot_set(m->mmu, &slot), 0);
    for (unsigned level = 4; level > 1; level--) {
        pn_gpa table = PML4 + (4 - level) * PN_PAGE_SIZE;
        uint64_t v = (table + PN_PAGE_SIZE) | P | W | U | A;
        pn_gpa at = table + 8 * (GVA >> (12 + 9 * (level - 1)) & 511);
        ck_assert_uint_eq(pn_mmu_write_phys(m->mmu, at, &v, 8), 8);
    }
    for (uint32_t i = 0; i < PAGES; i++)
        map(m, i, i, W | D);
    struct pn_paging p = fixture_paging(4, PML4);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(
            pn_mmu_vcpu_create(m->mmu, &m->view[i], &m->stats[i], NULL, &m->vcpu[i]), 0);
        pn_mmu_set_paging(m->vcpu[i], &p);
    }
}

static void race(enum pn_mmu_kind kind, enum pn_dirty_tracker tracker) {
    static struct vm vm;
    struct vm *m = &vm;
    pthread_t thread;
    begin(m, kind, tracker);
    ck_assert_int_eq(pthread_create(&thread, NULL, run, m), 0);
    for (unsigned n = 0; n < CHANGES || m->hits < HITS || !m->faults; n++) {
        parallel_enter(&m->par, 0);
        change(m);
        parallel_leave(&m->par, 0);
        if (m->hits < n) /* a mutex is not fair: the other has its turn, too */
            sched_yield();
    }
    parallel_enter(&m->par, 0);
    harvest(m);
    parallel_leave(&m->par, 0);
    m->ends = true;
    pthread_join(thread, NULL);
    ck_assert_uint_eq(m->wrong, 0);
    ck_assert_int_eq(pn_mmu_audit(m->mmu, stderr), 0);
    pn_mmu_destroy(m->mmu);
    free(m->mem);
}

START_TEST(under_shadow_who_looks_finds_nothing_that_is_gone) {
    race(PN_MMU_SHADOW, PN_TRACKER_WP);
}
END_TEST

START_TEST(under_tdp_who_looks_finds_nothing_that_is_gone) {
    race(PN_MMU_TDP, PN_TRACKER_WP);
}
END_TEST

START_TEST(under_tdp_no_store_is_lost_to_a_log_by_d_bits) {
    race(PN_MMU_TDP, PN_TRACKER_DBIT);
}
END_TEST

/* It answers what the tables have, once they have it, and counts it as any other miss. */
START_TEST(a_look_fills_what_was_filled_before) {
    static struct vm vm;
    struct vm *m = &vm;
    struct pn_xlate x;
    for (enum pn_mmu_kind kind = PN_MMU_SHADOW; kind <= PN_MMU_TDP; kind++) {
        begin(m, kind, PN_TRACKER_WP);
        ck_assert(!pn_mmu_look(m->vcpu[1], GVA, PN_READ, PN_TLB_USER, &x));
        ck_assert_uint_eq(m->stats[1].v[PN_STAT_tlb_miss], 0);
        enum pn_outcome out =
            pn_mmu_translate(m->vcpu[1], GVA, PN_WRITE, PN_TLB_USER, &x);
        ck_assert_int_eq(pn_answer(out), PN_MAPPED);
        pn_mmu_drop_tlb(m->vcpu[1]);
        ck_assert_ptr_eq(tlb_hit(m, GVA, PN_WRITE), NULL);
        uint64_t misses = m->stats[1].v[PN_STAT_tlb_miss];
        ck_assert(pn_mmu_look(m->vcpu[1], GVA + 8, PN_WRITE, PN_TLB_USER, &x));
        ck_assert_ptr_eq(x.hva, (uint8_t *)word(m, 0) + 8);
        ck_assert_uint_eq(x.gpa, DATA + 8);
        ck_assert_ptr_eq(tlb_hit(m, GVA, PN_WRITE), (uint8_t *)word(m, 0));
        ck_assert_uint_eq(m->stats[1].v[PN_STAT_tlb_miss], misses + 1);
        pn_mmu_destroy(m->mmu);
        free(m->mem);
    }
}
END_TEST

/* A #PF is what it is to whoever holds the lock, and is counted as his. */
START_TEST(a_look_finds_a_fault_of_the_guests) {
    static struct vm vm;
    struct vm *m = &vm;
    struct pn_xlate x, y;
    for (enum pn_mmu_kind kind = PN_MMU_SHADOW; kind <= PN_MMU_TDP; kind++) {
        begin(m, kind, PN_TRACKER_WP);
        map(m, 1, NOBODY, 0);
        pn_gva gva = GVA + PN_PAGE_SIZE + 8;
        ck_assert(!pn_mmu_look_fault(m->vcpu[1], gva, PN_WRITE, PN_TLB_USER, &y));
        for (unsigned i = 0; i < 2; i++) /* the second level has the tables then */
            ck_assert_int_eq(
                pn_answer(pn_mmu_translate(m->vcpu[1], GVA, PN_WRITE, PN_TLB_USER, &x)),
                PN_MAPPED);
        ck_assert(!pn_mmu_look_fault(m->vcpu[1], GVA, PN_WRITE, PN_TLB_USER, &x));
        struct pn_stats first = m->stats[1];
        ck_assert_int_eq(
            pn_answer(pn_mmu_translate(m->vcpu[1], gva, PN_WRITE, PN_TLB_USER, &x)),
            PN_GUEST_PF);
        struct pn_stats second = m->stats[1];
        ck_assert(pn_mmu_look_fault(m->vcpu[1], gva, PN_WRITE, PN_TLB_USER, &y));
        for (unsigned i = 0; i < PN_STAT_COUNT; i++)
            ck_assert_uint_eq(m->stats[1].v[i] - second.v[i], second.v[i] - first.v[i]);
        ck_assert_uint_eq(y.fault.address, gva);
        ck_assert_uint_eq(y.fault.error, x.fault.error);
        ck_assert_uint_eq(y.fault.vector, x.fault.vector);
        map(m, 1, 1, W | D);
        ck_assert(!pn_mmu_look_fault(m->vcpu[1], gva, PN_WRITE, PN_TLB_USER, &y));
        pn_mmu_destroy(m->mmu);
        free(m->mem);
    }
}
END_TEST

SUITE("look", .timeout = 120,
      .tests = {a_look_fills_what_was_filled_before, a_look_finds_a_fault_of_the_guests,
                under_shadow_who_looks_finds_nothing_that_is_gone,
                under_tdp_who_looks_finds_nothing_that_is_gone,
                under_tdp_no_store_is_lost_to_a_log_by_d_bits})
