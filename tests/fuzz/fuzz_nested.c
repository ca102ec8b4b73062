/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes walks of three stages: the input is a guest's tables, tables of a second level in the same
 * memory (EPT of 4 and 5 levels, NPT of each format), and what a hypervisor and its guest do:
 * worlds, invalidations, edits, accesses. Three MMUs run it side by side: shadow, tdp, and tdp with
 * merged second levels. The audit holds, and besides it:
 *
 * 1. After each thing done and an invalidation of all, the three answer an access alike, and as a
 *    direct walk does: MAPPED, MMIO or a fault, with its vector, error code and addresses.
 * 2. A host address lies in the memory of a slot, and is the one that the slot has for the gpa.
 * 3. The memories of the three are equal at the end: A and D are set where they were.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "input.h"
#include "mmu/core/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SHADOW, TDP, MERGED, MMUS };
#define PAGES 64u
#define MEM   (PAGES * PN_PAGE_SIZE)
#define STEPS 200u

struct machine {
    struct pn_mmu *mmu[MMUS];
    struct pn_mmu_vcpu *vcpu[MMUS];
    struct pn_tlb_view view[MMUS];
    struct pn_stats stats[MMUS];
    uint8_t *mem[MMUS];
    struct pn_paging paging;
    struct pn_world world;
    struct input in;
};

static void create(struct machine *m, unsigned i, uint32_t bits) {
    struct pn_mmu_config cfg = {.kind = i == SHADOW ? PN_MMU_SHADOW : PN_MMU_TDP,
                                .maxphyaddr = 40};
    pn_mmu_options_default(&cfg.opt);
    cfg.opt.nested = i == MERGED;
    cfg.opt.large_pages = bits & 1;
    cfg.opt.tdp_levels = 4 + (bits >> 1 & 1);
    cfg.opt.page_budget = 64;
    REQUIRE(pn_mmu_create(&cfg, &m->mmu[i]) == 0);
    REQUIRE(pn_mmu_vcpu_create(m->mmu[i], &m->view[i], &m->stats[i], NULL, &m->vcpu[i]) ==
            0);
    m->mem[i] =
        mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(m->mem[i] != MAP_FAILED);
    struct pn_memslot s = {.size = MEM, .hva = m->mem[i]};
    REQUIRE(pn_mmu_slot_set(m->mmu[i], &s) == 0);
}

/* ---- What is in memory ---- */

/* Pages 8 to 15 are tables of the second level, of one level each; no entry of the guest's names
 * them, and none of theirs any other table: A and D are other bits there, which may not be set in
 * what the other kind reads. */
static const uint8_t second_level[] = {5, 4, 3, 2, 1, 2, 1, 1};
#define SECOND 8u

static void store(struct machine *m, pn_gpa gpa, uint64_t value, unsigned size) {
    for (unsigned i = 0; i < MMUS; i++)
        pn_mmu_write_phys(m->mmu[i], gpa, &value, size);
}

static bool is_second(unsigned page) {
    return page - SECOND < sizeof second_level;
}

/* A page of the next level, by a number of the input's. */
static unsigned below(unsigned level, unsigned n) {
    unsigned k = n;
    do
        k = (k + 1) % sizeof second_level;
    while (second_level[k] != level - 1);
    return SECOND + k;
}

/* An entry of a page: most lead to something that is there, with rights. */
static uint64_t entry(struct machine *m, unsigned page) {
    uint64_t b = take(&m->in, 3), v = b >> 6 & 0x7ff;
    unsigned to = b & (PAGES - 1),
             level = is_second(page) ? second_level[page - SECOND] : 0;
    if (level > 1)
        to = below(level, to);
    else if (is_second(to))
        to += 2 * sizeof second_level;
    if (b >> 17 & 1)
        v |= 7;
    if (b >> 18 & 1 && level && m->world.ept)
        v = (v & ~UINT64_C(0x38)) | (level == 1 || v & 0x80 ? 0x30 : 0);
    if (b >> 19 & 1)
        v |= 1ull << 63;
    if (b >> 20 & 1 && level < 2)
        v |= (b >> 21 & 7) << 37; /* elsewhere, or reserved */
    return v | to << 12;
}

/* Tables of a chain, from a page on, each with two entries to the next, and pages in the last. */
static void chain(struct machine *m, unsigned page, uint64_t bits) {
    for (unsigned level = 5; level > 1; level--, page++)
        for (unsigned i = 0; i < 2; i++)
            store(m, page * 4096ull + 8 * i, (page + 1) * 4096ull | 7, 8);
    for (unsigned i = 0; i < PAGES; i++)
        if (!is_second(i))
            store(m, page * 4096ull + 8 * i, i * 4096ull | bits, 8);
}

static void edit(struct machine *m) {
    unsigned b = (unsigned)take(&m->in, 2), page = b % 24;
    store(m, page * 4096ull + (b >> 8 & 63) * 8, entry(m, page), 8);
}

/* ---- What runs ---- */

static void enter(struct machine *m) {
    for (unsigned i = 0; i < MMUS; i++)
        pn_mmu_set_world(m->vcpu[i], &m->world, &m->paging);
}

static void choose_paging(struct machine *m, uint32_t bits) {
    struct pn_paging *p = &m->paging;
    unsigned levels = bits % 8 == 7 ? 0 : bits & 1 ? 5 : 4;
    *p = (struct pn_paging){.cr0 = 1 | (levels ? 1u << 31 : 0) | (bits >> 3 & 1) << 16,
                            .cr4 = (levels ? 1u << 5 : 0) | (levels == 5 ? 1u << 12 : 0) |
                                   (bits >> 4 & 3) << 20,
                            .efer = levels ? 0x500 | (bits >> 6 & 1) << 11 : 0,
                            .cr3 = (levels == 5 ? 1 : 2) * 4096};
}

/* EPT or NPT, of four levels or five; or none. */
static void choose_world(struct machine *m, uint32_t bits) {
    unsigned kind = bits % 8, levels = kind & 1 ? 5 : 4;
    m->world = (struct pn_world){.asid = kind == 7 ? 0 : 1 + (bits >> 3 & 1)};
    if (kind == 7)
        return;
    m->world.second = true;
    m->world.ept = kind < 4;
    m->world.mbec = m->world.ept && bits >> 4 & 1;
    pn_gpa root = (levels == 5 ? 8 : 9) * 4096ull;
    m->world.eptp = root | (levels - 1) << 3 | 6 | (bits >> 5 & 1 ? 0x40 : 0);
    m->world.host = (struct pn_paging){.cr0 = 1u << 31 | 1,
                                       .cr3 = root,
                                       .cr4 = 1u << 5 | (levels == 5 ? 1u << 12 : 0),
                                       .efer = 0x500 | (bits >> 6 & 1) << 11};
}

static void forget(struct machine *m) {
    for (unsigned i = 0; i < MMUS; i++) {
        pn_mmu_flush_second(m->vcpu[i]);
        pn_mmu_flush_asid(m->vcpu[i], 0, true);
    }
}

static void check_hva(const struct machine *m, unsigned i, const struct pn_xlate *x) {
    REQUIRE(x->gpa < MEM && x->hva == m->mem[i] + x->gpa);
}

/* EPT without A and D may let a walk read a table that it may not mark: that is a fault of the walk's,
 * and not of the probe's, which marks nothing. */
static bool marks(const struct machine *m, const struct pn_xlate *x) {
    return m->world.ept && !(m->world.eptp & 0x40) && x->fault.vector == PN_VEC_NPF &&
           x->fault.error & PN_NPF_TABLE && x->fault.error & PN_PF_WRITE;
}

static bool same_fault(const struct pn_fault *a, const struct pn_fault *b) {
    return a->vector == b->vector && a->error == b->error && a->address == b->address;
}

static void access_all(struct machine *m) {
    uint32_t b = (uint32_t)take(&m->in, 3);
    enum pn_access access = b % 3;
    enum pn_tlb_mode mode = (b >> 2) % 3;
    pn_gva gva = (b >> 4 & 63) << 12 | (b >> 10 & 1) << 21 | (b >> 11 & 1) << 30 |
                 (b >> 12 & 0x1ff) << 3;
    struct pn_xlate want[MMUS], got[MMUS];
    enum pn_answer answer[MMUS];
    forget(m);
    for (unsigned i = 0; i < MMUS; i++) {
        enum pn_answer probe = pn_mmu_probe(m->vcpu[i], gva, access, mode, &want[i]);
        answer[i] = pn_answer(pn_mmu_translate(m->vcpu[i], gva, access, mode, &got[i]));
        if (answer[i] == PN_TRACKED)
            answer[i] = PN_MAPPED;
        REQUIRE(answer[i] == answer[0]);
        if (answer[i] == PN_GUEST_PF && marks(m, &got[i]))
            continue;
        REQUIRE(answer[i] == probe);
        if (answer[i] == PN_GUEST_PF) {
            REQUIRE(same_fault(&got[i].fault, &got[0].fault));
            REQUIRE(same_fault(&got[i].fault, &want[i].fault));
            continue;
        }
        REQUIRE(got[i].gpa == want[i].gpa);
        REQUIRE(got[i].gpa == got[0].gpa);
        if (answer[i] == PN_MAPPED && got[i].hva)
            check_hva(m, i, &got[i]);
    }
}

static void step(struct machine *m) {
    uint8_t op = (uint8_t)take(&m->in, 1);
    switch (op % 8) {
    case 0:
    case 1:
        edit(m);
        break;
    case 2:
        choose_world(m, op >> 3 | (uint32_t)take(&m->in, 1) << 5);
        enter(m);
        break;
    case 3:
        choose_paging(m, (uint32_t)take(&m->in, 1));
        enter(m);
        break;
    default:
        access_all(m);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct machine m; /* too large for a fuzzer's stack */
    memset(&m, 0, sizeof m);
    m.in = (struct input){data, size};
    uint32_t bits = (uint32_t)take(&m.in, 2);
    for (unsigned i = 0; i < MMUS; i++)
        create(&m, i, bits);
    chain(&m, 1, 0x67);
    chain(&m, SECOND, bits & 4 ? 0x37 : 0x67);
    choose_paging(&m, bits >> 3);
    choose_world(&m, bits >> 8);
    enter(&m);
    for (unsigned i = 0; i < STEPS && m.in.size; i++)
        step(&m);
    for (unsigned i = 0; i < MMUS; i++) {
        REQUIRE(pn_mmu_audit(m.mmu[i], stderr) == 0);
        REQUIRE(!memcmp(m.mem[i], m.mem[0], MEM));
    }
    for (unsigned i = 0; i < MMUS; i++) {
        pn_mmu_vcpu_destroy(m.vcpu[i]);
        pn_mmu_destroy(m.mmu[i]);
        munmap(m.mem[i], MEM);
    }
    return 0;
}
