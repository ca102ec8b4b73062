/* SPDX-License-Identifier: MIT */
/*
 * What it costs to take a running guest back to a point (machine/point.h), beside what a
 * process pays that forks over a private mapping of the same memory, in one run.
 *
 *     reset_cost [--memory MIB] [--pages N] [--repeat N]
 *
 * The guest writes N pages a round. reset: the point's own time. fork: a process that maps the
 * same bytes privately forks; the child writes the same pages and ends, and the parent waits
 * for it: what a fuzzer without such points does for each round. mmap: the mapping is made anew
 * in its place, and the pages are written. Both have the writes in them, each with a fault
 * and a copy of a page, as the guest's next round has after a reset. Figures are medians.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "machine/point.h"

#define REPEAT_MAX 1001u
#define DATA       0x400000u
#define CODE       0x100000u

static void fail(const char *what, const char *why) {
    fprintf(stderr, "reset_cost: %s: %s\n", what, why);
    exit(1);
}

/* mov edi, DATA; mov ecx, pages; 1: add dword [rdi], 1; add edi, 4096; dec ecx; jnz 1b; then
 * 2: inc eax; out 0x80, al; jmp 2b */
static const uint8_t guest[] = {0xbf, 0x00, 0x00, 0x40, 0x00, 0xb9, 0,    0,
                                0,    0,    0x83, 0x07, 0x01, 0x81, 0xc7, 0x00,
                                0x10, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xf3, 0xff,
                                0xc0, 0xe6, 0x80, 0xeb, 0xfa};
#define COUNT_AT 6
#define DONE     (CODE + 23)

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, unsigned n) {
    qsort(v, n, sizeof(*v), by_size);
    return v[n / 2];
}

static struct machine *create(const char *engine, uint64_t mib, uint32_t pages,
                              uint8_t *code) {
    char text[256];
    struct machine *m;
    memcpy(code, guest, sizeof(guest));
    memcpy(code + COUNT_AT, &pages, sizeof(pages));
    struct machine_config cfg = {.engine = pn_engine_find(engine),
                                 .ram = mib << 20,
                                 .cpus = 1,
                                 .kernel_blob = code,
                                 .kernel_blob_size = sizeof(guest),
                                 .format = FMT_FLAT,
                                 .flat_addr = CODE,
                                 .flat_bits = 64,
                                 .dirty = PN_TRACKER_WP};
    pn_mmu_options_default(&cfg.mmu);
    if (machine_create(&cfg, &m, text, sizeof(text)))
        fail("machine", text);
    return m;
}

static void run_round(struct machine *m) {
    struct machine_stop stop;
    char text[256] = "";
    if (machine_go(m, &stop, text, sizeof(text)) || stop.why != MACHINE_BREAK)
        fail("the guest", text);
}

static double measure_reset(const char *engine, uint64_t mib, uint32_t pages,
                            unsigned repeat) {
    static double us[REPEAT_MAX];
    uint8_t code[sizeof(guest)];
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct machine *m = create(engine, mib, pages, code);
    struct machine_point *point;
    struct machine_reset done;
    for (uint64_t at = DATA; at < mib << 20; at += PN_PAGE_SIZE)
        machine_write(m, NULL, at, &at, 4); /* memory that is there, as a guest's is */
    machine_break(m, DONE, true);
    if (machine_point_take(m, &point, &e))
        fail("point", text);
    uint64_t digest = machine_ram_digest(m);
    for (unsigned i = 0; i < repeat; i++) {
        run_round(m);
        if (machine_point_reset(point, &done, &e))
            fail("reset", text);
        if (done.pages < pages)
            fail("reset", "too few pages");
        us[i] = (double)done.host_ns / 1e3;
    }
    if (machine_ram_digest(m) != digest)
        fail("reset", "memory is not as it was");
    machine_destroy(m);
    return median(us, repeat);
}

/* ---- Beside it: private mappings ---- */

static uint8_t *map_private(int fd, uint64_t bytes) {
    uint8_t *p =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED)
        fail("mmap", strerror(errno));
    return p;
}

static void write_pages(uint8_t *memory, uint32_t pages) {
    for (uint32_t i = 0; i < pages; i++)
        ++*(volatile uint32_t *)(void *)(memory + DATA + (uint64_t)i * PN_PAGE_SIZE);
}

static double fork_once(uint8_t *memory, uint32_t pages) {
    int status;
    uint64_t start = host_ns();
    pid_t child = fork();
    if (child == 0) {
        write_pages(memory, pages);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        fail("fork", strerror(errno));
    return (double)(host_ns() - start) / 1e3;
}

static double map_once(uint8_t *memory, int fd, uint64_t bytes, uint32_t pages) {
    uint64_t start = host_ns();
    if (mmap(memory, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) !=
        memory)
        fail("mmap", strerror(errno));
    write_pages(memory, pages);
    return (double)(host_ns() - start) / 1e3;
}

static void measure_private(uint64_t mib, uint32_t pages, unsigned repeat,
                            double *by_fork, double *by_map) {
    static double forks[REPEAT_MAX], maps[REPEAT_MAX];
    uint64_t bytes = mib << 20;
    int fd = memfd_create("reset_cost", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        fail("memfd", strerror(errno));
    uint8_t *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        fail("memfd", strerror(errno));
    for (uint64_t at = 0; at < bytes; at += PN_PAGE_SIZE)
        memcpy(shared + at, &at, 4);
    munmap(shared, bytes);
    uint8_t *memory = map_private(fd, bytes);
    for (unsigned i = 0; i < repeat; i++)
        forks[i] = fork_once(memory, pages);
    for (unsigned i = 0; i < repeat; i++)
        maps[i] = map_once(memory, fd, bytes, pages);
    *by_fork = median(forks, repeat);
    *by_map = median(maps, repeat);
    munmap(memory, bytes);
    close(fd);
}

int main(int argc, char **argv) {
    static const char *const engines[] = {"shadow", "tdp"};
    uint64_t mib = 256;
    uint32_t pages = 100;
    unsigned repeat = 101;
    double by_fork, by_map;
    for (int i = 1; i + 1 < argc; i += 2) {
        unsigned long value = strtoul(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--memory"))
            mib = value;
        else if (!strcmp(argv[i], "--pages"))
            pages = (uint32_t)value;
        else if (!strcmp(argv[i], "--repeat"))
            repeat = (unsigned)value;
        else
            fail(argv[i], "unknown");
    }
    if (argc % 2 == 0 || mib < 16 || mib > 3072 || !repeat || repeat > REPEAT_MAX ||
        !pages || pages > (mib << 8) - DATA / PN_PAGE_SIZE)
        fail("usage", "--memory 16..3072 --pages 1.. --repeat 1..1001");
    printf("%" PRIu32 " pages written of %" PRIu64 " MiB, median of %u\n", pages, mib,
           repeat);
    for (unsigned i = 0; i < 2; i++)
        printf("  point reset, %-7s %10.1f us\n", engines[i],
               measure_reset(engines[i], mib, pages, repeat));
    measure_private(mib, pages, repeat, &by_fork, &by_map);
    printf("  fork, write, exit, wait %7.1f us\n", by_fork);
    printf("  mmap anew, write        %7.1f us\n", by_map);
    return 0;
}
