/* SPDX-License-Identifier: MIT */
/*
 * Recordings of random guests: two vCPUs whose tables map themselves, memslots that come, move
 * and go, code that is tracked, harvests. Into the recorded MMU every counter comes out as
 * it was; and a guest that is recorded counts what one that is not does.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "inspect/replay.h"
#include "tests/suite.h"

#define RAM_PAGES   48u
#define EXTRA_PAGES 8u
#define PAGES       (RAM_PAGES + EXTRA_PAGES)
#define EXTRA_AT    0x40000u
#define CPUS        2u
#define STEPS       6000u

enum { RAM, EXTRA };

struct world {
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu[CPUS];
    struct pn_tlb_view view[CPUS];
    struct pn_stats stats[CPUS];
    struct pn_paging paging[CPUS];
    uint8_t *mem;
    struct pn_memslot extra;
    unsigned tracked[RAM_PAGES];
    uint64_t seed;
};

static char path[] = "/tmp/pn-test-replay-XXXXXX";
static char text[256];
static struct err e = {text, sizeof(text)};

/* xorshift64* */
static uint64_t rnd(struct world *w) {
    w->seed ^= w->seed >> 12;
    w->seed ^= w->seed << 25;
    w->seed ^= w->seed >> 27;
    return w->seed * 0x2545f4914f6cdd1dull;
}

/* ---- The guest ---- */

static void put(struct world *w, unsigned page, unsigned index, uint64_t gpte) {
    memcpy(w->mem + page * PN_PAGE_SIZE + 8 * index, &gpte, 8);
}

/* Four levels from page 1, another root at page 2: they share what lies below. Leaf tables
 * at 5 and 6 map all of memory one to one. */
static void make_tables(struct world *w) {
    for (unsigned root = 1; root < 3; root++)
        for (unsigned i = 0; i < 3; i++)
            put(w, root, i, 3 << PN_PAGE_SHIFT | 7);
    for (unsigned i = 0; i < 3; i++) {
        put(w, 3, i, 4 << PN_PAGE_SHIFT | 7);
        put(w, 4, i, i == 2 ? 0x87 : (5 + i) << PN_PAGE_SHIFT | 7);
    }
    for (unsigned i = 0; i < 128; i++) {
        put(w, 5, i, (uint64_t)i << PN_PAGE_SHIFT | 7);
        put(w, 6, i, (uint64_t)(127 - i) << PN_PAGE_SHIFT | 7);
    }
}

static void world_begin(struct world *w, const struct pn_mmu_config *cfg, uint64_t seed) {
    *w = (struct world){.seed = seed * 0x9e3779b97f4a7c15ull + 1};
    w->mem = mmap(NULL, PAGES * PN_PAGE_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(w->mem, MAP_FAILED);
    make_tables(w);
    ck_assert_int_eq(pn_mmu_create(cfg, &w->mmu), 0);
    struct pn_memslot ram = {RAM, PN_SLOT_LOG_DIRTY, 0, RAM_PAGES * PN_PAGE_SIZE, w->mem};
    w->extra = (struct pn_memslot){EXTRA, 0, EXTRA_AT, EXTRA_PAGES * PN_PAGE_SIZE,
                                   w->mem + RAM_PAGES * PN_PAGE_SIZE};
    ck_assert_int_eq(pn_mmu_slot_set(w->mmu, &ram), 0);
    ck_assert_int_eq(pn_mmu_slot_set(w->mmu, &w->extra), 0);
    for (unsigned i = 0; i < CPUS; i++) {
        ck_assert_int_eq(
            pn_mmu_vcpu_create(w->mmu, &w->view[i], &w->stats[i], NULL, &w->vcpu[i]), 0);
        w->paging[i] = (struct pn_paging){.cr0 = 1u << 31 | 1u << 16 | 1,
                                          .cr4 = 1u << 5 | 1u << 7 | 1u << 22,
                                          .efer = 0xd00,
                                          .cr3 = 1u << PN_PAGE_SHIFT};
        pn_mmu_set_paging(w->vcpu[i], &w->paging[i]);
    }
}

static void world_end(struct world *w) {
    for (unsigned i = 0; i < CPUS; i++)
        pn_mmu_vcpu_destroy(w->vcpu[i]);
    pn_mmu_destroy(w->mmu);
    munmap(w->mem, PAGES * PN_PAGE_SIZE);
}

static pn_gva choose_gva(struct world *w) {
    uint64_t b = rnd(w);
    return (b & 63) << 12 | (b >> 6 & 1) << 21 | (b >> 7 & 1) << 30 | (b >> 8 & 1) << 39 |
           (b >> 13 & 7) * 0x208;
}

/* A gpte that mostly maps something. */
static uint64_t choose_value(struct world *w) {
    uint64_t b = rnd(w), keys = b >> 40 & 1 ? b >> 41 & 3 : 0;
    return (b & 0x3f) << 12 | (b >> 8 & 0x7f) | (b >> 20 & 7 ? 7 : 0) | keys << 59;
}

/* ---- What it does ---- */

/* As the CPU: the TLB first. */
static void access_once(struct world *w, unsigned cpu) {
    uint64_t how = rnd(w), value = choose_value(w);
    pn_gva gva = choose_gva(w);
    enum pn_access access = how % 4 == 3 ? PN_WRITE : (enum pn_access)(how % 4);
    enum pn_tlb_mode mode = (enum pn_tlb_mode)(how / 4 % 3);
    bool tables = how / 64 & 1, spans = access == PN_READ && how / 128 % 16 == 0;
    const struct pn_tlb_entry *t =
        &w->view[cpu].tlb[mode][gva >> 12 & (PN_TLB_ENTRIES - 1)];
    struct pn_xlate x;
    if (!spans && access != PN_FETCH && (t->tag[access] ^ gva) <= PN_PAGE_SIZE - 8) {
        if (access == PN_WRITE)
            memcpy((uint8_t *)t->hva + (gva & 0xfff), &value, 8);
        pn_tlb_used(&w->view[cpu], t);
        return;
    }
    enum pn_answer a = pn_answer(pn_mmu_translate(w->vcpu[cpu], gva, access, mode, &x));
    if (a == PN_TRACKED && !tables && pn_mmu_unprotect(w->vcpu[cpu], x.gpa))
        a = pn_answer(pn_mmu_translate(w->vcpu[cpu], gva, access, mode, &x));
    if (a == PN_TRACKED)
        pn_mmu_vcpu_write(w->vcpu[cpu], x.gpa, &value, 8);
    else if (a == PN_MAPPED && access == PN_WRITE)
        memcpy(x.hva, &value, 8);
}

static void device_writes(struct world *w) {
    uint8_t page[3 * PN_PAGE_SIZE];
    uint64_t b = rnd(w), value = choose_value(w);
    pn_gpa gpa = (b & 63) << 12 | (b >> 7 & 0x1ff) << 3;
    if (b >> 20 & 15) {
        pn_mmu_write_phys(w->mmu, gpa, &value, 8);
        return;
    }
    /* From memory to memory, longer than an operation's data. */
    size_t n = pn_mmu_read_phys(w->mmu, (b >> 30 & 63) << 12, page, sizeof(page));
    pn_mmu_write_phys(w->mmu, 8 * PN_PAGE_SIZE + gpa, page, n);
}

static void slots_change(struct world *w) {
    uint64_t b = rnd(w);
    struct pn_memslot s = w->extra;
    s.gpa = (0x30 + (b & 31)) << 12;
    s.size = b >> 8 & 3 ? EXTRA_PAGES * PN_PAGE_SIZE : 0;
    if (pn_mmu_slot_set(w->mmu, &s) == 0)
        w->extra = s;
}

static void code_comes_or_goes(struct world *w) {
    pn_gfn gfn = rnd(w) % RAM_PAGES;
    if (w->tracked[gfn]) {
        pn_mmu_track_remove(w->mmu, gfn);
        w->tracked[gfn]--;
    } else if (pn_mmu_track_add(w->mmu, gfn) == 0) {
        w->tracked[gfn]++;
    }
}

static void load_cr3(struct world *w, unsigned cpu) {
    uint64_t b = rnd(w);
    static const uint64_t none[4];
    w->paging[cpu].cr3 = (1 + (b & 1)) << PN_PAGE_SHIFT;
    if (b >> 8 & 3)
        pn_mmu_set_cr3(w->vcpu[cpu], w->paging[cpu].cr3, false, none);
    else if (b >> 10 & 1)
        w->paging[cpu].cr0 ^= 1u << 16;
    else
        w->paging[cpu].pkru = (uint32_t)(b >> 32) & 0xff;
    pn_mmu_set_paging(w->vcpu[cpu], &w->paging[cpu]);
}

static void step(struct world *w) {
    uint64_t op = rnd(w) % 400;
    unsigned cpu = rnd(w) % CPUS;
    uint64_t bitmap[1];
    if (op < 3)
        slots_change(w);
    else if (op < 6)
        pn_mmu_dirty_harvest(w->mmu, RAM, bitmap, 1);
    else if (op < 7)
        pn_mmu_zap_all(w->mmu);
    else if (op < 8)
        pn_mmu_drop_tlb(w->vcpu[cpu]);
    else if (op < 20)
        code_comes_or_goes(w);
    else if (op < 40)
        device_writes(w);
    else if (op < 60)
        load_cr3(w, cpu);
    else if (op < 80)
        pn_mmu_invlpg(w->vcpu[cpu], choose_gva(w));
    else if (op < 90)
        pn_mmu_invpcid(w->vcpu[cpu], op & 3, 0, choose_gva(w));
    else
        access_once(w, cpu);
}

static void total(const struct world *w, struct pn_stats *sum) {
    *sum = (struct pn_stats){.v = {0}};
    for (unsigned c = 0; c < CPUS; c++) {
        for (unsigned i = 0; i < PN_STAT_COUNT; i++)
            sum->v[i] += w->stats[c].v[i];
        for (unsigned i = 0; i < PN_WALK_HIST; i++)
            sum->walk_hist[i] += w->stats[c].walk_hist[i];
    }
}

static void guest(const struct pn_mmu_config *cfg, uint64_t seed, struct pn_stats *sum) {
    static struct world w;
    world_begin(&w, cfg, seed);
    for (unsigned i = 0; i < STEPS; i++)
        step(&w);
    total(&w, sum);
    ck_assert_int_eq(pn_mmu_audit(w.mmu, stderr), 0);
    world_end(&w);
}

/* ---- Configurations ---- */

static const struct pn_tlb_model small = {
    .name = "small",
    .l1i = {{{4, 2, PN_REPLACE_LRU, PN_PAGES_4K | PN_PAGES_2M}}},
    .l1d = {{{8, 2, PN_REPLACE_LRU, PN_PAGES_4K | PN_PAGES_2M}}},
    .l2 = {{{16, 4, PN_REPLACE_PLRU, PN_PAGES_4K | PN_PAGES_2M}}},
    .vpid = true,
};

static struct pn_mmu_config config(unsigned i) {
    struct pn_mmu_config cfg = {.kind = i & 1 ? PN_MMU_TDP : PN_MMU_SHADOW,
                                .maxphyaddr = 40,
                                .tracker = PN_TRACKER_WP,
                                .tlb = i >> 1 & 1 ? &small : NULL};
    pn_mmu_options_default(&cfg.opt);
    cfg.opt.unsync = !(i >> 2 & 1);
    cfg.opt.prefetch = i >> 2 & 1 ? 0 : 8;
    cfg.opt.large_pages = i >> 3 & 1;
    cfg.opt.policy = i % PN_POLICIES;
    cfg.opt.agile_interval = 500;
    cfg.opt.cached_roots = i >> 2 & 1 ? 0 : 15;
    cfg.opt.ad = (i >> 1) % 3;
    if (cfg.kind == PN_MMU_TDP && i >> 3 & 1)
        cfg.tracker = PN_TRACKER_DBIT;
    return cfg;
}

/* A guest, recorded into path. */
static void recorded_by(void (*guest_of)(struct world *w), struct pn_mmu_config cfg,
                        uint64_t seed, struct pn_stats *sum) {
    struct recording_writer *w;
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(recording_open(path, &w, &e), 0);
    cfg.recorder = recording_recorder(w);
    static struct world g;
    world_begin(&g, &cfg, seed);
    guest_of(&g);
    total(&g, sum);
    recording_stop(w, sum);
    ck_assert_int_eq(pn_mmu_audit(g.mmu, stderr), 0);
    world_end(&g);
    ck_assert_msg(recording_close(w, &e) == 0, "%s", text);
}

static void random_guest(struct world *w) {
    for (unsigned i = 0; i < STEPS; i++)
        step(w);
}

static void recorded(struct pn_mmu_config cfg, uint64_t seed, struct pn_stats *sum) {
    recorded_by(random_guest, cfg, seed, sum);
}

static void replayed(const struct pn_mmu_config *cfg, struct replay_result *r) {
    struct recording *file;
    const bool *known;
    ck_assert_msg(recording_file_open(path, &file, &e) == 0, "%s", text);
    ck_assert_msg(replay_run(file, cfg ? cfg : recording_config(file), REPLAY_MEMORY_MAX,
                             r, &e) == 0,
                  "%s", text);
    ck_assert_int_eq(recording_state(file), RECORDING_WHOLE);
    ck_assert_uint_gt(recording_total(file, &known)->v[PN_STAT_tlb_miss], 0);
    ck_assert(known[PN_STAT_tlb_miss]);
    recording_free(file);
}

static void forget(void) {
    unlink(path);
    memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
}

static void same(const struct pn_stats *a, const struct pn_stats *b, const char *what) {
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        ck_assert_msg(!replay_counts((enum pn_stat)i) || a->v[i] == b->v[i],
                      "%s: %s: %llu, then %llu", what, pn_stat_name((enum pn_stat)i),
                      (unsigned long long)a->v[i], (unsigned long long)b->v[i]);
    ck_assert_mem_eq(a->walk_hist, b->walk_hist, sizeof(a->walk_hist));
}

START_TEST(into_the_recorded_mmu_every_counter_is_the_same) {
    struct pn_mmu_config cfg = config((unsigned)_i);
    for (uint64_t seed = 1; seed < 5; seed++) {
        struct pn_stats sum;
        struct replay_result r;
        cfg.opt.policy = (unsigned)(((unsigned)_i / 2 + seed * 2) % PN_POLICIES);
        recorded(cfg, seed, &sum);
        replayed(NULL, &r);
        forget();
        ck_assert_uint_gt(sum.v[PN_STAT_pf_taken], 100);
        ck_assert_uint_gt(r.accesses, 1000);
        same(&sum, &r.total, "replayed");
    }
}
END_TEST

/* ---- What a fault syncs ---- */

static enum pn_answer go(struct world *w, pn_gva gva, enum pn_access access,
                         struct pn_xlate *x) {
    const struct pn_tlb_entry *t =
        &w->view[0].tlb[PN_TLB_SUPER][gva >> 12 & (PN_TLB_ENTRIES - 1)];
    if ((t->tag[access] ^ gva) <= PN_PAGE_SIZE - 8) {
        x->hva = (uint8_t *)t->hva + (gva & 0xfff);
        return PN_MAPPED;
    }
    return pn_answer(pn_mmu_translate(w->vcpu[0], gva, access, PN_TLB_SUPER, x));
}

/* To the table in page `table`, by a walk through table 6 (make_tables). */
static void store_at(struct world *w, unsigned table, unsigned at, uint64_t value,
                     size_t size) {
    struct pn_xlate x;
    enum pn_answer a =
        go(w, (1u << 21 | (127 - table) << PN_PAGE_SHIFT) + at, PN_WRITE, &x);
    ck_assert(a == PN_MAPPED || a == PN_TRACKED);
    if (a == PN_TRACKED)
        pn_mmu_vcpu_write(w->vcpu[0], x.gpa, &value, size);
    else
        memcpy(x.hva, &value, size);
}

#define SECOND (1u << 21 | 96u << PN_PAGE_SHIFT) /* table 6 has it; table 5: from 0 on */

/* Table 5 takes so many stores of two bytes that nobody is told of the next one. Then a
 * fault under table 6, whose walk does not read it, syncs it. */
static void quiet_guest(struct world *w) {
    struct pn_xlate x;
    ck_assert_int_eq(go(w, 40u << PN_PAGE_SHIFT, PN_READ, &x), PN_MAPPED);
    ck_assert_int_eq(go(w, SECOND, PN_READ, &x), PN_MAPPED);
    for (unsigned i = 0; i < 40; i++)
        store_at(w, 5, 8 * 200, 0, 2);
    store_at(w, 5, 8 * 40, 30u << PN_PAGE_SHIFT | 7, 8);
    for (unsigned i = 0; i < 4; i++)
        store_at(w, 6, 8 * (200 + i), 0, 8);
    for (unsigned i = 1; i < 9; i++)
        ck_assert_int_eq(go(w, SECOND + (i << PN_PAGE_SHIFT), PN_READ, &x), PN_MAPPED);
    ck_assert_int_eq(go(w, 40u << PN_PAGE_SHIFT, PN_READ, &x), PN_MAPPED);
    ck_assert_ptr_eq(x.hva, w->mem + 30 * PN_PAGE_SIZE);
}

START_TEST(what_a_fault_syncs_is_told_of_before) {
    struct pn_mmu_config cfg = config(0);
    struct pn_stats sum;
    struct replay_result r;
    cfg.opt.prefetch = 0;
    cfg.opt.policy = PN_POLICY_XEN_1;
    recorded_by(quiet_guest, cfg, 1, &sum);
    ck_assert_uint_ge(sum.v[PN_STAT_mmu_sync], 2);
    replayed(NULL, &r);
    forget();
    same(&sum, &r.total, "replayed");
}
END_TEST

/* Every table stands for what the guest's say, whatever the recorded MMU had looked at: the
 * option audit compares after each operation, and stops the process where it does not. */
START_TEST(any_other_mmu_finds_the_guests_tables) {
    struct pn_stats sum;
    struct replay_result r;
    recorded(config((unsigned)_i), 7, &sum);
    for (unsigned other = 0; other < 16; other += 5) {
        struct pn_mmu_config cfg = config(((unsigned)_i ^ 1) + other);
        cfg.tlb = NULL;
        replayed(&cfg, &r);
        ck_assert_uint_gt(r.total.v[PN_STAT_pf_taken], 100);
    }
    forget();
}
END_TEST

START_TEST(recording_changes_no_counter) {
    struct pn_mmu_config cfg = config((unsigned)_i);
    struct pn_stats plain, sum;
    guest(&cfg, 3, &plain);
    recorded(cfg, 3, &sum);
    forget();
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        ck_assert_msg(plain.v[i] == sum.v[i], "%s: %llu, recorded %llu",
                      pn_stat_name((enum pn_stat)i), (unsigned long long)plain.v[i],
                      (unsigned long long)sum.v[i]);
}
END_TEST

/* The least and the greatest of each size, as words and as distances. */
START_TEST(numbers_of_every_size_come_back) {
    const struct pn_mmu_config cfg = config(0);
    struct recording_writer *w;
    struct recording *r;
    struct pn_op op;
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(recording_open(path, &w, &e), 0);
    const struct pn_recorder *to = recording_recorder(w);
    to->created(to->opaque, &cfg);
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t most = bits ? UINT64_MAX >> (64 - bits) : 0;
        op = (struct pn_op){.kind = PN_OP_pkr, .w = {most, most + 1}};
        to->op(to->opaque, &op);
        op = (struct pn_op){.kind = PN_OP_access, .w = {most & PN_PAGE_MASK}};
        to->op(to->opaque, &op);
    }
    ck_assert_msg(recording_close(w, &e) == 0, "%s", text);
    ck_assert_msg(recording_file_open(path, &r, &e) == 0, "%s", text);
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t most = bits ? UINT64_MAX >> (64 - bits) : 0;
        ck_assert(recording_next(r, &op));
        ck_assert(op.kind == PN_OP_pkr && op.w[0] == most && op.w[1] == most + 1);
        ck_assert(recording_next(r, &op));
        ck_assert(op.kind == PN_OP_access && op.w[0] == (most & PN_PAGE_MASK));
    }
    ck_assert(!recording_next(r, &op));
    ck_assert_int_eq(recording_state(r), RECORDING_WHOLE);
    recording_free(r);
    forget();
}
END_TEST

SUITE("inspect.replay", .timeout = 300,
      .tests = {what_a_fault_syncs_is_told_of_before, numbers_of_every_size_come_back},
      .loops = {{into_the_recorded_mmu_every_counter_is_the_same, 16},
                {any_other_mmu_finds_the_guests_tables, 4},
                {recording_changes_no_counter, 16}})
