/* SPDX-License-Identifier: MIT */
/*
 * Decoded instructions as the translator sees them: struct insn for helpers and memory
 * operands, the encoding's fields, and the shape: what Zydis knows about this encoding.
 * Shapes are remembered, so that Zydis sees each encoding once and not each instruction.
 */
#pragma once

#include "cpu/insn.h"

struct decoder;

/* How an instruction is lowered. */
enum shape_class {
    CLS_UD,     /* undefined, or not in the CPU model */
    CLS_HELPER, /* through in.fn */
    CLS_PLAIN,  /* re-encoded; what follows is re-encoded with a twist */
    CLS_LEA,
    CLS_NOP,
    CLS_MOFFS,    /* mov between the accumulator and an absolute address */
    CLS_ACC_IMM,  /* op accumulator, imm: becomes group 1 (or TEST of group 3) */
    CLS_XCHG_ACC, /* xchg accumulator, reg */
    CLS_INCDEC,   /* 40..4f outside 64-bit mode */
    CLS_BT_MEM,   /* bit string in memory, offset in a register */
    CLS_DIR,      /* CLD, STD */
    CLS_VZERO,    /* VZEROUPPER, VZEROALL outside 64-bit mode: eight registers */
    CLS_PUSH,     /* from here on: of 64-bit mode, and flat 32-bit code */
    CLS_POP,
    CLS_LEAVE,
    CLS_JMP,
    CLS_CALL,
    CLS_RET,
    CLS_JCC,
    CLS_LOOP,
    CLS_JCXZ,
    CLS_COUNT
};

/* What an operand field of the encoding holds. */
enum { K_NONE, K_GPR, K_OTHER };

struct role {
    uint8_t kind, size, acc; /* size in bytes; acc: ACC_* */
};
#define ACC_R 1u
#define ACC_W 2u

#define SH_VEC      0x0001u /* touches x87, MMX, SSE, AVX or AVX-512 state */
#define SH_RAX      0x0002u /* RAX is an implicit operand */
#define SH_RAX_W    0x0004u
#define SH_ALIGN    0x0008u /* a memory operand must be aligned to its size */
#define SH_FAULT    0x0010u /* may fault on the host: #DE, #XM, #MF, alignment */
#define SH_SHIFT    0x0020u /* no flags change when the masked count is 0 */
#define SH_NOMEMO   0x0040u /* depends on more than the key */
#define SH_MEM      0x0080u /* has a memory operand that is accessed */
#define SH_NEED387  0x0100u /* x87 */
#define SH_NEEDMMX  0x0200u
#define SH_NEEDSSE  0x0400u
#define SH_NEEDAVX  0x0800u
#define SH_NEEDEVEX 0x4000u /* AVX-512 state */
#define SH_NEEDFP   0x4f00u
#define SH_WAITS    0x1000u  /* takes a pending x87 exception */
#define SH_NOTED    0x2000u  /* x87, and no control instruction: FIP names it */
#define SH_W0       0x20000u /* outside 64-bit code its W means nothing */
#define SH_IS4      0x10000u /* the immediate names a register; in 32-bit code one of eight */
#define SH_ENDBR    0x8000u /* ENDBR64 in 64-bit code, else ENDBR32 */

/* Which bytes of a memory operand an AVX-512 mask chooses: `from` elements of `size` bytes,
 * of which element i goes to the elements i, i + from, i + 2 from ... of `count`. packed: the
 * first ones, as many as the mask has bits (VPCOMPRESSD, VPEXPANDD). k is 0 without a mask,
 * and where all is accessed whatever the mask. */
struct masked {
    uint8_t k, size, count, from, packed;
};

struct shape {
    uint32_t key;
    uint16_t mnemonic;
    uint8_t cls;
    uint8_t imm_len; /* all immediate bytes */
    uint32_t flags;  /* SH_* */
    uint16_t fin;    /* status flags read */
    uint16_t fout;   /* status flags written, undefined ones included */
    uint16_t fdef;   /* of these, a function of the operands alone */
    uint8_t opsize;  /* bytes */
    uint8_t mem_size, mem_acc;
    uint8_t mand; /* mandatory prefix: 0, 0x66, 0xf2, 0xf3 */
    uint8_t p66;  /* 66 to be emitted for a 16-bit operand */
    struct role reg, rm, vvvv;
    uint16_t implicit_writes; /* guest registers written without a field, by bit */
    enum cpu_rc (*fn)(struct cpu *, const struct insn *);
    uint16_t helper_flags;
    struct masked masked;
    uint8_t disp_n; /* EVEX: what an 8-bit displacement counts */
    uint8_t flow;   /* CLS_PUSH .. CLS_JCXZ: what a helper does that flat 32-bit code need
                     not call; else 0 */
};

struct dec {
    struct insn in;
    const struct shape *sh;
    uint64_t imm_raw; /* immediate bytes as they stand */
    uint8_t vex, map, has_modrm, mod, reg, rm, vvvv, w, l, pp;
    /* EVEX, which has vex set, too: register fields have five bits. */
    uint8_t evex, z, b, aaa;
    uint8_t has_vvvv; /* VEX.vvvv is not 1111b, all four bits of it */
    uint8_t rex;      /* a REX prefix was there */
    uint8_t p66, rep, lock, p67;
    uint8_t seg_given; /* an override prefix, or INSN_NOREG */
    struct shape own;  /* with SH_NOMEMO: what sh points to */
};

enum decode_rc {
    DECODE_OK,
    DECODE_MORE,    /* the bytes end before the instruction */
    DECODE_TOO_LONG /* more than 15 bytes: #GP */
};

/* A decoder for CPUs of this model. Return: NULL when out of memory. */
struct decoder *decoder_create(const struct cpu_model *model);
void decoder_destroy(struct decoder *d);

/* Forget shapes if there are many; shapes that struct decs point to die. */
void decoder_trim(struct decoder *d);

/* Decode at p (avail bytes) an instruction at rip under mode. An undefined instruction is
 * DECODE_OK with CLS_UD. */
enum decode_rc decode(struct decoder *dc, const uint8_t *p, unsigned avail, uint64_t rip,
                      uint32_t mode, struct dec *d);
