/* SPDX-License-Identifier: MIT */
/*
 * A whole guest for tests of the translator: the software CPU over the real MMU, in
 * 64-bit mode, flat, 32 MiB of RAM. Linear addresses from GUEST_BASE on are RAM from 0
 * on, user and writable, by 4 KiB entries; the page tables stand in the last MiB of RAM.
 */
#pragma once

#include "cpu/cpu.h"

#define GUEST_RAM  (32u << 20)
#define GUEST_BASE UINT64_C(0x10000000)
#define GUEST_MMIO UINT64_C(0x1ff000) /* RAM page at this offset is MMIO instead */

struct guest {
    struct pn_mmu *mmu;
    struct cpu *cpu;
    struct cpu_model *model;
    struct pn_stats stats;
    struct pn_bus bus;
    uint8_t *ram;
    uint64_t mmio[512]; /* what the MMIO page holds */
    uint64_t mmio_ops;
};

struct guest_options {
    uint32_t max_block;
    size_t code_bytes;
    bool user; /* CPL 3 */
    enum pn_mmu_kind kind;
    const char *model;    /* as for --cpu; NULL: max */
    bool small_pages;     /* no large mappings */
    struct pn_ring *ring; /* of events, or NULL */
};

/* CR3 as guest_create leaves it. */
#define GUEST_CR3 (GUEST_RAM - (1u << 20))

/* Aborts when the host refuses. */
void guest_create(struct guest *g, const struct guest_options *opt);
void guest_destroy(struct guest *g);
/* Set the leaf gpte of a linear address, as a store of the guest's would. */
void guest_gpte(struct guest *g, uint64_t gva, uint64_t gpte);
/* Registers as after a boot loader, rip and rsp as given. */
void guest_start(struct guest *g, uint64_t rip, uint64_t rsp);

/* An IDT whose handlers halt in ring 0 on a stack of their own, and segments for ring 3.
 */
void guest_idt(struct guest *g);
/* Go to ring 3 with empty events, after guest_idt. */
void guest_user(struct guest *g);
/* After CPU_EXIT_HALT in a handler: what was interrupted. */
void guest_trapped(struct guest *g, uint64_t *vector, uint64_t *error, uint64_t *rip,
                   uint64_t *rflags, uint64_t *rsp);
