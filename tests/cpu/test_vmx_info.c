/* SPDX-License-Identifier: MIT */
/*
 * VMX: the instruction-information field and the qualification of each instruction with an operand
 * in memory, or registers of its own. Every row of it in src/cpu/vmx_words.inc is seen, under both
 * MMUs; the places of the bits are the manual's, once more.
 */
#include "fixture_vmxl2.h"
#include "tests/suite.h"

/* An instruction: its prefixes and opcode, the opcode's extension, and what of it exits. */
struct form {
    uint8_t prefix, opcode[4], size;
    uint8_t extension; /* of ModRM; 8: a register is named there */
    uint8_t reason, word, which;
    uint8_t registers; /* it can have a register in the place of memory */
};

static const struct form forms[] = {
    {0x66, {0x0f, 0xc7}, 2, 6, 19, W_INFO_MEMORY, 0, 0},           /* VMCLEAR */
    {0x00, {0x0f, 0xc7}, 2, 6, 21, W_INFO_MEMORY, 0, 0},           /* VMPTRLD */
    {0x00, {0x0f, 0xc7}, 2, 7, 22, W_INFO_MEMORY, 0, 0},           /* VMPTRST */
    {0xf3, {0x0f, 0xc7}, 2, 6, 27, W_INFO_MEMORY, 0, 0},           /* VMXON */
    {0x66, {0x0f, 0x38, 0x80}, 3, 8, 50, W_INFO_INVALIDATE, 0, 0}, /* INVEPT */
    {0x66, {0x0f, 0x38, 0x81}, 3, 8, 53, W_INFO_INVALIDATE, 0, 0}, /* INVVPID */
    {0x66, {0x0f, 0x38, 0x82}, 3, 8, 58, W_INFO_INVALIDATE, 0, 0}, /* INVPCID */
    {0x00, {0x0f, 0x01}, 2, 0, 46, W_INFO_TABLE, 0, 0},            /* SGDT */
    {0x00, {0x0f, 0x01}, 2, 1, 46, W_INFO_TABLE, 1, 0},            /* SIDT */
    {0x00, {0x0f, 0x01}, 2, 2, 46, W_INFO_TABLE, 2, 0},            /* LGDT */
    {0x00, {0x0f, 0x01}, 2, 3, 46, W_INFO_TABLE, 3, 0},            /* LIDT */
    {0x00, {0x0f, 0x00}, 2, 0, 47, W_INFO_SYSTEM, 0, 1},           /* SLDT */
    {0x00, {0x0f, 0x00}, 2, 1, 47, W_INFO_SYSTEM, 1, 1},           /* STR */
    {0x00, {0x0f, 0x00}, 2, 2, 47, W_INFO_SYSTEM, 2, 1},           /* LLDT */
    {0x00, {0x0f, 0x00}, 2, 3, 47, W_INFO_SYSTEM, 3, 1},           /* LTR */
    {0x00, {0x0f, 0x78}, 2, 8, 23, W_INFO_FIELD, 0, 1},            /* VMREAD */
    {0x00, {0x0f, 0x79}, 2, 8, 25, W_INFO_FIELD, 0, 1},            /* VMWRITE */
};
#define FORMS (sizeof forms / sizeof forms[0])

/* An operand. base, index: 16: none; seg: 6: without a prefix. */
struct place {
    unsigned base, index, scale, seg, reg;
    bool narrow; /* addresses of 32 bits, in 64-bit code */
    int32_t disp;
};

static const uint8_t overrides[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

static void fresh(bool narrow) {
    if (narrow)
        v2_narrow();
    else
        v2_fresh();
    v2_set(VMCS_PROC_CONTROLS, 1u << 9);
    v2_set(VMCS_PROC2_CONTROLS, 1u << 2 | 1u << 11 | 1u << 16);
}

static void put_prefixes(const struct form *f, const struct place *p, unsigned rex) {
    if (p->seg < 6)
        v2_code(&overrides[p->seg], 1);
    if (p->narrow)
        V2_CODE(0x67);
    if (f->prefix)
        v2_code(&f->prefix, 1);
    if (rex)
        V2_CODE((uint8_t)(0x40 | rex));
    v2_code(f->opcode, f->size);
}

static void put_memory(const struct form *f, const struct place *p) {
    unsigned reg = f->extension < 8 ? f->extension : p->reg;
    unsigned base = p->base < 16 ? p->base : 5, index = p->index < 16 ? p->index : 4;
    put_prefixes(f, p, (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3);
    V2_CODE((uint8_t)((p->base < 16 ? 0x80 : 0) | (reg & 7) << 3 | 4),
            (uint8_t)(p->scale << 6 | (index & 7) << 3 | (base & 7)));
    v2_code(&p->disp, 4);
}

static bool names_two(const struct form *f) {
    return f->word == W_INFO_INVALIDATE || f->word == W_INFO_FIELD;
}

/* size: of an address: 0, 1, 2: 16, 32, 64 bits. */
static uint64_t info_of(const struct form *f, const struct place *p, unsigned size,
                        unsigned seg) {
    uint64_t info = (p->index < 16 ? p->scale | p->index << 18 : p->scale | 1u << 22) |
                    (p->base < 16 ? p->base << 23 : 1u << 27) | size << 7 | seg << 15;
    info |= (uint64_t)f->which << 28;
    info |= names_two(f) ? (uint64_t)p->reg << 28 : 0;
    return info | (f->word == W_INFO_TABLE ? 1u << 11 : 0);
}

static void says(const struct form *f, uint64_t info, int32_t disp) {
    v2_run(f->reason);
    v2_says(f->word, info);
    v2_says(W_DISPLACEMENT, (uint64_t)(int64_t)disp);
    v2_says(W_EVENT, 0);
    v2_says(W_VECTORING, 0);
}

/* Each base, index, scale and register in 64-bit code. */
static void wide_operands(const struct form *f) {
    for (unsigned k = 0; k < 17; k++) {
        struct place p = {.base = k,
                          .index = k == 3 ? 16 : (k + 1) % 16,
                          .scale = k == 3 ? 0 : k % 4,
                          .seg = k % 5 == 4 ? 4 + k / 5 % 2 : 6,
                          .reg = (k * 5 + 1) % 16,
                          .narrow = k % 3 == 0,
                          .disp = k & 1 ? 0x2aaaaaaa : -0x2aaaaaab};
        unsigned seg = p.seg < 6 ? p.seg : p.base == 4 || p.base == 5 ? 2 : 3;
        fresh(false);
        put_memory(f, &p);
        says(f, info_of(f, &p, p.narrow ? 1 : 2, seg), p.disp);
    }
}

/* Each segment in 32-bit code, and addresses of 16 bits there: [bx + si - 2]. */
static void narrow_operands(const struct form *f) {
    for (unsigned k = 0; k < 6; k++) {
        struct place p = {.base = 3, .index = 6, .seg = k, .reg = k, .disp = -2};
        unsigned reg = f->extension < 8 ? f->extension : p.reg;
        fresh(true);
        p.narrow = true;
        put_prefixes(f, &p, 0);
        V2_CODE((uint8_t)(0x40 | reg << 3), 0xfe);
        says(f, info_of(f, &p, 0, k), -2);
    }
}

/* A register in the place of memory: each of them. */
static void register_operands(const struct form *f) {
    for (unsigned k = 0; k < 16 && f->registers; k++) {
        struct place p = {.seg = 6, .reg = 15 - k};
        unsigned reg = f->extension < 8 ? f->extension : p.reg;
        fresh(false);
        put_prefixes(f, &p, (reg >> 3) << 2 | k >> 3);
        V2_CODE((uint8_t)(0xc0 | (reg & 7) << 3 | (k & 7)));
        says(f,
             1u << 10 | k << 3 | (uint64_t)f->which << 28 |
                 (names_two(f) ? (uint64_t)p.reg << 28 : 0),
             0);
    }
}

/* In 32-bit code the width of the operand is told of the tables' instructions. */
static void narrow_tables(void) {
    fresh(true);
    V2_CODE(0x66, 0x0f, 0x01, 0x10); /* lgdt [eax], of 16 bits */
    v2_run(46);
    v2_says(W_INFO_TABLE, 1u << 7 | 3u << 15 | 1u << 22 | 2u << 28);
}

/* RDRAND and RDSEED: each register, and each width. */
static void random_numbers(void) {
    for (unsigned i = 0; i < 96; i++) {
        unsigned reg = i % 16, size = i / 16 % 3, seed = i / 48;
        fresh(false);
        if (!cpu_has(v2.cpu, seed ? CPU_F_rdseed : CPU_F_rdrand))
            continue; /* its exit is the other's */
        if (size == 0)
            V2_CODE(0x66);
        V2_CODE((uint8_t)(0x40 | (size == 2) << 3 | reg >> 3), 0x0f, 0xc7,
                (uint8_t)(0xf0 | seed << 3 | (reg & 7)));
        v2_run(seed ? 61 : 57);
        v2_says(W_INFO_RANDOM, reg << 3 | size << 11);
        v2_says(W_CLEAR, 0);
    }
}

/* INS and OUTS: each segment of OUTS, each width of an address. */
static void strings(void) {
    for (unsigned i = 0; i < 24; i++) {
        unsigned seg = i % 6, in = i / 6 % 2, narrow = i / 12;
        bool wide = !narrow && (seg > 3 || i % 5);
        fresh(narrow);
        v2_set(VMCS_PROC_CONTROLS, 1u << 24);
        v2.cpu->gpr[R_SI] = v2.cpu->gpr[R_DI] = 0x4321;
        v2_put(VMCS_GUEST_FS_BASE, 0x10000);
        if (narrow || seg > 3)
            v2_code(&overrides[seg], 1);
        if (!wide && seg & 1)
            V2_CODE(0x67);
        unsigned size = wide ? 2 : narrow ? !(seg & 1) : seg & 1 ? 1 : 2;
        V2_CODE(in ? 0x6d : 0x6f);
        v2_run(30);
        unsigned of = in ? 0 : narrow || seg > 3 ? seg : 3;
        v2_says(W_INFO_IO, size << 7 | of << 15);
        ck_assert_uint_eq(v2_get(VMCS_GUEST_LINEAR), of == 4 ? 0x14321 : 0x4321);
    }
}

START_TEST(each_bit_of_what_is_said_of_operands_is_seen) {
    v2_create(V2_KIND(_i));
    for (unsigned i = 0; i < FORMS; i++) {
        wide_operands(&forms[i]);
        narrow_operands(&forms[i]);
        register_operands(&forms[i]);
    }
    narrow_tables();
    random_numbers();
    strings();
    v2_all_seen(W_DISPLACEMENT, WORDS - 1);
    v2_destroy();
}
END_TEST

SUITE("vmx info", .loops = {{each_bit_of_what_is_said_of_operands_is_seen, 2}})
