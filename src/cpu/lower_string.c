/* SPDX-License-Identifier: MIT */
/*
 * STOS, MOVS and LODS of 64-bit mode inline, where the whole of it, repeated or not, goes
 * upwards within one page of each operand that the TLB knows. Everything else is the
 * helper's, which counts and orders just the same.
 */
#include "cpu/lower.h"

struct string {
    struct lower *l;
    const struct dec *d;
    unsigned size;
    bool rep;
    uint8_t *slow[8]; /* jumps to the helper's call */
    unsigned slow_count;
};

static void slow_if(struct string *s, unsigned cc) {
    s->slow[s->slow_count++] = e_jcc(&s->l->e, cc);
}

/* R10 = host address of the operand at guest register reg. */
static void operand(struct string *s, unsigned reg, bool write) {
    struct lower *l = s->l;
    struct emit *e = &l->e;
    e_mov(e, H_R10, (unsigned)l->host_of[reg]);
    s->slow[s->slow_count++] = mem_probe(l, s->size, write);
    if (!s->rep)
        return;
    /* offset + count * size <= page; the count has been found small enough */
    e_mov32(e, H_AX, H_R10);
    e_alu(e, false, ALU_AND, H_AX, PN_PAGE_SIZE - 1);
    e_lea(e, false, H_AX, H_AX, H_CX, s->size, 0);
    e_alu(e, false, ALU_CMP, H_AX, PN_PAGE_SIZE);
    slow_if(s, CC_NBE);
}

static void begin(struct string *s) {
    struct emit *e = &s->l->e;
    flags_clobber(s->l);
    s->l->last.on = false;
    e_test(e, H_SP, CO(sys_flags), FL_DF);
    slow_if(s, CC_NZ);
    if (s->rep && s->l->x->fetch_page) { /* none: a TLB model sees no access */
        e_alu(e, true, ALU_CMP, H_CX, 0);
        slow_if(s, CC_Z);
    }
    if (s->rep) {
        e_alu(e, true, ALU_CMP, H_CX, (int32_t)(PN_PAGE_SIZE / s->size));
        slow_if(s, CC_NBE);
    }
}

static void end(struct string *s) {
    struct emit *e = &s->l->e;
    uint8_t *done = e_jmp(e);
    for (unsigned i = 0; i < s->slow_count; i++)
        e_link(s->slow[i], e->p);
    lower_helper(s->l, s->d, s->d->sh->fn);
    e_link(done, e->p);
}

/* [f3] op, in the operand's size */
static void host_string(struct string *s, unsigned op) {
    struct emit *e = &s->l->e;
    if (s->size == 2)
        e_word(e);
    e8(e, 0xf3);
    if (s->size == 8)
        e8(e, 0x48);
    e8(e, op | (s->size > 1));
}

/* mov between a register and [base], in the operand's size */
static void move(struct string *s, unsigned op, unsigned reg, unsigned base) {
    struct emit *e = &s->l->e;
    if (s->size == 2)
        e_word(e);
    e_rm(e, s->size == 8, op - (s->size == 1), reg, base, 0);
}

static void advance(struct string *s, unsigned host) {
    e_lea(&s->l->e, true, host, host, -1, 1, (int32_t)s->size);
}

static void stos(struct string *s) {
    struct emit *e = &s->l->e;
    begin(s);
    operand(s, R_DI, true);
    if (s->rep) {
        e_rm(e, true, OP_STORE, H_DI, H_SP, CO(gpr[R_DI]));
        e_mov(e, H_DI, H_R10);
        e_mov(e, H_AX, H_R9);
        host_string(s, 0xaa);
        e_rr(e, true, OP_SUB, H_DI, H_R10);
        e_rm(e, true, OP_ADD, H_DI, H_SP, CO(gpr[R_DI]));
    } else {
        move(s, OP_STORE, H_R9, H_R10);
        advance(s, H_DI);
    }
    end(s);
}

static void movs(struct string *s) {
    struct emit *e = &s->l->e;
    begin(s);
    operand(s, R_SI, false);
    e_rm(e, true, OP_STORE, H_R10, H_SP, CO(jit.save[0]));
    operand(s, R_DI, true);
    if (s->rep) {
        e_rm(e, true, OP_STORE, H_SI, H_SP, CO(gpr[R_SI]));
        e_rm(e, true, OP_STORE, H_DI, H_SP, CO(gpr[R_DI]));
        e_rm(e, true, OP_LOAD, H_SI, H_SP, CO(jit.save[0]));
        e_mov(e, H_DI, H_R10);
        host_string(s, 0xa4);
        e_rr(e, true, OP_SUB, H_DI, H_R10); /* bytes moved */
        e_rm(e, true, OP_LOAD, H_SI, H_SP, CO(gpr[R_SI]));
        e_rr(e, true, OP_ADD, H_SI, H_DI);
        e_rm(e, true, OP_ADD, H_DI, H_SP, CO(gpr[R_DI]));
    } else {
        e_rm(e, true, OP_LOAD, H_AX, H_SP, CO(jit.save[0]));
        move(s, OP_LOAD, H_AX, H_AX);
        move(s, OP_STORE, H_AX, H_R10);
        advance(s, H_SI);
        advance(s, H_DI);
    }
    end(s);
}

static void lods(struct string *s) {
    begin(s);
    operand(s, R_SI, false);
    move(s, OP_LOAD, H_R9, H_R10);
    advance(s, H_SI);
    end(s);
}

bool lower_string(struct lower *l, const struct dec *d) {
    struct string s = {.l = l, .d = d, .size = d->sh->opsize, .rep = d->rep};
    const struct insn *in = &d->in;
    unsigned op = in->opcode & 0xfe;
    if (d->sh->fn != op_string || in->addrsize != 8 || in->seg >= SEG_FS ||
        l->mode & (MODE_ALIGN | MODE_SLOWMEM) || (s.rep && l->mode & MODE_TF))
        return false;
    if (op == 0xaa)
        stos(&s);
    else if (op == 0xa4)
        movs(&s);
    else if (op == 0xac && !s.rep)
        lods(&s);
    else
        return false;
    return true;
}
