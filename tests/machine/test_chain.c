/* SPDX-License-Identifier: MIT */
/*
 * Snapshots that stand on others, of a guest that writes: whatever was saved, on whatever, after
 * whichever failures, the chain has every page that the guest had then, and so has what is
 * merged of it. For every tracker of the software engines.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "machine/snapshot_fill.h"
#include "machine/snapshot_internal.h"
#include "tests/suite.h"

#define RAM   (8ull << 20)
#define PAGES (RAM / PN_PAGE_SIZE)
#define AT    0x100000u
#define SAVES 24u
#define SEED  7u

/* Writes a byte here and there between 2 and 6 MiB, about fifty times in a millisecond. */
extern const uint8_t chain_begin[], chain_end[];
__asm__(".pushsection .rodata\n.code64\n"
        "chain_begin: mov $1, %ebx\n"
        "1: imul $1103515245, %ebx, %ebx\n  add $12345, %ebx\n"
        "  mov %ebx, %edi\n  shr $8, %edi\n  and $0x3fffff, %edi\n"
        "  incb 0x200000(%rdi)\n"
        "  mov $20000, %ecx\n2: dec %ecx\n  jnz 2b\n  jmp 1b\n"
        "chain_end:\n.popsection\n");

static char root[] = "/dev/shm/pn-test-chain-XXXXXX";
static char text[512];

static bool at_once(void *opaque) {
    return true; /* stand each time that the machine looks: every millisecond */
}

static struct machine_config config(const struct pn_engine_ops *ops, unsigned tracker,
                                    uint64_t ram) {
    struct machine_config cfg = {.engine = ops,
                                 .ram = ram,
                                 .cpus = 1,
                                 .kernel_blob = chain_begin,
                                 .kernel_blob_size = (size_t)(chain_end - chain_begin),
                                 .format = FMT_FLAT,
                                 .flat_addr = AT,
                                 .flat_bits = 64,
                                 .attend = at_once,
                                 .dirty = tracker};
    pn_mmu_options_default(&cfg.mmu);
    return cfg;
}

static struct machine *create(const struct machine_config *cfg) {
    struct machine *m;
    ck_assert_msg(!machine_create(cfg, &m, text, sizeof(text)), "%s", text);
    return m;
}

static void go(struct machine *m) {
    struct machine_stop stop;
    ck_assert_msg(!machine_go(m, &stop, text, sizeof(text)), "%s", text);
    ck_assert_int_eq(stop.why, MACHINE_ASKED);
}

static int save(struct machine *m, const char *dir, const char *parent) {
    struct err e = {text, sizeof(text)};
    const struct snapshot_request r = {.dir = dir, .parent = parent};
    return machine_snapshot_save(m, &r, &e);
}

static const char *path(unsigned n) {
    static char name[4][64];
    static unsigned turn;
    char *at = name[turn++ % 4];
    snprintf(at, sizeof(name[0]), "%s/%u", root, n);
    return at;
}

static int copy_page(void *opaque, uint64_t page, const uint8_t *data) {
    memcpy((uint8_t *)opaque + page * PN_PAGE_SIZE, data, PN_PAGE_SIZE);
    return 0;
}

/* Has that chain this memory? */
static void same(const char *dir, const uint8_t *want, unsigned depth) {
    struct err e = {text, sizeof(text)};
    struct snapshot *s;
    ck_assert_msg(!snapshot_open(dir, &s, &e), "%s", text);
    ck_assert_uint_eq(snapshot_depth(s), depth);
    uint8_t *has = calloc(1, RAM);
    ck_assert_msg(!snap_read_pages(s, copy_page, has, &e), "%s", text);
    for (uint64_t p = 0; p < PAGES; p++) {
        if (s->memory.page[p])
            copy_page(has, p, has + snap_first(&s->memory, p) * PN_PAGE_SIZE);
        ck_assert_msg(
            !memcmp(has + p * PN_PAGE_SIZE, want + p * PN_PAGE_SIZE, PN_PAGE_SIZE),
            "%s: page %x is another", dir, (unsigned)p);
    }
    ck_assert_uint_eq(snapshot_verify(s, stdout), 0);
    free(has);
    snapshot_close(s);
}

/* Penumbra writes, too: zeros, and equal pages. */
static void scribble(struct machine *m) {
    uint8_t data[PN_PAGE_SIZE];
    uint64_t gpa = (256 + (uint64_t)rand() % (PAGES - 256)) * PN_PAGE_SIZE;
    if (gpa < 0x700000)
        gpa = 0x700000 + gpa % 0x100000;
    memset(data, rand() % 3, sizeof(data));
    ck_assert_uint_eq(machine_write(m, NULL, gpa & ~0xfffull, data, sizeof(data)),
                      sizeof(data));
}

/* Now and then another of the engine's own trackers finds the pages. */
static void switch_tracker(struct machine *m) {
    struct err e = {text, sizeof(text)};
    unsigned t = 1 + (unsigned)rand() % (PN_TRACKERS - 1);
    bool can =
        !pn_dirty_by_host(m->cfg.dirty) && !pn_dirty_by_host(t) && m->ops->has_tracker(t);
    int rc = machine_dirty_switch(m, t, &e);
    ck_assert_msg(can ? rc == 0 && m->cfg.dirty == t : rc == -ENOTSUP || rc == -EINVAL,
                  "%s", text);
}

/* Random saves on random parents, and failures; then every one of them is as it was. */
static void random_saves(const struct pn_engine_ops *ops, unsigned tracker) {
    static uint8_t *was[SAVES];
    unsigned depth[SAVES], fails = 0;
    const struct machine_config cfg = config(ops, tracker, RAM);
    struct machine *m = NULL;
    int rc = machine_create(&cfg, &m, text, sizeof(text));
    if ((rc == -ENOSYS || rc == -EPERM) && pn_dirty_by_host(tracker))
        return; /* not on this host */
    ck_assert_msg(!rc, "%s", text);
    srand(SEED);
    for (unsigned n = 0; n < SAVES; n++) {
        go(m);
        scribble(m);
        switch_tracker(m);
        unsigned on = n ? (unsigned)rand() % n : 0;
        const char *parent = n && rand() % 8 ? path(on) : NULL;
        if (rand() % 2) { /* into a folder that there is not, or that is there */
            ck_assert_int_lt(save(m, rand() % 2 ? "/nowhere/s" : root, parent), 0);
            go(m);
            fails++;
        }
        ck_assert_msg(!save(m, path(n), parent), "%s", text);
        depth[n] = parent ? depth[on] + 1 : 1;
        was[n] = malloc(RAM);
        memcpy(was[n], m->ram.base, RAM);
    }
    ck_assert_uint_gt(fails, 3);
    machine_destroy(m);
    for (unsigned n = 0; n < SAVES; n++) {
        struct err e = {text, sizeof(text)};
        struct snapshot *s;
        same(path(n), was[n], depth[n]);
        ck_assert_int_eq(snapshot_open(path(n), &s, &e), 0);
        ck_assert_msg(!snapshot_merge(s, path(SAVES + n), n % 2, false, &e), "%s", text);
        snapshot_close(s);
        same(path(SAVES + n), was[n], 1);
        free(was[n]);
    }
}

static void remove_all(void) {
    static const char *const files[] = {"manifest.json", "state.bin", "memory.bin", ""};
    char file[128];
    for (unsigned n = 0; n < 2 * SAVES + 100; n++)
        for (unsigned i = 0; i < 4; i++) {
            snprintf(file, sizeof(file), "%s/%s", path(n), files[i]);
            remove(file);
        }
    DIR *d = opendir(root); /* nothing else is left of any save */
    for (const struct dirent *one; d && (one = readdir(d));)
        ck_assert_msg(*one->d_name == '.', "%s stays", one->d_name);
    closedir(d);
}

START_TEST(every_chain_has_the_memory_of_its_moment) {
    const struct pn_engine_ops *ops;
    unsigned tried = 0;
    for (unsigned i = 0; (ops = pn_engine_at(i)); i++)
        for (unsigned t = PN_TRACKER_OFF + 1; !ops->threaded && t < PN_TRACKERS; t++)
            if (ops->has_tracker(t)) {
                random_saves(ops, t);
                remove_all();
                tried++;
            }
    ck_assert_uint_ge(tried, 3);
}
END_TEST

/* What went on from a snapshot can save on it, under another MMU, too. */
START_TEST(a_restored_machine_saves_on_what_it_began_from) {
    struct err e = {text, sizeof(text)};
    struct machine_config cfg = config(pn_engine_find("shadow"), PN_TRACKER_OFF, RAM);
    struct machine *m = create(&cfg);
    struct snapshot *s;
    go(m);
    ck_assert_int_eq(save(m, path(0), NULL), 0);
    ck_assert_int_eq(save(m, path(1), path(0)), -EINVAL); /* no dirty log */
    ck_assert_ptr_nonnull(strstr(text, "--dirty-log"));
    machine_destroy(m);
    ck_assert_int_eq(snapshot_open(path(0), &s, &e), 0);
    cfg = config(pn_engine_find("tdp"), PN_TRACKER_WP, RAM);
    cfg.kernel_blob = NULL;
    ck_assert_int_eq(snapshot_config(s, &cfg, &e), 0);
    m = create(&cfg);
    go(m);
    ck_assert_msg(!save(m, path(1), path(0)), "%s", text);
    same(path(1), m->ram.base, 2);
    uint8_t *was = malloc(RAM);
    memcpy(was, m->ram.base, RAM);
    /* The log had it all as written by the restore: none of that is in the child. */
    json_t *j;
    ck_assert_int_eq(snap_read_manifest(path(1), &j, &e), 0);
    const json_t *memory = json_object_get(j, "memory");
    ck_assert_int_lt(json_integer_value(json_object_get(memory, "stored")), 200);
    json_decref(j);
    machine_destroy(m);
    snapshot_close(s);
    same(path(1), was, 2);
    free(was);
    remove_all();
}
END_TEST

/* Memory above the hole is a slot of its own, whose bits begin anew. */
START_TEST(pages_above_the_hole_are_where_they_were) {
    struct err e = {text, sizeof(text)};
    const uint64_t ram = LOW_RAM_MAX + (3ull << 20) + PN_PAGE_SIZE;
    const uint64_t at[] = {LOW_RAM_MAX - PN_PAGE_SIZE, HIGH_RAM_BASE,
                           HIGH_RAM_BASE + (65ull << 12), HIGH_RAM_BASE + (3ull << 20)};
    struct machine_config cfg = config(pn_engine_find("tdp"), PN_TRACKER_WP, ram);
    cfg.hugepages = "off";
    struct machine *m = create(&cfg);
    struct snapshot *s;
    ck_assert_msg(!save(m, path(0), NULL), "%s", text);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(machine_write(m, NULL, at[i] + 8, &at[i], 8), 8);
    ck_assert_msg(!save(m, path(1), path(0)), "%s", text);
    machine_destroy(m);
    ck_assert_int_eq(snapshot_open(path(1), &s, &e), 0);
    ck_assert_uint_eq(s->memory.pages - s->memory.inherited, 4);
    cfg.kernel_blob = NULL;
    ck_assert_int_eq(snapshot_config(s, &cfg, &e), 0);
    m = create(&cfg);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t value = 0;
        ck_assert_uint_eq(machine_read(m, NULL, at[i] + 8, &value, 8), 8);
        ck_assert_uint_eq(value, at[i]);
    }
    machine_destroy(m);
    snapshot_close(s);
    remove_all();
}
END_TEST

/* Only a forged manifest names a guest of another size as the parent. */
START_TEST(a_parent_of_another_size_is_refused) {
    struct err e = {text, sizeof(text)};
    struct snapshot *s[2];
    for (unsigned i = 0; i < 2; i++) {
        struct machine_config cfg =
            config(pn_engine_find("shadow"), PN_TRACKER_WP, RAM << i);
        struct machine *m = create(&cfg);
        ck_assert_int_eq(save(m, path(2 * i), NULL), 0);
        ck_assert_int_eq(save(m, path(2 * i + 1), path(2 * i)), 0);
        ck_assert_int_eq(snap_open_one(path(2 * i + 1), true, &s[i], &e), 0);
        machine_destroy(m);
    }
    ck_assert_int_eq(snap_memory_stand_on(&s[0]->memory, &s[1]->memory, &e), -EINVAL);
    ck_assert_int_eq(snap_memory_stand_on(&s[1]->memory, &s[0]->memory, &e), -EINVAL);
    ck_assert_str_eq(text, "not the same memory as its parent's");
    snapshot_close(s[0]);
    snapshot_close(s[1]);
    remove_all();
}
END_TEST

/* A chain has an end, and a run forgets. */
START_TEST(a_chain_that_is_too_long_is_refused) {
    struct err e = {text, sizeof(text)};
    struct machine_config cfg = config(pn_engine_find("shadow"), PN_TRACKER_WP, 2u << 20);
    struct machine *m = create(&cfg);
    struct snapshot *s;
    for (unsigned n = 0; n < SNAP_CHAIN_MAX; n++)
        ck_assert_msg(!save(m, path(n), n ? path(n - 1) : NULL), "%s", text);
    ck_assert_int_eq(save(m, path(99), path(SNAP_CHAIN_MAX - 1)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(text, "merge it first"));
    ck_assert_msg(!snapshot_open(path(SNAP_CHAIN_MAX - 1), &s, &e), "%s", text);
    ck_assert_uint_eq(snapshot_depth(s), SNAP_CHAIN_MAX);
    snapshot_close(s);
    go(m); /* or it could be the same as the first, to the last bit */
    ck_assert_int_eq(save(m, path(98), NULL), 0); /* the 65th: the first is forgotten */
    ck_assert_int_eq(save(m, path(99), path(0)), -EINVAL);
    ck_assert_int_eq(save(m, path(99), path(1)), 0);
    machine_destroy(m);
    remove_all();
}
END_TEST

/* A file with the memory, as a raw one. Return: what the manifest says. */
static json_t *raw_file(int fd, const uint8_t *memory, const uint64_t *changed,
                        const struct snap_memory *clone) {
    struct err e = {text, sizeof(text)};
    struct snap_region r = {.name = "ram",
                            .pages = PAGES,
                            .base = (uint8_t *)(uintptr_t)memory,
                            .changed = changed};
    json_t *j = snap_memory_write(fd, &r, 1, true, clone, 1, &e);
    ck_assert_msg(j != NULL, "%s", text);
    json_object_del(j, "cloned");
    return j;
}

static int scratch(void) {
    int fd = memfd_create("memory", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static uint8_t *all_of(int fd, size_t *size) {
    *size = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *bytes = malloc(*size);
    ck_assert_int_eq(snap_read_at(fd, bytes, *size, 0), 0);
    return bytes;
}

/* The blocks are shared or copied: what is written over them is the same. */
START_TEST(a_clone_with_what_changed_is_a_whole_raw_file) {
    struct err e = {text, sizeof(text)};
    uint8_t *was = calloc(1, RAM), *is = malloc(RAM), *bytes[2];
    uint64_t changed[PAGES / 64] = {0};
    struct snap_memory m;
    size_t size[2];
    srand(SEED);
    for (uint64_t p = 0; p < PAGES; p += 1 + (uint64_t)rand() % 3)
        memset(was + p * PN_PAGE_SIZE, rand() % 3, PN_PAGE_SIZE);
    memcpy(is, was, RAM);
    for (uint64_t p = 0; p < PAGES; p += 1 + (uint64_t)rand() % 20) {
        memset(is + p * PN_PAGE_SIZE, rand() % 3, PN_PAGE_SIZE);
        changed[p / 64] |= 1ull << p % 64;
    }
    int from = scratch(), over = scratch(), alone = scratch();
    json_t *j = raw_file(from, was, NULL, NULL);
    ck_assert_msg(!snap_memory_open(&m, j, from, &e), "%s", text);
    ck_assert_msg(!snap_memory_index(&m, &e), "%s", text);
    bytes[0] = all_of(from, &size[0]);
    ck_assert_int_eq(file_write(over, bytes[0], size[0]), 0);
    free(bytes[0]);
    json_t *a = raw_file(over, is, changed, &m), *b = raw_file(alone, is, NULL, NULL);
    ck_assert(json_equal(a, b));
    bytes[0] = all_of(over, &size[0]);
    bytes[1] = all_of(alone, &size[1]);
    ck_assert_uint_eq(size[0], size[1]);
    ck_assert_int_eq(memcmp(bytes[0], bytes[1], size[0]), 0);
    for (unsigned i = 0; i < 2; i++)
        free(bytes[i]);
    json_decref(a);
    json_decref(b);
    json_decref(j);
    snap_memory_close(&m); /* and from */
    close(over);
    close(alone);
    free(was);
    free(is);
}
END_TEST

/* Zeros, pages that are equal, and others. */
static uint8_t *mixed(void) {
    uint8_t *memory = calloc(1, RAM);
    ck_assert_ptr_nonnull(memory);
    srand(SEED);
    for (uint64_t p = 0; p < PAGES; p++) {
        int kind = rand() % 8;
        if (kind == 1)
            memset(memory + p * PN_PAGE_SIZE, rand() % 3 + 1, PN_PAGE_SIZE);
        for (unsigned i = 0; kind > 1 && i < PN_PAGE_SIZE; i++)
            memory[p * PN_PAGE_SIZE + i] = (uint8_t)(rand() >> 8);
    }
    return memory;
}

/* kind: 0 packed, 1 packed with a parent, 2 raw. */
static json_t *by_threads(int fd, const uint8_t *memory, int kind, unsigned threads,
                          struct err *e) {
    uint64_t changed[PAGES / 64];
    for (unsigned i = 0; i < PAGES / 64; i++)
        changed[i] = i % 5 ? 0xfffefffffffffff1ull : 0;
    struct snap_region r = {.name = "ram",
                            .pages = PAGES - 1, /* an odd number */
                            .base = (uint8_t *)(uintptr_t)memory,
                            .changed = kind == 1 ? changed : NULL};
    return snap_memory_write(fd, &r, 1, kind == 2, NULL, threads, e);
}

START_TEST(bytes_do_not_depend_on_the_number_of_threads) {
    struct err e = {text, sizeof(text)};
    uint8_t *memory = mixed(), *bytes[2];
    size_t size[2];
    for (unsigned n = 0; n < 9; n++) {
        unsigned threads = 2 + n % 3;
        int kind = (int)n / 3;
        const int fd[] = {scratch(), scratch()};
        json_t *one = by_threads(fd[0], memory, kind, 1, &e),
               *more = by_threads(fd[1], memory, kind, threads, &e);
        ck_assert_msg(one && more, "%s", text);
        ck_assert(json_equal(one, more));
        for (unsigned i = 0; i < 2; i++) {
            bytes[i] = all_of(fd[i], &size[i]);
            close(fd[i]);
        }
        ck_assert_uint_eq(size[0], size[1]);
        ck_assert_int_eq(memcmp(bytes[0], bytes[1], size[0]), 0);
        for (unsigned i = 0; i < 2; i++)
            free(bytes[i]);
        json_decref(one);
        json_decref(more);
    }
    free(memory);
}
END_TEST

START_TEST(a_write_that_fails_ends_all_threads_and_is_told) {
    struct err e = {text, sizeof(text)};
    uint8_t *memory = mixed();
    for (int n = 0; n < 9; n++) {
        off_t room = n / 3 * (1 << 20);
        int kind = n % 3, fd = memfd_create("full", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        ck_assert_int_eq(ftruncate(fd, room), 0);
        ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
        ck_assert_ptr_null(by_threads(fd, memory, kind, 4, &e));
        ck_assert_ptr_nonnull(strstr(text, "memory.bin: Operation not permitted"));
        close(fd);
    }
    free(memory);
}
END_TEST

static void setup(void) {
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void teardown(void) {
    rmdir(root);
    memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
}

SUITE("chain", .setup = setup, .teardown = teardown,
      .tests = {every_chain_has_the_memory_of_its_moment,
                a_restored_machine_saves_on_what_it_began_from,
                pages_above_the_hole_are_where_they_were,
                a_parent_of_another_size_is_refused, a_chain_that_is_too_long_is_refused,
                a_clone_with_what_changed_is_a_whole_raw_file,
                bytes_do_not_depend_on_the_number_of_threads,
                a_write_that_fails_ends_all_threads_and_is_told})
