/* SPDX-License-Identifier: MIT */
/* A small guest for the tests of mmu/: one slot of memory at 0, one vCPU. */
#pragma once

#include <check.h>

#include "mmu/core/internal.h"
#include "penumbra/mmu.h"

struct fixture {
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu;
    struct pn_tlb_view view;
    struct pn_stats stats;
    struct pn_ring ring;
    struct pn_event_rec rec[256];
    uint8_t *mem; /* gpa 0 .. size-1 */
    uint64_t size;
    struct { /* what on_track was told last, and how often */
        pn_gpa gpa;
        size_t size;
        unsigned calls;
    } track;
};

/* An MMU and a vCPU without memory. */
void fixture_create(struct fixture *f, enum pn_mmu_kind kind,
                    const struct pn_mmu_options *opt, uint8_t maxphyaddr);
/* The same with a TLB model and a tracker of written pages. */
void fixture_create_tlb(struct fixture *f, enum pn_mmu_kind kind,
                        const struct pn_mmu_options *opt, uint8_t maxphyaddr,
                        const struct pn_tlb_model *tlb, enum pn_dirty_tracker tracker);
extern const struct pn_nodes *fixture_nodes; /* of a model; NULL: none */
/* A TLB model for run n of a random test: none, tiny with everything, unbounded, without
 * tags. */
const struct pn_tlb_model *fixture_tlb(unsigned n);
/* A tracker for run n of a random test: one that this kind of MMU has. */
enum pn_dirty_tracker fixture_tracker(unsigned n);
/* A shadow MMU. size: bytes of slot 0. Aborts the test on failure. */
void fixture_init(struct fixture *f, uint8_t maxphyaddr, uint64_t size, uint32_t flags);
void fixture_free(struct fixture *f);

static inline uint64_t *fixture_q(struct fixture *f, pn_gpa gpa) {
    return (uint64_t *)(void *)(f->mem + gpa);
}
static inline uint32_t *fixture_d(struct fixture *f, pn_gpa gpa) {
    return (uint32_t *)(void *)(f->mem + gpa);
}

/* The control registers of a paging mode: 0 off, 2 32-bit with PSE, 3 PAE, 4, 5; all
 * with WP, and NXE where there is NX. */
struct pn_paging fixture_paging(unsigned levels, uint64_t cr3);

/* xorshift64*: the same numbers in every run. */
static inline uint64_t rnd(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}
