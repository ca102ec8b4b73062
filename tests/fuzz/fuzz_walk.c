/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the guest walk: the input is a paging mode, some memslots, the guest's tables
 * and a list of accesses. After each walk this must hold:
 *
 * 1. A probe and a walk with side effects agree, and a second walk agrees with the first.
 * 2. A fault and a probe leave memory as it was; a successful walk changes nothing but A
 *    and D bits, and only in gptes that it reports.
 * 3. What the walk reports is what is in memory, and every change is in the dirty log.
 * 4. The access is allowed by walk_check for the rights that the walk reports.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "input.h"
#include "mmu/core/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGES 16u
#define MEM   (PAGES * PN_PAGE_SIZE)
#define ROM   (PAGES << PN_PAGE_SHIFT) /* one read-only page right behind */

struct machine {
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu;
    struct pn_tlb_view view;
    struct pn_stats stats;
    uint8_t *mem; /* PAGES, then the ROM page */
    uint8_t before[MEM + PN_PAGE_SIZE];
    struct stage mode;
    uint8_t maxphyaddr;
};

static void machine_init(struct machine *m, struct input *in) {
    uint64_t bits = take(in, 8);
    struct pn_mmu_config cfg = {.maxphyaddr = (uint8_t)(36 + bits % 17)};
    pn_mmu_options_default(&cfg.opt);
    REQUIRE(pn_mmu_create(&cfg, &m->mmu) == 0);
    REQUIRE(pn_mmu_vcpu_create(m->mmu, &m->view, &m->stats, NULL, &m->vcpu) == 0);
    m->mem = mmap(NULL, MEM + PN_PAGE_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(m->mem != MAP_FAILED);
    struct pn_memslot ram = {0, PN_SLOT_LOG_DIRTY, 0, MEM, m->mem};
    struct pn_memslot rom = {1, PN_SLOT_READONLY, ROM, PN_PAGE_SIZE, m->mem + MEM};
    REQUIRE(pn_mmu_slot_set(m->mmu, &ram) == 0);
    REQUIRE(pn_mmu_slot_set(m->mmu, &rom) == 0);

    struct pn_paging p = {.cr0 = 1u << 31 | (bits >> 8 & 1) << 16,
                          .cr3 = take(in, 3),
                          .pkru = (uint32_t)take(in, 4),
                          .pkrs = (uint32_t)take(in, 4)};
    unsigned levels = 2 + (bits >> 16 & 3);
    p.cr4 = (levels > 2 ? 1u << 5 : 0) | (levels == 5 ? 1u << 12 : 0) |
            (bits >> 24 & 1) << 4 | (bits >> 25 & 7) << 20 | (bits >> 28 & 1) << 24;
    p.efer = (bits >> 32 & 1) << 11 | (levels >= 4 ? 1u << 10 : 0);
    for (unsigned i = 0; i < 4; i++)
        p.pdpte[i] = take(in, 3);
    stage_init(&m->mode, &p, cfg.maxphyaddr, 0);
    m->maxphyaddr = cfg.maxphyaddr;
    pn_mmu_set_paging(m->vcpu, &p);
}

/* Tables as a list of (where, what): a flat image would be zeros for most inputs. */
static void fill_tables(struct machine *m, struct input *in) {
    for (unsigned n = take(in, 1); n && in->size; n--) {
        uint16_t at = (uint16_t)take(in, 2);
        uint8_t how = (uint8_t)take(in, 1);
        uint64_t gpte = take(in, how & 1 ? 8 : 3);
        if (how & 2)
            gpte |= 7;
        if (how & 4) /* near the others */
            gpte &= ~0xfffff000ull | (PAGES * 2 - 1) << PN_PAGE_SHIFT;
        if (how & 8)
            gpte |= (uint64_t)how << 56;
        memcpy(m->mem + (at * 8u) % (MEM + PN_PAGE_SIZE), &gpte, 8);
    }
}

static bool in_memory(const struct machine *m, const struct walk *w, unsigned level) {
    return (m->mode.levels != 3 || level < 3) && w->pte_gpa[level] < MEM + PN_PAGE_SIZE;
}

/* Memory now against before: nothing but A and D, in the gptes of this walk. */
static void check_writes(struct machine *m, const struct walk *w) {
    unsigned width = m->mode.levels == 2 ? 4 : 8;
    uint64_t bitmap[1];
    for (unsigned l = w->top; l >= w->level; l--) {
        if (!in_memory(m, w, l))
            continue;
        uint64_t now = 0, was = 0;
        memcpy(&now, m->mem + w->pte_gpa[l], width);
        memcpy(&was, m->before + w->pte_gpa[l], width);
        REQUIRE((now ^ was) == (now & ~was & 0x60));
        REQUIRE(!((now ^ w->gpte[l]) & ~0x60ull)); /* a self-map may have gained more */
        memcpy(m->before + w->pte_gpa[l], &now, width);
        if (now != was)
            REQUIRE(w->pte_gpa[l] < MEM);
    }
    /* What differed is now equal; anything left was written elsewhere. */
    REQUIRE(!memcmp(m->before, m->mem, sizeof(m->before)));
    REQUIRE(pn_mmu_dirty_harvest(m->mmu, 0, bitmap, 1) >= 0);
}

static void check_dirty(struct machine *m) {
    uint64_t bitmap[1], changed = 0;
    for (unsigned page = 0; page < PAGES; page++)
        if (memcmp(m->before + page * PN_PAGE_SIZE, m->mem + page * PN_PAGE_SIZE,
                   PN_PAGE_SIZE))
            changed |= 1ull << page;
    REQUIRE(pn_mmu_dirty_harvest(m->mmu, 0, bitmap, 1) >= 0);
    REQUIRE(bitmap[0] == changed);
}

static void one_access(struct machine *m, struct input *in) {
    uint8_t how = (uint8_t)take(in, 1);
    enum pn_access access = how % 3;
    enum pn_tlb_mode mode = how / 3 % 3;
    pn_gva gva = take(in, how & 0x80 ? 8 : 4);
    struct walk probe, walk, again;

    memcpy(m->before, m->mem, sizeof(m->before));
    int rc = stage_walk(m->vcpu, &m->mode, gva, access, mode, WALK_PROBE, &probe);
    REQUIRE(!memcmp(m->before, m->mem, sizeof(m->before)));
    REQUIRE(stage_walk(m->vcpu, &m->mode, gva, access, mode, 0, &walk) == rc);
    REQUIRE(walk.level == probe.level && walk.top == probe.top);
    if (rc < 0) {
        REQUIRE(walk.fault.vector == 14 && walk.fault.address == gva);
        REQUIRE(walk.fault.error == probe.fault.error);
        REQUIRE(!memcmp(m->before, m->mem, sizeof(m->before)));
        return;
    }
    REQUIRE(walk.gfn == probe.gfn && walk.access == probe.access);
    REQUIRE(walk.gfn >> (m->maxphyaddr - 12) == 0 || m->mode.levels == 2);
    REQUIRE(walk.level >= 1 && walk.level <= 3);
    REQUIRE(rights_check(&m->mode.rights, walk.access, walk.pkey, access, mode) == 0);
    check_dirty(m);
    check_writes(m, &walk);
    REQUIRE(stage_walk(m->vcpu, &m->mode, gva, access, mode, 0, &again) == 0);
    REQUIRE(again.gfn == walk.gfn && again.dirty == walk.dirty);
    REQUIRE(!memcmp(m->before, m->mem, sizeof(m->before)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct machine m; /* too large for a fuzzer's stack */
    struct input in = {data, size};
    memset(&m, 0, sizeof(m));
    machine_init(&m, &in);
    fill_tables(&m, &in);
    for (unsigned i = 0; i < 64 && in.size; i++)
        one_access(&m, &in);
    pn_mmu_vcpu_destroy(m.vcpu);
    pn_mmu_destroy(m.mmu);
    munmap(m.mem, MEM + PN_PAGE_SIZE);
    return 0;
}
