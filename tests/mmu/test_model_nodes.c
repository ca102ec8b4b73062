/* SPDX-License-Identifier: MIT */
/* Walks of the TLB model that leave a vCPU's NUMA node: which references do, by where the guest's tables
 * lie and by who had a shadow page or second-level table made. */
#include "guest.h"
#include "tests/suite.h"

#define HALF (32 * MIB) /* node 0 below, node 1 from here on */

static const struct pn_tlb_model none = {.name = "none", .pcid = true, .vpid = true};
static const struct pn_nodes two = {.range = {{0, HALF, 0}, {HALF, 2 * HALF, 1}},
                                    .ranges = 2,
                                    .cpus = {{0, 1}, {1, 2}},
                                    .count = 2};
static struct pn_tlb_view view;
static struct pn_stats stats;
static struct pn_mmu_vcpu *far; /* the second vCPU, on node 1 */

static void two_vcpus(enum pn_mmu_kind kind, const struct pn_nodes *nodes) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    opt.prefetch = 0;
    tlb = &none;
    fixture_nodes = nodes;
    stats = (struct pn_stats){0};
    begin(kind, 2 * HALF, PN_PAGE_SIZE, 0);
    ck_assert_int_eq(pn_mmu_vcpu_create(f.mmu, &view, &stats, NULL, &far), 0);
}

static void over(void) {
    pn_mmu_vcpu_destroy(far);
    end();
}

/* One load by each vCPU through tables under root, whose walks read `refs` entries: how many of
 * them are remote is what the counters say from here on. */
static void load_of(struct pn_mmu_vcpu *vcpu, pn_gpa root, unsigned refs) {
    struct pn_paging p = fixture_paging(4, root);
    pn_mmu_set_paging(vcpu, &p);
    for (unsigned i = 0; i < 2; i++) { /* the first may make tables */
        memset(vcpu->stats, 0, sizeof(*vcpu->stats));
        ck_assert_int_eq(
            pn_answer(pn_mmu_translate(vcpu, GVA, PN_READ, PN_TLB_SUPER, &x)), PN_MAPPED);
    }
    ck_assert_uint_eq(vcpu->stats->v[PN_STAT_model_refs], refs);
}

#define ck_remote(vcpu, guest, table)                                                    \
    do {                                                                                 \
        ck_assert_uint_eq((vcpu)->stats->v[PN_STAT_model_guest_remote], guest);          \
        ck_assert_uint_eq((vcpu)->stats->v[PN_STAT_model_table_remote], table);          \
    } while (0)

/* Tables for GVA from `at` on. */
static pn_gpa tables_at(pn_gpa at) {
    next_table = at;
    return map_page(4, 1, 0, GVA, at + MIB, P | W | A | D);
}

START_TEST(what_the_other_node_has_is_remote_under_tdp) {
    two_vcpus(PN_MMU_TDP, &two);
    pn_gpa near_root = tables_at(ROOT), far_root = tables_at(HALF);
    load_of(f.vcpu, near_root, 24);
    ck_remote(f.vcpu, 0, 0);
    /* All of it was made by the first vCPU, and lies with it. */
    load_of(far, near_root, 24);
    ck_remote(far, 4, 20);
    /* Other frames of the same 2 MiB's: tables of the second level for the far half are made by who
     * comes first, and the two uppermost, which map 512 GiB and 1 GiB, were there. */
    load_of(far, far_root, 24);
    ck_remote(far, 0, 5 * 3);
    load_of(f.vcpu, far_root, 24);
    ck_remote(f.vcpu, 4, 5);
    over();
}
END_TEST

START_TEST(a_shadow_page_is_where_it_was_made) {
    two_vcpus(PN_MMU_SHADOW, &two);
    pn_gpa root = tables_at(HALF), own = tables_at(HALF + 8 * MIB);
    load_of(f.vcpu, root, 4);
    ck_remote(f.vcpu, 0, 0); /* wherever the guest has its own */
    load_of(far, root, 4);
    ck_remote(far, 0, 4);
    load_of(far, own, 4);
    ck_remote(far, 0, 0);
    load_of(f.vcpu, own, 4);
    ck_remote(f.vcpu, 0, 4);
    over();
}
END_TEST

START_TEST(without_nodes_nothing_is_remote) {
    for (enum pn_mmu_kind kind = PN_MMU_SHADOW; kind <= PN_MMU_TDP; kind++) {
        two_vcpus(kind, NULL);
        pn_gpa root = tables_at(HALF);
        load_of(f.vcpu, root, kind == PN_MMU_TDP ? 24 : 4);
        load_of(far, root, kind == PN_MMU_TDP ? 24 : 4);
        ck_remote(far, 0, 0);
        over();
    }
}
END_TEST

START_TEST(a_remote_reference_has_its_price) {
    struct pn_cost_profile p = {
        .name = "test", .hz = 1e9, .price[PN_COST_remote_ref] = 15};
    struct pn_stats s = {0};
    s.v[PN_STAT_model_guest_remote] = 4;
    s.v[PN_STAT_model_table_remote] = 20;
    ck_assert_double_eq(pn_cost_cycles(&p, &s, 0, NULL), 24 * 15);
}
END_TEST

SUITE("model.nodes",
      .tests = {what_the_other_node_has_is_remote_under_tdp,
                a_shadow_page_is_where_it_was_made, without_nodes_nothing_is_remote,
                a_remote_reference_has_its_price})
