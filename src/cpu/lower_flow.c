/* SPDX-License-Identifier: MIT */
/* The stack and control flow of 64-bit mode and flat 32-bit code, and how blocks end. */
#include "cpu/lower.h"

/* ---- Exits ---- */

/* With a TLB model: tell it of the page, or let the dispatcher show it. */
static void emit_tell(struct emit *e, const struct xlat *x, uint64_t page) {
    int32_t hit = FETCHES(hit) + (int32_t)(page >> PN_PAGE_SHIFT & (PN_FETCH_HITS - 1)) *
                                     (int32_t)sizeof(struct pn_fetch_hit);
    e_const(e, H_R10, page);
    e_rm(e, true, OP_CMP, H_R10, H_SP, hit);
    e_link(e_jcc(e, CC_NZ), x->thunk_show);
    e_rm(e, true, OP_STORE, H_R10, H_SP, FETCHES(page));
    e_lea(e, true, H_STAMP, H_STAMP, -1, 1, 1);
    e_rm(e, true, OP_STORE, H_STAMP, H_SP, hit + 8);
}
_Static_assert(offsetof(struct pn_fetch_hit, stamp) == 8, "hit + 8 above");

void emit_cache_exit(struct emit *e, const struct xlat *x, uint32_t mode, uint64_t rip) {
    int32_t slot = JC_OFFSET + (int32_t)(rip & (JC_ENTRIES - 1)) * 16;
    e_const(e, H_AX, rip);
    e_rm(e, true, OP_XOR, H_AX, H_SP, CO(jc_salt));
    if (x->fetch_page && !(mode & MODE_CODE64)) {
        e_jmp_to(e, x->thunk_miss);
        return;
    }
    e_rm(e, true, OP_CMP, H_AX, H_SP, slot);
    e_link(e_jcc(e, CC_NZ), x->thunk_miss);
    if (x->fetch_page)
        emit_tell(e, x, rip & PN_PAGE_MASK);
    e_rm(e, false, OP_INDIRECT, INDIRECT_JMP, H_SP, slot + 8);
}

/* ---- The stack pointer ---- */

/* Bytes of a stack slot and of a pointer. */
static unsigned width(const struct lower *l) {
    return in64(l) ? 8 : 4;
}

static void load_r10(struct lower *l, unsigned to) {
    e_rm(&l->e, in64(l), OP_LOAD, to, H_R10, 0);
}
static void store_r10(struct lower *l, unsigned from) {
    e_rm(&l->e, in64(l), OP_STORE, from, H_R10, 0);
}

static void stack_step(struct lower *l, int32_t by) {
    e_lea(&l->e, in64(l), H_R11, H_R11, -1, 1, by);
}
static void stack_pushed(struct lower *l) {
    stack_step(l, -(int32_t)width(l));
}
static void stack_popped(struct lower *l) {
    stack_step(l, (int32_t)width(l));
}

/* ---- Indirect targets ---- */

/* Not zero when bits 63..47 of reg, which is lost, differ: when it is no canonical
 * address, or one that only LA57 makes canonical. */
static void look(struct lower *l, unsigned reg) {
    struct emit *e = &l->e;
    e_shift(e, true, SHIFT_SHR, reg, 47);
    e_alu(e, false, ALU_ADD, reg, 1);
    e_alu(e, false, ALU_AND, reg, 0x1fffe);
}

/* A miss: RAX is the salted target. The jump caches know canonical targets alone, so only
 * here is to be looked, while nothing has changed yet. */
static void dispatch_miss(struct lower *l, const struct dec *d, unsigned release,
                          bool looked) {
    struct emit *e = &l->e;
    uint8_t *odd = NULL;
    if (in64(l) && !looked) {
        _Static_assert(JC_BITS < 47, "a salt changes none of the bits looked at");
        e_mov(e, H_R10, H_AX);
        look(l, H_R10);
        odd = e_jcc(e, CC_NZ);
    }
    if (release)
        stack_step(l, (int32_t)release);
    e_jmp_to(e, l->x->thunk_miss);
    if (odd) {
        e_link(odd, e->p);
        lower_odd_target(l, d);
    }
}

/* Jump through the jump cache to the address in RAX, and release as many bytes of the
 * stack. looked: the address has been found to be a target. */
static void dispatch(struct lower *l, const struct dec *d, unsigned release,
                     bool looked) {
    struct emit *e = &l->e;
    l->ended = true;
    if (!l->x->fetch_page || in64(l)) {
        e_mov32(e, H_R10, H_AX);
        e_alu(e, false, ALU_AND, H_R10, JC_ENTRIES - 1);
        e_shift(e, false, SHIFT_SHL, H_R10, 4);
        e_rm(e, true, OP_XOR, H_AX, H_SP, CO(jc_salt));
        e_rm_index(e, true, OP_CMP, H_AX, H_R10, JC_OFFSET);
        uint8_t *miss = e_jcc(e, CC_NZ);
        if (release)
            stack_step(l, (int32_t)release);
        if (l->x->fetch_page) {
            e_rm(e, true, OP_XOR, H_AX, H_SP, CO(jc_salt));
            e_alu(e, true, ALU_AND, H_AX, -(int32_t)PN_PAGE_SIZE);
            e_rm(e, true, OP_CMP, H_AX, H_SP, FETCHES(page));
            call_fetch(e, l->x);
            e_rm_index(e, true, OP_LOAD, H_AX, H_R10, JC_OFFSET); /* for x->none */
        }
        e_rm_index(e, false, OP_INDIRECT, INDIRECT_JMP, H_R10, JC_OFFSET + 8);
        e_link(miss, e->p);
    } else {
        e_rm(e, true, OP_XOR, H_AX, H_SP, CO(jc_salt));
    }
    dispatch_miss(l, d, release, looked);
}

void lower_near_helper(struct lower *l, const struct dec *d) {
    static enum cpu_rc (*const by[CLS_COUNT])(struct cpu *, const struct insn *) = {
        [CLS_JMP] = op_jmp_near, [CLS_CALL] = op_call_near, [CLS_RET] = op_ret_near,
        [CLS_JCC] = op_jcc,      [CLS_LOOP] = op_loop,      [CLS_JCXZ] = op_jcxz,
    };
    struct dec near = *d;
    near.in.opsize = 8;
    near.in.op[0] = (struct operand){.kind = !d->has_modrm ? OP_IMM
                                             : d->mod == 3 ? OP_REG
                                                           : OP_MEM,
                                     .reg = d->rm,
                                     .size = 8};
    lower_helper(l, &near, by[d->sh->cls]);
    l->ended = true;
}

void lower_fall(struct lower *l, uint64_t rip) {
    flags_spill(l);
    exit_to(l, rip, -1);
    l->ended = true;
}

/* ---- Stack ---- */

static void push_access(struct lower *l, const struct dec *d, body_fn body) {
    flags_spill(l);
    struct access a = {body, (uint8_t)width(l), SLOW_WRITE, SEG_SS, false, NULL};
    mem_based(l, d, R_SP, -(int64_t)width(l), &a);
    l->last.disp += width(l); /* from the new RSP */
}

static void pop_access(struct lower *l, const struct dec *d, body_fn body, bool last) {
    flags_spill(l);
    struct access a = {body, (uint8_t)width(l), SLOW_READ, SEG_SS, last, NULL};
    mem_based(l, d, R_SP, 0, &a);
    l->last.disp -= width(l); /* from the new RSP */
}

static void push_const(struct lower *l, uint64_t v) {
    struct emit *e = &l->e;
    if (!in64(l) || (int64_t)v == (int32_t)v) {
        e_rm(e, in64(l), 0xc7, 0, H_R10, 0);
        e32(e, (uint32_t)v);
    } else {
        e_const(e, H_AX, v);
        store_r10(l, H_AX);
    }
    stack_pushed(l);
}

static void body_push(struct lower *l, const struct dec *d) {
    if (d->sh->imm_len) {
        push_const(l, d->in.imm);
        return;
    }
    unsigned h = H_AX;
    if (l->host_of[d->rm] >= 0)
        h = (unsigned)l->host_of[d->rm];
    else
        reg_load(l, H_AX, d->rm);
    store_r10(l, h);
    stack_pushed(l);
}

static void body_save(struct lower *l, const struct dec *d) {
    load_r10(l, H_AX);
    e_rm(&l->e, true, OP_STORE, H_AX, H_SP, CO(jit.save[0]));
}

static void body_push_saved(struct lower *l, const struct dec *d) {
    e_rm(&l->e, true, OP_LOAD, H_AX, H_SP, CO(jit.save[0]));
    store_r10(l, H_AX);
    stack_pushed(l);
}

void lower_push_saved(struct lower *l, const struct dec *d) {
    push_access(l, d, body_push_saved);
}

void lower_push(struct lower *l, const struct dec *d) {
    if (d->has_modrm && d->mod != 3) {
        flags_spill(l);
        ea(l, d);
        struct access a = {body_save, (uint8_t)width(l), SLOW_READ, d->in.seg, true,
                           NULL};
        mem_access(l, d, &a);
        push_access(l, d, body_push_saved);
    } else {
        push_access(l, d, body_push);
    }
}

static void body_pop(struct lower *l, const struct dec *d) {
    if (l->host_of[d->rm] >= 0) {
        load_r10(l, (unsigned)l->host_of[d->rm]);
    } else {
        load_r10(l, H_AX);
        reg_store(l, d->rm, H_AX);
    }
    if (d->rm != R_SP)
        stack_popped(l);
}

static void body_pop_mem(struct lower *l, const struct dec *d) {
    e_rm(&l->e, true, OP_LOAD, H_AX, H_SP, CO(jit.save[0]));
    store_r10(l, H_AX);
    stack_popped(l);
}

void lower_pop(struct lower *l, const struct dec *d) {
    if (!d->has_modrm || d->mod == 3) {
        pop_access(l, d, body_pop, false);
        return;
    }
    struct dec after = *d; /* the address is computed with RSP incremented */
    if (d->in.base == R_SP)
        after.in.disp += width(l);
    pop_access(l, d, body_save, true);
    ea(l, &after);
    struct access a = {body_pop_mem, (uint8_t)width(l), SLOW_WRITE, d->in.seg, false,
                       NULL};
    mem_access(l, d, &a);
}

static void body_leave(struct lower *l, const struct dec *d) {
    e_lea(&l->e, in64(l), H_R11, H_BP, -1, 1, (int32_t)width(l));
    load_r10(l, H_BP);
}

void lower_leave(struct lower *l, const struct dec *d) {
    flags_spill(l);
    struct access a = {body_leave, (uint8_t)width(l), SLOW_READ, SEG_SS, false, NULL};
    mem_based(l, d, R_BP, 0, &a);
    l->last.on = false;
}

/* ---- Jumps ---- */

static void body_target(struct lower *l, const struct dec *d) {
    load_r10(l, H_AX);
}

void lower_jmp(struct lower *l, const struct dec *d) {
    flags_clobber(l);
    if (!d->has_modrm) {
        exit_to(l, d->in.imm, -1);
        l->ended = true;
        return;
    }
    if (d->mod == 3) {
        reg_load(l, H_AX, d->rm);
    } else {
        ea(l, d);
        struct access a = {body_target, (uint8_t)width(l), SLOW_READ, d->in.seg, true,
                           NULL};
        mem_access(l, d, &a);
    }
    dispatch(l, d, 0, false);
}

static void body_push_return(struct lower *l, const struct dec *d) {
    push_const(l, rip_after(l));
}

/* The target, in RAX and, if saved, in jit.save[0], must be one before anything is
 * pushed. R10 stays, as the push may rely on it. */
static void look_before_push(struct lower *l, const struct dec *d, bool saved) {
    struct reuse last = l->last;
    struct dec call = *d;
    look(l, H_AX);
    uint8_t *good = e_jcc(&l->e, CC_Z);
    if (!saved)
        call.in.op[0] = (struct operand){.kind = OP_REG, .reg = d->rm, .size = 8};
    lower_helper(l, &call, xlat_odd_call);
    e_link(good, l->e.p);
    l->last = last;
}

void lower_call(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    flags_clobber(l);
    if (!d->has_modrm) {
        push_access(l, d, body_push_return);
        exit_to(l, d->in.imm, -1);
        l->ended = true;
        return;
    }
    bool saved = d->mod != 3 || d->rm == R_SP;
    if (d->mod != 3) {
        ea(l, d);
        struct access a = {body_save, (uint8_t)width(l), SLOW_READ, d->in.seg, true,
                           NULL};
        mem_access(l, d, &a);
    } else {
        reg_load(l, H_AX, d->rm);
        if (saved)
            e_rm(e, true, OP_STORE, H_AX, H_SP, CO(jit.save[0]));
    }
    if (in64(l))
        look_before_push(l, d, saved);
    push_access(l, d, body_push_return);
    if (saved)
        e_rm(e, true, OP_LOAD, H_AX, H_SP, CO(jit.save[0]));
    else
        reg_load(l, H_AX, d->rm);
    dispatch(l, d, 0, true);
}

void lower_ret(struct lower *l, const struct dec *d) {
    pop_access(l, d, body_target, true);
    dispatch(l, d, width(l) + (unsigned)(d->in.imm & 0xffff), false);
}

void lower_jcc(struct lower *l, const struct dec *d) {
    if (l->cur + 1 == l->n)
        flags_spill(l);
    flags_fill(l);
    exit_to(l, d->in.imm, d->in.opcode & 15);
    if (l->cur + 1 < l->n) /* not taken, the block goes on */
        return;
    exit_to(l, rip_after(l), -1);
    l->ended = true;
}

/* Test RCX, or ECX with a 32-bit address size, for zero. */
static void test_cx(struct lower *l, const struct dec *d) {
    e_rr(&l->e, d->in.addrsize == 8, OP_TEST, H_CX, H_CX);
}

void lower_loop(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    flags_clobber(l);
    e_lea(e, d->in.addrsize == 8, H_CX, H_CX, -1, 1, -1);
    test_cx(l, d);
    if (d->in.opcode == 0xe2) { /* LOOP */
        exit_to(l, d->in.imm, CC_NZ);
    } else {
        uint8_t *done = e_jcc(e, CC_Z);
        e_rm(e, false, 0xf6, 0, H_SP, CO(fl) + 1); /* test byte [fl + 1], ZF */
        e8(e, FL_ZF);
        exit_to(l, d->in.imm, d->in.opcode == 0xe1 ? CC_NZ : CC_Z);
        e_link(done, e->p);
    }
    exit_to(l, rip_after(l), -1);
    l->ended = true;
}

void lower_jcxz(struct lower *l, const struct dec *d) {
    flags_clobber(l);
    test_cx(l, d);
    exit_to(l, d->in.imm, CC_Z);
    exit_to(l, rip_after(l), -1);
    l->ended = true;
}
