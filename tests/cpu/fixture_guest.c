/* SPDX-License-Identifier: MIT */
#include "fixture_guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/control.h"
#include "cpu/model.h"

#define TABLES GUEST_CR3

static uint64_t mmio_read(void *opaque, unsigned vcpu, pn_gpa gpa, unsigned size) {
    struct guest *g = opaque;
    uint64_t v = 0;
    g->mmio_ops++;
    memcpy(&v, (uint8_t *)g->mmio + (gpa & 0xfff), size);
    return v;
}

static void mmio_write(void *opaque, unsigned vcpu, pn_gpa gpa, unsigned size,
                       uint64_t value) {
    struct guest *g = opaque;
    g->mmio_ops++;
    memcpy((uint8_t *)g->mmio + (gpa & 0xfff), &value, size);
}

static uint64_t pio_read(void *opaque, unsigned vcpu, uint16_t port, unsigned size) {
    return ~UINT64_C(0) >> (64 - 8 * size);
}

static void pio_write(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                      uint64_t value) {
}

static int none(void *opaque, unsigned vcpu) {
    return -1;
}

static void on_track(void *opaque, pn_gpa gpa, size_t size) {
    struct guest *g = opaque;
    cpu_code_written(g->cpu, gpa, size);
}

void guest_gpte(struct guest *g, uint64_t gva, uint64_t gpte) {
    pn_mmu_write_phys(g->mmu, TABLES + 0x4000 + ((gva - GUEST_BASE) >> 9 & ~7ull), &gpte,
                      8);
}

/* PML4 at TABLES, PDPT, PD, then the leaf tables from TABLES + 0x4000 on. */
static void build_tables(struct guest *g) {
    uint64_t *t = (uint64_t *)(g->ram + TABLES);
    memset(t, 0, 0x4000);
    t[0] = (TABLES + 0x1000) | 7;
    t[512] = (TABLES + 0x2000) | 7;
    for (unsigned i = 0; i < GUEST_RAM >> 21; i++)
        t[1024 + (GUEST_BASE >> 21) + i] = (TABLES + 0x4000 + i * 0x1000) | 7;
    for (uint64_t i = 0; i < GUEST_RAM >> 12; i++)
        guest_gpte(g, GUEST_BASE + (i << 12), i << 12 | 0x67);
}

static void add_slot(struct guest *g, uint32_t id, pn_gpa gpa, uint64_t size) {
    struct pn_memslot s = {.id = id, .gpa = gpa, .size = size, .hva = g->ram + gpa};
    if (pn_mmu_slot_set(g->mmu, &s))
        abort();
}

void guest_create(struct guest *g, const struct guest_options *opt) {
    char err[128];
    uint32_t basic[4], extended[4];
    memset(g, 0, sizeof *g);
    if (cpu_model_parse(opt->model ? opt->model : "max", &g->model, err, sizeof err))
        abort();
    cpu_model_leaf(g->model, 1, 0, basic);
    cpu_model_leaf(g->model, 0x80000001u, 0, extended);
    g->ram =
        mmap(NULL, GUEST_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pn_mmu_config mc = {.kind = opt->kind,
                               .maxphyaddr = 40,
                               .lacks = pn_mmu_lacks(basic[3], extended[3]),
                               .on_track = on_track,
                               .opaque = g};
    pn_mmu_options_default(&mc.opt);
    mc.opt.large_pages = !opt->small_pages;
    g->bus = (struct pn_bus){.pio_read = pio_read,
                             .pio_write = pio_write,
                             .mmio_read = mmio_read,
                             .mmio_write = mmio_write,
                             .intr_peek = none,
                             .intr_ack = none,
                             .opaque = g};
    if (g->ram == MAP_FAILED || pn_mmu_create(&mc, &g->mmu))
        abort();
    add_slot(g, 0, 0, GUEST_MMIO);
    add_slot(g, 1, GUEST_MMIO + 0x1000, GUEST_RAM - GUEST_MMIO - 0x1000);
    struct cpu_config cc = {.mmu = g->mmu,
                            .bus = &g->bus,
                            .model = g->model,
                            .stats = &g->stats,
                            .ring = opt->ring,
                            .seed = 1,
                            .max_block = opt->max_block,
                            .code_bytes = opt->code_bytes};
    if (cpu_create(&cc, &g->cpu))
        abort();
    build_tables(g);
    struct cpu *cpu = g->cpu;
    cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_MP | CR0_ET | CR0_WP;
    cpu->cr3 = TABLES;
    cpu->cr4 = (CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE) &
               g->model->cr4_valid;
    cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    cpu->xcr0 = CPU_VEC_MASK & (g->model->xcr0_valid | 1);
    unsigned dpl = opt->user ? 3 : 0;
    cpu->cpl = (uint8_t)dpl;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        cpu->seg[s] =
            (struct pn_segment){0x10 | (uint16_t)dpl, 0xc093 | dpl << 5, 0xffffffff, 0};
    cpu->seg[SEG_CS] =
        (struct pn_segment){8 | (uint16_t)dpl, 0xa09b | dpl << 5, 0xffffffff, 0};
    cpu_update_mode(cpu);
    cpu_update_paging(cpu);
}

void guest_destroy(struct guest *g) {
    cpu_destroy(g->cpu);
    pn_mmu_destroy(g->mmu);
    cpu_model_free(g->model);
    munmap(g->ram, GUEST_RAM);
}

void guest_start(struct guest *g, uint64_t rip, uint64_t rsp) {
    g->cpu->rip = rip;
    g->cpu->gpr[R_SP] = rsp;
}

/* ---- Traps ---- */

#define GDT_AT  0x2000u
#define TSS_AT  0x2800u
#define IDT_AT  0x3000u
#define STUB_AT 0x4000u
#define IST_AT  0x6000u /* top of the handlers' stack */
#define VECTORS 32u

static void put64(struct guest *g, uint32_t at, uint64_t v) {
    memcpy(g->ram + at, &v, 8);
}

void guest_idt(struct guest *g) {
    struct cpu *cpu = g->cpu;
    uint64_t ist = GUEST_BASE + IST_AT;
    memset(g->ram + GDT_AT, 0, 0x1000);
    put64(g, GDT_AT + 8, UINT64_C(0x00af9b000000ffff));
    put64(g, GDT_AT + 0x10, UINT64_C(0x00cf93000000ffff));
    put64(g, GDT_AT + 0x20, UINT64_C(0x00cff3000000ffff));
    put64(g, GDT_AT + 0x28, UINT64_C(0x00affb000000ffff));
    memcpy(g->ram + TSS_AT + 4, &ist, 8);
    memcpy(g->ram + TSS_AT + 36, &ist, 8);
    for (unsigned v = 0; v < VECTORS; v++) {
        uint64_t to = GUEST_BASE + STUB_AT + v * 16;
        put64(g, IDT_AT + v * 16,
              (to & 0xffff) | 8 << 16 | UINT64_C(0xee01) << 32 |
                  (to >> 16 & 0xffff) << 48);
        put64(g, IDT_AT + v * 16 + 8, to >> 32);
        memset(g->ram + STUB_AT + v * 16, 0xf4, 16); /* hlt */
    }
    cpu->gdtr.base = GUEST_BASE + GDT_AT;
    cpu->gdtr.limit = 0x2f;
    cpu->idtr.base = GUEST_BASE + IDT_AT;
    cpu->idtr.limit = VECTORS * 16 - 1;
    cpu->seg[SEG_TR] = (struct pn_segment){0x40, 0x8b, 0x67, GUEST_BASE + TSS_AT};
}

void guest_user(struct guest *g) {
    struct cpu *cpu = g->cpu;
    cpu->cpl = 3;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        cpu->seg[s] = (struct pn_segment){0x23, 0xc0f3, 0xffffffff, 0};
    cpu->seg[SEG_CS] = (struct pn_segment){0x2b, 0xa0fb, 0xffffffff, 0};
    cpu->halted = 0;
    cpu_update_mode(cpu);
}

void guest_trapped(struct guest *g, uint64_t *vector, uint64_t *error, uint64_t *rip,
                   uint64_t *rflags, uint64_t *rsp) {
    uint64_t frame[5];
    *vector = (g->cpu->rip - 1 - GUEST_BASE - STUB_AT) / 16;
    memcpy(frame, g->ram + IST_AT - sizeof frame, sizeof frame);
    *error = 0;
    if (*vector < VECTORS && (0x227d00u >> *vector & 1))
        memcpy(error, g->ram + IST_AT - sizeof frame - 8, 8);
    *rip = frame[0];
    *rflags = frame[2];
    *rsp = frame[3];
}
