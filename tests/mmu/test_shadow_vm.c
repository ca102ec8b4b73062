/* SPDX-License-Identifier: MIT */
/* What lies around the shadowed tables: slots, logs, roots, modes, caches, the audit. */
#include "guest.h"
#include "tests/suite.h"

/* ---- Slots, MMIO, logs ---- */

START_TEST(mmio_is_remembered) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, 0xfee00000, P | W | A);
    paging(4, ROOT);
    ck_assert_int_eq(go(0x5020, PN_READ, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(x.gpa, 0xfee00020);
    ck_assert_ptr_null(x.hva);
    ck_assert_uint_eq(stat(PN_STAT_pf_mmio), 1);
    ck_assert_int_eq(go(0x5030, PN_READ, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(stat(PN_STAT_pf_mmio_spte), 1);
    ck_pf(0x5020, PN_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER);
    /* A write has to set D first. */
    ck_assert_int_eq(go(0x5030, PN_WRITE, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(*fixture_q(&f, gpte_at(ROOT, 0x5000, 1)) & D, D);
    ck_assert_int_eq(go(0x5030, PN_WRITE, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(stat(PN_STAT_pf_mmio), 2);
    ck_assert_uint_eq(stat(PN_STAT_pf_mmio_spte), 2);
    /* Memory appears there. */
    uint8_t *page = aligned_alloc(4096, 4096);
    struct pn_memslot s = {.id = 1, .gpa = 0xfee00000, .size = 4096, .hva = page};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert_int_eq(go(0x5020, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_ptr_eq(x.hva, page + 0x20);
    s.size = 0;
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert(!hit(0x5020, PN_READ, PN_TLB_SUPER));
    ck_assert_int_eq(go(0x5020, PN_READ, PN_TLB_SUPER), PN_MMIO);
    end();
    free(page);
}
END_TEST

START_TEST(a_store_to_a_read_only_slot_is_mmio) {
    begin_shadow();
    uint8_t *rom = aligned_alloc(4096, 8192);
    memset(rom, 0, 8192);
    struct pn_memslot s = {
        .id = 1, .flags = PN_SLOT_READONLY, .gpa = 0xf0000000, .size = 8192, .hva = rom};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    new_table();
    map(ROOT, 0x5000, 0xf0000000, P | W | U);
    /* A leaf table in the ROM: its A and D stay as they are. */
    *fixture_q(&f, gpte_at(ROOT, 0x40000000, 2)) = 0xf0001000 | P | W | U;
    *(uint64_t *)(void *)(rom + 0x1000) = DATA | P | W | U;
    paging(4, ROOT);
    ck_assert_int_eq(go(0x5000, PN_READ, PN_TLB_USER), PN_MAPPED);
    ck_assert_ptr_eq(x.hva, rom);
    ck_assert_int_eq(go(0x5000, PN_WRITE, PN_TLB_USER), PN_MMIO);
    ck_assert_uint_eq(x.gpa, 0xf0000000);
    ck_assert(!hit(0x5000, PN_WRITE, PN_TLB_USER));
    ck_map(0x40000000, PN_READ, PN_TLB_USER, DATA);
    ck_map(0x40000000, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert(hit(0x40000000, PN_WRITE, PN_TLB_USER));
    ck_assert_uint_eq(*(uint64_t *)(void *)(rom + 0x1000), DATA | P | W | U);
    end();
    free(rom);
}
END_TEST

START_TEST(the_first_write_since_a_harvest_is_logged) {
    begin_shadow();
    uint64_t bitmap[MEM / 4096 / 64];
    new_table();
    map_direct(ROOT);
    for (int i = 0; i < 8; i++)
        map(ROOT, 0x5000 + i * 0x1000, DATA + i * 0x1000, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, 64), -2);
    struct pn_memslot s = {.flags = PN_SLOT_LOG_DIRTY, .size = MEM, .hva = f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert(!hit(0x5000, PN_WRITE, PN_TLB_USER));
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, 64), 0);
    for (int round = 0; round < 2; round++) {
        uint64_t logged = stat(PN_STAT_pf_dirty_log);
        ck_map(0x6000, PN_WRITE, PN_TLB_USER, DATA + 0x1000);
        ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), logged + 1);
        ck_assert(hit(0x6000, PN_WRITE, PN_TLB_USER));
        ck_map(0x6000, PN_WRITE, PN_TLB_SUPER, DATA + 0x1000);
        ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), logged + 1);
        ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, 64), 1);
        ck_assert_uint_eq(bitmap[DATA / 4096 / 64], 2);
        ck_assert(!hit(0x6000, PN_WRITE, PN_TLB_USER));
        ck_assert(!hit(0x6000, PN_WRITE, PN_TLB_SUPER));
        ck_assert(hit(0x6000, PN_READ, PN_TLB_USER));
    }
    /* The walker's D, and a store to a table that is unsync. */
    map(ROOT, 0xd000, DATA, P | W | U | A);
    ck_map(0xd000, PN_WRITE, PN_TLB_USER, DATA);
    pn_gpa pte = gpte_at(ROOT, 0xd000, 1);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, 64), 2);
    ck_assert(bitmap[pte / 4096 / 64] >> (pte / 4096 % 64) & 1);
    ck_assert_int_eq(poke(pte, 0), PN_MAPPED);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, 64), 1);
    ck_assert(bitmap[pte / 4096 / 64] >> (pte / 4096 % 64) & 1);
    ck_assert_int_eq(poke(pte, 0), PN_MAPPED);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, 64), 1);
    end();
}
END_TEST

START_TEST(tables_go_with_their_slot) {
    begin_shadow();
    uint8_t *ram = aligned_alloc(4096, 8192);
    memset(ram, 0, 8192);
    struct pn_memslot s = {.id = 1, .gpa = 0x10000000, .size = 8192, .hva = ram};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    new_table();
    *fixture_q(&f, gpte_at(ROOT, 0x40000000, 2)) = 0x10000000 | P | W | U;
    *(uint64_t *)(void *)ram = DATA | P | W | U;
    paging(4, ROOT);
    ck_map(0x40000000, PN_READ, PN_TLB_USER, DATA);
    s.gpa = 0x20000000;
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_pf(0x40000000, PN_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER | PN_PF_RSVD);
    s.gpa = 0x10000000;
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_map(0x40000000, PN_READ, PN_TLB_USER, DATA);
    /* The root itself outside memory. */
    paging(4, 0x7000000000);
    ck_pf(0x40000000, PN_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER | PN_PF_RSVD);
    end();
    free(ram);
}
END_TEST

/* ---- Roots ---- */

/* Two address spaces that share the direct map. */
static pn_gpa two_roots(void) {
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    pn_gpa other = new_table();
    memcpy(f.mem + other + 2048, f.mem + ROOT + 2048, 2048);
    map(other, 0x5000, DATA + 0x1000, P | W | U | A | D);
    return other;
}

START_TEST(roots_are_cached) {
    begin_shadow();
    pn_gpa other = two_roots();
    paging(4, ROOT);
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA);
    uint64_t gen = f.view.fetch_gen;
    pn_mmu_set_cr3(f.vcpu, other, false, NULL);
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    ck_assert(!hit(0x5000, PN_FETCH, PN_TLB_USER));
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA + 0x1000);
    uint64_t hits = stat(PN_STAT_root_hit), faults = stat(PN_STAT_pf_taken);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_assert_uint_eq(stat(PN_STAT_root_hit), hits + 1);
    ck_assert_uint_eq(f.view.fetch_gen, gen); /* its jump cache is good again */
    ck_assert(hit(0x5000, PN_FETCH, PN_TLB_USER));
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), faults);
    /* Changed while another root was in use: gone when it comes back. */
    pn_mmu_set_cr3(f.vcpu, other, false, NULL);
    ck_assert_int_eq(poke(gpte_at(ROOT, 0x5000, 1), 0), PN_MAPPED);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    ck_pf(0x5000, PN_FETCH, PN_TLB_USER, PN_PF_USER | PN_PF_FETCH);
    /* More roots than are kept. */
    for (int i = 0; i < 40; i++)
        pn_mmu_set_cr3(f.vcpu, new_table(), false, NULL);
    uint64_t misses = stat(PN_STAT_root_miss);
    pn_mmu_set_cr3(f.vcpu, other, false, NULL);
    ck_assert_uint_eq(stat(PN_STAT_root_miss), misses + 1);
    ck_assert(!hit(0x5000, PN_FETCH, PN_TLB_USER));
    faults = stat(PN_STAT_pf_taken);
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA + 0x1000);
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), faults); /* the tables are there */
    end();
}
END_TEST

START_TEST(a_dead_root_leaves_the_others_alone) {
    begin_shadow();
    pn_gpa other = two_roots();
    paging(4, other);
    ck_map(DIRECT + DATA, PN_READ, PN_TLB_SUPER, DATA);
    ck_map(DIRECT + DATA, PN_READ, PN_TLB_SUPER_AC, DATA);
    paging(4, ROOT);
    ck_map(DIRECT + DATA, PN_WRITE, PN_TLB_SUPER, DATA);
    uint64_t gen = f.view.fetch_gen;
    for (unsigned i = 0; i < 512; i++) /* the guest frees the other and clears it */
        poke(other + 8 * i, 0);
    ck_assert(hit(DIRECT + DATA, PN_WRITE, PN_TLB_SUPER));
    ck_assert_uint_eq(f.view.fetch_gen, gen);
    clean();
    pn_mmu_set_cr3(f.vcpu, other, false, NULL);
    ck_pf(DIRECT + DATA, PN_READ, PN_TLB_SUPER, 0);
    /* Its jump caches outlive its TLB, but not its top. */
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA);
    gen = f.view.fetch_gen;
    pn_mmu_drop_tlb(f.vcpu);
    ck_assert_uint_eq(f.view.fetch_gen, gen);
    uint64_t zero = 0;
    pn_mmu_write_phys(f.mmu, ROOT, &zero, 8);
    ck_assert_uint_eq(f.view.fetch_gen, gen); /* the guest has not flushed yet */
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    end();
}
END_TEST

START_TEST(the_fetch_generation_follows_code_alone) {
    begin_shadow();
    new_table();
    map_direct(ROOT);
    for (int i = 0; i < 64; i++)
        map(ROOT, 0x5000 + i * 0x1000, DATA + i * 0x1000, P | W | U);
    paging(4, ROOT);
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA);
    uint64_t gen = f.view.fetch_gen;
    for (int i = 1; i < 64; i++) {
        ck_map(0x5000 + (uint64_t)i * 0x1000, PN_READ, PN_TLB_USER, DATA + i * 0x1000);
        ck_map(0x5000 + (uint64_t)i * 0x1000, PN_WRITE, PN_TLB_USER, DATA + i * 0x1000);
    }
    ck_assert_int_eq(poke(gpte_at(ROOT, 0x6000, 1), 0), PN_MAPPED);
    pn_mmu_invlpg(f.vcpu, 0x6000);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_pf(0x6000, PN_READ, PN_TLB_USER, PN_PF_USER);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA); /* code that is written */
    pn_mmu_drop_tlb(f.vcpu);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    ck_assert_uint_eq(f.view.fetch_gen, gen);
    /* Its gpte changes: now it must. */
    ck_assert_int_eq(poke(gpte_at(ROOT, 0x5000, 1), DATA | P | U | A | NX), PN_MAPPED);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    end();
}
END_TEST

START_TEST(a_pcid_keeps_its_translations_until_it_is_flushed) {
    begin_shadow();
    pn_gpa other = two_roots();
    struct pn_paging p = fixture_paging(4, ROOT | 1);
    p.cr4 |= 1u << 17;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    pn_mmu_set_cr3(f.vcpu, other | 2, false, NULL);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x1000);
    pn_gpa pte = gpte_at(ROOT, 0x5000, 1);
    poke(pte, (DATA + 0x2000) | P | U | A);
    /* Nothing flushed PCID 1: the old entry may still be used. */
    pn_mmu_set_cr3(f.vcpu, ROOT | 1, true, NULL);
    ck_assert(hit(0x5000, PN_READ, PN_TLB_USER));
    ck_assert_uint_eq(stat(PN_STAT_mmu_sync), 0);
    /* INVPCID of one address, from afar. */
    pn_mmu_set_cr3(f.vcpu, other | 2, true, NULL);
    pn_mmu_invpcid(f.vcpu, 0, 1, 0x5000);
    pn_mmu_set_cr3(f.vcpu, ROOT | 1, true, NULL);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x2000);
    for (unsigned type = 1; type <= 3; type++) {
        pn_gpa to = DATA + 0x1000 * (2 + type);
        poke(pte, to | P | U | A);
        pn_mmu_set_cr3(f.vcpu, other | 2, true, NULL);
        pn_mmu_invpcid(f.vcpu, type, 1, 0);
        pn_mmu_set_cr3(f.vcpu, ROOT | 1, true, NULL);
        ck_map(0x5000, PN_READ, PN_TLB_USER, to);
    }
    /* A flushing load of the same PCID for another CR3 flushes this one too. */
    poke(pte, DATA | P | U | A);
    pn_mmu_set_cr3(f.vcpu, other | 1, false, NULL);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x1000);
    pn_mmu_set_cr3(f.vcpu, ROOT | 1, true, NULL);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_invpcid), 4);
    end();
}
END_TEST

START_TEST(a_table_write_reaches_the_tlbs_of_all_vcpus) {
    begin_shadow();
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    struct pn_tlb_view view;
    struct pn_stats stats = {0};
    struct pn_mmu_vcpu *second;
    ck_assert_int_eq(pn_mmu_vcpu_create(f.mmu, &view, &stats, NULL, &second), 0);
    struct pn_paging p = fixture_paging(4, ROOT);
    pn_mmu_set_paging(second, &p);
    pn_mmu_set_paging(f.vcpu, &p);
    ck_assert_int_eq(
        pn_answer(pn_mmu_translate(second, 0x5000, PN_WRITE, PN_TLB_USER, &x)),
        PN_MAPPED);
    ck_assert_int_eq(
        pn_answer(pn_mmu_translate(second, 0x5000, PN_FETCH, PN_TLB_USER, &x)),
        PN_MAPPED);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    uint64_t gen = view.fetch_gen, zero = 0;
    pn_mmu_write_phys(f.mmu, gpte_at(ROOT, 0x5000, 1), &zero, 8);
    ck_assert(!hit_in(&view, 0x5000, PN_WRITE, PN_TLB_USER));
    ck_assert(!hit(0x5000, PN_READ, PN_TLB_USER));
    ck_assert_uint_eq(view.fetch_gen, gen); /* it has not flushed yet */
    pn_mmu_invlpg(second, 0x5000);
    ck_assert_uint_ne(view.fetch_gen, gen);
    clean();
    pn_mmu_vcpu_destroy(second);
    end();
}
END_TEST

/* ---- Other modes ---- */

START_TEST(without_paging_addresses_are_physical) {
    begin_shadow();
    ck_map(0x12345, PN_WRITE, PN_TLB_SUPER, 0x12345);
    ck_map(0x12345, PN_FETCH, PN_TLB_USER, 0x12345);
    ck_assert_int_eq(go(0xfee00000, PN_READ, PN_TLB_SUPER), PN_MMIO);
    ck_assert_int_eq(go(0xfee00010, PN_WRITE, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(stat(PN_STAT_pf_mmio_spte), 1);
    ck_assert_int_eq(go(5ull << 32, PN_READ, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(x.gpa, 5ull << 32);
    end();
}
END_TEST

START_TEST(four_byte_gptes_fill_quadrants) {
    begin_shadow();
    /* A directory and one leaf table used by both halves of 4 MiB; quadrants differ. */
    for (unsigned i = 0; i < 1024; i++)
        *fixture_d(&f, ROOT + 0x1000 + 4 * i) = (uint32_t)(DATA + (i << 12)) | 7;
    static const unsigned pdes[] = {0, 1, 300, 511, 512, 767, 1023};
    for (unsigned i = 0; i < 7; i++)
        *fixture_d(&f, ROOT + 4 * pdes[i]) = (ROOT + 0x1000) | 7;
    *fixture_d(&f, ROOT + 4 * 2) = 0x400000 | 0x87;
    struct pn_paging p = fixture_paging(2, ROOT);
    pn_mmu_set_paging(f.vcpu, &p);
    for (unsigned i = 0; i < 7; i++)
        for (unsigned k = 0; k < 1024; k += 93) {
            pn_gva gva = (pn_gva)pdes[i] << 22 | k << 12;
            ck_map(gva, PN_WRITE, PN_TLB_USER, DATA + (k << 12));
        }
    ck_map(0x800000 + 0x312345, PN_WRITE, PN_TLB_USER, 0x400000 + 0x312345);
    ck_map(0x800000 + 0x012345, PN_READ, PN_TLB_USER, 0x400000 + 0x012345);
    clean();
    uint32_t pte = (uint32_t)(DATA + 0x5000) | 5; /* both halves, by a store each */
    pn_mmu_write_phys(f.mmu, ROOT + 0x1000 + 4 * 93, &pte, 4);
    pn_mmu_write_phys(f.mmu, ROOT + 0x1000 + 4 * 930, &pte, 4);
    ck_map(0xc0000000 - 0x400000 + (93 << 12), PN_READ, PN_TLB_USER, DATA + 0x5000);
    ck_map(0x80000000 + (930 << 12), PN_READ, PN_TLB_USER, DATA + 0x5000);
    ck_pf(0x80000000 + (930 << 12), PN_WRITE, PN_TLB_USER, 7);
    uint32_t pde = 0;
    pn_mmu_write_phys(f.mmu, ROOT + 4 * 2, &pde, 4);
    ck_pf(0xb12345, PN_READ, PN_TLB_USER, PN_PF_USER);
    ck_pf(0x812345, PN_READ, PN_TLB_USER, PN_PF_USER);
    end();
}
END_TEST

START_TEST(only_a_load_of_cr3_reads_the_pdptes) {
    begin_shadow();
    pn_gpa pd = ROOT + 0x1000, pt = ROOT + 0x2000;
    *fixture_q(&f, pd) = pt | 7;
    *fixture_q(&f, pt + 8) = DATA | 7;
    struct pn_paging p = fixture_paging(3, ROOT);
    p.pdpte[2] = pd | 1;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_map(0x80001000, PN_WRITE, PN_TLB_USER, DATA);
    ck_pf(0x1000, PN_READ, PN_TLB_USER, PN_PF_USER);
    /* Only a load of CR3 reads the four entries again. */
    uint64_t pdptes[4] = {pd | 1, 0, 0, 0};
    pn_mmu_set_cr3(f.vcpu, ROOT, false, pdptes);
    ck_map(0x1000, PN_READ, PN_TLB_USER, DATA);
    ck_pf(0x80001000, PN_READ, PN_TLB_USER, PN_PF_USER);
    end();
}
END_TEST

START_TEST(five_levels_share_their_tables_with_four) {
    begin_shadow();
    pn_gpa top = new_table(), pml4 = new_table();
    *fixture_q(&f, top + 8 * 511) = pml4 | P | W | U;
    map(pml4, 0x5000, DATA, P | W | U);
    struct pn_paging p = fixture_paging(5, top);
    pn_mmu_set_paging(f.vcpu, &p);
    ck_map(0xffff000000005000, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_sp_pages), 5);
    paging(4, pml4); /* the same table as the root of four levels: the same sp */
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_sp_pages), 5);
    end();
}
END_TEST

START_TEST(code_through_absent_tables_follows_the_slots) {
    /* Ones are a 32-bit gpte that maps frame 0xfffff: no spte can stand for it. */
    begin_shadow();
    uint8_t *top = aligned_alloc(4096, 4096), *table = aligned_alloc(4096, 4096);
    memset(table, 0, 4096);
    struct pn_memslot last = {.id = 1, .gpa = 0xfffff000, .size = 4096, .hva = top};
    struct pn_memslot late = {.id = 2, .gpa = 0x70000000, .size = 4096, .hva = table};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &last), 0);
    *fixture_d(&f, ROOT) = 0x70000000 | 7;
    struct pn_paging p = fixture_paging(2, ROOT);
    pn_mmu_set_paging(f.vcpu, &p);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(go(0x5000, PN_FETCH, PN_TLB_USER), PN_MAPPED);
        ck_assert_ptr_eq(x.hva, top);
        ck_assert(!hit(0x5000, PN_FETCH, PN_TLB_USER));
        ck_assert_uint_eq(f.stats.v[PN_STAT_pf_uncached], round + 1);
        ck_assert_uint_eq(f.stats.v[PN_STAT_pf_mapped], 0);
        uint64_t gen = f.view.fetch_gen;
        if (round) { /* what was mapped goes */
            last.size = 0;
            ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &last), 0);
        } else { /* the table appears, and goes */
            ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &late), 0);
            ck_pf(0x5000, PN_FETCH, PN_TLB_USER, PN_PF_USER);
            late.size = 0;
            ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &late), 0);
        }
        ck_assert_uint_ne(f.view.fetch_gen, gen);
    }
    end();
    free(top);
    free(table);
}
END_TEST

/* ---- Caches of ours ---- */

START_TEST(neighbours_are_prefetched) {
    begin_shadow();
    f.mmu->cfg.opt.prefetch = 8;
    new_table();
    for (int i = 0; i < 16; i++)
        map(ROOT, i * 0x1000, DATA + i * 0x1000, i == 3 ? P | U : P | W | U | A);
    map(ROOT, 0x4000, 0xfee00000, P | U | A);
    paging(4, ROOT);
    ck_map(0x1000, PN_READ, PN_TLB_USER, DATA + 0x1000);
    ck_assert_uint_eq(stat(PN_STAT_mmu_prefetch), 5); /* not 3 (no A), not 4 (MMIO) */
    ck_assert_uint_eq(stat(PN_STAT_pages_4k), 6);
    uint64_t faults = stat(PN_STAT_pf_taken);
    ck_map(0x7000, PN_READ, PN_TLB_USER, DATA + 0x7000);
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), faults);
    ck_assert_uint_eq(*fixture_q(&f, gpte_at(ROOT, 0x3000, 1)) & A, 0);
    ck_map(0x7000, PN_WRITE, PN_TLB_USER, DATA + 0x7000); /* D was clear */
    ck_assert_uint_eq(*fixture_q(&f, gpte_at(ROOT, 0x7000, 1)) & D, D);
    end();
}
END_TEST

START_TEST(the_budget_holds) {
    begin_shadow();
    f.mmu->cfg.opt.page_budget = 64;
    new_table();
    for (uint64_t i = 0; i < 300; i++)
        map(ROOT, i << 21, DATA + i * 0x1000, P | W | U | A | D);
    paging(4, ROOT);
    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 300; i++) {
            ck_map(i << 21, PN_WRITE, PN_TLB_USER, DATA + i * 0x1000);
            ck_assert_uint_le(stat(PN_STAT_sp_pages), 64);
        }
    ck_assert_uint_gt(stat(PN_STAT_mmu_recycled), 400);
    /* By default a fiftieth of the pages. */
    f.mmu->cfg.opt.page_budget = 0;
    for (uint64_t i = 0; i < 300; i++)
        ck_map(i << 21, PN_WRITE, PN_TLB_USER, DATA + i * 0x1000);
    ck_assert_uint_le(stat(PN_STAT_sp_pages), MEM / 4096 / 50);
    ck_assert_uint_gt(stat(PN_STAT_sp_pages), 64 - 25);
    ck_assert_uint_lt(pn_mmu_footprint(f.mmu), 8u << 20);
    end();
}
END_TEST

START_TEST(zap_all_drops_every_root) {
    begin_shadow();
    pn_gpa other = two_roots();
    paging(4, ROOT);
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA);
    pn_mmu_set_cr3(f.vcpu, other, false, NULL);
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA + 0x1000);
    uint64_t gen = f.view.fetch_gen;
    pn_mmu_zap_all(f.mmu);
    clean();
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    ck_assert(!hit(0x5000, PN_FETCH, PN_TLB_USER));
    ck_map(0x5000, PN_FETCH, PN_TLB_USER, DATA + 0x1000);
    ck_assert_int_eq(poke(gpte_at(ROOT, 0x5000, 1), 0), PN_MAPPED);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_pf(0x5000, PN_FETCH, PN_TLB_USER, PN_PF_USER | PN_PF_FETCH);
    ck_assert_uint_eq(stat(PN_STAT_mmu_zap_all), 1);
    end();
}
END_TEST

START_TEST(huge_trees_of_links_stay_cheap) {
    /* Each table of a level has all entries at the one table below: 512^4 ways. */
    begin_shadow();
    pn_gpa t[5];
    for (int l = 4; l >= 1; l--)
        t[l] = new_table();
    for (int l = 4; l >= 2; l--)
        for (int i = 0; i < 512; i++)
            *fixture_q(&f, t[l] + 8 * i) = t[l - 1] | P | W | U | A;
    for (int i = 0; i < 512; i++)
        *fixture_q(&f, t[1] + 8 * i) = (DATA + i * 0x1000) | P | W | U | A | D;
    paging(4, t[4]);
    uint64_t seed = 7;
    for (int i = 0; i < 20000; i++) {
        pn_gva gva = rnd(&seed) >> 17 & ~0xfffull;
        ck_map(gva, PN_READ, PN_TLB_USER, DATA + (gva & 0x1ff000));
    }
    for (int i = 0; i < 512; i++) { /* unlink them one by one */
        uint64_t zero = 0;
        pn_mmu_write_phys(f.mmu, t[4] + 8 * i, &zero, 8);
    }
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_USER);
    end();
}
END_TEST

START_TEST(a_page_that_is_mapped_everywhere_keeps_its_rmap_short) {
    begin_shadow();
    new_table();
    pn_gpa leaf = new_table();
    for (uint64_t i = 0; i < 512; i++)
        *fixture_q(&f, leaf + 8 * i) = DATA | P | W | U | A | D;
    /* The same page 512 times in each of 64 leaf tables, and one of them 512 times. */
    for (uint64_t i = 0; i < 64; i++) {
        pn_gva gva = i << 21;
        memcpy(f.mem + (gpte_at(ROOT, gva, 1) & ~0xfffull), f.mem + leaf, 4096);
    }
    for (uint64_t i = 0; i < 4; i++)
        for (uint64_t k = 0; k < 512; k++)
            *fixture_q(&f, gpte_at(ROOT, (64 + i) << 30 | k << 21, 2)) =
                leaf | P | W | U | A;
    paging(4, ROOT);
    f.mmu->cfg.opt.prefetch = 512;
    for (uint64_t i = 0; i < 64; i++)
        ck_map(i << 21 | (i & 511) << 12, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert_uint_le(stat(PN_STAT_pages_4k), PTRS_MAX);
    clean();
    f.mmu->cfg.opt.prefetch = 0;
    for (uint64_t i = 0; i < 4; i++)
        for (uint64_t k = 0; k < 512; k++)
            ck_map((64 + i) << 30 | k << 21 | k << 12, PN_READ, PN_TLB_USER, DATA);
    clean();
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    ck_assert_int_eq(go(0x5000, PN_WRITE, PN_TLB_USER), PN_TRACKED);
    end();
}
END_TEST

START_TEST(the_audit_sees_each_broken_invariant) {
    begin_shadow();
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_map(DIRECT + ROOT, PN_READ, PN_TLB_SUPER, ROOT);
    struct swalk w, r;
    shadow_walk(f.vcpu->roots->cur, 0x5000, &w);
    shadow_walk(f.vcpu->roots->cur, DIRECT + ROOT, &r);
    uint64_t keep = *w.sptep;
    static const uint64_t flips[] = {SPTE_W, SPTE_U, SPTE_D, 0x1000, SPTE_TLB};
    for (unsigned i = 0; i < sizeof(flips) / sizeof(flips[0]); i++) {
        *w.sptep = keep ^ flips[i];
        ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
        *w.sptep = keep;
    }
    *r.sptep |= SPTE_MMU_W; /* the root table is writable */
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    *r.sptep &= ~SPTE_MMU_W;
    struct slot *s = slot_of_gfn(f.mmu, 0);
    s->track[DATA >> 12]++;
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    s->track[DATA >> 12]--;
    s->disallow_large[0][4]++;
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    s->disallow_large[0][4]--;
    s->rmap[DATA >> 12] = 0;
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    s->rmap[DATA >> 12] = (uintptr_t)w.sptep;
    struct pn_tlb_entry *e = &f.vcpu->roots->cur->room[PN_TLB_USER][5], was = *e;
    e->tag[PN_WRITE] = 0x5000;
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    *e = was;
    sp_of(w.sptep)->unsync = true;
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    sp_of(w.sptep)->unsync = false;
    *fixture_q(&f, gpte_at(ROOT, 0x5000, 1)) = 0; /* behind everybody's back */
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    *fixture_q(&f, gpte_at(ROOT, 0x5000, 1)) = DATA | P | U | A | D;
    end();
}
END_TEST

START_TEST(creation_refuses_bad_configurations) {
    struct pn_mmu_config cfg = {.maxphyaddr = 53};
    struct pn_mmu *mmu;
    pn_mmu_options_default(&cfg.opt);
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), -22);
    cfg.maxphyaddr = 35;
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), -22);
    cfg.maxphyaddr = 40;
    cfg.opt.page_budget = 1;
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), -22);
    cfg.opt.page_budget = 64;
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), 0);
    pn_mmu_destroy(mmu);
    pn_mmu_destroy(NULL);
    pn_mmu_vcpu_destroy(NULL);
}
END_TEST

START_TEST(events_hide_host_addresses) {
    begin_shadow();
    f.ring.mask = ~0ull;
    new_table();
    map(ROOT, 0x5000, DATA, P | W | U);
    paging(4, ROOT);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    bool fault = false, outcome = false, spte = false;
    for (uint32_t i = 0; i < f.ring.count; i++) {
        const struct pn_event_rec *r = &f.rec[i];
        fault |= r->id == PN_EV_page_fault && r->arg[0] == 0x5000;
        outcome |= r->id == PN_EV_fault_outcome && r->arg[1] == PN_OUT_mapped;
        if (r->id == PN_EV_set_spte) {
            spte = true;
            ck_assert_uint_eq(r->arg[2] & SPTE_PAGE, 0);
        }
    }
    ck_assert(fault && outcome && spte);
    end();
}
END_TEST

SUITE("mmu shadow vm", .timeout = 120,
      .tests = {mmio_is_remembered,
                a_store_to_a_read_only_slot_is_mmio,
                the_first_write_since_a_harvest_is_logged,
                tables_go_with_their_slot,
                roots_are_cached,
                a_dead_root_leaves_the_others_alone,
                the_fetch_generation_follows_code_alone,
                a_pcid_keeps_its_translations_until_it_is_flushed,
                a_table_write_reaches_the_tlbs_of_all_vcpus,
                without_paging_addresses_are_physical,
                four_byte_gptes_fill_quadrants,
                only_a_load_of_cr3_reads_the_pdptes,
                five_levels_share_their_tables_with_four,
                neighbours_are_prefetched,
                the_budget_holds,
                zap_all_drops_every_root,
                huge_trees_of_links_stay_cheap,
                code_through_absent_tables_follows_the_slots,
                a_page_that_is_mapped_everywhere_keeps_its_rmap_short,
                the_audit_sees_each_broken_invariant,
                creation_refuses_bad_configurations,
                events_hide_host_addresses})
