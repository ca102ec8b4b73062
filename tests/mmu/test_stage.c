/* SPDX-License-Identifier: MIT */
/*
 * Stages over stages: a nested guest's tables over its hypervisor's EPT over our second
 * level, all by the one walk. What is right is written here from SDM volume 3, "The
 * Extended Page Table Mechanism (EPT)", not from formats.inc.
 */
#include <string.h>

#include "guest.h"
#include "tests/suite.h"

/* The nested guest's frame k is the hypervisor's frame k + SHIFT. */
#define SHIFT    0x100u
#define FRAMES   0x40u
#define L2_ROOT  0x1000u /* of the nested guest's tables, in its own memory */
#define L2_GVA   0x7f1234567000ull
#define L2_FRAME 0x20u
#define EPT_ROOT (2 * MIB)

#define R_ 1ull
#define W_ 2ull
#define X_ 4ull
#define WB (6ull << 3)
#define EA (1ull << 8)
#define ED (1ull << 9)

static struct stage ept, nested;

/* The EPT entry of the nested guest's address at a level; upper levels are made. */
static uint64_t *ept_entry(pn_gpa l2, unsigned level) {
    pn_gpa table = EPT_ROOT;
    for (unsigned l = 4;; l--) {
        uint64_t *e = fixture_q(&f, table + 8 * (l2 >> (12 + 9 * (l - 1)) & 511));
        if (l == level)
            return e;
        if (!*e)
            *e = new_table() | R_ | W_ | X_;
        table = *e & ~0xfffull;
    }
}

/* A nested guest with one page at L2_GVA, over EPT with these features, over our tables.
 */
static void start(unsigned features) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    begin(PN_MMU_TDP, 16 * MIB, 2 * MIB, 0);
    next_table = EPT_ROOT + PN_PAGE_SIZE;
    for (unsigned k = 0; k < FRAMES; k++)
        *ept_entry((pn_gpa)k << 12, 1) = (pn_gpa)(k + SHIFT) << 12 | R_ | W_ | X_ | WB;
    for (unsigned level = 4; level; level--) { /* table of level l: frame 5 - l */
        pn_gpa table = L2_ROOT + (4 - level) * PN_PAGE_SIZE;
        pn_gpa to = level > 1 ? table + PN_PAGE_SIZE : (pn_gpa)L2_FRAME << 12;
        unsigned i = L2_GVA >> (12 + 9 * (level - 1)) & 511;
        *fixture_q(&f, SHIFT * PN_PAGE_SIZE + table + 8 * i) = to | P | W | U | A | D;
    }
    stage_init_second(&ept, PT_FORMAT_ept4, features, 46, EPT_ROOT, f.vcpu->walk.below);
    struct pn_paging p = fixture_paging(4, L2_ROOT);
    stage_init(&nested, &p, 46, 0);
    nested.below = &ept;
}

static int walk_l2(enum pn_access access, struct walk *w) {
    *w = (struct walk){.gva = L2_GVA};
    return stage_walk(f.vcpu, &nested, L2_GVA, access, PN_TLB_USER, 0, w);
}

/* The page itself, through our own stage: the walk went through the second level. */
static struct ref page_of(struct walk *w) {
    w->refs = 0;
    struct ref at = ept.below->read(f.vcpu, ept.below, w, w->gfn << PN_PAGE_SHIFT, 0);
    count_packed(f.vcpu->stats, w->refs);
    return at;
}

static uint64_t references(void) {
    return stat(PN_STAT_gpte_reads) + stat(PN_STAT_npte_reads) + stat(PN_STAT_walk_refs);
}

START_TEST(three_stages_of_four_levels_read_124_entries_cold) {
    struct walk w;
    start(0);
    ck_assert_int_eq(walk_l2(PN_READ, &w), 0); /* our own tables are made on the way */
    page_of(&w);
    uint64_t before = references();
    ck_assert_int_eq(walk_l2(PN_READ, &w), 0);
    struct ref at = page_of(&w);
    ck_assert_uint_eq(references() - before, 124);
    ck_assert_uint_eq(w.second_gfn, L2_FRAME);
    ck_assert_uint_eq(w.gfn, L2_FRAME + SHIFT);
    ck_assert_uint_eq(at.gpa, (L2_FRAME + SHIFT) << 12);
    ck_assert_ptr_eq(at.host, f.mem + at.gpa);
    end();
}
END_TEST

START_TEST(a_walk_says_where_its_entries_are_at_both_ends) {
    struct walk w;
    start(0);
    ck_assert_int_eq(walk_l2(PN_READ, &w), 0);
    for (unsigned level = 1; level <= 4; level++) {
        ck_assert_uint_eq(w.pte_gpa[level] >> 12, 5 - level);
        ck_assert_uint_eq(w.slot_gpa[level], w.pte_gpa[level] + SHIFT * PN_PAGE_SIZE);
    }
    end();
}
END_TEST

START_TEST(a_table_that_the_second_level_hides_ends_the_walk_below) {
    struct walk w;
    for (unsigned level = 1; level <= 4; level++) {
        start(0);
        *ept_entry((pn_gpa)(5 - level) << 12, 1) = 0;
        ck_assert_int_eq(walk_l2(PN_READ, &w), -1);
        ck_assert_int_eq(w.end, WALK_BELOW);
        ck_assert_uint_eq(w.level, level);
        end();
    }
}
END_TEST

START_TEST(setting_a_guest_bit_needs_the_right_to_write_its_table) {
    struct walk w;
    start(0);
    pn_gpa gpte = SHIFT * PN_PAGE_SIZE + 4 * PN_PAGE_SIZE + 8 * (L2_GVA >> 12 & 511);
    *fixture_q(&f, gpte) &= ~D;
    *ept_entry(4 << 12, 1) &= ~W_;
    ck_assert_int_eq(walk_l2(PN_READ, &w), 0);
    ck_assert_int_eq(walk_l2(PN_WRITE, &w), -1);
    ck_assert_int_eq(w.end, WALK_BELOW);
    ck_assert_uint_eq(*fixture_q(&f, gpte) & D, 0);
    *ept_entry(4 << 12, 1) |= W_;
    ck_assert_int_eq(walk_l2(PN_WRITE, &w), 0);
    ck_assert_uint_eq(*fixture_q(&f, gpte) & D, D);
    end();
}
END_TEST

/* Without the walk's help: what SDM says of R, W and X of one leaf. */
static enum walk_end judge(unsigned rwx, enum pn_access access) {
    static const unsigned needs[] = {[PN_READ] = 1, [PN_WRITE] = 2, [PN_FETCH] = 4};
    if (!rwx)
        return WALK_ABSENT;
    if ((rwx & 3) == 2)
        return WALK_RESERVED; /* a misconfiguration: writable, but not readable */
    return rwx & needs[access] ? WALK_MAPPED : WALK_DENIED;
}

START_TEST(second_level_rights_are_read_write_and_execute) {
    struct walk w;
    start(0);
    for (unsigned rwx = 0; rwx < 8; rwx++)
        for (int access = PN_READ; access <= PN_FETCH; access++)
            for (int mode = 0; mode < PN_TLB_MODES; mode++) {
                *ept_entry(0x5000, 1) = 0x105000 | rwx | WB;
                w = (struct walk){.gva = 0x5000};
                stage_walk(f.vcpu, &ept, 0x5000, access, mode, 0, &w);
                ck_assert_int_eq(w.end, judge(rwx, access));
            }
    end();
}
END_TEST

START_TEST(nested_paging_checks_every_access_as_a_user_access) {
    struct walk w;
    start(0);
    stage_init_second(&ept, PT_FORMAT_long4, PT_NX | PT_1G | PT_AD, 46, L2_ROOT,
                      f.vcpu->walk.below);
    pn_gpa at = 0;
    for (unsigned level = 4; level; level--) {
        at = L2_ROOT + (4 - level) * PN_PAGE_SIZE +
             8 * (0x5000ull >> (12 + 9 * (level - 1)) & 511);
        *fixture_q(&f, at) = (L2_ROOT + (5 - level) * PN_PAGE_SIZE) | P | W | U;
    }
    for (unsigned bits = 0; bits < 8; bits++)
        for (int access = PN_READ; access <= PN_FETCH; access++) {
            bool w_ = bits & 1, u = bits & 2, nx = bits & 4;
            *fixture_q(&f, at) =
                0x9000 | P | (w_ ? W : 0) | (u ? U : 0) | (nx ? 1ull << 63 : 0);
            bool ok = u && (access != PN_WRITE || w_) && (access != PN_FETCH || !nx);
            w = (struct walk){.gva = 0x5000};
            stage_walk(f.vcpu, &ept, 0x5000, access, PN_TLB_USER, 0, &w);
            ck_assert_int_eq(w.end, ok ? WALK_MAPPED : WALK_DENIED);
        }
    end();
}
END_TEST

static enum walk_end end_of(uint64_t entry, unsigned level) {
    struct walk w = {.gva = 0x800000};
    *ept_entry(0x800000, level) = entry;
    stage_walk(f.vcpu, &ept, 0x800000, PN_READ, PN_TLB_USER, 0, &w);
    return w.end;
}

START_TEST(reserved_memory_types_and_address_bits_are_misconfigurations) {
    start(PT_1G);
    for (uint64_t type = 0; type < 8; type++) {
        bool odd = type == 2 || type == 3 || type == 7;
        ck_assert_int_eq(end_of(0x105000 | R_ | type << 3, 1),
                         odd ? WALK_RESERVED : WALK_MAPPED);
    }
    for (unsigned bit = 12; bit < 52; bit++)
        ck_assert_int_eq(end_of(1ull << bit | R_ | WB, 1),
                         bit >= 46 ? WALK_RESERVED : WALK_MAPPED);
    for (unsigned bit = 12; bit < 24; bit++)
        ck_assert_int_eq(end_of(1ull << bit | R_ | WB | 0x80, 2),
                         bit < 21 ? WALK_RESERVED : WALK_MAPPED);
    for (unsigned bit = 3; bit < 7; bit++) /* of an entry that leads to a table */
        ck_assert_int_eq(end_of(0x600000 | R_ | 1ull << bit, 2), WALK_RESERVED);
    ck_assert_int_eq(end_of(0x40000000 | R_ | WB | 0x80, 3), WALK_MAPPED);
    ck_assert_int_eq(end_of(R_ | W_ | X_ | 0x80, 4), WALK_RESERVED);
    pt_bits_init(&ept.bits, &pt_formats[PT_FORMAT_ept4], 0, 46);
    *ept_entry(0x800000, 4) = EPT_ROOT + PN_PAGE_SIZE + (R_ | W_ | X_);
    ck_assert_int_eq(end_of(0x40000000 | R_ | WB | 0x80, 3), WALK_RESERVED);
    end();
}
END_TEST

START_TEST(accessed_and_dirty_are_set_in_the_second_level_only_when_it_has_them) {
    struct walk w;
    for (unsigned ad = 0; ad < 2; ad++) {
        start(ad ? PT_AD : 0);
        w = (struct walk){.gva = 0x5000};
        ck_assert_int_eq(stage_walk(f.vcpu, &ept, 0x5000, PN_WRITE, PN_TLB_USER, 0, &w),
                         0);
        for (unsigned level = 1; level <= 4; level++) {
            uint64_t want = !ad ? 0 : level == 1 ? EA | ED : EA;
            ck_assert_uint_eq(*ept_entry(0x5000, level) & (EA | ED), want);
        }
        ck_assert_int_eq(w.dirty, ad);
        end();
    }
}
END_TEST

START_TEST(a_probe_of_three_stages_changes_nothing) {
    struct walk w = {.gva = L2_GVA};
    start(PT_AD);
    uint64_t reads = stat(PN_STAT_gpte_reads), refs = stat(PN_STAT_walk_refs);
    uint8_t *copy = malloc(f.size = 16 * MIB);
    memcpy(copy, f.mem, 16 * MIB);
    ck_assert_int_eq(
        stage_walk(f.vcpu, &nested, L2_GVA, PN_WRITE, PN_TLB_USER, WALK_PROBE, &w), 0);
    ck_assert_uint_eq(w.gfn, L2_FRAME + SHIFT);
    ck_assert(!memcmp(copy, f.mem, 16 * MIB));
    ck_assert_uint_eq(stat(PN_STAT_gpte_reads), reads);
    ck_assert_uint_eq(stat(PN_STAT_walk_refs), refs);
    free(copy);
    end();
}
END_TEST

SUITE("stages", .timeout = 120,
      .tests = {three_stages_of_four_levels_read_124_entries_cold,
                a_walk_says_where_its_entries_are_at_both_ends,
                a_table_that_the_second_level_hides_ends_the_walk_below,
                setting_a_guest_bit_needs_the_right_to_write_its_table,
                second_level_rights_are_read_write_and_execute,
                nested_paging_checks_every_access_as_a_user_access,
                reserved_memory_types_and_address_bits_are_misconfigurations,
                accessed_and_dirty_are_set_in_the_second_level_only_when_it_has_them,
                a_probe_of_three_stages_changes_nothing})
