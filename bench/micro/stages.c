/* SPDX-License-Identifier: MIT */
/*
 * The stages. Each checks by the MMU's own counters and answers that what was timed is what its name
 * says; a stage that met something else gives no figure.
 */
#include "bench/micro/micro.h"

#include <string.h>

#define WARM_PAGES (8u * 512) /* of eight leaf tables */
#define STRIDE     1031u      /* prime: pages in no order that anything foresees */

static void touch(struct rig *r, unsigned pages) {
    struct pn_xlate x;
    for (unsigned i = 0; i < pages; i++)
        rig_access(r, data_page(i), PN_READ, &x);
}

/* ---- A TLB miss that the tables answer ---- */

static unsigned misses(struct rig *r, unsigned pages, unsigned step) {
    uint64_t faults = r->stats.v[PN_STAT_pf_taken];
    struct pn_xlate x;
    for (unsigned i = 0, page = 0; i < pages; i++, page = (page + step) % pages)
        rig_access(r, data_page(page), PN_READ, &x);
    return r->stats.v[PN_STAT_pf_taken] == faults ? pages : 0;
}

static void warm(struct rig *r) {
    touch(r, WARM_PAGES);
}
static unsigned miss_run(struct rig *r) {
    return misses(r, WARM_PAGES, 1);
}
static void wide(struct rig *r) {
    touch(r, LEAVES * 512);
}
static unsigned miss_wide_run(struct rig *r) {
    return misses(r, LEAVES * 512, STRIDE);
}

/* ---- A fill that the guest does not know of ---- */

static void none_mapped(struct rig *r) {
    touch(r, WARM_PAGES); /* memory of the host's that the fills need is there */
    pn_mmu_zap_all(r->mmu);
}

static unsigned fills(struct rig *r, unsigned step) {
    uint64_t fixed = r->stats.v[PN_STAT_pf_fixed];
    struct pn_xlate x;
    for (unsigned page = 0; page < WARM_PAGES; page += step)
        rig_access(r, data_page(page), PN_READ, &x);
    fixed = r->stats.v[PN_STAT_pf_fixed] - fixed;
    unsigned wanted = WARM_PAGES / step; /* tdp: and those of references to tables */
    return fixed >= wanted && fixed <= wanted + wanted / 8 ? wanted : 0;
}

static unsigned fill_run(struct rig *r) {
    return fills(r, 1);
}
static unsigned fill_eight_run(struct rig *r) {
    return fills(r, 8);
}

/* ---- Writes to tables ---- */

static unsigned parity;

/* The first leaf table's mappings are there, and its page is watched. */
static void one_leaf(struct rig *r) {
    touch(r, 512);
    parity ^= 1;
}

static unsigned table_writes(struct rig *r, bool clear) {
    struct pn_xlate x;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t value = clear ? 0 : leaf_value(i, parity);
        if (rig_access(r, leaf_entry_gva(i), PN_WRITE, &x) != PN_TRACKED ||
            pn_mmu_vcpu_write(r->vcpu, x.gpa, &value, sizeof(value)) != sizeof(value))
            return 0;
    }
    return 512;
}

static unsigned write_run(struct rig *r) {
    return table_writes(r, false);
}

/* Only that the write is seen: half of the stage before. */
static unsigned write_seen_run(struct rig *r) {
    struct pn_xlate x;
    for (unsigned i = 0; i < 512; i++)
        if (rig_access(r, leaf_entry_gva(i), PN_WRITE, &x) != PN_TRACKED)
            return 0;
    return 512;
}

static void refilled(struct rig *r) {
    for (unsigned i = 0; i < 512; i++) {
        uint64_t value = leaf_value(i, false);
        pn_mmu_write_phys(r->mmu, leaf_entry(i), &value, sizeof(value));
    }
    touch(r, 512);
}

static unsigned clear_run(struct rig *r) {
    return table_writes(r, true);
}

/* ---- Unsync ---- */

/* No table is unsync, all are watched. */
static void all_synced(struct rig *r) {
    touch(r, LEAVES * 512);
    rig_set_cr3(r, ROOT_A);
}

static unsigned write_every_table(struct rig *r) {
    uint64_t gone = r->stats.v[PN_STAT_sp_unsync];
    struct pn_xlate x;
    for (unsigned i = 0; i < LEAVES; i++) {
        uint64_t value = leaf_value(i * 512, parity);
        if (rig_access(r, leaf_entry_gva(i * 512), PN_WRITE, &x) != PN_MAPPED)
            return 0;
        memcpy(x.hva, &value, sizeof(value));
    }
    return r->stats.v[PN_STAT_sp_unsync] - gone == LEAVES ? LEAVES : 0;
}

static void all_unsync(struct rig *r) {
    all_synced(r);
    parity ^= 1;
    write_every_table(r);
}

static unsigned sync_run(struct rig *r) {
    uint64_t synced = r->stats.v[PN_STAT_mmu_sync];
    rig_set_cr3(r, ROOT_A);
    return r->stats.v[PN_STAT_mmu_sync] - synced == LEAVES ? LEAVES : 0;
}

/* ---- Flushes ---- */

static void both_roots(struct rig *r) {
    rig_set_cr3(r, ROOT_B);
    touch(r, 512);
    rig_set_cr3(r, ROOT_A);
    touch(r, 512);
}

static unsigned cr3_run(struct rig *r) {
    for (unsigned i = 0; i < 256; i++) {
        rig_set_cr3(r, ROOT_B);
        rig_set_cr3(r, ROOT_A);
    }
    return 512;
}

static unsigned invlpg_run(struct rig *r) {
    for (unsigned i = 0; i < 512; i++)
        pn_mmu_invlpg(r->vcpu, data_page(i));
    return 512;
}

/* Of all tables, for each mapping in them. */
static unsigned zap_all_run(struct rig *r) {
    pn_mmu_zap_all(r->mmu);
    return WARM_PAGES;
}

#define PRICE_FAULT "cost-kvm.json: exit 1150 and shadow_fault 2000"
#define PRICE_WRITE "cost-kvm.json: exit 1150 and gpte_write 2500"

const struct stage stages[] = {
    {"tlb_miss", "a TLB miss that the tables answer, 8 leaf tables in order", KIND_BOTH,
     .goal_ns = 40, .prepare = warm, .run = miss_run},
    {"tlb_miss_wide", "the same, 64 leaf tables, pages in no order", KIND_BOTH,
     .prepare = wide, .run = miss_wide_run},
    {"hidden_fill", "a fault that maps one page, and the guest does not hear of",
     KIND_BOTH, .options = {"prefetch=0", "large_pages=0"}, .goal_ns = 350,
     .published = 3150, .source = PRICE_FAULT, .prepare = none_mapped, .run = fill_run},
    {"hidden_fill_8", "the same, and the seven pages beside it (prefetch)", KIND_SHADOW,
     .prepare = none_mapped, .run = fill_eight_run},
    {"gpte_write",
     "a store to a watched table entry, another frame: seen, done, followed", KIND_SHADOW,
     .options = {"unsync=0", "flood_threshold=0"}, .goal_ns = 250, .published = 3650,
     .source = PRICE_WRITE, .prepare = one_leaf, .run = write_run},
    {"gpte_write_seen", "of gpte_write: the fault that sees it", KIND_SHADOW,
     .options = {"unsync=0", "flood_threshold=0"}, .prepare = one_leaf,
     .run = write_seen_run},
    {"gpte_clear", "a store of 0 there: its mapping is zapped", KIND_SHADOW,
     .options = {"unsync=0", "flood_threshold=0"}, .prepare = refilled, .run = clear_run},
    {"unsync", "the first store to a leaf table, which goes unsync", KIND_SHADOW,
     .prepare = all_synced, .run = write_every_table},
    {"sync", "a load of CR3, for each unsync table, of which one entry changed",
     KIND_SHADOW, .published = 800, .source = "cost-kvm.json: gpte_sync",
     .prepare = all_unsync, .run = sync_run},
    {"cr3_load", "a load of CR3 whose root is known, nothing unsync", KIND_BOTH,
     .published = 1750,
     .source = "cost-kvm.json: exit 1150 and exit_cr3 600; none under EPT",
     .prepare = both_roots, .run = cr3_run},
    {"invlpg", "INVLPG of a page that is mapped", KIND_BOTH, .published = 2150,
     .source = "cost-kvm.json: exit 1150 and exit_inval 1000; none under EPT",
     .prepare = warm, .run = invlpg_run},
    {"zap_all", "all tables go, for each mapping", KIND_BOTH,
     .options = {"large_pages=0"}, .prepare = warm, .run = zap_all_run},
    {"block", "translating a block of 6 instructions, and running it once", KIND_BOTH,
     .cpu = true, .prepare = blocks_prepare, .run = blocks_run,
     .prepare_beside = blocks_prepare_again, .beside = blocks_again},
    {"flush", "the translation cache is full and dropped, with code of 8192 pages",
     KIND_BOTH, .goal_ns = 5e6, .cpu = true, .prepare = flush_prepare, .run = flush_run,
     .prepare_beside = blocks_prepare_again, .beside = flush_not},
};
const unsigned stage_count = sizeof(stages) / sizeof(stages[0]);
