/* SPDX-License-Identifier: MIT */
/* The option table, and the names and rings of src/base that the MMU emits into. */
#include "fixture.h"
#include "tests/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(an_option_takes_its_range_and_nothing_else) {
    struct pn_mmu_options o;
    pn_mmu_options_default(&o);
    ck_assert_uint_eq(o.unsync, 1);
    ck_assert_uint_eq(o.flood_threshold, 3);
    ck_assert_uint_eq(o.prefetch, 8);
    ck_assert_uint_eq(o.page_budget, 0);
    ck_assert_uint_eq(o.cached_roots, 15);
    ck_assert_int_eq(mmu_options_check(&o), 0);
    ck_assert_int_eq(pn_mmu_option_set(&o, "unsync=0"), 0);
    ck_assert_int_eq(pn_mmu_option_set(&o, "page_budget=0x100"), 0);
    ck_assert_uint_eq(o.unsync, 0);
    ck_assert_uint_eq(o.page_budget, 256);
    ck_assert_int_eq(pn_mmu_option_set(&o, "page_budget=0"), 0);
    ck_assert_uint_eq(o.page_budget, 0);
    static const struct {
        const char *text;
        int rc;
    } bad[] = {
        {"", -ENOENT},
        {"=", -ENOENT},
        {"nope=1", -ENOENT},
        {"unsyn=1", -ENOENT},
        {"unsync1=1", -ENOENT},
        {"unsync", -EINVAL},
        {"unsync=", -EINVAL},
        {"unsync=-1", -EINVAL},
        {"unsync= 1", -EINVAL},
        {"unsync=1x", -EINVAL},
        {"unsync=on", -EINVAL},
        {"unsync=2", -ERANGE},
        {"page_budget=63", -ERANGE},
        {"cached_roots=16", -ERANGE},
        {"prefetch=4294967296", -ERANGE},
        {"prefetch=99999999999999999999999", -ERANGE},
    };
    struct pn_mmu_options before = o;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(pn_mmu_option_set(&o, bad[i].text) == bad[i].rc, "%s", bad[i].text);
    ck_assert_mem_eq(&o, &before, sizeof(o));
    o.page_budget = 1;
    ck_assert_int_eq(mmu_options_check(&o), -EINVAL);
}
END_TEST

START_TEST(help_has_a_line_per_option) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    pn_mmu_options_print(out);
    fclose(out);
    unsigned lines = 0;
    for (char *p = text; *p; p++)
        lines += *p == '\n';
    ck_assert_uint_eq(lines, sizeof(struct pn_mmu_options) / sizeof(uint32_t));
    ck_assert_ptr_nonnull(strstr(text, "flood_threshold"));
    free(text);
}
END_TEST

START_TEST(every_counter_and_event_has_a_name) {
    for (int i = 0; i < PN_STAT_COUNT; i++) {
        ck_assert_uint_gt(strlen(pn_stat_name(i)), 0);
        ck_assert_uint_gt(strlen(pn_stat_doc(i)), 0);
    }
    for (int i = 0; i < PN_EV_COUNT; i++) {
        ck_assert_uint_gt(strlen(pn_event_name(i)), 0);
        ck_assert_uint_gt(strlen(pn_event_doc(i)), 0);
        unsigned fields = 1;
        for (const char *p = pn_event_fields(i); *p; p++)
            fields += *p == ' ';
        ck_assert_uint_le(fields, 6);
    }
    ck_assert_str_eq(pn_stat_name(PN_STAT_gpte_reads), "gpte_reads");
    ck_assert_str_eq(pn_event_name(PN_EV_tlb_flush), "tlb_flush");
    ck_assert_str_eq(pn_event_fields(PN_EV_invlpg), "gva:gva hex:pcid");
}
END_TEST

static void drain(struct pn_ring *ring) {
    ++*(unsigned *)ring->opaque;
    ring->count = 0;
}

START_TEST(a_full_ring_drains_and_counts_its_losses) {
    struct pn_event_rec rec[4];
    uint64_t limit = 1000;
    int64_t left = 100;
    unsigned drains = 0;
    struct pn_ring r = {
        .time = &limit, .behind = &left, .rec = rec, .size = 4, .vcpu = 3};
    pn_emit(&r, invlpg, 1, 2); /* masked */
    ck_assert_uint_eq(r.count, 0);
    r.mask = 1ull << PN_EV_invlpg;
    for (unsigned i = 0; i < 6; i++)
        pn_emit(&r, invlpg, i, 7);
    ck_assert_uint_eq(r.count, 4);
    ck_assert_uint_eq(r.lost, 2);
    ck_assert_uint_eq(rec[3].arg[0], 3);
    ck_assert_uint_eq(rec[3].arg[1], 7);
    ck_assert_uint_eq(rec[3].arg[2], 0);
    ck_assert_uint_eq(rec[3].time, 900);
    ck_assert_uint_eq(rec[3].vcpu, 3);
    ck_assert_uint_eq(rec[3].id, PN_EV_invlpg);
    r.drain = drain;
    r.opaque = &drains;
    r.time = NULL;
    r.behind = NULL;
    pn_emit(&r, invlpg, 9, 7);
    ck_assert_uint_eq(drains, 1);
    ck_assert_uint_eq(r.count, 1);
    ck_assert_uint_eq(rec[0].arg[0], 9);
    ck_assert_uint_eq(rec[0].time, 0);
    ck_assert_uint_eq(r.lost, 2);
    struct pn_ring *none = NULL;
    pn_emit(none, invlpg, 1, 2);
}
END_TEST

SUITE("options", .tests = {an_option_takes_its_range_and_nothing_else,
                           help_has_a_line_per_option, every_counter_and_event_has_a_name,
                           a_full_ring_drains_and_counts_its_losses})
