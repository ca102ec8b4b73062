/* SPDX-License-Identifier: MIT */
/*
 * The stack instructions of 16- and 32-bit code (in 64-bit mode the translator has its
 * own for most), and what exists only there: decimal adjustment, BOUND, SALC; and XLAT.
 *
 * Invariant: registers change only after the last access that may fault, but for POPA's
 * (RULE_popa_whole).
 */
#include "cpu/bulk.h"
#include "cpu/control.h"

/* Write a register with an operand size of 2, 4 or 8. */
static void put_reg(struct cpu *cpu, unsigned reg, unsigned size, uint64_t v) {
    if (size == 2)
        cpu->gpr[reg] = (cpu->gpr[reg] & ~UINT64_C(0xffff)) | (uint16_t)v;
    else
        cpu->gpr[reg] = size == 4 ? (uint32_t)v : v;
}

/* PUSH and friends: 64-bit code has no 32-bit form. */
static unsigned stack_size(const struct cpu *cpu, const struct insn *in) {
    return mode_64(cpu) && in->opsize == 4 ? 8 : in->opsize;
}

/* ---- PUSH, POP ---- */

enum cpu_rc op_push(struct cpu *cpu, const struct insn *in) {
    uint64_t v;
    if (cpu_op_read(cpu, in, 0, &v))
        return CPU_FAULT;
    return stack_push_one(cpu, v, stack_size(cpu, in));
}

enum cpu_rc op_pop(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    uint64_t v, old = cpu->gpr[R_SP];
    stack_here(cpu, &st);
    if (stack_pop(cpu, &st, stack_size(cpu, in), &v))
        return CPU_FAULT;
    /* The destination's address, or the destination itself, may be the stack pointer:
     * both come after the increment. */
    stack_commit(cpu, &st);
    if (cpu_op_write(cpu, in, 0, v)) {
        cpu->gpr[R_SP] = old;
        return CPU_FAULT;
    }
    return CPU_NEXT;
}

enum cpu_rc op_pusha(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    stack_here(cpu, &st);
    for (unsigned r = R_AX; r <= R_DI; r++)
        if (stack_push(cpu, &st, cpu->gpr[r], in->opsize))
            return CPU_FAULT;
    stack_commit(cpu, &st);
    return CPU_NEXT;
}

enum cpu_rc op_popa(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    uint64_t v[8];
    stack_here(cpu, &st);
    bool whole = cpu_follows(cpu, RULE_popa_whole);
    unsigned left = 8;
    while (left && !stack_pop(cpu, &st, in->opsize, &v[left - 1]))
        left--;
    for (unsigned r = whole && left ? 8 : left; r < 8; r++)
        if (r != R_SP)
            put_reg(cpu, r, in->opsize, v[r]);
    if (left)
        return CPU_FAULT;
    stack_commit(cpu, &st);
    return CPU_NEXT;
}

/* ---- ENTER, LEAVE ---- */

/* The frame pointers of the enclosing levels, copied from the frame at BP. */
static enum cpu_rc copy_display(struct cpu *cpu, struct stack *st, unsigned level,
                                unsigned size) {
    struct stack frame = *st;
    uint64_t v;
    frame.sp = cpu->gpr[R_BP];
    for (unsigned i = 1; i < level; i++) {
        frame.sp -= size;
        if (stack_pop(cpu, &frame, size, &v) || stack_push(cpu, st, v, size))
            return CPU_FAULT;
        frame.sp -= size;
    }
    return CPU_NEXT;
}

enum cpu_rc op_enter(struct cpu *cpu, const struct insn *in) {
    unsigned size = stack_size(cpu, in), level = in->imm2 & 31;
    struct stack st;
    pn_gva lin;
    stack_here(cpu, &st);
    if (stack_push(cpu, &st, cpu->gpr[R_BP], size))
        return CPU_FAULT;
    uint64_t frame = st.sp;
    if (level &&
        (copy_display(cpu, &st, level, size) || stack_push(cpu, &st, frame, size)))
        return CPU_FAULT;
    st.sp -= (uint16_t)in->imm;
    /* A write at the new top of stack would have to succeed. */
    if (cpu_lin(cpu, SEG_SS, st.sp & st.mask, size, PN_WRITE, &lin) ||
        bulk_probe_write(cpu, lin, size))
        return CPU_FAULT;
    put_reg(cpu, R_BP, size, frame);
    stack_commit(cpu, &st);
    return CPU_NEXT;
}

enum cpu_rc op_leave(struct cpu *cpu, const struct insn *in) {
    unsigned size = stack_size(cpu, in);
    struct stack st;
    uint64_t v;
    stack_here(cpu, &st);
    st.sp = cpu->gpr[R_BP];
    if (stack_pop(cpu, &st, size, &v))
        return CPU_FAULT;
    stack_commit(cpu, &st);
    put_reg(cpu, R_BP, size, v);
    return CPU_NEXT;
}

/* ---- BOUND, XLAT ---- */

/* The bounds are two operands: each is aligned for itself (tests/diff). */
enum cpu_rc op_bound(struct cpu *cpu, const struct insn *in) {
    unsigned size = in->opsize;
    uint64_t at = operand_offset(cpu, in);
    int32_t pair[2] = {0, 0}, index = (int32_t)cpu->gpr[in->op[0].reg];
    if (seg_read(cpu, in->seg, at, &pair[0], size) ||
        seg_read(cpu, in->seg, (at + size) & addr_mask(in->addrsize), &pair[1], size))
        return CPU_FAULT;
    if (size == 2)
        pair[0] = (int16_t)pair[0], pair[1] = (int16_t)pair[1], index = (int16_t)index;
    return index < pair[0] || index > pair[1] ? cpu_raise(cpu, VEC_BR) : CPU_NEXT;
}

enum cpu_rc op_xlat(struct cpu *cpu, const struct insn *in) {
    uint8_t v;
    uint64_t at = (cpu->gpr[R_BX] + (uint8_t)cpu->gpr[R_AX]) & addr_mask(in->addrsize);
    if (seg_read(cpu, in->seg, at, &v, 1))
        return CPU_FAULT;
    memcpy(&cpu->gpr[R_AX], &v, 1);
    return CPU_NEXT;
}

/* ---- Decimal adjustment (SDM volume 2, the Operation sections) ---- */

static uint64_t szp(uint8_t v) {
    return (v & FL_SF) | (v ? 0 : FL_ZF) | (__builtin_parity(v) ? 0 : FL_PF);
}

static void put_al(struct cpu *cpu, uint8_t al) {
    memcpy(&cpu->gpr[R_AX], &al, 1);
}

/* AAA and, with arg, AAS. */
enum cpu_rc op_aaa(struct cpu *cpu, const struct insn *in) {
    uint16_t ax = (uint16_t)cpu->gpr[R_AX];
    bool adjust = (ax & 15) > 9 || cpu_arith_flags(cpu) & FL_AF;
    if (adjust)
        ax = (uint16_t)(in->arg ? ax - 0x106 : ax + 0x106);
    ax &= 0xff0f;
    memcpy(&cpu->gpr[R_AX], &ax, 2);
    cpu_set_arith_flags(cpu, (adjust ? FL_AF | FL_CF : 0) | szp((uint8_t)ax));
    return CPU_NEXT;
}

enum cpu_rc op_aam(struct cpu *cpu, const struct insn *in) {
    uint8_t al = (uint8_t)cpu->gpr[R_AX], base = (uint8_t)in->imm;
    if (!base)
        return cpu_raise(cpu, VEC_DE);
    uint16_t ax = (uint16_t)(al / base << 8 | al % base);
    memcpy(&cpu->gpr[R_AX], &ax, 2);
    cpu_set_arith_flags(cpu, szp((uint8_t)ax));
    return CPU_NEXT;
}

enum cpu_rc op_aad(struct cpu *cpu, const struct insn *in) {
    uint16_t ax = (uint16_t)cpu->gpr[R_AX];
    ax = (uint8_t)((ax & 0xff) + (ax >> 8) * (uint8_t)in->imm);
    memcpy(&cpu->gpr[R_AX], &ax, 2);
    cpu_set_arith_flags(cpu, szp((uint8_t)ax));
    return CPU_NEXT;
}

/* DAA and, with arg, DAS: the low digit by 6, the high one by 0x60, up or down. */
enum cpu_rc op_daa(struct cpu *cpu, const struct insn *in) {
    int sign = in->arg ? -1 : 1;
    uint64_t f = cpu_arith_flags(cpu), out = 0;
    uint8_t old = (uint8_t)cpu->gpr[R_AX], al = old;
    if ((old & 15) > 9 || f & FL_AF) {
        unsigned sum = (unsigned)(al + sign * 6);
        out = FL_AF | (f & FL_CF) | (sum >> 8 ? FL_CF : 0);
        al = (uint8_t)sum;
    }
    if (old > 0x99 || f & FL_CF) {
        al = (uint8_t)(al + sign * 0x60);
        out |= FL_CF;
    } else if (sign > 0) {
        out &= ~(uint64_t)FL_CF;
    }
    put_al(cpu, al);
    cpu_set_arith_flags(cpu, out | szp(al));
    return CPU_NEXT;
}

enum cpu_rc op_salc(struct cpu *cpu, const struct insn *in) {
    put_al(cpu, cpu_arith_flags(cpu) & FL_CF ? 0xff : 0);
    return CPU_NEXT;
}
