/* SPDX-License-Identifier: MIT */
/*
 * A guest whose ring 3 is like a Linux process: the same selectors, nothing mapped but
 * code and data. What its ring 0 needs (GDT, IDT, TSS, handlers that halt, their stack)
 * stands in the upper half of the addresses.
 */
#include "guest.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/control.h"
#include "cpu/xstate.h"

/* Guest-physical. */
#define TABLES   0x1000000u
#define SYSTEM   0x10000u
#define CODE_GPA 0x400000u
#define DATA_GPA 0x800000u
/* The system's pages, at SYS in linear addresses. */
#define SYS     UINT64_C(0xffff800000000000)
#define GDT_AT  0x0u
#define TSS_AT  0x800u
#define IDT_AT  0x1000u
#define STUB_AT 0x2000u
#define IST_TOP 0x6000u
#define PAGES   6u
#define VECTORS 256u
#define TSS_SEL 0x40u

static void put64(struct diff_guest *d, uint64_t gpa, uint64_t v) {
    memcpy(d->g.ram + gpa, &v, 8);
}

/* Map a page: tables are taken as they are needed. */
static void map_page(struct diff_guest *d, uint64_t lin, uint64_t gpa, uint64_t bits,
                     uint64_t *next) {
    uint64_t table = TABLES;
    for (unsigned shift = 39; shift > 12; shift -= 9) {
        uint64_t at = table + (lin >> shift & 511) * 8, entry;
        memcpy(&entry, d->g.ram + at, 8);
        if (!entry) {
            *next += 0x1000;
            entry = *next | 7;
            put64(d, at, entry);
        }
        table = entry & ~UINT64_C(0xfff);
    }
    put64(d, table + (lin >> 12 & 511) * 8, gpa | bits);
}

static void build_tables(struct diff_guest *d) {
    uint64_t next = TABLES;
    memset(d->g.ram + TABLES, 0, 0x20000);
    for (unsigned i = 0; i < PAGES; i++)
        map_page(d, SYS + i * 4096, SYSTEM + i * 4096, 0x63, &next);
    map_page(d, DIFF_CODE, CODE_GPA, 0x65, &next);
    for (unsigned i = 0; i < DIFF_PAGES; i++)
        if (i != DIFF_ABSENT)
            map_page(d, DIFF_DATA + i * 4096, DATA_GPA + i * 4096,
                     UINT64_C(1) << 63 | (i == DIFF_READONLY ? 0x65 : 0x67), &next);
}

/* A descriptor by what LAR and LSL say; its base, which they do not tell, is 0. */
static uint64_t descriptor(const struct diff_descriptor *h) {
    uint32_t limit = h->access & 0x800000 ? h->limit >> 12 : h->limit;
    return (uint64_t)(h->access & 0xf0ff00) << 32 | (limit & 0xffff) |
           (uint64_t)(limit & 0xf0000) << 32;
}

static void build_system(struct diff_guest *d) {
    struct cpu *cpu = d->g.cpu;
    uint64_t ist = SYS + IST_TOP;
    for (unsigned i = 0; i < DIFF_SELECTORS; i++)
        put64(d, SYSTEM + GDT_AT + i * 8,
              d->sh->gdt[i].visible ? descriptor(&d->sh->gdt[i]) : 0);
    put64(d, SYSTEM + GDT_AT + 0x10, UINT64_C(0x00af9b000000ffff));
    put64(d, SYSTEM + GDT_AT + 0x18, UINT64_C(0x00cf93000000ffff));
    memcpy(d->g.ram + SYSTEM + TSS_AT + 4, &ist, 8);
    memcpy(d->g.ram + SYSTEM + TSS_AT + 36, &ist, 8);
    d->g.ram[SYSTEM + TSS_AT + 102] = 0xff; /* no I/O bitmap */
    d->g.ram[SYSTEM + TSS_AT + 103] = 0xff;
    for (unsigned v = 0; v < VECTORS; v++) {
        uint64_t to = SYS + STUB_AT + v * 16, dpl = v == VEC_BP || v == VEC_OF ? 3 : 0;
        put64(d, SYSTEM + IDT_AT + v * 16,
              (to & 0xffff) | 0x10 << 16 | (UINT64_C(0x8e01) | dpl << 13) << 32 |
                  (to >> 16 & 0xffff) << 48);
        put64(d, SYSTEM + IDT_AT + v * 16 + 8, to >> 32);
        memset(d->g.ram + SYSTEM + STUB_AT + v * 16, 0xf4, 16); /* HLT */
    }
    cpu->gdtr.base = SYS + GDT_AT;
    cpu->gdtr.limit = DIFF_SELECTORS * 8 - 1;
    cpu->idtr.base = SYS + IDT_AT;
    cpu->idtr.limit = VECTORS * 16 - 1;
    cpu->seg[SEG_LDTR] = (struct pn_segment){0, ATTR_UNUSABLE | 2, 0, 0};
    cpu->seg[SEG_TR] = (struct pn_segment){TSS_SEL, 0x8b, 0x67, SYS + TSS_AT};
}

void diff_guest_create(struct diff_guest *d, const struct diff_guest_kind *kind,
                       const char *model, const struct diff_shared *sh) {
    memset(d, 0, sizeof *d);
    d->sh = sh;
    d->name = kind->name;
    d->steps = kind->steps;
    guest_create(&d->g, &(struct guest_options){.kind = kind->mmu,
                                                .max_block = kind->max_block,
                                                .code_bytes = 4 << 20,
                                                .model = model});
    struct cpu *cpu = d->g.cpu;
    d->data = d->g.ram + DATA_GPA;
    memset(d->g.ram + CODE_GPA, 0xcc, DIFF_CODE_SIZE);
    memcpy(d->data, sh->before, DIFF_DATA_SIZE);
    build_tables(d);
    build_system(d);
    cpu->cr0 |= CR0_AM;
    cpu->cr3 = TABLES;
    cpu_update_paging(cpu);
}

void diff_guest_destroy(struct diff_guest *d) {
    guest_destroy(&d->g);
}

/* ---- One case ---- */

static void put_segments(struct diff_guest *d, const struct diff_case *c) {
    struct cpu *cpu = d->g.cpu;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        cpu->seg[s] = c->code64 ? (struct pn_segment){0, ATTR_UNUSABLE, 0, 0}
                                : (struct pn_segment){DIFF_DS, 0xc0f3, 0xffffffff, 0};
    cpu->seg[SEG_SS] = (struct pn_segment){DIFF_DS, 0xc0f3, 0xffffffff, 0};
    cpu->seg[SEG_CS] = c->code64 ? (struct pn_segment){DIFF_CS64, 0xa0fb, 0xffffffff, 0}
                                 : (struct pn_segment){DIFF_CS32, 0xc0fb, 0xffffffff, 0};
    if (c->code64) {
        cpu->seg[SEG_FS].base = DIFF_FS;
        cpu->seg[SEG_GS].base = DIFF_GS;
    }
    cpu->cpl = 3;
}

static void put_code(struct diff_guest *d, const struct diff_case *c) {
    static const uint8_t int3[16] = {0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
                                     0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc};
    if (d->code_len)
        pn_mmu_write_phys(d->g.mmu, CODE_GPA + d->code_at, int3, d->code_len);
    d->code_at = (uint32_t)(c->rip - DIFF_CODE);
    d->code_len = c->len;
    pn_mmu_write_phys(d->g.mmu, CODE_GPA + d->code_at, c->code, c->len);
}

/* The handler has halted: what it was entered with. */
static void take_frame(struct diff_guest *d, struct diff_outcome *o) {
    uint64_t frame[6];
    o->trap = (d->g.cpu->rip - 1 - SYS - STUB_AT) / 16;
    bool has_error = o->trap < 32 && (0x227d00u >> o->trap & 1);
    memcpy(frame, d->g.ram + SYSTEM + IST_TOP - sizeof frame, sizeof frame);
    if (has_error)
        o->error = frame[0];
    o->rip = frame[1];
    o->sel[DIFF_CS_] = (uint16_t)frame[2];
    o->rflags = frame[3];
    o->gpr[R_SP] = frame[4];
    o->sel[DIFF_SS] = (uint16_t)frame[5];
    o->cr2 = o->trap == VEC_PF ? d->g.cpu->cr2 : 0;
}

static void take(struct diff_guest *d, struct diff_outcome *o) {
    struct cpu *cpu = d->g.cpu;
    memcpy(o->gpr, cpu->gpr, sizeof o->gpr);
    take_frame(d, o);
    o->sel[DIFF_ES] = cpu->seg[SEG_ES].sel;
    o->sel[DIFF_DS_] = cpu->seg[SEG_DS].sel;
    o->sel[DIFF_FS_] = cpu->seg[SEG_FS].sel;
    o->sel[DIFF_GS_] = cpu->seg[SEG_GS].sel;
    o->fs_base = cpu->seg[SEG_FS].base;
    o->gs_base = cpu->seg[SEG_GS].base;
    xstate_settle(cpu);
    memcpy(&o->fcw, cpu->xsave, 2);
    memcpy(&o->fsw, cpu->xsave + 2, 2);
    o->ftw = cpu->xsave[4];
    memcpy(&o->mxcsr, cpu->xsave + 24, 4);
    for (unsigned i = 0; i < 8; i++)
        memcpy(o->st[i], cpu->xsave + 32 + 16 * i, 10);
    memcpy(o->xmm, cpu->xsave + 160, 256);
    memcpy(o->ymm, cpu->xsave + XSAVE_AVX, sizeof o->ymm);
    memcpy(o->k, cpu->xsave + XSAVE_OPMASK, sizeof o->k);
    memcpy(o->zmm, cpu->xsave + XSAVE_ZMM_HI, sizeof o->zmm);
    memcpy(o->high, cpu->xsave + XSAVE_HI16, sizeof o->high);
}

void diff_guest_run(struct diff_guest *d, const struct diff_case *c,
                    struct diff_outcome *o, uint8_t *after) {
    struct cpu *cpu = d->g.cpu;
    memset(o, 0, sizeof *o);
    put_segments(d, c);
    put_code(d, c);
    diff_poke(c, d->data);
    memcpy(cpu->gpr, c->gpr, sizeof cpu->gpr);
    memcpy(cpu->xsave, c->xsave, DIFF_XSAVE);
    cpu->rip = c->rip;
    cpu->halted = 0;
    cpu_set_rflags(cpu, c->rflags | (d->steps ? DIFF_TF : 0));
    cpu_update_mode(cpu);
    if (cpu_run(cpu, cpu_insns(cpu) + 100000) == CPU_EXIT_HALT)
        take(d, o);
    else
        o->trap = 999;
    if (after)
        memcpy(after, d->data, DIFF_DATA_SIZE);
    o->memory = diff_result(c, d->sh->before, d->data);
    diff_restore(d->sh->before, d->data);
}
