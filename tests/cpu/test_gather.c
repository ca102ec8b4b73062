/* SPDX-License-Identifier: MIT */
/*
 * A gather that faults: destination and mask are those of this host's own CPU. SDM volume
 * 2, "VGATHERDPD": the elements closer to the LSB than the one that faults are completed,
 * and their part of the mask is clear.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/model.h"
#include "cpu/system.h"
#include "cpu/xstate.h"
#include "fixture_guest.h"
#include "fixture_native.h"
#include "tests/suite.h"

#define CODE_AT 0x100000u
#define DATA_AT 0x200000u /* one page; the next one is absent */
#define CASES   4000u

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static struct guest g;

struct vectors {
    uint8_t dest[32], mask[32], index[32]; /* YMM 0, 1, 2 */
};
struct result {
    uint64_t trap, error, cr2;
    struct vectors v;
};

/* VPGATHERDD, -DQ, -QD, -QQ and VGATHERDPS, -DPD, -QPS, -QPD: W says how wide elements
 * are, the opcode's low bit how wide indices. */
static const uint8_t opcodes[] = {0x90, 0x91, 0x92, 0x93};

static void put_ymm(uint8_t *xsave, unsigned reg, const uint8_t *from) {
    memcpy(xsave + FX_XMM + 16 * reg, from, 16);
    memcpy(xsave + XSAVE_AVX + 16 * reg, from + 16, 16);
}
static void get_ymm(const uint8_t *xsave, unsigned reg, uint8_t *to) {
    memcpy(to, xsave + FX_XMM + 16 * reg, 16);
    memcpy(to + 16, xsave + XSAVE_AVX + 16 * reg, 16);
}

static void put_vectors(uint8_t *xsave, const struct vectors *v) {
    memset(xsave, 0, 1024);
    xstate_put(xsave, FX_FCW, 2, FCW_INIT);
    xstate_put(xsave, FX_MXCSR, 4, MXCSR_INIT);
    xstate_put(xsave, XSAVE_HEADER, 8, XSTATE_X87 | XSTATE_SSE | XSTATE_AVX);
    put_ymm(xsave, 0, v->dest), put_ymm(xsave, 1, v->mask), put_ymm(xsave, 2, v->index);
}
static void get_vectors(const uint8_t *xsave, struct vectors *v) {
    get_ymm(xsave, 0, v->dest), get_ymm(xsave, 1, v->mask), get_ymm(xsave, 2, v->index);
}

/* vgather ymm0, [rbx + 8 * ymm2], ymm1 */
static void make_code(uint8_t *code, uint8_t opcode, bool w, bool wide) {
    const uint8_t insn[] = {0xc4,   0xe2, (uint8_t)(w << 7 | 14 << 3 | wide << 2 | 1),
                            opcode, 0x04, 0xd3,
                            0xcc};
    memcpy(code, insn, sizeof insn);
}

/* Indices that lead into the page, and here and there one that does not. */
static void make_vectors(struct vectors *v, bool indices64) {
    unsigned size = indices64 ? 8 : 4;
    for (unsigned i = 0; i < 32; i++)
        v->dest[i] = (uint8_t)rand(), v->mask[i] = (uint8_t)(rand() & rand());
    for (unsigned i = 0; i < 32; i += size) {
        int64_t k = rand() % 4 ? rand() % 511 : 512 + rand() % 300;
        if (rand() % 40 == 0)
            k = indices64 ? INT64_C(1) << 50 : INT32_MAX;
        memcpy(v->index + i, &k, size);
    }
}

static void on_host(const struct vectors *v, struct result *r) {
    memset(NATIVE->gpr, 0, sizeof NATIVE->gpr);
    NATIVE->gpr[R_BX] = GUEST_BASE + DATA_AT;
    NATIVE->gpr[R_SP] = GUEST_BASE + DATA_AT + 0x800;
    NATIVE->rip = GUEST_BASE + CODE_AT;
    NATIVE->rflags = 2;
    put_vectors(NATIVE->xsave, v);
    native_run();
    *r = (struct result){NATIVE->trap, NATIVE->error & 0xffff, 0, {{0}, {0}, {0}}};
    r->cr2 = r->trap == VEC_PF ? NATIVE->cr2 : 0;
    r->error = r->trap == VEC_PF ? r->error : 0;
    get_vectors(NATIVE->xsave, &r->v);
}

static void in_guest(const struct vectors *v, struct result *r) {
    struct cpu *cpu = g.cpu;
    uint64_t rip, flags, rsp;
    guest_user(&g);
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    cpu->gpr[R_BX] = GUEST_BASE + DATA_AT;
    guest_start(&g, GUEST_BASE + CODE_AT, GUEST_BASE + DATA_AT + 0x800);
    cpu_set_rflags(cpu, 2);
    put_vectors(cpu->xsave, v);
    ck_assert_int_eq(cpu_run(cpu, cpu_insns(cpu) + 1000), CPU_EXIT_HALT);
    memset(r, 0, sizeof *r);
    guest_trapped(&g, &r->trap, &r->error, &rip, &flags, &rsp);
    r->cr2 = r->trap == VEC_PF ? cpu->cr2 : 0;
    xstate_settle(cpu);
    get_vectors(cpu->xsave, &r->v);
}

static void begin(const struct guest_options *opt) {
    void *code = (void *)(GUEST_BASE + CODE_AT), *data = (void *)(GUEST_BASE + DATA_AT);
    int prot = PROT_READ | PROT_WRITE | PROT_EXEC;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    guest_create(&g, opt);
    guest_idt(&g);
    guest_gpte(&g, GUEST_BASE + DATA_AT + 0x1000, 0);
    guest_gpte(&g, GUEST_BASE + DATA_AT + 0x2000, 0);
    ck_assert(native_init(g.model->host_xcr0, 0));
    ck_assert_ptr_eq(mmap(code, 4096, prot, flags, -1, 0), code);
    ck_assert_ptr_eq(mmap(data, 4096, prot, flags, -1, 0), data);
    ck_assert_ptr_eq(mmap((uint8_t *)data + 4096, 8192, PROT_NONE, flags, -1, 0),
                     (uint8_t *)data + 4096);
    for (unsigned i = 0; i < 4096; i++)
        ((uint8_t *)data)[i] = g.ram[DATA_AT + i] = (uint8_t)rand();
}

static void print(const char *what, const uint8_t *got, const uint8_t *want) {
    fprintf(stderr, "%s:", what);
    for (unsigned i = 0; i < 32; i++)
        fprintf(stderr, " %02x%s%02x", got[i], got[i] == want[i] ? "=" : "!", want[i]);
    fputc('\n', stderr);
}

START_TEST(a_gather_that_faults_ends_as_on_the_host) {
    unsigned faults = 0;
    srand(5);
    begin(&options[_i]);
    for (unsigned n = 0; cpu_has(g.cpu, CPU_F_avx2) && n < CASES; n++) {
        uint8_t code[7], opcode = opcodes[n % 4];
        struct vectors v;
        struct result got, want;
        make_code(code, opcode, n & 4, n & 8);
        memcpy((void *)(GUEST_BASE + CODE_AT), code, sizeof code);
        pn_mmu_write_phys(g.mmu, CODE_AT, code, sizeof code);
        make_vectors(&v, opcode & 1);
        on_host(&v, &want);
        in_guest(&v, &got);
        if (memcmp(&got, &want, sizeof got)) {
            fprintf(stderr, "case %u, opcode %x, w %u, ymm %u\n", n, opcode, n >> 2 & 1,
                    n >> 3 & 1);
            print("dest", got.v.dest, want.v.dest);
            print("mask", got.v.mask, want.v.mask);
            print("was", v.mask, v.mask);
        }
        ck_assert_uint_eq(got.trap, want.trap);
        ck_assert_uint_eq(got.error, want.error);
        ck_assert_uint_eq(got.cr2, want.cr2);
        ck_assert(!memcmp(&got, &want, sizeof got));
        faults += got.trap != VEC_BP;
    }
    ck_assert(!cpu_has(g.cpu, CPU_F_avx2) || faults > CASES / 8);
    guest_destroy(&g);
}
END_TEST

SUITE("gathers", .timeout = 120,
      .loops = {{a_gather_that_faults_ends_as_on_the_host, OPTIONS}})
