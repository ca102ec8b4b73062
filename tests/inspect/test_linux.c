/* SPDX-License-Identifier: MIT */
/* A Linux guest from outside: types, tasks, mappings and regions of a memory that is known; what is
 * damaged, goes in circles or does not fit is refused or unknown. */
#include <errno.h>
#include <stdio.h>

#include "tests/inspect/linux_image.h"
#include "tests/suite.h"

#define DIRECT 0xffff888000000000ull
#define MOVED  0x1000000ull
#define IMAGE  (0xffffffff81000000ull + MOVED)
#define ROOM   0x8000u

static uint8_t data[ROOM], kernel[0x2000]; /* at DIRECT, and at IMAGE */
static struct linux_guest guest;
static struct linux_image *image;

/* Where things are in data. */
enum {
    CPU0 = 0x0000,
    INIT = 0x0400, /* pid 1, and its thread, pid 2 */
    THREAD = 0x0500,
    KTHREAD = 0x0600, /* pid 3 */
    SIGNAL1 = 0x0700,
    SIGNAL3 = 0x0780,
    MM = 0x0800,
    PGD = 0x1000,
    ROOT = 0x2000, /* an inner node of two leaves */
    LEAF1 = 0x2100,
    LEAF2 = 0x2200,
    TEXT = 0x3000, /* mappings */
    HEAP = 0x3080,
    STACK = 0x3100,
    FILES = 0x3200,
    BUSYBOX = 0x3300, /* dentries */
    BIN = 0x3380,
    SLASH = 0x3400,
    NAMES = 0x3500
};

static uint8_t *at(uint64_t gva, size_t size) {
    if (gva >= DIRECT && gva - DIRECT < ROOM && size <= ROOM - (gva - DIRECT))
        return data + (gva - DIRECT);
    if (gva >= IMAGE && gva - IMAGE < sizeof(kernel) &&
        size <= sizeof(kernel) - (gva - IMAGE))
        return kernel + (gva - IMAGE);
    return NULL;
}

static size_t read_guest(void *opaque, uint64_t gva, void *buf, size_t size) {
    const uint8_t *from = at(gva, size);
    if (from)
        memcpy(buf, from, size);
    return from ? size : 0;
}

static bool where(void *opaque, uint64_t gva, uint64_t *gpa) {
    *gpa = gva - DIRECT + 0x100000;
    return at(gva, 1) != NULL;
}

static void put(uint64_t gva, uint64_t value, size_t size) {
    memcpy(at(gva, size), &value, size);
}

static void p64(unsigned place, unsigned member, uint64_t value) {
    put(DIRECT + place + member, value, 8);
}

static void put_task(uint64_t gva, uint32_t pid, uint32_t tgid, const char *comm,
                     uint64_t leader, uint64_t mm) {
    put(gva + TASK_PID, pid, 4);
    put(gva + TASK_TGID, tgid, 4);
    memset(at(gva + TASK_COMM, 16), 'x', 16); /* behind the NUL there is rubbish */
    strcpy((char *)at(gva + TASK_COMM, 16), comm);
    put(gva + TASK_LEADER, leader, 8);
    put(gva + TASK_MM, mm, 8);
}

static void put_name(unsigned dentry, unsigned parent, unsigned place, const char *name) {
    p64(dentry, DENTRY_PARENT, DIRECT + parent);
    p64(dentry, DENTRY_NAME, DIRECT + NAMES + place);
    strcpy((char *)data + NAMES + place, name);
}

static void put_vma(unsigned vma, uint64_t start, uint64_t end, uint64_t flags,
                    uint64_t file) {
    p64(vma, VMA_START, start);
    p64(vma, VMA_END, end);
    p64(vma, VMA_FLAGS, flags);
    p64(vma, VMA_FILE, file);
}

/* last 0: to the end of the node's range. */
static void pivot(unsigned node, bool inner, unsigned i, uint64_t last, uint64_t slot) {
    if (last)
        p64(node, (inner ? INNER_PIVOT : LEAF_PIVOT) + 8 * i, last);
    else
        put(DIRECT + node + (inner ? NODE_END_INNER : NODE_END_LEAF), i, 1);
    p64(node, (inner ? INNER_SLOT : LEAF_SLOT) + 8 * i, slot);
}

/* The tree's root, and what an inner node leads to. */
#define TREE(node)  (DIRECT + (node) + (3 << 3 | 2))
#define LEAF(node)  (DIRECT + (node) + (1 << 3 | 4))
#define INNER(node) (DIRECT + (node) + (3 << 3 | 4))

static void put_tasks(void) {
    const uint64_t idle = INIT_TASK + MOVED;
    put_task(idle, 0, 0, "swapper/0", idle, 0);
    put_task(DIRECT + INIT, 1, 1, "init", DIRECT + INIT, DIRECT + MM);
    put_task(DIRECT + THREAD, 2, 1, "helper", DIRECT + INIT, DIRECT + MM);
    put_task(DIRECT + KTHREAD, 3, 3, "kthreadd", DIRECT + KTHREAD, 0);
    put(idle + TASK_TASKS, DIRECT + INIT + TASK_TASKS, 8);
    p64(INIT, TASK_TASKS, DIRECT + KTHREAD + TASK_TASKS);
    p64(KTHREAD, TASK_TASKS, idle + TASK_TASKS);
    p64(INIT, TASK_SIGNAL, DIRECT + SIGNAL1);
    p64(KTHREAD, TASK_SIGNAL, DIRECT + SIGNAL3);
    p64(SIGNAL1, SIGNAL_THREADS, DIRECT + INIT + TASK_THREAD);
    p64(INIT, TASK_THREAD, DIRECT + THREAD + TASK_THREAD);
    p64(THREAD, TASK_THREAD, DIRECT + SIGNAL1 + SIGNAL_THREADS);
    p64(SIGNAL3, SIGNAL_THREADS, DIRECT + KTHREAD + TASK_THREAD);
    p64(KTHREAD, TASK_THREAD, DIRECT + SIGNAL3 + SIGNAL_THREADS);
    p64(INIT, TASK_STACK, DIRECT + 0x4000);
    put(IMAGE + 0x1100, DIRECT + CPU0, 8); /* __per_cpu_offset */
    put(IMAGE + 0x1140, 0x200, 4);         /* pcpu_unit_size */
    put(IMAGE + 0x1148, ROOM / 4096, 8);   /* max_pfn */
    p64(CPU0, 0x100, DIRECT + THREAD);     /* current_task */
}

static void put_mm(void) {
    p64(MM, MM_PGD, DIRECT + PGD);
    p64(MM, MM_ROOT, TREE(ROOT));
    p64(MM, MM_START_BRK, 0x600000);
    p64(MM, MM_BRK, 0x602000);
    p64(MM, MM_START_STACK, 0x7ffffffde010);
    pivot(ROOT, true, 0, 0x6fffff, LEAF(LEAF1));
    pivot(ROOT, true, 1, 0, LEAF(LEAF2));
    pivot(LEAF1, false, 0, 0x3fffff, 0);
    pivot(LEAF1, false, 1, 0x400fff, DIRECT + TEXT);
    pivot(LEAF1, false, 2, 0x5fffff, 0);
    pivot(LEAF1, false, 3, 0x601fff, DIRECT + HEAP);
    pivot(LEAF1, false, 4, 0, 0);
    pivot(LEAF2, false, 0, 0x7ffffffddfff, 0);
    pivot(LEAF2, false, 1, 0x7ffffffdefff, DIRECT + STACK);
    pivot(LEAF2, false, 2, 0, 0);
    p64(LEAF2, LEAF_PIVOT + 8 * 3, 0x1000); /* old, behind the last slot */
    p64(LEAF1, LEAF_PIVOT + 8 * 4, 0x1000);
    put_vma(TEXT, 0x400000, 0x401000, LINUX_VM_READ | LINUX_VM_EXEC, DIRECT + FILES);
    put_vma(HEAP, 0x600000, 0x602000, LINUX_VM_READ | LINUX_VM_WRITE, 0);
    put_vma(STACK, 0x7ffffffde000, 0x7ffffffdf000, LINUX_VM_READ | LINUX_VM_WRITE, 0);
    p64(FILES, FILE_DENTRY, DIRECT + BUSYBOX);
    put_name(BUSYBOX, BIN, 0, "busybox");
    put_name(BIN, SLASH, 16, "bin");
    put_name(SLASH, SLASH, 32, "/");
}

static void setup(void) {
    image = image_create();
    memset(data, 0, sizeof(data));
    memset(kernel, 0, sizeof(kernel));
    guest = (struct linux_guest){
        .image = image, .moved = MOVED, .cpus = 1, .read = read_guest, .where = where};
    put_tasks();
    put_mm();
}

static void teardown(void) {
    linux_image_free(image);
}

/* ---- Types ---- */

static char line[256];
static struct err e = {line, sizeof(line)};

static int parse(const void *btf, size_t size, struct types **t) {
    void *copy = malloc(size ? size : 1); /* ends where it ends, for the sanitizers */
    memcpy(copy, btf, size);
    *t = NULL;
    line[0] = 0;
    int rc = types_parse(copy, size, "F", t, &e);
    free(copy);
    return rc;
}

START_TEST(a_member_is_found_by_its_path_and_in_nameless_parts) {
    struct types_member m;
    struct types *t;
    size_t size;
    void *btf = image_btf(&size);
    ck_assert_int_eq(parse(btf, size, &t), 0);
    ck_assert(types_find(t, "task_struct", "comm", &m) && m.offset == TASK_COMM);
    ck_assert_uint_eq(m.size, 16);
    ck_assert(types_find(t, "mm_struct", "mm_mt.ma_root", &m) && m.offset == MM_ROOT);
    ck_assert(types_find(t, "file", "f_path.dentry", &m) && m.offset == FILE_DENTRY);
    ck_assert(!types_find(t, "mm_struct", "ma_root", &m));
    ck_assert(!types_find(t, "mm_struct", "pgd.x", &m));
    ck_assert(!types_find(t, "nothing", "pgd", &m));
    types_free(t);
    free(btf);
}
END_TEST

START_TEST(a_bit_field_and_a_structure_in_itself_have_no_members) {
    struct btf *b = btf__new_empty();
    struct types_member m;
    struct types *t;
    uint32_t size;
    int u32 = btf__add_int(b, "u32", 4, 0);
    btf__add_struct(b, "bits", 4);
    btf__add_field(b, "low", u32, 0, 3);
    int id = btf__add_struct(b, "loop", 8);
    btf__add_field(b, NULL, id, 0, 0);
    btf__add_field(b, NULL, id, 0, 0);
    btf__add_field(b, "last", u32, 0, 0);
    btf__add_typedef(b, "one", btf__type_cnt(b) + 1);
    btf__add_typedef(b, "two", btf__type_cnt(b) - 1);
    btf__add_struct(b, "holder", 8);
    btf__add_field(b, "inner", btf__type_cnt(b) - 2, 0, 0);
    const void *raw = btf__raw_data(b, &size);
    ck_assert_int_eq(parse(raw, size, &t), 0);
    ck_assert(!types_find(t, "bits", "low", &m));
    ck_assert(!types_find(t, "loop", "absent", &m));
    ck_assert(!types_find(t, "holder", "inner.x", &m));
    types_free(t);
    btf__free(b);
}
END_TEST

START_TEST(damaged_types_are_refused_in_a_line) {
    struct types *t;
    size_t size;
    uint8_t *btf = image_btf(&size);
    for (size_t cut = 0; cut < size; cut++) {
        ck_assert_int_eq(parse(btf, cut, &t), -EINVAL);
        ck_assert_str_ne(line, "");
    }
    for (size_t i = 0; i < size; i++) /* any byte may be wrong; nothing may crash */
        for (unsigned bit = 0; bit < 8; bit += 7) {
            struct types_member m;
            btf[i] ^= (uint8_t)(1u << bit);
            if (!parse(btf, size, &t))
                types_find(t, "mm_struct", "mm_mt.ma_root", &m);
            types_free(t);
            btf[i] ^= (uint8_t)(1u << bit);
        }
    struct btf_header h;
    memcpy(&h, btf, sizeof(h));
    h.hdr_len = (uint32_t)size - 8; /* libbpf 1.1 adds it to no length */
    memcpy(btf, &h, sizeof(h));
    ck_assert_int_eq(parse(btf, size, &t), -EINVAL);
    free(btf);
}
END_TEST

START_TEST(a_kernel_without_what_is_needed_is_refused) {
    static const char map[] = "ffffffff81000000 T init_task\n";
    struct symbols *s;
    struct types *t;
    struct linux_image *none = NULL;
    size_t size;
    void *btf = image_btf(&size);
    ck_assert_int_eq(symbols_parse(map, strlen(map), "M", &s, &e), 0);
    ck_assert_int_eq(parse(btf, size, &t), 0);
    ck_assert_int_eq(linux_image_create(s, t, "M", &none, &e), -EINVAL);
    ck_assert_str_eq(line, "M: no Linux kernel: it has no symbol init_top_pgt");
    ck_assert_ptr_null(none);
    free(btf);
}
END_TEST

/* ---- Tasks ---- */

static char listed[512];

static bool list_task(void *opaque, const struct linux_task *t) {
    size_t n = strlen(listed);
    snprintf(listed + n, sizeof(listed) - n, "%u/%u %s of %s 0x%lx; ", t->tgid, t->pid,
             t->comm, t->leader, (unsigned long)t->cr3);
    return n < sizeof(listed) / 2;
}

START_TEST(every_thread_is_listed_with_its_process) {
    listed[0] = 0;
    ck_assert(linux_is_there(&guest));
    ck_assert(linux_tasks(&guest, list_task, NULL));
    ck_assert_str_eq(listed, "1/1 init of init 0x101000; 1/2 helper of init 0x101000; "
                             "3/3 kthreadd of kthreadd 0x0; ");
}
END_TEST

START_TEST(what_runs_is_what_the_cpu_says) {
    struct linux_task t;
    ck_assert(linux_current(&guest, 0, &t));
    ck_assert_uint_eq(t.pid, 2);
    ck_assert_str_eq(t.leader, "init");
    ck_assert(!linux_current(&guest, 7, &t));
    p64(CPU0, 0x100, 0x1234);
    ck_assert(!linux_current(&guest, 0, &t));
}
END_TEST

START_TEST(a_list_that_is_a_circle_ends) {
    listed[0] = 0;
    p64(KTHREAD, TASK_TASKS, DIRECT + INIT + TASK_TASKS);
    ck_assert(!linux_tasks(&guest, list_task, NULL));
    put_tasks();
    p64(THREAD, TASK_THREAD, DIRECT + INIT + TASK_THREAD);
    ck_assert(!linux_tasks(&guest, list_task, NULL));
}
END_TEST

static bool count_task(void *opaque, const struct linux_task *t) {
    ++*(unsigned *)opaque;
    return true;
}

START_TEST(a_circle_ends_also_for_one_who_wants_all) {
    unsigned n = 0;
    p64(KTHREAD, TASK_TASKS, DIRECT + INIT + TASK_TASKS);
    ck_assert(!linux_tasks(&guest, count_task, &n));
    ck_assert_uint_lt(n, 1u << 18);
}
END_TEST

START_TEST(a_task_that_cannot_be_is_none) {
    struct linux_task t;
    put(DIRECT + THREAD + TASK_PID, 1u << 31, 4);
    ck_assert(!linux_current(&guest, 0, &t));
    put_tasks();
    p64(MM, MM_PGD, 0x1000); /* no address of the kernel's */
    ck_assert(!linux_current(&guest, 0, &t));
}
END_TEST

/* The words of struct pt_regs that are read, and what they are to say. */
START_TEST(how_a_task_came_into_the_kernel_is_at_the_end_of_its_stack) {
    static const struct {
        uint64_t orig_ax, cs, ss;
        unsigned padding;
        uint64_t syscall;
        bool known;
    } entries[] = {{57, 0x33, 0x2b, 0, 57, true},
                   {57, 0x33, 0x2b, 16, 57, true}, /* FRED's */
                   {UINT64_MAX, 0x33, 0x2b, 0, UINT64_MAX, true},
                   {57, 0xffff0033, 0x10002b, 0, 57, true}, /* of FRED's own above */
                   {1u << 20, 0x33, 0x2b, 0, UINT64_MAX, true},
                   {57, 0x23, 0x2b, 0, 0, false}, /* 32 bits */
                   {57, 0x10, 0x18, 0, 0, false},
                   {0, 0, 0, 0, 0, false}};
    struct linux_task t = {.mm = DIRECT + MM, .stack = DIRECT + ROOM - LINUX_STACK};
    struct linux_entry from;
    uint64_t top = DIRECT + ROOM;
    for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        memset(at(top - 0x100, 0x100), 0, 0x100);
        put(top - entries[i].padding - 48, entries[i].orig_ax, 8);
        put(top - entries[i].padding - 40, 0x401234, 8);
        put(top - entries[i].padding - 32, entries[i].cs, 8);
        put(top - entries[i].padding - 8, entries[i].ss, 8);
        bool known = linux_entry_read(&guest, &t, INIT_TASK, &from);
        ck_assert_msg(known == entries[i].known, "entry %u", i);
        ck_assert(!known || (from.syscall == entries[i].syscall && from.rip == 0x401234));
    }
    put(top - 32, 0x33, 8);
    put(top - 8, 0x2b, 8);
    ck_assert(linux_entry_read(&guest, &t, INIT_TASK, &from));
    t.mm = 0; /* it ends */
    ck_assert(linux_entry_read(&guest, &t, INIT_TASK, &from));
    t.stack = 0x1000;
    ck_assert(!linux_entry_read(&guest, &t, INIT_TASK, &from));
    t.stack = DIRECT + ROOM; /* not mapped */
    ck_assert(!linux_entry_read(&guest, &t, INIT_TASK, &from));
}
END_TEST

/* ---- Mappings ---- */

static bool list_vma(void *opaque, const struct linux_vma *v) {
    char path[LINUX_PATH];
    size_t n = strlen(listed);
    snprintf(listed + n, sizeof(listed) - n, "%lx-%lx %lu %s %s; ",
             (unsigned long)v->start, (unsigned long)v->end, (unsigned long)v->flags,
             v->name, linux_vma_path(&guest, v, path) ? path : "-");
    return n < sizeof(listed) / 2;
}

START_TEST(mappings_are_listed_by_address_with_their_files) {
    listed[0] = 0;
    ck_assert(linux_vmas(&guest, DIRECT + MM, list_vma, NULL));
    ck_assert_str_eq(listed, "400000-401000 5 busybox /bin/busybox; 600000-602000 3 "
                             "[heap] -; 7ffffffde000-7ffffffdf000 3 [stack] -; ");
}
END_TEST

START_TEST(an_address_belongs_to_one_mapping_or_to_none) {
    struct linux_vma v;
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x400fff, &v), LINUX_FOUND);
    ck_assert_str_eq(v.name, "busybox");
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x401000, &v), LINUX_NOTHING);
    ck_assert(v.start == 0x401000 && v.end == 0x600000);
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x700000, &v), LINUX_NOTHING);
    ck_assert_uint_eq(v.start, 0x700000);
    ck_assert_int_eq(linux_vma_at(&guest, 0, 0x400000, &v), LINUX_UNKNOWN);
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, DIRECT, &v), LINUX_UNKNOWN);
}
END_TEST

START_TEST(a_tree_that_does_not_fit_is_unknown) {
    struct linux_vma v;
    pivot(ROOT, true, 0, 0x6fffff, INNER(ROOT)); /* in itself */
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x400000, &v), LINUX_UNKNOWN);
    put_mm();
    pivot(LEAF1, false, 1, 0x1000, DIRECT + TEXT); /* goes down */
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x400000, &v), LINUX_UNKNOWN);
    put_mm();
    put_vma(TEXT, 0x400000, 0x402000, 0, 0); /* says something else of itself */
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x400000, &v), LINUX_UNKNOWN);
    put_mm();
    p64(MM, MM_ROOT, DIRECT + ROOT + (9 << 3 | 2)); /* of no type */
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x400000, &v), LINUX_UNKNOWN);
}
END_TEST

START_TEST(a_path_that_is_a_circle_is_unknown) {
    char path[LINUX_PATH];
    struct linux_vma v;
    put_name(BIN, BUSYBOX, 16, "bin");
    ck_assert_int_eq(linux_vma_at(&guest, DIRECT + MM, 0x400000, &v), LINUX_FOUND);
    ck_assert(!linux_vma_path(&guest, &v, path));
}
END_TEST

/* ---- Regions ---- */

static const char *region(uint64_t cr3, uint64_t address) {
    static struct linux_region r;
    struct linux_task t;
    ck_assert(linux_current(&guest, 0, &t));
    t.stack = DIRECT + 0x4000;
    if (!linux_region_of(&guest, &t, cr3, address, &r))
        return "?";
    ck_assert(r.from <= address && address <= r.to);
    return r.name;
}

START_TEST(an_address_belongs_to_a_region) {
    ck_assert_str_eq(region(0x101000, 0x400000), "busybox");
    ck_assert_str_eq(region(0x101000, 0x500000), "[no mapping]");
    ck_assert_str_eq(region(0x102abc, 0x400000), "?"); /* another space */
    ck_assert_str_eq(region(0x101000, IMAGE), "[kernel text]");
    ck_assert_str_eq(region(0x101000, IMAGE + 0x1fff), "[kernel data]");
    ck_assert_str_eq(region(0x101000, DIRECT + 0x1ff), "[per-CPU]");
    ck_assert_str_eq(region(0x101000, DIRECT + 0x200), "[direct map]");
    ck_assert_str_eq(region(0x101000, DIRECT + 0x4000), "[kernel stack]");
    ck_assert_str_eq(region(0x101000, DIRECT + ROOM), "?");
    ck_assert_str_eq(region(0x101000, 0xffffc90000000000), "[vmalloc]");
    ck_assert_str_eq(region(0x101000, 0xffffea0000000000), "[vmemmap]");
    ck_assert_str_eq(region(0x101000, 0xffffffffc0001000), "[modules]");
    ck_assert_str_eq(region(0x101000, 0xffffffffff5fb000), "[fixmap]");
    ck_assert_str_eq(region(0x101000, 0xfffffe0000001000), "[CPU entry area]");
    ck_assert_str_eq(region(0x101000, 0x0000800000000000), "[no mapping]");
}
END_TEST

START_TEST(the_second_cr3_of_page_table_isolation_is_the_same_space) {
    ck_assert(linux_same_space(0x102000, 0x8000000000102001));
    ck_assert(linux_same_space(0x102000, 0x103801));
    ck_assert(!linux_same_space(0x102000, 0x104000));
    ck_assert(!linux_same_space(0, 0x1000));
}
END_TEST

SUITE("inspect.linux", .setup = setup, .teardown = teardown,
      .tests = {a_member_is_found_by_its_path_and_in_nameless_parts,
                a_bit_field_and_a_structure_in_itself_have_no_members,
                damaged_types_are_refused_in_a_line,
                a_kernel_without_what_is_needed_is_refused,
                every_thread_is_listed_with_its_process, what_runs_is_what_the_cpu_says,
                a_list_that_is_a_circle_ends, a_circle_ends_also_for_one_who_wants_all,
                a_task_that_cannot_be_is_none,
                how_a_task_came_into_the_kernel_is_at_the_end_of_its_stack,
                mappings_are_listed_by_address_with_their_files,
                an_address_belongs_to_one_mapping_or_to_none,
                a_tree_that_does_not_fit_is_unknown, a_path_that_is_a_circle_is_unknown,
                an_address_belongs_to_a_region,
                the_second_cr3_of_page_table_isolation_is_the_same_space})
