/* SPDX-License-Identifier: MIT */
/*
 * Near branches of 16- and 32-bit code. In 64-bit mode the translator does them, but for
 * direct ones that may leave the canonical addresses, and 16-bit ones (vendor.inc).
 *
 * A target beyond CS's limit, or not canonical, is #GP(0) at the branch, before anything
 * is pushed (SDM volume 2, "JMP", "CALL", "RET"). What CET asks for besides is cet.c's.
 */
#include "cpu/cet.h"

static enum cpu_rc check_target(struct cpu *cpu, const struct insn *in, uint64_t *rip) {
    if (mode_64(cpu)) {
        if (in->opsize == 2) /* AMD's */
            *rip = (uint16_t)*rip;
        return canonical(cpu, *rip) ? CPU_NEXT : gp0(cpu);
    }
    *rip = in->opsize == 2 ? (uint16_t)*rip : (uint32_t)*rip;
    return unlikely(*rip > cpu->seg[SEG_CS].limit) ? gp0(cpu) : CPU_NEXT;
}

static enum cpu_rc jump(struct cpu *cpu, const struct insn *in, uint64_t rip) {
    if (check_target(cpu, in, &rip))
        return CPU_FAULT;
    cpu->rip = rip;
    return CPU_JUMP;
}

static enum cpu_rc jump_if(struct cpu *cpu, const struct insn *in, bool taken) {
    if (taken)
        return jump(cpu, in, in->imm);
    cpu->rip = next_rip(cpu, in);
    return CPU_JUMP;
}

static void track(struct cpu *cpu, const struct insn *in) {
    if (unlikely(cpu->mode & MODE_IBT) && in->op[0].kind != OP_IMM)
        cet_track(cpu, in);
}

enum cpu_rc op_jmp_near(struct cpu *cpu, const struct insn *in) {
    uint64_t rip;
    if (cpu_op_read(cpu, in, 0, &rip) || jump(cpu, in, rip) == CPU_FAULT)
        return CPU_FAULT;
    track(cpu, in);
    return CPU_JUMP;
}

enum cpu_rc op_call_near(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    uint64_t rip, next = next_rip(cpu, in);
    if (in->opsize == 2)
        next = (uint16_t)next;
    stack_here(cpu, &st);
    if (cpu_op_read(cpu, in, 0, &rip) || check_target(cpu, in, &rip) ||
        stack_push(cpu, &st, next, in->opsize))
        return CPU_FAULT;
    /* A call of the next instruction only finds out where it is. */
    bool kept = cpu->mode & MODE_SHSTK && (in->op[0].kind != OP_IMM || rip != next);
    if (unlikely(kept) && cet_call(cpu, next))
        return CPU_FAULT;
    stack_commit(cpu, &st);
    cpu->rip = rip;
    track(cpu, in);
    return CPU_JUMP;
}

enum cpu_rc op_ret_near(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    uint64_t rip;
    bool kept = cpu->mode & MODE_SHSTK;
    stack_here(cpu, &st);
    if (stack_pop(cpu, &st, in->opsize, &rip) || (unlikely(kept) && cet_ret(cpu, rip)) ||
        check_target(cpu, in, &rip))
        return CPU_FAULT;
    if (unlikely(kept))
        cet_ret_done(cpu);
    if (in->opcode == 0xc2)
        st.sp += in->imm & 0xffff;
    stack_commit(cpu, &st);
    cpu->rip = rip;
    return CPU_JUMP;
}

/* The condition in an opcode's low four bits. */
static bool condition(const struct cpu *cpu, unsigned cc) {
    static const uint64_t any[8] = {FL_OF, FL_CF, FL_ZF, FL_CF | FL_ZF,
                                    FL_SF, FL_PF, 0,     FL_ZF};
    uint64_t f = cpu_arith_flags(cpu);
    bool less = !(f & FL_SF) != !(f & FL_OF);
    unsigned pair = cc >> 1 & 7; /* 6 and 7: less, less or equal */
    bool holds = f & any[pair] || (pair >= 6 && less);
    return holds != (cc & 1);
}

enum cpu_rc op_jcc(struct cpu *cpu, const struct insn *in) {
    return jump_if(cpu, in, condition(cpu, in->opcode & 15));
}

/* LOOPNE e0, LOOPE e1, LOOP e2. */
enum cpu_rc op_loop(struct cpu *cpu, const struct insn *in) {
    uint64_t mask = addr_mask(in->addrsize), old = cpu->gpr[R_CX];
    uint64_t left = (old - 1) & mask;
    bool zf = cpu_arith_flags(cpu) & FL_ZF;
    bool taken = left && (in->opcode == 0xe2 || zf == (in->opcode & 1));
    enum cpu_rc rc = jump_if(cpu, in, taken);
    if (rc == CPU_JUMP)
        cpu->gpr[R_CX] = mask == 0xffff ? (old & ~mask) | left : left;
    return rc;
}

enum cpu_rc op_jcxz(struct cpu *cpu, const struct insn *in) {
    return jump_if(cpu, in, !(cpu->gpr[R_CX] & addr_mask(in->addrsize)));
}
