/* SPDX-License-Identifier: MIT */
/*
 * A whole program on top of the installed MMU: no part of penumbra's tree is included.
 *
 *     cc translate.c $(pkg-config --cflags --libs penumbra-mmu) -o translate
 *     ./translate
 *
 * It gives a "guest" 2 MiB of memory, writes 4-level page tables into it that map the
 * page at 0x40000000 to gpa 0x8000, and asks for translations.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <penumbra/mmu.h>

#define MEM 0x200000u
#define GVA 0x40000000u

#define P_W_U    7u /* of a gpte: present, writable, user */
#define ACCESSED 0x20u
#define DIRTY    0x40u

#define CHECK(x)                                                                         \
    do {                                                                                 \
        if (!(x)) {                                                                      \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #x);                      \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

static void put(uint8_t *mem, pn_gpa table, unsigned index, uint64_t gpte) {
    memcpy(mem + table + 8 * index, &gpte, 8);
}

static uint64_t get(const uint8_t *mem, pn_gpa table, unsigned index) {
    uint64_t gpte;
    memcpy(&gpte, mem + table + 8 * index, 8);
    return gpte;
}

/* 4-level tables that map the page at GVA to gpa 0x8000. Return: the paging registers. */
static struct pn_paging guest_tables(uint8_t *mem) {
    put(mem, 0x1000, 0, 0x2000 | P_W_U);
    put(mem, 0x2000, 1, 0x3000 | P_W_U);
    put(mem, 0x3000, 0, 0x4000 | P_W_U);
    put(mem, 0x4000, 0, 0x8000 | P_W_U);
    return (struct pn_paging){.cr0 = 0x80010001, /* PG WP PE */
                              .cr3 = 0x1000,
                              .cr4 = 0x20,    /* PAE */
                              .efer = 0x500}; /* LMA LME */
}

int main(void) {
    uint8_t *mem = aligned_alloc(4096, MEM);
    CHECK(mem);
    memset(mem, 0, MEM);

    struct pn_mmu_config cfg = {.maxphyaddr = 40};
    pn_mmu_options_default(&cfg.opt);
    CHECK(pn_mmu_option_set(&cfg.opt, "prefetch=4") == 0);
    struct pn_mmu *mmu;
    CHECK(pn_mmu_create(&cfg, &mmu) == 0);

    struct pn_memslot slot = {.flags = PN_SLOT_LOG_DIRTY, .size = MEM, .hva = mem};
    CHECK(pn_mmu_slot_set(mmu, &slot) == 0);

    struct pn_tlb_view view = {0};
    struct pn_stats stats = {0};
    struct pn_mmu_vcpu *vcpu;
    CHECK(pn_mmu_vcpu_create(mmu, &view, &stats, NULL, &vcpu) == 0);

    struct pn_paging paging = guest_tables(mem);
    pn_mmu_set_paging(vcpu, &paging);

    struct pn_xlate x;
    CHECK(pn_answer(pn_mmu_translate(vcpu, GVA + 0x123, PN_READ, PN_TLB_USER, &x)) ==
          PN_MAPPED);
    CHECK(x.gpa == 0x8123 && x.hva == mem + 0x8123);
    CHECK(get(mem, 0x4000, 0) == (0x8000 | P_W_U | ACCESSED));
    printf("gva %#x -> gpa %#" PRIx64 ", %" PRIu64 " gptes read\n", GVA + 0x123, x.gpa,
           stats.v[PN_STAT_gpte_reads]);

    /* The TLB that a CPU would read inline has it now. */
    const struct pn_tlb_entry *e =
        &view.tlb[PN_TLB_USER][GVA >> 12 & (PN_TLB_ENTRIES - 1)];
    CHECK((e->tag[PN_READ] ^ (GVA + 0x123)) <= PN_PAGE_SIZE - 1);
    CHECK(e->hva == (uintptr_t)mem + 0x8000);

    CHECK(pn_answer(pn_mmu_translate(vcpu, GVA + 8, PN_WRITE, PN_TLB_USER, &x)) ==
          PN_MAPPED);
    CHECK(get(mem, 0x4000, 0) & DIRTY);
    uint64_t bitmap[MEM / 4096 / 64];
    CHECK(pn_mmu_dirty_harvest(mmu, 0, bitmap, MEM / 4096 / 64) >= 2);
    CHECK(bitmap[0] >> 8 & 1); /* the page */
    CHECK(bitmap[0] >> 4 & 1); /* and its table, whose A and D were set */

    CHECK(pn_answer(pn_mmu_translate(vcpu, GVA + 0x1000, PN_READ, PN_TLB_USER, &x)) ==
          PN_GUEST_PF);
    CHECK(x.fault.vector == 14 && x.fault.error == PN_PF_USER);
    printf("gva %#x -> #PF, error %#x\n", GVA + 0x1000, x.fault.error);

    CHECK(pn_mmu_audit(mmu, stderr) == 0);
    pn_mmu_vcpu_destroy(vcpu);
    pn_mmu_destroy(mmu);
    free(mem);
    return 0;
}
