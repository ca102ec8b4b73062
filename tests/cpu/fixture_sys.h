/* SPDX-License-Identifier: MIT */
/* A CPU without its translator: helpers are called on it directly, one by one. */
#pragma once

#include <check.h>

#include "cpu/control.h"
#include "cpu/model.h"

#define SYS_RAM    (4u << 20)
#define SYS_MMIO   0x8000000u /* a gpa with no slot */
#define SYS_TABLES 0x3f0000u  /* page tables live here, up to the end of RAM */
/* Linear pages 0 .. SYS_PAGES-1 are mapped one by one by sys_map. */
#define SYS_PAGES 512u

struct sys {
    struct cpu *cpu;
    uint8_t *ram;
    struct pn_stats stats;
    struct pn_bus bus;
    struct cpu_model *model;
    /* What the bus saw. */
    unsigned mmio_writes, mmio_reads, pio_writes, pio_reads, tracked;
    unsigned track_ends; /* the page of this tracked write is untracked by it; 0: none */
    uint64_t last_address, last_value, next_read, apic_base, cr8;
    unsigned last_size;
};

/* A CPU after reset, paging off. */
struct sys *sys_new(const char *model);
void sys_free(struct sys *s);
/* Into 64-bit mode at CPL 0, paging on, linear = physical for the first 2 MiB. */
void sys_long_mode(struct sys *s);
/* In long mode: map linear page `page` to frame gfn with these flags (0: not present). */
void sys_map(struct sys *s, unsigned page, uint64_t gfn, uint64_t flags);
/* Set CPL and what follows from it. */
void sys_cpl(struct sys *s, unsigned cpl);
/* An instruction with no operands, of this operand and address size. */
struct insn sys_insn(unsigned opsize, unsigned addrsize);
/* The same with the memory operand [disp]. */
struct insn sys_mem_insn(unsigned opsize, uint64_t address);

#define assert_fault(s, rc, vec, code)                                                   \
    do {                                                                                 \
        ck_assert_int_eq((rc), CPU_FAULT);                                               \
        ck_assert_uint_eq((s)->cpu->fault.vector, (vec));                                \
        ck_assert_uint_eq((s)->cpu->fault.error, (code));                                \
    } while (0)
