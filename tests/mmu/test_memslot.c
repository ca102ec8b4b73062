/* SPDX-License-Identifier: MIT */
/* Memslots, guest-physical access and the dirty log, against a naive model. */
#include "fixture.h"
#include "tests/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES(n) ((uint64_t)(n)*PN_PAGE_SIZE)

static int set(struct fixture *f, uint32_t id, uint32_t flags, pn_gpa gpa, uint64_t size,
               void *hva) {
    struct pn_memslot s = {id, flags, gpa, size, hva};
    return pn_mmu_slot_set(f->mmu, &s);
}

static void *host(uint64_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

static void audit(struct fixture *f) {
    ck_assert_int_eq(slots_audit(&f->mmu->slots, stderr), 0);
}

START_TEST(bad_slots_are_refused_by_their_error) {
    struct fixture f;
    fixture_init(&f, 40, 0, 0);
    uint8_t *h = host(PAGES(16));
    const uint64_t top = 1ull << 40;
    ck_assert_int_eq(set(&f, PN_SLOTS_MAX, 0, 0, PAGES(1), h), -ENOSPC);
    ck_assert_int_eq(set(&f, UINT32_MAX, 0, 0, 0, h), -ENOSPC);
    ck_assert_int_eq(set(&f, 0, 0, 0, 0, h), -ENOENT);
    ck_assert_int_eq(set(&f, 0, 0, 1, PAGES(1), h), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, 0, PAGES(1) + 1, h), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, 0, PAGES(1), h + 8), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, 0, PAGES(1), NULL), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 4, 0, PAGES(1), h), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, top, PAGES(1), h), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, top - PAGES(1), PAGES(2), h), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, UINT64_MAX - 4095, PAGES(1), h), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, PAGES(1), UINT64_MAX - 4095, h), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, 0, PAGES(2), (void *)(UINTPTR_MAX - 4095)), -EINVAL);
    ck_assert_int_eq(set(&f, 0, 0, top - PAGES(1), PAGES(1), h), 0);
    ck_assert_uint_eq(f.mmu->slots.count, 1);
    ck_assert_uint_eq(f.mmu->slots.generation, 1);
    audit(&f);
    munmap(h, PAGES(16));
    fixture_free(&f);
}
END_TEST

START_TEST(slots_are_added_moved_and_deleted) {
    struct fixture f;
    fixture_init(&f, 40, 0, 0);
    uint8_t *h = host(PAGES(64));
    ck_assert_int_eq(set(&f, 1, 0, PAGES(10), PAGES(10), h), 0);
    ck_assert_int_eq(set(&f, 2, 0, PAGES(20), PAGES(10), h + PAGES(10)), 0);
    ck_assert_int_eq(set(&f, 3, 0, PAGES(9), PAGES(2), h), -EEXIST);
    ck_assert_int_eq(set(&f, 3, 0, PAGES(29), PAGES(1), h), -EEXIST);
    ck_assert_int_eq(set(&f, 3, 0, 0, PAGES(100), h), -EEXIST);
    ck_assert_int_eq(set(&f, 3, 0, PAGES(30), PAGES(1), h), 0);
    /* Nothing but place and log may change. */
    ck_assert_int_eq(set(&f, 1, 0, PAGES(10), PAGES(9), h), -EINVAL);
    ck_assert_int_eq(set(&f, 1, 0, PAGES(10), PAGES(10), h + PAGES(1)), -EINVAL);
    ck_assert_int_eq(set(&f, 1, PN_SLOT_READONLY, PAGES(10), PAGES(10), h), -EINVAL);
    uint64_t gen = f.mmu->slots.generation;
    ck_assert_int_eq(set(&f, 1, 0, PAGES(10), PAGES(10), h), 0);
    ck_assert_uint_eq(f.mmu->slots.generation, gen);
    /* Move: onto itself in part, not onto another. */
    ck_assert_int_eq(set(&f, 1, 0, PAGES(11), PAGES(10), h), -EEXIST);
    ck_assert_int_eq(set(&f, 1, 0, PAGES(5), PAGES(10), h), 0);
    ck_assert_ptr_null(pn_mmu_slot_find(f.mmu, PAGES(5) - 1));
    ck_assert_uint_eq(pn_mmu_slot_find(f.mmu, PAGES(5))->id, 1);
    ck_assert_uint_eq(pn_mmu_slot_find(f.mmu, PAGES(15) - 1)->id, 1);
    ck_assert_ptr_null(pn_mmu_slot_find(f.mmu, PAGES(15)));
    ck_assert_ptr_null(pn_mmu_slot_find(f.mmu, UINT64_MAX));
    audit(&f);
    ck_assert_int_eq(set(&f, 1, 0, 0, 0, NULL), 0);
    ck_assert_int_eq(set(&f, 1, 0, 0, 0, NULL), -ENOENT);
    ck_assert_ptr_null(pn_mmu_slot_find(f.mmu, PAGES(5)));
    ck_assert_uint_eq(pn_mmu_slot_find(f.mmu, PAGES(20))->id, 2);
    audit(&f);
    munmap(h, PAGES(64));
    fixture_free(&f);
}
END_TEST

/* Every slot that there may be, then look-ups in them and their end. */
START_TEST(every_slot_id_can_be_in_use) {
    struct fixture f;
    fixture_init(&f, 40, 0, 0);
    uint8_t *h = host(PAGES(1));
    uint64_t seed = 7;
    for (uint32_t i = 0; i < PN_SLOTS_MAX; i++) {
        uint32_t id = i * 5 % PN_SLOTS_MAX; /* 5 and 32764 have no common factor */
        ck_assert_int_eq(set(&f, id, 0, PAGES(2 * (uint64_t)id), PAGES(1), h), 0);
    }
    audit(&f);
    for (unsigned i = 0; i < 100000; i++) {
        pn_gfn gfn = rnd(&seed) % (2 * PN_SLOTS_MAX + 10);
        const struct pn_memslot *s = pn_mmu_slot_find(f.mmu, PAGES(gfn) + gfn % 4096);
        if (gfn % 2 || gfn / 2 >= PN_SLOTS_MAX)
            ck_assert_ptr_null(s);
        else
            ck_assert_uint_eq(s->id, gfn / 2);
    }
    for (uint32_t i = 0; i < PN_SLOTS_MAX; i++)
        ck_assert_int_eq(set(&f, i, 0, 0, 0, NULL), 0);
    ck_assert_uint_eq(f.mmu->slots.count, 0);
    audit(&f);
    munmap(h, PAGES(1));
    fixture_free(&f);
}
END_TEST

/* Random changes beside an array that holds, per page, the slot or nothing. */
START_TEST(random_changes_agree_with_an_array) {
    enum { SPACE = 400, IDS = 24 };
    struct fixture f;
    fixture_init(&f, 36, 0, 0);
    uint8_t *h = host(PAGES(64));
    int owner[SPACE];
    struct pn_memslot model[IDS] = {0};
    uint64_t seed = 42;
    for (int i = 0; i < SPACE; i++)
        owner[i] = -1;
    for (unsigned step = 0; step < 20000; step++) {
        uint32_t id = rnd(&seed) % IDS;
        struct pn_memslot s = {id, rnd(&seed) & 3, PAGES(rnd(&seed) % 350),
                               PAGES(1 + rnd(&seed) % 40), h};
        struct pn_memslot *old = &model[id];
        if (rnd(&seed) % 4 == 0)
            s.size = 0;
        else if (old->size && rnd(&seed) % 4)
            s.size = old->size, s.flags = (s.flags & 2) | (old->flags & 1);
        int want = 0;
        uint64_t first = s.gpa >> 12, pages = s.size >> 12;
        if (!s.size) {
            want = old->size ? 0 : -ENOENT;
        } else if (old->size && (s.size != old->size || (s.flags ^ old->flags) & 1)) {
            want = -EINVAL;
        } else {
            for (uint64_t p = first; p < first + pages; p++)
                if (owner[p] >= 0 && owner[p] != (int)id)
                    want = -EEXIST;
        }
        ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &s), want);
        if (!want) {
            for (int p = 0; p < SPACE; p++)
                if (owner[p] == (int)id)
                    owner[p] = -1;
            for (uint64_t p = first; p < first + pages; p++)
                owner[p] = (int)id;
            *old = s;
        }
        for (unsigned i = 0; i < 8; i++) {
            unsigned p = rnd(&seed) % SPACE;
            const struct pn_memslot *got = pn_mmu_slot_find(f.mmu, PAGES(p) + 5);
            ck_assert_int_eq(got ? (int)got->id : -1, owner[p]);
        }
        if (step % 64 == 0)
            audit(&f);
    }
    munmap(h, PAGES(64));
    fixture_free(&f);
}
END_TEST

START_TEST(large_frames_need_congruent_memory_without_tracking) {
    struct fixture f;
    fixture_init(&f, 40, 0, 0);
    const uint64_t mib2 = 2ull << 20, gib = 1ull << 30;
    uint8_t *raw = host(4 * gib);
    uint8_t *h = (uint8_t *)(((uintptr_t)raw + gib - 1) & ~(gib - 1));
    /* From 1 MiB to 2 GiB + 3 MiB, congruent with the host. */
    ck_assert_int_eq(set(&f, 0, 0, 1u << 20, 2 * gib + mib2, h + (1u << 20)), 0);
    struct slot *s = slot_of_gfn(f.mmu, 0x100);
    ck_assert_uint_eq(*slot_large(s, 0x100, 2), 1);
    ck_assert_uint_eq(*slot_large(s, 0x200, 2), 0);
    ck_assert_uint_eq(*slot_large(s, 0x80000, 2), 0);
    ck_assert_uint_eq(*slot_large(s, 0x80200, 2), 1);
    ck_assert_uint_eq(*slot_large(s, 0x100, 3), 1);
    ck_assert_uint_eq(*slot_large(s, 0x40000, 3), 0);
    ck_assert_uint_eq(*slot_large(s, 0x7ffff, 3), 0);
    ck_assert_uint_eq(*slot_large(s, 0x80000, 3), 1);
    /* Not congruent: no frame at all. */
    ck_assert_int_eq(set(&f, 1, 0, 4 * gib, 2 * mib2, h + PN_PAGE_SIZE), 0);
    s = slot_of_gfn(f.mmu, 4 * gib >> 12);
    ck_assert_uint_eq(*slot_large(s, 4 * gib >> 12, 2), 1);
    ck_assert_uint_eq(*slot_large(s, (4 * gib + mib2) >> 12, 2), 1);
    munmap(raw, 4 * gib);
    fixture_free(&f);
}
END_TEST

START_TEST(physical_access_stops_at_the_slots_end) {
    struct fixture f;
    fixture_init(&f, 40, PAGES(4), PN_SLOT_LOG_DIRTY);
    uint8_t *h = host(PAGES(8)), buf[PAGES(8)], back[PAGES(8)];
    ck_assert_int_eq(set(&f, 1, 0, PAGES(4), PAGES(2), h + PAGES(2)), 0);
    ck_assert_int_eq(set(&f, 2, PN_SLOT_READONLY, PAGES(6), PAGES(1), h), 0);
    uint64_t seed = 3;
    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)rnd(&seed);
    /* Across pages and slots, up to the read-only one. */
    ck_assert_uint_eq(pn_mmu_write_phys(f.mmu, 100, buf, PAGES(8)), PAGES(6) - 100);
    ck_assert_mem_eq(f.mem + 100, buf, PAGES(4) - 100);
    ck_assert_mem_eq(h + PAGES(2), buf + PAGES(4) - 100, PAGES(2));
    ck_assert_uint_eq(h[0], 0);
    ck_assert_uint_eq(pn_mmu_read_phys(f.mmu, 100, back, PAGES(8)), PAGES(7) - 100);
    ck_assert_mem_eq(back, buf, PAGES(6) - 100);
    ck_assert_uint_eq(pn_mmu_read_phys(f.mmu, PAGES(7), back, 1), 0);
    ck_assert_uint_eq(pn_mmu_write_phys(f.mmu, PAGES(6), back, 1), 0);
    ck_assert_uint_eq(pn_mmu_write_phys(f.mmu, UINT64_MAX - 3, back, 8), 0);
    ck_assert_uint_eq(pn_mmu_read_phys(f.mmu, UINT64_MAX - 3, back, 8), 0);
    ck_assert_uint_eq(pn_mmu_read_phys(f.mmu, 0, back, 0), 0);
    for (unsigned size = 1; size <= 16; size++)
        for (pn_gpa at = PAGES(1) - 16; at < PAGES(1) + 16; at++) {
            memset(f.mem, 0xee, PAGES(2));
            ck_assert_uint_eq(pn_mmu_write_phys(f.mmu, at, buf, size), size);
            ck_assert_mem_eq(f.mem + at, buf, size);
            ck_assert_uint_eq(f.mem[at - 1], 0xee);
            ck_assert_uint_eq(f.mem[at + size], 0xee);
        }
    munmap(h, PAGES(8));
    fixture_free(&f);
}
END_TEST

START_TEST(written_pages_are_in_one_harvest) {
    struct fixture f;
    fixture_init(&f, 40, PAGES(130), 0);
    uint64_t map[4], byte = 1;
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, map, 3), -ENOENT);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 9, map, 3), -ENOENT);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, UINT32_MAX, map, 3), -ENOENT);
    pn_mmu_write_phys(f.mmu, 0, &byte, 1);
    ck_assert_int_eq(set(&f, 0, PN_SLOT_LOG_DIRTY, 0, PAGES(130), f.mem), 0);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, map, 2), -ENOSPC);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, map, 3), 0);
    pn_mmu_write_phys(f.mmu, PAGES(1) - 1, &byte, 2);
    pn_mmu_write_phys(f.mmu, PAGES(129), &byte, 1);
    pn_mmu_write_phys(f.mmu, PAGES(64), &byte, 8);
    map[3] = 77;
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, map, 4), 4);
    ck_assert_uint_eq(map[0], 3);
    ck_assert_uint_eq(map[1], 1);
    ck_assert_uint_eq(map[2], 2);
    ck_assert_uint_eq(map[3], 77);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, map, 4), 0);
    ck_assert_uint_eq(map[0] | map[1] | map[2], 0);
    /* A move keeps the log. */
    pn_mmu_write_phys(f.mmu, PAGES(7), &byte, 1);
    ck_assert_int_eq(set(&f, 0, PN_SLOT_LOG_DIRTY, PAGES(500), PAGES(130), f.mem), 0);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, map, 4), 1);
    ck_assert_uint_eq(map[0], 1 << 7);
    audit(&f);
    ck_assert_int_eq(set(&f, 0, 0, PAGES(500), PAGES(130), f.mem), 0);
    ck_assert_int_eq(pn_mmu_dirty_harvest(f.mmu, 0, map, 4), -ENOENT);
    ck_assert_uint_eq(f.stats.v[PN_STAT_dirty_pages], 5);
    ck_assert_uint_eq(f.stats.v[PN_STAT_dirty_harvests], 4);
    audit(&f);
    fixture_free(&f);
}
END_TEST

SUITE("memslot", .timeout = 120,
      .tests = {bad_slots_are_refused_by_their_error, slots_are_added_moved_and_deleted,
                every_slot_id_can_be_in_use, random_changes_agree_with_an_array,
                large_frames_need_congruent_memory_without_tracking,
                physical_access_stops_at_the_slots_end, written_pages_are_in_one_harvest})
