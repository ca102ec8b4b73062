/* SPDX-License-Identifier: MIT */
/*
 * Ring 0 as a hypervisor (L1) by AMD's SVM, and the guest in it (L2), for the workload nested.
 *
 * L2 is a kernel of two functions. It touches pages that it has not mapped; its #PF handler
 * maps each, and makes what tables that needs. L1 gives L2 memory in one of three ways:
 *
 * NPT: nested tables, filled where L2 comes. Nothing else exits.
 * SHADOW: L1 shadows L2's tables, which L2 cannot write: each entry written exits, and so does
 *   each fault, be it L2's own or the shadow tables'.
 * HYPERCALL: shadow tables as well, but L2 asks for all entries of a fault by one VMMCALL, and L1
 *   fills its own tables at once.
 *
 * Source: APM volume 2, chapter "Secure Virtual Machine".
 */
#include "ring0.h"

#define P     1ul
#define W     2ul
#define U     4ul
#define LARGE 0x80ul
#define FRAME 0x000ffffffffff000ul
#define TABLE (P | W | U)
#define POOL  (8ul << 20) /* of L2's tables */
#define L2_DATA                                                                          \
    (1ul << 39) /* from here on L2 touches pages; their frames in its memory, too */

enum { EXIT_PF = 0x4e, EXIT_VMMCALL = 0x81, EXIT_NPF = 0x400 };
enum { L2_ENDS, L2_MAPS }; /* RAX of its hypercalls */

struct l2_update { /* one of a hypercall */
    uint64_t *entry, value;
};

extern char l2_fault_entry[], l2_store[], l2_start[], l2_stack_top[];
void l2_set(uint64_t *entry, uint64_t value); /* the store is at l2_store, of 3 bytes */
void l2_call(uint64_t number, const void *list, uint64_t n, uint64_t gva);
void l2_main(void);
void l2_fault(uint64_t gva);
void svm_enter(void *vmcb, uint64_t regs[15]);

static uint8_t vmcb[4096] __attribute__((aligned(4096)));
static uint8_t hsave[4096] __attribute__((aligned(4096)));
static uint64_t l2_idt[32] __attribute__((aligned(16)));
static struct {
    uint64_t way, pages, rounds, stride;
    uint64_t pool, pool_end, l2_root; /* L2's tables, one to one in its memory */
    uint64_t data;                    /* of page i at L2_DATA + i * stride: i pages on */
    uint64_t *root;                   /* L1's: nested or shadow tables */
} nest;
static uint64_t regs[15]; /* of L2, but for RAX and RSP: RBX, RCX, RDX, RSI, RDI, ... */
enum { RSI = 3, RDI = 4, RDX = 2 };

/* ---- L2 ---- */

static uint64_t l2_new_table(void) {
    uint64_t at = nest.pool;
    nest.pool += PAGE;
    if (nest.pool > nest.pool_end)
        panic("end of the second guest's tables", 0);
    return at;
}

/* The handler of #PF. */
void l2_fault(uint64_t gva) {
    struct l2_update list[4];
    uint64_t n = 0, table = nest.l2_root;
    counts[COUNT_NESTED_FAULTS]++;
    for (unsigned shift = 39;; shift -= 9) {
        uint64_t *entry = (uint64_t *)table + (gva >> shift & 511), v = *entry;
        if (shift == 12)
            v = gva | P | W;
        else if (!(v & P))
            v = l2_new_table() | P | W;
        if (v != *entry)
            list[n++] = (struct l2_update){entry, v};
        if (shift == 12)
            break;
        table = v & FRAME;
    }
    counts[COUNT_NESTED_WRITES] += n;
    if (nest.way == NESTED_HYPERCALL)
        l2_call(L2_MAPS, list, n, gva);
    for (uint64_t i = n; nest.way != NESTED_HYPERCALL && i; i--)
        l2_set(list[i - 1].entry, list[i - 1].value);
}

void l2_main(void) {
    uint64_t sum = 0;
    for (uint64_t r = 0; r < nest.rounds; r++)
        for (uint64_t i = 0; i < nest.pages; i++) {
            volatile uint64_t *at = (uint64_t *)(L2_DATA + i * nest.stride);
            *at += i ^ r;
            sum = sum * 31 + *at;
        }
    counts[COUNT_NESTED_SUM] = sum;
    l2_call(L2_ENDS, 0, 0, 0);
}

/* ---- L1's own tables for L2 ---- */

static uint64_t new_table(void) {
    uint64_t at = tables_alloc(PAGE, PAGE);
    if (!at)
        panic("end of memory", 0);
    return at;
}

/* Map `to` at an address of L2's, by a page of level 1 or 2. */
static void map(uint64_t address, uint64_t to, unsigned level, uint64_t bits) {
    uint64_t *table = nest.root;
    for (unsigned shift = 39; shift > 3 + 9 * level; shift -= 9) {
        uint64_t *e = &table[address >> shift & 511];
        if (!(*e & P)) {
            *e = new_table() | TABLE;
            counts[COUNT_NESTED_MAPS]++;
        }
        table = (uint64_t *)(*e & FRAME);
    }
    table[address >> (3 + 9 * level) & 511] = to | bits | (level == 2 ? LARGE : 0);
    counts[COUNT_NESTED_MAPS]++;
}

/* Where L1 has the data page at that address of L2's memory. */
static uint64_t frame_of(uint64_t address) {
    uint64_t i = (address - L2_DATA) / nest.stride;
    if (address < L2_DATA || i >= nest.pages)
        panic("the second guest left its memory", 0);
    return nest.data + i * PAGE;
}

/* Return: the entry of L2's tables for an address, or 0. */
static uint64_t l2_entry(uint64_t gva) {
    uint64_t table = nest.l2_root;
    for (unsigned shift = 39;; shift -= 9) {
        uint64_t e = ((uint64_t *)table)[gva >> shift & 511];
        if (!(e & P) || shift == 12)
            return e & P ? e : 0;
        table = e & FRAME;
    }
}

static void shadow(uint64_t gva) {
    map(gva & ~(PAGE - 1), frame_of(l2_entry(gva) & FRAME), 1, P | W);
}

/* ---- The VMCB ---- */

static inline uint64_t *field(unsigned at) {
    return (uint64_t *)(vmcb + at);
}

static void set_segment(unsigned at, uint64_t selector, uint64_t attributes) {
    *field(0x400 + at) = selector | attributes << 16 | 0xfffffffful << 32;
}

static uint64_t read_cr(unsigned n) {
    uint64_t v;
    if (n == 0)
        __asm__ volatile("movq %%cr0, %0" : "=r"(v));
    else
        __asm__ volatile("movq %%cr4, %0" : "=r"(v));
    return v;
}

static void make_vmcb(void) {
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdtr;
    __asm__ volatile("sgdt %0" : "=m"(gdtr));
    *(uint32_t *)field(0x08) = nest.way == NESTED_NPT ? 0 : 1u << 14; /* #PF */
    *(uint32_t *)field(0x10) = 3;                                     /* VMRUN, VMMCALL */
    *(uint32_t *)field(0x58) = 1;                                     /* ASID */
    *field(0x90) = nest.way == NESTED_NPT;
    *field(0xb0) = (uint64_t)nest.root;
    set_segment(0x00, 0x10, 0xc93);
    set_segment(0x10, 0x08, 0xa9b);
    set_segment(0x20, 0x10, 0xc93);
    set_segment(0x30, 0x10, 0xc93);
    *field(0x460) = (uint64_t)gdtr.limit << 32;
    *field(0x468) = gdtr.base;
    *field(0x480) = (sizeof(l2_idt) - 1) << 32;
    *field(0x488) = (uint64_t)l2_idt;
    *field(0x4d0) = read_msr(0xc0000080);
    *field(0x548) = read_cr(4);
    *field(0x550) = nest.way == NESTED_NPT ? nest.l2_root : (uint64_t)nest.root;
    *field(0x558) = read_cr(0);
    *field(0x560) = 0x400;
    *field(0x568) = 0xffff0ff0;
    *field(0x570) = 2;
    *field(0x578) = (uint64_t)l2_start;
    *field(0x5d8) = (uint64_t)l2_stack_top;
    *field(0x668) = 0x0007040600070406;
}

/* ---- Set-up and the run ---- */

static int has_svm(void) {
    uint32_t out[4];
    cpuid(0x80000000, out);
    if (out[0] < 0x8000000a)
        return 0;
    cpuid(0x80000001, out);
    if (!(out[2] & 4))
        return 0;
    cpuid(0x8000000a, out);
    return out[3] & 1; /* nested paging */
}

/* In L2's own tables, whose pages it finds one to one: the image, and the tables. */
static void l2_identity(void) {
    uint64_t *l4 = (uint64_t *)l2_new_table(), *l3 = (uint64_t *)l2_new_table();
    nest.l2_root = (uint64_t)l4;
    l4[0] = (uint64_t)l3 | P | W;
    for (uint64_t gib = 0; gib < 4; gib++) {
        uint64_t *l2 = (uint64_t *)l2_new_table();
        l3[gib] = (uint64_t)l2 | P | W;
        for (uint64_t i = 0; i < 512; i++)
            l2[i] = gib << 30 | i << 21 | P | W | LARGE;
    }
}

/* Tables of L2's at the end, at most. */
static uint64_t l2_tables(void) {
    uint64_t each = 0;
    for (uint64_t span = 2ul << 20; span <= nest.stride; span <<= 9)
        each++;
    return 16 + nest.pages / 512 + nest.pages * each;
}

uint64_t nested_set_up(uint64_t way, uint64_t pages, uint64_t rounds, uint64_t stride) {
    if (!has_svm())
        return NESTED_NO_SVM;
    nest.way = way;
    nest.pages = pages;
    nest.rounds = rounds;
    nest.stride = stride;
    nest.pool = tables_alloc(POOL, 2ul << 20);
    nest.pool_end = nest.pool + POOL;
    nest.data = tables_alloc(pages * PAGE, PAGE);
    nest.root = (uint64_t *)tables_alloc(PAGE, PAGE);
    if (!nest.pool || !nest.data || !nest.root || l2_tables() > POOL / PAGE)
        return NESTED_NO_MEMORY;
    uint64_t pool = nest.pool, at = (uint64_t)l2_fault_entry;
    l2_identity();
    map(0, 0, 2, TABLE); /* the image */
    for (uint64_t i = 0; i < POOL; i += PAGE)
        map(pool + i, pool + i, 1, way == NESTED_NPT ? TABLE : P);
    l2_idt[2 * 14] =
        (at & 0xffff) | 0x08ul << 16 | 0x8eul << 40 | (at >> 16 & 0xffff) << 48;
    l2_idt[2 * 14 + 1] = at >> 32;
    write_msr(0xc0000080, read_msr(0xc0000080) | 1ul << 12); /* EFER.SVME */
    write_msr(0xc0010117, (uint64_t)hsave);
    make_vmcb();
    counts[COUNT_NESTED_MAPS] = 0;
    return NESTED_READY;
}

/* An exception of L2's. */
static void page_fault(uint64_t error, uint64_t gva) {
    if (error & P) { /* a write of an entry */
        if (*field(0x578) != (uint64_t)l2_store || regs[RDI] != gva)
            panic("page fault of the second guest's", 0);
        *(uint64_t *)gva = regs[RSI];
        *field(0x578) += 3;
    } else if (l2_entry(gva)) {
        shadow(gva);
    } else { /* its own: inject it */
        *field(0x640) = gva;
        *field(0xa8) = 14 | 3ul << 8 | 1ul << 11 | 1ul << 31 | error << 32;
    }
}

/* Return: L2 has ended. */
static int hypercall(void) {
    const struct l2_update *list = (const struct l2_update *)regs[RDI];
    if (*field(0x5f8) == L2_ENDS)
        return 1;
    for (uint64_t i = 0; i < regs[RSI]; i++)
        *list[i].entry = list[i].value;
    shadow(regs[RDX]);
    *field(0x578) += 3;
    return 0;
}

void nested_run(void) {
    for (int ended = 0; !ended;) {
        svm_enter(vmcb, regs);
        counts[COUNT_NESTED_EXITS]++;
        switch (*field(0x70)) {
        case EXIT_NPF:
            map(*field(0x80) & ~(PAGE - 1), frame_of(*field(0x80) & ~(PAGE - 1)), 1,
                TABLE);
            break;
        case EXIT_PF:
            page_fault(*field(0x78), *field(0x80));
            break;
        case EXIT_VMMCALL:
            ended = hypercall();
            break;
        default:
            panic("exit of the second guest", 0);
        }
    }
}
