/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void on_track(void *opaque, pn_gpa gpa, size_t size) {
    struct fixture *f = opaque;
    f->track.gpa = gpa;
    f->track.size = size;
    f->track.calls++;
}

void fixture_create(struct fixture *f, enum pn_mmu_kind kind,
                    const struct pn_mmu_options *opt, uint8_t maxphyaddr) {
    fixture_create_tlb(f, kind, opt, maxphyaddr, NULL, PN_TRACKER_OFF);
}

const struct pn_nodes *fixture_nodes;

void fixture_create_tlb(struct fixture *f, enum pn_mmu_kind kind,
                        const struct pn_mmu_options *opt, uint8_t maxphyaddr,
                        const struct pn_tlb_model *tlb, enum pn_dirty_tracker tracker) {
    memset(f, 0, sizeof(*f));
    struct pn_mmu_config cfg = {.kind = kind,
                                .opt = *opt,
                                .maxphyaddr = maxphyaddr,
                                .tlb = tlb,
                                .nodes = fixture_nodes,
                                .tracker = tracker,
                                .on_track = on_track,
                                .opaque = f};
    ck_assert_int_eq(pn_mmu_create(&cfg, &f->mmu), 0);
    f->ring.rec = f->rec;
    f->ring.size = sizeof(f->rec) / sizeof(f->rec[0]);
    ck_assert_int_eq(pn_mmu_vcpu_create(f->mmu, &f->view, &f->stats, &f->ring, &f->vcpu),
                     0);
}

#define ARRAY(n, w, how, sizes)                                                          \
    { .entries = (n), .ways = (w), .replace = (how), .pages = (sizes) }
#define ALL (PN_PAGES_4K | PN_PAGES_2M | PN_PAGES_1G)

const struct pn_tlb_model *fixture_tlb(unsigned n) {
    static const struct pn_tlb_model
        tiny = {.l1i.array = {ARRAY(4, 2, PN_REPLACE_LRU, ALL)},
                .l1d.array = {ARRAY(8, 2, PN_REPLACE_PLRU, PN_PAGES_4K),
                              ARRAY(2, 2, PN_REPLACE_LRU, PN_PAGES_2M)},
                .l2.array = {ARRAY(16, 4, PN_REPLACE_LRU, PN_PAGES_4K | PN_PAGES_2M)},
                .walk = {[2] = ARRAY(4, 4, 0, 0), [3] = ARRAY(2, 2, 0, 0)},
                .second_walk = {[2] = ARRAY(2, 2, 0, 0), [4] = ARRAY(1, 1, 0, 0)},
                .nested = ARRAY(4, 4, PN_REPLACE_FIFO, 0),
                .pcid = true,
                .vpid = true},
        endless = {.l1i.array = {ARRAY(PN_ARRAY_UNBOUNDED, 0, 0, ALL)},
                   .l1d.array = {ARRAY(PN_ARRAY_UNBOUNDED, 0, 0, ALL)},
                   .walk = {[2] = ARRAY(PN_ARRAY_UNBOUNDED, 0, 0, 0)},
                   .nested = ARRAY(PN_ARRAY_UNBOUNDED, 0, 0, 0),
                   .pcid = true,
                   .vpid = true},
        untagged = {.l1d.array = {ARRAY(64, 4, PN_REPLACE_FIFO, ALL)}};
    static const struct pn_tlb_model *const all[] = {NULL, &tiny, &endless, &untagged};
    return all[n % 4];
}

void fixture_init(struct fixture *f, uint8_t maxphyaddr, uint64_t size, uint32_t flags) {
    struct pn_mmu_options opt;
    pn_mmu_options_default(&opt);
    fixture_create(f, PN_MMU_SHADOW, &opt, maxphyaddr);
    f->size = size;
    if (!size)
        return;
    f->mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(f->mem, MAP_FAILED);
    struct pn_memslot slot = {.flags = flags, .size = size, .hva = f->mem};
    ck_assert_int_eq(pn_mmu_slot_set(f->mmu, &slot), 0);
}

void fixture_free(struct fixture *f) {
    pn_mmu_vcpu_destroy(f->vcpu);
    pn_mmu_destroy(f->mmu);
    if (f->mem)
        munmap(f->mem, f->size);
}

struct pn_paging fixture_paging(unsigned levels, uint64_t cr3) {
    struct pn_paging p = {.cr0 = 1, .cr3 = cr3};
    if (levels)
        p.cr0 |= 1ull << 31 | 1ull << 16;
    if (levels == 2)
        p.cr4 |= 1u << 4;
    if (levels >= 3) {
        p.cr4 |= 1u << 5;
        p.efer |= 1u << 11;
    }
    if (levels >= 4)
        p.efer |= 1u << 8 | 1u << 10;
    if (levels == 5)
        p.cr4 |= 1u << 12;
    return p;
}

enum pn_dirty_tracker fixture_tracker(unsigned n) {
    static const enum pn_dirty_tracker has[] = {
        PN_TRACKER_WP,  PN_TRACKER_DBIT,  PN_TRACKER_RING,   PN_TRACKER_PIECES,
        PN_TRACKER_PML, PN_TRACKER_HDBSS, PN_TRACKER_FRAMES, PN_TRACKER_ACCESSED};
    return has[n % 8];
}
