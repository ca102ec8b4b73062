/* SPDX-License-Identifier: MIT */
/*
 * What an incremental and a live snapshot cost beside a full one, in one run: a guest whose memory
 * holds random bytes, of which it writes a part anew between two saves.
 *
 *     snapshot_cost [--memory MIB] [--written PERCENT] [--repeat N] [--in FOLDER]
 *
 * Each repetition saves full, writes, saves incrementally, and saves live; the figures are medians,
 * and of the live save's pause the 95th percentile, too. Results are checked: the incremental one,
 * with what it stands on, has the guest's memory, and the live one that of its moment: pages are
 * written while it is on its way.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/snapshot_internal.h"

#define REPEAT_MAX 101u

/* sti; hlt; jmp. */
static const uint8_t guest[] = {0xfb, 0xf4, 0xeb, 0xfc};

struct cost {
    double ms[REPEAT_MAX], bytes[REPEAT_MAX];
};
enum { FULL, PART, LIVE, KINDS };
static const char *const kinds[] = {"full", "part", "live"};

static uint64_t seed = 1;
static uint64_t next(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "snapshot_cost: %s: %s\n", what, why);
    exit(1);
}

static void write_page(struct machine *m, uint64_t page) {
    uint64_t data[PN_PAGE_SIZE / 8];
    for (unsigned i = 0; i < PN_PAGE_SIZE / 8; i++)
        data[i] = next();
    if (machine_write(m, NULL, page * PN_PAGE_SIZE, data, sizeof(data)) != sizeof(data))
        fail("write", "no memory there");
}

static double folder_bytes(const char *dir) {
    double sum = 0;
    struct stat st;
    DIR *d = opendir(dir);
    for (const struct dirent *one; d && (one = readdir(d));)
        if (*one->d_name != '.' && !fstatat(dirfd(d), one->d_name, &st, 0))
            sum += (double)st.st_size;
    if (d)
        closedir(d);
    return sum;
}

/* Each save makes a folder: what it costs to remove the one before is no save's. */
static void remove_folder(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    unlinkat(fd, SNAPSHOT_MANIFEST, 0);
    unlinkat(fd, SNAPSHOT_STATE, 0);
    unlinkat(fd, SNAPSHOT_MEMORY, 0);
    close(fd);
    rmdir(dir);
}

static void save(struct machine *m, const char *dir, const char *parent, struct cost *c,
                 unsigned i) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    const struct snapshot_request r = {.dir = dir, .parent = parent};
    remove_folder(dir);
    uint64_t start = host_ns();
    if (machine_snapshot_save(m, &r, &e))
        fail(dir, text);
    c->ms[i] = (double)(host_ns() - start) / 1e6;
    c->bytes[i] = folder_bytes(dir);
}

static int same(void *opaque, uint64_t page, const uint8_t *data) {
    const struct machine *m = opaque;
    return memcmp(m->ram.base + page * PN_PAGE_SIZE, data, PN_PAGE_SIZE) ? -EBADMSG : 0;
}

static void check(struct machine *m, const char *dir) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct snapshot *s;
    if (snapshot_open(dir, &s, &e) || snap_read_pages(s, same, m, &e))
        fail(dir, text);
    snapshot_close(s);
}

/* For a copy of this process: nothing of this one's is to be done there. */
static void leave(void) {
    _exit(0);
}

/* ms: how long the guest stood. written: pages that are written before the copy has ended, and
 * are to be as before in the snapshot. */
static void save_live(struct machine *m, const char *dir, struct cost *c, unsigned i,
                      uint64_t pages, uint64_t first) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct machine_saving_report report;
    struct snapshot *s;
    const struct snapshot_request r = {.dir = dir, .live = true, .leave = leave};
    remove_folder(dir);
    uint8_t *was = mmap(NULL, m->cfg.ram, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (was == MAP_FAILED || madvise(was, m->cfg.ram, MADV_DONTFORK)) /* no VMM has it */
        fail(dir, strerror(errno));
    memcpy(was, m->ram.base, m->cfg.ram);
    uint64_t start = host_ns();
    if (machine_snapshot_save(m, &r, &e))
        fail(dir, text);
    c->ms[i] = (double)(host_ns() - start) / 1e6;
    for (uint64_t n = 0; n < pages / 50; n++)
        write_page(m, first + next() % pages);
    if (machine_saving(m, true, &report) != SAVING_DONE)
        fail(dir, report.error);
    c->bytes[i] = (double)report.host_ns;
    uint8_t *base = m->ram.base; /* compared with what was */
    m->ram.base = was;
    if (snapshot_open(dir, &s, &e) || snap_read_pages(s, same, m, &e))
        fail(dir, text);
    m->ram.base = base;
    snapshot_close(s);
    munmap(was, m->cfg.ram);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double quantile(double *v, unsigned n, unsigned percent) {
    qsort(v, n, sizeof(*v), by_size);
    return v[(n - 1) * percent / 100];
}

static struct machine *create(uint64_t bytes) {
    char text[256];
    struct machine *m;
    struct machine_config cfg = {.engine = pn_engine_find("shadow"),
                                 .ram = bytes,
                                 .cpus = 1,
                                 .kernel_blob = guest,
                                 .kernel_blob_size = sizeof(guest),
                                 .format = FMT_FLAT,
                                 .flat_addr = 0x100000,
                                 .flat_bits = 64,
                                 .dirty = PN_TRACKER_WP};
    pn_mmu_options_default(&cfg.mmu);
    if (machine_create(&cfg, &m, text, sizeof(text)))
        fail("machine", text);
    return m;
}

static void print(struct cost c[KINDS], unsigned repeat, uint64_t written,
                  uint64_t pages) {
    double ms = quantile(c[FULL].ms, repeat, 50),
           bytes = quantile(c[FULL].bytes, repeat, 50);
    double part_ms = quantile(c[PART].ms, repeat, 50),
           part_bytes = quantile(c[PART].bytes, repeat, 50);
    double p95 = quantile(c[LIVE].ms, repeat, 95);
    printf("full         %12.0f bytes %10.1f ms\n", bytes, ms);
    printf("incremental  %12.0f bytes %10.1f ms  (%" PRIu64 " pages of %" PRIu64 ")\n",
           part_bytes, part_ms, written, pages);
    printf("of it        %11.2f %%     %8.2f %%\n", part_bytes / bytes * 100,
           part_ms / ms * 100);
    printf("live: pause  %10.1f ms, 95th percentile %.1f ms (%.2f %% of the full one's); "
           "written after %.1f ms\n",
           quantile(c[LIVE].ms, repeat, 50), p95, p95 / ms * 100,
           quantile(c[LIVE].bytes, repeat, 50) / 1e6);
}

static void measure(uint64_t mib, double percent, unsigned repeat, const char *in) {
    static struct cost cost[KINDS];
    char dir[KINDS][300];
    struct machine *m = create(mib << 20);
    uint64_t first = 512, pages = (mib << 8) - first; /* above the guest's own */
    uint64_t written = (uint64_t)((double)(mib << 8) * percent / 100);
    for (unsigned k = 0; k < KINDS; k++)
        snprintf(dir[k], sizeof(dir[k]), "%s/pn-cost-%d.%s", in, (int)getpid(), kinds[k]);
    for (uint64_t p = 0; p < pages; p++)
        write_page(m, first + p);
    for (unsigned i = 0; i < repeat; i++) {
        save(m, dir[FULL], NULL, &cost[FULL], i);
        for (uint64_t n = 0; n < written; n++)
            write_page(m, first + (n * pages / written + i) % pages);
        save(m, dir[PART], dir[FULL], &cost[PART], i);
        check(m, dir[PART]);
        save_live(m, dir[LIVE], &cost[LIVE], i, pages, first);
    }
    for (unsigned k = 0; k < KINDS; k++)
        remove_folder(dir[k]);
    print(cost, repeat, written, mib << 8);
    machine_destroy(m);
}

int main(int argc, char **argv) {
    uint64_t mib = 1024;
    double percent = 1;
    unsigned repeat = 5;
    const char *in = ".";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--memory"))
            mib = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--written"))
            percent = strtod(argv[i + 1], NULL);
        else if (!strcmp(argv[i], "--repeat"))
            repeat = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--in"))
            in = argv[i + 1];
        else
            fail(argv[i], "unknown");
    }
    if (argc % 2 == 0 || mib < 16 || mib > 3072 || percent <= 0 || percent > 100 ||
        !repeat || repeat > REPEAT_MAX)
        fail("usage", "--memory 16..3072 --written 0..100 --repeat 1..101 --in FOLDER");
    measure(mib, percent, repeat, in);
    return 0;
}
