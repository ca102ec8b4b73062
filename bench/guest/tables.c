/* SPDX-License-Identifier: MIT */
/*
 * Ring 0: physical memory and page tables, as ring 3 asks for them.
 *
 * Invariants
 * 1. The image is in the first 2 MiB of physical memory, all else above. Frames are given
 *    out in order and never come back. So they are zero without being cleared, and the
 *    same run has the same frames. Page tables come back, to a list of their own.
 * 2. RAM is mapped one to one in every address space, supervisor only, in 2M pages; the
 *    image in 4K pages, ring 3's part of it for ring 3.
 * 3. Every address space has its own tables for REGION and shares those for COMMON.
 * 4. Ring 3 is part of the same guest, so its arguments are not checked: a wrong one
 *    hurts this guest alone.
 */
#include "ring0.h"

#define PTE_P   0x1ul
#define PTE_W   0x2ul
#define PTE_U   0x4ul
#define PTE_PS  0x80ul
#define PTE_NX  (1ul << 63)
#define FRAME   0x000ffffffffff000ul
#define TABLE   (PTE_P | PTE_W | PTE_U)
#define NOFLUSH (1ul << 63)

#define IDENTITY_GIB 3 /* RAM ends below the MMIO hole at 3 GiB */
#define SPACES_MAX   256

extern char user_text_start[], user_text_end[], user_data_start[], user_data_end[];

static uint64_t pml4[512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pd[IDENTITY_GIB][512] __attribute__((aligned(4096)));
static uint64_t pt[512] __attribute__((aligned(4096)));
static uint64_t *roots[SPACES_MAX] = {pml4};
static uint64_t spaces = 1;
static uint64_t current; /* address space */
static uint64_t pcid_on;
static uint64_t next_page, memory_end;
static uint64_t *free_tables; /* linked through their first entry */

static struct { uint64_t what, gva, bytes, pa; } on_fault;

static inline void invlpg(uint64_t gva) {
    __asm__ volatile("invlpg (%0)" : : "r"(gva) : "memory");
}

static inline void load_cr3(uint64_t v) {
    __asm__ volatile("movq %0, %%cr3" : : "r"(v) : "memory");
}

/* No page here is global: all of this space's translations go. */
static void flush(void) {
    load_cr3((uint64_t)roots[current] | (pcid_on ? current + 1 : 0));
}

/* ---- Physical memory ---- */

uint64_t tables_free(void) {
    return memory_end - next_page;
}

uint64_t tables_alloc(uint64_t bytes, uint64_t align) {
    uint64_t at = (next_page + align - 1) & ~(align - 1);
    bytes = (bytes + PAGE - 1) & ~(PAGE - 1);
    if (at > memory_end || memory_end - at < bytes)
        return 0;
    next_page = at + bytes;
    return at;
}

static uint64_t new_frame(void) {
    uint64_t pa = tables_alloc(PAGE, PAGE);
    if (!pa)
        panic("end of memory", 0);
    return pa;
}

static uint64_t new_table(void) {
    uint64_t *t = free_tables;
    if (!t)
        return new_frame();
    free_tables = (uint64_t *)*t;
    for (unsigned i = 0; i < 512; i++)
        t[i] = 0;
    return (uint64_t)t;
}

static void free_table(uint64_t *t) {
    *t = (uint64_t)free_tables;
    free_tables = t;
}

/* ---- Entries ---- */

/* The entry of gva at a level (1: 4K leaf, 2: 2M); tables above it are made as needed. */
static uint64_t *entry(uint64_t space, uint64_t gva, unsigned level) {
    uint64_t *table = roots[space];
    for (unsigned shift = 39; shift > 3 + 9 * level; shift -= 9) {
        uint64_t *e = &table[gva >> shift & 511];
        if (!(*e & PTE_P))
            *e = new_table() | TABLE;
        table = (uint64_t *)(*e & FRAME);
    }
    return &table[gva >> (3 + 9 * level) & 511];
}

static inline uint64_t *leaf(uint64_t gva) {
    return entry(current, gva, 1);
}

/* Is the next page's entry the one behind this page's? */
static inline int same_table(uint64_t gva, unsigned level) {
    return (gva >> (3 + 9 * level) & 511) != 0;
}

uint64_t tables_map(uint64_t gva, uint64_t pa, uint64_t n, uint64_t flags) {
    unsigned level = flags & MAP_LARGE ? 2 : 1;
    uint64_t size = 1ul << (3 + 9 * level), space = flags >> MAP_SPACE_SHIFT;
    uint64_t bits = PTE_P | PTE_U | PTE_NX | (flags & MAP_WRITE ? PTE_W : 0) |
                    (flags & MAP_LARGE ? PTE_PS : 0);
    uint64_t *e = 0;
    for (; n; n--, gva += size, pa += size, e++) {
        if (!e || !same_table(gva, level))
            e = entry(space, gva, level);
        *e = pa | bits;
        if (flags & MAP_INVLPG)
            invlpg(gva);
    }
    if (flags & MAP_FLUSH)
        flush();
    return 0;
}

uint64_t tables_unmap(uint64_t gva, uint64_t n, uint64_t flags) {
    unsigned level = flags & MAP_LARGE ? 2 : 1;
    uint64_t size = 1ul << (3 + 9 * level), space = flags >> MAP_SPACE_SHIFT;
    uint64_t *e = 0;
    for (; n; n--, gva += size, e++) {
        if (!e || !same_table(gva, level))
            e = entry(space, gva, level);
        *e = 0;
        if (flags & MAP_INVLPG)
            invlpg(gva);
    }
    if (flags & MAP_FLUSH)
        flush();
    return 0;
}

uint64_t tables_protect(uint64_t gva, uint64_t n) {
    for (; n; n--, gva += PAGE) {
        *leaf(gva) &= ~PTE_W;
        invlpg(gva);
    }
    return 0;
}

uint64_t tables_swap(uint64_t a, uint64_t b) {
    uint64_t *ea = leaf(a), *eb = leaf(b), e = *ea;
    *ea = *eb;
    *eb = e;
    invlpg(a);
    invlpg(b);
    return 0;
}

uint64_t tables_bits(uint64_t gva, uint64_t n, uint64_t mask, int clear) {
    uint64_t found = 0, *e = 0;
    for (; n; n--, gva += PAGE, e++) {
        if (!e || !same_table(gva, 1))
            e = leaf(gva);
        found += (*e & mask) == mask;
        if (clear)
            *e &= ~(PTE_A | PTE_D);
    }
    if (clear)
        flush();
    return found;
}

/* ---- Address spaces ---- */

uint64_t tables_space(void) {
    if (spaces == SPACES_MAX)
        return 0;
    uint64_t *root = (uint64_t *)new_table();
    entry(0, COMMON, 3);
    root[0] = pml4[0];
    root[COMMON >> 39 & 511] = pml4[COMMON >> 39 & 511];
    roots[spaces] = root;
    return spaces++;
}

uint64_t tables_switch(uint64_t space, uint64_t noflush) {
    current = space;
    load_cr3((uint64_t)roots[space] | (pcid_on ? space + 1 : 0) |
             (pcid_on && noflush ? NOFLUSH : 0));
    return 0;
}

/* CR4.PCIDE can be set only while the CR3 in use has no PCID. */
uint64_t tables_pcid(uint64_t on) {
    uint32_t leaf1[4];
    uint64_t cr4;
    cpuid(1, leaf1);
    if (!(leaf1[2] >> 17 & 1))
        return !on;
    load_cr3((uint64_t)roots[current]);
    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    cr4 = on ? cr4 | 1ul << 17 : cr4 & ~(1ul << 17);
    __asm__ volatile("movq %0, %%cr4" : : "r"(cr4) : "memory");
    pcid_on = on;
    flush();
    return 1;
}

/* As fork: the child has the parent's frames, and neither may write them. */
uint64_t tables_fork(uint64_t space, uint64_t gva, uint64_t n) {
    uint64_t *from = 0, *to = 0;
    for (; n; n--, gva += PAGE, from++, to++) {
        if (!from || !same_table(gva, 1)) {
            from = entry(0, gva, 1);
            to = entry(space, gva, 1);
        }
        *from &= ~PTE_W;
        *to = *from & ~(PTE_A | PTE_D);
    }
    flush();
    return 0;
}

uint64_t tables_drop(uint64_t space, uint64_t gva, uint64_t n) {
    uint64_t end = gva + n * PAGE;
    for (gva &= ~(LARGE_PAGE - 1); gva < end; gva += LARGE_PAGE) {
        uint64_t *e = entry(space, gva, 2);
        if (*e & PTE_P)
            free_table((uint64_t *)(*e & FRAME));
        *e = 0;
    }
    return 0;
}

/* ---- Large mappings ---- */

uint64_t tables_split(uint64_t gva) {
    uint64_t *e = entry(current, gva, 2), old = *e;
    uint64_t *t = (uint64_t *)new_table();
    for (uint64_t i = 0; i < 512; i++)
        t[i] = (old & ~PTE_PS) + i * PAGE;
    *e = (uint64_t)t | TABLE;
    invlpg(gva);
    return 0;
}

/* The frames are those of one large page, in order: tables_split left them so. */
uint64_t tables_merge(uint64_t gva) {
    uint64_t *e = entry(current, gva, 2);
    uint64_t *t = (uint64_t *)(*e & FRAME), bits = 0;
    for (unsigned i = 0; i < 512; i++)
        bits |= t[i] & (PTE_A | PTE_D);
    *e = t[0] | bits | PTE_PS;
    flush(); /* one INVLPG takes one 4K translation */
    free_table(t);
    return 0;
}

/* ---- Which they are ---- */

/* Shared tables are met, and listed, once for each root. */
static uint64_t list_table(uint64_t *table, unsigned level, uint64_t *list, uint64_t n) {
    uint64_t count = 1;
    if (!n)
        return 0;
    list[0] = (uint64_t)table;
    for (unsigned i = 0; level > 1 && i < 512; i++)
        if ((table[i] & (PTE_P | PTE_PS)) == PTE_P)
            count += list_table((uint64_t *)(table[i] & FRAME), level - 1, list + count,
                                n - count);
    return count;
}

uint64_t tables_list(uint64_t *list, uint64_t n) {
    uint64_t count = 0;
    for (uint64_t s = 0; s < spaces; s++)
        count += list_table(roots[s], 4, list + count, n - count);
    return count;
}

/* ---- Faults ---- */

uint64_t tables_on_fault(uint64_t what, uint64_t gva, uint64_t n, uint64_t pa) {
    on_fault.what = what;
    on_fault.gva = gva;
    on_fault.bytes = n * PAGE;
    on_fault.pa = pa;
    return 0;
}

static void copy_page(uint64_t to, uint64_t from) {
    uint64_t n = PAGE / 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void supply(uint64_t gva, uint64_t *e) {
    uint64_t pa = on_fault.what == FAULT_ALLOC
                      ? new_frame()
                      : on_fault.pa + ((gva - on_fault.gva) & ~(PAGE - 1));
    *e = pa | TABLE | PTE_NX;
    counts[COUNT_DEMAND]++;
}

static void let_write(uint64_t gva, uint64_t *e) {
    if (on_fault.what == FAULT_COPY) {
        copy_page(on_fault.pa, *e & FRAME);
        *e = (*e & ~FRAME) | on_fault.pa;
        on_fault.pa += PAGE;
    }
    *e |= PTE_W;
    invlpg(gva);
    counts[COUNT_WRITE_FAULTS]++;
}

int tables_fault(uint64_t gva, uint64_t error) {
    if (gva - on_fault.gva >= on_fault.bytes)
        return -1;
    uint64_t *e = leaf(gva);
    int absent = !(error & 1) && !*e, write = (error & 3) == 3 && !(*e & PTE_W);
    if (absent && (on_fault.what == FAULT_DEMAND || on_fault.what == FAULT_ALLOC))
        supply(gva, e);
    else if (write && on_fault.what != FAULT_DEMAND)
        let_write(gva, e);
    else
        return -1;
    return 0;
}

/* ---- Start ---- */

void tables_init(uint64_t end) {
    if (end > (uint64_t)IDENTITY_GIB << 30)
        end = (uint64_t)IDENTITY_GIB << 30;
    memory_end = end;
    next_page = 0x200000;
    for (uint64_t i = 0; i < 512; i++) {
        uint64_t at = i * PAGE, flags = PTE_P | PTE_W;
        if (at >= (uint64_t)user_text_start && at < (uint64_t)user_text_end)
            flags = PTE_P | PTE_U;
        else if (at >= (uint64_t)user_data_start && at < (uint64_t)user_data_end)
            flags = PTE_P | PTE_W | PTE_U | PTE_NX;
        pt[i] = at | flags;
    }
    for (uint64_t at = 0; at < end; at += LARGE_PAGE)
        pd[at >> 30][at >> 21 & 511] = at | PTE_P | PTE_W | PTE_PS | PTE_NX;
    pd[0][0] = (uint64_t)pt | TABLE;
    for (unsigned i = 0; i < IDENTITY_GIB; i++)
        pdpt[i] = (uint64_t)pd[i] | TABLE;
    pml4[0] = (uint64_t)pdpt | TABLE;
    write_msr(0xc0000080, read_msr(0xc0000080) | 0x801); /* EFER.NXE, SCE */
    flush();
}
