/* SPDX-License-Identifier: MIT */
/* The dirty log of pieces of 128 bytes: what was stored to is named, and nothing else. */
#include "guest.h"
#include "tests/suite.h"

#define PAGES  16u
#define ROUNDS 200u
#define STORES 60u

static uint64_t bitmap[MEM / PN_PAGE_SIZE / 64];
static uint32_t want[PAGES]; /* the pieces that were stored to */

static void begin_logged(enum pn_mmu_kind kind) {
    pn_mmu_options_default(&opt);
    tracker = PN_TRACKER_PIECES;
    begin(kind, MEM, 2 * MIB, PN_SLOT_LOG_DIRTY);
    pn_gpa root = 0;
    for (unsigned i = 0; i < PAGES; i++)
        root = map_page(4, 1, root, GVA + i * PN_PAGE_SIZE, DATA + i * PN_PAGE_SIZE,
                        P | W | A | D);
    paging(4, root);
    memset(want, 0, sizeof(want));
    pn_mmu_dirty_harvest(f.mmu, 0, bitmap, sizeof(bitmap) / 8);
}

static void note(uint64_t at, size_t size) {
    for (size_t i = 0; i < size; i++)
        want[(at + i) / PN_PAGE_SIZE] |= 1u << (at + i) % PN_PAGE_SIZE / PN_PIECE_SIZE;
}

static void harvest(void) {
    ck_assert_int_ge(pn_mmu_dirty_harvest(f.mmu, 0, bitmap, sizeof(bitmap) / 8), 0);
    clean();
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t page = DATA / PN_PAGE_SIZE + i;
        ck_assert_int_eq(bitmap[page / 64] >> page % 64 & 1, want[i] != 0);
        if (want[i])
            ck_assert_uint_eq(pn_mmu_dirty_pieces(f.mmu, 0, page), want[i]);
        want[i] = 0;
    }
}

/* Of vCPUs, which may lie in two pieces, and of devices, of any length; reads between them. */
static void random_stores(enum pn_mmu_kind kind) {
    static uint8_t bytes[2 * PN_PAGE_SIZE];
    begin_logged(kind);
    srand(1);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned n = (unsigned)rand() % STORES; n; n--) {
            uint64_t at = (uint64_t)rand() % (PAGES * PN_PAGE_SIZE),
                     in = at % PN_PAGE_SIZE;
            size_t size = 1 + (size_t)rand() % (PAGES * PN_PAGE_SIZE - at);
            if (rand() % 8 == 0) {
                size = size > sizeof(bytes) ? sizeof(bytes) : size;
                pn_mmu_write_phys(f.mmu, DATA + at, bytes, size);
                note(at, size);
            } else if (rand() % 2 || in > PN_PAGE_SIZE - 8) {
                ck_assert_int_eq(go(GVA + at, PN_READ, PN_TLB_SUPER), PN_MAPPED);
            } else {
                store(GVA + at, round);
                note(at, 8);
            }
        }
        harvest();
    }
    end();
}

START_TEST(pieces_are_those_that_were_stored_to_under_shadow) {
    random_stores(PN_MMU_SHADOW);
}
END_TEST
START_TEST(pieces_are_those_that_were_stored_to_under_tdp) {
    random_stores(PN_MMU_TDP);
}
END_TEST

/* Until then every store is seen. */
static void complete(enum pn_mmu_kind kind) {
    begin_logged(kind);
    for (unsigned i = 0; i < 32; i++) {
        ck_assert(!hit(GVA, PN_WRITE, PN_TLB_SUPER));
        ck_assert_int_eq(store(GVA + i * PN_PIECE_SIZE, i), PN_TRACKED);
    }
    ck_assert_uint_eq(stat(PN_STAT_pf_dirty_log), 1);
    ck_assert_int_eq(store(GVA, 1), PN_MAPPED);
    ck_assert(hit(GVA, PN_WRITE, PN_TLB_SUPER));
    want[0] = UINT32_MAX;
    harvest();
    ck_assert(!hit(GVA, PN_WRITE, PN_TLB_SUPER));
    ck_assert_uint_ge(stat(PN_STAT_dirty_pieces), 32);
    ck_assert_uint_eq(pn_mmu_dirty_pieces(f.mmu, 1, 0), 0);
    ck_assert_uint_eq(pn_mmu_dirty_pieces(f.mmu, 0, MEM / PN_PAGE_SIZE), 0);
    end();
}

START_TEST(a_page_whose_pieces_are_all_stored_to_takes_stores_unseen) {
    complete(PN_MMU_SHADOW);
    complete(PN_MMU_TDP);
}
END_TEST

SUITE("pieces", .tests = {pieces_are_those_that_were_stored_to_under_shadow,
                          pieces_are_those_that_were_stored_to_under_tdp,
                          a_page_whose_pieces_are_all_stored_to_takes_stores_unseen})
