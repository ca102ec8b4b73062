/* SPDX-License-Identifier: MIT */
/* The 2D walk: what it costs, what makes it exit, what the TLB keeps of it. */
#include "guest.h"
#include "tests/suite.h"

/* ---- Costs ---- */

/* References of one translation whose tables are complete and whose TLB is empty. */
static void cold(pn_gva gva, uint64_t guest[6], uint64_t table[6]) {
    ck_assert_int_eq(go(gva, PN_WRITE, PN_TLB_SUPER), PN_MAPPED);
    pn_mmu_drop_tlb(f.vcpu);
    struct pn_stats before = f.stats;
    ck_assert_int_eq(go(gva, PN_WRITE, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), before.v[PN_STAT_pf_taken]);
    guest[0] = stat(PN_STAT_gpte_reads) - before.v[PN_STAT_gpte_reads];
    table[0] = stat(PN_STAT_walk_refs) - before.v[PN_STAT_walk_refs];
    for (unsigned l = 0; l < 5; l++) {
        guest[l + 1] =
            stat(PN_STAT_gpte_reads_l1 + l) - before.v[PN_STAT_gpte_reads_l1 + l];
        table[l + 1] =
            stat(PN_STAT_walk_refs_l1 + l) - before.v[PN_STAT_walk_refs_l1 + l];
    }
}

static const uint64_t page_of[4] = {0, PN_PAGE_SIZE, 2 * MIB, GIB};

/* g guest levels and a guest page of level gl, h second levels and host pages of hl. */
static void cost_case(unsigned g, unsigned gl, unsigned h, unsigned hl, unsigned want) {
    pn_mmu_options_default(&opt);
    opt.tdp_levels = h;
    opt.large_pages = hl > 1;
    begin(PN_MMU_TDP, hl == 3 ? 2 * GIB : 64 * MIB, page_of[hl], 0);
    pn_gpa gpa = gl == 3 ? 0 : 32 * MIB;
    pn_gpa root = map_page(g, gl, 0, GVA & ~(page_of[gl] - 1), gpa, P | W);
    paging(g, root);
    uint64_t guest[6], table[6];
    cold(GVA & ~(page_of[gl] - 1), guest, table);
    ck_assert_msg(guest[0] + table[0] == want, "%ux%u, %u on %u: %llu, not %u", g, h, gl,
                  hl, (unsigned long long)(guest[0] + table[0]), want);
    unsigned refs = g - gl + 1;
    struct pn_walk_cost c;
    pn_mmu_walk_cost(f.vcpu, GVA & ~(page_of[gl] - 1), PN_WRITE, PN_TLB_SUPER, &c);
    ck_assert(c.complete);
    ck_assert_uint_eq(c.refs, want);
    ck_assert_uint_eq(c.native, refs);
    for (unsigned l = 1; l <= 5; l++) {
        ck_assert_uint_eq(guest[l], l >= gl && l <= g ? 1 : 0);
        ck_assert_uint_eq(table[l], l >= hl && l <= h ? refs + 1 : 0);
        ck_assert_uint_eq(c.guest[l], guest[l]);
        ck_assert_uint_eq(c.table[l], table[l]);
    }
    end();
}

START_TEST(a_cold_walk_costs_what_theory_says) {
    cost_case(4, 1, 4, 1, 24); /* (g+1)(h+1)-1 */
    cost_case(5, 1, 5, 1, 35);
    cost_case(5, 1, 4, 1, 29);
    cost_case(4, 1, 5, 1, 29);
    cost_case(4, 1, 4, 2, 19); /* 4 KiB on 2 MiB */
    cost_case(4, 2, 4, 2, 15); /* 2 MiB on 2 MiB */
    cost_case(4, 2, 4, 1, 19);
    cost_case(4, 1, 4, 3, 14); /* 4 KiB on 1 GiB */
    cost_case(4, 2, 4, 3, 11);
    cost_case(4, 3, 4, 1, 14); /* 1 GiB on 4 KiB */
    cost_case(4, 3, 4, 2, 11);
    cost_case(4, 3, 4, 3, 8);
    cost_case(5, 1, 5, 3, 23);
    cost_case(5, 3, 5, 3, 15);
}
END_TEST

START_TEST(a_walk_of_few_levels_costs_less) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    begin(PN_MMU_TDP, 64 * MIB, PN_PAGE_SIZE, 0);
    uint64_t guest[6], table[6];
    cold(0x5000, guest, table); /* paging off */
    ck_assert_uint_eq(guest[0], 0);
    ck_assert_uint_eq(table[0], 4);
    *fixture_d(&f, ROOT + 4) = (ROOT + 4096) | P | W; /* 32-bit */
    *fixture_d(&f, ROOT + 4096) = 0x3000 | P | W;
    paging(2, ROOT);
    cold(0x400000, guest, table);
    ck_assert_uint_eq(guest[0] + table[0], 14);
    struct pn_paging p = fixture_paging(3, ROOT); /* the PDPTE is a register */
    p.pdpte[0] = 2 * MIB | P;
    *fixture_q(&f, 2 * MIB) = 3 * MIB | P | W;
    *fixture_q(&f, 3 * MIB) = 0x4000 | P | W;
    pn_mmu_set_paging(f.vcpu, &p);
    cold(0, guest, table);
    ck_assert_uint_eq(guest[0] + table[0], 14);
    end();
}
END_TEST

/* One dimension: what a processor without a hypervisor, or with shadow tables, reads. */
START_TEST(a_shadow_walk_costs_one_dimension) {
    for (unsigned g = 4; g <= 5; g++)
        for (unsigned gl = 1; gl <= 2; gl++) {
            pn_mmu_options_default(&opt);
            begin(PN_MMU_SHADOW, 64 * MIB, 2 * MIB, 0);
            paging(g, map_page(g, gl, 0, GVA, 32 * MIB, P | W));
            uint64_t guest[6], table[6];
            cold(GVA, guest, table);
            ck_assert_uint_eq(guest[0], 0);
            ck_assert_uint_eq(table[0], g - gl + 1);
            struct pn_walk_cost c;
            pn_mmu_walk_cost(f.vcpu, GVA, PN_WRITE, PN_TLB_SUPER, &c);
            ck_assert_uint_eq(c.refs, g - gl + 1);
            ck_assert_uint_eq(c.native, g - gl + 1);
            for (unsigned l = 1; l <= 5; l++) {
                ck_assert_uint_eq(table[l], l >= gl && l <= g ? 1 : 0);
                ck_assert_uint_eq(c.table[l], table[l]);
                ck_assert_uint_eq(c.guest[l], 0);
            }
            end();
        }
}
END_TEST

START_TEST(asking_for_the_cost_changes_nothing) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    paging(4, map_page(4, 1, 0, GVA, 0x5000, P | W));
    struct pn_stats before = f.stats;
    struct pn_walk_cost c;
    pn_mmu_walk_cost(f.vcpu, GVA, PN_WRITE, PN_TLB_SUPER, &c);
    ck_assert(!c.complete); /* nothing is mapped: the first reference exits */
    ck_assert_uint_eq(c.refs, 1);
    ck_assert_uint_eq(c.native, 4);
    ck_assert_mem_eq(&before, &f.stats, sizeof(before));
    ck_assert_uint_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    pn_mmu_walk_cost(f.vcpu, GVA + 4096, PN_READ, PN_TLB_SUPER, &c);
    ck_assert(!c.complete); /* a #PF at the last level */
    ck_assert_uint_eq(c.native, 4);
    ck_assert_uint_eq(c.refs, 4 + 4 * 3);
    end();
}
END_TEST

/* ---- Exits ---- */

static const struct pn_event_rec *event(enum pn_event id, unsigned nth) {
    for (uint32_t i = 0; i < f.ring.count; i++)
        if (f.rec[i].id == id && !nth--)
            return &f.rec[i];
    return NULL;
}

START_TEST(each_missing_frame_is_one_violation) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    paging(4, map_page(4, 1, 0, GVA, 0x5000, P | W | A));
    f.ring.mask = ~0ull;
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    /* four tables and the page, each in a frame of its own; every exit starts over */
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), 5);
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), 5);
    ck_assert_uint_eq(stat(PN_STAT_pf_fixed), 5);
    ck_assert_uint_eq(stat(PN_STAT_gpte_reads), 1 + 2 + 3 + 4 + 4);
    ck_assert_uint_eq(stat(PN_STAT_pages_4k), 5);
    ck_assert_uint_eq(stat(PN_STAT_sp_pages), 3);
    const struct pn_event_rec *first = event(PN_EV_ept_violation, 0);
    ck_assert_uint_eq(first->arg[0], GVA);
    ck_assert_uint_eq(first->arg[1], f.vcpu->paging.cr3 + 8 * (GVA >> 39 & 511));
    ck_assert_uint_eq(first->arg[2], EPT_Q_READ | EPT_Q_GVA);
    ck_assert_uint_eq(first->arg[3], 4);
    const struct pn_event_rec *last = event(PN_EV_ept_violation, 4);
    ck_assert_uint_eq(last->arg[1], 0x5000);
    ck_assert_uint_eq(last->arg[2], EPT_Q_READ | EPT_Q_GVA | EPT_Q_FINAL);
    ck_assert_uint_eq(last->arg[3], 1);
    ck_assert_ptr_null(event(PN_EV_ept_violation, 5));
    /* D of the leaf is set by the store, and a write tag waits for it */
    ck_assert(!hit(GVA, PN_WRITE, PN_TLB_SUPER));
    ck_assert_uint_eq(leaf(0x5000).pte & (EPT_A | EPT_D | EPT_W), EPT_A | EPT_W);
    ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_MAPPED);
    ck_assert(hit(GVA, PN_WRITE, PN_TLB_SUPER));
    ck_assert_uint_eq(leaf(0x5000).pte & EPT_D, EPT_D);
    /* and D of the guest's table by the walker's store of D there */
    ck_assert_uint_eq(leaf(gpte_in(4, ROOT, GVA, 1)).pte & EPT_D, EPT_D);
    ck_assert_uint_eq(leaf(ROOT).pte & EPT_D, 0); /* A was set: nothing stored */
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), 5);
    end();
}
END_TEST

START_TEST(guest_faults_do_not_exit) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    paging(4, map_page(4, 1, 0, GVA, 0x5000, P));
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    uint64_t exits = stat(PN_STAT_ept_violation);
    ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_GUEST_PF);
    ck_assert_uint_eq(x.fault.error, PN_PF_PRESENT | PN_PF_WRITE);
    ck_assert_int_eq(go(GVA + 4096, PN_READ, PN_TLB_SUPER), PN_GUEST_PF);
    ck_assert_uint_eq(x.fault.error, 0);
    ck_assert_uint_eq(x.fault.address, GVA + 4096);
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits);
    ck_assert_uint_eq(stat(PN_STAT_pf_guest), 2);
    end();
}
END_TEST

START_TEST(mmio_is_remembered_by_a_misconfigured_entry) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    pn_gpa root = map_page(4, 1, 0, GVA, 0xfee00000, P | W);
    paging(4, root);
    ck_assert_int_eq(go(GVA + 0x20, PN_READ, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(x.gpa, 0xfee00020);
    ck_assert_ptr_null(x.hva);
    ck_assert_uint_eq(stat(PN_STAT_pf_mmio), 1);
    ck_assert(ept_misconfigured(leaf(0xfee00000).pte, 1));
    uint64_t exits = stat(PN_STAT_ept_violation);
    ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_MMIO);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(stat(PN_STAT_ept_violation), exits);
    ck_assert_uint_eq(stat(PN_STAT_ept_misconfig), 2);
    ck_assert_uint_eq(stat(PN_STAT_pf_mmio_spte), 2);
    /* memory appears there, and goes again */
    struct pn_memslot s = {.id = 1, .gpa = 0xfee00000, .size = 4096, .hva = f.mem + MIB};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    clean();
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_ptr_eq(x.hva, f.mem + MIB);
    s.size = 0;
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER));
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MMIO);
    end();
}
END_TEST

START_TEST(a_store_to_a_read_only_slot_violates_each_time) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    struct pn_memslot s = {.id = 1,
                           .flags = PN_SLOT_READONLY,
                           .gpa = 0xe0000000,
                           .size = 2 * MIB,
                           .hva = f.mem + 8 * MIB};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    paging(4, map_page(4, 1, 0, GVA, 0xe0000000, P | W));
    ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_MMIO);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(leaf(0xe0000000).level, 2);
    ck_assert_uint_eq(leaf(0xe0000000).pte & EPT_W, 0);
    f.ring.mask = ~0ull;
    ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_MMIO);
    ck_assert_uint_eq(event(PN_EV_ept_violation, 0)->arg[2],
                      EPT_Q_WRITE | EPT_Q_GVA | EPT_Q_FINAL |
                          (EPT_R | EPT_X) << EPT_Q_GRANT_SHIFT);
    ck_assert_uint_eq(stat(PN_STAT_ept_misconfig), 0);
    end();
}
END_TEST

/* Source: SDM volume 3, "Accessed and Dirty Flags for EPT" and the exit qualifications of
 * EPT violations; APM volume 2, "Nested versus Guest Page Faults, Fault Ordering". */
START_TEST(with_second_level_a_and_d_a_walk_writes_the_tables) {
    static const struct {
        uint32_t ad, q, error;
        uint64_t sets;
    } kinds[] = {{PN_AD_NONE, EPT_Q_READ, 0, EPT_A},
                 {PN_AD_EPT, EPT_Q_READ | EPT_Q_WRITE, PN_PF_WRITE, EPT_A | EPT_D},
                 {PN_AD_NPT, EPT_Q_WRITE, PN_PF_WRITE | PN_PF_USER, EPT_A | EPT_D}};
    for (unsigned i = 0; i < 3; i++) {
        pn_mmu_options_default(&opt);
        ck_assert_uint_eq(opt.ad, PN_AD_NONE);
        opt.large_pages = 0;
        opt.ad = kinds[i].ad;
        begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
        paging(4, map_page(4, 1, 0, GVA, 0x5000, P | W | A | D));
        f.ring.mask = ~0ull;
        ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
        ck_assert_uint_eq(stat(PN_STAT_ept_violation), 5);
        for (unsigned n = 0; n < 4; n++) { /* the guest's A and D are all set */
            ck_assert_uint_eq(event(PN_EV_ept_violation, n)->arg[2],
                              kinds[i].q | EPT_Q_GVA);
            ck_assert_uint_eq(event(PN_EV_page_fault, n)->arg[1], kinds[i].error);
            ck_assert_uint_eq(leaf(ROOT + n * 4096).pte & (EPT_A | EPT_D), kinds[i].sets);
        }
        ck_assert_uint_eq(event(PN_EV_ept_violation, 4)->arg[2],
                          EPT_Q_READ | EPT_Q_GVA | EPT_Q_FINAL);
        ck_assert_uint_eq(leaf(0x5000).pte & EPT_D, 0);
        end();
    }
}
END_TEST

/* Nobody may write there: each walk exits, and the hypervisor emulates. */
START_TEST(a_table_in_a_read_only_slot_violates_each_time_with_a_and_d) {
    for (uint32_t ad = PN_AD_NONE; ad <= PN_AD_NPT; ad++) {
        pn_mmu_options_default(&opt);
        opt.ad = ad;
        begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
        struct pn_memslot s = {.id = 1,
                               .flags = PN_SLOT_READONLY,
                               .gpa = 0xe0000000,
                               .size = 2 * MIB,
                               .hva = f.mem + 8 * MIB};
        ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
        pn_gpa root = map_page(4, 1, 0, GVA, 0x5000, P | W | A | D);
        pn_gpa pt = gpte_in(4, root, GVA, 1) & PN_PAGE_MASK;
        memcpy(f.mem + 8 * MIB, f.mem + pt, 4096);
        *fixture_q(&f, gpte_in(4, root, GVA, 2)) = 0xe0000000 | P | W | A;
        paging(4, root);
        uint64_t exits = 0;
        for (unsigned i = 0; i < 3; i++) {
            pn_mmu_drop_tlb(f.vcpu);
            exits = stat(PN_STAT_ept_violation);
            ck_map(GVA, PN_WRITE, PN_TLB_SUPER, 0x5000);
            clean();
        }
        ck_assert_uint_eq(stat(PN_STAT_ept_violation) - exits, ad != PN_AD_NONE);
        ck_assert_uint_eq(leaf(0xe0000000).pte & EPT_D, 0);
        end();
    }
}
END_TEST

/* Source: SDM, "EPT Misconfigurations". */
START_TEST(misconfigurations_are_those_of_the_manual) {
    const uint64_t rwx = EPT_RWX, wb = EPT_MT_WB;
    ck_assert(!ept_misconfigured(0, 1));
    ck_assert(!ept_misconfigured(EPT_PS | wb | 0x5000, 4)); /* not present */
    ck_assert(!ept_misconfigured(rwx | 0x5000, 4));
    ck_assert(!ept_misconfigured(EPT_X | 0x5000, 2));
    ck_assert(!ept_misconfigured(rwx | wb | EPT_IPAT | EPT_A | EPT_D | 0x5000, 1));
    ck_assert(!ept_misconfigured(rwx | wb | EPT_PS | 0x200000, 2));
    ck_assert(!ept_misconfigured(rwx | wb | EPT_PS | 0x40000000, 3));
    for (unsigned level = 1; level <= 5; level++) {
        ck_assert(ept_misconfigured(EPT_W, level));
        ck_assert(ept_misconfigured(EPT_W | EPT_X, level));
    }
    for (unsigned type = 0; type < 8; type++)
        ck_assert_int_eq(ept_misconfigured(rwx | (uint64_t)type << 3, 1),
                         type == 2 || type == 3 || type == 7);
    ck_assert(ept_misconfigured(rwx | EPT_PS, 4));
    ck_assert(ept_misconfigured(rwx | EPT_PS | wb, 5));
    ck_assert(ept_misconfigured(rwx | wb, 3));
    ck_assert(ept_misconfigured(rwx | EPT_IPAT, 2));
    ck_assert(ept_misconfigured(rwx | wb | EPT_PS | 0x1000, 2));
    ck_assert(ept_misconfigured(rwx | wb | EPT_PS | 0x200000, 3));
}
END_TEST

/* A guest table where there is no memory reads as ones. */
START_TEST(a_table_without_memory_reads_as_ones) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    pn_gpa root = new_table();
    *fixture_q(&f, root + 8 * (GVA >> 39 & 511)) = 0xfe000000 | P | W;
    paging(4, root);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_GUEST_PF);
        ck_assert_uint_eq(x.fault.error, PN_PF_PRESENT | PN_PF_RSVD);
    }
    ck_assert_uint_eq(stat(PN_STAT_ept_misconfig), 1);
    paging(4, 0xfd000000);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_GUEST_PF);
    end();
}
END_TEST

/* ---- The TLB ---- */

START_TEST(invlpg_drops_all_of_a_large_page) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    pn_gpa root = map_page(4, 2, 0, GVA, 4 * MIB, P | W | A | D);
    paging(4, root);
    ck_assert_int_eq(go(GVA + 0x5000, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_int_eq(go(GVA + 0x6000, PN_FETCH, PN_TLB_SUPER), PN_MAPPED);
    uint64_t gen = f.view.fetch_gen;
    map_page(4, 2, root, GVA, 6 * MIB, P | W | A | D);
    ck_assert(hit(GVA + 0x5000, PN_READ, PN_TLB_SUPER)); /* as the architecture allows */
    pn_mmu_invlpg(f.vcpu, GVA + 0x1f0000);
    ck_assert(!hit(GVA + 0x5000, PN_READ, PN_TLB_SUPER));
    ck_assert(!hit(GVA + 0x6000, PN_FETCH, PN_TLB_SUPER));
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    ck_assert_int_eq(go(GVA + 0x5000, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(x.gpa, 6 * MIB + 0x5000);
    end();
}
END_TEST

/* Jump caches outlive TLB entries: the flush of an address that was fetched from counts
 * even when the TLB has forgotten it, and that of another does not. */
START_TEST(a_flush_of_fetched_code_changes_the_fetch_generation) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    pn_gpa root = map_page(4, 1, 0, GVA, 0x5000, P | W);
    map_page(4, 1, root, GVA + 0x1000, 0x6000, P | W);
    paging(4, root);
    ck_assert_int_eq(go(GVA, PN_FETCH, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_int_eq(go(GVA + 0x1000, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    uint64_t gen = f.view.fetch_gen;
    pn_mmu_drop_tlb(f.vcpu);
    ck_assert_uint_eq(f.view.fetch_gen, gen);
    pn_mmu_invlpg(f.vcpu, GVA + 0x1000);
    ck_assert_uint_eq(f.view.fetch_gen, gen);
    pn_mmu_invlpg(f.vcpu, GVA);
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    gen = f.view.fetch_gen;
    ck_assert_int_eq(go(GVA, PN_FETCH, PN_TLB_SUPER), PN_MAPPED);
    struct pn_memslot s = {.size = 0}; /* the page itself goes */
    pn_mmu_slot_set(f.mmu, &s);
    ck_assert_uint_ne(f.view.fetch_gen, gen);
    end();
}
END_TEST

/* The guest's entry of that level on the way to GVA. */
static uint64_t *entry_of(pn_gpa root, unsigned level) {
    uint64_t *e = (uint64_t *)(void *)(f.mem + root) + (GVA >> 39 & 511);
    for (unsigned l = 3; l >= level; l--)
        e = (uint64_t *)(void *)(f.mem + (*e & ~0xfffull)) +
            (GVA >> (PN_PAGE_SHIFT + 9 * (l - 1)) & 511);
    return e;
}

/* A read of GVA, with an empty TLB, is of that frame, and reads four entries. */
static void leads_to(pn_gpa gpa) {
    pn_mmu_drop_tlb(f.vcpu);
    uint64_t before = stat(PN_STAT_gpte_reads);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(x.gpa, gpa);
    ck_assert_ptr_eq(x.hva, f.mem + gpa);
    ck_assert_uint_eq(stat(PN_STAT_gpte_reads), before + 4);
}

/* How a walk went is remembered. Then an entry of any level changes, and back, without a word
 * to the MMU; then the memory that the tables stand in is elsewhere. */
START_TEST(a_walk_that_went_before_sees_what_has_changed) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, MEM, 2 * MIB, 0);
    pn_gpa root = map_page(4, 1, 0, GVA, 0x5000, P | W | A | D);
    pn_gpa other = map_page(4, 1, 0, GVA, 0x6000, P | W | A | D);
    paging(4, root);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED); /* sets A on the way */
    leads_to(0x5000);
    for (unsigned level = 4; level; level--) {
        uint64_t *e = entry_of(root, level), was = *e;
        leads_to(0x5000);
        *e = *entry_of(other, level) | A;
        for (unsigned l = level; l > 1; l--)
            *entry_of(other, l - 1) |= A;
        leads_to(0x6000);
        leads_to(0x6000);
        *e = was;
        leads_to(0x5000);
    }
    struct pn_memslot s = {.size = 0};
    memmove(f.mem + 2 * MIB, f.mem, MEM);
    f.mem += 2 * MIB;
    *entry_of(root, 1) = *entry_of(other, 1);
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    s = (struct pn_memslot){.size = MEM, .hva = f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED); /* maps them again */
    leads_to(0x6000);
    end();
}
END_TEST

START_TEST(pcids_keep_their_tlb_entries_apart) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    pn_gpa one = map_page(4, 1, 0, GVA, 0x5000, P | W);
    pn_gpa two = map_page(4, 1, 0, GVA, 0x6000, P | W);
    struct pn_paging p = fixture_paging(4, one | 1);
    p.cr4 |= 1u << 17;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    pn_mmu_set_cr3(f.vcpu, two | 2, true, NULL);
    ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER));
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_uint_eq(x.gpa, 0x6000);
    pn_mmu_set_cr3(f.vcpu, one | 1, true, NULL);
    ck_assert(hit(GVA, PN_READ, PN_TLB_SUPER)); /* kept */
    pn_mmu_set_cr3(f.vcpu, two | 2, false, NULL);
    ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER)); /* its own PCID was flushed */
    pn_mmu_set_cr3(f.vcpu, one | 1, true, NULL);
    ck_assert(hit(GVA, PN_READ, PN_TLB_SUPER));
    pn_mmu_invlpg(f.vcpu, GVA);
    ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER));
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    pn_mmu_set_cr3(f.vcpu, two | 2, true, NULL);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    pn_mmu_invpcid(f.vcpu, 0, 1, GVA);
    ck_assert(hit(GVA, PN_READ, PN_TLB_SUPER));
    pn_mmu_set_cr3(f.vcpu, one | 1, true, NULL);
    ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER));
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    /* with global pages INVLPG reaches every PCID */
    p.cr3 = one | 1;
    p.cr4 |= 1u << 7;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    pn_mmu_set_cr3(f.vcpu, two | 2, true, NULL);
    pn_mmu_invlpg(f.vcpu, GVA);
    pn_mmu_set_cr3(f.vcpu, one | 1, true, NULL);
    ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER));
    ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER), PN_MAPPED);
    pn_mmu_invpcid(f.vcpu, 2, 0, 0);
    ck_assert(!hit(GVA, PN_READ, PN_TLB_SUPER));
    end();
}
END_TEST

/* ---- Bounds ---- */

/* A guest that touches a frame in every corner of the address space. */
START_TEST(the_page_budget_holds) {
    pn_mmu_options_default(&opt);
    opt.page_budget = 64;
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    size_t before = pn_mmu_footprint(f.mmu); /* what TLBs may take is in it */
    pn_gpa root = new_table();
    paging(4, root);
    uint64_t rng = 7;
    for (unsigned i = 0; i < 5000; i++) {
        pn_gpa gpa = rnd(&rng) & ((1ull << 46) - 1) & ~0xfffull;
        map_page(4, 1, root, GVA, gpa, P | W);
        pn_mmu_invlpg(f.vcpu, GVA);
        ck_assert_int_eq(go(GVA, PN_READ, PN_TLB_SUPER),
                         gpa < 16 * MIB ? PN_MAPPED : PN_MMIO);
        ck_assert_uint_le(stat(PN_STAT_sp_pages), 64);
    }
    ck_assert_uint_gt(stat(PN_STAT_mmu_recycled), 1000);
    ck_assert_uint_le(pn_mmu_footprint(f.mmu), before + MIB);
    end();
}
END_TEST

START_TEST(creation_and_options_refuse_what_is_not_there) {
    pn_mmu_options_default(&opt);
    struct pn_mmu_config cfg = {.kind = PN_MMU_TDP, .opt = opt, .maxphyaddr = 52};
    struct pn_mmu *mmu;
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), 0);
    ck_assert_uint_eq(mmu->tdp->levels, 5); /* four do not reach 2^52 */
    pn_mmu_destroy(mmu);
    cfg.tracker = PN_TRACKER_BITMAP; /* KVM's */
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), -22);
    cfg.tracker = PN_TRACKER_OFF;
    cfg.kind = PN_MMU_TDP + 1;
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), -22);
}
END_TEST

/* ---- The audit sees ---- */

static void ck_seen(uint64_t *word, uint64_t value) {
    uint64_t was = *word;
    *word = value;
    ck_assert_int_gt(pn_mmu_audit(f.mmu, NULL), 0);
    *word = was;
    clean();
}

START_TEST(the_audit_sees_each_broken_invariant) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    paging(4, map_page(4, 1, 0, GVA, 0x5000, P | W));
    ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_MAPPED);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, 7), 0);
    clean();
    struct ewalk w = leaf(0x5000);
    ck_seen(w.ptep, 0);
    ck_seen(w.ptep, w.pte + 4096);
    ck_seen(w.ptep, w.pte & ~EPT_W);
    ck_seen(w.ptep, w.pte & ~EPT_D);
    ck_seen(w.ptep, w.pte & ~EPT_X);
    ck_seen(w.ptep, w.pte | 1ull << 3); /* memory type 7 */
    ck_seen(w.ptep, ept_mmio(f.mmu->slots.generation));
    ck_seen(w.ptep + 2, (w.pte + 0x2000) | EPT_W); /* frame 7 */
    ck_seen(&f.mmu->tdp->root->spt[1], f.mmu->tdp->root->spt[0]);
    struct slot *s = f.mmu->slots.by_gfn[0];
    ck_seen(&s->rmap[5], 0);
    ck_seen(&s->rmap[5], s->rmap[5] & ~HINT_W);
    end();
}
END_TEST

SUITE("mmu tdp", .timeout = 120,
      .tests = {a_cold_walk_costs_what_theory_says, a_walk_of_few_levels_costs_less,
                a_shadow_walk_costs_one_dimension, asking_for_the_cost_changes_nothing,
                each_missing_frame_is_one_violation, guest_faults_do_not_exit,
                mmio_is_remembered_by_a_misconfigured_entry,
                a_store_to_a_read_only_slot_violates_each_time,
                with_second_level_a_and_d_a_walk_writes_the_tables,
                a_table_in_a_read_only_slot_violates_each_time_with_a_and_d,
                misconfigurations_are_those_of_the_manual,
                a_table_without_memory_reads_as_ones, invlpg_drops_all_of_a_large_page,
                a_flush_of_fetched_code_changes_the_fetch_generation,
                a_walk_that_went_before_sees_what_has_changed,
                pcids_keep_their_tlb_entries_apart, the_page_budget_holds,
                creation_and_options_refuse_what_is_not_there,
                the_audit_sees_each_broken_invariant})
