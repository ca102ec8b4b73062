/* SPDX-License-Identifier: MIT */
/*
 * A CPU without a translator over 4 MiB of guest memory: tests of the system half call
 * its op_* functions directly. Memory map (identity mapped, user, writable):
 *
 *   0x01000  page tables          0x10000  GDT      0x11000  IDT     0x12000  TSS
 *   0x13000  LDT                  0x14000  second TSS
 *   0x200000 .. 0x3fffff  mapped by 4 KiB entries at 0x5000, for tests to change
 *   0xfee00000  no slot: MMIO
 */
#pragma once

#include <check.h>

#include "cpu/system.h"

#define RAM_SIZE 0x400000u
#define GDT      0x10000u
#define IDT      0x11000u
#define TSS      0x12000u
#define LDT      0x13000u
#define TSS2     0x14000u
#define PT       0x5000u
#define PAGES    0x200000u /* what PT maps */
#define MMIO     0xfee00000u

/* Selectors of the GDT that fix_long and fix_prot lay out. */
enum {
    KCODE = 0x08, /* 64-bit in fix_long, 32-bit in fix_prot */
    KDATA = 0x10,
    UCODE32 = 0x18, /* SYSRET's order */
    UDATA = 0x20,
    UCODE = 0x28,
    KCODE32 = 0x30,
    ABSENT = 0x38, /* data, not present */
    EXECONLY = 0x40,
    READONLY = 0x48,
    CONFORM = 0x50,
    TSS_SEL = 0x58, /* 16 bytes in long mode */
    LDT_SEL = 0x68,
    GATE_SEL = 0x78,
    TSS2_SEL = 0x88,
    TASK_SEL = 0x98, /* a task gate to TSS2_SEL */
    CODE16 = 0xa0,
    DATA16 = 0xa8,
    DOWN = 0xb0, /* expand-down data, limit 0xfff */
    GDT_END = 0xb8
};

#define A_CODE64 0xa09bu
#define A_CODE32 0xc09bu
#define A_DATA   0xc093u
#define A_DPL3   0x60u

struct fix {
    struct cpu *cpu;
    uint8_t *ram;
    struct pn_stats stats;
    struct pn_bus bus;
    int irq;           /* vector that intr_ack hands out, or -1 */
    unsigned eois;     /* that intr_eoi was called */
    uint64_t mmio_val; /* read by MMIO, and last written */
    pn_gpa mmio_gpa;
    unsigned mmio_size, mmio_count;
    struct cpu_model *model;
};
extern struct fix fx;

void fix_create(void);
void fix_create_unaudited(void); /* without the MMU's audit: for many rounds */
void fix_destroy(void);
void fix_real(void); /* real mode, CS:IP 1000:0, SS:SP 2000:1000 */
void fix_prot(void); /* 32-bit protected mode, paging off, ring 0 */
void fix_long(void); /* 64-bit mode, ring 0 */
/* Go to ring 3 (fix_long or fix_prot) by setting the registers. */
void fix_user(void);

/* Each VM exit so far is counted by its kind, too. */
void ck_exits_counted(void);

void ram_put(uint32_t gpa, uint64_t value, unsigned size);
uint64_t ram_get(uint32_t gpa, unsigned size);
uint64_t make_desc(uint32_t base, uint32_t limit, uint32_t attr);
void gdt_set(unsigned sel, uint64_t raw);
void gate_set(unsigned vector, uint16_t sel, uint64_t offset, unsigned type, unsigned dpl,
              unsigned ist);
/* An instruction of two bytes at cpu->rip, no memory operand. */
struct insn insn_new(unsigned opsize);
struct insn insn_mem(unsigned opsize, uint64_t address, unsigned size);
struct insn insn_reg(unsigned opsize, unsigned reg, unsigned size);

/* The fault that rc == CPU_FAULT left. error -1: none. */
#define ck_fault(rc, vec, err)                                                           \
    do {                                                                                 \
        ck_assert_int_eq(rc, CPU_FAULT);                                                 \
        ck_assert_uint_eq(fx.cpu->fault.vector, vec);                                    \
        ck_assert_int_eq(fx.cpu->fault.has_error ? (long)fx.cpu->fault.error : -1L,      \
                         (long)(err));                                                   \
    } while (0)

/* A TCase that ends a case that hangs, and not one that a busy host holds up (tests/suite.h). */
TCase *fix_case(const char *name);
int fix_run(Suite *suite);
