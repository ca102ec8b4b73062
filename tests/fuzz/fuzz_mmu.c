/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the whole MMU, shadow and TDP: the input is a list of what a guest, its devices
 * and its VMM may do. The audit holds, and besides it:
 *
 * 1. A host address that a translation or a TLB entry gives lies in the memory of a slot,
 *    and is the one that the slot has for the gpa; a writable one is not in ROM.
 * 2. After everything is flushed, translations agree with the direct walk.
 * 3. At a harvest, every page that changed is in the dirty log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "input.h"
#include "penumbra/mmu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RAM, EXTRA, ROM, SLOTS }; /* slot ids */
static const unsigned pages_of[SLOTS] = {24, 8, 1};
#define PAGES    33u
#define EXTRA_AT 0x40000u
#define ROM_AT   0x60000u

struct machine {
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu;
    struct pn_tlb_view view;
    struct pn_stats stats;
    struct pn_paging paging;
    uint8_t *mem;
    struct pn_memslot slot[SLOTS]; /* size 0: not there */
    uint8_t before[PAGES * PN_PAGE_SIZE];
    unsigned tracked[PAGES]; /* of slot RAM: pn_mmu_track_add done */
    struct input in;
};

/* ---- The guest to begin with ---- */

static void put(struct machine *m, unsigned page, unsigned index, uint64_t gpte) {
    memcpy(m->mem + page * PN_PAGE_SIZE + 8 * index, &gpte, 8);
}

/* 5-level at page 1, 4-level at 2, PAE directory at 4, leaf at 5: the first pages of the
 * address space map memory one to one, the tables with it. 32-bit: 8 and 9. */
static void make_tables(struct machine *m) {
    for (unsigned page = 1; page < 5; page++)
        for (unsigned i = 0; i < 4; i++)
            put(m, page, i == 3 ? 511 : i, (page + 1) << PN_PAGE_SHIFT | 7);
    put(m, 4, 1, 0x87);            /* a large page at 0 */
    put(m, 4, 2, 6 << 12 | 0x107); /* another leaf, empty */
    for (unsigned i = 0; i < 128; i++)
        put(m, 5, i, (uint64_t)i << PN_PAGE_SHIFT | 7);
    for (unsigned i = 0; i < 128; i++) {
        uint32_t pde = i == 1 ? 0x87 : 9 << 12 | 7, pte = i << 12 | 7;
        memcpy(m->mem + 8 * PN_PAGE_SIZE + 4 * i, &pde, 4);
        memcpy(m->mem + 9 * PN_PAGE_SIZE + 4 * i, &pte, 4);
    }
}

/* bits: paging mode, then feature bits. */
static void choose_paging(struct machine *m, uint32_t bits) {
    static const unsigned root[] = {0, 0, 8, 4, 2, 1};
    unsigned levels = bits % 16 == 15 ? 0 : 2 + bits % 4;
    struct pn_paging *p = &m->paging;
    p->cr0 = 1 | (levels ? 1u << 31 : 0) | (bits >> 4 & 1) << 16;
    p->cr4 = (levels > 2 ? 1u << 5 : 0) | (levels == 5 ? 1u << 12 : 0) |
             (bits >> 5 & 1) << 4 | (bits >> 6 & 7) << 20 | (bits >> 9 & 1) << 24 |
             (bits >> 10 & 1) << 7 | (levels >= 4 ? (bits >> 11 & 1) << 17 : 0);
    p->efer = (bits >> 12 & 1) << 11 | (levels >= 4 ? 0x500 : 0);
    p->cr3 = (uint64_t)root[levels] << PN_PAGE_SHIFT;
    if (p->cr4 >> 17 & 1)
        p->cr3 |= bits >> 13 & 3;
    for (unsigned i = 0; i < 4; i++)
        p->pdpte[i] = i == 2 ? 0 : (4ull << PN_PAGE_SHIFT | 1);
}

static void machine_init(struct machine *m, enum pn_mmu_kind kind) {
    uint32_t bits = (uint32_t)take(&m->in, 4);
    struct pn_mmu_config cfg = {.kind = kind, .maxphyaddr = 40};
    pn_mmu_options_default(&cfg.opt);
    cfg.opt.unsync = bits & 1;
    cfg.opt.large_pages = bits >> 1 & 1;
    cfg.opt.flood_threshold = bits >> 2 & 3;
    cfg.opt.prefetch = bits >> 4 & 15;
    cfg.opt.cached_roots = bits >> 8 & 3;
    cfg.opt.page_budget = 64;
    static const enum pn_dirty_tracker by_d[] = {PN_TRACKER_DBIT, PN_TRACKER_PML,
                                                 PN_TRACKER_HDBSS, PN_TRACKER_PML};
    cfg.tracker = bits >> 10 & 1 ? by_d[bits >> 30] : PN_TRACKER_WP;
    cfg.opt.tdp_levels = 4 + (bits >> 11 & 1);
    cfg.opt.policy = (bits >> 12 & 15) % PN_POLICIES;
    cfg.opt.ad = (bits >> 14 & 3) % 3;
    REQUIRE(pn_mmu_create(&cfg, &m->mmu) == 0);
    REQUIRE(pn_mmu_vcpu_create(m->mmu, &m->view, &m->stats, NULL, &m->vcpu) == 0);
    m->mem = mmap(NULL, PAGES * PN_PAGE_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(m->mem != MAP_FAILED);
    static const pn_gpa at[SLOTS] = {0, EXTRA_AT, ROM_AT};
    uint8_t *hva = m->mem;
    make_tables(m);
    for (unsigned i = 0; i < SLOTS; i++) {
        m->slot[i] =
            (struct pn_memslot){i, i == ROM ? PN_SLOT_READONLY : PN_SLOT_LOG_DIRTY, at[i],
                                pages_of[i] * PN_PAGE_SIZE, hva};
        hva += m->slot[i].size;
        REQUIRE(pn_mmu_slot_set(m->mmu, &m->slot[i]) == 0);
    }
    memcpy(m->before, m->mem, sizeof(m->before));
    choose_paging(m, bits >> 16);
    pn_mmu_set_paging(m->vcpu, &m->paging);
}

/* ---- Checks ---- */

/* The slot that holds gpa by our own book, or NULL. */
static const struct pn_memslot *slot_at(const struct machine *m, pn_gpa gpa) {
    for (unsigned i = 0; i < SLOTS; i++)
        if (m->slot[i].size && gpa - m->slot[i].gpa < m->slot[i].size)
            return &m->slot[i];
    return NULL;
}

static void check_hva(const struct machine *m, const struct pn_xlate *x, bool write) {
    const struct pn_memslot *s = slot_at(m, x->gpa);
    REQUIRE(s && x->hva == (uint8_t *)s->hva + (x->gpa - s->gpa));
    REQUIRE(!write || s->id != ROM);
}

static void harvest(struct machine *m, unsigned id) {
    uint64_t bitmap[1];
    struct pn_memslot *s = &m->slot[id];
    if (!s->size || id == ROM)
        return;
    REQUIRE(pn_mmu_dirty_harvest(m->mmu, id, bitmap, 1) >= 0);
    uint8_t *now = s->hva, *was = m->before + (now - m->mem);
    for (unsigned i = 0; i < pages_of[id]; i++)
        if (memcmp(now + i * PN_PAGE_SIZE, was + i * PN_PAGE_SIZE, PN_PAGE_SIZE))
            REQUIRE(bitmap[0] >> i & 1);
    memcpy(was, now, s->size);
}

static void compare(struct machine *m, pn_gva gva) {
    for (int access = PN_READ; access < PN_ACCESSES; access++)
        for (int mode = 0; mode < PN_TLB_MODES; mode++) {
            struct pn_xlate want, got;
            enum pn_answer w = pn_mmu_probe(m->vcpu, gva, access, mode, &want);
            enum pn_answer g =
                pn_answer(pn_mmu_translate(m->vcpu, gva, access, mode, &got));
            if (g == PN_TRACKED && pn_stores(access))
                g = PN_MAPPED;
            REQUIRE(w == g);
            if (w == PN_GUEST_PF)
                REQUIRE(want.fault.vector == got.fault.vector &&
                        want.fault.error == got.fault.error &&
                        want.fault.address == got.fault.address);
            else
                REQUIRE(want.gpa == got.gpa);
            if (w == PN_MAPPED)
                check_hva(m, &want, pn_stores(access));
        }
}

/* ---- What may happen ---- */

/* Addresses in few tables, so that they meet. */
static pn_gva choose_gva(struct machine *m) {
    uint64_t b = take(&m->in, 2);
    pn_gva gva = (b & 31) << 12 | (b >> 5 & 3) << 21 | (b >> 7 & 1) << 30 |
                 (b >> 8 & 1) << 39 | (b >> 9 & 1) << 22 | (b >> 13 & 7) * 0x208;
    if (b >> 10 & 1 && m->paging.efer >> 10 & 1)
        gva |= ~0ull << 47;
    if (!(m->paging.efer >> 10 & 1))
        gva &= 0xffffffff;
    return gva & ~7ull;
}

/* A gpte more often than not. */
static uint64_t choose_value(struct machine *m) {
    uint64_t b = take(&m->in, 3);
    uint64_t gpte = (b & 0x7f) << 12 | (b >> 7 & 0x1ff);
    if (b >> 16 & 1)
        gpte |= 7;
    if (b >> 17 & 1)
        gpte |= 1ull << 63;
    if (b >> 18 & 1)
        gpte |= (b >> 19 & 15) << 59;
    return gpte;
}

static void do_access(struct machine *m) {
    uint8_t how = (uint8_t)take(&m->in, 1);
    pn_gva gva = choose_gva(m);
    enum pn_access access = how % 3;
    enum pn_tlb_mode mode = how / 3 % 3;
    uint64_t value = access == PN_WRITE ? choose_value(m) : 0;
    const struct pn_tlb_entry *e = &m->view.tlb[mode][gva >> 12 & (PN_TLB_ENTRIES - 1)];
    if ((e->tag[access] ^ gva) <= PN_PAGE_SIZE - 8) { /* as translated code does */
        uint8_t *at = (uint8_t *)e->hva + (gva & 0xfff);
        pn_tlb_used(&m->view, e);
        REQUIRE(at >= m->mem && at < m->mem + PAGES * PN_PAGE_SIZE);
        if (access == PN_WRITE)
            memcpy(at, &value, 8);
        return;
    }
    struct pn_xlate x;
    switch (pn_answer(pn_mmu_translate(m->vcpu, gva, access, mode, &x))) {
    case PN_MAPPED:
        check_hva(m, &x, access == PN_WRITE);
        if (access == PN_WRITE)
            memcpy(x.hva, &value, 8);
        break;
    case PN_TRACKED:
        REQUIRE(access == PN_WRITE);
        if (how / 9 & 1)
            pn_mmu_unprotect(m->vcpu, x.gpa);
        REQUIRE(pn_mmu_write_phys(m->mmu, x.gpa, &value, 8) == 8);
        break;
    case PN_MMIO: {
        const struct pn_memslot *s = slot_at(m, x.gpa);
        REQUIRE(!s || (access == PN_WRITE && s->id == ROM));
        break;
    }
    default:
        REQUIRE(x.fault.vector == 14 && x.fault.address == gva);
    }
}

static void do_device_write(struct machine *m) {
    uint64_t b = take(&m->in, 2), value = choose_value(m);
    pn_gpa gpa = (b & 0x7f) << 12 | (b >> 7 & 0x1ff) << 3;
    pn_mmu_write_phys(m->mmu, gpa, &value, 8);
}

static void do_slot(struct machine *m) {
    uint8_t how = (uint8_t)take(&m->in, 1);
    harvest(m, EXTRA);
    struct pn_memslot s = m->slot[EXTRA];
    s.gpa = (how & 0x7eull) << 12;
    if (how & 1 && s.size) {
        s.size = 0;
    } else if (!s.size) {
        s.size = pages_of[EXTRA] * PN_PAGE_SIZE;
    }
    if (pn_mmu_slot_set(m->mmu, &s) == 0)
        m->slot[EXTRA] = s;
}

static void do_track(struct machine *m) {
    unsigned page = take(&m->in, 1) % pages_of[RAM];
    if (m->tracked[page]) {
        pn_mmu_track_remove(m->mmu, page);
        m->tracked[page]--;
    } else if (pn_mmu_track_add(m->mmu, page) == 0) {
        m->tracked[page]++;
    }
}

static void do_paging(struct machine *m) {
    uint32_t bits = (uint32_t)take(&m->in, 2);
    if (bits & 0x8000) {
        m->paging.pkru = (uint32_t)take(&m->in, 2);
        m->paging.pkrs = m->paging.pkru * 5;
        pn_mmu_set_pkr(m->vcpu, m->paging.pkru, m->paging.pkrs);
        return;
    }
    choose_paging(m, bits);
    pn_mmu_set_paging(m->vcpu, &m->paging);
}

static void do_cr3(struct machine *m) {
    uint8_t how = (uint8_t)take(&m->in, 1);
    bool pcide = m->paging.cr4 >> 17 & 1;
    m->paging.cr3 = (how & 7ull) << PN_PAGE_SHIFT | (pcide ? how >> 3 & 3 : 0);
    for (unsigned i = 0; i < 4; i++)
        m->paging.pdpte[i] =
            ((how + i) & 7ull) << PN_PAGE_SHIFT | (how >> 6 & 1) | (i & 1);
    pn_mmu_set_cr3(m->vcpu, m->paging.cr3, pcide && how >> 7, m->paging.pdpte);
}

static void one_step(struct machine *m) {
    uint8_t op = (uint8_t)take(&m->in, 1);
    switch (op % 16) {
    case 0:
    case 1:
        do_device_write(m);
        break;
    case 2:
        pn_mmu_invlpg(m->vcpu, choose_gva(m));
        break;
    case 3:
        pn_mmu_invpcid(m->vcpu, op >> 4 & 3, op >> 6, choose_gva(m));
        break;
    case 4:
        do_paging(m);
        break;
    case 5:
        do_cr3(m);
        break;
    case 6:
        do_slot(m);
        break;
    case 7:
        do_track(m);
        break;
    case 8:
        harvest(m, op >> 4 & 1);
        break;
    case 9:
        if (op & 0x80)
            pn_mmu_drop_tlb(m->vcpu);
        else if (op & 0x40)
            pn_mmu_zap_all(m->mmu);
        break;
    case 10:
        pn_mmu_invpcid(m->vcpu, 2, 0, 0);
        compare(m, choose_gva(m));
        break;
    default:
        do_access(m);
    }
}

static void run(const uint8_t *data, size_t size, enum pn_mmu_kind kind) {
    static struct machine m; /* too large for a fuzzer's stack */
    memset(&m, 0, sizeof(m));
    m.in = (struct input){data, size};
    machine_init(&m, kind);
    for (unsigned i = 0; i < 300 && m.in.size; i++) {
        one_step(&m);
        if (i % 32 == 31)
            REQUIRE(pn_mmu_audit(m.mmu, stderr) == 0);
    }
    REQUIRE(pn_mmu_audit(m.mmu, stderr) == 0);
    pn_mmu_invpcid(m.vcpu, 2, 0, 0);
    for (unsigned page = 0; page < 32; page++)
        compare(&m, (pn_gva)page << 12);
    harvest(&m, RAM);
    harvest(&m, EXTRA);
    REQUIRE(pn_mmu_audit(m.mmu, stderr) == 0);
    pn_mmu_vcpu_destroy(m.vcpu);
    pn_mmu_destroy(m.mmu);
    munmap(m.mem, PAGES * PN_PAGE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run(data, size, PN_MMU_SHADOW);
    run(data, size, PN_MMU_TDP);
    return 0;
}
