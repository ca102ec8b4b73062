/* SPDX-License-Identifier: MIT */
/*
 * The boot vCPU's first state: page tables, GDT and registers for real, protected and
 * long mode. Segment attributes as in struct pn_segment: the descriptor's bits 40..55.
 *
 *     selector   base 0, limit 4 GiB
 *     0x10       code: 64-bit in ENTRY_LONG, else 32-bit (__BOOT_CS of the boot protocol)
 *     0x18       data (its __BOOT_DS)
 *     0x20       a TSS that nobody switches to: VMX wants a busy one
 */
#include <string.h>

#include "machine/internal.h"

#define SEL_CODE 0x10
#define SEL_DATA 0x18
#define SEL_TSS  0x20

#define ATTR_CODE64 0xaf9bu
#define ATTR_CODE32 0xcf9bu
#define ATTR_DATA32 0xcf93u
#define ATTR_TSS    0x008bu

static uint64_t descriptor(uint32_t attr, uint32_t base, uint32_t limit) {
    return (limit & 0xffffu) | (uint64_t)(base & 0xffffffu) << 16 |
           (uint64_t)(attr & 0xf0ffu) << 40 | (uint64_t)(limit >> 16 & 0xf) << 48 |
           (uint64_t)(base >> 24) << 56;
}

static void put_gdt(struct load *l, enum entry_mode mode) {
    uint64_t gdt[6] = {0};
    gdt[SEL_CODE / 8] =
        descriptor(mode == ENTRY_LONG ? ATTR_CODE64 : ATTR_CODE32, 0, 0xfffff);
    gdt[SEL_DATA / 8] = descriptor(ATTR_DATA32, 0, 0xfffff);
    gdt[SEL_TSS / 8] = descriptor(ATTR_TSS, 0, 0x67); /* and [5], its upper half */
    load_put_boot(l, BOOT_GDT, gdt, sizeof(gdt));
}

void entry_identity(uint64_t base, uint64_t target, entry_put *put, void *opaque) {
    const uint64_t pdpt = base + PN_PAGE_SIZE, pd = pdpt + PN_PAGE_SIZE;
    const uint64_t far = target >> 30 & 511;
    const unsigned count = far < 4 ? 4 : 5;
    uint64_t table[512] = {pdpt | PTE_P | PTE_W};
    put(opaque, base, table);
    table[0] = 0;
    for (unsigned i = 0; i < count; i++)
        table[i < 4 ? i : far] = (pd + i * PN_PAGE_SIZE) | PTE_P | PTE_W;
    put(opaque, pdpt, table);
    for (unsigned i = 0; i < count; i++) {
        for (uint64_t j = 0; j < 512; j++)
            table[j] = (i < 4 ? i : far) << 30 | j << 21 | PTE_P | PTE_W | PTE_PS;
        put(opaque, pd + i * PN_PAGE_SIZE, table);
    }
}

static void put_boot_table(void *opaque, uint64_t gpa, const uint64_t table[512]) {
    load_put_boot(opaque, gpa, table, PN_PAGE_SIZE);
}

static void put_page_tables(struct load *l, bool la57) {
    const uint64_t top[512] = {BOOT_PML4 | PTE_P | PTE_W};
    if (la57)
        put_boot_table(l, BOOT_PML5, top);
    entry_identity(BOOT_PML4, 0, put_boot_table, l);
}

void entry_put_tables(struct load *l) {
    if (l->entry.mode == ENTRY_REAL)
        return;
    put_gdt(l, l->entry.mode);
    if (l->entry.mode == ENTRY_LONG)
        put_page_tables(l, l->entry.la57);
}

static void real_state(const struct entry *entry, struct pn_cpu_state *s) {
    uint16_t sel = (uint16_t)(entry->rip >> 4);
    s->seg[PN_CS].sel = sel;
    s->seg[PN_CS].base = (uint64_t)sel << 4;
    s->rip = entry->rip & 0xf;
    s->gpr[4] = 0x7000; /* SP, below 0x7c00 */
}

static void flat_segments(enum entry_mode mode, struct pn_cpu_state *s) {
    const struct pn_segment data = {SEL_DATA, ATTR_DATA32, 0xffffffffu, 0};
    for (unsigned i = PN_ES; i <= PN_GS; i++)
        s->seg[i] = data;
    s->seg[PN_CS] = data;
    s->seg[PN_CS].sel = SEL_CODE;
    s->seg[PN_CS].attr = mode == ENTRY_LONG ? ATTR_CODE64 : ATTR_CODE32;
    s->seg[PN_LDTR] = (struct pn_segment){.attr = ATTR_UNUSABLE};
    s->seg[PN_TR] = (struct pn_segment){SEL_TSS, ATTR_TSS, 0x67, 0};
    s->gdtr_base = BOOT_GDT;
    s->gdtr_limit = 6 * 8 - 1;
    s->idtr_base = 0;
    s->idtr_limit = 0;
}

/* As after FNINIT, which firmware executes: after a reset no register is empty, and no exception masked. */
static void x87_state(struct pn_cpu_state *s) {
    const uint16_t fcw = FCW_INIT;
    memset(s->xsave + FX_FCW, 0, FX_FOP - FX_FCW);
    memcpy(s->xsave + FX_FCW, &fcw, sizeof(fcw));
}

void entry_state(const struct entry *entry, struct pn_cpu_state *s) {
    x87_state(s);
    memset(s->gpr, 0, sizeof(s->gpr));
    s->rflags = 2;
    s->gpr[0] = entry->rax;
    s->gpr[3] = entry->rbx;
    s->gpr[6] = entry->rsi;
    if (entry->mode == ENTRY_REAL) {
        real_state(entry, s);
        return;
    }
    s->rip = entry->rip;
    s->gpr[4] = BOOT_STACK;
    flat_segments(entry->mode, s);
    s->cr0 = CR0_PE | CR0_ET | CR0_NE;
    if (entry->mode == ENTRY_LONG) {
        s->cr0 |= CR0_PG | CR0_WP | CR0_MP;
        s->cr4 = CR4_PAE | (entry->la57 ? CR4_LA57 : 0);
        s->cr3 = entry->la57 ? BOOT_PML5 : BOOT_PML4;
        s->efer = EFER_LME | EFER_LMA;
    }
}
