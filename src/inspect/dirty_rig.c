/* SPDX-License-Identifier: MIT */
/*
 * An engine, a guest that takes orders, and the oracle (dirty_rig.h).
 *
 * Invariant: while an order is not done, the guest runs; else it asks for one, and stands in
 * the middle of no other instruction. So the oracle reads memory that nobody writes.
 */
#define _GNU_SOURCE
#include "inspect/dirty_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "machine/internal.h"
#include "penumbra/pv.h"

#define PORT       0x5e4u
#define CODE       0x100000u
#define FAR        (UINT64_C(4) << 30) /* where slots 1 and 2 are */
#define SMALL_PT   0x8a000u            /* behind the tables of entry_identity */
#define LARGE      (UINT64_C(2) << 20)
#define RUN_NS     1000000000u
#define RUNS_MAX   1000u
#define ORDER_WORD 6u

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

extern const uint8_t dirty_guest[], dirty_guest_end[];

enum { ORDER_NONE, ORDER_WRITE, ORDER_READ, ORDER_STRING };

static const struct {
    pn_gpa gpa;
    uint64_t pages, offset; /* in the memory behind all of them */
} place[RIG_SLOTS] = {
    {0, 1541, 0}, {FAR, 70, 4 * LARGE}, {FAR + 2 * LARGE, 549, 5 * LARGE}};
#define MEMORY (7 * LARGE)

static int failed(struct rig *r, int rc, const char *what) {
    return rc ? err_set(r->e, rc, "%s: %s", what, strerror(-rc)) : 0;
}

/* ---- The guest's bus ---- */

static uint32_t order_word(const struct rig_order *o, unsigned word) {
    const uint32_t words[ORDER_WORD] = {o->what,          o->count,
                                        (uint32_t)o->gpa, (uint32_t)(o->gpa >> 32),
                                        o->stride,        o->value};
    return words[word];
}

static uint64_t pio_read(void *opaque, unsigned cpu, uint16_t port, unsigned size) {
    struct rig *r = opaque;
    if (r->at == r->orders) {
        r->ops->kick(r->engine, cpu);
        return ORDER_NONE;
    }
    uint32_t v = order_word(&r->order[r->at], r->word++);
    if (r->word == ORDER_WORD) {
        r->word = 0;
        r->at++;
    }
    return v;
}

static void pio_write(void *opaque, unsigned cpu, uint16_t port, unsigned size,
                      uint64_t v) {
}

static uint64_t mmio_read(void *opaque, unsigned cpu, pn_gpa gpa, unsigned size) {
    return ~UINT64_C(0);
}

static void mmio_write(void *opaque, unsigned cpu, pn_gpa gpa, unsigned size,
                       uint64_t v) {
}

static int no_interrupt(void *opaque, unsigned cpu) {
    return -1;
}

static int no_msr_read(void *opaque, unsigned cpu, uint32_t index, uint64_t *v) {
    return -1;
}

static int no_msr_write(void *opaque, unsigned cpu, uint32_t index, uint64_t v) {
    return -1;
}

static uint64_t no_cr8_read(void *opaque, unsigned cpu) {
    return 0;
}

static void no_cr8_write(void *opaque, unsigned cpu, uint64_t v) {
}

/* ---- Memory ---- */

/* 2 MiB aligned, so that large mappings are possible. fd: what is mapped privately, or -1. */
static uint8_t *map_memory(int fd) {
    uint8_t *p =
        mmap(NULL, MEMORY + LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    uint8_t *base = (uint8_t *)(((uintptr_t)p + LARGE - 1) & ~(LARGE - 1));
    if (base > p)
        munmap(p, (size_t)(base - p));
    if (base + MEMORY < p + MEMORY + LARGE)
        munmap(base + MEMORY, (size_t)(p + LARGE - base));
    int flags = MAP_PRIVATE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);
    return mmap(base, MEMORY, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED ? NULL
                                                                                  : base;
}

static int take_memory(struct rig *r, enum rig_memory memory, int fd) {
    r->base = map_memory(fd);
    if (!r->base)
        return failed(r, -errno, "guest memory");
    if (fd < 0)
        madvise(r->base, MEMORY, memory == RIG_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (memory == RIG_HUGE && madvise(r->base, MEMORY, MADV_POPULATE_WRITE))
        return failed(r, -errno, "guest memory");
    for (unsigned i = 0; i < RIG_SLOTS; i++)
        r->slot[i] = (struct pn_memslot){.id = i,
                                         .gpa = place[i].gpa,
                                         .size = place[i].pages * PN_PAGE_SIZE,
                                         .hva = r->base + place[i].offset};
    return 0;
}

/* ---- The engine ---- */

static int create_engine(struct rig *r) {
    bool by_host = pn_dirty_by_host(r->tracker);
    const struct pn_engine_config cfg = {.cpus = 1,
                                         .mmu = &r->mmu,
                                         .bus = &r->bus,
                                         .slot = r->slot,
                                         .slot_count = RIG_SLOTS,
                                         .seed = 1,
                                         .tracker = by_host ? PN_TRACKER_OFF : r->tracker,
                                         .pv = PN_PV_DEFAULT,
                                         .halt_poll_ns = -1};
    char text[256] = "";
    int rc = r->ops->create(&cfg, &r->engine, text, sizeof(text));
    return rc ? err_set(r->e, rc, "%s", text) : 0;
}

static int put(void *opaque, pn_gpa gpa, const void *data, size_t size) {
    struct rig *r = opaque;
    return r->ops->write_phys(r->engine, gpa, data, size) == size ? 0 : -EFAULT;
}

static void put_table(void *opaque, uint64_t gpa, const uint64_t table[512]) {
    put(opaque, gpa, table, PN_PAGE_SIZE);
}

/* The first 4 GiB and the next one by pages of 2 MiB, but the second of them by 4 KiB. */
static int load_guest(struct rig *r) {
    struct load l = {.write = put, .opaque = r, .ram = r->slot[0].size, .err = r->e};
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    uint64_t small[512], pde = SMALL_PT | PTE_P | PTE_W;
    if (!s)
        return failed(r, -ENOMEM, "guest");
    l.entry = (struct entry){.mode = ENTRY_LONG, .rip = CODE};
    entry_put_tables(&l);
    entry_identity(BOOT_PML4, FAR, put_table, r);
    for (unsigned i = 0; i < 512; i++)
        small[i] = (LARGE + i * PN_PAGE_SIZE) | PTE_P | PTE_W;
    put_table(r, SMALL_PT, small);
    int rc = put(r, BOOT_PML4 + 2 * PN_PAGE_SIZE + 8, &pde, sizeof(pde));
    if (rc == 0)
        rc = put(r, CODE, dirty_guest, (size_t)(dirty_guest_end - dirty_guest));
    if (rc == 0)
        rc = r->ops->get_state(r->engine, 0, s);
    if (rc == 0) {
        entry_state(&l.entry, s);
        rc = r->ops->set_state(r->engine, 0, s);
    }
    free(s);
    return failed(r, rc, "guest");
}

/* Let the guest run until it has no order. */
static int go(struct rig *r) {
    uint64_t start = host_ns();
    for (unsigned i = 0; i < RUNS_MAX; i++) {
        enum pn_exit_reason why =
            r->ops->run(r->engine, 0, r->ops->now(r->engine) + RUN_NS);
        if (why == PN_EXIT_STOP && r->at == r->orders) {
            r->orders = r->at = 0;
            r->score->guest_ns += host_ns() - start;
            return 0;
        }
        if (why != PN_EXIT_STOP && why != PN_EXIT_DEADLINE)
            return err_set(r->e, -EIO, "the guest: %s", r->ops->error(r->engine));
    }
    return err_set(r->e, -ETIMEDOUT, "the guest does not come back");
}

int rig_open(struct rig *r, enum rig_memory memory) {
    pn_mmu_options_default(&r->mmu);
    r->bus = (struct pn_bus){pio_read,     pio_write,
                             mmio_read,    mmio_write,
                             no_interrupt, no_interrupt,
                             NULL,         no_msr_read,
                             no_msr_write, no_cr8_read,
                             no_cr8_write, NULL,
                             NULL,         r};
    int rc = take_memory(r, memory, -1);
    if (rc == 0)
        rc = create_engine(r);
    if (rc == 0)
        rc = load_guest(r);
    return rc ? rc : go(r);
}

static void close_engine(struct rig *r) {
    pn_dirty_close(r->log);
    r->log = NULL;
    for (unsigned i = 0; i < RIG_CONSUMERS; i++) {
        free(r->side[i].hash);
        r->side[i].hash = NULL;
        r->side[i].consumer = NULL;
    }
    if (r->engine)
        r->ops->destroy(r->engine);
    r->engine = NULL;
}

void rig_close(struct rig *r) {
    close_engine(r);
    if (r->base)
        munmap(r->base, MEMORY);
    r->base = NULL;
}

int rig_log(struct rig *r) {
    bool by_host = pn_dirty_by_host(r->tracker);
    int rc = 0;
    for (unsigned i = 0; rc == 0 && !by_host && i < RIG_SLOTS; i++) {
        r->slot[i].flags |= PN_SLOT_LOG_DIRTY;
        rc = r->ops->set_slot(r->engine, &r->slot[i]);
    }
    if (rc == 0)
        rc = pn_dirty_open(r->ops, r->engine, r->tracker, r->slot, RIG_SLOTS, &r->log);
    return failed(r, rc, pn_dirty_name(r->tracker));
}

int rig_restore(struct rig *r, enum rig_memory memory) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    int fd = memfd_create("dirty check", MFD_CLOEXEC);
    int rc = !s ? -ENOMEM : fd < 0 ? -errno : r->ops->get_state(r->engine, 0, s);
    for (size_t at = 0; rc == 0 && at < MEMORY;) {
        ssize_t n = write(fd, r->base + at, MEMORY - at);
        rc = n < 0 ? -errno : 0;
        at += n < 0 ? 0 : (size_t)n;
    }
    rc = failed(r, rc, "a guest to restore");
    rig_close(r);
    if (rc == 0)
        rc = take_memory(r, memory, fd);
    if (rc == 0)
        rc = create_engine(r);
    if (rc == 0)
        rc = failed(r, r->ops->set_state(r->engine, 0, s), "a restored guest");
    if (fd >= 0)
        close(fd);
    free(s);
    return rc;
}

/* ---- The oracle ---- */

static uint64_t pages_all(void) {
    uint64_t n = 0;
    for (unsigned i = 0; i < RIG_SLOTS; i++)
        n += place[i].pages;
    return n;
}

static uint64_t hash_of(const struct rig *r, unsigned slot, uint64_t page) {
    return XXH3_64bits((uint8_t *)r->slot[slot].hva + page * PN_PAGE_SIZE, PN_PAGE_SIZE);
}

int rig_attach(struct rig *r, unsigned i) {
    static const uint8_t zeros[PN_PAGE_SIZE];
    uint64_t *hash = r->side[i].hash = calloc(pages_all(), sizeof(uint64_t)), n = 0;
    int rc = hash ? pn_dirty_attach(r->log, &r->side[i].consumer) : -ENOMEM;
    if (rc)
        return failed(r, rc, "a consumer");
    for (unsigned slot = 0; slot < RIG_SLOTS; slot++)
        for (uint64_t p = 0; p < place[slot].pages; p++)
            hash[n++] = r->slot[slot].size ? hash_of(r, slot, p)
                                           : XXH3_64bits(zeros, sizeof(zeros));
    return 0;
}

static void judge(struct rig *r, unsigned slot, uint64_t page, bool named, bool changed) {
    struct dirty_score *s = r->score;
    s->named += named;
    s->changed += changed;
    s->unwritten += named && !changed;
    if (changed && !named && !s->missed++)
        s->missed_gpa = place[slot].gpa + page * PN_PAGE_SIZE;
}

int rig_harvest(struct rig *r, unsigned i, bool committed) {
    struct pn_dirty_consumer *c = r->side[i].consumer;
    uint64_t start = host_ns(), *hash = r->side[i].hash;
    long pages = pn_dirty_harvest(c);
    r->score->harvest_ns += host_ns() - start;
    if (pages < 0)
        return failed(r, (int)pages, "a harvest");
    r->score->harvests++;
    for (unsigned slot = 0; slot < RIG_SLOTS; slot++) {
        const uint64_t *bitmap = pn_dirty_bitmap(c, slot);
        for (uint64_t p = 0; p < place[slot].pages; p++, hash++) {
            uint64_t now = hash_of(r, slot, p);
            judge(r, slot, p, bitmap[p / 64] >> p % 64 & 1, now != *hash);
            *hash = committed ? now : *hash;
        }
    }
    if (committed)
        pn_dirty_commit(c);
    return 0;
}

/* ---- Writers ---- */

static int order(struct rig *r, struct rig_order o) {
    o.value = r->value += 0x10001; /* its low byte, which a string stores, changes too */
    r->order[r->orders++] = o;
    return go(r);
}

static pn_gpa gpa_of(unsigned slot, uint64_t page) {
    return place[slot].gpa + page * PN_PAGE_SIZE;
}

/* Not at the begin of a page: there is what the loader wrote. */
#define INSIDE 0x7f0u

int rig_write(struct rig *r, unsigned slot, uint64_t page, unsigned count,
              unsigned stride) {
    return order(r, (struct rig_order){ORDER_WRITE, count, gpa_of(slot, page) + INSIDE,
                                       stride * (uint32_t)PN_PAGE_SIZE, 0});
}

int rig_read(struct rig *r, unsigned slot, uint64_t page, unsigned count,
             unsigned stride) {
    return order(r, (struct rig_order){ORDER_READ, count, gpa_of(slot, page) + INSIDE,
                                       stride * (uint32_t)PN_PAGE_SIZE, 0});
}

int rig_cross(struct rig *r, unsigned slot, uint64_t page, unsigned count) {
    return order(r, (struct rig_order){ORDER_WRITE, count, gpa_of(slot, page) - 1,
                                       PN_PAGE_SIZE * 2, 0});
}

int rig_string(struct rig *r, unsigned slot, uint64_t offset, unsigned count) {
    return order(r,
                 (struct rig_order){ORDER_STRING, count, place[slot].gpa + offset, 0, 0});
}

int rig_device(struct rig *r, unsigned slot, uint64_t page) {
    uint32_t v = r->value += 0x10001;
    return failed(r, put(r, gpa_of(slot, page) + INSIDE, &v, sizeof(v)),
                  "a device's write");
}

int rig_past(struct rig *r, unsigned slot, uint64_t page) {
    uint32_t v = r->value += 0x10001;
    memcpy((uint8_t *)r->slot[slot].hva + page * PN_PAGE_SIZE + INSIDE, &v, sizeof(v));
    pn_dirty_mark(r->log, slot, page);
    return 0;
}

int rig_slot_gone(struct rig *r, unsigned slot) {
    struct pn_memslot none = r->slot[slot];
    none.size = 0;
    int rc = pn_dirty_slot_gone(r->log, slot);
    return failed(r, rc ? rc : r->ops->set_slot(r->engine, &none), "a slot that goes");
}

int rig_slot_back(struct rig *r, unsigned slot) {
    int rc = r->ops->set_slot(r->engine, &r->slot[slot]);
    if (rc == 0)
        rc = pn_dirty_slot_back(r->log, slot, r->slot[slot].hva);
    return failed(r, rc, "a slot that comes back");
}

uint64_t rig_page_out(struct rig *r) {
    static unsigned char in[MEMORY / PN_PAGE_SIZE];
    uint64_t before = 0, after = 0;
    for (unsigned round = 0; round < 2; round++) {
        if (mincore(r->base, MEMORY, in))
            return 0;
        for (size_t p = 0; p < sizeof(in); p++)
            *(round ? &after : &before) += in[p] & 1;
        if (!round && madvise(r->base, MEMORY, MADV_PAGEOUT))
            return 0;
    }
    return before > after ? before - after : 0;
}

int rig_skip(struct rig *r, const char *why) {
    r->score->skipped = true;
    snprintf(r->score->why, sizeof(r->score->why), "%s", why);
    return 0;
}
