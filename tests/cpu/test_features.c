/* SPDX-License-Identifier: MIT */
/*
 * What turns off with a feature of --cpu: instructions become undefined or mean something
 * else, bits of page-table entries become reserved. Sources: SDM volume 1, "CPUID" and
 * volume 2 under each instruction; volume 3, tables "Format of a Page-Directory Entry" and
 * its like. Bits of control registers and MSRs are in test_cr.c and test_msr.c.
 */
#include <string.h>

#include "cpu/model.h"
#include "cpu/system.h"
#include "fixture_guest.h"
#include "tests/suite.h"

#define CODE_AT 0x100000u
#define DATA_AT 0x200000u

static struct guest g;

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static void begin(int which, const char *model) {
    struct guest_options opt = options[which];
    opt.model = model;
    guest_create(&g, &opt);
    guest_idt(&g);
}

/* Run code that ends with INT3 at CPL 0. Return: the vector that stopped it. */
static uint64_t run(const uint8_t *code, unsigned n, uint64_t *error) {
    uint64_t vector, rip, flags, rsp;
    pn_mmu_write_phys(g.mmu, CODE_AT, code, n);
    g.cpu->halted = 0;
    guest_start(&g, GUEST_BASE + CODE_AT, GUEST_BASE + DATA_AT + 0x800);
    g.cpu->gpr[R_BX] = GUEST_BASE + DATA_AT;
    cpu_set_rflags(g.cpu, 2);
    cpu_update_mode(g.cpu);
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    guest_trapped(&g, &vector, error, &rip, &flags, &rsp);
    return vector;
}

/* ---- Instructions ---- */

/* Each is defined in the model max and undefined in this one. Memory is at RBX. */
static const struct {
    const char *off;
    uint8_t code[10], n;
} undefined[] = {
    {"max,-fpu", {0xdb, 0xe3}, 2},                      /* fninit */
    {"max,-tsc", {0x0f, 0x31}, 2},                      /* rdtsc */
    {"max,-msr", {0xb9, 0x8b, 0, 0, 0, 0x0f, 0x32}, 7}, /* rdmsr */
    {"max,-msr", {0xb9, 0x8b, 0, 0, 0, 0x0f, 0x30}, 7}, /* wrmsr */
    {"max,-cx8", {0x0f, 0xc7, 0x0b}, 3},                /* cmpxchg8b */
    {"max,-cx16", {0x48, 0x0f, 0xc7, 0x0b}, 4},         /* cmpxchg16b */
    {"max,-cmov", {0x0f, 0x44, 0xc0}, 3},               /* cmovz */
    {"max,-clflush", {0x0f, 0xae, 0x3b}, 3},            /* clflush */
    {"max,-mmx", {0x0f, 0x77}, 2},                      /* emms */
    {"x86-64-v1,-lm,-fxsr", {0x0f, 0xae, 0x03}, 3},     /* fxsave */
    {"x86-64-v1,-lm,-sse", {0x0f, 0xae, 0xf8}, 3},      /* sfence */
    {"x86-64-v1,-lm,-sse", {0x0f, 0x57, 0xc0}, 3},      /* xorps */
    {"x86-64-v1,-lm,-sse2", {0x0f, 0xae, 0xf0}, 3},     /* mfence */
    {"x86-64-v1,-lm,-sse2", {0x0f, 0xae, 0xe8}, 3},     /* lfence */
    {"max,-lahf_lm", {0x9f}, 1},                        /* lahf */
    {"max,-rdtscp", {0x0f, 0x01, 0xf9}, 3},             /* rdtscp */
    {"max,-rdpid", {0xf3, 0x0f, 0xc7, 0xf8}, 4},        /* rdpid */
    {"max,-rdrand", {0x0f, 0xc7, 0xf0}, 3},             /* rdrand */
    {"max,-rdseed", {0x0f, 0xc7, 0xf8}, 3},             /* rdseed */
    {"max,-fsgsbase", {0xf3, 0x0f, 0xae, 0xc0}, 4},     /* rdfsbase */
    {"max,-smap", {0x0f, 0x01, 0xca}, 3},               /* clac */
    {"max,-serialize", {0x0f, 0x01, 0xe8}, 3},          /* serialize */
    {"max,-clwb", {0x66, 0x0f, 0xae, 0x33}, 4},         /* clwb */
    {"max,-clflushopt", {0x66, 0x0f, 0xae, 0x3b}, 4},   /* clflushopt */
    {"max,-xsave", {0x31, 0xc9, 0x0f, 0x01, 0xd0}, 5},  /* xgetbv */
    {"max,-gfni", {0x66, 0x0f, 0x38, 0xcf, 0xc0}, 5},   /* gf2p8mulb xmm */
    {"max,-gfni", {0xc4, 0xe2, 0x7d, 0xcf, 0xc0}, 5},   /* vgf2p8mulb ymm */
    {"max,-vaes", {0xc4, 0xe2, 0x7d, 0xdc, 0xc0}, 5},   /* vaesenc ymm */
    {"max,-vpclmulqdq", {0xc4, 0xe3, 0x7d, 0x44, 0xc0, 0}, 6},
    {"max,-avx_vnni", {0xc4, 0xe2, 0x79, 0x50, 0xc0}, 5},       /* vpdpbusd xmm */
    {"max,-sse4a", {0x66, 0x0f, 0x79, 0xc0}, 4},                /* extrq */
    {"max,-sse4a", {0xf3, 0x0f, 0x2b, 0x03}, 4},                /* movntss */
    {"max,-avx512f", {0xc5, 0xf4, 0x41, 0xd0}, 4},              /* kandw */
    {"max,-avx512f", {0x62, 0xf1, 0x7d, 0x48, 0xfe, 0xc0}, 6},  /* vpaddd zmm */
    {"max,-avx512vl", {0x62, 0xf1, 0x7d, 0x28, 0xfe, 0xc0}, 6}, /* vpaddd ymm */
    {"max,-avx512bw", {0x62, 0xf1, 0x7d, 0x48, 0xfc, 0xc0}, 6}, /* vpaddb */
    {"max,-avx512bw", {0xc4, 0xe1, 0xf4, 0x41, 0xd0}, 5},       /* kandq */
    {"max,-avx512dq", {0x62, 0xf2, 0xfd, 0x48, 0x40, 0xc0}, 6}, /* vpmullq */
    {"max,-avx512cd", {0x62, 0xf2, 0x7d, 0x48, 0xc4, 0xc0}, 6}, /* vpconflictd */
    {"max,-avx512ifma", {0x62, 0xf2, 0xfd, 0x48, 0xb4, 0xc0}, 6},
    {"max,-avx512vbmi", {0x62, 0xf2, 0x7d, 0x48, 0x8d, 0xc0}, 6},       /* vpermb */
    {"max,-avx512_vbmi2", {0x62, 0xf3, 0x7d, 0x48, 0x71, 0xc0, 0}, 7},  /* vpshldd */
    {"max,-avx512_vnni", {0x62, 0xf2, 0x7d, 0x48, 0x50, 0xc0}, 6},      /* vpdpbusd */
    {"max,-avx512_bitalg", {0x62, 0xf2, 0x7d, 0x48, 0x54, 0xc0}, 6},    /* vpopcntb */
    {"max,-avx512_vpopcntdq", {0x62, 0xf2, 0x7d, 0x48, 0x55, 0xc0}, 6}, /* vpopcntd */
    {"max,-avx512_vp2intersect", {0x62, 0xf2, 0x7f, 0x48, 0x68, 0xc0}, 6},
    {"max,-avx512_bf16", {0x62, 0xf2, 0x7e, 0x48, 0x52, 0xc0}, 6}, /* vdpbf16ps */
    {"max,-gfni", {0x62, 0xf2, 0x7d, 0x48, 0xcf, 0xc0}, 6},        /* zmm */
    {"max,-vaes", {0x62, 0xf2, 0x7d, 0x48, 0xdc, 0xc0}, 6},
    {"max,-vpclmulqdq", {0x62, 0xf3, 0x7d, 0x48, 0x44, 0xc0, 0}, 7},
    {"max,-avx", {0xc4, 0xe2, 0x79, 0xdc, 0xc0}, 5}, /* vaesenc xmm */
};
#define UNDEFINED ((int)(sizeof undefined / sizeof *undefined))

static uint64_t run_undefined(int i) {
    uint64_t error;
    uint8_t code[12];
    memcpy(code, undefined[i].code, undefined[i].n);
    code[undefined[i].n] = 0xcc;
    return run(code, undefined[i].n + 1u, &error);
}

/* The host's own units must have what they execute. */
static bool host_has(int i) {
    struct cpu_model *model;
    char text[64], err[128];
    snprintf(text, sizeof text, "max,+%s", strrchr(undefined[i].off, '-') + 1);
    if (strncmp(undefined[i].off, "max,-", 5) ||
        cpu_model_parse(text, &model, err, sizeof err))
        return strncmp(undefined[i].off, "max,-", 5);
    cpu_model_free(model);
    return true;
}

START_TEST(an_instruction_is_undefined_without_its_feature) {
    begin(_i, "max");
    for (int i = 0; i < UNDEFINED; i++) {
        if (!host_has(i))
            continue;
        uint64_t vector = run_undefined(i);
        ck_assert_msg(vector == VEC_BP, "before %s: vector %lu", undefined[i].off,
                      vector);
    }
    guest_destroy(&g);
    for (int i = 0; i < UNDEFINED; i++) {
        begin(_i, undefined[i].off);
        uint64_t vector = run_undefined(i);
        ck_assert_msg(vector == VEC_UD, "%s: vector %lu", undefined[i].off, vector);
        guest_destroy(&g);
    }
}
END_TEST

/* Encodings that other processors, or later ones, give a meaning. With no such feature
 * they are NOPs, or what they were before it. */
static const struct {
    const char *name;
    uint8_t code[10], n;
    uint64_t vector;
} plain[] = {
    {"vprefetch0 [rbx], of an accelerator", {0xc5, 0xf8, 0x18, 0x0b}, 4, VEC_UD},
    {"vprefetchnta [rbx]", {0xc5, 0xf8, 0x18, 0x03}, 4, VEC_UD},
    {"VEX 0f 0d", {0xc5, 0xf8, 0x0d, 0x0b}, 4, VEC_UD},
    {"clevict0, of an accelerator", {0xc5, 0xfb, 0xae, 0x3b}, 4, VEC_UD},
    {"jkzd, of an accelerator", {0xc5, 0xf8, 0x84, 0, 0, 0, 0}, 7, VEC_UD},
    {"prefetcht0", {0x0f, 0x18, 0x0b}, 3, VEC_BP},
    {"prefetchw", {0x0f, 0x0d, 0x0b}, 3, VEC_BP},
    {"prefetchwt1", {0x0f, 0x0d, 0x13}, 3, VEC_BP},
    {"prefetchit0", {0x0f, 0x18, 0x3d, 0, 0, 0, 0}, 7, VEC_BP},
    {"bndmk", {0xf3, 0x0f, 0x1b, 0x03}, 4, VEC_BP},
    {"bndcl", {0xf3, 0x0f, 0x1a, 0xc0}, 4, VEC_BP},
    {"endbr64", {0xf3, 0x0f, 0x1e, 0xfa}, 4, VEC_BP},
    {"rdsspq", {0xf3, 0x48, 0x0f, 0x1e, 0xc8}, 5, VEC_BP},
    {"incsspd", {0xf3, 0x0f, 0xae, 0xe8}, 4, VEC_UD},
    {"wrssd", {0x0f, 0x38, 0xf6, 0x03}, 4, VEC_UD},
    {"setssbsy", {0xf3, 0x0f, 0x01, 0xe8}, 4, VEC_UD},
    {"cldemote", {0x0f, 0x1c, 0x03}, 3, VEC_BP},
    {"wbnoinvd", {0xf3, 0x0f, 0x09}, 3, VEC_BP},
    {"monitor", {0x0f, 0x01, 0xc8}, 3, VEC_UD},
    {"umonitor", {0xf3, 0x0f, 0xae, 0xf0}, 4, VEC_UD},
    {"xbegin", {0xc7, 0xf8, 0, 0, 0, 0}, 6, VEC_UD},
    {"vmread", {0x0f, 0x78, 0xc0}, 3, VEC_UD},
};
#define PLAIN ((int)(sizeof plain / sizeof *plain))

START_TEST(an_encoding_of_no_feature_is_what_it_was_before) {
    uint64_t error;
    begin(_i, "max");
    for (int i = 0; i < PLAIN; i++) {
        uint8_t code[12];
        memcpy(code, plain[i].code, plain[i].n);
        code[plain[i].n] = 0xcc;
        uint64_t vector = run(code, plain[i].n + 1u, &error);
        ck_assert_msg(vector == plain[i].vector, "%s: vector %lu", plain[i].name, vector);
    }
    guest_destroy(&g);
}
END_TEST

START_TEST(lzcnt_and_tzcnt_are_bsr_and_bsf_without_their_features) {
    uint64_t error;
    const uint8_t code[] = {0xbb, 0x00, 0x01, 0x00, 0x00, 0xf3, 0x0f,
                            0xbd, 0xc3, 0xf3, 0x0f, 0xbc, 0xcb, 0xcc}; /* EBX is 0x100 */
    begin(_i, "max,-abm,-bmi1");
    ck_assert_uint_eq(run(code, sizeof code, &error), VEC_BP);
    ck_assert_uint_eq(g.cpu->gpr[R_AX], 8);
    ck_assert_uint_eq(g.cpu->gpr[R_CX], 8);
    guest_destroy(&g);
}
END_TEST

/* CPUID tells of LAHF in 64-bit code alone (SDM volume 2, "LAHF"). */
START_TEST(lahf_needs_no_feature_outside_64_bit_code) {
    uint64_t error;
    begin(_i, "max,-lahf_lm");
    g.cpu->seg[SEG_CS].attr = 0xc09b; /* 32-bit code, compatibility mode */
    ck_assert_uint_eq(run((const uint8_t *)"\x9f\xcc", 2, &error), VEC_BP);
    guest_destroy(&g);
}
END_TEST

/* ---- Page-table entries ---- */

#define TABLE_AT 0x300000u

static const uint8_t read_rbx[] = {0x48, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x8b, 0x03, 0xcc};

/* Return: the vector that a read at gva ends with. */
static uint64_t read_at(uint64_t gva, uint64_t *error) {
    uint8_t code[sizeof read_rbx];
    memcpy(code, read_rbx, sizeof code);
    memcpy(code + 2, &gva, 8);
    return run(code, sizeof code, error);
}

START_TEST(a_1_gib_page_needs_its_feature) {
    uint64_t error, pdpte = 0x83;
    for (int off = 0; off < 2; off++) {
        begin(_i, off ? "max,-pdpe1gb" : "max");
        pn_mmu_write_phys(g.mmu, GUEST_CR3 + 0x1000 + 8, &pdpte, 8);
        uint64_t vector = read_at((UINT64_C(1) << 30) + DATA_AT, &error);
        ck_assert_uint_eq(vector, off ? VEC_PF : VEC_BP);
        ck_assert_uint_eq(error, off ? PN_PF_PRESENT | PN_PF_RSVD : 0);
        guest_destroy(&g);
    }
}
END_TEST

START_TEST(the_pat_bit_needs_its_feature) {
    uint64_t error;
    for (int off = 0; off < 2; off++) {
        begin(_i, off ? "max,-pat" : "max");
        guest_gpte(&g, GUEST_BASE + DATA_AT, DATA_AT | 0x80 | 0x67);
        uint64_t vector = read_at(GUEST_BASE + DATA_AT, &error);
        ck_assert_uint_eq(vector, off ? VEC_PF : VEC_BP);
        ck_assert_uint_eq(error, off ? PN_PF_PRESENT | PN_PF_RSVD : 0);
        guest_destroy(&g);
    }
}
END_TEST

SUITE("features", .timeout = 120,
      .loops = {{an_instruction_is_undefined_without_its_feature, OPTIONS},
                {an_encoding_of_no_feature_is_what_it_was_before, OPTIONS},
                {lzcnt_and_tzcnt_are_bsr_and_bsf_without_their_features, OPTIONS},
                {lahf_needs_no_feature_outside_64_bit_code, OPTIONS},
                {a_1_gib_page_needs_its_feature, OPTIONS},
                {the_pat_bit_needs_its_feature, OPTIONS}})
