/* SPDX-License-Identifier: MIT */
/*
 * Frequent privileged instructions of 64-bit mode, inline. Each does what the helper of
 * its name does where nothing is to be checked; where something is, it calls the helper.
 */
#include "cpu/lower.h"
#include "cpu/model.h"

#define NEVER_CPL3(l) (!((l)->mode & MODE_CPL3))

static void load(struct lower *l, unsigned to, int32_t field) {
    e_rm(&l->e, true, OP_LOAD, to, H_SP, field);
}
static void store(struct lower *l, unsigned from, int32_t field) {
    e_rm(&l->e, true, OP_STORE, from, H_SP, field);
}

/* RAX = the clock before the instruction `ahead` instructions after this one. */
static void clock_now(struct lower *l, unsigned ahead) {
    load(l, H_AX, CO(insn_limit));
    e_rm(&l->e, true, OP_SUB, H_AX, H_SP, CO(budget));
    e_alu(&l->e, true, ALU_SUB, H_AX, (int32_t)(l->n - l->cur - ahead));
}

static bool inline_pushf(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    if (d->sh->opsize != 8)
        return false;
    flags_clobber(l);
    e_rm2(e, OP2_MOVZX8, H_AX, H_SP, CO(fl) + 1); /* as LAHF gave them */
    e_rm2(e, OP2_MOVZX8, H_R10, H_SP, CO(fl));    /* OF */
    e_shift(e, false, SHIFT_SHL, H_R10, 11);
    e_rr(e, false, OP_OR, H_AX, H_R10);
    e_rm(e, false, OP_OR, H_AX, H_SP, CO(sys_flags));
    store(l, H_AX, CO(jit.save[0]));
    lower_push_saved(l, d);
    return true;
}

static bool inline_cli(struct lower *l, const struct dec *d) {
    if (!(l->mode & MODE_IOPRIV))
        return false;
    flags_clobber(l);
    e_alu_mem(&l->e, false, ALU_AND, H_SP, CO(sys_flags), ~(int32_t)FL_IF);
    return true;
}

static bool inline_sti(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    if (!(l->mode & MODE_IOPRIV))
        return false;
    flags_clobber(l);
    e_test(&l->e, H_SP, CO(sys_flags), FL_IF);
    uint8_t *already = e_jcc(e, CC_NZ);
    e_cmp8(e, H_SP, CO(intr_line), 0);
    uint8_t *quiet = e_jcc(e, CC_Z);
    lower_helper(l, d, d->sh->fn);
    uint8_t *done = e_jmp(e);
    e_link(quiet, e->p);
    e_alu_mem(e, false, ALU_OR, H_SP, CO(sys_flags), FL_IF);
    clock_now(l, 1);
    store(l, H_AX, CO(shadow_at));
    e_rm(e, false, 0xc6, 0, H_SP, CO(intr_shadow)); /* mov byte, 1 */
    e8(e, 1);
    e_link(done, e->p);
    e_link(already, e->p);
    return true;
}

static bool inline_swapgs(struct lower *l, const struct dec *d) {
    int32_t gs = CO(seg[0].base) + (int32_t)sizeof(struct pn_segment) * SEG_GS;
    if (!NEVER_CPL3(l))
        return false;
    load(l, H_AX, gs);
    load(l, H_R10, CO(msr_kernel_gs_base));
    store(l, H_AX, CO(msr_kernel_gs_base));
    store(l, H_R10, gs);
    return true;
}

static bool inline_rdtsc(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    uint8_t *done = NULL;
    if (l->x->cpu->host_clock ||
        (l->mode & MODE_GUEST && cpu_has(l->x->cpu, CPU_F_tsc_scale)))
        return false;
    flags_clobber(l);
    if (!NEVER_CPL3(l)) {
        e_test(&l->e, H_SP, CO(cr4), 4); /* TSD */
        uint8_t *may = e_jcc(e, CC_Z);
        lower_helper(l, d, d->sh->fn);
        done = e_jmp(e);
        e_link(may, e->p);
    }
    clock_now(l, 0);
    e_rm(e, true, OP_ADD, H_AX, H_SP, CO(tsc_offset));
    e_mov32(e, H_R9, H_AX);
    e_shift(e, true, SHIFT_SHR, H_AX, 32);
    e_mov32(e, H_DX, H_AX);
    if (d->in.arg) /* RDTSCP */
        e_rm(e, false, OP_LOAD, H_CX, H_SP, CO(msr_tsc_aux));
    if (done)
        e_link(done, e->p);
    return true;
}

/* mov reg, sreg */
static bool inline_mov_sreg(struct lower *l, const struct dec *d) {
    const struct operand *op = d->in.op;
    if (op[0].kind != OP_REG || op[1].kind != OP_SREG || d->sh->opsize < 4)
        return false;
    e_rm2(&l->e, OP2_MOVZX16, H_AX, H_SP,
          CO(seg[0].sel) + (int32_t)sizeof(struct pn_segment) * op[1].reg);
    reg_store(l, op[0].reg, H_AX);
    return true;
}

bool lower_inline(struct lower *l, const struct dec *d) {
    if (!in64(l) || l->mode & MODE_SLOWMEM)
        return false;
    l->last.on = false;
    if (d->sh->fn == op_pushf)
        return inline_pushf(l, d);
    if (d->sh->fn == op_cli)
        return inline_cli(l, d);
    if (d->sh->fn == op_sti)
        return inline_sti(l, d);
    if (d->sh->fn == op_swapgs)
        return inline_swapgs(l, d);
    if (d->sh->fn == op_rdtsc)
        return inline_rdtsc(l, d);
    if (d->sh->fn == op_mov_sreg)
        return inline_mov_sreg(l, d);
    return lower_string(l, d);
}
