/* SPDX-License-Identifier: MIT */
/*
 * nested=shadow under tdp: our second level merged with that of a hypervisor in the guest. What is
 * right is written here from SDM volume 3, "The Extended Page Table Mechanism (EPT)" and "Caching
 * Translation Information", and Bhargava et al. (ASPLOS 2008) for the counts.
 */
#include "guest.h"
#include "tests/suite.h"

/* The guest's guest's frame k is the hypervisor's frame k + SHIFT. */
#define SHIFT    0x100u
#define FRAMES   0x40u
#define L2_ROOT  0x1000u /* of its tables, in its own memory */
#define L2_GVA   0x7f1234567000ull
#define L2_FRAME 0x20u
#define OTHER    0x30u
#define EPT_ROOT (2 * MIB)
#define ASID     7u

#define R_ 1ull
#define W_ 2ull
#define X_ 4ull
#define WB (6ull << 3)
#define EA (1ull << 8)
#define ED (1ull << 9)

static pn_gpa place(uint64_t frame) {
    return (frame + SHIFT) << 12;
}

/* The hypervisor's entry for a frame. */
static uint64_t *ept_entry(uint64_t frame) {
    pn_gpa table = EPT_ROOT;
    for (unsigned l = 4;; l--) {
        uint64_t *e = fixture_q(&f, table + 8 * (frame >> (9 * (l - 1)) & 511));
        if (l == 1)
            return e;
        if (!*e)
            *e = new_table() | R_ | W_ | X_;
        table = *e & ~0xfffull;
    }
}

static void flush(void) {
    pn_mmu_flush_asid(f.vcpu, ASID, false);
}

/* A guest's guest with one page at L2_GVA, over EPT, with A and D bits or without. */
static void start(enum pn_mmu_nested nested, bool ad) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    opt.nested = nested;
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    next_table = EPT_ROOT + PN_PAGE_SIZE;
    for (unsigned k = 0; k < FRAMES; k++)
        *ept_entry(k) = place(k) | R_ | W_ | X_ | WB;
    for (unsigned level = 4; level; level--) { /* table of level l: frame 5 - l */
        pn_gpa table = L2_ROOT + (4 - level) * PN_PAGE_SIZE;
        pn_gpa to = level > 1 ? table + PN_PAGE_SIZE : (pn_gpa)L2_FRAME << 12;
        unsigned i = L2_GVA >> (12 + 9 * (level - 1)) & 511;
        *fixture_q(&f, place(0) + table + 8 * i) = to | P | W | U | A | D;
    }
    struct pn_world w = {.asid = ASID,
                         .second = true,
                         .ept = true,
                         .eptp = EPT_ROOT | 6 | 3 << 3 | (ad ? 1 << 6 : 0)};
    struct pn_paging p = fixture_paging(4, L2_ROOT);
    pn_mmu_set_world(f.vcpu, &w, &p);
}

static uint64_t references(void) {
    return stat(PN_STAT_gpte_reads) + stat(PN_STAT_npte_reads) + stat(PN_STAT_walk_refs);
}

/* What a TLB miss reads once all is mapped. */
static uint64_t warm(void) {
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    pn_mmu_drop_tlb(f.vcpu);
    uint64_t before = references();
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    return references() - before;
}

START_TEST(a_walk_reads_24_entries_where_three_stages_are_124) {
    struct pn_walk_cost c;
    start(PN_NESTED_WALK, false);
    ck_assert_uint_eq(warm(), 124);
    end();
    start(PN_NESTED_SHADOW, false);
    ck_assert_uint_eq(warm(), 24);
    ck_assert_uint_eq(stat(PN_STAT_merged_leaves), 5);
    uint64_t nested = stat(PN_STAT_npte_reads);
    ck_assert_uint_eq(nested, 5 * 4); /* in software, once for each leaf */
    pn_mmu_walk_cost(f.vcpu, L2_GVA, PN_READ, PN_TLB_USER, &c);
    ck_assert_uint_eq(c.refs, 24);
    ck_assert(c.complete);
    end();
}
END_TEST

START_TEST(each_leaf_that_is_merged_is_one_violation_more_than_without_a_hypervisor) {
    start(PN_NESTED_SHADOW, false);
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    /* One for each of our own leaves, too: four tables and the page. */
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), 2 * 5);
    ck_assert_uint_eq(stat(PN_STAT_pf_inner), 2 * 5);
    end();
}
END_TEST

START_TEST(what_is_merged_stays_until_its_asid_is_flushed) {
    start(PN_NESTED_SHADOW, false);
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    *ept_entry(L2_FRAME) = place(OTHER) | R_ | W_ | X_ | WB;
    pn_mmu_drop_tlb(f.vcpu);
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    pn_mmu_flush_asid(f.vcpu, ASID + 1, false);
    pn_mmu_drop_tlb(f.vcpu);
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    flush();
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(OTHER));
    *ept_entry(L2_FRAME) = 0;
    pn_mmu_flush_second(f.vcpu);
    ck_assert_int_eq(go(L2_GVA, PN_READ, PN_TLB_USER), PN_GUEST_PF);
    ck_assert_uint_eq(x.fault.vector, PN_VEC_NPF);
    end();
}
END_TEST

START_TEST(a_right_that_lacks_is_looked_for_in_the_hypervisors_tables) {
    start(PN_NESTED_SHADOW, false);
    *ept_entry(L2_FRAME) = place(L2_FRAME) | R_ | WB;
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    ck_assert_int_eq(go(L2_GVA, PN_WRITE, PN_TLB_USER), PN_GUEST_PF);
    ck_assert_uint_eq(x.fault.vector, PN_VEC_NPF);
    *ept_entry(L2_FRAME) = place(L2_FRAME) | R_ | W_ | WB; /* needs no flush */
    ck_map(L2_GVA, PN_WRITE, PN_TLB_USER, place(L2_FRAME));
    ck_assert_int_eq(go(L2_GVA, PN_FETCH, PN_TLB_USER), PN_GUEST_PF);
    *ept_entry(L2_FRAME) |= X_;
    ck_map(L2_GVA, PN_FETCH, PN_TLB_USER, place(L2_FRAME));
    end();
}
END_TEST

START_TEST(accessed_and_dirty_are_set_when_they_are_due) {
    start(PN_NESTED_SHADOW, true);
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    ck_assert_uint_eq(*ept_entry(L2_FRAME) & (EA | ED), EA);
    ck_assert_uint_eq(*ept_entry(1) & (EA | ED), EA | ED); /* a table: walks write it */
    ck_assert(!hit(L2_GVA, PN_WRITE, PN_TLB_USER));
    ck_map(L2_GVA, PN_WRITE, PN_TLB_USER, place(L2_FRAME));
    ck_assert_uint_eq(*ept_entry(L2_FRAME) & (EA | ED), EA | ED);
    end();
}
END_TEST

START_TEST(trees_are_told_apart_by_asid_and_root) {
    struct pn_paging p = fixture_paging(4, L2_ROOT);
    start(PN_NESTED_SHADOW, false);
    ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(L2_FRAME));
    for (uint32_t asid = 1; asid < 40; asid++) { /* more than there is room for */
        struct pn_world w = {
            .asid = asid, .second = true, .ept = true, .eptp = EPT_ROOT | 6 | 3 << 3};
        *ept_entry(L2_FRAME) = place(asid & 31) | R_ | WB;
        pn_mmu_set_world(f.vcpu, &w, &p);
        pn_mmu_flush_asid(f.vcpu, asid, false);
        ck_map(L2_GVA, PN_READ, PN_TLB_USER, place(asid & 31));
        clean();
    }
    pn_mmu_zap_all(f.mmu);
    ck_assert_uint_eq(stat(PN_STAT_sp_pages), 0);
    end();
}
END_TEST

SUITE("mmu merged",
      .tests = {a_walk_reads_24_entries_where_three_stages_are_124,
                each_leaf_that_is_merged_is_one_violation_more_than_without_a_hypervisor,
                what_is_merged_stays_until_its_asid_is_flushed,
                a_right_that_lacks_is_looked_for_in_the_hypervisors_tables,
                accessed_and_dirty_are_set_when_they_are_due,
                trees_are_told_apart_by_asid_and_root})
