/* SPDX-License-Identifier: MIT */
/*
 * One decoded instruction, as the C helpers see it. Filled by decode.c (the only file
 * that includes Zydis besides the encoder), kept with the block for the helpers it calls.
 */
#pragma once

#include <stdint.h>

#include "cpu/cpu.h"

/* Where an operand is. Memory: there is at most one (base, index, scale, disp, seg). */
enum operand_kind { OP_NONE, OP_REG, OP_REG_HIGH, OP_MEM, OP_IMM, OP_SREG, OP_CR, OP_DR };

struct operand {
    uint8_t kind;
    uint8_t reg;  /* OP_REG: 0..15; OP_REG_HIGH: 0..3 for AH CH DH BH; OP_SREG: SEG_*; CR,
                     DR */
    uint8_t size; /* bytes */
    uint8_t pad;
};

#define INSN_NOREG 0xff

struct insn {
    enum cpu_rc (*fn)(struct cpu *,
                      const struct insn *); /* the helper; NULL: translated */
    uint64_t rip;  /* of this instruction (offset in CS, not linear) */
    int64_t disp;  /* of the memory operand; a RIP-relative one is resolved, base NOREG */
    uint64_t imm;  /* sign-extended as the instruction says; rel branches: target rip;
                      far pointers: offset */
    uint16_t imm2; /* far selector; ENTER level */
    uint16_t mnemonic; /* Zydis's, for dumps */
    uint8_t len;
    uint8_t opsize;   /* effective operand size: 2, 4, 8 (1 for byte forms) */
    uint8_t addrsize; /* 2, 4, 8 */
    uint8_t rep;      /* 0, 0xf2, 0xf3 */
    uint8_t lock;
    uint8_t notrack; /* a prefix 3E */
    uint8_t opcode;  /* last opcode byte */
    uint8_t seg;     /* effective segment of the memory operand or string source */
    uint8_t base, index, scale; /* INSN_NOREG when absent */
    uint8_t op_count;
    uint8_t ends_block;   /* the helper's HF_END */
    uint8_t own;          /* and its HF_OWN */
    uint16_t arg;         /* the helper's HF_ARG */
    struct operand op[4]; /* explicit operands, Intel order */
};

/* Operand access for helpers; sizes 1, 2, 4, 8. reg writes of 4 bytes zero-extend.
 * cpu_op_read, cpu_op_write go to memory with the current privilege. */
enum cpu_rc cpu_op_read(struct cpu *cpu, const struct insn *in, unsigned i,
                        uint64_t *value);
enum cpu_rc cpu_op_write(struct cpu *cpu, const struct insn *in, unsigned i,
                         uint64_t value);

/*
 * Every instruction that a helper runs: OP(Zydis mnemonic suffix, function, flags).
 * The list is helpers.inc; flags: HF_END the block ends after it (anything that may
 * change mode, TLB, interrupt flag, clock, or jumps); HF_64 only in 64-bit mode, HF_N64
 * only outside it is a helper (elsewhere translated); HF_OWN it reads and writes nothing but its
 * vCPU's own state, and memory by the calls of mem.c and bulk_page alone (turn.h); HF_ARG(n): n is in->arg, which tells
 * one function's instructions apart.
 */
#define HF_END       1u
#define HF_64        2u
#define HF_N64       4u
#define HF_OWN       8u
#define HF_ARG_SHIFT 4
#define HF_ARG(n)    ((n) << HF_ARG_SHIFT)

/*
 * OPF(mnemonic, form, function, flags): a helper for one form of a mnemonic, whatever the
 * mode, before OP is looked at. form: SREG (an operand is OP_SREG), CR, DR, STR (a string
 * instruction, not the SSE one of the same name), or FAR (a far
 * branch: ptr16, m16, or RETF).
 */
#define OP(mnemonic, function, flags)                                                    \
    enum cpu_rc function(struct cpu *cpu, const struct insn *in);
#define OPF(mnemonic, form, function, flags)                                             \
    enum cpu_rc function(struct cpu *cpu, const struct insn *in);
#include "cpu/helpers.inc"
