/* SPDX-License-Identifier: MIT */
/* Stores to frames with translated code (pn_mmu_track_add), under both kinds of MMU: they
 * are seen and counted, and the MMU is as it were without them. */
#include "guest.h"
#include "penumbra/stats.h"
#include "tests/suite.h"

#define CODE 0x5000 /* from GVA and DATA on */

static uint64_t before[PN_STAT_COUNT];

static void snapshot(void) {
    memcpy(before, f.stats.v, sizeof(before));
}

/* Nothing was counted since, but n stores to code. */
static void ck_stores_to_code(uint64_t n) {
    for (unsigned i = 0; i < PN_STAT_COUNT; i++) {
        uint64_t want = before[i] + (i == PN_STAT_code_stores ? n : 0);
        ck_assert_msg(stat(i) == want, "%s is %llu, not %llu", pn_stat_name(i),
                      (unsigned long long)stat(i), (unsigned long long)want);
    }
}

/* 4 MiB at GVA by guest pages of a level; all at level 1 of the MMU if not large. Loops:
 * kind, level, large. */
static void begin_loop(int loop, uint32_t flags) {
    pn_mmu_options_default(&opt);
    opt.large_pages = loop / 4 % 2;
    opt.audit = 1;
    begin(loop % 2 ? PN_MMU_TDP : PN_MMU_SHADOW, MEM, 2 * MIB, flags);
    unsigned level = 1 + (unsigned)loop / 2 % 2;
    pn_gpa root = 0;
    for (pn_gpa o = 0; o < 4 * MIB; o += level_pages(level) << PN_PAGE_SHIFT)
        root = map_page(4, level, root, GVA + o, DATA + o, P | W | A | D);
    paging(4, root);
}
#define LOOPS 8

START_TEST(a_store_to_code_touches_no_counter_of_the_mmu) {
    begin_loop(_i, 0);
    ck_assert_int_eq(store(GVA + CODE, 1), PN_MAPPED);
    snapshot();
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + CODE) >> 12), 0);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(store(GVA + CODE + 8 * i, i), PN_TRACKED);
    ck_stores_to_code(100);
    ck_assert_uint_eq(f.track.calls, 100);
    ck_assert_uint_eq(f.track.gpa, DATA + CODE + 8 * 99);
    ck_assert_uint_eq(*fixture_q(&f, DATA + CODE + 8 * 99), 99);
    end();
}
END_TEST

START_TEST(the_first_store_of_all_to_code_is_an_ordinary_fault_and_counted_apart) {
    begin_loop(_i, 0);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + CODE) >> 12), 0);
    ck_assert_int_eq(store(GVA + CODE, 1), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_code_stores), 1);
    ck_assert_uint_eq(stat(PN_STAT_pf_tracked), 0);
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), stat(PN_STAT_pf_fixed));
    snapshot();
    ck_assert_int_eq(store(GVA + CODE, 2), PN_TRACKED);
    ck_stores_to_code(1);
    end();
}
END_TEST

START_TEST(mappings_are_what_they_are_without_code) {
    uint64_t pages[2][3];
    for (unsigned code = 0; code < 2; code++) {
        begin_loop(_i, 0);
        for (pn_gpa o = 0; code && o < 4 * MIB; o += 7 * PN_PAGE_SIZE)
            ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + o) >> 12), 0);
        for (pn_gpa o = 0; o < 4 * MIB; o += PN_PAGE_SIZE)
            store(GVA + o, 1);
        pages[code][0] = stat(PN_STAT_pages_4k);
        pages[code][1] = stat(PN_STAT_pages_2m);
        pages[code][2] = stat(PN_STAT_pf_taken);
        ck_assert_uint_eq(stat(PN_STAT_code_stores), code ? (1024 + 6) / 7 : 0);
        end();
    }
    ck_assert_mem_eq(pages[0], pages[1], sizeof(pages[0]));
}
END_TEST

START_TEST(a_page_that_has_code_no_more_takes_stores) {
    begin_loop(_i, 0);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + CODE) >> 12), 0);
    ck_assert_int_eq(store(GVA + CODE, 1), PN_TRACKED);
    pn_mmu_track_remove(f.mmu, (DATA + CODE) >> 12);
    ck_assert_int_eq(store(GVA + CODE, 2), PN_MAPPED);
    ck_assert(hit(GVA + CODE, PN_WRITE, PN_TLB_SUPER));
    ck_assert_uint_eq(stat(PN_STAT_code_stores), 1);
    end();
}
END_TEST

START_TEST(a_logged_store_to_code_is_one_fault_of_the_log) {
    static uint64_t bitmap[MEM / PN_PAGE_SIZE / 64];
    begin_loop(_i, PN_SLOT_LOG_DIRTY);
    ck_assert_int_eq(store(GVA + CODE, 1), PN_MAPPED);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + CODE) >> 12), 0);
    ck_assert_int_gt(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, MEM / PN_PAGE_SIZE / 64), 0);
    uint64_t faults = stat(PN_STAT_pf_dirty_log);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(store(GVA + CODE, i), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), faults + 1);
    ck_assert_uint_eq(stat(PN_STAT_code_stores), 3);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, MEM / PN_PAGE_SIZE / 64), 1);
    end();
}
END_TEST

/* The guest has changed its table, and owes an INVLPG: the entry is still good. What is
 * asked then are the tables, and the answer is one that the processor could give. */
START_TEST(a_store_to_code_follows_a_changed_gpte) {
    begin_loop(_i & 1, 0); /* 4 KiB */
    pn_gpa at = gpte_in(4, f.vcpu->paging.cr3, GVA + CODE, 1);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + CODE) >> 12), 0);
    ck_assert_int_eq(store(GVA + CODE, 1), PN_TRACKED);
    *fixture_q(&f, at) = (DATA + CODE + PN_PAGE_SIZE) | P | W | A | D;
    write_back(at);
    pn_mmu_invlpg(f.vcpu, GVA + CODE);
    ck_assert_int_eq(store(GVA + CODE, 2), PN_MAPPED);
    ck_assert_uint_eq(x.gpa, DATA + CODE + PN_PAGE_SIZE);
    end();
}
END_TEST

START_TEST(a_shadowed_table_with_code_on_its_page_is_a_tracked_table) {
    begin_loop(0, 0);
    pn_gpa root = f.vcpu->paging.cr3;
    map_page(4, 1, root, GVA, root, P | W | A | D);
    paging(4, root);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, root >> 12), 0);
    ck_assert_int_eq(store(GVA + 8, 0), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_pf_tracked), 1);
    ck_assert_uint_eq(stat(PN_STAT_mmu_pte_write), 1);
    ck_assert_uint_eq(stat(PN_STAT_code_stores), 0);
    ck_assert_uint_eq(f.track.calls, 1);
    end();
}
END_TEST

/* A device is not the software CPU. */
START_TEST(a_device_that_writes_to_code_is_told_of_and_not_counted) {
    begin_loop(_i, 0);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (DATA + CODE) >> 12), 0);
    write_back(DATA + CODE);
    ck_assert_uint_eq(f.track.calls, 1);
    ck_assert_uint_eq(stat(PN_STAT_code_stores), 0);
    end();
}
END_TEST

SUITE("mmu track", .timeout = 120,
      .tests = {a_shadowed_table_with_code_on_its_page_is_a_tracked_table},
      .loops = {
          {a_store_to_code_touches_no_counter_of_the_mmu, LOOPS},
          {the_first_store_of_all_to_code_is_an_ordinary_fault_and_counted_apart, LOOPS},
          {mappings_are_what_they_are_without_code, LOOPS},
          {a_page_that_has_code_no_more_takes_stores, LOOPS},
          {a_logged_store_to_code_is_one_fault_of_the_log, LOOPS},
          {a_store_to_code_follows_a_changed_gpte, 2},
          {a_device_that_writes_to_code_is_told_of_and_not_counted, 2}})
