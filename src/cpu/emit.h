/* SPDX-License-Identifier: MIT */
/*
 * Host code, byte by byte: the few instructions that the translator itself needs, and the
 * re-encoding of a guest instruction with other registers and another memory operand.
 *
 * No bounds check per byte: the caller guarantees room for a whole block beforehand.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Host registers by number. */
enum { H_AX, H_CX, H_DX, H_BX, H_SP, H_BP, H_SI, H_DI };
enum { H_R8 = 8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15 };

struct emit {
    uint8_t *p;
};

static inline void e8(struct emit *e, unsigned v) {
    *e->p++ = (uint8_t)v;
}
static inline void e32(struct emit *e, uint32_t v) {
    memcpy(e->p, &v, 4), e->p += 4;
}
static inline void e64(struct emit *e, uint64_t v) {
    memcpy(e->p, &v, 8), e->p += 8;
}

/* A signed immediate or displacement, in a byte if it is small. */
static inline void e_imm(struct emit *e, bool small, int32_t v) {
    if (small)
        e8(e, (uint8_t)v);
    else
        e32(e, (uint32_t)v);
}

/* ModRM, the SIB byte (if it is not -1) and the displacement for [base + disp]. */
static inline void e_modrm(struct emit *e, unsigned reg, unsigned base, int sib,
                           int32_t disp) {
    unsigned mod = disp == (int8_t)disp ? 1 : 2;
    if (!disp && (base & 7) != H_BP)
        mod = 0;
    e8(e, mod << 6 | (reg & 7) << 3 | (sib < 0 ? base & 7 : H_SP));
    if (sib >= 0)
        e8(e, (unsigned)sib);
    if (mod)
        e_imm(e, mod == 1, disp);
}
static inline void e_mem(struct emit *e, unsigned reg, unsigned base, int32_t disp) {
    e_modrm(e, reg, base, (base & 7) == H_SP ? 0x24 : -1, disp);
}

static inline void e_rex_index(struct emit *e, bool w, unsigned reg, unsigned index,
                               unsigned base) {
    unsigned rex = 0x40 | w << 3 | (reg & 8) >> 1 | (index & 8) >> 2 | base >> 3;
    if (rex != 0x40)
        e8(e, rex);
}
static inline void e_rex(struct emit *e, bool w, unsigned reg, unsigned rm) {
    e_rex_index(e, w, reg, 0, rm);
}

/* op reg, rm with one opcode byte; w: 64 bits, else 32. reg may be an opcode extension. */
static inline void e_rr(struct emit *e, bool w, unsigned op, unsigned reg, unsigned rm) {
    e_rex(e, w, reg, rm);
    e8(e, op);
    e8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}
static inline void e_rm(struct emit *e, bool w, unsigned op, unsigned reg, unsigned base,
                        int32_t disp) {
    e_rex(e, w, reg, base);
    e8(e, op);
    e_mem(e, reg, base, disp);
}

/* [rsp + index + disp32] */
static inline void e_rm_index(struct emit *e, bool w, unsigned op, unsigned reg,
                              unsigned index, int32_t disp) {
    e_rex_index(e, w, reg, index, 0);
    e8(e, op);
    e8(e, 0x84 | (reg & 7) << 3);
    e8(e, (index & 7) << 3 | H_SP);
    e32(e, (uint32_t)disp);
}

#define OP_LOAD   0x8bu /* mov reg, rm */
#define OP_STORE  0x89u /* mov rm, reg */
#define OP_LOAD8  0x8au
#define OP_STORE8 0x88u
#define OP_ADD    0x03u /* reg, rm */
#define OP_OR     0x0bu
#define OP_AND    0x23u
#define OP_SUB    0x2bu
#define OP_XOR    0x33u
#define OP_CMP    0x3bu
#define OP_TEST   0x85u
#define OP_LEA    0x8du

/* 0f op reg, rm */
static inline void e_rr2(struct emit *e, bool w, unsigned op, unsigned reg, unsigned rm) {
    e_rex(e, w, reg, rm);
    e8(e, 0x0f);
    e8(e, op);
    e8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}
static inline void e_rm2(struct emit *e, unsigned op, unsigned reg, unsigned base,
                         int32_t disp) {
    e_rex(e, false, reg, base);
    e8(e, 0x0f);
    e8(e, op);
    e_mem(e, reg, base, disp);
}

#define OP2_MOVZX8  0xb6u
#define OP2_MOVZX16 0xb7u
#define OP2_MOVSX16 0xbfu

/* The next instruction has 16-bit operands. */
static inline void e_word(struct emit *e) {
    e8(e, 0x66);
}

enum { INDIRECT_CALL = 2, INDIRECT_JMP = 4 };
#define OP_INDIRECT 0xffu /* the extensions above */

static inline void e_mov(struct emit *e, unsigned to, unsigned from) {
    if (to != from)
        e_rr(e, true, OP_LOAD, to, from);
}
static inline void e_mov32(struct emit *e, unsigned to, unsigned from) {
    e_rr(e, false, OP_LOAD, to, from);
}

/* The shortest mov of a constant; leaves flags alone. */
static inline void e_const(struct emit *e, unsigned to, uint64_t v) {
    if (v <= UINT32_MAX) {
        e_rex(e, false, 0, to);
        e8(e, 0xb8 | (to & 7));
        e32(e, (uint32_t)v);
    } else if ((int64_t)v == (int32_t)v) {
        e_rex(e, true, 0, to);
        e8(e, 0xc7);
        e8(e, 0xc0 | (to & 7));
        e32(e, (uint32_t)v);
    } else {
        e_rex(e, true, 0, to);
        e8(e, 0xb8 | (to & 7));
        e64(e, v);
    }
}

/* Arithmetic with an immediate. */
enum alu { ALU_ADD = 0, ALU_OR = 1, ALU_AND = 4, ALU_SUB = 5, ALU_CMP = 7 };
static inline void e_alu(struct emit *e, bool w, enum alu op, unsigned rm, int32_t imm) {
    bool small = imm == (int8_t)imm;
    e_rr(e, w, small ? 0x83 : 0x81, op, rm);
    e_imm(e, small, imm);
}
static inline void e_alu_mem(struct emit *e, bool w, enum alu op, unsigned base,
                             int32_t disp, int32_t imm) {
    bool small = imm == (int8_t)imm;
    e_rm(e, w, small ? 0x83 : 0x81, op, base, disp);
    e_imm(e, small, imm);
}
/* cmp byte [base + disp], imm */
static inline void e_cmp8(struct emit *e, unsigned base, int32_t disp, unsigned imm) {
    e_rm(e, false, 0x80, ALU_CMP, base, disp);
    e8(e, imm);
}
/* test dword [base + disp], imm */
static inline void e_test(struct emit *e, unsigned base, int32_t disp, uint32_t imm) {
    e_rm(e, false, 0xf7, 0, base, disp);
    e32(e, imm);
}

enum shift { SHIFT_SHL = 4, SHIFT_SHR = 5, SHIFT_SAR = 7 };
static inline void e_shift(struct emit *e, bool w, enum shift op, unsigned rm,
                           unsigned count) {
    e_rr(e, w, 0xc1, op, rm);
    e8(e, count);
}

/* lea to, [base + index * scale + disp]; index: a register but RSP, or -1. */
static inline void e_lea(struct emit *e, bool w, unsigned to, unsigned base, int index,
                         unsigned scale, int32_t disp) {
    if (index < 0) {
        e_rm(e, w, OP_LEA, to, base, disp);
        return;
    }
    e_rex_index(e, w, to, (unsigned)index, base);
    e8(e, OP_LEA);
    e_modrm(e, to, base, __builtin_ctz(scale) << 6 | (index & 7) << 3 | (int)(base & 7),
            disp);
}
/* lea to, [index * scale + disp32] */
static inline void e_lea_index(struct emit *e, bool w, unsigned to, unsigned index,
                               unsigned scale, int32_t disp) {
    e_rex_index(e, w, to, index, 0);
    e8(e, OP_LEA);
    e8(e, (to & 7) << 3 | 4);
    e8(e, (unsigned)__builtin_ctz(scale) << 6 | (index & 7) << 3 | 5);
    e32(e, (uint32_t)disp);
}

/* Jumps: the rel32 is written later by e_link (or now, when the target is known). */
static inline uint8_t *e_jcc(struct emit *e, unsigned cc) {
    e8(e, 0x0f);
    e8(e, 0x80 | cc);
    e->p += 4;
    return e->p - 4;
}
static inline uint8_t *e_jmp(struct emit *e) {
    e8(e, 0xe9);
    e->p += 4;
    return e->p - 4;
}
static inline void e_link(uint8_t *rel32, const uint8_t *target) {
    int32_t rel = (int32_t)(target - (rel32 + 4));
    memcpy(rel32, &rel, 4);
}
static inline void e_jmp_to(struct emit *e, const uint8_t *target) {
    e_link(e_jmp(e), target);
}

enum { CC_B = 2, CC_NB, CC_Z, CC_NZ, CC_BE, CC_NBE, CC_S, CC_NS };

/* A guest instruction on its way into host code. */
struct enc {
    uint8_t vex;             /* VEX- or EVEX-encoded; else legacy */
    uint8_t evex, z, b, aaa; /* EVEX and its own fields; memory has no displacement */
    uint8_t p66, rep, lock;  /* prefixes to emit; rep: 0, 0xf2, 0xf3 */
    uint8_t w, l, pp;        /* REX.W or VEX.W; VEX.L or EVEX.L'L, VEX.pp */
    uint8_t map, opcode;     /* 0: one byte, 1: 0f, 2: 0f38, 3: 0f3a */
    uint8_t has_modrm;
    uint8_t rex;       /* a REX byte is needed for SPL, BPL, SIL, DIL */
    uint8_t reg, vvvv; /* host registers */
    uint8_t rm_mem;    /* rm is the base of [rm + disp] */
    uint8_t rm;
    uint8_t imm_len;
    int32_t disp;
    uint64_t imm; /* raw bytes */
};

/* emit.c: encode n. */
void e_insn(struct emit *e, const struct enc *n);
