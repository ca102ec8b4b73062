/* SPDX-License-Identifier: MIT */
/* What a linear address of a Linux guest is for: its memory map
 * (Documentation/arch/x86/x86_64/mm.rst), with the bases that KASLR has moved. */
#include <inttypes.h>
#include <stdio.h>

#include "inspect/linux_internal.h"

#define TIB         (1ull << 40)
#define PAGE_STRUCT 64u /* bytes of a struct page, at most */

/* Ranges that do not move; with page-table isolation's LDT where 4 levels have it. */
static const struct {
    uint64_t from, to;
    const char *name;
} fixed[] = {
    {0xffff880000000000, 0xffff887fffffffff, "[LDT]"},
    {0xfffffe0000000000, 0xfffffe7fffffffff, "[CPU entry area]"},
    {0xffffff0000000000, 0xffffff7fffffffff, "[espfix stacks]"},
    {0xffffffef00000000, 0xfffffffeffffffff, "[EFI]"},
    {0xffffffffc0000000, 0xfffffffffeffffff, "[modules]"},
    {0xffffffffff600000, 0xffffffffff600fff, "[vsyscall]"},
    {0xffffffffff000000, 0xffffffffff7fffff, "[fixmap]"},
};

static bool set(struct linux_region *r, uint64_t from, uint64_t to, const char *name) {
    if (to < from)
        to = UINT64_MAX;
    r->from = from;
    r->to = to;
    snprintf(r->name, sizeof(r->name), "%s", name);
    return true;
}

/* Is the address one of the size bytes at from? */
static bool within(uint64_t address, uint64_t from, uint64_t size) {
    return address >= from && address - from < size;
}

static bool of_image(const struct linux_guest *g, uint64_t address,
                     struct linux_region *r) {
    uint64_t text, etext, end;
    if (!linux_symbol(g, LINUX__text, &text) || !linux_symbol(g, LINUX__etext, &etext) ||
        !linux_symbol(g, LINUX__end, &end))
        return false;
    if (address >= text && address < etext)
        return set(r, text, etext - 1, "[kernel text]");
    return address >= etext && address < end && set(r, etext, end - 1, "[kernel data]");
}

static bool of_per_cpu(const struct linux_guest *g, uint64_t address,
                       struct linux_region *r) {
    uint64_t linked, unit_at, offset;
    uint32_t unit;
    if (!linux_symbol(g, LINUX___per_cpu_start, &linked) ||
        !linux_symbol(g, LINUX_pcpu_unit_size, &unit_at) ||
        !linux_read(g, unit_at, &unit, sizeof(unit)))
        return false;
    for (unsigned i = 0; i < g->cpus; i++)
        if (linux_per_cpu(g, i, &offset) && within(address, linked + offset, unit))
            return set(r, linked + offset, linked + offset + unit - 1, "[per-CPU]");
    return false;
}

/* What KASLR moves, each in its own way. The defaults are those of a kernel that does not. */
static bool of_moved(const struct linux_guest *g, uint64_t address,
                     struct linux_region *r) {
    bool five = g->five_levels;
    uint64_t frames = linux_value(g, LINUX_max_pfn, 0) & (TIB - 1);
    uint64_t direct = linux_value(g, LINUX_page_offset_base,
                                  five ? 0xff11000000000000 : 0xffff888000000000);
    uint64_t vmalloc = linux_value(g, LINUX_vmalloc_base,
                                   five ? 0xffa0000000000000 : 0xffffc90000000000);
    uint64_t vmemmap = linux_value(g, LINUX_vmemmap_base,
                                   five ? 0xffd4000000000000 : 0xffffea0000000000);
    const struct {
        uint64_t from, size;
        const char *name;
    } ranges[] = {{direct, frames << 12, "[direct map]"},
                  {vmalloc, (five ? 12800 : 32) * TIB, "[vmalloc]"},
                  {vmemmap, frames * PAGE_STRUCT, "[vmemmap]"}};
    for (unsigned i = 0; i < 3; i++)
        if (within(address, ranges[i].from, ranges[i].size))
            return set(r, ranges[i].from, ranges[i].from + ranges[i].size - 1,
                       ranges[i].name);
    return false;
}

static bool of_kernel(const struct linux_guest *g, const struct linux_task *t,
                      uint64_t address, struct linux_region *r) {
    if (of_image(g, address, r) || of_per_cpu(g, address, r))
        return true;
    if (t && linux_is_kernel(t->stack) && within(address, t->stack, LINUX_STACK))
        return set(r, t->stack, t->stack + LINUX_STACK - 1, "[kernel stack]");
    for (unsigned i = g->five_levels; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (address >= fixed[i].from && address <= fixed[i].to)
            return set(r, fixed[i].from, fixed[i].to, fixed[i].name);
    return of_moved(g, address, r);
}

/* The kernel writes into its text through a user address, in a space that it has for that. */
static bool is_poking(const struct linux_guest *g, uint64_t cr3) {
    uint64_t mm = linux_value(g, LINUX_poking_mm, 0), pgd, own;
    if (!mm)
        mm = linux_value(g, LINUX_text_poke_mm, 0);
    return mm && linux_u64(g, mm, &g->image->mm_pgd, &pgd) && linux_is_kernel(pgd) &&
           g->where(g->opaque, pgd, &own) && linux_same_space(own, cr3);
}

bool linux_region_of(const struct linux_guest *g, const struct linux_task *t,
                     uint64_t cr3, uint64_t address, struct linux_region *r) {
    struct linux_vma v;
    if (linux_is_kernel(address))
        return of_kernel(g, t, address, r);
    if (is_poking(g, cr3))
        return set(r, address & ~4095ull, address | 4095, "[text poking]");
    if (!t || !linux_same_space(t->cr3, cr3) ||
        linux_vma_at(g, t->mm, address, &v) == LINUX_UNKNOWN || v.end <= v.start)
        return false;
    return set(r, v.start, v.end - 1, v.name);
}
