/* SPDX-License-Identifier: MIT */
/* TDP: large mappings split and recovered, write tracking, both dirty logs. */
#include "guest.h"
#include "penumbra/explain.h"
#include "tests/suite.h"

/* DATA is mapped at GVA by 4 KiB pages, 4 MiB of it. */
static void begin_mapped_by(enum pn_mmu_kind kind) {
    begin(kind, MEM, 2 * MIB, 0);
    pn_gpa root = 0;
    for (pn_gpa o = 0; o < 4 * MIB; o += PN_PAGE_SIZE)
        root = map_page(4, 1, root, GVA + o, DATA + o, P | W | A | D);
    paging(4, root);
}

static void begin_mapped(void) {
    begin_mapped_by(PN_MMU_TDP);
}

static void relog(uint32_t flags) {
    struct pn_memslot s = {.flags = flags, .size = MEM, .hva = f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    clean();
}

static uint64_t bitmap[MEM / PN_PAGE_SIZE / 64];

static long harvest(void) {
    long n = pn_mmu_dirty_harvest(f.mmu, 0, bitmap, MEM / PN_PAGE_SIZE / 64);
    clean();
    return n;
}

static bool logged(pn_gpa gpa) {
    return bitmap[gpa >> 18] >> (gpa >> 12 & 63) & 1;
}

/* ---- Write tracking ---- */

START_TEST(tracking_a_frame_leaves_its_large_mapping) {
    pn_mmu_options_default(&opt);
    begin_mapped();
    ck_assert_int_eq(store(GVA + 0x5000, 1), PN_MAPPED);
    ck_assert_int_eq(store(GVA + 0x6000, 2), PN_MAPPED);
    pn_gfn gfn = (DATA + 0x5000) >> 12;
    uint64_t exits = stat(PN_STAT_ept_violation);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, gfn), 0);
    clean();
    ck_assert(!hit(GVA + 0x5000, PN_WRITE, PN_TLB_SUPER));
    ck_assert(hit(GVA + 0x5000, PN_READ, PN_TLB_SUPER));
    ck_assert(hit(GVA + 0x6000, PN_WRITE, PN_TLB_SUPER));
    ck_assert_int_eq(store(GVA + 0x5008, 3), PN_TRACKED);
    ck_assert_uint_eq(f.track.calls, 1);
    ck_assert_uint_eq(f.track.gpa, DATA + 0x5008);
    ck_assert_uint_eq(f.track.size, 8);
    ck_assert_uint_eq(*fixture_q(&f, DATA + 0x5008), 3);
    ck_assert(!hit(GVA + 0x5000, PN_WRITE, PN_TLB_SUPER));
    ck_assert_int_eq(store(GVA + 0x7000, 3), PN_MAPPED);
    pn_mmu_track_remove(f.mmu, gfn);
    ck_assert_int_eq(store(GVA + 0x5008, 4), PN_MAPPED);
    ck_assert(hit(GVA + 0x5008, PN_WRITE, PN_TLB_SUPER));
    ck_assert_uint_eq(leaf(DATA).level, 2);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 2); /* the guest's tables have the other */
    ck_assert_uint_eq(stat(PN_STAT_large_split), 0);
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits);
    end();
}
END_TEST

/* Logging splits 1 GiB into 2 MiB and 4 KiB, and the end of it puts it together. */
START_TEST(a_logged_gigabyte_is_split_down_to_4k) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 2 * GIB, GIB, 0);
    pn_gva gva = GVA & ~(GIB - 1);
    paging(4, map_page(4, 3, 0, gva, GIB, P | W));
    ck_assert_int_eq(store(gva, 1), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_pages_1g), 2);
    struct pn_memslot s = {.flags = PN_SLOT_LOG_DIRTY, .size = 2 * GIB, .hva = f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert_uint_eq(stat(PN_STAT_pages_4k), 2 * GIB >> 12);
    ck_assert_uint_eq(stat(PN_STAT_large_split), 2 * 513);
    s.flags = 0;
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert_uint_eq(stat(PN_STAT_pages_1g), 2);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m) + stat(PN_STAT_pages_4k), 0);
    end();
}
END_TEST

/* A harvest takes W from the entry above; the leaves that were taken lose theirs when a store opens it. */
START_TEST(a_harvest_closes_what_the_next_store_opens) {
    pn_mmu_options_default(&opt);
    begin_mapped();
    relog(PN_SLOT_LOG_DIRTY);
    for (unsigned i = 3; i < 7; i += 2)
        ck_assert_int_eq(store(GVA + i * PN_PAGE_SIZE, 1), PN_MAPPED);
    uint64_t *above = (uint64_t *)(uintptr_t)sp_of(leaf(DATA).ptep)->parents;
    ck_assert_uint_eq(*above & EPT_W, EPT_W);
    ck_assert_int_eq(harvest(), 2);
    ck_assert_uint_eq(*above & EPT_W, 0);
    ck_assert_uint_eq(*leaf(DATA + 3 * PN_PAGE_SIZE).ptep & EPT_W, EPT_W);
    ck_assert_uint_eq(leaf(DATA + 3 * PN_PAGE_SIZE).pte & EPT_W, 0);
    ck_assert(!hit(GVA + 3 * PN_PAGE_SIZE, PN_WRITE, PN_TLB_SUPER));
    ck_assert(hit(GVA + 3 * PN_PAGE_SIZE, PN_READ, PN_TLB_SUPER));
    /* A device's write opens nothing, and a leaf that is made then may have W at once. */
    write_back(DATA + 9 * PN_PAGE_SIZE);
    ck_assert_int_eq(go(GVA + 9 * PN_PAGE_SIZE, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(*above & EPT_W, 0);
    clean();
    uint64_t exits = stat(PN_STAT_ept_violation);
    ck_assert_int_eq(store(GVA + 5 * PN_PAGE_SIZE, 2), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits + 1);
    ck_assert_uint_eq(*above & EPT_W, EPT_W);
    ck_assert_uint_eq(*leaf(DATA + 3 * PN_PAGE_SIZE).ptep & EPT_W, 0);
    ck_assert_uint_eq(leaf(DATA + 5 * PN_PAGE_SIZE).pte & EPT_W, EPT_W);
    ck_assert_int_eq(store(GVA + 3 * PN_PAGE_SIZE, 2), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits + 2);
    ck_assert_int_eq(harvest(), 3);
    ck_assert(logged(DATA + 3 * PN_PAGE_SIZE) && logged(DATA + 5 * PN_PAGE_SIZE) &&
              logged(DATA + 9 * PN_PAGE_SIZE));
    relog(0); /* what is closed then opens all the same */
    ck_assert_int_eq(store(GVA + 5 * PN_PAGE_SIZE, 3), PN_MAPPED);
    end();
}
END_TEST

/* The walker's A and D in a tracked page are told of, and done. */
START_TEST(the_walkers_a_and_d_in_a_tracked_page_are_told) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, MEM, 2 * MIB, 0);
    pn_gpa root = map_page(4, 1, 0, GVA, DATA, P | W);
    paging(4, root);
    pn_gpa at = gpte_in(4, root, GVA, 1);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, at >> 12), 0);
    ck_assert_int_eq(go(GVA + 4096, PN_READ, PN_TLB_SUPER), PN_GUEST_PF);
    uint64_t exits = stat(PN_STAT_ept_violation);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(f.track.calls, 1);
    ck_assert_uint_eq(f.track.gpa, at);
    ck_assert_uint_eq(*fixture_q(&f, at) & (A | D), A);
    ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(f.track.calls, 2);
    ck_assert_uint_eq(*fixture_q(&f, at) & (A | D), A | D);
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits + 1); /* for DATA */
    ck_assert_uint_eq(leaf(at).pte & EPT_W, EPT_W);
    end();
}
END_TEST

/* ---- Logging begins, large mappings ---- */

START_TEST(logging_splits_at_once) {
    pn_mmu_options_default(&opt);
    ck_assert_uint_eq(opt.eager_split, 1);
    begin_mapped();
    for (pn_gpa o = 0; o < 4 * MIB; o += 2 * MIB)
        ck_assert_int_eq(store(GVA + o, 1), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 3);
    relog(PN_SLOT_LOG_DIRTY);
    ck_assert_uint_eq(stat(PN_STAT_large_split), 3);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 0);
    ck_assert_uint_eq(stat(PN_STAT_pages_4k), 3 * 512);
    ck_assert(!hit(GVA, PN_WRITE, PN_TLB_SUPER));
    ck_assert(hit(GVA, PN_READ, PN_TLB_SUPER));
    ck_assert_int_eq(store(GVA, 2), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), 1);
    ck_assert_uint_eq(stat(PN_STAT_large_split), 3);
    relog(0);
    ck_assert_uint_eq(stat(PN_STAT_large_recovered), 3);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 3);
    ck_assert_uint_eq(stat(PN_STAT_pages_4k), 0);
    uint64_t exits = stat(PN_STAT_ept_violation);
    ck_assert_int_eq(store(GVA + 0x5000, 2), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits);
    end();
}
END_TEST

START_TEST(logging_splits_at_the_first_write) {
    pn_mmu_options_default(&opt);
    opt.eager_split = 0;
    begin_mapped();
    for (pn_gpa o = 0; o < 4 * MIB; o += 2 * MIB)
        ck_assert_int_eq(store(GVA + o, 1), PN_MAPPED);
    relog(PN_SLOT_LOG_DIRTY);
    ck_assert_uint_eq(stat(PN_STAT_large_split), 0);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 3);
    pn_mmu_drop_tlb(f.vcpu);
    uint64_t exits = stat(PN_STAT_ept_violation);
    ck_assert_int_eq(go(GVA + 0x3000, PN_READ, PN_TLB_SUPER),
                     PN_MAPPED); /* reads do not split */
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits);
    ck_assert_int_eq(store(GVA + 0x3000, 2), PN_MAPPED);
    clean();
    ck_assert_uint_eq(stat(PN_STAT_large_split), 1);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 2);
    ck_assert_uint_eq(leaf(DATA + 0x3000).pte & EPT_W, EPT_W);
    ck_assert_uint_eq(leaf(DATA + 0x4000).pte & EPT_W, 0);
    ck_assert_int_eq(harvest(), 1);
    ck_assert(logged(DATA + 0x3000));
    relog(0);
    ck_assert_uint_eq(stat(PN_STAT_large_recovered), 1);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 3);
    end();
}
END_TEST

/* A frame that is tracked is large again when logging ends; with large_pages=0 none is. */
START_TEST(a_tracked_frame_is_large_again_when_logging_ends) {
    pn_mmu_options_default(&opt);
    begin_mapped();
    ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
    ck_assert_int_eq(store(GVA + 2 * MIB, 1), PN_MAPPED);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + MIB) >> 12), 0);
    relog(PN_SLOT_LOG_DIRTY);
    relog(0);
    ck_assert_uint_eq(leaf(DATA).level, 2);
    ck_assert_uint_eq(leaf(DATA + 2 * MIB).level, 2);
    ck_assert_int_eq(store(GVA + MIB, 1), PN_TRACKED);
    end();
    opt.large_pages = 0;
    begin_mapped();
    ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
    relog(PN_SLOT_LOG_DIRTY);
    relog(0);
    ck_assert_uint_eq(leaf(DATA).level, 1);
    ck_assert_uint_eq(stat(PN_STAT_large_recovered), 0);
    end();
}
END_TEST

/* ---- The logs ---- */

static void log_by(enum pn_dirty_tracker method, bool eager) {
    pn_mmu_options_default(&opt);
    tracker = method;
    opt.eager_split = eager;
    begin_mapped();
    for (pn_gpa o = 0; o < 4 * MIB; o += PN_PAGE_SIZE)
        ck_assert_int_eq(store(GVA + o, 1), PN_MAPPED);
    relog(PN_SLOT_LOG_DIRTY);
    ck_assert_int_eq(harvest(), 0);
    uint64_t exits = stat(PN_STAT_ept_violation);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 40; i++)
            for (unsigned again = 0; again < 2; again++)
                ck_assert_int_eq(store(GVA + i * 7 * 4096, round), PN_MAPPED);
        ck_assert_int_eq(go(GVA + 0x3000, PN_READ, PN_TLB_SUPER), PN_MAPPED);
        ck_assert_int_eq(harvest(), 40);
        for (unsigned i = 0; i < 40 * 7; i++)
            ck_assert_int_eq(logged(DATA + i * 4096), i % 7 == 0);
        ck_assert(!logged(DATA + 0x3000));
        ck_assert_int_eq(harvest(), 0);
    }
    /* one exit per page and round, or none but for the split on fault */
    exits = stat(PN_STAT_ept_violation) - exits;
    ck_assert_uint_eq(exits, method == PN_TRACKER_WP ? 120 : eager ? 0 : 1);
    ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), method == PN_TRACKER_WP ? 120 : 0);
    if (method == PN_TRACKER_DBIT)
        ck_assert_uint_gt(stat(PN_STAT_dbit_scanned), 6 * 512);
    /* a device's write, and the walker's */
    uint64_t v = 5;
    pn_mmu_write_phys(f.mmu, DATA + 0x3000, &v, 8);
    pn_gpa at = gpte_in(4, ROOT, GVA + 0x4000, 1);
    *fixture_q(&f, at) &= ~(A | D);
    pn_mmu_invlpg(f.vcpu, GVA + 0x4000);
    ck_assert_int_eq(go(GVA + 0x4000, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_int_eq(harvest(), 2);
    ck_assert(logged(DATA + 0x3000) && logged(at & PN_PAGE_MASK));
    /* a log moves with its slot */
    ck_assert_int_eq(store(GVA, 9), PN_MAPPED);
    struct pn_memslot s = {
        .flags = PN_SLOT_LOG_DIRTY, .gpa = GIB, .size = MEM, .hva = f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert_int_eq(harvest(), 1);
    ck_assert(logged(DATA));
    end();
}

START_TEST(the_log_by_write_protection_misses_nothing) {
    log_by(PN_TRACKER_WP, true);
    log_by(PN_TRACKER_WP, false);
}
END_TEST

START_TEST(the_log_by_d_bits_misses_nothing) {
    log_by(PN_TRACKER_DBIT, true);
    log_by(PN_TRACKER_DBIT, false);
}
END_TEST

START_TEST(the_logs_by_buffers_miss_nothing) {
    log_by(PN_TRACKER_PML, true);
    log_by(PN_TRACKER_PML, false);
    log_by(PN_TRACKER_HDBSS, true);
    log_by(PN_TRACKER_HDBSS, false);
}
END_TEST

/* 512 pages fit, whoever wrote them; the next store exits first. */
START_TEST(a_full_buffer_is_an_exit_before_the_next_store) {
    pn_mmu_options_default(&opt);
    tracker = PN_TRACKER_PML;
    begin_mapped();
    for (pn_gpa o = 0; o < 4 * MIB; o += PN_PAGE_SIZE)
        ck_assert_int_eq(store(GVA + o, 1), PN_MAPPED);
    relog(PN_SLOT_LOG_DIRTY);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 1024; i++) {
            uint64_t full = stat(PN_STAT_dirty_buffer_full);
            for (unsigned again = 0; again < 2; again++)
                ck_assert_int_eq(store(GVA + i * 4096, round), PN_MAPPED);
            ck_assert_uint_eq(stat(PN_STAT_dirty_buffer_full), full + (i == 512));
        }
        ck_assert_int_eq(harvest(), 1024);
        ck_assert_int_eq(harvest(), 0);
    }
    ck_assert_uint_eq(stat(PN_STAT_dbit_scanned), 0);
    end();
    tracker = PN_TRACKER_OFF;
}
END_TEST

/* One exit for 2 MiB, and all of its pages in the log; of what the slot has of them. */
START_TEST(a_log_of_2m_faults_once_for_all_of_them) {
    for (enum pn_mmu_kind kind = PN_MMU_SHADOW; kind <= PN_MMU_TDP; kind++) {
        pn_mmu_options_default(&opt);
        tracker = PN_TRACKER_FRAMES;
        begin_mapped_by(kind);
        for (pn_gpa o = 0; o < 4 * MIB; o += PN_PAGE_SIZE)
            ck_assert_int_eq(store(GVA + o, 1), PN_MAPPED);
        relog(PN_SLOT_LOG_DIRTY);
        for (pn_gpa o = 0; o < 4 * MIB; o += PN_PAGE_SIZE)
            ck_assert_int_eq(go(GVA + o, PN_READ, PN_TLB_SUPER), PN_MAPPED);
        harvest();
        for (unsigned round = 0; round < 3; round++) {
            uint64_t faults = stat(PN_STAT_pf_dirty_log), taken = stat(PN_STAT_pf_taken);
            for (unsigned i = 0; i < 512; i += 3)
                ck_assert_int_eq(store(GVA + i * 4096, round), PN_MAPPED);
            ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), faults + 1);
            ck_assert_uint_le(stat(PN_STAT_pf_taken), taken + 1);
            ck_assert_int_eq(harvest(), 512);
            ck_assert(logged(DATA) && logged(DATA + 511 * 4096) &&
                      !logged(DATA + 2 * MIB));
            ck_assert_int_eq(harvest(), 0);
        }
        end();
    }
    tracker = PN_TRACKER_OFF;
}
END_TEST

/* A leaf of 2 MiB stays, and has W while all of its pages are in the log. */
START_TEST(a_log_of_2m_keeps_large_mappings) {
    pn_mmu_options_default(&opt);
    tracker = PN_TRACKER_FRAMES;
    begin_mapped();
    ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
    relog(PN_SLOT_LOG_DIRTY);
    harvest();
    uint64_t faults = stat(PN_STAT_pf_dirty_log);
    for (unsigned round = 0; round < 3; round++) {
        ck_assert_int_eq(go(GVA + 0x3000, PN_READ, PN_TLB_SUPER), PN_MAPPED);
        ck_assert_uint_eq(leaf(DATA).pte & (EPT_PS | EPT_W), EPT_PS);
        ck_assert(!hit(GVA + 0x3000, PN_WRITE, PN_TLB_SUPER));
        if (round ==
            2) { /* a device's page alone gives no W, and the first store brings the rest */
            write_back(DATA + 0x3000);
            ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
            ck_assert_uint_eq(leaf(DATA).pte & EPT_W, 0);
        }
        ck_assert_int_eq(store(GVA + 0x3000, round), PN_MAPPED);
        ck_assert_uint_eq(leaf(DATA).pte & (EPT_PS | EPT_W), EPT_PS | EPT_W);
        ck_assert_int_eq(store(GVA + 0x7000, round), PN_MAPPED);
        ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), ++faults);
        ck_assert_int_eq(harvest(), 512);
        ck_assert_uint_eq(leaf(DATA).pte & (EPT_PS | EPT_W), EPT_PS);
        clean();
    }
    ck_assert_uint_eq(stat(PN_STAT_large_split), 0);
    end();
    tracker = PN_TRACKER_OFF;
}
END_TEST

/* What is read is in the log, and no access is an exit. */
START_TEST(a_log_of_accesses_has_what_is_read) {
    for (enum pn_mmu_kind kind = PN_MMU_SHADOW; kind <= PN_MMU_TDP; kind++) {
        pn_mmu_options_default(&opt);
        tracker = PN_TRACKER_ACCESSED;
        begin_mapped_by(kind);
        ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
        ck_assert_int_eq(store(GVA + 0x1000, 1), PN_MAPPED);
        relog(PN_SLOT_LOG_DIRTY);
        ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
        ck_assert_int_eq(store(GVA + 0x1000, 1), PN_MAPPED);
        harvest();
        uint64_t faults = stat(PN_STAT_pf_taken);
        for (unsigned round = 0; round < 3; round++) {
            ck_assert_int_eq(harvest(), 0);
            ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
            ck_assert_int_eq(harvest(), 1);
            ck_assert(logged(DATA));
            ck_assert_int_eq(store(GVA + 0x1000, 2), PN_MAPPED);
            ck_assert_int_eq(harvest(), 1);
            ck_assert(logged(DATA + 0x1000));
        }
        ck_assert_uint_eq(stat(PN_STAT_pf_taken), faults);
        end();
    }
    tracker = PN_TRACKER_OFF;
}
END_TEST

/* A read of one page reads four tables, whose A and D are all set. */
static void log_of_a_read(uint32_t ad, enum pn_dirty_tracker method) {
    pn_mmu_options_default(&opt);
    opt.ad = ad;
    tracker = method;
    begin_mapped();
    ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
    relog(PN_SLOT_LOG_DIRTY);
    harvest();
    long tables = ad == PN_AD_NONE ? 0 : 4;
    for (unsigned round = 0; round < 3; round++) {
        if (ad == PN_AD_NONE) /* the TLB answers; with A and D the harvest emptied it */
            pn_mmu_drop_tlb(f.vcpu);
        ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER));
        ck_map(GVA, PN_READ, PN_TLB_SUPER, DATA);
        ck_assert_int_eq(harvest(), tables);
        for (unsigned i = 0; i < 4; i++)
            ck_assert_int_eq(logged(ROOT + i * 4096), tables != 0);
        ck_assert_int_eq(harvest(), 0);
    }
    ck_assert_int_eq(store(GVA + 4096, 1), PN_MAPPED);
    ck_assert_int_eq(harvest(), tables + 1);
    end();
    tracker = PN_TRACKER_OFF;
}

START_TEST(walks_dirty_the_tables_where_the_second_level_has_d) {
    for (uint32_t ad = PN_AD_NONE; ad <= PN_AD_NPT; ad++) {
        log_of_a_read(ad, PN_TRACKER_WP);
        log_of_a_read(ad, PN_TRACKER_DBIT);
        log_of_a_read(ad, PN_TRACKER_PML);
    }
}
END_TEST

/* What the budget takes away leaves its D behind; so does zapping all. */
START_TEST(d_bits_outlive_their_tables) {
    pn_mmu_options_default(&opt);
    tracker = PN_TRACKER_DBIT;
    opt.page_budget = 64;
    begin_mapped();
    relog(PN_SLOT_LOG_DIRTY);
    ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
    pn_gpa root = f.vcpu->paging.cr3;
    for (unsigned i = 0; i < 200; i++) {
        map_page(4, 1, root, GVA + 8 * MIB, GIB + i * (64 * MIB), P | W | A | D);
        pn_mmu_invlpg(f.vcpu, GVA + 8 * MIB);
        ck_assert_int_eq(go(GVA + 8 * MIB, PN_READ, PN_TLB_SUPER), PN_MMIO);
    }
    ck_assert_uint_gt(stat(PN_STAT_mmu_recycled), 0);
    ck_assert_uint_ge(harvest(), 1);
    ck_assert(logged(DATA));
    ck_assert_int_eq(store(GVA + 0x1000, 1), PN_MAPPED);
    pn_mmu_zap_all(f.mmu);
    clean();
    ck_assert_uint_eq(stat(PN_STAT_sp_pages), 0);
    ck_assert(!hit(GVA + 0x1000, PN_READ, PN_TLB_SUPER));
    ck_assert_uint_ge(harvest(), 1);
    ck_assert(logged(DATA + 0x1000));
    end();
}
END_TEST

/* Pages seen at many addresses: the hint gives up, and finds itself again. */
START_TEST(the_hint_of_a_page_with_many_aliases_recovers) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, MEM, 2 * MIB, 0);
    pn_gpa root = new_table();
    paging(4, root);
    relog(PN_SLOT_LOG_DIRTY);
    for (unsigned i = 0; i < 20; i++) {
        map_page(4, 1, root, GVA + i * 4096, DATA, P | W | A | D);
        ck_assert_int_eq(store(GVA + i * 4096, i), PN_MAPPED);
    }
    struct slot *s = f.mmu->slots.by_gfn[0];
    ck_assert(s->rmap[DATA >> 12] & HINT_MANY);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    clean();
    for (unsigned i = 0; i < 20; i++) {
        ck_assert(!hit(GVA + i * 4096, PN_WRITE, PN_TLB_SUPER));
        ck_assert(hit(GVA + i * 4096, PN_READ, PN_TLB_SUPER));
    }
    pn_mmu_track_remove(f.mmu, DATA >> 12);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(store(GVA + i * 4096, i), PN_MAPPED);
    ck_assert_int_ge(harvest(), 1); /* it takes the write tags, too */
    for (unsigned i = 0; i < 20; i++)
        ck_assert(!hit(GVA + i * 4096, PN_WRITE, PN_TLB_SUPER));
    pn_mmu_drop_tlb(f.vcpu);
    ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
    ck_assert_int_eq(harvest(), 1);
    ck_assert(!(s->rmap[DATA >> 12] & HINT_MANY));
    ck_assert(!hit(GVA, PN_WRITE, PN_TLB_SUPER));
    end();
}
END_TEST

/* What is foreseen of a supervisor's store comes. */
static void store_is_foreseen(pn_gva gva, enum pn_outcome outcome) {
    struct pn_verdict v;
    ck_assert_int_eq(pn_mmu_predict(f.vcpu, gva, PN_WRITE, PN_TLB_SUPER, &v), 0);
    ck_assert(v.exact);
    ck_assert_int_eq(v.outcome, outcome);
    ck_assert_int_eq(pn_mmu_translate(f.vcpu, gva, PN_WRITE, PN_TLB_SUPER, &x), outcome);
}

/* Of a log of 2 MiB: a walk that sets D stores to a table in the frame of the page. That logs all of
 * it and gives the page's leaf W; but not if that table alone was in the log already. */
START_TEST(what_a_walk_does_to_a_log_of_2m_is_foreseen) {
    for (unsigned known = 0; known < 2; known++) {
        pn_mmu_options_default(&opt);
        opt.large_pages = false;
        opt.ad = known ? PN_AD_EPT : PN_AD_NONE;
        tracker = PN_TRACKER_FRAMES;
        begin(PN_MMU_TDP, MEM, 2 * MIB, PN_SLOT_LOG_DIRTY);
        paging(4, map_page(4, 1, 0, GVA, ROOT + 0xc0000, P | W | A));
        harvest();
        for (pn_gpa table = ROOT; known && table < next_table; table += PN_PAGE_SIZE)
            write_back(table);
        if (!known)
            ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
        store_is_foreseen(GVA, known ? PN_OUT_dirty_log : PN_OUT_NO_FAULT);
        ck_assert_int_eq(harvest(), 512);
        end();
    }
    tracker = PN_TRACKER_OFF;
}
END_TEST

SUITE("mmu tdp logs", .timeout = 120,
      .tests = {
          tracking_a_frame_leaves_its_large_mapping,
          a_harvest_closes_what_the_next_store_opens,
          a_logged_gigabyte_is_split_down_to_4k,
          the_walkers_a_and_d_in_a_tracked_page_are_told, logging_splits_at_once,
          logging_splits_at_the_first_write,
          a_tracked_frame_is_large_again_when_logging_ends,
          the_log_by_write_protection_misses_nothing, the_log_by_d_bits_misses_nothing,
          the_logs_by_buffers_miss_nothing,
          a_full_buffer_is_an_exit_before_the_next_store,
          a_log_of_2m_faults_once_for_all_of_them, a_log_of_2m_keeps_large_mappings,
          what_a_walk_does_to_a_log_of_2m_is_foreseen, a_log_of_accesses_has_what_is_read,
          walks_dirty_the_tables_where_the_second_level_has_d,
          d_bits_outlive_their_tables, the_hint_of_a_page_with_many_aliases_recovers})
