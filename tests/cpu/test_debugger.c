/* SPDX-License-Identifier: MIT */
/* A debugger changes nothing but what runs next: not what is translated, fetched or dropped,
 * nor when. Nor does who makes the CPU return, whenever that is. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "cpu/control.h"
#include "fixture_guest.h"
#include "penumbra/debug.h"
#include "tests/suite.h"

#define CODE   (GUEST_BASE + 0x100000)
#define BLOCK  16u    /* bytes from one block to the next */
#define INSNS  4u     /* of one block */
#define BLOCKS 14000u /* more than the smallest cache holds */
#define ROUNDS 30u
#define STOPS  8u /* in a round */
#define STEPS  61u

static void put32(uint8_t *at, uint32_t v) {
    memcpy(at, &v, sizeof(v));
}

/* Blocks of INC RAX, INC RAX, INC RAX, JMP to the next one, the last one to the first. */
static void load(struct guest *g) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        uint8_t code[BLOCK] = {0x48, 0xff, 0xc0, 0x48, 0xff,
                               0xc0, 0x48, 0xff, 0xc0, 0xe9};
        uint32_t to = (i + 1) % BLOCKS * BLOCK;
        put32(code + 10, to - (i * BLOCK + 14));
        pn_mmu_write_phys(g->mmu, CODE - GUEST_BASE + i * BLOCK, code, sizeof(code));
    }
}

/* STEPS steps from where the guest is, then on to the end. */
static void run(struct guest *g, uint64_t end, const struct pn_debug *d) {
    enum cpu_exit why;
    cpu_set_debug(g->cpu, d, false);
    while ((why = cpu_run(g->cpu, end)) == CPU_EXIT_DEBUG) {
        cpu_set_debug(g->cpu, d, true);
        for (unsigned i = 0; i < STEPS && why == CPU_EXIT_DEBUG; i++)
            why = cpu_run(g->cpu, end);
        cpu_set_debug(g->cpu, d, false);
    }
    ck_assert_int_eq(why, CPU_EXIT_DEADLINE);
}

static void start(struct guest *g) {
    guest_create(g, &(struct guest_options){.code_bytes = 1});
    load(g);
    guest_start(g, CODE, CODE);
}

/* All counters are equal but those of what was made for steps, at least `made`. */
static void same(struct guest *plain, struct guest *watched, uint64_t made) {
    uint64_t *a = plain->stats.v, *b = watched->stats.v;
    ck_assert_uint_eq(plain->cpu->gpr[R_AX], watched->cpu->gpr[R_AX]);
    ck_assert_uint_ge(b[PN_STAT_block_translated], a[PN_STAT_block_translated] + made);
    a[PN_STAT_block_translated] = b[PN_STAT_block_translated];
    a[PN_STAT_block_insns] = b[PN_STAT_block_insns];
    a[PN_STAT_block_lookup] = b[PN_STAT_block_lookup]; /* a jump cache answers some */
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        ck_assert_msg(a[i] == b[i], "%s: %lu, with a debugger %lu", pn_stat_name(i), a[i],
                      b[i]);
}

/* What was made for steps takes no other's room. */
START_TEST(the_cache_is_flushed_when_it_would_have_been) {
    uint64_t end = (uint64_t)ROUNDS * BLOCKS * INSNS;
    struct guest plain, watched;
    struct pn_debug d = {.break_count = STOPS};
    for (unsigned i = 0; i < STOPS; i++)
        d.breaks[i] = CODE + i * (BLOCKS / STOPS) * BLOCK;
    start(&plain);
    start(&watched);
    run(&plain, end, &(struct pn_debug){0});
    run(&watched, end, &d);
    ck_assert_uint_ge(plain.stats.v[PN_STAT_block_flush], ROUNDS);
    same(&plain, &watched, ROUNDS * STOPS * STEPS / 2);
    guest_destroy(&plain);
    guest_destroy(&watched);
}
END_TEST

/* A block whose first bytes are overwritten, and then its last ones: what a step made of the
 * last ones is gone by then, and the second write hits no code. */
START_TEST(what_a_step_made_goes_with_its_block) {
    static const uint8_t loop[] = {
        0x48,         0xff, 0xc0,               /* inc rax */
        0x66,         0x0f, 0x1f, 0x44, 0,   0, /* nops over more than a granule of 64 bytes */
        0x66,         0x0f, 0x1f, 0x44, 0,   0, 0x66, 0x0f, 0x1f, 0x44, 0, 0,
        0x66,         0x0f, 0x1f, 0x44, 0,   0, 0x66, 0x0f, 0x1f, 0x44, 0, 0,
        0x66,         0x0f, 0x1f, 0x44, 0,   0, 0x66, 0x0f, 0x1f, 0x44, 0, 0,
        0x66,         0x0f, 0x1f, 0x44, 0,   0, 0x66, 0x0f, 0x1f, 0x44, 0, 0,
        0x66,         0x0f, 0x1f, 0x44, 0,   0, 0x66, 0x0f, 0x1f, 0x44, 0, 0,
        0xeb,         0x39,                  /* 69: jmp 128 */
        [128] = 0x88, 0x0b,                  /* mov [rbx], cl: into inc rax */
        0x88,         0x2a,                  /* mov [rdx], ch: into the last nop */
        0xe9,         0x77, 0xff, 0xff, 0xff /* jmp 0 */
    };
    struct guest g[2];
    struct pn_debug d = {.breaks = {CODE}, .break_count = 1};
    for (unsigned i = 0; i < 2; i++) {
        guest_create(&g[i], &(struct guest_options){0});
        pn_mmu_write_phys(g[i].mmu, CODE - GUEST_BASE, loop, sizeof(loop));
        guest_start(&g[i], CODE, CODE);
        g[i].cpu->gpr[R_BX] = CODE;
        g[i].cpu->gpr[R_DX] = CODE + 68;
        g[i].cpu->gpr[R_CX] = 0x48;
        run(&g[i], 1000, i ? &d : &(struct pn_debug){0});
    }
    ck_assert_uint_ge(g[0].stats.v[PN_STAT_block_dropped], 10);
    same(&g[0], &g[1], 100);
    guest_destroy(&g[0]);
    guest_destroy(&g[1]);
}
END_TEST

/* Stores of each kind to a watched word and beside it, in one block: each is a stop behind its
 * instruction, and nothing else is. */
START_TEST(a_watchpoint_stops_behind_every_store_to_its_bytes_and_no_other) {
    static const uint8_t loop[] = {
        0x48, 0xff, 0xc0, 0x48, 0x89, 0x43, 0x08,    /* inc rax; mov [rbx+8], rax */
        0x48, 0x89, 0x43, 0x10,                      /* mov [rbx+16], rax */
        0x48, 0x01, 0x43, 0x10,                      /* 11: add [rbx+16], rax */
        0x48, 0x8b, 0x4b, 0x10,                      /* 15: mov rcx, [rbx+16] */
        0x48, 0x89, 0x43, 0x18,                      /* mov [rbx+24], rax */
        0x48, 0x8d, 0x63, 0x18, 0x50,                /* lea rsp, [rbx+24]; push rax */
        0x48, 0x89, 0xdf, 0xb9, 0x08, 0,    0,    0, /* 28: mov rdi, rbx; mov ecx, 8 */
        0xf3, 0x48, 0xab, 0x48, 0x89, 0x43, 0x0d, /* rep stosq; 39: mov [rbx+13], rax */
        0x48, 0x8d, 0xa3, 0x00, 0x08, 0,    0,    /* 43: lea rsp, [rbx+2048] */
        0xe8, 0,    0,    0,    0,                /* call to the next one */
        0x48, 0x89, 0x43, 0xfc, 0xeb, 0xc3};      /* mov [rbx-4], rax; jmp 0 */
    static const unsigned behind[] = {11, 15, 28, 39, 43};
    const struct pn_debug d = {.watches = {{GUEST_BASE + 0x200010, 8, PN_WATCH_WRITE}},
                               .watch_count = 1};
    struct guest g;
    guest_create(&g, &(struct guest_options){0});
    pn_mmu_write_phys(g.mmu, CODE - GUEST_BASE, loop, sizeof(loop));
    guest_start(&g, CODE, CODE);
    g.cpu->gpr[R_BX] = GUEST_BASE + 0x200000;
    ck_assert_int_eq(cpu_run(g.cpu, 1000), CPU_EXIT_DEADLINE); /* its blocks are hot */
    while (g.cpu->rip != CODE)
        cpu_run(g.cpu, cpu_insns(g.cpu) + 1);
    cpu_set_debug(g.cpu, &d, false);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_int_eq(cpu_run(g.cpu, UINT64_MAX / 2), CPU_EXIT_DEBUG);
        ck_assert_int_eq(g.cpu->debug.stop.why, PN_DEBUG_WATCH);
        ck_assert_uint_eq(g.cpu->rip - CODE, behind[i % 5]);
    }
    guest_destroy(&g);
}
END_TEST

struct kicks {
    struct cpu *cpu;
    atomic_bool over;
};

static void *kick(void *opaque) {
    struct kicks *k = opaque;
    while (!atomic_load(&k->over)) {
        cpu_kick(k->cpu);
        sched_yield();
    }
    return NULL;
}

/* The store is into a page with code, and goes the slow way, in the middle of a block. */
START_TEST(a_kick_changes_nothing_that_is_counted) {
    static const uint8_t loop[] = {
        0x48, 0xff, 0xc0, 0x88, 0x0b,  /* inc rax; mov [rbx], cl */
        0x48, 0xff, 0xc0, 0xeb, 0xf6}; /* inc rax; jmp */
    struct guest g[2];
    unsigned kicked = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct kicks k = {0};
        pthread_t thread;
        enum cpu_exit why;
        guest_create(&g[i], &(struct guest_options){0});
        pn_mmu_write_phys(g[i].mmu, CODE - GUEST_BASE, loop, sizeof(loop));
        guest_start(&g[i], CODE, CODE);
        g[i].cpu->gpr[R_BX] = CODE + 2048;
        k.cpu = g[i].cpu;
        if (i)
            ck_assert(!pthread_create(&thread, NULL, kick, &k));
        while ((why = cpu_run(g[i].cpu, 40000000)) == CPU_EXIT_STOP)
            kicked++;
        ck_assert_int_eq(why, CPU_EXIT_DEADLINE);
        atomic_store(&k.over, true);
        if (i)
            pthread_join(thread, NULL);
    }
    ck_assert_uint_gt(kicked, 1);
    ck_assert_uint_eq(g[0].cpu->gpr[R_AX], g[1].cpu->gpr[R_AX]);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        ck_assert_msg(g[0].stats.v[i] == g[1].stats.v[i], "%s: %lu, with kicks %lu",
                      pn_stat_name(i), g[0].stats.v[i], g[1].stats.v[i]);
    guest_destroy(&g[0]);
    guest_destroy(&g[1]);
}
END_TEST

SUITE("debugger", .timeout = 120,
      .tests = {the_cache_is_flushed_when_it_would_have_been,
                what_a_step_made_goes_with_its_block,
                a_watchpoint_stops_behind_every_store_to_its_bytes_and_no_other,
                a_kick_changes_nothing_that_is_counted})
