/* SPDX-License-Identifier: MIT */
/*
 * The demonstration, which runs when no workload is named: some of everything that an MMU
 * handles. Each part prints one line with a checksum that depends on the parameters
 * alone.
 */
#include "user.h"

/* The end of a part: its line, and a harvest of the dirty log where there is one. */
static void line(const char *what, uint64_t n, const char *unit, uint64_t sum) {
    text(what, 24);
    number(n, 10);
    text(" ", 0);
    text(unit, 20);
    text("checksum ", 0);
    hex(sum);
    text("\r\n", 0);
    mark(PN_MARK_ROUND, 0);
}

/* Half-way through a part, with pages and registers in use: the machine may move here. */
static inline void half_way(uint64_t i, uint64_t n) {
    if (i == n / 2)
        mark(PN_MARK_HANDOVER, 0);
}

/* From the kernel command line ("pages=4096 ..."), or the defaults. */
enum {
    PAGES,    /* fresh pages touched */
    SWAPS,    /* pairs of page table entries exchanged */
    FLIPS,    /* pages made read-only and written again */
    SWITCHES, /* changes of the address space */
    COMPUTE,  /* rounds of the compute loop */
    EXIT,     /* 0: power off; else the value for the debug-exit port, less 1 */
    TABLES,   /* 1: print which frames are page tables */
    PARAMETERS
};

static inline volatile uint64_t *word(uint64_t page) {
    return at(COMMON + page * PAGE);
}

/* First touches: half by a write, half by a read that must see zero. */
static uint64_t touch(uint64_t pages) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < pages; i++) {
        volatile uint64_t *w = word(i);
        half_way(i, pages);
        if (i & 1)
            expect(w[i % 512] == 0, "a fresh page is not zero");
        w[0] = mix(i, 1);
        w[511] = mix(i, 2);
    }
    expect(call(CALL_COUNT, COUNT_DEMAND, 0) == pages, "demand faults");
    for (uint64_t i = 0; i < pages; i++)
        sum = mix(sum, word(i)[0] ^ word(i)[511]);
    line("demand faults", pages, "pages", sum);
    return sum;
}

/* Exchange pairs of entries; the contents must follow. Odd rounds undo even ones. */
static uint64_t swap(uint64_t rounds, uint64_t pages) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t a = (i / 2 * 37) % pages, b = (i / 2 * 101 + 7) % pages;
        half_way(i, rounds);
        if (a == b)
            continue;
        uint64_t va = word(a)[0], vb = word(b)[0];
        call(CALL_SWAP, COMMON + a * PAGE, COMMON + b * PAGE);
        expect(word(a)[0] == vb && word(b)[0] == va, "exchanged pages");
        sum = mix(sum, word(a)[511]);
        word(a)[2] = word(b)[2] = i; /* whatever logs pages mapped writable agrees */
    }
    line("page table edits", rounds, "swaps, INVLPG", sum);
    return sum;
}

/* Read-only and writable again: each first write faults once. */
static uint64_t flip(uint64_t pages) {
    uint64_t sum = 0;
    call(CALL_PROTECT, COMMON, pages);
    for (uint64_t i = 0; i < pages; i++) {
        half_way(i, pages);
        sum = mix(sum, word(i)[0]);
        word(i)[1] = i;
        word(i)[2] = i + 1;
    }
    expect(call(CALL_COUNT, COUNT_WRITE_FAULTS, 0) == pages, "write faults");
    call(CALL_SWITCH, 0, 0); /* KVM logs what it syncs: let it do so in this round */
    for (uint64_t i = 0; i < pages; i++)
        sum = mix(sum, word(i)[1] + word(i)[2]);
    line("permission flips", pages, "write faults", sum);
    return sum;
}

/* Two address spaces that share all but one page. */
static uint64_t switch_spaces(uint64_t switches) {
    volatile uint64_t *own = at(REGION);
    uint64_t sum = 0, space = call(CALL_SPACE, 0, 0);
    call4(CALL_MAP, REGION, frames(PAGE, PAGE), 1, MAP_WRITE);
    call4(CALL_MAP, REGION, frames(PAGE, PAGE), 1, MAP_WRITE | space << MAP_SPACE_SHIFT);
    for (uint64_t i = 0; i < switches; i++) {
        call(CALL_SWITCH, i & 1 ? space : 0, 0);
        half_way(i, switches);
        expect(own[0] == i / 2, "the private page of a space");
        own[0] = i / 2 + 1;
        sum = mix(sum, own[0] + word(i % 16)[0]);
        word(i % 16)[5] = i;
    }
    call(CALL_SWITCH, 0, 0);
    line("address spaces", switches, "CR3 switches", sum);
    return sum;
}

/* D bits: exactly the pages written since they were cleared. */
static uint64_t dirty(uint64_t pages) {
    uint64_t written = 0, sum = 0;
    call(CALL_CLEAN, COMMON, pages);
    for (uint64_t i = 0; i < pages; i++) {
        half_way(i, pages);
        sum = mix(sum, word(i)[0]);
        if (i % 3 == 0) {
            word(i)[3] = i;
            written++;
        }
    }
    expect(call(CALL_DIRTY, COMMON, pages) == written, "dirty bits");
    line("dirty bits", written, "pages written", sum);
    return sum;
}

/* Straight ring-3 work, with a few loads and stores. */
static uint64_t compute(uint64_t rounds, uint64_t pages) {
    uint64_t x = 88172645463325252ul, sum = 0, page = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += x;
        half_way(i, rounds);
        if (!(i & 15)) {
            volatile uint64_t *w = word(page);
            w[4] += x;
            sum ^= w[4];
            page = page + 1 == pages ? 0 : page + 1;
        }
    }
    line("compute loop", rounds, "rounds", sum);
    return sum;
}

/* Of most pages; the defaults are made to fit, what somebody asks for is not. */
static void read_parameters(const struct params *p, uint64_t most,
                            uint64_t d[PARAMETERS]) {
    struct workload_param of[PARAMETERS] = {
        [PAGES] = {.name = "pages", .standard = 4096, .min = 16, .max = most},
        [SWAPS] = {.name = "swaps", .standard = 2000, .max = UINT64_MAX},
        [FLIPS] = {.name = "flips", .standard = 2000, .max = most},
        [SWITCHES] = {.name = "switches", .standard = 1000, .max = UINT64_MAX},
        [COMPUTE] = {.name = "compute", .standard = 20000000, .max = UINT64_MAX},
        [EXIT] = {.name = "exit", .max = 256},
        [TABLES] = {.name = "tables", .max = 1},
    };
    const char *line = p->line;
    struct word w;
    for (int i = 0; i < PARAMETERS; i++) {
        of[i].words = "";
        d[i] = of[i].standard;
    }
    while ((line = next_word(line, &w))) {
        int i = 0;
        while (i < PARAMETERS && !is_word(&w, of[i].name))
            i++;
        if (i == PARAMETERS || !w.value)
            bad_word(&w, "no parameter of the demonstration, nor a workload", NULL);
        if (workload_number(w.value, w.value_size, &d[i]))
            bad_word(&w, "not a number, ", &of[i]);
        if (d[i] < of[i].min || d[i] > of[i].max)
            bad_word(&w, "out of range ", &of[i]);
    }
    if (d[PAGES] > most)
        d[PAGES] = most > of[PAGES].min ? most : of[PAGES].min;
    if (d[FLIPS] > d[PAGES])
        d[FLIPS] = d[PAGES];
}

/* "page tables: 103-106 20a": frame numbers, as --dirty-pages has them. */
static void print_tables(void) {
    static uint64_t list[PAGE / 8];
    uint64_t n = call(CALL_TABLES, (uint64_t)list, sizeof(list) / sizeof(list[0]));
    text("page tables:", 0);
    for (uint64_t i = 0; i < n; i++) {
        text(" ", 0);
        hex(list[i] / PAGE);
    }
    text("\r\n", 0);
}

void demo(const struct params *p) {
    uint64_t d[PARAMETERS], sum = 0;
    read_parameters(p, p->free / PAGE * 7 / 8, d); /* the rest is for tables */
    text("penumbra guest: 64-bit ring 3, ", 0);
    number((p->memory + 0xfffff) >> 20, 0); /* the BIOS area is not RAM */
    text(" MiB of memory\r\n", 0);
    call4(CALL_ON_FAULT, FAULT_ALLOC, COMMON, d[PAGES], 0);
    sum = mix(sum, touch(d[PAGES]));
    sum = mix(sum, swap(d[SWAPS], d[PAGES]));
    sum = mix(sum, flip(d[FLIPS]));
    sum = mix(sum, switch_spaces(d[SWITCHES]));
    sum = mix(sum, dirty(d[PAGES]));
    outb(PORT_DENIED, 1);
    expect(call(CALL_COUNT, COUNT_DENIED_IO, 0) == 1, "a denied port");
    sum = mix(sum, compute(d[COMPUTE], d[PAGES]));
    if (d[TABLES])
        print_tables();
    text("penumbra guest: done, checksum ", 0);
    hex(sum);
    text("\r\n", 0);
    call(CALL_EXIT, d[EXIT], 0);
}
