/* SPDX-License-Identifier: MIT */
/*
 * Between the guest's two rings: memory layout, parameters and calls.
 *
 * A call from ring 3 is UD2 with the number in RAX and arguments in RDI, RSI; the result
 * comes back in RAX (UD2 and INT3 work natively wherever KVM runs, SYSCALL does not).
 */
#ifndef GUEST_ABI_H
#define GUEST_ABI_H

#include <stdint.h>

#define PAGE 4096ul

/* Demand-faulted pages, the same in both address spaces. */
#define REGION 0x100000000000ul
/* One page with a frame of its own in each address space. */
#define PRIVATE 0x108000000000ul

#define USER_STACK 16384

#define PORT_SERIAL     0x3f8
#define PORT_DEBUG_EXIT 0xf4
#define PORT_DENIED     0x80 /* not in the TSS's bitmap: ring 3 gets #GP */

/* From the kernel command line ("pages=4096 ..."), or the defaults. */
struct params {
    uint64_t pages;    /* fresh pages touched */
    uint64_t swaps;    /* pairs of page table entries exchanged */
    uint64_t flips;    /* pages made read-only and written again */
    uint64_t switches; /* changes of the address space */
    uint64_t compute;  /* rounds of the compute loop */
    uint64_t exit;     /* 0: power off; else the value for the debug-exit port, less 1 */
    uint64_t memory;   /* bytes of RAM that the guest found, for its first line */
};

enum call {
    CALL_EXIT,    /* (failed): end the guest */
    CALL_SWAP,    /* (gva, gva): exchange two leaf entries, INVLPG both */
    CALL_PROTECT, /* (gva, n): make n pages read-only */
    CALL_SWITCH,  /* (space): load the CR3 of address space 0 or 1 */
    CALL_CLEAN,   /* (gva, n): clear A and D of n pages, flush */
    CALL_DIRTY,   /* (gva, n): how many of n pages have D */
    CALL_COUNT,   /* (enum count): a counter of ring 0's */
};

enum count { COUNT_DEMAND, COUNT_WRITE_FAULTS, COUNT_DENIED_IO, COUNTS };

#endif
