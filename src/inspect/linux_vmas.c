/* SPDX-License-Identifier: MIT */
/*
 * The mappings of an address space of a Linux guest. From 6.1 on they are the entries of a
 * maple tree (Documentation/core-api/maple_tree.rst of the kernel): a node has pivots, which are
 * the last addresses of what its slots hold, in ascending order, and says which slot is the
 * last one.
 *
 * Invariants
 * 1. A descent has DEPTH_MAX nodes at most, each narrower than the one before or as wide.
 * 2. A walk over all goes up in address with each step, and has VMAS_MAX steps at most.
 */
#include <stdio.h>
#include <string.h>

#include "inspect/linux_internal.h"

#define DEPTH_MAX 16u
#define SLOTS_MAX 32u
#define VMAS_MAX  (1u << 18)
#define PATH_DEEP 32u
#define USER_END  (1ull << 56) /* user space ends below, with 5 levels too */

/* A pointer to a node: its type in bits 3..6, which are free since nodes are aligned to 256
 * bytes. Only in the tree's root, and where an entry may stand, the two lowest bits tell it
 * from one: they are 2. */
#define NODE_MASK 255ull
enum { NODE_LEAF = 1, NODE_RANGE = 2, NODE_ARANGE = 3 };

static bool is_node(uint64_t entry) {
    return (entry & 3) == 2 && entry > 4096;
}

/* The number of the node's last slot, whose range ends where the node's does (ma_data_end(), as
 * the kernel has it). What a pivot from there on holds is old. */
static uint32_t last_slot(const uint64_t *pivot, uint32_t pivots, uint64_t to,
                          uint8_t told) {
    if (!pivot[pivots - 1])
        return told < pivots ? told : pivots - 1;
    return pivot[pivots - 1] == to ? pivots - 1 : pivots;
}

/* The slot of the node that has the address, which is in *from..*to. Narrows the range. */
static bool node_slot(const struct linux_guest *g, uint64_t node, uint64_t address,
                      uint64_t *from, uint64_t *to, uint64_t *slot) {
    const struct linux_image *k = g->image;
    unsigned type = node >> 3 & 15;
    bool inner = type == NODE_ARANGE;
    const struct types_member *pivots = inner ? &k->inner_pivot : &k->leaf_pivot;
    const struct types_member *slots = inner ? &k->inner_slot : &k->leaf_slot;
    uint64_t pivot[SLOTS_MAX];
    uint32_t n = pivots->size / 8, i = 0;
    uint8_t told;
    node &= ~NODE_MASK;
    if ((type != NODE_LEAF && type != NODE_RANGE && !inner) || !n || n > SLOTS_MAX ||
        slots->size / 8 < n + 1 ||
        !linux_read(g, node + pivots->offset, pivot, 8ull * n) ||
        !linux_read(g, node + (inner ? &k->inner_end : &k->leaf_end)->offset, &told, 1))
        return false;
    for (uint32_t last = last_slot(pivot, n, *to, told); i < last; i++) {
        if (pivot[i] < *from || pivot[i] > *to)
            return false;
        if (address <= pivot[i]) {
            *to = pivot[i];
            break;
        }
        *from = pivot[i] + 1;
    }
    return *from <= *to && linux_read(g, node + slots->offset + 8ull * i, slot, 8);
}

/* The entry that the tree has for the address, 0: none; and for which addresses. */
static bool tree_find(const struct linux_guest *g, uint64_t root, uint64_t address,
                      uint64_t *from, uint64_t *to, uint64_t *entry) {
    *from = 0;
    *to = UINT64_MAX;
    *entry = 0;
    if (!is_node(root)) /* empty, or one entry at 0 */
        return !root;
    unsigned type = root >> 3 & 15;
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        if (!node_slot(g, root, address, from, to, entry))
            return false;
        if (type == NODE_LEAF)
            return !is_node(*entry);
        root = *entry;
        if (!linux_is_kernel(root))
            return false;
        type = root >> 3 & 15;
    }
    return false;
}

/* ---- Names ---- */

/* What the kernel maps for itself, such as the vDSO, has a name of its own. */
static bool special_name(const struct linux_guest *g, struct linux_vma *v) {
    const struct linux_image *k = g->image;
    uint64_t special, ops, private, name;
    return k->vma_ops.size && k->vma_private.size && k->special_name.size &&
           linux_symbol(g, LINUX_special_mapping_vmops, &special) &&
           linux_u64(g, v->at, &k->vma_ops, &ops) && ops == special &&
           linux_u64(g, v->at, &k->vma_private, &private) &&
           linux_u64(g, private, &k->special_name, &name) &&
           linux_name(g, name, v->name, sizeof(v->name));
}

/* fs/proc/task_mmu.c, get_vma_name() */
static const char *anonymous(const struct linux_guest *g, uint64_t mm,
                             const struct linux_vma *v) {
    const struct linux_image *k = g->image;
    uint64_t start_brk, brk, stack;
    if (!linux_u64(g, mm, &k->mm_start_brk, &start_brk) ||
        !linux_u64(g, mm, &k->mm_brk, &brk) ||
        !linux_u64(g, mm, &k->mm_start_stack, &stack))
        return "?";
    if (v->start < brk && v->end > start_brk)
        return "[heap]";
    return v->start <= stack && v->end >= stack ? "[stack]" : "[anon]";
}

static bool dentry_of(const struct linux_guest *g, const struct linux_vma *v,
                      uint64_t *dentry) {
    uint64_t file;
    return linux_u64(g, v->at, &g->image->vma_file, &file) && file &&
           linux_u64(g, file, &g->image->file_dentry, dentry);
}

static bool dentry_name(const struct linux_guest *g, uint64_t dentry, char *buf,
                        size_t size) {
    uint64_t at;
    return linux_u64(g, dentry, &g->image->dentry_name, &at) &&
           linux_name(g, at, buf, size);
}

static void find_name(const struct linux_guest *g, uint64_t mm, struct linux_vma *v) {
    uint64_t file, dentry;
    const char *word = "?";
    if (!linux_u64(g, v->at, &g->image->vma_file, &file))
        file = 1;
    if (file ? dentry_of(g, v, &dentry) && dentry_name(g, dentry, v->name, LINUX_NAME)
             : special_name(g, v))
        return;
    if (!file)
        word = anonymous(g, mm, v);
    snprintf(v->name, sizeof(v->name), "%s", word);
}

bool linux_vma_path(const struct linux_guest *g, const struct linux_vma *v,
                    char path[LINUX_PATH]) {
    char name[256], longer[LINUX_PATH];
    uint64_t dentry, parent;
    bool root = false;
    *path = 0;
    if (!dentry_of(g, v, &dentry))
        return false;
    for (unsigned i = 0; i < PATH_DEEP && !root; i++, dentry = parent) {
        if (!linux_u64(g, dentry, &g->image->dentry_parent, &parent) ||
            !dentry_name(g, dentry, name, sizeof(name)))
            return false;
        root =
            parent == dentry; /* its name is "/", or, of what has no path, all there is */
        if (root && *path)
            break;
        int n = snprintf(longer, sizeof(longer), "%s%s%s", root ? "" : "/", name, path);
        if (n >= (int)sizeof(longer))
            return false;
        memcpy(path, longer, sizeof(longer));
    }
    return root;
}

/* ---- Mappings ---- */

/* What the tree's entry is: it must say of itself what the tree says of it. */
static bool vma_read(const struct linux_guest *g, uint64_t at, struct linux_vma *v) {
    const struct linux_image *k = g->image;
    v->at = at;
    return linux_u64(g, at, &k->vma_start, &v->start) &&
           linux_u64(g, at, &k->vma_end, &v->end) &&
           linux_u64(g, at, &k->vma_flags, &v->flags);
}

enum linux_found linux_vma_at(const struct linux_guest *g, uint64_t mm, uint64_t address,
                              struct linux_vma *v) {
    uint64_t root, from, to, entry;
    *v = (struct linux_vma){.name = "[no mapping]"};
    if (!mm || address >= USER_END || !linux_u64(g, mm, &g->image->mm_root, &root) ||
        !tree_find(g, root, address, &from, &to, &entry))
        return LINUX_UNKNOWN;
    v->start = from;
    v->end = to < USER_END ? to + 1 : USER_END;
    if (!entry)
        return LINUX_NOTHING;
    if (!vma_read(g, entry, v) || v->start != from || v->end != to + 1)
        return LINUX_UNKNOWN;
    find_name(g, mm, v);
    return LINUX_FOUND;
}

bool linux_vmas(const struct linux_guest *g, uint64_t mm, linux_vma_fn fn, void *opaque) {
    uint64_t address = 0;
    for (unsigned i = 0; i < VMAS_MAX && address < USER_END; i++) {
        struct linux_vma v;
        enum linux_found found = linux_vma_at(g, mm, address, &v);
        if (found == LINUX_UNKNOWN || v.end <= address ||
            (found == LINUX_FOUND && !fn(opaque, &v)))
            return false;
        address = v.end;
    }
    return address >= USER_END;
}
