/* SPDX-License-Identifier: MIT */
/* Lowering's ground: flags, registers, addresses, the TLB probe and its slow path. */
#include "cpu/lower.h"

const int8_t host_of[16] = {H_R9, H_CX, H_DX, H_BX, H_R11, H_BP,  H_SI,  H_DI,
                            H_R8, -1,   -1,   -1,   H_R12, H_R13, H_R14, H_R15};

/* ---- Flags ---- */

static void flags_store(struct lower *l) {
    struct emit *e = &l->e;
    e8(e, 0x9f);                           /* lahf */
    e8(e, 0x0f), e8(e, 0x90), e8(e, 0xc0); /* seto al */
    e8(e, 0x66);
    e_rm(e, false, OP_STORE, H_AX, H_SP, CO(fl));
}

static void flags_load(struct lower *l) {
    struct emit *e = &l->e;
    e8(e, 0x0f); /* movzx eax, word: as wide as it was stored */
    e8(e, 0xb7);
    e_mem(e, H_AX, H_SP, CO(fl));
    e8(e, 0x04), e8(e, 0x7f); /* add al, 0x7f: OF */
    e8(e, 0x9e);              /* sahf: the others */
}

void flags_spill(struct lower *l) {
    if (l->fs != FS_HOST)
        return;
    flags_store(l);
    l->fs = FS_BOTH;
}

void flags_fill(struct lower *l) {
    if (l->fs != FS_MEM)
        return;
    flags_load(l);
    l->fs = FS_BOTH;
}

/* ---- Registers ---- */

void reg_load(struct lower *l, unsigned to, unsigned guest) {
    if (host_of[guest] >= 0)
        e_mov(&l->e, to, (unsigned)host_of[guest]);
    else
        e_rm(&l->e, true, OP_LOAD, to, H_SP, CO(gpr[guest]));
}

void reg_store(struct lower *l, unsigned guest, unsigned from) {
    if (host_of[guest] >= 0)
        e_mov(&l->e, (unsigned)host_of[guest], from);
    else
        e_rm(&l->e, true, OP_STORE, from, H_SP, CO(gpr[guest]));
}

/* ---- Addresses ---- */

void ea(struct lower *l, const struct dec *d) {
    const struct insn *in = &d->in;
    struct emit *e = &l->e;
    bool w = in->addrsize == 8;
    int64_t disp = in->disp;
    if (in->base == INSN_NOREG && in->index == INSN_NOREG) {
        uint64_t mask = w ? ~UINT64_C(0) : in->addrsize == 4 ? UINT32_MAX : UINT16_MAX;
        e_const(e, H_R10, (uint64_t)disp & mask);
        return;
    }
    unsigned base = 0;
    int index = -1;
    if (in->base != INSN_NOREG) {
        base = host_of[in->base] >= 0 ? (unsigned)host_of[in->base] : H_R10;
        if (base == H_R10)
            reg_load(l, H_R10, in->base);
    }
    if (in->index != INSN_NOREG) {
        index = host_of[in->index];
        if (index < 0) {
            index = H_AX;
            reg_load(l, H_AX, in->index);
        }
    }
    if (in->base == INSN_NOREG)
        e_lea_index(e, w, H_R10, (unsigned)index, in->scale, (int32_t)disp);
    else if (index < 0 && !disp)
        e_rr(e, w, OP_LOAD, H_R10, base);
    else
        e_lea(e, w, H_R10, base, index, in->scale, (int32_t)disp);
    if (in->addrsize == 2) { /* movzx r10d, r10w */
        e8(e, 0x45), e8(e, 0x0f), e8(e, 0xb7), e8(e, 0xd2);
    }
}

/* Must every access go through the segment and its checks? */
static bool segmented(const struct lower *l, unsigned seg, bool write) {
    if (l->mode & (MODE_ALIGN | MODE_SLOWMEM) || !(l->mode & MODE_FLAT))
        return true;
    return !in64(l) && (seg == SEG_FS || seg == SEG_GS || (seg == SEG_CS && write));
}

void mem_access(struct lower *l, const struct dec *d, unsigned size, unsigned flags,
                unsigned seg, body_fn body, bool last) {
    struct emit *e = &l->e;
    struct cold *c = &l->cold[l->cold_count++];
    bool write = flags & SLOW_WRITE;
    flags_clobber(l);
    if (segmented(l, seg, write)) {
        flags |= SLOW_OFFS;
        c->from = e_jmp(e);
    } else {
        if (in64(l) && (seg == SEG_FS || seg == SEG_GS))
            e_rm(e, true, OP_ADD, H_R10, H_SP, CO(seg[0].base) + (int32_t)seg * 24);
        if (l->x->bmi2) { /* rorx eax, r10d, 7 */
            e8(e, 0xc4), e8(e, 0xc3), e8(e, 0x7b), e8(e, 0xf0), e8(e, 0xc2), e8(e, 7);
        } else {
            e_mov32(e, H_AX, H_R10);
            e8(e, 0xc1), e8(e, 0xe8), e8(e, 7); /* shr eax, 7 */
        }
        e8(e, 0x25), e32(e, (PN_TLB_ENTRIES - 1) << 5); /* and eax, imm */
        e_rm(e, true, OP_ADD, H_AX, H_SP, l->tlb);
        e_rm(e, true, OP_XOR, H_R10, H_AX, write ? 8 : 0);
        e_alu(e, true, 7, H_R10, (int32_t)(PN_PAGE_SIZE - size));
        c->from = e_jcc(e, CC_NBE);
        e_rm(e, true, OP_ADD, H_R10, H_AX, offsetof(struct pn_tlb_entry, hva));
    }
    c->resume = e->p;
    c->body = body;
    c->idx = (uint8_t)l->cur;
    c->fs = (uint8_t)l->fs;
    c->size = (uint8_t)size;
    c->flags = (uint8_t)(flags | (l->vec ? SLOW_VEC : 0));
    c->seg = (uint8_t)seg;
    c->last = last;
    body(l, d);
    c->end = e->p;
}

_Static_assert(sizeof(struct cpu_seg) == 24, "mem_access adds seg * 24");
_Static_assert(sizeof(struct pn_tlb_entry) == 32, "the probe scales by 32");

void mem_operand(struct lower *l, const struct dec *d, body_fn body) {
    const struct shape *s = d->sh;
    unsigned flags =
        (s->mem_acc & ACC_R ? SLOW_READ : 0) | (s->mem_acc & ACC_W ? SLOW_WRITE : 0) |
        (s->flags & SH_ALIGN ? SLOW_ALIGN : 0) | (s->flags & SH_WAITS ? SLOW_X87 : 0);
    flags_spill(l); /* before RAX serves as index */
    ea(l, d);
    mem_access(l, d, s->mem_size, flags, d->in.seg, body, false);
}

/* ---- Out of line ---- */

static void call_entry(struct lower *l, unsigned entry) {
    e8(&l->e, 0xff); /* call [rsp + disp8] */
    e_mem(&l->e, 2, H_SP, CO(jit.entry[0]) + (int32_t)entry * 8);
}

static void emit_slow(struct lower *l, const struct cold *c) {
    struct emit *e = &l->e;
    e_link(c->from, e->p);
    l->cur = c->idx;
    call_entry(l, ENTRY_SLOW);
    struct slow_desc sd = {l->block, 0, c->idx, c->size, c->flags, c->seg};
    if (c->last)
        sd.flags |= SLOW_LAST;
    sd.resume = (int32_t)(c->resume - (e->p + sizeof sd));
    memcpy(e->p, &sd, sizeof sd);
    e->p += sizeof sd;
    l->fs = (enum fs)c->fs;
    c->body(l, &l->dec[c->idx]);
    if (!c->last) {
        bool host = l->fs != FS_MEM;
        flags_spill(l);
        call_entry(l, ENTRY_DONE);
        struct done_desc dd = {l->block, c->idx, l->vec,
                               l->dec[c->idx].sh->cls == CLS_CALL};
        memcpy(e->p, &dd, sizeof dd);
        e->p += sizeof dd;
        if (host)
            flags_load(l);
    }
    e_jmp_to(e, c->end);
}

static bool near(const struct lower *l, uint64_t rip) {
    return l->chain_ok && (rip ^ l->b->rip) < PN_PAGE_SIZE;
}

/* An exit that may be chained: a jump whose target is patched. */
static void chained_exit(struct lower *l, uint8_t *rel32, uint64_t rip) {
    struct emit *e = &l->e;
    struct xlat *x = l->x;
    uint32_t id = x->exit_count++;
    l->b->exit_count++;
    e_link(rel32, e->p);
    x->exits[id] = (struct block_exit){.rip = rip,
                                       .from = l->block,
                                       .patch = (uint32_t)(rel32 - x->rw),
                                       .stub = here(l),
                                       .to = NO_BLOCK};
    e8(e, 0xb8); /* mov eax, imm */
    e32(e, id << 2 | LEFT_CHAIN);
    e8(e, 0xff); /* jmp [rsp + disp8] */
    e_mem(e, 4, H_SP, CO(jit.entry[ENTRY_EXIT]));
}

static void emit_stub(struct lower *l, const struct stub *s) {
    struct emit *e = &l->e;
    bool plain = s->fs != FS_HOST && !s->rest;
    if (!plain || !near(l, s->rip))
        e_link(s->from, e->p);
    if (s->fs == FS_HOST)
        flags_store(l);
    if (s->rest)
        e_alu_mem(e, true, 0, H_SP, CO(budget), s->rest);
    if (near(l, s->rip))
        chained_exit(l, plain ? s->from : e_jmp(e), s->rip);
    else
        emit_cache_exit(e, l->x, s->rip);
}

void exit_to(struct lower *l, uint64_t rip, int cc) {
    struct emit *e = &l->e;
    unsigned rest = l->n - l->cur - 1;
    if (cc < 0 && !near(l, rip)) {
        emit_cache_exit(e, l->x, rip);
        return;
    }
    uint8_t *rel = cc < 0 ? e_jmp(e) : e_jcc(e, (unsigned)cc);
    l->stub[l->stub_count++] = (struct stub){rel, rip, (uint8_t)l->fs, (uint8_t)rest};
}

void emit_cold(struct lower *l) {
    for (unsigned i = 0; i < l->stub_count; i++)
        emit_stub(l, &l->stub[i]);
    for (unsigned i = 0; i < l->cold_count; i++)
        emit_slow(l, &l->cold[i]);
}
