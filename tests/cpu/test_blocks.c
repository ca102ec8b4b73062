/* SPDX-License-Identifier: MIT */
/*
 * Blocks, chains, the jump cache and invalidation change nothing that a guest can see:
 * random programs, self-modifying ones included, end in the same state after the same
 * instructions whatever the block length, wherever a run is interrupted, and whenever
 * blocks and TLBs are dropped.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/control.h"
#include "cpu/xstate.h"
#include "fixture_gen.h"
#include "fixture_guest.h"
#include "tests/suite.h"

#define CODE      (GUEST_BASE + 0x100000)
#define COUNTER   (GUEST_BASE + 0x20000)
#define AREA      (GEN_DATA - 4096)
#define AREA_SIZE ((GEN_PAGES + 2) * 4096u)
#define PARTS     24u

struct program {
    uint8_t code[65536];
    unsigned len, parts;
    unsigned part[PARTS + 1]; /* offset of each part; after a fault the next one runs */
};

struct end {
    uint64_t gpr[16], rip, rflags, insns, traps;
    uint8_t vector[512 + 256];
};

static struct gen *gen;
static struct program prog;
static uint8_t area[AREA_SIZE];

static unsigned below(unsigned n) {
    return (unsigned)(gen_random(gen) >> 33) % n;
}

/* ---- Programs ---- */

static void put(const void *p, unsigned n) {
    memcpy(prog.code + prog.len, p, n);
    prog.len += n;
}
static void put8(unsigned v) {
    prog.code[prog.len++] = (uint8_t)v;
}
static void put32(uint64_t v) {
    uint32_t w = (uint32_t)v;
    put(&w, 4);
}

static void mov_imm(unsigned reg, uint64_t v) {
    put8(reg >= 8 ? 0x49 : 0x48);
    put8(0xb8 | (reg & 7));
    put(&v, 8);
}

/* mov r32, imm32 whose immediate other instructions may overwrite. */
static unsigned patchable(void) {
    put8(0xb8 | below(4)); /* eax..ebx */
    put32(gen_random(gen));
    return prog.len - 4;
}

/* mov dword [address of the immediate], imm; or one byte of it */
static void patch(unsigned at) {
    if (below(2)) {
        put8(0xc7), put8(0x04), put8(0x25);
        put32(CODE + at);
        put32(gen_random(gen));
    } else {
        put8(0xc6), put8(0x04), put8(0x25);
        put32(CODE + at + below(4));
        put8(below(256));
    }
}

static void random_part(void) {
    struct gen_seq s;
    uint64_t at = CODE + prog.len + 16 * 10;
    gen_sequence(gen, at, &s);
    for (unsigned r = 0; r < 16; r++)
        mov_imm(r, s.gpr[r]);
    put(s.code, s.len);
}

static void patching_part(void) {
    unsigned at[8], n = 0;
    for (unsigned i = 0; i < 12; i++) {
        if (n < 8 && (n < 2 || below(2)))
            at[n++] = patchable();
        else
            patch(at[below(n)]);
        if (below(4) == 0) {                    /* the very next instruction */
            put8(0xc6), put8(0x04), put8(0x25); /* mov byte [abs], imm: 8 bytes */
            put32(CODE + prog.len + 4 + 1 + 1 + below(4));
            put8(below(256));
            patchable();
        }
    }
    put8(0x01), put8(0xd8); /* add eax, ebx */
}

static void make_program(bool patching) {
    prog.len = 0;
    prog.parts = 4 + below(PARTS - 4);
    put8(0xc7), put8(0x04), put8(0x25); /* mov dword [COUNTER], n */
    put32(COUNTER);
    put32(2 + below(6));
    unsigned top = prog.len;
    for (unsigned i = 0; i < prog.parts; i++) {
        prog.part[i] = prog.len;
        if (patching && below(3))
            patching_part();
        else
            random_part();
        if (below(8) == 0) { /* so that some instruction crosses the page */
            unsigned to = (prog.len + 0x1000) & ~0xfffu;
            to -= below(12);
            if (to > prog.len && to - prog.len < 0x800)
                while (prog.len < to)
                    put8(0x90);
        }
    }
    prog.part[prog.parts] = prog.len;
    put8(0xff), put8(0x0c), put8(0x25); /* dec dword [COUNTER] */
    put32(COUNTER);
    put8(0x0f), put8(0x85); /* jnz top */
    put32((uint64_t)top - (prog.len + 4));
    put8(0xcc);
}

/* ---- Running ---- */

static void prepare(struct guest *g) {
    struct cpu *cpu = g->cpu;
    for (uint64_t a = AREA; a < AREA + AREA_SIZE; a += 4096) {
        memcpy(g->ram + a - GUEST_BASE, area + (a - AREA), 4096);
        guest_gpte(g, a, (a - GUEST_BASE) | (a == GEN_READONLY ? 0x65 : 0x67));
    }
    guest_gpte(g, GEN_ABSENT, 0);
    pn_mmu_drop_tlb(cpu->vmmu);
    pn_mmu_write_phys(g->mmu, CODE - GUEST_BASE, prog.code, prog.len);
    guest_user(g);
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    memset(cpu->xsave, 0, 1024);
    memcpy(cpu->xsave, "\x7f\x03", 2);
    memcpy(cpu->xsave + FX_MXCSR, "\x80\x1f", 2);
    cpu->rip = CODE;
    cpu_set_rflags(cpu, 0x202);
}

/* A trap inside a part goes on with the next one. Return: true at the end. */
static bool resume(struct guest *g, struct end *e) {
    uint64_t vector, error, rip, rflags, rsp;
    guest_trapped(g, &vector, &error, &rip, &rflags, &rsp);
    e->traps = e->traps * 31 + vector + rip * 7 + error * 3;
    if (vector == 3)
        return true;
    unsigned i = 0;
    while (i < prog.parts && CODE + prog.part[i + 1] <= rip)
        i++;
    ck_assert_uint_lt(i, prog.parts);
    guest_user(g);
    cpu_set_rflags(g->cpu, rflags & 0xad5);
    g->cpu->gpr[R_SP] = rsp;
    g->cpu->rip = CODE + prog.part[i + 1];
    return false;
}

struct disturbance {
    unsigned step; /* run in pieces of 1..step instructions; 0: all at once */
    bool drop;
};

static void run(struct guest *g, struct disturbance how, struct end *e) {
    struct cpu *cpu = g->cpu;
    uint64_t start = cpu_insns(cpu), last = start + 2000000;
    memset(e, 0, sizeof *e);
    prepare(g);
    for (;;) {
        uint64_t limit = last;
        if (how.step)
            limit = cpu_insns(cpu) + 1 + (gen_random(gen) >> 33) % how.step;
        enum cpu_exit why = cpu_run(cpu, limit);
        if (why == CPU_EXIT_DEADLINE)
            ck_assert_uint_eq(cpu_insns(cpu), limit);
        if (cpu_insns(cpu) >= last || (why == CPU_EXIT_HALT && resume(g, e)))
            break;
        ck_assert(why == CPU_EXIT_HALT || why == CPU_EXIT_DEADLINE);
        if (how.drop && below(3) == 0)
            cpu_drop_blocks(cpu);
        if (how.drop && below(3) == 0)
            pn_mmu_drop_tlb(cpu->vmmu);
        if (how.drop && below(50) == 0)
            pn_mmu_zap_all(g->mmu);
    }
    xstate_settle(cpu);
    memcpy(e->gpr, cpu->gpr, sizeof e->gpr);
    e->rip = cpu->rip;
    e->rflags = cpu_rflags(cpu);
    e->insns = cpu_insns(cpu) - start;
    memcpy(e->vector, cpu->xsave, 512);
    memset(e->vector + FX_MASK, 0, 4); /* the host's */
    memcpy(e->vector + 512, cpu->xsave + 576, 256);
}

static void same(struct guest *a, const struct end *ea, struct guest *b,
                 const struct end *eb) {
    for (unsigned i = 0; i < 16; i++)
        ck_assert_msg(ea->gpr[i] == eb->gpr[i], "r%u: %" PRIx64 " %" PRIx64, i,
                      ea->gpr[i], eb->gpr[i]);
    ck_assert_uint_eq(ea->insns, eb->insns);
    ck_assert_uint_eq(ea->rip, eb->rip);
    ck_assert_uint_eq(ea->rflags, eb->rflags);
    ck_assert_uint_eq(ea->traps, eb->traps);
    ck_assert_mem_eq(ea->vector, eb->vector, sizeof ea->vector);
    ck_assert(!memcmp(a->ram, b->ram, 0x130000));
    ck_assert(
        !memcmp(a->ram + (AREA - GUEST_BASE), b->ram + (AREA - GUEST_BASE), AREA_SIZE));
}

static void fill_area(void) {
    for (unsigned i = 0; i < AREA_SIZE; i += 8) {
        uint64_t v = gen_random(gen);
        memcpy(area + i, &v, 8);
    }
}

static void many(unsigned rounds, bool patching) {
    struct guest *g = calloc(4, sizeof *g);
    static const struct guest_options opt[4] = {
        {.max_block = 1}, {.max_block = 0}, {.max_block = 5}, {.code_bytes = 1}};
    static const struct disturbance how[4] = {
        {0, false}, {0, false}, {40, false}, {400, true}};
    for (unsigned k = 0; k < 4; k++) {
        guest_create(&g[k], &opt[k]);
        guest_idt(&g[k]);
    }
    gen = gen_create(g[0].model, patching ? 7 : 5);
    for (unsigned r = 0; r < rounds; r++) {
        struct end e[4];
        make_program(patching);
        fill_area();
        for (unsigned k = 0; k < 4; k++) {
            run(&g[k], how[k], &e[k]);
            if (k)
                same(&g[0], &e[0], &g[k], &e[k]);
        }
    }
    gen_destroy(gen);
    for (unsigned k = 0; k < 4; k++)
        guest_destroy(&g[k]);
    free(g);
}

START_TEST(random_programs_end_alike_whatever_the_block_length) {
    many(300, false);
}
END_TEST

START_TEST(programs_that_patch_themselves_end_alike_too) {
    many(500, true);
}
END_TEST

/* ---- Single matters ---- */

static void load_at(struct guest *g, uint64_t at, const void *code, size_t size) {
    pn_mmu_write_phys(g->mmu, at - GUEST_BASE, code, size);
}

/* A loop of known length stops at every deadline exactly, in a known state. */
START_TEST(a_loop_stops_at_every_deadline_exactly) {
    static const uint8_t loop[] = {0x48, 0xff, 0xc0,        /* inc rax */
                                   0x48, 0xff, 0xc3,        /* inc rbx */
                                   0x90, 0x90, 0xeb, 0xf6}; /* nop nop jmp */
    struct guest g;
    guest_create(&g, &(struct guest_options){0});
    load_at(&g, CODE, loop, sizeof loop);
    guest_start(&g, CODE, CODE);
    uint64_t t = 0;
    for (unsigned i = 0; i < 20000; i++) {
        t += i % 37 + (i % 100 == 0 ? 3000000 : 0);
        ck_assert_int_eq(cpu_run(g.cpu, t), CPU_EXIT_DEADLINE);
        ck_assert_uint_eq(cpu_insns(g.cpu), t);
        ck_assert_uint_eq(g.cpu->gpr[R_AX], t / 5 + (t % 5 >= 1));
        ck_assert_uint_eq(g.cpu->gpr[R_BX], t / 5 + (t % 5 >= 2));
    }
    cpu_skip(g.cpu, 1000);
    ck_assert_uint_eq(cpu_insns(g.cpu), t + 1000);
    guest_destroy(&g);
}
END_TEST

/* STI's and MOV SS's shadow and RF are of the instruction that comes next, whenever. */
START_TEST(time_that_is_skipped_ends_no_shadow) {
    struct guest g;
    guest_create(&g, &(struct guest_options){0});
    cpu_set_rflags(g.cpu, FL_FIXED | FL_IF | FL_RF);
    g.cpu->intr_shadow = PN_SHADOW_STI;
    g.cpu->shadow_at = cpu_insns(g.cpu);
    cpu_skip(g.cpu, 1000);
    ck_assert(cpu_shadowed(g.cpu));
    ck_assert_uint_eq(cpu_rflags(g.cpu) & FL_RF, FL_RF);
    guest_destroy(&g);
}
END_TEST

/* Data beside code does not drop it; the code itself does. */
START_TEST(a_store_beside_code_drops_no_block) {
    static const uint8_t loop[] = {0xff, 0x04, 0x25, 0,    0,
                                   0,    0,                       /* inc dword [abs] */
                                   0xff, 0xc9, 0x75, 0xf5, 0xf4}; /* dec ecx; jnz; hlt */
    uint8_t code[sizeof loop];
    struct guest g;
    guest_create(&g, &(struct guest_options){0});
    memcpy(code, loop, sizeof code);
    uint32_t data = (uint32_t)CODE + 0x800;
    memcpy(code + 3, &data, 4);
    load_at(&g, CODE, code, sizeof code);
    guest_start(&g, CODE, CODE);
    g.cpu->gpr[R_CX] = 1000;
    ck_assert_int_eq(cpu_run(g.cpu, 100000), CPU_EXIT_HALT);
    uint32_t v;
    memcpy(&v, g.ram + data - GUEST_BASE, 4);
    ck_assert_uint_eq(v, 1000);
    ck_assert_uint_eq(g.stats.v[PN_STAT_block_dropped], 0);
    ck_assert_uint_le(g.stats.v[PN_STAT_block_translated], 4);
    guest_destroy(&g);
}
END_TEST

/* The same code under two linear addresses, one of which moves elsewhere. */
START_TEST(code_follows_its_mapping) {
    static const uint8_t one[] = {0xb8, 1, 0, 0, 0, 0xf4},
                         two[] = {0xb8, 2, 0, 0, 0, 0xf4};
    struct guest g;
    guest_create(&g, &(struct guest_options){0});
    load_at(&g, CODE, one, sizeof one);
    load_at(&g, CODE + 4096, two, sizeof two);
    for (unsigned i = 0; i < 6; i++) {
        uint64_t from = i & 1 ? CODE + 4096 : CODE;
        guest_gpte(&g, CODE, (from - GUEST_BASE) | 0x67);
        pn_mmu_invlpg(g.cpu->vmmu, CODE);
        guest_start(&g, CODE, CODE);
        g.cpu->halted = 0;
        ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 100), CPU_EXIT_HALT);
        ck_assert_uint_eq(g.cpu->gpr[R_AX], 1 + (i & 1));
    }
    ck_assert_uint_le(g.stats.v[PN_STAT_block_translated], 2);
    guest_destroy(&g);
}
END_TEST

/* Two functions of a page that is elsewhere every second time, called from another page. After
 * INVLPG each block is looked up once: the first of a page fetches, and what follows may be
 * found by what a jump cache still has, if the page is where it was. */
START_TEST(each_block_is_looked_up_once_after_a_flush) {
    static const uint8_t caller[] = {0xe8, 0xfb, 0x0f, 0, 0, /* call PAGE */
                                     0xe8, 0x36, 0x10, 0, 0,
                                     0xf4}; /* call PAGE+64; hlt */
    struct guest g;
    guest_create(&g, &(struct guest_options){.kind = PN_MMU_TDP});
    uint64_t page = CODE + 4096;
    load_at(&g, CODE, caller, sizeof caller);
    for (uint8_t k = 0; k < 2; k++) {
        const uint8_t first[] = {0xb8, k, 0, 0, 0, 0xc3},
                      second[] = {0xbb, k, 0, 0, 0, 0xc3};
        load_at(&g, page + k * 4096u, first, sizeof first);
        load_at(&g, page + k * 4096u + 64, second, sizeof second);
    }
    for (unsigned i = 0; i < 16; i++) {
        unsigned k = i >> 1 & 1;
        guest_gpte(&g, page, (page + k * 4096 - GUEST_BASE) | 0x67);
        pn_mmu_invlpg(g.cpu->vmmu, page);
        guest_start(&g, CODE, CODE);
        g.cpu->halted = 0;
        uint64_t before = g.stats.v[PN_STAT_block_lookup];
        ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 100), CPU_EXIT_HALT);
        ck_assert_uint_eq(g.cpu->gpr[R_AX], k);
        ck_assert_uint_eq(g.cpu->gpr[R_BX], k);
        ck_assert_uint_eq(g.stats.v[PN_STAT_block_lookup], before + 5);
    }
    guest_destroy(&g);
}
END_TEST

/* An instruction across two pages, of which the second changes its frame. */
START_TEST(an_instruction_across_pages_follows_its_second_page) {
    static const uint8_t tail[2][3] = {{1, 0, 0xf4}, {2, 0, 0xf4}};
    static const uint8_t head[] = {0xb8, 7, 0}; /* mov eax, imm32: two bytes beyond */
    struct guest g;
    guest_create(&g, &(struct guest_options){0});
    uint64_t second = CODE + 4096;
    load_at(&g, second - 3, head, sizeof head);
    load_at(&g, second, tail[0], 3);
    load_at(&g, second + 4096, tail[1], 3);
    for (unsigned i = 0; i < 6; i++) {
        uint64_t from = second + (i & 1) * 4096;
        guest_gpte(&g, second, (from - GUEST_BASE) | 0x67);
        pn_mmu_invlpg(g.cpu->vmmu, second);
        guest_start(&g, second - 3, CODE);
        g.cpu->halted = 0;
        ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 100), CPU_EXIT_HALT);
        ck_assert_uint_eq(g.cpu->gpr[R_AX], (1u + (i & 1)) << 16 | 7);
    }
    guest_destroy(&g);
}
END_TEST

/* Kick once the guest has counted. */
static void *kicker(void *guest) {
    struct guest *g = guest;
    while (
        !__atomic_load_n((uint64_t *)(g->ram + (COUNTER - GUEST_BASE)), __ATOMIC_RELAXED))
        sched_yield();
    cpu_kick(g->cpu);
    return NULL;
}

START_TEST(a_kick_stops_a_loop) {
    static const uint8_t loop[] = {0x48, 0xff, 0x04, 0x25,
                                   0,    0,    2,    0x10, /* inc [COUNTER] */
                                   0xeb, 0xf6};            /* jmp */
    struct guest g;
    pthread_t t;
    guest_create(&g, &(struct guest_options){0});
    load_at(&g, CODE, loop, sizeof loop);
    guest_start(&g, CODE, CODE);
    pthread_create(&t, NULL, kicker, &g);
    ck_assert_int_eq(cpu_run(g.cpu, UINT64_MAX), CPU_EXIT_STOP);
    pthread_join(t, NULL);
    guest_destroy(&g);
}
END_TEST

/* ---- A call whose push ends its block early still jumps ---- */

#define TARGET (CODE + 0x1000)
#define NOPS   8u

static void store_raises(void *opaque, unsigned vcpu, pn_gpa gpa, unsigned size,
                         uint64_t value) {
    struct guest *g = opaque;
    memcpy((uint8_t *)g->mmio + (gpa & 0xfff), &value, size);
    g->cpu->intr_line = 1; /* and IF is clear */
}

/* offset: where the return address goes, in RAM or in the MMIO page. */
static void call_pushes(const uint8_t *call, unsigned len, bool wide, uint32_t max_block,
                        uint64_t offset) {
    struct guest g;
    uint64_t target = TARGET, pushed = 0;
    uint64_t where = GUEST_BASE + offset;
    unsigned width = wide ? 8 : 4;
    guest_create(&g, &(struct guest_options){.max_block = max_block});
    g.bus.mmio_write = store_raises;
    g.cpu->seg[SEG_CS].attr = wide ? 0xa09b : 0xc09b;
    cpu_update_mode(g.cpu);
    memset(g.ram + CODE - GUEST_BASE, 0x90, NOPS);
    memcpy(g.ram + CODE - GUEST_BASE + NOPS, call, len);
    g.ram[CODE - GUEST_BASE + NOPS + len] = 0xf4; /* hlt */
    g.ram[TARGET - GUEST_BASE] = 0xf4;
    memcpy(g.ram + COUNTER - GUEST_BASE, &target, 8);
    guest_start(&g, CODE, where + width);
    g.cpu->gpr[R_AX] = target;
    ck_assert_int_eq(cpu_run(g.cpu, 100), CPU_EXIT_HALT);
    memcpy(&pushed, offset == GUEST_MMIO ? (uint8_t *)g.mmio : g.ram + offset, width);
    ck_assert_msg(g.cpu->rip == TARGET + 1, "%02x of %u bits, %u in a block: %" PRIx64,
                  call[0], width * 8, max_block, g.cpu->rip);
    ck_assert_uint_eq(g.cpu->gpr[R_SP], where);
    ck_assert_uint_eq(pushed, CODE + NOPS + len);
    ck_assert_uint_eq(cpu_insns(g.cpu), NOPS + 2);
    guest_destroy(&g);
}

/* It overwrites its own block, or a device answers it by an interrupt. 32-bit code has calls
 * of its own (lower_class). */
START_TEST(a_call_jumps_whatever_its_push_does) {
    static const struct {
        uint8_t code[8];
        unsigned len;
    } call[] = {{{0xe8, 0xf3, 0x0f, 0, 0}, 5},              /* call TARGET */
                {{0xff, 0xd0}, 2},                          /* call eax */
                {{0xff, 0x14, 0x25, 0, 0, 0x02, 0x10}, 7}}; /* call [COUNTER] */
    static const uint64_t at[] = {CODE - GUEST_BASE, GUEST_MMIO};
    for (unsigned i = 0; i < 24; i++) {
        unsigned k = i / 8;
        call_pushes(call[k].code, call[k].len, i & 1, i >> 1 & 1, at[i >> 2 & 1]);
    }
}
END_TEST

SUITE("blocks", .timeout = 300,
      .tests = {random_programs_end_alike_whatever_the_block_length,
                programs_that_patch_themselves_end_alike_too,
                a_loop_stops_at_every_deadline_exactly,
                time_that_is_skipped_ends_no_shadow, a_store_beside_code_drops_no_block,
                code_follows_its_mapping, each_block_is_looked_up_once_after_a_flush,
                an_instruction_across_pages_follows_its_second_page, a_kick_stops_a_loop,
                a_call_jumps_whatever_its_push_does})
