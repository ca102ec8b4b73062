/* SPDX-License-Identifier: MIT */
/*
 * Between the guest's two rings: memory layout, what ring 3 is told, and calls.
 *
 * A call from ring 3 is UD2 or INT3 with the number in RAX and arguments in RDI, RSI,
 * RDX, RCX; the result comes back in RAX (UD2 and INT3 work natively wherever KVM runs,
 * SYSCALL does not).
 */
#pragma once

/* What entry.S needs too. */
#define CALL_NOP 0

#ifndef __ASSEMBLER__
#include <stdint.h>

#define PAGE       4096ul
#define LARGE_PAGE (2ul << 20)

/* The pages that ring 3 works on: each address space has its own tables for them. */
#define REGION 0x100000000000ul
/* Tables that all spaces share, but for the demo's two. */
#define COMMON 0x108000000000ul

#define USER_STACK 16384

#define PORT_SERIAL     0x3f8
#define PORT_DEBUG_EXIT 0xf4
#define PORT_ECHO       0xe0         /* src/dev/testdev.c: four bytes that remember */
#define PORT_DENIED     0x80         /* not in the TSS's bitmap: ring 3 gets #GP */
#define MMIO_ECHO       0xff000000ul /* the same device's memory */

#define LINE_MAX 2048
struct params {
    uint64_t memory; /* bytes of RAM that the guest found, for its first line */
    uint64_t free;   /* bytes that CALL_ALLOC can give out, tables included */

    char line[LINE_MAX]; /* the kernel command line, NUL at its end */
};

enum call {
    CALL_NULL = CALL_NOP,
    CALL_EXIT,  /* (v): end the guest; 0: power off, else v - 1 to the debug-exit port */
    CALL_COUNT, /* (enum count): a counter of ring 0's */
    CALL_ALLOC, /* (bytes, align): contiguous zero frames; their address, or 0 */
    CALL_MAP,   /* (gva, pa, n, MAP_*): map n pages to consecutive frames */
    CALL_UNMAP, /* (gva, n, MAP_*): take n pages away */
    CALL_ON_FAULT, /* (enum on_fault, gva, n, pa): what faults in that range mean */
    CALL_PROTECT,  /* (gva, n): make n 4K pages read-only, INVLPG each */
    CALL_SWAP,     /* (gva, gva): exchange two leaf entries, INVLPG both */
    CALL_SPACE,    /* (): a new address space; its number, or 0 when there are too many */
    CALL_SWITCH,   /* (space, noflush): load the CR3 of an address space */
    CALL_PCID,     /* (on): CR4.PCIDE; 1 when it is as asked */
    CALL_FORK,     /* (space, gva, n): copy the tables of n 4K pages into it, both sides
                      read-only */
    CALL_DROP,     /* (space, gva, n): free the tables of n 4K pages */
    CALL_SPLIT,    /* (gva): a 2M mapping becomes 512 of 4K */
    CALL_MERGE,    /* (gva): and one again */
    CALL_CLEAN,    /* (gva, n): clear A and D of n 4K pages, flush */
    CALL_DIRTY,    /* (gva, n): how many of n 4K pages have D */
    CALL_ACCESSED, /* (gva, n): how many of n 4K pages have A */
    CALL_TABLES,   /* (list, n): the frames of all page tables, n at most; how many */
    CALL_NESTED, /* (enum nested_way, pages, rounds, stride): set a guest's guest up; enum
                    nested_ready */
    CALL_NESTED_RUN, /* (): run it to its end */
    CALL_TRAP, /* (enum exit_kind, n, gva): do such an instruction n times in ring 0 */
};

enum {
    MAP_WRITE = 1,
    MAP_LARGE = 2,      /* pages and frames of 2M */
    MAP_INVLPG = 4,     /* after each page */
    MAP_FLUSH = 8,      /* load CR3 at the end */
    MAP_SPACE_SHIFT = 8 /* << : not in space 0, but in that one */
};

enum on_fault {
    FAULT_PANIC,
    FAULT_DEMAND, /* not present: map the frame of the same index at pa */
    FAULT_ALLOC,  /* not present: map a new frame */
    FAULT_WRITE,  /* read-only: make it writable */
    FAULT_COPY,   /* read-only: copy to the next frame at pa, map that writable */
};

enum exit_kind { EXIT_OUT, EXIT_CPUID, EXIT_MMIO, EXIT_HYPERCALL /* ring 3 only */ };

enum nested_way { NESTED_NPT, NESTED_SHADOW, NESTED_HYPERCALL };
enum nested_ready { NESTED_READY, NESTED_NO_SVM, NESTED_NO_MEMORY };

enum count {
    COUNT_DEMAND,
    COUNT_WRITE_FAULTS,
    COUNT_DENIED_IO,
    COUNT_NO_HYPERCALL,
    COUNT_NESTED_FAULTS, /* #PFs of the guest's guest that it handled */
    COUNT_NESTED_WRITES, /* entries of its tables that it wrote then */
    COUNT_NESTED_EXITS,  /* its exits */
    COUNT_NESTED_MAPS, /* entries of nested or shadow tables that its hypervisor wrote */
    COUNT_NESTED_SUM,  /* what it computed */
    COUNTS
};

#endif
