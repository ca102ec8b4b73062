/* SPDX-License-Identifier: MIT */
/*
 * The host oracle: random user-mode instructions run natively and in the software CPU,
 * at the same addresses and from the same state; registers, flags, vector state, memory,
 * and faults must agree, the architecturally undefined flags included. The instructions
 * are those of the model `max`: what this host's CPU has, AVX or not.
 *
 * Environment: PENUMBRA_SEED the seed (printed), PENUMBRA_CASES how many instructions.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/control.h"
#include "cpu/xstate.h"
#include "fixture_gen.h"
#include "fixture_guest.h"
#include "fixture_native.h"

#define CODE      (GUEST_BASE + 0x100000)
#define CODE_SIZE 0xf0000u
#define AREA      (GEN_DATA - 4096)
#define AREA_SIZE ((GEN_PAGES + 2) * 4096u)
#define FLAGS     (FL_ARITH | FL_DF)

struct outcome {
    uint64_t gpr[16], rip, rflags, trap, error, cr2;
    uint8_t x87[128], xmm[256], ymm[256];
    uint16_t fcw, fsw;
    uint8_t ftw;
    uint32_t mxcsr;
};

static struct guest guest[2]; /* long blocks, and one instruction at a time */
static struct gen *gen;

/* ---- The guest's side ---- */

/* The data area's pages are scattered in guest-physical memory. */
static uint64_t data_gpa(uint64_t gva) {
    uint64_t page = (gva - AREA) >> 12;
    return 0x800000 + ((page * 7) % (GEN_PAGES + 2)) * 4096 + (gva & 4095);
}

static void map_area(struct guest *g) {
    for (uint64_t a = AREA; a < AREA + AREA_SIZE; a += 4096)
        guest_gpte(g, a, data_gpa(a) | (a == GEN_READONLY ? 0x65 : 0x67));
    guest_gpte(g, GEN_ABSENT, 0);
    pn_mmu_drop_tlb(g->cpu->vmmu);
}

static void load_vector(struct cpu *cpu, const uint8_t *x) {
    memcpy(cpu->xsave, x, 1024);
    memset(cpu->xsave + 520, 0, 56);
}

static void guest_run(struct guest *g, const struct gen_seq *s, uint64_t at,
                      struct outcome *o) {
    struct cpu *cpu = g->cpu;
    guest_user(g);
    memcpy(cpu->gpr, s->gpr, sizeof cpu->gpr);
    cpu->rip = at;
    cpu_set_rflags(cpu, s->rflags);
    cpu->seg[SEG_FS].base = GEN_FS;
    cpu->seg[SEG_GS].base = GEN_GS;
    load_vector(cpu, s->xsave);
    memset(o, 0, sizeof *o);
    o->trap = 999;
    if (cpu_run(cpu, cpu_insns(cpu) + 100000) != CPU_EXIT_HALT)
        return;
    guest_trapped(g, &o->trap, &o->error, &o->rip, &o->rflags, &cpu->gpr[R_SP]);
    if (o->trap == 3) { /* the end */
        o->trap = 256;
        o->rip = 0;
    }
    o->cr2 = o->trap == 14 ? cpu->cr2 : 0;
    memcpy(o->gpr, cpu->gpr, sizeof o->gpr);
    xstate_settle(cpu);
    memcpy(o->x87, cpu->xsave + 32, 128);
    memcpy(o->xmm, cpu->xsave + 160, 256);
    memcpy(o->ymm, cpu->xsave + 576, 256);
    memcpy(&o->fcw, cpu->xsave, 2);
    memcpy(&o->fsw, cpu->xsave + 2, 2);
    o->ftw = cpu->xsave[4];
    memcpy(&o->mxcsr, cpu->xsave + 24, 4);
    o->rflags &= FLAGS;
}

/* ---- The host's side ---- */

static void native_map(uint64_t mask) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    if (!native_init(mask, GEN_GS)) {
        fprintf(stderr, "cannot make this host run the sequences: %s\n", strerror(errno));
        exit(1);
    }
    if (mmap((void *)CODE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0) !=
            (void *)CODE ||
        mmap((void *)AREA, AREA_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0) !=
            (void *)AREA) {
        fprintf(stderr, "cannot map the test's fixed addresses\n");
        exit(1);
    }
}

static void protect(void) {
    mprotect((void *)GEN_READONLY, 4096, PROT_READ);
    mprotect((void *)GEN_ABSENT, 4096, PROT_NONE);
}

static void host_run(const struct gen_seq *s, uint64_t at, struct outcome *o) {
    struct native_state *n = NATIVE;
    memcpy(n->gpr, s->gpr, sizeof n->gpr);
    n->rip = at;
    n->rflags = s->rflags;
    n->fs = GEN_FS;
    memcpy(n->xsave, s->xsave, 1024);
    native_run();
    memset(o, 0, sizeof *o);
    memcpy(o->gpr, n->gpr, sizeof o->gpr);
    o->trap = n->trap;
    if (o->trap != 256)
        o->rip = n->rip;
    if (o->trap == 14 || o->trap == 13)
        o->error = n->error & 0xffff;
    o->cr2 = o->trap == 14 ? n->cr2 : 0;
    o->rflags = n->rflags & FLAGS;
    memcpy(o->x87, n->xsave + 32, 128);
    memcpy(o->xmm, n->xsave + 160, 256);
    memcpy(o->ymm, n->xsave + 576, 256);
    memcpy(&o->fcw, n->xsave, 2);
    memcpy(&o->fsw, n->xsave + 2, 2);
    o->ftw = n->xsave[4];
    memcpy(&o->mxcsr, n->xsave + 24, 4);
}

/* ---- Comparison ---- */

static void tidy(struct outcome *o) {
    for (unsigned i = 0; i < 8; i++)
        memset(o->x87 + 16 * i + 10, 0, 6);
}

static void print_outcome(const char *who, const struct outcome *o) {
    fprintf(stderr,
            "%s: trap %" PRIu64 " error %" PRIx64 " cr2 %" PRIx64 " rip %" PRIx64
            " flags %" PRIx64 " fcw %x fsw %x ftw %x mxcsr %x\n",
            who, o->trap, o->error, o->cr2, o->rip, o->rflags, o->fcw, o->fsw, o->ftw,
            o->mxcsr);
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, " r%u=%" PRIx64 "%s", i, o->gpr[i], i % 4 == 3 ? "\n" : "");
}

static void print_vectors(const struct outcome *a, const struct outcome *b) {
    const uint8_t *pa = a->x87, *pb = b->x87;
    for (unsigned i = 0; i < sizeof a->x87 + 512; i += 8)
        if (memcmp(pa + i, pb + i, 8)) {
            uint64_t va, vb;
            memcpy(&va, pa + i, 8);
            memcpy(&vb, pb + i, 8);
            fprintf(stderr, " vector byte %u: guest %016" PRIx64 " host %016" PRIx64 "\n",
                    i, va, vb);
        }
}

/* Return: true when they agree. */
static bool compare(struct guest *g, const struct gen_seq *s, uint64_t at,
                    struct outcome *a, struct outcome *b) {
    uint64_t bad = 0;
    tidy(a);
    tidy(b);
    for (uint64_t p = AREA; p < AREA + AREA_SIZE && !bad; p += 4096)
        if (p != GEN_ABSENT && memcmp(g->ram + data_gpa(p), (void *)p, 4096))
            bad = p;
    if (!bad && !memcmp(a, b, sizeof *a))
        return true;
    fprintf(stderr, "disagreement in this sequence:\n");
    gen_print(s, at);
    fprintf(stderr, "from:\n");
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, " r%u=%" PRIx64 "%s", i, s->gpr[i], i % 4 == 3 ? "\n" : "");
    fprintf(stderr, " flags %" PRIx64 "\n", s->rflags);
    print_outcome("guest", a);
    print_outcome("host", b);
    print_vectors(a, b);
    for (unsigned i = 0; bad && i < 4096; i++)
        if (g->ram[data_gpa(bad) + i] != ((uint8_t *)bad)[i])
            fprintf(stderr, " memory at %" PRIx64 ": guest %02x host %02x\n", bad + i,
                    g->ram[data_gpa(bad) + i], ((uint8_t *)bad)[i]);
    return false;
}

static void refill(void) {
    mprotect((void *)AREA, AREA_SIZE, PROT_READ | PROT_WRITE);
    for (uint64_t a = AREA; a < AREA + AREA_SIZE; a += 8) {
        uint64_t v = gen_random(gen);
        *(uint64_t *)a = v & 7 ? v : v >> 32;
    }
    for (unsigned k = 0; k < 2; k++)
        for (uint64_t a = AREA; a < AREA + AREA_SIZE; a += 4096)
            memcpy(guest[k].ram + data_gpa(a), (void *)a, 4096);
    protect();
}

static void place(struct gen_seq *s, uint64_t at) {
    static const uint8_t leave[7] = {0xff,
                                     0x24,
                                     0x25,
                                     NATIVE_EXIT & 0xff,
                                     NATIVE_EXIT >> 8 & 0xff,
                                     NATIVE_EXIT >> 16 & 0xff,
                                     NATIVE_EXIT >> 24};
    memcpy((void *)at, s->code, s->len);
    memcpy((void *)(at + s->len), leave, sizeof leave);
    s->code[s->len] = 0xcc;
    for (unsigned k = 0; k < 2; k++)
        pn_mmu_write_phys(guest[k].mmu, at - GUEST_BASE, s->code, s->len + 1);
}

static uint64_t env(const char *name, uint64_t def) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : def;
}

static int run(uint64_t cases, uint64_t keep_going) {
    uint64_t at = CODE, done = 0, faults = 0, bad = 0, sequences = 0;
    while (done < cases) {
        struct gen_seq s;
        struct outcome a, b;
        if (sequences++ % 4096 == 0)
            refill();
        if (at + 600 > CODE + CODE_SIZE)
            at = CODE + gen_random(gen) % 64;
        gen_sequence(gen, at, &s);
        place(&s, at);
        host_run(&s, at, &b);
        for (unsigned k = 0; k < 2; k++) {
            guest_run(&guest[k], &s, at, &a);
            if (compare(&guest[k], &s, at, &a, &b))
                continue;
            fprintf(stderr, "in the %s\n", k ? "stepping CPU" : "CPU with long blocks");
            if (++bad >= keep_going)
                return 1;
            refill();
        }
        faults += b.trap != 256;
        done += s.insns;
        at += s.len + 16 + gen_random(gen) % 24;
    }
    printf("%" PRIu64 " instructions in %" PRIu64 " sequences, %" PRIu64 " faults, "
           "%u mnemonics, %" PRIu64 " disagreements\n",
           done, sequences, faults, gen_mnemonics(gen), bad);
    return bad != 0;
}

int main(void) {
    uint64_t seed = env("PENUMBRA_SEED", 20240607);
    printf("seed %" PRIu64 "\n", seed);
    fflush(stdout);
    guest_create(&guest[0], &(struct guest_options){.code_bytes = 4 << 20});
    guest_create(&guest[1],
                 &(struct guest_options){.code_bytes = 4 << 20, .max_block = 1});
    native_map(guest[0].model->host_xcr0);
    for (unsigned k = 0; k < 2; k++) {
        guest_idt(&guest[k]);
        map_area(&guest[k]);
    }
    gen = gen_create(guest[0].model, seed);
    int rc = run(env("PENUMBRA_CASES", 1000000), env("PENUMBRA_ERRORS", 1));
    gen_destroy(gen);
    guest_destroy(&guest[0]);
    guest_destroy(&guest[1]);
    return rc;
}
