/* SPDX-License-Identifier: MIT */
/*
 * What a harvest costs, with all that makes the next store to its pages seen again, beside a plain
 * scan of the bitmap that it gives (what any reader of it does): slots of 16 GiB, that is 4M pages,
 * every one of them mapped, of which a part is written between two harvests.
 *
 *     harvest_cost [--memory MIB] [--repeat N]
 *
 * The rows of `log` are of the log alone (penumbra/dirty.h): its tracker's bitmap is there
 * already. No page of the guest's memory is touched: what is measured are tables and bitmaps.
 * wp-2m names all of the 2 MiB that a written page is in; sub-page is not here, for its stores have
 * to be made. Figures are medians; speed: the scan's time by the harvest's. The stores between two harvests are
 * timed, too, translations alone: what a harvest leaves to them is in there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "penumbra/engine.h"
#include "penumbra/x86.h"

#define SLOTS      4u
#define TABLES     (UINT64_C(1) << 40) /* gpa of the guest's tables */
#define REPEAT_MAX 101u

static void fail(const char *what, const char *why) {
    fprintf(stderr, "harvest_cost: %s: %s\n", what, why);
    exit(1);
}

/* An engine of memslots and their log alone. */
struct pn_engine {
    struct pn_mmu *mmu; /* NULL: its own bitmap */
    struct pn_mmu_vcpu *vcpu;
    struct pn_tlb_view view;
    struct pn_stats stats;
    struct pn_memslot slot[SLOTS + 1];
    uint64_t *bitmap[SLOTS];
    uint64_t pages; /* of each slot */
    uint8_t *tables;
};

static long harvest(struct pn_engine *e, uint32_t slot, uint64_t *bitmap, size_t words) {
    long pages = 0;
    if (e->mmu)
        return pn_mmu_dirty_harvest(e->mmu, slot, bitmap, words);
    for (size_t w = 0; w < words; w++) {
        bitmap[w] = e->bitmap[slot][w];
        if (!bitmap[w])
            continue;
        pages += __builtin_popcountll(bitmap[w]);
        e->bitmap[slot][w] = 0;
    }
    return pages;
}

static const struct pn_engine_ops ops = {.name = "memslots", .dirty_harvest = harvest};

static void *reserve(uint64_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? (fail("mmap", strerror(errno)), NULL) : p;
}

/* gva = gpa, by mappings of 1 GiB. */
static void make_tables(struct pn_engine *e, uint64_t bytes) {
    uint64_t *pml4 = (uint64_t *)(void *)e->tables, *pdpt = pml4 + 512;
    pml4[0] = (TABLES + PN_PAGE_SIZE) | PTE_P | PTE_W;
    for (uint64_t i = 0; i << 30 < bytes; i++)
        pdpt[i] = i << 30 | PTE_P | PTE_W | PTE_PS;
}

static void make_mmu(struct pn_engine *e, enum pn_mmu_kind kind,
                     enum pn_dirty_tracker tracker) {
    struct pn_mmu_config cfg = {.kind = kind, .tracker = tracker, .maxphyaddr = 46};
    pn_mmu_options_default(&cfg.opt);
    int rc = pn_mmu_create(&cfg, &e->mmu);
    for (unsigned i = 0; rc == 0 && i <= SLOTS; i++)
        rc = pn_mmu_slot_set(e->mmu, &e->slot[i]);
    if (rc == 0)
        rc = pn_mmu_vcpu_create(e->mmu, &e->view, &e->stats, NULL, &e->vcpu);
    if (rc)
        fail("MMU", strerror(-rc));
    pn_mmu_set_paging(e->vcpu, &(struct pn_paging){.cr0 = CR0_PG | CR0_PE | CR0_WP,
                                                   .cr3 = TABLES,
                                                   .cr4 = CR4_PAE,
                                                   .efer = EFER_LME | EFER_LMA});
}

static struct pn_engine *create(uint64_t bytes) {
    struct pn_engine *e = calloc(1, sizeof(*e));
    if (!e)
        fail("engine", "out of memory");
    uint64_t each = bytes / SLOTS;
    uint8_t *memory = reserve(bytes);
    e->pages = each / PN_PAGE_SIZE;
    e->tables = reserve(2 * PN_PAGE_SIZE);
    for (unsigned i = 0; i < SLOTS; i++) {
        e->slot[i] = (struct pn_memslot){.id = i,
                                         .flags = PN_SLOT_LOG_DIRTY,
                                         .gpa = i * each,
                                         .size = each,
                                         .hva = memory + i * each};
        e->bitmap[i] = calloc(e->pages / 64, sizeof(uint64_t));
        if (!e->bitmap[i])
            fail("engine", "out of memory");
    }
    e->slot[SLOTS] = (struct pn_memslot){
        .id = SLOTS, .gpa = TABLES, .size = 2 * PN_PAGE_SIZE, .hva = e->tables};
    make_tables(e, bytes);
    return e;
}

static void destroy(struct pn_engine *e) {
    pn_mmu_vcpu_destroy(e->vcpu);
    pn_mmu_destroy(e->mmu);
    munmap(e->slot[0].hva, e->pages * SLOTS * PN_PAGE_SIZE);
    munmap(e->tables, 2 * PN_PAGE_SIZE);
    for (unsigned i = 0; i < SLOTS; i++)
        free(e->bitmap[i]);
    free(e);
}

static void touch(struct pn_engine *e, uint64_t page, enum pn_access access) {
    struct pn_xlate x;
    if (!e->mmu)
        e->bitmap[page / e->pages][page % e->pages / 64] |= UINT64_C(1) << page % 64;
    else if (pn_answer(pn_mmu_translate(e->vcpu, page * PN_PAGE_SIZE, access,
                                        PN_TLB_SUPER, &x)) != PN_MAPPED)
        fail("a page", "it is not mapped");
}

/* `count` different pages, scattered: multiples of an odd number, modulo a power of two or not. */
static void write_some(struct pn_engine *e, uint64_t count, unsigned round) {
    uint64_t all = e->pages * SLOTS, step = all / count;
    for (uint64_t i = 0; i < count; i++)
        touch(e, (i * step + (i * 0x9e3779b1u + round) % step) % all, PN_WRITE);
}

static uint64_t scan(const uint64_t *bitmap, size_t words) {
    uint64_t sum = 0;
    for (size_t w = 0; w < words; w++)
        for (uint64_t bits = bitmap[w]; bits; bits &= bits - 1)
            sum += w * 64 + (unsigned)__builtin_ctzll(bits);
    return sum;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, unsigned n) {
    qsort(v, n, sizeof(*v), by_size);
    return v[n / 2];
}

static double ms_since(uint64_t start) {
    return (double)(host_ns() - start) / 1e6;
}

static void measure_part(struct pn_engine *e, struct pn_dirty_consumer *c,
                         const char *name, bool exact, double percent, unsigned repeat) {
    static double harvests[REPEAT_MAX], scans[REPEAT_MAX], stores[REPEAT_MAX];
    uint64_t all = e->pages * SLOTS, count = (uint64_t)((double)all * percent / 100);
    volatile uint64_t sum = 0;
    long pages = 0;
    for (unsigned i = 0; i < repeat; i++) {
        uint64_t start = host_ns();
        write_some(e, count, i);
        stores[i] = ms_since(start);
        start = host_ns();
        pages = pn_dirty_harvest(c);
        harvests[i] = ms_since(start);
        start = host_ns();
        sum += scan(pn_dirty_bitmap(c, 0), all / 64);
        scans[i] = ms_since(start);
        start = host_ns();
        pn_dirty_commit(c);
        harvests[i] += ms_since(start);
        if (pages < 0 || (exact ? (uint64_t)pages != count : (uint64_t)pages < count))
            fail(name, "not the pages that were written");
    }
    double h = median(harvests, repeat), s = median(scans, repeat);
    printf("%-14s %8.1f %10ld %12.3f %10.3f %8.2f %10.3f\n", name, percent, pages, h, s,
           s / h, median(stores, repeat));
}

static void measure(uint64_t bytes, const char *name, enum pn_mmu_kind kind,
                    enum pn_dirty_tracker tracker, unsigned repeat) {
    static const double parts[] = {0.1, 10, 100};
    struct pn_engine *e = create(bytes);
    struct pn_dirty_log *log;
    struct pn_dirty_consumer *c;
    if (tracker != PN_TRACKER_OFF)
        make_mmu(e, kind, tracker);
    if (pn_dirty_open(&ops, e, tracker, e->slot, SLOTS, &log) || pn_dirty_attach(log, &c))
        fail(name, "no log");
    for (uint64_t p = 0; e->mmu && p < e->pages * SLOTS; p++)
        touch(e, p, PN_READ);
    pn_dirty_harvest(c);
    pn_dirty_commit(c);
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        measure_part(e, c, name, tracker != PN_TRACKER_FRAMES, parts[i], repeat);
    pn_dirty_close(log);
    destroy(e);
}

int main(int argc, char **argv) {
    static const enum pn_dirty_tracker trackers[] = {
        PN_TRACKER_WP,    PN_TRACKER_RING,   PN_TRACKER_DBIT,    PN_TRACKER_PML,
        PN_TRACKER_HDBSS, PN_TRACKER_FRAMES, PN_TRACKER_ACCESSED};
    static const char *const engines[] = {"shadow", "tdp"};
    uint64_t mib = 16384;
    unsigned repeat = 5;
    for (int i = 1; i + 1 < argc; i += 2) {
        unsigned long value = strtoul(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--memory"))
            mib = value;
        else if (!strcmp(argv[i], "--repeat"))
            repeat = (unsigned)value;
        else
            fail(argv[i], "unknown");
    }
    if (argc % 2 == 0 || mib < 64 || mib > 65536 || mib % 64 || !repeat ||
        repeat > REPEAT_MAX)
        fail("usage", "--memory 64..65536, a multiple of 64 --repeat 1..101");
    printf("%" PRIu64 " MiB in %u slots, every page mapped; medians of %u\n", mib, SLOTS,
           repeat);
    printf("%-14s %8s %10s %12s %10s %8s %10s\n", "tracker", "% dirty", "pages",
           "harvest ms", "scan ms", "speed", "stores ms");
    measure(mib << 20, "log", PN_MMU_TDP, PN_TRACKER_OFF, repeat);
    for (unsigned k = 0; k < 2; k++)
        for (unsigned t = 0; t < sizeof(trackers) / sizeof(trackers[0]); t++) {
            const struct pn_engine_ops *engine = pn_engine_find(engines[k]);
            char name[32];
            if (!engine->has_tracker(trackers[t]))
                continue;
            snprintf(name, sizeof(name), "%s %s", engines[k], pn_dirty_name(trackers[t]));
            measure(mib << 20, name, k ? PN_MMU_TDP : PN_MMU_SHADOW, trackers[t], repeat);
        }
    return 0;
}
