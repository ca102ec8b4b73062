/* SPDX-License-Identifier: MIT */
/* Large pages under shadow paging: made, split by shadowed tables, and their TLB entries. */
#include "guest.h"
#include "tests/suite.h"

/* All memory at DIRECT, by 2 MiB gptes. */
static void begin_large(void) {
    begin_shadow();
    new_table();
    for (pn_gpa gpa = 0; gpa < MEM; gpa += 2 * MIB)
        *fixture_q(&f, gpte_at(ROOT, DIRECT + gpa, 2)) = gpa | P | W | A | D | PS;
    paging(4, ROOT);
}

#define TABLED 0x7000000000ull /* mapped by a leaf table where shadow_frame was told */

/* Before any access: gpa is a leaf table, which shadow_frame uses. */
static void put_table(pn_gpa gpa) {
    f.mmu->shadow->unsync_level = 0;
    *fixture_q(&f, gpte_at(ROOT, TABLED, 2)) = gpa | P | W | U | A;
    *fixture_q(&f, gpa) = DATA | P | W | U | A | D;
}
static void shadow_frame(void) {
    ck_map(TABLED, PN_READ, PN_TLB_USER, DATA);
}

START_TEST(a_large_gpte_is_one_large_spte) {
    begin_large();
    ck_map(DIRECT + 0xa12345, PN_WRITE, PN_TLB_SUPER, 0xa12345);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 1);
    ck_map(DIRECT + 0xa45678, PN_READ, PN_TLB_SUPER, 0xa45678);
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), 1);
    end();
}
END_TEST

START_TEST(a_large_page_with_tables_in_it_is_mapped_by_small_ones) {
    begin_large();
    ck_map(DIRECT + ROOT, PN_READ, PN_TLB_SUPER, ROOT);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 0);
    ck_assert_int_eq(go(DIRECT + ROOT, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
    end();
}
END_TEST

START_TEST(shadowing_a_page_takes_the_writes_of_its_large_mapping) {
    begin_large();
    put_table(0xa12000);
    ck_map(DIRECT + 0xa12345, PN_WRITE, PN_TLB_SUPER, 0xa12345);
    shadow_frame();
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 1);
    ck_assert_uint_eq(stat(PN_STAT_large_split), 0);
    ck_assert(!hit(DIRECT + 0xa12345, PN_WRITE, PN_TLB_SUPER));
    ck_map(DIRECT + 0xa46000, PN_READ, PN_TLB_SUPER, 0xa46000);
    end();
}
END_TEST

START_TEST(the_first_write_beside_a_shadowed_page_splits_the_large_mapping) {
    begin_large();
    put_table(0xa12000);
    ck_map(DIRECT + 0xa12345, PN_WRITE, PN_TLB_SUPER, 0xa12345);
    ck_map(DIRECT + 0xa45678, PN_READ, PN_TLB_SUPER, 0xa45678);
    shadow_frame();
    ck_assert_int_eq(go(DIRECT + 0xa12000, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 0);
    ck_assert_uint_eq(stat(PN_STAT_large_split), 1);
    ck_assert(!hit(DIRECT + 0xa45678, PN_READ, PN_TLB_SUPER));
    ck_map(DIRECT + 0xa13000, PN_WRITE, PN_TLB_SUPER, 0xa13000);
    end();
}
END_TEST

START_TEST(large_pages_can_be_off) {
    begin_large();
    f.mmu->cfg.opt.large_pages = 0;
    ck_map(DIRECT + 0xc00000, PN_READ, PN_TLB_SUPER, 0xc00000);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 0);
    end();
}
END_TEST

START_TEST(the_d_bit_of_a_large_gpte_serves_all_its_pages) {
    begin_shadow();
    new_table();
    pn_gpa pmd = gpte_at(ROOT, 0x40000000, 2);
    *fixture_q(&f, pmd) = DATA | P | W | U | PS;
    paging(4, ROOT);
    f.mmu->cfg.opt.large_pages = 0; /* by direct sps: D is the table spte's */
    ck_map(0x40003000, PN_READ, PN_TLB_USER, DATA + 0x3000);
    ck_assert(!hit(0x40003000, PN_WRITE, PN_TLB_USER));
    ck_map(0x40004000, PN_WRITE, PN_TLB_USER, DATA + 0x4000);
    ck_assert_uint_eq(*fixture_q(&f, pmd) & (A | D), A | D);
    ck_map(0x40003000, PN_WRITE, PN_TLB_USER, DATA + 0x3000);
    uint64_t v = *fixture_q(&f, pmd) & ~D;
    pn_mmu_write_phys(f.mmu, pmd, &v, 8);
    ck_assert(!hit(0x40003000, PN_WRITE, PN_TLB_USER));
    ck_map(0x40003000, PN_WRITE, PN_TLB_USER, DATA + 0x3000);
    ck_assert_uint_eq(*fixture_q(&f, pmd) & D, D);
    end();
}
END_TEST

#define THIRD (2 * GIB)

/* Two 1 GiB gptes at 0 and at THIRD; the first gigabyte holds the tables. */
static void begin_gigabytes(void) {
    pn_mmu_options_default(&opt);
    opt.prefetch = 0;
    begin(PN_MMU_SHADOW, 3 * GIB, GIB, 0);
    new_table();
    *fixture_q(&f, gpte_at(ROOT, THIRD, 3)) = THIRD | P | W | A | D | PS;
    *fixture_q(&f, gpte_at(ROOT, 0, 3)) = 0 | P | W | A | D | PS;
    paging(4, ROOT);
}

/* More pages from gva on than a TLB remembers one by one. */
static void read_many(pn_gva gva) {
    for (uint64_t i = 0; i < PN_TLB_ENTRIES; i++)
        ck_map(gva + i * 4096, PN_READ, PN_TLB_SUPER, gva + i * 4096);
}

START_TEST(a_gigabyte_gpte_is_one_spte) {
    begin_gigabytes();
    ck_map(THIRD + 0x12345678, PN_WRITE, PN_TLB_SUPER, THIRD + 0x12345678);
    ck_assert_uint_eq(stat(PN_STAT_pages_1g), 1);
    end();
}
END_TEST

START_TEST(a_gigabyte_with_tables_in_it_is_mapped_by_2m_and_4k) {
    begin_gigabytes();
    ck_map(0x12345678, PN_WRITE, PN_TLB_SUPER, 0x12345678);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 1);
    ck_map(ROOT + 0x80000, PN_WRITE, PN_TLB_SUPER, ROOT + 0x80000);
    ck_assert_uint_eq(stat(PN_STAT_pages_4k), 1);
    end();
}
END_TEST

START_TEST(tracking_a_page_of_a_gigabyte_takes_its_own_write_tag_alone) {
    begin_gigabytes();
    ck_map(THIRD + 0x12345678, PN_WRITE, PN_TLB_SUPER, THIRD + 0x12345678);
    read_many(THIRD);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (THIRD >> 12) + 5), 0);
    for (uint64_t i = 0; i < PN_TLB_ENTRIES; i++) {
        ck_assert(hit(THIRD + i * 4096, PN_READ, PN_TLB_SUPER));
        ck_assert(hit(THIRD + i * 4096, PN_WRITE, PN_TLB_SUPER) == (i != 5));
    }
    ck_assert_uint_eq(stat(PN_STAT_pages_1g), 1);
    end();
}
END_TEST

START_TEST(shadowing_a_page_of_a_gigabyte_leaves_every_read_tag) {
    begin_gigabytes();
    put_table(THIRD);
    ck_map(THIRD + 0x12345678, PN_WRITE, PN_TLB_SUPER, THIRD + 0x12345678);
    read_many(THIRD);
    shadow_frame();
    for (uint64_t i = 0; i < PN_TLB_ENTRIES; i++) {
        ck_assert(hit(THIRD + i * 4096, PN_READ, PN_TLB_SUPER));
        ck_assert(!hit(THIRD + i * 4096, PN_WRITE, PN_TLB_SUPER));
    }
    ck_assert_uint_eq(stat(PN_STAT_pages_1g), 1);
    end();
}
END_TEST

START_TEST(a_split_gigabyte_leaves_no_tlb_entry) {
    begin_gigabytes();
    put_table(THIRD);
    ck_map(THIRD + 0x12345678, PN_WRITE, PN_TLB_SUPER, THIRD + 0x12345678);
    read_many(THIRD);
    shadow_frame();
    ck_map(THIRD + 0x12345678, PN_WRITE, PN_TLB_SUPER, THIRD + 0x12345678);
    ck_assert_uint_eq(stat(PN_STAT_pages_1g), 0);
    ck_assert_uint_eq(stat(PN_STAT_pages_2m), 1);
    for (uint64_t i = 0; i < PN_TLB_ENTRIES; i++)
        if (i != 0x345)
            ck_assert(!hit(THIRD + i * 4096, PN_READ, PN_TLB_SUPER));
    end();
}
END_TEST

START_TEST(a_split_2m_page_leaves_its_neighbours_tlb_entries) {
    begin_gigabytes();
    put_table(0x12345000);
    ck_map(0x12345678, PN_WRITE, PN_TLB_SUPER, 0x12345678);
    read_many(0x12200000);
    shadow_frame();
    ck_assert_int_eq(go(0x12345000, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
    for (uint64_t i = 0; i < 512; i++) {
        ck_assert(!hit(0x12200000 + i * 4096, PN_READ, PN_TLB_SUPER));
        ck_assert(hit(0x12400000 + i * 4096, PN_READ, PN_TLB_SUPER));
    }
    end();
}
END_TEST

SUITE("mmu shadow large", .timeout = 120,
      .tests = {a_large_gpte_is_one_large_spte,
                a_large_page_with_tables_in_it_is_mapped_by_small_ones,
                shadowing_a_page_takes_the_writes_of_its_large_mapping,
                the_first_write_beside_a_shadowed_page_splits_the_large_mapping,
                large_pages_can_be_off, the_d_bit_of_a_large_gpte_serves_all_its_pages,
                a_gigabyte_gpte_is_one_spte,
                a_gigabyte_with_tables_in_it_is_mapped_by_2m_and_4k,
                tracking_a_page_of_a_gigabyte_takes_its_own_write_tag_alone,
                shadowing_a_page_of_a_gigabyte_leaves_every_read_tag,
                a_split_gigabyte_leaves_no_tlb_entry,
                a_split_2m_page_leaves_its_neighbours_tlb_entries})
