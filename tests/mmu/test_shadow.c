/* SPDX-License-Identifier: MIT */
/* Shadowing of tables: A and D, rights, unsync, tracking, flooding. */
#include "guest.h"
#include "tests/suite.h"

/* ---- TLB, A and D ---- */

START_TEST(an_empty_tlb_matches_nothing) {
    begin_shadow();
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        for (unsigned a = 0; a < 3; a++)
            for (uint64_t i = 0; i < PN_TLB_ENTRIES; i++) {
                ck_assert(!hit(i << 12, a, mode));
                ck_assert(!hit(~0ull << 22 | i << 12, a, mode));
            }
    end();
}
END_TEST

START_TEST(a_read_sets_a_and_a_write_sets_d) {
    begin_shadow();
    map(ROOT + 0 * new_table(), 0x5000, DATA, P | W | U);
    paging(4, ROOT);
    pn_gpa pte = gpte_at(ROOT, 0x5000, 1);
    ck_map(0x5008, PN_READ, PN_TLB_USER, DATA + 8);
    ck_assert_uint_eq(*fixture_q(&f, pte) & (A | D), A);
    ck_assert(hit(0x5000, PN_READ, PN_TLB_USER));
    ck_assert(!hit(0x5000, PN_WRITE, PN_TLB_USER));
    ck_map(0x5010, PN_WRITE, PN_TLB_USER, DATA + 0x10);
    ck_assert_uint_eq(*fixture_q(&f, pte) & (A | D), A | D);
    ck_assert(hit(0x5000, PN_WRITE, PN_TLB_USER));
    ck_assert(!hit(0x5000, PN_FETCH, PN_TLB_USER));
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), 2);
    ck_assert_uint_eq(stat(PN_STAT_pf_fixed), 2);
    ck_assert_uint_eq(stat(PN_STAT_pages_4k), 1);
    /* Another mode: answered by the shadow tables, no fault. */
    ck_map(0x5000, PN_READ, PN_TLB_SUPER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), 2);
    /* The guest takes A and D back. */
    uint64_t v = DATA | P | W | U;
    pn_mmu_write_phys(f.mmu, pte, &v, 8);
    ck_assert(!hit(0x5000, PN_READ, PN_TLB_USER));
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_uint_eq(*fixture_q(&f, pte) & (A | D), A);
    end();
}
END_TEST

START_TEST(losing_d_alone_takes_only_the_write_tag) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    uint64_t v = DATA | P | W | U | A;
    pn_mmu_write_phys(f.mmu, gpte_at(ROOT, 0x5000, 1), &v, 8);
    ck_assert(hit(0x5000, PN_READ, PN_TLB_USER));
    ck_assert(!hit(0x5000, PN_WRITE, PN_TLB_USER));
    end();
}
END_TEST

/* ---- Rights ---- */

START_TEST(cr0_wp_is_decided_in_one_tree) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | U | A | D);
    struct pn_paging p = fixture_paging(4, ROOT);
    p.cr4 |= 1u << 20;
    for (int round = 0; round < 2; round++) {
        p.cr0 |= 1u << 16;
        pn_mmu_set_paging(f.vcpu, &p);
        ck_pf(0x5000, PN_WRITE, PN_TLB_SUPER, PN_PF_PRESENT | PN_PF_WRITE);
        p.cr0 &= ~(1ull << 16);
        pn_mmu_set_paging(f.vcpu, &p);
        ck_map(0x5000, PN_WRITE, PN_TLB_SUPER, DATA);
        ck_assert(hit(0x5000, PN_WRITE, PN_TLB_SUPER));
        /* SMEP still tells a user page, and the user still may not write. */
        ck_pf(0x5000, PN_FETCH, PN_TLB_SUPER, PN_PF_PRESENT | PN_PF_FETCH);
        ck_pf(0x5000, PN_WRITE, PN_TLB_USER, PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER);
        ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA);
    }
    ck_assert_uint_eq(stat(PN_STAT_sp_created), 4); /* one tree serves both modes */
    end();
}
END_TEST

START_TEST(smap_is_decided_by_the_tlb_mode) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    struct pn_paging p = fixture_paging(4, ROOT);
    p.cr4 |= 1u << 21;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_map(0x5000, PN_WRITE, PN_TLB_SUPER_AC, DATA);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    ck_pf(0x5000, PN_READ, PN_TLB_SUPER, PN_PF_PRESENT);
    end();
}
END_TEST

START_TEST(gaining_the_user_bit_takes_rights_too) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | A | D);
    struct pn_paging p = fixture_paging(4, ROOT);
    p.cr4 |= 1u << 21;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_map(0x5000, PN_READ, PN_TLB_SUPER, DATA);
    uint64_t v = DATA | P | W | U | A | D;
    pn_mmu_write_phys(f.mmu, gpte_at(ROOT, 0x5000, 1), &v, 8);
    ck_pf(0x5000, PN_READ, PN_TLB_SUPER, PN_PF_PRESENT);
    end();
}
END_TEST

START_TEST(a_key_that_loses_rights_leaves_the_tlb) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U | A | D | 5ull << 59);
    map(ROOT, 0x6000, DATA, P | W | U | A | D | 1ull << 59);
    struct pn_paging p = fixture_paging(4, ROOT);
    p.cr4 |= 1u << 22;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    pn_mmu_set_pkr(f.vcpu, 1u << (2 * 9), 0); /* a key nobody uses */
    ck_assert(hit(0x5000, PN_WRITE, PN_TLB_USER));
    pn_mmu_set_pkr(f.vcpu, 2u << (2 * 5), 0);
    ck_assert(!hit(0x5000, PN_WRITE, PN_TLB_USER));
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_pf(0x5000, PN_WRITE, PN_TLB_USER,
          PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER | PN_PF_PK);
    pn_mmu_set_pkr(f.vcpu, 1u << (2 * 5), 0);
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER | PN_PF_PK);
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA);
    /* A root left with one PKRU and come back to with another. */
    pn_mmu_set_pkr(f.vcpu, 0, 0);
    ck_map(0x6000, PN_WRITE, PN_TLB_USER, DATA);
    pn_mmu_set_cr3(f.vcpu, new_table(), false, NULL);
    pn_mmu_set_pkr(f.vcpu, 1u << 2, 0);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_assert(!hit(0x6000, PN_READ, PN_TLB_USER));
    end();
}
END_TEST

START_TEST(upper_levels_limit_the_rights_of_a_leaf) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    pn_gpa pmd = gpte_at(ROOT, 0x5000, 2);
    uint64_t v = *fixture_q(&f, pmd) & ~W;
    pn_mmu_write_phys(f.mmu, pmd, &v, 8);
    ck_pf(0x5000, PN_WRITE, PN_TLB_USER, PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    v &= ~U;
    pn_mmu_write_phys(f.mmu, pmd, &v, 8);
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER);
    v &= ~P;
    pn_mmu_write_phys(f.mmu, pmd, &v, 8);
    ck_pf(0x5000, PN_READ, PN_TLB_SUPER, 0);
    end();
}
END_TEST

/* ---- Unsync, tracking, flooding ---- */

START_TEST(a_written_leaf_table_is_unsync_until_the_guest_flushes) {
    begin_shadow();
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    map(ROOT, 0x6000, DATA + 0x1000, P | W | U | A | D);
    paging(4, ROOT);
    pn_gpa pte = gpte_at(ROOT, 0x5000, 1);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_map(0x6000, PN_READ, PN_TLB_USER, DATA + 0x1000);
    ck_assert_int_eq(poke(pte, (DATA + 0x2000) | P | U | A), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_sp_unsync), 1);
    ck_assert(hit(DIRECT + pte, PN_WRITE, PN_TLB_SUPER));
    clean();
    /* Until the guest invalidates it, the old translation may be used. */
    ck_assert(hit(0x5000, PN_READ, PN_TLB_USER));
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_assert(!hit(0x5000, PN_READ, PN_TLB_USER));
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x2000);
    ck_assert_uint_eq(stat(PN_STAT_mmu_sync), 0); /* one spte is not the page */
    ck_assert(hit(0x6000, PN_READ, PN_TLB_USER));
    /* A CR3 load syncs the page and protects it again, and keeps what did not change. */
    ck_assert_int_eq(poke(pte, DATA | P | U | A), PN_MAPPED);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_assert_uint_eq(stat(PN_STAT_mmu_sync), 1);
    ck_assert(!hit(DIRECT + pte, PN_WRITE, PN_TLB_SUPER));
    ck_assert(hit(0x6000, PN_READ, PN_TLB_USER));
    ck_assert(!hit(0x5000, PN_READ, PN_TLB_USER));
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_pf_tracked), 0);
    end();
}
END_TEST

START_TEST(unsync_can_be_off) {
    begin_shadow();
    f.mmu->shadow->unsync_level = 0;
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    pn_gpa pte = gpte_at(ROOT, 0x5000, 1);
    ck_assert_int_eq(poke(pte, (DATA + 0x2000) | P | U | A), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_sp_unsync), 0);
    ck_assert_uint_eq(stat(PN_STAT_mmu_pte_write), 1);
    ck_assert(!hit(0x5000, PN_READ, PN_TLB_USER));
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x2000);
    end();
}
END_TEST

START_TEST(upper_tables_are_tracked_and_flood) {
    begin_shadow();
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    pn_gpa pmd = gpte_at(ROOT, 0x5000, 2);
    uint64_t v = *fixture_q(&f, pmd);
    ck_assert_int_eq(poke(pmd, v), PN_TRACKED);
    ck_assert(hit(0x5000, PN_READ, PN_TLB_USER)); /* nothing changed */
    ck_assert_int_eq(poke(pmd + 8, 0), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 0);
    ck_assert_int_eq(poke(pmd + 16, 0), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 1);
    ck_assert_int_eq(poke(pmd + 24, 0), PN_MAPPED); /* a page like any other now */
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_int_eq(poke(pmd, v), PN_TRACKED); /* and a table again */
    /* A fault through it says that it is a table: the count starts anew. */
    f.mmu->cfg.opt.flood_threshold = 0;
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(poke(pmd + 8, 0), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 1);
    end();
}
END_TEST

/* Linux clears entries of its kernel's table through a mapping that goes by that table. */
START_TEST(a_table_that_maps_what_is_stored_to_does_not_flood) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | A | D);
    pn_gpa pmd = gpte_at(ROOT, 0x5000, 2);
    map(ROOT, 0x6000, pmd & PN_PAGE_MASK, P | W | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_SUPER, DATA);
    for (unsigned i = 8; i < 40; i++)
        ck_assert_int_eq(store(0x6000 + i * 8, 0), PN_TRACKED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_pte_write), 32);
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 0);
    ck_assert_uint_eq(stat(PN_STAT_sp_zapped), 0);
    end();
}
END_TEST

START_TEST(a_partial_table_write_is_a_table_write_and_an_odd_one_is_not) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    pn_gpa pmd = gpte_at(ROOT, 0x5000, 2);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    uint8_t byte = (uint8_t)(*fixture_q(&f, pmd) & ~A);
    pn_mmu_write_phys(f.mmu, pmd, &byte, 1); /* clear_bit on A */
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 0);
    ck_assert(!hit(0x5000, PN_READ, PN_TLB_USER));
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_uint_eq(*fixture_q(&f, pmd) & A, A);
    uint32_t half = (uint32_t)*fixture_q(&f, pmd) & ~1u;
    pn_mmu_write_phys(f.mmu, pmd, &half, 4);
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 0);
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_USER);
    half |= 1;
    pn_mmu_write_phys(f.mmu, pmd, &half, 4);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    uint16_t odd = 0;
    pn_mmu_write_phys(f.mmu, pmd + 7, &odd, 2); /* no gpte is written like this */
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 1);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    /* A whole page from a device. */
    uint8_t *zero = calloc(1, 4096);
    pn_mmu_write_phys(f.mmu, pmd & ~0xfffull, zero, 4096);
    free(zero);
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_USER);
    end();
}
END_TEST

/* What the guest took out of its tables may come back: it is kept until written. */
START_TEST(freed_tables_are_kept_until_they_are_written) {
    begin_shadow();
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    pn_gpa pt = gpte_at(ROOT, 0x5000, 1) & ~0xfffull;
    pn_gpa pmd = gpte_at(ROOT, 0x5000, 2) & ~0xfffull;
    pn_gpa pud = gpte_at(ROOT, 0x5000, 3);
    uint64_t both = *fixture_q(&f, pud), zero = 0;
    uint64_t made = stat(PN_STAT_sp_created);
    pn_mmu_write_phys(f.mmu, pud, &zero, 8);
    ck_assert(!hit(0x5000, PN_READ, PN_TLB_USER));
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_USER);
    pn_mmu_write_phys(f.mmu, pud, &both, 8);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_sp_created), made);
    /* Now they become ordinary pages: the leaf table is unsync from its first write on,
     * the upper one goes when it is written as no table is, and takes that along. */
    pn_mmu_write_phys(f.mmu, pud, &zero, 8);
    ck_assert_int_eq(poke(pt, 0x1234), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 1);
    clean();
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(poke(pmd + 64, 0x1234), PN_TRACKED);
    ck_assert_int_eq(poke(pmd + 64, 0x1234), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 1);
    ck_assert_uint_eq(stat(PN_STAT_sp_zapped), 2);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 0);
    end();
}
END_TEST

/* A leaf table out of sync that comes back is right, and stays writable. */
START_TEST(freed_tables_come_back_unsync) {
    begin_shadow();
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    pn_gpa pte = gpte_at(ROOT, 0x5000, 1), pmd = gpte_at(ROOT, 0x5000, 2);
    uint64_t table = *fixture_q(&f, pmd), zero = 0;
    pn_mmu_write_phys(f.mmu, pmd, &zero, 8);
    ck_assert_int_eq(poke(pte, (DATA + 0x2000) | P | U | A), PN_MAPPED);
    pn_mmu_write_phys(f.mmu, pmd, &table, 8);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x2000);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 1);
    clean();
    /* Written again: seen at the flush that the guest owes. */
    ck_assert(hit(DIRECT + pte, PN_WRITE, PN_TLB_SUPER));
    ck_assert_int_eq(poke(pte, 0), PN_MAPPED);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 0);
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_USER);
    /* As an upper table it is no leaf table any more. */
    ck_assert_int_eq(poke(pte, DATA | P | U | A | PS), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 1);
    pn_gpa pud = gpte_at(ROOT, 1ull << 30, 3);
    uint64_t v = (pte & ~0xfffull) | P | W | U | A;
    pn_mmu_write_phys(f.mmu, pud, &v, 8);
    ck_map((1ull << 30) + 5 * 0x200000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 0);
    clean();
    end();
}
END_TEST

START_TEST(a_table_may_map_itself) {
    begin_shadow();
    new_table();
    *fixture_q(&f, ROOT + 8 * 510) = ROOT | P | W | A;
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    pn_gva self =
        0xffffull << 48 | 510ull << 39 | 510ull << 30 | 510ull << 21 | 510ull << 12;
    ck_map(self, PN_READ, PN_TLB_SUPER, ROOT);
    ck_assert_int_eq(go(self, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
    /* The leaf table of 0x5000 through the map; it has level 1 only, so it goes unsync.
     */
    pn_gva pt = 0xffffull << 48 | 510ull << 39;
    pn_gpa pte = gpte_at(ROOT, 0x5000, 1);
    ck_map(pt + 5 * 8, PN_WRITE, PN_TLB_SUPER, pte);
    ck_assert_uint_eq(stat(PN_STAT_sp_unsync), 1);
    *(uint64_t *)(void *)x.hva = 0;
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_USER);
    clean();
    /* Take the map away through itself. */
    ck_assert_int_eq(go(self + 510 * 8, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
    uint64_t zero = 0;
    pn_mmu_write_phys(f.mmu, x.gpa, &zero, 8);
    ck_pf(self, PN_READ, PN_TLB_SUPER, 0);
    end();
}
END_TEST

START_TEST(each_store_to_a_tracked_page_is_told) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, MEM >> 12), -2);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    ck_assert(!hit(0x5000, PN_WRITE, PN_TLB_USER));
    ck_assert(hit(0x5000, PN_READ, PN_TLB_USER));
    ck_assert_int_eq(go(0x5004, PN_WRITE, PN_TLB_USER), PN_TRACKED);
    ck_assert_uint_eq(x.gpa, DATA + 4);
    ck_assert_uint_eq(f.track.calls, 0);
    write_back(DATA);
    ck_assert_uint_eq(f.track.calls, 1);
    ck_assert_uint_eq(f.track.gpa, DATA);
    ck_assert_uint_eq(f.track.size, 8);
    pn_mmu_track_remove(f.mmu, DATA >> 12);
    ck_assert_int_eq(go(0x5004, PN_WRITE, PN_TLB_USER), PN_TRACKED);
    pn_mmu_track_remove(f.mmu, DATA >> 12);
    pn_mmu_track_remove(f.mmu, DATA >> 12);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    write_back(DATA);
    ck_assert_uint_eq(f.track.calls, 1);
    /* Many frames: the set grows, and forgets. */
    for (pn_gfn g = 0; g < 2000; g++)
        ck_assert_int_eq(pn_mmu_track_add(f.mmu, g), 0);
    for (pn_gfn g = 0; g < 2000; g += 2)
        pn_mmu_track_remove(f.mmu, g);
    clean();
    for (pn_gfn g = 0; g < 2000; g++)
        write_back(g << 12);
    ck_assert_uint_eq(f.track.calls, 1001);
    end();
}
END_TEST

START_TEST(tracked_frames_outlive_their_slot) {
    begin_shadow();
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    struct pn_memslot s = {.id = 0};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert_uint_eq(f.track.calls, 1); /* what was there is no more */
    ck_assert_uint_eq(f.track.gpa, DATA);
    ck_assert_uint_eq(f.track.size, 4096);
    s.size = MEM;
    s.hva = f.mem;
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    clean();
    write_back(DATA);
    ck_assert_uint_eq(f.track.calls, 2);
    pn_mmu_track_remove(f.mmu, DATA >> 12);
    end();
}
END_TEST

SUITE("mmu shadow", .timeout = 120,
      .tests = {an_empty_tlb_matches_nothing, a_read_sets_a_and_a_write_sets_d,
                losing_d_alone_takes_only_the_write_tag, cr0_wp_is_decided_in_one_tree,
                smap_is_decided_by_the_tlb_mode, gaining_the_user_bit_takes_rights_too,
                a_key_that_loses_rights_leaves_the_tlb,
                upper_levels_limit_the_rights_of_a_leaf,
                a_written_leaf_table_is_unsync_until_the_guest_flushes, unsync_can_be_off,
                a_table_that_maps_what_is_stored_to_does_not_flood,
                upper_tables_are_tracked_and_flood,
                a_partial_table_write_is_a_table_write_and_an_odd_one_is_not,
                freed_tables_are_kept_until_they_are_written,
                freed_tables_come_back_unsync, a_table_may_map_itself,
                each_store_to_a_tracked_page_is_told, tracked_frames_outlive_their_slot})
