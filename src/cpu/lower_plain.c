/* SPDX-License-Identifier: MIT */
/*
 * Re-encoding: the guest's instruction with host registers, and R10 for its memory.
 *
 * Guest registers that live in memory, and AH..BH (which a REX prefix would rename), are
 * loaded into a scratch register before and stored after. When RAX is an implicit
 * operand, guest RAX moves there around the instruction.
 */
#include "cpu/lower.h"

struct fix {
    uint8_t guest, high, host, write, loaded;
};

struct plan {
    struct lower *l;
    const struct dec *d;
    struct fix fix[3];
    unsigned fixes;
    uint16_t free; /* scratch host registers, by bit */
    int borrowed;  /* host register whose guest value waits in jit.save[1], or -1 */
};

static bool is_high(const struct dec *d, const struct role *r, unsigned reg) {
    return r->size == 1 && !d->rex && !d->vex && reg >= 4 && reg < 8;
}

/* Host registers that the instruction's fields name, or that are none of the guest's. */
static unsigned used_mask(const struct lower *l, const struct dec *d) {
    const struct shape *s = d->sh;
    unsigned m = l->x->fetch_page ? 1u << H_STAMP : 0;
    const struct role *role[3] = {&s->reg, &s->rm, &s->vvvv};
    unsigned num[3] = {d->reg, d->rm, d->vvvv};
    for (unsigned i = 0; i < 3; i++) {
        if (role[i]->kind != K_GPR)
            continue;
        unsigned g = is_high(d, role[i], num[i]) ? num[i] & 3 : num[i];
        if (l->host_of[g] >= 0)
            m |= 1u << l->host_of[g];
    }
    return m;
}

static unsigned scratch(struct plan *p) {
    if (p->free) {
        unsigned h = (unsigned)__builtin_ctz(p->free);
        p->free &= (uint16_t)(p->free - 1);
        if (h == H_R10)
            p->l->last.on = false;
        return h;
    }
    unsigned h = H_SI;
    while (used_mask(p->l, p->d) >> h & 1)
        h++;
    p->borrowed = (int)h;
    e_rm(&p->l->e, true, OP_STORE, h, H_SP, CO(jit.save[1]));
    return h;
}

/* ---- AH, CH, DH, BH ---- */

/* The number of the high byte of one of the first four registers, without a REX prefix. */
#define HIGH(h) ((h) + 4)

static void high_load(struct lower *l, unsigned to, unsigned guest) {
    struct emit *e = &l->e;
    unsigned h = (unsigned)l->host_of[guest];
    if (to == H_AX) {
        if (guest == R_AX)
            e_mov32(e, H_AX, h), h = H_AX;
        e_rr2(e, false, OP2_MOVZX8, H_AX, HIGH(h));
        return;
    }
    e_rm(e, true, OP_STORE, h, H_SP, CO(jit.save[0]));
    e_rm2(e, OP2_MOVZX8, to, H_SP, CO(jit.save[0]) + 1);
}

static void high_store(struct lower *l, unsigned guest, unsigned from) {
    struct emit *e = &l->e;
    unsigned h = (unsigned)l->host_of[guest];
    if (from == H_AX && guest != R_AX) {
        e_rr(e, false, OP_STORE8, H_AX, HIGH(h));
        return;
    }
    if (from == H_AX) {
        e_rr(e, false, OP_STORE8, H_AX, HIGH(H_AX));
        e_rr(e, false, OP_LOAD8, H_AX, h); /* mov al, r9b */
        e_word(e);
        e_rr(e, false, OP_STORE, H_AX, h); /* mov r9w, ax */
        return;
    }
    e_rm(e, true, OP_STORE, h, H_SP, CO(jit.save[0]));
    e8(e, 0x40 | (from & 8) >> 1); /* any REX: SIL, not DH */
    e8(e, OP_STORE8);
    e_mem(e, from, H_SP, CO(jit.save[0]) + 1);
    e_rm(e, true, OP_LOAD, h, H_SP, CO(jit.save[0]));
}

/* ---- Operands ---- */

static void load(struct plan *p, struct fix *f) {
    f->loaded = true;
    if (f->high)
        high_load(p->l, f->host, f->guest);
    else
        e_rm(&p->l->e, true, OP_LOAD, f->host, H_SP, CO(gpr[0]) + (int32_t)f->guest * 8);
}

/* Return: the host register that stands for a GPR operand, loaded if need be. */
static unsigned place(struct plan *p, const struct role *r, unsigned num) {
    bool high = is_high(p->d, r, num);
    unsigned guest = high ? num & 3 : num;
    bool write = r->acc & ACC_W, read = r->acc & ACC_R || r->size < 4;
    if (!high && guest == R_AX && p->d->sh->flags & SH_RAX)
        return H_AX;
    if (!high && p->l->host_of[guest] >= 0)
        return (unsigned)p->l->host_of[guest];
    for (unsigned i = 0; i < p->fixes; i++) {
        struct fix *f = &p->fix[i];
        if (f->guest == guest && f->high == high) {
            f->write |= write;
            if (read && !f->loaded) /* MOVSXD R9, R9D: the first operand only wrote */
                load(p, f);
            return f->host;
        }
    }
    struct fix *f = &p->fix[p->fixes++];
    *f = (struct fix){(uint8_t)guest, high, (uint8_t)scratch(p), write, false};
    if (high || read)
        load(p, f);
    return f->host;
}

/* May the register operand in rm be its memory slot instead? */
static bool slot_form(const struct lower *l, const struct dec *d) {
    const struct shape *s = d->sh;
    unsigned op = d->in.opcode;
    if (!d->has_modrm || s->rm.kind != K_GPR || l->host_of[d->rm] >= 0)
        return false;
    if (s->flags & SH_NEEDEVEX) /* EVEX's displacement; KMOVD from memory is another */
        return false;
    if (s->rm.acc & ACC_W && s->rm.size != 8)
        return false;
    if (d->vex || d->map > 1)
        return !(s->rm.acc & ACC_W);
    if (d->map == 1 && (op == 0xa3 || op == 0xab || op == 0xb3 || op == 0xbb))
        return false; /* bit strings */
    if (d->map == 0 && (op == 0x86 || op == 0x87))
        return false; /* would lock the bus */
    return !(s->reg.kind == K_GPR && d->reg == d->rm && (s->rm.acc | s->reg.acc) & ACC_W);
}

static void assign(struct plan *p, struct enc *n) {
    const struct dec *d = p->d;
    const struct shape *s = d->sh;
    /* AX first: loading AH needs it free, and it is the cheaper scratch. */
    if (s->reg.kind == K_GPR)
        n->reg = (uint8_t)place(p, &s->reg, d->reg);
    if (s->vvvv.kind == K_GPR)
        n->vvvv = (uint8_t)place(p, &s->vvvv, d->vvvv);
    if (s->flags & SH_MEM) {
        n->rm_mem = 1;
        n->rm = H_R10;
    } else if (s->rm.kind == K_GPR) {
        if (slot_form(p->l, d)) {
            n->rm_mem = 1;
            n->rm = H_SP;
            n->disp = CO(gpr[0]) + d->rm * 8;
        } else {
            n->rm = (uint8_t)place(p, &s->rm, d->rm);
        }
    }
    n->rex = (s->reg.kind == K_GPR && s->reg.size == 1 && n->reg >= 4) ||
             (s->rm.kind == K_GPR && s->rm.size == 1 && !n->rm_mem && n->rm >= 4);
}

/* ---- Flags ---- */

/* Does the instruction leave a flag as it found it, or might it? */
static bool flags_survive(const struct dec *d) {
    const struct shape *s = d->sh;
    if (!s->fout)
        return false;
    if (s->fdef != FL_ARITH)
        return true;
    if (!(s->flags & SH_SHIFT))
        return false;
    unsigned op = d->in.opcode;
    if (d->map == 0 && (op == 0xd0 || op == 0xd1))
        return false;
    return !s->imm_len || !(d->imm_raw & (s->opsize == 8 ? 63 : 31));
}

/* ---- x87's pointers ---- */

static void note_selector(struct lower *l, int32_t to, unsigned seg) {
    struct emit *e = &l->e;
    e_rm2(e, OP2_MOVZX16, H_AX, H_SP,
          CO(seg[0].sel) + (int32_t)sizeof(struct pn_segment) * (int)seg);
    e_word(e);
    e_rm(e, false, OP_STORE, H_AX, H_SP, to);
}

/* The instruction is done: what FIP, FDP and FOP name now (x87env.c). Uses RAX; flags stay.
 */
static void note_x87(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    unsigned modrm = d->mod << 6 | (d->reg & 7u) << 3 | (d->rm & 7u);
    e_const(e, H_AX, d->in.rip);
    e_rm(e, true, OP_STORE, H_AX, H_SP, CO(x87.ip));
    e_const(e, H_AX, (d->in.opcode & 7u) << 8 | modrm);
    e_rm(e, false, OP_STORE, H_AX, H_SP, CO(x87.op));
    note_selector(l, CO(x87.cs), SEG_CS);
    if (!(d->sh->flags & SH_MEM))
        return;
    e_rm(e, true, OP_STORE, H_R10, H_SP, CO(jit.save[0]));
    ea(l, d);
    e_rm(e, true, OP_STORE, H_R10, H_SP, CO(x87.dp));
    e_rm(e, true, OP_LOAD, H_R10, H_SP, CO(jit.save[0]));
    note_selector(l, CO(x87.ds), d->in.seg);
}

/* The guest's own fields, registers included. */
static struct enc encoding_of(const struct dec *d) {
    const struct shape *s = d->sh;
    struct enc n = {
        .vex = d->vex,
        .evex = d->evex,
        .z = d->z,
        .b = d->b,
        .aaa = d->aaa,
        .p66 = s->p66 || s->mand == 0x66,
        .rep = s->mand == 0x66 ? 0 : s->mand,
        .lock = d->lock,
        .w = d->w,
        .l = d->l,
        .pp = d->pp,
        .map = d->map,
        .opcode = d->in.opcode,
        .has_modrm = d->has_modrm,
        .reg = d->reg,
        .rm = d->rm,
        .vvvv = d->vvvv,
        .imm_len = s->imm_len,
        .imm = d->imm_raw,
    };
    if (n.opcode == 0x82 && !d->map && !d->vex)
        n.opcode = 0x80;
    if (!d->has_modrm && s->rm.kind == K_NONE)
        n.rm = n.opcode & 7; /* no register in the opcode after all */
    else if (!d->has_modrm)
        n.opcode &= 0xf8;
    return n;
}

void body_plain(struct lower *l, const struct dec *d) {
    const struct shape *s = d->sh;
    struct emit *e = &l->e;
    struct plan p = {.l = l, .d = d, .borrowed = -1};
    struct enc n = encoding_of(d);
    if (s->fin || flags_survive(d))
        flags_fill(l);
    if (s->flags & SH_FAULT)
        flags_spill(l);
    p.free = (s->flags & SH_RAX ? 0 : 1u << H_AX) | (s->flags & SH_MEM ? 0 : 1u << H_R10);
    if (s->flags & SH_RAX)
        e_mov(e, H_AX, H_R9);
    assign(&p, &n);
    uint32_t start = here(l);
    e_insn(e, &n);
    if (s->flags & SH_FAULT) {
        struct fault_rec *f = &l->x->faults[l->x->fault_count++];
        *f = (struct fault_rec){start, (uint16_t)(here(l) - start), (uint8_t)l->cur};
    }
    if (s->fout)
        l->fs = FS_HOST;
    if (s->flags & SH_NOTED)
        note_x87(l, d);
    if (s->flags & SH_RAX)
        e_mov(e, H_R9, H_AX);
    for (unsigned i = 0; i < p.fixes; i++) {
        const struct fix *f = &p.fix[i];
        if (f->write && f->high)
            high_store(l, f->guest, f->host);
        else if (f->write)
            reg_store(l, f->guest, f->host);
    }
    if (p.borrowed >= 0)
        e_rm(e, true, OP_LOAD, (unsigned)p.borrowed, H_SP, CO(jit.save[1]));
}

void lower_plain(struct lower *l, const struct dec *d) {
    if (d->sh->flags & SH_MEM)
        mem_operand(l, d, body_plain);
    else
        body_plain(l, d);
}
