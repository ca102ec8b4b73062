/* SPDX-License-Identifier: MIT */
/* A kernel that is none: symbols and types of it, for the test and the fuzzer of inspect/linux.h. */
#pragma once

#include <bpf/btf.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/linux.h"

/* Where its structures have their members. */
enum {
    TASK_PID = 0,
    TASK_TGID = 4,
    TASK_COMM = 8,
    TASK_MM = 24,
    TASK_STACK = 32,
    TASK_LEADER = 40,
    TASK_TASKS = 48,
    TASK_SIGNAL = 64,
    TASK_THREAD = 72,
    SIGNAL_THREADS = 8,
    MM_PGD = 8,
    MM_ROOT = 24,
    MM_START_BRK = 32,
    MM_BRK = 40,
    MM_START_STACK = 48,
    LEAF_PIVOT = 8,
    LEAF_SLOT = 128,
    INNER_PIVOT = 8,
    INNER_SLOT = 80,
    NODE_END_LEAF = 248, /* in its last slot */
    NODE_END_INNER = 240,
    VMA_START = 0,
    VMA_END = 8,
    VMA_FLAGS = 24,
    VMA_FILE = 32,
    FILE_DENTRY = 24,
    DENTRY_PARENT = 0,
    DENTRY_NAME = 16,
    MODULE_LIST = 8,
    MODULE_NAME = 24,
    MODULE_KALLSYMS = 80,
    MODULE_CORE = 88, /* of 6.1, as the next one */
    MODULE_INIT = 112,
    LAYOUT_TEXT = 12,
    MODULE_MEM = 136, /* of 6.4 on */
    MEMORY_SIZE = 8,
    MEMORY_SIZE_OF = 24,
    KALLSYMS_SYMTAB = 0,
    KALLSYMS_COUNT = 8,
    KALLSYMS_STRTAB = 16
};
#define INIT_TASK     0xffffffff81001000ull
#define IMAGE_MODULES 0xffffffff81001180ull

static const char image_map[] = "0000000000000000 D __per_cpu_start\n"
                                "0000000000000100 D current_task\n"
                                "ffffffff81000000 T _text\n"
                                "ffffffff81000800 T _etext\n"
                                "ffffffff81001000 D init_task\n"
                                "ffffffff81001100 D __per_cpu_offset\n"
                                "ffffffff81001140 D pcpu_unit_size\n"
                                "ffffffff81001148 D max_pfn\n"
                                "ffffffff81001180 D modules\n"
                                "ffffffff81001200 D init_top_pgt\n"
                                "ffffffff81002000 D _end\n";

static int add_list(struct btf *b) {
    int u64 = btf__find_by_name(b, "u64");
    int id = btf__add_struct(b, "list_head", 16);
    btf__add_field(b, "next", u64, 0, 0);
    btf__add_field(b, "prev", u64, 64, 0);
    return id;
}

static void add_task(struct btf *b, int u32, int u64, int list) {
    int comm = btf__add_array(b, u32, btf__add_int(b, "char", 1, 0), 16);
    btf__add_struct(b, "task_struct", 128);
    btf__add_field(b, "pid", u32, TASK_PID * 8, 0);
    btf__add_field(b, "tgid", u32, TASK_TGID * 8, 0);
    btf__add_field(b, "comm", comm, TASK_COMM * 8, 0);
    btf__add_field(b, "mm", u64, TASK_MM * 8, 0);
    btf__add_field(b, "stack", u64, TASK_STACK * 8, 0);
    btf__add_field(b, "group_leader", u64, TASK_LEADER * 8, 0);
    btf__add_field(b, "tasks", list, TASK_TASKS * 8, 0);
    btf__add_field(b, "signal", u64, TASK_SIGNAL * 8, 0);
    btf__add_field(b, "thread_node", list, TASK_THREAD * 8, 0);
    btf__add_struct(b, "signal_struct", 32);
    btf__add_field(b, "thread_head", list, SIGNAL_THREADS * 8, 0);
}

/* mm_struct's members lie in a nameless part of it, as the kernel's do. */
static void add_mm(struct btf *b, int u64) {
    int tree = btf__add_struct(b, "maple_tree", 16);
    btf__add_field(b, "ma_root", u64, 64, 0);
    int inner = btf__add_struct(b, NULL, 64);
    btf__add_field(b, "pgd", u64, (MM_PGD - 8) * 8, 0);
    btf__add_field(b, "mm_mt", tree, (MM_ROOT - 16) * 8, 0);
    btf__add_field(b, "start_brk", u64, (MM_START_BRK - 8) * 8, 0);
    btf__add_field(b, "brk", u64, (MM_BRK - 8) * 8, 0);
    btf__add_field(b, "start_stack", u64, (MM_START_STACK - 8) * 8, 0);
    btf__add_struct(b, "mm_struct", 72);
    btf__add_field(b, NULL, inner, 64, 0);
}

static void add_nodes(struct btf *b, int u32, int u64) {
    int u8 = btf__add_int(b, "u8", 1, 0);
    int p15 = btf__add_array(b, u32, u64, 15), s16 = btf__add_array(b, u32, u64, 16);
    int p9 = btf__add_array(b, u32, u64, 9), s10 = btf__add_array(b, u32, u64, 10);
    int meta = btf__add_struct(b, "maple_metadata", 2);
    btf__add_field(b, "end", u8, 0, 0);
    btf__add_struct(b, "maple_range_64", 256);
    btf__add_field(b, "meta", meta, NODE_END_LEAF * 8, 0);
    btf__add_field(b, "pivot", p15, LEAF_PIVOT * 8, 0);
    btf__add_field(b, "slot", s16, LEAF_SLOT * 8, 0);
    btf__add_struct(b, "maple_arange_64", 256);
    btf__add_field(b, "meta", meta, NODE_END_INNER * 8, 0);
    btf__add_field(b, "pivot", p9, INNER_PIVOT * 8, 0);
    btf__add_field(b, "slot", s10, INNER_SLOT * 8, 0);
}

static void add_files(struct btf *b, int u64) {
    int path = btf__add_struct(b, "path", 16);
    btf__add_field(b, "mnt", u64, 0, 0);
    btf__add_field(b, "dentry", u64, 64, 0);
    int constant = btf__add_const(b, path); /* as from 6.17 on */
    int name = btf__add_struct(b, "qstr", 16);
    btf__add_field(b, "name", u64, 64, 0);
    btf__add_struct(b, "vm_area_struct", 64);
    btf__add_field(b, "vm_start", u64, VMA_START * 8, 0);
    btf__add_field(b, "vm_end", u64, VMA_END * 8, 0);
    btf__add_field(b, "vm_flags", u64, VMA_FLAGS * 8, 0);
    btf__add_field(b, "vm_file", u64, VMA_FILE * 8, 0);
    btf__add_struct(b, "file", 64);
    btf__add_field(b, "f_path", constant, (FILE_DENTRY - 8) * 8, 0);
    btf__add_struct(b, "dentry", 64);
    btf__add_field(b, "d_parent", u64, DENTRY_PARENT * 8, 0);
    btf__add_field(b, "d_name", name, (DENTRY_NAME - 8) * 8, 0);
}

static void add_modules(struct btf *b, int u32, int u64, int list, bool old) {
    int name = btf__add_array(b, u32, btf__find_by_name(b, "char"), 56);
    int part = old ? btf__add_struct(b, "module_layout", 24)
                   : btf__add_struct(b, "module_memory", MEMORY_SIZE_OF);
    btf__add_field(b, "base", u64, 0, 0);
    btf__add_field(b, "size", u32, MEMORY_SIZE * 8, 0);
    if (old)
        btf__add_field(b, "text_size", u32, LAYOUT_TEXT * 8, 0);
    int parts = old ? part : btf__add_array(b, u32, part, 7);
    btf__add_struct(b, "module", 512);
    btf__add_field(b, "list", list, MODULE_LIST * 8, 0);
    btf__add_field(b, "name", name, MODULE_NAME * 8, 0);
    btf__add_field(b, "kallsyms", u64, MODULE_KALLSYMS * 8, 0);
    btf__add_field(b, old ? "core_layout" : "mem", parts,
                   (old ? MODULE_CORE : MODULE_MEM) * 8, 0);
    if (old)
        btf__add_field(b, "init_layout", parts, MODULE_INIT * 8, 0);
    btf__add_struct(b, "mod_kallsyms", 32);
    btf__add_field(b, "symtab", u64, KALLSYMS_SYMTAB * 8, 0);
    btf__add_field(b, "num_symtab", u32, KALLSYMS_COUNT * 8, 0);
    btf__add_field(b, "strtab", u64, KALLSYMS_STRTAB * 8, 0);
}

/* Its types as bytes, to be freed. old: modules as in 6.1, else as from 6.4 on. */
static void *image_btf_of(bool old, size_t *size) {
    struct btf *b = btf__new_empty();
    int u32 = btf__add_int(b, "u32", 4, 0), u64 = btf__add_int(b, "u64", 8, 0);
    int list = add_list(b);
    add_task(b, u32, u64, list);
    add_modules(b, u32, u64, list, old);
    add_mm(b, u64);
    add_nodes(b, u32, u64);
    add_files(b, u64);
    uint32_t n;
    const void *raw = btf__raw_data(b, &n);
    void *copy = malloc(n);
    memcpy(copy, raw, n);
    *size = n;
    btf__free(b);
    return copy;
}

static inline void *image_btf(size_t *size) {
    return image_btf_of(false, size);
}

static struct linux_image *image_create_of(bool old) {
    char line[256];
    struct err e = {line, sizeof(line)};
    struct symbols *symbols;
    struct types *types;
    struct linux_image *image;
    size_t size;
    void *btf = image_btf_of(old, &size);
    if (symbols_parse(image_map, strlen(image_map), "map", &symbols, &e) ||
        types_parse(btf, size, "btf", &types, &e) ||
        linux_image_create(symbols, types, "image", &image, &e))
        abort();
    free(btf);
    return image;
}

static inline struct linux_image *image_create(void) {
    return image_create_of(false);
}
