/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fixture_sys.h"

static uint64_t pio_read(void *opaque, unsigned vcpu, uint16_t port, unsigned size) {
    struct sys *s = opaque;
    s->pio_reads++, s->last_address = port, s->last_size = size;
    return s->next_read++;
}
static void pio_write(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                      uint64_t value) {
    struct sys *s = opaque;
    s->pio_writes++, s->last_address = port, s->last_size = size, s->last_value = value;
}
static uint64_t mmio_read(void *opaque, unsigned vcpu, pn_gpa gpa, unsigned size) {
    struct sys *s = opaque;
    s->mmio_reads++, s->last_address = gpa, s->last_size = size;
    return s->next_read++;
}
static void mmio_write(void *opaque, unsigned vcpu, pn_gpa gpa, unsigned size,
                       uint64_t value) {
    struct sys *s = opaque;
    s->mmio_writes++, s->last_address = gpa, s->last_size = size, s->last_value = value;
}
static int no_interrupt(void *opaque, unsigned vcpu) {
    return -1;
}
static int msr_get(void *opaque, unsigned vcpu, uint32_t index, uint64_t *value) {
    struct sys *s = opaque;
    s->last_address = index;
    *value = index == 0x1b ? s->apic_base : 0x1234;
    return index == 0x8ff ? -1 : 0;
}
static int msr_set(void *opaque, unsigned vcpu, uint32_t index, uint64_t value) {
    struct sys *s = opaque;
    s->last_address = index, s->last_value = value;
    if (index == 0x1b)
        s->apic_base = value;
    return index == 0x8ff ? -1 : 0;
}
static uint64_t cr8_get(void *opaque, unsigned vcpu) {
    return ((struct sys *)opaque)->cr8;
}
static void cr8_set(void *opaque, unsigned vcpu, uint64_t value) {
    ((struct sys *)opaque)->cr8 = value;
}

static void on_track(void *opaque, pn_gpa gpa, size_t size) {
    struct sys *s = opaque;
    if (++s->tracked == s->track_ends)
        pn_mmu_track_remove(s->cpu->mmu, gpa >> PN_PAGE_SHIFT);
}

struct sys *sys_new(const char *model) {
    char err[128];
    struct sys *s = calloc(1, sizeof(*s));
    ck_assert_int_eq(cpu_model_parse(model, &s->model, err, sizeof(err)), 0);
    s->ram =
        mmap(NULL, SYS_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(s->ram != MAP_FAILED);
    s->bus = (struct pn_bus){
        .pio_read = pio_read,
        .pio_write = pio_write,
        .mmio_read = mmio_read,
        .mmio_write = mmio_write,
        .intr_peek = no_interrupt,
        .intr_ack = no_interrupt,
        .msr_read = msr_get,
        .msr_write = msr_set,
        .cr8_read = cr8_get,
        .cr8_write = cr8_set,
        .opaque = s,
    };
    s->apic_base = 0xfee00900;
    struct pn_mmu_config cfg = {.maxphyaddr = 46, .on_track = on_track, .opaque = s};
    pn_mmu_options_default(&cfg.opt);
    struct cpu *cpu = aligned_alloc(64, (sizeof(*cpu) + 63) & ~(size_t)63);
    memset(cpu, 0, sizeof(*cpu));
    s->cpu = cpu;
    cpu->bus = &s->bus, cpu->model = s->model, cpu->stats = &s->stats;
    cpu->insn_limit = 1000000, cpu->budget = 1000000;
    ck_assert_int_eq(pn_mmu_create(&cfg, &cpu->mmu), 0);
    ck_assert_int_eq(
        pn_mmu_vcpu_create(cpu->mmu, &cpu->view, &s->stats, NULL, &cpu->vmmu), 0);
    struct pn_memslot slot = {.size = SYS_RAM, .hva = s->ram};
    ck_assert_int_eq(pn_mmu_slot_set(cpu->mmu, &slot), 0);
    cpu_reset(cpu);
    return s;
}

void sys_free(struct sys *s) {
    pn_mmu_vcpu_destroy(s->cpu->vmmu);
    pn_mmu_destroy(s->cpu->mmu);
    cpu_model_free(s->model);
    munmap(s->ram, SYS_RAM);
    free(s->cpu);
    free(s);
}

static void put64(struct sys *s, uint64_t gpa, uint64_t v) {
    pn_mmu_write_phys(s->cpu->mmu, gpa, &v, 8);
}

void sys_map(struct sys *s, unsigned page, uint64_t gfn, uint64_t flags) {
    put64(s, SYS_TABLES + 0x3000 + 8 * page, flags ? gfn << 12 | flags : 0);
    pn_mmu_invlpg(s->cpu->vmmu, (uint64_t)page << 12);
}

void sys_long_mode(struct sys *s) {
    struct cpu *cpu = s->cpu;
    for (unsigned i = 0; i < 3; i++)
        put64(s, SYS_TABLES + i * 0x1000, (SYS_TABLES + (i + 1) * 0x1000) | 7);
    for (unsigned i = 0; i < SYS_PAGES; i++)
        put64(s, SYS_TABLES + 0x3000 + 8 * i, (uint64_t)i << 12 | 7);
    cpu->cr0 = CR0_PG | CR0_PE | CR0_ET | CR0_NE | CR0_WP;
    cpu->cr3 = SYS_TABLES;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        cpu->seg[i] = (struct pn_segment){.sel = 0x10,
                                          .attr = ATTR_P | ATTR_S | ATTR_DB | ATTR_G | 3,
                                          .limit = UINT32_MAX};
    cpu->seg[SEG_CS].sel = 8;
    cpu->seg[SEG_CS].attr = ATTR_P | ATTR_S | ATTR_L | ATTR_G | 11;
    cpu_update_mode(cpu);
    cpu_update_paging(cpu);
}

void sys_cpl(struct sys *s, unsigned cpl) {
    s->cpu->cpl = (uint8_t)cpl;
    for (unsigned i = SEG_CS; i <= SEG_SS; i++)
        s->cpu->seg[i].attr = (s->cpu->seg[i].attr & ~0x60u) | cpl << 5;
    cpu_update_mode(s->cpu);
}

struct insn sys_insn(unsigned opsize, unsigned addrsize) {
    return (struct insn){.opsize = (uint8_t)opsize,
                         .addrsize = (uint8_t)addrsize,
                         .seg = SEG_DS,
                         .base = INSN_NOREG,
                         .index = INSN_NOREG,
                         .scale = 1};
}

struct insn sys_mem_insn(unsigned opsize, uint64_t address) {
    struct insn in = sys_insn(opsize, 8);
    in.disp = (int64_t)address;
    in.op_count = 1;
    in.op[0] = (struct operand){.kind = OP_MEM, .size = (uint8_t)opsize};
    return in;
}
