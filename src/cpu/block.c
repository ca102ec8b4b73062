/* SPDX-License-Identifier: MIT */
/*
 * The block cache: lookup, chains, pages with code, invalidation, the jump cache's salts.
 *
 * Invariants
 * 1. A live block is in the hash, on the list of each page it has bytes in, and those
 *    pages are write-tracked. A dead one is nowhere, and nothing jumps to it.
 * 2. An exit with `to` set jumps to that block's code and is on its incoming list.
 * This file is compiled without vector registers: on its fast paths they are the guest's.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/pages.h"
#include "cpu/lower.h"
#include "cpu/turn.h"
#include "cpu/xlat.h"

/* ---- Life ---- */

static void *reserve(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    return p;
}

/* The arrays that have an entry, or some, for each block. */
struct array {
    void *at;                   /* of the pointer to it */
    uint32_t count, most, room; /* entries: in use, at most, that one block may need */
    size_t size;
};

static void *array_start(const struct array *a) {
    void *p;
    memcpy(&p, a->at, sizeof(p));
    return p;
}

static void arrays(struct xlat *x, struct array a[CACHE_ARRAYS]) {
    const struct cache_use *m = &x->most;
    a[0] = (struct array){&x->blocks, x->block_count, m->blocks, 1, sizeof(*x->blocks)};
    a[1] = (struct array){&x->across, x->across_count, m->across, 1, sizeof(*x->across)};
    a[2] =
        (struct array){&x->lens, x->len_count, m->lens, BLOCK_MAX + 8, sizeof(*x->lens)};
    a[3] =
        (struct array){&x->exits, x->exit_count, m->exits, EXITS_MAX, sizeof(*x->exits)};
    a[4] = (struct array){&x->faults, x->fault_count, m->faults, BLOCK_MAX,
                          sizeof(*x->faults)};
    a[5] =
        (struct array){&x->insns, x->insn_count, m->insns, BLOCK_MAX, sizeof(*x->insns)};
}

static void jc_clear(struct xlat *x) {
    struct cpu_frame *f = frame_of(x->cpu);
    for (unsigned i = 0; i < JC_ENTRIES; i++)
        f->jc[i] = (struct jc_entry){0, x->none};
    for (unsigned i = 0; i < JC2_ENTRIES; i++)
        f->jc2[i] = (struct jc_entry){0, x->none};
}

/* At the beginning of code memory: x->epoch, for processes that share it (cpu_own_code). */
#define CODE_HEAD 64

/* Parts have their own room, beside that of the others: what a debugger does moves no flush. */
#define PARTS_SHARE 8

static size_t with_parts(uint32_t n) {
    return n + n / PARTS_SHARE;
}

int blocks_create(struct xlat *x) {
    x->most = (struct cache_use){
        .code = x->size / 2,
        .cold = x->size / 2,
        .blocks = (uint32_t)(x->size / 192) + 64, /* fewer than 2^24: struct slow_desc */
        .across = (uint32_t)(x->size / 1024) + 64,
        .lens = (uint32_t)(x->size / 24) + 4096,
        .exits = (uint32_t)(x->size / 96) + 4096,
        .faults = (uint32_t)(x->size / 64) + 4096,
        .insns = (uint32_t)(x->size / 256) + 4096,
    };
    x->cold_start = x->size / 2 + x->size / 2 / PARTS_SHARE;
    x->size = x->cold_start * 2;
    x->cold_wanted = x->cold_start;
    if (code_create(x))
        return -1;
    struct array a[CACHE_ARRAYS];
    arrays(x, a);
    for (unsigned i = 0; i < CACHE_ARRAYS; i++) {
        void *p = reserve(with_parts(a[i].most) * a[i].size);
        memcpy(a[i].at, &p, sizeof(p));
        if (!p)
            return -1;
    }
    x->hash = reserve(BLOCK_HASH * sizeof *x->hash);
    x->pages = reserve(PAGE_MAX * sizeof *x->pages);
    x->page_hash = reserve(PAGE_HASH * sizeof *x->page_hash);
    if (!x->hash || !x->pages || !x->page_hash)
        return -1;
    pages_want(x->hash, BLOCK_HASH * sizeof *x->hash);
    struct emit e = {x->rw + CODE_HEAD};
    const uint8_t *none = e.p;
    struct block_head head = {~UINT64_C(0), 0, 0};
    _Static_assert(CODE_HEAD >= 2 * sizeof(head), "beside x->epoch");
    memcpy(e.p - sizeof(head), &head, sizeof(head));
    thunk_to(&e, xlat_tramp_miss);
    x->none = x->rx + (none - x->rw);
    x->thunk_show = thunk_to(&e, xlat_tramp_miss);
    x->thunk_fetch = thunk_fetch(&e);
    x->thunk_miss = thunk_miss(&e, x);
    x->thunk_vec = thunk_to(&e, xlat_tramp_vec);
    for (unsigned i = 0; i < PN_TLB_MODES * 2 * PROBE_SIZES; i++) {
        unsigned mode = i / PROBE_SIZES / 2, write = i / PROBE_SIZES % 2;
        x->thunk_probe[mode][write][i % PROBE_SIZES] =
            thunk_probe(&e, x->bmi2, mode, write, i % PROBE_SIZES);
    }
    x->bounce = ((size_t)(e.p - x->rw) + BOUNCE_SLOT - 1) & ~(size_t)(BOUNCE_SLOT - 1);
    x->start = x->bounce + BOUNCES * BOUNCE_SLOT;
    x->page_free = NO_BLOCK;
    blocks_flush(x);
    return 0;
}

static void release(void *p, size_t bytes) {
    if (p && p != MAP_FAILED)
        munmap(p, bytes);
}

void blocks_destroy(struct xlat *x) {
    release(x->rw, x->size);
    release(x->rx, x->size);
    if (x->fd >= 0)
        close(x->fd);
    struct array a[CACHE_ARRAYS];
    arrays(x, a);
    for (unsigned i = 0; i < CACHE_ARRAYS; i++)
        release(array_start(&a[i]), with_parts(a[i].most) * a[i].size);
    release(x->hash, BLOCK_HASH * sizeof *x->hash);
    release(x->pages, PAGE_MAX * sizeof *x->pages);
    release(x->page_hash, PAGE_HASH * sizeof *x->page_hash);
}

PN_IN_TRANSLATE void blocks_flush(struct xlat *x) {
    cpu_vec_save(x->cpu);
    for (uint32_t i = 0; i < x->page_count; i++)
        if (x->pages[i].tracked)
            pn_mmu_track_remove(x->cpu->mmu, x->pages[i].gfn);
    memset(x->hash, 0xff, BLOCK_HASH * sizeof *x->hash);
    memset(x->page_hash, 0xff, PAGE_HASH * sizeof *x->page_hash);
    memset(x->pages, 0, x->page_count * sizeof *x->pages);
    x->block_count = x->len_count = x->fault_count = x->insn_count = 0;
    x->exit_count = x->across_count = 0;
    x->page_count = 0;
    x->page_free = NO_BLOCK;
    x->used = x->start;
    x->cold = x->cold_start;
    x->parts = (struct cache_use){0};
    x->flush = false;
    bounces_forget(x);
    x->epoch++;
    memcpy(x->rw, &x->epoch, sizeof(x->epoch));
    jc_clear(x);
    pn_count(x->cpu->stats, block_flush);
}

void cpu_drop_blocks(struct cpu *cpu) {
    cpu->xlat->flush = true;
}

/* ---- The jump cache ---- */

/* Translated code may jump there by itself. */
static bool jumped_to(const struct cpu *cpu, const uint8_t *code) {
    const struct block_head *head = (const void *)(code - sizeof(*head));
    return !cpu->fetches || head->page != NO_PAGE;
}

const uint8_t *jc_find(struct cpu *cpu, uint64_t rip) {
    struct cpu_frame *f = frame_of(cpu);
    uint64_t tag = rip ^ cpu->jc_salt;
    const struct jc_entry *jc = &f->jc[rip & (JC_ENTRIES - 1)];
    if (jc->tag == tag && jc->code != cpu->xlat->none)
        return jc->code;
    const struct jc_entry *jc2 = &f->jc2[jc2_index(rip, tag)];
    if (jc2->tag != tag || jc2->code == cpu->xlat->none)
        return NULL;
    if (jumped_to(cpu, jc2->code))
        f->jc[rip & (JC_ENTRIES - 1)] = *jc2;
    return jc2->code;
}

void jc_put(struct cpu *cpu, uint64_t rip, const uint8_t *code) {
    struct cpu_frame *f = frame_of(cpu);
    uint64_t tag = rip ^ cpu->jc_salt;
    f->jc[rip & (JC_ENTRIES - 1)] = f->jc2[jc2_index(rip, tag)] =
        (struct jc_entry){tag, code};
    if (!jumped_to(cpu, code))
        f->jc[rip & (JC_ENTRIES - 1)].code = cpu->xlat->none;
}

/* A salt is a number below JC_ENTRIES. Two entries of one slot agree in those bits of
 * their addresses, so tags with different salts never match. */
void salt_update(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    const struct pn_segment *cs = &cpu->seg[SEG_CS];
    bool flat = cpu->mode & MODE_CODE64;
    uint64_t base = flat ? 0 : cs->base;
    uint32_t limit = flat ? 0 : cs->limit;
    uint64_t gen = cpu->view.fetch_gen;
    uint64_t h =
        (gen * 5 + cpu->mode * 0x9e3779b1u + base + limit) * UINT64_C(0x9e3779b97f4a7c15);
    struct salt *s = &x->salts[h >> (64 - SALTS_BITS)];
    if (!s->used || s->gen != gen || s->base != base || s->mode != cpu->mode ||
        s->limit != limit) {
        if (x->salt_next == JC_ENTRIES) {
            cpu_vec_save(cpu);
            jc_clear(x);
            memset(x->salts, 0, sizeof x->salts);
            x->salt_next = 0;
        }
        *s = (struct salt){gen, base, cpu->mode, limit, true, x->salt_next++};
    }
    cpu->jc_salt = s->value;
    cpu->jc_gen = gen;
}

/* ---- Chains ---- */

static void exit_patch(struct xlat *x, const struct block_exit *ex, uint32_t target) {
    e_link(x->rw + ex->patch, x->rw + target);
}

static void exit_unchain(struct xlat *x, uint32_t id) {
    struct block_exit *ex = &x->exits[id];
    if (ex->to == NO_BLOCK)
        return;
    uint32_t *link = &x->blocks[ex->to].incoming;
    while (*link != id)
        link = &x->exits[*link].next;
    *link = ex->next;
    ex->to = NO_BLOCK;
    exit_patch(x, ex, exit_stub(x, ex));
}

void block_chain(struct xlat *x, uint32_t id, struct block *to) {
    struct block_exit *ex = &x->exits[id];
    const struct block *b = &x->blocks[ex->from];
    if (b->dead || !ex->patch || ex->to != NO_BLOCK || to->across != NO_BLOCK ||
        to->single != b->single)
        return;
    ex->to = (uint32_t)(to - x->blocks);
    ex->next = to->incoming;
    to->incoming = id;
    exit_patch(x, ex, to->code);
}

void block_cache_exit(struct xlat *x, uint32_t id) {
    struct block_exit *ex = &x->exits[id];
    struct emit e = {x->rw + x->used};
    if (!ex->patch || x->used - x->parts.code + 256 > x->most.code)
        return;
    emit_cache_exit(&e, x, x->blocks[ex->from].mode, exit_rip(x, ex));
    exit_patch(x, ex, (uint32_t)x->used);
    ex->patch = 0; /* for good */
    x->used = ((size_t)(e.p - x->rw) + 15) & ~(size_t)15;
}

/* ---- Pages ---- */

static struct page *page_find(const struct xlat *x, pn_gfn gfn) {
    uint32_t i = x->page_hash[gfn & (PAGE_HASH - 1)];
    while (i != NO_BLOCK && x->pages[i].gfn != gfn)
        i = x->pages[i].next;
    return i == NO_BLOCK ? NULL : &x->pages[i];
}

/* There is room: block_room saw to it. */
static struct page *page_get(struct xlat *x, pn_gfn gfn) {
    struct page *p = page_find(x, gfn);
    if (p)
        return p;
    uint32_t i = x->page_free;
    if (i != NO_BLOCK)
        x->page_free = x->pages[i].next;
    else
        i = x->page_count++;
    p = &x->pages[i];
    p->gfn = gfn;
    p->granules = 0;
    p->blocks = NO_BLOCK;
    p->next = x->page_hash[gfn & (PAGE_HASH - 1)];
    x->page_hash[gfn & (PAGE_HASH - 1)] = i;
    p->tracked = pn_mmu_track_add(x->cpu->mmu, gfn) == 0;
    x->flush |= !p->tracked; /* nobody would tell of writes: do not keep it */
    return p;
}

static void page_put(struct xlat *x, struct page *p) {
    uint32_t i = (uint32_t)(p - x->pages);
    uint32_t *link = &x->page_hash[p->gfn & (PAGE_HASH - 1)];
    while (*link != i)
        link = &x->pages[*link].next;
    *link = p->next;
    p->next = x->page_free;
    x->page_free = i;
    if (p->tracked)
        pn_mmu_track_remove(x->cpu->mmu, p->gfn);
    p->tracked = false;
}

/* The bytes of b in its first (side 0) or second page: [*from, *to) within the page. */
static void block_span(const struct block *b, unsigned side, unsigned *from,
                       unsigned *to) {
    unsigned start = b->gpa & (PN_PAGE_SIZE - 1), end = start + b->bytes;
    if (side) {
        *from = 0;
        *to = end - PN_PAGE_SIZE;
    } else {
        *from = start;
        *to = end < PN_PAGE_SIZE ? end : PN_PAGE_SIZE;
    }
    if (*to == *from)
        ++*to; /* an undefined instruction of which no byte was counted */
}

static uint64_t granules(unsigned from, unsigned to) {
    uint64_t first = from >> 6, last = (to - 1) >> 6;
    return (~UINT64_C(0) << first) & (~UINT64_C(0) >> (63 - last));
}

static pn_gfn side_gfn(const struct xlat *x, const struct block *b, unsigned side) {
    return (side ? block_gpa2(x, b) : b->gpa) >> PN_PAGE_SHIFT;
}

/* What follows on the list of that side's page. id: block * 2 + side. */
static uint32_t *page_next(struct xlat *x, uint32_t id) {
    struct block *b = &x->blocks[id / 2];
    return id % 2 ? &x->across[b->across].page_next : &b->page_next;
}

static void page_add(struct xlat *x, struct block *b, unsigned side) {
    uint32_t id = (uint32_t)(b - x->blocks) * 2 + side;
    struct page *p = page_get(x, side_gfn(x, b, side));
    unsigned from, to;
    block_span(b, side, &from, &to);
    p->granules |= granules(from, to);
    *page_next(x, id) = p->blocks;
    p->blocks = id;
}

static void page_unlink(struct xlat *x, struct block *b, unsigned side) {
    struct page *p = page_find(x, side_gfn(x, b, side));
    uint32_t id = (uint32_t)(b - x->blocks) * 2 + side;
    uint32_t *link = &p->blocks;
    while (*link != id)
        link = page_next(x, *link);
    *link = *page_next(x, id);
    if (p->blocks == NO_BLOCK)
        page_put(x, p);
}

/* ---- Blocks ---- */

static uint32_t block_hash(pn_gpa gpa, uint64_t rip, uint32_t mode) {
    uint64_t h = (gpa ^ rip << 20 ^ (uint64_t)mode << 40) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(h >> (64 - BLOCK_HASH_BITS));
}

static void hash_unlink(struct xlat *x, const struct block *b) {
    uint32_t i = (uint32_t)(b - x->blocks);
    uint32_t *link = &x->hash[block_hash(b->gpa, b->rip, b->mode)];
    while (*link != i)
        link = &x->blocks[*link].hash_next;
    *link = b->hash_next;
}

struct block_head block_head(const struct block *b) {
    bool found = b->mode & MODE_CODE64 && b->across == NO_BLOCK && !b->dead && !b->part &&
                 !b->single;
    return (struct block_head){found ? b->gpa & PN_PAGE_MASK : ~UINT64_C(0), b->mode,
                               fetch_key(b->mode)};
}

void block_put_head(struct xlat *x, const struct block *b) {
    struct block_head head = block_head(b);
    memcpy(x->rw + b->code - sizeof(head), &head, sizeof(head));
}

void block_drop(struct xlat *x, struct block *b) {
    if (!b->part)
        hash_unlink(x, b);
    for (unsigned k = 0; k < b->exit_count; k++)
        exit_unchain(x, b->exits + k);
    while (b->incoming != NO_BLOCK)
        exit_unchain(x, b->incoming);
    struct emit e = {x->rw + b->code};
    e_jmp_to(&e, x->rw + block_dead_stub(b));
    b->dead = 1;
    block_put_head(x, b);
    page_unlink(x, b, 0);
    if (b->across != NO_BLOCK)
        page_unlink(x, b, 1);
    x->cpu->stats->v[PN_STAT_block_dropped] += !b->part;
    x->cpu->disturbed++;
}

static void block_trap(struct xlat *x, struct block *b) {
    struct emit e = {x->rw + b->code};
    e_jmp_to(&e, x->rw + block_dead_stub(b));
    b->trap = 1;
}

/* A part goes when its block does: it is on the same page's list. */
static const struct block *whole_of(const struct xlat *x, const struct block *b) {
    return b->part ? &x->blocks[b->whole] : b;
}

void blocks_split(struct xlat *x, uint64_t rip) {
    for (uint32_t i = 0; i < x->block_count; i++) {
        struct block *b = &x->blocks[i];
        const struct block *whole = whole_of(x, b);
        if (b->dead || rip - whole->rip >= whole->bytes)
            continue;
        if (whole->rip != rip)
            block_drop(x, b);
        else if (b->rip == rip)
            block_trap(x, b);
    }
}

static void written_page(struct xlat *x, pn_gpa gpa, unsigned size) {
    struct page *p = page_find(x, gpa >> PN_PAGE_SHIFT);
    unsigned lo = gpa & (PN_PAGE_SIZE - 1), hi = lo + size;
    if (!p || !(p->granules & granules(lo, hi)))
        return;
    cpu_still(x->cpu);
    unsigned dropped = 0;
    uint64_t left = 0;
    uint32_t id = p->blocks;
    while (id != NO_BLOCK) {
        struct block *b = &x->blocks[id / 2];
        unsigned from, to;
        block_span(whole_of(x, b), id % 2, &from, &to);
        id = *page_next(x, id);
        if (from < hi && lo < to) {
            /* The same block cannot be on this list twice: its sides are different
             * pages, or one page seen twice, when both entries overlap. */
            if (id != NO_BLOCK && &x->blocks[id / 2] == b)
                id = *page_next(x, id);
            block_drop(x, b);
            dropped += !b->part;
        } else {
            left |= granules(from, to);
        }
    }
    if (left)
        p->granules = left; /* else the page entry is gone */
    pn_emit(x->cpu->ring, code_write, gpa, size, dropped);
}

void cpu_code_written(void *opaque, pn_gpa gpa, size_t size) {
    struct cpu *cpu = opaque;
    while (size) {
        size_t room = PN_PAGE_SIZE - (gpa & (PN_PAGE_SIZE - 1));
        size_t n = size < room ? size : room;
        written_page(cpu->xlat, gpa, (unsigned)n);
        gpa += n;
        size -= n;
    }
}

/* ---- Lookup ---- */

const struct block *block_at(const struct xlat *x, uint32_t at) {
    uint32_t lo = 0, hi = x->block_count;
    bool cold = at >= x->cold_start;
    while (lo < hi) { /* the first that ends, or begins, behind it */
        uint32_t mid = (lo + hi) / 2;
        if ((cold ? x->blocks[mid].cold_end : x->blocks[mid].code) <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!cold)
        return lo ? &x->blocks[lo - 1] : NULL;
    return lo < x->block_count ? &x->blocks[lo] : NULL;
}

void fetch_show(struct xlat *x, uint64_t lin) {
    struct cpu *cpu = x->cpu;
    if ((lin & PN_PAGE_MASK) == *x->fetch_page)
        return;
    if (pn_mmu_fetch_hit(cpu->vmmu, lin))
        return;
    cpu_vec_save(cpu);
    pn_mmu_fetched(cpu->vmmu, lin, cpu_tlb_mode(cpu));
}

static bool fetch(struct xlat *x, uint64_t lin, uint8_t **hva, pn_gpa *gpa) {
    struct cpu *cpu = x->cpu;
    uint64_t key = (lin & PN_PAGE_MASK) + fetch_key(cpu->mode);
    unsigned off = lin & (PN_PAGE_SIZE - 1);
    struct fetch_entry *f =
        &frame_of(cpu)->fetch[lin >> PN_PAGE_SHIFT & (FETCH_ENTRIES - 1)];
    if (f->page != key || f->gen != cpu->view.fetch_gen) {
        uint8_t *p;
        pn_gpa g;
        struct pn_xlate at;
        cpu_vec_save(cpu);
        if (turn_looks(cpu, lin, PN_FETCH, cpu_tlb_mode(cpu), &at)) {
            p = at.hva;
            g = at.gpa;
        } else {
            if (turn_faults(cpu, lin, PN_FETCH, cpu_tlb_mode(cpu)))
                return false;
            turn_want(cpu);
            if (cpu_fetch_page(cpu, lin, &p, &g))
                return false;
        }
        *f = (struct fetch_entry){key, cpu->view.fetch_gen, p - off, g - off};
    } else if (x->fetch_page) {
        fetch_show(x, lin);
    }
    *hva = f->hva + off;
    *gpa = f->gpa + off;
    return true;
}

static bool may_fetch(struct cpu *cpu) {
    bool ok = cpu->mode & MODE_CODE64 ? canonical(cpu, cpu->rip)
                                      : cpu->rip <= cpu->seg[SEG_CS].limit;
    if (!ok)
        gp0(cpu);
    return ok;
}

/* What is taken but for *out. */
static struct cache_use beside(const struct xlat *x, const struct cache_use *out) {
    return (struct cache_use){
        .code = x->used - out->code,
        .cold = x->cold - x->cold_start - out->cold,
        .blocks = x->block_count - out->blocks,
        .across = x->across_count - out->across,
        .lens = x->len_count - out->lens,
        .exits = x->exit_count - out->exits,
        .faults = x->fault_count - out->faults,
        .insns = x->insn_count - out->insns,
    };
}

static bool has_room(const struct cache_use *u, const struct cache_use *m,
                     unsigned share) {
    return u->code + BLOCK_CODE <= m->code / share &&
           u->cold + BLOCK_CODE <= m->cold / share && u->blocks < m->blocks / share &&
           u->across < m->across / share && u->lens + BLOCK_MAX + 8 <= m->lens / share &&
           u->faults + 4 * BLOCK_MAX <= m->faults / share &&
           u->exits + EXITS_MAX <= m->exits / share &&
           u->insns + BLOCK_MAX <= m->insns / share;
}

/* Bytes whose pages come together. */
#define WANT_STEP (64u << 10)

/* Have the pages of what the next block needs, up to `need`. */
static void want(void *at, size_t need, size_t *wanted, size_t end) {
    if (need <= *wanted || *wanted == end)
        return;
    size_t left = end - *wanted, step = left < WANT_STEP ? left : WANT_STEP;
    pages_want((uint8_t *)at + *wanted, step);
    *wanted += step;
}

static void want_all(struct xlat *x) {
    struct array a[CACHE_ARRAYS];
    arrays(x, a);
    for (unsigned i = 0; i < CACHE_ARRAYS; i++)
        want(array_start(&a[i]), (a[i].count + a[i].room) * a[i].size,
             &x->array_wanted[i], with_parts(a[i].most) * a[i].size);
    want(x->rw, x->used + BLOCK_CODE, &x->wanted, x->cold_start);
    want(x->rw, x->cold + BLOCK_CODE, &x->cold_wanted, x->size);
}

/* Make room for one block. */
static void block_room(struct xlat *x, bool part) {
    struct cache_use others = beside(x, &x->parts);
    bool room = part ? has_room(&x->parts, &x->most, PARTS_SHARE)
                     : has_room(&others, &x->most, 1);
    if (!room || x->page_count + 2 > PAGE_MAX)
        blocks_flush(x);
    want_all(x);
}

/* With vCPUs that are threads: stores to a page are seen before its code is read, so that none
 * comes between the two. The second page is known only when the block is: then it is
 * translated once more. A page that gets no block stays until the cache is dropped. */
static bool translate_held(struct xlat *x, struct block *b, uint8_t *hva, pn_gpa gpa,
                           unsigned max) {
    const struct cache_use none = {0}, before = beside(x, &none);
    page_get(x, gpa >> PN_PAGE_SHIFT);
    while (translate(x, b, hva, gpa, max)) {
        if (b->across == NO_BLOCK || page_find(x, side_gfn(x, b, 1)))
            return true;
        page_get(x, side_gfn(x, b, 1));
        x->used = before.code;
        x->cold = x->cold_start + before.cold;
        x->across_count = before.across;
        x->len_count = before.lens;
        x->exit_count = before.exits;
        x->fault_count = before.faults;
        x->insn_count = before.insns;
        b->exit_count = 0;
    }
    return false;
}

/* whole: the block that it is a part of, or NO_BLOCK. */
static struct block *block_make(struct xlat *x, uint8_t *hva, pn_gpa gpa, bool single,
                                unsigned max, uint32_t whole) {
    uint32_t epoch = x->epoch;
    cpu_vec_save(x->cpu);
    turn_want(x->cpu);
    block_room(x, whole != NO_BLOCK);
    struct cache_use others = beside(x, &x->parts);
    struct block *b = &x->blocks[x->block_count];
    memset(b, 0, sizeof *b);
    b->rip = x->cpu->rip;
    b->mode = x->cpu->mode;
    b->single = single;
    b->incoming = NO_BLOCK;
    b->part = whole != NO_BLOCK && epoch == x->epoch;
    if (b->part)
        b->whole = whole;
    bool made = x->cpu->par ? translate_held(x, b, hva, gpa, max)
                            : translate(x, b, hva, gpa, max);
    uint32_t i = x->block_count;
    x->block_count += made;
    if (b->part)
        x->parts = beside(x, &others);
    if (!made)
        return NULL;
    if (!b->part) {
        uint32_t *head = &x->hash[block_hash(gpa, b->rip, b->mode)];
        b->hash_next = *head;
        *head = i;
    }
    page_add(x, b, 0);
    if (b->across != NO_BLOCK)
        page_add(x, b, 1);
    if (unlikely(debug_splits(x->cpu, b->rip)))
        block_trap(x, b);
    return b;
}

struct block *block_part(struct xlat *x, const struct block *b, unsigned idx,
                         unsigned max) {
    pn_gpa gpa = b->gpa + block_offset(x, b, idx);
    uint32_t whole = b->part ? b->whole : (uint32_t)(b - x->blocks);
    const struct pn_memslot *s = pn_mmu_slot_find(x->cpu->mmu, gpa);
    if (b->dead || b->across != NO_BLOCK || !s)
        return NULL;
    unsigned first = b->first + idx;
    struct block *p =
        block_make(x, (uint8_t *)s->hva + (gpa - s->gpa), gpa, b->single, max, whole);
    if (p)
        p->first = (uint8_t)first;
    return p;
}

/* The block at rip, that was fetched from there. */
static struct block *fetched(struct xlat *x, bool single, uint8_t *hva, pn_gpa gpa) {
    struct cpu *cpu = x->cpu;
    uint8_t *hva2;
    pn_gpa gpa2;
    uint32_t i = x->hash[block_hash(gpa, cpu->rip, cpu->mode)];
    for (; i != NO_BLOCK; i = x->blocks[i].hash_next) {
        struct block *b = &x->blocks[i];
        if (b->gpa != gpa || b->rip != cpu->rip || b->mode != cpu->mode ||
            b->single != single)
            continue;
        if (b->across == NO_BLOCK)
            return b;
        unsigned room = PN_PAGE_SIZE - (gpa & (PN_PAGE_SIZE - 1));
        if (!fetch(x, code_linear(cpu, room), &hva2, &gpa2))
            return NULL;
        if (block_gpa2(x, b) == gpa2)
            return b;
    }
    return block_make(x, hva, gpa, single, single ? 1 : x->max_n, NO_BLOCK);
}

static bool look_up(struct xlat *x, uint8_t **hva, pn_gpa *gpa) {
    if (!may_fetch(x->cpu) || !fetch(x, code_linear(x->cpu, 0), hva, gpa))
        return false;
    pn_count(x->cpu->stats, block_lookup);
    return true;
}

struct block *block_find(struct xlat *x, bool single) {
    uint8_t *hva;
    pn_gpa gpa;
    return look_up(x, &hva, &gpa) ? fetched(x, single, hva, gpa) : NULL;
}

/* What the first jump cache has for rip by whatever salt, if it is what would be found. */
static const uint8_t *found_before(struct cpu *cpu, pn_gpa gpa) {
    const struct jc_entry *jc = &frame_of(cpu)->jc[cpu->rip & (JC_ENTRIES - 1)];
    const struct block_head *head = (const void *)(jc->code - sizeof(*head));
    bool same = !((jc->tag ^ cpu->rip ^ cpu->jc_salt) >> JC_BITS) &&
                head->mode == cpu->mode && head->page == (gpa & PN_PAGE_MASK);
    return same ? jc->code : NULL;
}

const uint8_t *block_code(struct xlat *x) {
    uint8_t *hva;
    pn_gpa gpa;
    if (!look_up(x, &hva, &gpa))
        return NULL;
    const uint8_t *code = found_before(x->cpu, gpa);
    if (code)
        return code;
    struct block *b = fetched(x, false, hva, gpa);
    return b ? x->rx + b->code : NULL;
}
