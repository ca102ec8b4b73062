/* SPDX-License-Identifier: MIT */
/* See fixture_flat.h. */
#include "fixture_flat.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "tests/suite.h"

struct fix fx;

static uint64_t mmio_read(void *o, unsigned vcpu, pn_gpa gpa, unsigned size) {
    fx.mmio_gpa = gpa, fx.mmio_size = size, fx.mmio_count++;
    return fx.mmio_val;
}
static void mmio_write(void *o, unsigned vcpu, pn_gpa gpa, unsigned size, uint64_t v) {
    fx.mmio_gpa = gpa, fx.mmio_size = size, fx.mmio_count++;
    fx.mmio_val = v;
}
static int intr_ack(void *o, unsigned vcpu) {
    int v = fx.irq;
    fx.irq = -1;
    return v;
}
static void intr_eoi(void *o, unsigned vcpu) {
    fx.eois++;
}
static int intr_peek(void *o, unsigned vcpu) {
    return fx.irq;
}
static int msr_read(void *o, unsigned vcpu, uint32_t index, uint64_t *value) {
    *value = 0x100;
    return 0;
}
static void on_track(void *o, pn_gpa gpa, size_t size) {
    fx.cpu->disturbed++;
}

void ram_put(uint32_t gpa, uint64_t value, unsigned size) {
    pn_mmu_write_phys(fx.cpu->mmu, gpa, &value, size);
}
uint64_t ram_get(uint32_t gpa, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, fx.ram + gpa, size);
    return v;
}

uint64_t make_desc(uint32_t base, uint32_t limit, uint32_t attr) {
    uint64_t l = attr & ATTR_G ? limit >> 12 : limit;
    return (l & 0xffff) | (l & 0xf0000) << 32 | (uint64_t)(base & 0xffffff) << 16 |
           (uint64_t)(base >> 24) << 56 | (uint64_t)attr << 40;
}
void gdt_set(unsigned sel, uint64_t raw) {
    ram_put(GDT + (sel & ~7u), raw, 8);
}

static void create(bool audit) {
    char err[128];
    memset(&fx, 0, sizeof fx);
    fx.irq = -1;
    fx.ram =
        mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fx.cpu = aligned_alloc(64, (sizeof *fx.cpu + 63) & ~63ul);
    memset(fx.cpu, 0, sizeof *fx.cpu);
    struct pn_mmu_config cfg = {.maxphyaddr = 40, .on_track = on_track};
    pn_mmu_options_default(&cfg.opt);
    cfg.opt.audit = audit;
    ck_assert_int_eq(pn_mmu_create(&cfg, &fx.cpu->mmu), 0);
    ck_assert_int_eq(
        pn_mmu_vcpu_create(fx.cpu->mmu, &fx.cpu->view, &fx.stats, NULL, &fx.cpu->vmmu),
        0);
    struct pn_memslot slot = {.size = RAM_SIZE, .hva = fx.ram};
    ck_assert_int_eq(pn_mmu_slot_set(fx.cpu->mmu, &slot), 0);
    fx.bus = (struct pn_bus){.mmio_read = mmio_read,
                             .mmio_write = mmio_write,
                             .intr_peek = intr_peek,
                             .intr_ack = intr_ack,
                             .intr_eoi = intr_eoi,
                             .msr_read = msr_read};
    ck_assert_int_eq(cpu_model_parse("max,-la57", &fx.model, err, sizeof err), 0);
    fx.cpu->model = fx.model;
    fx.cpu->bus = &fx.bus;
    fx.cpu->stats = &fx.stats;
    fx.cpu->insn_limit = 1000000;
    fx.cpu->budget = 999000;
    cpu_reset(fx.cpu);
}

void fix_create(void) {
    create(true);
}
void fix_create_unaudited(void) {
    create(false);
}

void fix_destroy(void) {
    pn_mmu_vcpu_destroy(fx.cpu->vmmu);
    pn_mmu_destroy(fx.cpu->mmu);
    cpu_model_free(fx.model);
    free(fx.cpu);
    munmap(fx.ram, RAM_SIZE);
}

static void settle(void) {
    cpu_update_paging(fx.cpu);
    cpu_update_mode(fx.cpu);
}

void fix_real(void) {
    struct cpu *c = fx.cpu;
    seg_set_real(&c->seg[SEG_CS], 0x1000, false);
    seg_set_real(&c->seg[SEG_SS], 0x2000, false);
    c->idtr.limit = 0x3ff;
    c->rip = 0;
    c->gpr[R_SP] = 0x1000;
    settle();
}

static void layout(bool wide) {
    uint32_t tss = 0x8b, ldt = 0x82;
    gdt_set(KCODE, make_desc(0, ~0u, wide ? A_CODE64 : A_CODE32));
    gdt_set(KDATA, make_desc(0, ~0u, A_DATA));
    gdt_set(UCODE32, make_desc(0, ~0u, A_CODE32 | A_DPL3));
    gdt_set(UDATA, make_desc(0, ~0u, A_DATA | A_DPL3));
    gdt_set(UCODE, make_desc(0, ~0u, (wide ? A_CODE64 : A_CODE32) | A_DPL3));
    gdt_set(KCODE32, make_desc(0, ~0u, A_CODE32));
    gdt_set(ABSENT, make_desc(0, ~0u, A_DATA & ~ATTR_P));
    gdt_set(EXECONLY, make_desc(0, ~0u, A_CODE32 & ~2u));
    gdt_set(READONLY, make_desc(0, ~0u, A_DATA & ~2u));
    gdt_set(CONFORM, make_desc(0, ~0u, (wide ? A_CODE64 : A_CODE32) | 4));
    gdt_set(TSS_SEL, make_desc(TSS, 0x67, tss));
    gdt_set(LDT_SEL, make_desc(LDT, 0xff, ldt));
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x67, 0x89));
    gdt_set(TASK_SEL, (uint64_t)TSS2_SEL << 16 | 0x85ull << 40);
    gdt_set(CODE16, make_desc(0, 0xffff, 0x9b));
    gdt_set(DATA16, make_desc(0, 0xffff, 0x93));
    gdt_set(DOWN, make_desc(0, 0xfff, 0x4097));
    struct cpu *c = fx.cpu;
    c->gdtr.base = GDT, c->gdtr.limit = GDT_END - 1;
    c->idtr.base = IDT, c->idtr.limit = 0xfff;
    seg_set(&c->seg[SEG_TR], TSS_SEL, ram_get(GDT + TSS_SEL, 8));
    seg_set_null(&c->seg[SEG_LDTR], 0);
    seg_set(&c->seg[SEG_CS], KCODE, ram_get(GDT + KCODE, 8));
    static const uint8_t data[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < sizeof data; i++)
        seg_set(&c->seg[data[i]], KDATA, ram_get(GDT + KDATA, 8));
    c->rip = 0x8000;
    c->gpr[R_SP] = 0x30000;
    c->cpl = 0;
}

void fix_prot(void) {
    layout(false);
    fx.cpu->cr0 = CR0_PE | 0x10;
    ram_put(TSS + 4, 0x28000, 4); /* ESP0, SS0 */
    ram_put(TSS + 8, KDATA, 4);
    settle();
}

void fix_long(void) {
    layout(true);
    ram_put(0x1000, 0x2007, 8);
    ram_put(0x2000, 0x3007, 8);
    ram_put(0x2018, 0x4007, 8); /* 3..4 GiB, for MMIO */
    ram_put(0x3000, 0x87, 8);
    ram_put(0x3008, PT | 7, 8);
    for (unsigned i = 0; i < 512; i++)
        ram_put(PT + i * 8, (PAGES + i * 0x1000) | 7, 8);
    ram_put(0x4000 + 0x1f7 * 8, 0xfee00087, 8);
    ram_put(TSS + 4, 0x28000, 8);    /* RSP0 */
    ram_put(TSS + 0x24, 0x2a000, 8); /* IST1 */
    fx.cpu->cr3 = 0x1000;
    fx.cpu->cr4 = CR4_PAE;
    fx.cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    fx.cpu->cr0 = CR0_PE | CR0_PG | 0x10010;
    settle();
}

void fix_user(void) {
    struct cpu *c = fx.cpu;
    seg_set(&c->seg[SEG_CS], UCODE | 3, ram_get(GDT + UCODE, 8));
    static const uint8_t data[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < sizeof data; i++)
        seg_set(&c->seg[data[i]], UDATA | 3, ram_get(GDT + UDATA, 8));
    c->cpl = 3;
    cpu_update_mode(c);
}

void gate_set(unsigned vector, uint16_t sel, uint64_t offset, unsigned type, unsigned dpl,
              unsigned ist) {
    uint64_t raw = (offset & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
                   (uint64_t)(0x80 | dpl << 5 | type) << 40 | (offset & 0xffff0000) << 32;
    if (fx.cpu->efer & EFER_LMA) {
        ram_put(IDT + vector * 16, raw, 8);
        ram_put(IDT + vector * 16 + 8, offset >> 32, 8);
    } else {
        ram_put(IDT + vector * 8, raw, 8);
    }
}

struct insn insn_new(unsigned opsize) {
    return (struct insn){.rip = fx.cpu->rip,
                         .len = 2,
                         .opsize = (uint8_t)opsize,
                         .addrsize = mode_64(fx.cpu) ? 8 : 4,
                         .seg = SEG_DS,
                         .base = INSN_NOREG,
                         .index = INSN_NOREG,
                         .scale = 1};
}
struct insn insn_mem(unsigned opsize, uint64_t address, unsigned size) {
    struct insn in = insn_new(opsize);
    in.disp = (int64_t)address;
    in.op_count = 1;
    in.op[0] = (struct operand){.kind = OP_MEM, .size = (uint8_t)size};
    return in;
}
struct insn insn_reg(unsigned opsize, unsigned reg, unsigned size) {
    struct insn in = insn_new(opsize);
    in.op_count = 1;
    in.op[0] =
        (struct operand){.kind = OP_REG, .reg = (uint8_t)reg, .size = (uint8_t)size};
    return in;
}

TCase *fix_case(const char *name) {
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, SUITE_TIMEOUT);
    return c;
}

int fix_run(Suite *suite) {
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

void ck_exits_counted(void) {
    uint64_t kinds = 0;
    for (unsigned i = PN_STAT_world_exits_npf; i <= PN_STAT_world_exits_invalid; i++)
        kinds += fx.stats.v[i];
    ck_assert_uint_eq(kinds, fx.stats.v[PN_STAT_world_exits]);
}
