/* SPDX-License-Identifier: MIT */
/*
 * Shadow-stack accesses under both kinds of MMU: which pages allow them, and that a store to
 * such a page is seen where any other store is. Which combinations of bits make a page of a
 * shadow stack is test_perm_sweep's subject.
 */
#include "guest.h"
#include "tests/suite.h"

#define STACK (P | U | A | D) /* and W in every entry above */
#define KINDS 2

static void begin_kind(int kind, uint32_t flags) {
    pn_mmu_options_default(&opt);
    opt.prefetch = 0;
    begin(kind ? PN_MMU_TDP : PN_MMU_SHADOW, MEM, 2 * MIB, flags);
    new_table();
}

static void cet_paging(void) {
    struct pn_paging p = fixture_paging(4, ROOT);
    p.cr0 |= CR0_WP;
    p.cr4 |= CR4_CET;
    pn_mmu_set_paging(f.vcpu, &p);
}

#define ck_no(gva, access, mode, code)                                                   \
    do {                                                                                 \
        ck_assert_int_eq(go(gva, access, mode), PN_GUEST_PF);                            \
        ck_assert_uint_eq(x.fault.error, code);                                          \
    } while (0)

START_TEST(a_users_shadow_stack_takes_the_users_shadow_stack_accesses_alone) {
    begin_kind(_i, 0);
    map(ROOT, 0x5000, DATA, STACK);
    cet_paging();
    for (int round = 0; round < 2; round++) { /* made, and found */
        ck_map(0x5008, PN_SS_WRITE, PN_TLB_USER, DATA + 8);
        ck_map(0x5008, PN_SS_READ, PN_TLB_USER, DATA + 8);
        ck_map(0x5008, PN_READ, PN_TLB_USER, DATA + 8);
        ck_no(0x5000, PN_WRITE, PN_TLB_USER, PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER);
        ck_no(0x5000, PN_WRITE, PN_TLB_SUPER, PN_PF_PRESENT | PN_PF_WRITE);
        ck_no(0x5000, PN_SS_READ, PN_TLB_SUPER, PN_PF_PRESENT | PN_PF_SS);
        ck_no(0x5000, PN_SS_WRITE, PN_TLB_SUPER, PN_PF_PRESENT | PN_PF_WRITE | PN_PF_SS);
        ck_assert(!hit(0x5000, PN_WRITE, PN_TLB_USER));
    }
    ck_no(0x6000, PN_SS_WRITE, PN_TLB_USER, PN_PF_WRITE | PN_PF_USER | PN_PF_SS);
    end();
}
END_TEST

START_TEST(an_ordinary_page_takes_none) {
    begin_kind(_i, 0);
    map(ROOT, 0x5000, DATA, STACK | W);
    map(ROOT, 0x6000, DATA, P | U | A); /* without D it is read-only */
    cet_paging();
    for (int round = 0; round < 2; round++) {
        ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
        ck_no(0x5000, PN_SS_WRITE, PN_TLB_USER,
              PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER | PN_PF_SS);
        ck_no(0x6000, PN_SS_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER | PN_PF_SS);
    }
    end();
}
END_TEST

START_TEST(w_taken_away_above_the_leaf_ends_a_shadow_stack) {
    begin_kind(_i, 0);
    map(ROOT, 0x5000, DATA, STACK);
    cet_paging();
    ck_map(0x5000, PN_SS_WRITE, PN_TLB_USER, DATA);
    pn_gpa pde = gpte_at(ROOT, 0x5000, 2);
    uint64_t v = *fixture_q(&f, pde) & ~(uint64_t)W;
    pn_mmu_write_phys(f.mmu, pde, &v, 8);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_no(0x5000, PN_SS_WRITE, PN_TLB_USER,
          PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER | PN_PF_SS);
    end();
}
END_TEST

START_TEST(a_large_page_may_be_a_shadow_stack) {
    begin_kind(_i, 0);
    map_page(4, 2, ROOT, 0x400000, DATA, STACK);
    cet_paging();
    for (int round = 0; round < 2; round++) {
        ck_map(0x403008, PN_SS_WRITE, PN_TLB_USER, DATA + 0x3008);
        ck_no(0x403008, PN_SS_READ, PN_TLB_SUPER, PN_PF_PRESENT | PN_PF_SS);
        pn_mmu_drop_tlb(f.vcpu);
    }
    end();
}
END_TEST

START_TEST(a_gpte_that_becomes_a_shadow_stack_is_one_after_the_flush) {
    begin_kind(_i, 0);
    map(ROOT, 0x5000, DATA, STACK | W);
    map_direct(ROOT);
    cet_paging();
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert_int_ne(poke(gpte_at(ROOT, 0x5000, 1), DATA | STACK), PN_GUEST_PF);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_map(0x5000, PN_SS_WRITE, PN_TLB_USER, DATA);
    ck_no(0x5000, PN_WRITE, PN_TLB_USER, PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER);
    ck_assert_int_ne(poke(gpte_at(ROOT, 0x5000, 1), DATA | STACK | W), PN_GUEST_PF);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_no(0x5000, PN_SS_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER | PN_PF_SS);
    end();
}
END_TEST

static bool harvested(pn_gpa gpa) {
    static uint64_t bitmap[MEM / PN_PAGE_SIZE / 64];
    ck_assert_int_ge(
        pn_mmu_dirty_harvest(f.mmu, 0, bitmap, sizeof(bitmap) / sizeof(*bitmap)), 0);
    return bitmap[gpa / PN_PAGE_SIZE / 64] >> (gpa / PN_PAGE_SIZE % 64) & 1;
}

START_TEST(the_dirty_log_has_what_a_shadow_stack_was_pushed_to) {
    tracker = _i >= KINDS ? PN_TRACKER_DBIT : PN_TRACKER_WP;
    begin_kind(_i >= KINDS ? 1 : _i, PN_SLOT_LOG_DIRTY);
    map(ROOT, 0x5000, DATA, STACK);
    cet_paging();
    ck_map(0x5000, PN_SS_READ, PN_TLB_USER, DATA);
    harvested(DATA);
    for (int round = 0; round < 3; round++) {
        ck_map(0x5000, PN_SS_READ, PN_TLB_USER, DATA);
        ck_assert(!harvested(DATA));
        ck_map(0x5000, PN_SS_WRITE, PN_TLB_USER, DATA);
        ck_map(0x5000, PN_SS_WRITE, PN_TLB_USER, DATA);
        ck_assert(harvested(DATA));
    }
    end();
    tracker = PN_TRACKER_OFF;
}
END_TEST

START_TEST(a_push_onto_code_is_seen) {
    begin_kind(_i, 0);
    map(ROOT, 0x5000, DATA, STACK);
    cet_paging();
    ck_map(0x5000, PN_SS_WRITE, PN_TLB_USER, DATA);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(pn_mmu_translate(f.vcpu, 0x5000, PN_SS_WRITE, PN_TLB_USER, &x),
                         PN_OUT_tracked_code);
        ck_map(0x5000, PN_SS_READ, PN_TLB_USER, DATA);
    }
    pn_mmu_track_remove(f.mmu, DATA >> 12);
    ck_map(0x5000, PN_SS_WRITE, PN_TLB_USER, DATA);
    end();
}
END_TEST

/* A guest may call a frame both a table and a shadow stack. */
START_TEST(a_push_onto_a_table_is_a_store_to_it) {
    begin_kind(_i, 0);
    map(ROOT, 0x5000, DATA, STACK | W);
    pn_gpa table = gpte_at(ROOT, 0x5000, 1) & PN_PAGE_MASK;
    map(ROOT, 0x6000, table, STACK);
    cet_paging();
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    uint64_t gpte = (DATA + 0x1000) | STACK | W;
    enum pn_answer a = go(0x6000 + 8 * 5, PN_SS_WRITE, PN_TLB_USER);
    if (a == PN_TRACKED)
        ck_assert_uint_eq(pn_mmu_vcpu_write(f.vcpu, x.gpa, &gpte, 8), 8);
    else
        memcpy(x.hva, &gpte, 8);
    ck_assert_int_ne(a, PN_GUEST_PF);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x1000);
    end();
}
END_TEST

START_TEST(without_paging_every_address_takes_them) {
    begin_kind(_i, 0);
    ck_map(0x5000, PN_SS_WRITE, PN_TLB_SUPER, 0x5000);
    ck_map(0x5000, PN_SS_READ, PN_TLB_SUPER, 0x5000);
    end();
}
END_TEST

SUITE("mmu.stack",
      .loops = {{a_users_shadow_stack_takes_the_users_shadow_stack_accesses_alone, KINDS},
                {an_ordinary_page_takes_none, KINDS},
                {w_taken_away_above_the_leaf_ends_a_shadow_stack, KINDS},
                {a_large_page_may_be_a_shadow_stack, KINDS},
                {a_gpte_that_becomes_a_shadow_stack_is_one_after_the_flush, KINDS},
                {the_dirty_log_has_what_a_shadow_stack_was_pushed_to, KINDS + 1},
                {a_push_onto_code_is_seen, KINDS},
                {a_push_onto_a_table_is_a_store_to_it, KINDS},
                {without_paging_every_address_takes_them, KINDS}})
