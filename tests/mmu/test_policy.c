/* SPDX-License-Identifier: MIT */
/* What the shadow MMU does as one version of KVM does and not as another, the flushes that
 * it asks for, and stores by instructions that fill no tables. */
#include <errno.h>

#include "guest.h"
#include "tests/suite.h"

static const char *const names[PN_POLICIES] = {"kvm-6.1", "kvm-6.12", "kvm-7.3", "xen-1",
                                               "xen-2",   "xen-3",    "flush",   "agile"};
#define POLICIES (PN_POLICY_KVM_7_3 + 1u) /* those that are KVM's */

/* Tables of four levels under ROOT; 0x5000 is DATA by the gpte at `pte`. */
static pn_gpa pte;
static void begin_policy(unsigned policy, uint32_t prefetch) {
    pn_mmu_options_default(&opt);
    opt.policy = policy;
    opt.prefetch = prefetch;
    begin(PN_MMU_SHADOW, MEM, 2 * MIB, 0);
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    pte = gpte_at(ROOT, 0x5000, 1);
}

/* Flushes since the last call. */
static uint64_t flushes(void) {
    static uint64_t before;
    uint64_t now = stat(PN_STAT_tlb_flush), n = now < before ? now : now - before;
    before = now;
    return n;
}

START_TEST(the_newest_policy_is_the_default) {
    pn_mmu_options_default(&opt);
    ck_assert_uint_eq(opt.policy, PN_POLICY_KVM_7_3);
    for (unsigned i = 0; i < PN_POLICIES; i++) {
        char text[32], buf[96];
        uint32_t value;
        snprintf(text, sizeof(text), "policy=%s", names[i]);
        ck_assert_int_eq(pn_mmu_option_set(&opt, text), 0);
        ck_assert_uint_eq(opt.policy, i);
        ck_assert_str_eq(pn_mmu_option_at(0, &opt, &value), "policy");
        ck_assert_str_eq(pn_mmu_option_word(0, value), names[i]);
        ck_assert_str_eq(pn_mmu_option_allowed(text, buf, sizeof(buf)),
                         "one of kvm-6.1|kvm-6.12|kvm-7.3|xen-1|xen-2|xen-3|flush|agile");
    }
    ck_assert_int_eq(pn_mmu_option_set(&opt, "policy=2"), -EINVAL);
    ck_assert_int_eq(pn_mmu_option_set(&opt, "policy=kvm-6"), -EINVAL);
    ck_assert_int_eq(pn_mmu_option_set(&opt, "policy="), -EINVAL);
    ck_assert_ptr_null(pn_mmu_option_word(1, 0)); /* a number */
}
END_TEST

/* ---- INVLPG ---- */

START_TEST(invlpg_maps_what_was_mapped_until_6_3) {
    for (unsigned policy = 0; policy < POLICIES; policy++) {
        bool maps = policy == PN_POLICY_KVM_6_1;
        begin_policy(policy, 8);
        ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
        ck_assert_int_eq(poke(pte, (DATA + 0x2000) | P | W | U | A | D), PN_MAPPED);
        pn_mmu_invlpg(f.vcpu, 0x5000);
        clean();
        uint64_t taken = stat(PN_STAT_pf_taken);
        ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA + 0x2000);
        ck_assert_uint_eq(stat(PN_STAT_pf_taken), taken + !maps);
        /* Without A the walk has to set it first. */
        taken = stat(PN_STAT_pf_taken);
        ck_assert_int_eq(poke(pte, DATA | P | W | U), PN_MAPPED);
        pn_mmu_invlpg(f.vcpu, 0x5000);
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
        ck_assert_uint_eq(stat(PN_STAT_pf_taken), taken + 1);
        end();
    }
}
END_TEST

/* ---- Flushes ---- */

/* A page is made read-only, read, written, which faults, and writable again. The table was
 * let go before (unsync). Seen with KVM's counters: 3, 2 and 1 for each such page. */
START_TEST(a_write_fault_costs_as_many_flushes_as_under_each_kvm) {
    static const unsigned at_invlpg[] = {1, 1, 1}, at_fault[] = {1, 0, 0},
                          at_grant[] = {1, 1, 0};
    for (unsigned policy = 0; policy < POLICIES; policy++) {
        begin_policy(policy, 8);
        ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
        ck_assert_int_eq(poke(pte, DATA | P | W | U | A | D), PN_MAPPED);
        ck_assert_uint_eq(stat(PN_STAT_sp_unsync), 1);
        flushes();
        for (unsigned round = 0; round < 3; round++) {
            ck_assert_int_eq(poke(pte, DATA | P | U | A | D), PN_MAPPED);
            ck_assert_uint_eq(flushes(), 0);
            pn_mmu_invlpg(f.vcpu, 0x5000);
            ck_assert_uint_eq(flushes(), at_invlpg[policy]);
            ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
            ck_pf(0x5000, PN_WRITE, PN_TLB_USER,
                  PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER);
            ck_assert_uint_eq(flushes(), at_fault[policy]);
            ck_assert_int_eq(poke(pte, DATA | P | W | U | A | D), PN_MAPPED);
            pn_mmu_invlpg(f.vcpu, 0x5000);
            ck_assert_uint_eq(flushes(), at_grant[policy]);
            ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
            ck_assert_uint_eq(flushes(), 0);
            clean();
        }
        end();
    }
}
END_TEST

/* A store that faults does not use the entry: no A is there to be lost at the grant. */
START_TEST(what_no_access_used_has_no_a_to_lose) {
    begin_policy(PN_POLICY_KVM_6_12, 0);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    ck_assert_int_eq(poke(pte, DATA | P | U | A | D), PN_MAPPED);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    flushes();
    ck_pf(0x5000, PN_WRITE, PN_TLB_USER, PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER);
    ck_assert_int_eq(poke(pte, DATA | P | W | U | A | D), PN_MAPPED);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_assert_uint_eq(flushes(), 0);
    end();
}
END_TEST

START_TEST(the_flushes_of_one_exit_are_one) {
    begin_policy(PN_POLICY_KVM_7_3, 0);
    for (unsigned i = 0; i < 4; i++) {
        map(ROOT, 0x6000 + i * 0x1000, DATA + 0x1000 * i, P | W | U | A | D);
        ck_map(0x6000 + i * 0x1000, PN_WRITE, PN_TLB_USER, DATA + 0x1000 * i);
    }
    ck_assert_int_eq(poke(pte, DATA | P | U | A), PN_MAPPED);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(poke(gpte_at(ROOT, 0x6000 + i * 0x1000, 1), 0), PN_MAPPED);
    flushes();
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL); /* syncs and protects the table, too */
    ck_assert_uint_eq(flushes(), 1);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL); /* nothing to do: the guest's own */
    ck_assert_uint_eq(flushes(), 1);
    pn_mmu_invlpg(f.vcpu, 0x5000);
    ck_assert_uint_eq(flushes(), 0);
    pn_mmu_invpcid(f.vcpu, 0, 0, 0x5000);
    ck_assert_uint_eq(flushes(), 0);
    pn_mmu_invpcid(f.vcpu, 1, 0, 0);
    ck_assert_uint_eq(flushes(), 1);
    pn_mmu_invpcid(f.vcpu, 1, 5, 0); /* not the PCID in use */
    ck_assert_uint_eq(flushes(), 0);
    pn_mmu_invpcid(f.vcpu, 3, 0, 0);
    ck_assert_uint_eq(flushes(), 1);
    struct pn_paging p = fixture_paging(4, ROOT);
    p.cr4 |= CR4_PGE;
    pn_mmu_set_paging(f.vcpu, &p);
    ck_assert_uint_eq(flushes(), 1);
    p.cr4 |= CR4_SMAP; /* KVM takes another root, and does not count its flush */
    pn_mmu_set_paging(f.vcpu, &p);
    ck_assert_uint_eq(flushes(), 0);
    p.cr4 |= CR4_PCIDE;
    pn_mmu_set_paging(f.vcpu, &p);
    flushes();
    pn_mmu_set_cr3(f.vcpu, ROOT | 1, true, NULL); /* a load that flushes nothing */
    ck_assert_uint_eq(flushes(), 0);
    end();
}
END_TEST

START_TEST(a_flush_is_one_of_every_vcpus) {
    begin_policy(PN_POLICY_KVM_7_3, 0);
    struct pn_tlb_view view;
    struct pn_stats stats = {0};
    struct pn_mmu_vcpu *other;
    ck_assert_int_eq(pn_mmu_vcpu_create(f.mmu, &view, &stats, NULL, &other), 0);
    ck_map(0x5000, PN_WRITE, PN_TLB_USER, DATA);
    flushes();
    ck_assert_int_eq(poke(gpte_at(ROOT, 0x5000, 2), 0), PN_TRACKED); /* a table goes */
    ck_assert_uint_eq(flushes(), 1);
    ck_assert_uint_eq(stats.v[PN_STAT_tlb_flush], 1);
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL); /* its own business */
    ck_assert_uint_eq(flushes(), 1);
    ck_assert_uint_eq(stats.v[PN_STAT_tlb_flush], 1);
    pn_mmu_vcpu_destroy(other);
    end();
}
END_TEST

START_TEST(tdp_sees_no_flush_of_the_guests) {
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, MEM, 2 * MIB, 0);
    paging(4, map_page(4, 1, 0, GVA, DATA, P | W | A | D));
    ck_map(GVA, PN_WRITE, PN_TLB_SUPER, DATA);
    flushes();
    pn_mmu_set_cr3(f.vcpu, f.vcpu->paging.cr3, false, NULL);
    pn_mmu_invpcid(f.vcpu, 3, 0, 0);
    pn_mmu_invlpg(f.vcpu, GVA);
    ck_assert_uint_eq(flushes(), 0);
    ck_map(GVA, PN_WRITE, PN_TLB_SUPER, DATA);
    struct pn_memslot s = {.flags = PN_SLOT_LOG_DIRTY, .size = MEM, .hva = f.mem};
    ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), 0);
    ck_assert_uint_eq(flushes(), 1);
    end();
}
END_TEST

/* ---- Which tables go out of sync, and when they are synced ---- */

/* The frame of the table of this level on the way to 0x5000, and where the guest has it. */
static pn_gpa table_at(unsigned level) {
    return gpte_at(ROOT, 0x5000, level) & PN_PAGE_MASK;
}

/* Store what is there to the first entry of the table. */
static enum pn_answer store_to(unsigned level) {
    pn_gpa gpa = table_at(level);
    return go(DIRECT + gpa, PN_WRITE, PN_TLB_SUPER);
}

START_TEST(each_policy_lets_its_tables_go_out_of_sync) {
    static const struct {
        unsigned policy, highest; /* level whose tables are stored to unseen */
    } want[] = {{PN_POLICY_KVM_7_3, 1},
                {PN_POLICY_XEN_1, 4},
                {PN_POLICY_XEN_2, 0},
                {PN_POLICY_XEN_3, 1},
                {PN_POLICY_FLUSH, 4}};
    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        for (unsigned level = 1; level <= 4; level++) {
            begin_policy(want[i].policy, 0);
            ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
            ck_assert_int_eq(store_to(level),
                             level <= want[i].highest ? PN_MAPPED : PN_TRACKED);
            clean();
            end();
        }
}
END_TEST

/* Without the option nothing goes, whatever the policy. */
START_TEST(unsync_0_keeps_every_table_in_sync) {
    for (unsigned policy = 0; policy < PN_POLICIES; policy++)
        for (unsigned level = 1; level <= 4; level++) {
            begin_policy(policy, 0);
            end();
            opt.unsync = 0;
            begin(PN_MMU_SHADOW, MEM, 2 * MIB, 0);
            new_table();
            map_direct(ROOT);
            map(ROOT, 0x5000, DATA, P | W | U | A | D);
            paging(4, ROOT);
            ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
            ck_assert_int_eq(store_to(level), PN_TRACKED);
            end();
        }
}
END_TEST

START_TEST(a_fault_below_a_table_out_of_sync_syncs_all_in_xen_1) {
    begin_policy(PN_POLICY_XEN_1, 0);
    map(ROOT, 0x6000, DATA + 0x1000, P | W | U | A | D);
    map(ROOT, GVA, DATA, P | W | U | A | D);
    map(ROOT, GVA + GIB, DATA, P | W | U | A | D);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_map(GVA, PN_READ, PN_TLB_USER, DATA);
    ck_assert_int_eq(poke(pte, (DATA + 0x2000) | P | W | U | A | D), PN_MAPPED);
    ck_assert_int_eq(poke(gpte_at(ROOT, GVA, 2), 0), PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 2);
    ck_map(GVA + GIB, PN_READ, PN_TLB_USER, DATA); /* by tables that are in sync */
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 2);
    ck_map(0x6000, PN_READ, PN_TLB_USER, DATA + 0x1000);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 0);
    ck_assert_uint_eq(stat(PN_STAT_mmu_sync), 2);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA + 0x2000);
    ck_pf(GVA, PN_READ, PN_TLB_USER, PN_PF_USER);
    ck_assert_uint_eq(stat(PN_STAT_pf_tracked), 0);
    end();
}
END_TEST

/* KVM takes a table for freed after three stores; Xen does not. */
START_TEST(no_number_of_stores_makes_xen_2_forget_a_table) {
    for (unsigned i = 0; i < 2; i++) {
        begin_policy(i ? PN_POLICY_XEN_2 : PN_POLICY_KVM_7_3, 0);
        pn_gpa pmd = gpte_at(ROOT, 0x5000, 2);
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
        for (unsigned k = 0; k < 8; k++)
            poke(pmd + 8 * (k + 1), 0);
        ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), !i);
        ck_assert_uint_eq(stat(PN_STAT_mmu_pte_write), i ? 8 : 3);
        end();
    }
}
END_TEST

START_TEST(the_fourth_table_out_of_sync_syncs_the_first_in_xen_3) {
    begin_policy(PN_POLICY_XEN_3, 0);
    for (unsigned k = 0; k < 4; k++) {
        pn_gva gva = 0x5000 + k * 2 * MIB;
        map(ROOT, gva, DATA, P | W | U | A | D);
        ck_map(gva, PN_READ, PN_TLB_USER, DATA);
        ck_assert_int_eq(poke(gpte_at(ROOT, gva, 1), DATA | P | A), PN_MAPPED);
        ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), k < 3 ? k + 1 : 3);
    }
    ck_assert_uint_eq(stat(PN_STAT_sp_unsync), 4);
    ck_assert_uint_eq(stat(PN_STAT_mmu_sync), 1);
    ck_pf(0x5000, PN_READ, PN_TLB_USER, PN_PF_PRESENT | PN_PF_USER); /* U is gone */
    pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 0);
    ck_assert_uint_eq(stat(PN_STAT_mmu_sync), 4);
    end();
}
END_TEST

START_TEST(a_table_in_two_shadow_pages_stays_in_sync_in_xen_3) {
    for (unsigned i = 0; i < 2; i++) {
        begin_policy(i ? PN_POLICY_XEN_3 : PN_POLICY_KVM_7_3, 0);
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
        struct pn_paging p = fixture_paging(4, ROOT);
        p.efer &= ~(1ull << 11); /* NX is reserved: another role */
        pn_mmu_set_paging(f.vcpu, &p);
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
        paging(4, ROOT);
        ck_assert_int_eq(poke(pte, DATA | P | A), i ? PN_TRACKED : PN_MAPPED);
        end();
    }
}
END_TEST

/* An upper entry that is changed unseen, and INVLPG of another address: a processor keeps
 * nothing of upper entries over an INVLPG. */
START_TEST(an_invlpg_brings_all_upper_tables_up_to_date) {
    static const unsigned policies[] = {PN_POLICY_XEN_1, PN_POLICY_FLUSH};
    for (unsigned i = 0; i < 2; i++) {
        begin_policy(policies[i], 0);
        map(ROOT, GVA, DATA, P | W | U | A | D);
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
        ck_map(GVA, PN_READ, PN_TLB_USER, DATA);
        pn_gpa other = new_table();
        *fixture_q(&f, other + 8 * (GVA >> 12 & 511)) = (DATA + 0x3000) | P | U | A;
        ck_assert_int_eq(poke(gpte_at(ROOT, GVA, 2), other | P | W | U | A), PN_MAPPED);
        ck_map(GVA, PN_READ, PN_TLB_USER, DATA); /* nobody flushed */
        pn_mmu_invlpg(f.vcpu, 0x5000);
        clean();
        ck_map(GVA, PN_READ, PN_TLB_USER, DATA + 0x3000);
        ck_assert_uint_eq(stat(PN_STAT_pf_tracked), 0);
        end();
    }
}
END_TEST

START_TEST(under_flush_no_store_to_a_table_faults_twice) {
    begin_policy(PN_POLICY_FLUSH, 0);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    for (unsigned level = 1; level <= 4; level++)
        ck_assert_int_eq(store_to(level), PN_MAPPED);
    uint64_t taken = stat(PN_STAT_pf_taken);
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned level = 1; level <= 4; level++)
            ck_assert_int_eq(store_to(level), PN_MAPPED);
        pn_mmu_set_cr3(f.vcpu, ROOT, false, NULL);
    }
    ck_assert_uint_eq(stat(PN_STAT_pf_taken), taken);
    ck_assert_uint_ge(stat(PN_STAT_mmu_sync), 12);
    end();
}
END_TEST

/* ---- Agile paging ---- */

/* Store what changes nothing to an entry that is not used. */
static enum pn_answer poke_table(unsigned level) {
    return poke(table_at(level) + 8 * 300, 0);
}

START_TEST(agile_leaves_a_table_to_the_guest_after_two_stores) {
    static const unsigned refs[] = {4, 8, 12, 16, 24}; /* the paper's, by nested levels */
    for (unsigned level = 0; level <= 4; level++) {
        begin_policy(PN_POLICY_AGILE, 0);
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
        for (unsigned k = 0; level && k < 2; k++)
            ck_assert_int_eq(poke_table(level), PN_TRACKED);
        if (level)
            ck_assert_int_eq(poke_table(level), PN_MAPPED);
        clean();
        uint64_t walks = stat(PN_STAT_agile_walks), native = stat(PN_STAT_agile_native);
        uint64_t before = stat(PN_STAT_agile_refs);
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
        ck_assert_uint_eq(stat(PN_STAT_agile_walks), walks + 1);
        ck_assert_uint_eq(stat(PN_STAT_agile_native), native + 4);
        ck_assert_uint_eq(stat(PN_STAT_agile_refs), before + refs[level]);
        end();
    }
}
END_TEST

START_TEST(agile_needs_no_hypervisor_under_the_guests_own_tables) {
    begin_policy(PN_POLICY_AGILE, 0);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_pf(0x6000, PN_READ, PN_TLB_USER, PN_PF_USER);
    ck_assert_uint_eq(stat(PN_STAT_agile_spared), 0);
    for (unsigned k = 0; k < 3; k++)
        poke_table(1);
    ck_pf(0x6000, PN_READ, PN_TLB_USER, PN_PF_USER);
    ck_assert_uint_eq(stat(PN_STAT_agile_spared), 1);
    ck_assert_int_eq(poke(gpte_at(ROOT, 0x6000, 1), (DATA + 0x1000) | P | U | A),
                     PN_MAPPED);
    ck_map(0x6000, PN_READ, PN_TLB_USER, DATA + 0x1000);
    ck_assert_uint_eq(stat(PN_STAT_agile_spared), 2);
    end();
}
END_TEST

START_TEST(agile_shadows_all_tables_again_after_an_interval) {
    begin_policy(PN_POLICY_AGILE, 0);
    end();
    opt.agile_interval = 20;
    begin(PN_MMU_SHADOW, MEM, 2 * MIB, 0);
    new_table();
    map_direct(ROOT);
    map(ROOT, 0x5000, DATA, P | W | U | A | D);
    paging(4, ROOT);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    for (unsigned k = 0; k < 3; k++)
        poke_table(2);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 2);
    while (stat(PN_STAT_tlb_miss) < 20)
        ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    ck_assert_uint_eq(stat(PN_STAT_mmu_unsync), 0);
    ck_assert_uint_eq(stat(PN_STAT_mmu_sync), 2);
    ck_assert_int_eq(poke_table(2), PN_TRACKED);
    end();
}
END_TEST

/* What is built below a table of the guest's is the guest's, too. */
START_TEST(agile_leaves_all_below_a_table_to_the_guest) {
    begin_policy(PN_POLICY_AGILE, 0);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    for (unsigned k = 0; k < 3; k++)
        poke_table(2);
    map(ROOT, 0x5000 + 2 * MIB, DATA, P | W | U | A | D);
    ck_map(0x5000 + 2 * MIB, PN_READ, PN_TLB_USER, DATA);
    uint64_t tracked = stat(PN_STAT_pf_tracked);
    ck_assert_int_eq(poke_table(1), PN_MAPPED);
    ck_assert_int_eq(poke(gpte_at(ROOT, 0x5000 + 2 * MIB, 1), DATA | P | U | A),
                     PN_MAPPED);
    ck_assert_uint_eq(stat(PN_STAT_pf_tracked), tracked);
    end();
}
END_TEST

/* ---- Stores that fill no tables ---- */

START_TEST(a_frame_that_is_no_table_any_more_is_unprotected_at_once) {
    begin_policy(PN_POLICY_KVM_7_3, 0);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA);
    pn_gpa pmd = gpte_at(ROOT, 0x5000, 2);
    ck_assert_int_eq(go(DIRECT + pmd, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
    uint64_t zapped = stat(PN_STAT_sp_zapped);
    flushes();
    ck_assert(pn_mmu_unprotect(f.vcpu, x.gpa));
    ck_assert_uint_eq(stat(PN_STAT_sp_zapped), zapped + 1);
    ck_assert_uint_eq(stat(PN_STAT_mmu_flooded), 0);
    ck_assert(!pn_mmu_unprotect(f.vcpu, x.gpa)); /* nothing is left of it */
    clean();
    ck_map(DIRECT + pmd, PN_WRITE, PN_TLB_SUPER, pmd);
    ck_assert_uint_eq(stat(PN_STAT_mmu_pte_write), 0);
    ck_map(0x5000, PN_READ, PN_TLB_USER, DATA); /* and a table again */
    ck_assert_int_eq(go(DIRECT + pmd, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
    end();
}
END_TEST

/* The table maps what is stored to: without it there is no way to the store. */
START_TEST(a_table_that_the_store_needs_comes_back) {
    begin_policy(PN_POLICY_KVM_7_3, 0);
    map(ROOT, 0x5000, gpte_at(ROOT, 0x5000, 2) & PN_PAGE_MASK, P | W | U | A | D);
    ck_assert_int_eq(go(0x5000, PN_WRITE, PN_TLB_USER), PN_TRACKED);
    ck_assert(pn_mmu_unprotect(f.vcpu, x.gpa));
    ck_assert_int_eq(go(0x5000, PN_WRITE, PN_TLB_USER), PN_TRACKED);
    clean();
    end();
}
END_TEST

START_TEST(code_is_no_table) {
    begin_policy(PN_POLICY_KVM_7_3, 0);
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, DATA >> 12), 0);
    ck_assert_int_eq(go(0x5000, PN_WRITE, PN_TLB_USER), PN_TRACKED);
    ck_assert(!pn_mmu_unprotect(f.vcpu, x.gpa));
    end();
    pn_mmu_options_default(&opt);
    begin(PN_MMU_TDP, MEM, 2 * MIB, 0);
    ck_assert(!pn_mmu_unprotect(f.vcpu, DATA));
    ck_assert(!pn_mmu_unprotect(f.vcpu, 1ull << 45));
    end();
}
END_TEST

SUITE("mmu policy", .timeout = 120,
      .tests = {the_newest_policy_is_the_default,
                invlpg_maps_what_was_mapped_until_6_3,
                a_write_fault_costs_as_many_flushes_as_under_each_kvm,
                what_no_access_used_has_no_a_to_lose,
                the_flushes_of_one_exit_are_one,
                a_flush_is_one_of_every_vcpus,
                tdp_sees_no_flush_of_the_guests,
                a_frame_that_is_no_table_any_more_is_unprotected_at_once,
                a_table_that_the_store_needs_comes_back,
                code_is_no_table,
                each_policy_lets_its_tables_go_out_of_sync,
                unsync_0_keeps_every_table_in_sync,
                a_fault_below_a_table_out_of_sync_syncs_all_in_xen_1,
                no_number_of_stores_makes_xen_2_forget_a_table,
                the_fourth_table_out_of_sync_syncs_the_first_in_xen_3,
                a_table_in_two_shadow_pages_stays_in_sync_in_xen_3,
                an_invlpg_brings_all_upper_tables_up_to_date,
                under_flush_no_store_to_a_table_faults_twice,
                agile_leaves_a_table_to_the_guest_after_two_stores,
                agile_needs_no_hypervisor_under_the_guests_own_tables,
                agile_leaves_all_below_a_table_to_the_guest,
                agile_shadows_all_tables_again_after_an_interval})
